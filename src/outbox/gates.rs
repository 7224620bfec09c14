//! Gates: what a whole destination, or one partition of it, waits for, in one row.

use jiff::Timestamp;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{DestinationId, Outbox, OutboxError, timestamp};

/// What a gate stands before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateScope {
    /// All records of a destination.
    Destination,
    /// One partition of it.
    Partition {
        /// First level of the partition key.
        tenant: String,
        /// Second level.
        date: String,
    },
}

impl GateScope {
    pub(super) fn columns(&self) -> (&str, &str) {
        match self {
            Self::Destination => ("", ""),
            Self::Partition { tenant, date } => (tenant, date),
        }
    }
}

/// A circuit breaker that outlives the process. Delivery decides, the outbox remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// What it stands before.
    pub scope: GateScope,
    /// Failures in a row since the last success.
    pub failures: u32,
    /// How often in a row it was opened since the last success.
    pub openings: u32,
    /// Whether nothing passes, but one record from `retry_at` on.
    pub open: bool,
    /// Whether it waits for a person.
    pub held: bool,
    /// Short name of the error that opened it.
    pub kind: String,
    /// That error in the store's words.
    pub message: String,
    /// Since when it is open.
    pub since: Timestamp,
    /// When one record may try again.
    pub retry_at: Timestamp,
}

impl Gate {
    /// A closed one.
    #[must_use]
    pub fn closed(scope: GateScope) -> Self {
        Self {
            scope,
            failures: 0,
            openings: 0,
            open: false,
            held: false,
            kind: String::new(),
            message: String::new(),
            since: Timestamp::UNIX_EPOCH,
            retry_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// As `status` shows it.
    #[must_use]
    pub fn circuit(&self, now: Timestamp) -> Circuit {
        match (self.open, now < self.retry_at) {
            (false, _) => Circuit::Closed,
            (true, true) => Circuit::Open,
            (true, false) => Circuit::HalfOpen,
        }
    }
}

/// The state of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    /// Records pass.
    Closed,
    /// None passes.
    Open,
    /// The next one is a probe.
    HalfOpen,
}

impl Outbox {
    /// The gates of a destination that are open or count failures.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn gates(&self, destination: DestinationId) -> Result<Vec<Gate>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tenant, date, failures, openings, open, held, kind, message, since, retry_at
             FROM gates WHERE destination = ?1 ORDER BY tenant, date",
        )?;
        let rows = statement.query_map([destination.0], |row| {
            let (tenant, date): (String, String) = (row.get(0)?, row.get(1)?);
            let scope = if tenant.is_empty() {
                GateScope::Destination
            } else {
                GateScope::Partition { tenant, date }
            };
            Ok(Gate {
                scope,
                failures: row.get(2)?,
                openings: row.get(3)?,
                open: row.get(4)?,
                held: row.get(5)?,
                kind: row.get(6)?,
                message: row.get(7)?,
                since: timestamp(row.get(8)?),
                retry_at: timestamp(row.get(9)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(super) fn write_gate(
    transaction: &rusqlite::Transaction<'_>,
    destination: DestinationId,
    gate: &Gate,
) -> rusqlite::Result<()> {
    let (tenant, date) = gate.scope.columns();
    if !gate.open && gate.failures == 0 {
        transaction
            .prepare_cached("DELETE FROM gates WHERE destination = ?1 AND tenant = ?2 AND date = ?3")?
            .execute(params![destination.0, tenant, date])?;
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO gates (destination, tenant, date, failures, openings, open, held, kind,
                 message, since, retry_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            destination.0,
            tenant,
            date,
            gate.failures,
            gate.openings,
            gate.open,
            gate.held,
            gate.kind,
            gate.message,
            gate.since.as_millisecond(),
            gate.retry_at.as_millisecond(),
        ])?;
    Ok(())
}

//! The side that delivery sees: what is due, and what became of it.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::enqueue::from_json;
use super::gates::{Gate, GateScope, write_gate};
use super::{Outbox, OutboxError, timestamp};
use crate::destination::Destination;

/// A destination's number in this outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(pub(super) i64);

/// A record that waits for delivery.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its row.
    pub entry: i64,
    /// Which version of the row's record this is.
    pub revision: i64,
    /// First level of the partition key.
    pub tenant: String,
    /// Second level of the partition key.
    pub date: String,
    /// The commit's id.
    pub id: String,
    /// Failed attempts so far.
    pub attempts: u32,
    /// The record, with what stands beside its score (`measured`).
    pub body: Vec<u8>,
}

/// What the store said about one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has it.
    Delivered,
    /// Again, not before this time.
    Again {
        /// Earliest next attempt.
        not_before: Timestamp,
        /// Short name of the error.
        kind: String,
        /// In the store's words.
        message: String,
    },
    /// Never, as it is.
    Refused {
        /// Short name of the error.
        kind: String,
        /// In the store's words.
        message: String,
    },
}

/// What became of one record of [`Outbox::due`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Its row.
    pub entry: i64,
    /// The revision that was sent.
    pub revision: i64,
    /// What the store said.
    pub outcome: Outcome,
}

/// The last error of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// Short name.
    pub kind: String,
    /// In the store's words, without secrets.
    pub message: String,
}

/// What delivery writes back in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What became of records.
    pub settlements: Vec<Settlement>,
    /// Gates as they are now; closed ones without failures are forgotten.
    pub gates: Vec<Gate>,
    /// When the store last took something.
    pub last_success: Option<Timestamp>,
    /// What it last complained about.
    pub last_error: Option<LastError>,
    /// Request units charged.
    pub request_units: f64,
    /// Latency of each operation.
    pub latencies: Vec<Duration>,
}

impl Progress {
    /// Whether there is anything to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settlements.is_empty()
            && self.gates.is_empty()
            && self.last_success.is_none()
            && self.last_error.is_none()
            && self.latencies.is_empty()
    }
}

/// How many latencies are kept.
const LATENCIES: i64 = 1000;

/// Records read at once take at most this much memory, and always at least one is read.
const DUE_BYTES: usize = 16 << 20;

impl Outbox {
    /// Destinations that pending records wait for.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn destinations(&self) -> Result<Vec<(DestinationId, Destination)>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT destination, name FROM destinations d WHERE EXISTS (
                 SELECT 1 FROM entries e WHERE e.destination = d.destination AND e.state = 'pending')
             ORDER BY destination",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((DestinationId(row.get(0)?), from_json(1, &row.get::<_, String>(1)?)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// At most `limit` records that may be sent to a destination now: commits made now before history,
    /// each partition's records together, none behind a partition's open gate. The destination's own gate
    /// is the caller's to respect.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn due(
        &self,
        destination: DestinationId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Waiting>, OutboxError> {
        self.select_due(
            "SELECT e.entry, e.revision, e.tenant, e.date, e.id, e.attempts, e.body FROM entries e
             WHERE e.destination = ?1 AND e.state = 'pending' AND e.not_before <= ?2
               AND NOT EXISTS (SELECT 1 FROM gates g WHERE g.destination = e.destination
                   AND g.tenant = e.tenant AND g.date = e.date AND g.open = 1)
             ORDER BY e.urgency, e.tenant, e.date, e.entry LIMIT ?3",
            params![destination.0, now.as_millisecond(), i64::try_from(limit).unwrap_or(i64::MAX)],
        )
    }

    /// One record behind a gate, due or not, to find out whether the gate can be closed: of those that
    /// have failed least, so that one bad record does not keep a gate closed for the others.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn probe(
        &self,
        destination: DestinationId,
        scope: &GateScope,
    ) -> Result<Option<Waiting>, OutboxError> {
        let (tenant, date) = scope.columns();
        let mut found = self.select_due(
            "SELECT entry, revision, tenant, date, id, attempts, body FROM entries WHERE entry = (
                 SELECT e.entry FROM entries e
                 WHERE e.destination = ?1 AND e.state = 'pending'
                   AND (?2 <> '' OR NOT EXISTS (SELECT 1 FROM gates g WHERE g.destination = e.destination
                        AND g.tenant = e.tenant AND g.date = e.date AND g.open = 1))
                   AND (?2 = '' OR (e.tenant = ?2 AND e.date = ?3))
                 ORDER BY e.attempts, e.urgency, e.entry LIMIT 1)",
            params![destination.0, tenant, date],
        )?;
        Ok(found.pop())
    }

    fn select_due(&self, sql: &str, with: impl rusqlite::Params) -> Result<Vec<Waiting>, OutboxError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(with)?;
        let mut found = Vec::new();
        let mut bytes = 0;
        while bytes < DUE_BYTES
            && let Some(row) = rows.next()?
        {
            let waiting = Waiting {
                entry: row.get(0)?,
                revision: row.get(1)?,
                tenant: row.get(2)?,
                date: row.get(3)?,
                id: row.get(4)?,
                attempts: row.get(5)?,
                body: row.get(6)?,
            };
            bytes += waiting.body.len();
            found.push(waiting);
        }
        self.stamp(&mut found)?;
        Ok(found)
    }

    /// Writes back what became of records, in one transaction. A row whose record has changed since it
    /// was read stays pending.
    ///
    /// # Errors
    /// When the file cannot be written; nothing of it is written then, and the records will be sent
    /// again, which the store answers with "exists".
    pub fn settle(
        &mut self,
        destination: DestinationId,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<(), OutboxError> {
        let moment = now.as_millisecond();
        let transaction = self.begin()?;
        {
            let mut delivered = transaction.prepare_cached(
                "UPDATE entries SET state = 'delivered', settled_at = ?3, body = NULL, kind = NULL, reason = NULL,
                     not_before = 0 WHERE entry = ?1 AND revision = ?2 AND state = 'pending'",
            )?;
            let mut again = transaction.prepare_cached(
                "UPDATE entries SET attempts = attempts + 1, not_before = ?3, kind = ?4, reason = ?5
                 WHERE entry = ?1 AND revision = ?2 AND state = 'pending'",
            )?;
            let mut refused = transaction.prepare_cached(
                "UPDATE entries SET state = 'refused', attempts = attempts + 1, kind = ?3, reason = ?4
                 WHERE entry = ?1 AND revision = ?2 AND state = 'pending'",
            )?;
            for Settlement { entry, revision, outcome } in &progress.settlements {
                match outcome {
                    Outcome::Delivered => delivered.execute(params![entry, revision, moment])?,
                    Outcome::Again { not_before, kind, message } => {
                        again.execute(params![entry, revision, not_before.as_millisecond(), kind, message])?
                    }
                    Outcome::Refused { kind, message } => {
                        refused.execute(params![entry, revision, kind, message])?
                    }
                };
            }
            for gate in &progress.gates {
                write_gate(&transaction, destination, gate)?;
            }
            write_latencies(&transaction, &progress.latencies)?;
            super::spending::add(&transaction, destination, progress.request_units, now)?;
            let error = progress.last_error.as_ref();
            transaction
                .prepare_cached(
                    "UPDATE destinations SET request_units = request_units + ?2,
                         last_success = coalesce(?3, last_success), last_error_at = coalesce(?4, last_error_at),
                         last_error_kind = coalesce(?5, last_error_kind), last_error = coalesce(?6, last_error)
                     WHERE destination = ?1",
                )?
                .execute(params![
                    destination.0,
                    progress.request_units,
                    progress.last_success.map(Timestamp::as_millisecond),
                    error.map(|error| error.at.as_millisecond()),
                    error.map(|error| &error.kind),
                    error.map(|error| &error.message),
                ])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Makes every waiting record of a destination due: somebody asked, or access works again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn hurry(&mut self, destination: DestinationId) -> Result<(), OutboxError> {
        self.connection
            .prepare_cached(
                "UPDATE entries SET not_before = 0
                 WHERE destination = ?1 AND state = 'pending' AND not_before > 0",
            )?
            .execute([destination.0])?;
        Ok(())
    }

    /// When the next attempt can be made at all, taking gates into account; `None` where nothing waits.
    /// A time in the past means now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_attempt(&self) -> Result<Option<Timestamp>, OutboxError> {
        let earliest: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT min(max(w.not_before, coalesce(g.retry_at, 0)))
                 FROM (SELECT e.destination, min(max(e.not_before, coalesce((
                           SELECT p.retry_at FROM gates p WHERE p.destination = e.destination
                           AND p.tenant = e.tenant AND p.date = e.date AND p.open = 1), 0))) AS not_before
                       FROM entries e WHERE e.state = 'pending' GROUP BY e.destination) w
                 LEFT JOIN gates g ON g.destination = w.destination AND g.tenant = '' AND g.date = '' AND g.open = 1",
            )?
            .query_row([], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(earliest.map(timestamp))
    }
}

fn write_latencies(transaction: &rusqlite::Transaction<'_>, latencies: &[Duration]) -> rusqlite::Result<()> {
    if latencies.is_empty() {
        return Ok(());
    }
    let first: i64 = transaction
        .prepare_cached(
            "UPDATE counters SET value = value + ?1 WHERE name = 'operations' RETURNING value - ?1",
        )?
        .query_row([i64::try_from(latencies.len()).unwrap_or(i64::MAX)], |row| row.get(0))?;
    let mut insert = transaction
        .prepare_cached("INSERT OR REPLACE INTO latencies (slot, milliseconds) VALUES (?1, ?2)")?;
    for (latency, number) in latencies.iter().zip(first..) {
        insert.execute(params![number % LATENCIES, latency.as_secs_f64() * 1000.0])?;
    }
    Ok(())
}

//! What `status` needs, from the disk alone.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::enqueue::from_json;
use super::{
    Circuit, DestinationId, FILE_NAME, Gate, GateScope, LastError, Outbox, OutboxError, count, timestamp,
};
use crate::destination::Destination;

/// The whole outbox in numbers.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Records that wait for their turn.
    pub pending: u64,
    /// Records that wait for a person.
    pub held: u64,
    /// Records that a store will never take.
    pub refused: u64,
    /// Records that their store has.
    pub delivered: u64,
    /// Records that a person gave up.
    pub discarded: u64,
    /// Age of the oldest pending one.
    pub oldest_pending_seconds: Option<u64>,
    /// Size of the outbox's files.
    pub bytes: u64,
    /// Request units charged by all destinations so far.
    pub request_units: f64,
    /// Latency of the last 1000 operations; `None` before the first.
    pub latency_ms: Option<Quantiles>,
    /// Each destination that ever had a record.
    pub destinations: Vec<DestinationStats>,
}

/// Latency in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// One in a hundred took longer.
    pub p99: f64,
}

/// One destination in numbers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStats {
    /// Which.
    pub destination: Destination,
    /// Records that wait for their turn.
    pub pending: u64,
    /// Records that wait for a person.
    pub held: u64,
    /// Records that it will never take.
    pub refused: u64,
    /// Records that it has.
    pub delivered: u64,
    /// Records that a person gave up.
    pub discarded: u64,
    /// Request units it has charged.
    pub request_units: f64,
    /// When it last took a record.
    pub last_success: Option<Timestamp>,
    /// What it last complained about.
    pub last_error: Option<LastError>,
    /// When the next attempt is made; `None` where nothing waits or it can be made now.
    pub next_attempt: Option<Timestamp>,
    /// The breaker.
    pub circuit: Circuit,
}

impl Outbox {
    /// Counts everything; 10 ms for 100 000 entries.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stats(&self, now: Timestamp) -> Result<Stats, OutboxError> {
        // One read transaction, so that the numbers fit together.
        let transaction = self.connection.unchecked_transaction()?;
        let mut stats = Stats { bytes: self.bytes(), ..Stats::default() };
        for (id, mut destination) in self.destination_rows()? {
            let (pending, oldest) = self.count_waiting(id, &mut destination, now)?;
            self.count_settled(id, &mut destination, pending)?;
            let age = oldest
                .map(|oldest| u64::try_from(now.as_second().saturating_sub(oldest.as_second())).unwrap_or(0));
            stats.oldest_pending_seconds = stats.oldest_pending_seconds.max(age);
            stats.pending += destination.pending;
            stats.held += destination.held;
            stats.refused += destination.refused;
            stats.delivered += destination.delivered;
            stats.discarded += destination.discarded;
            stats.request_units += destination.request_units;
            stats.destinations.push(destination);
        }
        stats.latency_ms = self.latencies()?;
        transaction.commit()?;
        Ok(stats)
    }

    fn destination_rows(&self) -> Result<Vec<(DestinationId, DestinationStats)>, OutboxError> {
        let mut statement = self.connection.prepare(
            "SELECT destination, name, request_units, last_success, last_error_at, last_error_kind, last_error
             FROM destinations ORDER BY destination",
        )?;
        let rows = statement.query_map([], |row| {
            let last_error = match row.get::<_, Option<i64>>(4)? {
                Some(at) => Some(LastError { at: timestamp(at), kind: row.get(5)?, message: row.get(6)? }),
                None => None,
            };
            let stats = DestinationStats {
                destination: from_json(1, &row.get::<_, String>(1)?)?,
                pending: 0,
                held: 0,
                refused: 0,
                delivered: 0,
                discarded: 0,
                request_units: row.get(2)?,
                last_success: row.get::<_, Option<i64>>(3)?.map(timestamp),
                last_error,
                next_attempt: None,
                circuit: Circuit::Closed,
            };
            Ok((DestinationId(row.get(0)?), stats))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Pending rows, those held by a gate apart. Returns the number of both and the age of the oldest
    /// that is not held.
    fn count_waiting(
        &self,
        id: DestinationId,
        stats: &mut DestinationStats,
        now: Timestamp,
    ) -> Result<(u64, Option<Timestamp>), OutboxError> {
        let gates = self.gates(id)?;
        let whole = gates.iter().find(|gate| gate.scope == GateScope::Destination);
        stats.circuit = whole.map_or(Circuit::Closed, |gate: &Gate| gate.circuit(now));
        let mut statement = self.connection.prepare(
            "SELECT shown, count(*), min(queued_at), min(not_before) FROM shown
             WHERE destination = ?1 AND state = 'pending' GROUP BY shown",
        )?;
        let mut rows = statement.query([id.0])?;
        let mut oldest = None;
        let mut earliest: Option<Timestamp> = None;
        while let Some(row) = rows.next()? {
            let number = count(row.get(1)?);
            if row.get::<_, String>(0)? == "held" {
                stats.held += number;
            } else {
                stats.pending += number;
                oldest = Some(timestamp(row.get(2)?));
            }
            let not_before = timestamp(row.get(3)?);
            earliest = Some(earliest.map_or(not_before, |other| other.min(not_before)));
        }
        let gate = whole.filter(|gate| gate.open).map(|gate| gate.retry_at);
        stats.next_attempt = earliest
            .map(|earliest| gate.map_or(earliest, |gate| gate.max(earliest)))
            .filter(|next| *next > now);
        Ok((stats.pending + stats.held, oldest))
    }

    fn count_settled(
        &self,
        id: DestinationId,
        stats: &mut DestinationStats,
        pending: u64,
    ) -> Result<(), OutboxError> {
        let mut statement = self.connection.prepare(
            "SELECT state, count(*) FROM entries
             WHERE destination = ?1 AND state IN ('held', 'refused', 'discarded') GROUP BY state",
        )?;
        let mut rows = statement.query([id.0])?;
        let mut aside = 0;
        while let Some(row) = rows.next()? {
            let number = count(row.get(1)?);
            aside += number;
            match row.get::<_, String>(0)?.as_str() {
                "held" => stats.held += number,
                "refused" => stats.refused = number,
                _ => stats.discarded = number,
            }
        }
        // Counting what is left over reads one index instead of all rows.
        let all = self.connection.query_row(
            "SELECT count(*) FROM entries INDEXED BY entries_key WHERE destination = ?1",
            params![id.0],
            |row| row.get(0),
        )?;
        stats.delivered = count(all).saturating_sub(pending + aside);
        Ok(())
    }

    fn latencies(&self) -> Result<Option<Quantiles>, OutboxError> {
        let mut statement =
            self.connection.prepare("SELECT milliseconds FROM latencies ORDER BY milliseconds")?;
        let sorted = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<f64>, _>>()?;
        let at =
            |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Ok(at(50).zip(at(99)).map(|(p50, p99)| Quantiles { p50, p99 }))
    }

    fn bytes(&self) -> u64 {
        ["", "-wal", "-shm"]
            .iter()
            .filter_map(|suffix| std::fs::metadata(self.dir.join(format!("{FILE_NAME}{suffix}"))).ok())
            .map(|found| found.len())
            .sum()
    }
}

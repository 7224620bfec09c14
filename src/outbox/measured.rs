//! What the outbox knows of each repository's changes: how they spread over M2, for `riskPercentile`, and the
//! calibrated model, for `riskCalibrated`.
//!
//! A record is measured once it lies in the queue, by whoever delivers, never by a hook; and both numbers are
//! written into it when it is read for sending. A record that backfill queued first thus carries a percentile
//! among all of that backfill. The queued bytes stay as they are, and so does the digest, which leaves both out.
//!
//! Measuring is idempotent by commit: a commit that arrives again, for another tenant or from another clone,
//! counts once. What arrives from now on is judged by the pasts as they are then.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Outbox, OutboxError, Waiting, count};
use crate::calibration::{Change, Distribution, Evaluation, Model, Past, Pasts, thousandths};
use crate::hex::hex;

/// Rows measured in one transaction.
const BATCH: usize = 256;

/// A model that beat M2, and by how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// The model.
    pub model: Model,
    /// The newest commit that it knows of.
    pub until: String,
    /// The first commit that was held back; the model saw nothing from there on.
    pub held_back_from: String,
    /// M2 on the commits that were held back.
    pub m2: Evaluation,
    /// The model on the same commits.
    pub calibrated: Evaluation,
}

/// What is said of a commit beside its score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Beside {
    /// Percent of the repository's commits with a lower change risk.
    pub percentile: Option<f64>,
    /// The calibrated model's probability.
    pub calibrated: Option<f64>,
}

impl Outbox {
    /// Measures what has been queued since the last time.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn measure_queued(&mut self) -> Result<(), OutboxError> {
        loop {
            let (from, to): (i64, i64) = self
                .connection
                .prepare_cached(
                    "SELECT value, (SELECT coalesce(max(entry), 0) FROM entries) FROM counters
                     WHERE name = 'measured'",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if from >= to {
                return Ok(());
            }
            let rows: Vec<(i64, Vec<u8>)> = self
                .connection
                .prepare_cached(
                    "SELECT entry, body FROM entries WHERE entry > ?1 AND entry <= ?2 AND body IS NOT NULL
                     ORDER BY entry LIMIT ?3",
                )?
                .query_map([from, to, BATCH as i64], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let done = rows.get(BATCH - 1).map_or(to, |(entry, _)| *entry);
            let transaction = self.begin()?;
            measure(&transaction, rows.iter().map(|(_, body)| body.as_slice()))?;
            transaction
                .prepare_cached("UPDATE counters SET value = max(value, ?1) WHERE name = 'measured'")?
                .execute([done])?;
            transaction.commit()?;
        }
    }

    /// Measures records, queued or not, all or none of them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn measure<'a>(&mut self, records: impl Iterator<Item = &'a [u8]>) -> Result<(), OutboxError> {
        let transaction = self.begin()?;
        measure(&transaction, records)?;
        Ok(transaction.commit()?)
    }

    /// The commits of a repository that were measured.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn measured(&self, repository_id: &str) -> Result<HashSet<String>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM measured JOIN histories USING (history) WHERE repository_id = ?1",
        )?;
        let ids = statement.query_map([repository_id], |row| Ok(hex(&row.get::<_, Vec<u8>>(0)?)))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// What can be said of a change beside its score; `of` need not have been measured.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn beside(&self, of: &Change) -> Result<Beside, OutboxError> {
        let Some(history) = self.history(&of.repository)? else { return Ok(Beside::default()) };
        let measured = match self.row(history, &of.id)? {
            Some(row) => row,
            None => {
                let model = model(&self.connection, history)?;
                (thousandths(of.m2()), estimate(&self.connection, history, model.as_ref(), of)?)
            }
        };
        Ok(beside(&self.spread(history)?, measured))
    }

    /// The model that is kept for a repository.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn calibration(&self, repository_id: &str) -> Result<Option<Calibration>, OutboxError> {
        match self.history(repository_id)? {
            Some(history) => Ok(model(&self.connection, history)?),
            None => Ok(None),
        }
    }

    /// The kept model's probability of each commit of a repository that has one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn calibrated(&self, repository_id: &str) -> Result<HashMap<String, f64>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, calibrated FROM measured JOIN histories USING (history)
             WHERE repository_id = ?1 AND calibrated IS NOT NULL",
        )?;
        let rows = statement.query_map([repository_id], |row| {
            Ok((hex(&row.get::<_, Vec<u8>>(0)?), f64::from(row.get::<_, u16>(1)?) / 1000.0))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps what a walk over a repository's history has found, in the place of what was known: the changes
    /// with the model's probability of each, and, where a model is kept, the pasts that it goes on from.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is changed then.
    pub fn calibrate(
        &mut self,
        repository_id: &str,
        calibration: Option<&Calibration>,
        pasts: &Pasts,
        changes: &[(&Change, Option<f64>)],
    ) -> Result<(), OutboxError> {
        let model = calibration.map(|kept| serde_json::json!(kept).to_string());
        let transaction = self.begin()?;
        let history = number(&transaction, repository_id)?;
        transaction.execute("UPDATE histories SET model = ?2 WHERE history = ?1", params![history, model])?;
        transaction.execute("DELETE FROM pasts WHERE history = ?1", [history])?;
        // What an earlier model said of other branches is not comparable.
        transaction.execute("UPDATE measured SET calibrated = NULL WHERE history = ?1", [history])?;
        if calibration.is_some() {
            for (thing, past) in pasts {
                write_past(&transaction, history, *thing, *past)?;
            }
        }
        for (change, probability) in changes {
            transaction
                .prepare_cached(
                    "INSERT INTO measured (history, id, change_risk, calibrated) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET change_risk = excluded.change_risk,
                         calibrated = excluded.calibrated",
                )?
                .execute(params![
                    history,
                    bytes(&change.id),
                    thousandths(change.m2()),
                    probability.map(thousandths)
                ])?;
        }
        Ok(transaction.commit()?)
    }

    /// Writes both numbers into records that are about to be sent.
    pub(super) fn stamp(&self, records: &mut [Waiting]) -> Result<(), OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT m.history, m.change_risk, m.calibrated FROM entries e JOIN sources s USING (source)
             JOIN histories h ON h.repository_id =
                 CASE WHEN json_valid(s.content) THEN json_extract(s.content, '$.id') END
             JOIN measured m ON m.history = h.history AND m.id = ?2 WHERE e.entry = ?1",
        )?;
        let mut known: HashMap<i64, Distribution> = HashMap::new();
        for waiting in records {
            let found: Option<(i64, u16, Option<u16>)> = statement
                .query_row(params![waiting.entry, bytes(&waiting.id)], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()?;
            let Some((history, change_risk, calibrated)) = found else { continue };
            let distribution = match known.entry(history) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(self.spread(history)?),
            };
            write(&mut waiting.body, beside(distribution, (change_risk, calibrated)));
        }
        Ok(())
    }

    fn history(&self, repository_id: &str) -> Result<Option<i64>, OutboxError> {
        let mut statement =
            self.connection.prepare_cached("SELECT history FROM histories WHERE repository_id = ?1")?;
        Ok(statement.query_row([repository_id], |row| row.get(0)).optional()?)
    }

    fn row(&self, history: i64, id: &str) -> Result<Option<(u16, Option<u16>)>, OutboxError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT change_risk, calibrated FROM measured WHERE history = ?1 AND id = ?2")?;
        let row = statement.query_row(params![history, bytes(id)], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(row.optional()?)
    }

    fn spread(&self, history: i64) -> Result<Distribution, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT change_risk, count(*) FROM measured WHERE history = ?1 GROUP BY change_risk",
        )?;
        let rows = statement.query_map([history], |row| Ok((row.get(0)?, count(row.get(1)?))))?;
        Ok(Distribution::new(rows.collect::<Result<Vec<_>, _>>()?))
    }
}

/// To be called after rows of `entries` were removed: SQLite gives the numbers of the last ones to new rows, which
/// shall be measured.
pub(super) fn removed(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute(
        "UPDATE counters SET value = min(value, (SELECT coalesce(max(entry), 0) FROM entries))
         WHERE name = 'measured'",
        [],
    )
}

fn beside(distribution: &Distribution, (change_risk, calibrated): (u16, Option<u16>)) -> Beside {
    Beside {
        percentile: distribution.percentile(change_risk),
        calibrated: calibrated.map(|thousandths| f64::from(thousandths) / 1000.0),
    }
}

/// Adds the numbers at the end of a JSON object, whose other bytes stay.
fn write(body: &mut Vec<u8>, beside: Beside) {
    let Some(end) = body.iter().rposition(|byte| *byte == b'}') else { return };
    body.truncate(end);
    let fields = [("riskPercentile", beside.percentile), ("riskCalibrated", beside.calibrated)];
    for (name, value) in fields {
        if let Some(value) = value {
            body.extend_from_slice(format!(",\"{name}\":{}", serde_json::json!(value)).as_bytes());
        }
    }
    body.push(b'}');
}

fn measure<'a>(
    transaction: &Transaction<'_>,
    records: impl Iterator<Item = &'a [u8]>,
) -> Result<(), OutboxError> {
    let mut known: HashMap<String, (i64, Option<Calibration>)> = HashMap::new();
    for record in records {
        // What lacks a field that we measure by (another version's record) gets no numbers beside it.
        let Ok(change) = Change::from_record(record) else { continue };
        if !known.contains_key(&change.repository) {
            let history = number(transaction, &change.repository)?;
            known.insert(change.repository.clone(), (history, model(transaction, history)?));
        }
        let (history, model) = &known[&change.repository];
        let is_new: Option<i64> = transaction
            .prepare_cached("SELECT 1 FROM measured WHERE history = ?1 AND id = ?2")?
            .query_row(params![history, bytes(&change.id)], |row| row.get(0))
            .optional()?;
        if is_new.is_some() {
            continue;
        }
        let calibrated = estimate(transaction, *history, model.as_ref(), &change)?;
        transaction
            .prepare_cached(
                "INSERT INTO measured (history, id, change_risk, calibrated) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![history, bytes(&change.id), thousandths(change.m2()), calibrated])?;
        if model.is_some() && !change.merge {
            advance(transaction, *history, &change)?;
        }
    }
    Ok(())
}

/// The model's probability in thousandths; none for merges.
fn estimate(
    connection: &rusqlite::Connection,
    history: i64,
    model: Option<&Calibration>,
    change: &Change,
) -> Result<Option<u16>, OutboxError> {
    let Some(kept) = model.filter(|_| !change.merge) else { return Ok(None) };
    let mut pasts = Pasts::new();
    for thing in change.files.iter().chain([&change.author]) {
        if let Some(past) = past(connection, history, *thing)? {
            pasts.insert(*thing, past);
        }
    }
    let features = change.features(|thing| pasts.get(&thing).copied());
    Ok(Some(thousandths(kept.model.probability(&features))))
}

fn advance(transaction: &Transaction<'_>, history: i64, change: &Change) -> Result<(), OutboxError> {
    let mut changed = Pasts::new();
    for thing in change.files.iter().chain([&change.author]) {
        changed.insert(*thing, past(transaction, history, *thing)?.unwrap_or_default());
    }
    change.advance(|thing, next| {
        changed.entry(thing).and_modify(|past| *past = next(*past));
    });
    for (thing, past) in changed {
        write_past(transaction, history, thing, past)?;
    }
    Ok(())
}

fn past(connection: &rusqlite::Connection, history: i64, thing: i64) -> rusqlite::Result<Option<Past>> {
    connection
        .prepare_cached("SELECT changes, fixes, last_at FROM pasts WHERE history = ?1 AND thing = ?2")?
        .query_row([history, thing], |row| {
            Ok(Past { changes: row.get(0)?, fixes: row.get(1)?, last: row.get(2)? })
        })
        .optional()
}

fn write_past(
    transaction: &Transaction<'_>,
    history: i64,
    thing: i64,
    past: Past,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO pasts (history, thing, changes, fixes, last_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![history, thing, past.changes, past.fixes, past.last])
}

fn number(transaction: &Transaction<'_>, repository_id: &str) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("INSERT INTO histories (repository_id) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([repository_id])?;
    transaction
        .prepare_cached("SELECT history FROM histories WHERE repository_id = ?1")?
        .query_row([repository_id], |row| row.get(0))
}

/// The kept model; one that this version cannot read, because another version fitted it, is none.
fn model(connection: &rusqlite::Connection, history: i64) -> rusqlite::Result<Option<Calibration>> {
    let text: Option<String> = connection
        .prepare_cached("SELECT model FROM histories WHERE history = ?1")?
        .query_row([history], |row| row.get(0))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// An id in half the room; what is no hex stays text.
fn bytes(id: &str) -> Vec<u8> {
    let pairs = id.as_bytes().chunks(2);
    let parsed: Option<Vec<u8>> = pairs
        .map(|pair| {
            (pair.len() == 2).then(|| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())?
        })
        .collect();
    parsed.unwrap_or_else(|| id.as_bytes().to_vec())
}

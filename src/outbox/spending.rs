//! What each destination charged, day by day, and history that waits for the next day's budget.
//!
//! The days are rows of `counters` (`ru DESTINATION YYYY-MM-DD`, thousandths of a request unit), written with the
//! answers that they belong to. They count what this outbox sent: other machines have their own. Days are UTC's, as
//! in the bill; those older than [`KEPT_DAYS`] are forgotten.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::enqueue::{from_json, name_of};
use super::{DestinationId, Outbox, OutboxError};
use crate::destination::Destination;

/// How long a day's sum is kept: a year to compare with, and some.
const KEPT_DAYS: i64 = 400;

/// One day of one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DaySpent {
    /// UTC.
    pub day: Date,
    /// Request units.
    pub request_units: f64,
}

fn day_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

fn name(destination: DestinationId, day: Date) -> String {
    format!("ru {} {day}", destination.0)
}

/// Thousandths: the service charges hundredths.
fn units(thousandths: i64) -> f64 {
    // A day's sum is far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let exact = thousandths as f64;
    exact / 1000.0
}

/// Adds to the day's sum.
pub(super) fn add(
    transaction: &Transaction<'_>,
    destination: DestinationId,
    request_units: f64,
    now: Timestamp,
) -> rusqlite::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and a charge is below a million")]
    let thousandths = (request_units * 1000.0).round() as i64;
    if thousandths <= 0 {
        return Ok(());
    }
    let day = day_of(now);
    let sum: i64 = transaction
        .prepare_cached(
            "INSERT INTO counters (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = value + excluded.value RETURNING value",
        )?
        .query_row(params![name(destination, day), thousandths], |row| row.get(0))?;
    // The first of the day sweeps.
    if sum == thousandths
        && let Ok(oldest) = day.checked_sub(KEPT_DAYS.days())
    {
        transaction.execute(
            "DELETE FROM counters WHERE name >= ?1 AND name < ?2",
            params![format!("ru {} ", destination.0), name(destination, oldest)],
        )?;
    }
    Ok(())
}

impl Outbox {
    /// What a destination has charged on the day of `now`, request units.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn spent(&self, destination: DestinationId, now: Timestamp) -> Result<f64, OutboxError> {
        let sum = self
            .connection
            .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
            .query_row([name(destination, day_of(now))], |row| row.get(0))
            .optional()?;
        Ok(units(sum.unwrap_or(0)))
    }

    /// Adds what a destination charged for something else than queued records, request units.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn charge(
        &mut self,
        destination: &Destination,
        request_units: f64,
        now: Timestamp,
    ) -> Result<(), OutboxError> {
        let transaction = self.begin()?;
        let name = name_of(destination);
        transaction.execute("INSERT INTO destinations (name) VALUES (?1) ON CONFLICT DO NOTHING", [&name])?;
        let id = transaction.query_row(
            "SELECT destination FROM destinations WHERE name = ?1",
            [&name],
            |row| row.get(0),
        )?;
        add(&transaction, DestinationId(id), request_units, now)?;
        Ok(transaction.commit()?)
    }

    /// What is left of a day's budget at a destination, request units.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn left_of(
        &self,
        budget: u32,
        destination: &Destination,
        now: Timestamp,
    ) -> Result<f64, OutboxError> {
        let today = |spent: &&DaySpent| spent.day == day_of(now);
        let spent = self.spending(destination)?.iter().find(today).map_or(0.0, |spent| spent.request_units);
        Ok((f64::from(budget) - spent).max(0.0))
    }

    /// The days on which a destination charged anything, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn spending(&self, destination: &Destination) -> Result<Vec<DaySpent>, OutboxError> {
        let mut known = self.connection.prepare("SELECT destination, name FROM destinations")?;
        let mut known = known.query([])?;
        let mut id = None;
        while let Some(row) = known.next()? {
            if from_json::<Destination>(1, &row.get::<_, String>(1)?)? == *destination {
                id = Some(row.get::<_, i64>(0)?);
            }
        }
        let Some(id) = id else { return Ok(Vec::new()) };
        // `!` follows the space, so this is where a destination's days end.
        let mut statement = self
            .connection
            .prepare("SELECT name, value FROM counters WHERE name >= ?1 AND name < ?2 ORDER BY name")?;
        let (from, to) = (format!("ru {id} "), format!("ru {id}!"));
        let rows = statement.query_map([from, to], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let mut days = Vec::new();
        for row in rows {
            let (name, value) = row?;
            if let Some(Ok(day)) = name.rsplit(' ').next().map(str::parse) {
                days.push(DaySpent { day, request_units: units(value) });
            }
        }
        Ok(days)
    }

    /// Lets history for a destination wait for the next day (UTC); commits made now do not. Returns how many
    /// records did not wait yet.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn postpone_history(
        &mut self,
        destination: DestinationId,
        now: Timestamp,
    ) -> Result<usize, OutboxError> {
        let tomorrow = day_of(now).tomorrow().and_then(|day| day.to_zoned(TimeZone::UTC));
        let until = tomorrow.map_or(Timestamp::MAX, |midnight| midnight.timestamp());
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE entries SET not_before = ?2
                 WHERE destination = ?1 AND state = 'pending' AND urgency = 1 AND not_before < ?2",
            )?
            .execute(params![destination.0, until.as_millisecond()])?;
        Ok(changed)
    }
}

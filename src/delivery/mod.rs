//! Delivery: from the outbox to the stores.
//!
//! # The promise
//!
//! *Exactly one record for each commit in the end*; delivery's part (`docs/reliability.md` names the test of each word):
//! a record leaves the outbox only when its store has answered that it has it. What is killed, cut or
//! answered twice in between is sent again, and sending again is harmless: records are deterministic and
//! keyed by commit, a create that finds its document compares, and only a later judgement replaces, under
//! `If-Match` ([`crate::judgement`]). A record goes to the destination it was queued for, whatever the
//! settings say now.
//!
//! # Errors
//!
//! * *again*: the record's next attempt is put off, twice as long each time, without end. Five failures of a
//!   destination in a row open its gate: nothing passes until a time, then one probe.
//! * *held*: access or container. The gate opens at once and waits for a person; one probe each time
//!   its interval is over, or `flush` asks. When the probe passes, everything behind it goes on. A full
//!   partition has a gate of its own.
//! * *refused*: this record only. Set aside with the store's words, and the line goes on.
//!
//! Gates live in the outbox, so they outlive the process and ten thousand records behind one cost one
//! request.
//!
//! # How
//!
//! One worker at a time ([`WorkerLock`]), one destination after the other, up to
//! [`Options::concurrency`] requests under way, fewer when the store throttles. Commits made now go
//! before history: the queue is read again every few dozen records. What the store said is written back in
//! transactions of up to 256 answers; a crash before that sends those records again.

mod import;
mod lock;
mod one;
mod pace;
mod visit;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

pub use import::{Arrival, Import, Imported, Patience, Told, import};
pub use lock::{WorkerLock, claim};
use pace::Pace;
pub use pace::{AGAIN, Backoff, HELD};
use visit::Visit;

use crate::destination::Destination;
use crate::outbox::{DestinationId, Outbox, OutboxError, spool_waiting};
use crate::store::{Store, StoreError};

/// How to deliver.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most requests under way at once.
    pub concurrency: usize,
    /// Leave after this time, whatever is under way; what was not answered stays in the outbox.
    pub deadline: Option<Duration>,
    /// Try what waits for its time, or for a person, at once: somebody asked.
    pub force: bool,
    /// Stay while the next attempt is no further away than this.
    pub patience: Duration,
    /// Spool folders to take in first.
    pub spool_dirs: Vec<PathBuf>,
    /// Request units in a day (UTC) from which history waits for the next; none for no limit.
    pub budget: Option<u32>,
    /// Waits after failures.
    pub again: Backoff,
    /// Waits for a person.
    pub held: Backoff,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 16,
            deadline: None,
            force: false,
            patience: Duration::from_secs(10),
            spool_dirs: Vec::new(),
            budget: None,
            again: AGAIN,
            held: HELD,
        }
    }
}

/// Time and randomness, from outside.
pub struct Surroundings<'a> {
    /// The wall clock.
    pub now: &'a dyn Fn() -> Timestamp,
    /// A number in 0..1.
    pub random: &'a mut dyn FnMut() -> f64,
}

/// What a delivery did, and what is left.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Records that their store has now, the next three included.
    pub delivered: u64,
    /// Of those, took the place of an earlier judgement.
    pub replaced: u64,
    /// Of those, brought only links to what was there.
    pub merged: u64,
    /// Of those, were there already, or a later judgement was.
    pub already: u64,
    /// Taken in from spool files.
    pub spooled: u64,
    /// Damaged spool files that were moved aside.
    pub spool_damaged: Vec<PathBuf>,
    /// Spool folders and files that could not be read.
    pub spool_problems: Vec<String>,
    /// Still waiting for their turn.
    pub pending: u64,
    /// Waiting for a person.
    pub held: u64,
    /// Set aside, now and earlier.
    pub refused: u64,
    /// Records of history put off to the next day, because this day's budget is spent.
    pub postponed: usize,
    /// Request units charged.
    pub request_units: f64,
    /// Requests that the store answered with "slower" (429).
    pub throttled: u64,
    /// Whether the time ran out.
    pub timed_out: bool,
    /// The first error of each destination.
    pub errors: Vec<DeliveryError>,
}

impl Report {
    /// Takes in what a later delivery did; what is left is the later one's.
    pub fn add(&mut self, later: Self) {
        let earlier = std::mem::replace(self, later);
        self.delivered += earlier.delivered;
        self.replaced += earlier.replaced;
        self.merged += earlier.merged;
        self.already += earlier.already;
        self.spooled += earlier.spooled;
        self.request_units += earlier.request_units;
        self.throttled += earlier.throttled;
        self.postponed += earlier.postponed;
        self.timed_out |= earlier.timed_out;
        let new = |error: &DeliveryError| {
            !earlier.errors.iter().any(|known| known.destination == error.destination)
        };
        self.errors.retain(new);
        self.errors.splice(0..0, earlier.errors.iter().cloned());
        self.spool_damaged.splice(0..0, earlier.spool_damaged);
        self.spool_problems.splice(0..0, earlier.spool_problems);
    }
}

/// The first error of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryError {
    /// Which.
    pub destination: Destination,
    /// Short name.
    pub kind: String,
    /// In the store's words.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Delivers while holding the lock, and looks again after letting it go: a hook that found it taken
/// relies on that ([`claim`]). Returns the sum of what it did.
///
/// # Errors
/// When the outbox cannot be read or written; everything that was not answered is still in it.
pub async fn deliver(
    lock: WorkerLock,
    outbox: &mut Outbox,
    open_store: impl Fn(&Destination) -> Result<Arc<dyn Store>, StoreError>,
    options: &Options,
    mut surroundings: Surroundings<'_>,
) -> Result<Report, OutboxError> {
    let deadline = options.deadline.map(|limit| Instant::now() + limit);
    let dir = outbox.dir().to_owned();
    let mut lock = Some(lock);
    let mut options = options.clone();
    let mut report = Report::default();
    while lock.is_some() {
        options.deadline = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let tried = spool_waiting(&options.spool_dirs);
        drain_into(&mut report, outbox, &open_store, &options, &mut surroundings).await?;
        options.force = false;
        drop(lock.take());
        let due = outbox.next_attempt()?.is_some_and(|next| next <= (surroundings.now)());
        // What was there and still is cannot be taken in, now or a moment later.
        let arrived = !spool_waiting(&options.spool_dirs).is_subset(&tried);
        if !report.timed_out && (due || arrived) {
            lock = WorkerLock::try_acquire(&dir)
                .map_err(|source| OutboxError::Io { path: dir.clone(), source })?;
        }
    }
    Ok(report)
}

/// Delivers everything that can go now, and what can go within [`Options::patience`]. The caller holds the
/// [`WorkerLock`].
///
/// # Errors
/// When the outbox cannot be read or written; everything that was not answered is still in it.
pub async fn drain(
    outbox: &mut Outbox,
    open_store: impl Fn(&Destination) -> Result<Arc<dyn Store>, StoreError>,
    options: &Options,
    mut surroundings: Surroundings<'_>,
) -> Result<Report, OutboxError> {
    let mut report = Report::default();
    drain_into(&mut report, outbox, &open_store, options, &mut surroundings).await?;
    Ok(report)
}

type OpenStore<'a> = &'a dyn Fn(&Destination) -> Result<Arc<dyn Store>, StoreError>;

async fn drain_into(
    report: &mut Report,
    outbox: &mut Outbox,
    open_store: OpenStore<'_>,
    options: &Options,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), OutboxError> {
    let deadline = options.deadline.map(|limit| Instant::now() + limit);
    let result = rounds(report, outbox, open_store, options, deadline, surroundings).await;
    result.map_err(|error| outbox.suspect(error))?;
    outbox.tidy()?;
    let stats = outbox.stats((surroundings.now)())?;
    (report.pending, report.held, report.refused) = (stats.pending, stats.held, stats.refused);
    Ok(())
}

async fn rounds(
    report: &mut Report,
    outbox: &mut Outbox,
    open_store: OpenStore<'_>,
    options: &Options,
    deadline: Option<Instant>,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), OutboxError> {
    let mut stores: HashMap<DestinationId, Arc<dyn Store>> = HashMap::new();
    // What was learnt about a store's speed lasts for as long as this process works.
    let mut paces: HashMap<DestinationId, Pace> = HashMap::new();
    let mut force = options.force;
    let over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
    loop {
        take_in(report, outbox, options, (surroundings.now)())?;
        for (id, destination) in outbox.destinations()? {
            let open = || match stores.get(&id) {
                Some(store) => Ok(Arc::clone(store)),
                None => open_store(&destination),
            };
            let pace = paces.entry(id).or_insert_with(|| Pace::new(options.concurrency, Instant::now()));
            let mut visit = Visit::new(outbox, id, &destination, pace, options, surroundings, report)?;
            if let Some(store) = visit.run(open, force, deadline).await? {
                stores.insert(id, store);
            }
            if over() {
                report.timed_out = true;
                return Ok(());
            }
        }
        force = false;
        let Some(next) = outbox.next_attempt()? else { return Ok(()) };
        let wait = Duration::try_from(next.duration_since((surroundings.now)())).unwrap_or_default();
        if wait > options.patience {
            return Ok(());
        }
        // Never without a breath, should the clock stand still.
        let until = Instant::now() + wait.max(Duration::from_millis(1));
        tokio::time::sleep_until(deadline.map_or(until, |deadline| deadline.min(until))).await;
        if over() {
            report.timed_out = true;
            return Ok(());
        }
    }
}

fn take_in(
    report: &mut Report,
    outbox: &mut Outbox,
    options: &Options,
    now: Timestamp,
) -> Result<(), OutboxError> {
    let taken_in = outbox.take_in_spool(&options.spool_dirs, now)?;
    outbox.measure_queued()?;
    report.spooled += taken_in.taken as u64;
    report.spool_damaged.extend(taken_in.set_aside);
    for problem in taken_in.problems {
        let problem = problem.to_string();
        if !report.spool_problems.contains(&problem) {
            report.spool_problems.push(problem);
        }
    }
    Ok(())
}

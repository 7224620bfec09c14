//! Records that come from another store, straight into one.
//!
//! Not through the outbox: the file that they come from is kept by whoever has it, so nothing is lost with this
//! process; what the outbox adds to a record on its way (percentiles of this machine's history) would change it; and
//! commits made now do not wait behind it. The rest is as in delivery, with its words: create, and where something is,
//! compare, and replace under `If-Match` a judgement that was earlier. So a repeat changes nothing, and one that was killed
//! is repeated.
//!
//! Records arrive in any order. A failure that passes is tried again until nothing has succeeded for
//! [`Patience::give_up`]; what waits for a person ends the import at once.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::one::{Said, put};
use super::pace::{self, Pace};
use super::{AGAIN, Backoff};
use crate::store::{Cost, ErrorClass, Key, Store, StoreError};

/// A record, and the line that it came from.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// From 1.
    pub line: u64,
    /// Its key.
    pub key: Key,
    /// The record.
    pub document: Value,
}

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Most requests under way at once.
    pub concurrency: usize,
    /// Waits after failures.
    pub again: Backoff,
    /// Without a success for so long, it is over.
    pub give_up: Duration,
    /// Most request units to spend; the line at which they are spent is the last.
    pub budget: Option<f64>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { concurrency: 16, again: AGAIN, give_up: Duration::from_secs(30), budget: None }
    }
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// Were not there.
    pub created: u64,
    /// Took the place of an earlier judgement.
    pub replaced: u64,
    /// Brought only links to what was there.
    pub merged: u64,
    /// Were there already, or a later judgement was.
    pub already: u64,
    /// The store will never take them.
    pub refused: u64,
    /// Request units charged.
    pub request_units: f64,
    /// Requests that the store answered with "slower" (429).
    pub throttled: u64,
    /// Where the import ended early: all lines before this one are done.
    pub unanswered_from: Option<u64>,
    /// Whether the budget ended it.
    pub budget_spent: bool,
}

/// What an import tells on its way.
#[derive(Debug)]
pub enum Told<'a> {
    /// The store will never take the record in this line.
    Refused(u64, &'a StoreError),
    /// So many more request units were charged.
    Charged(f64),
}

/// What came of an import, and what ended it early.
#[derive(Debug)]
pub struct Import {
    /// What was done.
    pub done: Imported,
    /// Why it ended before its input did.
    pub error: Option<StoreError>,
}

/// Some records that go in one operation.
struct Load {
    lines: Vec<u64>,
    documents: Vec<(Key, Value)>,
    failures: u32,
    due: Instant,
}

/// Brings records into a store.
pub async fn import(
    store: &dyn Store,
    records: impl Stream<Item = Arrival>,
    patience: Patience,
    tell: &mut (dyn FnMut(Told<'_>) + Send),
) -> Import {
    let mut pace = Pace::new(patience.concurrency, Instant::now());
    let mut records = std::pin::pin!(records.ready_chunks(store.batch_size().max(1)));
    let mut under_way = FuturesUnordered::new();
    let mut course = Course { done: Imported::default(), again: VecDeque::new(), error: None };
    let mut open: BTreeSet<u64> = BTreeSet::new();
    let (mut ended, mut last_line, mut last_success) = (false, 0, Instant::now());
    loop {
        let over_budget = patience.budget.is_some_and(|budget| course.done.request_units >= budget);
        course.done.budget_spent = over_budget && (!ended || !course.again.is_empty());
        let stopping = course.error.is_some() || over_budget;
        let now = Instant::now();
        let pause = if stopping { None } else { pace.next_start(under_way.len(), now) };
        let room = !stopping && pause.is_none() && under_way.len() < pace.limit();
        if room && let Some(load) = course.due(now) {
            under_way.push(send(store, load));
            continue;
        }
        // What waits must not pile up: a store that is away is not fed.
        let reading = room && !ended && course.again.len() < patience.concurrency;
        if under_way.is_empty() && (stopping || (ended && course.again.is_empty())) {
            break;
        }
        // Where all places are taken, an answer is what is waited for.
        let next_due = course.again.iter().map(|load| load.due).min().filter(|_| room);
        let wake = pause.or(next_due);
        tokio::select! {
            Some((load, answers)) = under_way.next(), if !under_way.is_empty() => {
                let succeeded = course.absorb(load, answers, &mut open, &mut pace, (&patience, last_success), tell);
                if succeeded {
                    last_success = Instant::now();
                }
            }
            chunk = records.next(), if reading => match chunk {
                Some(chunk) => {
                    open.extend(chunk.iter().map(|arrival| arrival.line));
                    last_line = chunk.last().map_or(last_line, |arrival| arrival.line);
                    if course.again.is_empty() && under_way.is_empty() {
                        // Waiting for the input is no failure of the store.
                        last_success = Instant::now();
                    }
                    let lines = chunk.iter().map(|arrival| arrival.line).collect();
                    let documents = chunk.into_iter().map(|arrival| (arrival.key, arrival.document)).collect();
                    under_way.push(send(store, Load { lines, documents, failures: 0, due: now }));
                }
                None => ended = true,
            },
            () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }
    if course.error.is_some() || course.done.budget_spent {
        course.done.unanswered_from = Some(open.first().copied().unwrap_or(last_line + 1));
    }
    Import { done: course.done, error: course.error }
}

async fn send(store: &dyn Store, load: Load) -> (Load, Vec<(Said, Vec<Cost>)>) {
    let answers = put(store, &load.documents).await;
    (load, answers)
}

struct Course {
    done: Imported,
    again: VecDeque<Load>,
    error: Option<StoreError>,
}

impl Course {
    /// Something that was put off and may go now.
    fn due(&mut self, now: Instant) -> Option<Load> {
        let place = self.again.iter().position(|load| load.due <= now)?;
        self.again.remove(place)
    }

    /// Takes note of the answers; whether one of them was that the store has a record.
    fn absorb(
        &mut self,
        load: Load,
        answers: Vec<(Said, Vec<Cost>)>,
        open: &mut BTreeSet<u64>,
        pace: &mut Pace,
        (patience, last_success): (&Patience, Instant),
        tell: &mut (dyn FnMut(Told<'_>) + Send),
    ) -> bool {
        let (mut succeeded, mut charged) = (false, 0.0);
        let records = load.lines.into_iter().zip(load.documents);
        for ((line, document), (said, costs)) in records.zip(answers) {
            let now = Instant::now();
            let units: f64 = costs.iter().map(|cost| cost.request_units).sum();
            self.done.request_units += units;
            charged += units;
            let count = match said {
                Said::Created => &mut self.done.created,
                Said::Present => &mut self.done.already,
                Said::Replaced => &mut self.done.replaced,
                Said::Merged => &mut self.done.merged,
                Said::Failed(error) if error.class == ErrorClass::Refused => {
                    tell(Told::Refused(line, &error));
                    open.remove(&line);
                    self.done.refused += 1;
                    continue;
                }
                Said::Failed(error) => {
                    let throttled = pace::is_throttle(&error);
                    if throttled {
                        self.done.throttled += 1;
                        pace.throttled(error.retry_after, now);
                    }
                    let over = now.duration_since(last_success) >= patience.give_up && !succeeded;
                    if error.class == ErrorClass::Held || over {
                        self.error.get_or_insert(error);
                        continue;
                    }
                    let failures = load.failures.saturating_add(1);
                    let wait = match error.retry_after {
                        Some(asked) if throttled => asked,
                        asked => {
                            patience.again.wait(failures, fastrand::f64()).max(asked.unwrap_or_default())
                        }
                    };
                    let (lines, documents) = (vec![line], vec![document]);
                    self.again.push_back(Load { lines, documents, failures, due: now + wait });
                    continue;
                }
            };
            *count += 1;
            succeeded = true;
            open.remove(&line);
            pace.charged(units, now);
        }
        tell(Told::Charged(charged));
        succeeded
    }
}

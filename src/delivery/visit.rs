//! One visit to one destination: probe where a gate is open, then send what is due.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::time::Instant;

use super::one::{Answer, Said, send};
use super::pace::{self, Pace};
use super::{DeliveryError, Options, Report, Surroundings};
use crate::destination::Destination;
use crate::outbox::{
    DestinationId, Gate, GateScope, LastError, Outbox, OutboxError, Outcome, Progress, Settlement, Waiting,
};
use crate::store::{ErrorClass, Store, StoreError};

/// Answers written back in one transaction.
const WRITE_BACK: usize = 256;

/// The kind under which a store reports that one partition is full; it holds that partition alone.
pub(super) const PARTITION_FULL: &str = "partition-full";

pub(super) struct Visit<'a, 's> {
    outbox: &'a mut Outbox,
    id: DestinationId,
    destination: &'a Destination,
    options: &'a Options,
    surroundings: &'a mut Surroundings<'s>,
    report: &'a mut Report,
    gate: Gate,
    partitions: Vec<Gate>,
    pace: &'a mut Pace,
    /// Not written back yet.
    progress: Progress,
}

impl<'a, 's> Visit<'a, 's> {
    pub(super) fn new(
        outbox: &'a mut Outbox,
        id: DestinationId,
        destination: &'a Destination,
        pace: &'a mut Pace,
        options: &'a Options,
        surroundings: &'a mut Surroundings<'s>,
        report: &'a mut Report,
    ) -> Result<Self, OutboxError> {
        let (mut whole, partitions): (Vec<Gate>, Vec<Gate>) =
            outbox.gates(id)?.into_iter().partition(|gate| gate.scope == GateScope::Destination);
        let gate = whole.pop().unwrap_or_else(|| Gate::closed(GateScope::Destination));
        let progress = Progress::default();
        Ok(Self { outbox, id, destination, options, surroundings, report, gate, partitions, pace, progress })
    }

    fn now(&self) -> Timestamp {
        (self.surroundings.now)()
    }

    /// Returns the store for the next visit, where it could be opened.
    pub(super) async fn run(
        &mut self,
        open: impl FnOnce() -> Result<Arc<dyn Store>, StoreError>,
        force: bool,
        deadline: Option<Instant>,
    ) -> Result<Option<Arc<dyn Store>>, OutboxError> {
        let waits = self.gate.open && self.now() < self.gate.retry_at && !force;
        if waits && !self.waits_for_a_credential() {
            return Ok(None);
        }
        let store = match open() {
            Ok(store) if waits && !self.may_sign_in(&*store) => return Ok(None),
            Ok(store) => store,
            Err(_) if waits => return Ok(None),
            Err(error) => {
                self.note_error(&error);
                // No record has had a chance: one failure is enough to wait.
                self.gate.failures = self.gate.failures.max(pace::THRESHOLD);
                self.gate_failed(&error);
                self.write_back()?;
                return Ok(None);
            }
        };
        if force {
            self.outbox.hurry(self.id)?;
        }
        if self.gate.open {
            let probed = self.probe(&*store, &GateScope::Destination, deadline).await?;
            if !probed || self.gate.open {
                return Ok(Some(store));
            }
            self.outbox.hurry(self.id)?;
        }
        for scope in self.partitions_to_probe(force) {
            if !self.gate.open {
                self.probe(&*store, &scope, deadline).await?;
            }
        }
        self.flow(&*store, deadline).await?;
        Ok(Some(store))
    }

    fn waits_for_a_credential(&self) -> bool {
        self.gate.held && matches!(self.gate.kind.as_str(), "no-credential" | "sign-in" | "unauthorized")
    }

    /// Whether this process has another credential than the one that was refused: a shell may have a key where a
    /// GUI has none. The refusal names its own, and where there was none the store could not even be opened.
    fn may_sign_in(&self, store: &dyn Store) -> bool {
        self.gate.kind == "no-credential"
            || store.signs_in_by().is_some_and(|name| !self.gate.message.contains(name))
    }

    fn partitions_to_probe(&self, force: bool) -> Vec<GateScope> {
        let now = self.now();
        let due = |gate: &&Gate| gate.open && (force || now >= gate.retry_at);
        self.partitions.iter().filter(due).map(|gate| gate.scope.clone()).collect()
    }

    /// Sends one record to see whether a gate can be closed; whether there was one to send and an answer.
    async fn probe(
        &mut self,
        store: &dyn Store,
        scope: &GateScope,
        deadline: Option<Instant>,
    ) -> Result<bool, OutboxError> {
        let Some(waiting) = self.outbox.probe(self.id, scope)? else { return Ok(false) };
        let Some(answers) = until(deadline, send(store, vec![waiting])).await else { return Ok(false) };
        for answer in answers {
            self.absorb(answer);
        }
        self.write_back()?;
        Ok(true)
    }

    /// Keeps up to the pace's limit of requests under way until nothing is due, the gate opens, or the time
    /// is over. What is under way then is dropped: its records are still pending, and sending them again is
    /// harmless.
    async fn flow(&mut self, store: &dyn Store, deadline: Option<Instant>) -> Result<(), OutboxError> {
        let batch = store.batch_size().max(1);
        let mut queue: VecDeque<Vec<Waiting>> = VecDeque::new();
        let mut under_way = FuturesUnordered::new();
        let mut sent: HashSet<i64> = HashSet::new();
        let mut dry = false;
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            if self.gate.open {
                queue.clear();
            } else if queue.is_empty() && !dry && under_way.len() < self.pace.limit() {
                self.write_back()?;
                // A commit made while history flows waits in a spool file, and goes before it.
                let now = self.now();
                super::take_in(self.report, self.outbox, self.options, now)?;
                self.mind_the_budget(now)?;
                queue = self.fetch(batch, &sent)?;
                dry = queue.is_empty();
            }
            let mut pause = self.pace.next_start(under_way.len(), Instant::now());
            while pause.is_none()
                && under_way.len() < self.pace.limit()
                && let Some(next) = queue.pop_front()
            {
                sent.extend(next.iter().map(|waiting| waiting.entry));
                under_way.push(send(store, next));
                pause = self.pace.next_start(under_way.len(), Instant::now());
            }
            let pause = pause.filter(|_| !queue.is_empty() && under_way.len() < self.pace.limit());
            if under_way.is_empty() {
                let Some(pause) = pause else { break };
                until(earlier(deadline, Some(pause)), std::future::pending::<()>()).await;
                continue;
            }
            if let Some(Some(answers)) = until(earlier(deadline, pause), under_way.next()).await {
                for answer in answers {
                    sent.remove(&answer.waiting.entry);
                    self.absorb(answer);
                }
                if self.progress.settlements.len() >= WRITE_BACK {
                    self.write_back()?;
                }
            }
        }
        self.write_back()
    }

    /// Puts history off once the day's budget is spent. Looked at whenever records are fetched, after what was
    /// charged has been written down: at most one window of records goes beyond it.
    fn mind_the_budget(&mut self, now: Timestamp) -> Result<(), OutboxError> {
        if let Some(budget) = self.options.budget
            && self.outbox.spent(self.id, now)? >= f64::from(budget)
        {
            self.report.postponed += self.outbox.postpone_history(self.id, now)?;
        }
        Ok(())
    }

    /// What to send next, in operations of at most `batch` records.
    fn fetch(&mut self, batch: usize, sent: &HashSet<i64>) -> Result<VecDeque<Vec<Waiting>>, OutboxError> {
        let window = (self.pace.limit() * batch * 2).clamp(batch, batch.max(1024));
        let mut due = self.outbox.due(self.id, self.now(), sent.len() + window)?;
        due.retain(|waiting| !sent.contains(&waiting.entry));
        let mut queue = VecDeque::with_capacity(due.len().div_ceil(batch));
        while due.len() > batch {
            let rest = due.split_off(batch);
            queue.push_back(std::mem::replace(&mut due, rest));
        }
        if !due.is_empty() {
            queue.push_back(due);
        }
        Ok(queue)
    }

    /// Takes note of one record's answer.
    fn absorb(&mut self, answer: Answer) {
        let Answer { waiting, said, costs } = answer;
        let units: f64 = costs.iter().map(|cost| cost.request_units).sum();
        self.progress.request_units += units;
        self.report.request_units += units;
        self.progress.latencies.extend(costs.iter().map(|cost| cost.latency));
        if !matches!(said, Said::Failed(_)) {
            self.pace.charged(units, Instant::now());
        }
        let outcome = match said {
            Said::Failed(error) => self.failed(&waiting, &error),
            Said::Created => self.succeeded(&waiting),
            Said::Present => {
                self.report.already += 1;
                self.succeeded(&waiting)
            }
            Said::Replaced => {
                self.report.replaced += 1;
                self.succeeded(&waiting)
            }
            Said::Merged => {
                self.report.merged += 1;
                self.succeeded(&waiting)
            }
        };
        self.progress.settlements.push(Settlement {
            entry: waiting.entry,
            revision: waiting.revision,
            outcome,
        });
    }

    fn succeeded(&mut self, waiting: &Waiting) -> Outcome {
        self.report.delivered += 1;
        self.progress.last_success = Some(self.now());
        self.close_gates(waiting);
        Outcome::Delivered
    }

    fn failed(&mut self, waiting: &Waiting, error: &StoreError) -> Outcome {
        self.note_error(error);
        let (kind, message) = (error.kind.to_owned(), error.message.clone());
        if error.class == ErrorClass::Refused {
            // An answer about the record: the way to the store is free.
            self.close_gates(waiting);
            return Outcome::Refused { kind, message };
        }
        if pace::is_throttle(error) {
            self.report.throttled += 1;
            self.pace.throttled(error.retry_after, Instant::now());
        }
        let partition = (error.class == ErrorClass::Held && error.kind == PARTITION_FULL)
            .then(|| GateScope::Partition { tenant: waiting.tenant.clone(), date: waiting.date.clone() });
        match partition {
            Some(scope) => self.partition_failed(scope, error),
            None => self.gate_failed(error),
        }
        let random = (self.surroundings.random)();
        let failures = waiting.attempts.saturating_add(1);
        let not_before = pace::next_attempt(failures, error, self.now(), &self.options.again, random);
        Outcome::Again { not_before, kind, message }
    }

    fn note_error(&mut self, error: &StoreError) {
        self.progress.last_error =
            Some(LastError { at: self.now(), kind: error.kind.to_owned(), message: error.message.clone() });
        if !self.report.errors.iter().any(|known| known.destination == *self.destination) {
            self.report.errors.push(DeliveryError {
                destination: self.destination.clone(),
                kind: error.kind.to_owned(),
                message: error.message.clone(),
                hint: error.hint.clone(),
            });
        }
    }

    fn gate_failed(&mut self, error: &StoreError) {
        let random = (self.surroundings.random)();
        let backoffs = (&self.options.again, &self.options.held);
        pace::fail(&mut self.gate, error, (self.surroundings.now)(), backoffs, random);
        remember(&mut self.progress.gates, &self.gate);
    }

    fn partition_failed(&mut self, scope: GateScope, error: &StoreError) {
        let random = (self.surroundings.random)();
        let now = self.now();
        let index = self.partitions.iter().position(|gate| gate.scope == scope).unwrap_or_else(|| {
            self.partitions.push(Gate::closed(scope));
            self.partitions.len() - 1
        });
        let gate = &mut self.partitions[index];
        pace::fail(gate, error, now, (&self.options.again, &self.options.held), random);
        remember(&mut self.progress.gates, gate);
    }

    fn close_gates(&mut self, waiting: &Waiting) {
        if self.gate.open || self.gate.failures > 0 {
            self.gate = Gate::closed(GateScope::Destination);
            remember(&mut self.progress.gates, &self.gate);
        }
        let here = |scope: &GateScope| {
            matches!(scope, GateScope::Partition { tenant, date }
                if *tenant == waiting.tenant && *date == waiting.date)
        };
        if let Some(gate) = self.partitions.iter_mut().find(|gate| gate.open && here(&gate.scope)) {
            *gate = Gate::closed(gate.scope.clone());
            remember(&mut self.progress.gates, gate);
        }
    }

    fn write_back(&mut self) -> Result<(), OutboxError> {
        if self.progress.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let progress = std::mem::take(&mut self.progress);
        self.outbox.settle(self.id, &progress, now)
    }
}

/// Puts a gate among those to be written, in the place of its older state.
fn remember(gates: &mut Vec<Gate>, gate: &Gate) {
    match gates.iter_mut().find(|other| other.scope == gate.scope) {
        Some(other) => other.clone_from(gate),
        None => gates.push(gate.clone()),
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The future's value, or `None` when the time is over first.
async fn until<F: Future>(limit: Option<Instant>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => tokio::time::timeout_at(limit, future).await.ok(),
        None => Some(future.await),
    }
}

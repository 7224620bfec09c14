//! How fast, how often, and when again: pure rules, time and randomness are arguments.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::outbox::Gate;
use crate::store::{ErrorClass, StoreError};

/// Waiting times that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row. `random` in 0..1 spreads it over its upper half,
    /// so that many agents do not come back at the same moment.
    #[must_use]
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << failures.saturating_sub(1).min(30));
        doubled.min(self.longest).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

/// A record, or a destination that does not answer: 1 s to 15 minutes.
pub const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(900) };

/// A destination that waits for a person: 1 to 15 minutes.
pub const HELD: Backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(900) };

/// Failures in a row that open a gate.
pub(super) const THRESHOLD: u32 = 5;

/// The same for answers that say "slower": slowing down comes first.
const THRESHOLD_THROTTLED: u32 = 64;

/// Whether the store asks for fewer requests.
pub(super) fn is_throttle(error: &StoreError) -> bool {
    error.status == Some(429)
}

/// `now` and a wait, saturating.
pub(super) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// When a record that has now failed `failures` times may try again.
pub(super) fn next_attempt(
    failures: u32,
    error: &StoreError,
    now: Timestamp,
    backoff: &Backoff,
    random: f64,
) -> Timestamp {
    // Being throttled says nothing about the record: what the store asked for is enough.
    let wait = match error.retry_after {
        Some(asked) if is_throttle(error) => asked,
        asked => backoff.wait(failures, random).max(asked.unwrap_or_default()),
    };
    later(now, wait)
}

/// A failure arrives at a gate; afterwards it may be open.
pub(super) fn fail(
    gate: &mut Gate,
    error: &StoreError,
    now: Timestamp,
    backoffs: (&Backoff, &Backoff),
    random: f64,
) {
    let (again, held) = backoffs;
    gate.failures = gate.failures.saturating_add(1);
    let holds = error.class == ErrorClass::Held;
    let threshold = if is_throttle(error) { THRESHOLD_THROTTLED } else { THRESHOLD };
    if !holds && !gate.open && gate.failures < threshold {
        return;
    }
    // Answers to requests that were under way when it opened do not open it once more.
    if !gate.open || now >= gate.retry_at || (holds && !gate.held) {
        gate.openings = gate.openings.saturating_add(1);
        let backoff = if holds || gate.held { held } else { again };
        let wait = backoff.wait(gate.openings, random).max(error.retry_after.unwrap_or_default());
        gate.retry_at = later(now, wait);
    }
    if !gate.open {
        gate.since = now;
    }
    gate.open = true;
    // A store that waits for a person and then cannot be reached still waits for the person.
    if holds || !gate.held {
        gate.held = holds;
        gate.kind = error.kind.to_owned();
        gate.message.clone_from(&error.message);
    }
}

/// What is left of a rate after the store has said "slower".
const CUT: f64 = 0.95;
/// How much a rate grows in the first second after a cut, as a share of itself: by so much for each request,
/// since each cut costs a 429 whatever the rate is, and at most by so much. The growth doubles every
/// [`GROWTH_DOUBLES`] seconds: right below the limit for long, and soon back up where another agent has left.
const GROWTH_A_REQUEST: f64 = 0.0002;
const GROWTH: f64 = 0.004;
const GROWTH_DOUBLES: f64 = 15.0;
const GROWTH_MOST: f64 = 0.25;
/// What may be saved up while nothing is sent, in seconds' worth of the rate.
const SAVED: f64 = 0.05;
/// The span over which the store counts.
const WINDOW: Duration = Duration::from_secs(1);

/// How fast requests leave.
///
/// Until the store first says "slower" (429) only the number of requests under way is limited. Then what it
/// took in the last second is its capacity, in request units, and requests leave evenly at a little less; the
/// rate creeps up until the next 429, which cuts it again. Counting units and not requests matters, because
/// one record costs ten times another, and spreading them matters, because a burst that meets the limit
/// gets a 429 for each of its requests.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    /// Units per second; `None` where the store has never complained.
    rate: Option<f64>,
    /// Units saved up, or owed, when [`Pace::filled_at`] was now.
    saved: f64,
    filled_at: Instant,
    /// What a request costs on the average of the last ones.
    mean: f64,
    /// What was charged in the last second.
    recent: VecDeque<(Instant, f64)>,
    cut_at: Instant,
    paused_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(most: usize, now: Instant) -> Self {
        Self {
            most: most.max(1),
            rate: None,
            saved: 0.0,
            filled_at: now,
            mean: 10.0,
            recent: VecDeque::new(),
            cut_at: now,
            paused_until: None,
        }
    }

    /// Most requests under way at once.
    pub(super) fn limit(&self) -> usize {
        self.most
    }

    /// When the next request may leave, with so many under way; `None` means now.
    pub(super) fn next_start(&mut self, under_way: usize, now: Instant) -> Option<Instant> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Some(until);
        }
        let rate = self.rate?;
        self.fill(rate, now);
        // What is under way will cost something; how much is known only once it is answered.
        let owed = f64::from(u32::try_from(under_way).unwrap_or(u32::MAX)) * self.mean;
        self.saved = self.saved.min(owed + (rate * SAVED).max(self.mean));
        let left = self.saved - owed;
        (left < 0.0).then(|| now + Duration::from_secs_f64((-left / rate).clamp(0.001, 60.0)))
    }

    fn fill(&mut self, rate: f64, now: Instant) {
        let earned = rate * now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.saved += earned;
        self.filled_at = now;
    }

    /// The store took a request for so many units.
    pub(super) fn charged(&mut self, units: f64, now: Instant) {
        // A store that names no price is counted in requests.
        let units = units.max(1.0);
        self.mean += (units - self.mean) / 16.0;
        self.recent.push_back((now, units));
        self.forget(now);
        let Some(rate) = self.rate else { return };
        self.fill(rate, now);
        self.saved -= units;
        let since = now.saturating_duration_since(self.cut_at).as_secs_f64();
        let first = (GROWTH_A_REQUEST * rate / self.mean).min(GROWTH);
        let growth = (first * (since / GROWTH_DOUBLES).exp2()).min(GROWTH_MOST);
        // A request's share of a second is what it takes of a second's units.
        self.rate = Some(rate + growth * units);
    }

    /// The store asked for fewer requests.
    pub(super) fn throttled(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.forget(now);
        let took: f64 = self.recent.iter().map(|(_, units)| units).sum();
        match self.rate {
            // Less than a second has been seen, and where others use the store up, next to nothing was taken.
            None => {
                let most = f64::from(u32::try_from(self.most).unwrap_or(u32::MAX));
                self.rate = Some(CUT * took.max(most * self.mean));
                self.cut_at = now;
            }
            // Within a second of the last cut this is the same sign once more, and `took` has a pause in it.
            Some(rate) if now.saturating_duration_since(self.cut_at) >= WINDOW => {
                self.rate = Some((CUT * rate.min(took)).max(self.mean));
                self.cut_at = now;
            }
            Some(_) => {}
        }
        let until = now + retry_after.unwrap_or(Duration::from_millis(100));
        self.paused_until = Some(self.paused_until.map_or(until, |other| other.max(until)));
        (self.saved, self.filled_at) = (0.0, until.max(self.filled_at));
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;
    use crate::outbox::{Circuit, GateScope};
    use crate::store::Cost;

    fn error(class: ErrorClass, status: u16, retry_after: Option<Duration>) -> StoreError {
        StoreError {
            class,
            status: Some(status),
            sub_status: None,
            kind: "test",
            message: format!("status {status}"),
            hint: None,
            retry_after,
            cost: Cost::default(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_spread_over_half() {
        let waits: Vec<u64> = (1..13).map(|n| AGAIN.wait(n, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(AGAIN.wait(3, 0.0), Duration::from_secs(2));
        assert_eq!(AGAIN.wait(u32::MAX, 1.0), Duration::from_secs(900));
    }

    #[test]
    fn retry_after_is_obeyed() {
        let asked = Duration::from_secs(40);
        let unavailable = error(ErrorClass::Again, 503, Some(asked));
        assert_eq!(next_attempt(1, &unavailable, at(0), &AGAIN, 1.0), at(40));
        let throttled = error(ErrorClass::Again, 429, Some(Duration::from_secs(3)));
        assert_eq!(next_attempt(9, &throttled, at(0), &AGAIN, 1.0), at(3));
    }

    #[test]
    fn a_gate_opens_after_five_failures_and_lets_a_probe_through() {
        let mut gate = Gate::closed(GateScope::Destination);
        let down = error(ErrorClass::Again, 503, None);
        for n in 1..=5 {
            assert_eq!(gate.circuit(at(0)), Circuit::Closed, "before failure {n}");
            fail(&mut gate, &down, at(0), (&AGAIN, &HELD), 1.0);
        }
        assert_eq!(gate.circuit(at(0)), Circuit::Open);
        assert_eq!(gate.circuit(at(1)), Circuit::HalfOpen);
        // Ten answers that were under way change nothing, a failed probe doubles the wait.
        for _ in 0..10 {
            fail(&mut gate, &down, at(0), (&AGAIN, &HELD), 1.0);
        }
        assert_eq!((gate.openings, gate.retry_at), (1, at(1)));
        fail(&mut gate, &down, at(1), (&AGAIN, &HELD), 1.0);
        assert_eq!((gate.openings, gate.retry_at), (2, at(3)));
    }

    #[test]
    fn a_person_is_waited_for_at_once_and_until_it_works() {
        let mut gate = Gate::closed(GateScope::Destination);
        fail(&mut gate, &error(ErrorClass::Held, 403, None), at(0), (&AGAIN, &HELD), 1.0);
        assert!(gate.open && gate.held);
        assert_eq!(gate.retry_at, at(60));
        fail(&mut gate, &error(ErrorClass::Again, 503, None), at(60), (&AGAIN, &HELD), 1.0);
        assert!(gate.held, "unreachable does not mean that access works");
        assert_eq!(gate.message, "status 403");
        assert_eq!(gate.retry_at, at(180));
    }

    /// A store that takes `budget` units in each second that begins with a request, as the service and its
    /// emulator do. Returns the units taken a second, and the share of requests that it turned away.
    fn against_a_budget(budget: f64, latency: Duration, seconds: u64) -> (f64, f64) {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let (mut now, mut pace, mut random) = (start, Pace::new(16, start), fastrand::Rng::with_seed(7));
        let (mut window, mut used) = (start, 0.0);
        let (mut taken, mut requests, mut refused) = (0.0, 0_u32, 0_u32);
        // When each request under way is answered, and what it was told.
        let mut under_way: VecDeque<(Instant, Result<f64, Duration>)> = VecDeque::new();
        while now < end {
            while let Some((at, answer)) = under_way.front().copied().filter(|(at, _)| *at <= now) {
                under_way.pop_front();
                match answer {
                    Ok(units) => pace.charged(units, at),
                    Err(wait) => pace.throttled(Some(wait), at),
                }
            }
            let next = pace.next_start(under_way.len(), now);
            if next.is_none() && under_way.len() < pace.limit() {
                if now.duration_since(window) >= WINDOW {
                    (window, used) = (now, 0.0);
                }
                let units = 8.0 + 12.0 * random.f64();
                requests += 1;
                let answer = if used + units > budget {
                    refused += 1;
                    Err(WINDOW.saturating_sub(now.duration_since(window)))
                } else {
                    used += units;
                    taken += units;
                    Ok(units)
                };
                under_way.push_back((now + latency, answer));
            } else {
                let answered = under_way.front().map(|(at, _)| *at);
                now = [next, answered]
                    .into_iter()
                    .flatten()
                    .min()
                    .unwrap_or(end)
                    .max(now + Duration::from_micros(100));
            }
        }
        (taken / end.duration_since(start).as_secs_f64(), f64::from(refused) / f64::from(requests))
    }

    #[test]
    fn a_budget_is_used_up_with_few_refusals() {
        for budget in [400.0, 1000.0, 10_000.0] {
            for latency in [2, 20, 60].map(Duration::from_millis) {
                let (rate, refused) = against_a_budget(budget, latency, 120);
                // Sixteen requests under way cannot use more than this.
                let reachable = (16.0 * 14.0 / latency.as_secs_f64()).min(budget);
                assert!(rate >= 0.9 * reachable, "{budget} {latency:?}: {rate}");
                assert!(refused <= 0.02, "{budget} {latency:?}: {refused}");
            }
        }
    }

    #[test]
    fn a_burst_of_refusals_is_one_sign_and_the_wait_is_obeyed() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        for _ in 0..50 {
            pace.charged(20.0, start);
        }
        for _ in 0..16 {
            pace.throttled(Some(Duration::from_secs(1)), start);
        }
        assert_eq!(pace.rate, Some(950.0));
        assert_eq!(pace.next_start(0, start), Some(start + Duration::from_secs(1)));
        assert_eq!(pace.next_start(0, start + Duration::from_secs(2)), None);
    }

    #[test]
    fn a_store_that_never_complains_is_not_slowed_down() {
        let start = Instant::now();
        let mut pace = Pace::new(16, start);
        for _ in 0..10_000 {
            pace.charged(50.0, start);
            assert_eq!(pace.next_start(15, start), None);
        }
    }
}

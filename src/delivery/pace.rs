//! How fast, how often, and when again: pure rules, time and randomness are arguments.

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
    let holds = error.class != ErrorClass::Again;
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

/// How many requests are under way: one more per round of successes, half as many when the store throttles.
#[derive(Debug)]
pub(super) struct Pace {
    limit: f64,
    most: usize,
    paused_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let limit = f64::from(u32::try_from(most).unwrap_or(u32::MAX));
        Self { limit, most, paused_until: None }
    }

    pub(super) fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 ≤ limit ≤ most")]
        let limit = self.limit as usize;
        limit.clamp(1, self.most)
    }

    /// Until when nothing new is sent.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    pub(super) fn succeeded(&mut self) {
        let most = f64::from(u32::try_from(self.most).unwrap_or(u32::MAX));
        self.limit = (self.limit + 1.0 / self.limit).min(most);
    }

    pub(super) fn throttled(&mut self, retry_after: Option<Duration>, now: Instant) {
        // A burst of answers to one round of requests is one sign, not many.
        if self.paused_until(now).is_none() {
            self.limit = (self.limit / 2.0).max(1.0);
        }
        let until = now + retry_after.unwrap_or(Duration::from_millis(100));
        self.paused_until = Some(self.paused_until.map_or(until, |other| other.max(until)));
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

    #[test]
    fn throttling_halves_once_a_burst_and_recovers() {
        let start = Instant::now();
        let mut pace = Pace::new(16);
        for _ in 0..16 {
            pace.throttled(Some(Duration::from_secs(1)), start);
        }
        assert_eq!(pace.limit(), 8);
        assert!(pace.paused_until(start).is_some());
        assert!(pace.paused_until(start + Duration::from_secs(2)).is_none());
        for _ in 0..200 {
            pace.succeeded();
        }
        assert_eq!(pace.limit(), 16);
    }
}

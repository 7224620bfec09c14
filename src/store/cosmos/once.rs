//! A value that is made once, by whoever asks first.
//!
//! Delivery has several requests under way. Where opening the account takes seconds to fail, they must not
//! fail one after the other: whoever waited for an attempt shares its outcome. The next who asks tries
//! again, so a failure is never remembered.

use std::time::Instant;

use tokio::sync::Mutex;

use crate::store::StoreError;

enum State<T> {
    Empty,
    Made(T),
    /// When the last attempt failed, and how.
    Failed(Instant, StoreError),
}

/// See the module.
pub(super) struct Once<T>(Mutex<State<T>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::new(State::Empty))
    }
}

impl<T: Clone> Once<T> {
    /// The value; `make` runs only where there is none and nobody failed since this call began.
    pub(super) async fn get(
        &self,
        make: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let asked = Instant::now();
        let mut state = self.0.lock().await;
        match &*state {
            State::Made(value) => return Ok(value.clone()),
            State::Failed(when, error) if *when >= asked => return Err(error.clone()),
            State::Failed(..) | State::Empty => {}
        }
        let made = make.await;
        *state = match &made {
            Ok(value) => State::Made(value.clone()),
            Err(error) => State::Failed(Instant::now(), error.clone()),
        };
        made
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::store::cosmos::errors;

    #[tokio::test]
    async fn who_waited_shares_a_failure_and_the_next_tries_again() {
        let (once, attempts) = (Once::<u8>::default(), AtomicUsize::new(0));
        let attempt = |result: Result<u8, StoreError>| {
            once.get(async {
                attempts.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                result
            })
        };
        let failure = || Err(errors::held("test", "no", "none"));
        let together = futures::future::join_all((0..8).map(|_| attempt(failure()))).await;
        assert!(together.iter().all(Result::is_err));
        assert_eq!(attempts.load(Ordering::Relaxed), 1);

        assert_eq!(attempt(Ok(7)).await.unwrap(), 7);
        assert_eq!(attempt(failure()).await.unwrap(), 7);
        assert_eq!(attempts.load(Ordering::Relaxed), 2);
    }
}

//! Trying again: pauses that grow, with jitter so that many who failed together do not come back
//! together, and a bounded number of tries for calls to a store.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use sheaf_dataflow::error::DataError;
use tracing::warn;

/// Tries of a call to a store that fails for a while: with the pauses between them about three seconds.
const STORE_TRIES: u32 = 6;

/// Pauses between tries: each up to twice as long as the one before, up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
    jitter: std::hash::RandomState,
}

impl Backoff {
    /// Pauses from about `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0, jitter: std::hash::RandomState::new() }
    }

    /// How long to wait now: between half of the pause and all of it.
    pub fn pause(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(20)).min(self.longest);
        let mut hasher = self.jitter.build_hasher();
        hasher.write_u32(self.tries);
        self.tries += 1;
        let share = hasher.finish() as f64 / u64::MAX as f64;
        whole.mul_f64(0.5 + share / 2.0)
    }

    /// Tries so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// It went well: the next pause is a short one again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Makes a call to a store, again as long as its error says that it may succeed later, a bounded number
/// of times. What is given up is the caller's to report.
pub async fn store<T, F>(call: impl FnMut() -> F) -> Result<T, DataError>
where
    F: Future<Output = Result<T, DataError>>,
{
    bounded(Backoff::new(Duration::from_millis(100), Duration::from_secs(2)), call).await
}

async fn bounded<T, F>(mut backoff: Backoff, mut call: impl FnMut() -> F) -> Result<T, DataError>
where
    F: Future<Output = Result<T, DataError>>,
{
    loop {
        match call().await {
            Err(error) if error.retryable() && backoff.tries() + 1 < STORE_TRIES => {
                let pause = backoff.pause();
                let error = crate::fault::chain(&error);
                warn!(%error, tries = backoff.tries(), pause_ms = pause.as_millis() as u64, "the store failed; trying again");
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_again() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, longest);
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.pause()).collect();
        for (i, pause) in pauses.iter().enumerate() {
            let whole = first.saturating_mul(1 << i.min(20)).min(longest);
            assert!(*pause >= whole / 2 && *pause <= whole, "pause {i} is {pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
    }

    fn fails() -> DataError {
        DataError::Spill { action: "write", source: std::io::Error::from(std::io::ErrorKind::StorageFull) }
    }

    fn quick() -> Backoff {
        Backoff::new(Duration::from_micros(10), Duration::from_micros(100))
    }

    #[tokio::test]
    async fn a_store_that_recovers_is_waited_for_and_one_that_does_not_is_given_up() {
        let calls = Cell::new(0);
        let recovers = || async {
            calls.set(calls.get() + 1);
            if calls.get() < 4 { Err(fails()) } else { Ok(calls.get()) }
        };
        assert_eq!(bounded(quick(), recovers).await.unwrap(), 4);
        calls.set(0);
        let never = || async {
            calls.set(calls.get() + 1);
            Err::<(), _>(fails())
        };
        assert!(bounded(quick(), never).await.is_err());
        assert_eq!(calls.get(), STORE_TRIES);
        calls.set(0);
        let denied = || async {
            calls.set(calls.get() + 1);
            Err::<(), _>(DataError::NotFound { location: "/x".into() })
        };
        assert!(bounded(quick(), denied).await.is_err());
        assert_eq!(calls.get(), 1);
    }
}

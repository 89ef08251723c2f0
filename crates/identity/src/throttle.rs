use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use postern_model::Timestamp;
use uuid::Uuid;

/// So many wrong secrets are forgiven within [`WINDOW_SECONDS`].
const MAX_FAILURES: u32 = 10;
const WINDOW_SECONDS: i64 = 60;
const MAX_ENTRIES: u64 = 10_000;

type Key = (IpAddr, Uuid);

/// Counts wrong secrets per address and client, so that guessing is slow and nobody else is held up by it.
pub(crate) struct Throttle(Cache<Key, Arc<Mutex<Window>>>);

struct Window {
    since: Timestamp,
    failures: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MAX_ENTRIES)
                .time_to_idle(Duration::from_secs(WINDOW_SECONDS.unsigned_abs()))
                .build(),
        )
    }
}

impl Throttle {
    /// `Err`: too many failures; try again after so many seconds.
    pub(crate) fn check(&self, key: Key, now: Timestamp) -> Result<(), i64> {
        let Some(entry) = self.0.get(&key) else { return Ok(()) };
        let window = entry.lock().unwrap_or_else(PoisonError::into_inner);
        let left = window.since.unix_seconds() + WINDOW_SECONDS - now.unix_seconds();
        if window.failures >= MAX_FAILURES && left > 0 { Err(left) } else { Ok(()) }
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, key: Key, now: Timestamp) {
        let entry = self.0.get_with(key, || Arc::new(Mutex::new(Window { since: now, failures: 0 })));
        let mut window = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.plus_seconds(WINDOW_SECONDS) <= now {
            *window = Window { since: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_a_minute_per_address_and_client() {
        let throttle = Throttle::default();
        let (key, other) = ((IpAddr::from([192, 0, 2, 1]), Uuid::nil()), (IpAddr::from([192, 0, 2, 2]), Uuid::nil()));
        let at = Timestamp::from_unix_seconds;
        for second in 0..10 {
            assert_eq!(throttle.check(key, at(second)), Ok(()));
            throttle.failed(key, at(second));
        }
        assert_eq!(throttle.check(key, at(10)), Err(50));
        assert_eq!(throttle.check(key, at(59)), Err(1));
        assert_eq!(throttle.check(other, at(10)), Ok(()));
        assert_eq!(throttle.check(key, at(60)), Ok(()));
        throttle.failed(key, at(60));
        assert_eq!(throttle.check(key, at(60)), Ok(()));
    }
}

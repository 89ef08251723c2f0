//! The real clock and the real randomness. Everything else takes them as values.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use postern_model::{Clock, Random, Timestamp};

/// The system's clock.
#[derive(Debug)]
pub(crate) struct SystemClock;

/// The system's random number generator.
#[derive(Debug)]
pub(crate) struct SystemRandomness(SystemRandom);

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandomness(SystemRandom::new()))
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Random for SystemRandomness {
    #[expect(clippy::expect_used, reason = "without randomness no key, id or secret may be made: stop")]
    fn fill(&self, buffer: &mut [u8]) {
        self.0.fill(buffer).expect("the system's random number generator failed");
    }
}

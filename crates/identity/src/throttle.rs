use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use postern_access::InvalidCredential;
use postern_model::{Timestamp, source_of};

const WINDOW_SECONDS: i64 = 60;
/// Sources, and users of a source, that are counted at once; those longest quiet are forgotten first.
const MAX_ENTRIES: u64 = 10_000;
/// As much of a user's name as tells two of them apart. What is longer shares its count.
const MAX_USER_CHARS: usize = 64;

/// How many wrong passwords are forgiven within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordLimits {
    /// From one source, for one user.
    pub per_user: u32,
    /// From one source, for all users.
    pub per_source: u32,
}

impl Default for PasswordLimits {
    fn default() -> Self {
        Self { per_user: 10, per_source: 100 }
    }
}

/// Too many wrong passwords came from the source: none is looked at for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong passwords, try again in {retry_after_seconds} s")]
pub struct Throttled {
    /// When to try again.
    pub retry_after_seconds: i64,
}

/// Counts wrong passwords per source and user, and per source, so that guessing is slow. Whoever knows the password and calls from
/// elsewhere is not held up, and neither is whoever has a token.
pub(crate) struct Throttle {
    limits: PasswordLimits,
    users: Cache<(IpAddr, Box<str>), Counter>,
    sources: Cache<IpAddr, Counter>,
}

type Counter = Arc<Mutex<Window>>;

struct Window {
    since: Timestamp,
    failures: u32,
}

impl Throttle {
    pub(crate) fn new(limits: PasswordLimits) -> Self {
        Self { limits, users: cache(), sources: cache() }
    }

    /// Looks at a password by `check`, unless too many were wrong before.
    pub(crate) fn attempt<T>(
        &self,
        address: IpAddr,
        user: &str,
        now: Timestamp,
        check: impl FnOnce() -> Result<T, InvalidCredential>,
    ) -> Result<Result<T, InvalidCredential>, Throttled> {
        let attempt = self.admit(address, user, now)?;
        let outcome = check();
        if matches!(outcome, Err(InvalidCredential::WrongPassword | InvalidCredential::UnknownCaller)) {
            attempt.failed();
        }
        Ok(outcome)
    }

    /// Lets an attempt be made that takes its time, unless too many were wrong before.
    pub(crate) fn admit(&self, address: IpAddr, user: &str, now: Timestamp) -> Result<Attempt<'_>, Throttled> {
        let source = source_of(address);
        let user = (source, user.chars().take(MAX_USER_CHARS).flat_map(char::to_lowercase).collect());
        let left = [
            self.users.get(&user).and_then(|counter| left(&counter, self.limits.per_user, now)),
            self.sources.get(&source).and_then(|counter| left(&counter, self.limits.per_source, now)),
        ];
        match left.into_iter().flatten().max() {
            Some(retry_after_seconds) => Err(Throttled { retry_after_seconds }),
            None => Ok(Attempt { throttle: self, user, now }),
        }
    }
}

/// An attempt that counts if it fails.
pub(crate) struct Attempt<'a> {
    throttle: &'a Throttle,
    user: (IpAddr, Box<str>),
    now: Timestamp,
}

/// An attempt that counts unless its outcome becomes known: also when whoever makes it goes away meanwhile.
pub(crate) struct Doubtful<'a>(Option<Attempt<'a>>);

impl<'a> Doubtful<'a> {
    /// The outcome is known.
    pub(crate) fn known(mut self) -> Option<Attempt<'a>> {
        self.0.take()
    }
}

impl Drop for Doubtful<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take() {
            attempt.failed();
        }
    }
}

impl<'a> Attempt<'a> {
    pub(crate) const fn doubtful(self) -> Doubtful<'a> {
        Doubtful(Some(self))
    }

    pub(crate) fn failed(self) {
        let Self { throttle, user, now } = self;
        count(&throttle.sources.get_with(user.0, || begun(now)), now);
        count(&throttle.users.get_with(user, || begun(now)), now);
    }
}

fn cache<K: std::hash::Hash + Eq + Send + Sync + 'static>() -> Cache<K, Counter> {
    let forgotten_after = Duration::from_secs(WINDOW_SECONDS.unsigned_abs());
    Cache::builder().max_capacity(MAX_ENTRIES).time_to_idle(forgotten_after).build()
}

fn begun(now: Timestamp) -> Counter {
    Arc::new(Mutex::new(Window { since: now, failures: 0 }))
}

fn count(counter: &Counter, now: Timestamp) {
    let mut window = counter.lock().unwrap_or_else(PoisonError::into_inner);
    if window.since.plus_seconds(WINDOW_SECONDS) <= now {
        *window = Window { since: now, failures: 0 };
    }
    window.failures = window.failures.saturating_add(1);
}

/// Seconds until the next attempt, once there were as many failures as are forgiven.
fn left(counter: &Counter, limit: u32, now: Timestamp) -> Option<i64> {
    let window = counter.lock().unwrap_or_else(PoisonError::into_inner);
    let left = window.since.unix_seconds() + WINDOW_SECONDS - now.unix_seconds();
    (window.failures >= limit && left > 0).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench(Throttle);

    impl Bench {
        /// One attempt with a wrong password (or a right one): `Err` with the seconds to wait when it was not even looked at.
        fn attempt(&self, address: &str, user: &str, right: bool, second: i64) -> Result<(), i64> {
            let check = || if right { Ok(()) } else { Err(InvalidCredential::WrongPassword) };
            let attempt = self.0.attempt(address.parse().unwrap(), user, Timestamp::from_unix_seconds(second), check);
            attempt.map(|outcome| assert_eq!(outcome.is_ok(), right)).map_err(|throttled| throttled.retry_after_seconds)
        }
    }

    #[test]
    fn ten_failures_a_minute_per_source_and_user() {
        let bench = Bench(Throttle::new(PasswordLimits::default()));
        for second in 0..10 {
            assert_eq!(bench.attempt("192.0.2.1", "robot", false, second), Ok(()));
        }
        assert_eq!(bench.attempt("192.0.2.1", "ROBOT", false, 10), Err(50));
        assert_eq!(bench.attempt("192.0.2.1", "robot", true, 59), Err(1), "not even the right one is looked at");
        assert_eq!(bench.attempt("192.0.2.1", "other", true, 10), Ok(()));
        assert_eq!(bench.attempt("192.0.2.2", "robot", true, 10), Ok(()), "nobody is locked out from elsewhere");
        assert_eq!(bench.attempt("192.0.2.1", "robot", false, 60), Ok(()));
        assert_eq!(bench.attempt("192.0.2.1", "robot", true, 60), Ok(()));
    }

    #[test]
    fn a_hundred_failures_a_minute_per_source() {
        let bench = Bench(Throttle::new(PasswordLimits::default()));
        for number in 0..100 {
            assert_eq!(bench.attempt("2001:db8::1", &format!("user{number}"), false, 0), Ok(()));
        }
        assert_eq!(bench.attempt("2001:db8::ffff", "robot", true, 1), Err(59), "the network around it is one source");
        assert_eq!(bench.attempt("2001:db8:0:1::1", "robot", true, 1), Ok(()));
    }

    #[test]
    fn a_right_password_is_never_counted() {
        let bench = Bench(Throttle::new(PasswordLimits { per_user: 1, per_source: 1 }));
        for _ in 0..10 {
            assert_eq!(bench.attempt("192.0.2.1", "robot", true, 0), Ok(()));
        }
    }
}

//! How often somebody may ask.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use postern_model::Timestamp;

/// Buckets that are kept at once; those longest quiet are forgotten first, and are full when they are wanted again.
const MAX_BUCKETS: u64 = 100_000;
/// The longest that a bucket takes to be full again: the documented limits are per minute, or fill faster.
const LONGEST_REFILL: Duration = Duration::from_mins(1);
const MINUTE_MICROS: i64 = 60_000_000;

/// How many requests are let through: a bucket of tokens of which each request takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tokens of a full bucket.
    pub burst: u32,
    /// New tokens per minute.
    pub per_minute: u32,
}

impl Pace {
    /// As many at once as in a minute.
    pub const fn per_minute(requests: u32) -> Self {
        Self { burst: requests, per_minute: requests }
    }
}

/// A bucket that a request takes a token from: whose requests it counts, and how many it lets through.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    /// One identity, or everybody together.
    pub identity: Option<&'a str>,
    /// How many.
    pub pace: Pace,
}

/// A request too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests, try again in {retry_after_seconds} s")]
pub struct TooManyRequests {
    /// When there is a token again, rounded up.
    pub retry_after_seconds: i64,
}

/// Holds callers to the documented numbers of requests. It counts in this process: a restart fills all buckets.
pub struct RequestLimiter {
    percent: u32,
    buckets: Cache<Key, Arc<Mutex<FullAt>>>,
}

type Key = (Box<str>, &'static str, Option<Box<str>>);
/// When the bucket is full again: all that need be known of it.
type FullAt = Timestamp;

impl RequestLimiter {
    /// Lets so many hundredths of the documented numbers through, at least one request.
    pub fn new(percent: u32) -> Self {
        Self { percent, buckets: Cache::builder().max_capacity(MAX_BUCKETS).time_to_idle(LONGEST_REFILL).build() }
    }

    /// Takes a token from each of the buckets of `owner`, a registry or subscription, for a class of requests; or from none, when
    /// one of them is empty. Gives how many the first one still has.
    pub fn take(
        &self,
        owner: &str,
        class: &'static str,
        buckets: &[Bucket<'_>],
        now: Timestamp,
    ) -> Result<u32, TooManyRequests> {
        let mut taken: Vec<(Arc<Mutex<FullAt>>, i64)> = Vec::with_capacity(buckets.len());
        let mut remaining = None;
        for bucket in buckets {
            let (burst, per_minute) = (self.scaled(bucket.pace.burst), self.scaled(bucket.pace.per_minute));
            let (interval, capacity) = (MINUTE_MICROS / per_minute, MINUTE_MICROS / per_minute * burst);
            let key = (owner.into(), class, bucket.identity.map(Into::into));
            let shared = self.buckets.get_with(key, || Arc::new(Mutex::new(now)));
            let mut full_at = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let after = (*full_at).max(now).unix_micros() + interval;
            let missing = after - now.unix_micros() - capacity;
            if missing > 0 {
                drop(full_at);
                for (other, interval) in taken {
                    let mut full_at = other.lock().unwrap_or_else(PoisonError::into_inner);
                    *full_at = Timestamp::from_unix_micros(full_at.unix_micros() - interval);
                }
                return Err(TooManyRequests {
                    retry_after_seconds: missing.div_euclid(1_000_000) + i64::from(missing % 1_000_000 > 0),
                });
            }
            *full_at = Timestamp::from_unix_micros(after);
            drop(full_at);
            remaining.get_or_insert(-missing / interval);
            taken.push((shared, interval));
        }
        Ok(remaining.and_then(|left| u32::try_from(left).ok()).unwrap_or(u32::MAX))
    }

    fn scaled(&self, documented: u32) -> i64 {
        (i64::from(documented) * i64::from(self.percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000 + second)
    }

    const PACE: Pace = Pace::per_minute(6);
    const ALL: Bucket<'static> = Bucket { identity: None, pace: PACE };

    fn waits(limiter: &RequestLimiter, buckets: &[Bucket<'_>], now: Timestamp) -> Result<u32, i64> {
        limiter.take("registry", "read", buckets, now).map_err(|refusal| refusal.retry_after_seconds)
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let limiter = RequestLimiter::new(100);
        for left in (0..6).rev() {
            assert_eq!(waits(&limiter, &[ALL], at(0)), Ok(left));
        }
        assert_eq!(waits(&limiter, &[ALL], at(0)), Err(10), "a token every ten seconds");
        assert_eq!(waits(&limiter, &[ALL], at(7)), Err(3), "the wait gets shorter");
        assert_eq!(waits(&limiter, &[ALL], at(10)), Ok(0));
        assert_eq!(waits(&limiter, &[ALL], at(10)), Err(10), "what was refused took nothing");
        assert_eq!(waits(&limiter, &[ALL], at(1000)), Ok(5), "more than full it does not get");
        assert_eq!(limiter.take("registry", "write", &[ALL], at(1000)), Ok(5), "another class");
        assert_eq!(limiter.take("other", "read", &[ALL], at(1000)), Ok(5), "another registry");
    }

    #[test]
    fn who_is_refused_takes_nothing_from_the_others() {
        let limiter = RequestLimiter::new(100);
        let of = |identity| [Bucket { identity: Some(identity), pace: Pace::per_minute(2) }, ALL];
        assert_eq!(waits(&limiter, &of("a"), at(0)), Ok(1));
        assert_eq!(waits(&limiter, &of("a"), at(0)), Ok(0));
        for _ in 0..10 {
            assert_eq!(waits(&limiter, &of("a"), at(0)), Err(30));
        }
        for identity in ["b", "c"] {
            assert_eq!(waits(&limiter, &of(identity), at(0)), Ok(1));
            assert_eq!(waits(&limiter, &of(identity), at(0)), Ok(0));
        }
        // Six are gone: whoever comes now waits for the registry's bucket, and keeps its own.
        assert_eq!(waits(&limiter, &of("d"), at(0)), Err(10));
        assert_eq!(waits(&limiter, &of("d"), at(10)), Ok(1));
    }

    #[test]
    fn numbers_are_scaled_and_never_zero() {
        let limiter = RequestLimiter::new(1);
        let documented = [Bucket { identity: None, pace: Pace { burst: 250, per_minute: 1500 } }];
        assert_eq!(waits(&limiter, &documented, at(0)), Ok(1));
        assert_eq!(waits(&limiter, &documented, at(0)), Ok(0));
        assert_eq!(waits(&limiter, &documented, at(0)), Err(4));
        let few = [Bucket { identity: Some("a"), pace: PACE }];
        assert_eq!(waits(&limiter, &few, at(0)), Ok(0));
        assert_eq!(waits(&limiter, &few, at(0)), Err(60));
    }
}

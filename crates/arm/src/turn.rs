//! The documented numbers of requests.

use http::{HeaderName, Method};
use percent_encoding::percent_decode_str;
use postern_identity::{Bucket, Pace};
use postern_model::Timestamp;
use uuid::Uuid;

use crate::ArmState;
use crate::call::Caller;
use crate::error::{ArmError, Condition};

/// All callers together may make so many times as many requests as one.
const GLOBAL: u32 = 15;

/// A class of requests: its name in headers and messages, and how many of them one caller may make.
struct Class {
    plural: &'static str,
    singular: &'static str,
    pace: Pace,
    /// How many are left, for requests about a subscription and for others.
    headers: [HeaderName; 2],
}

/// Source: Azure Resource Manager, request limits and throttling (read 2026-11).
const READS: Class = Class {
    plural: "reads",
    singular: "read",
    pace: Pace { burst: 250, per_minute: 25 * 60 },
    headers: [
        HeaderName::from_static("x-ms-ratelimit-remaining-subscription-reads"),
        HeaderName::from_static("x-ms-ratelimit-remaining-tenant-reads"),
    ],
};
const WRITES: Class = Class {
    plural: "writes",
    singular: "write",
    pace: Pace { burst: 200, per_minute: 10 * 60 },
    headers: [
        HeaderName::from_static("x-ms-ratelimit-remaining-subscription-writes"),
        HeaderName::from_static("x-ms-ratelimit-remaining-tenant-writes"),
    ],
};
const DELETES: Class = Class {
    plural: "deletes",
    singular: "delete",
    pace: Pace { burst: 200, per_minute: 10 * 60 },
    headers: [
        HeaderName::from_static("x-ms-ratelimit-remaining-subscription-deletes"),
        HeaderName::from_static("x-ms-ratelimit-remaining-tenant-deletes"),
    ],
};

/// What is left of a caller's requests: a header and its value.
pub(crate) type Remaining = (HeaderName, u32);

/// Takes one of the caller's requests; nothing is left to say when requests are not counted.
pub(crate) fn take(
    state: &ArmState,
    method: &Method,
    path: &str,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<Remaining>, ArmError> {
    let Some(limiter) = &state.requests else { return Ok(None) };
    let Class { plural, singular, pace, headers: [subscription_header, tenant_header] } = match method.as_str() {
        "GET" | "HEAD" => READS,
        "DELETE" => DELETES,
        _ => WRITES,
    };
    let subscription = subscription_in(path);
    let owner = subscription.as_deref().unwrap_or("tenant");
    let together = Pace { burst: pace.burst * GLOBAL, per_minute: pace.per_minute * GLOBAL };
    let principal = caller.principal.id.to_string();
    let own = Bucket { identity: Some(&principal), pace };
    let left = limiter.take(owner, plural, &[own, Bucket { identity: None, pace: together }], now);
    let left = left.map_err(|refusal| {
        let (condition, about) = match &subscription {
            Some(subscription) => (Condition::SubscriptionThrottled, format!("subscription '{subscription}'")),
            None => (Condition::TooManyRequests, format!("tenant '{}'", state.identity.tenant())),
        };
        let seconds = refusal.retry_after_seconds;
        let message = format!(
            "Number of '{singular}' requests for {about} actor '{principal}' exceeded. Please try again after '{seconds}' seconds \
             after additional tokens are available. Refer to https://aka.ms/arm-throttling for additional information."
        );
        ArmError::new(condition, message).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
    })?;
    Ok(Some((if subscription.is_some() { subscription_header } else { tenant_header }, left)))
}

/// The subscription that a path is about, however it is spelled there.
fn subscription_in(path: &str) -> Option<String> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut next = || percent_decode_str(segments.next()?).decode_utf8().ok();
    let is_subscription = next()?.eq_ignore_ascii_case("subscriptions");
    // What is no GUID is no subscription, and not worth counting by itself.
    let id = next().filter(|_| is_subscription)?;
    Some(Uuid::try_parse(&id).ok()?.to_string())
}

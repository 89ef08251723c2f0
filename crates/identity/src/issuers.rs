//! Issuers of tokens outside: where they publish their keys, and whether a token is theirs.
//!
//! ```text
//!  issuer ─▶ /.well-known/openid-configuration ─▶ its keys ─▶ kept for an hour ─▶ signature of a token
//!              names exactly this issuer             ▲  unknown key id: asked again, now and then
//!                                                    └─ not reachable: the old ones for a day
//! ```
//!
//! Each issuer is asked by one task at a time, that nobody holds up another's. Nothing is locked while it is asked.

mod documents;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, Validation};
use moka::sync::Cache;
use postern_model::{PrincipalId, Secret, Timestamp};
use postern_outbound::{Outbound, OutboundError, Url};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use self::documents::{KeySet, read_header};
use crate::keys::MAX_TOKEN_BYTES;

#[cfg(any(test, fuzzing))]
pub(crate) use self::documents::read_anything;
pub(crate) use self::documents::{Audience, Metadata};

/// How long keys are used without looking for others.
const FRESH_SECONDS: i64 = 3600;
/// How long they are used when their issuer cannot be reached.
const KEPT_SECONDS: i64 = 24 * 3600;
/// An issuer is not asked more often than this, whatever tokens say.
const PAUSE_SECONDS: i64 = 30;
/// How long an issuer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_METADATA_BYTES: usize = 64 << 10;
const MAX_KEYS_BYTES: usize = 512 << 10;
/// Issuers whose keys are kept.
const MAX_ISSUERS: u64 = 1000;
/// Issuers that only federated credentials name and that are asked at once.
const MAX_ASKED_AT_ONCE: usize = 32;
/// How far the clocks of issuers may be off.
///
/// Source: Microsoft identity platform, access tokens, validation with five minutes of skew (read 2026-11).
pub(crate) const SKEW_SECONDS: f64 = 5.0 * 60.0;

/// Whose tokens count that come from outside.
#[derive(Clone, Default)]
pub struct OutsideOptions {
    /// Who asks the issuers that federated credentials name. Without it, none of their tokens count.
    pub outbound: Option<Outbound>,
    /// Those that people sign in with.
    pub issuers: Vec<TrustedIssuer>,
}

/// An issuer that people sign in with.
#[derive(Clone)]
pub struct TrustedIssuer {
    /// What people know it by: letters, digits, hyphens.
    pub name: String,
    /// Its URL, as its tokens have it.
    pub url: String,
    /// What it calls this server.
    pub client_id: String,
    /// What this server proves itself with there, if it has to.
    pub client_secret: Option<Secret>,
    /// What is asked for, `openid` among them.
    pub scopes: Vec<String>,
    /// The claim with the name that a new user gets. Nothing is decided by it.
    pub user_claim: String,
    /// The claim with the names of a person's groups there.
    pub groups_claim: Option<String>,
    /// The groups of the directory that those stand for.
    pub groups: BTreeMap<String, PrincipalId>,
    /// Whether whoever signs in the first time becomes a user.
    pub create_users: bool,
    /// Who asks it.
    pub outbound: Outbound,
}

/// Why a token is not taken as its issuer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproven {
    /// Its issuer cannot be asked for its keys.
    #[error("its issuer cannot be asked for its keys")]
    Unreachable,
    /// The issuer publishes no key of that id for that algorithm.
    #[error("its issuer publishes no key that it names")]
    UnknownKey,
    /// It cannot be read, or names an algorithm that proves nothing.
    #[error("{0}")]
    Malformed(&'static str),
    /// The signature is not that of the key, or a claim is missing.
    #[error("its signature does not fit, or a claim is missing")]
    BadSignature,
}

/// What an issuer publishes.
pub(crate) struct Published {
    pub(crate) metadata: Metadata,
    keys: KeySet,
    at: Timestamp,
}

/// The issuers, and what is known of them.
pub(crate) struct Issuers {
    outbound: Option<Outbound>,
    /// Those that people sign in with.
    trusted: Vec<Arc<TrustedIssuer>>,
    known: Cache<String, Arc<Known>>,
    asking: Arc<Semaphore>,
}

#[derive(Default)]
struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    published: Option<Arc<Published>>,
    /// When it was last asked.
    asked: Option<Timestamp>,
    /// Closed when whoever asks is done.
    asking: Option<watch::Receiver<()>>,
}

enum Look {
    Found(Arc<Published>),
    Wait(watch::Receiver<()>),
    Ask(watch::Sender<()>, watch::Receiver<()>),
    Nothing(Unproven),
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("it is no address")]
    NoAddress,
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("what it publishes is not understood: {0}")]
    Document(&'static str),
}

impl Issuers {
    pub(crate) fn new(options: OutsideOptions) -> Self {
        Self {
            outbound: options.outbound,
            trusted: options.issuers.into_iter().map(Arc::new).collect(),
            known: Cache::new(MAX_ISSUERS),
            asking: Arc::new(Semaphore::new(MAX_ASKED_AT_ONCE)),
        }
    }

    /// The claims of a token, if this issuer signed it. Nothing else is checked: no time, no audience, not even what it says of its
    /// issuer.
    pub(crate) async fn verify<T: DeserializeOwned>(
        &self,
        issuer: &str,
        token: &str,
        now: Timestamp,
    ) -> Result<T, Unproven> {
        let header = read_header(token)?;
        let fits = |published: &Published| published.keys.find(header.kid.as_deref(), header.alg).is_some();
        let published = self.published(issuer, now, fits).await?;
        let key = published.keys.find(header.kid.as_deref(), header.alg).ok_or(Unproven::UnknownKey)?;
        let validation = unchecked(header.alg);
        let decoded = jsonwebtoken::decode::<T>(token, key, &validation).map_err(|_| Unproven::BadSignature)?;
        Ok(decoded.claims)
    }

    /// What an issuer publishes, once it fits.
    pub(crate) async fn published(
        &self,
        issuer: &str,
        now: Timestamp,
        fits: impl Fn(&Published) -> bool,
    ) -> Result<Arc<Published>, Unproven> {
        let known = self.known.get_with_by_ref(issuer, Arc::default);
        loop {
            let mut asking = match known.look(now, &fits) {
                Look::Found(published) => return Ok(published),
                Look::Nothing(why) => return Err(why),
                Look::Wait(asking) => asking,
                Look::Ask(done, asking) => {
                    let Some(client) = self.client(issuer) else {
                        tracing::warn!(issuer = %issuer, "too many issuers are asked at once, or there is no outbound client");
                        return known.unasked(now, &fits);
                    };
                    tokio::spawn(Arc::clone(&known).renew(client, issuer.into(), now, done));
                    asking
                }
            };
            // It is closed, never written to.
            let _closed = asking.changed().await;
        }
    }

    /// Those that people sign in with.
    pub(crate) fn trusted(&self) -> &[Arc<TrustedIssuer>] {
        &self.trusted
    }

    /// Whether people who are somebody at this issuer are so here.
    pub(crate) fn trusts(&self, url: &str) -> bool {
        self.trusted.iter().any(|own| own.url == url)
    }

    /// Who asks this issuer, with leave to.
    fn client(&self, issuer: &str) -> Option<(Outbound, Option<tokio::sync::OwnedSemaphorePermit>)> {
        if let Some(own) = self.trusted.iter().find(|own| own.url == issuer) {
            return Some((own.outbound.clone(), None));
        }
        let permit = Arc::clone(&self.asking).try_acquire_owned().ok()?;
        Some((self.outbound.clone()?, Some(permit)))
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: Timestamp, fits: &impl Fn(&Published) -> bool) -> Look {
        let mut state = self.state();
        let kept = state.kept(now, fits);
        if let Some(fresh) = kept.as_ref().ok().filter(|published| is_within(published.at, FRESH_SECONDS, now)) {
            return Look::Found(Arc::clone(fresh));
        }
        if let Some(asking) = state.asking.as_ref().filter(|asking| asking.has_changed().is_ok()) {
            return Look::Wait(asking.clone());
        }
        if state.asked.is_some_and(|asked| is_within(asked, PAUSE_SECONDS, now)) {
            return kept.map_or_else(Look::Nothing, Look::Found);
        }
        let (done, asking) = watch::channel(());
        state.asked = Some(now);
        state.asking = Some(asking.clone());
        Look::Ask(done, asking)
    }

    /// Nobody was there to ask. That says nothing about the issuer: whoever comes next may try at once.
    fn unasked(&self, now: Timestamp, fits: &impl Fn(&Published) -> bool) -> Result<Arc<Published>, Unproven> {
        let mut state = self.state();
        state.asked = None;
        state.kept(now, fits)
    }

    /// Asks the issuer; whoever waits looks again when `done` is dropped.
    async fn renew(
        self: Arc<Self>,
        (outbound, _permit): (Outbound, Option<tokio::sync::OwnedSemaphorePermit>),
        issuer: Box<str>,
        now: Timestamp,
        done: watch::Sender<()>,
    ) {
        match ask(&outbound, &issuer, now).await {
            Ok(published) => self.state().published = Some(Arc::new(published)),
            Err(error) => {
                tracing::warn!(issuer = %issuer, error = %error, "an issuer of tokens cannot be asked for its keys");
            }
        }
        drop(done);
    }
}

impl State {
    /// What was published last, where that is not too long ago and fits.
    fn kept(&self, now: Timestamp, fits: &impl Fn(&Published) -> bool) -> Result<Arc<Published>, Unproven> {
        let kept = self.published.as_ref().filter(|published| is_within(published.at, KEPT_SECONDS, now));
        let kept = kept.ok_or(Unproven::Unreachable)?;
        if fits(kept) { Ok(Arc::clone(kept)) } else { Err(Unproven::UnknownKey) }
    }
}

fn is_within(since: Timestamp, seconds: i64, now: Timestamp) -> bool {
    since <= now && now < since.plus_seconds(seconds)
}

async fn ask(outbound: &Outbound, issuer: &str, now: Timestamp) -> Result<Published, AskError> {
    // Source: OpenID Connect Discovery 1.0 §4.1: a slash at the end of the issuer goes.
    let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    let metadata = Metadata::parse(&document(outbound, &url, MAX_METADATA_BYTES).await?, issuer)?;
    let keys = KeySet::parse(&document(outbound, &metadata.jwks_uri, MAX_KEYS_BYTES).await?)?;
    Ok(Published { metadata, keys, at: now })
}

async fn document(outbound: &Outbound, url: &str, limit_bytes: usize) -> Result<bytes::Bytes, AskError> {
    let url = Url::parse(url).map_err(|_| AskError::NoAddress)?;
    let (status, body) = outbound.ask(&url, HeaderMap::new(), None, limit_bytes, PATIENCE).await?;
    if status == StatusCode::OK { Ok(body) } else { Err(AskError::Status(status)) }
}

/// The signature only, by this algorithm only.
fn unchecked(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// What a token says, whoever wrote it: to find out whose it would be.
pub(crate) fn unproven_claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let short = Some(token).filter(|token| token.len() <= MAX_TOKEN_BYTES)?;
    jsonwebtoken::dangerous::insecure_decode_claims(short).ok()
}

/// Whether a token that says when it begins and ends holds now.
pub(crate) fn holds(expires: f64, begins: impl IntoIterator<Item = f64>, now: Timestamp) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "seconds, which have years to go before they need more digits")]
    let now = now.unix_seconds() as f64;
    // Written so that what is no number fails.
    now < expires && begins.into_iter().all(|moment| moment <= now + SKEW_SECONDS)
}

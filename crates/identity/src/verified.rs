//! Tokens whose signature has been checked already.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use foldhash::quality::RandomState;
use moka::Expiry;
use moka::sync::Cache;
use postern_access::InvalidCredential;
use postern_model::Timestamp;

/// A token that was refused for its form or signature is refused unseen for so long.
const REFUSED_FOR: Duration = Duration::from_mins(1);
const REFUSED_TOKENS: u64 = 4096;

type Key = [u8; 32];

/// Contents of tokens by their bytes. What is kept never changes: whether a token is worth anything *now* is checked by
/// whoever asks.
pub(crate) struct VerifiedTokens<T: Send + Sync + 'static> {
    /// By the whole token: a keyed hash of it is an eighth of the work of a digest. Nothing gets in that was not signed here.
    good: Cache<Box<str>, Entry<T>, RandomState>,
    refused: Cache<Key, InvalidCredential>,
}

struct Entry<T> {
    contents: Arc<T>,
    lifetime: Duration,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { contents: Arc::clone(&self.contents), lifetime: self.lifetime }
    }
}

struct UntilExpiry;

impl<T> Expiry<Box<str>, Entry<T>> for UntilExpiry {
    fn expire_after_create(&self, _key: &Box<str>, entry: &Entry<T>, _at: Instant) -> Option<Duration> {
        Some(entry.lifetime)
    }
}

impl<T: Send + Sync + 'static> VerifiedTokens<T> {
    /// Keeps so many bytes of tokens.
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        Self {
            good: Cache::<Box<str>, Entry<T>>::builder()
                .max_capacity(capacity_bytes)
                .weigher(|token, _| u32::try_from(token.len() + 256).unwrap_or(u32::MAX))
                .expire_after(UntilExpiry)
                .build_with_hasher(RandomState::default()),
            refused: Cache::builder().max_capacity(REFUSED_TOKENS).time_to_live(REFUSED_FOR).build(),
        }
    }

    /// The token's contents: from memory, or by checking it. `expires` says until when it is worth being kept.
    pub(crate) fn get(
        &self,
        token: &str,
        now: Timestamp,
        expires: impl FnOnce(&T) -> Timestamp,
        verify: impl FnOnce() -> Result<T, InvalidCredential>,
    ) -> Result<Arc<T>, InvalidCredential> {
        if let Some(entry) = self.good.get(token) {
            return Ok(entry.contents);
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(refusal) = self.refused.get(&key) {
            return Err(refusal);
        }
        let contents = verify().map(Arc::new).inspect_err(|refusal| self.refused.insert(key, *refusal))?;
        let left = expires(&contents).unix_seconds().saturating_sub(now.unix_seconds());
        if let Ok(seconds @ 1..) = u64::try_from(left) {
            let entry = Entry { contents: Arc::clone(&contents), lifetime: Duration::from_secs(seconds) };
            self.good.insert(token.into(), entry);
        }
        Ok(contents)
    }
}

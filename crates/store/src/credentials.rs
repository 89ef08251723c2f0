use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use postern_model::{Secret, Timestamp};
use sha2::{Digest as _, Sha256};
use sqlx::Row;
use subtle::ConstantTimeEq;

use crate::StoreError;
use crate::database::{Database, detached};
use crate::store::Inner;

/// Longer secrets are refused unseen.
const MAX_SECRET_BYTES: usize = 4096;

/// How a credential is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only so that it can be checked.
    Hashed,
    /// Also sealed, so that its owner can be shown it again.
    Revealable,
}

/// A credential without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialInfo {
    /// Which of its owner's credentials.
    pub slot: String,
    /// When it was set.
    pub created: Timestamp,
    /// From when on it does not hold any more.
    pub expires: Option<Timestamp>,
    /// Whether it can be shown again.
    pub revealable: bool,
}

struct Entry {
    info: CredentialInfo,
    hash: [u8; 32],
}

/// The credentials in memory, the same as in the table at all times.
pub(crate) struct CredentialTable {
    entries: RwLock<HashMap<String, Vec<Entry>>>,
    /// Keeps the order of commits and the order of changes in memory the same.
    order: tokio::sync::Mutex<()>,
}

impl CredentialTable {
    pub(crate) async fn load(database: &Database) -> Result<Self, StoreError> {
        let rows = sqlx::query(
            "SELECT owner, slot, hash, sealed IS NOT NULL AS revealable, created, expires FROM credentials ORDER BY owner, slot",
        )
        .fetch_all(database.read())
        .await?;
        let mut entries: HashMap<String, Vec<Entry>> = HashMap::new();
        for row in rows {
            let hash =
                row.try_get::<&[u8], _>("hash")?.try_into().map_err(|_| StoreError::Corrupt("credential hash"))?;
            let info = CredentialInfo {
                slot: row.try_get("slot")?,
                created: Timestamp::from_unix_micros(row.try_get("created")?),
                expires: row.try_get::<Option<i64>, _>("expires")?.map(Timestamp::from_unix_micros),
                revealable: row.try_get("revealable")?,
            };
            entries.entry(row.try_get("owner")?).or_default().push(Entry { info, hash });
        }
        Ok(Self { entries: RwLock::new(entries), order: tokio::sync::Mutex::new(()) })
    }

    fn change(&self, owner: &str, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let own = entries.entry(owner.to_owned()).or_default();
        change(own);
        if own.is_empty() {
            entries.remove(owner);
        }
    }
}

/// The secrets that callers present: client secrets, the admin user's and tokens' passwords.
///
/// Secrets are random and long, so that a plain hash is enough. Checking one never touches the database.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

impl Credentials {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Sets a credential; what was in the slot does not hold any more.
    pub async fn put(
        &self,
        owner: &str,
        slot: &str,
        secret: &Secret,
        keep: Keep,
        expires: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if secret.expose().len() > MAX_SECRET_BYTES {
            return Err(StoreError::TooLarge { limit_bytes: MAX_SECRET_BYTES as u64 });
        }
        let (inner, owner, slot, secret) = (Arc::clone(&self.0), owner.to_owned(), slot.to_owned(), secret.clone());
        detached(async move {
            let hash = hash_of(&secret);
            let sealed = match keep {
                Keep::Hashed => None,
                Keep::Revealable => Some(inner.sealer.seal(&purpose(&owner, &slot), secret.expose().as_bytes())?),
            };
            let info =
                CredentialInfo { slot: slot.clone(), created: inner.now(), expires, revealable: sealed.is_some() };
            let _order = inner.credentials.order.lock().await;
            let mut transaction = inner.database.write().await?;
            sqlx::query(
                "INSERT INTO credentials (owner, slot, hash, sealed, created, expires) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (owner, slot) DO UPDATE SET hash = excluded.hash, sealed = excluded.sealed, \
                 created = excluded.created, expires = excluded.expires",
            )
            .bind(&owner)
            .bind(&slot)
            .bind(&hash[..])
            .bind(sealed)
            .bind(info.created.unix_micros())
            .bind(expires.map(Timestamp::unix_micros))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            inner.credentials.change(&owner, |own| {
                own.retain(|entry| entry.info.slot != slot);
                own.push(Entry { info, hash });
                own.sort_by(|a, b| a.info.slot.cmp(&b.info.slot));
            });
            Ok(())
        })
        .await
    }

    /// Removes a credential; gives whether there was one.
    pub async fn remove(&self, owner: &str, slot: &str) -> Result<bool, StoreError> {
        self.remove_where(owner, Some(slot)).await
    }

    /// Removes all credentials of an owner; gives whether there were any.
    pub async fn remove_owner(&self, owner: &str) -> Result<bool, StoreError> {
        self.remove_where(owner, None).await
    }

    async fn remove_where(&self, owner: &str, slot: Option<&str>) -> Result<bool, StoreError> {
        let (inner, owner, slot) = (Arc::clone(&self.0), owner.to_owned(), slot.map(str::to_owned));
        detached(async move {
            let _order = inner.credentials.order.lock().await;
            let mut transaction = inner.database.write().await?;
            let removed =
                sqlx::query("DELETE FROM credentials WHERE owner = $1 AND (CAST($2 AS TEXT) IS NULL OR slot = $2)")
                    .bind(&owner)
                    .bind(&slot)
                    .execute(&mut *transaction)
                    .await?;
            transaction.commit().await?;
            inner.credentials.change(&owner, |own| match &slot {
                Some(slot) => own.retain(|entry| entry.info.slot != *slot),
                None => own.clear(),
            });
            Ok(removed.rows_affected() > 0)
        })
        .await
    }

    /// The slot of the owner's credential that this secret is, if it holds now. Takes the same time whichever it is.
    pub fn verify(&self, owner: &str, secret: &Secret, now: Timestamp) -> Option<String> {
        if secret.expose().len() > MAX_SECRET_BYTES {
            return None;
        }
        let hash = hash_of(secret);
        let entries = self.0.credentials.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for entry in entries.get(owner)? {
            let holds = entry.info.expires.is_none_or(|expires| now < expires);
            if bool::from(entry.hash.ct_eq(&hash)) && holds {
                found = Some(entry.info.slot.clone());
            }
        }
        found
    }

    /// An owner's credentials, by slot.
    pub fn list(&self, owner: &str) -> Vec<CredentialInfo> {
        let entries = self.0.credentials.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(owner).into_iter().flatten().map(|entry| entry.info.clone()).collect()
    }

    /// The secret itself; `None` when there is none or it was only hashed.
    pub async fn reveal(&self, owner: &str, slot: &str) -> Result<Option<Secret>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT sealed FROM credentials WHERE owner = $1 AND slot = $2")
                .bind(owner)
                .bind(slot)
                .fetch_optional(self.0.database.read())
                .await?;
        let Some(sealed) = sealed.flatten() else { return Ok(None) };
        let opened = self.0.sealer.open(&purpose(owner, slot), sealed)?;
        let text = String::from_utf8(opened).map_err(|_| StoreError::Corrupt("sealed credential"))?;
        Ok(Some(Secret::new(text)))
    }
}

fn hash_of(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.expose().as_bytes()).into()
}

/// What a sealed credential is bound to, so that it cannot be moved to another owner's row.
fn purpose(owner: &str, slot: &str) -> String {
    format!("credential:{}:{owner}:{slot}", owner.len())
}

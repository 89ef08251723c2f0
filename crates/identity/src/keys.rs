//! Signing keys of one token issuer: the newest signs, older ones verify until everything they signed has expired.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use postern_access::InvalidCredential;
use postern_model::{Secret, Timestamp};
use postern_store::Vault;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::IdentityError;

/// A key signs for this long before a new one takes over.
pub(crate) const KEY_LIFETIME_SECONDS: i64 = 90 * 24 * 3600;
/// How long to wait before a key that could not be kept is written again.
const KEEP_PAUSE: Duration = Duration::from_secs(1);
/// Longest token that is looked at; the largest ones issued have [`crate::MAX_SCOPES`] scopes.
pub(crate) const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// The keys of one issuer, under their name in the vault.
pub(crate) struct KeyRing {
    name: &'static str,
    /// How long a key still verifies after its successor came: the longest lifetime of its tokens.
    overlap_seconds: i64,
    /// Newest first; empty only until the first one is made.
    keys: ArcSwap<Vec<SigningKey>>,
    /// Whether the first one is being made.
    is_new: Mutex<bool>,
    first_key: Condvar,
    /// Keeps the order of changes and of what the vault holds the same.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// The making of a ring's first key. However it ends, those who wait for the key wait no longer.
struct FirstKey(Arc<KeyRing>);

#[derive(Clone)]
struct SigningKey(Arc<KeyParts>);

struct KeyParts {
    kid: String,
    created: Timestamp,
    pem: Secret,
    /// Parsed once: the token library would read and check the private key anew for every signature.
    pair: RsaKeyPair,
    /// The token header, ready to be signed.
    header: String,
    verifying: DecodingKey,
    published: Jwk,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    created: i64,
    pem: String,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

impl KeyRing {
    /// Loads the ring from the vault. The first time its key is made in the background: that may take half a second, which a
    /// server that starts should not wait for. Whoever needs the key meanwhile does.
    pub(crate) async fn load(
        vault: &Vault,
        name: &'static str,
        overlap_seconds: i64,
        now: Timestamp,
    ) -> Result<Arc<Self>, IdentityError> {
        let keys = match vault.get(name).await? {
            Some(bytes) => read(bytes.expose()).ok_or(IdentityError::Corrupt("signing keys"))?,
            None => Vec::new(),
        };
        let is_new = keys.is_empty();
        let ring = Arc::new(Self {
            name,
            overlap_seconds,
            keys: ArcSwap::from_pointee(keys),
            is_new: Mutex::new(is_new),
            first_key: Condvar::new(),
            writing: Arc::default(),
        });
        if is_new {
            // Begun at once: those who wait for the key may hold every thread that could begin it.
            let first = FirstKey(Arc::clone(&ring));
            let made = spawn_blocking(move || first.make(now));
            let writing = Arc::clone(&ring.writing).lock_owned().await;
            tokio::spawn(Arc::clone(&ring).keep_first(made, vault.clone(), writing));
        }
        Ok(ring)
    }

    /// A ring of one new key, kept nowhere.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_one(now: Timestamp) -> Result<Self, IdentityError> {
        Ok(Self {
            name: "one",
            overlap_seconds: 0,
            keys: ArcSwap::from_pointee(vec![SigningKey::generate(now)?]),
            is_new: Mutex::new(false),
            first_key: Condvar::new(),
            writing: Arc::default(),
        })
    }

    /// The key is used before it is kept: those who wait for it may hold every thread that could keep it.
    async fn keep_first(
        self: Arc<Self>,
        made: JoinHandle<Result<(), IdentityError>>,
        vault: Vault,
        _writing: OwnedMutexGuard<()>,
    ) {
        let kept = async {
            made.await.map_err(|_| IdentityError::Interrupted)??;
            let keys = write(&self.keys.load())?;
            // A key that is used and not kept would make every token worthless at the next start.
            while let Err(error) = vault.put(self.name, &keys).await {
                tracing::error!(error = %error, keys = self.name, "the first signing key is not kept yet, trying again");
                tokio::time::sleep(KEEP_PAUSE).await;
            }
            Ok::<_, IdentityError>(())
        };
        if let Err(error) = kept.await {
            tracing::error!(error = %error, keys = self.name, "the first signing key was not made");
        }
    }

    /// The keys; waits for the first one to be made.
    fn keys(&self) -> arc_swap::Guard<Arc<Vec<SigningKey>>> {
        let keys = self.keys.load();
        if !keys.is_empty() {
            return keys;
        }
        // However long it takes on a busy machine.
        let is_new = self.is_new.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.first_key.wait_while(is_new, |is_new| *is_new));
        self.keys.load()
    }

    /// Adds a key that signs from now on, and drops those whose tokens have all expired.
    pub(crate) async fn rotate(&self, vault: &Vault, now: Timestamp) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().await;
        let fresh =
            spawn_blocking(move || SigningKey::generate(now)).await.map_err(|_| IdentityError::Interrupted)??;
        let mut keys = vec![fresh];
        keys.extend(self.keys.load().iter().cloned());
        self.drop_old(&mut keys, now);
        vault.put(self.name, &write(&keys)?).await?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Whether the signing key has served its time.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.keys().first().is_none_or(|key| key.0.created.plus_seconds(KEY_LIFETIME_SECONDS) <= now)
    }

    fn drop_old(&self, keys: &mut Vec<SigningKey>, now: Timestamp) {
        let mut successor: Option<Timestamp> = None;
        keys.retain(|key| {
            let kept = successor.is_none_or(|moment| moment.plus_seconds(self.overlap_seconds) > now);
            successor = Some(key.0.created);
            kept
        });
    }

    /// Signs the claims with the newest key. About a millisecond of computing.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<Secret, IdentityError> {
        let keys = self.keys();
        let key = keys.first().ok_or(IdentityError::Key("there is none"))?;
        let claims = serde_json::to_vec(claims).map_err(|_| IdentityError::Key("the claims cannot be written"))?;
        let mut token = key.0.header.clone();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut signature = vec![0; key.0.pair.public_modulus_len()];
        key.0
            .pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| IdentityError::Key("signing failed"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// Checks the signature and reads the claims. Nothing else is checked: no time, no audience.
    ///
    /// The algorithm is pinned and the key is found by its id only, so that neither can be talked into anything else.
    pub(crate) fn verify<T: DeserializeOwned>(&self, token: &str) -> Result<T, InvalidCredential> {
        use jsonwebtoken::errors::ErrorKind;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidCredential::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidCredential::Malformed)?;
        let keys = self.keys.load();
        let key = header
            .kid
            .and_then(|kid| keys.iter().find(|key| key.0.kid == kid))
            .ok_or(InvalidCredential::BadSignature)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        match jsonwebtoken::decode::<T>(token, &key.0.verifying, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => InvalidCredential::BadSignature,
                _ => InvalidCredential::Malformed,
            }),
        }
    }

    /// The public keys, for anybody who wants to check tokens.
    pub(crate) fn published(&self) -> JwkSet {
        JwkSet { keys: self.keys().iter().map(|key| key.0.published.clone()).collect() }
    }
}

impl FirstKey {
    fn make(self, now: Timestamp) -> Result<(), IdentityError> {
        let key = SigningKey::generate(now)?;
        self.0.keys.store(Arc::new(vec![key]));
        Ok(())
    }
}

impl Drop for FirstKey {
    fn drop(&mut self) {
        *self.0.is_new.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.first_key.notify_all();
    }
}

impl SigningKey {
    /// Blocks for as long as it takes to find two primes.
    fn generate(now: Timestamp) -> Result<Self, IdentityError> {
        let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
        Self::read(&pair.serialize_pem(), now).ok_or(IdentityError::Key("a new key could not be read back"))
    }

    fn read(pem: &str, created: Timestamp) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
        let mut published =
            Jwk::from_encoding_key(&EncodingKey::from_rsa_pem(pem.as_bytes()).ok()?, Algorithm::RS256).ok()?;
        let kid = published.thumbprint(ThumbprintHash::SHA256).ok()?;
        let verifying = DecodingKey::from_jwk(&published).ok()?;
        published.common.key_id = Some(kid.clone());
        published.common.public_key_use = Some(PublicKeyUse::Signature);
        let header = serde_json::to_vec(&Header { typ: "JWT", alg: "RS256", kid: &kid }).ok()?;
        let header = URL_SAFE_NO_PAD.encode(header);
        Some(Self(Arc::new(KeyParts { kid, created, pem: Secret::new(pem), pair, header, verifying, published })))
    }
}

fn read(bytes: &[u8]) -> Option<Vec<SigningKey>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    stored.keys.iter().map(|key| SigningKey::read(&key.pem, Timestamp::from_unix_micros(key.created))).collect()
}

fn write(keys: &[SigningKey]) -> Result<Vec<u8>, IdentityError> {
    let keys = keys
        .iter()
        .map(|key| StoredKey { created: key.0.created.unix_micros(), pem: key.0.pem.expose().to_owned() })
        .collect();
    serde_json::to_vec(&Stored { keys }).map_err(|_| IdentityError::Key("keys cannot be written"))
}

//! Users' passwords. People choose them, so that a plain hash of one is soon guessed: what the store gets is stretched first.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_access::InvalidCredential;
use postern_estate::{Resource, types};
use postern_model::{PrincipalId, ResourceId, Secret, Timestamp};
use postern_store::Keep;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use crate::identity::Known;
use crate::throttle::Throttled;
use crate::{Identity, IdentityError, SecretOwner};

/// Source: OWASP, password storage cheat sheet, PBKDF2 with HMAC-SHA-256 (read 2026-11).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
/// The slot of a user's password.
const SLOT: &str = "password";
/// How long a password waits for others to be looked at.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who can have a session, as they are now: a person, or a program that has credentials of its own.
pub(crate) struct Holder {
    pub(crate) known: Arc<Known>,
    pub(crate) resource: Arc<Resource>,
}

impl Holder {
    /// The name to sign in with.
    pub(crate) fn name(&self) -> String {
        let own = self.resource.text(&["userPrincipalName"]);
        own.unwrap_or_else(|| self.known.principal.display_name.to_string())
    }
}

impl Identity {
    /// Gives a user another password. Sessions that began with the old one end.
    pub async fn set_user_password(&self, user: PrincipalId, password: Secret) -> Result<(), IdentityError> {
        let permit = Arc::clone(&self.stretching).acquire_owned().await.map_err(|_| IdentityError::Interrupted)?;
        let stretched = spawn_blocking(move || stretched(user, &password, permit));
        let stretched = stretched.await.map_err(|_| IdentityError::Interrupted)?;
        let owner = SecretOwner::Principal(user).to_string();
        Ok(self.store.credentials().put(&owner, SLOT, &stretched, Keep::Hashed, None).await?)
    }

    /// The user of this name, if the password is theirs.
    pub(crate) async fn user_by_password(
        self: &Arc<Self>,
        name: &str,
        password: Secret,
        address: std::net::IpAddr,
        now: Timestamp,
    ) -> Result<Result<Holder, InvalidCredential>, Throttled> {
        // Looked at one after the other, so that each failure counts before the next attempt.
        let Ok(Ok(permit)) = timeout(PATIENCE, Arc::clone(&self.stretching).acquire_owned()).await else {
            return Err(Throttled { retry_after_seconds: 1 });
        };
        let (identity, name) = (Arc::clone(self), name.to_owned());
        let attempt = spawn_blocking(move || {
            identity.throttle.attempt(address, &name, now, || {
                let user = identity.user_named(&name);
                // As much work for a name that nobody has: how long it takes must not tell.
                let id = user.as_ref().map_or(PrincipalId(Uuid::nil()), |user| user.known.principal.id);
                let stretched = stretched(id, &password, permit);
                let user = user.ok_or(InvalidCredential::UnknownCaller)?;
                let owner = SecretOwner::Principal(id).to_string();
                if identity.credentials.verify(&owner, &stretched, now).as_deref() != Some(SLOT) {
                    return Err(InvalidCredential::WrongPassword);
                }
                if user.known.enabled { Ok(user) } else { Err(InvalidCredential::Disabled) }
            })
        });
        attempt.await.unwrap_or(Err(Throttled { retry_after_seconds: 1 }))
    }

    /// When the holder's password, or the newest of its secrets, was set; `None` when there is none.
    pub(crate) fn secret_set(&self, holder: &Holder) -> Option<Timestamp> {
        let Known { principal, client_id, .. } = &*holder.known;
        let owners = [SecretOwner::Principal(principal.id), SecretOwner::Application(*client_id)];
        let own = owners.iter().flat_map(|owner| self.credentials.list(&owner.to_string()));
        own.map(|one| one.created).max()
    }

    /// The user of this name; of two with the same name neither.
    pub(crate) fn user_named(&self, name: &str) -> Option<Holder> {
        let found = self.directory.with_estate(|estate| {
            let root = ResourceId::root();
            let named = |user: &&Arc<Resource>| {
                user.text(&["userPrincipalName"]).is_some_and(|own| own.eq_ignore_ascii_case(name))
            };
            let mut users = estate.list(&root, types::USERS).filter(named);
            users.next().filter(|_| users.next().is_none()).cloned()
        })?;
        self.holder(found.id.name().parse().ok()?)
    }
}

/// What a user's password is kept as. The salt is the user's object id, which no two users have. Blocks.
fn stretched(user: PrincipalId, password: &Secret, _permit: OwnedSemaphorePermit) -> Secret {
    let mut derived = [0; 32];
    derive(PBKDF2_HMAC_SHA256, ITERATIONS, user.0.as_bytes(), password.expose().as_bytes(), &mut derived);
    Secret::new(URL_SAFE_NO_PAD.encode(derived))
}

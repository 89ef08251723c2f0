//! Sign-ins on a device without a browser or a person: it shows a code, and somebody approves that elsewhere.
//!
//! Source: RFC 8628.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_access::{InvalidCredential, PrincipalKind};
use postern_model::{PrincipalId, Secret, source_of};
use postern_store::{DeviceAnswer, DeviceLogin, DeviceState, StoreError};
use uuid::Uuid;

use crate::passwords::Holder;
use crate::throttle::Throttled;
use crate::{Identity, IdentityError};

/// How long a code can be approved.
pub(crate) const DEVICE_CODE_SECONDS: i64 = 15 * 60;
const DEVICE_CODE_BYTES: usize = 32;
/// No vowels, so that no words come about, and nothing that looks like something else: 20⁸ codes.
///
/// Source: RFC 8628 §6.1.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS_IN_CODE: usize = 8;
/// Two codes that are the same are next to impossible; several in a row are a fault.
const TRIES: usize = 4;
/// What an attempt with a code that nobody has counts as.
const ANY_CODE: &str = "device code";

/// Why a sign-in could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum DeviceRefusal {
    /// There is no open sign-in with this code.
    #[error("there is no sign-in with this code, or it was answered or has expired")]
    UnknownCode,
    /// Nobody who can sign in has this name or object id.
    #[error("nobody who can sign in is called `{0}`")]
    UnknownPrincipal(String),
    /// Too many wrong ones came from there.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The store failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The codes of a sign-in that has begun.
pub(crate) struct DeviceCodes {
    /// For the person.
    pub(crate) user: String,
    /// For the device.
    pub(crate) device: Secret,
}

impl Identity {
    /// Begins a sign-in.
    pub(crate) async fn begin_device_login(
        &self,
        client: Uuid,
        audience: &str,
        address: IpAddr,
    ) -> Result<DeviceCodes, StoreError> {
        let begun = self.clock.now();
        let expires = begun.plus_seconds(DEVICE_CODE_SECONDS);
        let login = DeviceLogin { client, audience: audience.to_owned(), source: source_of(address), begun, expires };
        let mut failure = StoreError::Conflict;
        for _ in 0..TRIES {
            let mut device = [0; DEVICE_CODE_BYTES];
            self.random.fill(&mut device);
            let device = Secret::new(URL_SAFE_NO_PAD.encode(device));
            let user = self.user_code();
            match self.store.device_logins().begin(&user, &device, &login).await {
                Ok(()) => return Ok(DeviceCodes { user: shown(&user), device }),
                Err(error @ StoreError::Conflict) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    fn user_code(&self) -> String {
        let mut code = String::with_capacity(LETTERS_IN_CODE);
        while code.len() < LETTERS_IN_CODE {
            let mut bytes = [0; LETTERS_IN_CODE];
            self.random.fill(&mut bytes);
            // Bytes that would make some letters likelier than others are left out.
            let fair = bytes.iter().filter(|byte| usize::from(**byte) < 256 / LETTERS.len() * LETTERS.len());
            let letters = fair.filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
            code.extend(letters.map(|letter| char::from(*letter)).take(LETTERS_IN_CODE - code.len()));
        }
        code
    }

    /// Lets the device act as this principal, or declines. The caller has made sure that it may. Codes that nobody has count like
    /// wrong passwords of whoever is at `address`.
    pub async fn answer_device_login(
        &self,
        code: &str,
        approve: Option<PrincipalId>,
        address: IpAddr,
    ) -> Result<DeviceLogin, DeviceRefusal> {
        let attempt = self.throttle.admit(address, ANY_CODE, self.clock.now())?;
        let answer = match approve {
            None => DeviceAnswer::Declined,
            Some(id) => {
                let holder = self.holder(id).filter(|holder| holder.known.enabled);
                let holder = holder.ok_or_else(|| DeviceRefusal::UnknownPrincipal(id.to_string()))?;
                DeviceAnswer::Approved(id, holder.resource.uid)
            }
        };
        let logins = self.store.device_logins();
        if let Some(code) = typed(code)
            && let Some(login) = logins.find(&code).await.map_err(IdentityError::from)?
            && logins.answer(&code, answer).await.map_err(IdentityError::from)?
        {
            return Ok(login);
        }
        attempt.failed();
        Err(DeviceRefusal::UnknownCode)
    }

    /// The open sign-in of this code, for who is about to answer it.
    pub(crate) async fn open_device_login(&self, code: &str, address: IpAddr) -> Result<DeviceLogin, DeviceRefusal> {
        let attempt = self.throttle.admit(address, ANY_CODE, self.clock.now())?;
        if let Some(code) = typed(code)
            && let Some(login) = self.store.device_logins().find(&code).await.map_err(IdentityError::from)?
        {
            return Ok(login);
        }
        attempt.failed();
        Err(DeviceRefusal::UnknownCode)
    }

    /// The one who can sign in and has this user principal name or object id.
    ///
    /// # Errors
    /// [`DeviceRefusal::UnknownPrincipal`]
    pub fn sign_in_name(&self, name: &str) -> Result<PrincipalId, DeviceRefusal> {
        let by_id = || self.holder(name.parse().ok()?);
        let found = self.user_named(name).or_else(by_id);
        found
            .map(|holder| holder.known.principal.id)
            .ok_or_else(|| DeviceRefusal::UnknownPrincipal(name.chars().take(128).collect()))
    }

    /// Answers as the person who types their own password.
    pub(crate) async fn approve_by_password(
        self: &Arc<Self>,
        code: &str,
        name: &str,
        password: Secret,
        address: IpAddr,
    ) -> Result<Result<(), InvalidCredential>, DeviceRefusal> {
        let user = match self.user_by_password(name, password, address, self.clock.now()).await? {
            Ok(user) => user,
            Err(why) => return Ok(Err(why)),
        };
        self.answer_device_login(code, Some(user.known.principal.id), address).await.map(|_| Ok(()))
    }

    /// What has become of a sign-in, and for whom.
    pub(crate) async fn device_outcome(&self, device: &Secret, client: Uuid) -> Result<DeviceOutcome, StoreError> {
        Ok(match self.store.device_logins().poll(device, client).await? {
            DeviceState::Pending => DeviceOutcome::Pending,
            DeviceState::Expired => DeviceOutcome::Expired,
            DeviceState::Unknown => DeviceOutcome::Unknown,
            DeviceState::Declined => DeviceOutcome::Declined,
            DeviceState::Approved { principal, uid, approved, audience } => {
                // Another password ends what was approved before, too.
                let holds = |holder: &Holder| {
                    let is_older = self.secret_set(holder).is_none_or(|set| set <= approved);
                    holder.resource.uid == uid && holder.known.enabled && is_older
                };
                let holder = self.holder(principal).filter(holds);
                holder.map_or(DeviceOutcome::Declined, |holder| DeviceOutcome::Approved(holder, audience))
            }
        })
    }

    /// Somebody who can have a session: a person, or a program with credentials of its own. A managed identity's tokens come from where
    /// it belongs, and from there only.
    pub(crate) fn holder(&self, id: PrincipalId) -> Option<Holder> {
        let known = self.known(id)?;
        if !matches!(known.principal.kind, PrincipalKind::User | PrincipalKind::ServicePrincipal) {
            return None;
        }
        let resource = self.directory.resource(known.owner.as_ref()?)?;
        Some(Holder { known, resource })
    }
}

/// What has become of a sign-in.
pub(crate) enum DeviceOutcome {
    Pending,
    Approved(Holder, String),
    Declined,
    Expired,
    Unknown,
}

/// A code as it is kept, whichever way it was typed.
fn typed(code: &str) -> Option<String> {
    let kept: String = code.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
    let fits = kept.len() == LETTERS_IN_CODE && kept.bytes().all(|letter| LETTERS.contains(&letter));
    fits.then_some(kept)
}

/// A code as it is shown: easier to copy in two halves.
fn shown(code: &str) -> String {
    let (first, second) = code.split_at_checked(LETTERS_IN_CODE / 2).unwrap_or((code, ""));
    format!("{first}-{second}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_as_typed() {
        let cases = [
            ("BCDF-GHJK", Some("BCDFGHJK")),
            ("bcdf ghjk", Some("BCDFGHJK")),
            ("BCDFGHJK", Some("BCDFGHJK")),
            ("BCDF-GHJ", None),
            ("BCDF-GHJKL", None),
            ("ACDF-GHJK", None),
            ("BCDF/GHJK", None),
            ("", None),
        ];
        for (code, expected) in cases {
            assert_eq!(typed(code).as_deref(), expected, "{code}");
        }
        assert_eq!(shown("BCDFGHJK"), "BCDF-GHJK");
    }
}

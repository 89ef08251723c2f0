//! What the credentials of a data-plane request amount to. Memory only; nothing here waits.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_access::{Caller, Credential, InvalidCredential, PrincipalKind, RegistryRules, TokenBinding, Verified};
use postern_model::{PrincipalId, RegistryUid, ResourceUid, Secret, Timestamp};
use uuid::Uuid;

use crate::Identity;
use crate::identity::Known;
use crate::keys::MAX_TOKEN_BYTES;
use crate::throttle::Throttled;
use crate::token::{AuthorityClaims, RegistryToken, TokenHolder, TokenKind, check_time};

/// Longest `Authorization` header that is looked at: a token in Basic form.
pub const MAX_AUTHORIZATION_BYTES: usize = 2 * MAX_TOKEN_BYTES;
/// The user name that says that the password is a registry refresh token.
///
/// Source: Azure Container Registry, `az acr login --expose-token` (read 2026-11).
pub const REFRESH_TOKEN_USER: Uuid = Uuid::nil();

/// Under which owner and slots the store keeps a secret. Owners are immutable ids: what is deleted and created again under the
/// same name inherits none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretOwner {
    /// The registry's admin user; slots `password` and `password2`.
    Admin(RegistryUid),
    /// A repository-scoped token; slots `password1` and `password2`.
    RepositoryToken(ResourceUid),
    /// A service principal, with a slot per client secret; a user, with the slot `password`.
    Principal(PrincipalId),
    /// An application registration, by application id; a slot per client secret.
    Application(Uuid),
}

impl std::fmt::Display for SecretOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admin(uid) => write!(f, "admin:{uid}"),
            Self::RepositoryToken(uid) => write!(f, "token:{uid}"),
            Self::Principal(id) => write!(f, "principal:{id}"),
            Self::Application(id) => write!(f, "application:{id}"),
        }
    }
}

/// An `Authorization` header, taken apart.
#[derive(Debug)]
pub(crate) enum Presented {
    Bearer(Secret),
    Basic { user: String, password: Secret },
}

impl Presented {
    /// `None`: no credentials, which a Basic header without user and password says too.
    pub(crate) fn parse(authorization: Option<&str>) -> Result<Option<Self>, InvalidCredential> {
        let Some(header) = authorization else { return Ok(None) };
        if header.len() > MAX_AUTHORIZATION_BYTES {
            return Err(InvalidCredential::Malformed);
        }
        let (scheme, value) = header.trim().split_once(' ').ok_or(InvalidCredential::Malformed)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(Self::Bearer(Secret::new(value))));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(InvalidCredential::Malformed);
        }
        let bytes = STANDARD.decode(value).map_err(|_| InvalidCredential::Malformed)?;
        let text = String::from_utf8(bytes).map_err(|_| InvalidCredential::Malformed)?;
        let (user, password) = text.split_once(':').ok_or(InvalidCredential::Malformed)?;
        if user.is_empty() && password.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self::Basic { user: user.to_owned(), password: Secret::new(password) }))
    }
}

impl Identity {
    /// What the `Authorization` header of a data-plane request amounts to: a registry access token, or any login form as Basic.
    ///
    /// # Errors
    /// When too many wrong passwords came from `address`; a token is looked at all the same.
    pub fn credential(
        &self,
        rules: &RegistryRules,
        authorization: Option<&str>,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Credential, Throttled> {
        // What most requests carry, without a copy of it.
        if let Some(token) = authorization.and_then(|header| header.strip_prefix("Bearer ")) {
            return Ok(as_credential(self.registry_token(rules, token.trim(), TokenKind::Access, now).map(Some)));
        }
        Ok(as_credential(match Presented::parse(authorization) {
            Err(why) => Err(why),
            Ok(None) => Ok(None),
            Ok(Some(Presented::Bearer(token))) => {
                self.registry_token(rules, token.expose(), TokenKind::Access, now).map(Some)
            }
            Ok(Some(Presented::Basic { user, password })) => {
                self.password(rules, &user, &password, address, now)?.map(Some)
            }
        }))
    }

    /// User name and password in any of the login forms.
    ///
    /// Source: Azure Container Registry, authentication options (read 2026-11).
    pub(crate) fn password(
        &self,
        rules: &RegistryRules,
        user: &str,
        password: &Secret,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Result<Verified, InvalidCredential>, Throttled> {
        if let Ok(id) = Uuid::try_parse(user) {
            if id == REFRESH_TOKEN_USER {
                // Signed, not remembered: it cannot be guessed.
                return Ok(self.registry_token(rules, password.expose(), TokenKind::Refresh, now));
            }
            // However a client writes the id, it is one user.
            return self.throttle.attempt(address, &id.to_string(), now, || {
                self.client_secret(id, password, now).map(|known| direct(Caller::Principal(known.principal)))
            });
        }
        self.throttle.attempt(address, user, now, || self.named_password(rules, user, password, now))
    }

    /// The admin user's password, or that of a repository-scoped token.
    fn named_password(
        &self,
        rules: &RegistryRules,
        user: &str,
        password: &Secret,
        now: Timestamp,
    ) -> Result<Verified, InvalidCredential> {
        if user.eq_ignore_ascii_case(rules.id.name()) {
            self.check_secret(SecretOwner::Admin(rules.uid), password, now)?;
            return if rules.admin_enabled { Ok(direct(Caller::Admin)) } else { Err(InvalidCredential::Disabled) };
        }
        let token = rules.tokens.get(user.to_ascii_lowercase().as_str()).ok_or(InvalidCredential::UnknownCaller)?;
        self.check_secret(SecretOwner::RepositoryToken(token.uid), password, now)?;
        if token.enabled {
            Ok(direct(Caller::RepositoryToken(Arc::clone(&token.name))))
        } else {
            Err(InvalidCredential::Disabled)
        }
    }

    /// A service principal by application id and client secret: its own, or its application's.
    pub(crate) fn client_secret(
        &self,
        client_id: Uuid,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Known, InvalidCredential> {
        let known = self.known_by_client_id(client_id).ok_or(InvalidCredential::UnknownCaller)?;
        let own = self.check_secret(SecretOwner::Principal(known.principal.id), secret, now);
        // A managed identity has no application, whatever registration bears the same id.
        match known.principal.kind {
            PrincipalKind::ServicePrincipal if own.is_err() => {
                self.check_secret(SecretOwner::Application(client_id), secret, now)?;
            }
            _ => own?,
        }
        if known.enabled { Ok(known) } else { Err(InvalidCredential::Disabled) }
    }

    fn check_secret(&self, owner: SecretOwner, secret: &Secret, now: Timestamp) -> Result<(), InvalidCredential> {
        let slot = self.credentials.verify(&owner.to_string(), secret, now);
        slot.map(|_| ()).ok_or(InvalidCredential::WrongPassword)
    }

    /// A registry token of this kind, for this registry, as it is now.
    pub(crate) fn registry_token(
        &self,
        rules: &RegistryRules,
        token: &str,
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<Verified, InvalidCredential> {
        let token = self.registry_tokens.get(
            token,
            now,
            |token| token.expires,
            || self.registry_keys.verify(token).and_then(RegistryToken::from_claims),
        )?;
        if *token.login_server != *rules.login_server {
            return Err(InvalidCredential::WrongAudience);
        }
        if token.tenant != self.settings.tenant {
            return Err(InvalidCredential::WrongTenant);
        }
        if token.kind != kind {
            return Err(InvalidCredential::WrongKind);
        }
        check_time(token.issued, token.expires, now)?;
        if token.registry != rules.uid {
            return Err(InvalidCredential::RegistryReplaced);
        }
        if token.mode != rules.mode {
            return Err(InvalidCredential::ModeChanged);
        }
        Ok(Verified {
            caller: self.caller(&token.holder, rules)?,
            claim: (kind == TokenKind::Access).then(|| Arc::clone(&token.claim)),
            binding: token.binding,
        })
    }

    /// The holder of a token as it is now: it may be gone, switched off, or in other groups.
    pub(crate) fn caller(&self, holder: &TokenHolder, rules: &RegistryRules) -> Result<Caller, InvalidCredential> {
        match holder {
            TokenHolder::Anonymous => Ok(Caller::Anonymous),
            TokenHolder::Admin if rules.admin_enabled => Ok(Caller::Admin),
            TokenHolder::Admin => Err(InvalidCredential::Disabled),
            TokenHolder::RepositoryToken(name, uid) => {
                match rules.tokens.get(name.to_ascii_lowercase().as_str()).filter(|token| token.uid == *uid) {
                    Some(token) if token.enabled => Ok(Caller::RepositoryToken(Arc::clone(&token.name))),
                    Some(_) => Err(InvalidCredential::Disabled),
                    None => Err(InvalidCredential::UnknownCaller),
                }
            }
            TokenHolder::Principal(id, kind) => match self.known(*id).filter(|known| known.principal.kind == *kind) {
                Some(known) if known.enabled => Ok(Caller::Principal(Arc::clone(&known.principal))),
                Some(_) => Err(InvalidCredential::Disabled),
                None => Err(InvalidCredential::UnknownCaller),
            },
        }
    }

    /// A token of the authority, whatever its audience, and who it belongs to now.
    pub(crate) fn authority_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(Arc<AuthorityClaims>, Arc<Known>), InvalidCredential> {
        let claims: Arc<AuthorityClaims> = self.authority_tokens.get(
            token,
            now,
            |claims: &AuthorityClaims| Timestamp::from_unix_seconds(claims.exp),
            || self.authority_keys.verify(token),
        )?;
        if claims.tid != self.settings.tenant.0 || claims.iss != self.issuer {
            return Err(InvalidCredential::WrongTenant);
        }
        let at = Timestamp::from_unix_seconds;
        check_time(at(claims.nbf), at(claims.exp), now)?;
        match self.known(PrincipalId(claims.oid)) {
            Some(known) if known.enabled => Ok((claims, known)),
            Some(_) => Err(InvalidCredential::Disabled),
            None => Err(InvalidCredential::UnknownCaller),
        }
    }
}

pub(crate) fn as_credential(outcome: Result<Option<Verified>, InvalidCredential>) -> Credential {
    match outcome {
        Ok(None) => Credential::None,
        Ok(Some(verified)) => Credential::Verified(verified),
        Err(why) => Credential::Invalid(why),
    }
}

fn direct(caller: Caller) -> Verified {
    Verified { caller, claim: None, binding: None::<TokenBinding> }
}

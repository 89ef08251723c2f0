//! Links to a registry's data endpoints: a blob's address there, signed, for a while.
//!
//! A link says who it was issued to and lets nobody in by itself: at the data endpoint the same decision is made again, with this
//! holder as its caller, from where the request comes and by the rules of that moment. Deliberately absent: any token.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_access::{Action, Actions, Caller, InvalidCredential, RegistryRules, TokenBinding, TokenClaim, Verified};
use postern_model::{Digest, Random, RepositoryName, ResourceUid, Timestamp};
use postern_store::Vault;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::token::{TokenHolder, check_time, parse_principal_kind, principal_kind};
use crate::{Identity, IdentityError};

/// How long a link is good for.
///
/// Source: Azure Container Registry, "Dedicated data endpoints": links are signed for 20 to 30 minutes (read 2026-11).
pub const LINK_SECONDS: i64 = 25 * 60;
/// Longest link that is looked at.
pub const MAX_LINK_BYTES: usize = 2048;

/// The version of the storage protocol that links are written for.
const FILE_VERSION: &str = "2026-04-06";

const KEY_BYTES: usize = 32;
const KEY_NAME: &str = "data-links";

/// What signs links.
pub(crate) struct LinkKey(hmac::Key);

/// What a link says. Repository and digest are in its path, and under the signature.
#[derive(Serialize, Deserialize)]
struct Link {
    /// The registry.
    r: Uuid,
    /// When it expires, in seconds since 1970.
    e: i64,
    /// Kind of the holder.
    k: String,
    /// Id of the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<Uuid>,
    /// Name of the holder, for a repository-scoped token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    /// The workload that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<Uuid>,
}

impl LinkKey {
    /// From the vault; made the first time.
    pub(crate) async fn load(vault: &Vault, random: &dyn Random) -> Result<Self, IdentityError> {
        if let Some(kept) = vault.get(KEY_NAME).await? {
            return Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, kept.expose())));
        }
        let mut fresh = [0; KEY_BYTES];
        random.fill(&mut fresh);
        vault.put_new(KEY_NAME, &fresh).await?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &fresh)))
    }
}

/// What is signed: the link and what it is for, each behind its length.
fn signed(payload: &str, repository: &RepositoryName, digest: &Digest) -> String {
    format!("{}:{payload}{}:{repository}{digest}", payload.len(), repository.as_str().len())
}

/// What a link to a file beside the registries is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Reading it.
    Read,
    /// Writing it.
    Write,
}

impl FileAccess {
    /// As a storage service writes it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "cw",
        }
    }
}

/// What of a file link is in the query.
#[derive(Clone, Copy, Debug)]
pub struct FileLink<'a> {
    /// `se`: when it expires.
    pub expires: &'a str,
    /// `sp`: what it is good for.
    pub access: &'a str,
    /// `sig`.
    pub signature: &'a str,
}

/// What is signed for a file. Links to blobs begin with a number.
fn signed_file(path: &str, access: &str, expires: &str) -> String {
    format!("file:{access}:{}:{expires}{path}", expires.len())
}

impl Identity {
    /// The query of a link to a file that this server keeps beside the registries' content, as a storage service writes it. Whoever has it
    /// may use it: it says nothing about anybody.
    pub fn file_link(&self, path: &str, access: FileAccess, seconds: i64, now: Timestamp) -> String {
        let (expires, access) = (now.plus_seconds(seconds).to_string(), access.as_str());
        let signature = hmac::sign(&self.links.0, signed_file(path, access, &expires).as_bytes());
        let expires = expires.replace(':', "%3A");
        format!("sv={FILE_VERSION}&se={expires}&sr=b&sp={access}&sig={}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Looks at the link to a file.
    ///
    /// # Errors
    /// When it was not signed here for this file and this access, or has expired.
    pub fn file_linked(
        &self,
        path: &str,
        access: FileAccess,
        link: FileLink<'_>,
        now: Timestamp,
    ) -> Result<(), InvalidCredential> {
        let FileLink { expires, access: claimed, signature } = link;
        if claimed != access.as_str() || expires.len() + signature.len() > MAX_LINK_BYTES {
            return Err(InvalidCredential::BadSignature);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidCredential::Malformed)?;
        hmac::verify(&self.links.0, signed_file(path, claimed, expires).as_bytes(), &signature)
            .map_err(|_| InvalidCredential::BadSignature)?;
        let expires: Timestamp = expires.parse().map_err(|_| InvalidCredential::Malformed)?;
        if now < expires { Ok(()) } else { Err(InvalidCredential::Expired) }
    }

    /// A link for this caller to a blob. `workload` binds it to the workload by whose trust the caller came in.
    ///
    /// # Errors
    /// When the caller is nobody who could be recognised at the data endpoint.
    pub fn data_link(
        &self,
        rules: &RegistryRules,
        verified: &Verified,
        workload: Option<ResourceUid>,
        (repository, digest): (&RepositoryName, &Digest),
        now: Timestamp,
    ) -> Result<String, InvalidCredential> {
        let (k, o, n) = match &verified.caller {
            Caller::Anonymous => ("anonymous", None, None),
            Caller::Admin => ("admin", None, None),
            Caller::RepositoryToken(name) => {
                let token = rules.tokens.get(name.to_ascii_lowercase().as_str());
                let token = token.ok_or(InvalidCredential::UnknownCaller)?;
                ("repositoryToken", Some(token.uid.0), Some(name.to_string()))
            }
            Caller::Principal(principal) => (principal_kind(principal.kind), Some(principal.id.0), None),
        };
        let bound = verified.binding.map(|binding| binding.resource).or(workload);
        let link = Link {
            r: rules.uid.0,
            e: now.plus_seconds(LINK_SECONDS).unix_seconds(),
            k: k.to_owned(),
            o,
            n,
            w: bound.map(|uid| uid.0),
        };
        let payload = serde_json::to_vec(&link).map_err(|_| InvalidCredential::Malformed)?;
        let payload = URL_SAFE_NO_PAD.encode(payload);
        let signature = hmac::sign(&self.links.0, signed(&payload, repository, digest).as_bytes());
        Ok(format!("{payload}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Who a link was issued to, as they are now. It claims reading in its repository and nothing else.
    ///
    /// # Errors
    /// When it was not signed here for this blob, has expired, or its holder is gone or switched off.
    pub fn linked(
        &self,
        rules: &RegistryRules,
        link: &str,
        (repository, digest): (&RepositoryName, &Digest),
        now: Timestamp,
    ) -> Result<Verified, InvalidCredential> {
        if link.len() > MAX_LINK_BYTES {
            return Err(InvalidCredential::Malformed);
        }
        let (payload, signature) = link.split_once('.').ok_or(InvalidCredential::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidCredential::Malformed)?;
        hmac::verify(&self.links.0, signed(payload, repository, digest).as_bytes(), &signature)
            .map_err(|_| InvalidCredential::BadSignature)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| InvalidCredential::Malformed)?;
        let link: Link = serde_json::from_slice(&payload).map_err(|_| InvalidCredential::Malformed)?;
        let expires = Timestamp::from_unix_seconds(link.e);
        check_time(expires.plus_seconds(-LINK_SECONDS), expires, now)?;
        if link.r != rules.uid.0 {
            return Err(InvalidCredential::RegistryReplaced);
        }
        let holder = match (link.k.as_str(), link.o, link.n) {
            ("anonymous", None, None) => TokenHolder::Anonymous,
            ("admin", None, None) => TokenHolder::Admin,
            ("repositoryToken", Some(uid), Some(name)) => {
                TokenHolder::RepositoryToken(name.as_str().into(), ResourceUid(uid))
            }
            (kind, Some(id), None) => TokenHolder::Principal(
                postern_model::PrincipalId(id),
                parse_principal_kind(kind).ok_or(InvalidCredential::Malformed)?,
            ),
            _ => return Err(InvalidCredential::Malformed),
        };
        let repositories = vec![(repository.clone(), Actions::of(&[Action::Pull]))];
        Ok(Verified {
            caller: self.caller(&holder, rules)?,
            claim: Some(Arc::new(TokenClaim { repositories, ..TokenClaim::default() })),
            binding: link.w.map(|uid| TokenBinding { resource: ResourceUid(uid) }),
        })
    }
}

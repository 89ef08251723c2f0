//! What the tokens say: claims of registry tokens and of the authority's tokens, to and from the wire.

use std::sync::Arc;

use postern_access::{Actions, InvalidCredential, PrincipalKind, RoleAssignmentMode, TokenBinding, TokenClaim};
use postern_model::{PrincipalId, RegistryUid, ResourceUid, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Lifetime of a registry refresh token.
///
/// Source: Azure Container Registry, authentication overview (read 2026-11).
pub const REFRESH_TOKEN_SECONDS: i64 = 3 * 3600;
/// Lifetime of a registry access token.
pub const ACCESS_TOKEN_SECONDS: i64 = 75 * 60;
/// Lifetime of an authority token of a service principal.
pub const PRINCIPAL_TOKEN_SECONDS: i64 = 3600;
/// Lifetime of an authority token of a managed identity.
pub const MANAGED_IDENTITY_TOKEN_SECONDS: i64 = 24 * 3600;

const REGISTRY_ISSUER: &str = "Azure Container Registry";
const VERSION: &str = "1.0";
const REFRESH: &str = "refresh_token";
const ACCESS: &str = "access_token";

/// What a registry token is for; a token of one kind is worth nothing as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Gets access tokens.
    Refresh,
    /// Opens the data plane.
    Access,
}

/// A registry token's contents.
#[derive(Clone, Debug)]
pub(crate) struct RegistryToken {
    pub(crate) kind: TokenKind,
    pub(crate) registry: RegistryUid,
    pub(crate) login_server: Arc<str>,
    pub(crate) mode: RoleAssignmentMode,
    pub(crate) holder: TokenHolder,
    pub(crate) tenant: TenantId,
    /// The principal's application id.
    pub(crate) application: Option<Uuid>,
    pub(crate) claim: Arc<TokenClaim>,
    pub(crate) binding: Option<TokenBinding>,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

/// Who a registry token was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenHolder {
    Anonymous,
    Admin,
    RepositoryToken(Arc<str>, ResourceUid),
    Principal(PrincipalId, PrincipalKind),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RegistryClaims {
    jti: Uuid,
    sub: String,
    nbf: i64,
    exp: i64,
    iat: i64,
    iss: String,
    aud: String,
    version: String,
    grant_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    appid: Option<Uuid>,
    tenant: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permissions: Option<Permissions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<Vec<AccessEntry>>,
    #[serde(default)]
    roles: Vec<String>,
    postern_registry: Uuid,
    postern_mode: String,
    /// `anonymous`, `admin`, `repositoryToken`, or a principal's kind.
    postern_caller: String,
    /// Uid of the repository-scoped token, or object id of the principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postern_object: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postern_workload: Option<Uuid>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permissions {
    actions: Vec<String>,
    not_actions: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct AccessEntry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl RegistryToken {
    pub(crate) fn to_claims(&self, jti: Uuid) -> RegistryClaims {
        let (caller, object, sub) = match &self.holder {
            TokenHolder::Anonymous => ("anonymous", None, String::new()),
            TokenHolder::Admin => ("admin", None, "admin".to_owned()),
            TokenHolder::RepositoryToken(name, uid) => ("repositoryToken", Some(uid.0), name.to_string()),
            // CHOICE: the subject of a managed identity is its object id, of a service principal its application id.
            TokenHolder::Principal(id, PrincipalKind::ServicePrincipal) => {
                ("servicePrincipal", Some(id.0), self.application.unwrap_or(id.0).to_string())
            }
            TokenHolder::Principal(id, kind) => (principal_kind(*kind), Some(id.0), id.to_string()),
        };
        RegistryClaims {
            jti,
            sub,
            nbf: self.issued.unix_seconds(),
            exp: self.expires.unix_seconds(),
            iat: self.issued.unix_seconds(),
            iss: REGISTRY_ISSUER.to_owned(),
            aud: self.login_server.to_string(),
            version: VERSION.to_owned(),
            grant_type: match self.kind {
                TokenKind::Refresh => REFRESH.to_owned(),
                TokenKind::Access => ACCESS.to_owned(),
            },
            appid: self.application,
            tenant: self.tenant.0,
            permissions: (self.kind == TokenKind::Refresh)
                .then(|| Permissions { actions: Vec::new(), not_actions: Vec::new() }),
            access: (self.kind == TokenKind::Access).then(|| entries(&self.claim)),
            roles: Vec::new(),
            postern_registry: self.registry.0,
            postern_mode: self.mode.as_str().to_owned(),
            postern_caller: caller.to_owned(),
            postern_object: object,
            postern_workload: self.binding.map(|binding| binding.resource.0),
        }
    }

    /// Reads claims whose signature has been checked. Whether they fit the request is checked elsewhere.
    pub(crate) fn from_claims(claims: RegistryClaims) -> Result<Self, InvalidCredential> {
        if claims.iss != REGISTRY_ISSUER {
            return Err(InvalidCredential::WrongAudience);
        }
        let kind = match claims.grant_type.as_str() {
            REFRESH => TokenKind::Refresh,
            ACCESS => TokenKind::Access,
            _ => return Err(InvalidCredential::WrongKind),
        };
        let mode = [RoleAssignmentMode::Legacy, RoleAssignmentMode::Abac]
            .into_iter()
            .find(|mode| mode.as_str() == claims.postern_mode)
            .ok_or(InvalidCredential::Malformed)?;
        let holder = match (claims.postern_caller.as_str(), claims.postern_object) {
            ("anonymous", None) => TokenHolder::Anonymous,
            ("admin", None) => TokenHolder::Admin,
            ("repositoryToken", Some(uid)) => {
                TokenHolder::RepositoryToken(claims.sub.as_str().into(), ResourceUid(uid))
            }
            (kind, Some(id)) => {
                TokenHolder::Principal(PrincipalId(id), parse_principal_kind(kind).ok_or(InvalidCredential::Malformed)?)
            }
            _ => return Err(InvalidCredential::Malformed),
        };
        Ok(Self {
            kind,
            registry: RegistryUid(claims.postern_registry),
            login_server: claims.aud.into(),
            mode,
            holder,
            tenant: TenantId(claims.tenant),
            application: claims.appid,
            claim: Arc::new(claim(claims.access.unwrap_or_default())?),
            binding: claims.postern_workload.map(|uid| TokenBinding { resource: ResourceUid(uid) }),
            issued: Timestamp::from_unix_seconds(claims.nbf),
            expires: Timestamp::from_unix_seconds(claims.exp),
        })
    }
}

fn entries(claim: &TokenClaim) -> Vec<AccessEntry> {
    let repositories = claim.repositories.iter().map(|(name, actions)| AccessEntry {
        kind: "repository".into(),
        name: name.to_string(),
        actions: actions.iter().map(|action| action.as_str().to_owned()).collect(),
    });
    let catalogs = [("catalog", claim.catalog), ("deleted_catalog", claim.deleted_catalog)].into_iter();
    let catalogs = catalogs.filter(|(_, is_claimed)| *is_claimed).map(|(name, _)| AccessEntry {
        kind: "registry".into(),
        name: name.into(),
        actions: vec!["*".into()],
    });
    repositories.chain(catalogs).collect()
}

fn claim(entries: Vec<AccessEntry>) -> Result<TokenClaim, InvalidCredential> {
    let mut claim = TokenClaim::default();
    for entry in entries {
        match entry.kind.as_str() {
            "repository" => {
                let name = entry.name.parse().map_err(|_| InvalidCredential::Malformed)?;
                let actions =
                    entry.actions.iter().fold(Actions::NONE, |all, word| all.union(Actions::from_scope_word(word)));
                claim.repositories.push((name, actions));
            }
            "registry" if entry.name == "catalog" => claim.catalog |= entry.actions.iter().any(|word| word == "*"),
            "registry" if entry.name == "deleted_catalog" => {
                claim.deleted_catalog |= entry.actions.iter().any(|word| word == "*");
            }
            _ => return Err(InvalidCredential::Malformed),
        }
    }
    Ok(claim)
}

const PRINCIPAL_KINDS: [(PrincipalKind, &str); 5] = [
    (PrincipalKind::User, "user"),
    (PrincipalKind::Group, "group"),
    (PrincipalKind::ServicePrincipal, "servicePrincipal"),
    (PrincipalKind::ManagedIdentity, "managedIdentity"),
    (PrincipalKind::FirstParty, "firstParty"),
];

pub(crate) fn principal_kind(kind: PrincipalKind) -> &'static str {
    PRINCIPAL_KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

pub(crate) fn parse_principal_kind(text: &str) -> Option<PrincipalKind> {
    PRINCIPAL_KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
}

/// A token of the authority: proves a principal to one audience.
///
/// Source: Microsoft identity platform, access token claims reference, v1.0 tokens (read 2026-11).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AuthorityClaims {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    pub(crate) oid: Uuid,
    pub(crate) sub: Uuid,
    pub(crate) tid: Uuid,
    pub(crate) appid: Uuid,
    pub(crate) idtyp: String,
    pub(crate) ver: String,
    pub(crate) uti: Uuid,
    /// What a user lets the client do: all that the user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scp: Option<String>,
    /// A user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upn: Option<String>,
    /// Resource id that the managed identity belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xms_mirid: Option<String>,
    /// The workload that the token was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) postern_workload: Option<Uuid>,
}

impl AuthorityClaims {
    pub(crate) fn binding(&self) -> Option<TokenBinding> {
        self.postern_workload.map(|uid| TokenBinding { resource: ResourceUid(uid) })
    }
}

/// Whether a token that is valid over this span may be used now.
pub(crate) fn check_time(not_before: Timestamp, expires: Timestamp, now: Timestamp) -> Result<(), InvalidCredential> {
    if not_before <= now && now < expires { Ok(()) } else { Err(InvalidCredential::Expired) }
}

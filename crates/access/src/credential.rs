use std::fmt;
use std::sync::Arc;

use postern_model::{PrincipalId, RepositoryName, ResourceUid};

use crate::Actions;

/// What the request's credentials amount to. The cryptography happened before; this is its result.
#[derive(Clone, Debug, Default)]
pub enum Credential {
    /// There were none.
    #[default]
    None,
    /// There were some, and they do not hold.
    Invalid(InvalidCredential),
    /// They hold.
    Verified(Verified),
}

/// Why credentials do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidCredential {
    /// Not a token or header this server can read.
    #[error("the credentials are malformed")]
    Malformed,
    /// The signature does not fit a current key.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// Expired, or not valid yet.
    #[error("the token has expired or is not valid yet")]
    Expired,
    /// Issued for another registry or service.
    #[error("the token was issued for another audience")]
    WrongAudience,
    /// Issued by or for another tenant.
    #[error("the token belongs to another tenant")]
    WrongTenant,
    /// A refresh token where an access token is needed, or the other way round.
    #[error("the token is of another kind")]
    WrongKind,
    /// Issued before the registry was deleted and created again.
    #[error("the token was issued for an earlier registry of this name")]
    RegistryReplaced,
    /// Issued before the registry's role assignment mode changed.
    #[error("the token was issued under another role assignment mode")]
    ModeChanged,
    /// The registry does not take tokens for the resource manager's audience.
    #[error("this registry does not accept tokens with the resource manager's audience")]
    ArmAudienceRefused,
    /// The caller does not exist any more, or never did.
    #[error("the caller is not known")]
    UnknownCaller,
    /// The caller exists and is switched off.
    #[error("the caller is disabled")]
    Disabled,
    /// User name or password is wrong.
    #[error("user name or password is wrong")]
    WrongPassword,
}

/// Credentials that hold.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who calls.
    pub caller: Caller,
    /// What the presented token allows; `None` for direct credentials, which limit nothing.
    pub claim: Option<Arc<TokenClaim>>,
    /// The workload that the token was issued to, if it was issued to one.
    pub binding: Option<TokenBinding>,
}

/// Who calls.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// The registry's admin user.
    Admin,
    /// A repository-scoped token, by name.
    RepositoryToken(Arc<str>),
    /// A user, service principal or managed identity.
    Principal(Arc<Principal>),
}

/// A directory object that calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its object id.
    pub id: PrincipalId,
    /// What it is.
    pub kind: PrincipalKind,
    /// What people call it.
    pub display_name: Box<str>,
    /// The groups it belongs to, transitively.
    pub groups: Vec<PrincipalId>,
}

/// What kind of directory object a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A group; it has rights but never calls.
    Group,
    /// An application's service principal.
    ServicePrincipal,
    /// A managed identity of either kind.
    ManagedIdentity,
    /// A service of this server itself, such as the scanner.
    FirstParty,
}

/// The `access` claim of an access token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenClaim {
    /// Actions per repository.
    pub repositories: Vec<(RepositoryName, Actions)>,
    /// Whether the catalog may be listed.
    pub catalog: bool,
    /// Whether the catalog of soft-deleted content may be listed.
    pub deleted_catalog: bool,
}

impl TokenClaim {
    /// What the claim allows on a repository.
    pub fn repository(&self, name: &RepositoryName) -> Actions {
        self.repositories
            .iter()
            .filter(|(claimed, _)| claimed == name)
            .fold(Actions::NONE, |all, (_, actions)| all.union(*actions))
    }
}

/// Ties a token to the workload it was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBinding {
    /// The workload's resource.
    pub resource: ResourceUid,
}

/// Who owns what a request starts, an upload session above all; stable over token renewals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Any anonymous caller.
    Anonymous,
    /// The admin user.
    Admin,
    /// A repository-scoped token of this uid.
    RepositoryToken(ResourceUid),
    /// A directory object.
    Principal(PrincipalId),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Admin => f.write_str("admin"),
            Self::RepositoryToken(uid) => write!(f, "token:{uid}"),
            Self::Principal(id) => write!(f, "principal:{id}"),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Admin => f.write_str("the admin user"),
            Self::RepositoryToken(name) => write!(f, "repository token `{name}`"),
            Self::Principal(principal) => write!(f, "`{}` ({})", principal.display_name, principal.id),
        }
    }
}

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! uuid_newtypes {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

uuid_newtypes! {
    /// The object id of a user, group, service principal or managed identity.
    PrincipalId,
    /// A directory tenant.
    TenantId,
    /// The immutable id of a registry: a registry deleted and created again under the same name has another one.
    RegistryUid,
    /// The immutable id of any resource, as [`RegistryUid`] is for registries.
    ResourceUid,
    /// One request's id: in the refusal's body, the response header, the audit record and the log line.
    CorrelationId,
    /// An open blob upload.
    UploadId,
}

impl From<ResourceUid> for RegistryUid {
    fn from(uid: ResourceUid) -> Self {
        Self(uid.0)
    }
}

/// Whose a managed identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityKind {
    /// Lives and dies with one resource.
    SystemAssigned,
    /// A resource of its own, which others may be given.
    UserAssigned,
}

impl fmt::Display for IdentityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemAssigned => "system-assigned",
            Self::UserAssigned => "user-assigned",
        })
    }
}

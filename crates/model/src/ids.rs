use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::{Random, Timestamp};

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
    /// One request's id: in the refusal's body, the response header, the audit record and the log line. Begins with its time.
    CorrelationId,
    /// An open blob upload.
    UploadId,
}

impl CorrelationId {
    /// A new id that begins with the time: records in the order of their ids are in the order of time, more or less.
    ///
    /// Source: RFC 9562, section 5.7, UUID version 7 with the microseconds as its fraction.
    pub fn new(now: Timestamp, random: &dyn Random) -> Self {
        let micros = u64::try_from(now.unix_micros()).unwrap_or_default();
        let mut rest = [0; 10];
        random.fill(&mut rest);
        // 12 bits hold a thousand microseconds four times over.
        if let Some(fraction) = rest.first_chunk_mut() {
            *fraction = u16::try_from((micros % 1000) * 4).unwrap_or_default().to_be_bytes();
        }
        Self(uuid::Builder::from_unix_timestamp_millis(micros / 1000, &rest).into_uuid())
    }

    /// The time it begins with, in milliseconds since 1970; `None` for an id that begins with none.
    pub fn unix_ms(self) -> Option<i64> {
        let first = u64::from_be_bytes(*self.0.as_bytes().first_chunk()?);
        let version = (first >> 12) & 0xf;
        if version == 7 { i64::try_from(first >> 16).ok() } else { None }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Random for Ones {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0xff);
        }
    }

    #[test]
    fn correlation_ids_begin_with_their_time() {
        let moment = Timestamp::from_unix_micros(1_795_308_729_630_999);
        let id = CorrelationId::new(moment, &Ones);
        assert_eq!(id.to_string(), "01a200bd-351e-7f9c-bfff-ffffffffffff");
        assert_eq!(id.unix_ms(), Some(1_795_308_729_630));
        assert_eq!(CorrelationId(Uuid::from_u128(7)).unix_ms(), None);
        let later = CorrelationId::new(Timestamp::from_unix_micros(1_795_308_729_631_000), &Ones);
        assert!(later > id);
    }
}

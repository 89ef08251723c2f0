//! Names and values that every other crate speaks in.
//!
//! ```text
//!  text from outside ──FromStr──▶ value ──Display──▶ text
//! ```
//!
//! Each type is parsed once, at the edge, and is valid from then on. Deliberately absent: input and
//! output, hashing, clocks, random numbers, and wire formats (serde lives with the wire types).
//!
//! ```
//! use postern_model::{Reference, RepositoryName, ResourceId};
//!
//! let name: RepositoryName = "team/app".parse()?;
//! let reference: Reference = "1.0".parse()?;
//! assert_eq!(format!("{name}:{reference}"), "team/app:1.0");
//!
//! let id: ResourceId = "/subscriptions/S/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/Reg".parse()?;
//! assert_eq!(id, id.to_string().to_lowercase().parse()?); // ids compare without case …
//! assert_eq!(id.name(), "Reg");                           // … and keep it
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod digest;
mod environment;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod ids;
mod names;
mod network;
mod resource_id;
mod secret;
mod timestamp;

pub use digest::{Algorithm, Digest, DigestError};
pub use environment::{Clock, Random};
pub use ids::{CorrelationId, IdentityKind, PrincipalId, RegistryUid, ResourceUid, TenantId, UploadId};
pub use names::{MAX_REPOSITORY_NAME_BYTES, NameError, Reference, RegistryName, RepositoryName, Tag};
pub use network::{IpRule, IpRuleError, IpRuleMode, source_of};
pub use resource_id::{ResourceId, ResourceIdError};
pub use secret::Secret;
pub use timestamp::{Timestamp, TimestampError};

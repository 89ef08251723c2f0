//! ARM resource documents: what the configuration of a server consists of.
//!
//! ```text
//!  text ──import──▶ Document ──merge (PUT, PATCH)──▶ Resource ──▶ Estate ──rules──▶ access::RegistryRules
//!                                                                   └──project(api-version)──▶ Document
//! ```
//!
//! A document is kept as it was given, unknown properties included; typed views are read from it. The resource manager, `apply`,
//! audits and what-ifs share this crate. Deliberately absent: input and output, clocks, random numbers, HTTP.
//! **Invariant:** what cannot be read, or contradicts itself, compiles into rules that deny, and is reported as a [`Problem`].
//!
//! ```
//! use postern_estate::{Estate, import};
//!
//! let documents = import::parse(r#"{"id": "/subscriptions/s/resourceGroups/g", "location": "eastus"}"#, None)?;
//! let estate = Estate::from_documents("azurecr.io.localhost", documents)?;
//! assert_eq!(estate.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assignment;
mod compile;
mod directory_objects;
mod estate;
mod export;
mod federation;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod identity;
pub mod import;
pub mod merge;
mod packed;
mod project;
mod refusal;
mod registry;
mod resource;
mod rights;
mod roles;
mod schema;
mod sku;
mod tasks;
pub mod types;
pub mod validate;
mod version;

pub use assignment::{Assignment, role_id, scope_of};
pub use compile::{Compiled, Problem};
pub use directory_objects::{Principal, members_of};
pub use estate::{Estate, EstateError};
pub use export::{SERVER_ONLY, WEBHOOK_CALLBACK, export};
pub use federation::{FederatedCredential, OutsideIdentity};
pub use packed::Packed;
pub use refusal::{Refusal, RefusalCode};
pub use registry::RegistryView;
pub use resource::{Document, Resource};
pub use rights::Rights;
pub use roles::custom_role;
pub use sku::{Limits, RequestRate, RequestRates, Sku};
pub use tasks::{REVEAL_TASK, hide_task_secrets, keep_task_secrets};
pub use version::{ApiVersion, ApiVersionError};

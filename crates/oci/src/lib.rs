//! The data plane: the OCI distribution API, the registry's own repository API, and the token endpoints.
//!
//! ```text
//!  request ──▶ host ──▶ registry's rules ─┐
//!          ──▶ route ──▶ operation ───────┼──▶ access::evaluate ──deny──▶ error table ──▶ response
//!          ──▶ peer, credentials ─────────┘          │
//!                                                  permit ──▶ handler ──▶ store
//! ```
//!
//! **Invariants.** A handler gets a permit or is not called. Whoever may not enter learns nothing of what exists. Bodies
//! stream both ways; whatever is held in memory has a named bound. Every answer carries a correlation id, and every decision
//! leaves one record, also when the client goes away before the answer.
//!
//! Deliberately absent: how a decision is made (`access`), what tokens say (`identity`), where bytes lie (`store`).

mod blobs;
mod body;
mod call;
mod challenge;
mod deleted;
mod endpoints;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod import;
mod manifest;
mod manifests;
mod page;
mod query;
mod range;
mod referrers;
mod reply;
mod repositories;
mod route;
mod tags;
mod tokens;
mod turn;
mod uploads;
mod wall;

#[cfg(test)]
mod tests;

pub use body::Limits;
pub use endpoints::{ENDPOINTS, Endpoint};
pub use error::{Condition, Entry, table};
pub use import::Importer;
pub use manifest::{MAX_ANNOTATION_BYTES, MAX_CHILDREN, MAX_JSON_DEPTH, MAX_LAYERS};
pub use page::MAX_PAGE;
pub use referrers::MAX_REFERRERS_PER_PAGE;
pub use route::MAX_TAGS_PER_PUSH;
pub use wall::{DataPlane, OciState, PlainHttp, router};

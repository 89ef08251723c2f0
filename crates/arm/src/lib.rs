//! The control plane: the resource manager's API.
//!
//! ```text
//!  request ─▶ path, api-version, body ─▶ caller ─▶ plan on the estate: may the caller? does it fit? ─▶ directory ─▶ answer
//!                                                   └─ provider: completes and checks its own types
//! ```
//!
//! Authorization and validation look at the same estate that the change is made to: nothing comes in between. A resource of a type
//! that no provider knows is kept as it is. Deliberately absent: what a registry's rules mean (`postern-access`), the data plane.
//! **Invariant:** no handler reads or changes a resource before the caller's rights were looked at.

mod actions;
mod authorization;
mod call;
mod credentials;
mod departing;
mod endpoints;
mod error;
mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod graph;
mod import;
mod lists;
mod metadata;
mod operations;
mod path;
mod providers;
mod reply;
mod resources;
mod runs;
mod service_tags;
mod turn;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use postern_audit::Audit;
use postern_identity::{Identity, RequestLimiter};
use postern_model::{Clock, IpRuleMode, Random};
use postern_runs::Runs;
use postern_store::{Directory, ImportExecutor, Store};
use tokio::sync::watch;

pub use departing::Departing;
pub use endpoints::ENDPOINTS;
pub use graph::GRAPH_ENDPOINTS;
pub use service_tags::{ServiceTags, ServiceTagsError};

/// What the resource manager works with.
pub struct ArmState {
    /// The live resources.
    pub directory: Directory,
    /// Who calls.
    pub identity: Arc<Identity>,
    /// Credentials, and the content of registries that are deleted.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub random: Arc<dyn Random>,
    /// This API's base address without a slash at the end, for requests that name no host: `https://localhost:8443`.
    pub arm_endpoint: String,
    /// Which addresses the IP rules of registries may name.
    pub ip_rule_mode: IpRuleMode,
    /// Where the decisions of imports are recorded.
    pub audit: Audit,
    /// Who carries imports out.
    pub importer: Arc<dyn ImportExecutor>,
    /// The address that the import service is seen with on the public path.
    pub import_address: IpAddr,
    /// How long a request waits for what it began: an operation that ends sooner is answered at once.
    pub patience: Duration,
    /// Agent pools that are gone and still told of.
    pub departing: Departing,
    /// Runs of tasks, quick builds and quick runs.
    pub runs: Runs,
    /// Which addresses services have.
    pub service_tags: ServiceTags,
    /// Holds callers to the documented numbers of requests, if it is there.
    pub requests: Option<Arc<RequestLimiter>>,
}

/// The resource manager. A `postern_identity::Peer` and a `postern_model::CorrelationId` among a request's extensions are its own.
pub fn router(state: Arc<ArmState>) -> Router {
    Router::new()
        .route("/v1.0/{*path}", any(call::serve_graph))
        .route("/beta/{*path}", any(call::serve_graph))
        .fallback(call::serve)
        .with_state(state)
}

/// Carries out what requests began, until `stop` says so. What an earlier process was at goes on.
pub async fn carry_out(state: Arc<ArmState>, stop: watch::Receiver<bool>) {
    import::carry_out(state, stop).await;
}

#[cfg(test)]
mod tests;

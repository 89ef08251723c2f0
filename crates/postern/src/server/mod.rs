//! From the socket to the router: place, TLS, tunnel, host name, correlation id.

mod connection;
mod counted;
mod leftover;
mod listener;
mod names;
mod operations;
mod pace;
mod sources;
mod tunnel;

pub(crate) use counted::Counted;
pub(crate) use listener::bind;
pub(crate) use names::Names;
#[cfg(any(test, fuzzing))]
pub(crate) use names::{Class, Target, split_host, target};
pub(crate) use operations::{Operations, PATHS as OPERATIONS_PATHS};
pub(crate) use sources::Sources;

use std::sync::Arc;
use std::time::Duration;

use postern_identity::Identity;
use postern_model::{Clock, Random};

use crate::places::Places;
use crate::proxies::Proxies;

/// Everything a connection needs.
pub(crate) struct Server {
    pub(crate) places: Places,
    pub(crate) proxies: Proxies,
    pub(crate) names: Names,
    pub(crate) identity: Arc<Identity>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) routers: Routers,
    pub(crate) operations: Operations,
    pub(crate) counted: Counted,
    pub(crate) bounds: Bounds,
    pub(crate) sources: Arc<Sources>,
}

/// Who answers what.
pub(crate) struct Routers {
    pub(crate) data_plane: postern_oci::DataPlane,
    /// The data plane's token endpoints: the same, behind a router.
    pub(crate) tokens: axum::Router,
    pub(crate) resource_manager: axum::Router,
    pub(crate) authority: axum::Router,
    pub(crate) postern: axum::Router,
}

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) handshake: Duration,
    pub(crate) headers: Duration,
    /// How long a little of a body may be waited for.
    pub(crate) stall: Duration,
    /// How long a connection may be open for nothing.
    pub(crate) idle: Duration,
}

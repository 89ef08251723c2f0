use std::net::IpAddr;
use std::sync::Arc;

use postern_model::{IdentityKind, PrincipalId, ResourceId, ResourceUid};

/// Where a request comes from, established from facts the caller cannot choose.
#[derive(Clone, Debug)]
pub struct Origin {
    /// How it came in.
    pub ingress: Ingress,
    /// The client's address as the gate sees it.
    pub address: IpAddr,
    /// The place's name, for the trace.
    pub place: Arc<str>,
    /// Whether the place is a simulated one.
    pub simulated: bool,
    /// What the connection proved about the workload behind it.
    pub workload: WorkloadState,
}

/// The way in that a connection took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// The public endpoint.
    Public,
    /// A private endpoint (`Microsoft.Network/privateEndpoints`), from a network that may use it.
    PrivateEndpoint(ResourceId),
    /// The public endpoint from a subnet with a service endpoint.
    Subnet(ResourceId),
    /// A private endpoint's address, but not from its network or a declared peer.
    Misrouted(ResourceId),
}

/// What is known of the workload behind the connection.
#[derive(Clone, Debug, Default)]
pub enum WorkloadState {
    /// No workload certificate was presented.
    #[default]
    None,
    /// One was presented and is not accepted.
    Rejected(WorkloadRejection),
    /// One was presented and holds.
    Verified(Arc<Workload>),
}

/// Why a workload certificate does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WorkloadRejection {
    /// Its validity has ended, or not begun.
    #[error("the workload certificate has expired or is not valid yet")]
    Expired,
    /// Signed by another authority.
    #[error("the workload certificate was not issued by this server")]
    UnknownIssuer,
    /// The certificate cannot be read, or does not name exactly one workload.
    #[error("the workload certificate does not name exactly one workload")]
    Malformed,
    /// The resource it names is gone, or was created anew.
    #[error("the workload's resource no longer exists")]
    ResourceGone,
    /// It came in a `Client-Cert` header that did not come from a configured proxy.
    #[error("the workload certificate came in a header, and not from a proxy that may send it")]
    NotFromProxy,
}

/// A workload that proved itself by its certificate: the service context of the gate.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The resource that calls: a container group, a task, a workspace.
    pub resource: ResourceId,
    /// `namespace/type` of the resource, the key into the trusted services.
    pub resource_type: Box<str>,
    /// The resource's immutable id.
    pub uid: ResourceUid,
    /// The managed identities it may use: at most one system-assigned, any number of user-assigned.
    pub identities: Vec<WorkloadIdentity>,
}

/// One identity that a workload may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadIdentity {
    /// The identity's object id.
    pub principal: PrincipalId,
    /// Whose it is.
    pub kind: IdentityKind,
}

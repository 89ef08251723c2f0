use std::net::IpAddr;
use std::sync::Arc;

use postern_access::{Ingress, Origin, WorkloadRejection, WorkloadState};
use postern_model::{ResourceId, ResourceUid, Timestamp};

use crate::Identity;

/// The other end of a connection: facts that the caller cannot choose. A request extension on every request of it.
///
/// For a request that came through a gateway's tunnel these are the facts of the outer connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The place the connection came in by.
    pub place: Arc<str>,
    /// How it came in.
    pub ingress: Ingress,
    /// The client's address as the gate sees it.
    pub address: IpAddr,
    /// Whether the place is a simulated one.
    pub simulated: bool,
    /// What its client certificate amounts to.
    pub certificate: PeerCertificate,
}

/// What a connection's client certificate amounts to, once per handshake.
#[derive(Clone, Debug, Default)]
pub enum PeerCertificate {
    /// There was none.
    #[default]
    None,
    /// Signed by this server's workload authority, and read.
    Presented(Arc<WorkloadClaim>),
    /// It does not count.
    Rejected(WorkloadRejection),
}

/// What a workload certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadClaim {
    /// The resource it names.
    pub resource: ResourceId,
    /// The resource's immutable id.
    pub uid: ResourceUid,
    /// First moment it is valid.
    pub not_before: Timestamp,
    /// Last moment it is valid.
    pub not_after: Timestamp,
}

impl Peer {
    /// Where a request of this connection comes from, as of now: certificate expiry and the resource's existence are looked at
    /// for each request, because connections outlive both.
    pub fn origin(&self, identity: &Identity, now: Timestamp) -> Origin {
        Origin {
            ingress: self.ingress.clone(),
            address: self.address,
            place: Arc::clone(&self.place),
            simulated: self.simulated,
            workload: self.workload(identity, now),
        }
    }

    /// The workload behind the connection, as of now.
    pub fn workload(&self, identity: &Identity, now: Timestamp) -> WorkloadState {
        match &self.certificate {
            PeerCertificate::None => WorkloadState::None,
            PeerCertificate::Rejected(why) => WorkloadState::Rejected(*why),
            PeerCertificate::Presented(claim) => identity.workload(claim, now),
        }
    }
}

//! The workloads of the rows: their resources, identities and certificates.

use std::collections::BTreeMap;

use postern_access::{IMPORTERS, RUNS, SCANNERS, TASKS};
use postern_identity::{FirstPartyService, Identity, PeerCertificate};
use postern_model::{PrincipalId, ResourceId, Timestamp};
use postern_store::Directory;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::matrix::{Identity as OfWorkload, REGISTRY, Rejected, Row, Workload, WorkloadKind};

/// The user-assigned identity that workloads share.
pub(super) const USER_IDENTITY: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";

/// A workload of the rows, by what makes it another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) kind: WorkloadKind,
    pub(super) system: bool,
    pub(super) user: bool,
    /// Which of those that are otherwise alike.
    pub(super) which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The row's own.
    Own,
    /// One that a stolen token was issued to.
    Other,
    /// One that is deleted after it got its certificate.
    Gone,
}

impl Kept {
    /// The row's workload; for a row without one the one whose identity calls.
    pub(super) fn of(row: &Row) -> Self {
        let identities = match &row.from.workload {
            Some(workload) => workload.identities.clone(),
            None => vec![OfWorkload::System, OfWorkload::User],
        };
        Self {
            kind: row.from.workload.as_ref().map_or(WorkloadKind::ContainerGroup, |workload| workload.kind),
            system: identities.contains(&OfWorkload::System),
            user: identities.contains(&OfWorkload::User),
            which: Which::Own,
        }
    }

    /// Another container group with the same user-assigned identity.
    pub(super) const fn other() -> Self {
        Self { kind: WorkloadKind::ContainerGroup, system: false, user: true, which: Which::Other }
    }

    /// One that is gone.
    pub(super) const fn gone() -> Self {
        Self { kind: WorkloadKind::ContainerGroup, system: true, user: false, which: Which::Gone }
    }

    pub(super) fn first_party(self) -> Option<FirstPartyService> {
        match self.kind.resource_type() {
            SCANNERS => Some(FirstPartyService::Scanner),
            IMPORTERS => Some(FirstPartyService::Importer),
            _ => None,
        }
    }

    /// Its resource id.
    pub(super) fn id(self) -> String {
        let mut name = match self.which {
            Which::Own => "workload",
            Which::Other => "other",
            Which::Gone => "gone",
        }
        .to_owned();
        for (has, suffix) in [(self.system, "-system"), (self.user, "-user")] {
            if has {
                name.push_str(suffix);
            }
        }
        match self.kind.resource_type() {
            TASKS => format!("{REGISTRY}/tasks/{name}"),
            RUNS => format!("{REGISTRY}/runs/{name}"),
            other => format!("/subscriptions/5ub/resourceGroups/group/providers/{other}/{name}"),
        }
    }

    /// The object id of its system-assigned identity.
    pub(super) fn system_principal(self) -> PrincipalId {
        let number = self.kind as u128 * 16 + u128::from(self.user) * 4 + self.which as u128;
        PrincipalId(Uuid::from_u128(0x1000 + number))
    }

    fn document(self) -> Value {
        let kind = match (self.system, self.user) {
            (false, false) => return json!({"location": "local", "properties": {}}),
            (true, false) => "SystemAssigned",
            (false, true) => "UserAssigned",
            (true, true) => "SystemAssigned, UserAssigned",
        };
        let mut identity = json!({"type": kind});
        if let Some(identity) = identity.as_object_mut() {
            if self.system {
                identity.insert("principalId".to_owned(), json!(self.system_principal().to_string()));
            }
            if self.user {
                identity.insert("userAssignedIdentities".to_owned(), json!({USER_IDENTITY: {}}));
            }
        }
        json!({"location": "local", "identity": identity, "properties": {}})
    }
}

/// Every workload of these rows, and those that stolen tokens and stale certificates need.
pub(super) fn all<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeMap<String, Kept> {
    let kept = rows.map(Kept::of).chain([Kept::other(), Kept::gone()]);
    kept.filter(|kept| kept.first_party().is_none()).map(|kept| (kept.id(), kept)).collect()
}

/// Their documents.
pub(super) fn documents(workloads: &BTreeMap<String, Kept>) -> impl Iterator<Item = (String, Value)> {
    workloads.iter().map(|(id, kept)| (id.clone(), kept.document()))
}

/// Signs workload certificates for one key.
pub(super) struct Certificates {
    request: String,
    key: KeyPair,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let request = CertificateParams::default().serialize_request(&key).expect("a signing request can be made");
        Self { request: request.pem().expect("a signing request has a text form"), key }
    }

    /// The key, in DER.
    pub(super) fn key(&self) -> Vec<u8> {
        self.key.serialize_der()
    }

    /// A certificate that anybody could make, for another purpose than a workload's: bytes that are no certificate do not get
    /// through a handshake.
    pub(super) fn for_another_purpose(&self) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params.self_signed(&self.key).expect("a certificate can be made").der().clone()
    }

    /// A certificate of the workload, from this moment.
    pub(super) fn issue(
        &self,
        identity: &Identity,
        directory: &Directory,
        workload: Kept,
        now: Timestamp,
    ) -> CertificateDer<'static> {
        let issued = if let Some(service) = workload.first_party() {
            identity.first_party_certificate(service, &self.request, now)
        } else {
            let id: ResourceId = workload.id().parse().expect("a resource id");
            let resource = directory.resource(&id).unwrap_or_else(|| panic!("{id} exists"));
            identity.issue_workload_certificate(&resource, &self.request, now)
        };
        let issued = issued.expect("a certificate is issued");
        CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("a certificate can be read")
    }
}

/// What stale, foreign and unreadable certificates there are.
pub(super) struct Unaccepted {
    pub(super) foreign: CertificateDer<'static>,
    pub(super) gone: CertificateDer<'static>,
    pub(super) malformed: CertificateDer<'static>,
}

impl Unaccepted {
    /// The certificate that the row's workload presents in place of a good one.
    pub(super) fn of(
        &self,
        workload: &Workload,
        issue: impl FnOnce() -> CertificateDer<'static>,
    ) -> Option<CertificateDer<'static>> {
        Some(match workload.rejected? {
            Rejected::Expired => issue(),
            Rejected::UnknownIssuer => self.foreign.clone(),
            Rejected::Malformed => self.malformed.clone(),
            Rejected::ResourceGone => self.gone.clone(),
        })
    }
}

/// As a connection's handshake judges it.
pub(super) fn presented(identity: &Identity, leaf: &CertificateDer<'static>, now: Timestamp) -> PeerCertificate {
    identity.peer_certificate(Some(std::slice::from_ref(leaf)), now)
}

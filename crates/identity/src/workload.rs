//! Workload certificates: what a workload proves itself with, and what is made of it.

use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use postern_access::{
    AGENTS, IMPORTERS, Principal, PrincipalKind, RUNS, SCANNERS, TASKS, TASKS_SERVICE, Workload, WorkloadIdentity,
    WorkloadRejection, WorkloadState,
};
use postern_estate::Resource;
use postern_model::{IdentityKind, PrincipalId, ResourceId, ResourceUid, TenantId, Timestamp};
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, SanType};
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Identity;
use crate::certificates::Leaf;
use crate::error::WorkloadCertificateError;
use crate::peer::{PeerCertificate, WorkloadClaim};

/// Lifetime of a workload certificate.
pub const WORKLOAD_CERTIFICATE_SECONDS: i64 = 3600;
/// Largest certificate signing request.
pub const MAX_SIGNING_REQUEST_BYTES: usize = 16 * 1024;
/// A client sends its leaf and perhaps an intermediate; nobody needs more.
pub(crate) const MAX_CHAIN: usize = 4;
const SCHEME: &str = "spiffe://";

/// Everything but what may stand in the path of a URI as it is.
const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\\')
    .add(b'^')
    .add(b'|')
    .add(b'[')
    .add(b']');

/// A certificate for a workload's key.
#[derive(Clone, Debug)]
pub struct WorkloadCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// The authority of this server's own certificate: what the workload must trust to reach it.
    pub ca_pem: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// A service of this server itself that calls registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPartyService {
    /// The vulnerability scanner; it calls as itself.
    Scanner,
    /// The import service; it calls for whoever asked for the import.
    Importer,
    /// The workers of the shared pool. It is also who runs log in to their own registry as, unless they are given an identity.
    Agents,
}

impl FirstPartyService {
    /// Every service.
    pub const ALL: [Self; 3] = [Self::Scanner, Self::Importer, Self::Agents];

    /// The id under which it appears in certificates and traces. There is no such resource to manage.
    pub const fn resource_id(self) -> &'static str {
        match self {
            Self::Scanner => "/providers/Microsoft.Security/scanners/defender",
            Self::Importer => "/providers/Microsoft.ContainerRegistry/importers/acr",
            Self::Agents => "/providers/Microsoft.ContainerRegistry/agents/shared",
        }
    }

    /// Its immutable id, the same everywhere.
    pub const fn uid(self) -> ResourceUid {
        ResourceUid(Uuid::from_u128(match self {
            Self::Scanner => 0x0000_0000_0000_4000_8000_5ca9_9e12_0001,
            Self::Importer => 0x0000_0000_0000_4000_8000_1390_27e2_0002,
            Self::Agents => 0x0000_0000_0000_4000_8000_a6e2_7500_0003,
        }))
    }

    /// The principal it calls as, if it calls as itself.
    pub const fn principal(self) -> Option<PrincipalId> {
        match self {
            Self::Scanner => Some(PrincipalId(Uuid::from_u128(0x0000_0000_0000_4000_9000_5ca9_9e12_0001))),
            Self::Importer => None,
            Self::Agents => Some(TASKS_SERVICE),
        }
    }

    /// What people call it.
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::Scanner => "Microsoft Defender for Containers",
            Self::Importer => "Container Registry import",
            Self::Agents => "Container Registry Tasks",
        }
    }

    /// What it calls as, if it calls as itself.
    pub fn caller(self) -> Option<Principal> {
        let id = self.principal()?;
        let display_name = self.display_name().into();
        let kind = match self {
            // Its rights are the plan's.
            Self::Scanner | Self::Importer => PrincipalKind::FirstParty,
            // Its rights are assignments, which each registry's rules have.
            Self::Agents => PrincipalKind::ServicePrincipal,
        };
        Some(Principal { id, kind, display_name, groups: Vec::new() })
    }

    /// It as the workload behind a connection. Workers call registries for their runs only, with what those hold.
    pub fn workload(self) -> Workload {
        let identity = |principal| WorkloadIdentity { principal, kind: IdentityKind::SystemAssigned };
        let resource: ResourceId = self.resource_id().parse().unwrap_or_else(|_| ResourceId::root());
        Workload {
            resource_type: resource.resource_type().unwrap_or_default().into(),
            resource,
            uid: self.uid(),
            identities: self.principal().filter(|_| self != Self::Agents).map(identity).into_iter().collect(),
        }
    }

    pub(crate) fn of_principal(id: PrincipalId) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.principal() == Some(id))
    }

    fn of_resource(id: &ResourceId) -> Option<Self> {
        Self::ALL.into_iter().find(|service| id.as_str().eq_ignore_ascii_case(service.resource_id()))
    }
}

impl Identity {
    /// Issues a certificate that proves to be this resource, for the key of the signing request. Of the request only the key
    /// counts.
    ///
    /// Whether the caller may have it is for the caller of this to find out: it needs a role action on the resource.
    pub fn issue_workload_certificate(
        &self,
        resource: &Resource,
        signing_request_pem: &str,
        now: Timestamp,
    ) -> Result<WorkloadCertificate, WorkloadCertificateError> {
        if [SCANNERS, IMPORTERS, AGENTS].iter().any(|first_party| resource.id.is_type(first_party)) {
            return Err(WorkloadCertificateError::FirstParty);
        }
        self.sign_workload(&resource.id, resource.uid, signing_request_pem, now)
    }

    /// Issues a certificate to a service of this server itself. No API reaches this.
    pub fn first_party_certificate(
        &self,
        service: FirstPartyService,
        signing_request_pem: &str,
        now: Timestamp,
    ) -> Result<WorkloadCertificate, WorkloadCertificateError> {
        let id = service.resource_id().parse().map_err(|_| WorkloadCertificateError::BadRequest)?;
        self.sign_workload(&id, service.uid(), signing_request_pem, now)
    }

    /// Issues a certificate that proves to be what a run is carried out as: its task, or the run itself, which has no resource. For the
    /// worker that has the run; that it has is for the caller of this to find out.
    pub fn run_certificate(
        &self,
        (resource, uid): (&ResourceId, ResourceUid),
        signing_request_pem: &str,
        now: Timestamp,
    ) -> Result<WorkloadCertificate, WorkloadCertificateError> {
        if ![TASKS, RUNS].iter().any(|kind| resource.is_type(kind)) {
            return Err(WorkloadCertificateError::FirstParty);
        }
        self.sign_workload(resource, uid, signing_request_pem, now)
    }

    fn sign_workload(
        &self,
        id: &ResourceId,
        uid: ResourceUid,
        signing_request_pem: &str,
        now: Timestamp,
    ) -> Result<WorkloadCertificate, WorkloadCertificateError> {
        if signing_request_pem.len() > MAX_SIGNING_REQUEST_BYTES {
            return Err(WorkloadCertificateError::BadRequest);
        }
        let request = CertificateSigningRequestParams::from_pem(signing_request_pem)
            .map_err(|_| WorkloadCertificateError::BadRequest)?;
        let uri = spiffe_id(self.settings.tenant, id);
        let leaf = Leaf {
            names: vec![SanType::URI(uri.try_into().map_err(WorkloadCertificateError::Signing)?)],
            common_name: uid.to_string(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            lifetime_seconds: WORKLOAD_CERTIFICATE_SECONDS,
        };
        let certificate = self
            .workload_authority
            .sign(leaf, &request.public_key, self.random.as_ref(), now)
            .map_err(WorkloadCertificateError::Signing)?;
        Ok(WorkloadCertificate {
            certificate_pem: certificate.pem(),
            ca_pem: self.server_authority.pem().to_owned(),
            not_after: Timestamp::from_unix_seconds(now.unix_seconds() + WORKLOAD_CERTIFICATE_SECONDS),
        })
    }

    /// Judges the client certificates of a connection, once after its handshake; also after a resumed one, whose ticket brings
    /// the certificate of the first handshake along.
    pub fn peer_certificate(&self, chain: Option<&[CertificateDer<'_>]>, now: Timestamp) -> PeerCertificate {
        let Some(chain) = chain.filter(|chain| !chain.is_empty()) else { return PeerCertificate::None };
        if chain.len() > MAX_CHAIN {
            return PeerCertificate::Rejected(WorkloadRejection::Malformed);
        }
        if let Err(error) = self.tls.verify_client(chain, now) {
            return PeerCertificate::Rejected(rejection(&error));
        }
        let claim = chain.first().ok_or(WorkloadRejection::Malformed).and_then(|leaf| read(leaf, self.settings.tenant));
        claim.map_or_else(PeerCertificate::Rejected, |claim| PeerCertificate::Presented(Arc::new(claim)))
    }

    /// Judges a chain as of now, resource included.
    pub fn verify_workload(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> WorkloadState {
        match self.peer_certificate(Some(chain), now) {
            PeerCertificate::None => WorkloadState::None,
            PeerCertificate::Rejected(why) => WorkloadState::Rejected(why),
            PeerCertificate::Presented(claim) => self.workload(&claim, now),
        }
    }

    /// The workload that a certificate names, as of now.
    pub(crate) fn workload(&self, claim: &WorkloadClaim, now: Timestamp) -> WorkloadState {
        if now < claim.not_before || claim.not_after < now {
            return WorkloadState::Rejected(WorkloadRejection::Expired);
        }
        if let Some(service) = FirstPartyService::of_resource(&claim.resource) {
            return if service.uid() == claim.uid {
                WorkloadState::Verified(Arc::new(service.workload()))
            } else {
                WorkloadState::Rejected(WorkloadRejection::ResourceGone)
            };
        }
        match self.directory.workload(&claim.resource) {
            Some(workload) if workload.uid == claim.uid => WorkloadState::Verified(Arc::new(workload)),
            _ => WorkloadState::Rejected(WorkloadRejection::ResourceGone),
        }
    }
}

pub(crate) fn spiffe_id(tenant: TenantId, id: &ResourceId) -> String {
    format!("{SCHEME}{tenant}{}", utf8_percent_encode(id.as_str(), NOT_IN_PATH))
}

fn rejection(error: &rustls::Error) -> WorkloadRejection {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => WorkloadRejection::Expired,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            WorkloadRejection::UnknownIssuer
        }
        _ => WorkloadRejection::Malformed,
    }
}

/// Reads a certificate whose signature and validity have been checked.
pub(crate) fn read(leaf: &CertificateDer<'_>, tenant: TenantId) -> Result<WorkloadClaim, WorkloadRejection> {
    let malformed = WorkloadRejection::Malformed;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| malformed)?;
    let mut common_names = certificate.subject().iter_common_name();
    let (Some(common_name), None) = (common_names.next(), common_names.next()) else { return Err(malformed) };
    let uid = common_name.as_str().ok().and_then(|text| text.parse().ok()).ok_or(malformed)?;
    let names = certificate.subject_alternative_name().map_err(|_| malformed)?.ok_or(malformed)?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return Err(malformed) };
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(time.timestamp());
    Ok(WorkloadClaim {
        resource: named(uri, tenant)?,
        uid,
        not_before: at(certificate.validity().not_before),
        not_after: at(certificate.validity().not_after),
    })
}

/// The resource that a certificate's name stands for.
pub(crate) fn named(uri: &str, tenant: TenantId) -> Result<ResourceId, WorkloadRejection> {
    let malformed = WorkloadRejection::Malformed;
    let rest = uri.strip_prefix(SCHEME).ok_or(malformed)?;
    let (authority, path) = rest.split_at_checked(rest.find('/').ok_or(malformed)?).ok_or(malformed)?;
    if authority.parse() != Ok(tenant) {
        return Err(WorkloadRejection::UnknownIssuer);
    }
    let path = percent_decode_str(path).decode_utf8().map_err(|_| malformed)?;
    path.parse().map_err(|_| malformed)
}

//! Two certificate authorities that never meet: one signs this server's own certificate, the other one workloads' certificates.

use postern_model::{Random, TenantId, Timestamp};
use postern_store::Vault;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::IdentityError;

/// Certificates are valid from a little before they were made: clocks differ.
const BACKDATED_SECONDS: i64 = 5 * 60;
const AUTHORITY_LIFETIME_SECONDS: i64 = 10 * 365 * 24 * 3600;
/// How long this server's own certificate is valid.
pub(crate) const SERVER_CERTIFICATE_SECONDS: i64 = 90 * 24 * 3600;
const SERIAL_BYTES: usize = 16;

/// One authority: its certificate and the key that signs.
pub(crate) struct CertificateAuthority {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    certificate: String,
    key: String,
}

/// What a certificate is for.
pub(crate) struct Leaf {
    /// Alternative names.
    pub(crate) names: Vec<rcgen::SanType>,
    /// The subject's common name.
    pub(crate) common_name: String,
    /// Server or client authentication.
    pub(crate) usage: ExtendedKeyUsagePurpose,
    /// Valid so long from now.
    pub(crate) lifetime_seconds: i64,
}

impl CertificateAuthority {
    /// Loads the authority from the vault; the first time it makes one.
    pub(crate) async fn load(
        vault: &Vault,
        name: &str,
        title: &str,
        tenant: TenantId,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        if let Some(bytes) = vault.get(name).await? {
            let stored: Stored = serde_json::from_slice(bytes.expose())
                .map_err(|_| IdentityError::Corrupt("certificate authorities"))?;
            return Self::read(&stored);
        }
        let stored = create(title, tenant, random, now)?;
        let text = serde_json::to_vec(&stored).map_err(|_| IdentityError::Corrupt("certificate authorities"))?;
        vault.put(name, &text).await?;
        Self::read(&stored)
    }

    fn read(stored: &Stored) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes())
            .map_err(|_| IdentityError::Corrupt("certificate authorities"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(&stored.key)?)?;
        Ok(Self { certificate_pem: stored.certificate.clone(), certificate, issuer })
    }

    /// The authority's certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a certificate for the key.
    pub(crate) fn sign(
        &self,
        leaf: Leaf,
        key: &impl PublicKeyData,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<rcgen::Certificate, rcgen::Error> {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = validity(now, leaf.lifetime_seconds);
        params.serial_number = Some(serial(random));
        params.subject_alt_names = leaf.names;
        params.distinguished_name = named(&leaf.common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.usage];
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.signed_by(key, &self.issuer)
    }
}

fn create(title: &str, tenant: TenantId, random: &dyn Random, now: Timestamp) -> Result<Stored, IdentityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(now, AUTHORITY_LIFETIME_SECONDS);
    params.serial_number = Some(serial(random));
    // The tenant tells the authorities of two installations apart in a trust store.
    params.distinguished_name = named(&format!("{title} {tenant}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Stored { certificate, key: key.serialize_pem() })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn validity(now: Timestamp, lifetime_seconds: i64) -> (OffsetDateTime, OffsetDateTime) {
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (at(now.unix_seconds() - BACKDATED_SECONDS), at(now.unix_seconds() + lifetime_seconds))
}

fn serial(random: &dyn Random) -> SerialNumber {
    let mut bytes = [0; SERIAL_BYTES];
    random.fill(&mut bytes);
    // Serial numbers are positive and at most 20 bytes long.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

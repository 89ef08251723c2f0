//! What holds for credentials and certificates, whatever they are read from.

use std::iter::repeat;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use postern_model::{ResourceId, TenantId, Timestamp};
use rcgen::CertificateSigningRequestParams;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde_json::Value;
use uuid::Uuid;

use crate::authority::{audience_of, is_audience};
use crate::credential::{MAX_AUTHORIZATION_BYTES, Presented};
use crate::issue::Form;
use crate::keys::KeyRing;
use crate::managed::IdentitySelector;
use crate::token::{AuthorityClaims, RegistryClaims, RegistryToken};
use crate::workload::{MAX_CHAIN, read, spiffe_id};
use crate::{CLIENT_CERT, CLIENT_CERT_CHAIN, ExchangeRequest, MAX_SCOPES, Scope, TokenRequest, client_cert_chain};

const TENANT: TenantId = TenantId(Uuid::from_u128(0x7e));
/// Fields of one request that are tried.
const MAX_FIELDS: usize = 8;

/// A ring with one key, which signs nothing here: whatever it verifies is forged.
static RING: LazyLock<Option<KeyRing>> = LazyLock::new(|| KeyRing::of_one(Timestamp::from_unix_seconds(0)).ok());

/// Line by line: `Authorization` header, query, form, a token's header (in which `KID` stands for the key's id), claims and
/// signature.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (authorization, query, form) = (line(), line(), line());
    if let Ok(Some(Presented::Bearer(secret) | Presented::Basic { password: secret, .. })) =
        Presented::parse(Some(authorization))
    {
        assert!(secret.expose().len() <= MAX_AUTHORIZATION_BYTES);
    }
    for request in [TokenRequest::from_query(query, Some(authorization)), TokenRequest::from_form(form.as_bytes())] {
        let Ok(request) = request else { continue };
        assert!(request.scopes.len() <= MAX_SCOPES);
        for scope in &request.scopes {
            assert_eq!(Scope::parse_all([&*scope.to_string()]).as_deref(), Ok(std::slice::from_ref(scope)));
        }
    }
    let _ = ExchangeRequest::from_form(form.as_bytes());
    if let Ok(form) = Form::parse(form.as_bytes()) {
        let _ = IdentitySelector::from_form(&form);
        if let Some(audience) = form.get("scope").and_then(audience_of) {
            assert!(is_audience(audience));
        }
    }
    let (header, claims, signature) = (line(), line(), line());
    token(header, claims, signature);
    if let Ok(claims) = serde_json::from_str::<RegistryClaims>(claims) {
        registry_claims(claims);
    }
    let _ = serde_json::from_str::<AuthorityClaims>(claims).map(|claims| claims.binding());
}

fn token(header: &str, claims: &str, signature: &str) {
    let Some(ring) = RING.as_ref() else { return };
    let kid = ring.published().keys.first().and_then(|key| key.common.key_id.clone()).unwrap_or_default();
    let header = URL_SAFE_NO_PAD.encode(header.replace("KID", &kid));
    let token = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims));
    assert!(ring.verify::<Value>(&token).is_err(), "nobody signed {token}");
}

fn registry_claims(claims: RegistryClaims) {
    let Ok(token) = RegistryToken::from_claims(claims) else { return };
    let again = RegistryToken::from_claims(token.to_claims(Uuid::nil()));
    assert!(again.is_ok_and(|again| {
        again.kind == token.kind
            && again.holder == token.holder
            && (again.registry, again.mode, again.tenant) == (token.registry, token.mode, token.tenant)
            && again.binding == token.binding
            && (again.issued, again.expires) == (token.issued, token.expires)
    }));
}

/// Line by line: an issuer, its configuration, its keys, a token.
pub fn issuers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    crate::issuers::read_anything(line(), line(), line(), line());
}

/// A certificate, and a signing request, in DER; as text the name in a certificate, and a signing request in PEM.
pub fn certificates(data: &[u8]) {
    if let Ok(claim) = read(&CertificateDer::from(data), TENANT) {
        named(&claim.resource);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = CertificateSigningRequestParams::from_pem(text);
        if let Ok(id) = text.parse::<ResourceId>() {
            named(&id);
        }
    }
    let _ = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(data));
}

/// Fields of a request that a proxy sends, a line each: `Client-Cert`, or after a `,` `Client-Cert-Chain`.
pub fn client_certs(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(MAX_FIELDS) {
        let (name, value) = match line.strip_prefix(b",") {
            Some(rest) => (CLIENT_CERT_CHAIN, rest),
            None => (CLIENT_CERT, line),
        };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(name, value);
    }
    let Ok(read_from) = client_cert_chain(&headers) else { return };
    let Some(chain) = read_from else {
        assert!(headers.is_empty());
        return;
    };
    assert!((1..=MAX_CHAIN).contains(&chain.len()) && chain.iter().all(|certificate| !certificate.is_empty()));
    let mut again = HeaderMap::new();
    for (certificate, name) in chain.iter().zip([CLIENT_CERT].into_iter().chain(repeat(CLIENT_CERT_CHAIN))) {
        let Ok(value) = HeaderValue::try_from(format!(":{}:", STANDARD.encode(certificate))) else { continue };
        again.append(name, value);
        let _ = read(certificate, TENANT);
    }
    assert_eq!(client_cert_chain(&again), Ok(Some(chain)));
}

/// The name that a certificate gets for a resource names that resource, and can be a name.
fn named(id: &ResourceId) {
    let name = spiffe_id(TENANT, id);
    assert_eq!(crate::workload::named(&name, TENANT).as_ref(), Ok(id));
    assert!(name.is_ascii());
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("tokens", super::tokens);
        super::kept::each("certificates", super::certificates);
        super::kept::each("client_certs", super::client_certs);
        super::kept::each("issuers", super::issuers);
    }
}

//! The client's certificate as a proxy hands it on: RFC 9440.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;

use crate::workload::MAX_CHAIN;

/// The client's own certificate.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// The certificates between it and the authority.
pub const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Largest certificate.
const MAX_CERTIFICATE_BYTES: usize = 16 << 10;

/// Structured fields are read whether padded or not (RFC 8941, section 4.2.7).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The fields are there but are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`Client-Cert` is not one certificate, or `Client-Cert-Chain` no list of them")]
pub struct MalformedClientCert;

/// The chain that the request's fields carry, the client's own certificate first; nothing when there are none.
///
/// It is worth nothing unless the request comes from a proxy that is known to write these fields itself: a certificate is public,
/// and nothing here shows that the client holds its key.
///
/// Source: RFC 9440, section 2 (read 2026-11-22).
pub fn client_cert_chain(headers: &HeaderMap) -> Result<Option<Vec<CertificateDer<'static>>>, MalformedClientCert> {
    let mut leaves = headers.get_all(CLIENT_CERT).iter();
    let mut chain = match (leaves.next(), leaves.next()) {
        (None, _) if headers.contains_key(CLIENT_CERT_CHAIN) => return Err(MalformedClientCert),
        (None, _) => return Ok(None),
        (Some(leaf), None) => vec![certificate(text(leaf)?)?],
        (Some(_), Some(_)) => return Err(MalformedClientCert),
    };
    for line in headers.get_all(CLIENT_CERT_CHAIN) {
        for member in text(line)?.split(',') {
            if chain.len() == MAX_CHAIN {
                return Err(MalformedClientCert);
            }
            chain.push(certificate(member)?);
        }
    }
    Ok(Some(chain))
}

fn text(value: &HeaderValue) -> Result<&str, MalformedClientCert> {
    value.to_str().map_err(|_| MalformedClientCert)
}

/// A byte sequence: base64 between colons, without parameters.
fn certificate(item: &str) -> Result<CertificateDer<'static>, MalformedClientCert> {
    let item = item.trim_matches([' ', '\t']);
    let encoded = item.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or(MalformedClientCert)?;
    let bytes = BASE64.decode(encoded).map_err(|_| MalformedClientCert)?;
    if bytes.is_empty() || bytes.len() > MAX_CERTIFICATE_BYTES {
        return Err(MalformedClientCert);
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chain as text: its certificates are read as text here.
    fn read(fields: &[(HeaderName, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        match client_cert_chain(&headers) {
            Ok(None) => Some("none".into()),
            Ok(Some(chain)) => {
                Some(chain.iter().map(|der| String::from_utf8(der.to_vec()).unwrap()).collect::<Vec<_>>().join(" "))
            }
            Err(MalformedClientCert) => None,
        }
    }

    #[test]
    fn fields_are_read() {
        let leaf = |value: &'static str| (CLIENT_CERT, value);
        let chain = |value: &'static str| (CLIENT_CERT_CHAIN, value);
        for (fields, expected) in [
            (vec![], Some("none")),
            (vec![leaf(":bGVhZg==:")], Some("leaf")),
            (vec![leaf("  :bGVhZg:\t")], Some("leaf")),
            (vec![leaf(":bGVhZg==:"), chain(":b25l:, :dHdv:")], Some("leaf one two")),
            (vec![leaf(":bGVhZg==:"), chain(":b25l:"), chain(":dHdv:,:dGhyZWU=:")], Some("leaf one two three")),
            (vec![leaf(":bGVhZg==:"), chain(":b25l:,:dHdv:,:dGhyZWU=:,:Zm91cg==:")], None),
            (vec![leaf(":bGVhZg==:"), leaf(":bGVhZg==:")], None),
            (vec![leaf(":bGVhZg==:, :bGVhZg==:")], None),
            (vec![chain(":b25l:")], None),
            (vec![leaf("")], None),
            (vec![leaf(":")], None),
            (vec![leaf("::")], None),
            (vec![leaf("bGVhZg==")], None),
            (vec![leaf(":bGVhZg==")], None),
            (vec![leaf(":bGVh!g==:")], None),
            (vec![leaf(":bGVh Zg==:")], None),
            (vec![leaf(":bGVhZg==:;a=1")], None),
            (vec![leaf("-----BEGIN CERTIFICATE-----")], None),
            (vec![leaf(":bGVhZg==:"), chain("")], None),
            (vec![leaf(":bGVhZg==:"), chain(":b25l:,")], None),
        ] {
            assert_eq!(read(&fields).as_deref(), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_certificate_has_a_bound() {
        let field = |bytes: usize| {
            let value = format!(":{}:", BASE64.encode(vec![b'x'; bytes]));
            read(&[(CLIENT_CERT, value.as_str())]).map(|text| text.len())
        };
        assert_eq!(field(MAX_CERTIFICATE_BYTES), Some(MAX_CERTIFICATE_BYTES));
        assert_eq!(field(MAX_CERTIFICATE_BYTES + 1), None);
    }
}

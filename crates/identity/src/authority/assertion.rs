//! Client assertions: a client proves itself with a token that it signed with the key of a certificate of its own, or with one of an
//! issuer outside (`federated.rs`).
//!
//! Source: RFC 7523 §3; Microsoft identity platform, certificate credentials (read 2026-11).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use postern_access::PrincipalKind;
use postern_estate::{Resource, types};
use postern_model::{ResourceId, Secret, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::refusal::AuthorityError;
use super::{Asked, federated, shown};
use crate::Identity;
use crate::identity::Known;
use crate::keys::MAX_TOKEN_BYTES;

/// Source: RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// What the libraries sign with, by the thumbprint that they send: RS256 with SHA-1, PS256 with SHA-256.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::PS256];
/// How far ahead an assertion may expire. Libraries let theirs hold for ten minutes and use one several times meanwhile, so that this
/// is what bounds for how long a copy is worth anything.
const MAX_SECONDS_AHEAD: f64 = 15.0 * 60.0;
/// How far a client's clock may be ahead.
const SKEW_SECONDS: f64 = 5.0 * 60.0;
/// Certificates of one client that are looked at.
const MAX_CERTIFICATES: usize = 64;
const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    sub: String,
    /// Some libraries write fractions.
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: String,
}

/// The client, if the assertion is its own.
pub(super) async fn check(
    identity: &Identity,
    client_id: Uuid,
    assertion: &Secret,
    asked: &Asked,
) -> Result<Known, AuthorityError> {
    if asked.field("client_assertion_type")? != ASSERTION_TYPE {
        return Err(AuthorityError::BadAssertion("its type is not that of a signed token"));
    }
    let known = identity.known_by_client_id(client_id);
    let known = known.ok_or_else(|| AuthorityError::UnknownApplication(shown(&client_id.to_string())))?;
    if federated::is_outside(assertion.expose()) {
        federated::check(identity, &known, client_id, assertion.expose(), asked).await?;
    } else {
        verify(identity, &known, client_id, assertion.expose(), asked).map_err(AuthorityError::BadAssertion)?;
    }
    if known.enabled { Ok(known) } else { Err(AuthorityError::Disabled(client_id)) }
}

fn verify(
    identity: &Identity,
    known: &Known,
    client_id: Uuid,
    assertion: &str,
    asked: &Asked,
) -> Result<(), &'static str> {
    // A managed identity has no application, whatever registration bears the same id.
    if known.principal.kind != PrincipalKind::ServicePrincipal {
        return Err("the client has no certificates");
    }
    if assertion.len() > MAX_TOKEN_BYTES {
        return Err("it is too long");
    }
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| "it cannot be read")?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err("its algorithm is not RS256 or PS256");
    }
    let key = key_of(identity, known, client_id, &header, asked.now)
        .ok_or("the certificate that it names is none of the client's, or is not valid now")?;
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<Claims>(assertion, &key, &validation)
        .map_err(|_| "its signature does not fit, or a claim is missing")?
        .claims;
    check_claims(&claims, client_id, asked)
}

fn check_claims(claims: &Claims, client_id: Uuid, asked: &Asked) -> Result<(), &'static str> {
    let is_client = |text: &str| Uuid::try_parse(text) == Ok(client_id);
    if !is_client(&claims.iss) || !is_client(&claims.sub) {
        return Err("issuer and subject are not the client");
    }
    // Clients take the endpoint from the discovery document, which names the tenant in small letters.
    if claims.aud != format!("{}/{}/oauth2/v2.0/token", asked.base, asked.tenant.to_ascii_lowercase()) {
        return Err("its audience is not this token endpoint");
    }
    if claims.jti.is_empty() {
        return Err("it has no id");
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds, which have years to go before they need more digits")]
    let now = asked.now.unix_seconds() as f64;
    let begins = claims.nbf.into_iter().chain(claims.iat);
    // Written so that what is no number fails.
    if !(now < claims.exp && claims.exp <= now + MAX_SECONDS_AHEAD) {
        return Err("it has expired, or holds for longer than a quarter of an hour");
    }
    if !begins.into_iter().all(|moment| moment <= now + SKEW_SECONDS) {
        return Err("it does not hold yet");
    }
    Ok(())
}

/// The key of the certificate that the header names by its thumbprint, if that is the client's and valid now.
fn key_of(identity: &Identity, known: &Known, client: Uuid, header: &Header, now: Timestamp) -> Option<DecodingKey> {
    let is_named = |certificate: &[u8]| {
        let fits = |thumbprint: &str, own: &[u8]| {
            bool::from(thumbprint.as_bytes().ct_eq(URL_SAFE_NO_PAD.encode(own).as_bytes()))
        };
        let named = |thumbprint: &str| thumbprint.trim_end_matches('=').to_owned();
        match (&header.x5t_s256, &header.x5t) {
            (Some(strong), _) => fits(&named(strong), digest(&SHA256, certificate).as_ref()),
            (None, Some(weak)) => fits(&named(weak), digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref()),
            (None, None) => false,
        }
    };
    let own = known.owner.as_ref().and_then(|owner| identity.directory.resource(owner));
    // The applications are looked through only where the principal's own do not fit.
    let applications = std::iter::once_with(|| application(identity, client)).flatten();
    let certificates = own.into_iter().chain(applications).flat_map(|one| certificates(&one, now));
    let certificate = certificates.take(MAX_CERTIFICATES).find(|der| is_named(der))?;
    let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
    let seconds = now.unix_seconds();
    let validity = certificate.validity();
    let valid = validity.not_before.timestamp() <= seconds && seconds < validity.not_after.timestamp();
    let key = certificate.public_key();
    // The library refuses keys of less than 2048 bits.
    let is_rsa = key.algorithm.algorithm == x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
    (valid && is_rsa).then(|| DecodingKey::from_rsa_der(&key.subject_public_key.data))
}

/// The application registration of this id.
pub(super) fn application(identity: &Identity, client: Uuid) -> Option<Arc<Resource>> {
    let root = ResourceId::root();
    let is_own = |one: &&Arc<Resource>| one.text(&["appId"]).and_then(|id| Uuid::try_parse(&id).ok()) == Some(client);
    identity.directory.with_estate(|estate| estate.list(&root, types::APPLICATIONS).find(is_own).cloned())
}

/// The certificates of an application or service principal that are meant for this and have not ended.
fn certificates(resource: &Resource, now: Timestamp) -> Vec<Vec<u8>> {
    let listed = resource.list(&["keyCredentials"]).unwrap_or_default();
    let usable = |entry: &&Value| {
        let says = |name: &str, value: &str| {
            entry.get(name).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        let moment = |name: &str| {
            entry
                .get(name)
                .filter(|value| !value.is_null())
                .map(|value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok()))
        };
        // A date that cannot be read is none that has come, and one that has passed.
        let begun = moment("startDateTime").is_none_or(|at| at.is_some_and(|at| at <= now));
        let lasts = moment("endDateTime").is_none_or(|at| at.is_some_and(|at| now < at));
        says("type", "AsymmetricX509Cert") && says("usage", "Verify") && begun && lasts
    };
    let der = |entry: &Value| {
        let text = entry.get("key")?.as_str().filter(|text| text.len() <= MAX_CERTIFICATE_BYTES)?;
        STANDARD.decode(text.split_ascii_whitespace().collect::<String>()).ok()
    };
    listed.iter().take(MAX_CERTIFICATES).filter(usable).filter_map(der).collect()
}

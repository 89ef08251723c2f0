//! The authority: discovery, keys and the token endpoint, as command lines and SDKs expect them.

mod assertion;
mod device;
mod federated;
mod page;
mod refusal;
mod sign_in;
mod users;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts as _, Path, State};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use postern_access::{InvalidCredential, TokenBinding};
use postern_model::{Secret, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use self::refusal::AuthorityError;
use crate::identity::Known;
use crate::issue::{Form, MAX_FORM_BYTES};
use crate::managed;
use crate::peer::Peer;
use crate::token::{AuthorityClaims, PRINCIPAL_TOKEN_SECONDS};
use crate::{Identity, IdentityError};

/// Longest audience that a token may be asked for.
pub(crate) const MAX_AUDIENCE_BYTES: usize = 256;
/// Clients count from when they asked: one second less is never too late.
const EXPIRES_IN: i64 = PRINCIPAL_TOKEN_SECONDS - 1;
/// Source: OpenID Connect discovery of the Microsoft identity platform: the names that mean "whichever tenant" (read 2026-11).
const ANY_TENANT: [&str; 2] = ["organizations", "common"];

/// The routes of the authority's host name. Requests carry a [`Peer`] as an extension.
pub fn authority_router(identity: Arc<Identity>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(identity)
}

/// Method and path of every operation of the authority.
pub fn authority_endpoints() -> Vec<(&'static str, &'static str)> {
    routes().into_iter().map(|(method, path, _)| (method, path)).collect()
}

fn routes() -> [(&'static str, &'static str, MethodRouter<Arc<Identity>>); 9] {
    [
        ("GET", "/{tenant}/v2.0/.well-known/openid-configuration", get(discovery)),
        ("GET", "/{tenant}/.well-known/openid-configuration", get(discovery)),
        ("GET", "/{tenant}/discovery/v2.0/keys", get(keys)),
        ("POST", "/{tenant}/oauth2/v2.0/token", post(token)),
        ("POST", "/{tenant}/oauth2/v2.0/devicecode", post(device::begin)),
        ("GET", device::PAGE_PATH, get(device::page)),
        ("POST", device::PAGE_PATH, post(device::approve)),
        ("GET", sign_in::CALLBACK_PATH, get(sign_in::callback)),
        ("POST", managed::TOKEN_PATH, post(managed::token)),
    ]
}

pub(crate) fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text from outside, fit to be repeated in a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

impl Identity {
    fn check_tenant(&self, tenant: &str) -> Result<(), AuthorityError> {
        let known = Uuid::try_parse(tenant).is_ok_and(|id| id == self.settings.tenant.0)
            || ANY_TENANT.iter().any(|name| tenant.eq_ignore_ascii_case(name));
        if known { Ok(()) } else { Err(AuthorityError::UnknownTenant(shown(tenant))) }
    }

    /// What a token for this principal and audience says.
    fn claims(&self, known: &Known, audience: &str, lifetime_seconds: i64, now: Timestamp) -> AuthorityClaims {
        let id = known.principal.id.0;
        AuthorityClaims {
            aud: audience.to_owned(),
            iss: self.issuer.clone(),
            iat: now.unix_seconds(),
            nbf: now.unix_seconds(),
            exp: now.unix_seconds() + lifetime_seconds,
            oid: id,
            sub: id,
            tid: self.settings.tenant.0,
            appid: known.client_id,
            idtyp: "app".into(),
            ver: "1.0".into(),
            uti: self.random.uuid(),
            scp: None,
            upn: None,
            xms_mirid: None,
            postern_workload: None,
        }
    }

    /// A token of the authority for this service principal or managed identity and audience.
    pub(crate) fn authority_access_token(
        &self,
        known: &Known,
        audience: &str,
        managed: Option<(&str, TokenBinding)>,
        lifetime_seconds: i64,
        now: Timestamp,
    ) -> Result<Secret, IdentityError> {
        self.authority_keys.sign(&AuthorityClaims {
            xms_mirid: managed.map(|(owner, _)| owner.to_owned()),
            postern_workload: managed.map(|(_, binding)| binding.resource.0),
            ..self.claims(known, audience, lifetime_seconds, now)
        })
    }

    async fn client_credentials(&self, asked: &Asked) -> Result<Value, AuthorityError> {
        let client = asked.field("client_id")?;
        let audience = asked.audience()?;
        let client_id = Uuid::try_parse(client).map_err(|_| AuthorityError::UnknownApplication(shown(client)))?;
        let proof = (asked.form.secret("client_secret"), asked.form.secret("client_assertion"));
        let outcome = match proof {
            (Some(secret), None) => {
                let check = || self.client_secret(client_id, &secret, asked.now);
                let outcome = self.throttle.attempt(asked.address, &client_id.to_string(), asked.now, check)?;
                outcome.map_err(|why| match why {
                    InvalidCredential::UnknownCaller => AuthorityError::UnknownApplication(shown(client)),
                    InvalidCredential::Disabled => AuthorityError::Disabled(client_id),
                    _ => AuthorityError::WrongSecret(client_id),
                })
            }
            (None, Some(assertion)) => {
                // Looking at one takes work, and whoever sends bad ones guesses.
                let attempt = self.throttle.admit(asked.address, &client_id.to_string(), asked.now)?;
                let outcome = assertion::check(self, client_id, &assertion, asked).await;
                if outcome.as_ref().is_err_and(|why| *why != AuthorityError::IssuerUnreachable) {
                    attempt.failed();
                }
                outcome
            }
            (None, None) => Err(AuthorityError::MissingField("client_secret")),
            // Whichever of them holds: a client that sends two proofs does not say what it means.
            (Some(_), Some(_)) => Err(AuthorityError::BadForm),
        };
        let token = self
            .authority_access_token(&outcome?, audience, None, PRINCIPAL_TOKEN_SECONDS, asked.now)
            .map_err(|_| AuthorityError::Internal)?;
        Ok(json!({
            "token_type": "Bearer",
            "expires_in": EXPIRES_IN,
            "ext_expires_in": EXPIRES_IN,
            "access_token": token.expose(),
        }))
    }
}

/// A form that a client sends to the authority.
struct Asked {
    form: Form,
    /// The URL that the client reaches the authority at.
    base: String,
    /// The tenant in the path, as the client wrote it.
    tenant: String,
    address: IpAddr,
    now: Timestamp,
}

impl FromRequest<Arc<Identity>> for Asked {
    type Rejection = Response<Body>;

    async fn from_request(request: Request<Body>, identity: &Arc<Identity>) -> Result<Self, Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let tenant = Path::<String>::from_request_parts(&mut parts, identity).await;
        let Path(tenant) = tenant.map_err(IntoResponse::into_response)?;
        let base = base_url(identity, &parts.uri, &parts.headers);
        let address = address_of(parts.extensions.get::<Peer>());
        let body = Bytes::from_request(Request::from_parts(parts, body), identity).await;
        let body = body.map_err(IntoResponse::into_response)?;
        let refused = |error: AuthorityError| error.response(identity);
        identity.check_tenant(&tenant).map_err(refused)?;
        let form = Form::parse(&body).map_err(|_| refused(AuthorityError::BadForm))?;
        Ok(Self { form, base, tenant, address, now: identity.clock.now() })
    }
}

impl Asked {
    fn field(&self, name: &'static str) -> Result<&str, AuthorityError> {
        self.form.get(name).ok_or(AuthorityError::MissingField(name))
    }

    fn audience(&self) -> Result<&str, AuthorityError> {
        let scope = self.field("scope")?;
        audience_of(scope).ok_or_else(|| AuthorityError::BadScope(shown(scope)))
    }
}

/// The audience of a scope `X/.default`. A resource that ends with a slash is followed by two, and keeps its own.
///
/// Source: Microsoft identity platform, the `.default` scope, trailing slash (read 2026-11).
pub(crate) fn audience_of(scope: &str) -> Option<&str> {
    // OpenID scopes may stand beside it; exactly one resource is asked for.
    let mut resources = scope
        .split_ascii_whitespace()
        .filter(|word| !matches!(*word, "openid" | "profile" | "offline_access" | "email"));
    let audience = resources.next()?.strip_suffix("/.default")?;
    (resources.next().is_none() && is_audience(audience)).then_some(audience)
}

/// Whether a text can be an audience: an absolute URI or an application id.
pub(crate) fn is_audience(text: &str) -> bool {
    let named = text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    text.len() <= MAX_AUDIENCE_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && (named || Uuid::try_parse(text).is_ok())
}

/// The address that failures are counted by.
fn address_of(peer: Option<&Peer>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address)
}

async fn token(State(identity): State<Arc<Identity>>, asked: Asked) -> Response<Body> {
    let answer = async {
        match asked.field("grant_type")? {
            "client_credentials" => identity.client_credentials(&asked).await,
            "password" => users::password(&identity, &asked).await,
            "refresh_token" => users::refresh(&identity, &asked),
            "urn:ietf:params:oauth:grant-type:device_code" => device::token(&identity, &asked).await,
            _ => Err(AuthorityError::UnsupportedGrant),
        }
    };
    answered(&identity, answer.await)
}

fn answered(identity: &Identity, answer: Result<Value, AuthorityError>) -> Response<Body> {
    match answer {
        Ok(body) => reply(StatusCode::OK, &body),
        Err(error) => error.response(identity),
    }
}

async fn keys(State(identity): State<Arc<Identity>>, Path(tenant): Path<String>) -> Response<Body> {
    match identity.check_tenant(&tenant) {
        Ok(()) => reply(StatusCode::OK, &json!(identity.authority_keys.published())),
        Err(error) => error.response(&identity),
    }
}

async fn discovery(
    State(identity): State<Arc<Identity>>,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    if let Err(error) = identity.check_tenant(&tenant) {
        return error.response(&identity);
    }
    let base = base_url(&identity, &uri, &headers);
    // Clients keep the first path segment of these as the tenant; the one asked for works again.
    let tenant = tenant.to_ascii_lowercase();
    reply(
        StatusCode::OK,
        &json!({
            "issuer": format!("{base}/{}/v2.0", identity.tenant()),
            "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/devicecode"),
            "end_session_endpoint": format!("{base}/{tenant}/oauth2/v2.0/logout"),
            "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "response_types_supported": ["code", "id_token", "code id_token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "oid", "tid", "appid"],
            "tenant_region_scope": null,
            "cloud_instance_name": identity.settings.authority,
        }),
    )
}

/// Where this authority is reached.
fn base_url(identity: &Identity, uri: &Uri, headers: &HeaderMap) -> String {
    asked_base(uri, headers).unwrap_or_else(|| format!("https://{}", identity.settings.authority))
}

/// The URL that a client reaches this server at, without a slash at the end: by the name and port that it used, whatever is between it
/// and here. The listener lets only names of this server through.
pub fn asked_base(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    // HTTP/2 has the host in the address, HTTP/1.1 in the header.
    let in_header = || headers.get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let host = uri.authority().cloned().or_else(in_header)?;
    Some(match host.port_u16() {
        Some(port) if port != 443 => format!("https://{}:{port}", host.host()),
        _ => format!("https://{}", host.host()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences() {
        let cases = [
            ("https://management.azure.com/.default", Some("https://management.azure.com")),
            ("https://management.core.windows.net//.default", Some("https://management.core.windows.net/")),
            ("https://graph.microsoft.com/.default openid profile", Some("https://graph.microsoft.com")),
            ("04b07795-8ddb-461a-bbee-02f9e1bf7b46/.default", Some("04b07795-8ddb-461a-bbee-02f9e1bf7b46")),
            ("https://management.azure.com", None),
            ("https://a/.default https://b/.default", None),
            ("management/.default", None),
            ("://x/.default", None),
            ("/.default", None),
            ("", None),
        ];
        for (scope, expected) in cases {
            assert_eq!(audience_of(scope), expected, "{scope}");
        }
        let long = format!("https://{}/.default", "a".repeat(MAX_AUDIENCE_BYTES));
        assert_eq!(audience_of(&long), None);
    }
}

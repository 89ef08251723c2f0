//! What the authority says no with.

use axum::body::Body;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::reply;
use crate::Identity;
use crate::throttle::Throttled;

/// What the token endpoint says no with.
///
/// Source: Microsoft identity platform, authentication and authorization error codes (read 2026-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AuthorityError {
    UnknownTenant(String),
    UnknownApplication(String),
    WrongSecret(Uuid),
    Disabled(Uuid),
    MissingField(&'static str),
    UnsupportedGrant,
    BadScope(String),
    BadForm,
    /// User name or password: which of them is not said.
    WrongPassword,
    DisabledUser,
    /// A refresh token that does not hold, or not any more.
    RefreshRefused,
    /// Nobody has approved the device's code yet.
    DevicePending,
    /// Somebody declined it, or whoever approved it may not sign in any more.
    DeviceDeclined,
    DeviceExpired,
    UnknownDevice,
    /// Too many codes wait to be approved.
    TooManyDevices,
    /// A client assertion that does not hold, and what is wrong with it.
    BadAssertion(&'static str),
    /// None of the client's federated credentials names an outside token's issuer.
    NoFederatedIssuer(String),
    /// One names the issuer, none the subject.
    NoFederatedSubject(String),
    /// The one of issuer and subject names another audience.
    NoFederatedAudience(String),
    /// The issuer of an outside token cannot be asked for its keys.
    IssuerUnreachable,
    /// An outside token names a key that its issuer does not publish.
    UnknownIssuerKey(String),
    /// An outside token that does not hold now.
    AssertionTime,
    Throttled {
        retry_after_seconds: i64,
    },
    Internal,
}

impl AuthorityError {
    pub(super) fn response(&self, identity: &Identity) -> Response<Body> {
        let (status, error, code, text) = match self {
            Self::UnknownTenant(tenant) => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                90002,
                format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."),
            ),
            Self::UnknownApplication(client) => (
                StatusCode::BAD_REQUEST,
                "unauthorized_client",
                700_016,
                format!(
                    "Application with identifier '{client}' was not found in the directory '{}'.",
                    identity.tenant()
                ),
            ),
            Self::WrongSecret(client) => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                7_000_215,
                format!("Invalid client secret provided for application '{client}'."),
            ),
            Self::Disabled(client) => (
                StatusCode::BAD_REQUEST,
                "unauthorized_client",
                7_000_112,
                format!("Application '{client}' is disabled."),
            ),
            Self::MissingField(field) => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                900_144,
                format!("The request body must contain the following parameter: '{field}'."),
            ),
            Self::UnsupportedGrant => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                70003,
                "The app requested an unsupported grant type.".to_owned(),
            ),
            Self::BadScope(scope) => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                70011,
                format!("The provided value for the input parameter 'scope' is not valid: '{scope}'."),
            ),
            Self::BadForm => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                90014,
                "The request body cannot be read as a form.".to_owned(),
            ),
            Self::WrongPassword => (
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                50126,
                "Error validating credentials due to invalid username or password.".to_owned(),
            ),
            Self::DisabledUser => {
                (StatusCode::BAD_REQUEST, "invalid_grant", 50057, "The user account is disabled.".to_owned())
            }
            Self::RefreshRefused => (
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                50173,
                "The refresh token does not hold any more. Sign in again.".to_owned(),
            ),
            Self::DevicePending => (
                StatusCode::BAD_REQUEST,
                "authorization_pending",
                70016,
                "Authorization is pending. Continue polling.".to_owned(),
            ),
            Self::DeviceDeclined => (
                StatusCode::BAD_REQUEST,
                "authorization_declined",
                70015,
                "The sign-in was declined, or whoever approved it may not sign in.".to_owned(),
            ),
            Self::DeviceExpired => (
                StatusCode::BAD_REQUEST,
                "expired_token",
                70019,
                "The code has expired. Begin the sign-in again.".to_owned(),
            ),
            Self::UnknownDevice => (
                StatusCode::BAD_REQUEST,
                "bad_verification_code",
                70018,
                "The device code is not one that was given out, or it was used.".to_owned(),
            ),
            Self::TooManyDevices => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                50196,
                "Too many sign-ins wait to be approved. Answer them, or wait until they expire.".to_owned(),
            ),
            Self::BadAssertion(why) => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_027,
                format!("The client assertion is not valid: {why}."),
            ),
            Self::NoFederatedIssuer(issuer) => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_211,
                format!(
                    "No matching federated identity record found for presented assertion issuer '{issuer}'. Every letter counts, a \
                     slash at the end included."
                ),
            ),
            Self::NoFederatedAudience(audience) => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_212,
                format!("No matching federated identity record found for presented assertion audience '{audience}'."),
            ),
            Self::NoFederatedSubject(subject) => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_213,
                format!(
                    "No matching federated identity record found for presented assertion subject '{subject}'. Capital and small \
                     letters differ."
                ),
            ),
            Self::IssuerUnreachable => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                50166,
                "Request to External OIDC endpoint failed. The server's log says why.".to_owned(),
            ),
            Self::UnknownIssuerKey(issuer) => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                7_000_272,
                format!(
                    "The key used to sign the federated credential could not be found in the metadata of identity provider '{issuer}'."
                ),
            ),
            Self::AssertionTime => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_024,
                format!("Client assertion is not within its valid time range. Current time: {}.", identity.clock.now()),
            ),
            Self::Throttled { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                50196,
                "Too many failed attempts. Wait before the next one.".to_owned(),
            ),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error", 90033, "A transient error has occurred.".to_owned())
            }
        };
        let body = json!({
            "error": error,
            "error_description": format!("AADSTS{code}: {text}"),
            "error_codes": [code],
            "timestamp": identity.clock.now().to_string(),
            "correlation_id": identity.random.uuid(),
        });
        let mut response = reply(status, &body);
        if let Self::Throttled { retry_after_seconds } = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after_seconds));
        }
        response
    }
}

impl From<Throttled> for AuthorityError {
    fn from(Throttled { retry_after_seconds }: Throttled) -> Self {
        Self::Throttled { retry_after_seconds }
    }
}

//! A device's sign-in: its codes, the page where a person approves them, and the token that it then gets.
//!
//! Source: RFC 8628; Microsoft identity platform, device authorization grant flow (read 2026-11).

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use http::{HeaderMap, Response, StatusCode, Uri};
use postern_store::StoreError;
use serde_json::{Value, json};

use super::page::{self, html};
use super::refusal::AuthorityError;
use super::{Asked, address_of, answered, base_url, sign_in, users};
use crate::Identity;
use crate::device::{DEVICE_CODE_SECONDS, DeviceOutcome, DeviceRefusal};
use crate::issue::Form;
use crate::peer::Peer;

/// The page where codes are approved. Its place does not depend on the tenant.
pub(super) const PAGE_PATH: &str = "/common/oauth2/deviceauth";
/// How often a device asks, in seconds. Asking costs one read.
const INTERVAL_SECONDS: u32 = 1;

/// `POST /{tenant}/oauth2/v2.0/devicecode`
pub(super) async fn begin(State(identity): State<Arc<Identity>>, asked: Asked) -> Response<Body> {
    let answer = async {
        let client = users::public_client(&asked)?;
        let codes = identity.begin_device_login(client, asked.audience()?, asked.address).await.map_err(failed)?;
        let page = format!("{}{PAGE_PATH}", asked.base);
        Ok(json!({
            "user_code": codes.user,
            "device_code": codes.device.expose(),
            "verification_uri": page,
            "expires_in": DEVICE_CODE_SECONDS,
            "interval": INTERVAL_SECONDS,
            "message": format!(
                "To sign in, open the page {page} in a web browser and enter the code {0}, or let the server's operator run \
                 `postern device approve {0}`.",
                codes.user
            ),
        }))
    };
    answered(&identity, answer.await)
}

/// `grant_type=urn:ietf:params:oauth:grant-type:device_code`
pub(super) async fn token(identity: &Identity, asked: &Asked) -> Result<Value, AuthorityError> {
    let client = users::public_client(asked)?;
    // Some clients call it `code`.
    let device = asked.form.secret("device_code").or_else(|| asked.form.secret("code"));
    let device = device.ok_or(AuthorityError::MissingField("device_code"))?;
    match identity.device_outcome(&device, client).await.map_err(failed)? {
        DeviceOutcome::Approved(holder, audience) => {
            identity.session_answer(&holder, client, &audience, asked, asked.now)
        }
        DeviceOutcome::Pending => Err(AuthorityError::DevicePending),
        DeviceOutcome::Declined => Err(AuthorityError::DeviceDeclined),
        DeviceOutcome::Expired => Err(AuthorityError::DeviceExpired),
        DeviceOutcome::Unknown => Err(AuthorityError::UnknownDevice),
    }
}

fn failed(error: StoreError) -> AuthorityError {
    match error {
        StoreError::TooManyDeviceLogins => AuthorityError::TooManyDevices,
        other => {
            tracing::error!(error = &other as &dyn std::error::Error, "a device's sign-in failed");
            AuthorityError::Internal
        }
    }
}

/// `GET` of the page.
pub(super) async fn page(State(identity): State<Arc<Identity>>) -> Response<Body> {
    html(StatusCode::OK, "", &page::form(&identity))
}

/// `POST` of the page's form: a code with a password, or with the issuer to sign in with; or the answer to what is asked then.
pub(super) async fn approve(
    State(identity): State<Arc<Identity>>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let again = |status, message: &str| html(status, message, &page::form(&identity));
    let Ok(form) = Form::parse(&body) else { return again(StatusCode::BAD_REQUEST, "The form cannot be read.") };
    let address = address_of(peer.as_deref());
    if let Some(ticket) = form.secret("ticket") {
        return sign_in::confirm(&identity, &ticket, form.get("answer") == Some("approve"), address).await;
    }
    if let (Some(code), Some(issuer)) = (form.get("code"), form.get("issuer")) {
        return sign_in::begin(&identity, issuer, code, &base_url(&identity, &uri, &headers), address).await;
    }
    let fields = (form.get("code"), form.get("username"), form.secret("password"));
    let (Some(code), Some(name), Some(password)) = fields else {
        return again(StatusCode::BAD_REQUEST, "Fill in the code, and user name and password or how to sign in.");
    };
    match identity.approve_by_password(code, name, password, address).await {
        Ok(Ok(())) => html(StatusCode::OK, SIGNED_IN, ""),
        // Whether the name or the password is wrong, or the account disabled, is not said.
        Ok(Err(_)) => again(StatusCode::FORBIDDEN, "The user name or the password is not right."),
        Err(refusal) => refused(&identity, &refusal),
    }
}

pub(super) const SIGNED_IN: &str = "The device is signed in. You can close this page.";

/// Why a sign-in could not be answered, with the form to try again.
pub(super) fn refused(identity: &Identity, refusal: &DeviceRefusal) -> Response<Body> {
    let (status, message) = match refusal {
        DeviceRefusal::UnknownCode | DeviceRefusal::UnknownPrincipal(_) => {
            (StatusCode::NOT_FOUND, "There is no sign-in with this code, or it was answered or has expired.")
        }
        DeviceRefusal::Throttled(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many failed attempts. Wait a minute before the next one.")
        }
        DeviceRefusal::Identity(error) => {
            tracing::error!(error = error as &dyn std::error::Error, "a device's sign-in cannot be approved");
            (StatusCode::INTERNAL_SERVER_ERROR, "The server failed. Try again.")
        }
    };
    html(status, message, &page::form(identity))
}

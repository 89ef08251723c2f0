//! A device's sign-in: its codes, the page where a person approves them, and the token that it then gets.
//!
//! Source: RFC 8628; Microsoft identity platform, device authorization grant flow (read 2026-11).

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Response, StatusCode};
use postern_store::StoreError;
use serde_json::{Value, json};

use super::refusal::AuthorityError;
use super::{Asked, address_of, answered, users};
use crate::Identity;
use crate::device::{DEVICE_CODE_SECONDS, DeviceOutcome, DeviceRefusal};
use crate::issue::Form;
use crate::peer::Peer;

/// The page where codes are approved. Its place does not depend on the tenant.
pub(super) const PAGE_PATH: &str = "/common/oauth2/deviceauth";
/// How often a device asks, in seconds. Asking costs one read.
const INTERVAL_SECONDS: u32 = 1;
/// The page needs no script and nothing from elsewhere, and nobody shows it inside theirs.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

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
pub(super) async fn page() -> Response<Body> {
    html(StatusCode::OK, "", FORM)
}

/// `POST` of the page's form.
pub(super) async fn approve(
    State(identity): State<Arc<Identity>>,
    peer: Option<Extension<Peer>>,
    body: Bytes,
) -> Response<Body> {
    let Ok(form) = Form::parse(&body) else { return html(StatusCode::BAD_REQUEST, "The form cannot be read.", FORM) };
    let fields = (form.get("code"), form.get("username"), form.secret("password"));
    let (Some(code), Some(name), Some(password)) = fields else {
        return html(StatusCode::BAD_REQUEST, "Fill in all three fields.", FORM);
    };
    match identity.approve_by_password(code, name, password, address_of(peer.as_deref())).await {
        Ok(Ok(())) => html(StatusCode::OK, "The device is signed in. You can close this page.", ""),
        // Whether the name or the password is wrong, or the account disabled, is not said.
        Ok(Err(_)) => html(StatusCode::FORBIDDEN, "The user name or the password is not right.", FORM),
        Err(DeviceRefusal::UnknownCode | DeviceRefusal::UnknownPrincipal(_)) => {
            html(StatusCode::NOT_FOUND, "There is no sign-in with this code, or it was answered or has expired.", FORM)
        }
        Err(DeviceRefusal::Throttled(_)) => {
            html(StatusCode::TOO_MANY_REQUESTS, "Too many failed attempts. Wait a minute before the next one.", FORM)
        }
        Err(DeviceRefusal::Identity(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a device's sign-in cannot be approved");
            html(StatusCode::INTERNAL_SERVER_ERROR, "The server failed. Try again.", FORM)
        }
    }
}

const FORM: &str = r#"<p>A device shows a code. Enter it only if you began this sign-in yourself: the device will act as you.</p>
<form method="post" autocomplete="off">
<label>Code <input name="code" required autofocus></label>
<label>User name <input name="username" required autocomplete="username"></label>
<label>Password <input name="password" type="password" required autocomplete="current-password"></label>
<button>Sign the device in</button>
</form>"#;

/// The page. Both texts are this program's own: nothing that somebody sent is repeated.
fn html(status: StatusCode, message: &'static str, form: &'static str) -> Response<Body> {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sign a device in</title>\
         <style>body{{font-family:sans-serif;max-width:30em;margin:3em auto}}label{{display:block;margin:1em 0}}</style>\
         <h1>Sign a device in</h1><p role=\"status\">{message}</p>{form}</html>"
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

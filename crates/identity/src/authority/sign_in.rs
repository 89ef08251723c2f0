//! A person signs in with an issuer of their own, to approve a device.
//!
//! ```text
//!  code and issuer ─▶ page that leads to the issuer ─▶ the person signs in there ─▶ back here with a code, which is exchanged
//!       └─ cookie: state, nonce, verifier                                               └─▶ is it this device? ─▶ approved
//! ```
//!
//! What is between the steps is kept by the browser, signed: any replica goes on with it. The last question is what keeps a foreign page,
//! which can send the browser through all other steps, from having its own device approved.
//!
//! Source: OpenID Connect Core 1.0 §3.1; RFC 7636; RFC 9207; RFC 9700 §2.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use postern_model::{PrincipalId, Secret, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::device::{SIGNED_IN, refused};
use super::page::{self, escaped, html, html_with};
use super::{address_of, base_url};
use crate::Identity;
use crate::issue::Form;
use crate::outside::{SignInError, SignInRequest};
use crate::peer::Peer;

/// Where an issuer sends people back to: what it has to know of this server. Each has an address of its own, so that no issuer is given
/// the code of another one.
pub(super) const CALLBACK_PATH: &str = "/common/oauth2/callback/{issuer}";
/// The browser sends it to this host only, and not from foreign pages' forms.
const COOKIE_NAME: &str = "__Host-postern-sign-in";
/// How long signing in at the issuer may take.
const SIGN_IN_SECONDS: i64 = 10 * 60;
/// How long the last question may be answered.
const TICKET_SECONDS: i64 = 5 * 60;

/// What the browser keeps while the person is at the issuer.
#[derive(Serialize, Deserialize)]
struct Begun {
    iss: String,
    exp: i64,
    issuer: String,
    state: String,
    nonce: String,
    verifier: String,
    code: String,
}

/// Who may answer for which device.
#[derive(Serialize, Deserialize)]
struct Ticket {
    iss: String,
    exp: i64,
    oid: Uuid,
    /// The immutable id of the user's resource.
    postern_user: Uuid,
    code: String,
}

/// Leads the browser to the issuer.
pub(super) async fn begin(
    identity: &Identity,
    issuer: &str,
    code: &str,
    base: &str,
    address: IpAddr,
) -> Response<Body> {
    let Some(issuer) = identity.issuers.trusted().iter().find(|own| own.name == issuer) else {
        return html(StatusCode::BAD_REQUEST, "There is no such way to sign in.", &page::form(identity));
    };
    if let Err(refusal) = identity.open_device_login(code, address).await {
        return refused(identity, &refusal);
    }
    let now = identity.clock.now();
    let [state, nonce, verifier] = [(); 3].map(|()| random_text(identity));
    let request =
        SignInRequest { state: &state, nonce: &nonce, verifier: &verifier, redirect: &redirect(base, &issuer.name) };
    let address = match identity.issuer_page(issuer, &request, now).await {
        Ok(address) => address,
        Err(error) => return failed(identity, &issuer.name, &error),
    };
    let begun = Begun {
        iss: purpose(identity, "sign-in"),
        exp: now.plus_seconds(SIGN_IN_SECONDS).unix_seconds(),
        issuer: issuer.name.clone(),
        state,
        nonce,
        verifier,
        code: code.to_owned(),
    };
    let Ok(begun) = identity.authority_keys.sign(&begun) else { return internal(identity) };
    // Not by a redirect: browsers hold the answer to a form to this page's policy, and it leads elsewhere.
    let (address, name) = (escaped(&address), escaped(&issuer.name));
    let head = format!(r#"<meta http-equiv="refresh" content="0;url={address}">"#);
    let rest = format!(r#"<p><a href="{address}">Go on to {name}</a></p>"#);
    with_cookie(html_with(StatusCode::OK, "", &rest, &head), begun.expose(), SIGN_IN_SECONDS)
}

/// `GET` of [`CALLBACK_PATH`]: the issuer has sent the person back.
pub(super) async fn callback(
    State(identity): State<Arc<Identity>>,
    peer: Option<Extension<Peer>>,
    Path(sender): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    let again = |status, message: &str| html(status, message, &page::form(&identity));
    let stale = || again(StatusCode::BAD_REQUEST, "This sign-in was not begun in this browser, or took too long.");
    let Ok(query) = Form::parse(uri.query().unwrap_or_default().as_bytes()) else { return stale() };
    let now = identity.clock.now();
    let begun: Option<Begun> = cookie(&headers).and_then(|cookie| opened(&identity, cookie, "sign-in", now));
    let Some(begun) = begun else { return stale() };
    let state = query.get("state").unwrap_or_default();
    // Another issuer could have been led to send its code here.
    if sender != begun.issuer || !bool::from(state.as_bytes().ct_eq(begun.state.as_bytes())) {
        return stale();
    }
    let Some(issuer) = identity.issuers.trusted().iter().find(|own| own.name == begun.issuer) else { return stale() };
    let address = address_of(peer.as_deref());
    let login = match identity.open_device_login(&begun.code, address).await {
        Ok(login) => login,
        Err(refusal) => return refused(&identity, &refusal),
    };
    let Some(code) = query.secret("code") else {
        return again(StatusCode::FORBIDDEN, "You were not signed in there.");
    };
    let redirect = redirect(&base_url(&identity, &uri, &headers), &issuer.name);
    let request = SignInRequest { state, nonce: &begun.nonce, verifier: &begun.verifier, redirect: &redirect };
    let holder = match identity.sign_in_with(issuer, &request, &code, query.get("iss"), address).await {
        Ok(holder) => holder,
        Err(error) => return failed(&identity, &issuer.name, &error),
    };
    let ticket = Ticket {
        iss: purpose(&identity, "device"),
        exp: now.plus_seconds(TICKET_SECONDS).unix_seconds(),
        oid: holder.known.principal.id.0,
        postern_user: holder.resource.uid.0,
        code: begun.code.clone(),
    };
    let Ok(ticket) = identity.authority_keys.sign(&ticket) else { return internal(&identity) };
    let message = format!("You are {} ({}).", holder.known.principal.display_name, holder.name());
    let rest = format!(
        r#"<p>A device at {} has shown the code <strong>{}</strong> since {}. Go on only if you began this sign-in yourself and the
device shows this code: it will act as you.</p>
<form method="post" action="{}" autocomplete="off">
<input type="hidden" name="ticket" value="{}">
<button name="answer" value="approve">Sign the device in</button>
<button name="answer" value="decline">Refuse</button>
</form>"#,
        login.source,
        escaped(&begun.code),
        login.begun,
        super::device::PAGE_PATH,
        escaped(ticket.expose()),
    );
    with_cookie(html(StatusCode::OK, &message, &rest), "", 0)
}

/// The answer to the last question.
pub(super) async fn confirm(identity: &Identity, ticket: &Secret, approve: bool, address: IpAddr) -> Response<Body> {
    let now = identity.clock.now();
    let Some(ticket) = opened::<Ticket>(identity, ticket.expose(), "device", now) else {
        let message = "The question was answered too late. Begin again.";
        return html(StatusCode::BAD_REQUEST, message, &page::form(identity));
    };
    let id = PrincipalId(ticket.oid);
    // Whoever was made anew under the same id is somebody else.
    let is_same = identity.holder(id).is_some_and(|holder| holder.resource.uid.0 == ticket.postern_user);
    match identity.answer_device_login(&ticket.code, Some(id).filter(|_| approve && is_same), address).await {
        Ok(_) if approve && is_same => html(StatusCode::OK, SIGNED_IN, ""),
        Ok(_) => html(StatusCode::OK, "The device is not signed in.", ""),
        Err(refusal) => refused(identity, &refusal),
    }
}

/// Tokens of this authority that are for one step only: neither access tokens nor those of another step.
fn purpose(identity: &Identity, step: &str) -> String {
    format!("{}{step}", identity.issuer)
}

trait Step: DeserializeOwned {
    fn said(&self) -> (&str, i64);
}

impl Step for Begun {
    fn said(&self) -> (&str, i64) {
        (&self.iss, self.exp)
    }
}

impl Step for Ticket {
    fn said(&self) -> (&str, i64) {
        (&self.iss, self.exp)
    }
}

fn opened<T: Step>(identity: &Identity, token: &str, step: &str, now: Timestamp) -> Option<T> {
    let opened: T = identity.authority_keys.verify(token).ok()?;
    let (purpose_said, expires) = opened.said();
    (purpose_said == purpose(identity, step) && now.unix_seconds() < expires).then_some(opened)
}

fn redirect(base: &str, issuer: &str) -> String {
    format!("{base}{}", CALLBACK_PATH.replace("{issuer}", issuer))
}

fn random_text(identity: &Identity) -> String {
    let mut bytes = [0; 32];
    identity.random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

fn with_cookie(mut response: Response<Body>, value: &str, seconds: i64) -> Response<Body> {
    let cookie = format!("{COOKIE_NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    response.headers_mut().extend(HeaderValue::try_from(cookie).ok().map(|cookie| (SET_COOKIE, cookie)));
    response
}

fn failed(identity: &Identity, issuer: &str, error: &SignInError) -> Response<Body> {
    tracing::warn!(issuer = %issuer, error = error as &dyn std::error::Error, "a sign-in by an issuer outside failed");
    let (status, message) = match error {
        SignInError::Unreachable(_) | SignInError::NoSignIn | SignInError::Busy => {
            (StatusCode::BAD_GATEWAY, "Whom you want to sign in with cannot be asked now.")
        }
        SignInError::Exchange(_) | SignInError::Unproven(_) | SignInError::Claims(_) => {
            (StatusCode::FORBIDDEN, "Whom you signed in with does not say who you are in a way that counts here.")
        }
        SignInError::Nobody | SignInError::Ambiguous => {
            (StatusCode::FORBIDDEN, "You are nobody here. Ask an administrator.")
        }
        SignInError::Disabled => (StatusCode::FORBIDDEN, "Your account here is disabled."),
        SignInError::Throttled(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many failed attempts. Wait a minute before the next one.")
        }
        SignInError::Store(_) => return internal(identity),
    };
    html(status, message, &page::form(identity))
}

fn internal(identity: &Identity) -> Response<Body> {
    html(StatusCode::INTERNAL_SERVER_ERROR, "The server failed. Try again.", &page::form(identity))
}

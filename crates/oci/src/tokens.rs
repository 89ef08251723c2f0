//! `/oauth2/exchange` and `/oauth2/token`: what is asked is read here, what is issued is decided by `identity`.
//!
//! The gate has let the connection through before the body is read; it decides again once the credentials in it are known.
//!
//! Source: Docker registry token authentication; Azure Container Registry, AAD integration (read 2026-11).

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::request::Parts;
use postern_access::{Credential, Layer};
use postern_identity::{ExchangeRequest, TokenRefusal, TokenRequest};
use serde_json::{Value, json};

use crate::blobs::text;
use crate::body::read;
use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::host::Host;
use crate::reply::Reply;
use crate::route::TokenForm;

/// A token of the authority for a refresh token.
pub(crate) async fn exchange(call: &mut Call, body: Body) -> Result<Response, Refusal> {
    let body = read(body, call.state().limits.form_bytes).await?;
    let mut request = ExchangeRequest::from_form(&body).map_err(|error| refusal(call, error))?;
    request.service = this_service(call, &request.service)?;
    let credential = call.state().identity.exchange_credential(call.rules(), &request, call.now());
    call.decide(credential);
    call.permit()?;
    let identity = &call.state().identity;
    let issued = identity.exchange(call.rules(), &request, call.credential(), call.origin(), call.now());
    let token = issued.map_err(|error| refusal(call, error))?;
    Ok(fresh(&json!({"refresh_token": token.expose()})))
}

/// A refresh token, a password or nothing for an access token.
pub(crate) async fn issue(call: &mut Call, form: TokenForm, parts: &Parts, body: Body) -> Result<Response, Refusal> {
    let request = match form {
        TokenForm::Query => {
            let authorization = text(&parts.headers, &AUTHORIZATION);
            TokenRequest::from_query(parts.uri.query().unwrap_or_default(), authorization)
        }
        TokenForm::Form => TokenRequest::from_form(&read(body, call.state().limits.form_bytes).await?),
    };
    let mut request = request.map_err(|error| refusal(call, error))?;
    if let Some(service) = &request.service {
        request.service = Some(this_service(call, service)?);
    }
    let (identity, address) = (&call.state().identity, call.origin().address);
    let credential = identity.grant_credential(call.rules(), &request, address, call.now());
    let credential = credential.map_err(|throttled| call.deny_throttled(throttled))?;
    let is_anonymous = matches!(credential, Credential::None);
    call.decide(credential);
    call.permit()?;
    if is_anonymous && !call.rules().anonymous_pull {
        return Err(call.deny_unauthenticated());
    }
    let identity = &call.state().identity;
    let issued = identity.issue(call.rules(), &request, call.credential(), call.origin(), call.now());
    let issued = issued.map_err(|error| refusal(call, error))?;
    let mut answer = json!({"access_token": issued.access_token.expose(), "expires_in": issued.expires_in});
    if let (Some(fields), Some(refresh)) = (answer.as_object_mut(), &issued.refresh_token) {
        fields.insert("refresh_token".into(), json!(refresh.expose()));
    }
    Ok(fresh(&answer))
}

/// A service is any name that leads to the registry that was addressed: its login server, with or without port, `localhost`.
fn this_service(call: &Call, service: &str) -> Result<String, Refusal> {
    let named = Host::parse(service).and_then(|host| call.state().directory.registry_by_host(host.name()));
    match named {
        Some(rules) if rules.uid == call.rules().uid => Ok(rules.login_server.to_string()),
        Some(_) | None => Err(refusal(call, TokenRefusal::WrongService)),
    }
}

fn fresh(answer: &Value) -> Response {
    Reply::json(StatusCode::OK, answer).header(CACHE_CONTROL, "no-store").done()
}

fn refusal(call: &Call, error: TokenRefusal) -> Refusal {
    match error {
        TokenRefusal::BadForm
        | TokenRefusal::Missing(_)
        | TokenRefusal::UnsupportedGrant
        | TokenRefusal::WrongService
        | TokenRefusal::BadScope
        | TokenRefusal::TooManyScopes => Refusal::new(Condition::BodyInvalid).with_detail(error),
        TokenRefusal::AuthenticationRequired | TokenRefusal::Invalid(_) => Refusal::new(Condition::TokenRefused),
        TokenRefusal::BoundElsewhere => call.denial(Layer::Network),
        TokenRefusal::Signing => Refusal::new(Condition::Internal),
    }
}

//! Postern's own API, on the control host: decisions by id, hypothetical requests, export, answers to devices that sign in.
//!
//! A trace is shown to who may read the registry, and to the caller it is about.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State as Extract};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use http::request::Parts;
use http::{StatusCode, header};
use postern_access::Principal;
use postern_audit::Audit;
use postern_identity::{DeviceRefusal, Identity, Peer};
use postern_model::{Clock, CorrelationId, PrincipalId, ResourceId};
use postern_store::Directory;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::explain::Question;
use crate::places::Places;

const MAX_BODY_BYTES: usize = 64 << 10;
const WRITE_USERS: &str = "Microsoft.Graph/users/write";
const READ_REGISTRY: &str = "Microsoft.ContainerRegistry/registries/read";

#[derive(Clone)]
pub(crate) struct State {
    pub(crate) directory: Directory,
    pub(crate) identity: Arc<Identity>,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) places: Places,
}

pub(crate) fn router(state: State) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .fallback(async || error(StatusCode::NOT_FOUND, "NotFound", "there is no such operation"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

/// Method and path of every operation.
pub(crate) fn endpoints() -> Vec<(&'static str, &'static str)> {
    routes().into_iter().map(|(method, path, _)| (method, path)).collect()
}

fn routes() -> [(&'static str, &'static str, MethodRouter<State>); 5] {
    [
        ("GET", "/postern/v1/decisions/{id}", get(decision)),
        ("POST", "/postern/v1/explain", post(explain)),
        ("GET", "/postern/v1/export", get(export)),
        ("POST", "/postern/v1/deviceLogins/{code}/approve", post(approve_device)),
        ("POST", "/postern/v1/deviceLogins/{code}/decline", post(decline_device)),
    ]
}

impl State {
    fn may(&self, caller: &Principal, action: &str, scope: &ResourceId) -> bool {
        self.directory.with_estate(|estate| estate.rights(&ids_of(caller)).may(action, scope))
    }
}

/// Whoever proved who they are to the resource manager.
struct Caller(Arc<Principal>);

impl FromRequestParts<State> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let Extension(peer) = Extension::<Peer>::from_request_parts(parts, state).await.map_err(|_| {
            error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "where the request comes from is unknown")
        })?;
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let now = state.clock.now();
        let caller = state.identity.arm_caller(authorization, &peer.workload(&state.identity, now), now);
        caller
            .map(|caller| Self(caller.principal))
            .map_err(|refusal| error(StatusCode::UNAUTHORIZED, "AuthenticationFailed", &refusal.to_string()))
    }
}

/// The caller and its groups.
fn ids_of(caller: &Principal) -> Vec<PrincipalId> {
    std::iter::once(caller.id).chain(caller.groups.iter().copied()).collect()
}

async fn decision(Extract(state): Extract<State>, Caller(caller): Caller, Path(id): Path<String>) -> Response {
    // Somebody else's decision, an unknown one and a malformed id look the same.
    let hidden = || error(StatusCode::NOT_FOUND, "NotFound", "there is no such decision, or you may not see it");
    let Ok(id) = id.parse::<CorrelationId>() else { return hidden() };
    let found = match state.audit.find(id).await {
        Ok(Some(found)) => found,
        Ok(None) => return hidden(),
        Err(failure) => {
            tracing::error!(error = %failure, "audit records cannot be read");
            return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "audit records cannot be read");
        }
    };
    let record: Value = serde_json::from_str(&found).unwrap_or_default();
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let own = text("/caller/principalId") == caller.id.to_string();
    // A registry made anew under the old name is another one: its readers do not see the old one's records.
    let readable = text("/registry").parse().is_ok_and(|registry| {
        let same = state
            .directory
            .registry_by_id(&registry)
            .is_some_and(|rules| rules.uid.to_string() == text("/registryUid"));
        same && state.may(&caller, READ_REGISTRY, &registry)
    });
    if own || readable { answer(found) } else { hidden() }
}

async fn explain(Extract(state): Extract<State>, Caller(caller): Caller, body: Bytes) -> Response {
    let question: Question = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(failure) => return error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &failure.to_string()),
    };
    let rules = match &question.registry {
        Some(name) => {
            state.directory.registry_by_host(&format!("{}.{}", name.to_lowercase(), state.directory.suffix()))
        }
        None => state.directory.default_registry(),
    };
    let Some(rules) = rules.filter(|rules| state.may(&caller, READ_REGISTRY, &rules.id)) else {
        return error(StatusCode::NOT_FOUND, "ResourceNotFound", "there is no such registry, or you may not read it");
    };
    // What somebody may not read does not exist: a question must not find it.
    for id in question.resources() {
        if !state.may(&caller, &format!("{}/read", id.resource_type().unwrap_or_default()), &id) {
            let message = format!("there is no resource `{id}`, or you may not read it");
            return error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &message);
        }
    }
    let now = state.clock.now();
    let places = state.places.clone();
    match state.directory.with_estate(|estate| question.answer(estate, rules, &places, now)) {
        Ok(record) => answer(record.to_string()),
        Err(failure) => error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &format!("{failure:#}")),
    }
}

#[derive(Deserialize)]
struct ExportQuery {
    scope: Option<String>,
}

async fn export(Extract(state): Extract<State>, Caller(caller): Caller, Query(query): Query<ExportQuery>) -> Response {
    let scope = match query.scope.as_deref().map_or_else(|| Ok(ResourceId::root()), str::parse) {
        Ok(scope) => scope,
        Err(failure) => return error(StatusCode::BAD_REQUEST, "InvalidParameter", &format!("scope: {failure}")),
    };
    let documents = state.directory.with_estate(|estate| {
        let rights = estate.rights(&ids_of(&caller));
        postern_estate::export(estate, &scope, |action, id| rights.may(action, id))
    });
    answer(documents.to_string())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    /// Whom the device shall act as: a user principal name or an object id. Default: the caller.
    user: Option<String>,
}

/// A device's session outlasts the token that approves it by far. So this is for who may set the password of whom it shall act as, also
/// for oneself: a person approves with their own password, on the authority's page.
async fn approve_device(
    Extract(state): Extract<State>,
    Caller(caller): Caller,
    Extension(peer): Extension<Peer>,
    Path(code): Path<String>,
    body: Bytes,
) -> Response {
    let approval = if body.is_empty() { Ok(Approval::default()) } else { serde_json::from_slice(&body) };
    let approval = match approval {
        Ok(approval) => approval,
        Err(failure) => return error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &failure.to_string()),
    };
    let named = approval.user.map_or(Ok(caller.id), |name| state.identity.sign_in_name(&name));
    let owner = named.as_ref().ok().and_then(|id| state.directory.principal(*id)?.owner);
    let may = |id: &ResourceId| state.may(&caller, &format!("{}/write", id.resource_type().unwrap_or_default()), id);
    // Whoever may change nobody is not told who there is either.
    if !owner.map_or_else(|| state.may(&caller, WRITE_USERS, &ResourceId::root()), |id| may(&id)) {
        let message = "this is for who may change the directory: approve with your password on the page of the sign-in";
        return error(StatusCode::FORBIDDEN, "AuthorizationFailed", message);
    }
    match named {
        Ok(principal) => answer_device(&state, &peer, &code, Some(principal)).await,
        Err(refusal) => device_refused(&refusal),
    }
}

/// Whoever knows the code may decline.
async fn decline_device(
    Extract(state): Extract<State>,
    Caller(_): Caller,
    Extension(peer): Extension<Peer>,
    Path(code): Path<String>,
) -> Response {
    answer_device(&state, &peer, &code, None).await
}

async fn answer_device(state: &State, peer: &Peer, code: &str, principal: Option<PrincipalId>) -> Response {
    match state.identity.answer_device_login(code, principal, peer.address).await {
        Ok(login) => answer(
            json!({"client": login.client, "source": login.source, "begun": login.begun.to_string(), "principalId": principal.map(|id| id.to_string())})
                .to_string(),
        ),
        Err(refusal) => device_refused(&refusal),
    }
}

fn device_refused(refusal: &DeviceRefusal) -> Response {
    let (status, code) = match refusal {
        DeviceRefusal::UnknownCode => (StatusCode::NOT_FOUND, "NotFound"),
        DeviceRefusal::UnknownPrincipal(_) => (StatusCode::BAD_REQUEST, "PrincipalNotFound"),
        DeviceRefusal::Throttled(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        DeviceRefusal::Identity(failure) => {
            tracing::error!(error = failure as &dyn std::error::Error, "a device's sign-in cannot be answered");
            let message = "the sign-in could not be answered";
            return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message);
        }
    };
    error(status, code, &refusal.to_string())
}

fn answer(json: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"error": {"code": code, "message": message}});
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use postern_access::{InvalidCredential, Principal, WorkloadState};
use postern_estate::{ApiVersion, Document};
use postern_identity::{ArmCaller, ArmRefusal, Peer};
use postern_model::{CorrelationId, PrincipalId, ResourceId, Timestamp};
use postern_store::Directory;
use serde_json::Value;
use uuid::Uuid;

use crate::error::{ArmError, Condition};
use crate::path::{self, Target};
use crate::reply::Reply;
use crate::turn::{self, Remaining};
use crate::{ArmState, actions, graph, lists, metadata, resources};

/// Largest body.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Most levels of a body.
pub(crate) const MAX_BODY_DEPTH: usize = 64;
/// Longest query.
const MAX_QUERY_BYTES: usize = 8192;
/// Longest client request id that is echoed.
const MAX_CLIENT_ID_BYTES: usize = 128;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// One request whose caller is known.
pub(crate) struct Call {
    pub(crate) state: Arc<ArmState>,
    pub(crate) caller: Caller,
    pub(crate) now: Timestamp,
    pub(crate) method: Method,
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    /// Where the client finds this API.
    pub(crate) base: String,
    /// The path as it was sent, for links to the next page.
    pub(crate) path: String,
    pub(crate) body: Option<Document>,
}

/// Who calls, with its groups.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Arc<Principal>,
    pub(crate) client_id: Uuid,
    pub(crate) ids: Arc<[PrincipalId]>,
}

/// The parameters of a query, by lower-case name.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_QUERY_BYTES {
            return None;
        }
        let decode = |part: &str| {
            percent_decode_str(&part.replace('+', " ")).decode_utf8().ok().map(std::borrow::Cow::into_owned)
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?.to_ascii_lowercase(), decode(value)?))
        });
        pairs.collect::<Option<_>>().map(Self)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl From<ArmCaller> for Caller {
    fn from(known: ArmCaller) -> Self {
        let ids = std::iter::once(known.principal.id).chain(known.principal.groups.iter().copied()).collect();
        Self { principal: known.principal, client_id: known.client_id, ids }
    }
}

impl Caller {
    /// Refuses unless it may do the action on the scope.
    pub(crate) fn authorize(&self, directory: &Directory, action: &str, scope: &ResourceId) -> Result<(), ArmError> {
        let allowed = directory.with_estate(|estate| estate.may(&self.ids, action, scope));
        if allowed { Ok(()) } else { Err(self.forbidden(action, scope)) }
    }

    pub(crate) fn forbidden(&self, action: &str, scope: &ResourceId) -> ArmError {
        ArmError::new(
            Condition::Forbidden,
            format!(
                "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{scope}' \
                 or the scope is invalid. If access was recently granted, please refresh your credentials.",
                self.client_id, self.principal.id
            ),
        )
    }

    pub(crate) fn forbidden_linked(
        &self,
        action: &str,
        scope: &ResourceId,
        linked_action: &str,
        linked: &ResourceId,
    ) -> ArmError {
        ArmError::new(
            Condition::ForbiddenLinked,
            format!(
                "The client '{}' with object id '{}' has permission to perform action '{action}' on scope '{scope}'; however, it does \
                 not have permission to perform action(s) '{linked_action}' on the linked scope(s) '{linked}' (respectively) or the \
                 linked scope(s) are invalid.",
                self.client_id, self.principal.id
            ),
        )
    }
}

impl Call {
    /// The same caller and request once more, without its body: for a request that takes several steps.
    pub(crate) fn again(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            caller: self.caller.clone(),
            now: self.now,
            method: self.method.clone(),
            version: self.version,
            query: Query::default(),
            headers: HeaderMap::new(),
            base: self.base.clone(),
            path: self.path.clone(),
            body: None,
        }
    }

    /// Refuses unless the caller may do the action on the scope.
    pub(crate) fn authorize(&self, action: &str, scope: &ResourceId) -> Result<(), ArmError> {
        self.caller.authorize(&self.state.directory, action, scope)
    }

    /// The body, which must be there.
    pub(crate) fn body(&self) -> Result<&Document, ArmError> {
        self.body.as_ref().ok_or_else(|| {
            ArmError::new(
                Condition::InvalidContent,
                "The request content was invalid and could not be deserialized: a JSON object is expected.",
            )
        })
    }

    /// What the client calls its request.
    pub(crate) fn client_request_id(&self) -> Option<&str> {
        let id = self.headers.get(CLIENT_REQUEST_ID)?.to_str().ok()?;
        Some(id).filter(|id| !id.is_empty() && id.len() <= MAX_CLIENT_ID_BYTES)
    }

    /// A text of the body.
    pub(crate) fn body_text(&self, name: &str) -> Result<&str, ArmError> {
        self.body()?.get(name).and_then(Value::as_str).ok_or_else(|| {
            ArmError::new(Condition::InvalidContent, format!("The property '{name}' is required and must be a string."))
        })
    }
}

/// Which of the APIs here is called.
#[derive(Clone, Copy)]
enum Api {
    ResourceManager,
    Graph,
}

pub(crate) async fn serve(State(state): State<Arc<ArmState>>, request: Request) -> Response {
    respond(state, request, Api::ResourceManager).await
}

pub(crate) async fn serve_graph(State(state): State<Arc<ArmState>>, request: Request) -> Response {
    respond(state, request, Api::Graph).await
}

async fn respond(state: Arc<ArmState>, request: Request, api: Api) -> Response {
    let (parts, body) = request.into_parts();
    let correlation = parts.extensions.get::<CorrelationId>().copied();
    let correlation = correlation.unwrap_or_else(|| CorrelationId(state.random.uuid()));
    let request_id = state.random.uuid();
    let client_id = parts.headers.get(CLIENT_REQUEST_ID).filter(|id| id.len() <= MAX_CLIENT_ID_BYTES).cloned();
    let mut remaining = None;
    let outcome = match api {
        Api::ResourceManager => answer(state, parts, body, &mut remaining).await,
        Api::Graph => answer_graph(state, parts, body).await,
    };
    let mut response = match outcome {
        Ok(reply) => reply.into_response(),
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    let mut add = |name, text: String| headers.extend(HeaderValue::from_str(&text).ok().map(|value| (name, value)));
    add(REQUEST_ID, request_id.to_string());
    add(CORRELATION_ID, correlation.to_string());
    headers.extend(remaining.map(|(name, left)| (name, HeaderValue::from(left))));
    headers.extend(client_id.map(|id| (CLIENT_REQUEST_ID, id)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn answer(
    state: Arc<ArmState>,
    parts: Parts,
    body: Body,
    remaining: &mut Option<Remaining>,
) -> Result<Reply, ArmError> {
    let target = path::parse(parts.uri.path())?;
    let base = base(&state, &parts);
    let query = Query::parse(parts.uri.query().unwrap_or_default())
        .ok_or_else(|| ArmError::new(Condition::InvalidUri, "The request's query is not valid."))?;
    let version = api_version(&query)?;
    if target == Target::Metadata {
        return Ok(metadata::endpoints(&state, &base, version));
    }
    let now = state.clock.now();
    let caller = authenticate(&state, &parts, now, Api::ResourceManager)?;
    *remaining = turn::take(&state, &parts.method, parts.uri.path(), &caller, now)?;
    let body = read_body(body).await?;
    let path = parts.uri.path().to_owned();
    let call =
        Call { state, caller, now, method: parts.method, version, query, headers: parts.headers, base, path, body };
    dispatch(call, target).await
}

/// `/v1.0/…` and `/beta/…`.
async fn answer_graph(state: Arc<ArmState>, parts: Parts, body: Body) -> Result<Reply, ArmError> {
    let query = Query::parse(parts.uri.query().unwrap_or_default())
        .ok_or_else(|| ArmError::new(Condition::InvalidUri, "The request's query is not valid."))?;
    let now = state.clock.now();
    let caller = authenticate(&state, &parts, now, Api::Graph)?;
    let body = read_body(body).await?;
    let base = base(&state, &parts);
    let path = parts.uri.path().to_owned();
    let below = path.trim_start_matches('/').split_once('/').map_or("", |(_version, below)| below).to_owned();
    let version = graph::VERSION;
    let call =
        Call { state, caller, now, method: parts.method, version, query, headers: parts.headers, base, path, body };
    graph::dispatch(call, &below).await
}

async fn dispatch(call: Call, target: Target) -> Result<Reply, ArmError> {
    let not_allowed = || {
        ArmError::new(Condition::MethodNotAllowed, format!("The http method '{}' is not supported here.", call.method))
    };
    match (call.method.as_str(), target) {
        ("GET", Target::Tenants) => Ok(metadata::tenants(&call)),
        ("GET", Target::Subscriptions) => Ok(lists::subscriptions(&call)),
        ("GET", Target::SubscriptionList(id, what)) => lists::of_subscription(&call, &id, &what),
        ("GET", Target::GroupResources(id)) => lists::resources(&call, &id),
        ("GET" | "POST", Target::Namespace(id, namespace)) => metadata::namespace(&call, &id, &namespace),
        ("GET", Target::Operations(namespace)) => Ok(metadata::operations(&namespace)),
        ("GET", Target::Resource(id)) => resources::get(&call, &id).await,
        ("HEAD", Target::Resource(id)) => resources::head(&call, &id),
        ("PUT" | "PATCH", Target::Resource(id)) => resources::put(call, id).await,
        ("DELETE", Target::Resource(id)) => resources::delete(call, id).await,
        ("GET", Target::Collection(scope, resource_type)) => lists::collection(&call, &scope, &resource_type),
        ("GET", Target::Children(parent, kind)) => lists::children(&call, &parent, &kind).await,
        ("POST", Target::Collection(scope, operation)) => actions::of_scope(&call, &scope, &operation),
        ("POST", Target::Children(resource, operation)) => actions::of_resource(&call, &resource, &operation).await,
        (_, _) => Err(not_allowed()),
    }
}

fn api_version(query: &Query) -> Result<ApiVersion, ArmError> {
    let text = query.get("api-version").filter(|text| !text.is_empty()).ok_or_else(|| {
        ArmError::new(
            Condition::MissingApiVersion,
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    })?;
    text.parse().map_err(|_| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(50).collect();
        ArmError::new(
            Condition::InvalidApiVersion,
            format!(
                "The api-version '{shown}' is invalid. Versions have the form 'YYYY-MM-DD' or 'YYYY-MM-DD-preview'."
            ),
        )
    })
}

/// Where the client finds this API: answers repeat it.
fn base(state: &ArmState, parts: &Parts) -> String {
    postern_identity::asked_base(&parts.uri, &parts.headers).unwrap_or_else(|| state.arm_endpoint.clone())
}

fn authenticate(state: &ArmState, parts: &Parts, now: Timestamp, api: Api) -> Result<Caller, ArmError> {
    // A header that is not text is one that does not hold.
    let authorization = parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or(""));
    let workload =
        parts.extensions.get::<Peer>().map_or(WorkloadState::None, |peer| peer.workload(&state.identity, now));
    let known = match api {
        Api::ResourceManager => state.identity.arm_caller(authorization, &workload, now),
        Api::Graph => state.identity.graph_caller(authorization, &workload, now, &base(state, parts)),
    };
    known.map(Caller::from).map_err(|refusal| refused(state, refusal))
}

fn refused(state: &ArmState, refusal: ArmRefusal) -> ArmError {
    let (condition, message) = match refusal {
        ArmRefusal::Missing => {
            (Condition::MissingToken, "Authentication failed. The 'Authorization' header is missing.".to_owned())
        }
        ArmRefusal::Invalid(InvalidCredential::Expired) => (
            Condition::ExpiredToken,
            "The access token expiry is earlier than the current time, or it is not valid yet.".to_owned(),
        ),
        ArmRefusal::Invalid(why) => (Condition::InvalidToken, format!("The access token is invalid: {why}.")),
        ArmRefusal::BoundElsewhere => (
            Condition::InvalidToken,
            "The access token is invalid: it was issued to a workload and is used outside of it.".to_owned(),
        ),
    };
    let challenge = format!(
        "Bearer authorization_uri=\"{}/{}\", error=\"invalid_token\", error_description=\"The authentication failed.\"",
        state.arm_endpoint,
        state.identity.tenant()
    );
    ArmError::new(condition, message).challenging(challenge)
}

async fn read_body(body: Body) -> Result<Option<Document>, ArmError> {
    let bytes = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(ArmError::new(Condition::TooLarge, "The request content is larger than 4 MiB."));
        }
        Err(_) => return Err(malformed("the body ended early".into())),
    };
    parse_body(&bytes)
}

fn malformed(why: String) -> ArmError {
    ArmError::new(
        Condition::InvalidContent,
        format!("The request content was invalid and could not be deserialized: '{why}'."),
    )
}

/// Reads a body; `None` when there is none.
pub(crate) fn parse_body(bytes: &[u8]) -> Result<Option<Document>, ArmError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if depth(&value, 0) > MAX_BODY_DEPTH => Err(malformed("it is nested too deep".into())),
        Ok(Value::Object(document)) => Ok(Some(document)),
        // `null` is what some clients send for nothing.
        Ok(Value::Null) => Ok(None),
        Ok(_) => Err(malformed("a JSON object is expected".into())),
        Err(error) => Err(malformed(error.to_string())),
    }
}

fn depth(value: &Value, so_far: usize) -> usize {
    match value {
        _ if so_far > MAX_BODY_DEPTH => so_far,
        Value::Array(entries) => entries.iter().map(|entry| depth(entry, so_far + 1)).max().unwrap_or(so_far),
        Value::Object(object) => object.values().map(|entry| depth(entry, so_far + 1)).max().unwrap_or(so_far),
        _ => so_far,
    }
}

//! What workers call. Each proves itself by the certificate of its connection.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::request::Parts;
use http::{StatusCode, header};
use postern_access::WorkloadState;
use postern_identity::{FirstPartyService, Peer, WorkloadCertificate, WorkloadCertificateError};
use postern_model::{ResourceId, ResourceUid};
use postern_store::StoreError;
use postern_tasks::order::{BeatRequest, LeaseRequest, RunReport};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::blobs::stream;
use crate::lease::Pool;
use crate::logs::Appended;
use crate::schedule::{kind_of, registry_of};
use crate::{Runs, RunsError, run_id};

/// Most bytes of a log in one request.
const MAX_LOG_PIECE_BYTES: usize = 4 << 20;
/// Largest report and the like.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Method and path of every operation that workers call.
pub const AGENT_ENDPOINTS: [(&str, &str); 9] = [
    ("POST", "/postern/v1/agent/lease"),
    ("POST", "/postern/v1/agent/certificate"),
    ("POST", "/postern/v1/agent/runs/{lease}/beat"),
    ("POST", "/postern/v1/agent/runs/{lease}/start"),
    ("POST", "/postern/v1/agent/runs/{lease}/log"),
    ("GET", "/postern/v1/agent/runs/{lease}/source"),
    ("POST", "/postern/v1/agent/runs/{lease}/certificate"),
    ("POST", "/postern/v1/agent/runs/{lease}/end"),
    ("GET", "/postern/v1/agent/runs/{lease}/decisions/{id}"),
];

pub(crate) fn router(runs: Runs) -> Router {
    let handlers: [MethodRouter<Runs>; 9] = [
        post(lease),
        post(own_certificate),
        post(beat),
        post(start),
        post(log).layer(DefaultBodyLimit::max(MAX_LOG_PIECE_BYTES)),
        get(source),
        post(certificate),
        post(end),
        get(decision),
    ];
    AGENT_ENDPOINTS
        .into_iter()
        .zip(handlers)
        .fold(Router::new(), |router, ((_, path), handler)| router.route(path, handler))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(runs)
}

impl FromRequestParts<Runs> for Pool {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, runs: &Runs) -> Result<Self, Refused> {
        let refused = |message: &str| error(StatusCode::FORBIDDEN, "NotAnAgent", message);
        let peer = parts.extensions.get::<Peer>().ok_or_else(|| refused("where the request comes from is unknown"))?;
        match peer.workload(&runs.0.identity, runs.now()) {
            WorkloadState::Verified(workload) => Self::of(&workload).ok_or_else(|| {
                refused("this is for agents alone, and the connection's certificate is that of another workload")
            }),
            WorkloadState::None => Err(refused("an agent proves itself by a workload certificate")),
            WorkloadState::Rejected(why) => Err(refused(&why.to_string())),
        }
    }
}

/// What a worker is refused with.
pub(crate) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        (self.status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}

type Answer = Result<Response, Refused>;

async fn lease(State(runs): State<Runs>, pool: Pool, body: Bytes) -> Answer {
    let request: LeaseRequest = read(&body)?;
    match runs.lease(&pool, &request).await.map_err(refused)? {
        Some(leased) => Ok(answer(&leased)),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn beat(State(runs): State<Runs>, pool: Pool, Path(lease): Path<String>, body: Bytes) -> Answer {
    let request: BeatRequest = read(&body)?;
    runs.beat(&pool, &lease, request).await.map(|beat| answer(&beat)).map_err(refused)
}

async fn start(State(runs): State<Runs>, pool: Pool, Path(lease): Path<String>) -> Answer {
    runs.started(&pool, &lease).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct LogQuery {
    offset: u64,
}

async fn log(
    State(runs): State<Runs>,
    pool: Pool,
    Path(lease): Path<String>,
    Query(query): Query<LogQuery>,
    body: Bytes,
) -> Answer {
    let (held, run) = runs.held(&pool, &lease).await.map_err(refused)?;
    match runs.append_log(&run, held.token(), query.offset, body).await.map_err(refused)? {
        Appended::Stored => Ok(StatusCode::NO_CONTENT.into_response()),
        Appended::Gap(known) => {
            let message = format!("{known} bytes of the log are known, and these begin behind that");
            Err(error(StatusCode::CONFLICT, "LogGap", &message))
        }
    }
}

async fn source(State(runs): State<Runs>, pool: Pool, Path(lease): Path<String>) -> Answer {
    let (_, run) = runs.held(&pool, &lease).await.map_err(refused)?;
    let missing = || error(StatusCode::NOT_FOUND, "NotFound", "nothing was uploaded for this run, or it is gone");
    let name = run.context.as_deref().ok_or_else(missing)?;
    let found = runs.0.store.runs().contexts().open(run.registry, name).await;
    let (file, length) = found.map_err(|failure| refused(failure.into()))?.ok_or_else(missing)?;
    let body = Body::from_stream(stream(file.into(), 0, length));
    Ok(([(header::CONTENT_LENGTH, length.to_string())], body).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signing {
    csr: String,
}

async fn certificate(State(runs): State<Runs>, pool: Pool, Path(lease): Path<String>, body: Bytes) -> Answer {
    let request: Signing = read(&body)?;
    let (_, run) = runs.held(&pool, &lease).await.map_err(refused)?;
    let kind = kind_of(&run).map_err(refused)?;
    let (id, uid) = match kind.task.as_deref() {
        Some(task) => {
            let gone = || refused(RunsError::Conflict("the run's task is gone".into()));
            let id: ResourceId = task.parse().map_err(|_| gone())?;
            let task = runs.0.directory.resource(&id).filter(|task| Some(task.uid.0) == run.task_uid);
            (id, task.ok_or_else(gone)?.uid)
        }
        None => (run_id(&registry_of(&kind).map_err(refused)?, run.number), ResourceUid(run.uid)),
    };
    let issued = runs.0.identity.run_certificate((&id, uid), &request.csr, runs.now());
    tracing::info!(run.id = %run.number, registry.uid = %run.registry, resource.id = %id, agent = ?pool, "a run's worker is given its certificate");
    certified(issued)
}

async fn own_certificate(State(runs): State<Runs>, pool: Pool, body: Bytes) -> Answer {
    let request: Signing = read(&body)?;
    let (identity, now) = (&runs.0.identity, runs.now());
    let issued = match &pool {
        Pool::Shared => identity.first_party_certificate(FirstPartyService::Agents, &request.csr, now),
        Pool::Own(id, uid) => {
            let found = runs.0.directory.resource(id).filter(|found| found.uid.0 == *uid);
            let gone = || error(StatusCode::FORBIDDEN, "NotAnAgent", "the agent pool is gone");
            identity.issue_workload_certificate(&*found.ok_or_else(gone)?, &request.csr, now)
        }
    };
    tracing::info!(agent = ?pool, "an agent's certificate is renewed");
    certified(issued)
}

async fn end(State(runs): State<Runs>, pool: Pool, Path(lease): Path<String>, body: Bytes) -> Answer {
    let report: RunReport = read(&body)?;
    // It is ended as a whole, also when the worker goes away meanwhile.
    let ending = tokio::spawn(async move { runs.report(&pool, &lease, report).await });
    ending.await.unwrap_or(Err(StoreError::Interrupted.into())).map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn decision(State(runs): State<Runs>, pool: Pool, Path((lease, id)): Path<(String, String)>) -> Answer {
    let (_, run) = runs.held(&pool, &lease).await.map_err(refused)?;
    let missing = || error(StatusCode::NOT_FOUND, "NotFound", "there is no such decision about this run");
    let id = id.parse().map_err(|_| missing())?;
    let line = runs.why(&run, id).await.map_err(refused)?.ok_or_else(missing)?;
    Ok(answer(&json!({ "line": line })))
}

fn certified(issued: Result<WorkloadCertificate, WorkloadCertificateError>) -> Answer {
    match issued {
        Ok(issued) => Ok(answer(&json!({
            "certificate": issued.certificate_pem,
            "ca": issued.ca_pem,
            "notAfter": issued.not_after.to_string(),
        }))),
        Err(WorkloadCertificateError::BadRequest) => {
            Err(error(StatusCode::BAD_REQUEST, "InvalidRequestContent", "the certificate signing request is not valid"))
        }
        Err(failure) => {
            tracing::error!(error = %failure, "a certificate could not be signed");
            Err(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "the certificate could not be signed"))
        }
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|failure| error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &failure.to_string()))
}

fn answer<T: Serialize>(value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "the answer cannot be written")
            .into_response(),
    }
}

fn refused(failure: RunsError) -> Refused {
    match failure {
        RunsError::Store(StoreError::LeaseLost) => {
            error(StatusCode::CONFLICT, "LeaseLost", "the run is no longer this worker's: stop at once")
        }
        RunsError::Invalid(message) => error(StatusCode::BAD_REQUEST, "InvalidRequestContent", &message),
        RunsError::NotFound(message) => error(StatusCode::NOT_FOUND, "NotFound", &message),
        RunsError::Conflict(message) => error(StatusCode::CONFLICT, "Conflict", &message),
        RunsError::Store(failure) => {
            tracing::error!(error = &failure as &dyn std::error::Error, "an agent's request cannot be answered");
            error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "the server could not do it")
        }
    }
}

fn error(status: StatusCode, code: &'static str, message: &str) -> Refused {
    Refused { status, code, message: message.to_owned() }
}

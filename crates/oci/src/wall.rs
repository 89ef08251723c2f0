use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use postern_access::Permit;
use postern_audit::Audit;
use postern_identity::{Identity, Peer, RequestLimiter};
use postern_model::{Clock, CorrelationId, Random};
use postern_store::{Directory, Store};

use crate::body::Limits;
use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::reply::Reply;
use crate::route::Route;
use crate::{blobs, deleted, manifests, referrers, repositories, tags, tokens, uploads};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");

/// What the data plane works with.
pub struct OciState {
    /// Content.
    pub store: Store,
    /// Which registries there are, and their rules.
    pub directory: Directory,
    /// Who calls.
    pub identity: Arc<Identity>,
    /// Where decisions are recorded.
    pub audit: Audit,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where correlation ids come from.
    pub random: Arc<dyn Random>,
    /// Bounds on bodies.
    pub limits: Limits,
    /// Holds callers to the documented numbers of requests, if it is there.
    pub requests: Option<Arc<RequestLimiter>>,
}

/// A request extension: the client speaks plain HTTP, so that challenges name an `http` realm. For loopback listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHttp;

/// The data plane. Every request needs a [`Peer`] among its extensions; a [`CorrelationId`] there becomes the request's.
pub fn router(state: OciState) -> Router {
    DataPlane::new(state).router()
}

async fn serve(State(plane): State<DataPlane>, request: Request) -> Response {
    let extensions = request.extensions();
    let id = extensions.get::<CorrelationId>().copied();
    let id = id.unwrap_or_else(|| CorrelationId::new(plane.0.clock.now(), plane.0.random.as_ref()));
    let (peer, is_plain) = (extensions.get::<Peer>().cloned(), extensions.get::<PlainHttp>().is_some());
    let Some(peer) = peer else {
        // Without a peer there is no origin, and without an origin no way in.
        tracing::error!(request.id = %id, "a request came without its connection's peer");
        return named(refused(Refusal::new(Condition::Internal), id), id);
    };
    plane.answer(id, &peer, is_plain, request).await
}

/// The data plane for a server that has found out everything about the connection itself.
#[derive(Clone)]
pub struct DataPlane(Arc<OciState>);

impl DataPlane {
    /// Serves with this state.
    pub fn new(state: OciState) -> Self {
        Self(Arc::new(state))
    }

    /// The same as a router: what it needs to know it finds among a request's extensions, as [`router`] says.
    pub fn router(&self) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }

    /// Answers a request that came over this connection; `is_plain` says that it was no TLS connection.
    pub async fn answer(&self, id: CorrelationId, peer: &Peer, is_plain: bool, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let route = Route::parse(&parts.method, parts.uri.path(), parts.uri.query());
        let response = match Call::new(&self.0, id, &parts, peer, is_plain, &route) {
            Err(refusal) => refused(refusal, id),
            Ok(mut call) => {
                // A data endpoint serves blobs, and nothing else.
                let route = match route {
                    Ok(Route::PullBlob { .. }) | Err(_) => route,
                    Ok(_) if call.is_data() => Err(Refusal::new(Condition::UnknownEndpoint)),
                    route => route,
                };
                let outcome = answer(&mut call, route, &parts, body).await;
                call.settle(&outcome);
                let response = outcome.unwrap_or_else(|refusal| refused(refusal, id));
                call.record(response.status()).await;
                response
            }
        };
        named(response, id)
    }
}

/// Adds what every answer carries.
fn named(mut response: Response, id: CorrelationId) -> Response {
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Ok(id) = HeaderValue::from_str(id.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())) {
        headers.insert(CORRELATION_ID, id);
    }
    response
}

fn refused(refusal: Refusal, id: CorrelationId) -> Response {
    if let Some(source) = refusal.source() {
        let cause = std::iter::successors(Some(source as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        tracing::error!(request.id = %id, error = %cause, "a request failed");
    }
    refusal.into_response()
}

/// Decides, and lets the handler answer.
async fn answer(
    call: &mut Call,
    route: Result<Route, Refusal>,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    match route {
        Ok(Route::ExchangeToken) => {
            call.permit()?;
            call.take_turn()?;
            Box::pin(tokens::exchange(call, body)).await
        }
        Ok(Route::IssueToken(form)) => {
            call.permit()?;
            call.take_turn()?;
            Box::pin(tokens::issue(call, form, parts, body)).await
        }
        Ok(Route::ChangeManifest { digest, .. }) => Box::pin(repositories::change_manifest(call, &digest, body)).await,
        route => {
            let (permit, route) = (call.permit()?, route?);
            // An upload that was let begin is one write, in however many steps it comes.
            if !route.continues_upload() {
                call.take_turn()?;
            }
            handle(call, &permit, route, parts, body).await
        }
    }
}

async fn handle(call: &Call, permit: &Permit, route: Route, parts: &Parts, body: Body) -> Result<Response, Refusal> {
    let headers = &parts.headers;
    match route {
        Route::PullManifest { reference, want, .. } => manifests::pull(call, permit, &reference, want, headers).await,
        Route::PullBlob { digest, want, .. } => blobs::pull(call, permit, digest, want, headers).await,
        // Boxed, so that pulls need not make room for the state of pushes.
        other => Box::pin(handle_other(call, permit, other, parts, body)).await,
    }
}

async fn handle_other(
    call: &Call,
    permit: &Permit,
    route: Route,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let headers = &parts.headers;
    match route {
        // These have their own way, above.
        Route::Ping | Route::ExchangeToken | Route::IssueToken(_) | Route::ChangeManifest { .. } => {
            Ok(Reply::json(StatusCode::OK, &serde_json::json!({})).done())
        }
        Route::ListCatalog { family, page } => tags::catalog(call, permit, family, &page).await,
        Route::ListTags { page, .. } => tags::list(call, permit, &page).await,
        Route::ListReferrers { subject, artifact_type, page, .. } => {
            referrers::list(call, permit, subject, artifact_type.as_deref(), &page).await
        }
        Route::PullManifest { reference, want, .. } => manifests::pull(call, permit, &reference, want, headers).await,
        Route::PushManifest { reference, tags, .. } => {
            manifests::push(call, permit, &reference, tags, headers, body).await
        }
        Route::DeleteManifest { digest, .. } => manifests::delete(call, permit, digest).await,
        Route::Untag { tag, .. } => manifests::untag(call, permit, &tag).await,
        Route::PullBlob { digest, want, .. } => blobs::pull(call, permit, digest, want, headers).await,
        Route::DeleteBlob { digest, .. } => blobs::delete(call, permit, digest).await,
        Route::StartUpload { start, .. } => uploads::start(call, permit, start, body).await,
        Route::UploadStatus { upload, .. } => uploads::status(call, permit, upload).await,
        Route::AppendUpload { upload, .. } => uploads::append(call, permit, upload, headers, body).await,
        Route::FinishUpload { upload, digest, .. } => {
            uploads::finish(call, permit, upload, digest, headers, body).await
        }
        Route::CancelUpload { upload, .. } => uploads::cancel(call, permit, upload).await,
        Route::ReadRepository { .. } => repositories::read_repository(call, permit).await,
        Route::ChangeRepository { .. } => repositories::change_repository(call, permit, body).await,
        Route::DeleteRepository { .. } => repositories::delete_repository(call, permit).await,
        Route::ListTagObjects { digest, page, .. } => {
            repositories::list_tags(call, permit, digest.as_ref(), &page).await
        }
        Route::ReadTag { tag, .. } => repositories::read_tag(call, permit, &tag).await,
        Route::ChangeTag { tag, .. } => repositories::change_tag(call, permit, &tag, body).await,
        Route::ListManifestObjects { page, .. } => repositories::list_manifests(call, permit, &page).await,
        Route::ListDeletedCatalog { page } => deleted::catalog(call, permit, &page).await,
        Route::ListDeletedManifests { page, .. } => deleted::manifests(call, permit, &page).await,
        Route::ListDeletedTags { page, .. } => deleted::tags(call, permit, &page).await,
        Route::RestoreDeleted { digest, force, .. } => deleted::restore(call, permit, &digest, force, body).await,
        Route::ReadManifest { digest, .. } => repositories::read_manifest(call, permit, &digest).await,
    }
}

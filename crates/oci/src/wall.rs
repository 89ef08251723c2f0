use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use postern_access::{Credential, InvalidCredential, Permit};
use postern_audit::Audit;
use postern_identity::Identity;
use postern_model::{Clock, CorrelationId, Random};
use postern_store::{Directory, Store};

use crate::body::Limits;
use crate::call::Call;
use crate::error::Refusal;
use crate::reply::Reply;
use crate::route::Route;
use crate::{blobs, manifests, referrers, repositories, tags, tokens, uploads};

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
}

/// A request extension: the client speaks plain HTTP, so that challenges name an `http` realm. For loopback listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHttp;

/// The data plane. Every request needs a [`Peer`](postern_identity::Peer) among its extensions; a [`CorrelationId`] there becomes the request's.
pub fn router(state: OciState) -> Router {
    Router::new().fallback(serve).with_state(Arc::new(state))
}

async fn serve(State(state): State<Arc<OciState>>, request: Request) -> Response {
    let known = request.extensions().get::<CorrelationId>().copied();
    let id = known.unwrap_or_else(|| CorrelationId(state.random.uuid()));
    let (parts, body) = request.into_parts();
    let route = Route::parse(&parts.method, parts.uri.path(), parts.uri.query());
    let mut response = match Call::new(&state, id, &parts, &route) {
        Err(refusal) => refused(refusal, id),
        Ok(mut call) => {
            let outcome = answer(&mut call, route, &parts, body).await;
            call.settle(&outcome);
            let response = outcome.unwrap_or_else(|refusal| refused(refusal, id));
            call.record(response.status()).await;
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
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
            tokens::exchange(call, body).await
        }
        Ok(Route::IssueToken(form)) => {
            call.permit()?;
            tokens::issue(call, form, parts, body).await
        }
        route => {
            let credential = match parts.headers.get(AUTHORIZATION).map(HeaderValue::to_str) {
                None => Credential::None,
                Some(Err(_)) => Credential::Invalid(InvalidCredential::Malformed),
                Some(Ok(header)) => call.state().identity.credential(call.rules(), Some(header), call.now()),
            };
            call.decide(credential);
            let permit = call.permit()?;
            handle(call, &permit, route?, parts, body).await
        }
    }
}

async fn handle(call: &Call, permit: &Permit, route: Route, parts: &Parts, body: Body) -> Result<Response, Refusal> {
    let headers = &parts.headers;
    match route {
        // Token requests have their own way, above.
        Route::Ping | Route::ExchangeToken | Route::IssueToken(_) => {
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
        Route::ReadManifest { digest, .. } => repositories::read_manifest(call, permit, &digest).await,
        Route::ChangeManifest { digest, .. } => repositories::change_manifest(call, permit, &digest, body).await,
    }
}

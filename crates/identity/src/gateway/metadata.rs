use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use postern_model::Secret;
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, GatewayError, METADATA_PATH, Shared, text, tunnel};
use crate::managed;

const MAX_QUERY_BYTES: usize = 8 * 1024;
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How the forms of the managed identity endpoint name its parameters, and what the authority calls them.
///
/// Source: App Service and instance metadata service, managed identity endpoint reference (read 2026-11).
const PARAMETERS: [(&str, &str); 8] = [
    ("resource", "resource"),
    ("client_id", "client_id"),
    ("clientid", "client_id"),
    ("object_id", "object_id"),
    ("principal_id", "object_id"),
    ("mi_res_id", "mi_res_id"),
    ("msi_res_id", "mi_res_id"),
    ("resource_id", "mi_res_id"),
];

/// Answers a request for a managed identity token in any of its forms.
pub(super) async fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if let Some(refusal) = refusal(request, shared) {
        return refusal;
    }
    let query = request.uri().query().unwrap_or_default();
    if query.len() > MAX_QUERY_BYTES {
        return text(StatusCode::URI_TOO_LONG, "the query is too long");
    }
    match forward(translated(query), shared).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(error = %error, "the gateway gets no token");
            text(StatusCode::BAD_GATEWAY, &format!("the gateway gets no token: {error}"))
        }
    }
}

/// The query as the authority wants it in a form.
fn translated(query: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let known = PARAMETERS.iter().find(|(theirs, _)| name.eq_ignore_ascii_case(theirs));
        if let Some((_, ours)) = known {
            form.append_pair(ours, &value);
        }
    }
    form.finish()
}

/// Each form has its own way of showing that no web page or redirect made the request.
fn refusal(request: &Request<Incoming>, shared: &Shared) -> Option<Response<Full<Bytes>>> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if request.uri().path() == METADATA_PATH {
        if !shared.options.instance_metadata {
            return Some(text(StatusCode::NOT_FOUND, "not found"));
        }
        let asked = header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let forwarded = request.headers().contains_key("x-forwarded-for");
        let message = "the header `Metadata: true` is required, and no forwarding";
        return (!asked || forwarded).then(|| text(StatusCode::BAD_REQUEST, message));
    }
    let presented = header("x-identity-header").or_else(|| header("secret"));
    let message = "the header `X-IDENTITY-HEADER` or `secret` is missing or wrong";
    (presented.map(Secret::new).as_ref() != Some(&shared.secret)).then(|| text(StatusCode::UNAUTHORIZED, message))
}

async fn forward(form: String, shared: &Shared) -> Result<Response<Full<Bytes>>, GatewayError> {
    let mut sender = tunnel::connect(&shared.options.authority, shared).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(managed::TOKEN_PATH)
        .header(HOST, &shared.options.authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))
        .map_err(|_| GatewayError::Malformed("the authority's name"))?;
    let response =
        timeout(CONNECT_TIMEOUT, sender.send_request(request)).await.map_err(|_| GatewayError::Timeout)??;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|_| GatewayError::Malformed("the authority's answer"))?;
    let mut answer = Response::new(Full::new(body.to_bytes()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

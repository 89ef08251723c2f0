use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use postern_model::Digest;
use serde_json::Value;

use crate::range::etag;

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// A response being built. A value that no header can hold is left out; none of ours is one.
pub(crate) struct Reply(Response);

impl Reply {
    pub(crate) fn new(status: StatusCode, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self(response)
    }

    /// Headers only.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::new(status, Body::empty())
    }

    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, Body::from(value.to_string())).header(CONTENT_TYPE, "application/json; charset=utf-8")
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.0.headers_mut().append(name, value);
        }
        self
    }

    pub(crate) fn location(self, path: impl AsRef<str>) -> Self {
        self.header(LOCATION, path)
    }

    pub(crate) fn link(mut self, link: Option<HeaderValue>) -> Self {
        if let Some(link) = link {
            self.0.headers_mut().insert(LINK, link);
        }
        self
    }

    /// The digest that the client asked for or has just made.
    pub(crate) fn digest(self, digest: &Digest) -> Self {
        self.header(DOCKER_CONTENT_DIGEST, digest.to_string())
    }

    /// Content that never changes under its digest.
    pub(crate) fn content(self, digest: &Digest, content_type: &str, length: u64) -> Self {
        self.digest(digest)
            .header(ETAG, etag(digest))
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, length.to_string())
            // What people push must not become a page of this host.
            .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
    }

    /// The client has the content already.
    pub(crate) fn not_modified(digest: &Digest) -> Self {
        Self::empty(StatusCode::NOT_MODIFIED).digest(digest).header(ETAG, etag(digest))
    }

    pub(crate) fn done(self) -> Response {
        self.0
    }
}

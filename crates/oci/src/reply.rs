use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use postern_model::Digest;
use serde::Serialize;

use crate::range::etag;

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Room for the headers of an ordinary answer.
const HEADERS: usize = 12;

/// A response being built. A value that no header can hold is left out; none of ours is one.
pub(crate) struct Reply(Response);

impl Reply {
    pub(crate) fn new(status: StatusCode, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().reserve(HEADERS);
        Self(response)
    }

    /// Headers only.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::new(status, Body::empty())
    }

    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        Self::new(status, Body::from(serde_json::to_vec(value).unwrap_or_default()))
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
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

    /// The digest and the entity tag, which is the digest in quotes: one text for both.
    fn digest_and_tag(mut self, digest: &Digest) -> Self {
        let tag = Bytes::from(etag(digest));
        let digest = tag.slice(1..tag.len().saturating_sub(1).max(1));
        for (name, value) in [(DOCKER_CONTENT_DIGEST, digest), (ETAG, tag)] {
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                self.0.headers_mut().insert(name, value);
            }
        }
        self
    }

    /// Content that never changes under its digest.
    pub(crate) fn content(self, digest: &Digest, content_type: &str, length: u64) -> Self {
        let mut reply = self.digest_and_tag(digest).header(CONTENT_TYPE, content_type);
        let headers = reply.0.headers_mut();
        headers.insert(CONTENT_LENGTH, length.into());
        // What people push must not become a page of this host.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }

    /// The client has the content already.
    pub(crate) fn not_modified(digest: &Digest) -> Self {
        Self::empty(StatusCode::NOT_MODIFIED).digest_and_tag(digest)
    }

    pub(crate) fn done(self) -> Response {
        self.0
    }
}

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Option<Value>,
    etag: Option<String>,
}

impl Reply {
    pub(crate) const fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body), etag: None }
    }

    pub(crate) const fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(crate) const fn empty(status: StatusCode) -> Self {
        Self { status, body: None, etag: None }
    }

    /// A list in one piece.
    pub(crate) fn list(values: Vec<Value>) -> Self {
        Self::ok(json!({"value": values}))
    }

    /// What it would send.
    pub(crate) fn into_body(self) -> Value {
        self.body.unwrap_or_default()
    }

    pub(crate) fn with_etag(self, etag: &str) -> Self {
        Self { etag: Some(format!("\"{etag}\"")), ..self }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => (self.status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
                .into_response(),
            None => self.status.into_response(),
        };
        if let Some(etag) = self.etag.and_then(|etag| etag.parse().ok()) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

use axum::response::{IntoResponse, Response};
use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};

use crate::operations::RETRY_AFTER_SECONDS;

const ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Option<Value>,
    etag: Option<String>,
    operation: Option<Operation>,
    is_retried: bool,
}

/// Where the client learns how something goes on.
#[derive(Debug)]
struct Operation {
    status_url: String,
    result_url: String,
}

impl Reply {
    pub(crate) const fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body), etag: None, operation: None, is_retried: false }
    }

    pub(crate) const fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(crate) const fn empty(status: StatusCode) -> Self {
        Self { status, body: None, etag: None, operation: None, is_retried: false }
    }

    /// A list in one piece.
    pub(crate) fn list(values: Vec<Value>) -> Self {
        Self::ok(json!({"value": values}))
    }

    /// A list that begins with these.
    pub(crate) fn preceded_by(mut self, mut first: Vec<Value>) -> Self {
        if let Some(Value::Array(values)) = self.body.as_mut().and_then(|body| body.get_mut("value")) {
            first.append(values);
            *values = first;
        }
        self
    }

    /// Its body, to be completed.
    pub(crate) const fn body_mut(&mut self) -> Option<&mut Value> {
        self.body.as_mut()
    }

    /// What it would send.
    pub(crate) fn into_body(self) -> Value {
        self.body.unwrap_or_default()
    }

    /// It goes on: how, is told at these addresses.
    pub(crate) fn with_operation(self, status_url: String, result_url: String) -> Self {
        Self { operation: Some(Operation { status_url, result_url }), is_retried: true, ..self }
    }

    /// The client is to ask again soon.
    pub(crate) const fn retried(mut self) -> Self {
        self.is_retried = true;
        self
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
        if self.is_retried {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        if let Some(Operation { status_url, result_url }) = self.operation {
            let headers = response.headers_mut();
            headers.extend(status_url.parse().ok().map(|url| (ASYNC_OPERATION, url)));
            headers.extend(result_url.parse().ok().map(|url| (header::LOCATION, url)));
        }
        response
    }
}

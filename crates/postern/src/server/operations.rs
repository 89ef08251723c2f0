use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use postern_store::Store;

/// Health, readiness and metrics.
#[derive(Clone)]
pub(crate) struct Operations {
    metrics: PrometheusHandle,
    store: Store,
    draining: Arc<AtomicBool>,
}

/// What it answers, for `GET`.
pub(crate) const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

impl Operations {
    pub(crate) fn new(metrics: PrometheusHandle, store: Store) -> Self {
        Self { metrics, store, draining: Arc::default() }
    }

    /// Shutting down: not ready any more.
    pub(crate) fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// `/healthz`, `/readyz`, and for callers on this machine `/metrics`.
    pub(crate) async fn answer(&self, path: &str, loopback: bool) -> Response {
        match path {
            "/healthz" => "ok\n".into_response(),
            "/readyz" if self.draining.load(Ordering::Acquire) => unavailable("shutting down\n"),
            "/readyz" => match self.store.ping().await {
                Ok(()) => "ready\n".into_response(),
                Err(error) => {
                    tracing::error!(error = %error, "the store does not answer");
                    unavailable("the store does not answer\n")
                }
            },
            "/metrics" if loopback => {
                let text = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
                ([text], self.metrics.render()).into_response()
            }
            _ => (StatusCode::NOT_FOUND, Body::empty()).into_response(),
        }
    }
}

fn unavailable(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

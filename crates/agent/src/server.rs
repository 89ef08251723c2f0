//! What a worker asks the server: runs, their files, certificates to carry them out with; and what it tells it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use postern_identity::{Gateway, GatewayError, WorkloadCertificate};
use postern_model::Timestamp;
use postern_tasks::order::{Beat, BeatRequest, LeaseRequest, Leased, RunReport};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::Connection;

/// An answer that is not a file may take so long, beside what the request waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer that is looked at.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest part of a refusal that is told on.
const MAX_SHOWN_CHARS: usize = 500;

/// Why the server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The run is somebody else's by now, or has ended: stop.
    #[error("the run is not this worker's any more")]
    LeaseLost,
    /// It has no such thing.
    #[error("the server has no such thing")]
    NotFound,
    /// It refused.
    #[error("the server refused ({status}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It could not be asked: later it may be there again.
    #[error("the server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// Its answer makes no sense.
    #[error("the server's answer cannot be read")]
    Unreadable,
    /// A file could not be written.
    #[error("a file could not be written")]
    Io(#[from] std::io::Error),
}

impl From<reqwest::Error> for ServerError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }
}

/// The server's part for workers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    http: reqwest::Client,
    base: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    certificate: String,
    ca: String,
    not_after: String,
}

impl Server {
    /// Through a gateway, which proves who asks.
    pub(crate) fn new(connection: &Connection, gateway: &Gateway) -> Result<Self, GatewayError> {
        let http = connection.client(gateway)?;
        Ok(Self { http, base: format!("{}/postern/v1/agent", connection.control.trim_end_matches('/')) })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.base))
    }

    /// A run, if there is one within so many seconds.
    pub(crate) async fn lease(&self, request: &LeaseRequest) -> Result<Option<Leased>, ServerError> {
        let patience = PATIENCE + Duration::from_secs(request.wait_seconds.into());
        let answer = self.request(Method::POST, "lease").json(request).timeout(patience).send().await?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read(accepted(answer).await?).await.map(Some)
    }

    /// Makes the lease last.
    pub(crate) async fn beat(&self, lease: &str, beat: BeatRequest) -> Result<Beat, ServerError> {
        let request = self.request(Method::POST, &format!("runs/{lease}/beat")).json(&beat);
        read(accepted(request.timeout(PATIENCE).send().await?).await?).await
    }

    /// The steps begin.
    pub(crate) async fn start(&self, lease: &str) -> Result<(), ServerError> {
        let request = self.request(Method::POST, &format!("runs/{lease}/start"));
        accepted(request.timeout(PATIENCE).send().await?).await.map(drop)
    }

    /// A piece of the log, which begins at `offset`.
    pub(crate) async fn log(&self, lease: &str, offset: u64, piece: Bytes) -> Result<(), ServerError> {
        let request = self.request(Method::POST, &format!("runs/{lease}/log?offset={offset}")).body(piece);
        accepted(request.timeout(PATIENCE).send().await?).await.map(drop)
    }

    /// Writes the archive that was uploaded for the run to a file.
    pub(crate) async fn source(&self, lease: &str, file: &Path) -> Result<(), ServerError> {
        let answer = accepted(self.request(Method::GET, &format!("runs/{lease}/source")).send().await?).await?;
        let mut pieces = answer.bytes_stream();
        let mut file = tokio::fs::File::create(file).await?;
        while let Some(piece) = pieces.next().await {
            file.write_all(&piece?).await?;
        }
        file.flush().await?;
        Ok(())
    }

    /// A certificate of what the run proves to be; without a lease, of the worker itself.
    pub(crate) async fn certificate(
        &self,
        lease: Option<&str>,
        signing_request: &str,
    ) -> Result<WorkloadCertificate, ServerError> {
        let path = lease.map_or_else(|| "certificate".to_owned(), |lease| format!("runs/{lease}/certificate"));
        let request = self.request(Method::POST, &path).json(&json!({"csr": signing_request}));
        let issued: Issued = read(accepted(request.timeout(PATIENCE).send().await?).await?).await?;
        let not_after = issued.not_after.parse::<Timestamp>().map_err(|_| ServerError::Unreadable)?;
        Ok(WorkloadCertificate { certificate_pem: issued.certificate, ca_pem: issued.ca, not_after })
    }

    /// What is recorded of a decision about the run, in one line; none when there is nothing for the run's log.
    pub(crate) async fn decision(&self, lease: &str, id: &str) -> Result<Option<String>, ServerError> {
        #[derive(Deserialize)]
        struct Decision {
            line: String,
        }
        let request = self.request(Method::GET, &format!("runs/{lease}/decisions/{id}"));
        match accepted(request.timeout(PATIENCE).send().await?).await {
            Ok(answer) => read::<Decision>(answer).await.map(|decision| Some(decision.line)),
            Err(ServerError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The run has ended.
    pub(crate) async fn end(&self, lease: &str, report: &RunReport) -> Result<(), ServerError> {
        let request = self.request(Method::POST, &format!("runs/{lease}/end")).json(report);
        accepted(request.timeout(PATIENCE).send().await?).await.map(drop)
    }
}

async fn accepted(answer: Response) -> Result<Response, ServerError> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::CONFLICT => Err(ServerError::LeaseLost),
        StatusCode::NOT_FOUND => Err(ServerError::NotFound),
        status => {
            let text = bounded(answer).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let message = text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect();
            Err(ServerError::Refused { status: status.as_u16(), message })
        }
    }
}

async fn read<T: for<'de> Deserialize<'de>>(answer: Response) -> Result<T, ServerError> {
    serde_json::from_slice(&bounded(answer).await?).map_err(|_| ServerError::Unreadable)
}

/// A body of at most [`MAX_ANSWER_BYTES`].
async fn bounded(answer: Response) -> Result<Vec<u8>, ServerError> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece?);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(ServerError::Unreadable);
        }
    }
    Ok(body)
}

//! The workload gateway: a small proxy beside a workload that proves the workload to the server, so that unmodified clients need
//! not.
//!
//! ```text
//!  client ──CONNECT──▶ gateway ══ mutual TLS, CONNECT ══▶ server
//!  SDK ──GET token──▶ gateway ══ mutual TLS ══▶ authority
//! ```
//!
//! The workload's key is made here and never leaves; clients see the gateway's own secrets only.

mod certificate;
mod metadata;
mod tunnel;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_model::{Clock, Random, Secret};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

pub use certificate::{CertificateFuture, CertificateSource, WorkloadKey};

use certificate::Certificates;

use crate::identity::new_secret;

/// Where clients of the gateway get managed identity tokens.
const TOKEN_PATH: &str = "/msi/token";
/// Where they do when they take the gateway for an instance metadata service.
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";
const PROXY_USER: &str = "postern";
const MAX_CONNECTIONS: usize = 1024;
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 32 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a gateway needs to know.
pub struct GatewayOptions {
    /// Where the server listens: `host:port`. Only this is dialled for its names; no name needs to resolve.
    pub server: String,
    /// The authority of the server's certificate.
    pub ca_pem: String,
    /// The server's name for tunnels: `gateway.azurecr.io.localhost`.
    pub server_name: String,
    /// The authority's host name.
    pub authority: String,
    /// Connections to this name and everything below go through the tunnel.
    pub suffix: String,
    /// Further names that do: the server's own host name, say.
    pub names: Vec<String>,
    /// Whether connections elsewhere are made, past the tunnel. Without it they are refused.
    pub direct: bool,
    /// Whether to answer as an instance metadata service, which asks for no secret: only where nobody but the workload reaches
    /// the gateway.
    pub instance_metadata: bool,
    /// The address to dial the server from, where it matters.
    pub local_address: Option<IpAddr>,
    /// Where to listen; a free port on 127.0.0.1 if it is not given.
    pub listen: Option<SocketAddr>,
    /// A socket that listens already, instead: one in another network namespace, say.
    pub listener: Option<std::net::TcpListener>,
    /// Where workload certificates come from.
    pub certificates: Arc<dyn CertificateSource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the gateway's own secrets come from.
    pub random: Arc<dyn Random>,
}

/// A running gateway. It ends, with every connection through it, when this is dropped.
pub struct Gateway {
    /// For `HTTPS_PROXY`. It holds a password.
    pub proxy_url: Secret,
    /// For `IDENTITY_ENDPOINT` and `MSI_ENDPOINT`.
    pub identity_endpoint: String,
    /// For `IDENTITY_HEADER` and `MSI_SECRET`.
    pub identity_header: Secret,
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Why a gateway cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Reading or writing a socket failed.
    #[error("connection failed")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// TLS could not be set up.
    #[error("TLS failed")]
    Tls(#[from] rustls::Error),
    /// The key or signing request could not be made.
    #[error("a key or signing request could not be made")]
    Key(#[from] rcgen::Error),
    /// A certificate or name that was given cannot be read.
    #[error("{0} is not readable")]
    Malformed(&'static str),
    /// HTTP went wrong on the way to the server.
    #[error("the server's answer is not HTTP")]
    Http(#[from] hyper::Error),
    /// No certificate was issued.
    #[error("no workload certificate was issued: {0}")]
    Refused(String),
}

/// What every connection shares.
struct Shared {
    options: GatewayOptions,
    certificates: Certificates,
    secret: Secret,
    proxy_authorization: Secret,
}

impl Gateway {
    /// Gets a first certificate and begins to listen.
    pub async fn start(mut options: GatewayOptions) -> Result<Self, GatewayError> {
        let certificates = Certificates::new(&options)?;
        certificates.current().await?;
        let listener = match options.listener.take() {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)?
            }
            None => {
                TcpListener::bind(options.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await?
            }
        };
        let address = listener.local_addr()?;
        let (secret, password) = (new_secret(options.random.as_ref()), new_secret(options.random.as_ref()));
        let login = format!("{PROXY_USER}:{}", password.expose());
        let shared = Arc::new(Shared {
            options,
            certificates,
            secret: secret.clone(),
            proxy_authorization: Secret::new(format!("Basic {}", STANDARD.encode(&login))),
        });
        Ok(Self {
            proxy_url: Secret::new(format!("http://{login}@{address}")),
            identity_endpoint: format!("http://{address}{TOKEN_PATH}"),
            identity_header: secret,
            address,
            accepting: tokio::spawn(accept(listener, shared)),
        })
    }

    /// Ends it, as dropping does, and waits until its port is free.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // Aborted or not: it is over.
        drop((&mut self.accepting).await);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _place = place;
                    serve(socket, shared).await;
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "the gateway cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One client's connection, tunnel included.
async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let (splices, mut started) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(|request| {
        let (shared, splices) = (Arc::clone(&shared), splices.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &shared, &splices).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "a connection to the gateway ended badly");
    }
    // At most one: after it there is no more HTTP on this connection.
    if let Ok(splice) = started.try_recv() {
        tunnel::run(splice).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    splices: &tokio::sync::mpsc::UnboundedSender<tunnel::Splice>,
) -> Response<Full<Bytes>> {
    if request.method() == Method::CONNECT {
        let presented = request.headers().get(PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
        if presented.map(Secret::new).as_ref() != Some(&shared.proxy_authorization) {
            let mut response = text(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "proxy authentication required");
            let challenge = HeaderValue::from_static("Basic realm=\"postern workload gateway\"");
            response.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
            return response;
        }
        return tunnel::open(request, shared, splices).await;
    }
    match request.uri().path() {
        TOKEN_PATH | METADATA_PATH if request.method() == Method::GET => metadata::answer(&request, shared).await,
        _ => text(StatusCode::NOT_FOUND, "not found"),
    }
}

fn text(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{message}\n"))));
    *response.status_mut() = status;
    response
}

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use postern_access::WorkloadRejection;
use postern_identity::{CLIENT_CERT, CLIENT_CERT_CHAIN, Peer, PeerCertificate, client_cert_chain};
use postern_model::CorrelationId;
use postern_oci::PlainHttp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::LazyConfigAcceptor;
use tower::ServiceExt as _;

use super::names::{Class, Target, split_host, target};
use super::pace::{Activity, PacedBody, Watched};
use super::sources::Seat;
use super::{Server, leftover};
use crate::places::Arrival;

/// Bytes of a request's headers, all together.
pub(super) const MAX_HEADER_BYTES: usize = 64 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// Bytes read ahead of the handler; large bodies arrive in pieces of up to this size.
const READ_BUFFER_BYTES: usize = 128 << 10;
const HTTP2_WINDOW_BYTES: u32 = 1 << 20;
/// Requests of one HTTP/2 connection at once.
const HTTP2_STREAMS: u32 = 128;
/// Requests that the client took back before anybody looked at them; one more ends the connection.
const HTTP2_PENDING_RESETS: usize = 20;
/// Streams that were ended for a protocol error; one more ends the connection.
const HTTP2_ERROR_RESETS: usize = 256;
/// What a connection that is closed for doing nothing has left to say goodbye.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How often an idle HTTP/2 client is asked whether it is still there.
const HTTP2_PING: Duration = Duration::from_mins(1);

/// A stream of any kind: a socket, or what comes out of a tunnel.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a connection holds while it lasts, and whatever is tunnelled through it.
#[derive(Clone)]
pub(super) struct Hold {
    /// Turns true when the server stops: the open requests are the last ones.
    stop: watch::Receiver<bool>,
    /// Its place among the connections that may be open at once.
    _slot: Arc<OwnedSemaphorePermit>,
    /// Its place among the connections of its source.
    seat: Arc<Seat>,
}

impl Hold {
    pub(super) fn new(slot: OwnedSemaphorePermit, seat: Seat, stop: watch::Receiver<bool>) -> Self {
        Self { stop, _slot: Arc::new(slot), seat: Arc::new(seat) }
    }
}

/// What is known of a connection before its first request.
pub(super) struct Connection {
    pub(super) arrival: Arrival,
    /// The class of the name in the TLS hello; `None` when it named none, or for plain HTTP.
    pub(super) class: Option<Class>,
    pub(super) certificate: PeerCertificate,
    /// How many tunnels it came through.
    pub(super) tunnels: u8,
    pub(super) hold: Hold,
    tls: bool,
}

impl Connection {
    pub(super) const fn is_plain(&self) -> bool {
        !self.tls
    }

    /// Whether its requests carry clients' certificates in their headers.
    pub(super) fn carries_certificates(&self) -> bool {
        self.arrival.proxy.as_ref().is_some_and(|proxy| proxy.client_cert)
    }

    fn peer(&self, certificate: PeerCertificate) -> Peer {
        Peer {
            place: Arc::clone(&self.arrival.place),
            ingress: self.arrival.ingress.clone(),
            address: self.arrival.address,
            simulated: self.arrival.simulated,
            certificate,
        }
    }
}

impl Server {
    /// Does the TLS handshake, then serves the connection. `outer` is what a tunnel proved already.
    pub(super) async fn tls(
        self: Arc<Self>,
        stream: Box<dyn Stream>,
        arrival: Arrival,
        outer: Option<(PeerCertificate, u8)>,
        hold: Hold,
    ) -> anyhow::Result<()> {
        let handshake = async {
            let _turn = hold.seat.handshake().await;
            let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
            let name = start.client_hello().server_name().map(str::to_owned);
            let class = name.as_deref().map(|name| self.names.class(name));
            let configs = self.identity.server_configs();
            let config = if matches!(class, Some(Some(_))) { configs.registry } else { configs.plain };
            anyhow::Ok((start.into_stream(config).await?, class))
        };
        let (stream, class) = tokio::time::timeout(self.bounds.handshake, Box::pin(handshake))
            .await
            .context("TLS handshake took too long")??;
        let Some(class) = class.map_or(Some(None), |class| class.map(Some)) else {
            anyhow::bail!("the client asked for a name that is not this server's");
        };
        let now = self.clock.now();
        let shown = stream.get_ref().1.peer_certificates();
        let presented = match arrival.proxy.as_ref().filter(|proxy| proxy.client_cert) {
            // Its own: it says nothing about the clients behind it.
            Some(proxy) if proxy.is_proved_by(shown) => PeerCertificate::None,
            Some(proxy) => {
                tracing::warn!(proxy.name = %proxy.name, "a proxy did not show its certificate");
                anyhow::bail!("proxy `{}` did not show its certificate", proxy.name)
            }
            None => self.identity.peer_certificate(shown, now),
        };
        let (certificate, tunnels) = match outer {
            Some((outer, tunnels)) if !matches!(outer, PeerCertificate::None) => (outer, tunnels),
            Some((_, tunnels)) => (presented, tunnels),
            None => (presented, 0),
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let connection = Connection { arrival, class, certificate, tunnels, hold, tls: true };
        // Boxed, here and below: what a connection holds while it is idle is then what this state needs, not the largest of all.
        Box::pin(self.serve(stream, is_http2, connection)).await
    }

    /// Serves a plain connection between two ends on this machine.
    pub(super) async fn plain(
        self: Arc<Self>,
        stream: Box<dyn Stream>,
        arrival: Arrival,
        hold: Hold,
    ) -> anyhow::Result<()> {
        let certificate = PeerCertificate::default();
        let connection = Connection { arrival, class: None, certificate, tunnels: 0, hold, tls: false };
        Box::pin(self.serve(stream, false, connection)).await
    }

    async fn serve<S>(self: Arc<Self>, stream: S, is_http2: bool, connection: Connection) -> anyhow::Result<()>
    where
        S: Stream + 'static,
    {
        let connection = Arc::new(connection);
        let (bounds, stop) = (self.bounds, connection.hold.stop.clone());
        let activity = Arc::<Activity>::default();
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), !is_http2));
        let seen = Arc::clone(&activity);
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, connection, activity) = (Arc::clone(&self), Arc::clone(&connection), Arc::clone(&seen));
            Box::pin(async move {
                // A tunnel is a body without end.
                let has_body = !request.body().is_end_stream() || request.method() == Method::CONNECT;
                let answering = activity.begin(has_body);
                let response = server.paced(&connection, activity, request).await;
                answering.answered();
                Ok::<_, Infallible>(response)
            })
        });
        // The TLS hello has settled the version. Finding it out from the first bytes would have to wait for them without end.
        if is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(HTTP2_PING))
                .max_concurrent_streams(HTTP2_STREAMS)
                .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
                .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
                .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
                .initial_stream_window_size(HTTP2_WINDOW_BYTES)
                .initial_connection_window_size(2 * HTTP2_WINDOW_BYTES);
            let mut serving = Box::pin(builder.serve_connection(io, service));
            attend(serving.as_mut(), &activity, bounds.idle, stop, http2::Connection::graceful_shutdown).await
        } else {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.headers)
                .max_headers(MAX_HEADERS)
                .max_buf_size(READ_BUFFER_BYTES);
            let mut serving = Box::pin(builder.serve_connection(io, service).with_upgrades());
            attend(serving.as_mut(), &activity, bounds.idle, stop, http1::UpgradeableConnection::graceful_shutdown)
                .await
        }
    }

    /// Answers a request whose body must make progress.
    async fn paced(
        self: Arc<Self>,
        connection: &Arc<Connection>,
        activity: Arc<Activity>,
        mut request: Request<Incoming>,
    ) -> Response {
        let certificate = self.client_certificate(connection, request.headers_mut());
        if request.method() == Method::CONNECT {
            return self.connect(connection, certificate, request);
        }
        if request.body().is_end_stream() {
            return self.answer(connection, certificate, request.map(Body::new)).await;
        }
        let (head, body) = request.into_parts();
        let (body, has_stalled) = PacedBody::new(body, activity, self.bounds.stall);
        let (request, leftover) = leftover::watch(Request::from_parts(head, body));
        let response = self.answer(connection, certificate, request).await;
        if has_stalled.load(Ordering::Relaxed) {
            return stalled();
        }
        // A body that does not come is not waited for once more.
        if response.status() != StatusCode::REQUEST_TIMEOUT {
            leftover::discard(leftover).await;
        }
        response
    }

    async fn answer(
        self: Arc<Self>,
        connection: &Arc<Connection>,
        certificate: PeerCertificate,
        mut request: Request<Body>,
    ) -> Response {
        let Some(class) = self.request_class(connection, &request) else {
            return misdirected();
        };
        if header_bytes(request.headers()) > MAX_HEADER_BYTES {
            return error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers are larger than 64 KiB");
        }
        let begun = Instant::now();
        let id = CorrelationId::new(self.clock.now(), self.random.as_ref());
        let routers = &self.routers;
        let target = target(class, request.uri().path());
        let is_form = target == Target::Authority || request.uri().path().starts_with("/oauth2/");
        let router = match target {
            Target::DataPlane if !is_form => {
                // Most requests: what a router would do for them is known already.
                let (peer, is_plain) = (connection.peer(certificate), connection.is_plain());
                let response = routers.data_plane.answer(id, &peer, is_plain, request).await;
                self.counted.count(target, response.status(), begun.elapsed());
                return response;
            }
            Target::DataPlane => &routers.tokens,
            Target::ResourceManager => &routers.resource_manager,
            Target::Authority => &routers.authority,
            Target::Postern => &routers.postern,
            Target::Operations => {
                return self.operations.answer(request.uri().path(), connection.arrival.loopback).await;
            }
        };
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(connection.peer(certificate));
        if connection.is_plain() {
            request.extensions_mut().insert(PlainHttp);
        }
        let answer = Box::pin(router.clone().oneshot(request));
        // A form is as short as headers are, and whoever sends one need not be known: it may not take longer to come.
        let patience = if is_form { self.bounds.headers } else { Duration::MAX };
        let response = match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.into_response(),
            Err(_) => stalled(),
        };
        self.counted.count(target, response.status(), begun.elapsed());
        response
    }

    /// What proves the workload behind a request: the connection's certificate, or what a proxy that ends TLS says that it was. A
    /// header counts from such a proxy alone. From anybody else it makes the request one without a workload, also where the
    /// connection has a certificate: whoever writes the header speaks for somebody else. Nobody behind this sees the header.
    fn client_certificate(&self, connection: &Connection, headers: &mut HeaderMap) -> PeerCertificate {
        if !headers.contains_key(CLIENT_CERT) && !headers.contains_key(CLIENT_CERT_CHAIN) {
            return connection.certificate.clone();
        }
        let certificate = if !connection.carries_certificates() {
            PeerCertificate::Rejected(WorkloadRejection::NotFromProxy)
        } else if let Ok(chain) = client_cert_chain(headers) {
            self.identity.peer_certificate(chain.as_deref(), self.clock.now())
        } else {
            PeerCertificate::Rejected(WorkloadRejection::Malformed)
        };
        headers.remove(CLIENT_CERT);
        headers.remove(CLIENT_CERT_CHAIN);
        certificate
    }

    /// The class of the request's host, if the connection may serve it.
    fn request_class(&self, connection: &Connection, request: &Request<Body>) -> Option<Class> {
        let authority = if let Some(authority) = request.uri().authority() {
            authority.as_str()
        } else {
            // Two hosts are none: which of them a proxy in front looked at cannot be known.
            let mut hosts = request.headers().get_all(header::HOST).iter();
            hosts.next().filter(|_| hosts.next().is_none())?.to_str().ok()?
        };
        let class = self.names.class(split_host(authority).0)?;
        let served = match connection.class {
            Some(own) => own == class && class != Class::Gateway,
            // No name in the hello, or plain HTTP: only what has no name of its own.
            None => class == Class::Control,
        };
        served.then_some(class)
    }
}

/// Lets a connection be served until it ends, the server stops, or nothing happens on it any more.
async fn attend<C, E>(
    mut serving: Pin<&mut C>,
    activity: &Activity,
    idle: Duration,
    mut stop: watch::Receiver<bool>,
    end: impl Fn(Pin<&mut C>),
) -> anyhow::Result<()>
where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut is_stopping = false;
    loop {
        let mark = activity.mark();
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = stopped(&mut stop), if !is_stopping => {
                is_stopping = true;
                end(serving.as_mut());
            }
            () = activity.stormed() => anyhow::bail!("the client takes its requests back"),
            () = tokio::time::sleep(idle) => {
                if activity.is_idle_since(mark) {
                    end(serving.as_mut());
                    // Whoever waits for an answer and does not take it is not waited for.
                    return match tokio::time::timeout(LAST_WORD, serving).await {
                        Ok(ended) => Ok(ended?),
                        Err(_) => Err(anyhow::anyhow!("nothing happened on the connection")),
                    };
                }
            }
        }
    }
}

/// Until the server stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody left to say so is as good as being told.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

fn stalled() -> Response {
    let mut response = error(StatusCode::REQUEST_TIMEOUT, "the request took too long to come");
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn misdirected() -> Response {
    error(StatusCode::MISDIRECTED_REQUEST, "this connection does not serve that host: connect by the host's own name")
}

fn error(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({"errors": [{"code": "UNSUPPORTED", "message": message}]});
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

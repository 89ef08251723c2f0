use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{CONNECT_TIMEOUT, GatewayError, Shared, text};

/// How much of the server's refusal is handed on to the client.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;

/// The two ends of a tunnel that is about to run.
pub(super) struct Splice {
    client: OnUpgrade,
    server: Box<dyn Stream>,
}

/// A connection in both directions.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Answers a CONNECT: opens the way and leaves both ends to be spliced once the client has its answer.
pub(super) async fn open(
    mut request: Request<Incoming>,
    shared: &Shared,
    splices: &UnboundedSender<Splice>,
) -> Response<Full<Bytes>> {
    let Some(target) = request.uri().authority().filter(|target| target.port_u16().is_some()).cloned() else {
        return text(StatusCode::BAD_REQUEST, "CONNECT needs a host and a port");
    };
    let server = if is_ours(&target, shared) {
        match through_tunnel(&target, shared).await {
            Ok(Ok(stream)) => Box::new(TokioIo::new(stream)) as Box<dyn Stream>,
            Ok(Err(refusal)) => return refusal,
            Err(error) => return bad_gateway(&error),
        }
    } else if shared.options.direct {
        match dial(target.as_str()).await {
            Ok(stream) => Box::new(stream),
            Err(error) => return bad_gateway(&error),
        }
    } else {
        return text(StatusCode::FORBIDDEN, "this gateway leads to its server only");
    };
    let client = hyper::upgrade::on(&mut request);
    if splices.send(Splice { client, server }).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the gateway is ending");
    }
    Response::new(Full::default())
}

/// Carries bytes until one side has had enough.
pub(super) async fn run(mut splice: Splice) {
    let Ok(client) = splice.client.await else { return };
    let mut client = TokioIo::new(client);
    if let Err(error) = copy_bidirectional(&mut client, &mut splice.server).await {
        tracing::debug!(error = %error, "a tunnel ended badly");
    }
}

fn bad_gateway(error: &GatewayError) -> Response<Full<Bytes>> {
    tracing::warn!(error = %error, "the gateway cannot reach its destination");
    text(StatusCode::BAD_GATEWAY, &format!("the gateway cannot reach its destination: {error}"))
}

fn is_ours(target: &Authority, shared: &Shared) -> bool {
    let host = target.host().to_ascii_lowercase();
    let below = |suffix: &str| host == suffix || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    below(&shared.options.suffix.to_ascii_lowercase())
        || shared.options.names.iter().any(|name| name.eq_ignore_ascii_case(&host))
}

/// Connects to the server, from the address that the options say.
async fn dial_server(shared: &Shared) -> Result<TcpStream, GatewayError> {
    let Some(local) = shared.options.local_address else { return dial(&shared.options.server).await };
    let addresses = lookup_host(&shared.options.server).await?;
    let server = { addresses }.find(|address| address.is_ipv4() == local.is_ipv4());
    let server = server.ok_or(GatewayError::Malformed("the server's address"))?;
    let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(local, 0))?;
    let stream = timeout(CONNECT_TIMEOUT, socket.connect(server)).await.map_err(|_| GatewayError::Timeout)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn dial(address: &str) -> Result<TcpStream, GatewayError> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(|_| GatewayError::Timeout)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An HTTP connection to the server over mutual TLS, under one of its names.
pub(super) async fn connect(name: &str, shared: &Shared) -> Result<SendRequest<Full<Bytes>>, GatewayError> {
    let config: Arc<ClientConfig> = shared.certificates.current().await?;
    let name = ServerName::try_from(name.to_owned()).map_err(|_| GatewayError::Malformed("the server's name"))?;
    let socket = dial_server(shared).await?;
    let handshake = TlsConnector::from(config).connect(name, socket);
    let stream = timeout(CONNECT_TIMEOUT, handshake).await.map_err(|_| GatewayError::Timeout)??;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = %error, "a connection to the server ended badly");
        }
    });
    Ok(sender)
}

/// The inner connection, or what the server refused it with.
async fn through_tunnel(
    target: &Authority,
    shared: &Shared,
) -> Result<Result<Upgraded, Response<Full<Bytes>>>, GatewayError> {
    let mut sender = connect(&shared.options.server_name, shared).await?;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(target.as_str())
        .header(HOST, target.as_str())
        .body(Full::default())
        .map_err(|_| GatewayError::Malformed("the destination"))?;
    let response =
        timeout(CONNECT_TIMEOUT, sender.send_request(request)).await.map_err(|_| GatewayError::Timeout)??;
    if response.status() != StatusCode::OK {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_REFUSAL_BYTES).collect().await.map(Collected::to_bytes);
        let mut refusal = Response::new(Full::new(body.unwrap_or_default()));
        // Whatever it was, it is no success.
        *refusal.status_mut() = if head.status.is_success() { StatusCode::BAD_GATEWAY } else { head.status };
        return Ok(Err(refusal));
    }
    Ok(Ok(hyper::upgrade::on(response).await?))
}

use std::sync::atomic::AtomicU32;

use axum::Extension;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use postern_access::Workload;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::gateway::{Gateway, GatewayError, GatewayOptions};
use crate::{FirstPartyService, authority_router};

/// The binary's part: a server whose CONNECT leads to `inner`, and which says who called otherwise.
async fn tunnel_server(bench: &Bench, inner: SocketAddr) -> SocketAddr {
    let identity = Arc::clone(&bench.identity);
    let connect = move |Extension(peer): Extension<Peer>, mut request: axum::extract::Request| {
        let identity = Arc::clone(&identity);
        async move {
            let state = peer.workload(&identity, identity.clock.now());
            if request.method() != http::Method::CONNECT {
                return Response::new(axum::body::Body::from(name_of(&state)));
            }
            let target = request.uri().authority().unwrap().as_str().to_owned();
            if target.starts_with("refused.") {
                let mut response = Response::new(axum::body::Body::from("no way to there"));
                *response.status_mut() = StatusCode::FORBIDDEN;
                return response;
            }
            tokio::spawn(async move {
                let mut outer = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                outer.write_all(format!("{}>{target}\n", name_of(&state)).as_bytes()).await.unwrap();
                let mut inner = TcpStream::connect(inner).await.unwrap();
                let _ = copy_bidirectional(&mut outer, &mut inner).await;
            });
            Response::new(axum::body::Body::empty())
        }
    };
    let router = authority_router(Arc::clone(&bench.identity)).fallback(connect);
    serve(bench, router).await
}

fn name_of(state: &WorkloadState) -> String {
    match state {
        WorkloadState::Verified(workload) => Workload::clone(workload).resource.name().to_owned(),
        other => format!("{other:?}"),
    }
}

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

struct Running {
    gateway: Gateway,
    issued: Arc<AtomicU32>,
}

async fn start(bench: &Bench, server: SocketAddr, change: impl FnOnce(&mut GatewayOptions)) -> Running {
    let issued = Arc::new(AtomicU32::new(0));
    let (identity, count, resource) =
        (Arc::clone(&bench.identity), Arc::clone(&issued), bench.resource(&container_group_id()));
    let source = move |request: String| {
        count.fetch_add(1, Ordering::SeqCst);
        let issued = identity.issue_workload_certificate(&resource, &request, identity.clock.now());
        async move { issued.map_err(|error| GatewayError::Refused(error.to_string())) }
    };
    let mut options = GatewayOptions {
        server: server.to_string(),
        ca_pem: bench.identity.server_ca_pem().into(),
        server_name: format!("gateway.{SUFFIX}"),
        authority: AUTHORITY.into(),
        suffix: SUFFIX.into(),
        names: vec!["registry.example".into()],
        direct: false,
        instance_metadata: false,
        local_address: None,
        listen: None,
        listener: None,
        certificates: Arc::new(source),
        clock: Arc::clone(&bench.clock) as _,
        random: Arc::clone(&bench.random) as _,
    };
    change(&mut options);
    Running { gateway: Gateway::start(options).await.unwrap(), issued }
}

async fn connect(
    gateway: &Gateway,
    target: &str,
    password: Option<&str>,
) -> (StatusCode, Result<TokioIo<hyper::upgrade::Upgraded>, String>) {
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().method("CONNECT").uri(target).header("host", target);
    if let Some(password) = password {
        request = request.header("proxy-authorization", password);
    }
    let response: Response<Incoming> = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status();
    if status == StatusCode::OK {
        return (status, Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap())));
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, Err(String::from_utf8(body.to_vec()).unwrap()))
}

fn login(gateway: &Gateway) -> String {
    let url = gateway.proxy_url.expose();
    let login = url.strip_prefix("http://").unwrap().split_once('@').unwrap().0;
    let (user, password) = login.split_once(':').unwrap();
    basic(user, password)
}

async fn get_path(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response: Response<Incoming> = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_tunnel_proves_the_workload() {
    let bench = Bench::new().await;
    let server = tunnel_server(&bench, echo().await).await;
    let running = start(&bench, server, |_| {}).await;
    let login = login(&running.gateway);
    for target in ["first.azurecr.io.localhost:8443", "AZURECR.io.localhost:1", "registry.example:443"] {
        let (status, stream) = connect(&running.gateway, target, Some(&login)).await;
        assert_eq!(status, StatusCode::OK, "{target}");
        let mut stream = stream.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let expected = format!("web (1)>{target}\nhello");
        let mut seen = vec![0; expected.len()];
        stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), expected);
    }
    let refused = [
        ("first.azurecr.io.localhost:8443", None, 407, "proxy authentication required"),
        ("first.azurecr.io.localhost:8443", Some("Basic eDp5"), 407, "proxy authentication required"),
        ("refused.azurecr.io.localhost:8443", Some(login.as_str()), 403, "no way to there"),
        ("example.com:443", Some(login.as_str()), 403, "leads to its server only"),
        ("notazurecr.io.localhost:443", Some(login.as_str()), 403, "leads to its server only"),
        ("first.azurecr.io.localhost", Some(login.as_str()), 400, "a host and a port"),
    ];
    for (target, password, expected, text) in refused {
        let (status, stream) = connect(&running.gateway, target, password).await;
        assert_eq!(status.as_u16(), expected, "{target}");
        assert!(stream.unwrap_err().contains(text), "{target}");
    }
    assert_eq!(running.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_server_sees_the_address_that_was_chosen() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let server = listener.local_addr().unwrap();
    let local = IpAddr::from([127, 51, 100, 7]);
    let running = start(&bench, server, |options| options.local_address = Some(local)).await;
    let address = running.gateway.address;
    let login = login(&running.gateway);
    let client = tokio::spawn(async move {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!("CONNECT first.{SUFFIX}:1 HTTP/1.1\r\nproxy-authorization: {login}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    });
    assert_eq!(listener.accept().await.unwrap().1.ip(), local);
    drop(client.await);
}

#[tokio::test]
async fn other_hosts_are_reached_directly_where_that_is_allowed() {
    let bench = Bench::new().await;
    let elsewhere = echo().await;
    let running = start(&bench, elsewhere, |options| options.direct = true).await;
    let login = login(&running.gateway);
    let (_, stream) = connect(&running.gateway, &elsewhere.to_string(), Some(&login)).await;
    let mut stream = stream.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut seen = [0; 5];
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"hello");
    // The echo speaks no TLS: it is no server of ours.
    let (status, _) = connect(&running.gateway, "first.azurecr.io.localhost:1", Some(&login)).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    let address = running.gateway.address;
    running.gateway.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "its port is free");
    assert_eq!(stream.read(&mut seen).await.unwrap_or_default(), 0, "and every connection is cut");
}

#[tokio::test]
async fn managed_identity_endpoints() {
    let bench = Bench::new().await;
    let server = tunnel_server(&bench, echo().await).await;
    let closed = start(&bench, server, |_| {}).await;
    let open = start(&bench, server, |options| options.instance_metadata = true).await;
    let secret = closed.gateway.identity_header.expose().to_owned();
    let app_service = format!("/msi/token?api-version=2019-08-01&resource={REGISTRY_AUDIENCE}&client_id={USER_CLIENT}");
    let older = format!("/msi/token?api-version=2017-09-01&resource={REGISTRY_AUDIENCE}&clientid={USER_CLIENT}");
    let instance = format!(
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource={REGISTRY_AUDIENCE}&msi_res_id={}",
        user_identity_id()
    );
    let header = ("x-identity-header", secret.as_str());
    let good = [
        (&closed, &app_service, vec![header]),
        (&closed, &older, vec![("secret", secret.as_str())]),
        (&open, &instance, vec![("metadata", "true")]),
    ];
    for (running, path, headers) in good {
        let (status, body) = get_path(&running.gateway, path, &headers).await;
        assert_eq!((status, &body["client_id"]), (StatusCode::OK, &json!(USER_CLIENT)), "{path}: {body}");
        let claims = bench.identity.authority_token(body["access_token"].as_str().unwrap(), bench.now()).unwrap().0;
        assert_eq!(claims.binding().unwrap().resource, bench.resource(&container_group_id()).uid);
    }
    let bad = [
        (&closed, app_service.as_str(), vec![], 401),
        (&closed, &app_service, vec![("x-identity-header", "x")], 401),
        (&closed, &instance, vec![("metadata", "true")], 404),
        (&open, &instance, vec![], 400),
        (&open, &instance, vec![("metadata", "true"), ("x-forwarded-for", "192.0.2.1")], 400),
        (&closed, "/msi/token?resource=x", vec![header], 400),
        (&closed, "/", vec![], 404),
    ];
    for (running, path, headers, expected) in bad {
        let (status, body) = get_path(&running.gateway, path, &headers).await;
        assert_eq!(status.as_u16(), expected, "{path}");
        assert!(body.get("access_token").is_none());
    }
    assert_eq!(closed.gateway.identity_endpoint, format!("http://{}/msi/token", closed.gateway.address));
}

#[tokio::test]
async fn certificates_are_renewed_before_they_end() {
    let bench = Bench::new().await;
    let server = tunnel_server(&bench, echo().await).await;
    let running = start(&bench, server, |_| {}).await;
    let path = format!("/msi/token?resource={REGISTRY_AUDIENCE}");
    let ask = async || {
        let secret = running.gateway.identity_header.expose();
        get_path(&running.gateway, &path, &[("x-identity-header", secret)]).await.0
    };
    bench.pass(2399);
    assert_eq!((ask().await, running.issued.load(Ordering::SeqCst)), (StatusCode::OK, 1));
    bench.pass(1);
    assert_eq!((ask().await, running.issued.load(Ordering::SeqCst)), (StatusCode::OK, 2));
    bench.pass(7200);
    assert_eq!((ask().await, running.issued.load(Ordering::SeqCst)), (StatusCode::OK, 3));
}

#[tokio::test]
async fn without_a_certificate_there_is_no_gateway() {
    let bench = Bench::new().await;
    let refuse = |_request: String| async { Err(GatewayError::Refused("not yours".into())) };
    let options = GatewayOptions {
        server: "127.0.0.1:1".into(),
        ca_pem: bench.identity.server_ca_pem().into(),
        server_name: format!("gateway.{SUFFIX}"),
        authority: AUTHORITY.into(),
        suffix: SUFFIX.into(),
        names: Vec::new(),
        direct: false,
        instance_metadata: false,
        local_address: None,
        listen: None,
        listener: None,
        certificates: Arc::new(refuse),
        clock: Arc::clone(&bench.clock) as _,
        random: Arc::clone(&bench.random) as _,
    };
    assert!(matches!(Gateway::start(options).await, Err(GatewayError::Refused(_))));
}

/// A client certificate in the hands of an unmodified client does the same as the gateway.
#[tokio::test]
async fn a_client_certificate_proves_the_workload_too() {
    let bench = Bench::new().await;
    let identity = Arc::clone(&bench.identity);
    let say =
        move |Extension(peer): Extension<Peer>| async move { name_of(&peer.workload(&identity, identity.clock.now())) };
    let server = serve(&bench, Router::new().route("/", get(say))).await;
    let (request, key) = signing_request();
    let issued = bench.identity.first_party_certificate(FirstPartyService::Scanner, &request, bench.now()).unwrap();
    let leaf = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let config = Arc::new(client_config(&bench, Some((leaf, &key))));
    let name = ServerName::try_from("first.azurecr.io.localhost").unwrap();
    let stream = TlsConnector::from(config).connect(name, TcpStream::connect(server).await.unwrap()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().uri("/").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "defender");
}

//! An issuer of tokens outside, over TLS on loopback.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::body::Body;
use axum::extract::{Request, State};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postern_outbound::{Outbound, OutboundOptions};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};
use tokio::sync::watch;

use super::*;

/// What is answered at a path.
pub(super) type Answer = (StatusCode, Vec<(http::HeaderName, String)>, String);

/// Its documents can be changed, and it counts how often it is asked for each.
pub(super) struct Provider {
    pub(super) url: String,
    shared: Arc<Shared>,
    pem: String,
}

#[derive(Default)]
pub(super) struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<Vec<(String, String)>>,
    /// How many requests came.
    count: watch::Sender<usize>,
    /// Where nothing is answered.
    holds_back: watch::Sender<Option<&'static str>>,
}

/// A key that tokens are signed with.
pub(super) struct Key {
    pub(super) id: &'static str,
    pub(super) algorithm: Algorithm,
    encoding: EncodingKey,
}

impl Key {
    pub(super) fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let encoding = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let kind =
                    if algorithm == Algorithm::ES256 { &PKCS_ECDSA_P256_SHA256 } else { &PKCS_ECDSA_P384_SHA384 };
                let pair = KeyPair::generate_for(kind).unwrap();
                EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap()
            }
            _ => {
                let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
                EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap()
            }
        };
        Self { id, algorithm, encoding }
    }

    /// The same key, for another algorithm.
    pub(super) fn used_for(&self, algorithm: Algorithm) -> Self {
        Self { id: self.id, algorithm, encoding: self.encoding.clone() }
    }

    pub(super) fn published(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    pub(super) fn header(&self) -> Header {
        Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) }
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    pub(super) fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.encoding).unwrap()
    }
}

pub(super) const METADATA: &str = "/.well-known/openid-configuration";
pub(super) const KEYS: &str = "/keys";

impl Provider {
    /// It is reached as `localhost`.
    pub(super) async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let shared = Arc::<Shared>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let served = auto::Builder::new(TokioExecutor::new());
                    let _ = served.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
                });
            }
        });
        let provider = Self { url, shared, pem: made.cert.pem() };
        provider.publish(&provider.metadata(), &[]);
        provider
    }

    pub(super) fn metadata(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}{KEYS}", self.url),
            "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url),
        })
    }

    pub(super) fn publish(&self, metadata: &Value, keys: &[&Key]) {
        self.set(METADATA, &metadata.to_string());
        self.publish_keys(keys);
    }

    pub(super) fn publish_keys(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
        self.set(KEYS, &json!({"keys": keys}).to_string());
    }

    pub(super) fn set(&self, path: &str, body: &str) {
        self.answer(path, (StatusCode::OK, Vec::new(), body.to_owned()));
    }

    pub(super) fn answer(&self, path: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(super) fn hold_back(&self, path: Option<&'static str>) {
        self.shared.holds_back.send_replace(path);
    }

    pub(super) async fn until_asked(&self, path: &str) {
        let mut count = self.shared.count.subscribe();
        while self.asked(path) == 0 {
            count.changed().await.unwrap();
        }
    }

    /// How often the path was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.bodies(path).len()
    }

    /// What was sent there.
    pub(super) fn bodies(&self, path: &str) -> Vec<String> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|(own, _)| own == path).map(|(_, body)| body.clone()).collect()
    }

    /// A client that may call it.
    pub(super) fn outbound(&self) -> Outbound {
        let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let ca_pem = Some(self.pem.clone().into_bytes());
        Outbound::new(OutboundOptions { allow, own_listeners: Vec::new(), ca_pem }).unwrap()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    shared.asked.lock().unwrap().push((path.clone(), String::from_utf8(body.to_vec()).unwrap()));
    shared.count.send_modify(|count| *count += 1);
    shared.holds_back.subscribe().wait_for(|held| *held != Some(path.as_str())).await.unwrap();
    let found = shared.answers.lock().unwrap().get(&path).cloned();
    let (status, headers, body) = found.unwrap_or((StatusCode::NOT_FOUND, Vec::new(), String::new()));
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

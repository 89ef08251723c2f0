//! The project's own client: one request, one connection, whatever certificate.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

/// Longer than any answer takes; a client that waits for ever would hang the test.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers of the rows are short.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Sends requests over connections of their own.
#[derive(Debug)]
pub struct Client {
    roots: Arc<RootCertStore>,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The name that is connected to: in the hello and in the request.
    pub host: &'a str,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The header of this name.
    pub authorization: Option<&'a str>,
    /// The header of this name.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl<'a> Request<'a> {
    /// A GET request without anything.
    pub const fn get(host: &'a str, target: &'a str) -> Self {
        Self { host, method: "GET", target, authorization: None, content_type: None, body: &[] }
    }
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Client {
    /// Trusts the authority in this file.
    pub fn new(authority: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(authority).expect("a server writes its authority");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("an authority's certificate");
        Self { roots: Arc::new(roots) }
    }

    /// Connects from wherever this thread is, and sends the request. The certificate (and key, in DER) is shown if the server asks for
    /// one, whether or not it is any good.
    ///
    /// # Errors
    /// What went wrong with the connection.
    pub fn send(
        &self,
        to: SocketAddr,
        request: &Request<'_>,
        identity: Option<(CertificateDer<'static>, Vec<u8>)>,
    ) -> io::Result<Answer> {
        self.send_over(TcpStream::connect_timeout(&to, PATIENCE)?, request, identity)
    }

    /// Sends the request over a connection that is there already.
    ///
    /// # Errors
    /// What went wrong with the connection.
    pub fn send_over(
        &self,
        stream: TcpStream,
        request: &Request<'_>,
        identity: Option<(CertificateDer<'static>, Vec<u8>)>,
    ) -> io::Result<Answer> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(request.host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.config(identity), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let Request { host, method, target, .. } = request;
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n").into_bytes();
        for (name, value) in [("authorization", request.authorization), ("content-type", request.content_type)] {
            if let Some(value) = value {
                write!(bytes, "{name}: {value}\r\n")?;
            }
        }
        if !request.body.is_empty() || matches!(*method, "POST" | "PUT" | "PATCH") {
            write!(bytes, "content-length: {}\r\n", request.body.len())?;
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(request.body);
        stream.write_all(&bytes)?;
        let mut answer = Vec::new();
        match stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer) {
            // An answer may come before all of the request was read.
            Err(_) if !answer.is_empty() => {}
            other => {
                other?;
            }
        }
        read(&String::from_utf8_lossy(&answer))
    }

    fn config(&self, identity: Option<(CertificateDer<'static>, Vec<u8>)>) -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has current versions")
            .with_root_certificates(Arc::clone(&self.roots));
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
                let key = provider.key_provider.load_private_key(key).expect("a key");
                let key = Arc::new(CertifiedKey::new(vec![certificate], key));
                builder.with_client_cert_resolver(Arc::new(Always(key)))
            }
        };
        Arc::new(config)
    }
}

/// Shows the certificate to whoever asks, without looking at it.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read(text: &str) -> io::Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

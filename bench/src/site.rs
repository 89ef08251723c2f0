//! A server as the load generator sees it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::connection::{Connection, Transport};
use crate::wire::{Body, Request};

/// Manifests are asked for by all the types that clients know.
pub(crate) const ACCEPT: &str = "accept: application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json\r\n";

/// Where a server is and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Site {
    address: SocketAddr,
    /// Header lines that every request has.
    lines: String,
    tls: Option<Arc<ClientConfig>>,
    source: Ipv4Addr,
}

impl Site {
    /// Plain HTTP, without credentials.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let lines = format!("host: localhost:{}\r\nuser-agent: postern-bench\r\n", address.port());
        Self { address, lines, tls: None, source: Ipv4Addr::LOCALHOST }
    }

    /// The same over TLS, trusting the certificates in a PEM file.
    pub(crate) fn over_tls(&self, trusted: &Path, port: Option<u16>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(trusted).context("no certificate to trust")? {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut site = self.clone();
        if let Some(port) = port {
            site.lines = site.lines.replacen(&format!(":{}", site.address.port()), &format!(":{port}"), 1);
            site.address.set_port(port);
        }
        site.tls = Some(Arc::new(config));
        Ok(site)
    }

    /// The same with an `Authorization` header.
    pub(crate) fn with_authorization(&self, value: &str) -> Self {
        Self { lines: format!("{}authorization: {value}\r\n", self.lines), ..self.clone() }
    }

    /// The same from another address of this machine.
    pub(crate) fn seen_from(&self, source: Ipv4Addr) -> Self {
        Self { source, ..self.clone() }
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target, &self.lines, Body::Empty)
    }

    /// A request with further header lines and a body.
    pub(crate) fn send(&self, method: &str, target: &str, lines: &str, body: Body) -> Request {
        Request::new(method, target, &format!("{}{lines}", self.lines), body)
    }

    /// A new connection, handshakes done.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from((self.source, 0)))?;
        connect(&socket, &self.address).with_context(|| format!("cannot connect to {}", self.address))?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let transport = match &self.tls {
            None => {
                stream.set_nonblocking(true)?;
                Transport::Plain(stream)
            }
            Some(config) => {
                let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
                while tls.is_handshaking() {
                    tls.complete_io(&mut stream)?;
                }
                stream.set_nonblocking(true)?;
                Transport::Tls(Box::new(StreamOwned::new(tls, stream)))
            }
        };
        Ok(Connection::new(transport))
    }
}

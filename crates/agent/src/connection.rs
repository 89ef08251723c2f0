//! How a worker reaches the server: where it is, whom it trusts, and how it proves who it is.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use postern_identity::{CertificateSource, Gateway, GatewayError, GatewayOptions};
use postern_model::{Clock, Random};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Proxy};

/// Where the server is.
#[derive(Clone)]
pub struct Connection {
    /// Its address: `host:port`. All its names are dialled there.
    pub address: String,
    /// The authority of its certificate.
    pub ca_pem: String,
    /// Its name for tunnels: `gateway.azurecr.io.localhost`.
    pub gateway_name: String,
    /// Registries' names end with this, without a dot before and a port behind: `azurecr.io.localhost`.
    pub suffix: String,
    /// The base URL of the server's own API: `https://localhost:8443`.
    pub control: String,
    /// The address to dial from, where it matters.
    pub local_address: Option<IpAddr>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where secrets of gateways come from.
    pub random: Arc<dyn Random>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Connection {
    /// A gateway that proves what these certificates say. It listens on a port of its own, or on a socket that it is given; `direct` says
    /// whether it also leads elsewhere than to the server.
    pub(crate) async fn gateway(
        &self,
        certificates: Arc<dyn CertificateSource>,
        listener: Option<TcpListener>,
        direct: bool,
    ) -> Result<Gateway, GatewayError> {
        Gateway::start(GatewayOptions {
            server: self.address.clone(),
            ca_pem: self.ca_pem.clone(),
            server_name: self.gateway_name.clone(),
            authority: "localhost".into(),
            suffix: self.suffix.clone(),
            names: vec!["localhost".into()],
            direct,
            instance_metadata: false,
            listen: None,
            listener,
            local_address: self.local_address,
            certificates,
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
        })
        .await
    }

    /// A client whose requests go through a gateway.
    pub(crate) fn client(&self, gateway: &Gateway) -> Result<reqwest::Client, GatewayError> {
        let refused = |error: reqwest::Error| GatewayError::Refused(error.to_string());
        reqwest::Client::builder()
            .add_root_certificate(Certificate::from_pem(self.ca_pem.as_bytes()).map_err(refused)?)
            .proxy(Proxy::all(gateway.proxy_url.expose()).map_err(refused)?)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(refused)
    }
}

use std::pin::Pin;
use std::sync::Arc;

use postern_model::{Clock, Secret, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Mutex;

use super::{GatewayError, GatewayOptions};
use crate::tls::ClockTime;
use crate::workload::WorkloadCertificate;

/// A certificate on its way.
pub type CertificateFuture = Pin<Box<dyn Future<Output = Result<WorkloadCertificate, GatewayError>> + Send>>;

/// Where a gateway's workload certificates come from. Functions from a signing request in PEM to a future are such.
pub trait CertificateSource: Send + Sync + 'static {
    /// Has a certificate issued for the key of a signing request.
    fn certificate(&self, signing_request_pem: String) -> CertificateFuture;
}

impl<F, R> CertificateSource for F
where
    F: Fn(String) -> R + Send + Sync + 'static,
    R: Future<Output = Result<WorkloadCertificate, GatewayError>> + Send + 'static,
{
    fn certificate(&self, signing_request_pem: String) -> CertificateFuture {
        Box::pin(self(signing_request_pem))
    }
}

/// A workload's key: what a certificate is issued for.
pub struct WorkloadKey(KeyPair);

impl WorkloadKey {
    /// A new key.
    pub fn generate() -> Result<Self, GatewayError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// The signing request that a certificate is issued on.
    pub fn request_pem(&self) -> Result<String, GatewayError> {
        Ok(CertificateParams::default().serialize_request(&self.0)?.pem()?)
    }

    /// The key itself.
    pub fn pem(&self) -> Secret {
        Secret::new(self.0.serialize_pem())
    }
}

/// The workload's current certificate, as a TLS configuration.
pub(super) struct Certificates {
    source: Arc<dyn CertificateSource>,
    roots: Arc<RootCertStore>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Current>>,
}

struct Current {
    config: Arc<ClientConfig>,
    renew_at: Timestamp,
    not_after: Timestamp,
}

impl Certificates {
    pub(super) fn new(options: &GatewayOptions) -> Result<Self, GatewayError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(options.ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|_| GatewayError::Malformed("the server's authority"))?)?;
        }
        if roots.is_empty() {
            return Err(GatewayError::Malformed("the server's authority"));
        }
        Ok(Self {
            source: Arc::clone(&options.certificates),
            roots: Arc::new(roots),
            clock: Arc::clone(&options.clock),
            current: Mutex::default(),
        })
    }

    /// A configuration that presents a certificate which holds now. Renews it when two thirds of its time are over; as long as it
    /// holds, a failure to renew is no failure.
    pub(super) async fn current(&self) -> Result<Arc<ClientConfig>, GatewayError> {
        let mut current = self.current.lock().await;
        let now = self.clock.now();
        if let Some(current) = current.as_ref().filter(|current| now < current.renew_at) {
            return Ok(Arc::clone(&current.config));
        }
        match (self.renew(now).await, current.as_ref()) {
            (Ok(fresh), _) => Ok(Arc::clone(&current.insert(fresh).config)),
            (Err(error), Some(old)) if now < old.not_after => {
                tracing::warn!(error = %error, "the workload certificate was not renewed");
                Ok(Arc::clone(&old.config))
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn renew(&self, now: Timestamp) -> Result<Current, GatewayError> {
        let key = WorkloadKey::generate()?;
        let issued = self.source.certificate(key.request_pem()?).await?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes()).collect();
        let chain = chain.map_err(|_| GatewayError::Malformed("the workload certificate"))?;
        let private = PrivateKeyDer::try_from(key.0.serialize_der()).map_err(|_| GatewayError::Malformed("the key"))?;
        let time = Arc::new(ClockTime(Arc::clone(&self.clock)));
        let mut config = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), time)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(chain, private)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let lifetime = issued.not_after.unix_seconds() - now.unix_seconds();
        Ok(Current {
            config: Arc::new(config),
            renew_at: now.plus_seconds(lifetime * 2 / 3),
            not_after: issued.not_after,
        })
    }
}

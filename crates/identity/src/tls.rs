//! The server's side of TLS: which certificate is shown, and client certificates that never fail a handshake.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use postern_model::{Clock, Random, Timestamp};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::certificates::{CertificateAuthority, Leaf, SERVER_CERTIFICATE_SECONDS};
use crate::error::FileProblem;
use crate::{CertificateFiles, IdentityError};

/// The server's certificate is made anew when it has less than this left.
const RENEWED_BEFORE_SECONDS: i64 = 30 * 24 * 3600;
const MAX_PEM_FILE_BYTES: u64 = 1 << 20;

/// The two ways to answer a TLS hello. Both show the same certificates and speak HTTP/2 and HTTP/1.1.
#[derive(Clone)]
pub struct ServerConfigs {
    /// For registry, authority and gateway names: asks for a client certificate and works without one.
    ///
    /// A client certificate is never refused during the handshake; [`crate::Identity::peer_certificate`] judges it afterwards.
    pub registry: Arc<ServerConfig>,
    /// For every other name, and for no name: does not ask, so that browsers never prompt.
    pub plain: Arc<ServerConfig>,
}

/// The server's TLS configuration; its certificates are exchanged while it runs.
pub(crate) struct Tls {
    configs: ServerConfigs,
    certificates: Arc<Certificates>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// One name is added at a time.
    covering: Mutex<()>,
}

/// A name is added for each region that registries are in; there are about sixty.
const MAX_NAMES: usize = 256;

#[derive(Debug)]
struct Certificates {
    provider: Arc<CryptoProvider>,
    names: ArcSwap<Vec<String>>,
    own: ArcSwapOption<CertifiedKey>,
    own_expires: Mutex<Option<Timestamp>>,
    files: Option<CertificateFiles>,
    operator: ArcSwapOption<CertifiedKey>,
}

impl Tls {
    pub(crate) fn new(
        server_authority: &CertificateAuthority,
        workload_authority: &CertificateAuthority,
        names: Vec<String>,
        files: Option<CertificateFiles>,
        environment: (&Arc<dyn Clock>, &dyn Random),
    ) -> Result<Self, IdentityError> {
        let (clock, random) = environment;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Arc::new(Certificates {
            provider: Arc::clone(&provider),
            names: ArcSwap::from_pointee(names),
            own: ArcSwapOption::empty(),
            own_expires: Mutex::default(),
            files,
            operator: ArcSwapOption::empty(),
        });
        certificates.renew(server_authority, random, clock.now())?;
        certificates.reload()?;
        let mut roots = RootCertStore::empty();
        roots.add(workload_authority.der().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| IdentityError::Corrupt("certificate authorities"))?;
        let time: Arc<dyn TimeProvider> = Arc::new(ClockTime(Arc::clone(clock)));
        let optional: Arc<dyn ClientCertVerifier> = Arc::new(OptionalVerifier(Arc::clone(&verifier)));
        let config = |asks: bool| -> Result<Arc<ServerConfig>, IdentityError> {
            let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&time))
                .with_safe_default_protocol_versions()?;
            let builder = if asks {
                builder.with_client_cert_verifier(Arc::clone(&optional))
            } else {
                builder.with_no_client_auth()
            };
            let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            // Of its own: a ticket from one configuration must not resume under the other.
            config.ticketer = aws_lc_rs::Ticketer::new()?;
            Ok(Arc::new(config))
        };
        let configs = ServerConfigs { registry: config(true)?, plain: config(false)? };
        Ok(Self { configs, certificates, verifier, covering: Mutex::default() })
    }

    pub(crate) fn configs(&self) -> ServerConfigs {
        self.configs.clone()
    }

    /// The real check of a client's certificate chain, after the handshake.
    pub(crate) fn verify_client(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), rustls::Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        self.verifier.verify_client_cert(leaf, intermediates, unix_time(now)).map(|_| ())
    }

    /// Makes the own certificate anew where it is due.
    pub(crate) fn maintain(
        &self,
        authority: &CertificateAuthority,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let expires = *self.certificates.own_expires.lock().unwrap_or_else(PoisonError::into_inner);
        if expires.is_none_or(|moment| moment.plus_seconds(-RENEWED_BEFORE_SECONDS) <= now) {
            self.certificates.renew(authority, random, now)?;
        }
        Ok(())
    }

    pub(crate) fn set_names(
        &self,
        names: Vec<String>,
        authority: &CertificateAuthority,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let before = self.certificates.names.swap(Arc::new(names));
        // Names that no certificate can be made for would be in the way of every renewal.
        self.certificates.renew(authority, random, now).inspect_err(|_| self.certificates.names.store(before))
    }

    /// Adds the wildcard beside `name` to the names, unless it is there.
    pub(crate) fn cover(
        &self,
        name: &str,
        authority: &CertificateAuthority,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let Some((_, above)) = name.split_once('.') else { return Ok(()) };
        let is_covered = |names: &[String]| names.iter().any(|known| known.strip_prefix("*.") == Some(above));
        if is_covered(&self.certificates.names.load()) {
            return Ok(());
        }
        let _covering = self.covering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = self.certificates.names.load().as_ref().clone();
        if is_covered(&names) {
            return Ok(());
        }
        if names.len() >= MAX_NAMES {
            return Err(IdentityError::Key("the certificate has too many names"));
        }
        names.push(format!("*.{above}"));
        self.set_names(names, authority, random, now)
    }

    /// Reads the operator's own certificate and key again. When they are not usable the ones before stay.
    pub(crate) fn reload(&self) -> Result<(), IdentityError> {
        self.certificates.reload()
    }
}

impl Certificates {
    fn renew(
        &self,
        authority: &CertificateAuthority,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let key = KeyPair::generate()?;
        let names = self.names.load();
        let leaf = Leaf {
            names: rcgen::CertificateParams::new(names.as_ref().clone())?.subject_alt_names,
            common_name: "Postern server".to_owned(),
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            lifetime_seconds: SERVER_CERTIFICATE_SECONDS,
        };
        let certificate = authority.sign(leaf, &key, random, now)?;
        let private =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| IdentityError::Key("unknown encoding"))?;
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], private, &self.provider)?;
        self.own.store(Some(Arc::new(certified)));
        *self.own_expires.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(now.plus_seconds(SERVER_CERTIFICATE_SECONDS));
        Ok(())
    }

    fn reload(&self) -> Result<(), IdentityError> {
        let Some(files) = &self.files else { return Ok(()) };
        let chain = read_chain(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read_file(&files.key)?)
            .map_err(|_| problem(&files.key, FileProblem::NotPem))?;
        let certified = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|_| problem(&files.key, FileProblem::Mismatch))?;
        self.operator.store(Some(Arc::new(certified)));
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    /// The operator's certificate where it is for the name asked for, else the one of the server's own authority.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let operator = self.operator.load_full().filter(|certified| match hello.server_name() {
            Some(name) => is_for(certified, name),
            None => true,
        });
        operator.or_else(|| self.own.load_full())
    }
}

fn is_for(certified: &CertifiedKey, name: &str) -> bool {
    let parsed = certified.end_entity_cert().ok().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    match (parsed, ServerName::try_from(name)) {
        (Some(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
        _ => false,
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read_file(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(problem(path, FileProblem::NotPem)),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, IdentityError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_PEM_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| problem(path, error.into()))?;
    Ok(bytes)
}

fn problem(path: &Path, problem: FileProblem) -> IdentityError {
    IdentityError::File { path: PathBuf::from(path), problem }
}

fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now.unix_seconds()).unwrap_or_default()))
}

/// The injected clock, as TLS wants it.
pub(crate) struct ClockTime(pub(crate) Arc<dyn Clock>);

impl std::fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

/// Takes every client certificate whose key the client holds.
///
/// A refusal during the handshake would be a TLS alert: no status, no reason, no record. Whether the certificate is worth
/// anything is found out after the handshake and kept as data for the decision.
#[derive(Debug)]
struct OptionalVerifier(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for OptionalVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

use postern_access::WorkloadRejection;
use rustls::ServerConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::certificates::Leaf;
use crate::{CertificateFiles, PeerCertificate, WORKLOAD_CERTIFICATE_SECONDS};

struct Seen {
    certificate: PeerCertificate,
    chain: usize,
    alpn: Option<Vec<u8>>,
    resumed: bool,
    server_leaf: CertificateDer<'static>,
}

/// One handshake and a byte each way; the server's view.
async fn handshake(
    bench: &Bench,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> Result<Seen, std::io::Error> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connect = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(client).connect(name, theirs).await?;
        stream.write_all(b"x").await?;
        // Reading also takes the tickets in.
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    };
    let accept = async {
        let mut stream = TlsAcceptor::from(server).accept(ours).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.flush().await?;
        Ok::<_, std::io::Error>(stream)
    };
    let (client, server) = tokio::join!(connect, accept);
    let server = server?;
    let connection = server.get_ref().1;
    let chain = connection.peer_certificates();
    Ok(Seen {
        certificate: bench.identity.peer_certificate(chain, bench.now()),
        chain: chain.map_or(0, <[_]>::len),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        server_leaf: client?,
    })
}

fn rejection(certificate: &PeerCertificate) -> Option<WorkloadRejection> {
    match certificate {
        PeerCertificate::Rejected(why) => Some(*why),
        PeerCertificate::None | PeerCertificate::Presented(_) => None,
    }
}

#[tokio::test]
async fn client_certificates_never_fail_a_handshake() {
    let bench = Bench::new().await;
    let configs = bench.identity.server_configs();
    let name = "first.azurecr.io.localhost";
    let (leaf, key) = bench.certify(&container_group_id());
    let with =
        |leaf: &CertificateDer<'static>, key: &KeyPair| Arc::new(client_config(&bench, Some((leaf.clone(), key))));

    let none =
        handshake(&bench, Arc::clone(&configs.registry), Arc::new(client_config(&bench, None)), name).await.unwrap();
    assert!(matches!(none.certificate, PeerCertificate::None));
    let good = handshake(&bench, Arc::clone(&configs.registry), with(&leaf, &key), name).await.unwrap();
    assert!(matches!(good.certificate, PeerCertificate::Presented(_)));
    let unasked = handshake(&bench, Arc::clone(&configs.plain), with(&leaf, &key), name).await.unwrap();
    assert_eq!(unasked.chain, 0, "no certificate was asked for");

    let stranger = Bench::new().await;
    let (foreign, foreign_key) = stranger.certify(&container_group_id());
    let seen = handshake(&bench, Arc::clone(&configs.registry), with(&foreign, &foreign_key), name).await.unwrap();
    assert_eq!(rejection(&seen.certificate), Some(WorkloadRejection::UnknownIssuer));

    // Somebody else's certificate without its key is a broken handshake.
    let thief = KeyPair::generate().unwrap();
    let resolver = SingleCertificate(leaf.clone(), thief.serialize_der());
    let mut config = client_config(&bench, None);
    config.client_auth_cert_resolver = Arc::new(resolver);
    assert!(handshake(&bench, Arc::clone(&configs.registry), Arc::new(config), name).await.is_err());

    bench.pass(WORKLOAD_CERTIFICATE_SECONDS + 1);
    let seen = handshake(&bench, Arc::clone(&configs.registry), with(&leaf, &key), name).await.unwrap();
    assert_eq!(rejection(&seen.certificate), Some(WorkloadRejection::Expired));
}

/// Presents a certificate with a key that does not belong to it.
#[derive(Debug)]
struct SingleCertificate(CertificateDer<'static>, Vec<u8>);

impl rustls::client::ResolvesClientCert for SingleCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let key = PrivateKeyDer::try_from(self.1.clone()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Some(Arc::new(rustls::sign::CertifiedKey::new(vec![self.0.clone()], key)))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_resumed_connection_is_judged_anew() {
    let bench = Bench::new().await;
    let configs = bench.identity.server_configs();
    let (leaf, key) = bench.certify(&container_group_id());
    let client = Arc::new(client_config(&bench, Some((leaf, &key))));
    let name = "first.azurecr.io.localhost";
    let first = handshake(&bench, Arc::clone(&configs.registry), Arc::clone(&client), name).await.unwrap();
    assert!(!first.resumed);
    let second = handshake(&bench, Arc::clone(&configs.registry), Arc::clone(&client), name).await.unwrap();
    assert!(second.resumed && matches!(second.certificate, PeerCertificate::Presented(_)));
    let plain = handshake(&bench, Arc::clone(&configs.plain), Arc::clone(&client), name).await.unwrap();
    assert!(!plain.resumed, "a ticket of one configuration is none of the other's");
    let back = handshake(&bench, Arc::clone(&configs.registry), Arc::clone(&client), name).await.unwrap();
    assert!(matches!(back.certificate, PeerCertificate::Presented(_)));
    bench.pass(WORKLOAD_CERTIFICATE_SECONDS + 1);
    let late = handshake(&bench, configs.registry, client, name).await.unwrap();
    assert_eq!(rejection(&late.certificate), Some(WorkloadRejection::Expired));
}

#[tokio::test]
async fn the_server_certificate_covers_its_names_and_is_renewed() {
    let bench = Bench::new().await;
    let configs = bench.identity.server_configs();
    let mut client = client_config(&bench, None);
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    let shake = async |name: &str| handshake(&bench, Arc::clone(&configs.plain), Arc::clone(&client), name).await;
    for name in [SUFFIX, "first.azurecr.io.localhost", "localhost", "127.0.0.1", "::1"] {
        assert_eq!(shake(name).await.unwrap().alpn.unwrap(), b"h2", "{name}");
    }
    assert!(shake("a.b.azurecr.io.localhost").await.is_err());
    let before = shake("localhost").await.unwrap().server_leaf;
    bench.pass(59 * 24 * 3600);
    bench.identity.maintain(bench.now()).await.unwrap();
    assert_eq!(shake("localhost").await.unwrap().server_leaf, before);
    bench.pass(24 * 3600);
    bench.identity.maintain(bench.now()).await.unwrap();
    assert_ne!(shake("localhost").await.unwrap().server_leaf, before);
    bench.identity.set_certificate_names(vec!["*.b.azurecr.io.localhost".into()], bench.now()).unwrap();
    shake("a.b.azurecr.io.localhost").await.unwrap();
}

#[tokio::test]
async fn an_operators_certificate_is_shown_under_its_names() {
    let bench = Bench::new().await;
    let folder = TempDir::new().unwrap();
    let files = CertificateFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    let write = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let leaf = Leaf {
            names: vec![rcgen::SanType::DnsName(name.try_into().unwrap())],
            common_name: name.into(),
            usage: rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            lifetime_seconds: 3600,
        };
        let signed = bench.identity.server_authority.sign(leaf, &key, bench.random.as_ref(), bench.now()).unwrap();
        std::fs::write(&files.certificate, signed.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        signed.der().clone()
    };
    let mine = write("registry.example");
    let open = |files: &CertificateFiles| {
        crate::tls::Tls::new(
            &bench.identity.server_authority,
            &bench.identity.workload_authority,
            vec!["localhost".into()],
            Some(files.clone()),
            (&(Arc::clone(&bench.clock) as Arc<dyn Clock>), bench.random.as_ref()),
        )
    };
    let tls = open(&files).unwrap();
    let mut client = client_config(&bench, None);
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    let leaf =
        async |name: &str| handshake(&bench, tls.configs().plain, Arc::clone(&client), name).await.unwrap().server_leaf;
    assert_eq!(leaf("registry.example").await, mine);
    assert_ne!(leaf("localhost").await, mine);
    let renewed = write("registry.example");
    tls.reload().unwrap();
    assert_eq!(leaf("registry.example").await, renewed);
    std::fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.ends_with("certificate and key do not fit together"), "{error}");
    assert_eq!(leaf("registry.example").await, renewed, "the one before stays");
    std::fs::write(&files.certificate, "nonsense").unwrap();
    assert!(tls.reload().unwrap_err().to_string().ends_with("no PEM certificate or private key"));
    let missing = CertificateFiles { certificate: folder.path().join("absent"), key: files.key.clone() };
    assert!(open(&missing).is_err());
}

#[tokio::test]
async fn names_that_no_certificate_can_have_are_not_kept() {
    let bench = Bench::new().await;
    let name = |region: &str| format!("registry.{region}.data.example.org");
    assert!(bench.identity.cover(&name(&"a".repeat(70_000)), bench.now()).is_err());
    bench.identity.cover(&name("eastus"), bench.now()).unwrap();
    bench.pass(365 * 24 * 3600);
    bench.identity.maintain(bench.now()).await.unwrap();
}

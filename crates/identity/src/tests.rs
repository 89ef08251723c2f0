mod authority;
mod federated;
mod gateway;
mod logins;
mod people;
mod provider;
mod tls;
mod tokens;
mod workload;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use postern_access::{
    Credential, Ingress, InvalidCredential, Origin, RegistryRules, Settings, Verified, WorkloadState,
};
use postern_estate::Resource;
use postern_model::{Clock, PrincipalId, Random, ResourceId, Secret, TenantId, Timestamp};
use postern_store::{Directory, DirectoryOptions, Expected, Keep, Store, StoreOptions};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    ExchangeRequest, Identity, IdentityOptions, IdentitySettings, OutsideOptions, Peer, SecretOwner, TokenGrant,
    TokenRefusal, TokenRequest,
};

/// Where requests come from.
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
const START: i64 = 1_795_308_729;
const SUFFIX: &str = "azurecr.io.localhost";
const AUTHORITY: &str = "login.azurecr.io.localhost";
const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000051/resourceGroups/g";
const TENANT: Uuid = Uuid::from_u128(0x7e);
const PUSHER: Uuid = Uuid::from_u128(0xa1);
const PUSHER_APPLICATION: Uuid = Uuid::from_u128(0xa2);
const TEAM: Uuid = Uuid::from_u128(0xa3);
const SYSTEM: Uuid = Uuid::from_u128(0xb1);
const USER: Uuid = Uuid::from_u128(0xb2);
const USER_CLIENT: Uuid = Uuid::from_u128(0xb3);
const STRANGER: Uuid = Uuid::from_u128(0xb4);
const ARM: &str = "https://management.azure.com/";
const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.0.load(Ordering::SeqCst))
    }
}

/// SplitMix64 from a fixed seed.
struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The identity services over a small estate: two registries, a service principal in a group, a container group with a
/// system-assigned and a user-assigned identity.
struct Bench {
    identity: Arc<Identity>,
    directory: Directory,
    store: Store,
    clock: Arc<TestClock>,
    random: Arc<TestRandom>,
    pusher_secret: Secret,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::in_tenant(TENANT).await
    }

    async fn in_tenant(tenant: Uuid) -> Self {
        Self::with(tenant, OutsideOptions::default()).await
    }

    async fn with(tenant: Uuid, outside: OutsideOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(START)));
        let random = Arc::new(TestRandom(AtomicU64::new(1)));
        let store = Store::open(StoreOptions::new(
            folder.path().join("data"),
            Arc::clone(&clock) as _,
            Arc::clone(&random) as _,
        ))
        .await
        .unwrap();
        let options =
            DirectoryOptions { settings: Arc::new(Settings::default()), suffix: SUFFIX.into(), default_registry: None };
        let directory = Directory::open(&store, options).await.unwrap();
        let identity = Identity::open(IdentityOptions {
            store: store.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock) as _,
            random: Arc::clone(&random) as _,
            settings: IdentitySettings {
                tenant: TenantId(tenant),
                authority: AUTHORITY.into(),
                arm_audiences: vec![format!("https://{SUFFIX}:8443/")],
                certificate_names: vec![
                    SUFFIX.into(),
                    format!("*.{SUFFIX}"),
                    "localhost".into(),
                    "127.0.0.1".into(),
                    "::1".into(),
                ],
                certificate_files: None,
                password_limits: crate::PasswordLimits::default(),
            },
            outside,
        })
        .await
        .unwrap();
        let pusher_secret = identity.new_secret();
        let bench = Self { identity, directory, store, clock, random, pusher_secret, _folder: folder };
        bench.fill().await;
        bench
    }

    async fn fill(&self) {
        let reader = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
        let writer = "8311e382-0749-4cb8-b61a-304f252e45ec";
        self.put(&registry_id("first"), registry(true)).await;
        self.put(&registry_id("other"), registry(true)).await;
        self.put(
            &format!("/providers/Microsoft.Graph/servicePrincipals/{PUSHER}"),
            json!({"properties": {"appId": PUSHER_APPLICATION, "displayName": "pusher"}}),
        )
        .await;
        self.put(
            &format!("/providers/Microsoft.Graph/groups/{TEAM}"),
            json!({"properties": {"displayName": "team", "members": [PUSHER]}}),
        )
        .await;
        self.put(&user_identity_id(), json!({"properties": {"principalId": USER, "clientId": USER_CLIENT}})).await;
        self.put(&container_group_id(), container_group()).await;
        for (at, (principal, role)) in [(TEAM, writer), (SYSTEM, reader)].into_iter().enumerate() {
            let id = format!(
                "{GROUP}/providers/Microsoft.Authorization/roleAssignments/{}",
                Uuid::from_u128(at as u128 + 1)
            );
            let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
            self.put(&id, json!({"properties": {"principalId": principal, "roleDefinitionId": role}})).await;
        }
        let first = registry_id("first");
        self.put(
            &format!("{first}/scopeMaps/readers"),
            json!({"properties": {"actions": ["repositories/app/content/read"]}}),
        )
        .await;
        self.put(&format!("{first}/tokens/robot"), robot("enabled")).await;
        self.set_secret(SecretOwner::Principal(PrincipalId(PUSHER)), "1", &self.pusher_secret).await;
        self.set_secret(SecretOwner::Admin(self.rules("first").uid), "password", &Secret::new("admin-password")).await;
        let robot = self.rules("first").tokens["robot"].uid;
        self.set_secret(SecretOwner::RepositoryToken(robot), "password1", &Secret::new("robot-password")).await;
    }

    async fn put(&self, id: &str, mut document: Value) {
        document["id"] = id.into();
        let Value::Object(document) = document else { panic!("not an object") };
        self.directory.put(id.parse().unwrap(), document, Expected::Any).await.unwrap();
    }

    async fn remove(&self, id: &str) {
        self.directory.remove(id.parse().unwrap(), Expected::Any).await.unwrap();
    }

    async fn set_secret(&self, owner: SecretOwner, slot: &str, secret: &Secret) {
        self.store.credentials().put(&owner.to_string(), slot, secret, Keep::Hashed, None).await.unwrap();
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn rules(&self, name: &str) -> Arc<RegistryRules> {
        self.directory.registry_by_id(&registry_id(name).parse().unwrap()).unwrap()
    }

    fn resource(&self, id: &str) -> Arc<Resource> {
        self.directory.resource(&id.parse::<ResourceId>().unwrap()).unwrap()
    }

    fn credential(&self, registry: &str, header: &str) -> Credential {
        self.identity.credential(&self.rules(registry), Some(header), OUTSIDE, self.now()).unwrap()
    }

    /// A token of the authority for the service principal.
    fn pusher_token(&self, audience: &str) -> Secret {
        let known = self.identity.known(PrincipalId(PUSHER)).unwrap();
        self.identity.authority_access_token(&known, audience, None, 3600, self.now()).unwrap()
    }

    fn exchange(&self, registry: &str, token: &Secret, origin: &Origin) -> Result<Secret, TokenRefusal> {
        let request = ExchangeRequest {
            service: format!("{registry}.{SUFFIX}"),
            tenant: Some(self.identity.tenant().to_string()),
            access_token: token.clone(),
        };
        let rules = self.rules(registry);
        let credential = self.identity.exchange_credential(&rules, &request, self.now());
        self.identity.exchange(&rules, &request, &credential, origin, self.now())
    }

    /// An access token for these scopes.
    fn issue(
        &self,
        registry: &str,
        grant: TokenGrant,
        scope: &str,
        origin: &Origin,
    ) -> Result<crate::IssuedToken, TokenRefusal> {
        let rules = self.rules(registry);
        let scopes = crate::Scope::parse_all([scope])?;
        let request = TokenRequest { grant, service: Some(format!("{registry}.{SUFFIX}")), scopes, offline: true };
        let credential = self.identity.grant_credential(&rules, &request, OUTSIDE, self.now()).unwrap();
        self.identity.issue(&rules, &request, &credential, origin, self.now())
    }

    /// A workload certificate with its key.
    fn certify(&self, id: &str) -> (CertificateDer<'static>, KeyPair) {
        let (request, key) = signing_request();
        let issued = self.identity.issue_workload_certificate(&self.resource(id), &request, self.now()).unwrap();
        (CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap(), key)
    }
}

fn registry_id(name: &str) -> String {
    format!("{GROUP}/providers/Microsoft.ContainerRegistry/registries/{name}")
}

fn container_group_id() -> String {
    format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/web (1)")
}

fn user_identity_id() -> String {
    format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller")
}

fn registry(arm_tokens: bool) -> Value {
    json!({"location": "eastus", "sku": {"name": "Premium"}, "properties": {
        "adminUserEnabled": true,
        "policies": {"azureADAuthenticationAsArmPolicy": {"status": if arm_tokens { "enabled" } else { "disabled" }}},
    }})
}

fn robot(status: &str) -> Value {
    json!({"properties": {"status": status, "scopeMapId": format!("{}/scopeMaps/readers", registry_id("first"))}})
}

fn container_group() -> Value {
    json!({"location": "eastus", "identity": {
        "type": "SystemAssigned, UserAssigned",
        "principalId": SYSTEM,
        "userAssignedIdentities": {user_identity_id(): {}},
    }})
}

fn signing_request() -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap(), key)
}

fn public_origin() -> Origin {
    Origin {
        ingress: Ingress::Public,
        address: IpAddr::from([198, 51, 100, 7]),
        place: "internet".into(),
        simulated: false,
        workload: WorkloadState::None,
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn bearer(token: &Secret) -> String {
    format!("Bearer {}", token.expose())
}

#[track_caller]
fn verified(credential: Credential) -> Verified {
    match credential {
        Credential::Verified(verified) => verified,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_invalid(credential: Credential, expected: InvalidCredential) {
    match credential {
        Credential::Invalid(why) => assert_eq!(why, expected),
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

/// A TLS client that trusts the bench's server, with a certificate if there is one.
fn client_config(bench: &Bench, certificate: Option<(CertificateDer<'static>, &KeyPair)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(bench.identity.server_ca_pem().as_bytes()).unwrap()).unwrap();
    let time = Arc::new(crate::tls::ClockTime(Arc::clone(&bench.clock) as _));
    let builder = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), time)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match certificate {
        None => builder.with_no_client_auth(),
        Some((leaf, key)) => {
            builder.with_client_auth_cert(vec![leaf], PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap()
        }
    }
}

/// Serves a router with TLS as the binary does: a peer from the handshake, as an extension of every request.
async fn serve(bench: &Bench, router: Router) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = Arc::clone(&bench.identity);
    let acceptor = tokio_rustls::TlsAcceptor::from(identity.server_configs().registry);
    tokio::spawn(async move {
        loop {
            let (socket, from) = listener.accept().await.unwrap();
            let (acceptor, identity, router) = (acceptor.clone(), Arc::clone(&identity), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
                let peer = Peer {
                    place: "loopback".into(),
                    ingress: Ingress::Public,
                    address: from.ip(),
                    simulated: false,
                    certificate: identity.peer_certificate(chain.as_deref(), identity.clock.now()),
                };
                let router = router.layer(axum::Extension(peer));
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
                    .await;
            });
        }
    });
    address
}

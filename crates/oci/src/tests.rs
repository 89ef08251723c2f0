//! The router in process, over a real store, directory and identity in a temporary folder.

mod access;
mod blobs;
mod deleted;
mod import;
mod links;
mod manifests;
mod metadata;
mod quarantine;
mod throttling;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use postern_access::Ingress;
use postern_audit::{Audit, AuditOptions};
use postern_identity::{
    Identity, IdentityOptions, IdentitySettings, Peer, PeerCertificate, RequestLimiter, SecretOwner, authority_router,
};
use postern_model::{
    Algorithm, Clock, CorrelationId, Digest, PrincipalId, Random, ResourceId, Secret, TenantId, Timestamp,
};
use postern_store::{Directory, DirectoryOptions, Expected, Journal, Keep, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::manifest::digest_of;
use crate::{Limits, OciState, PlainHttp, router};

const HOST: &str = "contoso.azurecr.io.localhost";
const CONTOSO: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso";
const FABRIKAM: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/fabrikam";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TENANT: TenantId = TenantId(Uuid::from_u128(7));
/// A service principal with the role AcrPull on `contoso`: object id and application id.
const ROBOT: (Uuid, Uuid) = (Uuid::from_u128(0x10), Uuid::from_u128(0x20));
const ACR_PULL: &str = "/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d";
const PASSWORD: &str = "correct horse battery staple";

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        // A microsecond per look, so that updates have an order.
        Timestamp::from_unix_micros(self.0.fetch_add(1, Ordering::SeqCst))
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
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A server with two registries, `contoso` (the default one) and `fabrikam`, both with an admin user and anonymous pull off.
struct Bench {
    router: Router,
    authority: Router,
    store: Store,
    directory: Directory,
    audit: Audit,
    clock: Arc<TestClock>,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(None).await
    }

    async fn with(requests: Option<Arc<RequestLimiter>>) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000_000)));
        let random: Arc<dyn Random> = Arc::new(TestRandom(AtomicU64::new(1)));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let options = StoreOptions::new(folder.path().join("data"), Arc::clone(&shared), Arc::clone(&random));
        let store = Store::open(options).await.unwrap();
        let directory = Directory::open(
            &store,
            DirectoryOptions {
                settings: Arc::default(),
                suffix: "azurecr.io.localhost".into(),
                default_registry: Some("contoso".into()),
            },
        )
        .await
        .unwrap();
        let identity = Identity::open(IdentityOptions {
            store: store.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&shared),
            random: Arc::clone(&random),
            settings: IdentitySettings {
                tenant: TENANT,
                authority: "login.azurecr.io.localhost".into(),
                arm_audiences: Vec::new(),
                certificate_names: vec![HOST.into()],
                certificate_files: None,
                password_limits: postern_identity::PasswordLimits::default(),
            },
            outside: postern_identity::OutsideOptions::default(),
        })
        .await
        .unwrap();
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        let (audit, _) = Audit::start(journal, AuditOptions::default(), Arc::clone(&shared));
        for id in [CONTOSO, FABRIKAM] {
            put(&directory, id, registry(&json!({}))).await;
            let uid = directory.registry_by_id(&id.parse().unwrap()).unwrap().uid;
            let owner = SecretOwner::Admin(uid).to_string();
            store.credentials().put(&owner, "password", &Secret::new(PASSWORD), Keep::Hashed, None).await.unwrap();
        }
        let token = format!("{CONTOSO}/tokens/reader");
        put(
            &directory,
            &format!("{CONTOSO}/scopeMaps/read-app"),
            json!({"properties": {
                "actions": ["repositories/app/content/read", "repositories/app/metadata/read"],
            }}),
        )
        .await;
        put(
            &directory,
            &token,
            json!({"properties": {"scopeMapId": format!("{CONTOSO}/scopeMaps/read-app"), "status": "enabled"}}),
        )
        .await;
        let uid = directory.resource(&token.parse().unwrap()).unwrap().uid;
        let owner = SecretOwner::RepositoryToken(uid).to_string();
        store.credentials().put(&owner, "password1", &Secret::new(PASSWORD), Keep::Hashed, None).await.unwrap();
        put(
            &directory,
            &format!("/providers/Microsoft.Graph/servicePrincipals/{}", ROBOT.0),
            json!({"properties": {
                "appId": ROBOT.1.to_string(), "displayName": "robot",
            }}),
        )
        .await;
        let owner = SecretOwner::Principal(PrincipalId(ROBOT.0)).to_string();
        store.credentials().put(&owner, "secret", &Secret::new(PASSWORD), Keep::Hashed, None).await.unwrap();
        let assignment =
            format!("{CONTOSO}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(0x30));
        put(&directory, &assignment, json!({"properties": {
            "principalId": ROBOT.0.to_string(), "roleDefinitionId": ACR_PULL, "scope": CONTOSO, "principalType": "ServicePrincipal",
        }}))
        .await;
        let authority = authority_router(Arc::clone(&identity));
        let router = router(OciState {
            requests,
            store: store.clone(),
            directory: directory.clone(),
            identity,
            audit: audit.clone(),
            clock: shared,
            random,
            limits: Limits::default(),
        });
        Self { router, authority, store, directory, audit, clock, _folder: folder }
    }

    /// A request of the admin user from the internet; change what is not so.
    fn request(&self, method: &str, target: &str) -> Call<'_> {
        let mut headers = HeaderMap::new();
        headers.insert("host", HOST.parse().unwrap());
        headers.insert("authorization", basic("contoso", PASSWORD).parse().unwrap());
        Call {
            bench: self,
            method: method.into(),
            target: target.into(),
            headers,
            body: Body::empty(),
            address: [198, 51, 100, 7].into(),
            plain: false,
        }
    }

    /// A request without credentials.
    fn anonymous(&self, method: &str, target: &str) -> Call<'_> {
        self.request(method, target).without("authorization")
    }

    async fn set(&self, properties: &Value) {
        put(&self.directory, CONTOSO, registry(properties)).await;
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes, Algorithm::Sha256);
        let answer = self
            .request("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"))
            .body(bytes.to_vec())
            .send()
            .await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    /// Pushes an image of one layer under the tag; gives its digest and bytes.
    async fn push_image(&self, repository: &str, tag: &str, layer: &str, more: Value) -> (Digest, Bytes) {
        let config = r#"{"architecture":"arm64","os":"linux"}"#;
        let (config_digest, layer_digest) =
            (self.push_blob(repository, config.as_bytes()).await, self.push_blob(repository, layer.as_bytes()).await);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest.to_string(), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest.to_string(), "size": layer.len()}],
        });
        manifest.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let bytes = Bytes::from(manifest.to_string());
        let answer = self
            .request("PUT", &format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", IMAGE)
            .body(bytes.clone())
            .send()
            .await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        (digest_of(&bytes, Algorithm::Sha256), bytes)
    }

    /// The record of the request with this answer.
    async fn record(&self, answer: &Answer) -> Value {
        let id: CorrelationId = answer.header("x-ms-correlation-request-id").unwrap().parse().unwrap();
        serde_json::from_str(&self.audit.find(id).await.unwrap().expect("every request leaves a record")).unwrap()
    }
}

async fn put(directory: &Directory, id: &str, document: Value) {
    let id: ResourceId = id.parse().unwrap();
    let Value::Object(mut document) = document else { panic!("a document is an object") };
    document.insert("id".into(), json!(id.as_str()));
    document.insert("name".into(), json!(id.name()));
    document.insert("type".into(), json!(id.resource_type()));
    directory.put(id, document, Expected::Any).await.unwrap();
}

fn registry(properties: &Value) -> Value {
    let mut all = json!({"adminUserEnabled": true, "publicNetworkAccess": "Enabled", "networkRuleSet": {"defaultAction": "Allow"}});
    all.as_object_mut().unwrap().extend(properties.as_object().cloned().unwrap_or_default());
    json!({"location": "local", "sku": {"name": "Premium"}, "properties": all})
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn peer(address: IpAddr) -> Peer {
    Peer {
        place: "internet".into(),
        ingress: Ingress::Public,
        address,
        simulated: false,
        certificate: PeerCertificate::None,
    }
}

struct Call<'a> {
    bench: &'a Bench,
    method: String,
    target: String,
    headers: HeaderMap,
    body: Body,
    address: IpAddr,
    plain: bool,
}

impl Call<'_> {
    fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.headers.insert(name, value.as_ref().parse().unwrap());
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    fn basic(self, user: &str, password: &str) -> Self {
        self.header("authorization", basic(user, password))
    }

    fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    fn host(self, host: &str) -> Self {
        self.header("host", host)
    }

    fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    fn body(self, body: impl Into<Body>) -> Self {
        Self { body: body.into(), ..self }
    }

    async fn send(self) -> Answer {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target).body(self.body).unwrap();
        *request.headers_mut() = self.headers;
        request.extensions_mut().insert(peer(self.address));
        if self.plain {
            request.extensions_mut().insert(PlainHttp);
        }
        let (parts, body) = self.bench.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(parts.headers["docker-distribution-api-version"], "registry/2.0");
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends, and checks the status and, for a refusal, the code.
    #[track_caller]
    fn expect(self, status: u16, code: &str) -> impl Future<Output = Answer> {
        let what = format!("{} {}", self.method, self.target);
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.send().await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (status, code.to_owned()),
                "{what} at {caller}: {}",
                answer.text()
            );
            answer
        }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `code` of the first error; empty for anything else.
    fn code(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

mod assignments;
mod federated;
mod graph;
mod import;
mod networks;
mod operations;
mod registries;
mod requests;
mod tasks;
mod throttling;
mod tokens;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use postern_audit::{Audit, AuditOptions};
use postern_identity::{Identity, IdentityOptions, IdentitySettings, RequestLimiter, SecretOwner, authority_router};
use postern_model::{Clock, IpRuleMode, PrincipalId, Random, ResourceId, Secret, TenantId, Timestamp};
use postern_runs::{Runs, RunsOptions};
use postern_store::{
    Directory, DirectoryOptions, Expected, Import, ImportError, ImportExecutor, Importing, Journal, Keep, Store,
    StoreOptions,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::{ArmState, ServiceTags, carry_out, router};

const START: i64 = 1_795_308_729;
const ENDPOINT: &str = "https://localhost:8443";
const SUFFIX: &str = "azurecr.io.localhost:8443";
const TENANT: Uuid = Uuid::from_u128(0x7e);
const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000051";
const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000051/resourceGroups/Group";
const IMPORT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";

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

/// Who calls in these tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Owns the subscription.
    Owner = 0,
    /// Contributes to the group.
    Contributor = 1,
    /// Reads the group.
    Reader = 2,
    /// Has no roles.
    Stranger = 3,
}

impl Who {
    const ALL: [Self; 4] = [Self::Owner, Self::Contributor, Self::Reader, Self::Stranger];

    const fn id(self) -> Uuid {
        Uuid::from_u128(0xa0 + self as u128)
    }

    const fn client(self) -> Uuid {
        Uuid::from_u128(0xc0 + self as u128)
    }

    const fn role(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Owner => Some((OWNER, SUBSCRIPTION)),
            Self::Contributor => Some((CONTRIBUTOR, GROUP)),
            Self::Reader => Some((READER, GROUP)),
            Self::Stranger => None,
        }
    }
}

/// The router over a subscription with a group, and four callers with their tokens.
struct Bench {
    router: Router,
    state: Arc<ArmState>,
    /// What goes on behind the requests, and what ends it in order.
    behind: Mutex<(watch::Sender<bool>, JoinHandle<()>)>,
    directory: Directory,
    store: Store,
    identity: Arc<Identity>,
    clock: Arc<TestClock>,
    audit: Audit,
    importer: Arc<Imported>,
    tokens: Vec<String>,
    _stop_runs: watch::Sender<bool>,
    _folder: TempDir,
}

/// Carries out what requests began, as the server does.
fn begin(state: &Arc<ArmState>) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    (stop, tokio::spawn(carry_out(Arc::clone(state), stopped)))
}

/// Notes what it is asked to import, and does nothing: at once, or as soon as it is let.
#[derive(Default)]
struct Imported(Mutex<Vec<Import>>, Arc<Held>);

#[derive(Default)]
struct Held {
    waits: AtomicBool,
    begun: Notify,
    let_go: Notify,
    refusal: Mutex<Option<ImportError>>,
}

impl ImportExecutor for Imported {
    fn import(&self, import: Import) -> Importing {
        self.0.lock().unwrap().push(import);
        let held = Arc::clone(&self.1);
        Box::pin(async move {
            held.begun.notify_one();
            if held.waits.load(Ordering::SeqCst) {
                held.let_go.notified().await;
            }
            held.refusal.lock().unwrap().take().map_or(Ok(()), Err)
        })
    }
}

/// What came back.
struct Answer {
    status: u16,
    body: Value,
    headers: HeaderMap,
}

impl Answer {
    /// Status and error code in short, or just the status.
    fn short(&self) -> String {
        match self.body.pointer("/error/code").and_then(Value::as_str) {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    fn at(&self, pointer: &str) -> Value {
        self.body.pointer(pointer).cloned().unwrap_or(Value::Null)
    }
}

impl Bench {
    async fn new() -> Self {
        // As long as it takes.
        Self::with(Duration::from_hours(1), None).await
    }

    async fn with_patience(patience: Duration) -> Self {
        Self::with(patience, None).await
    }

    async fn limited(requests: RequestLimiter) -> Self {
        Self::with(Duration::from_hours(1), Some(Arc::new(requests))).await
    }

    async fn with(patience: Duration, requests: Option<Arc<RequestLimiter>>) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(START)));
        let random = Arc::new(TestRandom(AtomicU64::new(1)));
        let options = StoreOptions::new(folder.path().join("data"), Arc::clone(&clock) as _, Arc::clone(&random) as _);
        let store = Store::open(options).await.unwrap();
        let options = DirectoryOptions { settings: Arc::default(), suffix: SUFFIX.into(), default_registry: None };
        let directory = Directory::open(&store, options).await.unwrap();
        let identity = Identity::open(IdentityOptions {
            store: store.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock) as _,
            random: Arc::clone(&random) as _,
            settings: IdentitySettings {
                tenant: TenantId(TENANT),
                authority: "localhost".into(),
                arm_audiences: vec![format!("{ENDPOINT}/")],
                certificate_names: vec!["localhost".into()],
                certificate_files: None,
                password_limits: postern_identity::PasswordLimits::default(),
            },
            outside: postern_identity::OutsideOptions::default(),
        })
        .await
        .unwrap();
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        let (audit, _writer) = Audit::start(journal, AuditOptions::default(), Arc::clone(&clock) as _);
        let importer = Arc::new(Imported::default());
        let (stop_runs, stopped) = watch::channel(false);
        let runs = Runs::start(RunsOptions {
            store: store.clone(),
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            audit: audit.clone(),
            clock: Arc::clone(&clock) as _,
            random: Arc::clone(&random) as _,
            stop: stopped,
        })
        .await
        .unwrap();
        let state = Arc::new(ArmState {
            patience,
            runs,
            requests,
            audit: audit.clone(),
            importer: Arc::clone(&importer) as _,
            import_address: IMPORT_ADDRESS,
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            store: store.clone(),
            clock: Arc::clone(&clock) as _,
            random: Arc::clone(&random) as _,
            arm_endpoint: ENDPOINT.into(),
            ip_rule_mode: IpRuleMode::Strict,
            departing: crate::Departing::default(),
            service_tags: ServiceTags::default(),
        });
        let behind = Mutex::new(begin(&state));
        let router = router(Arc::clone(&state));
        let mut bench = Self {
            router,
            state,
            behind,
            directory,
            store,
            identity,
            clock,
            audit,
            importer,
            tokens: Vec::new(),
            _stop_runs: stop_runs,
            _folder: folder,
        };
        bench.place(SUBSCRIPTION, json!({"displayName": "Test", "postern": {"secret": "kept"}})).await;
        bench.place(GROUP, json!({"location": "eastus"})).await;
        for who in Who::ALL {
            bench.enter(who).await;
        }
        bench
    }

    /// Stores a document past the API.
    async fn place(&self, id: &str, document: Value) {
        let document = document.as_object().unwrap().clone();
        self.directory.put(id.parse().unwrap(), document, Expected::Any).await.unwrap();
    }

    async fn enter(&mut self, who: Who) {
        let id = format!("/providers/Microsoft.Graph/servicePrincipals/{}", who.id());
        self.place(&id, json!({"properties": {"appId": who.client().to_string()}})).await;
        if let Some((role, scope)) = who.role() {
            let id = format!(
                "{scope}/providers/Microsoft.Authorization/roleAssignments/{}",
                Uuid::from_u128(0xd0 + who as u128)
            );
            self.place(&id, json!({"properties": {"principalId": who.id().to_string(), "roleDefinitionId": role}}))
                .await;
        }
        let owner = SecretOwner::Principal(PrincipalId(who.id())).to_string();
        let secret = Secret::new("a secret of no importance");
        self.store.credentials().put(&owner, "first", &secret, Keep::Hashed, None).await.unwrap();
        let token = self.token(who.client(), secret.expose()).await.unwrap();
        self.tokens.push(token);
    }

    async fn token(&self, client: Uuid, secret: &str) -> Option<String> {
        self.token_for(client, secret, "https://management.azure.com").await
    }

    async fn token_for(&self, client: Uuid, secret: &str, audience: &str) -> Option<String> {
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={}&scope={audience}/.default",
            secret.replace(' ', "+")
        );
        let request = Request::post(format!("/{TENANT}/oauth2/v2.0/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        let response = authority_router(Arc::clone(&self.identity)).oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        body.get("access_token").and_then(Value::as_str).map(str::to_owned)
    }

    async fn request(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status: parts.status.as_u16(), body, headers: parts.headers }
    }

    async fn send(&self, who: Who, method: &str, path: &str, body: Option<Value>) -> Answer {
        let separator = if path.contains('?') { '&' } else { '?' };
        let version =
            if path.contains("api-version=") { String::new() } else { format!("{separator}api-version=2025-11-01") };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{version}"))
            .header("authorization", format!("Bearer {}", self.tokens[who as usize]))
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        self.request(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Who::Owner, "GET", path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Who::Owner, "PUT", path, Some(body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Who::Owner, "POST", path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Who::Owner, "DELETE", path, None).await
    }

    /// A registry made by its owner.
    async fn registry(&self, name: &str) -> String {
        let path = registry(name);
        let answer = self.put(&path, premium(json!({}))).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        path
    }
}

fn registry(name: &str) -> String {
    format!("{GROUP}/providers/Microsoft.ContainerRegistry/registries/{name}")
}

fn premium(properties: Value) -> Value {
    json!({"location": "eastus", "sku": {"name": "Premium"}, "properties": properties})
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

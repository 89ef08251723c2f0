mod agents;
mod asked;
mod files;
mod timers;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use postern_access::Ingress;
use postern_audit::{Audit, AuditOptions};
use postern_estate::Resource;
use postern_identity::{
    FirstPartyService, Identity, IdentityOptions, IdentitySettings, OutsideOptions, PasswordLimits, Peer,
    PeerCertificate, WorkloadClaim,
};
use postern_model::{Clock, PrincipalId, Random, ResourceId, ResourceUid, TenantId, Timestamp};
use postern_store::{Directory, DirectoryOptions, Expected, Journal, Run, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::{Ask, Runs, RunsError, RunsOptions, Trigger};

const START: i64 = 1_795_308_729;
const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000051/resourceGroups/Group";
const CALLER: PrincipalId = PrincipalId(Uuid::from_u128(0xca));

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

/// Runs over a registry `reg` with an agent pool `pool`.
struct Bench {
    runs: Runs,
    router: Router,
    store: Store,
    directory: Directory,
    identity: Arc<Identity>,
    clock: Arc<TestClock>,
    random: Arc<TestRandom>,
    options: StoreOptions,
    _stop: watch::Sender<bool>,
    folder: TempDir,
}

/// Who calls.
#[derive(Clone)]
enum Who {
    Nobody,
    Shared,
    /// A resource's workload.
    Resource(String),
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?} is no JSON", self.body))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}", self.body);
        self
    }
}

impl Bench {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(START)));
        let random = Arc::new(TestRandom(AtomicU64::new(1)));
        let options = StoreOptions::new(folder.path().join("data"), Arc::clone(&clock) as _, Arc::clone(&random) as _);
        let bench = Self::open(folder, clock, random, options).await;
        let registry = json!({"location": "eastus", "sku": {"name": "Premium"}, "properties": {}});
        bench.place("registries/reg", registry).await;
        bench.place("registries/reg/agentPools/pool", json!({"properties": {"count": 1}})).await;
        bench
    }

    async fn open(folder: TempDir, clock: Arc<TestClock>, random: Arc<TestRandom>, options: StoreOptions) -> Self {
        let store = Store::open(options.clone()).await.unwrap();
        let suffix = "azurecr.io.localhost:8443".into();
        let directory_options = DirectoryOptions { settings: Arc::default(), suffix, default_registry: None };
        let directory = Directory::open(&store, directory_options).await.unwrap();
        let identity = Identity::open(IdentityOptions {
            store: store.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock) as _,
            random: Arc::clone(&random) as _,
            settings: IdentitySettings {
                tenant: TenantId(Uuid::from_u128(0x7e)),
                authority: "localhost".into(),
                arm_audiences: Vec::new(),
                certificate_names: vec!["localhost".into()],
                certificate_files: None,
                password_limits: PasswordLimits::default(),
            },
            outside: OutsideOptions::default(),
        })
        .await
        .unwrap();
        let (stop, stopped) = watch::channel(false);
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        let (audit, _writer) = Audit::start(journal, AuditOptions::default(), Arc::clone(&clock) as _);
        let runs = Runs::start(RunsOptions {
            store: store.clone(),
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            audit,
            clock: Arc::clone(&clock) as _,
            random: Arc::clone(&random) as _,
            stop: stopped,
        })
        .await
        .unwrap();
        Self { router: runs.router(), runs, store, directory, identity, clock, random, options, _stop: stop, folder }
    }

    /// As after a restart of the process.
    async fn restarted(self) -> Self {
        let Self { runs, router, store, directory, identity, clock, random, options, folder, .. } = self;
        // The first signing keys are kept behind everybody's back, and until then the folder is in use. Others wait for their turn.
        identity.maintain(clock.now().plus_seconds(10 * 365 * 24 * 3600)).await.unwrap();
        store.close().await;
        drop((runs, router, store, directory, identity));
        Self::open(folder, clock, random, options).await
    }

    fn id(below: &str) -> ResourceId {
        format!("{GROUP}/providers/Microsoft.ContainerRegistry/{below}").parse().unwrap()
    }

    async fn place(&self, below: &str, document: Value) -> Arc<Resource> {
        let document = document.as_object().unwrap().clone();
        self.directory.put(Self::id(below), document, Expected::Any).await.unwrap().0
    }

    fn registry(&self) -> Arc<Resource> {
        self.directory.resource(&Self::id("registries/reg")).unwrap()
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn ask(&self, body: Value) -> Result<Run, RunsError> {
        let registry = self.registry();
        let body = body.as_object().unwrap();
        let ask =
            Ask { registry: &registry, body, caller: Some(CALLER), trigger: Trigger::Manual, identities: Vec::new() };
        self.runs.schedule(ask).await
    }

    /// A quick run of a task file.
    async fn quick(&self, values: Value) -> Run {
        self.ask(quick(&values)).await.unwrap()
    }

    async fn run(&self, id: &str) -> Run {
        self.runs.find(self.registry().uid.into(), id).await.unwrap().unwrap()
    }

    fn shown(run: &Run) -> Value {
        Runs::shown(&Self::id("registries/reg"), run)["properties"].clone()
    }

    fn peer(&self, who: &Who) -> Peer {
        let claim = |resource: ResourceId, uid| {
            let (not_before, not_after) = (Timestamp::from_unix_seconds(0), Timestamp::from_unix_seconds(START * 2));
            PeerCertificate::Presented(Arc::new(WorkloadClaim { resource, uid, not_before, not_after }))
        };
        let certificate = match who {
            Who::Nobody => PeerCertificate::None,
            Who::Shared => {
                let agents = FirstPartyService::Agents;
                claim(agents.resource_id().parse().unwrap(), agents.uid())
            }
            Who::Resource(below) => {
                let id = Self::id(below);
                let uid = self.directory.workload(&id).map_or(ResourceUid(Uuid::nil()), |workload| workload.uid);
                claim(id, uid)
            }
        };
        Peer {
            place: "test".into(),
            ingress: Ingress::Public,
            address: [127, 0, 0, 1].into(),
            simulated: false,
            certificate,
        }
    }

    async fn send(&self, who: &Who, request: Request<Body>) -> Answer {
        let mut request = request;
        request.extensions_mut().insert(self.peer(who));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn agent(&self, who: &Who, path: &str, body: impl Into<Body>) -> Answer {
        self.send(who, Request::post(format!("/postern/v1/agent/{path}")).body(body.into()).unwrap()).await
    }

    async fn lease(&self, who: &Who) -> Option<Value> {
        let answer = self.agent(who, "lease", json!({"worker": "w", "waitSeconds": 0}).to_string()).await;
        (answer.status != 204).then(|| answer.is(200).json())
    }

    async fn log(&self, who: &Who, lease: &str, offset: usize, text: &str) -> Answer {
        self.agent(who, &format!("runs/{lease}/log?offset={offset}"), text.to_owned()).await
    }

    async fn end(&self, who: &Who, lease: &str, report: Value) -> Answer {
        self.agent(who, &format!("runs/{lease}/end"), report.to_string()).await
    }

    /// What a client reads of a run's log, and its outcome.
    async fn read(&self, run: &Run) -> (String, Option<String>) {
        let link = self.runs.log_link(run);
        let answer = self.send(&Who::Nobody, Request::get(link).body(Body::empty()).unwrap()).await.is(200);
        let outcome = answer.headers.get("x-ms-meta-complete").map(|value| value.to_str().unwrap().to_owned());
        (answer.text().to_owned(), outcome)
    }
}

fn quick(values: &Value) -> Value {
    json!({"type": "EncodedTaskRunRequest", "encodedTaskContent": "c3RlcHM6CiAgLSBjbWQ6IGFjcgo=", "values": values})
}

fn report(end: &str) -> Value {
    json!({"end": end, "message": null, "outputs": [], "dependencies": []})
}

fn lease_of(leased: &Value) -> String {
    leased["lease"].as_str().unwrap().to_owned()
}

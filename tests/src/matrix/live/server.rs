//! Store, directory, identity services and the data plane's router in one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use postern_audit::{Audit, AuditOptions};
use postern_identity::{
    Identity, IdentityOptions, IdentitySettings, OutsideOptions, PasswordLimits, Peer, SecretOwner, authority_router,
};
use postern_model::{Clock, CorrelationId, Random, Secret, TenantId, Timestamp};
use postern_oci::{Limits, OciState, router};
use postern_store::{Change, Directory, DirectoryOptions, Expected, Journal, Keep, Store, StoreError, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::documents::Documents;
use super::id;
use crate::matrix::LOGIN_SERVER;

/// The tenant that everybody belongs to.
pub(super) const TENANT: TenantId = TenantId(Uuid::from_u128(0x7e));
/// Another one.
pub(super) const OTHER_TENANT: TenantId = TenantId(Uuid::from_u128(0x7f));
/// Everybody's password.
pub(super) const PASSWORD: &str = "correct-horse-battery-staple";
const START_SECONDS: i64 = 1_800_000_000;

pub(super) struct TestClock(AtomicI64);

impl TestClock {
    pub(super) fn at(seconds: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(seconds * 1_000_000)))
    }
}

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
            for (to, from) in chunk.iter_mut().zip(z.to_le_bytes()) {
                *to = from;
            }
        }
    }
}

/// The routes of one tenant's server.
#[derive(Clone)]
pub(super) struct Routes {
    pub(super) tenant: TenantId,
    pub(super) data_plane: Router,
    pub(super) authority: Router,
}

pub(super) struct Server {
    pub(super) store: Store,
    pub(super) directory: Directory,
    pub(super) identity: Arc<Identity>,
    pub(super) audit: Audit,
    pub(super) routes: Routes,
    clock: Arc<TestClock>,
    random: Arc<TestRandom>,
    home: Home,
}

/// Where a server's data is, and what it calls itself.
pub(super) struct Home {
    pub(super) store: PathBuf,
    pub(super) audit: PathBuf,
    pub(super) authority: String,
    pub(super) certificate_names: Vec<String>,
    /// Its time at the beginning.
    pub(super) seconds: i64,
    /// Removed with the server.
    pub(super) folder: Option<TempDir>,
}

/// A request before it has a connection.
pub(super) struct Outgoing {
    pub(super) host: String,
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) authorization: Option<String>,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

/// The response to one.
pub(super) struct Reply {
    pub(super) status: u16,
    id: Option<CorrelationId>,
    body: Vec<u8>,
}

impl Server {
    /// A new server in a folder of its own.
    pub(super) async fn open(name: &str, tenant: TenantId) -> Self {
        let folder = TempDir::with_prefix(format!("postern-matrix-{name}-")).expect("a temporary folder");
        let home = Home {
            store: folder.path().join("data"),
            audit: folder.path().join("audit.db"),
            authority: "login.azurecr.io".to_owned(),
            certificate_names: vec![LOGIN_SERVER.to_owned()],
            seconds: START_SECONDS,
            folder: Some(folder),
        };
        Self::open_in(home, tenant).await
    }

    /// A server on this data.
    pub(super) async fn open_in(home: Home, tenant: TenantId) -> Self {
        let clock = TestClock::at(home.seconds);
        let random = Arc::new(TestRandom(AtomicU64::new(1)));
        let options = StoreOptions::new(&home.store, Arc::clone(&clock) as _, Arc::clone(&random) as _);
        let store = Store::open(options).await.expect("a store opens");
        let directory = DirectoryOptions {
            settings: Arc::default(),
            suffix: LOGIN_SERVER.split_once('.').map(|(_, suffix)| suffix).expect("a suffix").to_owned(),
            default_registry: Some("example".to_owned()),
        };
        let directory = Directory::open(&store, directory).await.expect("a directory opens");
        let audit = records(&home.audit, &clock).await;
        let parts = (&store, &directory, &clock, &random);
        let identity = open_identity(parts, &home, tenant).await;
        let routes = routes(parts, &identity, &audit);
        Self { store, directory, identity, audit, routes, clock, random, home }
    }

    /// The same data folder served for another tenant, with the same keys.
    pub(super) async fn of_tenant(&self, tenant: TenantId) -> Routes {
        // The first keys are made in the background.
        for name in ["keys/registry", "keys/authority"] {
            while self.store.vault().get(name).await.expect("the vault can be read").is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let parts = (&self.store, &self.directory, &self.clock, &self.random);
        let identity = open_identity(parts, &self.home, tenant).await;
        routes(parts, &identity, &self.audit)
    }

    /// Closes the data, for another process to open it.
    pub(super) async fn close(self) {
        self.audit.flush().await;
        let Self { store, home, .. } = self;
        store.close().await;
        drop((store, home.folder));
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Turns the clock.
    pub(super) fn turn_clock(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// Does something in the past.
    pub(super) fn long_ago<T>(&self, seconds: i64, act: impl FnOnce(&Self, Timestamp) -> T) -> T {
        act(self, self.now().plus_seconds(-seconds))
    }

    pub(super) async fn put(&self, documents: &Documents) {
        let changes: Vec<Change> = documents.iter().map(|(name, document)| put(name, document)).collect();
        let change = self.directory.change(move |_| Ok::<_, StoreError>(changes)).await;
        change.expect("documents can be put");
    }

    /// Gives somebody the password.
    pub(super) async fn secret(&self, owner: SecretOwner) {
        let secret = Secret::new(PASSWORD);
        let put = self.store.credentials().put(&owner.to_string(), "password", &secret, Keep::Hashed, None).await;
        put.expect("a secret can be stored");
    }

    pub(super) async fn send(&self, outgoing: Outgoing, peer: Peer) -> Reply {
        send(&self.routes.data_plane, outgoing, peer).await
    }
}

/// Sends a request over a connection.
pub(super) async fn send(router: &Router, outgoing: Outgoing, peer: Peer) -> Reply {
    let mut request = Request::builder().method(outgoing.method).uri(&outgoing.target).header("host", &outgoing.host);
    if let Some(authorization) = &outgoing.authorization {
        request = request.header("authorization", authorization);
    }
    if let Some(content_type) = outgoing.content_type {
        request = request.header("content-type", content_type);
    }
    let mut request = request.body(Body::from(outgoing.body)).expect("a request can be made");
    request.extensions_mut().insert(peer);
    let response = router.clone().oneshot(request).await.expect("the router always answers");
    let (parts, body) = response.into_parts();
    let id = parts.headers.get("x-ms-correlation-request-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let body = body.collect().await.expect("a body can be read").to_bytes().to_vec();
    Reply { status: parts.status.as_u16(), id, body }
}

impl Reply {
    /// The id of its record.
    pub(super) fn id(&self) -> CorrelationId {
        self.id.expect("every answer of the data plane has an id")
    }

    /// A field of the answer, which must be a success.
    pub(super) fn field(&self, name: &str) -> String {
        let answer: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let field = answer.get(name).and_then(Value::as_str);
        field.unwrap_or_else(|| panic!("{}: no `{name}` in {}", self.status, self.text())).to_owned()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The records in this file.
pub(super) async fn records(file: &Path, clock: &Arc<TestClock>) -> Audit {
    let journal = Journal::open(file).await.expect("a journal opens");
    Audit::start(journal, AuditOptions::default(), Arc::clone(clock) as _).0
}

/// The change that puts a document, which names itself.
pub(super) fn put(name: &str, document: &Value) -> Change {
    let resource = id(name);
    let mut document = document.as_object().cloned().expect("a document is an object");
    document.insert("id".to_owned(), json!(name));
    document.insert("name".to_owned(), json!(resource.name()));
    document.insert("type".to_owned(), json!(resource.resource_type()));
    Change::Put { id: resource, document, expected: Expected::Any }
}

type Parts<'a> = (&'a Store, &'a Directory, &'a Arc<TestClock>, &'a Arc<TestRandom>);

async fn open_identity((store, directory, clock, random): Parts<'_>, home: &Home, tenant: TenantId) -> Arc<Identity> {
    let options = IdentityOptions {
        store: store.clone(),
        directory: directory.clone(),
        clock: Arc::clone(clock) as _,
        random: Arc::clone(random) as _,
        settings: IdentitySettings {
            tenant,
            authority: home.authority.clone(),
            arm_audiences: Vec::new(),
            certificate_names: home.certificate_names.clone(),
            certificate_files: None,
            // Rows with wrong passwords come from few places.
            password_limits: PasswordLimits { per_user: u32::MAX, per_source: u32::MAX },
        },
        outside: OutsideOptions::default(),
    };
    Identity::open(options).await.expect("the identity services open")
}

fn routes((store, directory, clock, random): Parts<'_>, identity: &Arc<Identity>, audit: &Audit) -> Routes {
    let data_plane = router(OciState {
        requests: None,
        store: store.clone(),
        directory: directory.clone(),
        identity: Arc::clone(identity),
        audit: audit.clone(),
        clock: Arc::clone(clock) as _,
        random: Arc::clone(random) as _,
        limits: Limits::default(),
    });
    Routes { tenant: identity.tenant(), data_plane, authority: authority_router(Arc::clone(identity)) }
}

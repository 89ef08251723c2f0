//! The matrix's second execution: a server in this process, without listeners.
//!
//! Every row becomes resources in a real directory, content in a real store, certificates and tokens from the real identity
//! services, and one request through the data plane's router. What it came to is read from the response and from the audit
//! record. Time and randomness are the test's.

mod agreement;
mod content;
mod credentials;
mod documents;
mod elsewise;
mod request;
mod server;
mod target;
mod wire;
mod workloads;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postern_audit::Audit;
use postern_identity::{Peer, PeerCertificate, SecretOwner};
use postern_model::{CorrelationId, PrincipalId, ResourceId, ResourceUid, Timestamp};
use postern_store::{Change, Expected, StoreError};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

pub use agreement::{differences, unnoticed};
pub use elsewise::{ELSEWISE, Elsewise};
pub use wire::Wire;

use self::content::Content;
use self::credentials::Minted;
use self::documents::Documents;
use self::server::{Reply, Server};
use self::target::Target;
use self::workloads::{Certificates, Kept, Unaccepted};
use super::scene::{TOKEN_NAME, ingress};
use super::{Place, Row, Verdict, principal};

/// How far back a certificate or token was issued that has expired by now.
const LONG_AGO_SECONDS: i64 = 48 * 3600;

/// A server that rows are executed on, one after the other.
pub struct Live {
    server: Server,
    /// The documents that are there now, but for those that every row needs.
    documents: Documents,
    workloads: BTreeMap<String, Kept>,
    certificates: Certificates,
    leaves: HashMap<String, CertificateDer<'static>>,
    unaccepted: Unaccepted,
    minted: Minted,
    content: Content,
    /// The repository-scoped token, which is a new one whenever it was away.
    robot: Option<ResourceUid>,
    requests: usize,
    /// The registry that the rows are executed on.
    target: Target,
}

/// What a row came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// As recorded.
    pub verdict: Verdict,
    /// The deciding layer, as recorded.
    pub layer: String,
    /// As answered and recorded.
    pub status: u16,
    /// The way in, as recorded.
    pub via: Option<String>,
    /// Whether each layer allowed, denied or was skipped, and what it found.
    pub layers: Vec<(String, String, Vec<String>)>,
    /// The smallest fixes, as recorded.
    pub fixes: Vec<String>,
}

/// A request that was answered; its record may not be written yet.
pub(super) struct Sent {
    id: CorrelationId,
    status: u16,
}

impl Live {
    /// A server with everything that these rows share.
    pub async fn start(rows: &[&Row]) -> Self {
        Self::start_on(Server::open("server", server::TENANT).await, rows).await
    }

    async fn start_on(server: Server, rows: &[&Row]) -> Self {
        let sample = *rows.first().expect("there are rows");
        let workloads = workloads::all(rows.iter().copied());
        let members: Vec<PrincipalId> =
            workloads.values().filter(|kept| kept.system).map(|kept| kept.system_principal()).collect();
        let common = documents::common(sample, &members);
        let certificates = Certificates::new();
        server.put(&common).await;
        let foreign = foreign_certificate(&certificates, server.now()).await;
        let malformed = certificates.for_another_purpose();
        let mut live = Self {
            documents: Documents::new(),
            certificates,
            leaves: HashMap::new(),
            unaccepted: Unaccepted { gone: foreign.clone(), foreign, malformed },
            minted: Minted::default(),
            content: Content::of(rows),
            robot: None,
            requests: 0,
            target: Target::default(),
            workloads,
            server,
        };
        let service_principal = principal("principal").map(|(id, _)| id).expect("a service principal");
        live.server.secret(SecretOwner::Principal(service_principal)).await;
        live.replace_registry(sample).await;
        live.make_workloads().await;
        live.fill_repositories(sample).await;
        live
    }

    /// Makes the registry as it is before its owner closed it.
    async fn open_registry(&mut self, sample: &Row) {
        self.documents.clear();
        self.robot = None;
        self.settle(documents::of(&documents::opened(sample), None)).await;
        let uid = self.server.directory.registry_by_id(&id(&self.target.id())).expect("the registry is there").uid;
        self.server.secret(SecretOwner::Admin(uid)).await;
    }

    /// Tokens of a registry that was deleted and created again are kept.
    async fn replace_registry(&mut self, sample: &Row) {
        self.open_registry(sample).await;
        self.mint_for_replaced_registry(sample).await;
        self.server.directory.remove(id(&self.target.id()), Expected::Any).await.expect("the registry can be removed");
        self.open_registry(sample).await;
    }

    async fn make_workloads(&mut self) {
        let all: Documents = workloads::documents(&self.workloads).collect();
        self.server.put(&all).await;
        let gone = Kept::gone();
        self.unaccepted.gone = self.issue(gone);
        self.server.directory.remove(id(&gone.id()), Expected::Any).await.expect("a workload can be removed");
    }

    fn issue(&self, workload: Kept) -> CertificateDer<'static> {
        let Server { identity, directory, .. } = &self.server;
        self.certificates.issue(identity, directory, workload, self.server.now())
    }

    /// The workload's certificate.
    fn leaf(&mut self, workload: Kept) -> CertificateDer<'static> {
        if let Some(leaf) = self.leaves.get(&workload.id()) {
            return leaf.clone();
        }
        let leaf = self.issue(workload);
        self.leaves.insert(workload.id(), leaf.clone());
        leaf
    }

    /// Makes the documents these and no others, in one change.
    async fn settle(&mut self, wanted: Documents) {
        let wanted = self.target.documents(wanted);
        let mut changes = Vec::new();
        for gone in self.documents.keys().filter(|id| !wanted.contains_key(*id)) {
            changes.push(Change::Remove { id: id(gone), expected: Expected::Any });
        }
        for (name, document) in wanted.iter().filter(|(id, document)| self.documents.get(*id) != Some(document)) {
            changes.push(server::put(name, document));
        }
        self.documents = wanted;
        if changes.is_empty() {
            return;
        }
        let change = self.server.directory.change(move |_| Ok::<_, StoreError>(changes)).await;
        change.expect("the configuration can be changed");
        let robot = id(&format!("{}/tokens/{TOKEN_NAME}", self.target.id()));
        let robot = self.server.directory.resource(&robot).map(|token| token.uid);
        if robot != self.robot {
            self.robot = robot;
            if let Some(uid) = robot {
                self.server.secret(SecretOwner::RepositoryToken(uid)).await;
            }
        }
    }

    /// Executes rows; their records are read when all are done.
    pub async fn run<'a>(&mut self, rows: &[&'a Row]) -> Vec<(&'a Row, Outcome)> {
        // Settings are the server's: rows with the same ones go together.
        let mut rows = rows.to_vec();
        rows.sort_by_cached_key(|row| format!("{} {:?}", row.policy_date, row.switches));
        let mut sent = Vec::new();
        for row in rows {
            let settings = row.settings();
            if *self.server.directory.settings() != settings {
                self.server.directory.set_settings(Arc::new(settings));
            }
            sent.push((row, self.case(row).await));
        }
        outcomes(&self.server.audit, sent).await
    }

    async fn case(&mut self, row: &Row) -> Sent {
        let caller = caller_of(row);
        if let Some(locks) = &row.locks {
            self.settle(documents::of(&documents::opened(row), caller)).await;
            self.lock(row, locks).await;
        }
        let credentials = self.credentials(row, caller).await;
        self.settle(documents::of(row, caller)).await;
        let peer = self.peer(row);
        self.requests += 1;
        let request = request::of(row, &self.target, &self.content, credentials, self.requests);
        let reply = self.server.send(request, peer).await;
        let is_done = (200..300).contains(&reply.status);
        if row.locks.is_some() || (is_done && content::takes_away(row.kind())) {
            self.settle(documents::of(&documents::opened(row), caller)).await;
            self.restore(row).await;
        }
        Sent { id: reply.id(), status: reply.status }
    }

    fn peer(&mut self, row: &Row) -> Peer {
        let now = self.server.now();
        let certificate = match self.presented(row) {
            None => PeerCertificate::None,
            Some(leaf) => workloads::presented(&self.server.identity, &leaf, now),
        };
        Peer { certificate, ..at(row.from.place) }
    }

    /// The certificate that the row's workload presents.
    fn presented(&mut self, row: &Row) -> Option<CertificateDer<'static>> {
        let workload = row.from.workload.as_ref()?;
        let kept = Kept::of(row);
        let past = || {
            self.server.long_ago(LONG_AGO_SECONDS, |server, then| {
                self.certificates.issue(&server.identity, &server.directory, kept, then)
            })
        };
        let leaf = self.unaccepted.of(workload, past);
        Some(leaf.unwrap_or_else(|| self.leaf(kept)))
    }
}

/// A connection from a place, without a certificate.
fn at(place: Place) -> Peer {
    Peer {
        place: place.as_str().into(),
        ingress: ingress(place),
        address: place.address(),
        simulated: false,
        certificate: PeerCertificate::None,
    }
}

/// Who the row's role assignments are for.
fn caller_of(row: &Row) -> Option<PrincipalId> {
    match row.caller.kind.as_str() {
        "system" => Some(Kept::of(row).system_principal()),
        "scanner" => None,
        kind => principal(kind).map(|(id, _)| id),
    }
}

/// A certificate of another installation for a workload of the same name.
async fn foreign_certificate(certificates: &Certificates, now: Timestamp) -> CertificateDer<'static> {
    let workload = Kept { which: workloads::Which::Own, ..Kept::gone() };
    let elsewhere = Server::open("elsewhere", server::TENANT).await;
    elsewhere.put(&Documents::from([(workload.id(), json!({"location": "local"}))])).await;
    certificates.issue(&elsewhere.identity, &elsewhere.directory, workload, now)
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is a resource id"))
}

/// What requests came to, as their records say.
async fn outcomes<'a>(audit: &Audit, sent: Vec<(&'a Row, Sent)>) -> Vec<(&'a Row, Outcome)> {
    let mut outcomes = Vec::new();
    for (row, sent) in sent {
        let record = audit.find(sent.id).await.expect("records can be read");
        let record = record.unwrap_or_else(|| panic!("{}: the request left no record", row.name));
        let record: Value = serde_json::from_str(&record).expect("a record is JSON");
        outcomes.push((row, Outcome::read(&record, sent.status)));
    }
    outcomes
}

impl Outcome {
    fn read(record: &Value, status: u16) -> Self {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(record.get("status"), Some(&json!(status)), "the record has the status that was answered");
        let list = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let layers = record.get("layers").and_then(Value::as_array).into_iter().flatten();
        let layers = layers.map(|found| {
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            (text("layer"), text("outcome"), list(&found["findings"]))
        });
        let fixes = record.get("fixes").and_then(Value::as_array).into_iter().flatten();
        Self {
            verdict: if text("verdict") == "allow" { Verdict::Allow } else { Verdict::Deny },
            status,
            via: record.get("via").and_then(Value::as_str).map(str::to_owned),
            fixes: fixes.map(|fix| list(fix).join(" + ")).collect(),
            layers: layers.collect(),
            layer: text("decidedBy"),
        }
    }
}

//! The matrix's second execution: a server in this process, without listeners.
//!
//! Every row becomes resources in a real directory, content in a real store, certificates and tokens from the real identity
//! services, and one request through the data plane's router. What it came to is read from the response and from the audit
//! record. Time and randomness are the test's.

mod content;
mod credentials;
mod documents;
mod elsewise;
mod request;
mod server;
mod workloads;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postern_access::{Layer, OperationKind};
use postern_identity::{Peer, PeerCertificate, SecretOwner};
use postern_model::{CorrelationId, PrincipalId, ResourceId, ResourceUid};
use postern_store::{Change, Expected, StoreError};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

pub use elsewise::{ELSEWISE, Elsewise};

use self::content::Content;
use self::credentials::Minted;
use self::documents::Documents;
use self::server::{Reply, Server};
use self::workloads::{Certificates, Kept, Unaccepted};
use super::scene::{TOKEN_NAME, ingress};
use super::{Answer, Place, REGISTRY, Row, Verdict, principal};

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
    /// What the deciding layer found.
    pub findings: Vec<String>,
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
        let server = Server::open("server", server::TENANT).await;
        let sample = *rows.first().expect("there are rows");
        let workloads = workloads::all(rows.iter().copied());
        let members: Vec<PrincipalId> =
            workloads.values().filter(|kept| kept.system).map(|kept| kept.system_principal()).collect();
        let common = documents::common(sample, &members);
        let certificates = Certificates::new();
        server.put(&common).await;
        let foreign = foreign_certificate(&certificates).await;
        let mut live = Self {
            documents: Documents::new(),
            certificates,
            leaves: HashMap::new(),
            unaccepted: Unaccepted { gone: foreign.clone(), foreign },
            minted: Minted::default(),
            content: Content::of(rows),
            robot: None,
            requests: 0,
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

    /// Tokens of a registry that was deleted and created again are kept.
    async fn replace_registry(&mut self, sample: &Row) {
        self.settle(documents::of(&documents::opened(sample), None)).await;
        self.mint_for_replaced_registry(sample).await;
        self.server.directory.remove(id(REGISTRY), Expected::Any).await.expect("the registry can be removed");
        self.documents.clear();
        self.robot = None;
        self.settle(documents::of(&documents::opened(sample), None)).await;
        let uid = self.server.directory.registry_by_id(&id(REGISTRY)).expect("the registry is there again").uid;
        self.server.secret(SecretOwner::Admin(uid)).await;
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
        let robot = id(&format!("{REGISTRY}/tokens/{TOKEN_NAME}"));
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
        let mut outcomes = Vec::new();
        for (row, sent) in sent {
            let record = self.server.audit.find(sent.id).await.expect("records can be read");
            let record = record.unwrap_or_else(|| panic!("{}: the request left no record", row.name));
            let record: Value = serde_json::from_str(&record).expect("a record is JSON");
            outcomes.push((row, Outcome::read(&record, sent.status)));
        }
        outcomes
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
        let request = request::of(row, &self.content, credentials, self.requests);
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
        let certificate = match &row.from.workload {
            None => PeerCertificate::None,
            Some(workload) => {
                let kept = Kept::of(row);
                let past = || {
                    self.server.long_ago(LONG_AGO_SECONDS, |server, then| {
                        self.certificates.issue(&server.identity, &server.directory, kept, then)
                    })
                };
                let leaf = self.unaccepted.of(workload, past);
                let leaf = leaf.unwrap_or_else(|| self.leaf(kept));
                workloads::presented(&self.server.identity, &leaf, now)
            }
        };
        Peer { certificate, ..at(row.from.place) }
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
async fn foreign_certificate(certificates: &Certificates) -> CertificateDer<'static> {
    let workload = Kept { which: workloads::Which::Own, ..Kept::gone() };
    let elsewhere = Server::open("elsewhere", server::TENANT).await;
    elsewhere.put(&Documents::from([(workload.id(), json!({"location": "local"}))])).await;
    certificates.issue(&elsewhere.identity, &elsewhere.directory, workload, elsewhere.now())
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is a resource id"))
}

impl Outcome {
    fn read(record: &Value, status: u16) -> Self {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(record.get("status"), Some(&json!(status)), "the record has the status that was answered");
        let layer = text("decidedBy");
        let layers = record.get("layers").and_then(Value::as_array).into_iter().flatten();
        let deciding = layers.filter(|found| found.get("layer").and_then(Value::as_str) == Some(layer.as_str()));
        let findings = deciding.filter_map(|found| found.get("findings")?.as_array()).flatten();
        let fixes = record.get("fixes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_array);
        let fixes = fixes.map(|fix| fix.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" + "));
        Self {
            verdict: if text("verdict") == "allow" { Verdict::Allow } else { Verdict::Deny },
            status,
            via: record.get("via").and_then(Value::as_str).map(str::to_owned),
            fixes: fixes.collect(),
            findings: findings.filter_map(Value::as_str).map(str::to_owned).collect(),
            layer,
        }
    }
}

impl Row {
    /// What of this row no request shows as it stands.
    pub fn elsewise(&self) -> Option<&'static Elsewise> {
        ELSEWISE.iter().find(|one| one.row == self.name && one.kind == self.operation.kind)
    }

    /// Whether a server's outcome is the one that the row asks for; if not, in what it differs. A real token may say more
    /// than the row does (whom it was issued to), so that what the deciding layer found may be more, too.
    pub fn compare_live(&self, outcome: &Outcome) -> Result<(), String> {
        let pure = Answer::pure(&self.scene());
        let mut wrong = Vec::new();
        let mut check = |right: bool, what: String| {
            if !right {
                wrong.push(what);
            }
        };
        check(outcome.verdict == self.expect.verdict, format!("verdict is {:?}", outcome.verdict));
        match self.expect.verdict {
            Verdict::Allow => {
                let refused = matches!(outcome.status, 401 | 403 | 405 | 500..);
                check(!refused, format!("the status is {}", outcome.status));
                let mounts = self.kind() == OperationKind::MountBlob;
                check(!mounts || outcome.status == 201, format!("the blob was not mounted: {}", outcome.status));
                check(outcome.via == pure.via, format!("via is {:?}, expected {:?}", outcome.via, pure.via));
            }
            Verdict::Deny => {
                let status = self.expect.status.or(pure.status);
                check(Some(outcome.status) == status, format!("status is {}, expected {status:?}", outcome.status));
                let here = pure.blockers.iter().filter(|blocker| blocker.layer == pure.layer);
                for blocker in here {
                    let found = outcome.findings.contains(&blocker.text);
                    check(found, format!("`{}` is not among {:?}", blocker.text, outcome.findings));
                }
            }
        }
        if let Some(fixes) = &self.expect.fixes {
            check(outcome.fixes == *fixes, format!("fixes are {:?}, expected {fixes:?}", outcome.fixes));
        }
        if let Some(layer) = &self.expect.layer {
            check(outcome.layer == *layer, format!("layer is {}, expected {layer}", outcome.layer));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{} ({}): {}", self.name, self.operation.kind, wrong.join("; ")))
        }
    }
}

impl Elsewise {
    /// Whether the outcome is the one that is stated.
    pub fn is(&self, outcome: &Outcome) -> bool {
        let denied = (outcome.verdict == Verdict::Deny).then_some(outcome.layer.as_str());
        denied == self.denied.map(Layer::as_str) && outcome.status == self.status
    }
}

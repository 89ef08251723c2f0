//! The matrix's third execution: the real server in the network bench, and each row's request over a real connection from its place.
//!
//! Every registry that the rows need, its content and everybody's credentials are made in the data folder before the server opens
//! it, by the code of the second execution; what the rows are about (address, way in, certificate, request, answer, record) is real.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use postern_model::TenantId;
use rustls_pki_types::CertificateDer;

use super::server::{Home, Outgoing, Server, TestClock, records};
use super::{Live, Outcome, Sent, Target, caller_of, content, documents, outcomes, request};
use crate::bench::{Bench, Client, Request, Setup};
use crate::matrix::{OFFICE_SUBNET, OTHER_PRIVATE_ENDPOINT, OTHER_SUBNET, PRIVATE_ENDPOINT, Place, Row};

/// What was made must not be from the future of the server's clock.
const BEHIND_SECONDS: i64 = 60;

/// A server in the bench that rows are executed on.
pub struct Wire<'a> {
    bench: Bench,
    prepared: Vec<Prepared<'a>>,
    /// The key of all certificates.
    key: Vec<u8>,
}

/// A row's request, ready to be sent.
struct Prepared<'a> {
    row: &'a Row,
    outgoing: Outgoing,
    certificate: Option<CertificateDer<'static>>,
}

impl<'a> Wire<'a> {
    /// Makes everything that these rows need, and starts the server on it. Call it inside the bench.
    pub fn start(rows: &[&'a Row]) -> Self {
        let setup = Setup::default()
            .resource("vnet-a", PRIVATE_ENDPOINT)
            .resource("vnet-b", OTHER_PRIVATE_ENDPOINT)
            .resource("subnet", OFFICE_SUBNET)
            .resource("other-subnet", OTHER_SUBNET);
        // Rows with wrong passwords come from few places.
        let limits = "wrong_passwords_per_user = 100000\nwrong_passwords_per_source = 100000".to_owned();
        let mut bench = Bench::with(Setup { limits, ..setup });
        let tenant: TenantId = bench.server().bootstrap().tenant_id.parse().expect("a tenant");
        bench.stop();
        let (prepared, key) = within_runtime(prepare(&bench.data(), tenant, rows));
        bench.restart();
        Self { bench, prepared, key }
    }

    /// Executes the rows, with the server's settings as each has them; their records are read when all are done.
    pub fn run(mut self) -> Vec<(&'a Row, Outcome)> {
        let mut by_settings: BTreeMap<String, Vec<Prepared<'_>>> = BTreeMap::new();
        for prepared in std::mem::take(&mut self.prepared) {
            by_settings.entry(access_section(prepared.row)).or_default().push(prepared);
        }
        let mut sent = Vec::new();
        for (access, group) in by_settings {
            self.bench.set_access(&access);
            for place in Place::ALL {
                let from_place: Vec<_> = group.iter().filter(|one| one.row.from.place == place).collect();
                if !from_place.is_empty() {
                    sent.extend(self.send(place, &from_place));
                }
            }
        }
        self.bench.stop();
        let file = self.bench.data().join("audit.db");
        within_runtime(async { outcomes(&records(&file, &TestClock::at(now_seconds())).await, sent).await })
    }

    fn send(&self, place: Place, group: &[&Prepared<'a>]) -> Vec<(&'a Row, Sent)> {
        let (name, address) = self.leads(place);
        let client = Client::new(&self.bench.server().bootstrap().ca_file);
        let send = |one: &Prepared<'a>| {
            let outgoing = &one.outgoing;
            let identity = one.certificate.as_ref().map(|certificate| (certificate.clone(), self.key.clone()));
            let request = Request {
                authorization: outgoing.authorization.as_deref(),
                content_type: outgoing.content_type,
                body: &outgoing.body,
                method: outgoing.method,
                ..Request::get(&outgoing.host, &outgoing.target)
            };
            let answer = client.send(address, &request, identity);
            let answer = answer.unwrap_or_else(|error| panic!("{name}, {}: {error}", one.row.name));
            let id = answer.header("x-ms-correlation-request-id").and_then(|id| id.parse().ok());
            let id = id.unwrap_or_else(|| panic!("{name}, {}: no id in {answer:?}", one.row.name));
            (one.row, Sent { id, status: answer.status })
        };
        self.bench.place(name).enter(|| group.iter().map(|one| send(one)).collect())
    }

    /// The bench's machine for a place, and where it finds registries.
    fn leads(&self, place: Place) -> (&'static str, SocketAddr) {
        let public = Bench::public_address();
        match place {
            Place::Internet => ("internet", public),
            Place::Office => ("office", public),
            Place::Ipv6 => ("ipv6", Bench::public_address_v6()),
            Place::SharedPool => ("shared-pool", public),
            Place::PrivateEndpoint => ("vnet-a", self.bench.endpoint_address("vnet-a")),
            Place::OtherPrivateEndpoint => ("vnet-b", self.bench.endpoint_address("vnet-b")),
            Place::Misrouted => ("peered", self.bench.endpoint_address("vnet-a")),
            Place::Subnet => ("subnet", public),
            Place::OtherSubnet => ("other-subnet", public),
        }
    }
}

/// Runs to the end, together with everything that still holds the data then.
fn within_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

/// Makes registries, content and credentials of all rows in the data folder.
async fn prepare<'a>(data: &Path, tenant: TenantId, rows: &[&'a Row]) -> (Vec<Prepared<'a>>, Vec<u8>) {
    let home = Home {
        store: data.to_owned(),
        audit: data.join("audit.db"),
        authority: "localhost".to_owned(),
        certificate_names: vec!["localhost".to_owned(), "*.azurecr.io".to_owned()],
        seconds: now_seconds() - BEHIND_SECONDS,
        folder: None,
    };
    let mut live = Live::start_on(Server::open_in(home, tenant).await, rows).await;
    let mut alike: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        alike.entry(configuration(number, row)).or_default().push(row);
    }
    let mut prepared = Vec::new();
    for (number, group) in alike.into_values().enumerate() {
        let first = *group.first().expect("a group has a row");
        live.occupy(Target::number(number), first).await;
        for row in &group {
            prepared.push(live.prepared(row).await);
        }
        live.settle(documents::of(first, caller_of(first))).await;
    }
    let key = live.certificates.key();
    live.server.close().await;
    (prepared, key)
}

/// Rows of the same text here can be executed on one registry.
fn configuration(number: usize, row: &Row) -> String {
    let alone = row.locks.is_some() || content::takes_away(row.kind()) || row.operation.kind == "mountBlob";
    let alone = alone.then_some(number);
    let Row { registry, caller, operation, from, .. } = row;
    format!("{alone:?} {registry:?} {caller:?} {:?} {} {:?}", from.workload, operation.repository, operation.tag)
}

impl Live {
    /// Makes the registry that rows like this one are executed on, open, with content.
    async fn occupy(&mut self, target: Target, row: &Row) {
        self.target = target;
        self.minted.tokens.clear();
        if row.caller.invalid.as_deref() == Some("RegistryReplaced") {
            self.replace_registry(row).await;
        } else {
            self.open_registry(row).await;
        }
        self.push(&row.operation.repository).await;
        if let Some(locks) = &row.locks {
            self.lock(row, locks).await;
        }
    }

    /// The row's request with its credentials. The registry may be left open.
    async fn prepared<'a>(&mut self, row: &'a Row) -> Prepared<'a> {
        let credentials = self.credentials(row, caller_of(row)).await;
        self.requests += 1;
        let outgoing = request::of(row, &self.target, &self.content, credentials, self.requests);
        Prepared { row, outgoing, certificate: self.presented(row) }
    }
}

/// The server's settings for a row.
fn access_section(row: &Row) -> String {
    let mut lines = vec![format!("policy_date = '{}'", row.policy_date)];
    let switches = [
        ("tasks_policy_requires_azure_services", row.switches.tasks_policy_requires_azure_services),
        ("quick_run_bypass", row.switches.quick_run_bypass),
        ("tasks_user_identity_bypass", row.switches.tasks_user_identity_bypass),
        ("aci_trusted", row.switches.aci_trusted),
    ];
    lines.extend(switches.into_iter().filter_map(|(name, value)| Some(format!("{name} = {}", value?))));
    lines.join("\n")
}

#[expect(clippy::disallowed_methods, reason = "the server that runs on this data has the real time")]
fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_secs()).expect("a number of this age")
}

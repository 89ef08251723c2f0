//! Scenario files: places, a registry, and what its owner changes step by step. What comes out is a table of who gets in when.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bench, Client, Place, Request, Setup, Spec, Way};
use crate::Admin;
use crate::image::sha256;

/// What everybody asks for.
const MANIFEST: &str = "/v2/hello/manifests/1";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux"}"#;
/// A scenario as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The heading.
    pub title: String,
    /// What it is about.
    #[serde(default)]
    pub about: String,
    /// The places; without any, those that the documents speak of.
    #[serde(default, rename = "place")]
    pub places: Vec<Spec>,
    /// Lines of the section `[access]` of the server's configuration.
    #[serde(default)]
    pub access: toml::Table,
    /// Workloads with a system-assigned identity, each run in a place.
    #[serde(default, rename = "workload")]
    pub workloads: Vec<Workload>,
    /// The steps, one after the other.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// A workload that pulls with its own identity.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its resource type, such as `Microsoft.ContainerInstance/containerGroups`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The place that it runs in.
    pub place: String,
}

/// What the registry's owner does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// The heading of its column.
    pub name: String,
    /// Properties of the registry that change, spelled as in its ARM document.
    #[serde(default)]
    pub properties: toml::Table,
    /// Places whose private endpoints are approved from now on.
    #[serde(default)]
    pub approve: Vec<String>,
    /// Places whose private endpoints are rejected from now on.
    #[serde(default)]
    pub reject: Vec<String>,
}

/// What one request came to.
struct Cell {
    status: u16,
    /// The way in, or everything in the way.
    why: String,
    /// Where the name led.
    address: Option<std::net::IpAddr>,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let places = scenario.setup().places;
        let known = |name: &String| places.iter().any(|place| place.name == *name);
        let named = scenario.steps.iter().flat_map(|step| step.approve.iter().chain(&step.reject));
        let named = named.chain(scenario.workloads.iter().map(|workload| &workload.place));
        let unknown = { named }.find(|name| !known(name)).cloned();
        match unknown {
            Some(name) => Err(format!("there is no place `{name}`")),
            None => Ok(scenario),
        }
    }

    fn setup(&self) -> Setup {
        let lines: Vec<String> = self.access.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let access = lines.concat();
        let places = if self.places.is_empty() { Setup::default().places } else { self.places.clone() };
        Setup { places, access, ..Setup::default() }
    }

    /// Plays it in the bench, and tells what everybody got at each step. Call it inside the bench.
    pub fn table(&self) -> String {
        let setup = self.setup();
        let bench = Bench::with(setup.clone());
        let admin = bench.admin();
        let registry = admin.first_registry();
        push(&bench);
        let workloads: Vec<(String, &Workload)> =
            self.workloads.iter().map(|workload| (make(&admin, &registry, workload), workload)).collect();
        let mut columns = Vec::new();
        for step in &self.steps {
            take(&admin, &registry, step);
            let mut column: Vec<Cell> = bench.places().iter().map(|place| pull(&bench, &admin, place)).collect();
            column.extend(workloads.iter().map(|(id, workload)| ping_as(&bench, &admin, id, workload)));
            columns.push(column);
        }
        let mut names: Vec<String> = setup.places.iter().map(described).collect();
        names.extend(self.workloads.iter().map(|workload| format!("`{}` in {}", workload.name, workload.place)));
        self.rendered(&names, &columns)
    }

    fn rendered(&self, names: &[String], columns: &[Vec<Cell>]) -> String {
        let mut text = format!("# {}\n\n{}\n\n| from |", self.title, self.about.trim());
        for step in &self.steps {
            let _ = write!(text, " {} |", step.name);
        }
        let _ = write!(text, "\n| --- |{}\n", " --- |".repeat(columns.len()));
        for (number, name) in names.iter().enumerate() {
            let _ = write!(text, "| {name} |");
            for cell in columns.iter().filter_map(|column| column.get(number)) {
                let verdict = if cell.status == 403 { "denied" } else { "**in**" };
                let address = cell.address.map_or_else(String::new, |address| format!(", at {address}"));
                let _ = write!(text, " {verdict}{address}: {} |", cell.why.replace('|', "\\|"));
            }
            text.push('\n');
        }
        text
    }
}

fn described(place: &Spec) -> String {
    let address = place.addresses.first().map_or("", String::as_str);
    let by = match &place.by {
        Way::Internet => String::new(),
        Way::PrivateEndpoint(endpoint) => format!(", private endpoint {endpoint}"),
        Way::ServiceEndpoint => ", service endpoint".to_owned(),
        Way::Peering(with) => format!(", peered with {with}"),
    };
    format!("{} ({address}{by})", place.name)
}

fn authorization(bench: &Bench) -> String {
    use base64::Engine as _;
    let bootstrap = bench.server().bootstrap();
    let login = format!("{}:{}", bootstrap.client_id, bootstrap.client_secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// Pushes the image that everybody asks for. The registry is as it was made: open.
fn push(bench: &Bench) {
    let (host, authorization) = (Bench::host("postern"), authorization(bench));
    let client = Client::new(&bench.server().bootstrap().ca_file);
    let digest = format!("sha256:{}", sha256(CONFIG.as_bytes()));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": CONFIG.len()},
        "layers": [],
    })
    .to_string();
    let upload = format!("/v2/hello/blobs/uploads/?digest={digest}");
    for (method, target, content_type, body) in
        [("POST", upload.as_str(), "application/octet-stream", CONFIG), ("PUT", MANIFEST, IMAGE, manifest.as_str())]
    {
        let request = Request {
            method,
            authorization: Some(&authorization),
            content_type: Some(content_type),
            body: body.as_bytes(),
            ..Request::get(&host, target)
        };
        let sent = bench.server_place().enter(|| client.send(Bench::public_address(), &request, None));
        let answer = sent.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        assert_eq!(answer.status, 201, "{method} {target}: {}", answer.body);
    }
}

/// Makes a workload whose identity may pull; gives its resource id.
fn make(admin: &Admin<'_>, registry: &str, workload: &Workload) -> String {
    let id = admin.id("postern", &format!("{}/{}", workload.kind, workload.name));
    let body = json!({"location": "eastus", "identity": {"type": "SystemAssigned"}, "properties": {}});
    let made = admin.send("PUT", &id, Some(&body));
    let principal = made["identity"]["principalId"].as_str().unwrap_or_else(|| panic!("no identity in {made}"));
    admin.assign("7f951dda-4ed3-4680-a7ca-43fe172d538d", principal, registry);
    id
}

fn take(admin: &Admin<'_>, registry: &str, step: &Step) {
    for (places, status) in [(&step.approve, "Approved"), (&step.reject, "Rejected")] {
        for place in places {
            let connection = json!({"properties": {
                "privateEndpoint": {"id": Bench::endpoint(place)},
                "privateLinkServiceConnectionState": {"status": status},
            }});
            admin.send("PUT", &format!("{registry}/privateEndpointConnections/{place}"), Some(&connection));
        }
    }
    if !step.properties.is_empty() {
        let properties = serde_json::to_value(&step.properties).expect("TOML is JSON, but for dates");
        admin.update(registry, &properties);
    }
}

/// A pull from a place, where the name leads there.
fn pull(bench: &Bench, admin: &Admin<'_>, place: &Place) -> Cell {
    let (host, authorization) = (Bench::host("postern"), authorization(bench));
    let client = Client::new(&bench.server().bootstrap().ca_file);
    let found = place.resolve(&host);
    let same = |address: &&std::net::IpAddr| address.is_ipv4() == place.address().is_ipv4();
    let address = *found.iter().find(same).unwrap_or_else(|| panic!("{}: {host} leads nowhere", place.name()));
    let request = Request { authorization: Some(&authorization), ..Request::get(&host, MANIFEST) };
    let sent = place.enter(|| client.send(std::net::SocketAddr::new(address, 443), &request, None));
    let answer = sent.unwrap_or_else(|error| panic!("{}: {error}", place.name()));
    let id = answer.header("x-ms-correlation-request-id").unwrap_or_default().to_owned();
    Cell { status: answer.status, why: why(admin, &id), address: Some(address) }
}

/// A workload's first request, through its gateway.
fn ping_as(bench: &Bench, admin: &Admin<'_>, id: &str, workload: &Workload) -> Cell {
    let url = format!("https://{}/v2/", Bench::host("postern"));
    let shown = "%{http_code} %header{x-ms-correlation-request-id}";
    let curl = ["--as", id, "--", "curl", "--silent", "--output", "/dev/null", "--write-out", shown, &url];
    let printed = bench.postern(bench.place(&workload.place), &["workload", "run"], &curl).stdout();
    let (status, id) = printed.split_once(' ').unwrap_or_else(|| panic!("curl printed {printed}"));
    Cell { status: status.parse().unwrap_or_default(), why: why(admin, id), address: None }
}

/// The way in of a decision, or everything that was in the way.
fn why(admin: &Admin<'_>, id: &str) -> String {
    let record = admin.send("GET", &format!("/postern/v1/decisions/{id}"), None);
    if let Some(via) = record.get("via").and_then(Value::as_str) {
        return via.to_owned();
    }
    let layers = record["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let network = layers.iter().filter(|layer| layer["layer"] == "network");
    let findings = network.filter_map(|layer| layer["findings"].as_array()).flatten().filter_map(Value::as_str);
    findings.collect::<Vec<_>>().join("; ")
}

//! Every operation of every API, called by everybody who may not. The operations come from the code's own tables, so that a new
//! one is called, too; what they answer is in `docs/reference/sweep.md`.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use postern_tests::{Admin, Server, golden};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const VERSION: &str = "api-version=2026-01-01-preview";
const STRANGER: &str = "aaaaaaaa-2222-4333-8444-555555555555";
/// The id of nobody.
const STRANGERS_TWIN: &str = "aaaaaaaa-2222-4333-8444-666666666666";
const UPLOAD: &str = "00000000-0000-4000-8000-000000000000";

/// Whom nothing is given, and still answered with success: what everybody may know.
const OPEN: [&str; 11] = [
    "/metadata/endpoints",
    "/{tenant}/v2.0/.well-known/openid-configuration",
    "/{tenant}/.well-known/openid-configuration",
    "/{tenant}/discovery/v2.0/keys",
    // A form, which does nothing without a code and a password.
    "/common/oauth2/deviceauth",
    "/healthz",
    "/readyz",
    // On this machine only.
    "/metrics",
    // What a stranger with a token of the directory sees: itself, and lists of nothing.
    "/tenants",
    "/subscriptions",
    "/postern/v1/export",
];

/// Lists that hold only what the caller may read, for callers of the resource manager: they are empty for a stranger.
const FILTERED: [&str; 6] = [
    "/subscriptions/<subscription>/resources",
    "/subscriptions/<subscription>/resourceGroups",
    "<group>/resources",
    "<group>/providers/Microsoft.ContainerRegistry/registries",
    "/providers/Microsoft.ContainerRegistry/operations",
    "/subscriptions/<subscription>/locations",
];

struct Bench {
    server: Server,
    /// What stands for the names in angle brackets.
    names: Vec<(&'static str, String)>,
}

impl Bench {
    fn new() -> Self {
        let server = Server::start();
        let admin = Admin::of(&server);
        let registry = admin.first_registry();
        for name in ["second", "closed"] {
            let id = admin.id("postern", &format!("Microsoft.ContainerRegistry/registries/{name}"));
            admin.send("PUT", &id, Some(&json!({"location": "eastus", "sku": {"name": "Premium"}})));
        }
        let account = format!("/providers/Microsoft.Graph/servicePrincipals/{STRANGER}");
        admin.send("PUT", &account, Some(&json!({"properties": {"displayName": "stranger"}})));
        let names = vec![
            ("<subscription>", server.bootstrap().subscription_id.clone()),
            ("<group>", format!("/subscriptions/{}/resourceGroups/postern", server.bootstrap().subscription_id)),
            ("<registry>", registry),
            ("<principal>", account),
            ("{tenant}", server.bootstrap().tenant_id.clone()),
            ("{id}", UPLOAD.to_owned()),
            ("{registry}", UPLOAD.to_owned()),
            ("{name}", "ca1.log".to_owned()),
            ("{lease}", format!("{UPLOAD}.1")),
        ];
        Self { server, names }
    }

    fn filled(&self, path: &str) -> String {
        self.names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
    }

    /// Status and body.
    fn call(&self, method: &str, url: &str, headers: &[String]) -> (String, String) {
        let mut arguments = vec!["--http1.1", "--path-as-is", "--globoff", "--write-out", "\n%{http_code}"];
        arguments.extend(if method == "HEAD" { vec!["--head"] } else { vec!["--request", method] });
        if !matches!(method, "GET" | "HEAD") {
            arguments.extend(["--data", "{}"]);
        }
        arguments.extend(headers.iter().flat_map(|header| ["--header", header.as_str()]));
        let output = self.server.curl().args(arguments).arg(url).run();
        let (body, status) = output.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("no status in {output}"));
        // Of a HEAD curl shows the headers, and the date among them.
        (status.to_owned(), if method == "HEAD" { String::new() } else { body.to_owned() })
    }

    fn form(&self, url: &str, fields: &str) -> Value {
        self.server.curl().args(["--data", fields, url]).run().succeeded().json()
    }

    fn authority_token(&self, client: &str, secret: &str) -> String {
        self.authority_token_for(client, secret, "https://management.azure.com")
    }

    fn authority_token_for(&self, client: &str, secret: &str, audience: &str) -> String {
        let bootstrap = self.server.bootstrap();
        let url = format!("{}/{}/oauth2/v2.0/token", bootstrap.authority, bootstrap.tenant_id);
        let fields = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={secret}&scope={audience}/.default"
        );
        text(&self.form(&url, &fields)["access_token"])
    }

    fn registry(&self, name: &str, path: &str) -> String {
        format!("https://{}{path}", self.server.registry_host(name))
    }

    /// An access token of the registry for all that its holder may on the repository `app`.
    fn access_token(&self, name: &str, authority_token: &str) -> String {
        let host = self.server.registry_host(name);
        let fields = format!("grant_type=access_token&service={host}&access_token={authority_token}");
        let refresh = text(&self.form(&self.registry(name, "/oauth2/exchange"), &fields)["refresh_token"]);
        let fields = format!(
            "grant_type=refresh_token&service={host}&scope=repository:app:*&scope=registry:catalog:*&refresh_token={refresh}"
        );
        text(&self.form(&self.registry(name, "/oauth2/token"), &fields)["access_token"])
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Authorization: Bearer {token}")]
}

/// The token with another last character but one of its signature.
fn garbled(token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let at = bytes.len() - 10;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("a token is ASCII")
}

/// A caller, and the address that its requests go to.
struct Caller {
    name: &'static str,
    base: String,
    headers: Vec<String>,
}

#[test]
fn nobody_gets_what_is_not_theirs() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let bootstrap = bench.server.bootstrap().clone();
    let own = bench.authority_token(&bootstrap.client_id, &bootstrap.client_secret);
    let account = admin.send("GET", &bench.filled("<principal>"), None);
    let made = admin.send("POST", &bench.filled("<principal>/addPassword"), Some(&json!({})));
    let stranger = bench.authority_token(&text(&account["properties"]["appId"]), &text(&made["secretText"]));
    let access = bench.access_token("postern", &own);
    let strangers_access = bench.access_token("postern", &stranger);
    let seconds_access = bench.access_token("second", &own);
    let closeds_access = bench.access_token("closed", &own);
    let blob = format!("sha256:{:x}", Sha256Hex(b"{}"));
    let login = format!("{}:{}", bootstrap.client_id, bootstrap.client_secret);
    let upload = bench.registry("postern", &format!("/v2/app/blobs/uploads/?digest={blob}"));
    let _ = bench.server.curl().args(["--fail", "--user", &login, "--data", "{}", &upload]).run().succeeded();
    let closed = admin.id("postern", "Microsoft.ContainerRegistry/registries/closed");
    admin.update(&closed, &json!({"publicNetworkAccess": "Disabled"}));

    let caller = |name, base: String, headers| Caller { name, base, headers };
    let postern = || bench.registry("postern", "");
    let control = || bootstrap.arm_endpoint.clone();
    let mut page = String::from(
        "# What those are answered who may not\n\nGenerated by `tests/tests/sweep.rs` from the tables of operations in the code. Do not edit.\n",
    );
    let mut wrong = Vec::new();

    let data_plane: Vec<(String, String)> =
        postern_oci::ENDPOINTS.iter().map(|endpoint| (endpoint.method.to_owned(), endpoint.path.to_owned())).collect();
    let callers = [
        caller("nobody", postern(), vec![]),
        caller("a stranger", postern(), bearer(&strangers_access)),
        caller("of another registry", postern(), bearer(&seconds_access)),
        caller("with the authority's token", postern(), bearer(&own)),
        caller("with a garbled token", postern(), bearer(&garbled(&access))),
        caller("from a blocked place", bench.registry("closed", ""), bearer(&closeds_access)),
        caller("under another's name", control(), vec![format!("Host: {}", bench.server.registry_host("postern"))]),
    ];
    let fill = |path: &str, repository: &str| {
        path.replace("<name>", repository)
            .replace("<digest>", &blob)
            .replace("<reference>", "v1")
            .replace("<tag>", "v1")
            .replace("<upload>", UPLOAD)
    };
    table(&mut page, "Data plane and token endpoints", &data_plane, &callers, |method, path, caller| {
        let (status, body) = bench.call(method, &format!("{}{}", caller.base, fill(path, "app")), &caller.headers);
        let (twin, other) = bench.call(method, &format!("{}{}", caller.base, fill(path, "nothing")), &caller.headers);
        // The same is said of what is there and of what is not.
        let same = |text: &str| without_ids(text).replace("nothing", "app");
        if status != twin || same(&body) != same(&other) {
            wrong.push(format!("{method} {path} tells {} what exists: {status} {body}, {twin} {other}", caller.name));
        }
        if status.starts_with('2') && !(path == "/v2/" && caller.name == "a stranger") {
            wrong.push(format!("{method} {path} gives {} something: {body}", caller.name));
        }
        status
    });

    let manager: Vec<(String, String)> = postern_arm::ENDPOINTS
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .chain(postern::endpoints().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())))
        .chain(
            postern_identity::authority_endpoints()
                .into_iter()
                .map(|(method, path)| (method.to_owned(), path.to_owned())),
        )
        .collect();
    let callers = [
        caller("nobody", control(), vec![]),
        caller("a stranger", control(), bearer(&stranger)),
        caller("with a registry's token", control(), bearer(&access)),
        caller("with a garbled token", control(), bearer(&garbled(&own))),
        caller("under another's name", postern(), vec![format!("Host: localhost:{}", bench.server.address().port())]),
    ];
    table(&mut page, "Resource manager, authority, decisions, health", &manager, &callers, |method, path, caller| {
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{}{separator}{VERSION}", caller.base, bench.filled(path));
        let (status, body) = bench.call(method, &url, &caller.headers);
        let is_public = OPEN[..8].contains(&path);
        let is_empty = (OPEN.contains(&path) || FILTERED.contains(&path)) && caller.name == "a stranger";
        if status.starts_with('2') && !(caller.name != "under another's name" && (is_public || is_empty)) {
            wrong.push(format!("{method} {path} gives {} something: {status} {body}", caller.name));
        }
        if !is_public && body.contains(&bootstrap.client_id) {
            wrong.push(format!("{method} {path} tells {} of the administrator", caller.name));
        }
        status
    });
    let directory: Vec<(String, String)> =
        postern_arm::GRAPH_ENDPOINTS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    let strangers = bench.authority_token_for(
        &text(&account["properties"]["appId"]),
        &text(&made["secretText"]),
        &bootstrap.arm_endpoint,
    );
    let callers = [
        caller("nobody", control(), vec![]),
        caller("a stranger", control(), bearer(&strangers)),
        caller("with the resource manager's token", control(), bearer(&own)),
        caller("with a registry's token", control(), bearer(&access)),
        caller("with a garbled token", control(), bearer(&garbled(&strangers))),
        caller("under another's name", postern(), vec![format!("Host: localhost:{}", bench.server.address().port())]),
    ];
    let administrator = administrator(&admin, &bootstrap.client_id);
    table(&mut page, "Directory", &directory, &callers, |method, path, caller| {
        let fill = |object: &str| path.replace("<object>", object);
        let [there, absent] =
            [administrator.as_str(), STRANGERS_TWIN].map(|object| format!("{}{}", caller.base, fill(object)));
        let (status, body) = bench.call(method, &there, &caller.headers);
        let (twin, other) = bench.call(method, &absent, &caller.headers);
        if status != twin || without_ids(&body) != without_ids(&other) {
            wrong.push(format!("{method} {path} tells {} what exists: {status} {body}, {twin} {other}", caller.name));
        }
        // Nobody owns anything in the directory.
        if status.starts_with('2') && !(path == "/v1.0/me/ownedObjects" && caller.name == "a stranger") {
            wrong.push(format!("{method} {path} gives {} something: {status} {body}", caller.name));
        }
        status
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!bench.server.log().contains("panicked"), "{}", bench.server.log());
    golden("docs/reference/sweep.md", &page);
}

/// The object id of who has this application id.
fn administrator(admin: &Admin, client: &str) -> String {
    let all = admin.send("GET", "/providers/Microsoft.Graph/servicePrincipals", None);
    let own = |one: &&Value| one["properties"]["appId"] == client;
    text(&all["value"].as_array().and_then(|list| list.iter().find(own)).expect("there is an administrator")["name"])
}

/// One table: a row for each operation, a column for each caller.
fn table(
    page: &mut String,
    title: &str,
    endpoints: &[(String, String)],
    callers: &[Caller],
    mut call: impl FnMut(&str, &str, &Caller) -> String,
) {
    let names: Vec<&str> = callers.iter().map(|caller| caller.name).collect();
    let _ = write!(
        page,
        "\n## {title}\n\n| operation | {} |\n| --- |{}\n",
        names.join(" | "),
        " --- |".repeat(names.len())
    );
    let mut rows = BTreeMap::new();
    for (method, path) in endpoints {
        let statuses: Vec<String> = callers.iter().map(|caller| call(method, path, caller)).collect();
        rows.insert((path.clone(), method.clone()), statuses);
    }
    for ((path, method), statuses) in rows {
        let _ = writeln!(page, "| {method} `{path}` | {} |", statuses.join(" | "));
    }
}

/// Without GUIDs, which every answer has new ones of.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
    words.filter(|word| is_id(word)).fold(text.to_owned(), |text, id| text.replace(id, ""))
}

/// Prints the SHA-256 of the bytes.
struct Sha256Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Sha256Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Sha256::digest(self.0).iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

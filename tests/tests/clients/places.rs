//! Each client in each of the bench's places: the table of `docs/reference/clients.md`.

use std::fmt::Write as _;
use std::thread;

use postern_tests::bench::{self, Place};
use postern_tests::{Command, Containers, Layout, Outcome, Sdk, golden, oci_client, tool};
use serde_json::json;

/// The places, as the page calls them, and what they are in the bench.
const PLACES: [(&str, &str); 4] =
    [("internet", "internet"), ("office", "office"), ("private endpoint", "vnet-a"), ("trusted workload", "workload")];
/// The place that everything is prepared in.
const PREPARED_IN: usize = 1;
const HOST: &str = "postern.azurecr.io";

const HEAD: &str = "\
# Clients and places

Made by a test that runs each client, unmodified, in each place of the network bench, against a registry whose default action is
to deny; `cargo xtask bless` renews it. In the bench the registry is `postern.azurecr.io` on port 443, under its private address where
there is a private endpoint, and all clients log in with the same service principal, except for the workload, which logs in as itself.

- **internet**: no rule names its address.
- **office**: an IP rule does.
- **private endpoint**: the network has an approved private endpoint; its public address has no rule.
- **trusted workload**: a container group on the internet, through `postern workload run`.

";

const MIDDLE: &str = "
## What a client shows of a refusal

The registry's answer says why, and has the id that `postern explain` takes. Not every client shows it.

";

const END: &str = "
Where only the status is shown, ask from the same place with another client; anything that shows the whole text will do:

```
curl --silent https://postern.azurecr.io/v2/
```

The server's log has a line with the id for every denial, too.
";

/// The clients of one place, with storage and settings of their own.
struct Caller<'a> {
    bench: &'a bench::Bench,
    place: &'a Place,
    containers: Containers,
    /// The container group that programs run as.
    group: Option<&'a str>,
}

/// What a client shows when it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Status,
    TextAndId,
}

/// How it went: done, or refused by the wall.
type Verdict = Result<(), Shown>;

/// A row's name and how it goes in one place.
type Row = (&'static str, &'static str, Verdict);

impl<'a> Caller<'a> {
    fn new(bench: &'a bench::Bench, place: &'a Place, group: Option<&'a str>) -> Self {
        let containers = Containers::new();
        if group.is_none() {
            let login = bench.server().bootstrap();
            containers.set_credentials(&[(HOST, &login.client_id, &login.client_secret)]);
        }
        Self { bench, place, containers, group }
    }

    /// A program and its arguments, as they run in this place.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let command = match self.group {
            None => self.place.command(program),
            Some(group) => self.bench.postern(self.place, &["workload", "run"], &["--as", group, "--"]).arg(program),
        };
        self.containers
            .settings(command.args(arguments))
            .env("COSIGN_PASSWORD", "")
            .current_dir(self.containers.scratch().path())
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Outcome {
        self.command(tool(name), arguments).run()
    }

    /// One of the Azure libraries.
    fn library(&self, sdk: Sdk, arguments: &[&str]) -> Outcome {
        let [program, script] = sdk.command_line();
        let (variable, packages) = Sdk::packages();
        let login = self.bench.server().bootstrap();
        let mut command =
            self.command(program, &[&script.display().to_string()]).args(arguments).env(variable, packages);
        if self.group.is_none() {
            command = command
                .env("AZURE_TENANT_ID", &login.tenant_id)
                .env("AZURE_CLIENT_ID", &login.client_id)
                .env("AZURE_CLIENT_SECRET", &login.client_secret)
                .env("AZURE_AUTHORITY_HOST", "https://azurecr.io");
        }
        command.run()
    }

    /// Every client, one after the other. `note` makes what they push their own.
    fn rows(&self, layout: &Layout, number: usize) -> Vec<Row> {
        let own = |client: &str| format!("{HOST}/{client}:{number}");
        let (image, docker_image) = (format!("{HOST}/hello:1"), format!("docker://{HOST}/hello:1"));
        let hello = layout.reference("hello");
        let mut rows = Vec::new();
        let mut row = |client, operation, outcome: Outcome| rows.push((client, operation, verdict(outcome)));

        row("skopeo", "inspect", self.run("skopeo", &["inspect", &docker_image]));
        row("skopeo", "copy", self.run("skopeo", &["copy", &hello, &format!("docker://{}", own("skopeo"))]));
        let local = self.containers.podman().args(["pull", "--quiet", &hello]).stdout();
        let local = local.trim();
        for client in ["podman", "buildah"] {
            row(client, "pull", self.run(client, &["pull", "--quiet", &image]));
            row(client, "push", self.run(client, &["push", local, &format!("docker://{}", own(client))]));
        }
        let engine = self.containers.engine_through(self.command("env", &[]));
        let docker = |arguments: &[&str]| engine.docker().args(arguments).run();
        row("docker, on podman's engine", "pull", docker(&["pull", "--quiet", &image]));
        let _ = docker(&["tag", local, &own("docker")]).succeeded();
        row("docker, on podman's engine", "push", docker(&["push", &own("docker")]));
        drop(engine);
        row("oras", "fetch", self.run("oras", &["manifest", "fetch", &image]));
        let attach = ["attach", "--artifact-type", "application/vnd.example.note", &image, "note.txt:text/plain"];
        row("oras", "attach", self.run("oras", &attach));
        row("oras", "discover", self.run("oras", &["discover", &image]));
        let verify = ["verify", "--insecure-ignore-tlog", "--key", "cosign.pub", &image];
        row("cosign", "verify", self.run("cosign", &verify));
        let sign = ["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", &image];
        row("cosign", "sign", self.run("cosign", &sign));
        for verb in ["pull", "push"] {
            let reference = if verb == "pull" { image.clone() } else { own("rust") };
            row("oci-client (Rust)", verb, self.command(oci_client(), &[verb, &reference]).run());
        }
        let endpoint = format!("https://{HOST}");
        for (client, sdk) in
            [("Azure library for Python", Sdk::Python), ("Azure library for JavaScript", Sdk::JavaScript)]
        {
            row(client, "push", self.library(sdk, &["push", &endpoint, "library", &number.to_string()]));
            row(client, "pull", self.library(sdk, &["pull", &endpoint, "prepared", "1"]));
        }
        rows
    }
}

fn verdict(outcome: Outcome) -> Verdict {
    if outcome.code == Some(0) {
        return Ok(());
    }
    let shown = format!("{}{}", outcome.stdout, outcome.stderr);
    if shown.contains("is not allowed access") && shown.contains("CorrelationId") {
        return Err(Shown::TextAndId);
    }
    let is_status =
        ["403 (Forbidden)", "403: Forbidden", "invalid status 'Forbidden'"].iter().any(|status| shown.contains(status));
    assert!(is_status, "neither done nor refused by the wall: {outcome}");
    Err(Shown::Status)
}

fn page(columns: &[Vec<Row>]) -> String {
    let mut text = HEAD.to_owned();
    let names: Vec<&str> = PLACES.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "| client | operation | {} |", names.join(" | "));
    let _ = writeln!(text, "| --- | --- |{}", " --- |".repeat(PLACES.len()));
    let first = columns.first().map_or(&[][..], Vec::as_slice);
    let mut refusals: Vec<(&str, Shown, Vec<&str>)> = Vec::new();
    for (number, (client, operation, _)) in first.iter().enumerate() {
        let verdicts = columns.iter().map(|rows| rows[number].2).collect::<Vec<Verdict>>();
        let words = verdicts.iter().map(|verdict| if verdict.is_ok() { "done" } else { "403" }).collect::<Vec<_>>();
        let _ = writeln!(text, "| {client} | {operation} | {} |", words.join(" | "));
        for shown in verdicts.into_iter().filter_map(Result::err) {
            match refusals.iter_mut().find(|(known, what, _)| known == client && *what == shown) {
                Some((_, _, operations)) => operations.push(operation),
                None => refusals.push((client, shown, vec![operation])),
            }
        }
    }
    text.push_str(MIDDLE);
    text.push_str("| client | operation | shows | the id |\n| --- | --- | --- | --- |\n");
    for (client, shown, operations) in refusals {
        let (what, id) = match shown {
            Shown::Status => ("the status, 403", "is hidden"),
            Shown::TextAndId => ("the whole text", "is in it"),
        };
        let _ = writeln!(text, "| {client} | {} | {what} | {id} |", operations.join(", "));
    }
    text.push_str(END);
    text
}

#[test]
fn each_client_gets_in_where_the_wall_lets_it() {
    bench::inside(|| {
        let bench = bench::Bench::new();
        let admin = bench.admin();
        let registry = admin.first_registry();
        let group = admin.container_group("mycontainer", &registry);
        let connection = json!({"properties": {
            "privateEndpoint": {"id": bench::Bench::endpoint("vnet-a")},
            "privateLinkServiceConnectionState": {"status": "Approved"},
        }});
        admin.send("PUT", &format!("{registry}/privateEndpointConnections/vnet-a"), Some(&connection));
        let rules = json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}});
        admin.update(&registry, &rules);

        let callers: Vec<Caller<'_>> = PLACES
            .iter()
            .map(|(_, place)| Caller::new(&bench, bench.place(place), (*place == "workload").then_some(&*group)))
            .collect();
        let prepared = &callers[PREPARED_IN];
        let mut layout = Layout::create(prepared.containers.scratch().join("layout"));
        layout.add_printing_image("hello", "hello");
        let image = format!("{HOST}/hello:1");
        let copy = ["copy", &layout.reference("hello"), &format!("docker://{image}")];
        let _ = prepared.run("skopeo", &copy).succeeded();
        let _ = prepared.run("cosign", &["generate-key-pair"]).succeeded();
        let sign = ["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", &image];
        let _ = prepared.run("cosign", &sign).succeeded();
        let _ = prepared.library(Sdk::Python, &["push", &format!("https://{HOST}"), "prepared", "1"]).succeeded();
        for caller in &callers {
            let scratch = caller.containers.scratch();
            scratch.write("note.txt", "a note");
            for key in ["cosign.key", "cosign.pub"] {
                let content =
                    std::fs::read(prepared.containers.scratch().path().join(key)).expect("cosign writes keys");
                scratch.write(key, content);
            }
        }

        let columns: Vec<Vec<Row>> = thread::scope(|scope| {
            let layout = &layout;
            let places = callers.iter().enumerate();
            let threads: Vec<_> =
                places.map(|(number, caller)| scope.spawn(move || caller.rows(layout, number))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        golden("docs/reference/clients.md", &page(&columns));
    });
}

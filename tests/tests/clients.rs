//! Real clients push and pull by registry name and by `localhost:PORT`: with tokens, anonymously, and as a workload through the
//! gateway and by client certificate.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a failed expectation is a failed test")]

use postern_tests::{Admin, Containers, Layout, Server, postern};
use serde_json::json;

const MESSAGE: &str = "through the side door";

/// A server, clients that trust it, and an image.
struct Bench {
    server: Server,
    containers: Containers,
    layout: Layout,
}

impl Bench {
    fn new() -> Self {
        let server = Server::start();
        let mut containers = Containers::new();
        containers.trust(&server.bootstrap().ca_file);
        let mut layout = Layout::create(containers.scratch().join("layout"));
        layout.add_printing_image("hello", MESSAGE);
        Self { server, containers, layout }
    }

    fn localhost(&self) -> String {
        format!("localhost:{}", self.server.address().port())
    }

    fn named(&self) -> String {
        self.server.registry_host("postern")
    }

    /// Logs the clients in as the administrator.
    fn log_in(&self) {
        let bootstrap = self.server.bootstrap();
        let (user, password) = (bootstrap.client_id.as_str(), bootstrap.client_secret.as_str());
        self.containers.set_credentials(&[(&self.localhost(), user, password), (&self.named(), user, password)]);
    }

    /// Pushes the image with skopeo.
    fn push(&self, image: &str) {
        let target = format!("docker://{image}");
        let _ = self.containers.skopeo().args(["copy", &self.layout.reference("hello"), &target]).run().succeeded();
    }

    fn digest(&self, image: &str) -> String {
        let digest = ["inspect", "--format", "{{.Digest}}", &format!("docker://{image}")];
        self.containers.skopeo().args(digest).stdout().trim().to_owned()
    }
}

#[test]
fn skopeo_buildah_podman_and_oras_use_localhost() {
    let bench = Bench::new();
    bench.log_in();
    let image = format!("{}/team/hello:1", bench.localhost());
    bench.push(&image);
    let digest = bench.digest(&image);
    let descriptor = ["manifest", "fetch", "--descriptor", "--plain-http=false", &image];
    assert_eq!(bench.containers.oras().args(descriptor).run().succeeded().json()["digest"], digest.as_str());
    // Without options oras speaks plain HTTP to localhost.
    let fetched = bench.containers.oras().args(["manifest", "fetch", "--descriptor", &image]).run().succeeded().json();
    assert_eq!(fetched["digest"], digest.as_str());
    let id = bench.containers.podman().args(["pull", "--quiet", &image]).stdout();
    assert_eq!(bench.containers.podman().args(["run", "--rm", id.trim()]).stdout(), format!("{MESSAGE}\n"));
    let copy = format!("{}/team/copy:1", bench.localhost());
    let _ = bench.containers.buildah().args(["push", id.trim(), &format!("docker://{copy}")]).run().succeeded();
    assert!(bench.digest(&copy).starts_with("sha256:"));
}

#[test]
fn clients_use_registry_names_through_the_proxy() {
    let mut bench = Bench::new();
    bench.containers.use_proxy(&bench.server.bootstrap().proxy.clone());
    bench.log_in();
    let image = format!("{}/hello:1", bench.named());
    bench.push(&image);
    let file = bench.containers.scratch().write("note.txt", "a note");
    let folder = file.parent().expect("a file is in a folder").to_owned();
    let attach = ["attach", "--artifact-type", "application/vnd.example.note", &image, "note.txt:text/plain"];
    let _ = bench.containers.oras().args(attach).current_dir(&folder).run().succeeded();
    let found = bench.containers.oras().args(["discover", "--format", "json", &image]).run().succeeded().json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.example.note", "{found}");
    let id = bench.containers.buildah().args(["pull", &format!("docker://{image}")]).stdout();
    assert!(!id.trim().is_empty());
    let tags = bench.containers.oras().args(["repo", "tags", &format!("{}/hello", bench.named())]).stdout();
    assert_eq!(tags.trim(), "1");
}

#[test]
fn anonymous_callers_pull_where_the_owner_allows_it() {
    let bench = Bench::new();
    bench.log_in();
    let image = format!("{}/hello:1", bench.localhost());
    bench.push(&image);
    bench.containers.set_credentials(&[]);
    let inspect = ["inspect", &format!("docker://{image}")];
    let refused = bench.containers.skopeo().args(inspect).run().failed();
    assert!(refused.stderr.contains("authentication required"), "{}", refused.stderr);
    let admin = Admin::of(&bench.server);
    admin.update(&admin.first_registry(), &json!({"anonymousPullEnabled": true}));
    let _ = bench.containers.skopeo().args(inspect).run().succeeded();
    let push = ["copy", &bench.layout.reference("hello"), &format!("docker://{image}")];
    let _ = bench.containers.skopeo().args(push).run().failed();
}

#[test]
fn repository_tokens_and_refresh_tokens_log_in() {
    let bench = Bench::new();
    bench.log_in();
    let image = format!("{}/hello:1", bench.localhost());
    bench.push(&image);
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let actions = json!({"properties": {"actions": ["repositories/hello/content/read"]}});
    let map = admin.send("PUT", &format!("{registry}/scopeMaps/readers"), Some(&actions));
    let token = json!({"properties": {"scopeMapId": map["id"], "status": "enabled"}});
    let token = admin.send("PUT", &format!("{registry}/tokens/reader"), Some(&token));
    let wanted = json!({"tokenId": token["id"], "name": "password1"});
    let credentials = admin.send("POST", &format!("{registry}/generateCredentials"), Some(&wanted));
    let password = credentials["passwords"][0]["value"].as_str().expect("a password is shown once");
    bench.containers.set_credentials(&[(&bench.localhost(), "reader", password)]);
    assert!(bench.digest(&image).starts_with("sha256:"));
    let other = format!("docker://{}/other:1", bench.localhost());
    let push = ["copy", &bench.layout.reference("hello"), &other];
    let _ = bench.containers.skopeo().args(push).run().failed();
}

#[test]
fn a_workload_passes_the_wall_through_its_gateway() {
    let mut bench = Bench::new();
    bench.log_in();
    bench.push(&format!("{}/hello:1", bench.localhost()));
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let group = admin.container_group("mycontainer", &registry);
    admin.update(&registry, &json!({"publicNetworkAccess": "Disabled"}));
    bench.containers.use_proxy(&bench.server.bootstrap().proxy.clone());
    let image = format!("docker://{}/hello:1", bench.named());
    let refused = bench.containers.skopeo().args(["inspect", &image]).run().failed();
    assert!(refused.stderr.contains("403 (Forbidden)"), "{}", refused.stderr);

    let run_as = |command: &[&str]| {
        let rest = [&["--as", group.as_str(), "--"], command].concat();
        postern(&bench.server, &["workload", "run"], &rest)
    };
    let skopeo = postern_tests::tool("skopeo");
    let inspected =
        run_as(&[skopeo.to_str().expect("a path is text"), "inspect", "--no-tags", &image]).run().succeeded();
    assert_eq!(inspected.json()["Architecture"], "amd64");
    let buildah = postern_tests::tool("buildah");
    let storage = ["--root", "ROOT", "--runroot", "RUN", "--storage-driver", "vfs"].map(|part| match part {
        "ROOT" | "RUN" => bench.containers.scratch().join(part).display().to_string(),
        other => other.to_owned(),
    });
    let mut pull = vec![buildah.to_str().expect("a path is text")];
    pull.extend(storage.iter().map(String::as_str));
    pull.extend(["pull", image.as_str()]);
    let _ = run_as(&pull).run().succeeded();
    let oras = postern_tests::tool("oras");
    let reference = format!("{}/hello:1", bench.named());
    let fetched = run_as(&[oras.to_str().expect("a path is text"), "manifest", "fetch", "--descriptor", &reference]);
    assert!(fetched.run().succeeded().json()["digest"].is_string());
    let layout = bench.layout.reference("hello");
    let _ = run_as(&[skopeo.to_str().expect("a path is text"), "copy", &layout, &format!("{image}-pushed")])
        .run()
        .succeeded();
    let folder = bench.containers.scratch().join("artifact");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::write(folder.join("note.txt"), "a note").expect("a file can be written");
    let artifact = format!("{}/notes:1", bench.named());
    let push = [oras.to_str().expect("a path is text"), "push", &artifact, "note.txt:text/plain"];
    let _ = run_as(&push).current_dir(&folder).run().succeeded();
    let url = format!("https://{}/v2/", bench.named());
    let status = run_as(&["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url]).stdout();
    assert_eq!(status, "401", "the gate is open, the credentials are still to be shown");
    let client = postern_tests::oci_client();
    let pulled = run_as(&[client.to_str().expect("a path is text"), &reference]).stdout();
    assert!(pulled.starts_with("pulled sha256:"), "{pulled}");

    admin.update(&registry, &json!({"networkRuleBypassOptions": "None"}));
    let status = run_as(&["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url]).stdout();
    assert_eq!(status, "403");
}

#[test]
fn a_workload_passes_the_wall_by_its_client_certificate() {
    let bench = Bench::new();
    bench.log_in();
    let image = format!("{}/hello:1", bench.localhost());
    bench.push(&image);
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let group = admin.container_group("mycontainer", &registry);
    admin.update(&registry, &json!({"publicNetworkAccess": "Disabled"}));
    let source = format!("docker://{image}");
    let refused = bench.containers.skopeo().args(["inspect", &source]).run().failed();
    assert!(refused.stderr.contains("403 (Forbidden)"), "{}", refused.stderr);

    let folder = bench.containers.scratch().join("certificate");
    let out = folder.to_str().expect("a path is text");
    let _ = postern(&bench.server, &["workload", "certificate"], &["--as", &group, "--out", out]).run().succeeded();
    // The gate opens for the workload; the administrator's credentials are not its identity's, so it closes again.
    let other = bench.containers.skopeo().args(["inspect", "--cert-dir", out, &source]).run().failed();
    assert!(other.stderr.contains("403 (Forbidden)"), "{}", other.stderr);
    let refresh = refresh_token(&bench, &folder);
    bench.containers.set_credentials(&[(&bench.localhost(), "00000000-0000-0000-0000-000000000000", &refresh)]);
    let inspected = bench.containers.skopeo().args(["inspect", "--no-tags", "--cert-dir", out, &source]).run();
    assert_eq!(inspected.succeeded().json()["Architecture"], "amd64");
    let pulled = bench.containers.buildah().args(["pull", "--cert-dir", out, &source]).stdout();
    let push = ["push", "--cert-dir", out, pulled.trim(), &format!("docker://{}/pushed:1", bench.localhost())];
    let _ = bench.containers.buildah().args(push).run().succeeded();
    let pem = |name: &str| folder.join(name).display().to_string();
    let fetch = ["manifest", "fetch", "--descriptor", "--plain-http=false", "--cert-file", &pem("client.cert")];
    let oras = bench.containers.oras().args(fetch).args(["--key-file", &pem("client.key"), &image]);
    assert!(oras.run().succeeded().json()["digest"].is_string());
    // The same token without the certificate is worth nothing.
    let stolen = bench.containers.skopeo().args(["inspect", &source]).run().failed();
    assert!(stolen.stderr.contains("403 (Forbidden)"), "{}", stolen.stderr);
}

/// The identity's registry refresh token, got with the workload's certificate.
fn refresh_token(bench: &Bench, folder: &std::path::Path) -> String {
    let bootstrap = bench.server.bootstrap();
    let curl = || {
        let pem = |name: &str| folder.join(name).display().to_string();
        bench.server.curl().args(["--cert", &pem("client.cert"), "--key", &pem("client.key")])
    };
    let token = curl()
        .args(["--data", "resource=https://containerregistry.azure.net"])
        .arg(format!("{}/postern/v1/identity/token", bootstrap.authority))
        .run()
        .succeeded()
        .json();
    let host = bench.localhost();
    let form = format!(
        "grant_type=access_token&service={host}&access_token={}",
        token["access_token"].as_str().unwrap_or_else(|| panic!("no token in {token}"))
    );
    let answer = curl().args(["--data", &form, &format!("https://{host}/oauth2/exchange")]).run().succeeded().json();
    answer["refresh_token"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
}

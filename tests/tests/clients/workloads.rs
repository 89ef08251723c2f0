//! Clients as workloads, through the gateway and by client certificate, while the wall is closed for everybody else.

use std::ffi::OsStr;

use postern_tests::{Admin, Command, Sdk, postern, tool};
use serde_json::json;

use crate::Bench;

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
    let pulled = run_as(&[client.to_str().expect("a path is text"), "pull", &reference]).stdout();
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

/// A registry that only a container group may enter, by its side door.
struct SideDoor {
    bench: Bench,
    group: String,
}

impl SideDoor {
    fn new() -> Self {
        let bench = Bench::new();
        bench.log_in();
        bench.push(&format!("{}/hello:1", bench.localhost()));
        let admin = bench.admin();
        let group = admin.container_group("mycontainer", &admin.first_registry());
        bench.close_the_wall();
        // What lets them in is the gateway's login, not the administrator's.
        bench.containers.set_credentials(&[]);
        Self { bench, group }
    }

    /// A program and its arguments, as the container group.
    fn run(&self, command_line: &[&OsStr]) -> Command {
        let run = postern(&self.bench.server, &["workload", "run"], &["--as", &self.group, "--"]);
        self.bench.containers.settings(run.args(command_line))
    }

    /// A tool of this name and its arguments, as the container group.
    fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        self.run(&[tool(name).as_os_str()]).args(arguments)
    }
}

#[test]
fn podman_docker_and_cosign_work_through_the_gateway() {
    let door = SideDoor::new();
    let host = door.bench.named();
    let image = format!("{host}/hello:1");
    let id = door.tool("podman", &["pull", "--quiet", &image]).stdout();
    let _ = door.tool("podman", &["push", id.trim(), &format!("{host}/podman:1")]).run().succeeded();

    let gateway = door.tool("env", &[]);
    let engine = door.bench.containers.engine_through(gateway);
    let _ = engine.docker().args(["pull", "--quiet", &image]).run().succeeded();
    let pushed = format!("{host}/docker:1");
    let _ = engine.docker().args(["tag", &image, &pushed]).run().succeeded();
    let _ = engine.docker().args(["push", &pushed]).run().succeeded();
    drop(engine);

    let scratch = door.bench.containers.scratch();
    let key = |name: &str| scratch.join(name).display().to_string();
    let _ = door.bench.containers.cosign().arg("generate-key-pair").run().succeeded();
    let sign = ["sign", "--yes", "--tlog-upload=false", "--key", &key("cosign.key"), &image];
    let _ = door.tool("cosign", &sign).env("COSIGN_PASSWORD", "").run().succeeded();
    let verify = ["verify", "--insecure-ignore-tlog", "--key", &key("cosign.pub"), &image];
    let _ = door.tool("cosign", &verify).run().succeeded();
    let tags = door.tool("oras", &["repo", "tags", &format!("{host}/hello")]).stdout();
    assert_eq!(tags.lines().count(), 2, "the image and its signature: {tags}");
    let _ = door.tool("oras", &["cp", "--recursive", &image, &format!("{host}/copy:1")]).run().succeeded();
    let pushed = door.run(&[postern_tests::oci_client().as_os_str()]).args(["push", &format!("{host}/rust:1")]);
    assert!(pushed.stdout().starts_with("pushed "));
}

#[test]
fn the_azure_libraries_find_their_identity_in_the_gateway() {
    let door = SideDoor::new();
    let endpoint = format!("https://{}", door.bench.named());
    for (sdk, name) in [(Sdk::Python, "python"), (Sdk::JavaScript, "javascript")] {
        let [program, script] = sdk.command_line();
        let (variable, packages) = Sdk::packages();
        let run = |verb: &str| {
            let command = door.run(&[program.as_os_str(), script.as_os_str()]).env(variable, &packages);
            command.args([verb, &endpoint, name, "1"]).run()
        };
        let digest = run("push").succeeded().json();
        assert!(digest.as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{digest}");
        assert_eq!(run("pull").succeeded().json(), json!(["1", "anything"]));
        // Without the gateway the same program stays outside.
        let refused = sdk.as_administrator(door.bench.server.bootstrap());
        let endpoint = format!("https://{}", door.bench.localhost());
        let refused = refused.args(["tags", &endpoint, name]).run().failed();
        assert!(refused.stderr.contains("is not allowed access"), "{refused}");
    }
}

#[test]
fn podman_docker_and_cosign_work_by_client_certificate() {
    let door = SideDoor::new();
    let (bench, host) = (&door.bench, door.bench.localhost());
    let folder = bench.containers.scratch().join("certificate");
    let out = folder.to_str().expect("a path is text");
    let _ =
        postern(&bench.server, &["workload", "certificate"], &["--as", &door.group, "--out", out]).run().succeeded();
    let refresh = refresh_token(bench, &folder);
    bench.containers.set_credentials(&[(&host, "00000000-0000-0000-0000-000000000000", &refresh)]);
    let image = format!("{host}/hello:1");
    let podman = |arguments: &[&str]| bench.containers.podman().args(arguments).run();
    let _ = podman(&["pull", "--quiet", &image]).failed();
    let id = podman(&["pull", "--quiet", "--cert-dir", out, &image]).succeeded().stdout;
    let _ = podman(&["push", "--cert-dir", out, id.trim(), &format!("{host}/podman:1")]).succeeded();

    let pem = |name: &str| folder.join(name);
    let (ca, certificate, key) = (pem("ca.crt"), pem("client.cert"), pem("client.key"));
    let text = |path: &std::path::Path| path.display().to_string();
    let by_certificate = ["--registry-client-cert", &text(&certificate), "--registry-client-key", &text(&key)];
    let _ = bench.containers.cosign().arg("generate-key-pair").run().succeeded();
    let sign = ["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", "--registry-cacert", &text(&ca)];
    let _ = bench.containers.cosign().args(sign).arg(&image).run().failed();
    let _ = bench.containers.cosign().args(sign).args(by_certificate).arg(&image).run().succeeded();
    let verify = ["verify", "--insecure-ignore-tlog", "--key", "cosign.pub", "--registry-cacert", &text(&ca)];
    let _ = bench.containers.cosign().args(verify).args(by_certificate).arg(&image).run().succeeded();

    // What the engine finds in its folder of certificates it presents for docker.
    bench.containers.set_client_certificate(&host, &ca, &certificate, &key);
    let engine = bench.containers.engine();
    let _ = engine.docker().args(["pull", "--quiet", &image]).run().succeeded();
    let pushed = format!("{host}/docker:1");
    let _ = engine.docker().args(["tag", &image, &pushed]).run().succeeded();
    let _ = engine.docker().args(["push", &pushed]).run().succeeded();
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

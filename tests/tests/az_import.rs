//! `az acr import`, in the network bench: from registries of the same server and from others, and what stands in its way.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::bench::{self, Bench, Place, Setup};
use postern_tests::{Az, Containers, Cue, Layout, Scratch, Server, Supplier};
use serde_json::json;

const SOURCE: &str = "mysource.azurecr.io";
const TARGET: &str = "mytarget.azurecr.io";
/// The user name that goes with a registry's refresh token.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// The registries `mysource` and `mytarget`, and the administrator's CLI in the office.
struct Scene {
    bench: Bench,
    az: Az,
    containers: Containers,
    layout: Layout,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        let bench = Bench::with(setup);
        let az = Az::new(bench.place("office")).as_administrator(bench.server().bootstrap());
        az.run(
            "az group create --name mygroup --location eastus --output none
az acr create --resource-group mygroup --name mysource --sku Premium --output none
az acr create --resource-group mygroup --name mytarget --sku Premium --output none",
        );
        let mut containers = Containers::new();
        containers.enter(bench.place("office"));
        let layout = Layout::create(containers.scratch().join("layout"));
        let scene = Self { bench, az, containers, layout };
        scene.log_in();
        scene
    }

    fn log_in(&self) {
        let token = |name: &str| {
            self.az.run(&format!("az acr login --name {name} --expose-token --query accessToken --output tsv"))
        };
        let (source, target) = (token("mysource"), token("mytarget"));
        self.containers.set_credentials(&[(SOURCE, TOKEN_USER, &source), (TARGET, TOKEN_USER, &target)]);
    }

    /// Imports into `mytarget`.
    fn import(&self, arguments: &str) {
        self.az.run(&format!("az acr import --name mytarget {arguments}"));
    }

    /// Fails to, with all of these words.
    fn refused(&self, arguments: &str, words: &[&str]) {
        let said = self.az.refused(&format!("az acr import --name mytarget {arguments}"));
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        assert!(!said.contains("Traceback"), "{said}");
    }

    /// The digest of an image in `mytarget`.
    fn imported(&self, image: &str) -> String {
        let image = format!("docker://{TARGET}/{image}");
        self.containers
            .skopeo()
            .args(["inspect", "--no-tags", "--format", "{{.Digest}}", &image])
            .stdout()
            .trim()
            .to_owned()
    }

    fn push(&self, tag: &str, to: &str) {
        let from = self.layout.reference(tag);
        let to = format!("docker://{to}");
        let _ =
            self.containers.skopeo().args(["copy", "--all", "--dest-tls-verify=false", &from, &to]).run().succeeded();
    }
}

/// By login server, name, resource id and credentials; what is there already; where nothing of it may be.
#[test]
fn between_registries_of_a_server() {
    bench::inside(|| {
        let mut scene = Scene::new(Setup::default());
        let one = scene.layout.add_printing_image("one", "one");
        let two = scene.layout.add_printing_image("two", "two");
        let index = scene.layout.add_index(&[one.clone(), two.clone()]);
        scene.layout.tag(&index, "all");
        for tag in ["one", "two", "all"] {
            scene.push(tag, &format!("{SOURCE}/app:{tag}"));
        }
        let attached = scene.containers.scratch().write("sbom.txt", "contents");
        let folder = attached.parent().map(Path::to_owned).unwrap_or_default();
        let attach = ["attach", "--artifact-type", "text/sbom", &format!("{SOURCE}/app:one"), "sbom.txt:text/plain"];
        let _ = scene.containers.oras().current_dir(folder).args(attach).run().succeeded();

        // The CLI knows the login server of a registry it can see, and gives its resource id.
        scene.import(&format!("--source {SOURCE}/app:one --image hello:1"));
        assert_eq!(scene.imported("hello:1"), one.digest);
        let referrers = scene.containers.oras().args(["discover", "--format", "json", &format!("{TARGET}/hello:1")]);
        let referrers = referrers.run().succeeded().stdout;
        assert!(referrers.contains("text/sbom"), "{referrers}");

        let two_into_hello = format!("--source {SOURCE}/app:two --image hello:1");
        scene.refused(&two_into_hello, &["(Conflict)", "Tag 1 already exists in target registry mytarget", "--force"]);
        assert_eq!(scene.imported("hello:1"), one.digest);
        scene.import(&format!("{two_into_hello} --force"));
        assert_eq!(scene.imported("hello:1"), two.digest);

        // Several tags; an index with what it lists; without a tag; without waiting.
        scene.import("--registry mysource --source app:all -t all:1 -t all:2 -t everything:latest");
        for image in ["all:1", "all:2", "everything:latest"] {
            let raw = format!("docker://{TARGET}/{image}");
            let raw = scene.containers.skopeo().args(["inspect", "--raw", &raw]).run().succeeded().json();
            assert_eq!(raw["manifests"].as_array().map(Vec::len), Some(2), "{raw}");
        }
        let source = scene.az.run("az acr show --name mysource --query id --output tsv");
        scene.import(&format!("--registry {source} --source app@{} --repository untagged", one.digest));
        let listed =
            "az acr manifest list-metadata --registry mytarget --name untagged --query \"[?digest=='{}'].tags\"";
        assert_eq!(scene.az.json(&listed.replace("{}", &one.digest)), json!([[]]));
        scene.import("--registry mysource --source app:one --image later:1 --no-wait");
        assert_eq!(scene.imported("later:1"), one.digest);

        let password = scene.az.run(
            "az acr token create --name puller --registry mysource --repository app content/read metadata/read \
             --query credentials.passwords[0].value --output tsv",
        );
        let by_password = |password: &str, to: &str| {
            format!("--source {SOURCE}/app:one --image {to} --username puller --password={password}")
        };
        scene.import(&by_password(&password, "token:1"));
        assert_eq!(scene.imported("token:1"), one.digest);
        scene.refused(&by_password("wrong", "token:2"), &["(ImportDenied)", "The source registry refused"]);
        scene.refused("--registry mysource --source app:gone --image x:1", &["(ImportSourceNotFound)", "app:gone"]);
        scene.refused("--registry mysource --source gone:1 --image x:1", &["(ImportSourceNotFound)", "gone:1"]);

        walls(&scene, &by_password(&password, "token:3"));
        roles(&scene, &source);
    });
}

/// Both registries' rules, with the service as a trusted one, and what may not leave.
fn walls(scene: &Scene, by_password: &str) {
    let import = |to: &str| format!("--registry mysource --source app:one --image {to}");
    let set =
        |registry: &str, rest: &str| scene.az.run(&format!("az acr update --name {registry} {rest} --output none"));
    let export = |status: &str| {
        scene.az.run(&format!(
            "az resource update --resource-group mygroup --name mysource --resource-type Microsoft.ContainerRegistry/registries \
             --api-version 2023-07-01 --set properties.policies.exportPolicy.status={status} --output none"
        ))
    };
    for registry in ["mytarget", "mysource"] {
        let side = registry.trim_start_matches("my");
        let wall = format!("The network rules of the {side} registry {registry}.azurecr.io refused");
        set(registry, "--public-network-enabled false --allow-trusted-services false");
        let fix = format!("Fix, on the {side} registry {registry}: ");
        let switch = "allow trusted services (networkRuleBypassOptions=AzureServices)";
        scene.refused(&import("walls:1"), &["(InvalidParameters)", "client with IP", &wall, &fix, switch]);
        set(registry, "--allow-trusted-services true");
    }
    scene.import(&import("walls:1"));
    // Over the public path there is no bypass.
    scene.refused(by_password, &["(InvalidParameters)", "source registry mysource", "by its resource id"]);
    export("disabled");
    scene.refused(&import("walls:2"), &["(ImportDenied)", "exportPolicy.status", "mysource"]);
    export("enabled");
    for registry in ["mysource", "mytarget"] {
        set(registry, "--public-network-enabled true --default-action Allow");
    }
}

/// The same right counts at both registries.
fn roles(scene: &Scene, source: &str) {
    let made = scene.az.json("az ad sp create-for-rbac --name importer");
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    let own = Az::new(scene.bench.place("internet"));
    let target = scene.az.run("az acr show --name mytarget --query id --output tsv");
    let assign = |scope: &str| {
        let role = "Container Registry Data Importer and Data Reader";
        let client = text("appId");
        scene.az.run(&format!(
            "az role assignment create --assignee {client} --role '{role}' --scope {scope} --output none"
        ));
    };
    assign(&target);
    let own = own.logged_in(&text("tenant"), &text("appId"), &text("password"));
    let import = format!(
        "az acr import --resource-group mygroup --name mytarget --registry {source} --source app:one --image roles:1"
    );
    let said = own.refused(&import);
    assert!(said.contains("(LinkedAuthorizationFailed)") && said.contains("registries/read"), "{said}");
    assign(source);
    own.run(&import);
    let elsewhere = import.replace("--name mytarget", "--name mysource").replace("roles:1", "app:three");
    own.run(&elsewhere);
    let client = text("appId");
    scene.az.run(&format!("az role assignment delete --assignee {client} --scope {target}"));
    let said = own.refused(&import);
    assert!(said.contains("(AuthorizationFailed)"), "{said}");
}

/// Ports of other servers on the server's machine.
const PARTNER_PORT: u16 = 8443;
const SUPPLIER_PORT: u16 = 8444;
const DEBIAN_PORT: u16 = 8445;

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A scene with a supplier on the server's machine, which the server may call.
fn with_supplier(fill: impl FnOnce(&mut Layout)) -> (Scene, Supplier, PathBuf) {
    let scratch = std::env::temp_dir();
    let authorities = scratch.join("authorities.pem");
    fs::write(&authorities, "").expect("the bench has a folder");
    let outbound = format!("allow = ['127.0.0.0/8']\nca_file = '{}'\n", authorities.display());
    let mut scene = Scene::new(Setup { outbound, log: "filter = 'info,postern_arm=debug'".into(), ..Setup::default() });
    fill(&mut scene.layout);
    let place = scene.bench.server_place();
    let listener = place.listen(local(SUPPLIER_PORT)).expect("the port is free");
    let supplier = Supplier::start(listener, "supplier.test", &scene.layout);
    for name in ["supplier.test", "partner.test", "postern.partner.test", "debian.test"] {
        place.add_host(name, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    trust(&mut scene, &authorities, supplier.certificate());
    (scene, supplier, authorities)
}

fn trust(scene: &mut Scene, authorities: &Path, pem: &str) {
    let known = fs::read_to_string(authorities).expect("the file is there");
    fs::write(authorities, format!("{known}{pem}\n")).expect("the bench has a folder");
    scene.bench.restart();
}

/// Waits until a client has asked for an operation: it has been told of it, then.
fn wait_for_polls(bench: &Bench) {
    let polls = || bench.server().log().matches("an operation is asked for").count();
    let (before, start) = (polls(), Instant::now());
    while polls() == before {
        assert!(start.elapsed() < START_LIMIT, "nobody asks for the operation\n{}", bench.server().log());
        thread::yield_now();
    }
}

/// The server is killed in the middle of a download; the CLI goes on asking, and the server goes on copying.
#[test]
fn a_kill_of_the_server_and_broken_connections() {
    bench::inside(|| {
        let mut layer = String::new();
        let (mut scene, supplier, _) = with_supplier(|layout| {
            let image = layout.add_printing_image("one", "one");
            let manifest: serde_json::Value = serde_json::from_slice(&layout.content(&image)).expect("it is JSON");
            layer = manifest["layers"][0]["digest"].as_str().expect("it has a layer").to_owned();
        });
        let import = |to: &str| {
            format!("az acr import --name mytarget --source supplier.test:{SUPPLIER_PORT}/app:one --image {to}")
        };

        supplier.cue(&layer, Cue::Break(70_000));
        scene.az.run(&import("broken:1"));
        assert_eq!(supplier.ranges_of(&layer), [None, Some("70000-".to_owned())]);
        let digest = scene.imported("broken:1");

        supplier.cue(&layer, Cue::Hold(70_000));
        let running = scene.az.script(&import("killed:1"));
        let outcome = thread::scope(|scope| {
            let running = scope.spawn(|| running.run());
            supplier.wait_for_hold();
            wait_for_polls(&scene.bench);
            scene.bench.crash();
            supplier.let_go();
            running.join().expect("the thread only runs a command")
        });
        let _ = outcome.succeeded();
        // The first attempt's bytes are nobody's: the second one begins anew.
        assert_eq!(supplier.ranges_of(&layer), [None, Some("70000-".to_owned()), None, None]);
        assert_eq!(scene.imported("killed:1"), digest);
        let log = scene.bench.server().log();
        assert!(log.contains("an import begins") && log.contains("job.attempt=2"), "{log}");

        // A role that was lost while the server was down.
        let made = scene.az.json("az ad sp create-for-rbac --name importer");
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let target = scene.az.run("az acr show --name mytarget --query id --output tsv");
        let role = "Container Registry Data Importer and Data Reader";
        let client = text("appId");
        scene.az.run(&format!(
            "az role assignment create --assignee {client} --role '{role}' --scope {target} --output none"
        ));
        let own = Az::new(scene.bench.place("internet")).logged_in(&text("tenant"), &client, &text("password"));
        supplier.cue(&layer, Cue::Hold(70_000));
        let running = own.script(&format!("{} --resource-group mygroup", import("lost:1")));
        let outcome = thread::scope(|scope| {
            let running = scope.spawn(|| running.run());
            supplier.wait_for_hold();
            wait_for_polls(&scene.bench);
            scene.az.run(&format!("az role assignment delete --assignee {client} --scope {target}"));
            scene.bench.crash();
            supplier.let_go();
            running.join().expect("the thread only runs a command")
        });
        let said = outcome.failed().stderr;
        assert!(said.contains("AuthorizationFailed") && said.contains("importImage/action"), "{said}");
        let tags = "az acr repository list --name mytarget --query \"contains(@, 'lost')\"";
        assert_eq!(scene.az.json(tags), json!(false));
    });
}

/// Another Postern, and Debian's registry.
#[test]
fn from_other_servers() {
    bench::inside(|| {
        let (mut scene, _supplier, authorities) = with_supplier(|layout| {
            layout.add_printing_image("one", "one");
        });
        let scratch = Scratch::new();
        let config = scratch.write("partner.toml", "[server]\nsuffix = 'partner.test'\n");
        let config = config.display().to_string();
        let place = scene.bench.server_place().clone();
        let listen = local(PARTNER_PORT).to_string();
        let partner = Server::start_at(&place, &scratch.join("partner"), &["--config", &config, "--listen", &listen]);
        let ca = fs::read_to_string(partner.data().join("trust/ca.crt")).expect("a server writes its authority");
        trust(&mut scene, &authorities, &ca);
        let debian = start_debians_registry(&place, &scratch);
        let ca = fs::read_to_string(scratch.join("debian.crt")).expect("it was written");
        trust(&mut scene, &authorities, &ca);

        let login = partner.bootstrap();
        let host = format!("postern.partner.test:{PARTNER_PORT}");
        scene.containers.enter(&place);
        scene.containers.set_credentials(&[
            (&host, &login.client_id, &login.client_secret),
            (&format!("debian.test:{DEBIAN_PORT}"), "anna", "a password"),
        ]);
        scene.push("one", &format!("{host}/app:one"));
        scene.push("one", &format!("debian.test:{DEBIAN_PORT}/library/app:one"));
        scene.containers.enter(scene.bench.place("office"));
        scene.log_in();

        let partners =
            format!("--source {host}/app:one --username {} --password={}", login.client_id, login.client_secret);
        scene.import(&format!("{partners} --image partner:1"));
        let debians = format!("--source debian.test:{DEBIAN_PORT}/library/app:one --username anna");
        scene.import(&format!("{debians} --password 'a password' --image debian:1"));
        assert_eq!(scene.imported("partner:1"), scene.imported("debian:1"));
        scene.refused(&format!("{debians} --password wrong --image x:1"), &["(ImportDenied)", "401", "debian.test"]);
        scene.refused(&format!("--source {host}/app:one --image x:1"), &["(ImportDenied)", "postern.partner.test"]);
        let gone =
            format!("--source debian.test:{DEBIAN_PORT}/library/app:gone --username anna --password 'a password'");
        scene.refused(&format!("{gone} --image x:1"), &["(ImportSourceNotFound)", "app:gone"]);
        // Not allow-listed: a machine that only the server can reach.
        scene.refused("--source 198.18.0.10:8443/app:1 --image x:1", &["(ImportDenied)", "is not called"]);
        drop(debian);
    });
}

/// Debian's registry with TLS and a password, which ends with this.
struct Debians(Child);

impl Drop for Debians {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// bcrypt of `a password`, the only form that it takes.
const ANNA: &str = "anna:$2b$04$abcdefghijklmnopqrstuuQCzP7jzWZS/E3GL4oF3LWbHm3pfKHH.";
/// How long a program may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

fn start_debians_registry(place: &Place, scratch: &Scratch) -> Debians {
    let made = rcgen::generate_simple_self_signed(["debian.test".to_owned()]).expect("a certificate can be made");
    let (certificate, key) = (scratch.join("debian.crt"), scratch.join("debian.key"));
    fs::write(&certificate, made.cert.pem()).expect("the folder can be written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("the folder can be written");
    let passwords = scratch.write("htpasswd", ANNA);
    let config = scratch.write(
        "debian.yml",
        format!(
            "version: 0.1
storage:
  filesystem: {{ rootdirectory: {} }}
http:
  addr: '{}'
  tls: {{ certificate: {}, key: {} }}
auth:
  htpasswd: {{ realm: debian, path: {} }}
",
            scratch.join("debian").display(),
            local(DEBIAN_PORT),
            certificate.display(),
            key.display(),
            passwords.display()
        ),
    );
    let mut command = std::process::Command::new("nsenter");
    command.arg(format!("--net={}", place.network_namespace().display())).arg("--");
    command.arg(postern_tests::tool("docker-registry")).arg("serve").arg(config);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut debians = Debians(child.expect("nsenter can be started"));
    let start = Instant::now();
    while place.connect(local(DEBIAN_PORT)).is_err() {
        let ended = debians.0.try_wait().expect("a child can be waited for");
        assert!(ended.is_none() && start.elapsed() < START_LIMIT, "docker-registry does not listen: {ended:?}");
        thread::yield_now();
    }
    debians
}

//! Every client with every kind of credentials.

use postern_tests::{Command, Containers, Scratch, Server};
use serde_json::json;

use crate::Bench;

/// The user that a registry refresh token is the password of.
const REFRESH_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// Credentials of one kind.
struct Login {
    kind: &'static str,
    user: String,
    password: String,
}

impl Bench {
    /// One of each kind that may push and pull everything.
    fn logins(&self) -> Vec<Login> {
        let (admin, bootstrap) = (self.admin(), self.server.bootstrap());
        let registry = admin.first_registry();
        admin.update(&registry, &json!({"adminUserEnabled": true}));
        let known = admin.send("POST", &format!("{registry}/listCredentials"), None);
        let map = json!({"properties": {"actions": ["repositories/*/content/read", "repositories/*/content/write"]}});
        let token = self.repository_token("everything", &map);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned();
        let login = |kind, user: &str, password: String| Login { kind, user: user.to_owned(), password };
        vec![
            login("service principal", &bootstrap.client_id, bootstrap.client_secret.clone()),
            login("admin user", "postern", text(&known["passwords"][0]["value"])),
            login("admin user's second password", "postern", text(&known["passwords"][1]["value"])),
            login("repository-scoped token", "everything", token),
            login("refresh token", REFRESH_TOKEN_USER, self.refresh_token()),
        ]
    }

    /// Makes a repository-scoped token with a scope map of its own; gives its password.
    fn repository_token(&self, name: &str, map: &serde_json::Value) -> String {
        let admin = self.admin();
        let registry = admin.first_registry();
        let map = admin.send("PUT", &format!("{registry}/scopeMaps/{name}"), Some(map));
        let token = json!({"properties": {"scopeMapId": map["id"], "status": "enabled"}});
        let token = admin.send("PUT", &format!("{registry}/tokens/{name}"), Some(&token));
        let wanted = json!({"tokenId": token["id"], "name": "password1"});
        let credentials = admin.send("POST", &format!("{registry}/generateCredentials"), Some(&wanted));
        credentials["passwords"][0]["value"].as_str().expect("a password is shown once").to_owned()
    }

    /// The administrator's registry refresh token, as `az acr login` gets it.
    pub(crate) fn refresh_token(&self) -> String {
        let (bootstrap, host) = (self.server.bootstrap(), self.localhost());
        let url = format!("{}/{}/oauth2/v2.0/token", bootstrap.authority, bootstrap.tenant_id);
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope=https://containerregistry.azure.net/.default",
            bootstrap.client_id, bootstrap.client_secret
        );
        let token = self.server.curl().args(["--data", &form, &url]).run().succeeded().json();
        let token = token["access_token"].as_str().unwrap_or_else(|| panic!("no token in {token}")).to_owned();
        let form = format!("grant_type=access_token&service={host}&access_token={token}");
        let exchange = format!("https://{host}/oauth2/exchange");
        let answer = self.server.curl().args(["--data", &form, &exchange]).run().succeeded().json();
        answer["refresh_token"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
    }

    /// Runs steps with each kind of credentials; they get the image to make, and all of them must succeed. With none, the first
    /// must fail.
    fn with_every_login(&self, client: &str, steps: impl Fn(&Containers, &str) -> Vec<Command>) {
        for (number, login) in self.logins().into_iter().enumerate() {
            self.containers.set_credentials(&[(&self.localhost(), &login.user, &login.password)]);
            for step in steps(&self.containers, &format!("{}/{client}/image:{number}", self.localhost())) {
                let outcome = step.run();
                assert!(outcome.code == Some(0), "with {}: {outcome}", login.kind);
            }
        }
        self.containers.set_credentials(&[]);
        let nobody = steps(&self.containers, &format!("{}/{client}/image:0", self.localhost()));
        let _ = nobody.into_iter().next().expect("there are steps").run().failed();
    }
}

#[test]
fn skopeo_with_every_login() {
    let bench = Bench::new();
    bench.with_every_login("skopeo", |containers, image| {
        let image = format!("docker://{image}");
        vec![
            containers.skopeo().args(["copy", &bench.layout.reference("hello"), &image]),
            containers.skopeo().args(["inspect", &image]),
        ]
    });
}

#[test]
fn podman_with_every_login() {
    let bench = Bench::new();
    let id = bench.containers.podman().args(["pull", "--quiet", &bench.layout.reference("hello")]).stdout();
    bench.with_every_login("podman", |containers, image| {
        vec![containers.podman().args(["push", id.trim(), image]), containers.podman().args(["pull", "--quiet", image])]
    });
}

#[test]
fn buildah_with_every_login() {
    let bench = Bench::new();
    let id = bench.containers.buildah().args(["pull", "--quiet", &bench.layout.reference("hello")]).stdout();
    bench.with_every_login("buildah", |containers, image| {
        vec![
            containers.buildah().args(["push", id.trim(), &format!("docker://{image}")]),
            containers.buildah().args(["pull", "--quiet", image]),
        ]
    });
}

#[test]
fn docker_with_every_login() {
    let bench = Bench::new();
    let id = bench.containers.podman().args(["pull", "--quiet", &bench.layout.reference("hello")]).stdout();
    let engine = bench.containers.engine();
    bench.with_every_login("docker", |_, image| {
        let _ = engine.docker().args(["tag", id.trim(), image]).run().succeeded();
        vec![
            engine.docker().args(["push", image]),
            engine.docker().args(["pull", "--quiet", image]),
            engine.docker().args(["manifest", "inspect", image]),
        ]
    });
}

#[test]
fn oras_with_every_login() {
    let bench = Bench::new();
    bench.containers.scratch().write("note.txt", "a note");
    bench.with_every_login("oras", |containers, image| {
        let oras = |arguments: &[&str]| containers.oras().args(arguments);
        vec![
            oras(&["push", "--plain-http=false", image, "note.txt:text/plain"]),
            oras(&["attach", "--plain-http=false", "--artifact-type", "a/b", image, "note.txt:text/plain"]),
            oras(&["discover", "--plain-http=false", image]),
            oras(&["pull", "--plain-http=false", "--output", "pulled", image]),
            oras(&["repo", "tags", "--plain-http=false", image.rsplit_once(':').expect("an image has a tag").0]),
        ]
    });
}

#[test]
fn cosign_with_every_login() {
    let bench = Bench::new();
    bench.log_in();
    let image = format!("{}/signed:1", bench.localhost());
    bench.push(&image);
    let digest = format!("{}/signed@{}", bench.localhost(), bench.digest(&image));
    let _ = bench.containers.cosign().arg("generate-key-pair").run().succeeded();
    bench.with_every_login("cosign", |containers, _| {
        vec![
            containers.cosign().args(["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", &digest]),
            containers.cosign().args(["verify", "--insecure-ignore-tlog", "--key", "cosign.pub", &digest]),
        ]
    });
}

#[test]
fn the_rust_client_with_every_login() {
    let bench = Bench::new();
    bench.with_every_login("rust", |containers, image| {
        ["push", "pull", "tags"].map(|verb| containers.oci_client().args([verb, image])).into()
    });
}

#[test]
fn a_login_outlives_access_tokens_and_ends_with_its_refresh_token() {
    let clock = Scratch::new();
    let file = clock.write("clock", "+0");
    let bench = Bench::on(Server::start_with_clock(&file));
    bench.log_in();
    let image = format!("{}/hello:1", bench.localhost());
    bench.push(&image);
    bench.containers.set_identity_token(&bench.localhost(), &bench.refresh_token());
    let source = format!("docker://{image}");
    let steps = || {
        let containers = &bench.containers;
        [
            containers.skopeo().args(["inspect", &source]),
            containers.podman().args(["pull", "--quiet", &image]),
            containers.oras().args(["manifest", "fetch", "--plain-http=false", &image]),
        ]
    };
    // An access token lasts for 75 minutes, a refresh token for three hours.
    for (time, is_valid) in [("+0", true), ("+90m", true), ("+190m", false)] {
        clock.write("clock", time);
        for step in steps() {
            let outcome = step.run();
            assert_eq!(outcome.code == Some(0), is_valid, "at {time}: {outcome}");
            assert!(is_valid || outcome.stderr.to_lowercase().contains("unauthorized"), "{outcome}");
        }
    }
}

#[test]
fn a_scope_map_bounds_what_a_client_can_do() {
    let bench = Bench::new();
    bench.log_in();
    let host = bench.localhost();
    for repository in ["team/app", "other"] {
        bench.push(&format!("{host}/{repository}:1"));
    }
    let actions = ["repositories/team/*/content/read", "repositories/team/*/metadata/read"];
    let password = bench.repository_token("team-readers", &json!({"properties": {"actions": actions}}));
    bench.containers.set_credentials(&[(&host, "team-readers", &password)]);
    let skopeo = |arguments: &[&str]| bench.containers.skopeo().args(arguments).run();
    let oras = |arguments: &[&str]| bench.containers.oras().args(arguments).run();
    let _ = skopeo(&["inspect", &format!("docker://{host}/team/app:1")]).succeeded();
    let _ = oras(&["repo", "tags", "--plain-http=false", &format!("{host}/team/app")]).succeeded();
    let _ = skopeo(&["inspect", &format!("docker://{host}/other:1")]).failed();
    let _ = skopeo(&["delete", &format!("docker://{host}/team/app:1")]).failed();
    let _ = skopeo(&["copy", &format!("docker://{host}/team/app:1"), &format!("docker://{host}/team/app:2")]).failed();
    let _ = oras(&["repo", "ls", "--plain-http=false", &host]).failed();
    bench.log_in();
    assert_eq!(bench.tags(&format!("{host}/team/app")), ["1"]);
}

#[test]
fn clients_without_credentials_read_where_the_owner_allows_it() {
    let bench = Bench::new();
    bench.log_in();
    let host = bench.localhost();
    let image = format!("{host}/hello:1");
    bench.push(&image);
    let admin = bench.admin();
    admin.update(&admin.first_registry(), &json!({"anonymousPullEnabled": true}));
    bench.containers.set_credentials(&[]);
    let containers = &bench.containers;
    let id = containers.podman().args(["pull", "--quiet", &image]).stdout();
    let _ = containers.buildah().args(["pull", "--quiet", &image]).run().succeeded();
    let engine = containers.engine();
    let _ = engine.docker().args(["pull", "--quiet", &image]).run().succeeded();
    assert!(containers.oci_client().args(["pull", &image]).stdout().starts_with("pulled sha256:"));
    assert_eq!(bench.tags(&format!("{host}/hello")), ["1"]);
    let _ = containers.oras().args(["discover", "--plain-http=false", &image]).run().succeeded();
    let _ = containers.cosign().args(["tree", &image]).run().succeeded();
    for refused in [
        containers.podman().args(["push", id.trim(), &image]),
        engine.docker().args(["push", &image]),
        containers.oras().args(["repo", "ls", "--plain-http=false", &host]),
        containers.skopeo().args(["delete", &format!("docker://{image}")]),
        containers.oci_client().args(["push", &image]),
    ] {
        let _ = refused.run().failed();
    }
}

//! `postern acr`: what it deletes, what it leaves to others, what it says, and how it logs in.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use postern_tests::registry::RegistryClient;
use postern_tests::{Command, Outcome, Scratch, Server, run_postern};
use serde_json::{Value, json};

use crate::Bench;

const NOTE: &str = "application/vnd.example.note";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// `postern acr` of the default registry, as the server's administrator.
fn acr(server: &Server, words: &[&str]) -> Command {
    let command = run_postern(&["acr"]).args(words).limit(Duration::from_mins(2));
    command.arg("--server").arg(server.data()).args(["--registry", "postern"])
}

fn lines(outcome: &Outcome) -> Vec<&str> {
    outcome.stdout.lines().collect()
}

/// Pushes without layers, byte by byte.
struct Pusher {
    client: RegistryClient,
    runtime: tokio::runtime::Runtime,
}

impl Pusher {
    fn new(server: &Server) -> Self {
        let bootstrap = server.bootstrap();
        Self {
            client: RegistryClient::new(server.address(), &bootstrap.client_id, &bootstrap.client_secret),
            runtime: tokio::runtime::Runtime::new().expect("a runtime can be made"),
        }
    }

    fn send(&self, method: Method, path: &str, media_type: &str, body: &str) -> (u16, Value) {
        let headers = [("content-type", media_type), ("accept", "*/*")];
        let sent = self.client.send(method, path, &headers, body.to_owned());
        let answer = self.runtime.block_on(sent).expect("the server answers");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// A manifest under its digest, or under a tag. Gives its descriptor.
    fn push(&self, repository: &str, tag: Option<&str>, manifest: &Value) -> Value {
        let (text, media_type) = (manifest.to_string(), manifest["mediaType"].as_str().expect("a media type"));
        let digest = digest_of(&text);
        let path = format!("/v2/{repository}/manifests/{}", tag.unwrap_or(&digest));
        let (status, answer) = self.send(Method::PUT, &path, media_type, &text);
        assert_eq!(status, 201, "{answer}");
        json!({"mediaType": media_type, "digest": digest, "size": text.len()})
    }

    /// An image without layers, different for each name; it may say something of another.
    fn image(&self, repository: &str, tag: Option<&str>, name: &str, subject: Option<&Value>) -> Value {
        let config = json!({"architecture": "amd64", "os": "linux", "author": name}).to_string();
        let digest = digest_of(&config);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let (status, answer) = self.send(Method::POST, &path, "application/octet-stream", &config);
        assert_eq!(status, 201, "{answer}");
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": config.len()},
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        self.push(repository, tag, &manifest)
    }

    fn index(&self, repository: &str, tag: Option<&str>, manifests: &[&Value]) -> Value {
        self.push(repository, tag, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}))
    }

    fn lock(&self, repository: &str, path: &str) {
        let (status, answer) = self.send(
            Method::PATCH,
            &format!("/acr/v1/{repository}/{path}"),
            "application/json",
            &json!({"deleteEnabled": false}).to_string(),
        );
        assert_eq!(status, 200, "{answer}");
    }

    /// Digests, and tags behind a colon.
    fn content(&self, repository: &str) -> BTreeSet<String> {
        let list = |what: &str| {
            let (_, answer) = self.send(Method::GET, &format!("/acr/v1/{repository}/_{what}"), "", "");
            answer[what].as_array().cloned().unwrap_or_default()
        };
        let digests = list("manifests").into_iter().map(|one| text(&one["digest"]));
        digests.chain(list("tags").into_iter().map(|one| format!(":{}", text(&one["name"])))).collect()
    }
}

fn digest_of(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text.as_bytes()).iter().fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn digest(descriptor: &Value) -> String {
    text(&descriptor["digest"])
}

/// Images for several platforms, a signature, an SBOM and a note on it, locked tags: what is said would go goes, and everything else is
/// there and can be used by the clients that made it.
#[test]
fn a_purge_leaves_whole_what_it_leaves() {
    let bench = Bench::new();
    bench.log_in();
    let (server, host, pusher) = (&bench.server, bench.named(), Pusher::new(&bench.server));
    // Kept, signed and described by real clients.
    let local = format!("{}/app:1", bench.localhost());
    bench.push(&local);
    let signed = format!("{}/app@{}", bench.localhost(), bench.digest(&local));
    let cosign = || bench.containers.cosign().env("COSIGN_EXPERIMENTAL", "1");
    let _ = cosign().arg("generate-key-pair").run().succeeded();
    let sign = ["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", "--registry-referrers-mode=oci-1-1"];
    let _ = cosign().args(sign).arg(&signed).run().succeeded();
    bench.containers.scratch().write("note.txt", "a note");
    let attach = |to: &str| {
        let words =
            ["attach", "--plain-http=false", "--artifact-type", NOTE, "--format", "json", to, "note.txt:text/plain"];
        text(&bench.containers.oras().args(words).run().succeeded().json()["reference"])
    };
    attach(&attach(&signed));
    // Kept, for two platforms that have no tags.
    let [one, two] = ["one", "two"].map(|name| pusher.image("app", None, name, None));
    pusher.index("app", Some("multi"), &[&one, &two]);
    let kept = pusher.content("app");
    // To go: tags, an index with its platforms and a signature, an image that was never tagged.
    for tag in ["old-1", "old-2", "old-locked"] {
        pusher.image("app", Some(tag), tag, None);
    }
    pusher.lock("app", "_tags/old-locked");
    let [three, four] = ["three", "four"].map(|name| pusher.image("app", None, name, None));
    let index = pusher.index("app", Some("old-multi"), &[&three, &four]);
    let signature = pusher.image("app", None, "signature", Some(&index));
    let dangling = pusher.image("app", None, "dangling", None);
    let before = pusher.content("app");
    pusher.image("other", Some("old-1"), "other", None);

    let words = ["purge", "--filter", "app:^old-", "--ago", "0d", "--untagged"];
    let dry = acr(server, &words).arg("--dry-run").run().succeeded();
    assert_eq!(pusher.content("app"), before, "a dry run deletes nothing");
    let real = acr(server, &words).run().succeeded();

    // Newest first, index before its platforms.
    let mut images: Vec<String> =
        ["old-1", "old-2"].iter().map(|tag| digest(&pusher.image("scrap", None, tag, None))).collect();
    images.extend([digest(&index), digest(&dangling)]);
    images.sort();
    let mut platforms = [digest(&three), digest(&four)];
    platforms.sort();
    let mut expected = vec!["DRY RUN: The following output shows what WOULD be deleted if the purge command was executed. Nothing is deleted.".to_owned()];
    expected.push("Would delete tags for repository: app".into());
    expected.extend(["old-multi", "old-2", "old-1"].map(|tag| format!("Would delete: {host}/app:{tag}")));
    expected.push("Would delete manifests for repository: app".into());
    expected.extend(images.iter().chain(&platforms).map(|digest| format!("Would delete: {host}/app@{digest}")));
    expected.extend(["", "Number of tags to be deleted: 3", "Number of manifests to be deleted: 6"].map(str::to_owned));
    assert_eq!(lines(&dry), expected);
    let done: Vec<String> = expected
        .iter()
        .skip(1)
        .map(|line| {
            let line = line.replace("Would delete: ", "Deleted ").replace("Would delete ", "Deleting ");
            line.replace("of tags to be deleted", "of deleted tags")
                .replace("of manifests to be deleted", "of deleted manifests")
        })
        .collect();
    assert_eq!(lines(&real), done);

    let after = pusher.content("app");
    let mut left = kept.clone();
    left.extend([":old-locked".to_owned(), digest(&pusher.image("scrap", None, "old-locked", None))]);
    assert_eq!(after, left, "the signature went with its index: {}", digest(&signature));
    assert!(pusher.content("other").contains(":old-1"), "another repository is no concern of the filter");
    let folder = bench.containers.scratch().join("pulled");
    let pull =
        ["copy", "--all", &format!("docker://{}/app:multi", bench.localhost()), &format!("dir:{}", folder.display())];
    let _ = bench.containers.skopeo().args(pull).run().succeeded();
    let verify = ["verify", "--insecure-ignore-tlog", "--key", "cosign.pub", "--experimental-oci11", &signed];
    let _ = cosign().args(verify).run().succeeded();
    let discover = ["discover", "--plain-http=false", "--format", "json", "--artifact-type", NOTE, &signed];
    let notes = bench.containers.oras().args(discover).run().succeeded().json();
    let on_note = ["discover", "--plain-http=false", "--format", "json", &text(&notes["manifests"][0]["reference"])];
    assert_eq!(
        bench.containers.oras().args(on_note).run().succeeded().json()["manifests"].as_array().map(Vec::len),
        Some(1)
    );

    let again = acr(server, &words).run().succeeded();
    assert_eq!(lines(&again).last(), Some(&"Number of deleted manifests: 0"), "{again}");
    let locked = acr(server, &words).arg("--include-locked").run().succeeded();
    assert!(
        locked.stdout.contains(&format!("Unlocked {host}/app:old-locked\nDeleted {host}/app:old-locked\n")),
        "{locked}"
    );
    assert_eq!(pusher.content("app"), kept);
}

/// A tagged signature keeps the image that it is of, a locked index its platforms, and a manifest that was tagged meanwhile stays.
#[test]
fn what_would_go_with_it_keeps_it() {
    let server = Server::start();
    let pusher = Pusher::new(&server);
    let image = pusher.image("app", None, "image", None);
    let inner = pusher.image("app", None, "inner", None);
    pusher.image("app", Some("signature"), "signature", Some(&image));
    let index = pusher.index("app", None, &[&inner]);
    pusher.lock("app", &format!("_manifests/{}", digest(&index)));
    let before = pusher.content("app");
    let words = ["purge", "--untagged-only"];
    let outcome = acr(&server, &words).run().succeeded();
    assert_eq!(
        lines(&outcome),
        ["Deleting manifests for repository: app", "", "Number of deleted tags: 0", "Number of deleted manifests: 0"]
    );
    assert_eq!(pusher.content("app"), before);
    let outcome = acr(&server, &words).args(["--include-locked", "--filter", "app:x", "--keep", "1"]).run().succeeded();
    assert!(
        outcome.stdout.ends_with("Number of deleted manifests: 0\n"),
        "the newest one is kept with what it lists: {outcome}"
    );
    let outcome = acr(&server, &words).args(["--include-locked", "--ago", "1h"]).run().succeeded();
    assert!(outcome.stdout.ends_with("Number of deleted manifests: 0\n"), "nothing is that old: {outcome}");
    let outcome = acr(&server, &words).arg("--include-locked").run().succeeded();
    assert!(outcome.stdout.ends_with("Number of deleted manifests: 2\n"), "{outcome}");
    assert!(pusher.content("app").contains(&digest(&image)));
    // A repository that lets nothing be deleted.
    pusher.image("app", Some("2"), "2", None);
    let (status, _) = pusher.send(Method::PATCH, "/acr/v1/app", "application/json", r#"{"writeEnabled":false}"#);
    assert_eq!(status, 200);
    let outcome = acr(&server, &["purge", "--filter", "app:2", "--ago", "0d"]).run().succeeded();
    let skipped = format!("Skipped {}/app:2, operation not allowed, HTTP status: 405", server.registry_host("postern"));
    assert!(lines(&outcome).contains(&&*skipped), "{outcome}");
}

#[test]
fn hundreds_of_tags_go_page_by_page() {
    let server = Server::start();
    let pusher = Pusher::new(&server);
    let image = pusher.image("app", Some("keep"), "image", None);
    let (_, manifest) = pusher.send(Method::GET, "/v2/app/manifests/keep", "", "");
    assert_eq!(digest_of(&manifest.to_string()), digest(&image));
    for number in 0..250 {
        pusher.push("app", Some(&format!("v{number}")), &manifest);
    }
    let words = ["purge", "--filter", "app:^v", "--ago", "0d", "--untagged", "--keep", "20", "--concurrency", "99"];
    let outcome = acr(&server, &words).run().succeeded();
    assert_eq!(lines(&outcome).first(), Some(&"Specified concurrency value too large. Set to maximum value: 32 "));
    assert!(outcome.stdout.ends_with("\n\nNumber of deleted tags: 230\nNumber of deleted manifests: 0\n"), "{outcome}");
    let left = pusher.content("app");
    assert!(
        left.contains(":v249") && left.contains(":v230") && !left.contains(":v229") && left.contains(&digest(&image)),
        "{left:?}"
    );
}

#[test]
fn lists_and_single_deletions() {
    let server = Server::start();
    let (pusher, host) = (Pusher::new(&server), server.registry_host("postern"));
    let images = ["1", "2"].map(|tag| digest(&pusher.image("team/app", Some(tag), tag, None)));
    let say = |words: &[&str]| acr(&server, words).args(["--repository", "team/app"]).run().succeeded().stdout;
    let tags = format!("Listing tags for the \"team/app\" repository:\n{host}/team/app:1\n{host}/team/app:2\n");
    assert_eq!(say(&["tag", "list"]), tags);
    let mut sorted = images.clone();
    sorted.sort();
    let manifests = sorted.map(|digest| format!("{host}/team/app@{digest}\n")).concat();
    assert_eq!(say(&["manifest", "list"]), format!("Listing manifests for the \"team/app\" repository:\n{manifests}"));
    assert_eq!(say(&["tag", "delete", "1"]), format!("{host}/team/app:1\n"));
    assert_eq!(say(&["manifest", "delete", &images[1]]), format!("{host}/team/app@{}\n", images[1]));
    assert_eq!(pusher.content("team/app"), BTreeSet::from([images[0].clone()]));
    let gone = acr(&server, &["tag", "delete", "1", "--repository", "team/app"]).run().failed();
    assert!(gone.stderr.starts_with("Error: failed to delete tags: HTTP status 404 Not Found"), "{gone}");
    let version = run_postern(&["acr", "version"]).stdout();
    assert!(version.starts_with("Version: "), "{version}");
}

/// What cannot be understood is said before anything is asked for, and nothing is deleted.
#[test]
fn bad_words_delete_nothing() {
    let server = Server::start();
    let pusher = Pusher::new(&server);
    pusher.image("app", Some("1"), "1", None);
    for (words, why) in [
        (&["--ago", "0d"][..], "at least one of the flags in the group [filter untagged-only] is required"),
        (&["--filter", "app:.*"], "--ago is required when not using --untagged-only"),
        (&["--filter", "app:.*", "--untagged"], "--ago is required when using --untagged"),
        (&["--untagged", "--untagged-only"], "[untagged untagged-only] were all set"),
        (&["--filter", "app:.*", "--ago", "7"], "invalid duration \"7\" for --ago: a number has no unit"),
        (&["--filter", "app:.*", "--filter", "app", "--ago", "0d"], "unable to correctly parse filter flag \"app\""),
        (&["--filter", "app:.*", "--filter", "app:(", "--ago", "0d"], "no regular expression that can be used"),
        (&["--filter", "app:.*", "--filter", "app:[a-z-[b]]", "--ago", "0d"], "a bracket inside of brackets"),
    ] {
        let outcome = acr(&server, &["purge"]).args(words).run().failed();
        assert!(
            outcome.code == Some(1) && outcome.stderr.starts_with("Error: ") && outcome.stderr.contains(why),
            "{outcome}"
        );
    }
    assert!(pusher.content("app").contains(":1"));
    let nowhere = run_postern(&["acr", "purge", "--untagged-only"]).run().failed();
    assert!(nowhere.stderr.contains("unable to determine registry name, please use --registry flag"), "{nowhere}");
    let nobody = run_postern(&["acr", "tag", "list", "-r", "myregistry", "--repository", "app"]).run().failed();
    assert!(nobody.stderr.contains("unable to resolve authentication, missing identity token or password"), "{nobody}");
    let clear = ["acr", "tag", "list", "-r", "myregistry", "--repository", "app", "-u", "a", "-p", "b", "--plain-http"];
    let clear = run_postern(&clear).run().failed();
    assert!(clear.stderr.contains("without TLS only this machine is called"), "{clear}");
}

/// Passwords, docker's file with a password or a refresh token, tokens of repositories; and whoever may do less.
#[test]
fn every_login_of_the_real_tool() {
    let bench = Bench::new();
    let (host, pusher) = (bench.localhost(), Pusher::new(&bench.server));
    pusher.image("app", Some("1"), "1", None);
    let bootstrap = bench.server.bootstrap();
    let list = || {
        let words = ["acr", "tag", "list", "--registry", &host, "--repository", "app", "--ca"];
        run_postern(&words).arg(&bootstrap.ca_file)
    };
    let file = bench.containers.scratch().join("docker/config.json");
    let docker = || list().env("DOCKER_CONFIG", bench.containers.scratch().join("docker"));
    let (user, password) = (&bootstrap.client_id, &bootstrap.client_secret);
    for command in [
        list().args(["-u", user, "-p", password]),
        list().args(["-u", user, "--password-stdin"]).input(format!("{password}\n")),
        list().args(["-u", user]).env("ACR_PASSWORD", password),
        list().args(["-p", &bench.refresh_token()]),
        list().args(["-u", "00000000-0000-0000-0000-000000000000", "-p", &bench.refresh_token()]),
    ] {
        assert!(command.stdout().ends_with("/app:1\n"));
    }
    bench.containers.set_credentials(&[(&host, user, password)]);
    assert!(docker().stdout().ends_with("/app:1\n"));
    bench.containers.set_identity_token(&host, &bench.refresh_token());
    assert!(docker().stdout().ends_with("/app:1\n"));
    assert!(list().arg("--config").arg(&file).stdout().ends_with("/app:1\n"));
    bench.containers.set_credentials(&[]);
    let login = |verb: &str, password: &str| {
        let command =
            run_postern(&["acr", verb, &host, "-u", user, "--password-stdin", "--ca"]).arg(&bootstrap.ca_file);
        command.input(password).env("DOCKER_CONFIG", bench.containers.scratch().join("docker")).run()
    };
    let refused = login("login", "wrong").failed();
    assert!(refused.stderr.contains("HTTP status 401 Unauthorized"), "{refused}");
    assert_eq!(login("login", password).succeeded().stdout, "Login Succeeded\n");
    assert!(docker().stdout().ends_with("/app:1\n"));
    let _ = login("logout", "").succeeded();
    assert!(docker().run().failed().stderr.contains("missing identity token"));

    // Reads everything, deletes nothing.
    let map = json!({"properties": {"actions": ["repositories/*/content/read", "repositories/*/metadata/read"]}});
    let admin = bench.admin();
    let registry = admin.first_registry();
    let reader = admin.send("PUT", &format!("{registry}/scopeMaps/reader"), Some(&map));
    let token = json!({"properties": {"scopeMapId": reader["id"], "status": "enabled"}});
    let token = admin.send("PUT", &format!("{registry}/tokens/reader"), Some(&token));
    let wanted = json!({"tokenId": token["id"], "name": "password1"});
    let made = admin.send("POST", &format!("{registry}/generateCredentials"), Some(&wanted));
    let _ = list().args(["-u", "reader", "-p", &text(&made["passwords"][0]["value"])]).run().succeeded();
    let delete = ["acr", "tag", "delete", "1", "-r", &host, "--repository", "app", "-u", "reader", "--ca"];
    let delete = run_postern(&delete).arg(&bootstrap.ca_file).env("ACR_PASSWORD", text(&made["passwords"][0]["value"]));
    let refused = delete.run().failed();
    assert!(refused.stderr.contains("HTTP status 403 Forbidden: DENIED"), "{refused}");
    assert!(pusher.content("app").contains(":1"));
}

/// Whose rights end in the middle of the repositories is told where.
#[test]
fn rights_that_end_are_told() {
    let bench = Bench::new();
    let (pusher, host) = (Pusher::new(&bench.server), bench.localhost());
    for name in ["a", "b", "c"] {
        pusher.image(name, Some("1"), name, None);
    }
    // Lists all, deletes nothing: AcrPull.
    let (user, password) = application(&bench, "7f951dda-4ed3-4680-a7ca-43fe172d538d");
    let words = ["acr", "purge", "-r", &host, "-f", ".*:.*", "--ago", "0d", "-u", &user, "--ca"];
    let outcome =
        run_postern(&words).arg(&bench.server.bootstrap().ca_file).env("ACR_PASSWORD", &password).run().failed();
    let said = "Error: insufficient permissions to purge tags for repository \"a\"\n  Completed repositories: none\n  \
                Remaining repositories not yet processed (2): b, c\n  Hint: use a more specific --filter";
    assert!(outcome.stderr.starts_with(said), "{outcome}");
    assert!(outcome.stdout.ends_with("\n\nNumber of deleted tags: 0\nNumber of deleted manifests: 0\n"), "{outcome}");
}

/// An application with a secret and a role on the registry: its id and the secret.
fn application(bench: &Bench, role: &str) -> (String, String) {
    let bootstrap = bench.server.bootstrap();
    let url = format!("{}/{}/oauth2/v2.0/token", bootstrap.authority, bootstrap.tenant_id);
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope=https://graph.microsoft.com/.default",
        bootstrap.client_id, bootstrap.client_secret
    );
    let token = text(&bench.server.curl().args(["--data", &form, &url]).run().succeeded().json()["access_token"]);
    let post = |path: &str, body: &Value| {
        let (url, bearer) =
            (format!("{}/v1.0/{path}", bootstrap.arm_endpoint), format!("Authorization: Bearer {token}"));
        let headers = ["--header", &bearer, "--header", "Content-Type: application/json"];
        bench.server.curl().args(headers).args(["--data", &body.to_string(), &url]).run().succeeded().json()
    };
    let application = post("applications", &json!({"displayName": "purger"}));
    let principal = post("servicePrincipals", &json!({"appId": application["appId"]}));
    let path = format!("applications/{}/addPassword", text(&application["id"]));
    let secret = post(&path, &json!({"passwordCredential": {"displayName": "one"}}));
    let admin = bench.admin();
    admin.assign(role, &text(&principal["id"]), &admin.first_registry());
    (text(&application["appId"]), text(&secret["secretText"]))
}

#[test]
fn a_closed_wall_speaks_for_itself() {
    let bench = Bench::new();
    Pusher::new(&bench.server).image("app", Some("1"), "1", None);
    bench.close_the_wall();
    let outcome = acr(&bench.server, &["purge", "--filter", "app:.*", "--ago", "0d"]).run().failed();
    let documented = "Error: HTTP status 403 Forbidden: DENIED: client with IP '127.0.0.1' is not allowed access. Refer \
                      https://aka.ms/acr/firewall to grant access.";
    assert!(
        outcome.code == Some(1) && outcome.stderr.starts_with(documented) && outcome.stdout.is_empty(),
        "{outcome}"
    );
    let (_, id) = outcome.stderr.trim_end().rsplit_once("postern explain ").expect("the id is told");
    let why = postern_tests::postern(&bench.server, &["explain"], &[id]).stdout();
    assert!(why.contains("listCatalog") && why.contains("public network access is disabled"), "{why}");
}

/// A registry that lets few requests through makes it slow, not wrong.
#[test]
fn a_throttled_purge_waits_for_its_turn() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut server = Server::start_in(&data, &[]);
    let pusher = Pusher::new(&server);
    for number in 0..24 {
        pusher.image("app", Some(&format!("v{number}")), &format!("{number}"), None);
    }
    assert!(server.stop().success());
    let config = scratch.write("postern.toml", "[throttling]\nenabled = true\npercent = 1\n");
    let server = Server::start_in(&data, &["--config", config.to_str().expect("a path is text")]);
    let words = ["purge", "--filter", "app:.*", "--ago", "0d", "--concurrency", "8"];
    let outcome = acr(&server, &words).run().succeeded();
    assert!(outcome.stdout.ends_with("\n\nNumber of deleted tags: 24\nNumber of deleted manifests: 0\n"), "{outcome}");
    let metrics = server.curl().arg(format!("{}/metrics", server.bootstrap().arm_endpoint)).stdout();
    assert!(metrics.contains("429") || outcome.elapsed > Duration::from_secs(2), "it was not throttled: {metrics}");
}

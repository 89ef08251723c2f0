//! The first steps of each client.

use postern_tests::Admin;
use serde_json::json;

use crate::{Bench, MESSAGE};

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

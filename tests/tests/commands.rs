//! The subcommands, as a person runs them.

use std::fs;

use postern_tests::{Admin, Command, Scratch, Server, postern, run_postern};
use serde_json::{Value, json};

const LOCK_DOWN: &str = include_str!("../../examples/lock-down.json");
const SIDE_DOOR: &str = include_str!("../../examples/side-door.json");

/// Applies a text from standard input.
fn apply(server: &Server, text: &str) -> Command {
    postern(server, &["apply"], &["-f", "-"]).input(text.as_bytes())
}

#[test]
fn what_is_exported_can_be_applied_and_changes_nothing() {
    let server = Server::start();
    for text in [LOCK_DOWN, SIDE_DOOR] {
        let _ = apply(&server, text).run().succeeded();
    }
    let export = || postern(&server, &["export"], &[]).stdout();
    let before = export();
    let _ = apply(&server, &before).run().succeeded();
    assert_eq!(export(), before);
    let estate: Value = serde_json::from_str(&before).expect("an export is JSON");
    let types: Vec<&str> =
        estate["value"].as_array().into_iter().flatten().filter_map(|one| one["type"].as_str()).collect();
    for wanted in [
        "Microsoft.ContainerRegistry/registries",
        "Microsoft.ContainerInstance/containerGroups",
        "Microsoft.Authorization/roleAssignments",
    ] {
        assert!(types.contains(&wanted), "{types:?}");
    }
    assert!(!before.contains(&server.bootstrap().client_secret), "an export holds no secret");
}

#[test]
fn a_denial_is_explained_by_its_id_and_a_hypothetical_one_without() {
    let server = Server::start();
    let _ = apply(&server, LOCK_DOWN).run().succeeded();
    let _ = apply(&server, SIDE_DOOR).run().succeeded();
    let url = format!("https://localhost:{}/v2/", server.address().port());
    let refused = server.curl().arg(&url).run().succeeded().json();
    let message = refused["errors"][0]["message"].as_str().expect("a refusal says why");
    let (_, id) = message.rsplit_once(' ').expect("the message ends with the id");
    let words = postern(&server, &["explain"], &[id]).stdout();
    for expected in
        ["deny 403 by network: ping", "public network access is disabled", "add an IP rule for 127.0.0.1", id]
    {
        assert!(words.contains(expected), "{words}");
    }
    let unknown = postern(&server, &["explain"], &["00000000-0000-4000-8000-000000000000"]).run().failed();
    assert!(unknown.stderr.contains("no such decision"), "{}", unknown.stderr);

    let admin = Admin::of(&server);
    let group = admin.id("postern", "Microsoft.ContainerInstance/containerGroups/mycontainer");
    let ask = |rest: &[&str]| postern(&server, &["explain", "--json"], rest).run().succeeded().json();
    let trusted = ask(&["--as", &group, "--pull", "app:1"]);
    assert_eq!(
        (&trusted["verdict"], &trusted["via"]),
        (&json!("allow"), &json!("trusted service `containerInstances`"))
    );
    let outside = ask(&["--as", "postern-administrator", "--from", "198.51.100.7", "--push", "app:1"]);
    assert_eq!(outside["fixes"][0], json!(["enable public network access", "add an IP rule for 198.51.100.7"]));
    let nobody = postern(&server, &["explain"], &["--as", "nobody-known", "--pull", "app:1"]).run().failed();
    assert!(nobody.stderr.contains("there is no principal `nobody-known`"), "{}", nobody.stderr);
}

#[test]
fn an_estate_file_is_asked_without_a_server() {
    let scratch = Scratch::new();
    let file = scratch.write("estate.json", LOCK_DOWN);
    let answer = run_postern(&["explain", "--estate"])
        .arg(&file)
        .args(["--as", "admin", "--from", "198.51.100.7", "--pull", "app:1", "--json"])
        .run()
        .succeeded()
        .json();
    assert_eq!((&answer["verdict"], &answer["decidedBy"]), (&json!("deny"), &json!("network")));
    assert_eq!(answer["layers"][2]["findings"], json!(["the admin user is disabled"]), "later blockers are named, too");
}

#[test]
fn a_configuration_is_checked() {
    let scratch = Scratch::new();
    let check = |text: &str| {
        let file = scratch.write("postern.toml", text);
        run_postern(&["check-config", "--config"]).arg(&file).run()
    };
    assert!(check("[server]\nsuffix = 'azurecr.io.localhost'\n").succeeded().stdout.contains("is good"));
    assert!(check("[server]\nsufix = 'a.b'\n").failed().stderr.contains("unknown field `sufix`"));
    let beside =
        "[server]\nlisten = ['0.0.0.0:0']\n[[place]]\nname = 'p'\npeers = ['127.1.0.0/24']\nsimulated = true\n";
    assert!(check(beside).failed().stderr.contains("refused beside 0.0.0.0"));
}

#[test]
fn settings_are_read_again_on_hang_up_and_health_is_told() {
    let scratch = Scratch::new();
    let config = scratch.write("postern.toml", "[access]\npolicy_date = 'current'\n");
    let server = Server::start_in(&scratch.join("data"), &["--config", config.to_str().expect("a path is text")]);
    let get = |path: &str| server.curl().arg(format!("{}{path}", server.bootstrap().arm_endpoint)).stdout();
    assert_eq!(get("/healthz"), "ok\n");
    assert_eq!(get("/readyz"), "ready\n");
    let url = format!("https://localhost:{}/v2/", server.address().port());
    let _ = server.curl().arg(&url).run().succeeded();
    let metrics = get("/metrics");
    assert!(metrics.contains("postern_decisions_total{verdict=\"deny\",layer=\"authentication\"} 1"), "{metrics}");

    let admin = Admin::of(&server);
    let task = format!("{}/tasks/mytask", admin.first_registry());
    let body =
        json!({"location": "eastus", "identity": {"type": "SystemAssigned"}, "properties": {"status": "Enabled"}});
    let created = admin.send("PUT", &task, Some(&body));
    admin.assign(
        "7f951dda-4ed3-4680-a7ca-43fe172d538d",
        created["identity"]["principalId"].as_str().expect("an identity"),
        &admin.first_registry(),
    );
    admin.update(&admin.first_registry(), &json!({"publicNetworkAccess": "Disabled"}));
    let verdict = || {
        postern(&server, &["explain", "--json"], &["--as", &task, "--pull", "app:1"]).run().succeeded().json()["verdict"].clone()
    };
    assert_eq!(verdict(), "deny");
    fs::write(&config, "[access]\npolicy_date = 'pre-2025-05-16'\n").expect("the file can be written");
    server.hang_up();
    // The signal is handled when it is handled; the answer must change, and does not change back.
    let changed = (0..100).any(|_| verdict() == "allow");
    assert!(changed, "{}", server.log());
}

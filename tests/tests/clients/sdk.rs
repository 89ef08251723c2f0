//! The Azure libraries of the data plane, unmodified, with the server's authority in the place of Microsoft's.

use std::time::Duration;

use postern_tests::{Admin, Outcome, Scratch, Sdk, Server};
use serde_json::{Value, json};

/// A whole journey makes some three hundred requests.
const LIMIT: Duration = Duration::from_mins(2);
const DISALLOWED: &str = "405 REGISTRY_DISALLOWED_OPERATION";

/// What a journey sees, whichever library makes it.
fn expected(name: &str) -> Value {
    json!({
        "repositories": [[name, format!("{name}-a"), format!("{name}-b")], [format!("{name}-c")]],
        "tags": [["1", "2"], ["3", "latest"], ["old"]],
        "newest first": [["old", "latest", "3", "2", "1"]],
        "manifest pages": [2, 2, 1],
        "repository": [name, 5, 5, true],
        // Two bytes of configuration, five MiB and six bytes of layers.
        "manifest": [["1"], 2 + 5 * 1024 * 1024 + 6, true, true],
        "tag": ["latest", true, true],
        "locked tag": [false, false, true],
        "moving a locked tag": DISALLOWED,
        "removing a locked tag": DISALLOWED,
        "pulling what cannot be read": DISALLOWED,
        "deleting a locked repository": DISALLOWED,
        "deleted blob": "404 BLOB_UNKNOWN",
        "tags left": [["1", "2", "latest"]],
        "deleted repository": "404 NAME_UNKNOWN",
        "repositories left": [],
    })
}

fn journey(sdk: Sdk, name: &str) {
    let server = Server::start();
    let run = |verb: &str, rest: &[&str]| -> Outcome {
        let endpoint = format!("https://localhost:{}", server.address().port());
        sdk.as_administrator(server.bootstrap()).args([verb, &endpoint]).args(rest).limit(LIMIT).run()
    };
    assert_eq!(run("journey", &[name]).succeeded().json(), expected(name));
    assert_eq!(run("list", &[]).succeeded().json(), json!([]));

    let endpoint = format!("https://localhost:{}", server.address().port());
    let stranger =
        sdk.as_administrator(server.bootstrap()).env("AZURE_CLIENT_SECRET", "wrong").args(["list", &endpoint]);
    let refused = stranger.run().failed();
    assert!(refused.stderr.contains("AADSTS7000215"), "{refused}");
    // Tokens for the resource manager are taken until the registry says otherwise.
    let arm = || {
        sdk.as_administrator(server.bootstrap())
            .env("AUDIENCE", "https://management.azure.com")
            .args(["list", &endpoint])
    };
    assert_eq!(arm().run().succeeded().json(), json!([]));
    let admin = Admin::of(&server);
    let policy = json!({"policies": {"azureADAuthenticationAsArmPolicy": {"status": "disabled"}}});
    admin.update(&admin.first_registry(), &policy);
    let refused = arm().run().failed();
    assert!(refused.stderr.contains("UNAUTHORIZED"), "{refused}");
    assert_eq!(run("list", &[]).succeeded().json(), json!([]));
}

#[test]
fn the_python_library_makes_its_journey() {
    journey(Sdk::Python, "team/python");
}

#[test]
fn the_javascript_library_makes_its_journey() {
    journey(Sdk::JavaScript, "team/javascript");
}

/// Tokens are kept between requests by this library; its companion for Python asks for one each time.
#[test]
fn the_javascript_library_outlives_its_access_token() {
    let scratch = Scratch::new();
    let clock = scratch.write("clock", "+0");
    let server = Server::start_with_clock(&clock);
    let endpoint = format!("https://localhost:{}", server.address().port());
    let bootstrap = server.bootstrap();
    let token = || {
        let login = format!("{}:{}", bootstrap.client_id, bootstrap.client_secret);
        let url = format!("{endpoint}/oauth2/token?scope=registry:catalog:*");
        let answer = server.curl().args(["--user", &login, &url]).run().succeeded().json();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
    };
    let status = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        let url = format!("{endpoint}/v2/_catalog");
        server.curl().args(["--output", "/dev/null", "--write-out", "%{http_code}", "--header", &header, &url]).stdout()
    };
    let old = token();
    assert_eq!(status(&old), "200");
    let journey = ["journey", &endpoint, "late"];
    let run = Sdk::JavaScript.as_administrator(bootstrap).env("CLOCK_FILE", &clock).args(journey).limit(LIMIT).run();
    let mut wanted = expected("late");
    wanted["after the token's end"] = json!("late");
    assert_eq!(run.succeeded().json(), wanted);
    assert_eq!(status(&old), "401", "the clock was set while the library was at work");
    assert_eq!(status(&token()), "200");
}

#[test]
fn the_libraries_read_as_nobody_where_the_owner_allows_it() {
    let server = Server::start();
    let endpoint = format!("https://localhost:{}", server.address().port());
    let push = ["push", &endpoint, "notes", "1"];
    let _ = Sdk::Python.as_administrator(server.bootstrap()).args(push).run().succeeded();
    let admin = Admin::of(&server);
    let nobody = |sdk: Sdk, arguments: &[&str]| sdk.anonymous(server.bootstrap()).args(arguments).run();
    for is_allowed in [false, true] {
        admin.update(&admin.first_registry(), &json!({"anonymousPullEnabled": is_allowed}));
        for sdk in [Sdk::Python, Sdk::JavaScript] {
            let tags = nobody(sdk, &["tags", &endpoint, "notes"]);
            if is_allowed {
                assert_eq!(tags.succeeded().json(), json!(["1"]));
            } else {
                assert!(tags.stderr.contains("UNAUTHORIZED"), "{tags}");
            }
            let catalog = nobody(sdk, &["list", &endpoint]).failed();
            assert!(catalog.stderr.contains("UNAUTHORIZED"), "{catalog}");
        }
    }
    let pull = nobody(Sdk::Python, &["pull", &endpoint, "notes", "1"]);
    assert_eq!(pull.succeeded().json(), json!(["1", "anything"]));
    let refused = nobody(Sdk::Python, &["push", &endpoint, "notes", "2"]).failed();
    assert!(refused.stderr.contains("UNAUTHORIZED"), "{refused}");
}

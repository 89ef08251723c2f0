//! The Azure libraries of the control plane, unmodified: today's, and one of 2021 with every api-version that it has.

use std::time::Duration;

use postern_tests::{Admin, Bootstrap, Outcome, Sdk, Server, postern};
use serde_json::{Value, json};

/// A journey makes some two hundred requests, and the libraries have thousands of modules.
const LIMIT: Duration = Duration::from_mins(2);

fn run(sdk: Sdk, server: &Server, arguments: &[&str]) -> Outcome {
    sdk.manages(server.bootstrap()).args(arguments).limit(LIMIT).run()
}

/// A resource group, and its path.
fn group(admin: &Admin<'_>, server: &Bootstrap, name: &str) -> String {
    let path = format!("/subscriptions/{}/resourceGroups/{name}", server.subscription_id);
    admin.send("PUT", &path, Some(&json!({"location": "eastus"})));
    path
}

/// The half of the Python journey that is about groups, registries and networks.
fn networks_of_the_journey() -> Value {
    json!({
        "group": ["journey", "eastus", {"purpose": "test"}, "Succeeded"],
        "name": [true, false, "AlreadyExists"],
        "registry": [
            "journeyfirst", "Premium", "Premium", "Succeeded", "Allow", "Enabled", "enabled", "LegacyRegistryPermissions"
        ],
        "rules": ["203.0.113.0/24", "198.51.100.7"],
        "closed": ["None", "Disabled", "Deny", 2],
        "wrong rule": "400 InvalidParameter",
        "opened": ["Enabled", []],
        "subnets": ["inner", "outer"],
        "service endpoints": ["Microsoft.ContainerRegistry"],
        "waiting": [["auto", "Approved"], ["manual", "Pending"]],
        "Approved": [["auto", "Approved"], ["manual", "Approved"]],
        "Rejected": [["auto", "Approved"], ["manual", "Rejected"]],
        "the endpoint's side": "Rejected",
        "after the endpoint's end": [["auto", "Disconnected"]],
        "private link": ["registry", ["privatelink.azurecr.io"]],
        "zone": [["10.7.0.4"], ["here"]],
    })
}

/// The other half: tokens, identities, roles, content, lists, deletions.
fn access_of_the_journey() -> Value {
    json!({
        "token": ["reader", "enabled", true],
        "credentials": ["reader", "password1", 200],
        "kept passwords": [["password1", null]],
        "disabled token": 401,
        "scope map": [["repositories/team/app/content/read", "repositories/team/app/metadata/read"], "UserDefined"],
        "scope map in use": "409 Conflict",
        "tokens left": [],
        "no admin user": "400 UnAuthorizedForCredentialOperations",
        "admin user": ["journeyfirst", ["password", "password2"], 401, 200],
        "identity": ["app", true, ["repo:x"]],
        "attached": ["UserAssigned", true],
        "role": ["AcrPull", "7f951dda-4ed3-4680-a7ca-43fe172d538d", "BuiltInRole"],
        "assignment": [true, "ServicePrincipal"],
        "assigned twice": "409 RoleAssignmentExists",
        "unknown role": "404 RoleDefinitionDoesNotExist",
        "assignments": [[true, null]],
        "conditional": true,
        "wrong condition": "400 InvalidCondition",
        "imported twice": "409 Conflict",
        "registries": ["journey0other", "journey1other", "journey2other", "journeyfirst"],
        "pages": [3, 1],
        "usages": {
            "Size": [500_u64 << 30, "Bytes"],
            "Webhooks": [500, "Count"],
            "Geo-replications": [50, "Count"],
            "IPRules": [200, "Count"],
            "VNetRules": [100, "Count"],
            "PrivateEndpointConnections": [200, "Count"],
            "ScopeMaps": [50_000, "Count"],
            "Tokens": [50_000, "Count"],
        },
        "rules on Basic": "400 FeatureNotSupportedForSku",
        "as it was in 2019": [false, true],
        "webhook": ["mywebhook", ["push"]],
        "deleted": "404 ResourceNotFound",
        "deleted group": "404 ResourceGroupNotFound",
    })
}

#[test]
fn the_python_libraries_make_their_journey() {
    let server = Server::start();
    let admin = Admin::of(&server);
    let endpoint = format!("https://localhost:{}", server.address().port());
    let push = Sdk::Python.as_administrator(server.bootstrap()).args(["push", &endpoint, "notes", "1"]);
    let _ = push.limit(LIMIT).run().succeeded();
    let mut seen = run(Sdk::Python, &server, &["journey", "journey", &admin.first_registry()]).succeeded().json();
    let mut expected = networks_of_the_journey();
    let rest = access_of_the_journey().as_object().cloned().expect("it is an object");
    expected.as_object_mut().expect("it is an object").extend(rest);
    let used = seen.as_object_mut().expect("a journey is an object").remove("used").unwrap_or_default();
    assert_eq!(seen, expected);
    // The blobs of the imported image, its manifest, and the connection whose endpoint is gone.
    let blobs = 20 * 1024 * 256 + "anything".len() as u64 + 2;
    assert!(used["Size"].as_u64().is_some_and(|size| (blobs + 1..blobs + 2000).contains(&size)), "{used}");
    assert_eq!(used["PrivateEndpointConnections"], 1, "{used}");
}

#[test]
fn the_javascript_library_makes_its_journey() {
    let server = Server::start();
    group(&Admin::of(&server), server.bootstrap(), "journey");
    let seen = run(Sdk::JavaScript, &server, &["journey", "journey", "eastus"]).succeeded().json();
    let rules = json!([{"action": "Allow", "iPAddressOrRange": "203.0.113.0/24"}]);
    let expected = json!({
        "name": [true, false, "AlreadyExists"],
        "registry": ["journeyfirst", "Premium", "Succeeded", "Allow", true],
        "closed": ["Deny", rules, "None"],
        "wrong rule": "400 InvalidParameter",
        "still there": rules,
        "credentials": ["reader", [["password1", true]]],
        "token": ["disabled", true],
        "maps": ["readers"],
        "tokens": [],
        "no admin user": "400 UnAuthorizedForCredentialOperations",
        "admin user": ["journeyfirst", [false, true]],
        "links": ["registry"],
        "usages": [
            {"name": "Size", "limit": 500_u64 << 30, "currentValue": 0, "unit": "Bytes"},
            {"name": "IPRules", "limit": 200, "currentValue": 1, "unit": "Count"},
        ],
        "webhook": ["push"],
        "registries": ["journey0other", "journey1other", "journeyfirst"],
        "deleted": ["succeeded", "404 ResourceNotFound"],
        "left": ["journey0other", "journey1other"],
    });
    assert_eq!(seen, expected);
    let stranger = Sdk::JavaScript.manages(server.bootstrap()).env("AZURE_CLIENT_SECRET", "wrong").args(["registries"]);
    let refused = stranger.limit(LIMIT).run().failed();
    assert!(refused.stderr.contains("AADSTS7000215"), "{refused}");
}

#[test]
fn a_workload_manages_what_its_roles_give() {
    const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
    let server = Server::start();
    let admin = Admin::of(&server);
    let container_group = admin.container_group("mycontainer", &admin.first_registry());
    let shown = admin.send("GET", &container_group, None);
    let principal = shown["identity"]["principalId"].as_str().expect("a group has an identity").to_owned();
    let run = |sdk: Sdk| {
        let [program, script] = sdk.management_command_line();
        let (variable, packages) = Sdk::packages();
        let rest: Vec<String> = [&program, &script].map(|path| path.display().to_string()).into();
        let rest = ["--as", &container_group, "--", &rest[0], &rest[1], "registries"];
        let command = postern(&server, &["workload", "run"], &rest).env(variable, packages);
        let told = Sdk::of_server(server.bootstrap());
        told.into_iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    };
    // The role that it has is for the registry's content only.
    let path = group(&admin, server.bootstrap(), "other");
    let other = format!("{path}/providers/Microsoft.ContainerRegistry/registries/another");
    admin.send("PUT", &other, Some(&json!({"location": "eastus", "sku": {"name": "Basic"}})));
    for sdk in [Sdk::Python, Sdk::JavaScript] {
        assert_eq!(run(sdk).succeeded().json(), json!([]), "{sdk:?}");
    }
    admin.assign(READER, &principal, &path);
    for sdk in [Sdk::Python, Sdk::JavaScript] {
        assert_eq!(run(sdk).succeeded().json(), json!(["another"]), "{sdk:?}");
    }
}

/// Keys of an old library's view of a registry, and what stands there.
fn seen_in(version: &str, shown: &Value) -> Vec<String> {
    let object = shown[version].as_object().unwrap_or_else(|| panic!("{version} is not in {shown}"));
    let mut keys: Vec<String> = object.keys().cloned().collect();
    for group in ["network_rule_set", "policies"] {
        let inner = object.get(group).and_then(Value::as_object).into_iter().flat_map(|inner| inner.keys());
        keys.extend(inner.map(|key| format!("{group}.{key}")));
    }
    keys.sort();
    keys
}

#[test]
fn the_library_of_2021_sees_what_its_versions_knew_and_undoes_nothing() {
    const RULE: &str = "network_rule_set.";
    let server = Server::start();
    let admin = Admin::of(&server);
    group(&admin, server.bootstrap(), "old");
    let id = admin.id("old", "Microsoft.ContainerRegistry/registries/oldregistry");
    let strict = json!({
        "location": "eastus",
        "sku": {"name": "Premium"},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "publicNetworkAccess": "Disabled",
            "networkRuleBypassOptions": "None",
            "networkRuleBypassAllowedForTasks": false,
            "networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7"}]},
            "dataEndpointEnabled": true,
            "roleAssignmentMode": "AbacRepositoryPermissions",
            "policies": {
                "exportPolicy": {"status": "disabled"},
                "azureADAuthenticationAsArmPolicy": {"status": "disabled"},
                "quarantinePolicy": {"status": "enabled"},
                "retentionPolicy": {"status": "enabled", "days": 30},
            },
        },
    });
    admin.send("PUT", &id, Some(&strict));
    let library = |verb: &str, rest: &[&str]| {
        let arguments = [&[verb, "old", "oldregistry"], rest].concat();
        run(Sdk::PythonOf2021, &server, &arguments).succeeded().json()
    };

    let shapes = library("shapes", &[]);
    let first = [
        "admin_user_enabled",
        "login_server",
        "network_rule_set",
        "network_rule_set.default_action",
        "network_rule_set.ip_rules",
        "network_rule_set.virtual_network_rules",
        "provisioning_state",
        "sku",
    ];
    let policies = ["policies", "policies.quarantine_policy", "policies.retention_policy", "policies.trust_policy"];
    let private = [
        "data_endpoint_enabled",
        "data_endpoint_host_names",
        "encryption",
        "identity",
        "network_rule_bypass_options",
        "private_endpoint_connections",
        "public_network_access",
    ];
    let anonymous = ["anonymous_pull_enabled", "zone_redundancy"];
    let export = ["policies.export_policy"];
    let steps: [(&str, &[&str]); 5] = [
        ("2017-10-01", &first),
        ("2019-05-01", &policies),
        ("2019-12-01-preview", &private),
        ("2020-11-01-preview", &anonymous),
        ("2021-06-01-preview", &export),
    ];
    let mut known: Vec<String> = Vec::new();
    for (version, new) in steps {
        known.extend(new.iter().map(|&key| key.to_owned()));
        known.sort();
        assert_eq!(seen_in(version, &shapes), known, "{version}");
        assert!(known.iter().any(|key| key.starts_with(RULE)));
    }
    assert_eq!(seen_in("2021-08-01-preview", &shapes), known);
    assert_eq!(shapes["2020-11-01-preview"]["public_network_access"], "Disabled");

    // An old client that puts back what it got has dropped whatever it does not know.
    let before = admin.send("GET", &id, None);
    let versions = library("put", &[]);
    assert_eq!(versions.as_array().map(Vec::len), Some(6));
    let after = admin.send("GET", &id, None);
    for part in ["properties", "identity", "sku", "location", "tags"] {
        assert_eq!(after[part], before[part], "{part}");
    }

    let rules = library("rule", &["198.51.100.0/24"]);
    for version in versions.as_array().into_iter().flatten() {
        let shown = &rules[version.as_str().unwrap_or_default()];
        assert_eq!(shown["default_action"], "Deny", "{version}");
        assert_eq!(
            shown["ip_rules"],
            json!([{"action": "Allow", "ip_address_or_range": "198.51.100.0/24"}]),
            "{version}"
        );
    }
    let tokens = library("tokens", &[]);
    for (number, version) in ["2019-05-01-preview", "2020-11-01-preview", "2021-08-01-preview"].into_iter().enumerate()
    {
        assert_eq!(tokens[version], json!([format!("reader{number}"), ["password1"], "Succeeded"]), "{version}");
    }
}

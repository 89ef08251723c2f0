use serde_json::json;

use super::*;

fn document(value: &Value) -> Document {
    value.as_object().unwrap().clone()
}

/// Stored properties, a method's body under a version, and the properties afterwards.
#[track_caller]
fn check(method: &str, version: &str, stored: Value, body: Value, expected: Value) {
    let version = version.parse().unwrap();
    let existing = document(&json!({"location": "eastus", "properties": stored}));
    let body = document(&json!({"properties": body}));
    let result = match method {
        "PUT" => put(REGISTRIES, Some(&existing), &body, version),
        _ => patch(REGISTRIES, &existing, &body, version),
    };
    assert_eq!(result.get("properties"), Some(&expected), "{method} {version}");
}

const NEWEST: &str = "2026-09-01-preview";

#[test]
fn put_resets_what_its_version_knows() {
    let stored = json!({"adminUserEnabled": true, "roleAssignmentMode": "AbacRepositoryPermissions", "anonymousPullEnabled": true});
    check("PUT", "2025-11-01", stored.clone(), json!({}), json!({}));
    check("PUT", "2025-04-01", stored.clone(), json!({}), json!({"roleAssignmentMode": "AbacRepositoryPermissions"}));
    check(
        "PUT",
        "2023-07-01",
        stored,
        json!({"adminUserEnabled": false}),
        json!({
        "adminUserEnabled": false, "roleAssignmentMode": "AbacRepositoryPermissions", "anonymousPullEnabled": true}),
    );
    // What the version does not know is not taken from the body either.
    check("PUT", "2023-07-01", json!({}), json!({"networkRuleBypassAllowedForTasks": true}), json!({}));
}

#[test]
fn put_keeps_the_tasks_policy_and_what_is_set_at_creation() {
    let stored = json!({"networkRuleBypassAllowedForTasks": true, "zoneRedundancy": "Enabled"});
    check("PUT", NEWEST, stored.clone(), json!({}), stored.clone());
    check(
        "PUT",
        NEWEST,
        stored,
        json!({"networkRuleBypassAllowedForTasks": false}),
        json!({"networkRuleBypassAllowedForTasks": false, "zoneRedundancy": "Enabled"}),
    );
}

#[test]
fn put_ignores_computed_properties_and_keeps_unknown_ones() {
    check(
        "PUT",
        NEWEST,
        json!({"futureThing": 1}),
        json!({
        "loginServer": "evil", "privateEndpointConnections": [{}], "provisioningState": "Failed", "other": {"a": 1},
        "policies": {"retentionPolicy": {"days": 3, "lastUpdatedTime": "x"}, "newPolicy": {"status": "enabled"}}}),
        json!({"futureThing": 1, "other": {"a": 1}, "policies": {"retentionPolicy": {"days": 3}, "newPolicy": {"status": "enabled"}}}),
    );
}

#[test]
fn put_under_a_version_without_virtual_network_rules_keeps_them() {
    let rules = json!([{"action": "Allow", "id": "/x"}]);
    let stored = json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}], "virtualNetworkRules": rules}});
    check(
        "PUT",
        "2023-07-01",
        stored.clone(),
        json!({"networkRuleSet": {"defaultAction": "Deny"}}),
        json!({"networkRuleSet": {"defaultAction": "Deny", "virtualNetworkRules": rules}}),
    );
    check(
        "PUT",
        NEWEST,
        stored.clone(),
        json!({"networkRuleSet": {"defaultAction": "Deny"}}),
        json!({"networkRuleSet": {"defaultAction": "Deny"}}),
    );
    check("PUT", "2021-12-01-preview", stored, json!({}), json!({}));
}

#[test]
fn keys_and_words_are_spelled_as_documented() {
    check(
        "PUT",
        NEWEST,
        json!({}),
        json!({"PublicNetworkAccess": "disabled", "networkruleset": {"DefaultAction": "DENY", "IPRules": []}}),
        json!({"publicNetworkAccess": "Disabled", "networkRuleSet": {"defaultAction": "Deny", "ipRules": []}}),
    );
    check(
        "PATCH",
        NEWEST,
        json!({"publicNetworkAccess": "Enabled"}),
        json!({"publicnetworkaccess": "DISABLED"}),
        json!({"publicNetworkAccess": "Disabled"}),
    );
}

#[test]
fn patch_changes_only_what_it_names() {
    let rules = json!([{"action": "Allow", "value": "198.51.100.7"}]);
    let stored = json!({"adminUserEnabled": true, "networkRuleSet": {"defaultAction": "Allow", "ipRules": rules}});
    check(
        "PATCH",
        NEWEST,
        stored.clone(),
        json!({"networkRuleSet": {"defaultAction": "Deny"}, "publicNetworkAccess": "Disabled"}),
        json!({"adminUserEnabled": true, "publicNetworkAccess": "Disabled", "networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}}),
    );
    check(
        "PATCH",
        NEWEST,
        stored.clone(),
        json!({"networkRuleSet": {"ipRules": []}}),
        json!({"adminUserEnabled": true, "networkRuleSet": {"defaultAction": "Allow", "ipRules": []}}),
    );
    check(
        "PATCH",
        NEWEST,
        stored.clone(),
        json!({"adminUserEnabled": null, "loginServer": "x"}),
        json!({"networkRuleSet": {"defaultAction": "Allow", "ipRules": rules}}),
    );
    check("PATCH", "2025-04-01", json!({}), json!({"networkRuleBypassAllowedForTasks": true}), json!({}));
    check(
        "PATCH",
        "2025-11-01",
        json!({}),
        json!({"networkRuleBypassAllowedForTasks": true}),
        json!({"networkRuleBypassAllowedForTasks": true}),
    );
}

#[test]
fn envelopes() {
    let existing = document(
        &json!({"location": "eastus", "tags": {"a": "1", "b": "2"}, "identity": {"type": "SystemAssigned"}, "properties": {"adminUserEnabled": true}}),
    );
    let newest = ApiVersion::NEWEST;
    let result = patch(
        REGISTRIES,
        &existing,
        &document(&json!({"tags": {"a": "3"}, "id": "/evil", "sku": {"name": "Basic"}})),
        newest,
    );
    assert_eq!(
        Value::Object(result),
        json!({"location": "eastus", "tags": {"a": "3"}, "sku": {"name": "Basic"},
        "identity": {"type": "SystemAssigned"}, "properties": {"adminUserEnabled": true}})
    );
    let result = put(REGISTRIES, Some(&existing), &document(&json!({"location": "eastus"})), newest);
    assert_eq!(
        Value::Object(result),
        json!({"location": "eastus", "properties": {"adminUserEnabled": true}}),
        "no properties: nothing said of them"
    );
    let result = put(
        REGISTRIES,
        Some(&existing),
        &document(&json!({"location": "eastus", "properties": {}})),
        "2019-05-01".parse().unwrap(),
    );
    assert_eq!(result.get("identity"), Some(&json!({"type": "SystemAssigned"})), "that version has no identities");
    let result = put("a/b", Some(&existing), &document(&json!({"id": "/x", "properties": {"x": 1}})), newest);
    assert_eq!(Value::Object(result), json!({"properties": {"x": 1}}));
}

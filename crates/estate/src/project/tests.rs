use serde_json::json;

use super::*;
use crate::estate::tests::{REGISTRY, estate, id};

fn projected(properties: Value, version: &str) -> Value {
    let estate = estate(json!([
        {"id": REGISTRY, "location": "East US", "sku": {"name": "Premium"}, "properties": properties,
         "identity": {"type": "SystemAssigned", "principalId": "x"}},
        {"id": format!("{REGISTRY}/privateEndpointConnections/c"), "properties": {
            "privateEndpoint": {"id": "/pe"}, "privateLinkServiceConnectionState": {"status": "Approved"}}},
    ]));
    Value::Object(estate.project(estate.get(&id(REGISTRY)).unwrap(), version.parse().unwrap()))
}

#[track_caller]
fn check(properties: Value, version: &str, path: &str, expected: Value) {
    assert_eq!(*projected(properties, version).pointer(path).unwrap_or(&json!("absent")), expected, "{version} {path}");
}

#[test]
fn versions_show_what_they_know() {
    let tasks = "/properties/networkRuleBypassAllowedForTasks";
    check(json!({}), "2025-11-01", tasks, json!(false));
    check(json!({"networkRuleBypassAllowedForTasks": true}), "2025-05-01-preview", tasks, json!(true));
    check(json!({"networkRuleBypassAllowedForTasks": true}), "2025-04-01", tasks, json!("absent"));
    let mode = "/properties/roleAssignmentMode";
    check(json!({}), "2025-11-01", mode, json!("LegacyRegistryPermissions"));
    check(json!({"roleAssignmentMode": "AbacRepositoryPermissions"}), "2025-04-01", mode, json!("absent"));
    check(json!({}), "2019-05-01", "/properties/publicNetworkAccess", json!("absent"));
    check(json!({}), "2019-05-01", "/identity", json!("absent"));
    check(json!({}), "2019-12-01-preview", "/identity/principalId", json!("x"));
    check(json!({}), "2025-11-01", "/properties/policies/softDeletePolicy", json!("absent"));
    check(json!({}), "2025-11-01", "/properties/regionalEndpoints", json!("absent"));
    check(json!({}), "2026-09-01-preview", "/properties/regionalEndpoints", json!("Disabled"));
}

#[test]
fn subnets_are_spelled_by_version() {
    let rules = |key: &str| json!({"networkRuleSet": {"virtualNetworkRules": [{"action": "Allow", key: "/x"}]}});
    let first = "/properties/networkRuleSet/virtualNetworkRules/0";
    for stored in ["id", "virtualNetworkSubnetResourceId"] {
        check(rules(stored), "2019-05-01", first, json!({"action": "Allow", "id": "/x"}));
        check(
            rules(stored),
            "2026-09-01-preview",
            first,
            json!({"action": "Allow", "virtualNetworkSubnetResourceId": "/x"}),
        );
        check(
            rules(stored),
            "2025-11-01",
            "/properties/networkRuleSet",
            json!({"defaultAction": "Allow", "ipRules": []}),
        );
    }
}

#[test]
fn an_answer_in_full() {
    assert_eq!(
        projected(
            json!({"policies": {"retentionPolicy": {"status": "enabled"}}, "dataEndpointEnabled": true, "future": 1}),
            "2025-11-01"
        ),
        json!({
            "id": REGISTRY,
            "name": "Reg01",
            "type": "Microsoft.ContainerRegistry/registries",
            "location": "East US",
            "sku": {"name": "Premium", "tier": "Premium"},
            "identity": {"type": "SystemAssigned", "principalId": "x"},
            "properties": {
                "loginServer": "reg01.azurecr.io.localhost:8443",
                "creationDate": "1970-01-01T00:00:00.0000000Z",
                "provisioningState": "Succeeded",
                "status": null,
                "adminUserEnabled": false,
                "networkRuleSet": {"defaultAction": "Allow", "ipRules": []},
                "policies": {
                    "quarantinePolicy": {"status": "disabled"},
                    "trustPolicy": {"type": "Notary", "status": "disabled"},
                    "retentionPolicy": {"days": 7, "status": "enabled"},
                    "exportPolicy": {"status": "enabled"},
                    "azureADAuthenticationAsArmPolicy": {"status": "enabled"},
                },
                "encryption": {"status": "disabled"},
                "dataEndpointEnabled": true,
                "dataEndpointHostNames": ["reg01.eastus.data.azurecr.io.localhost:8443"],
                "privateEndpointConnections": [{
                    "id": format!("{REGISTRY}/privateEndpointConnections/c"),
                    "name": "c",
                    "type": "Microsoft.ContainerRegistry/registries/privateEndpointConnections",
                    "properties": {
                        "privateEndpoint": {"id": "/pe"},
                        "privateLinkServiceConnectionState": {"status": "Approved"},
                        "provisioningState": "Succeeded",
                    },
                }],
                "publicNetworkAccess": "Enabled",
                "networkRuleBypassOptions": "AzureServices",
                "networkRuleBypassAllowedForTasks": false,
                "zoneRedundancy": "Disabled",
                "anonymousPullEnabled": false,
                "roleAssignmentMode": "LegacyRegistryPermissions",
                "future": 1,
            },
        })
    );
}

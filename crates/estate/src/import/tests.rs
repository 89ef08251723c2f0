use postern_model::ResourceId;
use serde_json::{Value, json};

use super::*;
use crate::estate::tests::REGISTRY;
use crate::{Estate, export};

fn target() -> Target {
    Target { subscription: "s".into(), resource_group: "g".into(), location: "eastus".into() }
}

fn parsed(value: &Value) -> Value {
    let documents = parse(&value.to_string(), Some(&target())).unwrap();
    documents.into_iter().map(Value::Object).collect()
}

#[track_caller]
fn check(value: &Value, expected: &str) {
    assert_eq!(parse(&value.to_string(), Some(&target())).unwrap_err().to_string(), expected);
}

#[test]
fn one_resource_a_list_and_a_value() {
    let one = json!({"id": REGISTRY, "properties": {"adminUserEnabled": true}});
    let expected = json!([{"id": REGISTRY, "name": "Reg01", "type": "Microsoft.ContainerRegistry/registries", "properties": {"adminUserEnabled": true}}]);
    assert_eq!(parsed(&one), expected);
    assert_eq!(parsed(&json!([one])), expected);
    assert_eq!(parsed(&json!({"value": [one], "nextLink": null})), expected);
    let listed = json!([{"id": REGISTRY, "name": "Reg01", "properties": null, "changedTime": "x", "createdTime": "x", "resourceGroup": "g", "plan": null}]);
    assert_eq!(parsed(&listed)[0].get("properties"), None, "a list without properties says nothing of them");
}

#[test]
fn flattened_answers() {
    let shown = json!({
        "adminUserEnabled": false, "creationDate": "x", "id": REGISTRY, "location": "eastus", "loginServer": "x", "name": "Reg01",
        "networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "ipAddressOrRange": "198.51.100.7"}]},
        "privateEndpointConnections": [{"id": format!("{REGISTRY}/privateEndpointConnections/c"), "name": "c", "resourceGroup": "g",
            "privateEndpoint": {"id": "/pe"}, "privateLinkServiceConnectionState": {"status": "Approved"}, "provisioningState": "Succeeded",
            "type": "Microsoft.ContainerRegistry/registries/privateEndpointConnections"}],
        "resourceGroup": "g", "sku": {"name": "Premium", "tier": "Premium"}, "status": null, "systemData": null, "tags": {},
        "type": "Microsoft.ContainerRegistry/registries",
    });
    let documents = parsed(&shown);
    assert_eq!(
        documents[0]["properties"],
        json!({
        "adminUserEnabled": false, "creationDate": "x", "loginServer": "x",
        "networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": "198.51.100.7"}]}})
    );
    assert_eq!(
        documents[1]["properties"],
        json!({"privateEndpoint": {"id": "/pe"}, "privateLinkServiceConnectionState": {"status": "Approved"}})
    );
    let assignment = json!({"id": format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/a"), "name": "a", "principalId": "p",
        "principalName": "x", "principalType": "User", "roleDefinitionId": "r", "roleDefinitionName": "AcrPull", "scope": REGISTRY, "condition": null});
    assert_eq!(
        parsed(&assignment)[0]["properties"],
        json!({"principalId": "p", "principalType": "User", "roleDefinitionId": "r", "scope": REGISTRY})
    );
}

#[test]
fn refusals() {
    check(&json!("text"), "the file must be an object or a list");
    check(&json!([1]), "resource 0 must be an object");
    check(&json!([{"name": "x"}]), "the `id` of resource 0 must be a resource id");
    check(&json!({"id": "x"}), "the `id` of the resource: a resource id begins with `/`");
    check(&json!({"id": REGISTRY, "propertys": {}}), "the resource has the unknown key `propertys`");
    check(
        &json!({"id": REGISTRY, "properties": {}, "adminUserEnabled": true}),
        "the resource has the unknown key `adminUserEnabled`",
    );
    check(&json!({"id": REGISTRY, "properties": []}), "the `properties` of the resource must be an object");
    check(
        &json!({"id": REGISTRY, "type": "a/b"}),
        &format!("the resource: the `type` `a/b` does not fit the id `{REGISTRY}`"),
    );
    check(
        &json!({"id": REGISTRY, "name": "other"}),
        &format!("the resource: the `name` `other` does not fit the id `{REGISTRY}`"),
    );
    check(
        &json!([{"id": REGISTRY}, {"id": REGISTRY.to_uppercase()}]),
        &format!("`{}` is there twice", REGISTRY.to_uppercase()),
    );
    check(
        &json!({"id": "/subscriptions/s/resourceGroups/g/providers/a/b/c", "addressSpace": {}}),
        "the resource has no `properties`: give resources of type `a/b` as the resource manager shows them (`az resource show`)",
    );
    check(&json!({"value": [], "count": 1}), "the list has the unknown key `count`");
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    check(&json!({"id": REGISTRY, "properties": {"x": deep}}), "the file is nested deeper than 64 levels");
    assert!(parse("{", None).unwrap_err().to_string().starts_with("the file is not JSON: "));
    assert_eq!(parse(&" ".repeat(MAX_IMPORT_BYTES + 1), None), Err(ImportError::TooLarge));
    assert_eq!(parse(r#"{"$schema": "x", "resources": []}"#, None), Err(ImportError::NoTarget));
}

#[test]
fn templates() {
    let template = json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {"name": {"type": "string", "defaultValue": "[concat('Reg', '01')]"}},
        "variables": {"role": "[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '7f951dda-4ed3-4680-a7ca-43fe172d538d')]"},
        "resources": [
            {"type": "Microsoft.Authorization/roleAssignments", "apiVersion": "2022-04-01", "name": "a1",
             "scope": "[concat('Microsoft.ContainerRegistry/registries/', parameters('name'))]",
             "properties": {"roleDefinitionId": "[variables('role')]", "principalId": "p"}},
            {"type": "Microsoft.ContainerRegistry/registries", "apiVersion": "2025-11-01", "name": "[parameters('name')]",
             "location": "[resourceGroup().location]", "sku": {"name": "Premium"}, "properties": {"note": "[[literal]", "it''s": "[concat('it''s')]"},
             "dependsOn": [], "resources": [
                {"type": "scopeMaps", "apiVersion": "2025-11-01", "name": "map-01", "properties": {"actions": []}}]},
            {"type": "Microsoft.ContainerRegistry/registries/tokens", "name": "[format('x')]", "condition": false},
            {"type": "Microsoft.ContainerRegistry/registries/tokens", "apiVersion": "2025-11-01", "name": "[concat(parameters('name'), '/tok-01')]",
             "properties": {"scopeMapId": "[resourceId('Microsoft.ContainerRegistry/registries/scopeMaps', parameters('name'), 'map-01')]"}},
        ],
    });
    let documents = parsed(&template);
    let ids: Vec<&str> =
        documents.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        [
            REGISTRY,
            &format!("{REGISTRY}/scopeMaps/map-01"),
            &format!("{REGISTRY}/tokens/tok-01"),
            &format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/a1"),
        ]
    );
    assert_eq!(documents[0]["location"], "eastus");
    assert_eq!(documents[0]["properties"], json!({"note": "[literal]", "it''s": "it's"}));
    assert_eq!(documents[2]["properties"]["scopeMapId"], format!("{REGISTRY}/scopeMaps/map-01"));
    assert_eq!(
        documents[3]["properties"]["roleDefinitionId"],
        "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"
    );
}

#[test]
fn templates_that_are_refused() {
    let with = |name: &str| json!({"resources": [{"type": "a/b", "name": name, "properties": {}}], "variables": {"x": "[variables('x')]"}});
    let refused = |expression: &str, why: &str| {
        check(&with(expression), &format!("resource 0 of the template: `{expression}` is not supported: {why}"));
    };
    refused("[reference('x')]", "the function `reference` is not known here");
    refused("[parameters('x')]", "the parameter `x` has no default value");
    refused("[variables('x')]", "it refers to itself, or too deep");
    refused("[concat('x']", "a `,` or `)` is missing");
    check(&json!({"resources": [], "functions": []}), "the template has the unknown key `functions`");
    check(&with("a/b"), "the `name` of resource 0 of the template must be one segment for each of the type's");
}

#[test]
fn export_then_import_is_the_identity() {
    let documents = parse(&json!([
        {"id": "/subscriptions/s", "displayName": "x", "state": "Enabled"},
        {"id": "/subscriptions/s/resourceGroups/g", "location": "eastus"},
        {"id": REGISTRY, "location": "eastus", "sku": {"name": "Premium"}, "identity": {"type": "SystemAssigned", "principalId": "p"},
         "properties": {"publicNetworkAccess": "Disabled", "future": {"x": [1, 2.5, null]}}},
        {"id": format!("{REGISTRY}/tokens/tok-01"), "properties": {"scopeMapId": "x"}},
        {"id": "/providers/Microsoft.Graph/users/u", "properties": {}},
        {"id": format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/a"), "properties": {}},
    ]).to_string(), None).unwrap();
    let estate = Estate::from_documents("x", documents.clone()).unwrap();
    let exported = export(&estate, &ResourceId::root(), |_, _| true);
    assert_eq!(parse(&exported.to_string(), None).unwrap(), documents);
    let ids: Vec<_> = documents.iter().map(|document| document["type"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        [
            "Microsoft.Resources/subscriptions",
            "Microsoft.Resources/resourceGroups",
            "Microsoft.Graph/users",
            "Microsoft.ContainerRegistry/registries",
            "Microsoft.ContainerRegistry/registries/tokens",
            "Microsoft.Authorization/roleAssignments",
        ]
    );
}

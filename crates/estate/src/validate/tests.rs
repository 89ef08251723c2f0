use postern_model::{IpRuleMode, ResourceId};
use serde_json::{Value, json};

use super::*;
use crate::estate::tests::{REGISTRY, SUBSCRIPTION, assignment, estate, id, oid, uuid};
use crate::{Document, Estate, Refusal};

const FIRST: &str = "InvalidParameter properties.networkRuleSet.ipRules[0]";
const PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
const SUBNET: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/s";

fn object(value: &Value) -> Document {
    value.as_object().unwrap().clone()
}

fn code(result: Result<(), Refusal>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(refusal) => {
            format!("{} {}", refusal.code.as_str(), refusal.target.unwrap_or_default()).trim_end().to_owned()
        }
    }
}

#[track_caller]
fn check(sku: &str, properties: Value, expected: &str) {
    let document = object(&json!({"location": "eastus", "sku": {"name": sku}, "properties": properties}));
    let limits = RegistryLimits { ip_rule_mode: IpRuleMode::Strict, ..RegistryLimits::default() };
    assert_eq!(code(registry(None, &document, false, &limits)), expected, "{sku} {properties}");
}

#[test]
fn names() {
    for (name, expected) in [
        ("myregistry", "ok"),
        ("Reg01", "ok"),
        ("reg", "InvalidResourceName name"),
        ("my-registry", "InvalidResourceName name"),
        (&"a".repeat(51), "InvalidResourceName name"),
        ("mymicrosoftreg", "ReservedResourceName name"),
        ("loginserver", "ReservedResourceName name"),
    ] {
        assert_eq!(code(registry_name(name)), expected, "{name}");
    }
}

#[test]
fn what_tiers_have() {
    check("Premium", json!({"publicNetworkAccess": "Disabled"}), "ok");
    check(
        "Basic",
        json!({"publicNetworkAccess": "Disabled"}),
        "DisablingPublicNetworkAccessNotSupported properties.publicNetworkAccess",
    );
    check(
        "Standard",
        json!({"networkRuleSet": {"defaultAction": "Deny"}}),
        "FeatureNotSupportedForSku properties.networkRuleSet",
    );
    check("Standard", json!({"networkRuleSet": {"defaultAction": "Allow", "ipRules": []}}), "ok");
    check("Basic", json!({"anonymousPullEnabled": true}), "FeatureNotSupportedForSku properties.anonymousPullEnabled");
    check("Standard", json!({"anonymousPullEnabled": true}), "ok");
    check("Standard", json!({"dataEndpointEnabled": true}), "FeatureNotSupportedForSku properties.dataEndpointEnabled");
    check(
        "Standard",
        json!({"policies": {"retentionPolicy": {"status": "enabled"}}}),
        "FeatureNotSupportedForSku properties.policies.retentionPolicy",
    );
    check("Basic", json!({"policies": {"softDeletePolicy": {"status": "enabled"}}}), "ok");
    check(
        "Basic",
        json!({"roleAssignmentMode": "AbacRepositoryPermissions", "networkRuleBypassOptions": "None"}),
        "ok",
    );
    check("Classic", json!({}), "InvalidParameter sku.name");
}

#[test]
fn values() {
    check("Premium", json!([]), "InvalidRequestContent properties");
    check("Premium", json!({"publicNetworkAccess": "Sometimes"}), "InvalidParameter properties.publicNetworkAccess");
    check("Premium", json!({"adminUserEnabled": "true"}), "InvalidRequestContent properties.adminUserEnabled");
    check("Premium", json!({"networkRuleSet": []}), "InvalidRequestContent properties.networkRuleSet");
    check(
        "Premium",
        json!({"networkRuleBypassAllowedForTasks": "yes"}),
        "InvalidRequestContent properties.networkRuleBypassAllowedForTasks",
    );
    check(
        "Premium",
        json!({"policies": {"retentionPolicy": {"days": 366}}}),
        "InvalidParameter properties.policies.retentionPolicy.days",
    );
    check(
        "Premium",
        json!({"policies": {"exportPolicy": {"status": "off"}}}),
        "InvalidParameter properties.policies.exportPolicy.status",
    );
    check(
        "Premium",
        json!({"policies": {"softDeletePolicy": {"retentionDays": 0}}}),
        "InvalidParameter properties.policies.softDeletePolicy.retentionDays",
    );
    check("Premium", json!({"unknown": {"kept": true}}), "ok");
}

#[test]
fn network_rules() {
    let ip = |value: &str| json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": value}]}});
    check("Premium", ip("198.51.100.0/24"), "ok");
    for bad in ["2001:db8::1", "10.0.0.0/8", "example.com", "198.51.100.7/33"] {
        check("Premium", ip(bad), FIRST);
    }
    check("Premium", json!({"networkRuleSet": {"ipRules": [{"action": "Deny", "value": "198.51.100.7"}]}}), FIRST);
    check(
        "Premium",
        json!({"networkRuleSet": {"ipRules": [{}]}}),
        "InvalidRequestContent properties.networkRuleSet.ipRules[0]",
    );
    check("Premium", json!({"networkRuleSet": {"virtualNetworkRules": [{"id": SUBNET}]}}), "ok");
    check(
        "Premium",
        json!({"networkRuleSet": {"virtualNetworkRules": [{"id": REGISTRY}]}}),
        "InvalidParameter properties.networkRuleSet.virtualNetworkRules[0]",
    );
    let many = |count: usize| json!({"networkRuleSet": {"ipRules": vec![json!({"value": "198.51.100.7"}); count]}});
    check("Premium", many(200), "ok");
    check("Premium", many(201), "LimitExceeded properties.networkRuleSet.ipRules");
    let subnets = |count: usize| json!({"networkRuleSet": {"virtualNetworkRules": vec![json!({"id": SUBNET}); count]}});
    check("Premium", subnets(100), "ok");
    check("Premium", subnets(101), "LimitExceeded properties.networkRuleSet.virtualNetworkRules");
}

#[test]
fn combinations() {
    check(
        "Premium",
        json!({"policies": {"exportPolicy": {"status": "disabled"}}}),
        "ValidationError properties.policies.exportPolicy",
    );
    check(
        "Premium",
        json!({"publicNetworkAccess": "Disabled", "policies": {"exportPolicy": {"status": "disabled"}}}),
        "ok",
    );
    check("Premium", json!({"endpointProtocol": "IPv4AndIPv6"}), "ValidationError properties.endpointProtocol");
    check(
        "Premium",
        json!({"policies": {"softDeletePolicy": {"status": "enabled"}, "retentionPolicy": {"status": "enabled"}}}),
        "ValidationError properties.policies.softDeletePolicy",
    );
    let document = object(
        &json!({"location": "l", "sku": {"name": "Premium"}, "properties": {"networkRuleSet": {"virtualNetworkRules": [{"id": SUBNET}]}}}),
    );
    let limits = RegistryLimits::default();
    assert_eq!(
        code(registry(None, &document, true, &limits)),
        "ValidationError properties.networkRuleSet.virtualNetworkRules"
    );
    let before = object(&json!({"properties": {"zoneRedundancy": "Enabled"}}));
    assert_eq!(
        code(registry(Some(&before), &document, false, &limits)),
        "PropertyChangeNotAllowed properties.zoneRedundancy"
    );
    assert_eq!(
        code(registry(None, &object(&json!({"sku": {"name": "Basic"}})), false, &limits)),
        "LocationRequired location"
    );
    assert_eq!(
        code(registry(None, &object(&json!({"location": "l", "tags": {"a": 1}})), false, &limits)),
        "InvalidRequestContent tags"
    );
}

#[test]
fn messages() {
    let document =
        object(&json!({"location": "l", "sku": {"name": "Basic"}, "properties": {"publicNetworkAccess": "Disabled"}}));
    let refusal = registry(None, &document, false, &RegistryLimits::default()).unwrap_err();
    assert_eq!(
        refusal.message,
        "Disabling public network access is not supported for the SKU Basic. For more information, please visit https://aka.ms/acr/private-link."
    );
    let document = object(
        &json!({"location": "l", "sku": {"name": "Premium"}, "properties": {"networkRuleSet": {"ipRules": [{"value": "::1"}]}}}),
    );
    let refusal = registry(None, &document, false, &RegistryLimits::default()).unwrap_err();
    assert_eq!(refusal.message, "IP rule `::1` is IPv6: firewall rules are IPv4 only.");
}

#[test]
fn role_assignments() {
    let estate = estate(json!([
        {"id": SUBSCRIPTION},
        {"id": format!("/providers/Microsoft.Graph/users/{}", uuid(5))},
        assignment(REGISTRY, 1, 5, PULL),
    ]));
    let at = |n: u128| -> ResourceId {
        id(&format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/{}", uuid(n)))
    };
    let check = |n: u128, changes: Value, expected: &str| {
        let mut properties = json!({"principalId": oid(5), "roleDefinitionId": format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/8311e382-0749-4cb8-b61a-304f252e45ec")});
        properties.as_object_mut().unwrap().extend(object(&changes));
        let result =
            role_assignment(&estate, &at(n), &object(&json!({"properties": properties})), |id| id.0 == uuid(6));
        assert_eq!(code(result), expected, "{changes}");
    };
    check(2, json!({}), "ok");
    check(2, json!({"principalId": oid(6)}), "ok");
    check(2, json!({"principalId": oid(7)}), "PrincipalNotFound properties.principalId");
    check(2, json!({"principalId": "me"}), "InvalidRequestContent properties.principalId");
    check(2, json!({"principalType": "Group"}), "UnmatchedPrincipalType properties.principalType");
    check(2, json!({"principalType": "User"}), "ok");
    check(2, json!({"roleDefinitionId": oid(9)}), "RoleDefinitionDoesNotExist properties.roleDefinitionId");
    check(2, json!({"roleDefinitionId": PULL}), "RoleAssignmentExists");
    check(1, json!({"roleDefinitionId": PULL}), "ok");
    check(1, json!({}), "RoleAssignmentUpdateNotPermitted");
    check(2, json!({"scope": SUBSCRIPTION}), "InvalidRequestContent properties.scope");
    check(2, json!({"condition": "!(ActionMatches{'x'}"}), "InvalidCondition properties.condition");
    check(
        2,
        json!({"condition": "!(ActionMatches{'x'})", "conditionVersion": "1.0"}),
        "InvalidCondition properties.conditionVersion",
    );
    check(2, json!({"condition": "!(ActionMatches{'x'})", "conditionVersion": "2.0"}), "ok");
    let odd = id(&format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/mine"));
    assert_eq!(code(role_assignment(&estate, &odd, &Document::new(), |_| false)), "InvalidResourceName name");
}

#[test]
fn children() {
    let estate = estate(json!([
        {"id": REGISTRY, "sku": {"name": "Basic"}},
        {"id": format!("{REGISTRY}/scopeMaps/map-01"), "properties": {"actions": ["repositories/a/content/read"]}},
    ]));
    let map = |name: &str, actions: Value| {
        let document = object(&json!({"properties": {"actions": actions}}));
        code(scope_map(&estate, &id(&format!("{REGISTRY}/scopeMaps/{name}")), &document))
    };
    assert_eq!(map("my_map-1", json!(["repositories/a/content/read"])), "ok");
    assert_eq!(map("map", json!(["repositories/a/content/read"])), "InvalidResourceName name");
    assert_eq!(map("my_map-1", json!([])), "InvalidRequestContent properties.actions");
    assert_eq!(map("my_map-1", json!(["repositories/a*/content/read"])), "InvalidParameter properties.actions");
    assert_eq!(map("_repositories_pull", json!(["repositories/a/content/read"])), "Conflict");
    let tokens = |name: &str, properties: Value| {
        code(token(&estate, &id(&format!("{REGISTRY}/tokens/{name}")), &object(&json!({"properties": properties}))))
    };
    assert_eq!(tokens("tok-01", json!({"scopeMapId": format!("{REGISTRY}/scopeMaps/map-01")})), "ok");
    assert_eq!(
        tokens(
            "tok-01",
            json!({"scopeMapId": format!("{REGISTRY}/scopeMaps/_repositories_pull"), "status": "disabled"})
        ),
        "ok"
    );
    assert_eq!(tokens("tok_01", json!({})), "InvalidResourceName name");
    assert_eq!(tokens("tok-01", json!({})), "InvalidRequestContent properties.scopeMapId");
    assert_eq!(
        tokens("tok-01", json!({"scopeMapId": format!("{REGISTRY}/scopeMaps/gone")})),
        "InvalidParameter properties.scopeMapId"
    );
    assert_eq!(tokens("tok-01", json!({"scopeMapId": REGISTRY})), "InvalidParameter properties.scopeMapId");
    assert_eq!(tokens("tok-01", json!({"status": "on"})), "InvalidParameter properties.status");
}

#[test]
fn federated_credentials() {
    let identity =
        format!("{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i");
    let credential = |name: &str| id(&format!("{identity}/federatedIdentityCredentials/{name}"));
    let good =
        |subject: &str| json!({"issuer": "https://issuer.example/a", "subject": subject, "audiences": ["api://x"]});
    let mut estate = estate(json!([]));
    let check = |estate: &Estate, name: &str, properties: Value, expected: &str| {
        let document = object(&json!({"properties": properties}));
        let outcome = code(federated_credential(estate, &credential(name), &document));
        assert_eq!(outcome, expected, "{name} {properties}");
    };
    check(&estate, "main", good("s"), "ok");
    for name in ["ab", "-ab", &"a".repeat(121), "a.b"] {
        check(&estate, name, good("s"), "InvalidResourceName name");
    }
    check(&estate, &"a".repeat(120), good(&"s".repeat(600)), "ok");
    let with = |name: &str, value: Value| {
        let mut properties = good("s");
        properties[name] = value;
        properties
    };
    for issuer in [
        "http://issuer.example",
        "https://",
        "https:///a",
        "https://user@issuer.example",
        "https://issuer.example/?a",
        "https://issuer.example/#a",
        "https://issuer.example/ä",
        "https://issuer.example/a b",
        "HTTPS://issuer.example",
        "issuer.example",
    ] {
        check(&estate, "main", with("issuer", json!(issuer)), "InvalidParameter properties.issuer");
    }
    check(&estate, "main", with("issuer", Value::Null), "InvalidRequestContent properties.issuer");
    check(&estate, "main", with("subject", json!("")), "InvalidParameter properties.subject");
    check(&estate, "main", with("subject", json!("a\nb")), "InvalidParameter properties.subject");
    check(&estate, "main", with("subject", json!("s".repeat(601))), "InvalidParameter properties.subject");
    for audiences in [json!([]), json!(["a", "b"]), json!("a"), json!([1]), json!([""]), Value::Null] {
        check(&estate, "main", with("audiences", audiences), "InvalidParameter properties.audiences");
    }
    let expression = json!({"value": "claims['sub'] matches '*'", "languageVersion": 1});
    check(
        &estate,
        "main",
        with("claimsMatchingExpression", expression),
        "InvalidParameter properties.claimsMatchingExpression",
    );
    check(&estate, "main", with("description", json!(1)), "InvalidRequestContent properties.description");

    let put = |estate: &mut Estate, name: &str, properties: Value| {
        let id = credential(name);
        let moment = postern_model::Timestamp::from_unix_seconds(0);
        let content = crate::Packed::new(&id, object(&json!({"properties": properties})));
        let uid = postern_model::ResourceUid(uuid(1));
        let (etag, generation) = (String::new(), 1);
        estate.insert(std::sync::Arc::new(crate::Resource {
            id,
            uid,
            generation,
            etag,
            created: moment,
            updated: moment,
            content,
        }));
    };
    put(&mut estate, "first", good("taken"));
    check(&estate, "second", good("taken"), "Conflict");
    check(&estate, "FIRST", good("taken"), "ok");
    for number in 1..20 {
        put(&mut estate, &format!("number{number}"), good(&number.to_string()));
    }
    check(&estate, "another", good("new"), "LimitExceeded");
    check(&estate, "number1", good("new"), "ok");
}

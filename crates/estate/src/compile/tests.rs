use std::net::Ipv4Addr;

use postern_access::Action;
use serde_json::json;

use super::*;
use crate::estate::tests::{REGISTRY, SUBSCRIPTION, assignment, estate, id, oid, uuid};

const PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
const REPOSITORY_READER: &str = "b93aa761-3e63-49ed-ac28-beffa264f7ac";

fn compiled(documents: Value) -> Compiled {
    estate(documents).rules(&id(REGISTRY), &Arc::default()).unwrap()
}

fn with_properties(sku: &str, properties: Value) -> Compiled {
    compiled(json!([{"id": REGISTRY, "sku": {"name": sku}, "properties": properties}]))
}

/// The network rules in short: which of public, default allow, `198.51.100.7`, trusted services let in, and how many problems.
#[track_caller]
fn check(sku: &str, properties: Value, expected: [bool; 4], problems: usize) {
    let shown = properties.to_string();
    let Compiled { rules, problems: found } = with_properties(sku, properties);
    let network = &rules.network;
    let address = network.addresses.find(Ipv4Addr::new(198, 51, 100, 7)).is_some();
    assert_eq!([network.public_access, network.default_allow, address, network.azure_services], expected, "{shown}");
    assert_eq!(found.len(), problems, "{shown}: {found:?}");
}

#[test]
fn network_rules() {
    check("Premium", json!({}), [true, true, false, true], 0);
    check("Basic", json!({}), [true, true, false, true], 0);
    check("Premium", json!({"publicNetworkAccess": "Disabled"}), [false, true, false, true], 0);
    check("Premium", json!({"networkRuleBypassOptions": "None"}), [true, true, false, false], 0);
    let deny = |rules: Value| json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}});
    check("Premium", deny(json!([{"action": "Allow", "value": "198.51.100.0/24"}])), [true, false, true, true], 0);
}

#[test]
fn what_cannot_be_read_closes() {
    let deny = |rules: Value| json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}});
    check("Premium", json!({"publicNetworkAccess": "Perhaps"}), [false, true, false, true], 1);
    check("Premium", json!({"publicNetworkAccess": true}), [false, true, false, true], 1);
    check("Premium", json!({"networkRuleSet": {"defaultAction": 1}}), [true, false, false, true], 1);
    check("Premium", json!({"networkRuleSet": "Allow"}), [true, false, false, true], 1);
    check("Premium", json!({"networkRuleBypassOptions": "All"}), [true, true, false, false], 1);
    check("Premium", deny(json!([{"action": "Deny", "value": "198.51.100.7"}])), [true, false, false, true], 1);
    check("Premium", deny(json!([{"value": "nonsense"}, {"value": "198.51.100.7"}])), [true, false, true, true], 1);
    check("Premium", deny(json!("198.51.100.7")), [true, false, false, true], 1);
    check("Premium", json!({"networkRuleSet": {"virtualNetworkRules": [{}]}}), [true, true, false, false], 1);
    check("Basic", deny(json!([{"value": "198.51.100.7"}])), [true, false, false, false], 1);
    check("Gold", json!({"publicNetworkAccess": "Disabled"}), [false, false, false, false], 2);
    check("Premium", json!([]), [false, false, false, false], 1);
    let rules = with_properties(
        "Premium",
        json!({"roleAssignmentMode": "?", "anonymousPullEnabled": "yes", "adminUserEnabled": 1}),
    )
    .rules;
    assert!(!rules.anonymous_pull && !rules.admin_enabled);
    assert_eq!(rules.mode, RoleAssignmentMode::Abac);
}

#[test]
fn a_registry() {
    let rules = with_properties("Basic", json!({"anonymousPullEnabled": true, "adminUserEnabled": true})).rules;
    assert_eq!(&*rules.login_server, "reg01.azurecr.io.localhost");
    assert!(!rules.anonymous_pull, "not in this tier");
    assert!(rules.admin_enabled && rules.arm_tokens_accepted && !rules.scanner_enabled);
    assert_eq!(rules.network.tasks, None);
    assert!(matches!(estate(json!([])).rules(&id(REGISTRY), &Arc::default()), Err(EstateError::RegistryNotFound(_))));
}

fn rights(documents: Value, principal: u128) -> (String, usize) {
    let Compiled { rules, problems } = compiled(documents);
    let of = rules.grants.of(std::iter::once(PrincipalId(uuid(principal))));
    (of.fold(Actions::NONE, |all, grant| all.union(grant.actions)).to_string(), problems.len())
}

#[test]
fn assignments_reach_down() {
    let registry =
        |mode: &str| json!({"id": REGISTRY, "sku": {"name": "Premium"}, "properties": {"roleAssignmentMode": mode}});
    let legacy = || registry("LegacyRegistryPermissions");
    for scope in ["/", SUBSCRIPTION, "/subscriptions/S/resourcegroups/G", REGISTRY] {
        assert_eq!(rights(json!([legacy(), assignment(scope, 1, 5, PULL)]), 5).0, "pull,metadata_read,*", "{scope}");
    }
    for scope in ["/subscriptions/t", "/subscriptions/s/resourceGroups/g2", &format!("{REGISTRY}/tasks/t")] {
        assert_eq!(rights(json!([legacy(), assignment(scope, 1, 5, PULL)]), 5).0, "", "{scope}");
    }
    assert_eq!(rights(json!([legacy(), assignment(REGISTRY, 1, 5, REPOSITORY_READER)]), 5).0, "");
    let abac = registry("AbacRepositoryPermissions");
    assert_eq!(rights(json!([abac, assignment(REGISTRY, 1, 5, REPOSITORY_READER)]), 5).0, "pull,metadata_read");
    assert_eq!(rights(json!([registry("?"), assignment(REGISTRY, 1, 5, PULL)]), 5), (String::new(), 1));
}

#[test]
fn assignments_that_cannot_be_read_give_nothing() {
    let with = |key: &str, value: Value| {
        let mut assignment = assignment(REGISTRY, 1, 5, PULL);
        assignment["properties"][key] = value;
        rights(json!([{"id": REGISTRY, "sku": {"name": "Premium"}}, assignment]), 5)
    };
    assert_eq!(with("description", json!("x")), ("pull,metadata_read,*".into(), 0));
    assert_eq!(with("scope", json!(REGISTRY.to_uppercase())).1, 0);
    for (key, value) in [
        ("scope", json!(SUBSCRIPTION)),
        ("principalId", json!("me")),
        ("roleDefinitionId", json!("AcrPull")),
        ("roleDefinitionId", json!(oid(77))),
        ("condition", json!("@Request[")),
        ("condition", json!(7)),
    ] {
        assert_eq!(with(key, value.clone()), (String::new(), 1), "{key}: {value}");
    }
}

#[test]
fn custom_roles_and_deny_assignments() {
    let custom = |n: u128, scope: &str| {
        json!({
            "id": format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{}", uuid(n)),
            "properties": {"roleName": "puller", "permissions": [{"actions": ["Microsoft.ContainerRegistry/registries/*/read"]}]},
        })
    };
    let registry = json!({"id": REGISTRY, "sku": {"name": "Premium"}});
    let role = uuid(50).to_string();
    let one = json!([registry, custom(50, SUBSCRIPTION), assignment(REGISTRY, 1, 5, &role)]);
    assert!(rights(one, 5).0.starts_with("pull,"));
    let two =
        json!([registry, custom(50, SUBSCRIPTION), custom(50, "/subscriptions/t"), assignment(REGISTRY, 1, 5, &role)]);
    assert_eq!(rights(two, 5), (String::new(), 1), "two definitions of one role: neither counts");
    let deny = |principal: u128| {
        json!({
            "id": format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/denyAssignments/{}", uuid(9)),
            "properties": {"principals": [{"id": oid(principal)}], "permissions": [{"actions": ["*/pull/read"]}]},
        })
    };
    let group =
        json!({"id": format!("/providers/Microsoft.Graph/groups/{}", uuid(5)), "properties": {"members": [oid(6)]}});
    let denied = |principal| rights(json!([registry, group, assignment(REGISTRY, 1, 5, PULL), deny(principal)]), 5);
    assert_eq!(denied(5).0, "");
    assert_eq!(denied(6).0, "", "a member's denial takes it from the group: too much rather than too little");
    assert_eq!(denied(0).0, "", "everybody");
    assert_eq!(denied(7).0, "pull,metadata_read,*");
}

#[test]
fn connections_tokens_and_the_scanner() {
    let endpoint = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe";
    let connection = |name: &str, status: &str| {
        json!({
            "id": format!("{REGISTRY}/privateEndpointConnections/{name}"),
            "properties": {"privateEndpoint": {"id": endpoint}, "privateLinkServiceConnectionState": {"status": status}},
        })
    };
    let token = |name: &str, map: &str, status: &str| {
        json!({
            "id": format!("{REGISTRY}/tokens/{name}"),
            "properties": {"scopeMapId": format!("{REGISTRY}/scopeMaps/{map}"), "status": status},
        })
    };
    let Compiled { rules, problems } = compiled(json!([
        {"id": REGISTRY, "sku": {"name": "Premium"}},
        connection("c1", "Approved"), connection("c2", "Pending"), connection("c3", "?"),
        {"id": format!("{REGISTRY}/scopeMaps/mine"), "properties": {"actions": ["repositories/app/content/read"]}},
        {"id": format!("{REGISTRY}/scopeMaps/odd"), "properties": {"actions": ["repositories/a*/content/read"]}},
        token("Tok-1", "mine", "enabled"), token("tok-2", "_repositories_push", "disabled"),
        token("tok-3", "gone", "enabled"), token("tok-4", "odd", "?"),
        {"id": "/subscriptions/S/providers/Microsoft.Security/pricings/containers", "properties": {"pricingTier": "Standard"}},
    ]));
    let statuses: Vec<_> = rules.network.private_endpoints.iter().map(|connection| connection.status).collect();
    assert_eq!(statuses, [ConnectionStatus::Approved, ConnectionStatus::Pending, ConnectionStatus::Rejected]);
    let app = "app".parse().unwrap();
    let shown =
        |name: &str| rules.tokens.get(name).map(|token| (token.enabled, token.actions.allows(&app).to_string()));
    assert_eq!(shown("tok-1"), Some((true, "pull".into())));
    assert_eq!(shown("tok-2"), Some((false, "pull,push".into())));
    assert_eq!(shown("tok-3"), Some((true, String::new())));
    assert_eq!(shown("tok-4"), Some((false, String::new())));
    assert!(rules.scanner_enabled);
    assert_eq!(problems.len(), 3);
    assert!(Action::ALL.len() > 1);
}

#[test]
fn runs_log_in_by_themselves_where_repositories_have_no_permissions() {
    let rights = |mode: &str| {
        let Compiled { rules, .. } = with_properties("Premium", json!({"roleAssignmentMode": mode}));
        let of = rules.grants.of(std::iter::once(TASKS_SERVICE));
        of.fold(Actions::NONE, |all, grant| all.union(grant.actions)).to_string()
    };
    let all = "pull,push,delete,metadata_read,metadata_write,metadata_delete,*";
    assert_eq!(rights("LegacyRegistryPermissions"), all);
    assert_eq!(rights("AbacRepositoryPermissions"), "");
    assert_eq!(rights("?"), "");
}

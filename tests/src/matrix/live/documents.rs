//! A row's configuration as resource documents.

use std::collections::BTreeMap;

use postern_model::PrincipalId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::workloads::USER_IDENTITY;
use crate::matrix::scene::{TOKEN_NAME, role, subnet};
use crate::matrix::{Assignment, GROUP, PRIVATE_ENDPOINT, REGISTRY, Row, principal};

/// A registry of the same server that no row is about.
pub(super) const OTHER_REGISTRY: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.ContainerRegistry/registries/other";
/// The application id of the service principal.
pub(super) const CLIENT_ID: Uuid = Uuid::from_u128(0x33);
/// Where blobs are mounted to; the caller may push there.
pub(super) const MOUNT_TARGETS: &str = "mount";
/// A role that gives what a push needs beside reading.
const PUSHER: Uuid = Uuid::from_u128(0x7057);
pub(super) const PRICING: &str = "/subscriptions/5ub/providers/Microsoft.Security/pricings/Containers";

/// Documents by resource id.
pub(super) type Documents = BTreeMap<String, Value>;

/// What every row needs.
pub(super) fn common(sample: &Row, members: &[PrincipalId]) -> Documents {
    let (service_principal, _) = principal("principal").expect("a service principal");
    let (user, _) = principal("user").expect("a user-assigned identity");
    let members: Vec<String> = members.iter().chain([&service_principal, &user]).map(ToString::to_string).collect();
    Documents::from([
        (
            format!("/providers/Microsoft.Graph/servicePrincipals/{service_principal}"),
            json!({"properties": {"appId": CLIENT_ID.to_string(), "displayName": "principal"}}),
        ),
        (
            format!("/providers/Microsoft.Graph/groups/{GROUP}"),
            json!({"properties": {"displayName": "group", "members": members}}),
        ),
        (
            USER_IDENTITY.to_owned(),
            json!({"location": "local", "properties": {"principalId": user.to_string(), "clientId": Uuid::from_u128(0x22).to_string()}}),
        ),
        (
            format!("/subscriptions/5ub/providers/Microsoft.Authorization/roleDefinitions/{PUSHER}"),
            json!({"properties": {"roleName": "Pusher", "type": "CustomRole", "permissions": [{
                "actions": ["Microsoft.ContainerRegistry/registries/push/write"],
                "dataActions": ["Microsoft.ContainerRegistry/registries/repositories/content/write"],
            }]}}),
        ),
        (OTHER_REGISTRY.to_owned(), registry(&opened(sample))),
    ])
}

/// The documents of one row; `caller` is who its role assignments are for.
pub(super) fn of(row: &Row, caller: Option<PrincipalId>) -> Documents {
    let mut documents = Documents::from([(REGISTRY.to_owned(), registry(row))]);
    if let Some(status) = &row.registry.private_endpoint {
        let connection = json!({"properties": {
            "privateEndpoint": {"id": PRIVATE_ENDPOINT},
            "privateLinkServiceConnectionState": {"status": status},
        }});
        documents.insert(format!("{REGISTRY}/privateEndpointConnections/example-connection"), connection);
    }
    if row.registry.scanner_plan {
        documents.insert(PRICING.to_owned(), json!({"properties": {"pricingTier": "Standard"}}));
    }
    let token = &row.caller.token;
    if token.status != "absent" {
        let map = format!("{REGISTRY}/scopeMaps/{TOKEN_NAME}");
        let rights = ["read", "write"].map(|right| format!("repositories/{MOUNT_TARGETS}/*/content/{right}"));
        let actions: Vec<&String> =
            token.scope_map.iter().chain(mounts(row).then_some(&rights).into_iter().flatten()).collect();
        documents.insert(map.clone(), json!({"properties": {"actions": actions}}));
        let token = json!({"properties": {"scopeMapId": map, "status": token.status}});
        documents.insert(format!("{REGISTRY}/tokens/{TOKEN_NAME}"), token);
    }
    for (at, assignment) in row.caller.assignments().enumerate() {
        let Some(caller) = caller else { continue };
        let (id, document) = assigned(at, &assignment, caller);
        documents.insert(id, document);
    }
    if let (true, Some(caller)) = (mounts(row), caller) {
        let (id, document) = assignment_document(99, PUSHER, caller, None);
        documents.insert(id, document);
    }
    documents
}

/// A mount is a push to its target, so that its caller needs that right too.
fn mounts(row: &Row) -> bool {
    row.operation.kind == "mountBlob"
}

fn assigned(at: usize, assignment: &Assignment, caller: PrincipalId) -> (String, Value) {
    let principal = if assignment.by_group { GROUP } else { caller };
    assignment_document(at, role(&assignment.role).id, principal, assignment.condition.as_deref())
}

fn assignment_document(at: usize, role: Uuid, principal: PrincipalId, condition: Option<&str>) -> (String, Value) {
    let name = Uuid::from_u128(0xa000 + at as u128);
    let mut properties = json!({
        "principalId": principal.to_string(),
        "roleDefinitionId": format!("/subscriptions/5ub/providers/Microsoft.Authorization/roleDefinitions/{role}"),
        "scope": REGISTRY,
    });
    if let (Some(condition), Some(properties)) = (condition, properties.as_object_mut()) {
        properties.insert("condition".to_owned(), json!(condition));
        properties.insert("conditionVersion".to_owned(), json!("2.0"));
    }
    let id = format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/{name}");
    (id, json!({"properties": properties}))
}

fn registry(row: &Row) -> Value {
    let registry = &row.registry;
    let addresses: Vec<Value> =
        registry.ip_rules.iter().map(|rule| json!({"action": "Allow", "value": rule})).collect();
    let subnets = registry.subnets.iter().map(|place| json!({"action": "Allow", "id": subnet(*place).as_str()}));
    let mut properties = json!({
        "adminUserEnabled": registry.admin,
        "anonymousPullEnabled": registry.anonymous_pull,
        "publicNetworkAccess": registry.public_access,
        "networkRuleBypassOptions": registry.bypass,
        "networkRuleSet": {
            "defaultAction": registry.default_action,
            "ipRules": addresses,
            "virtualNetworkRules": subnets.collect::<Vec<_>>(),
        },
        "roleAssignmentMode": registry.role_mode,
    });
    if let Some(properties) = properties.as_object_mut() {
        if registry.tasks_policy != "unset" {
            properties.insert("networkRuleBypassAllowedForTasks".to_owned(), json!(registry.tasks_policy == "true"));
        }
        if registry.quarantine {
            properties.insert("policies".to_owned(), json!({"quarantinePolicy": {"status": "enabled"}}));
        }
        if row.caller.invalid.as_deref() == Some("ArmAudienceRefused") {
            let refused = json!({"azureADAuthenticationAsArmPolicy": {"status": "disabled"}});
            merge(properties.entry("policies").or_insert_with(|| json!({})), refused);
        }
    }
    json!({"location": "local", "sku": {"name": "Premium"}, "properties": properties})
}

fn merge(policies: &mut Value, more: Value) {
    if let (Some(policies), Value::Object(more)) = (policies.as_object_mut(), more) {
        policies.extend(more);
    }
}

/// The row's registry before its owner closed it, with everything given to the caller that a token could claim.
pub(super) fn opened(row: &Row) -> Row {
    let mut open = row.clone();
    "Enabled".clone_into(&mut open.registry.public_access);
    "Allow".clone_into(&mut open.registry.default_action);
    open.registry.subnets.clear();
    open.registry.admin = true;
    open.registry.anonymous_pull = true;
    open.registry.scanner_plan = true;
    let roles: &[&str] = if open.registry.role_mode.starts_with("Abac") {
        &["Container Registry Repository Contributor", "Container Registry Repository Catalog Lister"]
    } else {
        &["Owner"]
    };
    open.caller.role = None;
    open.caller.invalid = None;
    let assignment = |role: &&str| Assignment { role: (*role).to_owned(), condition: None, by_group: false };
    open.caller.also = roles.iter().map(assignment).collect();
    "enabled".clone_into(&mut open.caller.token.status);
    let rights = ["content/read", "content/write", "content/delete", "metadata/read", "metadata/write"];
    open.caller.token.scope_map = rights.map(|right| format!("repositories/*/{right}")).to_vec();
    open
}

//! What particular resource types need beyond being kept.

mod authorization;
mod connections;
mod directory_objects;
mod groups;
mod networks;
mod registries;
mod task_runs;
mod tasks;
mod tokens;
mod webhooks;

use postern_access::{AGENT_POOLS, SYSTEM_SCOPE_MAPS, TASKS};
use postern_estate::{ApiVersion, Document, Estate, Resource, types};
use postern_model::ResourceId;
use postern_store::Change;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::ArmError;
use crate::lists;
use crate::resources::Draft;

const PRIVATE_LINK_RESOURCES: &str = "Microsoft.ContainerRegistry/registries/privateLinkResources";

/// A resource type's own rules. Called while nothing else changes.
pub(crate) trait Provider: Sync {
    /// Completes and checks a document before it is stored.
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let _ = draft;
        Ok(())
    }

    /// The document as an answer shows it.
    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        estate.project(resource, version)
    }

    /// What must change when the resource goes, or why it may not go. `removed` is everything that goes.
    fn removed(&self, estate: &Estate, resource: &Resource, removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        let _ = (estate, resource, removed);
        Ok(Vec::new())
    }
}

/// Every type without rules of its own.
struct Kept;

impl Provider for Kept {}

const PROVIDERS: [(&str, &dyn Provider); 26] = [
    (types::REGISTRIES, &registries::Registries),
    (types::PRIVATE_ENDPOINT_CONNECTIONS, &connections::Connections),
    (types::PRIVATE_ENDPOINTS, &connections::PrivateEndpoints),
    (types::SCOPE_MAPS, &tokens::ScopeMaps),
    (types::TOKENS, &tokens::Tokens),
    (types::ROLE_ASSIGNMENTS, &authorization::RoleAssignments),
    (types::ROLE_DEFINITIONS, &authorization::RoleDefinitions),
    (types::DENY_ASSIGNMENTS, &authorization::DenyAssignments),
    (types::USER_ASSIGNED_IDENTITIES, &directory_objects::UserAssignedIdentities),
    (types::IDENTITY_FEDERATED_CREDENTIALS, &directory_objects::FederatedCredentials),
    (types::APPLICATION_FEDERATED_CREDENTIALS, &directory_objects::FederatedCredentials),
    (types::APPLICATIONS, &directory_objects::Applications),
    (types::SERVICE_PRINCIPALS, &directory_objects::ServicePrincipals),
    (types::GROUPS, &directory_objects::People),
    (types::USERS, &directory_objects::People),
    (types::RESOURCE_GROUPS, &groups::ResourceGroups),
    (types::SUBSCRIPTIONS, &groups::Subscriptions),
    (types::WEBHOOKS, &webhooks::Webhooks),
    (TASKS, &tasks::Tasks),
    (AGENT_POOLS, &tasks::AgentPools),
    (crate::runs::TASK_RUNS, &task_runs::TaskRuns),
    (types::VIRTUAL_NETWORKS, &networks::Listing("subnets")),
    (types::SUBNETS, &networks::Subnets),
    ("Microsoft.Network/privateDnsZones/A", &networks::AddressRecords),
    (types::NETWORK_SECURITY_GROUPS, &networks::Listing("securityRules")),
    (types::ROUTE_TABLES, &networks::Listing("routes")),
];

pub(crate) fn of(resource_type: &str) -> &'static dyn Provider {
    let known = PROVIDERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(resource_type));
    known.map_or(&Kept, |(_, provider)| *provider)
}

/// Resources that are there without a document: system scope maps, what a private endpoint of a registry can lead to, built-in
/// roles, and the name by which the CLI means a container group's own identity.
pub(crate) fn made_up(call: &Call, id: &ResourceId) -> Option<Document> {
    if id.is_type(types::SCOPE_MAPS) {
        let registry = id.parent().filter(|registry| call.state.directory.resource(registry).is_some())?;
        return system_scope_maps(&registry).find(|map| map.get("name").and_then(Value::as_str) == Some(id.name()));
    }
    if id.is_type(types::ROLE_DEFINITIONS) {
        return authorization::built_in_role(id);
    }
    if id.is_type(PRIVATE_LINK_RESOURCES) && id.name().eq_ignore_ascii_case("registry") {
        let registry = call.state.directory.resource(&id.parent()?)?;
        return lists::private_link_resource(&registry).as_object().cloned();
    }
    let is_own_identity = id.is_type(types::USER_ASSIGNED_IDENTITIES) && id.name() == "[system]";
    is_own_identity.then(|| {
        let document =
            json!({"id": id.as_str(), "name": id.name(), "type": types::USER_ASSIGNED_IDENTITIES, "properties": {}});
        document.as_object().cloned().unwrap_or_default()
    })
}

/// The scope maps that every registry has.
pub(crate) fn system_scope_maps(registry: &ResourceId) -> impl Iterator<Item = Document> {
    let registry = registry.clone();
    SYSTEM_SCOPE_MAPS.into_iter().filter_map(move |(name, actions)| {
        let document = json!({
            "id": registry.child("scopeMaps", name).as_str(),
            "name": name,
            "type": types::SCOPE_MAPS,
            "properties": {"type": "SystemDefined", "actions": actions, "provisioningState": "Succeeded"},
        });
        document.as_object().cloned()
    })
}

pub(crate) use authorization::built_in_roles_at;
pub(crate) use tasks::details as task_details;
pub(crate) use webhooks::callback;

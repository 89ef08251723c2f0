//! What the API says of itself.

use http::StatusCode;
use postern_estate::{ApiVersion, types};
use postern_model::ResourceId;
use serde_json::{Value, json};

use crate::ArmState;
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::reply::Reply;

/// From this version on the answer is one cloud, before it is a list.
///
/// Source: Azure CLI 2.91, cloud discovery, observed (read 2026-11).
const ONE_CLOUD: ApiVersion = ApiVersion::stable(2022, 9, 1);

const LOCATIONS: [(&str, &str); 6] = [
    ("eastus", "East US"),
    ("westus2", "West US 2"),
    ("westeurope", "West Europe"),
    ("northeurope", "North Europe"),
    ("germanywestcentral", "Germany West Central"),
    ("southeastasia", "Southeast Asia"),
];

/// Namespaces with their types; the newest version of each is what generic clients pick.
const NAMESPACES: [(&str, &str, &[&str]); 10] = [
    (
        "Microsoft.ContainerRegistry",
        "2025-11-01",
        &[
            "registries",
            "registries/tokens",
            "registries/scopeMaps",
            "registries/privateEndpointConnections",
            "registries/tasks",
            "registries/taskRuns",
            "registries/agentPools",
            "registries/webhooks",
            "registries/replications",
            "registries/cacheRules",
            "registries/credentialSets",
            "operations",
        ],
    ),
    ("Microsoft.Authorization", "2022-04-01", &["roleAssignments", "roleDefinitions", "denyAssignments"]),
    (
        "Microsoft.ManagedIdentity",
        "2024-11-30",
        &["userAssignedIdentities", "userAssignedIdentities/federatedIdentityCredentials"],
    ),
    (
        "Microsoft.Network",
        "2024-07-01",
        &[
            "virtualNetworks",
            "virtualNetworks/subnets",
            "networkSecurityGroups",
            "routeTables",
            "privateEndpoints",
            "privateDnsZones",
            "locations/serviceTags",
        ],
    ),
    ("Microsoft.ContainerInstance", "2023-05-01", &["containerGroups"]),
    ("Microsoft.MachineLearningServices", "2024-10-01", &["workspaces"]),
    ("Microsoft.Web", "2024-04-01", &["sites"]),
    ("Microsoft.Security", "2023-01-01", &["pricings"]),
    ("Microsoft.Graph", "2025-11-01", &["applications", "servicePrincipals", "users", "groups"]),
    ("Microsoft.Resources", "2024-11-01", &["subscriptions", "resourceGroups"]),
];

/// `GET /metadata/endpoints`, for anybody.
pub(crate) fn endpoints(state: &ArmState, base: &str, version: ApiVersion) -> Reply {
    let cloud = json!({
        "name": "Postern",
        "portal": base,
        "resourceManager": base,
        "authentication": {
            "loginEndpoint": base,
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "graph": format!("{base}/"),
        "graphAudience": format!("{base}/"),
        "microsoftGraphResourceId": format!("{base}/"),
        "suffixes": {
            "acrLoginServer": state.directory.suffix(),
            "storage": "core.localhost",
            "keyVaultDns": "vault.localhost",
        },
    });
    if version >= ONE_CLOUD { Reply::ok(cloud) } else { Reply::ok(json!([cloud])) }
}

pub(crate) fn tenants(call: &Call) -> Reply {
    let tenant = call.state.identity.tenant().to_string();
    Reply::list(vec![json!({
        "id": format!("/tenants/{tenant}"),
        "tenantId": tenant,
        "displayName": "Postern",
        "defaultDomain": "postern.localhost",
        "domains": ["postern.localhost"],
        "tenantCategory": "Home",
    })])
}

pub(crate) fn locations(subscription: &ResourceId) -> Reply {
    let shown = LOCATIONS.map(|(name, display)| {
        json!({
            "id": format!("{subscription}/locations/{name}"),
            "name": name,
            "displayName": display,
            "regionalDisplayName": display,
            "type": "Region",
            "metadata": {"regionType": "Physical"},
        })
    });
    Reply::list(shown.into())
}

pub(crate) fn namespaces(subscription: &ResourceId) -> Reply {
    Reply::list(NAMESPACES.iter().map(|row| shown(subscription, row)).collect())
}

/// `GET /subscriptions/{s}/providers/{namespace}`, and `POST …/register`, which changes nothing.
pub(crate) fn namespace(call: &Call, subscription: &ResourceId, namespace: &str) -> Result<Reply, ArmError> {
    call.authorize("Microsoft.Resources/subscriptions/providers/read", subscription)?;
    let row = NAMESPACES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(namespace));
    let row = row.ok_or_else(|| {
        let shown: String = namespace.chars().take(100).collect();
        ArmError::new(Condition::NoSuchOperation, format!("The resource namespace '{shown}' is invalid."))
    })?;
    Ok(Reply::ok(shown(subscription, row)))
}

fn shown(subscription: &ResourceId, (name, version, kinds): &(&str, &str, &[&str])) -> Value {
    let locations: Vec<&str> = LOCATIONS.iter().map(|(_, display)| *display).collect();
    let kinds: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            json!({"resourceType": kind, "locations": locations, "apiVersions": [version], "defaultApiVersion": version, "capabilities": "None"})
        })
        .collect();
    json!({
        "id": format!("{subscription}/providers/{name}"),
        "namespace": name,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationRequired",
        "resourceTypes": kinds,
    })
}

/// `GET /providers/{namespace}/operations`.
pub(crate) fn operations(namespace: &str) -> Reply {
    if !namespace.eq_ignore_ascii_case("Microsoft.ContainerRegistry") {
        return Reply::list(Vec::new());
    }
    let verbs = ["read", "write", "delete"].map(|verb| {
        json!({"name": format!("{}/{verb}", types::REGISTRIES), "isDataAction": false,
            "display": {"provider": "Microsoft Azure Container Registry", "resource": "Container Registry", "operation": verb}})
    });
    Reply::new(StatusCode::OK, json!({"value": verbs}))
}

//! What the first start makes: a tenant, a subscription, an administrator, a resource group and a registry.

use std::path::Path;

use anyhow::{Context as _, bail};
use postern_estate::{Document, SERVER_ONLY, types};
use postern_identity::{Identity, SecretOwner};
use postern_model::{PrincipalId, Random, ResourceId, Secret, Timestamp};
use postern_store::{Change, Directory, Expected, Store, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bootstrap::{Bootstrap, FILE};
use crate::config::Config;

const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const SLOT: &str = "bootstrap";
const GROUP: &str = "postern";

/// What everything else stands on.
pub(crate) struct Ground {
    pub(crate) tenant: Uuid,
    pub(crate) subscription: String,
    pub(crate) administrator: Uuid,
    pub(crate) administrator_client: Uuid,
}

/// Finds the ground, or lays it.
pub(crate) async fn ground(directory: &Directory, config: &Config, random: &dyn Random) -> anyhow::Result<Ground> {
    if let Some(ground) = find(directory)? {
        return Ok(ground);
    }
    let ground = Ground {
        tenant: random.uuid(),
        subscription: config.server.subscription_id.unwrap_or_else(|| random.uuid()).to_string(),
        administrator: random.uuid(),
        administrator_client: random.uuid(),
    };
    let changes = first_resources(&ground, config, random.uuid())?;
    directory.change(move |_| Ok::<_, StoreError>(changes)).await?;
    Ok(ground)
}

fn find(directory: &Directory) -> anyhow::Result<Option<Ground>> {
    let root = ResourceId::root();
    let Some(subscription) =
        directory.list(&root, types::SUBSCRIPTIONS).into_iter().find(|found| found.value(&[SERVER_ONLY]).is_some())
    else {
        if directory.generation() > 0 {
            bail!("the data folder has resources but no subscription of its own");
        }
        return Ok(None);
    };
    let text = |name: &str| -> anyhow::Result<Uuid> {
        let value = subscription.value(&[SERVER_ONLY, name]);
        let text = value.as_ref().and_then(Value::as_str);
        text.and_then(|text| text.parse().ok()).with_context(|| format!("the subscription does not name its {name}"))
    };
    Ok(Some(Ground {
        tenant: text("tenantId")?,
        subscription: subscription.id.name().to_owned(),
        administrator: text("administratorObjectId")?,
        administrator_client: text("administratorClientId")?,
    }))
}

fn first_resources(ground: &Ground, config: &Config, assignment: Uuid) -> anyhow::Result<Vec<Change>> {
    let Ground { tenant, subscription, administrator, administrator_client } = ground;
    let location = &config.server.location;
    let scope = format!("/subscriptions/{subscription}");
    let mut resources = vec![
        json!({
            "id": scope,
            "subscriptionId": subscription,
            "displayName": "Postern",
            "state": "Enabled",
            "tenantId": tenant,
            // What only this server needs to find again.
            SERVER_ONLY: {
                "tenantId": tenant,
                "administratorObjectId": administrator,
                "administratorClientId": administrator_client,
            },
        }),
        json!({
            "id": format!("/providers/Microsoft.Graph/servicePrincipals/{administrator}"),
            "name": administrator,
            "type": types::SERVICE_PRINCIPALS,
            "properties": {"appId": administrator_client, "displayName": "postern-administrator"},
        }),
        json!({
            "id": format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{assignment}"),
            "name": assignment,
            "type": types::ROLE_ASSIGNMENTS,
            "properties": {
                "roleDefinitionId": format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{OWNER}"),
                "principalId": administrator,
                "principalType": "ServicePrincipal",
                "scope": scope,
                "createdBy": administrator,
                "updatedBy": administrator,
            },
        }),
    ];
    let registry = &config.server.first_registry;
    if !registry.is_empty() {
        let group = format!("{scope}/resourceGroups/{GROUP}");
        resources.push(json!({
            "id": group, "name": GROUP, "type": types::RESOURCE_GROUPS, "location": location,
        }));
        resources.push(json!({
            "id": format!("{group}/providers/Microsoft.ContainerRegistry/registries/{registry}"),
            "name": registry,
            "type": types::REGISTRIES,
            "location": location,
            "sku": {"name": "Premium"},
            "properties": {},
        }));
    }
    resources
        .into_iter()
        .map(|resource| {
            let Value::Object(document) = resource else { bail!("a resource is an object") };
            let id: ResourceId = document.get("id").and_then(Value::as_str).unwrap_or_default().parse()?;
            let document: Document = document;
            Ok(Change::Put { id, document, expected: Expected::Absent })
        })
        .collect()
}

/// The administrator's secret: the one in the bootstrap file while it is good, else a new one. Deleting the file and starting
/// again is how a lost secret is replaced.
pub(crate) async fn administrator(
    store: &Store,
    identity: &Identity,
    ground: &Ground,
    folder: &Path,
    now: Timestamp,
) -> anyhow::Result<Secret> {
    let owner = SecretOwner::Principal(PrincipalId(ground.administrator)).to_string();
    let credentials = store.credentials();
    if let Ok(known) = Bootstrap::read(&folder.join(FILE))
        && credentials.verify(&owner, &known.client_secret, now).is_some()
    {
        return Ok(known.client_secret);
    }
    let secret = identity.new_secret();
    credentials.put(&owner, SLOT, &secret, postern_store::Keep::Hashed, None).await?;
    Ok(secret)
}

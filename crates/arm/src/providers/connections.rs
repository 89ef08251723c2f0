//! Private endpoints and their connections to registries.

use postern_estate::{
    ApiVersion, Document, Estate, Refusal, RefusalCode, RegistryView, Resource, Sku, types, validate,
};
use postern_model::ResourceId;
use postern_store::{Change, Expected};
use serde_json::{Value, json};

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::{Draft, not_found};

const APPROVE: &str = "Microsoft.ContainerRegistry/registries/privateEndpointConnectionsApproval/action";
/// The lists of a private endpoint's links: those that wait for approval in any case come second.
const LINKS: [&str; 2] = ["privateLinkServiceConnections", "manualPrivateLinkServiceConnections"];

/// `…/registries/{r}/privateEndpointConnections`.
pub(super) struct Connections;

impl Provider for Connections {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let existing = draft.existing.and_then(|resource| resource.properties());
        let properties = draft.properties()?;
        // An approval says nothing of the endpoint, and cannot change it.
        if let Some(endpoint) = existing.as_ref().and_then(|known| known.get("privateEndpoint")) {
            properties.insert("privateEndpoint".into(), endpoint.clone());
        }
        properties.remove("provisioningState");
        validate::private_endpoint_connection(&draft.document)?;
        let registry = draft.id.parent().unwrap_or_else(ResourceId::root);
        let approved = |state: Option<&Value>| {
            let status = state.and_then(|state| state.get("status")).and_then(Value::as_str);
            status.is_some_and(|status| status.eq_ignore_ascii_case("Approved"))
        };
        let was_approved = approved(existing.as_ref().and_then(|known| known.get("privateLinkServiceConnectionState")));
        let state =
            draft.document.get("properties").and_then(|properties| properties.get("privateLinkServiceConnectionState"));
        if approved(state) && !was_approved {
            draft.authorize(APPROVE, &registry)?;
        }
        if draft.existing.is_none() {
            may_connect(draft.estate, &registry)?;
            // One endpoint has one connection: an imported one takes the place of that made with the endpoint.
            let endpoint = draft.text(&["privateEndpoint", "id"]).and_then(|id| id.parse::<ResourceId>().ok());
            let twins = endpoint.iter().flat_map(|endpoint| draft.estate.connections_of(endpoint));
            let twins = twins.filter(|twin| twin.id.parent().as_ref() == Some(&registry) && twin.id != draft.id);
            let removals: Vec<Change> =
                twins.map(|twin| Change::Remove { id: twin.id.clone(), expected: Expected::Any }).collect();
            draft.also.extend(removals);
            draft.also.extend(switch_data_endpoint_on(draft.estate, &registry));
        }
        Ok(())
    }
}

/// `Microsoft.Network/privateEndpoints`.
pub(super) struct PrivateEndpoints;

impl Provider for PrivateEndpoints {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        for (list, is_manual) in LINKS.into_iter().zip([false, true]) {
            for link in links(&draft.document, list)? {
                connect(draft, &link, is_manual)?;
            }
        }
        Ok(())
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) else { return document };
        for list in LINKS {
            let Some(links) = properties.entry(list).or_insert_with(|| json!([])).as_array_mut() else { continue };
            for link in links.iter_mut().filter_map(|link| link.as_object_mut()) {
                let name = link.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                link.insert("id".into(), format!("{}/{list}/{name}", resource.id).into());
                let Some(properties) = link.get_mut("properties").and_then(Value::as_object_mut) else { continue };
                let state = state_of(estate, &resource.id, properties);
                properties.insert("privateLinkServiceConnectionState".into(), state);
                properties.insert("provisioningState".into(), "Succeeded".into());
            }
        }
        let interface = format!("{}.nic", resource.id).replace("/privateEndpoints/", "/networkInterfaces/");
        properties.entry("networkInterfaces").or_insert_with(|| json!([{"id": interface}]));
        properties.entry("customDnsConfigs").or_insert_with(|| json!([]));
        document
    }

    fn removed(&self, estate: &Estate, resource: &Resource, removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        let orphans = estate.connections_of(&resource.id).filter(|connection| !removed.contains(&connection.id));
        let state = json!({"status": "Disconnected", "description": "The private endpoint was deleted.", "actionsRequired": "None"});
        let disconnect = |connection: &Resource| {
            let mut document = connection.document();
            if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert("privateLinkServiceConnectionState".into(), state.clone());
            }
            Change::Put { id: connection.id.clone(), document, expected: Expected::Any }
        };
        Ok(orphans.map(|connection| disconnect(connection)).collect())
    }
}

/// The registry and the message of each link to a registry.
struct Link {
    registry: ResourceId,
    message: String,
}

fn links(document: &Document, list: &str) -> Result<Vec<Link>, ArmError> {
    let invalid =
        |what: &str| ArmError::new(Condition::InvalidContent, format!("The property '{list}' is not valid: {what}."));
    let entries = match document.get("properties").and_then(|properties| properties.get(list)) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(invalid("a list is expected")),
    };
    let mut links = Vec::new();
    for entry in entries {
        let text =
            |name: &str| entry.get("properties").and_then(|properties| properties.get(name)).and_then(Value::as_str);
        let service = text("privateLinkServiceId").and_then(|id| id.parse::<ResourceId>().ok());
        let service = service.ok_or_else(|| invalid("'privateLinkServiceId' must be a resource id"))?;
        if service.is_type(types::REGISTRIES) {
            let groups =
                entry.get("properties").and_then(|properties| properties.get("groupIds")).and_then(Value::as_array);
            let is_registry =
                |group: &Value| group.as_str().is_some_and(|group| group.eq_ignore_ascii_case("registry"));
            if !groups.is_some_and(|groups| groups.len() == 1 && groups.iter().all(is_registry)) {
                return Err(invalid("the 'groupIds' of a registry are ['registry']"));
            }
            links.push(Link { registry: service, message: text("requestMessage").unwrap_or_default().to_owned() });
        }
    }
    Ok(links)
}

/// Makes the connection on the registry's side, unless it is there.
fn connect(draft: &mut Draft<'_>, link: &Link, is_manual: bool) -> Result<(), ArmError> {
    let Some(registry) = draft.estate.get(&link.registry) else { return Err(not_found(draft.estate, &link.registry)) };
    let live = draft
        .estate
        .connections_of(&draft.id)
        .any(|connection| connection.id.parent().as_ref() == Some(&registry.id) && !is_disconnected(connection));
    if live {
        return Ok(());
    }
    may_connect(draft.estate, &registry.id)?;
    let approved = !is_manual && draft.rights.may(APPROVE, &registry.id);
    let (status, description) =
        if approved { ("Approved", "Auto-Approved") } else { ("Pending", link.message.as_str()) };
    let name = format!("{}.{}", draft.id.name(), draft.state.random.uuid().simple());
    let id = registry.id.child("privateEndpointConnections", &name);
    let document = json!({
        "id": id.as_str(),
        "name": name,
        "type": types::PRIVATE_ENDPOINT_CONNECTIONS,
        "properties": {
            "privateEndpoint": {"id": draft.id.as_str()},
            "privateLinkServiceConnectionState": {"status": status, "description": description, "actionsRequired": "None"},
        },
    });
    let document = document.as_object().cloned().unwrap_or_default();
    draft.also.push(Change::Put { id, document, expected: Expected::Absent });
    // Whoever may not approve may ask, and changes nothing else of the registry.
    if approved {
        draft.also.extend(switch_data_endpoint_on(draft.estate, &registry.id));
    }
    Ok(())
}

/// Only Premium registries without virtual network rules take connections.
fn may_connect(estate: &Estate, registry: &ResourceId) -> Result<(), ArmError> {
    let Some(resource) = estate.get(registry) else { return Err(not_found(estate, registry)) };
    let (view, _) = RegistryView::read(resource);
    let refuse = |code, message: String| Err(ArmError::from(Refusal::new(code, message)));
    if view.sku != Sku::Premium {
        let message = format!("Private endpoint connections are not supported for the SKU {}.", view.sku);
        return refuse(RefusalCode::FeatureNotSupportedForSku, message);
    }
    if !view.subnets.is_empty() {
        let message = "Private endpoint connections cannot be added to a registry that has virtual network rules.";
        return refuse(RefusalCode::ValidationError, message.into());
    }
    let count = estate.children_of_type(registry, types::PRIVATE_ENDPOINT_CONNECTIONS).count() as u64;
    if count >= view.sku.limits().private_endpoints {
        let limit = view.sku.limits().private_endpoints;
        let message = format!("A registry can have at most {limit} private endpoint connections.");
        return refuse(RefusalCode::LimitExceeded, message);
    }
    Ok(())
}

/// The first private endpoint brings the dedicated data endpoint along.
///
/// Source: Azure Container Registry, "Private Link", dedicated data endpoints (read 2026-11).
fn switch_data_endpoint_on(estate: &Estate, registry: &ResourceId) -> Option<Change> {
    let is_first = estate.children_of_type(registry, types::PRIVATE_ENDPOINT_CONNECTIONS).next().is_none();
    let registry = estate.get(registry).filter(|_| is_first)?;
    let mut document = registry.document();
    let properties = document.entry("properties").or_insert_with(|| json!({})).as_object_mut()?;
    if properties.insert("dataEndpointEnabled".into(), true.into()) == Some(Value::Bool(true)) {
        return None;
    }
    Some(Change::Put { id: registry.id.clone(), document, expected: Expected::Any })
}

fn is_disconnected(connection: &Resource) -> bool {
    connection
        .text(&["privateLinkServiceConnectionState", "status"])
        .is_some_and(|status| status.eq_ignore_ascii_case("Disconnected"))
}

/// The state that the registry's side of a link has.
fn state_of(estate: &Estate, endpoint: &ResourceId, link: &Document) -> Value {
    let registry =
        link.get("privateLinkServiceId").and_then(Value::as_str).and_then(|id| id.parse::<ResourceId>().ok());
    let Some(registry) = registry.filter(|id| id.is_type(types::REGISTRIES)) else {
        return json!({"status": "Approved", "description": "", "actionsRequired": "None"});
    };
    let connection =
        estate.connections_of(endpoint).find(|connection| connection.id.parent().as_ref() == Some(&registry));
    let state = connection.and_then(|connection| connection.property(&["privateLinkServiceConnectionState"]));
    state.unwrap_or_else(|| json!({"status": "Disconnected", "description": "", "actionsRequired": "None"}))
}

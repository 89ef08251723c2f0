//! Networks, security groups and route tables: what their lists hold are resources of their own.

use postern_access::AGENT_POOLS;
use postern_estate::{ApiVersion, Document, Estate, Resource, types};
use postern_model::ResourceId;
use postern_store::{Change, Expected};
use serde_json::{Value, json};

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::Draft;

/// A type whose document shows a list of children, and may bring them along. It holds the name of the list, which is that of the
/// children's type.
pub(super) struct Listing(pub(super) &'static str);

impl Provider for Listing {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let invalid = || {
            let message = format!("The property '{}' must be a list of objects with a 'name'.", self.0);
            ArmError::new(Condition::InvalidContent, message)
        };
        let children = match draft.properties()?.remove(self.0) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(children)) => children,
            Some(_) => return Err(invalid()),
        };
        let child_type = self.child_type(&draft.id);
        let mut named = Vec::new();
        for child in children {
            let Value::Object(mut document) = child else { return Err(invalid()) };
            let name =
                document.get("name").and_then(Value::as_str).filter(|name| !name.is_empty() && !name.contains('/'));
            let id = draft.id.child(self.0, name.ok_or_else(invalid)?);
            let id = id.as_str().parse::<ResourceId>().map_err(|_| invalid())?;
            // A child has no identity. One in here would be taken as it is: nobody asks whether the caller may give it out.
            document.remove("identity");
            document.insert("id".into(), id.as_str().into());
            document.insert("type".into(), child_type.clone().into());
            named.push(id.clone());
            draft.also.push(Change::Put { id, document, expected: Expected::Any });
        }
        let gone = draft.estate.children_of_type(&draft.id, &child_type).filter(|child| !named.contains(&child.id));
        let gone: Vec<ResourceId> = gone.map(|child| child.id.clone()).collect();
        for id in &gone {
            not_in_use(draft.estate, id, &gone)?;
        }
        draft.also.extend(gone.into_iter().map(|id| Change::Remove { id, expected: Expected::Any }));
        Ok(())
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        let child_type = self.child_type(&resource.id);
        let children = estate.children_of_type(&resource.id, &child_type);
        let children: Vec<Value> = children.map(|child| Value::Object(estate.project(child, version))).collect();
        if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(self.0.into(), json!(children));
        }
        document
    }

    fn removed(&self, estate: &Estate, resource: &Resource, removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        not_in_use(estate, &resource.id, removed).map(|()| Vec::new())
    }
}

impl Listing {
    fn child_type(&self, id: &ResourceId) -> String {
        format!("{}/{}", id.resource_type().unwrap_or_default(), self.0)
    }
}

/// `Microsoft.Network/virtualNetworks/subnets`.
pub(super) struct Subnets;

impl Provider for Subnets {
    fn removed(&self, estate: &Estate, resource: &Resource, removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        not_in_use(estate, &resource.id, removed).map(|()| Vec::new())
    }
}

/// `Microsoft.Network/privateDnsZones/A`.
pub(super) struct AddressRecords;

impl Provider for AddressRecords {
    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        // A set may be made before its first record; clients append to the list.
        if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
            properties.entry("aRecords").or_insert_with(|| json!([]));
        }
        document
    }
}

/// Who refers to a resource of a type: their type, where their document does, what is said when they still do.
const USERS: [(&str, &str, &[&str], Condition); 4] = [
    (types::SUBNETS, types::PRIVATE_ENDPOINTS, &["subnet", "id"], Condition::SubnetInUse),
    (types::SUBNETS, AGENT_POOLS, &["virtualNetworkSubnetResourceId"], Condition::SubnetInUse),
    (types::NETWORK_SECURITY_GROUPS, types::SUBNETS, &["networkSecurityGroup", "id"], Condition::SecurityGroupInUse),
    (types::ROUTE_TABLES, types::SUBNETS, &["routeTable", "id"], Condition::RouteTableInUse),
];

/// Refuses to remove what something that stays refers to.
///
/// Source: Azure virtual network, error codes of deletions (read 2026-11).
fn not_in_use(estate: &Estate, id: &ResourceId, removed: &[ResourceId]) -> Result<(), ArmError> {
    let everywhere = ResourceId::root();
    for (used, users, path, condition) in USERS.into_iter().filter(|(used, ..)| id.is_type(used)) {
        let refers = |user: &Resource| {
            let target = user.text(path).and_then(|text| text.parse::<ResourceId>().ok());
            target.as_ref() == Some(id) && !removed.contains(&user.id)
        };
        if let Some(user) = estate.list(&everywhere, users).find(|user| refers(user)) {
            let kind = used.rsplit('/').next().unwrap_or_default().trim_end_matches('s');
            return Err(ArmError::new(
                condition,
                format!("The {kind} '{}' cannot be deleted because it is in use by '{}'.", id.name(), user.id),
            ));
        }
    }
    Ok(())
}

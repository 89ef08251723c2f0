use postern_estate::{ApiVersion, Document, Estate, Resource};
use postern_store::{Change, Expected};
use serde_json::{Value, json};

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::Draft;

const SUBNETS: &str = "Microsoft.Network/virtualNetworks/subnets";

/// Subnets are resources of their own; the network's document shows them, and may bring them along.
pub(super) struct VirtualNetworks;

impl Provider for VirtualNetworks {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let invalid = || {
            ArmError::new(Condition::InvalidContent, "The property 'subnets' must be a list of objects with a 'name'.")
        };
        let subnets = match draft.properties()?.remove("subnets") {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(subnets)) => subnets,
            Some(_) => return Err(invalid()),
        };
        let mut named = Vec::new();
        for subnet in subnets {
            let Value::Object(mut document) = subnet else { return Err(invalid()) };
            let name =
                document.get("name").and_then(Value::as_str).filter(|name| !name.is_empty() && !name.contains('/'));
            let id = draft.id.child("subnets", name.ok_or_else(invalid)?);
            let id = id.as_str().parse::<postern_model::ResourceId>().map_err(|_| invalid())?;
            // A subnet has no identity. One in here would be taken as it is: nobody asks whether the caller may give it out.
            document.remove("identity");
            document.insert("id".into(), id.as_str().into());
            document.insert("type".into(), SUBNETS.into());
            named.push(id.clone());
            draft.also.push(Change::Put { id, document, expected: Expected::Any });
        }
        let gone = draft.estate.children_of_type(&draft.id, SUBNETS).filter(|subnet| !named.contains(&subnet.id));
        let gone: Vec<Change> =
            gone.map(|subnet| Change::Remove { id: subnet.id.clone(), expected: Expected::Any }).collect();
        draft.also.extend(gone);
        Ok(())
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        let subnets =
            estate.children_of_type(&resource.id, SUBNETS).map(|subnet| Value::Object(estate.project(subnet, version)));
        let subnets: Vec<Value> = subnets.collect();
        if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("subnets".into(), json!(subnets));
        }
        document
    }
}

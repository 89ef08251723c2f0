use postern_estate::{ApiVersion, Document, Estate, Resource, validate};
use postern_model::ResourceId;
use postern_store::Change;
use serde_json::Value;

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::Draft;

pub(super) struct ScopeMaps;

impl Provider for ScopeMaps {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        for computed in ["type", "creationDate", "provisioningState"] {
            draft.properties()?.remove(computed);
        }
        Ok(validate::scope_map(draft.estate, &draft.id, &draft.document)?)
    }

    fn removed(&self, estate: &Estate, resource: &Resource, removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        let Some(registry) = resource.id.parent() else { return Ok(Vec::new()) };
        let names_it = |token: &Resource| {
            let map = token.text(&["scopeMapId"]).and_then(|id| id.parse::<ResourceId>().ok());
            map.as_ref() == Some(&resource.id) && !removed.contains(&token.id)
        };
        let user = estate.children_of_type(&registry, postern_estate::types::TOKENS).find(|token| names_it(token));
        match user {
            None => Ok(Vec::new()),
            Some(token) => Err(ArmError::new(
                Condition::Conflict,
                format!("The scope map '{}' is used by the token '{}'.", resource.id.name(), token.id.name()),
            )),
        }
    }
}

pub(super) struct Tokens;

impl Provider for Tokens {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let known = draft.existing.and_then(|token| token.property(&["credentials"]));
        let properties = draft.properties()?;
        for computed in ["creationDate", "provisioningState"] {
            properties.remove(computed);
        }
        let given = properties.remove("credentials");
        if let Some(kept) = merge_credentials(known, given) {
            properties.insert("credentials".into(), kept);
        }
        Ok(validate::token(draft.estate, &draft.id, &draft.document)?)
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        let passwords =
            document.get_mut("properties").and_then(|properties| properties.pointer_mut("/credentials/passwords"));
        for password in passwords.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            password.remove("value");
        }
        document
    }
}

/// A body may take passwords away by leaving them out of the list; it cannot make any.
fn merge_credentials(known: Option<Value>, given: Option<Value>) -> Option<Value> {
    let listed = given.as_ref().and_then(|given| given.get("passwords")).and_then(Value::as_array);
    let (Some(mut known), Some(listed)) = (known.clone(), listed) else { return known };
    let is_listed = |password: &Value| listed.iter().any(|entry| entry.get("name") == password.get("name"));
    if let Some(passwords) = known.get_mut("passwords").and_then(Value::as_array_mut) {
        passwords.retain(is_listed);
    }
    Some(known)
}

use postern_estate::{ApiVersion, Document, Estate, Resource, SERVER_ONLY, types};
use postern_model::ResourceId;
use postern_store::{Change, Expected};
use serde_json::{Value, json};

use super::Provider;
use super::authorization::role_definition_id;
use crate::error::{ArmError, Condition};
use crate::resources::Draft;

/// Source: Azure naming rules, resource groups (read 2026-11).
const MAX_GROUP_NAME_CHARS: usize = 90;

pub(super) struct ResourceGroups;

impl Provider for ResourceGroups {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let name = draft.id.name();
        let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
        if name.chars().count() > MAX_GROUP_NAME_CHARS || !name.chars().all(is_allowed) || name.ends_with('.') {
            return Err(ArmError::new(
                Condition::InvalidGroupName,
                "The provided resource group name is not valid: 1 to 90 letters, digits, '-', '_', '.', '(' and ')', not ending in '.'.",
            ));
        }
        let location = draft.document.get("location").and_then(Value::as_str).unwrap_or_default();
        if location.is_empty() {
            return Err(postern_estate::Refusal::at(
                postern_estate::RefusalCode::LocationRequired,
                "location",
                "The location property is required for this definition.",
            )
            .into());
        }
        draft.document.remove("properties");
        Ok(())
    }
}

const OWNER: uuid::Uuid = uuid::Uuid::from_u128(0x8e3af657_a8ff_443c_a75c_2fe8c4bcb635);

pub(super) struct Subscriptions;

impl Provider for Subscriptions {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let name = draft.id.name().to_owned();
        let tenant = draft.state.identity.tenant().to_string();
        let kept = draft.existing.and_then(|resource| resource.value(&[SERVER_ONLY]));
        let document = &mut draft.document;
        // Nobody may claim to be the server's ground.
        document.remove(SERVER_ONLY);
        document.extend(kept.map(|kept| (SERVER_ONLY.to_owned(), kept)));
        document.remove("properties");
        document.insert("subscriptionId".into(), name.clone().into());
        document.insert("tenantId".into(), tenant.into());
        document.insert("state".into(), "Enabled".into());
        document.entry("displayName").or_insert_with(|| name.into());
        if draft.existing.is_none() {
            draft.also.push(owner_of(draft));
        }
        Ok(())
    }

    fn project(&self, _estate: &Estate, resource: &Resource, _version: ApiVersion) -> Document {
        let mut document = resource.document();
        document.remove(SERVER_ONLY);
        document.remove("type");
        document.remove("name");
        document.insert("id".into(), resource.id.as_str().into());
        document.insert("subscriptionId".into(), resource.id.name().into());
        document.entry("authorizationSource").or_insert_with(|| "RoleBased".into());
        document.entry("managedByTenants").or_insert_with(|| json!([]));
        document
    }

    fn removed(&self, _estate: &Estate, resource: &Resource, _removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        if resource.value(&[SERVER_ONLY]).is_some() {
            return Err(ArmError::new(Condition::Conflict, "The server's own subscription cannot be deleted."));
        }
        Ok(Vec::new())
    }
}

/// Who makes a subscription owns it.
fn owner_of(draft: &Draft<'_>) -> Change {
    let name = draft.state.random.uuid().to_string();
    let base = format!("{}/providers/{}", draft.id, types::ROLE_ASSIGNMENTS);
    let id = draft.id.child(&format!("providers/{}", types::ROLE_ASSIGNMENTS), &name);
    let document = json!({
        "id": format!("{base}/{name}"),
        "name": name,
        "type": types::ROLE_ASSIGNMENTS,
        "properties": {
            "principalId": draft.caller.principal.id.to_string(),
            "roleDefinitionId": role_definition_id(&draft.id, OWNER),
            "scope": draft.id.as_str(),
        },
    });
    Change::Put { id, document: document.as_object().cloned().unwrap_or_default(), expected: Expected::Absent }
}

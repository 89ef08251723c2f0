use postern_access::{RoleDefinition, built_in_roles};
use postern_estate::{Document, Estate, Packed, Resource, role_id, scope_of, types, validate};
use postern_model::{ResourceId, ResourceUid};
use postern_store::Change;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::{Draft, is_first_party};

pub(super) struct RoleAssignments;

impl Provider for RoleAssignments {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        validate::role_assignment(draft.estate, &draft.id, &draft.document, is_first_party)?;
        let scope = scope_of(&draft.id).unwrap_or_else(ResourceId::root);
        let role = draft.text(&["roleDefinitionId"]).and_then(role_id);
        let principal = draft.text(&["principalId"]).and_then(|id| id.parse().ok());
        let kind = principal
            .and_then(|id| draft.estate.principal(id))
            .map(|principal| validate::principal_type(principal.kind));
        let created = draft
            .existing
            .and_then(|resource| resource.properties())
            .map(|properties| ["createdOn", "createdBy"].map(|key| properties.get(key).cloned()));
        let caller = draft.caller.principal.id.to_string();
        let properties = draft.properties()?;
        if let Some(role) = role {
            // Clients compare this with the ids of the list of role definitions, case included.
            properties.insert("roleDefinitionId".into(), role_definition_id(&scope, role).into());
        }
        properties.insert("principalType".into(), kind.unwrap_or("ServicePrincipal").into());
        properties.insert("scope".into(), scope.as_str().into());
        let has_condition =
            properties.get("condition").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        if has_condition {
            properties.insert("conditionVersion".into(), "2.0".into());
        } else {
            properties.remove("condition");
            properties.remove("conditionVersion");
        }
        for key in ["createdOn", "updatedOn", "createdBy"] {
            properties.remove(key);
        }
        if let Some([on, by]) = created {
            properties.extend(on.map(|on| ("createdOn".to_owned(), on)));
            properties.extend(by.map(|by| ("createdBy".to_owned(), by)));
        } else {
            properties.insert("createdBy".into(), caller.clone().into());
        }
        properties.insert("updatedBy".into(), caller.into());
        Ok(())
    }
}

pub(super) struct RoleDefinitions;

impl Provider for RoleDefinitions {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let scope = scope_of(&draft.id).unwrap_or_else(ResourceId::root);
        // Assignments name a role by its GUID alone. A second definition would take the first one's rights away from everybody.
        let is_taken = Uuid::try_parse(draft.id.name()).is_ok_and(|role| draft.estate.has_role(role));
        if draft.existing.is_none() && is_taken {
            let message = format!("A role definition with the ID '{}' exists already.", draft.id.name());
            return Err(ArmError::new(Condition::Conflict, message));
        }
        let properties = draft.properties()?;
        properties.insert("type".into(), "CustomRole".into());
        properties.entry("assignableScopes").or_insert_with(|| json!([scope.as_str()]));
        let content = Packed::new(&draft.id, draft.document.clone());
        let resource = Resource {
            id: draft.id.clone(),
            uid: ResourceUid(Uuid::nil()),
            generation: 0,
            etag: String::new(),
            created: postern_model::Timestamp::from_unix_seconds(0),
            updated: postern_model::Timestamp::from_unix_seconds(0),
            content,
        };
        Ok(validate::role_definition(&resource)?)
    }

    /// Source: Azure RBAC, troubleshooting, "There are existing role assignments referencing role" (read 2026-11).
    fn removed(&self, estate: &Estate, resource: &Resource, removed: &[ResourceId]) -> Result<Vec<Change>, ArmError> {
        let role = Uuid::try_parse(resource.id.name()).ok();
        let everywhere = ResourceId::root();
        let names_it = |one: &Resource| one.text(&["roleDefinitionId"]).as_deref().and_then(role_id) == role;
        let mut assignments = estate.list(&everywhere, types::ROLE_ASSIGNMENTS);
        if assignments.any(|one| names_it(one) && !removed.contains(&one.id)) {
            return Err(ArmError::new(
                Condition::RoleHasAssignments,
                "There are existing role assignments referencing role.",
            ));
        }
        Ok(Vec::new())
    }
}

pub(super) struct DenyAssignments;

impl Provider for DenyAssignments {
    fn complete(&self, _draft: &mut Draft<'_>) -> Result<(), ArmError> {
        Err(ArmError::new(Condition::MethodNotAllowed, "Deny assignments cannot be created by users."))
    }
}

/// The id that a role definition has at a scope: within its subscription, if it is in one.
pub(crate) fn role_definition_id(scope: &ResourceId, role: Uuid) -> String {
    let base = scope.subscription().map(|name| format!("/subscriptions/{name}")).unwrap_or_default();
    format!("{base}/providers/{}/{role}", types::ROLE_DEFINITIONS)
}

/// The built-in roles as they are listed at a scope.
pub(crate) fn built_in_roles_at(scope: &ResourceId) -> impl Iterator<Item = (&'static RoleDefinition, Document)> {
    let scope = scope.clone();
    built_in_roles().iter().map(move |role| (role, shown(role, &scope)))
}

pub(super) fn built_in_role(id: &ResourceId) -> Option<Document> {
    let role = Uuid::try_parse(id.name()).ok().and_then(postern_access::built_in_role)?;
    Some(shown(role, &scope_of(id).unwrap_or_else(ResourceId::root)))
}

fn shown(role: &RoleDefinition, scope: &ResourceId) -> Document {
    let permissions: Vec<Value> = role
        .permissions
        .iter()
        .map(|entry| {
            let list =
                |patterns: &[Box<str>]| patterns.iter().map(|pattern| Value::from(&**pattern)).collect::<Vec<_>>();
            json!({
                "actions": list(&entry.actions),
                "notActions": list(&entry.not_actions),
                "dataActions": list(&entry.data_actions),
                "notDataActions": list(&entry.not_data_actions),
            })
        })
        .collect();
    let document = json!({
        "id": role_definition_id(scope, role.id),
        "name": role.id.to_string(),
        "type": types::ROLE_DEFINITIONS,
        "properties": {
            "roleName": &*role.name,
            "type": "BuiltInRole",
            "description": &*role.description,
            "assignableScopes": ["/"],
            "permissions": permissions,
        },
    });
    document.as_object().cloned().unwrap_or_default()
}

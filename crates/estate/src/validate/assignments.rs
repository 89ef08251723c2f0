use postern_access::{Condition, PrincipalKind, built_in_roles};
use postern_model::{PrincipalId, ResourceId};
use serde_json::Value;
use uuid::Uuid;

use super::{malformed, shown};
use crate::assignment::{CONDITION_VERSION, role_id, scope_of};
use crate::resource::value_at;
use crate::roles::permissions_of;
use crate::{Document, Estate, Refusal, RefusalCode, Resource};

/// Checks a role assignment. `is_known_elsewhere`: the object id exists though no document claims it.
pub fn role_assignment(
    estate: &Estate,
    id: &ResourceId,
    document: &Document,
    is_known_elsewhere: impl Fn(PrincipalId) -> bool,
) -> Result<(), Refusal> {
    let text = |name: &str| value_at(document, &["properties", name]).and_then(Value::as_str);
    let scope = scope_of(id).ok_or_else(|| malformed("id", "The role assignment has no scope."))?;
    if Uuid::try_parse(id.name()).is_err() {
        return Err(Refusal::at(
            RefusalCode::InvalidResourceName,
            "name",
            format!("The role assignment name '{}' is not valid: it must be a GUID.", shown(id.name())),
        ));
    }
    if let Some(stated) = text("scope")
        && stated.parse::<ResourceId>().ok().as_ref() != Some(&scope)
    {
        return Err(malformed("properties.scope", "The scope of the role assignment is not the scope of the request."));
    }
    let principal = text("principalId").and_then(|text| text.parse::<PrincipalId>().ok());
    let principal =
        principal.ok_or_else(|| malformed("properties.principalId", "The 'principalId' must be a GUID."))?;
    let role = text("roleDefinitionId").and_then(role_id);
    let role = role.ok_or_else(|| {
        malformed("properties.roleDefinitionId", "The 'roleDefinitionId' must be the id of a role definition.")
    })?;
    if !estate.has_role(role) {
        return Err(Refusal::at(
            RefusalCode::RoleDefinitionDoesNotExist,
            "properties.roleDefinitionId",
            format!("The specified role definition with ID '{role}' does not exist."),
        ));
    }
    condition(document)?;
    known_principal(estate, principal, text("principalType"), is_known_elsewhere)?;
    if let Some(existing) = estate.get(id) {
        let same = |name: &str, wanted: Uuid| existing.text(&[name]).as_deref().and_then(role_id) == Some(wanted);
        if !same("principalId", principal.0) || !same("roleDefinitionId", role) {
            return Err(Refusal::new(
                RefusalCode::RoleAssignmentUpdateNotPermitted,
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
            ));
        }
        return Ok(());
    }
    let mut others = estate.assignments_at(&scope);
    if let Some(other) = others.find(|other| other.principal == principal && other.role == role && other.id != *id) {
        return Err(Refusal::new(
            RefusalCode::RoleAssignmentExists,
            format!(
                "The role assignment already exists. The ID of the existing role assignment is {}.",
                other.id.name()
            ),
        ));
    }
    Ok(())
}

fn condition(document: &Document) -> Result<(), Refusal> {
    let refuse = |target: &str, message: String| {
        Err(Refusal::at(RefusalCode::InvalidCondition, format!("properties.{target}"), message))
    };
    let version = value_at(document, &["properties", "conditionVersion"]);
    let text = match value_at(document, &["properties", "condition"]) {
        None => return Ok(()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(()),
        Some(Value::String(text)) => text,
        Some(_) => return refuse("condition", "The condition must be a string.".into()),
    };
    if version.is_some_and(|version| version.as_str() != Some(CONDITION_VERSION)) {
        return refuse("conditionVersion", format!("The condition version must be '{CONDITION_VERSION}'."));
    }
    match text.parse::<Condition>() {
        Ok(_) => Ok(()),
        Err(error) => refuse("condition", format!("The condition is not valid: {error}.")),
    }
}

fn known_principal(
    estate: &Estate,
    id: PrincipalId,
    stated_type: Option<&str>,
    is_known_elsewhere: impl Fn(PrincipalId) -> bool,
) -> Result<(), Refusal> {
    let Some(principal) = estate.principal(id) else {
        if is_known_elsewhere(id) {
            return Ok(());
        }
        return Err(Refusal::at(
            RefusalCode::PrincipalNotFound,
            "properties.principalId",
            format!(
                "Principal {} does not exist in the directory. Check that you have the correct principal ID.",
                id.0.simple()
            ),
        ));
    };
    let kind = principal_type(principal.kind);
    match stated_type {
        Some(stated) if !stated.eq_ignore_ascii_case(kind) => Err(Refusal::at(
            RefusalCode::UnmatchedPrincipalType,
            "properties.principalType",
            format!(
                "The PrincipalId '{}' has type '{kind}', which is different from the specified PrincipalType '{}'.",
                id.0.simple(),
                shown(stated)
            ),
        )),
        _ => Ok(()),
    }
}

/// `principalType` of a role assignment.
pub const fn principal_type(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "User",
        PrincipalKind::Group => "Group",
        PrincipalKind::ServicePrincipal | PrincipalKind::ManagedIdentity | PrincipalKind::FirstParty => {
            "ServicePrincipal"
        }
    }
}

/// Checks a custom role definition.
pub fn role_definition(resource: &Resource) -> Result<(), Refusal> {
    let Ok(id) = Uuid::try_parse(resource.id.name()) else {
        return Err(Refusal::at(
            RefusalCode::InvalidResourceName,
            "name",
            "The name of a role definition must be a GUID.",
        ));
    };
    let Some(name) = resource.text(&["roleName"]).filter(|name| !name.trim().is_empty()) else {
        return Err(malformed("properties.roleName", "A role definition needs a 'roleName'."));
    };
    if built_in_roles().iter().any(|role| role.id == id || role.name.eq_ignore_ascii_case(&name)) {
        return Err(Refusal::new(
            RefusalCode::RoleDefinitionWithSameNameExists,
            format!("A built-in role with the same name or ID as '{}' exists.", shown(&name)),
        ));
    }
    if permissions_of(resource).is_none_or(|permissions| permissions.is_empty()) {
        return Err(malformed(
            "properties.permissions",
            "A role definition needs 'permissions': a list of objects with 'actions', 'notActions', 'dataActions' and 'notDataActions'.",
        ));
    }
    Ok(())
}

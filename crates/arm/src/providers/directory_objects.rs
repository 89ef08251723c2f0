//! Managed identities of their own, and the directory's objects.

use postern_estate::{OutsideIdentity, Resource, types, validate};
use postern_model::{PrincipalId, ResourceId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::{Draft, is_first_party};

/// What the directory's API takes and no answer shows.
const SECRETS: [&str; 2] = ["passwordProfile", "passwordCredentials"];
/// The audience of outside tokens that are meant to be exchanged.
///
/// Source: Microsoft Entra ID, workload identity federation (read 2026-11).
const TOKEN_EXCHANGE: &str = "api://AzureADTokenExchange";
/// Most members of a group.
const MAX_MEMBERS: usize = 10_000;

pub(super) struct UserAssignedIdentities;

impl Provider for UserAssignedIdentities {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let uuid = |text: Option<&str>| text.and_then(|text| Uuid::try_parse(text).ok());
        let existing = draft.existing.map(|resource| (resource.text(&["principalId"]), resource.text(&["clientId"])));
        let (principal, client) = if let Some((principal, client)) = existing {
            (uuid(principal.as_deref()), uuid(client.as_deref()))
        } else {
            let given = uuid(draft.text(&["principalId"]));
            let principal = draft.new_principal(draft.text(&["principalId"]));
            // Both ids of a file are kept, or none.
            let client = uuid(draft.text(&["clientId"])).filter(|_| given == Some(principal.0));
            let client = client.filter(|client| draft.estate.principal_by_client_id(*client).is_none());
            (Some(principal.0), client)
        };
        let fresh = || draft.state.random.uuid();
        let (principal, client) = (principal.unwrap_or_else(fresh), client.unwrap_or_else(fresh));
        let tenant = draft.state.identity.tenant();
        let properties = draft.properties()?;
        properties.insert("principalId".into(), principal.to_string().into());
        properties.insert("clientId".into(), client.to_string().into());
        properties.insert("tenantId".into(), tenant.to_string().into());
        Ok(())
    }
}

/// Of managed identities and of applications.
pub(super) struct FederatedCredentials;

impl Provider for FederatedCredentials {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        draft.properties()?.entry("audiences").or_insert_with(|| json!([TOKEN_EXCHANGE]));
        Ok(validate::federated_credential(draft.estate, &draft.id, &draft.document)?)
    }
}

pub(super) struct ServicePrincipals;

impl Provider for ServicePrincipals {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        own_object_id(draft)?;
        let stored = draft.existing.and_then(|resource| resource.text(&["appId"]));
        let client = match draft.text(&["appId"]).map(str::to_owned).or(stored) {
            None => draft.state.random.uuid(),
            Some(text) => {
                Uuid::try_parse(&text).map_err(|_| invalid("The 'appId' of a service principal must be a GUID."))?
            }
        };
        let owner = draft.estate.principal_by_client_id(client).and_then(|principal| principal.owner);
        if owner.is_some_and(|owner| owner != draft.id) {
            return Err(ArmError::new(
                Condition::Conflict,
                format!("The application id '{client}' is already in use."),
            ));
        }
        draft.properties()?.insert("appId".into(), client.to_string().into());
        Ok(())
    }
}

pub(super) struct Applications;

impl Provider for Applications {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        own_object_id(draft)?;
        let client = draft.text(&["appId"]).and_then(|text| Uuid::try_parse(text).ok());
        let client = client.ok_or_else(|| invalid("The 'appId' of an application must be a GUID."))?;
        let root = ResourceId::root();
        let own = |one: &Resource| one.text(&["appId"]).and_then(|text| Uuid::try_parse(&text).ok()) == Some(client);
        let taken = draft.estate.list(&root, types::APPLICATIONS).any(|one| one.id != draft.id && own(one));
        let foreign = || draft.estate.principal_by_client_id(client).and_then(|principal| principal.owner);
        let stored = draft.existing.and_then(|resource| resource.text(&["appId"]));
        let is_new = stored.and_then(|text| Uuid::try_parse(&text).ok()) != Some(client);
        if taken || (is_new && foreign().is_some()) {
            return Err(ArmError::new(
                Condition::Conflict,
                format!("The application id '{client}' is already in use."),
            ));
        }
        draft.properties()?.insert("appId".into(), client.to_string().into());
        Ok(())
    }
}

/// Users and groups.
pub(super) struct People;

impl Provider for People {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        own_object_id(draft)?;
        own_identities(draft)?;
        let Some(members) = draft.properties()?.get("members") else { return Ok(()) };
        let is_id = |member: &Value| {
            let text = member.as_str().or_else(|| member.get("id")?.as_str());
            text.is_some_and(|text| Uuid::try_parse(text).is_ok())
        };
        match members.as_array() {
            Some(list) if list.len() <= MAX_MEMBERS && list.iter().all(is_id) => Ok(()),
            _ => Err(invalid("The 'members' of a group must be a list of at most 10000 object ids.")),
        }
    }
}

/// Who a person is at issuers outside can be read, and is nobody else: of two who are the same person, neither could sign in.
fn own_identities(draft: &mut Draft<'_>) -> Result<(), ArmError> {
    let identities = match draft.properties()?.get("identities") {
        None | Some(Value::Null) => return Ok(()),
        Some(identities) => OutsideIdentity::listed(identities),
    };
    let identities = identities.ok_or_else(|| {
        invalid(
            "The 'identities' of a user must be a list of objects with 'signInType'; 'federated' ones need 'issuer' and \
             'issuerAssignedId'.",
        )
    })?;
    for one in &identities {
        if draft.estate.users_who_are(one).any(|user| user.id != draft.id) {
            let message = format!("Another user is '{}' at '{}' already.", one.subject, one.issuer);
            return Err(ArmError::new(Condition::Conflict, message));
        }
    }
    Ok(())
}

/// Whose the object is, and nothing of its secrets: those are the directory's API's to take, and no document's to hold.
fn own_object_id(draft: &mut Draft<'_>) -> Result<(), ArmError> {
    draft.properties()?.retain(|name, _| !SECRETS.contains(&name.as_str()));
    if draft.id.parent() != Some(ResourceId::root()) {
        return Err(invalid("Directory objects belong to the tenant, not to a subscription."));
    }
    let id = draft.id.name().parse::<PrincipalId>();
    let id = id.map_err(|_| invalid("The name of a directory object must be its object id, a GUID."))?;
    let taken = draft.existing.is_none() && (draft.estate.is_principal_taken(id) || is_first_party(id));
    if taken {
        Err(ArmError::new(Condition::Conflict, format!("The object id '{id}' is already in use.")))
    } else {
        Ok(())
    }
}

fn invalid(message: &str) -> ArmError {
    ArmError::new(Condition::InvalidContent, message)
}

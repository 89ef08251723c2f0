//! How directory objects look in Microsoft Graph.

use postern_access::PrincipalKind;
use postern_estate::{Estate, Principal, Resource, types};
use postern_identity::SecretOwner;
use postern_model::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ArmState;

/// A principal as an object: user, group or service principal; a managed identity is a service principal too.
pub(super) fn principal(state: &ArmState, estate: &Estate, principal: &Principal) -> Value {
    let tenant = state.identity.tenant();
    let source = principal.owner.as_ref().and_then(|owner| estate.get(owner));
    let text = |name: &str| source.and_then(|source| source.text(&[name]));
    let id = principal.id.to_string();
    match principal.kind {
        PrincipalKind::User => json!({
            "@odata.type": "#microsoft.graph.user",
            "id": id,
            "displayName": principal.display_name,
            "userPrincipalName": text("userPrincipalName").unwrap_or_else(|| principal.display_name.to_string()),
            "mail": text("mail"),
            "accountEnabled": principal.enabled,
            "identities": source.and_then(|source| source.property(&["identities"])).unwrap_or_else(|| json!([])),
        }),
        PrincipalKind::Group => json!({
            "@odata.type": "#microsoft.graph.group",
            "id": id,
            "displayName": principal.display_name,
            "description": text("description"),
            "mailNickname": text("mailNickname"),
            "mailEnabled": false,
            "securityEnabled": true,
            "groupTypes": [],
        }),
        PrincipalKind::ServicePrincipal | PrincipalKind::ManagedIdentity | PrincipalKind::FirstParty => {
            let managed = principal.kind == PrincipalKind::ManagedIdentity;
            let client = client_of(principal).map(|client| client.to_string());
            let owner = principal.owner.as_ref().filter(|_| managed);
            json!({
                "@odata.type": "#microsoft.graph.servicePrincipal",
                "id": id,
                "appId": client,
                "displayName": principal.display_name,
                "appDisplayName": principal.display_name,
                "servicePrincipalNames": client.iter().collect::<Vec<_>>(),
                "servicePrincipalType": if managed { "ManagedIdentity" } else { "Application" },
                "alternativeNames": owner.map(alternative_names).unwrap_or_default(),
                "appOwnerOrganizationId": tenant.to_string(),
                "accountEnabled": principal.enabled,
                "passwordCredentials": passwords(state, SecretOwner::Principal(principal.id)),
                "keyCredentials": source.and_then(|source| source.property(&["keyCredentials"]))
                    .unwrap_or_else(|| json!([])),
                "tags": [],
            })
        }
    }
}

/// The application id. A system-assigned identity has no other id than its object id, and its tokens say so, too.
pub(super) fn client_of(principal: &Principal) -> Option<Uuid> {
    let is_managed = principal.kind == PrincipalKind::ManagedIdentity;
    principal.client_id.or_else(|| is_managed.then_some(principal.id.0))
}

/// How a managed identity says what it belongs to.
fn alternative_names(owner: &ResourceId) -> Vec<String> {
    let is_explicit = if owner.is_type(types::USER_ASSIGNED_IDENTITIES) { "True" } else { "False" };
    vec![format!("isExplicit={is_explicit}"), owner.to_string()]
}

/// An application registration.
pub(super) fn application(state: &ArmState, resource: &Resource) -> Value {
    let mut shown = resource.properties().unwrap_or_default();
    let client = resource.text(&["appId"]).and_then(|text| Uuid::try_parse(&text).ok());
    shown.insert("@odata.type".into(), "#microsoft.graph.application".into());
    shown.insert("id".into(), resource.id.name().into());
    shown.insert("createdDateTime".into(), resource.created.to_string().into());
    shown.insert("publisherDomain".into(), "postern.localhost".into());
    let passwords = client.map_or_else(|| json!([]), |client| passwords(state, SecretOwner::Application(client)));
    shown.insert("passwordCredentials".into(), passwords);
    for list in ["identifierUris", "keyCredentials", "tags", "appRoles", "requiredResourceAccess"] {
        shown.entry(list).or_insert_with(|| json!([]));
    }
    Value::Object(shown)
}

/// Which secrets there are, never what they are.
fn passwords(state: &ArmState, owner: SecretOwner) -> Value {
    let known = state.store.credentials().list(&owner.to_string());
    let shown = known.iter().map(|one| {
        json!({
            "keyId": one.slot,
            "displayName": null,
            "startDateTime": one.created.to_string(),
            "endDateTime": one.expires.map(|expires| expires.to_string()),
            "secretText": null,
        })
    });
    shown.collect()
}

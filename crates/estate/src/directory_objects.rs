use postern_access::PrincipalKind;
use postern_model::{PrincipalId, ResourceId};
use serde_json::Value;
use uuid::Uuid;

use crate::types::{GROUPS, SERVICE_PRINCIPALS, USER_ASSIGNED_IDENTITIES, USERS};
use crate::{Resource, identity};

/// A directory object: somebody who may be given a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its object id.
    pub id: PrincipalId,
    /// Its client (application) id, if it has one.
    pub client_id: Option<Uuid>,
    /// What it is.
    pub kind: PrincipalKind,
    /// What people call it.
    pub display_name: Box<str>,
    /// The resource it comes from: its own, or the one a system-assigned identity belongs to.
    pub owner: Option<ResourceId>,
    /// `accountEnabled` is not false.
    pub enabled: bool,
    /// The groups it belongs to, transitively.
    pub groups: Vec<PrincipalId>,
}

impl Principal {
    /// Itself and its groups: whose role assignments count.
    pub fn all_ids(&self) -> Vec<PrincipalId> {
        std::iter::once(self.id).chain(self.groups.iter().copied()).collect()
    }

    /// As a decision sees it.
    pub fn as_caller(&self) -> postern_access::Principal {
        postern_access::Principal {
            id: self.id,
            kind: self.kind,
            display_name: self.display_name.clone(),
            groups: self.groups.clone(),
        }
    }
}

/// The principal that a resource is, or has as its system-assigned identity; without groups.
pub(crate) fn principal_of(resource: &Resource) -> Option<Principal> {
    let resource_type = resource.resource_type();
    let is = |name: &str| resource_type.eq_ignore_ascii_case(name);
    let uuid = |path: &str| resource.text(&[path]).and_then(|text| Uuid::try_parse(&text).ok());
    let object = |kind| -> Option<Principal> {
        Some(Principal {
            id: resource.id.name().parse().ok()?,
            client_id: uuid("appId"),
            kind,
            display_name: resource.text(&["displayName"]).map_or_else(|| resource.id.name().into(), Into::into),
            owner: Some(resource.id.clone()),
            // Anything but `true` that is there switches the account off.
            enabled: resource.property(&["accountEnabled"]).is_none_or(|value| value == true),
            groups: Vec::new(),
        })
    };
    if is(SERVICE_PRINCIPALS) {
        return object(PrincipalKind::ServicePrincipal);
    }
    if is(GROUPS) {
        return object(PrincipalKind::Group);
    }
    if is(USERS) {
        return object(PrincipalKind::User);
    }
    let (id, client_id) = if is(USER_ASSIGNED_IDENTITIES) {
        (PrincipalId(uuid("principalId")?), uuid("clientId"))
    } else {
        (identity::system_in(&resource.value(&["identity"])?)?, None)
    };
    Some(Principal {
        id,
        client_id,
        kind: PrincipalKind::ManagedIdentity,
        display_name: resource.id.name().into(),
        owner: Some(resource.id.clone()),
        enabled: true,
        groups: Vec::new(),
    })
}

/// The members of a group; entries that cannot be read are left out.
pub fn members_of(group: &Resource) -> Vec<PrincipalId> {
    let Some(Value::Array(members)) = group.property(&["members"]) else { return Vec::new() };
    let id = |member: &Value| member.as_str().or_else(|| member.get("id")?.as_str())?.parse().ok();
    members.iter().filter_map(id).collect()
}

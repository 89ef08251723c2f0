use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use postern_access::{Permissions, RoleDefinition, built_in_roles};
use serde_json::Value;
use uuid::Uuid;

use crate::Resource;

/// A role with its permissions shared.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: Arc<str>,
    pub(crate) permissions: Arc<[Permissions]>,
}

/// The built-in role with this id.
pub(crate) fn built_in(id: Uuid) -> Option<&'static Role> {
    static ROLES: LazyLock<HashMap<Uuid, Role>> = LazyLock::new(|| {
        let role =
            |role: &RoleDefinition| Role { name: (&*role.name).into(), permissions: role.permissions.clone().into() };
        built_in_roles().iter().map(|definition| (definition.id, role(definition))).collect()
    });
    ROLES.get(&id)
}

/// A custom role definition; `None` when it cannot be read, then it gives nothing.
pub fn custom_role(resource: &Resource) -> Option<RoleDefinition> {
    Some(RoleDefinition {
        id: Uuid::try_parse(resource.id.name()).ok()?,
        name: resource.text(&["roleName"])?.into(),
        description: resource.text(&["description"]).unwrap_or_default().into(),
        built_in: false,
        permissions: permissions_of(resource)?.to_vec(),
    })
}

pub(crate) fn permissions_of(resource: &Resource) -> Option<Arc<[Permissions]>> {
    resource.property(&["permissions"])?.as_array()?.iter().map(permission).collect()
}

fn permission(entry: &Value) -> Option<Permissions> {
    let entry = entry.as_object()?;
    let list = |name: &str| -> Option<Vec<Box<str>>> {
        match entry.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(list) => list.as_array()?.iter().map(|pattern| pattern.as_str().map(Into::into)).collect(),
        }
    };
    Some(Permissions {
        actions: list("actions")?,
        not_actions: list("notActions")?,
        data_actions: list("dataActions")?,
        not_data_actions: list("notDataActions")?,
    })
}

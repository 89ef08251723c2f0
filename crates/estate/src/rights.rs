use std::borrow::Cow;

use postern_access::{DenyAssignment, ManagementGrant, authorize_management};
use postern_model::ResourceId;

use crate::types::{ROLE_ASSIGNMENTS, SUBSCRIPTIONS};

/// What one caller may do in the resource manager.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    pub(crate) grants: Vec<ManagementGrant>,
    pub(crate) denials: Vec<DenyAssignment>,
    pub(crate) subscriptions: Vec<ResourceId>,
}

impl Rights {
    /// Whether the action (`Microsoft.ContainerRegistry/registries/write`) is allowed on the scope.
    ///
    /// CHOICE: objects of the directory, and subscriptions themselves, are above every subscription, where nobody has roles. Who
    /// may see, or make, role assignments in all of the subscriptions may see, or change, them.
    pub fn may(&self, action: &str, scope: &ResourceId) -> bool {
        if self.allows(action, scope) {
            return true;
        }
        if !is_above_subscriptions(scope) || self.subscriptions.is_empty() {
            return false;
        }
        let verb = if action.to_ascii_lowercase().ends_with("/read") { "read" } else { "write" };
        let action = format!("{ROLE_ASSIGNMENTS}/{verb}");
        self.subscriptions.iter().all(|subscription| self.allows(&action, subscription))
    }

    fn allows(&self, action: &str, scope: &ResourceId) -> bool {
        authorize_management(&self.grants, &self.denials, &operation(action), scope).is_allowed()
    }

    /// Whether any role reaches the scope, or something below it.
    pub fn touches(&self, scope: &ResourceId) -> bool {
        self.grants.iter().any(|grant| grant.scope.is_within(scope) || scope.is_within(&grant.scope))
    }
}

/// The action as roles name it: operations on resource groups are called after subscriptions, too, unlike the type.
///
/// Source: Azure resource provider operations, Microsoft.Resources (read 2026-11).
fn operation(action: &str) -> Cow<'_, str> {
    const TYPE: &str = "Microsoft.Resources/resourceGroups/";
    match action.split_at_checked(TYPE.len()) {
        Some((start, verb)) if start.eq_ignore_ascii_case(TYPE) => {
            format!("Microsoft.Resources/subscriptions/resourceGroups/{verb}").into()
        }
        _ => action.into(),
    }
}

/// A directory object, or a subscription itself.
fn is_above_subscriptions(id: &ResourceId) -> bool {
    id.key().starts_with("/providers/microsoft.graph/") || id.is_type(SUBSCRIPTIONS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postern_access::Permissions;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn roles_name_operations_on_groups_after_subscriptions() {
        let list = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        let rights = |actions: &[&str], not_actions: &[&str]| Rights {
            grants: vec![ManagementGrant {
                assignment: "/a".parse().unwrap(),
                scope: "/subscriptions/s".parse().unwrap(),
                role: Uuid::nil(),
                role_name: "custom".into(),
                permissions: Arc::new([Permissions {
                    actions: list(actions),
                    not_actions: list(not_actions),
                    ..Permissions::default()
                }]),
                condition: None,
            }],
            ..Rights::default()
        };
        let group = "/subscriptions/s/resourceGroups/g".parse().unwrap();
        let [read, delete] = ["read", "DELETE"].map(|verb| format!("microsoft.resources/ResourceGroups/{verb}"));
        let reader = rights(&["Microsoft.Resources/subscriptions/resourceGroups/read"], &[]);
        assert_eq!((reader.may(&read, &group), reader.may(&delete, &group)), (true, false));
        let keeper = rights(&["*"], &["Microsoft.Resources/subscriptions/resourceGroups/delete"]);
        assert_eq!((keeper.may(&read, &group), keeper.may(&delete, &group)), (true, false));
    }
}

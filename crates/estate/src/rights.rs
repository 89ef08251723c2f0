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
    /// may see, or make, role assignments in all of the subscriptions may see, or change, them. Roles at the root do not give more
    /// over objects of the directory: a secret for somebody else's account is worth all of that account's roles.
    pub fn may(&self, action: &str, scope: &ResourceId) -> bool {
        let is_object = is_directory_object(scope);
        if !is_object && self.allows(action, scope) {
            return true;
        }
        if !is_object && !scope.is_type(SUBSCRIPTIONS) {
            return false;
        }
        let verb = if action.to_ascii_lowercase().ends_with("/read") { "read" } else { "write" };
        let action = format!("{ROLE_ASSIGNMENTS}/{verb}");
        if is_object && self.allows(&action, scope) {
            return true;
        }
        !self.subscriptions.is_empty()
            && self.subscriptions.iter().all(|subscription| self.allows(&action, subscription))
    }

    /// Whether the action is allowed on any scope at which the caller has a role.
    pub fn may_somewhere(&self, action: &str) -> bool {
        self.grants.iter().any(|grant| self.allows(action, &grant.scope))
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

fn is_directory_object(id: &ResourceId) -> bool {
    const NAMESPACE: [&str; 2] = ["providers", "Microsoft.Graph"];
    let start = id.segments().take(NAMESPACE.len());
    id.segments().nth(NAMESPACE.len()).is_some()
        && start.zip(NAMESPACE).all(|(own, name)| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postern_access::Permissions;
    use uuid::Uuid;

    use super::*;

    fn rights(scope: &str, actions: &[&str], not_actions: &[&str]) -> Rights {
        let list = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        Rights {
            grants: vec![ManagementGrant {
                assignment: "/a".parse().unwrap(),
                scope: scope.parse().unwrap(),
                role: Uuid::nil(),
                role_name: "custom".into(),
                permissions: Arc::new([Permissions {
                    actions: list(actions),
                    not_actions: list(not_actions),
                    ..Permissions::default()
                }]),
                condition: None,
            }],
            subscriptions: vec!["/subscriptions/s".parse().unwrap()],
            ..Rights::default()
        }
    }

    #[test]
    fn the_directory_is_changed_by_who_may_assign_roles_everywhere() {
        let user = "/providers/Microsoft.Graph/users/u".parse().unwrap();
        let may = |scope: &str, actions: &[&str], not_actions: &[&str]| {
            let rights = rights(scope, actions, not_actions);
            [
                rights.may("Microsoft.Graph/users/read", &user),
                rights.may("Microsoft.Graph/users/write", &user),
                rights.may("Microsoft.Graph/users/addPassword/action", &user),
            ]
        };
        let contributor = &["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"];
        for scope in ["/", "/subscriptions/s"] {
            assert_eq!(may(scope, &["*"], &[]), [true; 3], "{scope}");
            assert_eq!(may(scope, &["*"], contributor), [true, false, false], "{scope}");
            assert_eq!(may(scope, &["Microsoft.Graph/*"], &[]), [false; 3], "{scope}");
        }
        assert_eq!(may("/subscriptions/s/resourceGroups/g", &["*"], &[]), [false; 3]);
        assert_eq!(may("/subscriptions/other", &["*"], &[]), [false; 3]);
    }

    #[test]
    fn roles_name_operations_on_groups_after_subscriptions() {
        let rights = |actions: &[&str], not_actions: &[&str]| rights("/subscriptions/s", actions, not_actions);
        let group = "/subscriptions/s/resourceGroups/g".parse().unwrap();
        let [read, delete] = ["read", "DELETE"].map(|verb| format!("microsoft.resources/ResourceGroups/{verb}"));
        let reader = rights(&["Microsoft.Resources/subscriptions/resourceGroups/read"], &[]);
        assert_eq!((reader.may(&read, &group), reader.may(&delete, &group)), (true, false));
        let keeper = rights(&["*"], &["Microsoft.Resources/subscriptions/resourceGroups/delete"]);
        assert_eq!((keeper.may(&read, &group), keeper.may(&delete, &group)), (true, false));
    }
}

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
        authorize_management(&self.grants, &self.denials, action, scope).is_allowed()
    }

    /// Whether any role reaches the scope, or something below it.
    pub fn touches(&self, scope: &ResourceId) -> bool {
        self.grants.iter().any(|grant| grant.scope.is_within(scope) || scope.is_within(&grant.scope))
    }
}

/// A directory object, or a subscription itself.
fn is_above_subscriptions(id: &ResourceId) -> bool {
    id.key().starts_with("/providers/microsoft.graph/") || id.is_type(SUBSCRIPTIONS)
}

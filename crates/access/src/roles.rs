use postern_model::ResourceId;
use uuid::Uuid;

use crate::condition::wildcard::action_matches;
use crate::{Action, Actions, RoleAssignmentMode};

mod built_in;

pub use built_in::built_in_roles;

/// One entry of a role's (or deny assignment's) `permissions`: what is listed, less what the `not` lists take away.
///
/// In a pattern `*` is any run of characters, and letters compare without case.
///
/// Source: Azure role definitions, "Actions" to "NotDataActions" (read 2026-11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Management operations, and in the legacy mode a registry's data plane.
    pub actions: Vec<Box<str>>,
    /// Taken away from `actions`. Not a denial: another role may still give them.
    pub not_actions: Vec<Box<str>>,
    /// Operations on data.
    pub data_actions: Vec<Box<str>>,
    /// Taken away from `data_actions`.
    pub not_data_actions: Vec<Box<str>>,
}

impl Permissions {
    /// Whether the management operation is covered.
    pub fn allows_action(&self, action: &str) -> bool {
        covers(&self.actions, action) && !covers(&self.not_actions, action)
    }

    /// Whether the operation on data is covered.
    pub fn allows_data_action(&self, action: &str) -> bool {
        covers(&self.data_actions, action) && !covers(&self.not_data_actions, action)
    }
}

fn covers(patterns: &[Box<str>], action: &str) -> bool {
    patterns.iter().any(|pattern| action_matches(pattern, action))
}

/// A role: a name for a set of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// The last segment of its resource id.
    pub id: Uuid,
    /// `roleName`.
    pub name: Box<str>,
    /// `description`.
    pub description: Box<str>,
    /// `type` is `BuiltInRole`, not `CustomRole`.
    pub built_in: bool,
    /// The union of these is what the role gives.
    pub permissions: Vec<Permissions>,
}

impl RoleDefinition {
    /// Its resource id, without a subscription: `/providers/Microsoft.Authorization/roleDefinitions/{id}`.
    pub fn resource_id(&self) -> ResourceId {
        ResourceId::root().child("providers/Microsoft.Authorization/roleDefinitions", &self.id.to_string())
    }
}

/// The built-in role with this id.
pub fn built_in_role(id: Uuid) -> Option<&'static RoleDefinition> {
    built_in_roles().iter().find(|role| role.id == id)
}

/// An operation's name, and what a role that covers it may do with content.
type Row = (&'static str, Actions);

/// The `actions` that count in the legacy mode.
///
/// Source: Azure Container Registry, "Roles and permissions", registry permissions (read 2026-11).
const LEGACY: [Row; 9] = [
    (PULL_READ, Actions::of(&[Action::Pull, Action::MetadataRead, Action::CatalogRead])),
    (PUSH_WRITE, Actions::of(&[Action::Push])),
    (ARTIFACTS_DELETE, Actions::of(&[Action::Delete])),
    (METADATA_READ, Actions::of(&[Action::MetadataRead])),
    (METADATA_WRITE, Actions::of(&[Action::MetadataWrite])),
    (DELETED_READ, Actions::of(&[Action::DeletedRead])),
    (DELETED_RESTORE, Actions::of(&[Action::DeletedRestore])),
    (QUARANTINE_READ, Actions::of(&[Action::QuarantineRead])),
    (QUARANTINE_WRITE, Actions::of(&[Action::QuarantineWrite])),
];

const PULL_READ: &str = "Microsoft.ContainerRegistry/registries/pull/read";
const PUSH_WRITE: &str = "Microsoft.ContainerRegistry/registries/push/write";
const ARTIFACTS_DELETE: &str = "Microsoft.ContainerRegistry/registries/artifacts/delete";
const METADATA_READ: &str = "Microsoft.ContainerRegistry/registries/metadata/read";
const METADATA_WRITE: &str = "Microsoft.ContainerRegistry/registries/metadata/write";
const DELETED_READ: &str = "Microsoft.ContainerRegistry/registries/deleted/read";
const DELETED_RESTORE: &str = "Microsoft.ContainerRegistry/registries/deleted/restore/action";
const QUARANTINE_READ: &str = "Microsoft.ContainerRegistry/registries/quarantine/read";
const QUARANTINE_WRITE: &str = "Microsoft.ContainerRegistry/registries/quarantine/write";
const SIGN_WRITE: &str = "Microsoft.ContainerRegistry/registries/sign/write";

/// The `dataActions` that count in the ABAC mode. Signing is not among them: content trust does not exist in that mode.
///
/// Source: Azure Container Registry, "Entra-based repository permissions" (read 2026-11).
const ABAC: [Row; 9] = [
    (CONTENT_READ, Actions::of(&[Action::Pull])),
    (CONTENT_WRITE, Actions::of(&[Action::Push])),
    (CONTENT_DELETE, Actions::of(&[Action::Delete])),
    (REPOSITORY_METADATA_READ, Actions::of(&[Action::MetadataRead])),
    (REPOSITORY_METADATA_WRITE, Actions::of(&[Action::MetadataWrite])),
    (REPOSITORY_METADATA_DELETE, Actions::of(&[Action::MetadataDelete])),
    (CATALOG_READ, Actions::of(&[Action::CatalogRead])),
    (QUARANTINED_READ, Actions::of(&[Action::QuarantineRead])),
    (QUARANTINED_WRITE, Actions::of(&[Action::QuarantineWrite])),
];

const CONTENT_READ: &str = "Microsoft.ContainerRegistry/registries/repositories/content/read";
const CONTENT_WRITE: &str = "Microsoft.ContainerRegistry/registries/repositories/content/write";
const CONTENT_DELETE: &str = "Microsoft.ContainerRegistry/registries/repositories/content/delete";
const REPOSITORY_METADATA_READ: &str = "Microsoft.ContainerRegistry/registries/repositories/metadata/read";
const REPOSITORY_METADATA_WRITE: &str = "Microsoft.ContainerRegistry/registries/repositories/metadata/write";
const REPOSITORY_METADATA_DELETE: &str = "Microsoft.ContainerRegistry/registries/repositories/metadata/delete";
const CATALOG_READ: &str = "Microsoft.ContainerRegistry/registries/catalog/read";
const QUARANTINED_READ: &str = "Microsoft.ContainerRegistry/registries/quarantinedArtifacts/read";
const QUARANTINED_WRITE: &str = "Microsoft.ContainerRegistry/registries/quarantinedArtifacts/write";
const TRUSTED_COLLECTIONS_WRITE: &str = "Microsoft.ContainerRegistry/registries/trustedCollections/write";

/// What a role with these permissions may do with a registry's content. Each mode reads its own kind of permission only:
/// `actions` in the legacy mode, `dataActions` in the ABAC mode.
///
/// Source: Azure Container Registry, "Entra-based repository permissions", effect on existing role assignments (read 2026-11).
pub fn data_plane_actions(permissions: &[Permissions], mode: RoleAssignmentMode) -> Actions {
    let given = |rows: &[Row], allows: fn(&Permissions, &str) -> bool| {
        let covered = rows.iter().filter(|(name, _)| permissions.iter().any(|entry| allows(entry, name)));
        covered.fold(Actions::NONE, |all, &(_, actions)| all.union(actions))
    };
    match mode {
        RoleAssignmentMode::Abac => given(&ABAC, Permissions::allows_data_action),
        RoleAssignmentMode::Legacy => {
            let mut actions = given(&LEGACY, Permissions::allows_action);
            if permissions.iter().any(names_signing) {
                actions.insert(Action::Sign);
            }
            actions
        }
    }
}

/// Whether a role with these permissions covers `registries/metadata/read` itself; see [`crate::Grant`].
pub fn names_metadata_read(permissions: &[Permissions]) -> bool {
    permissions.iter().any(|entry| entry.allows_action(METADATA_READ))
}

/// Whether signing is given by its own name. A wildcard does not give it: an owner needs the signer's role too.
///
/// Source: Azure Container Registry, "Content trust", granting image signing permissions (read 2026-11).
fn names_signing(permissions: &Permissions) -> bool {
    let named = permissions.actions.iter().any(|action| action.eq_ignore_ascii_case(SIGN_WRITE));
    named && permissions.allows_action(SIGN_WRITE)
}

/// The operation's full name, as the `ActionMatches` of a condition sees it and as a custom role would list it.
///
/// Where a mode has no operation of its own for the action, the nearest one of that mode that gives the right stands for it;
/// soft-deleted content has the same names in both.
pub const fn operation_name(action: Action, mode: RoleAssignmentMode) -> &'static str {
    match (mode, action) {
        (RoleAssignmentMode::Legacy, Action::Pull | Action::CatalogRead) => PULL_READ,
        (RoleAssignmentMode::Legacy, Action::Push) => PUSH_WRITE,
        (RoleAssignmentMode::Legacy, Action::Delete | Action::MetadataDelete) => ARTIFACTS_DELETE,
        (RoleAssignmentMode::Legacy, Action::MetadataRead) => METADATA_READ,
        (RoleAssignmentMode::Legacy, Action::MetadataWrite) => METADATA_WRITE,
        (RoleAssignmentMode::Legacy, Action::QuarantineRead) => QUARANTINE_READ,
        (RoleAssignmentMode::Legacy, Action::QuarantineWrite) => QUARANTINE_WRITE,
        (RoleAssignmentMode::Legacy, Action::Sign) => SIGN_WRITE,
        (_, Action::DeletedRead) => DELETED_READ,
        (_, Action::DeletedRestore) => DELETED_RESTORE,
        (RoleAssignmentMode::Abac, Action::Pull) => CONTENT_READ,
        (RoleAssignmentMode::Abac, Action::Push) => CONTENT_WRITE,
        (RoleAssignmentMode::Abac, Action::Delete) => CONTENT_DELETE,
        (RoleAssignmentMode::Abac, Action::MetadataRead) => REPOSITORY_METADATA_READ,
        (RoleAssignmentMode::Abac, Action::MetadataWrite) => REPOSITORY_METADATA_WRITE,
        (RoleAssignmentMode::Abac, Action::MetadataDelete) => REPOSITORY_METADATA_DELETE,
        (RoleAssignmentMode::Abac, Action::CatalogRead) => CATALOG_READ,
        (RoleAssignmentMode::Abac, Action::QuarantineRead) => QUARANTINED_READ,
        (RoleAssignmentMode::Abac, Action::QuarantineWrite) => QUARANTINED_WRITE,
        (RoleAssignmentMode::Abac, Action::Sign) => TRUSTED_COLLECTIONS_WRITE,
    }
}

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::*;
use RoleAssignmentMode::{Abac, Legacy};

fn role(name: &str) -> &'static RoleDefinition {
    built_in_roles().iter().find(|role| &*role.name == name).unwrap()
}

fn list(operations: &[&str]) -> Vec<Box<str>> {
    operations.iter().map(|&operation| operation.into()).collect()
}

/// Every built-in role in both modes. `catalog` is the token scope `registry:catalog:*`.
const TABLE: &str = "\
AcrPull | pull metadata_read catalog | -
AcrPush | pull push metadata_read catalog | -
AcrDelete | delete | -
AcrImageSigner | sign | -
AcrQuarantineReader | quarantine_read | quarantine_read
AcrQuarantineWriter | quarantine_read quarantine_write | quarantine_read quarantine_write
Container Registry Repository Reader | - | pull metadata_read
Container Registry Repository Writer | - | pull push metadata_read metadata_write
Container Registry Repository Contributor | - | pull push delete metadata_read metadata_write metadata_delete
Container Registry Repository Catalog Lister | - | catalog
Container Registry Contributor and Data Access Configuration Administrator | - | -
Container Registry Configuration Reader and Data Access Configuration Reader | - | -
Container Registry Tasks Contributor | - | -
Container Registry Data Importer and Data Reader | pull metadata_read catalog | pull metadata_read catalog
Container Registry Transfer Pipeline Contributor | - | -
Container Registry Cache Rule Administrator | - | -
Container Registry Cache Rule Reader | - | -
Container Registry Credential Set Administrator | - | -
Container Registry Credential Set Reader | - | -
Owner | pull push delete metadata_read metadata_write deleted_read deleted_restore catalog quarantine_read quarantine_write | -
Contributor | pull push delete metadata_read metadata_write deleted_read deleted_restore catalog quarantine_read quarantine_write | -
Reader | pull metadata_read deleted_read catalog quarantine_read | -
User Access Administrator | pull metadata_read deleted_read catalog quarantine_read | -
Role Based Access Control Administrator | pull metadata_read deleted_read catalog quarantine_read | -
Managed Identity Operator | - | -
";

#[test]
fn every_role_in_both_modes() {
    let words = |role: &RoleDefinition, mode| {
        let actions = data_plane_actions(&role.permissions, mode);
        let words: Vec<&str> = actions
            .iter()
            .map(|action| if action == Action::CatalogRead { "catalog" } else { action.as_str() })
            .collect();
        if words.is_empty() { "-".to_owned() } else { words.join(" ") }
    };
    let rows: Vec<String> = built_in_roles()
        .iter()
        .map(|role| format!("{} | {} | {}", role.name, words(role, Legacy), words(role, Abac)))
        .collect();
    assert_eq!(rows.join("\n"), TABLE.trim_end());
}

#[track_caller]
fn check(permissions: &Permissions, action: &str, allowed: bool, data_allowed: bool) {
    assert_eq!(permissions.allows_action(action), allowed, "action {action}");
    assert_eq!(permissions.allows_data_action(action), data_allowed, "data action {action}");
}

#[test]
fn not_lists_subtract_within_their_kind() {
    let permissions = Permissions {
        actions: list(&["Microsoft.ContainerRegistry/*"]),
        not_actions: list(&["*/delete"]),
        data_actions: list(&["Microsoft.ContainerRegistry/registries/repositories/*"]),
        not_data_actions: list(&["Microsoft.ContainerRegistry/registries/repositories/content/WRITE"]),
    };
    check(&permissions, "Microsoft.ContainerRegistry/registries/read", true, false);
    check(&permissions, "Microsoft.ContainerRegistry/registries/delete", false, false);
    check(&permissions, CONTENT_READ, true, true);
    check(&permissions, CONTENT_WRITE, true, false);
    check(&permissions, CONTENT_DELETE, false, true);
    check(&permissions, "Microsoft.Storage/storageAccounts/read", false, false);
    check(&Permissions::default(), CONTENT_READ, false, false);

    // What one entry takes away, another may give.
    let legacy_delete = Permissions { actions: list(&[ARTIFACTS_DELETE]), ..Permissions::default() };
    assert!(!data_plane_actions(std::slice::from_ref(&permissions), Legacy).contains(Action::Delete));
    assert!(data_plane_actions(&[permissions, legacy_delete], Legacy).contains(Action::Delete));
}

#[test]
fn signing_needs_its_own_name() {
    let signs = |actions: &[&str], not_actions: &[&str]| {
        let permissions =
            Permissions { actions: list(actions), not_actions: list(not_actions), ..Permissions::default() };
        data_plane_actions(&[permissions], Legacy).contains(Action::Sign)
    };
    assert!(signs(&["microsoft.containerregistry/registries/SIGN/write"], &[]));
    assert!(signs(&["*", SIGN_WRITE], &[]));
    assert!(!signs(&["*"], &[]));
    assert!(!signs(&[SIGN_WRITE], &["*/write"]));
}

#[test]
fn contributor_assigns_no_roles() {
    let [contributor] = &*role("Contributor").permissions else { panic!() };
    for (action, allowed) in [
        ("Microsoft.ContainerRegistry/registries/write", true),
        ("Microsoft.Authorization/roleAssignments/read", true),
        ("Microsoft.Authorization/roleAssignments/write", false),
        ("Microsoft.Authorization/roleAssignments/delete", false),
        ("Microsoft.Authorization/elevateAccess/action", false),
        ("Microsoft.Blueprint/blueprintAssignments/write", false),
    ] {
        check(contributor, action, allowed, false);
    }
}

#[test]
fn roles_are_written_in_full() {
    let [tasks] = &*role("Container Registry Tasks Contributor").permissions else { panic!() };
    assert_eq!(tasks.actions.len(), 24);
    assert!(tasks.allows_action("Microsoft.ContainerRegistry/registries/runs/listLogSasUrl/action"));
    let [transfer] = &*role("Container Registry Transfer Pipeline Contributor").permissions else { panic!() };
    assert_eq!(transfer.actions.len(), 10);

    let mut ids = HashSet::new();
    let mut names = HashSet::new();
    for role in built_in_roles() {
        assert!(ids.insert(role.id) && names.insert(&role.name), "{}", role.name);
        assert_eq!(built_in_role(role.id), Some(role));
        assert!(role.built_in && !role.description.contains("  "), "{}", role.name);
        for entry in &role.permissions {
            let mut operations = entry.actions.iter().chain(&entry.not_actions).chain(&entry.data_actions);
            assert!(operations.all(|operation| !operation.contains(['{', '}', ',', ' '])), "{}", role.name);
        }
    }
    assert_eq!(
        role("AcrPull").resource_id().as_str(),
        "/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"
    );
}

/// A role that lists the name an action goes by gives the action, wherever the mode has such a right at all.
#[test]
fn operation_names_give_their_actions() {
    for action in Action::ALL {
        let name = list(&[operation_name(action, Legacy)]);
        let given = data_plane_actions(&[Permissions { actions: name, ..Permissions::default() }], Legacy);
        assert_eq!(given.contains(action), action != Action::MetadataDelete, "{action:?}");

        let name = list(&[operation_name(action, Abac)]);
        let given = data_plane_actions(&[Permissions { data_actions: name, ..Permissions::default() }], Abac);
        let exists = !matches!(action, Action::DeletedRead | Action::DeletedRestore | Action::Sign);
        assert_eq!(given.contains(action), exists, "{action:?}");
    }
}

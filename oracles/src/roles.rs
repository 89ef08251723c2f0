use crate::Role;

/// A row of section 7: name, `actions`, `dataActions`.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const REGISTRIES: &str = "Microsoft.ContainerRegistry/registries/";

/// The built-in roles that the documents name, with what concerns a registry; `~` stands for `Microsoft.ContainerRegistry/registries/`.
pub const BUILT_IN: [Row; 20] = [
    ("AcrPull", &["~pull/read"], &[]),
    ("AcrPush", &["~pull/read", "~push/write"], &[]),
    ("AcrDelete", &["~artifacts/delete"], &[]),
    ("AcrImageSigner", &["~sign/write"], &["~trustedCollections/write"]),
    ("AcrQuarantineReader", &["~quarantine/read"], &["~quarantinedArtifacts/read"]),
    (
        "AcrQuarantineWriter",
        &["~quarantine/read", "~quarantine/write"],
        &["~quarantinedArtifacts/read", "~quarantinedArtifacts/write"],
    ),
    ("Container Registry Repository Reader", &[], &["~repositories/metadata/read", "~repositories/content/read"]),
    (
        "Container Registry Repository Writer",
        &[],
        &[
            "~repositories/metadata/read",
            "~repositories/content/read",
            "~repositories/metadata/write",
            "~repositories/content/write",
        ],
    ),
    (
        "Container Registry Repository Contributor",
        &[],
        &[
            "~repositories/metadata/read",
            "~repositories/content/read",
            "~repositories/metadata/write",
            "~repositories/content/write",
            "~repositories/metadata/delete",
            "~repositories/content/delete",
        ],
    ),
    ("Container Registry Repository Catalog Lister", &[], &["~catalog/read"]),
    (
        "Container Registry Contributor and Data Access Configuration Administrator",
        &["~read", "~write", "~delete", "~listCredentials/action", "~regenerateCredential/action", "~tokens/read"],
        &[],
    ),
    (
        "Container Registry Configuration Reader and Data Access Configuration Reader",
        &["~read", "~listCredentials/action", "~tokens/read", "~scopeMaps/read"],
        &[],
    ),
    (
        "Container Registry Tasks Contributor",
        &["~read", "~tasks/read", "~tasks/write", "~tasks/delete", "~runs/read", "~scheduleRun/action"],
        &[],
    ),
    (
        "Container Registry Data Importer and Data Reader",
        &["~importImage/action", "~read", "~pull/read"],
        &["~repositories/content/read", "~repositories/metadata/read", "~catalog/read"],
    ),
    (
        "Container Registry Transfer Pipeline Contributor",
        &["~exportPipelines/read", "~importPipelines/read", "~pipelineRuns/read"],
        &[],
    ),
    ("Owner", &["*"], &[]),
    ("Contributor", &["*"], &[]),
    ("Reader", &["*/read"], &[]),
    ("User Access Administrator", &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"], &[]),
    (
        "Role Based Access Control Administrator",
        &["Microsoft.Authorization/roleAssignments/write", "*/read", "Microsoft.Support/*"],
        &[],
    ),
];

/// The built-in role of this name.
pub fn built_in(name: &str) -> Role {
    let (name, actions, data_actions) =
        BUILT_IN.iter().find(|(of, ..)| *of == name).unwrap_or_else(|| panic!("`{name}` is in no table"));
    let whole = |short: &[&str]| short.iter().map(|pattern| pattern.replace('~', REGISTRIES)).collect();
    let not_actions: &[&str] = match *name {
        "Contributor" => &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
        _ => &[],
    };
    Role {
        name: (*name).to_owned(),
        actions: whole(actions),
        not_actions: whole(not_actions),
        data_actions: whole(data_actions),
        not_data_actions: Vec::new(),
    }
}

use std::sync::LazyLock;

use uuid::Uuid;

use super::{Permissions, RoleDefinition};

/// The built-in roles that concern a registry, as Azure defines them.
///
/// Source: Azure built-in roles, categories "Containers", "General", "Privileged", "Identity"; Azure Container Registry,
/// "Roles directory reference" (read 2026-11).
pub fn built_in_roles() -> &'static [RoleDefinition] {
    static ROLES: LazyLock<Vec<RoleDefinition>> = LazyLock::new(|| ROWS.iter().map(Row::definition).collect());
    &ROLES
}

/// A role in short. Operations without a provider are the registry provider's; `x/{read,write}` stands for two of them.
struct Row {
    id: u128,
    name: &'static str,
    description: &'static str,
    actions: &'static [&'static str],
    not_actions: &'static [&'static str],
    data_actions: &'static [&'static str],
}

impl Row {
    fn definition(&self) -> RoleDefinition {
        RoleDefinition {
            id: Uuid::from_u128(self.id),
            name: self.name.into(),
            description: self.description.into(),
            built_in: true,
            permissions: vec![Permissions {
                actions: in_full(self.actions),
                not_actions: in_full(self.not_actions),
                data_actions: in_full(self.data_actions),
                not_data_actions: Vec::new(),
            }],
        }
    }
}

fn in_full(short: &[&str]) -> Vec<Box<str>> {
    short.iter().flat_map(|operation| alternatives(operation)).map(|operation| with_provider(&operation)).collect()
}

fn alternatives(operation: &str) -> Vec<String> {
    match operation.split_once('{') {
        None => vec![operation.to_owned()],
        Some((start, verbs)) => verbs.trim_end_matches('}').split(',').map(|verb| format!("{start}{verb}")).collect(),
    }
}

fn with_provider(operation: &str) -> Box<str> {
    if operation.starts_with("Microsoft.") || operation.starts_with('*') {
        operation.into()
    } else {
        format!("Microsoft.ContainerRegistry/{operation}").into()
    }
}

const ROWS: [Row; 25] = [
    Row {
        id: 0x7f951dda_4ed3_4680_a7ca_43fe172d538d,
        name: "AcrPull",
        description: "Pull artifacts from a container registry.",
        actions: &["registries/pull/read"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x8311e382_0749_4cb8_b61a_304f252e45ec,
        name: "AcrPush",
        description: "Push artifacts to or pull artifacts from a container registry.",
        actions: &["registries/pull/read", "registries/push/write"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xc2f4ef07_c644_48eb_af81_4b1b4947fb11,
        name: "AcrDelete",
        description: "Delete repositories, tags, or manifests from a container registry.",
        actions: &["registries/artifacts/delete"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x6cef56e8_d556_48e5_a04f_b8e64114680f,
        name: "AcrImageSigner",
        description: "Push trusted images to or pull trusted images from a container registry enabled for content trust.",
        actions: &["registries/sign/write"],
        not_actions: &[],
        data_actions: &["registries/trustedCollections/write"],
    },
    Row {
        id: 0xcdda3590_29a3_44f6_95f2_9f980659eb04,
        name: "AcrQuarantineReader",
        description: "Pull quarantined images from a container registry.",
        actions: &["registries/quarantine/read"],
        not_actions: &[],
        data_actions: &["registries/quarantinedArtifacts/read"],
    },
    Row {
        id: 0xc8d4ff99_41c3_41a8_9f60_21dfdad59608,
        name: "AcrQuarantineWriter",
        description: "Push quarantined images to or pull quarantined images from a container registry.",
        actions: &["registries/quarantine/{read,write}"],
        not_actions: &[],
        data_actions: &["registries/quarantinedArtifacts/{read,write}"],
    },
    Row {
        id: 0xb93aa761_3e63_49ed_ac28_beffa264f7ac,
        name: "Container Registry Repository Reader",
        description: "Read access to repositories of a container registry, without listing the catalog.",
        actions: &[],
        not_actions: &[],
        data_actions: &["registries/repositories/metadata/read", "registries/repositories/content/read"],
    },
    Row {
        id: 0x2a1e307c_b015_4ebd_883e_5b7698a07328,
        name: "Container Registry Repository Writer",
        description: "Read and write access to repositories of a container registry, without listing the catalog.",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "registries/repositories/metadata/{read,write}",
            "registries/repositories/content/{read,write}",
        ],
    },
    Row {
        id: 0x2efddaa5_3f1f_4df3_97df_af3f13818f4c,
        name: "Container Registry Repository Contributor",
        description: "Read, write and delete access to repositories of a container registry, without listing the catalog.",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "registries/repositories/metadata/{read,write,delete}",
            "registries/repositories/content/{read,write,delete}",
        ],
    },
    Row {
        id: 0xbfdb9389_c9a5_478a_bb2f_ba9ca092c3c7,
        name: "Container Registry Repository Catalog Lister",
        description: "List all repositories of a container registry.",
        actions: &[],
        not_actions: &[],
        data_actions: &["registries/catalog/read"],
    },
    Row {
        id: 0x3bc748fc_213d_45c1_8d91_9da5725539b9,
        name: "Container Registry Contributor and Data Access Configuration Administrator",
        description: "Create, list and update container registries and their configuration, and configure data access by admin \
                      user, scope maps and tokens. No direct access to content, and none to tasks, imports and pipelines.",
        actions: &[
            "checkNameAvailability/read",
            "locations/operationResults/read",
            "registries/{read,write,delete}",
            "registries/operationStatuses/read",
            "registries/listCredentials/action",
            "registries/regenerateCredential/action",
            "registries/generateCredentials/action",
            "registries/listUsages/read",
            "registries/listPolicies/read",
            "registries/updatePolicies/write",
            "registries/replications/{read,write,delete,operationStatuses/read}",
            "registries/privateEndpointConnectionsApproval/action",
            "registries/privateEndpointConnections/{read,write,delete,operationStatuses/read}",
            "registries/tokens/{read,write,delete,operationStatuses/read}",
            "registries/scopeMaps/{read,write,delete,operationStatuses/read}",
            "registries/connectedRegistries/{read,write,delete,deactivate/action}",
            "registries/webhooks/{read,write,delete,operationStatuses/read}",
            "registries/webhooks/{getCallbackConfig/action,ping/action,listEvents/action}",
            "registries/providers/Microsoft.Insights/diagnosticSettings/{read,write}",
            "registries/providers/Microsoft.Insights/logDefinitions/read",
            "registries/providers/Microsoft.Insights/metricDefinitions/read",
            "Microsoft.Authorization/*/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x69b07be0_09bf_439a_b9a6_e73de851bd59,
        name: "Container Registry Configuration Reader and Data Access Configuration Reader",
        description: "List container registries and their configuration, and the data access configured by admin user, scope \
                      maps and tokens. No direct access to content.",
        actions: &[
            "registries/read",
            "registries/operationStatuses/read",
            "registries/listCredentials/action",
            "registries/listUsages/read",
            "registries/listPolicies/read",
            "registries/replications/{read,operationStatuses/read}",
            "registries/privateEndpointConnections/{read,operationStatuses/read}",
            "registries/tokens/{read,operationStatuses/read}",
            "registries/scopeMaps/{read,operationStatuses/read}",
            "registries/connectedRegistries/read",
            "registries/webhooks/{read,operationStatuses/read,getCallbackConfig/action,listEvents/action}",
            "registries/providers/Microsoft.Insights/diagnosticSettings/{read,write}",
            "registries/providers/Microsoft.Insights/logDefinitions/read",
            "registries/providers/Microsoft.Insights/metricDefinitions/read",
            "Microsoft.Authorization/*/read",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xfb382eab_e894_4461_af04_94435c366c3f,
        name: "Container Registry Tasks Contributor",
        description: "Configure, list, trigger and cancel tasks, runs and agent pools of a container registry. Whoever manages \
                      tasks can reach content through their identities.",
        actions: &[
            "registries/read",
            "registries/scheduleRun/action",
            "registries/listBuildSourceUploadUrl/action",
            "registries/agentpools/{read,write,delete,listQueueStatus/action}",
            "registries/agentpools/{operationResults/status/read,operationStatuses/read}",
            "registries/tasks/{read,write,delete,listDetails/action}",
            "registries/runs/{read,write,listLogSasUrl/action,cancel/action}",
            "registries/taskruns/{read,write,delete,listDetails/action,operationStatuses/read}",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x577a9874_89fd_4f24_9dbd_b5034d0ad23a,
        name: "Container Registry Data Importer and Data Reader",
        description: "Import images into a container registry, list its repositories and read their content.",
        actions: &["registries/importImage/action", "registries/read", "registries/pull/read"],
        not_actions: &[],
        data_actions: &[
            "registries/repositories/content/read",
            "registries/repositories/metadata/read",
            "registries/catalog/read",
        ],
    },
    Row {
        id: 0xbf94e731_3a51_4a7c_8c54_a1ab9971dfc1,
        name: "Container Registry Transfer Pipeline Contributor",
        description: "Configure and run the import and export pipelines of a container registry.",
        actions: &[
            "registries/exportPipelines/{read,write,delete}",
            "registries/importPipelines/{read,write,delete}",
            "registries/pipelineRuns/{read,write,delete,operationStatuses/read}",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xdf87f177_bb12_4db1_9793_a413691eff94,
        name: "Container Registry Cache Rule Administrator",
        description: "Create, read, update and delete the cache rules of a container registry, but not its credential sets.",
        actions: &["registries/cacheRules/{read,write,delete,operationStatuses/read}"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xc357b964_0002_4b64_a50d_7a28f02edc52,
        name: "Container Registry Cache Rule Reader",
        description: "Read the cache rules of a container registry, but not its credential sets.",
        actions: &["registries/cacheRules/{read,operationStatuses/read}"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xf094fb07_0703_4400_ad6a_e16dd8000e14,
        name: "Container Registry Credential Set Administrator",
        description: "Create, read, update and delete the credential sets of a container registry, but not its cache rules.",
        actions: &["registries/credentialSets/{read,write,delete,operationStatuses/read}"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x29093635_9924_4f2c_913b_650a12949526,
        name: "Container Registry Credential Set Reader",
        description: "Read the credential sets of a container registry, but not its cache rules.",
        actions: &["registries/credentialSets/{read,operationStatuses/read}"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x8e3af657_a8ff_443c_a75c_2fe8c4bcb635,
        name: "Owner",
        description: "Full access to manage all resources, including assigning roles.",
        actions: &["*"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xb24988ac_6180_42a0_ab88_20f7382dd24c,
        name: "Contributor",
        description: "Full access to manage all resources, but not to assign roles.",
        actions: &["*"],
        not_actions: &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
            "Microsoft.Blueprint/blueprintAssignments/{write,delete}",
            "Microsoft.Compute/galleries/share/action",
            "Microsoft.Purview/consents/{write,delete}",
            "Microsoft.Resources/deploymentStacks/manageDenySetting/action",
            "Microsoft.Subscription/cancel/action",
            "Microsoft.Subscription/enable/action",
        ],
        data_actions: &[],
    },
    Row {
        id: 0xacdd72a7_3385_48ef_bd42_f606fba81ae7,
        name: "Reader",
        description: "View all resources, but change none.",
        actions: &["*/read"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0x18d7d88d_d35e_4fb5_a5c3_7773c20a72d9,
        name: "User Access Administrator",
        description: "Manage user access to resources.",
        actions: &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xf58310d9_a9f6_439a_9e8d_f62e7b41a168,
        name: "Role Based Access Control Administrator",
        description: "Manage access to resources by assigning roles.",
        actions: &["Microsoft.Authorization/roleAssignments/{write,delete}", "*/read", "Microsoft.Support/*"],
        not_actions: &[],
        data_actions: &[],
    },
    Row {
        id: 0xf1a07417_d97a_45cb_824c_7a7467783830,
        name: "Managed Identity Operator",
        description: "Read and assign user-assigned identities.",
        // CHOICE: the published patterns are `…/*/read` and `…/*/assign/action`, which by the letter miss the operations on
        // an identity itself; both forms are listed.
        actions: &[
            "Microsoft.ManagedIdentity/userAssignedIdentities/{read,assign/action}",
            "Microsoft.ManagedIdentity/userAssignedIdentities/*/{read,assign/action}",
            "Microsoft.Authorization/*/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Support/*",
        ],
        not_actions: &[],
        data_actions: &[],
    },
];

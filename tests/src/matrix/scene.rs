use std::collections::HashMap;
use std::sync::Arc;

use postern_access::{
    AddressRanges, Attributes, CONTAINER_GROUPS, Caller as AccessCaller, Condition, ConnectionStatus, ContentPolicies,
    ContentState, Credential, Grant, GrantTable, IMPORTERS, Ingress, Inputs, InvalidCredential, NetworkRules,
    Operation as Wanted, OperationKind, Origin, PolicyDate, Principal, PrincipalKind, PrivateEndpointConnection, RUNS,
    RegistryRules, RepositoryTokenRule, RoleAssignmentMode, RoleDefinition, SCANNERS, ScopeMapActions, Settings, TASKS,
    TokenBinding, TokenClaim, TrustedServices, Verified, WEB_SITES, WORKSPACES, Workload as AccessWorkload,
    WorkloadIdentity, WorkloadRejection, WorkloadState, built_in_roles, data_plane_actions, names_metadata_read,
};
use postern_model::{IdentityKind, IpRule, IpRuleMode, PrincipalId, RegistryUid, ResourceId, ResourceUid};
use uuid::Uuid;

use super::{Assignment, Identity, Place, Rejected, Row, WorkloadKind};

/// The registry that every row is about.
pub const REGISTRY: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.ContainerRegistry/registries/example";
/// Its login server.
pub const LOGIN_SERVER: &str = "example.azurecr.io";
/// The private endpoint that may be connected to it.
pub const PRIVATE_ENDPOINT: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.Network/privateEndpoints/example-endpoint";
/// A private endpoint of another registry.
pub const OTHER_PRIVATE_ENDPOINT: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.Network/privateEndpoints/other-endpoint";
/// A subnet with a service endpoint.
pub const OFFICE_SUBNET: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.Network/virtualNetworks/net/subnets/clients";
/// Another subnet with a service endpoint.
pub const OTHER_SUBNET: &str =
    "/subscriptions/5ub/resourceGroups/group/providers/Microsoft.Network/virtualNetworks/net/subnets/others";
/// A group that the row's caller belongs to.
pub const GROUP: PrincipalId = PrincipalId(Uuid::from_u128(0x6));

const SYSTEM: PrincipalId = PrincipalId(Uuid::from_u128(0x1));
const USER: PrincipalId = PrincipalId(Uuid::from_u128(0x2));
const SERVICE_PRINCIPAL: PrincipalId = PrincipalId(Uuid::from_u128(0x3));
const SCANNER: PrincipalId = PrincipalId(Uuid::from_u128(0x4));
const WORKLOAD: ResourceUid = ResourceUid(Uuid::from_u128(0x10));
const OTHER_WORKLOAD: ResourceUid = ResourceUid(Uuid::from_u128(0x11));
const REGISTRY_UID: RegistryUid = RegistryUid(Uuid::from_u128(0x20));
const TOKEN_UID: ResourceUid = ResourceUid(Uuid::from_u128(0x30));
/// Stands for the digest of whatever is read.
const ANY_DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
pub(super) const TOKEN_NAME: &str = "robot";

/// A row as the pure decision takes it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Where the request comes from.
    pub origin: Origin,
    /// The registry's rules.
    pub rules: RegistryRules,
    /// What the credentials amount to.
    pub credential: Credential,
    /// What the request wants.
    pub operation: Wanted,
    /// The locks on what it touches.
    pub content: Option<ContentState>,
}

impl Scene {
    /// The decision's inputs.
    pub const fn inputs(&self) -> Inputs<'_> {
        Inputs {
            origin: &self.origin,
            rules: &self.rules,
            credential: &self.credential,
            operation: &self.operation,
            content: self.content.as_ref(),
        }
    }
}

/// The object id of a caller by its kind in a row; `None` for callers that are in no directory.
pub fn principal(kind: &str) -> Option<(PrincipalId, PrincipalKind)> {
    match kind {
        "system" => Some((SYSTEM, PrincipalKind::ManagedIdentity)),
        "user" => Some((USER, PrincipalKind::ManagedIdentity)),
        "principal" => Some((SERVICE_PRINCIPAL, PrincipalKind::ServicePrincipal)),
        "scanner" => Some((SCANNER, PrincipalKind::FirstParty)),
        _ => None,
    }
}

impl Row {
    /// The values that the row stands for.
    pub fn scene(&self) -> Scene {
        Scene {
            origin: self.origin(),
            rules: self.rules(),
            credential: self.credential(),
            operation: self.wanted(),
            content: self.locks.as_ref().map(|locks| ContentState {
                repository: Some(attributes(&locks.repository)),
                tag: (!self.operation.by_digest).then(|| attributes(&locks.tag)),
                manifest: Some(attributes(&locks.manifest)),
                unpassed: locks.quarantined,
            }),
        }
    }

    /// Which of the registry's operations the row is about.
    pub fn kind(&self) -> OperationKind {
        let known = OperationKind::ALL.into_iter().find(|kind| kind.as_str() == self.operation.kind);
        known.unwrap_or_else(|| panic!("`{}` is no operation", self.operation.kind))
    }

    fn wanted(&self) -> Wanted {
        match self.kind() {
            kind @ (OperationKind::Ping
            | OperationKind::ExchangeToken
            | OperationKind::IssueToken
            | OperationKind::ListCatalog
            | OperationKind::ListDeletedCatalog) => Wanted::registry(kind),
            kind => Wanted::repository(
                kind,
                self.operation.repository.parse().expect("a repository name"),
                if kind == OperationKind::PullManifest && self.operation.by_digest {
                    Some(ANY_DIGEST.parse().expect("a digest"))
                } else {
                    self.tag(kind).map(|tag| tag.parse().expect("a tag"))
                },
            ),
        }
    }

    /// The tag, for operations on one reference.
    pub(super) fn tag(&self, kind: OperationKind) -> Option<&str> {
        use OperationKind::{DeleteManifest, PullManifest, PushManifest, Untag};
        let concerns = matches!(kind, PullManifest | PushManifest | DeleteManifest | Untag);
        self.operation.tag.as_deref().filter(|_| concerns)
    }

    fn origin(&self) -> Origin {
        Origin {
            ingress: ingress(self.from.place),
            address: self.from.place.address(),
            place: self.from.place.as_str().into(),
            simulated: false,
            workload: self.workload(),
        }
    }

    fn workload(&self) -> WorkloadState {
        let Some(workload) = &self.from.workload else { return WorkloadState::None };
        if let Some(why) = workload.rejected {
            return WorkloadState::Rejected(match why {
                Rejected::Expired => WorkloadRejection::Expired,
                Rejected::UnknownIssuer => WorkloadRejection::UnknownIssuer,
                Rejected::Malformed => WorkloadRejection::Malformed,
                Rejected::ResourceGone => WorkloadRejection::ResourceGone,
            });
        }
        let resource_type = workload.kind.resource_type();
        let identities = workload.identities.iter().map(|identity| match identity {
            Identity::System => WorkloadIdentity { principal: SYSTEM, kind: IdentityKind::SystemAssigned },
            Identity::User => WorkloadIdentity { principal: USER, kind: IdentityKind::UserAssigned },
        });
        WorkloadState::Verified(Arc::new(AccessWorkload {
            resource: id(&format!("/subscriptions/5ub/resourceGroups/group/providers/{resource_type}/workload")),
            resource_type: resource_type.into(),
            uid: WORKLOAD,
            identities: identities.collect(),
        }))
    }

    fn rules(&self) -> RegistryRules {
        let registry = &self.registry;
        let range = |text: &String| IpRule::parse(text, IpRuleMode::Strict).expect("an IP rule").range();
        let mode = one_of(
            &registry.role_mode,
            [
                ("LegacyRegistryPermissions", RoleAssignmentMode::Legacy),
                ("AbacRepositoryPermissions", RoleAssignmentMode::Abac),
            ],
        );
        RegistryRules {
            uid: REGISTRY_UID,
            id: id(REGISTRY),
            login_server: LOGIN_SERVER.into(),
            generation: 1,
            network: NetworkRules {
                public_access: one_of(&registry.public_access, [("Enabled", true), ("Disabled", false)]),
                default_allow: one_of(&registry.default_action, [("Allow", true), ("Deny", false)]),
                addresses: Arc::new(AddressRanges::new(registry.ip_rules.iter().map(range))),
                subnets: registry.subnets.iter().map(|place| subnet(*place)).collect(),
                private_endpoints: registry.private_endpoint.iter().map(|status| connection(status)).collect(),
                azure_services: one_of(&registry.bypass, [("AzureServices", true), ("None", false)]),
                tasks: one_of(&registry.tasks_policy, [("unset", None), ("true", Some(true)), ("false", Some(false))]),
            },
            mode,
            admin_enabled: registry.admin,
            anonymous_pull: registry.anonymous_pull,
            arm_tokens_accepted: true,
            scanner_enabled: registry.scanner_plan,
            data_endpoint: None,
            policies: ContentPolicies { quarantine: registry.quarantine, ..ContentPolicies::default() },
            grants: Arc::new(GrantTable::new(self.grants(mode))),
            tokens: Arc::new(self.tokens()),
            settings: Arc::new(self.settings()),
        }
    }

    fn grants(&self, mode: RoleAssignmentMode) -> Vec<(PrincipalId, Grant)> {
        let Some((caller, _)) = principal(&self.caller.kind) else { return Vec::new() };
        let grant = |(at, assignment): (usize, Assignment)| {
            let role = role(&assignment.role);
            let other = match mode {
                RoleAssignmentMode::Legacy => RoleAssignmentMode::Abac,
                RoleAssignmentMode::Abac => RoleAssignmentMode::Legacy,
            };
            let condition = assignment.condition.map(|text| text.parse::<Condition>().expect("a condition"));
            let grant = Grant {
                assignment: format!("{REGISTRY}/providers/Microsoft.Authorization/roleAssignments/{at}").into(),
                role: (&*role.name).into(),
                actions: data_plane_actions(&role.permissions, mode),
                other_mode_actions: data_plane_actions(&role.permissions, other),
                names_metadata_read: names_metadata_read(&role.permissions),
                condition: condition.map(Arc::new),
            };
            (if assignment.by_group { GROUP } else { caller }, grant)
        };
        self.caller.assignments().enumerate().map(grant).collect()
    }

    fn tokens(&self) -> HashMap<Box<str>, RepositoryTokenRule> {
        let token = &self.caller.token;
        let enabled = match token.status.as_str() {
            "absent" => return HashMap::new(),
            status => one_of(status, [("enabled", true), ("disabled", false)]),
        };
        let actions = ScopeMapActions::parse(&token.scope_map).expect("a scope map");
        let rule = RepositoryTokenRule { name: TOKEN_NAME.into(), uid: TOKEN_UID, enabled, actions: Arc::new(actions) };
        HashMap::from([(TOKEN_NAME.into(), rule)])
    }

    /// The server's settings.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let (switches, given) = (&mut settings.switches, &self.switches);
        let set = |switch: &mut bool, value: Option<bool>| *switch = value.unwrap_or(*switch);
        set(&mut switches.tasks_policy_requires_azure_services, given.tasks_policy_requires_azure_services);
        set(&mut switches.quick_run_bypass, given.quick_run_bypass);
        set(&mut switches.tasks_user_identity_bypass, given.tasks_user_identity_bypass);
        set(&mut switches.container_instances_trusted, given.aci_trusted);
        settings.services = TrustedServices::documented(switches.container_instances_trusted);
        settings.policy_date = self.policy_date.parse::<PolicyDate>().expect("a policy date");
        settings
    }

    fn credential(&self) -> Credential {
        let caller = match self.caller.kind.as_str() {
            "none" => return Credential::None,
            "invalid" => return Credential::Invalid(invalid(self.caller.invalid.as_deref().unwrap_or_default())),
            "anonymous" => AccessCaller::Anonymous,
            "admin" => AccessCaller::Admin,
            "token" => AccessCaller::RepositoryToken(TOKEN_NAME.into()),
            kind => {
                let (id, principal_kind) = principal(kind).unwrap_or_else(|| panic!("`{kind}` is no caller"));
                AccessCaller::Principal(Arc::new(Principal {
                    id,
                    kind: principal_kind,
                    display_name: kind.into(),
                    groups: vec![GROUP],
                }))
            }
        };
        let bound = self.caller.bound.as_deref();
        let resource = bound.map(|to| one_of(to, [("workload", WORKLOAD), ("other", OTHER_WORKLOAD)]));
        Credential::Verified(Verified {
            caller,
            claim: self.caller.claim.as_deref().map(|claim| Arc::new(claimed(claim))),
            binding: resource.map(|resource| TokenBinding { resource }),
        })
    }
}

impl WorkloadKind {
    /// The type of its resource.
    pub const fn resource_type(self) -> &'static str {
        match self {
            Self::ContainerGroup => CONTAINER_GROUPS,
            Self::Task => TASKS,
            Self::Run => RUNS,
            Self::Workspace => WORKSPACES,
            Self::Scanner => SCANNERS,
            Self::Importer => IMPORTERS,
            Self::WebApp => WEB_SITES,
            Self::Cluster => "Microsoft.ContainerService/managedClusters",
        }
    }
}

pub(super) fn ingress(place: Place) -> Ingress {
    match place {
        Place::Internet | Place::Office | Place::Ipv6 | Place::SharedPool => Ingress::Public,
        Place::PrivateEndpoint => Ingress::PrivateEndpoint(id(PRIVATE_ENDPOINT)),
        Place::OtherPrivateEndpoint => Ingress::PrivateEndpoint(id(OTHER_PRIVATE_ENDPOINT)),
        Place::Misrouted => Ingress::Misrouted(id(PRIVATE_ENDPOINT)),
        Place::Subnet | Place::OtherSubnet => Ingress::Subnet(subnet(place)),
    }
}

pub(super) fn subnet(place: Place) -> ResourceId {
    match place {
        Place::Subnet => id(OFFICE_SUBNET),
        Place::OtherSubnet => id(OTHER_SUBNET),
        place => panic!("`{}` is no subnet", place.as_str()),
    }
}

fn connection(status: &str) -> PrivateEndpointConnection {
    use ConnectionStatus::{Approved, Disconnected, Pending, Rejected};
    let statuses = [Approved, Pending, Rejected, Disconnected];
    PrivateEndpointConnection {
        id: id(&format!("{REGISTRY}/privateEndpointConnections/example-connection")),
        endpoint: id(PRIVATE_ENDPOINT),
        status: one_of(status, statuses.map(|status| (status.as_str(), status))),
    }
}

pub(super) fn role(name: &str) -> &'static RoleDefinition {
    let role = built_in_roles().iter().find(|role| &*role.name == name);
    role.unwrap_or_else(|| panic!("`{name}` is no built-in role"))
}

fn claimed(entries: &[String]) -> TokenClaim {
    let mut claim = TokenClaim::default();
    for entry in entries {
        match entry.split_once(':') {
            None if entry == "catalog" => claim.catalog = true,
            None if entry == "deleted-catalog" => claim.deleted_catalog = true,
            None => panic!("`{entry}` is no claim"),
            Some((repository, words)) => {
                let actions = words.split(',').map(postern_access::Actions::from_scope_word);
                let actions = actions.fold(postern_access::Actions::NONE, postern_access::Actions::union);
                claim.repositories.push((repository.parse().expect("a repository name"), actions));
            }
        }
    }
    claim
}

fn attributes(locked: &[String]) -> Attributes {
    let mut attributes = Attributes::default();
    for name in locked {
        match name.as_str() {
            "deleteEnabled" => attributes.delete_enabled = false,
            "writeEnabled" => attributes.write_enabled = false,
            "readEnabled" => attributes.read_enabled = false,
            "listEnabled" => attributes.list_enabled = false,
            other => panic!("`{other}` is no attribute"),
        }
    }
    attributes
}

fn invalid(name: &str) -> InvalidCredential {
    use InvalidCredential::{
        ArmAudienceRefused, BadSignature, Disabled, Expired, Malformed, ModeChanged, RegistryReplaced, UnknownCaller,
        WrongAudience, WrongKind, WrongPassword, WrongTenant,
    };
    let all = [
        Malformed,
        BadSignature,
        Expired,
        WrongAudience,
        WrongTenant,
        WrongKind,
        RegistryReplaced,
        ModeChanged,
        ArmAudienceRefused,
        UnknownCaller,
        Disabled,
        WrongPassword,
    ];
    let found = all.into_iter().find(|why| super::answer::invalid_credential(why) == name);
    found.unwrap_or_else(|| panic!("`{name}` is no reason for credentials not to hold"))
}

fn one_of<const N: usize, T: Copy>(text: &str, choices: [(&str, T); N]) -> T {
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.unwrap_or_else(|| panic!("`{text}` is none of {:?}", choices.map(|(name, _)| name)))
}

fn id(text: &str) -> ResourceId {
    text.parse().expect("a resource id")
}

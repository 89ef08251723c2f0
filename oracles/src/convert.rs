//! The facts of a case as the real decision takes them: the only place that reads with its parsers.

use std::collections::HashMap;
use std::sync::Arc;

use postern_access::{
    self as access, AddressRanges, ConnectionStatus, ContentState, Credential, DenyAssignment, Grant, GrantTable,
    Ingress, InvalidCredential, ManagementGrant, NetworkRules, OperationKind, Permissions, PolicyDate, Principal,
    PrincipalKind, PrivateEndpointConnection, RegistryRules, RepositoryTokenRule, RoleAssignmentMode, ScopeMapActions,
    Settings, TokenBinding, TokenClaim, TrustedServices, Verified, WorkloadIdentity, WorkloadRejection, WorkloadState,
    authorize_management, built_in_roles, data_plane_actions, names_metadata_read,
};
use postern_model::{IdentityKind, IpRule, IpRuleMode, PrincipalId, Reference, RegistryUid, ResourceId, ResourceUid};
use uuid::Uuid;

use crate::{
    Assignment, Caller, DenyRule, LockedParts, ManagementRule, Origin, Registry, Role, Server, Way, Who, Wish, Word,
    Words, Workload,
};

/// The registry's rules.
pub fn rules(registry: &Registry, server: &Server) -> RegistryRules {
    let range = |text: &String| IpRule::parse(text, IpRuleMode::Permissive).expect("an IP rule").range();
    let own = id(&registry.id);
    let mode = if registry.abac { RoleAssignmentMode::Abac } else { RoleAssignmentMode::Legacy };
    let reach = registry.assignments.iter().filter(|assignment| own.is_within(&id(&assignment.scope)));
    let token = registry.token.iter().map(|token| {
        let actions = ScopeMapActions::parse(&token.scope_map).expect("a scope map");
        let rule = RepositoryTokenRule {
            name: "robot".into(),
            uid: ResourceUid(Uuid::from_u128(0x30)),
            enabled: token.enabled,
            actions: Arc::new(actions),
        };
        ("robot".into(), rule)
    });
    RegistryRules {
        uid: RegistryUid(Uuid::from_u128(0x20)),
        login_server: "example.azurecr.io".into(),
        generation: 1,
        network: NetworkRules {
            public_access: registry.public,
            default_allow: registry.default_allow,
            addresses: Arc::new(AddressRanges::new(registry.ip_rules.iter().map(range))),
            subnets: registry.subnets.iter().map(|subnet| id(subnet)).collect(),
            private_endpoints: registry
                .connections
                .iter()
                .enumerate()
                .map(|(at, one)| connection(&own, at, one))
                .collect(),
            azure_services: match registry.bypass {
                "AzureServices" => true,
                "None" => false,
                other => panic!("`{other}` is no bypass option"),
            },
            tasks: registry.tasks,
        },
        mode,
        admin_enabled: registry.admin,
        anonymous_pull: registry.anonymous,
        arm_tokens_accepted: true,
        scanner_enabled: registry.scanner,
        data_endpoint: None,
        policies: access::ContentPolicies { quarantine: registry.quarantine, ..access::ContentPolicies::default() },
        grants: Arc::new(GrantTable::new(
            reach.map(|assignment| (principal(assignment.principal), grant(assignment, mode))),
        )),
        tokens: Arc::new(token.collect::<HashMap<_, _>>()),
        settings: Arc::new(settings(server)),
        id: own,
    }
}

fn settings(server: &Server) -> Settings {
    let mut settings = Settings::default();
    settings.switches.tasks_policy_requires_azure_services = server.policy_requires_services;
    settings.switches.quick_run_bypass = server.quick_runs;
    settings.switches.tasks_user_identity_bypass = server.user_identities;
    settings.switches.container_instances_trusted = server.aci;
    settings.services = TrustedServices::documented(server.aci);
    settings.policy_date = server.date.parse::<PolicyDate>().expect("a policy date");
    settings
}

fn connection(registry: &ResourceId, at: usize, (endpoint, status): &(String, &str)) -> PrivateEndpointConnection {
    use ConnectionStatus::{Approved, Disconnected, Pending, Rejected};
    let statuses = [Approved, Pending, Rejected, Disconnected];
    PrivateEndpointConnection {
        id: registry.child("privateEndpointConnections", &format!("connection-{at}")),
        endpoint: id(endpoint),
        status: statuses.into_iter().find(|known| known.as_str() == *status).expect("a connection's status"),
    }
}

fn grant(assignment: &Assignment, mode: RoleAssignmentMode) -> Grant {
    let other = match mode {
        RoleAssignmentMode::Legacy => RoleAssignmentMode::Abac,
        RoleAssignmentMode::Abac => RoleAssignmentMode::Legacy,
    };
    let permissions = permissions(&assignment.role);
    Grant {
        assignment: assignment.name.as_str().into(),
        role: assignment.role.name.as_str().into(),
        actions: data_plane_actions(&permissions, mode),
        other_mode_actions: data_plane_actions(&permissions, other),
        names_metadata_read: names_metadata_read(&permissions),
        condition: assignment.condition.as_ref().map(|(text, _)| Arc::new(text.parse().expect("a condition"))),
    }
}

/// The real definition of a built-in role; for others what the facts say.
fn permissions(role: &Role) -> Vec<Permissions> {
    if let Some(known) = built_in_roles().iter().find(|known| *known.name == role.name) {
        return known.permissions.clone();
    }
    vec![permission(&role.actions, &role.not_actions, &role.data_actions, &role.not_data_actions)]
}

/// One entry of a role's permissions.
pub fn permission(
    actions: &[String],
    not_actions: &[String],
    data_actions: &[String],
    not_data_actions: &[String],
) -> Permissions {
    let boxed = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    Permissions {
        actions: boxed(actions),
        not_actions: boxed(not_actions),
        data_actions: boxed(data_actions),
        not_data_actions: boxed(not_data_actions),
    }
}

/// The real decision about an operation of the resource manager.
pub fn manages(grants: &[ManagementRule], denials: &[DenyRule], action: &str, scope: &str) -> bool {
    let grants: Vec<_> = grants.iter().map(management_grant).collect();
    let denials: Vec<_> = denials.iter().map(denial).collect();
    authorize_management(&grants, &denials, action, &id(scope)).is_allowed()
}

fn management_grant(rule: &ManagementRule) -> ManagementGrant {
    ManagementGrant {
        assignment: id("/assignment"),
        scope: id(&rule.scope),
        role: Uuid::nil(),
        role_name: "role".into(),
        permissions: [permission(&rule.actions, &rule.not_actions, &[], &[])].into(),
        condition: rule.condition.as_ref().map(|text| Arc::new(text.parse().expect("a condition"))),
    }
}

fn denial(DenyRule { rule, here_only }: &DenyRule) -> DenyAssignment {
    let ManagementGrant { assignment: id, scope, permissions, condition, .. } = management_grant(rule);
    DenyAssignment { id, name: "deny".into(), scope, reaches_below: !here_only, permissions, condition }
}

/// Where a request comes from.
pub fn origin(origin: &Origin) -> access::Origin {
    access::Origin {
        ingress: match &origin.way {
            Way::Public => Ingress::Public,
            Way::Endpoint(endpoint) => Ingress::PrivateEndpoint(id(endpoint)),
            Way::Subnet(subnet) => Ingress::Subnet(id(subnet)),
            Way::Misrouted => Ingress::Misrouted(id("/e")),
        },
        address: origin.address.parse().expect("an address"),
        place: "here".into(),
        simulated: false,
        workload: match &origin.workload {
            Workload::None => WorkloadState::None,
            Workload::Rejected => WorkloadState::Rejected(WorkloadRejection::Expired),
            Workload::Verified { resource_type, uid, identities } => {
                WorkloadState::Verified(Arc::new(access::Workload {
                    resource: id(&format!("/subscriptions/s/resourceGroups/g/providers/{resource_type}/workload")),
                    resource_type: resource_type.as_str().into(),
                    uid: resource(*uid),
                    identities: identities.iter().copied().map(identity).collect(),
                }))
            }
        },
    }
}

fn identity((of, system): (u8, bool)) -> WorkloadIdentity {
    let kind = if system { IdentityKind::SystemAssigned } else { IdentityKind::UserAssigned };
    WorkloadIdentity { principal: principal(of), kind }
}

/// What the credentials amount to.
pub fn credential(caller: &Caller) -> Credential {
    Credential::Verified(Verified {
        caller: match &caller.who {
            Who::Nobody => return Credential::None,
            Who::Invalid(why) => return Credential::Invalid(invalid(why)),
            verified => self::caller(verified).expect("a verified caller"),
        },
        claim: caller.claim.as_ref().map(|claim| {
            Arc::new(TokenClaim {
                repositories: claim
                    .repositories
                    .iter()
                    .map(|(name, words)| (name.parse().expect("a repository name"), actions(*words)))
                    .collect(),
                catalog: claim.catalog,
                deleted_catalog: claim.deleted_catalog,
            })
        }),
        binding: caller.bound.map(|uid| TokenBinding { resource: resource(uid) }),
    })
}

/// Who calls, if that is known.
pub fn caller(who: &Who) -> Option<access::Caller> {
    Some(match who {
        Who::Nobody | Who::Invalid(_) => return None,
        Who::Anonymous => access::Caller::Anonymous,
        Who::Admin => access::Caller::Admin,
        Who::Token(name) => access::Caller::RepositoryToken(name.as_str().into()),
        Who::Principal { id, groups, first_party } => access::Caller::Principal(Arc::new(Principal {
            id: principal(*id),
            kind: if *first_party { PrincipalKind::FirstParty } else { PrincipalKind::ServicePrincipal },
            display_name: "somebody".into(),
            groups: groups.iter().copied().map(principal).collect(),
        })),
    })
}

/// Every reason for credentials not to hold.
pub const INVALID: [InvalidCredential; 12] = [
    InvalidCredential::Malformed,
    InvalidCredential::BadSignature,
    InvalidCredential::Expired,
    InvalidCredential::WrongAudience,
    InvalidCredential::WrongTenant,
    InvalidCredential::WrongKind,
    InvalidCredential::RegistryReplaced,
    InvalidCredential::ModeChanged,
    InvalidCredential::ArmAudienceRefused,
    InvalidCredential::UnknownCaller,
    InvalidCredential::Disabled,
    InvalidCredential::WrongPassword,
];

fn invalid(why: &str) -> InvalidCredential {
    INVALID.into_iter().find(|known| format!("{known:?}") == why).expect("a reason for credentials not to hold")
}

/// What a request wants.
pub fn operation(wish: &Wish) -> access::Operation {
    let kind = OperationKind::ALL.into_iter().find(|kind| kind.as_str() == wish.operation).expect("an operation");
    match &wish.repository {
        None => access::Operation::registry(kind),
        Some(name) => {
            let digest = || format!("sha256:{}", "0".repeat(64)).parse().expect("a digest");
            let reference = wish.by_digest.then(|| Reference::Digest(digest()));
            access::Operation::repository(kind, name.parse().expect("a repository name"), reference)
        }
    }
}

/// The locks on what it touches.
pub fn content(locked: &LockedParts, wish: &Wish) -> ContentState {
    let attributes = |names: &[String]| {
        let is_on = |name: &str| !names.iter().any(|locked| locked == name);
        Some(access::Attributes {
            delete_enabled: is_on("deleteEnabled"),
            write_enabled: is_on("writeEnabled"),
            read_enabled: is_on("readEnabled"),
            list_enabled: is_on("listEnabled"),
        })
    };
    ContentState {
        repository: attributes(&locked.repository),
        tag: attributes(&locked.tag).filter(|_| !wish.by_digest),
        manifest: attributes(&locked.manifest),
        unpassed: locked.quarantined,
    }
}

/// A set of words as the decision's actions.
pub fn actions(words: Words) -> access::Actions {
    access::Action::ALL.into_iter().filter(|action| words & 1 << word(*action) as u32 != 0).collect()
}

/// The decision's actions as a set of words.
pub fn words(actions: access::Actions) -> Words {
    actions.iter().fold(0, |set, action| set | 1 << word(action) as u32)
}

const fn word(action: access::Action) -> Word {
    match action {
        access::Action::Pull => Word::Pull,
        access::Action::Push => Word::Push,
        access::Action::Delete => Word::Delete,
        access::Action::MetadataRead => Word::MetadataRead,
        access::Action::MetadataWrite => Word::MetadataWrite,
        access::Action::MetadataDelete => Word::MetadataDelete,
        access::Action::DeletedRead => Word::DeletedRead,
        access::Action::DeletedRestore => Word::DeletedRestore,
        access::Action::CatalogRead => Word::Catalog,
        access::Action::QuarantineRead => Word::QuarantineRead,
        access::Action::QuarantineWrite => Word::QuarantineWrite,
        access::Action::Sign => Word::Sign,
    }
}

/// A principal's object id.
pub const fn principal(of: u8) -> PrincipalId {
    PrincipalId(Uuid::from_u128(of as u128))
}

const fn resource(of: u8) -> ResourceUid {
    ResourceUid(Uuid::from_u128(0x1000 + of as u128))
}

/// A resource id.
pub fn id(text: &str) -> ResourceId {
    text.parse().expect("a resource id")
}

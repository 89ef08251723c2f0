use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use postern_model::{IdentityKind, PrincipalId, ResourceId};

use crate::decision::{
    AuthenticationStep, AuthorizationBlocker, AuthorizationStep, ContentStep, NetworkBlocker, NetworkStep,
};
use crate::{
    Action, Actions, AddressRanges, Attributes, Caller, ConnectionStatus, ContentCause, ContentState, Credential,
    Decision, Grant, GrantTable, Inputs, LockAttribute, Locked, OperationKind, Origin, Principal, PrincipalKind,
    PrivateEndpointConnection, QuarantineView, RegistryRules, RepositoryTokenRule, RoleAssignmentMode, ScopeMapActions,
    TokenClaim, Verified, WorkloadState, content, evaluate, rights,
};

/// One change that an owner or caller could make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set `publicNetworkAccess` to `Enabled`.
    EnablePublicAccess,
    /// Add the client's address to the IP rules.
    AddIpRule(Ipv4Addr),
    /// Add the client's subnet to the virtual network rules.
    AddVirtualNetworkRule(ResourceId),
    /// Connect the private endpoint to the registry and approve it.
    ConnectPrivateEndpoint(ResourceId),
    /// Approve the private endpoint connection.
    ApprovePrivateEndpoint(ResourceId),
    /// Set `networkRuleBypassOptions` to `AzureServices`.
    AllowTrustedServices,
    /// Remove the virtual network rules, which void the bypass.
    RemoveVirtualNetworkRules,
    /// Set `networkRuleBypassAllowedForTasks` to `true`.
    AllowTasksBypass,
    /// Give the caller a role that has these actions on the repository.
    AssignRole(Actions),
    /// Switch the registry's role assignment mode.
    SwitchRoleMode(RoleAssignmentMode),
    /// Ask the token endpoint for a token with these actions.
    RequestToken(Actions),
    /// Add these actions to the token's scope map.
    ExtendScopeMap(Actions),
    /// Enable the repository-scoped token.
    EnableToken,
    /// Set `adminUserEnabled`.
    EnableAdminUser,
    /// Set `anonymousPullEnabled`.
    EnableAnonymousPull,
    /// Turn on the vulnerability scanner's plan for the subscription.
    EnableScannerPlan,
    /// Set the locking attribute back to `true`.
    Unlock(Locked, LockAttribute),
    /// Set the manifest's `quarantineState` to `Passed`.
    PassManifest,
    /// Turn the quarantine policy off.
    DisableQuarantine,
    /// Send credentials that hold.
    Authenticate,
    /// Connect as the workload (through its gateway or with its certificate).
    ConnectAsWorkload,
    /// Use the workload's system-assigned identity.
    UseSystemIdentity,
}

/// Changes that together turn a denial into an allow, each of them needed.
pub type Fix = Vec<Change>;

const MAX_CHANGES_IN_FIX: usize = 4;
const MAX_FIXES: usize = 6;

/// The smallest sets of changes that lift a denial: each was tried, and does. Sets that need one more change than a smaller
/// one they contain are left out. Empty for an allow, and where no single party's change helps (a foreign workload).
///
/// A caller without credentials that the gate turned away needs the gate open and nothing else: the challenge that follows is
/// how every client begins.
pub fn fixes(inputs: &Inputs<'_>) -> Vec<Fix> {
    let decision = evaluate(inputs);
    if decision.is_allowed() {
        return Vec::new();
    }
    let candidates = candidates(inputs, &decision);
    let mut found: Vec<Fix> = Vec::new();
    for size in 1..=MAX_CHANGES_IN_FIX.min(candidates.len()) {
        for set in subsets(&candidates, size) {
            let is_larger = found.iter().any(|fix| fix.iter().all(|change| set.contains(change)));
            if !is_larger && lifts(inputs, &set) {
                found.push(set);
                if found.len() == MAX_FIXES {
                    return found;
                }
            }
        }
    }
    found
}

fn subsets(candidates: &[Change], size: usize) -> Vec<Fix> {
    match (size, candidates) {
        (0, _) => vec![Vec::new()],
        (_, []) => Vec::new(),
        (_, [first, rest @ ..]) => {
            let with = subsets(rest, size - 1).into_iter().map(|mut set| {
                set.insert(0, first.clone());
                set
            });
            with.chain(subsets(rest, size)).collect()
        }
    }
}

/// One change per blocker of any layer; the authentication layer's answer is what the caller can do.
fn candidates(inputs: &Inputs<'_>, decision: &Decision) -> Vec<Change> {
    let mut changes = Vec::new();
    if let NetworkStep::Denied(blockers) = &decision.trace.network {
        for change in blockers.iter().filter_map(|blocker| network_change(inputs, blocker)) {
            push_new(&mut changes, change);
        }
    }
    let challenged = matches!(decision.trace.authentication, AuthenticationStep::Missing) && !changes.is_empty();
    if matches!(decision.trace.authentication, AuthenticationStep::Missing | AuthenticationStep::Invalid(_))
        && !challenged
    {
        push_new(&mut changes, Change::Authenticate);
    }
    if let AuthorizationStep::Denied(blockers) = &decision.trace.authorization {
        for change in blockers.iter().filter_map(|blocker| authorization_change(inputs, blocker)) {
            push_new(&mut changes, change);
        }
        if blockers.contains(&AuthorizationBlocker::AnonymousPullOff) {
            push_new(&mut changes, Change::Authenticate);
        }
    }
    if matches!(decision.trace.content, ContentStep::Denied(_)) {
        changes.extend(content_changes(inputs, decision));
    }
    changes
}

/// Everything in the way, not only the first: each is lifted in turn to see the next.
fn content_changes(inputs: &Inputs<'_>, decision: &Decision) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(mut state) = inputs.content.copied() else { return changes };
    let ContentStep::Denied(mut cause) = decision.trace.content else { return changes };
    loop {
        match cause {
            ContentCause::Locked { locked, attribute } => {
                unlock(&mut state, locked, attribute);
                changes.push(Change::Unlock(locked, attribute));
            }
            ContentCause::Quarantined { .. } => {
                state.unpassed = false;
                changes.extend([Change::PassManifest, Change::DisableQuarantine]);
            }
        }
        // What is left are locks.
        match content::check(inputs.operation.kind, QuarantineView::Off, &state) {
            Err(next) => cause = next,
            Ok(()) => return changes,
        }
    }
}

fn push_new(changes: &mut Vec<Change>, change: Change) {
    if !changes.contains(&change) {
        changes.push(change);
    }
}

fn network_change(inputs: &Inputs<'_>, blocker: &NetworkBlocker) -> Option<Change> {
    match blocker {
        NetworkBlocker::PublicAccessDisabled => Some(Change::EnablePublicAccess),
        NetworkBlocker::AddressNotListed => match inputs.origin.address.to_canonical() {
            IpAddr::V4(address) => Some(Change::AddIpRule(address)),
            IpAddr::V6(_) => None,
        },
        NetworkBlocker::SubnetNotListed => match &inputs.origin.ingress {
            crate::Ingress::Subnet(subnet) => Some(Change::AddVirtualNetworkRule(subnet.clone())),
            _ => None,
        },
        NetworkBlocker::PrivateEndpointUnknown => match &inputs.origin.ingress {
            crate::Ingress::PrivateEndpoint(endpoint) => Some(Change::ConnectPrivateEndpoint(endpoint.clone())),
            _ => None,
        },
        NetworkBlocker::PrivateEndpointNotApproved { connection, .. } => {
            Some(Change::ApprovePrivateEndpoint(connection.clone()))
        }
        NetworkBlocker::BypassOptionsNone => Some(Change::AllowTrustedServices),
        NetworkBlocker::ServiceEndpointPresent => Some(Change::RemoveVirtualNetworkRules),
        NetworkBlocker::TasksPolicy { .. } => Some(Change::AllowTasksBypass),
        NetworkBlocker::TokenBoundElsewhere => Some(Change::ConnectAsWorkload),
        NetworkBlocker::NoSuitableIdentity(_) | NetworkBlocker::OtherIdentity => Some(Change::UseSystemIdentity),
        NetworkBlocker::AddressIsIpv6
        | NetworkBlocker::Misrouted
        | NetworkBlocker::WorkloadRejected(_)
        | NetworkBlocker::ServiceUnknown
        | NetworkBlocker::ServiceNotTrusted(_) => None,
    }
}

fn authorization_change(inputs: &Inputs<'_>, blocker: &AuthorizationBlocker) -> Option<Change> {
    Some(match blocker {
        AuthorizationBlocker::TokenLacks(_) => Change::RequestToken(worth_asking_for(inputs)),
        AuthorizationBlocker::NoAssignment(missing) => Change::AssignRole(*missing),
        AuthorizationBlocker::ConditionNotMet { .. } => return None,
        AuthorizationBlocker::RoleNotHonoured { .. } => Change::SwitchRoleMode(match inputs.rules.mode {
            RoleAssignmentMode::Legacy => RoleAssignmentMode::Abac,
            RoleAssignmentMode::Abac => RoleAssignmentMode::Legacy,
        }),
        AuthorizationBlocker::ScopeMapLacks(missing) => Change::ExtendScopeMap(*missing),
        AuthorizationBlocker::TokenDisabled => Change::EnableToken,
        AuthorizationBlocker::AdminDisabled => Change::EnableAdminUser,
        AuthorizationBlocker::AnonymousPullOff => Change::EnableAnonymousPull,
        AuthorizationBlocker::AnonymousNever | AuthorizationBlocker::TokenUnknown => Change::Authenticate,
        AuthorizationBlocker::ScannerPlanOff => Change::EnableScannerPlan,
    })
}

/// The actions that the caller has the right to, if one of the sets that the operation takes is such.
fn worth_asking_for(inputs: &Inputs<'_>) -> Actions {
    let kind = inputs.operation.kind;
    let Credential::Verified(verified) = inputs.credential else { return kind.challenge() };
    let held = rights(inputs.rules, &verified.caller, inputs.operation.repository.as_ref());
    kind.required().iter().find(|set| held.contains_all(**set)).copied().unwrap_or(kind.challenge())
}

/// The request with the changes made: what `fixes` decides again.
struct Scenario {
    origin: Origin,
    rules: RegistryRules,
    credential: Credential,
    content: Option<ContentState>,
}

fn lifts(inputs: &Inputs<'_>, changes: &[Change]) -> bool {
    let mut scenario = Scenario {
        origin: inputs.origin.clone(),
        rules: inputs.rules.clone(),
        credential: inputs.credential.clone(),
        content: inputs.content.copied(),
    };
    for change in changes {
        scenario.apply(inputs, change);
    }
    let decision = evaluate(&Inputs {
        origin: &scenario.origin,
        rules: &scenario.rules,
        credential: &scenario.credential,
        operation: inputs.operation,
        content: scenario.content.as_ref(),
    });
    let challenged = matches!(decision.trace.authentication, AuthenticationStep::Missing)
        && matches!(decision.trace.network, NetworkStep::Allowed(_));
    decision.is_allowed() || challenged
}

impl Scenario {
    fn apply(&mut self, inputs: &Inputs<'_>, change: &Change) {
        let network = &mut self.rules.network;
        match change {
            Change::EnablePublicAccess => network.public_access = true,
            Change::AddIpRule(address) => network.addresses = Arc::new(AddressRanges::new([Ipv4Net::from(*address)])),
            Change::AddVirtualNetworkRule(subnet) => network.subnets = Arc::new([subnet.clone()]),
            Change::ConnectPrivateEndpoint(endpoint) => approve(network, endpoint.clone(), endpoint.clone()),
            Change::ApprovePrivateEndpoint(id) => {
                let found = network.private_endpoints.iter().find(|connection| connection.id == *id);
                if let Some(endpoint) = found.map(|connection| connection.endpoint.clone()) {
                    approve(network, id.clone(), endpoint);
                }
            }
            Change::AllowTrustedServices => network.azure_services = true,
            Change::RemoveVirtualNetworkRules => network.subnets = Arc::new([]),
            Change::AllowTasksBypass => network.tasks = Some(true),
            Change::AssignRole(actions) => self.assign(*actions),
            Change::SwitchRoleMode(mode) => self.switch_mode(*mode),
            Change::RequestToken(actions) => self.renew_token(inputs, *actions),
            Change::Authenticate => self.authenticate(),
            Change::ExtendScopeMap(actions) => self.extend_scope_map(inputs, *actions),
            Change::EnableToken => self.change_token(|token| token.enabled = true),
            Change::EnableAdminUser => self.rules.admin_enabled = true,
            Change::EnableAnonymousPull => self.rules.anonymous_pull = true,
            Change::EnableScannerPlan => self.rules.scanner_enabled = true,
            Change::Unlock(locked, attribute) => {
                if let Some(state) = &mut self.content {
                    unlock(state, *locked, *attribute);
                }
            }
            Change::PassManifest => {
                if let Some(state) = &mut self.content {
                    state.unpassed = false;
                }
            }
            Change::DisableQuarantine => self.rules.policies.quarantine = false,
            Change::ConnectAsWorkload => self.drop_binding(),
            Change::UseSystemIdentity => self.use_system_identity(),
        }
    }

    fn assign(&mut self, actions: Actions) {
        let Credential::Verified(verified) = &self.credential else { return };
        let Caller::Principal(principal) = &verified.caller else { return };
        let kept = self.rules.grants.of([principal.id].into_iter()).cloned();
        let new = Grant {
            assignment: "a new assignment".into(),
            role: "a role with the missing actions".into(),
            actions,
            other_mode_actions: Actions::NONE,
            names_metadata_read: false,
            condition: None,
        };
        self.rules.grants = Arc::new(GrantTable::new(kept.chain([new]).map(|grant| (principal.id, grant))));
    }

    fn switch_mode(&mut self, mode: RoleAssignmentMode) {
        let Credential::Verified(verified) = &self.credential else { return };
        let Caller::Principal(principal) = &verified.caller else { return };
        let ids = std::iter::once(principal.id).chain(principal.groups.iter().copied());
        let switched = self.rules.grants.of(ids).cloned().map(|mut grant| {
            std::mem::swap(&mut grant.actions, &mut grant.other_mode_actions);
            (principal.id, grant)
        });
        self.rules.grants = Arc::new(GrantTable::new(switched));
        self.rules.mode = mode;
    }

    fn renew_token(&mut self, inputs: &Inputs<'_>, actions: Actions) {
        if let Credential::Verified(verified) = &mut self.credential {
            let repositories = inputs.operation.repository.iter().map(|name| (name.clone(), actions)).collect();
            let catalog = actions.contains(Action::CatalogRead);
            let deleted_catalog = inputs.operation.kind == OperationKind::ListDeletedCatalog;
            verified.claim = Some(Arc::new(TokenClaim { repositories, catalog, deleted_catalog }));
        }
    }

    /// Whoever they are once they have authenticated: the best case is a caller with every right; of a workload, one of its
    /// identities.
    fn authenticate(&mut self) {
        let identity = match &self.origin.workload {
            WorkloadState::Verified(workload) => {
                let is_user = |identity: &&crate::WorkloadIdentity| identity.kind == IdentityKind::UserAssigned;
                workload.identities.iter().min_by_key(is_user).map(|identity| identity.principal)
            }
            WorkloadState::None | WorkloadState::Rejected(_) => None,
        };
        let id = identity.unwrap_or(PrincipalId(self.rules.uid.0));
        let kind = PrincipalKind::ServicePrincipal;
        let caller = Principal { id, kind, display_name: Box::default(), groups: Vec::new() };
        self.credential =
            Credential::Verified(Verified { caller: Caller::Principal(Arc::new(caller)), claim: None, binding: None });
        self.assign(Actions::ALL);
    }

    fn change_token(&mut self, change: impl FnOnce(&mut RepositoryTokenRule)) {
        let Credential::Verified(verified) = &self.credential else { return };
        let Caller::RepositoryToken(name) = &verified.caller else { return };
        let name = name.to_ascii_lowercase();
        if let Some(mut token) = self.rules.tokens.get(name.as_str()).cloned() {
            change(&mut token);
            self.rules.tokens = Arc::new(HashMap::from([(name.into(), token)]));
        }
    }

    fn extend_scope_map(&mut self, inputs: &Inputs<'_>, added: Actions) {
        let Some(repository) = &inputs.operation.repository else { return };
        self.change_token(|token| {
            let actions = token.actions.allows(repository).union(added);
            let lines =
                actions.iter().filter_map(scope_map_verb).map(|verb| format!("repositories/{repository}/{verb}"));
            if let Ok(map) = ScopeMapActions::parse(lines) {
                token.actions = Arc::new(map);
            }
        });
    }

    fn drop_binding(&mut self) {
        if let Credential::Verified(verified) = &mut self.credential {
            verified.binding = None;
        }
    }

    /// The same workload calling with its system-assigned identity and with that identity's own rights unknown: only the gate
    /// profits, so the caller stays who it is for the later layers.
    fn use_system_identity(&mut self) {
        if let WorkloadState::Verified(workload) = &self.origin.workload {
            let mut workload = (**workload).clone();
            let kind = IdentityKind::SystemAssigned;
            match &self.credential {
                Credential::Verified(Verified { caller: Caller::Principal(principal), .. }) => {
                    workload.identities = vec![crate::WorkloadIdentity { principal: principal.id, kind }];
                }
                _ if workload.identities.is_empty() => {
                    let principal = PrincipalId(workload.uid.0);
                    workload.identities.push(crate::WorkloadIdentity { principal, kind });
                }
                _ => workload.identities.iter_mut().for_each(|identity| identity.kind = kind),
            }
            self.origin.workload = WorkloadState::Verified(Arc::new(workload));
        }
    }
}

fn unlock(state: &mut ContentState, locked: Locked, attribute: LockAttribute) {
    let attributes = match locked {
        Locked::Repository => &mut state.repository,
        Locked::Tag => &mut state.tag,
        Locked::Manifest => &mut state.manifest,
    };
    let attributes = attributes.get_or_insert_with(Attributes::default);
    match attribute {
        LockAttribute::Delete => attributes.delete_enabled = true,
        LockAttribute::Write => attributes.write_enabled = true,
        LockAttribute::Read => attributes.read_enabled = true,
    }
}

fn approve(network: &mut crate::NetworkRules, id: ResourceId, endpoint: ResourceId) {
    let status = ConnectionStatus::Approved;
    network.private_endpoints = Arc::new([PrivateEndpointConnection { id, endpoint, status }]);
}

const fn scope_map_verb(action: Action) -> Option<&'static str> {
    match action {
        Action::Pull => Some("content/read"),
        Action::Push => Some("content/write"),
        Action::Delete => Some("content/delete"),
        Action::MetadataRead => Some("metadata/read"),
        Action::MetadataWrite => Some("metadata/write"),
        _ => None,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnablePublicAccess => f.write_str("enable public network access"),
            Self::AddIpRule(address) => write!(f, "add an IP rule for {address}"),
            Self::AddVirtualNetworkRule(subnet) => {
                write!(f, "add a virtual network rule for subnet `{}`", subnet.name())
            }
            Self::ConnectPrivateEndpoint(endpoint) => {
                write!(f, "connect private endpoint `{}` to this registry", endpoint.name())
            }
            Self::ApprovePrivateEndpoint(connection) => {
                write!(f, "approve private endpoint connection `{}`", connection.name())
            }
            Self::AllowTrustedServices => {
                f.write_str("allow trusted services (networkRuleBypassOptions=AzureServices)")
            }
            Self::RemoveVirtualNetworkRules => f.write_str(
                "remove the service endpoint's virtual network rules (trusted services do not apply with them)",
            ),
            Self::AllowTasksBypass => f.write_str("set networkRuleBypassAllowedForTasks=true"),
            Self::AssignRole(actions) => write!(f, "assign the caller a role that gives {actions} here"),
            Self::SwitchRoleMode(mode) => write!(f, "set roleAssignmentMode={}", mode.as_str()),
            Self::RequestToken(actions) => write!(f, "ask for an access token with {actions}"),
            Self::ExtendScopeMap(actions) => write!(f, "add {actions} on this repository to the token's scope map"),
            Self::EnableToken => f.write_str("enable the repository-scoped token"),
            Self::EnableAdminUser => f.write_str("enable the admin user"),
            Self::EnableAnonymousPull => f.write_str("enable anonymous pull"),
            Self::EnableScannerPlan => f.write_str("turn on the vulnerability scanner's plan for the subscription"),
            Self::Unlock(locked, attribute) => {
                write!(f, "set {} to true on the {}", attribute.as_str(), locked.as_str())
            }
            Self::PassManifest => f.write_str("set quarantineState to Passed on the manifest"),
            Self::DisableQuarantine => f.write_str("disable the quarantine policy"),
            Self::Authenticate => f.write_str("authenticate as a caller with the right"),
            Self::ConnectAsWorkload => f.write_str("use the token from the workload it was issued to"),
            Self::UseSystemIdentity => f.write_str("use the workload's system-assigned identity"),
        }
    }
}

#[cfg(test)]
mod tests;

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use postern_model::{IdentityKind, PrincipalId, ResourceId};

use crate::decision::{
    AuthenticationStep, AuthorizationBlocker, AuthorizationStep, ContentStep, Decision, Ground, Layer, NetworkBlocker,
    NetworkStep, Permit, PermitParts, Trace, Verdict, Via,
};
use crate::{
    Action, Actions, Caller, ConnectionStatus, Credential, Holder, IdentityRequirement, Ingress, Operation,
    OperationKind, Origin, Principal, PrincipalKind, PrivateEndpointConnection, QuarantineView, RUNS, RegistryRules,
    ServicePolicy, TasksPhase, TrustedService, Verified, Workload, WorkloadState, content,
};

/// Everything a decision depends on. Nothing else does.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Where the request comes from.
    pub origin: &'a Origin,
    /// The registry's rules.
    pub rules: &'a RegistryRules,
    /// What its credentials amount to.
    pub credential: &'a Credential,
    /// What it wants.
    pub operation: &'a Operation,
    /// The locks on what it touches, where they are known already.
    pub content: Option<&'a crate::ContentState>,
}

/// Decides. Total and deterministic; the order of rules and assignments does not matter.
///
/// Later layers are looked at even when an earlier one refuses, as far as there is something to look at, so that the trace
/// holds every blocker and not only the first.
///
/// Source: the semantics are fixed in `docs/reference/access-matrix.md`, row by row, with the documents each row comes from.
pub fn evaluate(inputs: &Inputs<'_>) -> Decision {
    let network = gate(inputs);
    let authentication = authenticate(inputs);
    let authorization = authorize(inputs);
    let refused = if matches!(network, NetworkStep::Denied(_)) {
        Some(Layer::Network)
    } else if matches!(authentication, AuthenticationStep::Missing | AuthenticationStep::Invalid(_)) {
        Some(Layer::Authentication)
    } else if matches!(authorization, AuthorizationStep::Denied(_)) {
        Some(Layer::Authorization)
    } else {
        None
    };
    let verdict = refused.map_or_else(|| Verdict::Allow(permit(inputs)), Verdict::Deny);
    let decision =
        Decision { verdict, trace: Trace { network, authentication, authorization, content: ContentStep::Skipped } };
    match inputs.content {
        Some(state) if decision.is_allowed() => {
            decision.with_content(content::check(inputs.operation.kind, quarantine_view(inputs), state))
        }
        _ => decision,
    }
}

/// What the caller may do on a repository (or, for `None`, on the registry as a whole) by its own rights, whatever its token
/// claims. The token endpoints issue the intersection of this and what was asked for.
pub fn rights(rules: &RegistryRules, caller: &Caller, repository: Option<&postern_model::RepositoryName>) -> Actions {
    match caller {
        Caller::Admin if rules.admin_enabled => Actions::ALL,
        Caller::Anonymous if rules.anonymous_pull => ANONYMOUS,
        Caller::Admin | Caller::Anonymous => Actions::NONE,
        Caller::RepositoryToken(name) => match (rules.tokens.get(name.to_ascii_lowercase().as_str()), repository) {
            (Some(token), Some(repository)) if token.enabled => token.actions.allows(repository),
            _ => Actions::NONE,
        },
        Caller::Principal(principal) if principal.kind == PrincipalKind::FirstParty => {
            if rules.scanner_enabled {
                READ_AND_LIST
            } else {
                Actions::NONE
            }
        }
        Caller::Principal(principal) => rules.grants.rights(principals(principal), rules.mode, repository),
    }
}

/// What a token may claim for the caller: its rights, and the words that stand for rights without a word of their own. A claim
/// gives nothing by itself, so that the stand-ins give no more than what they stand for.
pub fn claimable(
    rules: &RegistryRules,
    caller: &Caller,
    repository: Option<&postern_model::RepositoryName>,
) -> Actions {
    let held = rights(rules, caller, repository);
    STAND_INS.iter().fold(held, |all, (word, action)| {
        // There is nothing to be read while the policy is off. Passing can go on: that is how one prepares to turn it on.
        let stands_in = held.contains(*action) && (rules.policies.quarantine || *action != Action::QuarantineRead);
        if stands_in { all.union(Actions::of(&[*word])) } else { all }
    })
}

/// A word that scopes have, and what they have no word for.
const STAND_INS: [(Action, Action); 2] =
    [(Action::Pull, Action::QuarantineRead), (Action::MetadataWrite, Action::QuarantineWrite)];

/// What the vulnerability scanner's plan gives.
const READ_AND_LIST: Actions = Actions::of(&[Action::Pull, Action::MetadataRead, Action::CatalogRead]);

/// What anonymous pull gives: reading, but not the catalog.
const ANONYMOUS: Actions = Actions::of(&[Action::Pull, Action::MetadataRead]);

fn principals(principal: &Principal) -> impl Iterator<Item = PrincipalId> {
    iter::once(principal.id).chain(principal.groups.iter().copied())
}

fn permit(inputs: &Inputs<'_>) -> Permit {
    let rules = inputs.rules;
    let holder = match inputs.credential {
        Credential::Verified(verified) => match &verified.caller {
            Caller::Anonymous => Holder::Anonymous,
            Caller::Admin => Holder::Admin,
            Caller::Principal(principal) => Holder::Principal(principal.id),
            Caller::RepositoryToken(name) => rules
                .tokens
                .get(name.to_ascii_lowercase().as_str())
                .map_or(Holder::Anonymous, |token| Holder::RepositoryToken(token.uid)),
        },
        Credential::None | Credential::Invalid(_) => Holder::Anonymous,
    };
    let actions = inputs.operation.kind.required().iter().fold(Actions::NONE, |all, set| all.union(*set));
    Permit::new(PermitParts {
        registry: rules.uid,
        kind: inputs.operation.kind,
        repository: inputs.operation.repository.clone(),
        actions,
        generation: rules.generation,
        holder,
        policies: rules.policies,
        quarantine: quarantine_view(inputs),
    })
}

fn quarantine_view(inputs: &Inputs<'_>) -> QuarantineView {
    const READ: Actions = Actions::of(&[Action::QuarantineRead]);
    match inputs.credential {
        _ if !inputs.rules.policies.quarantine => QuarantineView::Off,
        Credential::Verified(verified)
            if claimed(inputs, verified).contains_all(READ) && ground(inputs, verified, READ).is_some() =>
        {
            QuarantineView::ByDigest
        }
        _ => QuarantineView::Closed,
    }
}

// ---- Layer 1: the gate -----------------------------------------------------------------------------------------------

fn gate(inputs: &Inputs<'_>) -> NetworkStep {
    let (rules, origin) = (&inputs.rules.network, inputs.origin);
    let way = match &origin.ingress {
        Ingress::Misrouted(_) => Err(vec![NetworkBlocker::Misrouted]),
        Ingress::PrivateEndpoint(endpoint) => private_endpoint(rules, endpoint).map_err(|blocker| vec![blocker]),
        Ingress::Public | Ingress::Subnet(_) => public(inputs).or_else(|mut blockers| match bypass(inputs) {
            Ok(service) => Ok(Via::TrustedService(service)),
            Err(more) => {
                blockers.extend(more);
                Err(blockers)
            }
        }),
    };
    // A token that was issued to a workload is worth nothing outside of it, even where the network is open.
    match (way, bound_elsewhere(inputs)) {
        (Ok(via), false) => NetworkStep::Allowed(via),
        (Ok(_), true) => NetworkStep::Denied(vec![NetworkBlocker::TokenBoundElsewhere]),
        (Err(blockers), false) => NetworkStep::Denied(blockers),
        (Err(mut blockers), true) => {
            blockers.push(NetworkBlocker::TokenBoundElsewhere);
            NetworkStep::Denied(blockers)
        }
    }
}

fn private_endpoint(rules: &crate::NetworkRules, endpoint: &ResourceId) -> Result<Via, NetworkBlocker> {
    // Ids of endpoints differ at their end: looking there first spares the long common beginning of two hundred of them.
    let end =
        |id: &ResourceId| id.as_str().as_bytes().last_chunk::<8>().map(|end| end.map(|byte| byte.to_ascii_lowercase()));
    let wanted = end(endpoint);
    let connections = rules.private_endpoints.iter();
    let connections = connections.filter(|known| end(&known.endpoint) == wanted && known.endpoint == *endpoint);
    // Of several, an approved one; of those, the least id: their order must not show.
    let best = connections.min_by_key(|connection| (connection.status != ConnectionStatus::Approved, &connection.id));
    match best {
        None => Err(NetworkBlocker::PrivateEndpointUnknown),
        Some(PrivateEndpointConnection { id, status: ConnectionStatus::Approved, .. }) => {
            Ok(Via::PrivateEndpoint(id.clone()))
        }
        Some(PrivateEndpointConnection { id, status, .. }) => {
            Err(NetworkBlocker::PrivateEndpointNotApproved { connection: id.clone(), status: *status })
        }
    }
}

fn public(inputs: &Inputs<'_>) -> Result<Via, Vec<NetworkBlocker>> {
    let (rules, origin) = (&inputs.rules.network, inputs.origin);
    match (rules.public_access, rules.default_allow) {
        (true, true) => return Ok(Via::Public),
        // No rule would be asked, were public access on.
        (false, true) => return Err(vec![NetworkBlocker::PublicAccessDisabled]),
        (_, false) => {}
    }
    let way = match (&origin.ingress, origin.address.to_canonical()) {
        (Ingress::Subnet(subnet), _) if rules.subnets.contains(subnet) => Ok(Via::ServiceEndpoint(subnet.clone())),
        // A service endpoint hides the public address, so that address rules cannot match it.
        (Ingress::Subnet(_), _) => Err(NetworkBlocker::SubnetNotListed),
        (_, IpAddr::V4(address)) => {
            rules.addresses.find(address).map(Via::IpRule).ok_or(NetworkBlocker::AddressNotListed)
        }
        (_, IpAddr::V6(_)) => Err(NetworkBlocker::AddressIsIpv6),
    };
    match way {
        Ok(via) if rules.public_access => Ok(via),
        Ok(_) => Err(vec![NetworkBlocker::PublicAccessDisabled]),
        Err(blocker) if rules.public_access => Err(vec![blocker]),
        Err(blocker) => Err(vec![NetworkBlocker::PublicAccessDisabled, blocker]),
    }
}

/// The trusted-service exception. `Err` with no blocker: there is no workload, so there is nothing to say about it.
fn bypass(inputs: &Inputs<'_>) -> Result<Arc<str>, Vec<NetworkBlocker>> {
    let workload = match &inputs.origin.workload {
        WorkloadState::None => return Err(Vec::new()),
        WorkloadState::Rejected(why) => return Err(vec![NetworkBlocker::WorkloadRejected(*why)]),
        WorkloadState::Verified(workload) => workload,
    };
    let settings = &inputs.rules.settings;
    let Some(service) = settings.services.find(&workload.resource_type) else {
        return Err(vec![NetworkBlocker::ServiceUnknown]);
    };
    let mut blockers = Vec::new();
    if !service.trusted {
        blockers.push(NetworkBlocker::ServiceNotTrusted(Arc::clone(&service.name)));
    }
    let rules = &inputs.rules.network;
    let phase = settings.policy_date.phase();
    // Before the policy there was nothing that could stand alone.
    let tasks_alone = service.policy == ServicePolicy::Tasks
        && !settings.switches.tasks_policy_requires_azure_services
        && rules.tasks == Some(true)
        && phase != TasksPhase::Before;
    if !rules.azure_services && !tasks_alone {
        blockers.push(NetworkBlocker::BypassOptionsNone);
    }
    if !rules.subnets.is_empty() {
        blockers.push(NetworkBlocker::ServiceEndpointPresent);
    }
    blockers.extend(identity_blocker(inputs, service, workload));
    if service.policy == ServicePolicy::Tasks {
        let open = match phase {
            TasksPhase::Before => true,
            TasksPhase::Grace => rules.tasks != Some(false),
            TasksPhase::Current => rules.tasks == Some(true),
        };
        if !open {
            blockers.push(NetworkBlocker::TasksPolicy { value: rules.tasks, phase });
        }
    }
    if blockers.is_empty() { Ok(Arc::clone(&service.name)) } else { Err(blockers) }
}

/// Whether the workload, and once credentials are known their principal, is an identity that the service may bypass with.
fn identity_blocker(inputs: &Inputs<'_>, service: &TrustedService, workload: &Workload) -> Option<NetworkBlocker> {
    let switches = &inputs.rules.settings.switches;
    let is_task = service.policy == ServicePolicy::Tasks;
    let accepts = |kind| match service.identity {
        IdentityRequirement::NotNeeded | IdentityRequirement::SystemOrUser => true,
        IdentityRequirement::SystemOnly => {
            kind == IdentityKind::SystemAssigned || (is_task && switches.tasks_user_identity_bypass)
        }
    };
    if service.identity == IdentityRequirement::NotNeeded {
        return None;
    }
    if workload.resource_type.eq_ignore_ascii_case(RUNS) {
        match (switches.quick_run_bypass, workload.identities.is_empty()) {
            (true, true) => return None,
            // As tasks do.
            (true, false) => {}
            // A quick run never bypasses, whatever it may hold.
            (false, _) => return Some(NetworkBlocker::NoSuitableIdentity(Arc::clone(&service.name))),
        }
    }
    let mut suitable = workload.identities.iter().filter(|identity| accepts(identity.kind)).peekable();
    if suitable.peek().is_none() {
        return Some(NetworkBlocker::NoSuitableIdentity(Arc::clone(&service.name)));
    }
    match inputs.credential {
        Credential::None | Credential::Invalid(_) => None,
        Credential::Verified(Verified { caller: Caller::Principal(principal), .. })
            if suitable.any(|identity| identity.principal == principal.id) =>
        {
            None
        }
        Credential::Verified(_) => Some(NetworkBlocker::OtherIdentity),
    }
}

fn bound_elsewhere(inputs: &Inputs<'_>) -> bool {
    let Credential::Verified(Verified { binding: Some(binding), .. }) = inputs.credential else { return false };
    match &inputs.origin.workload {
        WorkloadState::Verified(workload) => workload.uid != binding.resource,
        WorkloadState::None | WorkloadState::Rejected(_) => true,
    }
}

// ---- Layer 2: authentication -----------------------------------------------------------------------------------------

fn authenticate(inputs: &Inputs<'_>) -> AuthenticationStep {
    match inputs.credential {
        Credential::Verified(verified) => AuthenticationStep::Verified(verified.caller.clone()),
        Credential::Invalid(why) => AuthenticationStep::Invalid(*why),
        Credential::None if inputs.operation.kind.is_token_request() => AuthenticationStep::NotNeeded,
        Credential::None => AuthenticationStep::Missing,
    }
}

// ---- Layer 3: authorization ------------------------------------------------------------------------------------------

fn authorize(inputs: &Inputs<'_>) -> AuthorizationStep {
    let required = inputs.operation.required(inputs.rules.policies);
    let (verified, first) = match (inputs.credential, required) {
        (Credential::None, []) if inputs.operation.kind.is_token_request() => return AuthorizationStep::NotNeeded,
        (Credential::None | Credential::Invalid(_), _) => return AuthorizationStep::Skipped,
        (Credential::Verified(_), []) => return AuthorizationStep::NotNeeded,
        (Credential::Verified(verified), [first, ..]) => (verified, *first),
    };
    let claimed = claimed(inputs, verified);
    let claimed_set = required.iter().find(|set| claimed.contains_all(**set));
    // Else the set that the caller could ask a token for with success.
    let held = || required.iter().find(|set| ground(inputs, verified, **set).is_some());
    let preferred = claimed_set.or_else(held).copied().unwrap_or(first);
    let mut blockers = Vec::new();
    if claimed_set.is_none() {
        blockers.push(AuthorizationBlocker::TokenLacks(preferred.without(claimed)));
    }
    // The right must be held for a set that the token claims, too.
    let usable = |set: &&Actions| claimed_set.is_none() || claimed.contains_all(**set);
    let ground = required.iter().filter(usable).find_map(|set| ground(inputs, verified, *set));
    match ground {
        Some(ground) if blockers.is_empty() => AuthorizationStep::Allowed(ground),
        Some(_) => AuthorizationStep::Denied(blockers),
        None => {
            let sets = required.iter().copied().filter(|set| usable(&set));
            blockers.extend(missing_right(inputs, verified, preferred, sets));
            AuthorizationStep::Denied(blockers)
        }
    }
}

fn claimed(inputs: &Inputs<'_>, verified: &Verified) -> Actions {
    let Some(claim) = &verified.claim else { return Actions::ALL };
    match (&inputs.operation.repository, inputs.operation.kind) {
        (Some(repository), _) => {
            let claimed = claim.repository(repository);
            let stand_ins = STAND_INS.iter().filter(|(word, _)| claimed.contains(*word));
            claimed.union(stand_ins.map(|(_, action)| *action).collect())
        }
        (None, OperationKind::ListCatalog) if claim.catalog => Actions::of(&[Action::CatalogRead]),
        (None, OperationKind::ListDeletedCatalog) if claim.deleted_catalog => Actions::of(&[Action::DeletedRead]),
        (None, _) => Actions::NONE,
    }
}

fn ground(inputs: &Inputs<'_>, verified: &Verified, needed: Actions) -> Option<Ground> {
    let (rules, repository) = (inputs.rules, inputs.operation.repository.as_ref());
    if let Caller::Principal(principal) = &verified.caller
        && principal.kind != PrincipalKind::FirstParty
    {
        let grant = rules.grants.find(principals(principal), needed, rules.mode, repository)?;
        return Some(Ground::Assignment { assignment: Arc::clone(&grant.assignment), role: Arc::clone(&grant.role) });
    }
    let ground = match &verified.caller {
        Caller::Admin => Ground::Admin,
        Caller::Anonymous => Ground::AnonymousPull,
        Caller::RepositoryToken(_) => Ground::ScopeMap,
        Caller::Principal(_) => Ground::ScannerPlan,
    };
    rights(rules, &verified.caller, repository).contains_all(needed).then_some(ground)
}

/// What keeps the caller from `needed`, which stands for all of the sets that would do.
fn missing_right(
    inputs: &Inputs<'_>,
    verified: &Verified,
    needed: Actions,
    mut sets: impl Iterator<Item = Actions>,
) -> Vec<AuthorizationBlocker> {
    let (rules, repository) = (inputs.rules, inputs.operation.repository.as_ref());
    let missing = || needed.without(rights(rules, &verified.caller, repository));
    match &verified.caller {
        Caller::Admin => vec![AuthorizationBlocker::AdminDisabled],
        Caller::Anonymous if ANONYMOUS.contains_all(needed) => vec![AuthorizationBlocker::AnonymousPullOff],
        Caller::Anonymous => vec![AuthorizationBlocker::AnonymousNever],
        Caller::RepositoryToken(name) => missing_in_scope_map(inputs, name, needed, sets),
        Caller::Principal(principal) if principal.kind == PrincipalKind::FirstParty => {
            // The plan gives reading only.
            vec![if rules.scanner_enabled || !sets.any(|set| READ_AND_LIST.contains_all(set)) {
                AuthorizationBlocker::NoAssignment(missing())
            } else {
                AuthorizationBlocker::ScannerPlanOff
            }]
        }
        Caller::Principal(principal) => missing_role(inputs, principal, missing()),
    }
}

fn missing_in_scope_map(
    inputs: &Inputs<'_>,
    name: &str,
    needed: Actions,
    mut sets: impl Iterator<Item = Actions>,
) -> Vec<AuthorizationBlocker> {
    let Some(token) = inputs.rules.tokens.get(name.to_ascii_lowercase().as_str()) else {
        return vec![AuthorizationBlocker::TokenUnknown];
    };
    let repository = inputs.operation.repository.as_ref();
    let given = repository.map_or(Actions::NONE, |repository| token.actions.allows(repository));
    let mut blockers = Vec::new();
    if !token.enabled {
        blockers.push(AuthorizationBlocker::TokenDisabled);
    }
    if !sets.any(|set| given.contains_all(set)) {
        blockers.push(AuthorizationBlocker::ScopeMapLacks(needed.without(given)));
    }
    blockers
}

fn missing_role(inputs: &Inputs<'_>, principal: &Principal, missing: Actions) -> Vec<AuthorizationBlocker> {
    let mut blockers = vec![AuthorizationBlocker::NoAssignment(missing)];
    for grant in inputs.rules.grants.near(principals(principal), missing).take(MAX_NEAR_GRANTS) {
        let (assignment, role) = (Arc::clone(&grant.assignment), Arc::clone(&grant.role));
        // An unconditional grant of what is missing does not exist: it would not be missing.
        blockers.push(if grant.actions.intersection(missing).is_empty() {
            AuthorizationBlocker::RoleNotHonoured { role }
        } else {
            AuthorizationBlocker::ConditionNotMet { assignment, role }
        });
    }
    // The nearest miss last: what a condition refused was honoured here otherwise.
    blockers.sort_by_key(|blocker| matches!(blocker, AuthorizationBlocker::ConditionNotMet { .. }));
    blockers
}

/// Enough for a person to read; a principal may have thousands of assignments that do not help.
const MAX_NEAR_GRANTS: usize = 8;

#[cfg(test)]
mod tests;

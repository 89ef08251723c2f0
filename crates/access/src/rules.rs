use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::Ipv4Net;
use postern_model::{PrincipalId, RegistryUid, RepositoryName, ResourceId, ResourceUid};

use crate::roles::operation_name;
use crate::{Action, Actions, Condition, ConditionRequest, ContentPolicies, ScopeMapActions, Settings};

/// The rules of one registry, compiled once per change and swapped in whole. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RegistryRules {
    /// The registry's immutable id.
    pub uid: RegistryUid,
    /// The registry's resource id.
    pub id: ResourceId,
    /// Its host name, without port, lower case.
    pub login_server: Arc<str>,
    /// The generation of the configuration these rules were compiled from.
    pub generation: u64,
    /// Layer 1.
    pub network: NetworkRules,
    /// `roleAssignmentMode`.
    pub mode: RoleAssignmentMode,
    /// `adminUserEnabled`.
    pub admin_enabled: bool,
    /// `anonymousPullEnabled`, already limited to the SKUs that have it.
    pub anonymous_pull: bool,
    /// `azureADAuthenticationAsArmPolicy`: tokens for the resource manager's audience are accepted.
    pub arm_tokens_accepted: bool,
    /// The subscription has the vulnerability scanner's plan.
    pub scanner_enabled: bool,
    /// The host name of the dedicated data endpoint, lower case and without port, where there is one: `dataEndpointEnabled`.
    pub data_endpoint: Option<Arc<str>>,
    /// Layer 4, as far as it is not on the content itself.
    pub policies: ContentPolicies,
    /// Role assignments that reach this registry.
    pub grants: Arc<GrantTable>,
    /// Repository-scoped tokens by lower-case name.
    pub tokens: Arc<HashMap<Box<str>, RepositoryTokenRule>>,
    /// The server's settings.
    pub settings: Arc<Settings>,
}

/// What the gate reads.
#[derive(Clone, Debug)]
pub struct NetworkRules {
    /// `publicNetworkAccess` is `Enabled`.
    pub public_access: bool,
    /// `networkRuleSet.defaultAction` is `Allow`.
    pub default_allow: bool,
    /// `networkRuleSet.ipRules`.
    pub addresses: Arc<AddressRanges>,
    /// `networkRuleSet.virtualNetworkRules`: subnets.
    pub subnets: Arc<[ResourceId]>,
    /// The private endpoint connections.
    pub private_endpoints: Arc<[PrivateEndpointConnection]>,
    /// `networkRuleBypassOptions` is `AzureServices`.
    pub azure_services: bool,
    /// `networkRuleBypassAllowedForTasks`; unset is not `false` in every phase.
    pub tasks: Option<bool>,
}

/// One private endpoint connection of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateEndpointConnection {
    /// The connection's resource id.
    pub id: ResourceId,
    /// The private endpoint's resource id.
    pub endpoint: ResourceId,
    /// Its state.
    pub status: ConnectionStatus,
}

/// State of a private endpoint connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionStatus {
    /// Usable.
    Approved,
    /// Waits for the registry's owner.
    Pending,
    /// Refused by the registry's owner.
    Rejected,
    /// The endpoint is gone.
    Disconnected,
}

/// Which kind of permissions counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleAssignmentMode {
    /// `LegacyRegistryPermissions`: `actions` on the registry.
    Legacy,
    /// `AbacRepositoryPermissions`: `dataActions` with conditions on repositories.
    Abac,
}

impl RoleAssignmentMode {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "LegacyRegistryPermissions",
            Self::Abac => "AbacRepositoryPermissions",
        }
    }
}

/// A repository-scoped token as the decision needs it.
#[derive(Clone, Debug)]
pub struct RepositoryTokenRule {
    /// The token's name as it was given.
    pub name: Arc<str>,
    /// The token resource's immutable id.
    pub uid: ResourceUid,
    /// `status` is `enabled`.
    pub enabled: bool,
    /// The scope map's actions.
    pub actions: Arc<ScopeMapActions>,
}

/// The IP rules as sorted, disjoint ranges: a look-up costs one binary search.
#[derive(Clone, Debug, Default)]
pub struct AddressRanges {
    /// The first address of each range. Apart from the lengths, so that a search compares numbers that lie together.
    firsts: Box<[u32]>,
    /// The prefix length of each range.
    lengths: Box<[u8]>,
}

impl AddressRanges {
    /// Compiles the ranges. A range inside another one is dropped: CIDR ranges nest or are disjoint.
    pub fn new(ranges: impl IntoIterator<Item = Ipv4Net>) -> Self {
        let mut sorted: Vec<Ipv4Net> = ranges.into_iter().map(|range| range.trunc()).collect();
        sorted.sort_unstable_by_key(|range| (range.network(), range.prefix_len()));
        let mut kept: Vec<Ipv4Net> = Vec::with_capacity(sorted.len());
        for range in sorted {
            if !kept.last().is_some_and(|last| last.contains(&range)) {
                kept.push(range);
            }
        }
        Self {
            firsts: kept.iter().map(|range| range.network().to_bits()).collect(),
            lengths: kept.iter().map(Ipv4Net::prefix_len).collect(),
        }
    }

    /// The range that holds the address.
    pub fn find(&self, address: Ipv4Addr) -> Option<Ipv4Net> {
        let address_bits = address.to_bits();
        let at = self.firsts.partition_point(|first| *first <= address_bits).checked_sub(1)?;
        let range = Ipv4Net::new(Ipv4Addr::from_bits(*self.firsts.get(at)?), *self.lengths.get(at)?).ok()?;
        range.contains(&address).then_some(range)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }
}

/// A role assignment as the decision needs it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The assignment's resource id.
    pub assignment: Arc<str>,
    /// The role's name.
    pub role: Arc<str>,
    /// What the role gives in the registry's mode.
    pub actions: Actions,
    /// What it would give in the other mode: explains "the role is not honoured here".
    pub other_mode_actions: Actions,
    /// Whether the role covers `registries/metadata/read` itself. In the legacy mode `registries/pull/read` gives the right to read
    /// metadata too, and a condition is asked about the operation that gives the right.
    pub names_metadata_read: bool,
    /// Its condition.
    pub condition: Option<Arc<Condition>>,
}

/// Role assignments by principal. Those without condition are merged, so that a look-up does not grow with their number.
#[derive(Clone, Debug, Default)]
pub struct GrantTable(HashMap<PrincipalId, PrincipalGrants, RandomState>);

/// There may be very many, and most have a single grant: only those with more pay for finding one among them.
#[derive(Clone, Debug)]
enum PrincipalGrants {
    One(Grant),
    Many(Box<ManyGrants>),
}

/// The grants of one principal, and what they come to.
#[derive(Clone, Debug)]
struct ManyGrants {
    all: Box<[Grant]>,
    unconditional: Actions,
    /// Per action, which of `all` gives it without condition.
    givers: [u32; Action::ALL.len()],
    conditional: Box<[u32]>,
    /// Those that would give something under a condition, or in the other mode.
    near: Box<[u32]>,
    /// What the grants in `near` would give together.
    near_actions: Actions,
}

impl GrantTable {
    /// Compiles the assignments. Their order does not show: of several that give a right, the one with the least id counts.
    pub fn new(grants: impl IntoIterator<Item = (PrincipalId, Grant)>) -> Self {
        let mut sorted: Vec<(PrincipalId, Grant)> = grants.into_iter().collect();
        sorted
            .sort_by(|(left, own), (right, other)| left.cmp(right).then_with(|| own.assignment.cmp(&other.assignment)));
        let groups = sorted.chunk_by(|(left, _), (right, _)| left == right);
        let mut table = HashMap::with_capacity_and_hasher(groups.clone().count(), RandomState::default());
        for group in groups {
            table.extend(group.first().map(|(principal, _)| (*principal, PrincipalGrants::new(group))));
        }
        Self(table)
    }

    /// The assignments of these principals: the caller and its groups.
    pub fn of<'a>(&'a self, principals: impl Iterator<Item = PrincipalId> + 'a) -> impl Iterator<Item = &'a Grant> {
        principals.filter_map(|principal| self.0.get(&principal)).flat_map(PrincipalGrants::all)
    }

    /// The first assignment of these principals that gives all of `needed` on the repository; several assignments together
    /// may, then it is the one that gave the last missing action.
    pub(crate) fn find<'a>(
        &'a self,
        principals: impl Iterator<Item = PrincipalId>,
        needed: Actions,
        mode: RoleAssignmentMode,
        repository: Option<&RepositoryName>,
    ) -> Option<&'a Grant> {
        let mut missing = needed;
        for grants in principals.filter_map(|principal| self.0.get(&principal)) {
            let given = missing.intersection(grants.unconditional());
            if let Some(action) = given.iter().last() {
                missing = missing.without(given);
                if missing.is_empty() {
                    return grants.giver(action);
                }
            }
            for grant in grants.conditional() {
                let given: Actions = missing
                    .intersection(grant.actions)
                    .iter()
                    .filter(|action| grant.holds(*action, mode, repository))
                    .collect();
                missing = missing.without(given);
                if missing.is_empty() && !given.is_empty() {
                    return Some(grant);
                }
            }
        }
        None
    }

    /// Every action that these principals have on the repository.
    pub(crate) fn rights(
        &self,
        principals: impl Iterator<Item = PrincipalId>,
        mode: RoleAssignmentMode,
        repository: Option<&RepositoryName>,
    ) -> Actions {
        principals.filter_map(|principal| self.0.get(&principal)).fold(Actions::NONE, |all, grants| {
            grants.conditional().fold(all.union(grants.unconditional()), |all, grant| {
                let fresh = grant.actions.without(all);
                all.union(fresh.iter().filter(|action| grant.holds(*action, mode, repository)).collect())
            })
        })
    }

    /// The assignments of these principals that would give some of `missing` under their condition or in the other mode.
    pub(crate) fn near<'a>(
        &'a self,
        principals: impl Iterator<Item = PrincipalId> + 'a,
        missing: Actions,
    ) -> impl Iterator<Item = &'a Grant> {
        let helps = move |actions: Actions| !actions.intersection(missing).is_empty();
        principals
            .filter_map(|principal| self.0.get(&principal))
            .filter(move |grants| helps(grants.near_actions()))
            .flat_map(PrincipalGrants::near)
            .filter(move |grant| helps(grant.actions) || helps(grant.other_mode_actions))
    }
}

impl PrincipalGrants {
    fn new(group: &[(PrincipalId, Grant)]) -> Self {
        match group {
            [(_, grant)] => Self::One(grant.clone()),
            group => Self::Many(Box::new(ManyGrants::new(group.iter().map(|(_, grant)| grant.clone()).collect()))),
        }
    }

    fn all(&self) -> &[Grant] {
        match self {
            Self::One(grant) => std::slice::from_ref(grant),
            Self::Many(grants) => &grants.all,
        }
    }

    /// What they give without condition.
    fn unconditional(&self) -> Actions {
        match self {
            Self::One(Grant { condition: None, actions, .. }) => *actions,
            Self::One(_) => Actions::NONE,
            Self::Many(grants) => grants.unconditional,
        }
    }

    fn conditional(&self) -> impl Iterator<Item = &Grant> {
        self.those(|grant| grant.condition.is_some(), |grants| &grants.conditional)
    }

    fn giver(&self, action: Action) -> Option<&Grant> {
        match self {
            Self::One(grant) => Some(grant),
            Self::Many(grants) => grants.givers.get(action as usize).and_then(|&at| grants.all.get(at as usize)),
        }
    }

    fn near(&self) -> impl Iterator<Item = &Grant> {
        self.those(Grant::is_near, |grants| &grants.near)
    }

    fn near_actions(&self) -> Actions {
        match self {
            Self::One(grant) if grant.is_near() => grant.near_actions(),
            Self::One(_) => Actions::NONE,
            Self::Many(grants) => grants.near_actions,
        }
    }

    /// Some of them: the only one if it counts, or those that are listed.
    fn those(
        &self,
        counts: impl FnOnce(&Grant) -> bool,
        listed: impl FnOnce(&ManyGrants) -> &[u32],
    ) -> impl Iterator<Item = &Grant> {
        let (one, all, listed): (_, &[Grant], &[u32]) = match self {
            Self::One(grant) => (Some(grant).filter(|grant| counts(grant)), &[], &[]),
            Self::Many(grants) => (None, &grants.all, listed(grants)),
        };
        one.into_iter().chain(listed.iter().filter_map(|&at| all.get(at as usize)))
    }
}

impl ManyGrants {
    fn new(all: Box<[Grant]>) -> Self {
        let (mut unconditional, mut near_actions) = (Actions::NONE, Actions::NONE);
        let (mut conditional, mut near) = (Vec::new(), Vec::new());
        let mut givers = [0; Action::ALL.len()];
        for (at, grant) in (0_u32..).zip(&all) {
            if grant.condition.is_some() {
                conditional.push(at);
            } else {
                for action in grant.actions.without(unconditional).iter() {
                    if let Some(giver) = givers.get_mut(action as usize) {
                        *giver = at;
                    }
                }
                unconditional = unconditional.union(grant.actions);
            }
            if grant.is_near() {
                near.push(at);
                near_actions = near_actions.union(grant.near_actions());
            }
        }
        Self { all, unconditional, givers, conditional: conditional.into(), near: near.into(), near_actions }
    }
}

impl Grant {
    /// Whether it would give something under its condition, or in the other mode.
    fn is_near(&self) -> bool {
        self.condition.is_some() || !self.other_mode_actions.without(self.actions).is_empty()
    }

    /// What it would give then.
    fn near_actions(&self) -> Actions {
        let other = self.other_mode_actions.without(self.actions);
        if self.condition.is_some() { other.union(self.actions) } else { other }
    }

    /// Whether the condition lets the action through. A condition that cannot be evaluated does not.
    pub(crate) fn holds(&self, action: Action, mode: RoleAssignmentMode, repository: Option<&RepositoryName>) -> bool {
        let Some(condition) = &self.condition else { return true };
        let givers = match (mode, action) {
            (RoleAssignmentMode::Legacy, Action::MetadataRead) => [
                self.actions.contains(Action::Pull).then_some(Action::Pull),
                self.names_metadata_read.then_some(Action::MetadataRead),
            ],
            _ => [Some(action), None],
        };
        givers.into_iter().flatten().any(|giver| {
            let request = ConditionRequest {
                action: operation_name(giver, mode),
                repository: repository.map(RepositoryName::as_str),
            };
            condition.evaluate(&request).unwrap_or(false)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ranges: &[&str], address: &str, found: Option<&str>) {
        let ranges = AddressRanges::new(ranges.iter().map(|range| range.parse::<Ipv4Net>().unwrap()));
        assert_eq!(ranges.find(address.parse().unwrap()).map(|range| range.to_string()).as_deref(), found);
    }

    #[test]
    fn addresses_are_found_in_nested_and_adjacent_ranges() {
        check(&[], "198.51.100.7", None);
        check(&["198.51.100.7/32"], "198.51.100.7", Some("198.51.100.7/32"));
        check(&["198.51.100.7/32"], "198.51.100.8", None);
        check(&["198.51.100.0/24", "198.51.100.128/25", "198.51.100.7/32"], "198.51.100.200", Some("198.51.100.0/24"));
        check(&["198.51.101.0/24", "198.51.100.0/24"], "198.51.100.255", Some("198.51.100.0/24"));
        check(&["198.51.101.0/24", "198.51.100.0/24"], "198.51.101.0", Some("198.51.101.0/24"));
        check(&["0.0.0.0/0", "10.0.0.0/8"], "255.255.255.255", Some("0.0.0.0/0"));
        check(&["198.51.100.7/24"], "198.51.100.1", Some("198.51.100.0/24"));
    }
}

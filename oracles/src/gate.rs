use crate::text::address_in_range;
use crate::{Caller, Mutation, Origin, Registry, Server, Way, Who, Workload};

/// What stands in a way through the gate; each is one bit of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of the decision's blockers")]
pub enum Objection {
    PublicAccessDisabled = 1,
    AddressNotListed = 1 << 1,
    AddressIsIpv6 = 1 << 2,
    SubnetNotListed = 1 << 3,
    PrivateEndpointUnknown = 1 << 4,
    PrivateEndpointNotApproved = 1 << 5,
    Misrouted = 1 << 6,
    WorkloadRejected = 1 << 7,
    ServiceUnknown = 1 << 8,
    ServiceNotTrusted = 1 << 9,
    BypassOptionsNone = 1 << 10,
    ServiceEndpointPresent = 1 << 11,
    NoSuitableIdentity = 1 << 12,
    OtherIdentity = 1 << 13,
    TasksPolicy = 1 << 14,
    TokenBoundElsewhere = 1 << 15,
}

impl Objection {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::PublicAccessDisabled,
        Self::AddressNotListed,
        Self::AddressIsIpv6,
        Self::SubnetNotListed,
        Self::PrivateEndpointUnknown,
        Self::PrivateEndpointNotApproved,
        Self::Misrouted,
        Self::WorkloadRejected,
        Self::ServiceUnknown,
        Self::ServiceNotTrusted,
        Self::BypassOptionsNone,
        Self::ServiceEndpointPresent,
        Self::NoSuitableIdentity,
        Self::OtherIdentity,
        Self::TasksPolicy,
        Self::TokenBoundElsewhere,
    ];
}

/// The way in that was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// The approved connection of this private endpoint.
    PrivateEndpoint(String),
    /// The public endpoint, open to all.
    Public,
    /// The rule for this subnet.
    ServiceEndpoint(String),
    /// An IP rule.
    IpRule,
    /// Trust in this service.
    TrustedService(&'static str),
}

/// What a trusted service's identity has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Any,
    System,
}

/// The table of section 4: type of the resource, name, identity, whether trusted.
const SERVICES: [(&str, &str, Needs, bool); 7] = [
    ("microsoft.containerinstance/containergroups", "containerInstances", Needs::Any, true),
    ("microsoft.security/scanners", "defender", Needs::Nothing, true),
    ("microsoft.machinelearningservices/workspaces", "machineLearning", Needs::System, true),
    ("microsoft.containerregistry/importers", "acrImport", Needs::Nothing, true),
    ("microsoft.containerregistry/registries/tasks", "acrTasks", Needs::System, true),
    ("microsoft.containerregistry/registries/runs", "acrTasks", Needs::System, true),
    ("microsoft.web/sites", "appService", Needs::Any, false),
];

type Found = Result<Via, u32>;

/// Section 8: every way that the request could take, in order; the first open one lets it in, and if none is, everything that stands
/// in any of them is told. A token that belongs to another workload is refused on every way.
pub(crate) fn gate(
    registry: &Registry,
    server: &Server,
    origin: &Origin,
    caller: &Caller,
    mutation: Option<Mutation>,
) -> Found {
    let mut open = None;
    let mut objections = 0;
    let ways: &[fn(&Ask<'_>) -> Found] = match origin.way {
        Way::Endpoint(_) if mutation == Some(Mutation::BypassByUnapprovedEndpoint) => &[by_endpoint, by_trust],
        Way::Endpoint(_) | Way::Misrouted => &[by_endpoint],
        Way::Public | Way::Subnet(_) => &[in_public, by_trust],
    };
    let ask = Ask { registry, server, origin, caller, mutation };
    for way in ways {
        match way(&ask) {
            Ok(via) => open = open.or(Some(via)),
            Err(found) => objections |= found,
        }
    }
    let here = match &origin.workload {
        Workload::Verified { uid, .. } => Some(*uid),
        Workload::None | Workload::Rejected => None,
    };
    let stolen = caller.bound.is_some() && caller.bound != here && mutation != Some(Mutation::BindingIgnored);
    match open {
        Some(_) if stolen => Err(Objection::TokenBoundElsewhere as u32),
        Some(via) => Ok(via),
        None if stolen => Err(objections | Objection::TokenBoundElsewhere as u32),
        None => Err(objections),
    }
}

struct Ask<'a> {
    registry: &'a Registry,
    server: &'a Server,
    origin: &'a Origin,
    caller: &'a Caller,
    mutation: Option<Mutation>,
}

impl Ask<'_> {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

fn by_endpoint(ask: &Ask<'_>) -> Found {
    let Way::Endpoint(endpoint) = &ask.origin.way else { return Err(Objection::Misrouted as u32) };
    let connected = |status: &str| {
        ask.registry.connections.iter().any(|(of, is)| of.eq_ignore_ascii_case(endpoint) && *is == status)
    };
    if connected("Approved") || (ask.is(Mutation::PendingEndpointIsEnough) && connected("Pending")) {
        Ok(Via::PrivateEndpoint(endpoint.clone()))
    } else if ["Pending", "Rejected", "Disconnected"].into_iter().any(connected) {
        Err(Objection::PrivateEndpointNotApproved as u32)
    } else {
        Err(Objection::PrivateEndpointUnknown as u32)
    }
}

fn in_public(ask: &Ask<'_>) -> Found {
    let registry = ask.registry;
    // An IPv4 address in IPv6 clothes is what a socket for both shows of an IPv4 client.
    let address = ask.origin.address.strip_prefix("::ffff:").unwrap_or(&ask.origin.address);
    let ipv6 = address.contains(':');
    let in_rules = || {
        let counted = if ask.is(Mutation::OnlyFirstIpRule) { 1 } else { registry.ip_rules.len() };
        let rules = registry.ip_rules.iter().take(counted);
        !ipv6 && rules.into_iter().any(|rule| address_in_range(address, rule, ask.mutation))
    };
    let listed = match &ask.origin.way {
        _ if registry.default_allow => Ok(Via::Public),
        Way::Subnet(subnet) if registry.subnets.iter().any(|listed| listed.eq_ignore_ascii_case(subnet)) => {
            Ok(Via::ServiceEndpoint(subnet.clone()))
        }
        Way::Subnet(_) if ask.is(Mutation::IpRulesMatchSubnets) && in_rules() => Ok(Via::IpRule),
        // A service endpoint changes the source address: IP rules for the client's public one stop matching.
        Way::Subnet(_) => Err(Objection::SubnetNotListed as u32),
        _ if in_rules() => Ok(Via::IpRule),
        _ if ipv6 => Err(Objection::AddressIsIpv6 as u32),
        _ => Err(Objection::AddressNotListed as u32),
    };
    let survives = match &listed {
        Ok(Via::IpRule) => ask.is(Mutation::IpRulesSurviveDisabling),
        Ok(Via::Public) => ask.is(Mutation::DefaultAllowSurvivesDisabling),
        _ => false,
    };
    let disabled = Objection::PublicAccessDisabled as u32;
    match listed {
        listed if registry.public || survives => listed,
        Ok(_) => Err(disabled),
        Err(found) => Err(found | disabled),
    }
}

fn by_trust(ask: &Ask<'_>) -> Found {
    let (resource_type, identities) = match &ask.origin.workload {
        // Nothing stands in a way that nobody takes.
        Workload::None => return Err(0),
        Workload::Rejected => return Err(Objection::WorkloadRejected as u32),
        Workload::Verified { resource_type, identities, .. } => (resource_type, identities),
    };
    let known = SERVICES.iter().find(|(of, ..)| of.eq_ignore_ascii_case(resource_type));
    let Some(&(_, name, needs, trusted)) = known else { return Err(Objection::ServiceUnknown as u32) };
    let mut objections = 0;
    let mut unless = |fine: bool, objection: Objection| {
        if !fine {
            objections |= objection as u32;
        }
    };
    let is_tasks = name == "acrTasks";
    let is_run = resource_type.to_ascii_lowercase().ends_with("/runs");
    let trusted = match name {
        "containerInstances" => ask.server.aci,
        "appService" => trusted || ask.is(Mutation::AppServiceTrusted),
        _ => trusted,
    };
    let phase = phase(&ask.server.date, ask.mutation);
    let policy = ask.registry.tasks;
    let stands_alone = is_tasks && phase > 0 && policy == Some(true) && !ask.server.policy_requires_services;
    let bypass = ask.registry.bypass == "AzureServices" || ask.is(Mutation::BypassIgnoresOptions);
    unless(trusted, Objection::ServiceNotTrusted);
    unless(bypass || stands_alone, Objection::BypassOptionsNone);
    let no_subnets = ask.registry.subnets.is_empty() || ask.is(Mutation::BypassIgnoresSubnetRules);
    unless(no_subnets, Objection::ServiceEndpointPresent);

    let user_too = ask.server.user_identities || ask.is(Mutation::TasksTakeUserIdentity);
    let needs = if is_tasks && !is_run && user_too { Needs::Any } else { needs };
    let as_runs = ask.server.quick_runs || ask.is(Mutation::QuickRunsBypass);
    // A quick run has no identity; where the switch lets it pass, there is none to ask for.
    let needs = if is_run && as_runs && identities.is_empty() { Needs::Nothing } else { needs };
    let needs = if is_run && as_runs && user_too && needs != Needs::Nothing { Needs::Any } else { needs };
    let suits = |(_, system): &&(u8, bool)| needs == Needs::Any || *system;
    let mut suitable = identities.iter().filter(suits);
    if needs != Needs::Nothing {
        let never = is_run && !as_runs;
        if never || suitable.clone().next().is_none() {
            unless(false, Objection::NoSuitableIdentity);
        } else {
            let as_itself = match &ask.caller.who {
                // Before the credentials are known, that it has one is enough.
                Who::Nobody | Who::Invalid(_) => true,
                Who::Principal { id, .. } => suitable.any(|(identity, _)| identity == id),
                Who::Anonymous | Who::Admin | Who::Token(_) => false,
            };
            unless(as_itself || ask.is(Mutation::BypassForAnyPrincipal), Objection::OtherIdentity);
        }
    }
    if is_tasks {
        let unset_is_yes = ask.is(Mutation::UnsetPolicyIsYes);
        let fine = match phase {
            0 => true,
            1 if ask.is(Mutation::UnsetPolicyIsNoInGrace) => policy == Some(true),
            1 => policy != Some(false),
            _ => policy == Some(true) || (unset_is_yes && policy.is_none()),
        };
        unless(fine, Objection::TasksPolicy);
    }
    if objections == 0 { Ok(Via::TrustedService(name)) } else { Err(objections) }
}

/// 0 before the policy, 1 in the grace period, 2 since it is enforced. Dates of this form are in order as text.
fn phase(date: &str, mutation: Option<Mutation>) -> u8 {
    let begins = if mutation == Some(Mutation::GraceBeginsLate) { "2025-05-17" } else { "2025-05-16" };
    let ends = if mutation == Some(Mutation::GraceEndsLate) { "2025-06-02" } else { "2025-06-01" };
    match date {
        "pre-2025-05-16" => 0,
        "grace" => 1,
        "current" => 2,
        date if date < begins => 0,
        date if date < ends => 1,
        _ => 2,
    }
}

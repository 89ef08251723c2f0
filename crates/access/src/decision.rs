use std::fmt;
use std::sync::Arc;

use ipnet::Ipv4Net;
use postern_model::{RegistryUid, RepositoryName, ResourceId};

use crate::content;
use crate::{
    Actions, Caller, ConnectionStatus, ContentCause, ContentPolicies, ContentState, Holder, InvalidCredential,
    OperationKind, QuarantineView, TasksPhase, WorkloadRejection,
};

/// The answer: a verdict, and what every layer had to say.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Allow with a permit, or deny by a layer.
    pub verdict: Verdict,
    /// One step per layer.
    pub trace: Trace,
}

/// Allow or deny.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The operation may happen; the permit is the proof.
    Allow(Permit),
    /// It may not; this layer refused first.
    Deny(Layer),
}

/// The layers, in the order in which they decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Network rules and the trusted bypass.
    Network,
    /// Credentials.
    Authentication,
    /// Roles, scope maps, the token's claim.
    Authorization,
    /// Locks and quarantine.
    Content,
}

impl Layer {
    /// The name in traces and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Content => "content",
        }
    }
}

/// Proof that an operation was allowed: the only key to a repository.
///
/// It cannot be made outside this crate, is for one repository (or the catalog) and one set of actions, and names the
/// generation of the rules that gave it.
#[derive(Clone, Debug)]
pub struct Permit {
    registry: RegistryUid,
    kind: OperationKind,
    repository: Option<RepositoryName>,
    actions: Actions,
    generation: u64,
    holder: Holder,
    policies: ContentPolicies,
    quarantine: QuarantineView,
}

/// What a permit is made from.
pub(crate) struct PermitParts {
    pub(crate) registry: RegistryUid,
    pub(crate) kind: OperationKind,
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) actions: Actions,
    pub(crate) generation: u64,
    pub(crate) holder: Holder,
    pub(crate) policies: ContentPolicies,
    pub(crate) quarantine: QuarantineView,
}

impl Permit {
    pub(crate) fn new(parts: PermitParts) -> Self {
        let PermitParts { registry, kind, repository, actions, generation, holder, policies, quarantine } = parts;
        Self { registry, kind, repository, actions, generation, holder, policies, quarantine }
    }

    /// The registry.
    pub const fn registry(&self) -> RegistryUid {
        self.registry
    }

    /// The operation that was asked for.
    pub const fn kind(&self) -> OperationKind {
        self.kind
    }

    /// The repository; `None` when the operation concerns the whole registry.
    pub const fn repository(&self) -> Option<&RepositoryName> {
        self.repository.as_ref()
    }

    /// The actions that were allowed.
    pub const fn actions(&self) -> Actions {
        self.actions
    }

    /// The generation of the rules that allowed it.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Who owns what is started under this permit.
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// The registry's policies on content, as they were when it was decided.
    pub const fn policies(&self) -> ContentPolicies {
        self.policies
    }

    /// What quarantined content is to its holder.
    pub const fn quarantine(&self) -> QuarantineView {
        self.quarantine
    }

    /// The content layer: whether locks and quarantine let the operation happen. A writer asks inside its transaction, with the
    /// attributes read there.
    pub fn check_content(&self, state: &ContentState) -> Result<(), ContentCause> {
        content::check(self.kind, self.quarantine, state)
    }
}

/// What every layer found.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Layer 1.
    pub network: NetworkStep,
    /// Layer 2.
    pub authentication: AuthenticationStep,
    /// Layer 3.
    pub authorization: AuthorizationStep,
    /// Layer 4.
    pub content: ContentStep,
}

/// What the gate found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkStep {
    /// Let in, this way.
    Allowed(Via),
    /// Refused; everything that stood in the way.
    Denied(Vec<NetworkBlocker>),
}

/// The way that let a request through the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// An approved private endpoint connection.
    PrivateEndpoint(ResourceId),
    /// Public access is open to all networks.
    Public,
    /// A subnet in the virtual network rules.
    ServiceEndpoint(ResourceId),
    /// An IP rule.
    IpRule(Ipv4Net),
    /// A trusted service, by name.
    TrustedService(Arc<str>),
}

/// Something that kept the gate shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkBlocker {
    /// `publicNetworkAccess` is `Disabled`.
    PublicAccessDisabled,
    /// No IP rule holds the address.
    AddressNotListed,
    /// Address rules are IPv4 only, the address is IPv6.
    AddressIsIpv6,
    /// The subnet is in no virtual network rule.
    SubnetNotListed,
    /// The private endpoint is not connected to this registry.
    PrivateEndpointUnknown,
    /// Its connection is not approved.
    PrivateEndpointNotApproved {
        /// The connection.
        connection: ResourceId,
        /// Its state.
        status: ConnectionStatus,
    },
    /// An arrival on a private endpoint from another network.
    Misrouted,
    /// A workload certificate was presented and does not count.
    WorkloadRejected(WorkloadRejection),
    /// The workload is of no service in the table.
    ServiceUnknown,
    /// The service is in the table as not trusted.
    ServiceNotTrusted(Arc<str>),
    /// `networkRuleBypassOptions` is `None`.
    BypassOptionsNone,
    /// A service endpoint (virtual network rule) voids the bypass.
    ServiceEndpointPresent,
    /// The workload has no identity that the service may bypass with.
    NoSuitableIdentity(Arc<str>),
    /// The credentials are not those of an identity that the workload may bypass with.
    OtherIdentity,
    /// The tasks policy says no, or does not say yes.
    TasksPolicy {
        /// The policy's value.
        value: Option<bool>,
        /// The phase it was read in.
        phase: TasksPhase,
    },
    /// The token was issued to a workload and is used outside of it.
    TokenBoundElsewhere,
}

/// What authentication found.
#[derive(Clone, Debug)]
pub enum AuthenticationStep {
    /// The request is itself a request for a token.
    NotNeeded,
    /// No credentials.
    Missing,
    /// Credentials that do not hold.
    Invalid(InvalidCredential),
    /// Credentials that hold.
    Verified(Caller),
}

/// What authorization found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationStep {
    /// There is no verified caller to ask about.
    Skipped,
    /// The operation needs no right.
    NotNeeded,
    /// The caller has the right.
    Allowed(Ground),
    /// The caller lacks it; everything that stood in the way.
    Denied(Vec<AuthorizationBlocker>),
}

/// Why a caller has a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The admin user has all of the data plane.
    Admin,
    /// Anonymous pull is on.
    AnonymousPull,
    /// The token's scope map.
    ScopeMap,
    /// The scanner's plan is on for the subscription.
    ScannerPlan,
    /// A role assignment.
    Assignment {
        /// Its resource id.
        assignment: Arc<str>,
        /// The role's name.
        role: Arc<str>,
    },
}

/// Something that keeps a verified caller from an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationBlocker {
    /// The access token does not claim these actions.
    TokenLacks(Actions),
    /// No assignment gives these actions.
    NoAssignment(Actions),
    /// An assignment gives them in the other role assignment mode only.
    RoleNotHonoured {
        /// The role's name.
        role: Arc<str>,
    },
    /// An assignment gives them, and its condition does not hold.
    ConditionNotMet {
        /// Its resource id.
        assignment: Arc<str>,
        /// The role's name.
        role: Arc<str>,
    },
    /// The token's scope map lacks these actions.
    ScopeMapLacks(Actions),
    /// The token is disabled.
    TokenDisabled,
    /// The token is gone.
    TokenUnknown,
    /// The admin user is disabled.
    AdminDisabled,
    /// Anonymous pull is off.
    AnonymousPullOff,
    /// Anonymous callers never may.
    AnonymousNever,
    /// The subscription lacks the scanner's plan.
    ScannerPlanOff,
}

/// What the content layer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentStep {
    /// An earlier layer refused, or the content was not looked at yet.
    Skipped,
    /// Nothing in the way.
    Allowed,
    /// A lock, or the quarantine.
    Denied(ContentCause),
}

impl Decision {
    /// The permit, or the layer that refused.
    pub fn permit(&self) -> Result<&Permit, Layer> {
        match &self.verdict {
            Verdict::Allow(permit) => Ok(permit),
            Verdict::Deny(layer) => Err(*layer),
        }
    }

    /// Whether the operation may happen.
    pub const fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_))
    }

    /// The layer that decided: the one that refused, or the last one that had a say.
    pub const fn deciding_layer(&self) -> Layer {
        match &self.verdict {
            Verdict::Deny(layer) => *layer,
            Verdict::Allow(_) => match (&self.trace.network, &self.trace.authorization) {
                // A way through a closed wall is what is worth telling.
                (NetworkStep::Allowed(Via::Public), AuthorizationStep::Allowed(_)) => Layer::Authorization,
                _ => Layer::Network,
            },
        }
    }

    /// Adds what the content layer found in a transaction.
    #[must_use]
    pub fn with_content(mut self, outcome: Result<(), ContentCause>) -> Self {
        self.settle(outcome);
        self
    }

    /// The same, in place.
    pub fn settle(&mut self, outcome: Result<(), ContentCause>) {
        match outcome {
            Ok(()) => self.trace.content = ContentStep::Allowed,
            Err(cause) => {
                self.trace.content = ContentStep::Denied(cause);
                self.verdict = Verdict::Deny(Layer::Content);
            }
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrivateEndpoint(connection) => write!(f, "private endpoint connection `{}`", connection.name()),
            Self::Public => f.write_str("public access, all networks"),
            Self::ServiceEndpoint(subnet) => write!(f, "virtual network rule for subnet `{}`", subnet.name()),
            Self::IpRule(range) => write!(f, "IP rule {range}"),
            Self::TrustedService(name) => write!(f, "trusted service `{name}`"),
        }
    }
}

impl fmt::Display for NetworkBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublicAccessDisabled => f.write_str("public network access is disabled"),
            Self::AddressNotListed => f.write_str("no IP rule holds the client's address"),
            Self::AddressIsIpv6 => f.write_str("the client's address is IPv6 and IP rules are IPv4 only"),
            Self::SubnetNotListed => f.write_str("no virtual network rule names the client's subnet"),
            Self::PrivateEndpointUnknown => f.write_str("the private endpoint is not connected to this registry"),
            Self::PrivateEndpointNotApproved { connection, status } => {
                write!(f, "private endpoint connection `{}` is {}", connection.name(), status.as_str())
            }
            Self::Misrouted => f.write_str("the request reached a private endpoint from another network"),
            Self::WorkloadRejected(why) => fmt::Display::fmt(why, f),
            Self::ServiceUnknown => f.write_str("the workload belongs to no trusted service"),
            Self::ServiceNotTrusted(name) => write!(f, "`{name}` is not a trusted service"),
            Self::BypassOptionsNone => f.write_str("trusted services are off (networkRuleBypassOptions is None)"),
            Self::ServiceEndpointPresent => {
                f.write_str("the registry has a service endpoint, and trusted services do not apply with one")
            }
            Self::NoSuitableIdentity(name) => {
                write!(f, "the workload has no identity that `{name}` may bypass the network rules with")
            }
            Self::OtherIdentity => f.write_str(
                "the credentials are not those of an identity that this workload may bypass the network rules with",
            ),
            Self::TasksPolicy { value, phase } => {
                let value = match value {
                    None => "unset",
                    Some(false) => "false",
                    Some(true) => "true",
                };
                let phase = match phase {
                    TasksPhase::Before => "before 2025-05-16",
                    TasksPhase::Grace => "from 2025-05-16 to 2025-05-31",
                    TasksPhase::Current => "from 2025-06-01",
                };
                write!(f, "networkRuleBypassAllowedForTasks is {value}, read as {phase}")
            }
            Self::TokenBoundElsewhere => f.write_str("the token was issued to a workload and is used outside of it"),
        }
    }
}

impl ConnectionStatus {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "Approved",
            Self::Pending => "Pending",
            Self::Rejected => "Rejected",
            Self::Disconnected => "Disconnected",
        }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("the admin user"),
            Self::AnonymousPull => f.write_str("anonymous pull"),
            Self::ScopeMap => f.write_str("the token's scope map"),
            Self::ScannerPlan => f.write_str("the vulnerability scanner's plan"),
            Self::Assignment { role, .. } => write!(f, "role `{role}`"),
        }
    }
}

impl fmt::Display for AuthorizationBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenLacks(actions) => write!(f, "the access token does not claim {actions}"),
            Self::NoAssignment(actions) => write!(f, "no role assignment gives {actions}"),
            Self::RoleNotHonoured { role } => {
                write!(f, "role `{role}` is not honoured in the registry's role assignment mode")
            }
            Self::ConditionNotMet { role, .. } => {
                write!(f, "the condition on the assignment of role `{role}` does not hold for this repository")
            }
            Self::ScopeMapLacks(actions) => {
                write!(f, "the token's scope map does not give {actions} on this repository")
            }
            Self::TokenDisabled => f.write_str("the repository-scoped token is disabled"),
            Self::TokenUnknown => f.write_str("the repository-scoped token does not exist"),
            Self::AdminDisabled => f.write_str("the admin user is disabled"),
            Self::AnonymousPullOff => f.write_str("anonymous pull is off"),
            Self::AnonymousNever => f.write_str("anonymous callers may only pull"),
            Self::ScannerPlanOff => f.write_str("the subscription does not have the vulnerability scanner's plan"),
        }
    }
}

impl Trace {
    /// Each layer with its outcome (`allowed`, `denied`, `skipped`) and one line per finding.
    pub fn lines(&self) -> [(Layer, &'static str, Vec<String>); 4] {
        let network = match &self.network {
            NetworkStep::Allowed(via) => ("allowed", vec![via.to_string()]),
            NetworkStep::Denied(blockers) => ("denied", blockers.iter().map(ToString::to_string).collect()),
        };
        let authentication = match &self.authentication {
            AuthenticationStep::NotNeeded => ("allowed", vec!["a request for a token".to_owned()]),
            AuthenticationStep::Missing => ("denied", vec!["no credentials".to_owned()]),
            AuthenticationStep::Invalid(why) => ("denied", vec![why.to_string()]),
            AuthenticationStep::Verified(caller) => ("allowed", vec![caller.to_string()]),
        };
        let authorization = match &self.authorization {
            AuthorizationStep::Skipped => ("skipped", vec!["no verified caller".to_owned()]),
            AuthorizationStep::NotNeeded => ("allowed", vec!["needs no right".to_owned()]),
            AuthorizationStep::Allowed(ground) => ("allowed", vec![ground.to_string()]),
            AuthorizationStep::Denied(blockers) => ("denied", blockers.iter().map(ToString::to_string).collect()),
        };
        let content = match &self.content {
            ContentStep::Skipped => ("skipped", Vec::new()),
            ContentStep::Allowed => ("allowed", vec!["no lock in the way".to_owned()]),
            ContentStep::Denied(cause) => ("denied", vec![cause.to_string()]),
        };
        [
            (Layer::Network, network.0, network.1),
            (Layer::Authentication, authentication.0, authentication.1),
            (Layer::Authorization, authorization.0, authorization.1),
            (Layer::Content, content.0, content.1),
        ]
    }
}

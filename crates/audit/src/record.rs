use std::fmt::{self, Display};
use std::net::IpAddr;
use std::sync::Arc;

use postern_access::{
    Actions, Caller, ContentState, Credential, Decision, Ingress, Inputs, InvalidCredential, NetworkStep, Operation,
    Origin, RegistryRules, Via, WorkloadRejection, WorkloadState, fixes,
};
use postern_model::{
    CorrelationId, IdentityKind, PrincipalId, Reference, RegistryUid, RepositoryName, ResourceId, ResourceUid,
    Timestamp,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Longest user agent that is kept, in characters.
const MAX_USER_AGENT_CHARS: usize = 256;

/// One decision with the inputs it was made from.
#[derive(Clone, Debug)]
pub struct Record {
    /// The request's id.
    pub id: CorrelationId,
    /// When it was decided.
    pub time: Timestamp,
    /// The rules it was decided by, at their generation.
    pub rules: Arc<RegistryRules>,
    /// Where the request came from.
    pub origin: Origin,
    /// What its credentials amounted to.
    pub credential: Credential,
    /// What it wanted.
    pub operation: Operation,
    /// The locks that were looked at, if any.
    pub content: Option<ContentState>,
    /// The decision.
    pub decision: Decision,
    /// The HTTP status that was answered.
    pub status: u16,
    /// The `User-Agent` header: telemetry, proves nothing.
    pub user_agent: Option<Box<str>>,
}

/// A record as JSON: the inputs, the verdict, what each layer found, and for a denial the smallest changes that lift it.
pub fn render(record: &Record) -> Value {
    serde_json::to_value(Rendered::of(record)).unwrap_or_default()
}

/// The same on one line, without building a tree first: this is done for every request.
pub(crate) fn render_line(record: &Record) -> String {
    serde_json::to_string(&Rendered::of(record)).unwrap_or_default()
}

/// Serialises as what it displays.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The record as it is read: the fields' names and order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendered<'a> {
    id: Shown<CorrelationId>,
    time: Shown<Timestamp>,
    registry: &'a str,
    registry_uid: Shown<RegistryUid>,
    login_server: &'a str,
    generation: u64,
    operation: &'static str,
    repository: Option<&'a str>,
    reference: Option<Shown<&'a Reference>>,
    origin: RenderedOrigin<'a>,
    caller: RenderedCaller<'a>,
    status: u16,
    verdict: &'static str,
    decided_by: &'static str,
    via: Option<Shown<&'a Via>>,
    layers: [RenderedLayer; 4],
    fixes: Vec<Vec<String>>,
    user_agent: Option<&'a str>,
}

#[derive(Serialize)]
struct RenderedLayer {
    layer: &'static str,
    outcome: &'static str,
    findings: Vec<String>,
}

#[derive(Serialize)]
struct RenderedOrigin<'a> {
    address: Shown<IpAddr>,
    place: &'a str,
    simulated: bool,
    ingress: &'static str,
    through: Option<&'a str>,
    workload: Option<RenderedWorkload<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RenderedWorkload<'a> {
    Rejected { rejected: Shown<WorkloadRejection> },
    Verified { resource: &'a str, uid: Shown<ResourceUid>, identities: Vec<RenderedIdentity> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenderedIdentity {
    principal_id: Shown<PrincipalId>,
    kind: Shown<IdentityKind>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenderedCaller<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Shown<InvalidCredential>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<Shown<PrincipalId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_to: Option<Shown<ResourceUid>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<RenderedClaim<'a>>,
}

#[derive(Serialize)]
struct RenderedClaim<'a> {
    repositories: Vec<Shown<ClaimedRepository<'a>>>,
    catalog: bool,
}

struct ClaimedRepository<'a>(&'a RepositoryName, Actions);

impl Display for ClaimedRepository<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl<'a> Rendered<'a> {
    fn of(record: &'a Record) -> Self {
        let Record { origin, rules, operation, decision, .. } = record;
        Self {
            id: Shown(record.id),
            time: Shown(record.time),
            registry: rules.id.as_str(),
            registry_uid: Shown(rules.uid),
            login_server: &rules.login_server,
            generation: rules.generation,
            operation: operation.kind.as_str(),
            repository: operation.repository.as_ref().map(RepositoryName::as_str),
            reference: operation.reference.as_ref().map(Shown),
            origin: RenderedOrigin::of(origin),
            caller: RenderedCaller::of(&record.credential),
            status: record.status,
            verdict: if decision.is_allowed() { "allow" } else { "deny" },
            decided_by: decision.deciding_layer().as_str(),
            via: match &decision.trace.network {
                NetworkStep::Allowed(via) => Some(Shown(via)),
                NetworkStep::Denied(_) => None,
            },
            layers: decision.trace.lines().map(|(layer, outcome, findings)| RenderedLayer {
                layer: layer.as_str(),
                outcome,
                findings,
            }),
            fixes: if decision.is_allowed() { Vec::new() } else { fix_lines(record) },
            user_agent: record.user_agent.as_deref().map(beginning),
        }
    }
}

fn beginning(agent: &str) -> &str {
    let end = agent.char_indices().nth(MAX_USER_AGENT_CHARS).map_or(agent.len(), |(at, _)| at);
    agent.get(..end).unwrap_or_default()
}

fn fix_lines(record: &Record) -> Vec<Vec<String>> {
    let inputs = Inputs {
        origin: &record.origin,
        rules: &record.rules,
        credential: &record.credential,
        operation: &record.operation,
        content: record.content.as_ref(),
    };
    let lines = |fix: Vec<postern_access::Change>| fix.iter().map(ToString::to_string).collect();
    fixes(&inputs).into_iter().map(lines).collect()
}

impl<'a> RenderedOrigin<'a> {
    fn of(origin: &'a Origin) -> Self {
        let (ingress, through) = match &origin.ingress {
            Ingress::Public => ("public", None),
            Ingress::PrivateEndpoint(endpoint) => ("privateEndpoint", Some(endpoint)),
            Ingress::Subnet(subnet) => ("subnet", Some(subnet)),
            Ingress::Misrouted(endpoint) => ("misrouted", Some(endpoint)),
        };
        Self {
            address: Shown(origin.address),
            place: &origin.place,
            simulated: origin.simulated,
            ingress,
            through: through.map(ResourceId::as_str),
            workload: match &origin.workload {
                WorkloadState::None => None,
                WorkloadState::Rejected(why) => Some(RenderedWorkload::Rejected { rejected: Shown(*why) }),
                WorkloadState::Verified(workload) => Some(RenderedWorkload::Verified {
                    resource: workload.resource.as_str(),
                    uid: Shown(workload.uid),
                    identities: workload
                        .identities
                        .iter()
                        .map(|identity| RenderedIdentity {
                            principal_id: Shown(identity.principal),
                            kind: Shown(identity.kind),
                        })
                        .collect(),
                }),
            },
        }
    }
}

impl<'a> RenderedCaller<'a> {
    fn of(credential: &'a Credential) -> Self {
        let kind = |kind| Self { kind, reason: None, principal_id: None, name: None, bound_to: None, claim: None };
        let verified = match credential {
            Credential::None => return kind("none"),
            Credential::Invalid(why) => return Self { reason: Some(Shown(*why)), ..kind("invalid") },
            Credential::Verified(verified) => verified,
        };
        let caller = match &verified.caller {
            Caller::Anonymous => kind("anonymous"),
            Caller::Admin => kind("admin"),
            Caller::RepositoryToken(name) => Self { name: Some(name), ..kind("repositoryToken") },
            Caller::Principal(principal) => Self {
                principal_id: Some(Shown(principal.id)),
                name: Some(&principal.display_name),
                ..kind("principal")
            },
        };
        let claim = verified.claim.as_ref().map(|claim| RenderedClaim {
            repositories: claim
                .repositories
                .iter()
                .map(|(name, actions)| Shown(ClaimedRepository(name, *actions)))
                .collect(),
            catalog: claim.catalog,
        });
        Self { bound_to: verified.binding.map(|binding| Shown(binding.resource)), claim, ..caller }
    }
}

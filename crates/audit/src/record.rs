use std::sync::Arc;

use postern_access::{
    Caller, ContentState, Credential, Decision, Ingress, Inputs, NetworkStep, Operation, Origin, RegistryRules,
    WorkloadState, fixes,
};
use postern_model::{CorrelationId, Timestamp};
use serde_json::{Value, json};

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
    let Record { origin, rules, operation, decision, .. } = record;
    let layers: Vec<Value> = decision
        .trace
        .lines()
        .into_iter()
        .map(|(layer, outcome, findings)| json!({"layer": layer.as_str(), "outcome": outcome, "findings": findings}))
        .collect();
    json!({
        "id": record.id.to_string(),
        "time": record.time.to_string(),
        "registry": rules.id.as_str(),
        "registryUid": rules.uid.to_string(),
        "loginServer": &*rules.login_server,
        "generation": rules.generation,
        "operation": operation.kind.as_str(),
        "repository": operation.repository.as_ref().map(ToString::to_string),
        "reference": operation.reference.as_ref().map(ToString::to_string),
        "origin": origin_value(origin),
        "caller": caller_value(&record.credential),
        "status": record.status,
        "verdict": if decision.is_allowed() { "allow" } else { "deny" },
        "decidedBy": decision.deciding_layer().as_str(),
        "via": match &decision.trace.network {
            NetworkStep::Allowed(via) => Some(via.to_string()),
            NetworkStep::Denied(_) => None,
        },
        "layers": layers,
        "fixes": fix_lines(record),
        "userAgent": record.user_agent.as_ref().map(|agent| agent.chars().take(MAX_USER_AGENT_CHARS).collect::<String>()),
    })
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

fn origin_value(origin: &Origin) -> Value {
    let (ingress, through) = match &origin.ingress {
        Ingress::Public => ("public", None),
        Ingress::PrivateEndpoint(endpoint) => ("privateEndpoint", Some(endpoint)),
        Ingress::Subnet(subnet) => ("subnet", Some(subnet)),
        Ingress::Misrouted(endpoint) => ("misrouted", Some(endpoint)),
    };
    json!({
        "address": origin.address.to_string(),
        "place": &*origin.place,
        "simulated": origin.simulated,
        "ingress": ingress,
        "through": through.map(ToString::to_string),
        "workload": match &origin.workload {
            WorkloadState::None => Value::Null,
            WorkloadState::Rejected(why) => json!({"rejected": why.to_string()}),
            WorkloadState::Verified(workload) => json!({
                "resource": workload.resource.as_str(),
                "uid": workload.uid.to_string(),
                "identities": workload.identities.iter().map(|identity| json!({
                    "principalId": identity.principal.to_string(),
                    "kind": identity.kind.to_string(),
                })).collect::<Vec<_>>(),
            }),
        },
    })
}

fn caller_value(credential: &Credential) -> Value {
    let verified = match credential {
        Credential::None => return json!({"kind": "none"}),
        Credential::Invalid(why) => return json!({"kind": "invalid", "reason": why.to_string()}),
        Credential::Verified(verified) => verified,
    };
    let mut value = match &verified.caller {
        Caller::Anonymous => json!({"kind": "anonymous"}),
        Caller::Admin => json!({"kind": "admin"}),
        Caller::RepositoryToken(name) => json!({"kind": "repositoryToken", "name": &**name}),
        Caller::Principal(principal) => json!({
            "kind": "principal",
            "principalId": principal.id.to_string(),
            "name": &*principal.display_name,
        }),
    };
    if let Some(object) = value.as_object_mut() {
        if let Some(binding) = &verified.binding {
            object.insert("boundTo".into(), json!(binding.resource.to_string()));
        }
        if let Some(claim) = &verified.claim {
            let repositories = claim.repositories.iter().map(|(name, actions)| format!("{name}:{actions}"));
            object.insert(
                "claim".into(),
                json!({"repositories": repositories.collect::<Vec<_>>(), "catalog": claim.catalog}),
            );
        }
    }
    value
}

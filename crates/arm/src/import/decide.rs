use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_access::{
    Action, Actions, Caller, Change, Credential, Decision, Grant, GrantTable, Ingress, Inputs, Layer, Operation,
    OperationKind, Origin, Permit, RegistryRules, Verdict, Verified, WorkloadState, authorize_management, evaluate,
    fixes,
};
use postern_audit::Record;
use postern_estate::Resource;
use postern_identity::{ExchangeRequest, FirstPartyService, Throttled};
use postern_model::{CorrelationId, Reference, RepositoryName, ResourceId, Tag};

use super::order::Login;
use super::{Asking, IMPORT, READ};
use crate::error::{ArmError, Condition};

/// How the import service comes to a registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Over its own connection: as a trusted service.
    Trusted,
    /// As anybody would.
    Public,
}

/// Which of the two registries is asked.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    Target,
    Source { target: &'a ResourceId },
}

/// What the service wants there.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    pub(super) kind: OperationKind,
    pub(super) repository: &'a RepositoryName,
    pub(super) reference: Option<Reference>,
}

/// The permits to write to the target's repository.
pub(super) async fn target(
    asking: &Asking,
    registry: &Resource,
    repository: &RepositoryName,
    tag: Option<&Tag>,
) -> Result<(Permit, Permit), ArmError> {
    let rules = asking.state.directory.registry_by_id(&registry.id).ok_or_else(ArmError::internal)?;
    let rules = Arc::new(with_right_to_import(asking, &rules));
    let credential = as_caller(asking);
    let manifest =
        Asked { kind: OperationKind::PushManifest, repository, reference: tag.map(|tag| Reference::Tag(tag.clone())) };
    let blob = Asked { kind: OperationKind::PushBlob, repository, reference: None };
    let manifests = permit(asking, &rules, Way::Trusted, &credential, manifest, Side::Target).await?;
    let blobs = permit(asking, &rules, Way::Trusted, &credential, blob, Side::Target).await?;
    Ok((blobs, manifests))
}

fn as_caller(asking: &Asking) -> Credential {
    let caller = Caller::Principal(Arc::clone(&asking.caller.principal));
    Credential::Verified(Verified { caller, claim: None, binding: None })
}

/// The rules as they are for this import: whoever may import into a registry may write there by import, without a role to push. The
/// assignment that gives `importImage/action` is the ground that the record names.
fn with_right_to_import(asking: &Asking, rules: &RegistryRules) -> RegistryRules {
    let principal = asking.caller.principal.id;
    let import = asking.state.directory.with_estate(|estate| {
        let grants = estate.management_grants(&asking.caller.ids);
        let decision = authorize_management(&grants, &[], IMPORT, &rules.id);
        let by = decision.allowed_by?;
        let actions = Actions::of(&[Action::Pull, Action::Push]);
        Some(Grant {
            assignment: by.assignment.shared(),
            role: Arc::clone(&by.role_name),
            actions,
            other_mode_actions: actions,
            names_metadata_read: false,
            condition: None,
        })
    });
    let grants = GrantTable::new(import.map(|grant| (principal, grant)));
    RegistryRules { grants: Arc::new(grants), ..rules.clone() }
}

/// Decides, records the decision, and tells a refusal in the words that are documented, with the side, the switch and the fix.
pub(super) async fn permit(
    asking: &Asking,
    rules: &Arc<RegistryRules>,
    way: Way,
    credential: &Credential,
    asked: Asked<'_>,
    side: Side<'_>,
) -> Result<Permit, ArmError> {
    let origin = Origin {
        ingress: Ingress::Public,
        address: asking.state.import_address,
        place: "import service".into(),
        simulated: false,
        workload: match way {
            Way::Trusted => WorkloadState::Verified(Arc::new(FirstPartyService::Importer.workload())),
            Way::Public => WorkloadState::None,
        },
    };
    let operation = Operation::repository(asked.kind, asked.repository.clone(), asked.reference);
    let inputs = Inputs { origin: &origin, rules, credential, operation: &operation, content: None };
    let decision = evaluate(&inputs);
    let id = CorrelationId::new(asking.now, asking.state.random.as_ref());
    let outcome = match &decision.verdict {
        Verdict::Allow(permit) => Ok(permit.clone()),
        Verdict::Deny(layer) => Err(refusal(asking, &inputs, &decision, *layer, way, side, id)),
    };
    // One record for each side: what is asked for its manifest holds for its blobs.
    let is_first = matches!(asked.kind, OperationKind::PullManifest | OperationKind::PushManifest);
    if outcome.is_err() || (is_first && asking.records_allows) {
        let status = if outcome.is_ok() { 200 } else { 403 };
        let record = Record {
            id,
            time: asking.now,
            rules: Arc::clone(rules),
            origin,
            credential: credential.clone(),
            operation,
            content: None,
            decision,
            status,
            user_agent: None,
        };
        asking.state.audit.record(record).await;
    }
    outcome
}

fn refusal(
    asking: &Asking,
    inputs: &Inputs<'_>,
    decision: &Decision,
    layer: Layer,
    way: Way,
    side: Side<'_>,
    id: CorrelationId,
) -> ArmError {
    let (rules, address) = (inputs.rules, inputs.origin.address);
    let (named, target) = match side {
        Side::Target => ("target", &rules.id),
        Side::Source { target } => ("source", target),
    };
    let mut told = match layer {
        Layer::Network => format!(
            "Operation registries-{id} failed. Resource {target} Invalid message Forbidden Forbidden \
             {{\"errors\":[{{\"code\":\"DENIED\",\"message\":\"client with IP '{address}' is not allowed access. Refer \
             https://aka.ms/acr/firewall to grant access.\"}}]}} The network rules of the {named} registry {} refused the import \
             service.",
            rules.login_server
        ),
        Layer::Authentication | Layer::Authorization | Layer::Content => {
            format!("Access to {} denied. The {named} registry refused the import.", rules.login_server)
        }
    };
    // Why is for those who may read the registry: others learn that it refused, and the id.
    let may_know = asking.state.directory.with_estate(|estate| estate.may(&asking.caller.ids, READ, &rules.id));
    if may_know {
        let findings = decision.trace.lines().into_iter().find(|(found, ..)| *found == layer);
        for line in findings.map(|(.., lines)| lines).unwrap_or_default() {
            let _ = write!(told, " Because {line}.");
        }
        let ways: Vec<String> = fixes(inputs)
            .iter()
            .map(|fix| fix.iter().map(Change::to_string).collect::<Vec<_>>().join(" and "))
            .collect();
        if !ways.is_empty() {
            let _ = write!(told, " Fix, on the {named} registry {}: {}.", rules.id.name(), ways.join("; or "));
        }
    }
    if layer == Layer::Network && way == Way::Public {
        told.push_str(
            " A source given by its login server is read over the public path, where there is no bypass: give it by its resource id \
             (`az acr import --registry`), with trusted services allowed on it.",
        );
    }
    let _ = write!(told, " CorrelationId: {id}");
    let condition = if layer == Layer::Network { Condition::InvalidParameters } else { Condition::ImportDenied };
    ArmError::new(condition, told)
}

/// Whether the host is the registry's own name, and not one that stands for whichever is the default. Another port is another server;
/// without one it is the name that counts. `suffix` is what registries are named with, with its port if it has one.
pub(super) fn is_named(rules: &RegistryRules, host: &str, suffix: &str) -> bool {
    let (name, port) = split_port(host);
    let own_port = split_port(suffix).1.unwrap_or(HTTPS_PORT);
    *rules.login_server == *name && port.is_none_or(|port| port == own_port)
}

const HTTPS_PORT: &str = "443";

fn split_port(host: &str) -> (&str, Option<&str>) {
    host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)))
}

/// What a login amounts to at a registry of this server.
pub(super) fn login(asking: &Asking, rules: &RegistryRules, login: Option<&Login>) -> Result<Credential, Throttled> {
    let anonymous = Credential::Verified(Verified { caller: Caller::Anonymous, claim: None, binding: None });
    let Some(Login { user, password }) = login else { return Ok(anonymous) };
    let identity = &asking.state.identity;
    let Some(user) = user else {
        let service = rules.login_server.to_string();
        let request = ExchangeRequest { service, tenant: None, access_token: password.clone() };
        return Ok(identity.exchange_credential(rules, &request, asking.now));
    };
    let basic = STANDARD.encode(format!("{user}:{}", password.expose()));
    identity.credential(rules, Some(&format!("Basic {basic}")), asking.state.import_address, asking.now)
}

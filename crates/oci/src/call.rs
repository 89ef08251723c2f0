use std::sync::Arc;

use axum::response::Response;
use http::header::{AUTHORIZATION, HOST, USER_AGENT, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use postern_access::{
    Actions, AuthenticationStep, AuthorizationBlocker, AuthorizationStep, Caller, ContentState, Credential, Decision,
    Inputs, InvalidCredential, Layer, NetworkStep, Operation, OperationKind, Origin, Permit, RegistryRules, Verdict,
    Via, WorkloadState, evaluate,
};
use postern_audit::Record;
use postern_identity::{Peer, Throttled};
use postern_model::{CorrelationId, Digest, Reference, Timestamp};
use postern_store::Repository;

use crate::blobs::text;
use crate::challenge::{ChallengeError, challenge, missing_access};
use crate::error::{Condition, Refusal};
use crate::host::Host;
use crate::query::Pairs;
use crate::route::Route;
use crate::wall::OciState;

/// Longest user agent that is passed on to the record.
const MAX_USER_AGENT_CHARS: usize = 512;
/// The query parameter of a link to a data endpoint.
const LINK: &str = "link";
/// What a record shows for a request whose client went away before the answer.
const CLIENT_GONE: u16 = 499;

/// One request that reached a registry: what is known of it, and what was decided.
pub(crate) struct Call {
    state: Arc<OciState>,
    rules: Arc<RegistryRules>,
    id: CorrelationId,
    now: Timestamp,
    host: Host,
    origin: Origin,
    operation: Operation,
    credential: Credential,
    decision: Decision,
    content: Option<ContentState>,
    /// It came to the registry's data endpoint.
    is_data: bool,
    /// Too many wrong passwords came from where this one does: it was not looked at.
    throttled: Option<Throttled>,
    user_agent: Option<Box<str>>,
    is_recorded: bool,
}

impl Call {
    /// Finds the registry, where the request comes from and who sends it, and decides. Who asks for a token says who it is in
    /// its own way: that is decided without credentials first.
    pub(crate) fn new(
        state: &Arc<OciState>,
        id: CorrelationId,
        parts: &Parts,
        peer: &Peer,
        is_plain: bool,
        route: &Result<Route, Refusal>,
    ) -> Result<Self, Refusal> {
        let host = addressed(parts).ok_or_else(|| Refusal::new(Condition::UnknownRegistry))?;
        let host = if is_plain { host.plain() } else { host };
        let rules = state
            .directory
            .registry_by_host(host.name())
            .ok_or_else(|| Refusal::new(Condition::UnknownRegistry).with_detail(format!("host `{}`", host.name())))?;
        let now = state.clock.now();
        let is_data = is_data_endpoint(&rules, &host)?;
        let origin = peer.origin(&state.identity, now);
        // Whoever may not enter must not learn that the path was malformed, either.
        let served = route.as_ref().ok().filter(|route| !is_data || matches!(route, Route::PullBlob { .. }));
        let operation = served.map_or_else(|| Operation::registry(OperationKind::Ping), Route::operation);
        let mut throttled = None;
        let credential = match parts.headers.get(AUTHORIZATION).map(HeaderValue::to_str) {
            // What a link is, is said by the link.
            _ if is_data => linked(state, &rules, parts, &operation, now),
            _ if operation.kind.is_token_request() => Credential::None,
            None => Credential::None,
            Some(Err(_)) => Credential::Invalid(InvalidCredential::Malformed),
            Some(Ok(header)) => match state.identity.credential(&rules, Some(header), origin.address, now) {
                Ok(credential) => credential,
                Err(refusal) => {
                    throttled = Some(refusal);
                    Credential::Invalid(InvalidCredential::WrongPassword)
                }
            },
        };
        let inputs =
            Inputs { origin: &origin, rules: &rules, credential: &credential, operation: &operation, content: None };
        let decision = evaluate(&inputs);
        let user_agent = text(&parts.headers, &USER_AGENT).map(beginning);
        Ok(Self {
            state: Arc::clone(state),
            rules,
            id,
            now,
            host,
            origin,
            operation,
            credential,
            decision,
            content: None,
            user_agent,
            is_data,
            throttled,
            is_recorded: false,
        })
    }

    /// Decides anew, now that the credentials are known.
    pub(crate) fn decide(&mut self, credential: Credential) {
        self.credential = credential;
        self.decision = self.evaluate(&self.operation);
    }

    /// Decides anew, now that it is known what the request wants.
    pub(crate) fn decide_for(&mut self, kind: OperationKind) {
        self.operation.kind = kind;
        self.decision = self.evaluate(&self.operation);
    }

    /// Whether the caller is known and let in, and may not.
    pub(crate) fn lacks_right(&self) -> bool {
        matches!(self.decision.verdict, Verdict::Deny(Layer::Authorization)) && self.throttled.is_none()
    }

    fn evaluate(&self, operation: &Operation) -> Decision {
        evaluate(&Inputs {
            origin: &self.origin,
            rules: &self.rules,
            credential: &self.credential,
            operation,
            content: None,
        })
    }

    /// The permit, or what the refusing layer answers.
    pub(crate) fn permit(&self) -> Result<Permit, Refusal> {
        match (&self.decision.verdict, self.throttled) {
            // Whoever may not even enter learns nothing of passwords.
            (Verdict::Deny(Layer::Network), _) | (_, None) => {}
            (Verdict::Deny(_) | Verdict::Allow(_), Some(throttled)) => {
                return Err(Refusal::throttled(throttled.retry_after_seconds));
            }
        }
        match &self.decision.verdict {
            Verdict::Allow(permit) => Ok(permit.clone()),
            Verdict::Deny(layer) => Err(self.denial(*layer)),
        }
    }

    /// A permit for something else that the request needs, if the same caller may.
    pub(crate) fn permit_for(&self, operation: &Operation) -> Option<Permit> {
        self.evaluate(operation).permit().ok().cloned()
    }

    /// The repository that the permit is for.
    pub(crate) fn repository(&self, permit: &Permit) -> Result<Repository, Refusal> {
        Ok(self.state.store.repository(permit)?)
    }

    /// Whether the request came to the registry's data endpoint.
    pub(crate) const fn is_data(&self) -> bool {
        self.is_data
    }

    /// Where the client is sent for a blob: to the data endpoint, if there is one. Clients that reach the registry by another name than
    /// its own, or without TLS, may not be able to reach that one at all, and are served here.
    pub(crate) fn data_link(&self, digest: &Digest) -> Result<Option<String>, Refusal> {
        let Some(endpoint) = self.rules.data_endpoint.as_ref().filter(|_| !self.is_data) else { return Ok(None) };
        let is_by_name = *self.host.name() == *self.rules.login_server && !self.host.is_plain();
        let (true, Credential::Verified(verified), Some(repository)) =
            (is_by_name, &self.credential, &self.operation.repository)
        else {
            return Ok(None);
        };
        // Whoever came in by a workload's trust gets a link for that workload.
        let workload = match (&self.decision.trace.network, &self.origin.workload) {
            (NetworkStep::Allowed(Via::TrustedService(_)), WorkloadState::Verified(workload)) => Some(workload.uid),
            _ => None,
        };
        let identity = &self.state.identity;
        if let Err(error) = identity.cover(endpoint, self.now) {
            tracing::error!(error = %error, host = %endpoint, "the certificate cannot be made to hold for a data endpoint");
            return Ok(None);
        }
        let link = identity
            .data_link(&self.rules, verified, workload, (repository, digest), self.now)
            .map_err(|_| Refusal::new(Condition::Unauthorized))?;
        let host = self.host.named(endpoint);
        Ok(Some(format!("https://{host}/v2/{repository}/blobs/{digest}?{LINK}={link}")))
    }

    pub(crate) fn state(&self) -> &OciState {
        &self.state
    }

    pub(crate) fn rules(&self) -> &RegistryRules {
        &self.rules
    }

    pub(crate) const fn kind(&self) -> OperationKind {
        self.operation.kind
    }

    pub(crate) const fn credential(&self) -> &Credential {
        &self.credential
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// A token request that nobody vouches for: not an open question any more, but a denial.
    pub(crate) fn deny_unauthenticated(&mut self) -> Refusal {
        self.decision.verdict = Verdict::Deny(Layer::Authentication);
        self.decision.trace.authentication = AuthenticationStep::Missing;
        self.denial(Layer::Authentication)
    }

    /// A password that was not looked at, because too many before it were wrong.
    pub(crate) fn deny_throttled(&mut self, throttled: Throttled) -> Refusal {
        self.decide(Credential::Invalid(InvalidCredential::WrongPassword));
        match self.decision.verdict {
            // Whoever may not even enter learns nothing of passwords.
            Verdict::Deny(Layer::Network) => self.denial(Layer::Network),
            Verdict::Deny(_) | Verdict::Allow(_) => Refusal::throttled(throttled.retry_after_seconds),
        }
    }

    /// What a layer's refusal looks like from outside. Nothing but this text and the id gets out.
    pub(crate) fn denial(&self, layer: Layer) -> Refusal {
        match layer {
            Layer::Network => Refusal::new(Condition::AddressRefused).with_message(format!(
                "client with IP '{}' is not allowed access. Refer https://aka.ms/acr/firewall to grant access. CorrelationId: {}",
                self.origin.address.to_canonical(),
                self.id,
            )),
            Layer::Authentication if self.is_data => Refusal::new(Condition::LinkRefused),
            Layer::Authorization if self.is_data => Refusal::new(Condition::AccessDenied),
            Layer::Authentication if self.operation.kind.is_token_request() => Refusal::new(Condition::TokenRefused),
            Layer::Authentication => self.challenge(match self.credential {
                Credential::Invalid(_) => ChallengeError::InvalidToken,
                Credential::None | Credential::Verified(_) => ChallengeError::None,
            }),
            Layer::Authorization if self.another_token_may_help() => self.challenge(ChallengeError::InsufficientScope),
            Layer::Authorization => Refusal::new(Condition::AccessDenied),
            Layer::Content => Refusal::new(Condition::Disallowed),
        }
    }

    fn challenge(&self, error: ChallengeError) -> Refusal {
        let condition = match error {
            ChallengeError::None | ChallengeError::InvalidToken => Condition::Unauthorized,
            ChallengeError::InsufficientScope => Condition::InsufficientScope,
        };
        let wanted = self.wanted();
        let header = challenge(&self.host, &self.rules.login_server, &self.operation, wanted, error);
        let refusal = Refusal::new(condition).with_header(WWW_AUTHENTICATE, header);
        match missing_access(&self.operation, wanted) {
            Some(detail) => refusal.with_value(detail),
            None => refusal,
        }
    }

    /// What the client is sent to get a token for. Of an operation that several rights are each enough for it is the one whose
    /// lack the decision names: the one that this caller can get.
    fn wanted(&self) -> Actions {
        let kind = self.operation.kind;
        if kind == OperationKind::WriteQuarantine {
            return kind.challenge();
        }
        let lacking = match &self.decision.trace.authorization {
            AuthorizationStep::Denied(blockers) => blockers.iter().find_map(|blocker| match blocker {
                AuthorizationBlocker::TokenLacks(actions) => Some(*actions),
                _ => None,
            }),
            _ => None,
        };
        let set = lacking.and_then(|lacking| kind.required().iter().find(|set| set.contains_all(lacking)));
        set.copied().unwrap_or(kind.challenge())
    }

    /// Whether the client is sent for another token: it has one that lacks the access, and only the token endpoint may tell it
    /// that there is none with more. A scope map's holder is told at once, and so is everybody whose token says that they may.
    fn another_token_may_help(&self) -> bool {
        let AuthorizationStep::Denied(blockers) = &self.decision.trace.authorization else { return false };
        let lacks_claim = blockers.iter().any(|blocker| matches!(blocker, AuthorizationBlocker::TokenLacks(_)));
        let Credential::Verified(verified) = &self.credential else { return false };
        match &verified.caller {
            // Nothing but the token stands in the way.
            Caller::RepositoryToken(_) => lacks_claim && blockers.len() == 1,
            Caller::Anonymous => verified.claim.is_some(),
            Caller::Admin | Caller::Principal(_) => lacks_claim,
        }
    }

    /// Notes what the locks said, which only the handler's transaction knows.
    pub(crate) fn settle(&mut self, outcome: &Result<Response, Refusal>) {
        let found = match outcome {
            Ok(_) if self.decision.is_allowed() && is_subject_to_locks(self.operation.kind) => Ok(()),
            Ok(_) => return,
            Err(refusal) => match refusal.lock() {
                Some((cause, state)) => {
                    self.content = Some(state);
                    Err(cause)
                }
                None => return,
            },
        };
        self.decision.settle(found);
    }

    pub(crate) async fn record(&mut self, status: StatusCode) {
        self.is_recorded = true;
        let record = self.to_record(status.as_u16());
        self.state.audit.record(record).await;
    }

    fn to_record(&self, status: u16) -> Record {
        Record {
            id: self.id,
            time: self.now,
            rules: Arc::clone(&self.rules),
            origin: self.origin.clone(),
            credential: self.credential.clone(),
            operation: self.operation.clone(),
            content: self.content,
            decision: self.decision.clone(),
            status,
            user_agent: self.user_agent.clone(),
        }
    }
}

/// A client that goes away takes its request's future with it, but not the record.
impl Drop for Call {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.is_recorded, tokio::runtime::Handle::try_current()) {
            let (audit, record) = (self.state.audit.clone(), self.to_record(CLIENT_GONE));
            runtime.spawn(async move { audit.record(record).await });
        }
    }
}

fn beginning(agent: &str) -> Box<str> {
    let end = agent.char_indices().nth(MAX_USER_AGENT_CHARS).map_or(agent.len(), |(at, _)| at);
    agent.get(..end).unwrap_or_default().into()
}

/// The host that the client addressed. Two of them are none: which one a proxy in front looked at cannot be known.
fn addressed(parts: &Parts) -> Option<Host> {
    if let Some(authority) = parts.uri.authority() {
        return Host::parse(authority.as_str());
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    if hosts.next().is_some() { None } else { Host::parse(host) }
}

/// Whether the host is the registry's data endpoint, and the one that it has now.
fn is_data_endpoint(rules: &RegistryRules, host: &Host) -> Result<bool, Refusal> {
    let name = host.name();
    if *name == *rules.login_server || !name.contains(".data.") {
        return Ok(false);
    }
    if rules.data_endpoint.as_deref() == Some(name) {
        return Ok(true);
    }
    Err(Refusal::new(Condition::UnknownRegistry).with_detail(format!("host `{name}`")))
}

/// What the link in a request's query amounts to.
fn linked(state: &OciState, rules: &RegistryRules, parts: &Parts, operation: &Operation, now: Timestamp) -> Credential {
    let query = parts.uri.query().unwrap_or_default();
    let Ok(pairs) = Pairs::parse(query.as_bytes()) else { return Credential::Invalid(InvalidCredential::Malformed) };
    match (pairs.get(LINK), &operation.repository, &operation.reference) {
        (Some(link), Some(repository), Some(Reference::Digest(digest))) => {
            match state.identity.linked(rules, link, (repository, digest), now) {
                Ok(verified) => Credential::Verified(verified),
                Err(why) => Credential::Invalid(why),
            }
        }
        _ => Credential::None,
    }
}

fn is_subject_to_locks(kind: OperationKind) -> bool {
    match kind {
        OperationKind::PullManifest
        | OperationKind::PullBlob
        | OperationKind::ListReferrers
        | OperationKind::MountBlob
        | OperationKind::PushBlob
        | OperationKind::PushManifest
        | OperationKind::DeleteManifest
        | OperationKind::DeleteBlob
        | OperationKind::Untag
        | OperationKind::DeleteRepository
        | OperationKind::RestoreDeleted => true,
        OperationKind::Ping
        | OperationKind::ExchangeToken
        | OperationKind::IssueToken
        | OperationKind::ListCatalog
        | OperationKind::ListDeletedCatalog
        | OperationKind::ListDeleted
        | OperationKind::ListTags
        | OperationKind::ReadMetadata
        | OperationKind::WriteMetadata
        | OperationKind::WriteQuarantine => false,
    }
}

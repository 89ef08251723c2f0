use postern_access::{
    AuthenticationStep, AuthorizationBlocker, AuthorizationStep, Caller, ContentCause, ContentStep, Decision, Layer,
    NetworkStep, TasksPhase, evaluate, fixes,
};

use super::{Row, Scene, Verdict};

/// What an execution answered to a row.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Allow or deny.
    pub verdict: Verdict,
    /// The layer that refused; of an allow, the one worth telling.
    pub layer: Layer,
    /// The HTTP status of a denial.
    pub status: Option<u16>,
    /// The way in.
    pub via: Option<String>,
    /// Why the caller has the right.
    pub ground: Option<String>,
    /// What stood in the way, all layers in order.
    pub blockers: Vec<Blocker>,
    /// The smallest fixes.
    pub fixes: Vec<String>,
    /// What each layer came to and found, as it prints.
    pub lines: [(Layer, &'static str, Vec<String>); 4],
    /// The variants that the decision went through, for the coverage.
    pub covered: Vec<&'static str>,
}

/// Something that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// In this layer.
    pub layer: Layer,
    /// Its typed name.
    pub name: String,
    /// As it prints.
    pub text: String,
}

/// The variants of one type that the matrix must have a row for.
pub struct Names {
    /// The type.
    pub of: &'static str,
    /// Every variant.
    pub variants: &'static [&'static str],
}

/// A name per variant, and the list of them; a new variant does not compile until it is listed.
macro_rules! names {
    ($($list:ident $function:ident $type:ident { $($variant:ident),* $(,)? })*) => {
        $(
            const $list: Names = Names { of: stringify!($type), variants: &[$(stringify!($variant)),*] };

            pub(super) const fn $function(value: &postern_access::$type) -> &'static str {
                match value {
                    $(postern_access::$type::$variant { .. } => stringify!($variant),)*
                }
            }
        )*

        /// Every type whose variants must all have a row, but for [`postern_access::InvalidCredential`], which is one class.
        pub const NAMES: &[Names] = &[$($list),*];
    };
}

names! {
    LAYERS layer Layer { Network, Authentication, Authorization, Content }
    VIAS via Via { PrivateEndpoint, Public, ServiceEndpoint, IpRule, TrustedService }
    NETWORK network_blocker NetworkBlocker {
        PublicAccessDisabled, AddressNotListed, AddressIsIpv6, SubnetNotListed, PrivateEndpointUnknown,
        PrivateEndpointNotApproved, Misrouted, WorkloadRejected, ServiceUnknown, ServiceNotTrusted, BypassOptionsNone,
        ServiceEndpointPresent, NoSuitableIdentity, OtherIdentity, TasksPolicy, TokenBoundElsewhere,
    }
    AUTHORIZATION authorization_blocker AuthorizationBlocker {
        TokenLacks, NoAssignment, RoleNotHonoured, ConditionNotMet, ScopeMapLacks, TokenDisabled, TokenUnknown,
        AdminDisabled, AnonymousPullOff, AnonymousNever, ScannerPlanOff,
    }
    GROUNDS ground Ground { Admin, AnonymousPull, ScopeMap, ScannerPlan, Assignment }
    INVALID invalid_credential InvalidCredential {
        Malformed, BadSignature, Expired, WrongAudience, WrongTenant, WrongKind, RegistryReplaced, ModeChanged,
        ArmAudienceRefused, UnknownCaller, Disabled, WrongPassword,
    }
    PHASES tasks_phase TasksPhase { Before, Grace, Current }
    OPERATIONS operation_kind OperationKind {
        Ping, ExchangeToken, IssueToken, ListCatalog, PullManifest, PullBlob, ListReferrers, ListTags, PushBlob, MountBlob,
        PushManifest, DeleteManifest, DeleteBlob, Untag, ReadMetadata, WriteMetadata, WriteQuarantine,
        DeleteRepository, ListDeletedCatalog, ListDeleted, RestoreDeleted,
    }
}

impl Answer {
    /// The pure decision's answer.
    pub fn pure(scene: &Scene) -> Self {
        let inputs = scene.inputs();
        let decision = evaluate(&inputs);
        let phase: TasksPhase = scene.rules.settings.policy_date.phase();
        let mut covered = vec![operation_kind(&scene.operation.kind), tasks_phase(&phase)];
        covered.extend(decision.permit().err().map(|refusing| layer(&refusing)));
        let mut answer = Self {
            verdict: if decision.is_allowed() { Verdict::Allow } else { Verdict::Deny },
            layer: decision.deciding_layer(),
            status: status(&decision),
            via: None,
            ground: None,
            blockers: Vec::new(),
            fixes: fixes(&inputs)
                .into_iter()
                .map(|fix| fix.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "))
                .collect(),
            lines: decision.trace.lines(),
            covered,
        };
        answer.read(&decision);
        answer
    }

    fn read(&mut self, decision: &Decision) {
        match &decision.trace.network {
            NetworkStep::Allowed(way) => {
                self.via = Some(way.to_string());
                self.covered.push(via(way));
            }
            NetworkStep::Denied(blockers) => {
                for blocker in blockers {
                    self.block(Layer::Network, network_blocker(blocker).to_owned(), blocker.to_string());
                    self.covered.push(network_blocker(blocker));
                }
            }
        }
        match &decision.trace.authentication {
            AuthenticationStep::NotNeeded | AuthenticationStep::Verified(_) => {}
            AuthenticationStep::Missing => {
                self.block(Layer::Authentication, "Missing".to_owned(), "no credentials".to_owned());
            }
            AuthenticationStep::Invalid(why) => {
                self.block(Layer::Authentication, invalid_credential(why).to_owned(), why.to_string());
                self.covered.push(invalid_credential(why));
            }
        }
        match &decision.trace.authorization {
            AuthorizationStep::Skipped | AuthorizationStep::NotNeeded => {}
            AuthorizationStep::Allowed(found) => {
                self.ground = Some(found.to_string());
                self.covered.push(ground(found));
            }
            AuthorizationStep::Denied(blockers) => {
                for blocker in blockers {
                    self.block(Layer::Authorization, authorization_blocker(blocker).to_owned(), blocker.to_string());
                    self.covered.push(authorization_blocker(blocker));
                }
            }
        }
        if let ContentStep::Denied(cause) = decision.trace.content {
            self.block(Layer::Content, content_name(cause), cause.to_string());
        }
    }

    fn block(&mut self, layer: Layer, name: String, text: String) {
        self.blockers.push(Blocker { layer, name, text });
    }

    /// The names of what stood in the way in the deciding layer, or in the later ones.
    pub fn names(&self, deciding: bool) -> Vec<&str> {
        let of_layer = self.blockers.iter().filter(|blocker| (blocker.layer == self.layer) == deciding);
        of_layer.map(|blocker| blocker.name.as_str()).collect()
    }
}

impl Row {
    /// Whether the answer is the one that the row asks for; if not, in what it differs.
    pub fn compare(&self, answer: &Answer) -> Result<(), String> {
        let expect = &self.expect;
        let mut wrong = Vec::new();
        let mut differs = |what: &str, expected: String, found: String| {
            if expected != found {
                wrong.push(format!("{what} is {found}, expected {expected}"));
            }
        };
        differs("verdict", format!("{:?}", expect.verdict), format!("{:?}", answer.verdict));
        if let Some(layer) = &expect.layer {
            differs("layer", layer.clone(), answer.layer.as_str().to_owned());
        }
        if let Some(status) = expect.status {
            differs("status", status.to_string(), answer.status.map_or_else(String::new, |status| status.to_string()));
        }
        if expect.via.is_some() {
            differs("via", format!("{:?}", expect.via), format!("{:?}", answer.via));
        }
        if expect.ground.is_some() {
            differs("ground", format!("{:?}", expect.ground), format!("{:?}", answer.ground));
        }
        if expect.verdict == Verdict::Deny && self.group.is_none() {
            let layer = expect.layer.as_deref().unwrap_or("not given");
            differs("layer", layer.to_owned(), answer.layer.as_str().to_owned());
            differs("blockers", format!("{:?}", expect.blockers), format!("{:?}", answer.names(true)));
        }
        if let Some(later) = &expect.later {
            differs("later blockers", format!("{later:?}"), format!("{:?}", answer.names(false)));
        }
        if let Some(fixes) = &expect.fixes {
            differs("fixes", format!("{fixes:?}"), format!("{:?}", answer.fixes));
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("{}: {}", self.name, wrong.join("; "))) }
    }
}

fn content_name(cause: ContentCause) -> String {
    match cause {
        ContentCause::Locked { locked, attribute } => format!("{locked:?}.{}", attribute.as_str()),
        ContentCause::Quarantined { by_tag: true } => "Quarantine.unseen".to_owned(),
        ContentCause::Quarantined { by_tag: false } => "Quarantine.refused".to_owned(),
    }
}

/// The HTTP status of a denial. A caller whose token lacks the right is sent for another token, and so is one that nobody
/// knows; for others another token would not help, as it would not if the scope map lacks the right as well.
fn status(decision: &Decision) -> Option<u16> {
    let layer = decision.permit().err()?;
    Some(match layer {
        Layer::Network => 403,
        Layer::Authentication => 401,
        Layer::Content => match decision.trace.content {
            ContentStep::Denied(ContentCause::Quarantined { by_tag: true }) => 404,
            _ => 405,
        },
        Layer::Authorization => {
            let blockers = match &decision.trace.authorization {
                AuthorizationStep::Denied(blockers) => blockers.as_slice(),
                _ => &[],
            };
            let lacks = blockers.iter().any(|blocker| matches!(blocker, AuthorizationBlocker::TokenLacks(_)));
            let another_may_help = match &decision.trace.authentication {
                AuthenticationStep::Verified(Caller::Anonymous) => true,
                AuthenticationStep::Verified(Caller::RepositoryToken(_)) => lacks && blockers.len() == 1,
                _ => lacks,
            };
            if another_may_help { 401 } else { 403 }
        }
    })
}

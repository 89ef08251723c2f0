use crate::gate::{Via, gate};
use crate::locks::{quarantine, violated};
use crate::rights::{Finding, Near, Words, authorize, claimed_and_held, rights};
use crate::{Caller, LockedParts, Mutation, Origin, Registry, Server, Who, Wish, Word};

/// The naive evaluator, with at most one mistake.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oracle {
    /// The mistake it makes.
    pub mutation: Option<Mutation>,
}

/// The layers in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the documents")]
pub enum Layer {
    Network,
    Authentication,
    Authorization,
    Content,
}

/// What the credentials amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The request asks for a token itself.
    NotNeeded,
    /// None.
    Missing,
    /// They do not hold.
    Invalid(String),
    /// They hold.
    Verified,
}

/// Why a caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the decision's grounds")]
pub enum Ground {
    Admin,
    AnonymousPull,
    ScopeMap,
    ScannerPlan,
    Assignment,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The layer that refused first; none allows.
    pub refused_by: Option<Layer>,
    /// The way in, or the objections to every way.
    pub network: Result<Via, u32>,
    /// What the credentials amount to.
    pub authentication: Authentication,
    /// The refusals of a verified caller who needs a right.
    pub authorization: Option<Result<Ground, u32>>,
    /// What is missing, where that is one set.
    pub missing: Option<Words>,
    /// Assignments that come near.
    pub near: Vec<Near>,
    /// The locks in the way, when it came so far.
    pub locks: Vec<(String, String)>,
}

impl Oracle {
    /// Sections 1 and 8: the layers one after the other. Later layers are told even when an earlier one refuses.
    pub fn judge(
        &self,
        registry: &Registry,
        server: &Server,
        origin: &Origin,
        caller: &Caller,
        wish: &Wish,
        locked: Option<&LockedParts>,
    ) -> Answer {
        let network = gate(registry, server, origin, caller, self.mutation);
        let asks_for_token = wish.operation == "exchangeToken" || wish.operation == "issueToken";
        let authentication = match &caller.who {
            Who::Invalid(why) => Authentication::Invalid(why.clone()),
            Who::Nobody if asks_for_token => Authentication::NotNeeded,
            Who::Nobody => Authentication::Missing,
            _ => Authentication::Verified,
        };
        let finding = match authentication {
            Authentication::Verified => authorize(registry, caller, wish, self.mutation),
            Authentication::NotNeeded | Authentication::Missing | Authentication::Invalid(_) => None,
        };
        let needs_right = finding.is_some();
        let trusted = matches!(network, Ok(Via::TrustedService(_)));
        let Finding { refusals, missing, near } = match finding {
            Some(_) if trusted && self.mutation == Some(Mutation::BypassGrantsRights) => none(),
            found => found.unwrap_or_else(none),
        };
        let network_refuses = network.is_err();
        let authentication_refuses = matches!(authentication, Authentication::Missing | Authentication::Invalid(_));
        let first = if self.mutation == Some(Mutation::AuthenticationBeforeNetwork) && authentication_refuses {
            Some(Layer::Authentication)
        } else if network_refuses {
            Some(Layer::Network)
        } else if authentication_refuses {
            Some(Layer::Authentication)
        } else if refusals != 0 {
            Some(Layer::Authorization)
        } else {
            None
        };
        let locks = match (first, locked) {
            (None, Some(locked)) => {
                let may_look = claimed_and_held(registry, caller, wish, Word::QuarantineRead, self.mutation);
                let mut found = quarantine(registry.quarantine, may_look, wish, locked, self.mutation);
                found.extend(violated(wish, locked, self.mutation));
                found
            }
            _ => Vec::new(),
        };
        let ground = match &caller.who {
            Who::Admin => Ground::Admin,
            Who::Anonymous => Ground::AnonymousPull,
            Who::Token(_) => Ground::ScopeMap,
            Who::Principal { first_party: true, .. } => Ground::ScannerPlan,
            _ => Ground::Assignment,
        };
        Answer {
            refused_by: first.or(if locks.is_empty() { None } else { Some(Layer::Content) }),
            network,
            authentication,
            authorization: needs_right.then_some(if refusals == 0 { Ok(ground) } else { Err(refusals) }),
            missing,
            near,
            locks,
        }
    }

    /// Everything that a caller may do on a repository, or with the registry as a whole.
    pub fn rights(&self, registry: &Registry, who: &Who, repository: Option<&str>) -> Words {
        rights(registry, who, repository, self.mutation)
    }
}

fn none() -> Finding {
    Finding { refusals: 0, missing: None, near: Vec::new() }
}

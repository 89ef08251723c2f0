use postern_access::{
    self as access, AuthenticationStep, AuthorizationBlocker, AuthorizationStep, ContentCause, ContentStep, Decision,
    Locked, NetworkBlocker, NetworkStep, Verdict,
};

use crate::{Answer, Authentication, Ground, Layer, Near, Objection, Refusal, Via, convert};

/// In what a decision differs from the oracle's answer: verdict, refusing layer, way in, and every blocker.
pub fn differences(answer: &Answer, decision: &Decision) -> Option<String> {
    let refused_by = match decision.verdict {
        Verdict::Allow(_) => None,
        Verdict::Deny(layer) => Some(match layer {
            access::Layer::Network => Layer::Network,
            access::Layer::Authentication => Layer::Authentication,
            access::Layer::Authorization => Layer::Authorization,
            access::Layer::Content => Layer::Content,
        }),
    };
    if refused_by != answer.refused_by {
        return Some(format!("refused by {refused_by:?}, the oracle says {:?}", answer.refused_by));
    }
    if !same_network(&decision.trace.network, &answer.network) {
        return Some(format!(
            "network {:?}, the oracle says {}",
            decision.trace.network,
            network_text(&answer.network)
        ));
    }
    if !same_authentication(&decision.trace.authentication, &answer.authentication) {
        let found = &decision.trace.authentication;
        return Some(format!("authentication {found:?}, the oracle says {:?}", answer.authentication));
    }
    if !same_authorization(&decision.trace.authorization, answer) {
        let found = &decision.trace.authorization;
        return Some(format!(
            "authorization {found:?}, the oracle says {}, missing {:?}, near {:?}",
            authorization_text(answer.authorization),
            answer.missing.map(convert::actions),
            answer.near
        ));
    }
    let locks = match decision.trace.content {
        ContentStep::Skipped | ContentStep::Allowed => answer.locks.is_empty(),
        ContentStep::Denied(ContentCause::Quarantined { by_tag }) => {
            let word = if by_tag { "unseen" } else { "refused" };
            answer.locks.iter().any(|(of, how)| of == "quarantine" && how == word)
        }
        ContentStep::Denied(ContentCause::Locked { locked, attribute }) => {
            let part = match locked {
                Locked::Repository => "repository",
                Locked::Tag => "tag",
                Locked::Manifest => "manifest",
            };
            answer.locks.iter().any(|(of, name)| of == part && name == attribute.as_str())
        }
    };
    (!locks).then(|| format!("content {:?}, the oracle says {:?}", decision.trace.content, answer.locks))
}

fn same_network(step: &NetworkStep, expected: &Result<Via, u32>) -> bool {
    match (step, expected) {
        (NetworkStep::Allowed(via), Ok(expected)) => match (via, expected) {
            (access::Via::PrivateEndpoint(_), Via::PrivateEndpoint(_))
            | (access::Via::Public, Via::Public)
            | (access::Via::IpRule(_), Via::IpRule) => true,
            (access::Via::ServiceEndpoint(found), Via::ServiceEndpoint(expected)) => {
                found.as_str().eq_ignore_ascii_case(expected)
            }
            (access::Via::TrustedService(found), Via::TrustedService(expected)) => **found == **expected,
            _ => false,
        },
        (NetworkStep::Denied(blockers), Err(expected)) => {
            blockers.iter().fold(0, |all, blocker| all | objection(blocker) as u32) == *expected
        }
        (NetworkStep::Allowed(_), Err(_)) | (NetworkStep::Denied(_), Ok(_)) => false,
    }
}

const fn objection(blocker: &NetworkBlocker) -> Objection {
    match blocker {
        NetworkBlocker::PublicAccessDisabled => Objection::PublicAccessDisabled,
        NetworkBlocker::AddressNotListed => Objection::AddressNotListed,
        NetworkBlocker::AddressIsIpv6 => Objection::AddressIsIpv6,
        NetworkBlocker::SubnetNotListed => Objection::SubnetNotListed,
        NetworkBlocker::PrivateEndpointUnknown => Objection::PrivateEndpointUnknown,
        NetworkBlocker::PrivateEndpointNotApproved { .. } => Objection::PrivateEndpointNotApproved,
        NetworkBlocker::Misrouted => Objection::Misrouted,
        NetworkBlocker::WorkloadRejected(_) => Objection::WorkloadRejected,
        NetworkBlocker::ServiceUnknown => Objection::ServiceUnknown,
        NetworkBlocker::ServiceNotTrusted(_) => Objection::ServiceNotTrusted,
        NetworkBlocker::BypassOptionsNone => Objection::BypassOptionsNone,
        NetworkBlocker::ServiceEndpointPresent => Objection::ServiceEndpointPresent,
        NetworkBlocker::NoSuitableIdentity(_) => Objection::NoSuitableIdentity,
        NetworkBlocker::OtherIdentity => Objection::OtherIdentity,
        NetworkBlocker::TasksPolicy { .. } => Objection::TasksPolicy,
        NetworkBlocker::TokenBoundElsewhere => Objection::TokenBoundElsewhere,
    }
}

fn same_authentication(step: &AuthenticationStep, expected: &Authentication) -> bool {
    match (step, expected) {
        (AuthenticationStep::NotNeeded, Authentication::NotNeeded)
        | (AuthenticationStep::Missing, Authentication::Missing)
        | (AuthenticationStep::Verified(_), Authentication::Verified) => true,
        (AuthenticationStep::Invalid(why), Authentication::Invalid(expected)) => format!("{why:?}") == *expected,
        _ => false,
    }
}

fn same_authorization(step: &AuthorizationStep, answer: &Answer) -> bool {
    match (step, answer.authorization) {
        (AuthorizationStep::Skipped | AuthorizationStep::NotNeeded, None) => true,
        (AuthorizationStep::Allowed(ground), Some(Ok(expected))) => match ground {
            access::Ground::Admin => expected == Ground::Admin,
            access::Ground::AnonymousPull => expected == Ground::AnonymousPull,
            access::Ground::ScopeMap => expected == Ground::ScopeMap,
            access::Ground::ScannerPlan => expected == Ground::ScannerPlan,
            access::Ground::Assignment { .. } => expected == Ground::Assignment,
        },
        (AuthorizationStep::Denied(blockers), Some(Err(expected))) => {
            let found = blockers.iter().fold(0, |all, blocker| all | refusal(blocker) as u32);
            found == expected && same_missing(blockers, answer) && near(blockers) == answer.near
        }
        _ => false,
    }
}

const fn refusal(blocker: &AuthorizationBlocker) -> Refusal {
    match blocker {
        AuthorizationBlocker::TokenLacks(_) => Refusal::TokenLacks,
        AuthorizationBlocker::NoAssignment(_) => Refusal::NoAssignment,
        AuthorizationBlocker::RoleNotHonoured { .. } => Refusal::RoleNotHonoured,
        AuthorizationBlocker::ConditionNotMet { .. } => Refusal::ConditionNotMet,
        AuthorizationBlocker::ScopeMapLacks(_) => Refusal::ScopeMapLacks,
        AuthorizationBlocker::TokenDisabled => Refusal::TokenDisabled,
        AuthorizationBlocker::TokenUnknown => Refusal::TokenUnknown,
        AuthorizationBlocker::AdminDisabled => Refusal::AdminDisabled,
        AuthorizationBlocker::AnonymousPullOff => Refusal::AnonymousPullOff,
        AuthorizationBlocker::AnonymousNever => Refusal::AnonymousNever,
        AuthorizationBlocker::ScannerPlanOff => Refusal::ScannerPlanOff,
    }
}

fn same_missing(blockers: &[AuthorizationBlocker], answer: &Answer) -> bool {
    let Some(missing) = answer.missing else { return true };
    blockers.iter().all(|blocker| match blocker {
        AuthorizationBlocker::NoAssignment(actions) => convert::words(*actions) == missing,
        _ => true,
    })
}

fn near(blockers: &[AuthorizationBlocker]) -> Vec<Near> {
    let mut near: Vec<Near> = blockers
        .iter()
        .filter_map(|blocker| match blocker {
            AuthorizationBlocker::RoleNotHonoured { role } => Some(Near::NotHonoured(role.to_string())),
            AuthorizationBlocker::ConditionNotMet { role, .. } => Some(Near::ConditionNotMet(role.to_string())),
            _ => None,
        })
        .collect();
    near.sort();
    near
}

fn network_text(network: &Result<Via, u32>) -> String {
    match network {
        Ok(via) => format!("{via:?}"),
        Err(bits) => {
            format!("{:?}", Objection::ALL.into_iter().filter(|one| bits & *one as u32 != 0).collect::<Vec<_>>())
        }
    }
}

fn authorization_text(authorization: Option<Result<Ground, u32>>) -> String {
    match authorization {
        None => "nothing is asked".to_owned(),
        Some(Ok(ground)) => format!("{ground:?}"),
        Some(Err(bits)) => {
            format!("{:?}", Refusal::ALL.into_iter().filter(|one| bits & *one as u32 != 0).collect::<Vec<_>>())
        }
    }
}

//! Federated credentials: a client proves itself with a token of an issuer outside, which one of its credentials names.
//!
//! Source: Microsoft Entra ID, workload identity federation (read 2026-11).

use std::sync::Arc;

use postern_access::PrincipalKind;
use postern_estate::{FederatedCredential, Resource};
use postern_model::ResourceId;
use serde::Deserialize;
use uuid::Uuid;

use super::assertion::application;
use super::refusal::AuthorityError;
use super::{Asked, shown};
use crate::Identity;
use crate::identity::Known;
use crate::issuers::{Audience, Unproven, holds, unproven_claims};

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// Whether an assertion says to be from an issuer outside. A client's own assertion names the client there.
pub(super) fn is_outside(assertion: &str) -> bool {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    unproven_claims::<Issuer>(assertion).is_some_and(|claims| claims.iss.starts_with("https://"))
}

/// Whether an outside token is one of those that the client's federated credentials name.
pub(super) async fn check(
    identity: &Identity,
    known: &Known,
    client: Uuid,
    assertion: &str,
    asked: &Asked,
) -> Result<(), AuthorityError> {
    let said: Claims = unproven_claims(assertion).ok_or(AuthorityError::BadAssertion("a claim is missing"))?;
    // Only then its issuer is asked: nobody makes the server call whom no credential names.
    matching(&credentials(identity, known, client), &said)?;
    let proven = identity.issuers.verify::<Claims>(&said.iss, assertion, asked.now).await;
    let proven = proven.map_err(|why| match why {
        Unproven::Unreachable => AuthorityError::IssuerUnreachable,
        Unproven::UnknownKey => AuthorityError::UnknownIssuerKey(shown(&said.iss)),
        Unproven::Malformed(why) => AuthorityError::BadAssertion(why),
        Unproven::BadSignature => AuthorityError::BadAssertion("its signature does not fit"),
    })?;
    let begins = proven.nbf.into_iter().chain(proven.iat);
    if holds(proven.exp, begins, asked.now) { Ok(()) } else { Err(AuthorityError::AssertionTime) }
}

/// Letter by letter: whom somebody else's token calls by other letters is somebody else.
fn matching(credentials: &[FederatedCredential], said: &Claims) -> Result<(), AuthorityError> {
    let mut issued = credentials.iter().filter(|own| own.issuer == said.iss).peekable();
    if issued.peek().is_none() {
        return Err(AuthorityError::NoFederatedIssuer(shown(&said.iss)));
    }
    // Issuer and subject together are one credential's.
    let own = issued.find(|own| own.subject == said.sub);
    let own = own.ok_or_else(|| AuthorityError::NoFederatedSubject(shown(&said.sub)))?;
    let audience = said.aud.only().ok_or_else(|| AuthorityError::NoFederatedAudience(String::new()))?;
    if own.audience == audience { Ok(()) } else { Err(AuthorityError::NoFederatedAudience(shown(audience))) }
}

fn credentials(identity: &Identity, known: &Known, client: Uuid) -> Vec<FederatedCredential> {
    let owner: Option<ResourceId> = match known.principal.kind {
        PrincipalKind::ManagedIdentity => known.owner.clone(),
        // A managed identity has no application, whatever registration bears the same id.
        PrincipalKind::ServicePrincipal => application(identity, client).map(|one| one.id.clone()),
        PrincipalKind::User | PrincipalKind::Group | PrincipalKind::FirstParty => None,
    };
    let Some(owner) = owner else { return Vec::new() };
    let all: Vec<Arc<Resource>> =
        identity.directory.with_estate(|estate| estate.federated_credentials(&owner).cloned().collect());
    all.iter().filter_map(|one| FederatedCredential::read(one)).collect()
}

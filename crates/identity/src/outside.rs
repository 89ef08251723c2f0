//! People who sign in with an issuer outside: what it says of them, and the user that they are here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use postern_estate::{Document, Estate, OutsideIdentity, Resource, members_of, types};
use postern_model::{PrincipalId, ResourceId, Secret, Timestamp};
use postern_outbound::{OutboundError, Url};
use postern_store::{Change, Expected, StoreError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Identity;
use crate::issuers::{Audience, Metadata, TrustedIssuer, Unproven, holds};
use crate::passwords::Holder;
use crate::throttle::{Attempt, Throttled};

/// How long an issuer may take to exchange a code.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Longest subject. OpenID Connect allows 255 characters, and some issuers more.
const MAX_SUBJECT_CHARS: usize = 600;
/// As much of a name as is kept.
const MAX_NAME_CHARS: usize = 128;
/// Groups of one person that are looked at.
const MAX_GROUPS: usize = 1000;
/// Most members of a group. The same as the resource manager accepts.
const MAX_MEMBERS: usize = 10_000;
/// What a failed sign-in counts as.
const ANY_SIGN_IN: &str = "sign-in";

/// What a sign-in is recognized by.
pub(crate) struct SignInRequest<'a> {
    pub(crate) state: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
    /// Where the issuer sends the person back to.
    pub(crate) redirect: &'a str,
}

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    #[error("the issuer cannot be reached")]
    Unreachable(#[source] Unproven),
    #[error("the issuer's configuration names no https addresses where people sign in")]
    NoSignIn,
    #[error("too many sign-ins wait for an answer")]
    Busy,
    #[error("the code was not exchanged: {0}")]
    Exchange(String),
    #[error("the identity token is not the issuer's")]
    Unproven(#[source] Unproven),
    #[error("the identity token does not count: {0}")]
    Claims(&'static str),
    #[error("nobody here is this person, and nobody is made")]
    Nobody,
    #[error("several users here are this person")]
    Ambiguous,
    #[error("the user is disabled")]
    Disabled,
    #[error(transparent)]
    Throttled(#[from] Throttled),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OutboundError> for SignInError {
    fn from(error: OutboundError) -> Self {
        Self::Exchange(error.to_string())
    }
}

/// Source: OpenID Connect Core 1.0 §2.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What an issuer says of a person.
struct Person {
    who: OutsideIdentity,
    name: String,
    display_name: String,
    /// The groups of the directory that the person's groups stand for.
    groups: BTreeSet<PrincipalId>,
}

impl Identity {
    /// The page of the issuer where a person signs in.
    pub(crate) async fn issuer_page(
        &self,
        issuer: &TrustedIssuer,
        request: &SignInRequest<'_>,
        now: Timestamp,
    ) -> Result<String, SignInError> {
        let published = self.issuers.published(&issuer.url, now, |_| true).await.map_err(SignInError::Unreachable)?;
        let mut page = https(published.metadata.authorization_endpoint.as_deref())?;
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, request.verifier.as_bytes()));
        page.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &issuer.client_id)
            .append_pair("redirect_uri", request.redirect)
            .append_pair("scope", &issuer.scopes.join(" "))
            .append_pair("state", request.state)
            .append_pair("nonce", request.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(page.into())
    }

    /// The user whom the issuer's code is about. `said` is who has sent the code, where that is said.
    pub(crate) async fn sign_in_with(
        &self,
        issuer: &TrustedIssuer,
        request: &SignInRequest<'_>,
        code: &Secret,
        said: Option<&str>,
        address: IpAddr,
    ) -> Result<Holder, SignInError> {
        let now = self.clock.now();
        let attempt = self.throttle.admit(address, ANY_SIGN_IN, now)?.doubtful();
        let outcome = self.exchanged(issuer, request, code, said, now).await;
        let attempt = attempt.known();
        if matches!(outcome, Err(SignInError::Exchange(_) | SignInError::Unproven(_) | SignInError::Claims(_))) {
            attempt.into_iter().for_each(Attempt::failed);
        }
        self.enter(issuer, outcome?).await
    }

    async fn exchanged(
        &self,
        issuer: &TrustedIssuer,
        request: &SignInRequest<'_>,
        code: &Secret,
        said: Option<&str>,
        now: Timestamp,
    ) -> Result<Person, SignInError> {
        let published = self.issuers.published(&issuer.url, now, |_| true).await.map_err(SignInError::Unreachable)?;
        let _turn = self.signing_in.try_acquire().map_err(|_| SignInError::Busy)?;
        let metadata = &published.metadata;
        // A code that another issuer has sent must not reach this one.
        let is_sender = match said {
            Some(said) => said == issuer.url,
            None => !metadata.authorization_response_iss_parameter_supported,
        };
        if !is_sender {
            return Err(SignInError::Claims("another issuer has sent the person back"));
        }
        let (headers, form) = token_request(issuer, metadata, request, code)?;
        let endpoint = https(metadata.token_endpoint.as_deref())?;
        let (status, body) = issuer.outbound.ask(&endpoint, headers, Some(form), MAX_ANSWER_BYTES, PATIENCE).await?;
        if status != StatusCode::OK {
            return Err(SignInError::Exchange(format!("the issuer answers {status}")));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = answer.get("id_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| SignInError::Exchange("the answer holds no identity token".into()))?;
        let claims = self.issuers.verify::<Claims>(&issuer.url, token, now).await.map_err(SignInError::Unproven)?;
        check(&claims, issuer, request.nonce, now).map_err(SignInError::Claims)?;
        Ok(person(issuer, claims))
    }

    /// The user who this person is, made or brought up to date: all in one change of the directory.
    async fn enter(&self, issuer: &TrustedIssuer, person: Person) -> Result<Holder, SignInError> {
        let (who, fresh, create) = (person.who.clone(), PrincipalId(self.random.uuid()), issuer.create_users);
        let mapped: BTreeSet<PrincipalId> = issuer.groups.values().copied().collect();
        self.directory.change(move |estate| plan(estate, &person, fresh, create, &mapped)).await?;
        let found = self.directory.with_estate(|estate| {
            estate.users_who_are(&who).next().and_then(|user| user.id.name().parse::<PrincipalId>().ok())
        });
        let holder = found.and_then(|id| self.holder(id)).ok_or(SignInError::Nobody)?;
        if !holder.known.enabled {
            return Err(SignInError::Disabled);
        }
        tracing::info!(issuer = %issuer.name, user.id = %holder.known.principal.id, user.name = %holder.name(), "signed in");
        Ok(holder)
    }
}

fn https(address: Option<&str>) -> Result<Url, SignInError> {
    let url = address.and_then(|address| Url::parse(address).ok()).filter(|url| url.scheme() == "https");
    url.ok_or(SignInError::NoSignIn)
}

/// Source: RFC 6749 §4.1.3 and §2.3.1.
fn token_request(
    issuer: &TrustedIssuer,
    metadata: &Metadata,
    request: &SignInRequest<'_>,
    code: &Secret,
) -> Result<(HeaderMap, Bytes), SignInError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code.expose())
        .append_pair("redirect_uri", request.redirect)
        .append_pair("client_id", &issuer.client_id)
        .append_pair("code_verifier", request.verifier);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(secret) = &issuer.client_secret {
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
        let has = |name: &str| methods.iter().any(|method| method == name);
        if has("client_secret_post") && !has("client_secret_basic") {
            form.append_pair("client_secret", secret.expose());
        } else {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(&issuer.client_id), encode(secret.expose()));
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| SignInError::Exchange("the client's secret cannot be sent".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    Ok((headers, form.finish().into()))
}

/// Source: OpenID Connect Core 1.0 §3.1.3.7.
fn check(claims: &Claims, issuer: &TrustedIssuer, nonce: &str, now: Timestamp) -> Result<(), &'static str> {
    if claims.iss != issuer.url {
        return Err("it names another issuer");
    }
    let is_meant = match &claims.aud {
        Audience::One(one) => *one == issuer.client_id,
        Audience::Several(several) => several.contains(&issuer.client_id),
    };
    let is_alone = claims.aud.only().is_some();
    let is_party = claims.azp.as_ref().map_or(is_alone, |party| *party == issuer.client_id);
    if !is_meant || !is_party {
        return Err("it is meant for somebody else");
    }
    if claims.nonce.as_deref() != Some(nonce) {
        return Err("it is of another sign-in");
    }
    if !holds(claims.exp, claims.nbf.into_iter().chain([claims.iat]), now) {
        return Err("it does not hold now");
    }
    let length = claims.sub.chars().count();
    if !(1..=MAX_SUBJECT_CHARS).contains(&length) || claims.sub.chars().any(char::is_control) {
        return Err("its subject is empty, too long, or no text");
    }
    Ok(())
}

fn person(issuer: &TrustedIssuer, claims: Claims) -> Person {
    let text = |name: &str| claims.others.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let short = |text: &str| text.chars().filter(|c| is_shown(*c)).take(MAX_NAME_CHARS).collect::<String>();
    let name = text(&issuer.user_claim).unwrap_or(&claims.sub);
    let display_name = short(text("name").unwrap_or(name));
    // A name of the issuer's, never one that somebody here could have: whoever reads it sees whose word it is.
    let name = format!("{}:{}", issuer.name, short(name).replace(['/', '\\', ' '], "_"));
    let listed = issuer.groups_claim.as_ref().and_then(|claim| claims.others.get(claim));
    let listed = match listed {
        Some(Value::Array(several)) => several.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let named = listed.iter().take(MAX_GROUPS).filter_map(Value::as_str);
    let groups = named.filter_map(|group| issuer.groups.get(group)).copied().collect();
    let who = OutsideIdentity { issuer: issuer.url.clone(), subject: claims.sub };
    Person { who, name, display_name, groups }
}

/// Whether a character shows in a name. What does not could make one name look like another.
///
/// Source: Unicode Standard Annex #9, directional formatting characters; characters of zero width.
fn is_shown(c: char) -> bool {
    let is_format = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !(c.is_control() || is_format)
}

fn plan(
    estate: &Estate,
    person: &Person,
    fresh: PrincipalId,
    create: bool,
    mapped: &BTreeSet<PrincipalId>,
) -> Result<Vec<Change>, SignInError> {
    let mut users = estate.users_who_are(&person.who);
    let mut changes = Vec::new();
    let id = match (users.next(), users.next()) {
        (Some(user), None) => {
            let is_off = user.property(&["accountEnabled"]).is_some_and(|enabled| enabled != true);
            if is_off {
                return Err(SignInError::Disabled);
            }
            user.id.name().parse().map_err(|_| SignInError::Nobody)?
        }
        (None, _) if create && !estate.is_principal_taken(fresh) => {
            changes.push(new_user(estate, person, fresh)?);
            fresh
        }
        (None, _) => return Err(SignInError::Nobody),
        (Some(_), Some(_)) => return Err(SignInError::Ambiguous),
    };
    for group in mapped {
        let Some(resource) = directory_object(types::GROUPS, group.0).and_then(|id| estate.get(&id)) else {
            tracing::warn!(group.id = %group, "a group that an issuer's groups stand for does not exist");
            continue;
        };
        changes.extend(membership(resource, id, person.groups.contains(group)));
    }
    Ok(changes)
}

/// Makes somebody a member, or none any more.
fn membership(group: &Arc<Resource>, id: PrincipalId, is_member: bool) -> Option<Change> {
    let mut members = members_of(group);
    if members.contains(&id) == is_member {
        return None;
    }
    if is_member && members.len() >= MAX_MEMBERS {
        tracing::warn!(resource.id = %group.id, "a group has as many members as it may have");
        return None;
    }
    members.retain(|member| *member != id);
    members.extend(Some(id).filter(|_| is_member));
    let mut document = group.document();
    let properties = document.entry("properties").or_insert_with(|| json!({}));
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    properties.as_object_mut()?.insert("members".into(), members.into());
    Some(Change::Put { id: group.id.clone(), document, expected: Expected::Etag(group.etag.clone()) })
}

fn new_user(estate: &Estate, person: &Person, id: PrincipalId) -> Result<Change, SignInError> {
    let resource = directory_object(types::USERS, id.0).ok_or(SignInError::Nobody)?;
    let mut users = estate.list(&ResourceId::root(), types::USERS);
    let has = |user: &Arc<Resource>| {
        user.text(&["userPrincipalName"]).is_some_and(|own| own.eq_ignore_ascii_case(&person.name))
    };
    // Names change hands at the issuer. Here two never have the same.
    let name = if users.any(has) { format!("{}#{id}", person.name) } else { person.name.clone() };
    let properties = json!({
        "userPrincipalName": name,
        "displayName": person.display_name,
        "accountEnabled": true,
        "identities": [person.who.document()],
    });
    let mut document = Document::new();
    document.insert("id".into(), resource.as_str().into());
    document.insert("name".into(), resource.name().into());
    document.insert("type".into(), types::USERS.into());
    document.insert("properties".into(), properties);
    Ok(Change::Put { id: resource, document, expected: Expected::Absent })
}

fn directory_object(kind: &str, id: Uuid) -> Option<ResourceId> {
    format!("/providers/{kind}/{id}").parse().ok()
}

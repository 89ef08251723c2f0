//! Changing the directory: each change is one of the object's resource.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use postern_estate::{Document, Resource};
use postern_identity::SecretOwner;
use postern_model::{PrincipalId, ResourceId, Secret};
use serde_json::Value;
use uuid::Uuid;

use super::{Kind, VERSION, bad, created, denied, missing, search};
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::reply::Reply;
use crate::{credentials, resources};

/// Fields that a document never holds: they are secrets, or are kept elsewhere.
const NOT_KEPT: [&str; 4] = ["passwordCredentials", "passwordProfile", "id", "@odata.type"];
/// Source: Microsoft Entra ID, password policies (read 2026-11).
const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=256;

/// How often a change is made again that another one has overtaken.
const MAX_ATTEMPTS: usize = 8;

/// `POST /{kind}`.
pub(super) async fn create(call: Call, kind: Kind) -> Result<Reply, ArmError> {
    let id = call.state.random.uuid();
    may_write(&call, &kind.resource(id)?)?;
    let mut properties = kept(call.body()?);
    let text = |properties: &Document, name: &str| properties.get(name).and_then(Value::as_str).map(str::to_owned);
    let required: &[&str] = match kind {
        Kind::Applications | Kind::Groups => &["displayName"],
        Kind::ServicePrincipals => &["appId"],
        Kind::Users => &["displayName", "userPrincipalName"],
    };
    for name in required {
        if text(&properties, name).is_none_or(|text| text.is_empty() || text.len() > 256) {
            return Err(bad(format!("A value is required for property '{name}' of resource.")));
        }
    }
    let password = user_password(call.body()?)?;
    match kind {
        Kind::Applications => {
            properties.insert("appId".into(), call.state.random.uuid().to_string().into());
        }
        Kind::ServicePrincipals => {
            // It is named after its application.
            let client = text(&properties, "appId").unwrap_or_default();
            let application = application_of(&call, &client).ok_or_else(|| {
                bad(format!(
                    "The appId '{client}' of the service principal does not reference a valid application object."
                ))
            })?;
            let name = application.text(&["displayName"]).unwrap_or_else(|| client.clone());
            properties.entry("displayName").or_insert_with(|| name.into());
        }
        Kind::Groups => {
            let members = bound_members(&call, &mut properties)?;
            properties.insert("members".into(), list(&members));
        }
        Kind::Users => {
            let name = text(&properties, "userPrincipalName").unwrap_or_default();
            if user_named(&call, &name).is_some() {
                return Err(bad("Another object with the same value for property userPrincipalName already exists."));
            }
        }
    }
    let state = Arc::clone(&call.state);
    let reader = call.again();
    write(call, kind.resource(id)?, properties).await?;
    if let Some(password) = password.filter(|_| kind == Kind::Users) {
        state.identity.set_user_password(PrincipalId(id), password).await.map_err(|_| ArmError::internal())?;
    }
    search::one(&reader, kind, &id.to_string()).map(|reply| created(reply.into_body()))
}

/// `PATCH /{kind}/{id}`.
pub(super) async fn update(call: Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    let password = user_password(call.body()?)?;
    let fresh = kept(call.body()?);
    let id = change(&call, kind, name, |_, properties| {
        let fixed = |name: &str| name == "appId" || name == "members" || name.contains('@');
        properties
            .extend(fresh.iter().filter(|(name, _)| !fixed(name)).map(|(name, value)| (name.clone(), value.clone())));
        Ok(())
    })
    .await?;
    if let (Kind::Users, Some(password), Ok(principal)) = (kind, password, id.name().parse::<PrincipalId>()) {
        call.state.identity.set_user_password(principal, password).await.map_err(|_| ArmError::internal())?;
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Changes an object's properties: once more when somebody else was faster, so that neither undoes the other.
async fn change(
    call: &Call,
    kind: Kind,
    name: &str,
    edit: impl Fn(&Resource, &mut Document) -> Result<(), ArmError>,
) -> Result<ResourceId, ArmError> {
    let mut attempt = 1;
    loop {
        let resource = resource_of(call, kind, name)?;
        let mut properties = properties_of(&resource);
        edit(&resource, &mut properties)?;
        let mut writing = call.again();
        let etag = format!("\"{}\"", resource.etag).parse().map_err(|_| ArmError::internal())?;
        writing.headers.insert(header::IF_MATCH, etag);
        match write(writing, resource.id.clone(), properties).await {
            Ok(()) => return Ok(resource.id.clone()),
            Err(error) if error.is(Condition::PreconditionFailed) && attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// `DELETE /{kind}/{id}`. An application takes its service principals along.
pub(super) async fn delete(call: Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    let resource = resource_of(&call, kind, name)?;
    if kind == Kind::Applications {
        let client = resource.text(&["appId"]).and_then(|text| Uuid::try_parse(&text).ok());
        let principal = client.and_then(|client| call.state.directory.principal_by_client_id(client));
        if let Some(owner) = principal.and_then(|principal| principal.owner) {
            resources::delete(call.again(), owner).await?;
        }
    }
    resources::delete(call, resource.id.clone()).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /groups/{id}/members/$ref`.
pub(super) async fn add_member(call: Call, name: &str) -> Result<Reply, ArmError> {
    resource_of(&call, Kind::Groups, name)?;
    let member = referenced(&call, call.body_text("@odata.id")?)?;
    change(&call, Kind::Groups, name, |group, properties| {
        let mut members = postern_estate::members_of(group);
        if members.contains(&member) {
            return Err(bad(
                "One or more added object references already exist for the following modified properties: 'members'.",
            ));
        }
        members.push(member);
        properties.insert("members".into(), list(&members));
        Ok(())
    })
    .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /groups/{id}/members/{member}/$ref`.
pub(super) async fn remove_member(call: Call, name: &str, member: &str) -> Result<Reply, ArmError> {
    let gone = member.parse::<PrincipalId>().map_err(|_| missing(member))?;
    change(&call, Kind::Groups, name, |group, properties| {
        let mut members = postern_estate::members_of(group);
        let before = members.len();
        members.retain(|known| *known != gone);
        if members.len() == before {
            return Err(missing(member));
        }
        properties.insert("members".into(), list(&members));
        Ok(())
    })
    .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// The object that `https://…/v1.0/directoryObjects/{id}` refers to.
fn referenced(call: &Call, reference: &str) -> Result<PrincipalId, ArmError> {
    let id = reference.rsplit('/').next().and_then(|id| id.parse::<PrincipalId>().ok());
    id.filter(|id| call.state.directory.principal(*id).is_some()).ok_or_else(|| missing(reference))
}

/// The members that a new group is to have.
fn bound_members(call: &Call, properties: &mut Document) -> Result<Vec<PrincipalId>, ArmError> {
    properties.remove("members");
    let given = properties.remove("members@odata.bind");
    // Nobody owns objects here.
    properties.remove("owners@odata.bind");
    let Some(given) = given else { return Ok(Vec::new()) };
    let references = given.as_array().ok_or_else(|| bad("'members@odata.bind' must be a list."))?;
    let reference = |value: &Value| referenced(call, value.as_str().unwrap_or_default());
    references.iter().map(reference).collect()
}

fn list(members: &[PrincipalId]) -> Value {
    members.iter().map(|member| Value::from(member.to_string())).collect()
}

pub(super) async fn add_password(call: Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    credentials::add_password(&call, secrets_of(&call, kind, name)?).await
}

pub(super) async fn remove_password(call: Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    credentials::remove_password(&call, secrets_of(&call, kind, name)?).await
}

fn secrets_of(call: &Call, kind: Kind, name: &str) -> Result<SecretOwner, ArmError> {
    let resource = resource_of(call, kind, name)?;
    match kind {
        Kind::Applications => {
            let client = resource.text(&["appId"]).and_then(|text| Uuid::try_parse(&text).ok());
            client.map(SecretOwner::Application).ok_or_else(|| missing(name))
        }
        Kind::ServicePrincipals => credentials::secrets_of(&resource),
        Kind::Users | Kind::Groups => Err(super::nothing()),
    }
}

/// The resource of an object that the caller may change. Identities that belong to another resource are changed there.
pub(super) fn resource_of(call: &Call, kind: Kind, name: &str) -> Result<Arc<Resource>, ArmError> {
    call.may_see(None)?;
    let id = match Uuid::try_parse(name) {
        Ok(id) => kind.resource(id)?,
        Err(_) if kind == Kind::Users => user_named(call, name).ok_or_else(|| missing(name))?,
        Err(_) => return Err(missing(name)),
    };
    let resource = call.state.directory.resource(&id).ok_or_else(|| missing(name))?;
    may_write(call, &id)?;
    Ok(resource)
}

fn may_write(call: &Call, id: &ResourceId) -> Result<(), ArmError> {
    let action = format!("{}/write", id.resource_type().unwrap_or_default());
    call.authorize(&action, id).map_err(|_| denied())
}

pub(super) async fn write(mut call: Call, id: ResourceId, properties: Document) -> Result<(), ArmError> {
    may_write(&call, &id)?;
    call.method = Method::PUT;
    call.version = VERSION;
    call.body = Some(Document::from_iter([("properties".to_owned(), Value::Object(properties))]));
    resources::put(call, id).await.map(drop)
}

fn kept(body: &Document) -> Document {
    body.iter().filter(|(name, _)| !NOT_KEPT.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

pub(super) fn properties_of(resource: &Resource) -> Document {
    resource.properties().unwrap_or_default()
}

fn user_password(body: &Document) -> Result<Option<Secret>, ArmError> {
    let Some(profile) = body.get("passwordProfile").filter(|profile| !profile.is_null()) else { return Ok(None) };
    let password = profile.get("password").and_then(Value::as_str);
    let password = password.filter(|text| PASSWORD_CHARACTERS.contains(&text.chars().count()));
    let password =
        password.ok_or_else(|| bad("The specified password does not comply with password complexity requirements."))?;
    Ok(Some(Secret::new(password.to_owned())))
}

fn application_of(call: &Call, client: &str) -> Option<Arc<Resource>> {
    let applications = call.state.directory.list(&ResourceId::root(), Kind::Applications.resource_type());
    applications.into_iter().find(|one| one.text(&["appId"]).is_some_and(|own| own.eq_ignore_ascii_case(client)))
}

fn user_named(call: &Call, name: &str) -> Option<ResourceId> {
    let users = call.state.directory.list(&ResourceId::root(), Kind::Users.resource_type());
    let named =
        |user: &Arc<Resource>| user.text(&["userPrincipalName"]).is_some_and(|own| own.eq_ignore_ascii_case(name));
    users.into_iter().find(named).map(|user| user.id.clone())
}

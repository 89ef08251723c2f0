//! Federated credentials of applications: resources below the application, which managed identities have, too.
//!
//! Source: Microsoft Graph, federatedIdentityCredential resource type (read 2026-11).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use postern_estate::{Document, Resource, validate};
use serde_json::{Value, json};
use uuid::Uuid;

use super::changes::{properties_of, resource_of, write};
use super::{Kind, bad, collection, created, missing, nothing};
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::reply::Reply;
use crate::resources;

/// The segment of an application's federated credentials.
const SEGMENT: &str = "federatedIdentityCredentials";
/// What a client says of one. The name stays.
const FIELDS: [&str; 5] = ["issuer", "subject", "audiences", "description", "claimsMatchingExpression"];

pub(super) fn list(call: &Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    let application = readable(call, kind, name)?;
    let shown = call
        .state
        .directory
        .with_estate(|estate| estate.federated_credentials(&application.id).map(|one| object(one)).collect());
    Ok(collection(call, &context(name), shown, None))
}

pub(super) fn show(call: &Call, kind: Kind, name: &str, credential: &str) -> Result<Reply, ArmError> {
    let application = readable(call, kind, name)?;
    Ok(Reply::ok(object(&*found(call, &application, credential)?)))
}

pub(super) async fn create(call: Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    let application = changeable(&call, kind, name)?;
    let own = call.body_text("name").map_err(|_| bad("A value is required for property 'name' of resource."))?;
    validate::federated_credential_name(own)?;
    let id = application.id.child(SEGMENT, own);
    let taken = || {
        let message = format!("A federated identity credential with the name '{}' already exists.", id.name());
        ArmError::new(Condition::Conflict, message)
    };
    if call.state.directory.resource(&id).is_some() {
        return Err(taken());
    }
    let mut writing = call.again();
    writing.headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("*"))]);
    let written = write(writing, id.clone(), fields(call.body()?)).await;
    written.map_err(|error| if error.is(Condition::PreconditionFailed) { taken() } else { error })?;
    let made = call.state.directory.resource(&id).ok_or_else(|| missing(id.name()))?;
    Ok(created(object(&made)))
}

pub(super) async fn update(call: Call, kind: Kind, name: &str, credential: &str) -> Result<Reply, ArmError> {
    let application = changeable(&call, kind, name)?;
    let known = found(&call, &application, credential)?;
    let mut properties = properties_of(&known);
    properties.extend(fields(call.body()?));
    let mut writing = call.again();
    let etag = format!("\"{}\"", known.etag).parse().map_err(|_| ArmError::internal())?;
    writing.headers.insert(header::IF_MATCH, etag);
    write(writing, known.id.clone(), properties).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn delete(call: Call, kind: Kind, name: &str, credential: &str) -> Result<Reply, ArmError> {
    let application = changeable(&call, kind, name)?;
    let known = found(&call, &application, credential)?;
    resources::delete(call, known.id.clone()).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

fn context(application: &str) -> String {
    format!("applications('{application}')/{SEGMENT}")
}

/// Only applications have them here; those of managed identities are resources of the resource manager.
fn changeable(call: &Call, kind: Kind, name: &str) -> Result<Arc<Resource>, ArmError> {
    if kind == Kind::Applications { resource_of(call, kind, name) } else { Err(nothing()) }
}

fn readable(call: &Call, kind: Kind, name: &str) -> Result<Arc<Resource>, ArmError> {
    if kind != Kind::Applications {
        return Err(nothing());
    }
    call.may_see(None)?;
    let id = Uuid::try_parse(name).map_err(|_| missing(name))?;
    call.state.directory.resource(&kind.resource(id)?).ok_or_else(|| missing(name))
}

/// By name or id.
fn found(call: &Call, application: &Resource, text: &str) -> Result<Arc<Resource>, ArmError> {
    let id = Uuid::try_parse(text).ok();
    call.state.directory.with_estate(|estate| {
        let mut all = estate.federated_credentials(&application.id);
        let is_one = |one: &&Arc<Resource>| Some(one.uid.0) == id || one.id.name().eq_ignore_ascii_case(text);
        all.find(is_one).cloned().ok_or_else(|| missing(text))
    })
}

fn fields(body: &Document) -> Document {
    let kept = FIELDS.iter().filter_map(|name| body.get_key_value(*name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn object(credential: &Resource) -> Value {
    let property = |name: &str| credential.property(&[name]);
    json!({
        "id": credential.uid.to_string(),
        "name": credential.id.name(),
        "issuer": property("issuer"),
        "subject": property("subject"),
        "audiences": property("audiences"),
        "description": property("description"),
    })
}

//! The registry's own API for repositories, tags and manifests: `/acr/v1`.
//!
//! Source: Azure Container Registry data plane, api-version 2021-07-01 (read 2026-11).

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use postern_access::{Attributes, OperationKind, Permit};
use postern_model::{Digest, Tag};
use postern_store::{AttributeChange, ManifestInfo, QuarantineChange, Repository, RepositoryInfo, TagInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::read;
use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::page::Page;
use crate::reply::Reply;

/// Longest word for a state of the quarantine.
const MAX_STATE_BYTES: usize = 64;

pub(crate) async fn read_repository(call: &Call, permit: &Permit) -> Result<Response, Refusal> {
    let info = call.repository(permit)?.info().await?;
    Ok(ok(&repository_object(call, &info)))
}

pub(crate) async fn change_repository(call: &Call, permit: &Permit, body: Body) -> Result<Response, Refusal> {
    let (repository, change) = (call.repository(permit)?, changes(call, body).await?);
    repository.update(change).await?;
    Ok(ok(&repository_object(call, &repository.info().await?)))
}

pub(crate) async fn delete_repository(call: &Call, permit: &Permit) -> Result<Response, Refusal> {
    let removed = call.repository(permit)?.delete_repository().await?;
    let manifests: Vec<String> = removed.manifests.iter().map(ToString::to_string).collect();
    let tags: Vec<&str> = removed.tags.iter().map(Tag::as_str).collect();
    Ok(Reply::json(StatusCode::ACCEPTED, &json!({"manifestsDeleted": manifests, "tagsDeleted": tags})).done())
}

pub(crate) async fn list_tags(
    call: &Call,
    permit: &Permit,
    digest: Option<&Digest>,
    page: &Page,
) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let found = repository.tag_infos(digest, &page.request()).await?;
    let tags = entries(page, found.items.iter().map(tag_object).collect());
    let digest = digest.map(ToString::to_string);
    let others: Vec<(&str, &str)> = digest.iter().map(|digest| ("digest", digest.as_str())).collect();
    let link = found.next.and_then(|last| page.link(&format!("/acr/v1/{}/_tags", repository.name()), &last, &others));
    Ok(Reply::json(StatusCode::OK, &within(call, &repository, "tags", tags)).link(link).done())
}

pub(crate) async fn read_tag(call: &Call, permit: &Permit, tag: &Tag) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let info = repository.tag_info(tag).await?;
    Ok(ok(&within(call, &repository, "tag", tag_object(&info))))
}

pub(crate) async fn change_tag(call: &Call, permit: &Permit, tag: &Tag, body: Body) -> Result<Response, Refusal> {
    let (repository, change) = (call.repository(permit)?, changes(call, body).await?);
    repository.update_tag(tag, change).await?;
    Ok(ok(&within(call, &repository, "tag", tag_object(&repository.tag_info(tag).await?))))
}

pub(crate) async fn list_manifests(call: &Call, permit: &Permit, page: &Page) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let found = repository.manifest_infos(&page.request()).await?;
    let manifests = entries(page, found.items.iter().map(|info| manifest_object(call, info)).collect());
    let path = format!("/acr/v1/{}/_manifests", repository.name());
    let link = found.next.and_then(|last| page.link(&path, &last, &[]));
    Ok(Reply::json(StatusCode::OK, &within(call, &repository, "manifests", manifests)).link(link).done())
}

pub(crate) async fn read_manifest(call: &Call, permit: &Permit, digest: &Digest) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let info = repository.manifest_info(digest).await?;
    Ok(ok(&within(call, &repository, "manifest", manifest_object(call, &info))))
}

/// Locks and the quarantine are changed by the same request and take different rights: which, only the body says. It is read for a
/// caller who was let in and is known.
pub(crate) async fn change_manifest(call: &mut Call, digest: &Digest, body: Body) -> Result<Response, Refusal> {
    let for_locks = match call.permit() {
        Err(refusal) if !call.lacks_right() => return Err(refusal),
        decided => decided,
    };
    let bytes = read(body, call.state().limits.attributes_bytes).await;
    let parsed = bytes.and_then(|bytes| {
        serde_json::from_slice(&bytes).map_err(|error| Refusal::new(Condition::BodyInvalid).with_detail(error))
    });
    let (parsed, for_locks): (ManifestChanges, _) = match (parsed, for_locks) {
        (Ok(parsed), for_locks) => (parsed, for_locks),
        // Whoever may change nothing learns nothing about the body.
        (Err(_), Err(refusal)) | (Err(refusal), Ok(_)) => return Err(refusal),
    };
    let (locks, quarantine) = parsed.split()?;
    let has_locks = locks != AttributeChange::default() || quarantine == QuarantineChange::default();
    let for_locks = if has_locks { Some(for_locks?) } else { None };
    let for_quarantine = if quarantine == QuarantineChange::default() {
        None
    } else {
        call.decide_for(OperationKind::WriteQuarantine);
        Some(call.permit()?)
    };
    call.take_turn()?;
    if let Some(permit) = &for_quarantine {
        call.repository(permit)?.update_quarantine(digest, quarantine).await?;
    }
    if let Some(permit) = &for_locks {
        call.repository(permit)?.update_manifest(digest, locks).await?;
    }
    let permit = for_locks.or(for_quarantine).ok_or_else(|| Refusal::new(Condition::Internal))?;
    let repository = call.repository(&permit)?;
    let info = repository.manifest_info(digest).await?;
    Ok(ok(&within(call, &repository, "manifest", manifest_object(call, &info))))
}

/// What a client may change of a manifest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ManifestChanges {
    delete_enabled: Option<bool>,
    write_enabled: Option<bool>,
    read_enabled: Option<bool>,
    list_enabled: Option<bool>,
    quarantine_state: Option<String>,
    quarantine_details: Option<String>,
}

impl ManifestChanges {
    fn split(self) -> Result<(AttributeChange, QuarantineChange), Refusal> {
        let is_word = |state: &String| {
            (1..=MAX_STATE_BYTES).contains(&state.len()) && state.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !self.quarantine_state.as_ref().is_none_or(is_word) {
            return Err(Refusal::new(Condition::BodyInvalid).with_detail("quarantineState is not a word"));
        }
        let locks = AttributeChange {
            delete_enabled: self.delete_enabled,
            write_enabled: self.write_enabled,
            read_enabled: self.read_enabled,
            list_enabled: self.list_enabled,
        };
        Ok((locks, QuarantineChange { state: self.quarantine_state, details: self.quarantine_details }))
    }
}

/// The attributes that a client may change. Unknown keys are refused: a lock that is silently not set is worse than an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    #[serde(rename = "deleteEnabled")]
    delete: Option<bool>,
    #[serde(rename = "writeEnabled")]
    write: Option<bool>,
    #[serde(rename = "readEnabled")]
    read: Option<bool>,
    #[serde(rename = "listEnabled")]
    list: Option<bool>,
}

async fn changes(call: &Call, body: Body) -> Result<AttributeChange, Refusal> {
    let bytes = read(body, call.state().limits.attributes_bytes).await?;
    let changes: Changes =
        serde_json::from_slice(&bytes).map_err(|error| Refusal::new(Condition::BodyInvalid).with_detail(error))?;
    Ok(AttributeChange {
        delete_enabled: changes.delete,
        write_enabled: changes.write,
        read_enabled: changes.read,
        list_enabled: changes.list,
    })
}

fn ok(value: &Value) -> Response {
    Reply::json(StatusCode::OK, value).done()
}

/// The entries of a page. Behind the last one there is nothing, not even a list without entries: the registry's own command line tool asks
/// on until then, and takes the last entry of every list that it gets.
fn entries(page: &Page, entries: Vec<Value>) -> Value {
    if entries.is_empty() && page.last.is_some() { Value::Null } else { Value::Array(entries) }
}

fn within(call: &Call, repository: &Repository, key: &str, value: Value) -> Value {
    json!({"registry": &*call.rules().login_server, "imageName": repository.name().as_str(), key: value})
}

fn repository_object(call: &Call, info: &RepositoryInfo) -> Value {
    json!({
        "registry": &*call.rules().login_server,
        "imageName": info.name.as_str(),
        "createdTime": info.created.to_string(),
        "lastUpdateTime": info.updated.to_string(),
        "manifestCount": info.manifest_count,
        "tagCount": info.tag_count,
        "changeableAttributes": attributes_object(info.attributes),
    })
}

fn tag_object(info: &TagInfo) -> Value {
    json!({
        "name": info.name.as_str(),
        "digest": info.digest.to_string(),
        "createdTime": info.created.to_string(),
        "lastUpdateTime": info.updated.to_string(),
        "signed": false,
        "changeableAttributes": attributes_object(info.attributes),
    })
}

fn manifest_object(call: &Call, info: &ManifestInfo) -> Value {
    let references: Vec<Value> = info
        .children
        .iter()
        .map(|child| {
            without_nulls(json!({
                "digest": child.digest.to_string(),
                "architecture": child.architecture,
                "os": child.os,
            }))
        })
        .collect();
    without_nulls(json!({
        "digest": info.digest.to_string(),
        "imageSize": info.image_size,
        "createdTime": info.created.to_string(),
        "lastUpdateTime": info.updated.to_string(),
        "architecture": info.architecture,
        "os": info.os,
        "mediaType": info.media_type,
        "configMediaType": info.config_media_type,
        "tags": info.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
        "references": (!references.is_empty()).then_some(references),
        "changeableAttributes": manifest_attributes(call, info),
    }))
}

fn manifest_attributes(call: &Call, info: &ManifestInfo) -> Value {
    let mut attributes = attributes_object(info.attributes);
    let unsaid = call.rules().policies.quarantine.then_some("Quarantined");
    let said = [
        ("quarantineState", info.quarantine.state.as_deref().or(unsaid)),
        ("quarantineDetails", info.quarantine.details.as_deref()),
    ];
    if let Some(attributes) = attributes.as_object_mut() {
        attributes.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))));
    }
    attributes
}

fn attributes_object(attributes: Attributes) -> Value {
    json!({
        "deleteEnabled": attributes.delete_enabled,
        "writeEnabled": attributes.write_enabled,
        "readEnabled": attributes.read_enabled,
        "listEnabled": attributes.list_enabled,
    })
}

/// Fields that nothing is known for are left out.
fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

//! What was deleted while the registry's soft delete policy was on: `/acr/v1/_deleted`.
//!
//! Source: Azure Container Registry, "Enable soft delete policy"; the requests of `az acr manifest list-deleted`, `list-deleted-tags`,
//! `restore` and `az acr repository list-deleted` (read 2026-11).

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use postern_access::Permit;
use postern_model::{Digest, RepositoryName, Tag};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::read;
use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::page::Page;
use crate::reply::Reply;

pub(crate) async fn catalog(call: &Call, permit: &Permit, page: &Page) -> Result<Response, Refusal> {
    let found = call.state().store.deleted_catalog(permit)?.page(page.last.as_deref(), page.limit).await?;
    let names: Vec<&str> = found.items.iter().map(RepositoryName::as_str).collect();
    let link = found.next.and_then(|last| page.link("/acr/v1/_deleted/_catalog", &last, &[]));
    Ok(Reply::json(StatusCode::OK, &json!({"repositories": names})).link(link).done())
}

pub(crate) async fn manifests(call: &Call, permit: &Permit, page: &Page) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let found = repository.deleted_manifests(page.last.as_deref(), page.limit).await?;
    let manifests: Vec<Value> = found
        .items
        .iter()
        .map(|manifest| {
            json!({
                "digest": manifest.digest.to_string(),
                "mediaType": manifest.media_type,
                "imageSize": manifest.image_size,
                "createdTime": manifest.created.to_string(),
                "deletedAt": manifest.deleted.to_string(),
                "tags": manifest.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            })
        })
        .collect();
    let path = format!("/acr/v1/_deleted/{}/_manifests", repository.name());
    let link = found.next.and_then(|last| page.link(&path, &last, &[]));
    Ok(Reply::json(StatusCode::OK, &within(call, repository.name(), "manifests", manifests)).link(link).done())
}

pub(crate) async fn tags(call: &Call, permit: &Permit, page: &Page) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let found = repository.deleted_tags(page.last.as_deref(), page.limit).await?;
    let tag = |tag: &postern_store::DeletedTag| {
        let digest = tag.digest.to_string();
        json!({"tag": tag.name.as_str(), "digest": digest, "deletedAt": tag.deleted.to_string()})
    };
    let tags: Vec<Value> = found.items.iter().map(tag).collect();
    let path = format!("/acr/v1/_deleted/{}/_tags", repository.name());
    let link = found.next.and_then(|last| page.link(&path, &last, &[]));
    Ok(Reply::json(StatusCode::OK, &within(call, repository.name(), "tags", tags)).link(link).done())
}

/// Under which tag; none restores the manifest alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    tag: Option<String>,
}

pub(crate) async fn restore(
    call: &Call,
    permit: &Permit,
    digest: &Digest,
    force: bool,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = read(body, call.state().limits.attributes_bytes).await?;
    let restore: Restore = if bytes.is_empty() {
        Restore { tag: None }
    } else {
        serde_json::from_slice(&bytes).map_err(|error| Refusal::new(Condition::BodyInvalid).with_detail(error))?
    };
    let tag: Option<Tag> = match restore.tag.filter(|tag| !tag.is_empty()) {
        Some(tag) => Some(tag.parse().map_err(|_| Refusal::new(Condition::TagInvalid))?),
        None => None,
    };
    let repository = call.repository(permit)?;
    repository.restore(digest, tag.clone(), force).await?;
    let restored = json!({
        "registry": &*call.rules().login_server,
        "imageName": repository.name().as_str(),
        "digest": digest.to_string(),
        "tag": tag.as_ref().map(Tag::as_str),
    });
    Ok(Reply::json(StatusCode::OK, &restored).done())
}

fn within(call: &Call, name: &RepositoryName, key: &str, items: Vec<Value>) -> Value {
    json!({"registry": &*call.rules().login_server, "imageName": name.as_str(), key: items})
}

use axum::response::Response;
use http::StatusCode;
use postern_access::Permit;
use serde::Serialize;

use crate::call::Call;
use crate::error::Refusal;
use crate::page::Page;
use crate::reply::Reply;
use crate::route::Family;

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

#[derive(Serialize)]
struct RepositoryList<'a> {
    repositories: Vec<&'a str>,
}

/// end-8: the repository's tags.
pub(crate) async fn list(call: &Call, permit: &Permit, page: &Page) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let found = repository.tag_names(page.last.as_deref(), page.limit).await?;
    let tags: Vec<&str> = found.items.iter().map(postern_model::Tag::as_str).collect();
    let path = format!("/v2/{}/tags/list", repository.name());
    let link = found.next.as_deref().and_then(|last| page.link(&path, last, &[]));
    let answer = TagList { name: repository.name().as_str(), tags };
    Ok(Reply::json(StatusCode::OK, &answer).link(link).done())
}

/// The registry's repositories.
pub(crate) async fn catalog(call: &Call, permit: &Permit, family: Family, page: &Page) -> Result<Response, Refusal> {
    let found = call.state().store.catalog(permit)?.page(page.last.as_deref(), page.limit).await?;
    let names: Vec<&str> = found.items.iter().map(postern_model::RepositoryName::as_str).collect();
    let path = match family {
        Family::Distribution => "/v2/_catalog",
        Family::Repository => "/acr/v1/_catalog",
    };
    let link = found.next.and_then(|last| page.link(path, &last, &[]));
    Ok(Reply::json(StatusCode::OK, &RepositoryList { repositories: names }).link(link).done())
}

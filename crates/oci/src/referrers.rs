use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use postern_access::Permit;
use postern_model::Digest;
use postern_store::Referrer;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::page::Page;
use crate::reply::Reply;

/// Most referrers in one answer: each carries up to [`MAX_ANNOTATION_BYTES`](crate::MAX_ANNOTATION_BYTES) of annotations.
pub const MAX_REFERRERS_PER_PAGE: u32 = 100;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// end-12: the manifests that name this one as their subject. None is an empty list, never a 404.
pub(crate) async fn list(
    call: &Call,
    permit: &Permit,
    subject: Digest,
    artifact_type: Option<&str>,
    page: &Page,
) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let page = Page { limit: page.limit.min(MAX_REFERRERS_PER_PAGE), ..page.clone() };
    let last = page.last.as_deref().map(str::parse::<Digest>).transpose();
    let last = last.map_err(|error| Refusal::new(Condition::QueryInvalid).with_detail(error))?;
    let found = repository.referrers(&subject, artifact_type, last.as_ref(), page.limit).await?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": found.items.iter().map(descriptor).collect::<Vec<_>>(),
    });
    let path = format!("/v2/{}/referrers/{subject}", repository.name());
    let filter: Vec<(&str, &str)> = artifact_type.map(|wanted| ("artifactType", wanted)).into_iter().collect();
    let link = found.next.and_then(|last| page.link(&path, &last, &filter));
    let reply = Reply::new(StatusCode::OK, index.to_string().into()).header(CONTENT_TYPE, INDEX).link(link);
    Ok(match artifact_type {
        Some(_) => reply.header(OCI_FILTERS_APPLIED, "artifactType").done(),
        None => reply.done(),
    })
}

fn descriptor(referrer: &Referrer) -> Value {
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest.to_string(),
        "size": referrer.size,
    });
    if let Some(fields) = descriptor.as_object_mut() {
        if let Some(artifact_type) = &referrer.artifact_type {
            fields.insert("artifactType".into(), json!(artifact_type));
        }
        let annotations = referrer.annotations.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(annotations) = annotations {
            fields.insert("annotations".into(), annotations);
        }
    }
    descriptor
}

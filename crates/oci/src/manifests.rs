use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::BodyExt as _;
use postern_access::{Operation, OperationKind, Permit};
use postern_model::{Algorithm, Digest, Reference, RepositoryName, Tag};
use postern_store::MAX_MANIFEST_BYTES;

use crate::blobs::{is_known, text};
use crate::body::read;
use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::manifest::{MAX_CONFIG_BYTES, parse, platform, too_large};
use crate::reply::Reply;
use crate::route::Want;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// end-3: a manifest, byte for byte as it was pushed.
pub(crate) async fn pull(
    call: &Call,
    permit: &Permit,
    reference: &Reference,
    want: Want,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let manifest = call.repository(permit)?.manifest(reference).await?;
    if is_known(headers, &manifest.digest) {
        return Ok(Reply::not_modified(&manifest.digest).done());
    }
    let body = match want {
        Want::Content => Body::from(manifest.bytes.clone()),
        Want::HeadersOnly => Body::empty(),
    };
    let length = manifest.bytes.len() as u64;
    Ok(Reply::new(StatusCode::OK, body).content(&manifest.digest, &manifest.media_type, length).done())
}

/// end-7a, end-7b: stores a manifest under its digest and points the tags at it.
pub(crate) async fn push(
    call: &Call,
    permit: &Permit,
    reference: &Reference,
    mut tags: Vec<Tag>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    let announced = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_MANIFEST_BYTES as u64) {
        return Err(too_large());
    }
    let bytes = match read(body, MAX_MANIFEST_BYTES).await {
        Err(refusal) if refusal.condition() == Condition::BodyTooLarge => return Err(too_large()),
        read => read?,
    };
    let algorithm = match reference {
        Reference::Digest(digest) => digest.algorithm(),
        Reference::Tag(_) => Algorithm::Sha256,
    };
    let mut parsed = parse(text(headers, &CONTENT_TYPE), bytes, algorithm)?;
    let digest = parsed.facts.digest;
    let extra = tags.clone();
    match reference {
        Reference::Digest(expected) if *expected != digest => {
            return Err(
                Refusal::new(Condition::DigestMismatch).with_detail(format!("the manifest has digest {digest}"))
            );
        }
        Reference::Digest(_) => {}
        Reference::Tag(tag) => tags.push(tag.clone()),
    }
    if let Some(config) = parsed.config {
        (parsed.facts.architecture, parsed.facts.os) = read_platform(call, repository.name(), config).await;
    }
    let subject = parsed.facts.subject;
    repository.put_manifest(parsed.facts, tags).await?;

    let mut reply = Reply::empty(StatusCode::CREATED)
        .location(format!("/v2/{}/manifests/{digest}", repository.name()))
        .digest(&digest);
    if let Some(subject) = subject {
        reply = reply.header(OCI_SUBJECT, subject.to_string());
    }
    for tag in extra {
        reply = reply.header(OCI_TAG, tag.as_str());
    }
    Ok(reply.done())
}

/// What an image's config says it runs on, for the lists; a config that cannot be read says nothing and keeps no push from
/// happening. Reading it takes a permit of its own.
async fn read_platform(call: &Call, name: &RepositoryName, config: Digest) -> (Option<String>, Option<String>) {
    // As the pusher: what it has just pushed it may look at, also where the quarantine keeps others from it.
    let operation = Operation::repository(OperationKind::PushBlob, name.clone(), Some(Reference::Digest(config)));
    let Some(permit) = call.permit_for(&operation) else { return (None, None) };
    let Ok(repository) = call.repository(&permit) else { return (None, None) };
    match repository.open_blob(&config).await {
        // The descriptor's size was looked at; this is the blob's.
        Ok(blob) if blob.size() <= MAX_CONFIG_BYTES => match blob.into_body().collect().await {
            Ok(collected) => platform(&collected.to_bytes()),
            Err(_) => (None, None),
        },
        Ok(_) | Err(_) => (None, None),
    }
}

/// end-9 by digest: the manifest goes, and with it its tags and what refers to it.
pub(crate) async fn delete(call: &Call, permit: &Permit, digest: Digest) -> Result<Response, Refusal> {
    call.repository(permit)?.delete_manifest(&digest).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED).done())
}

/// end-9 by tag, and the repository API's way to say the same: the tag goes, its manifest stays.
pub(crate) async fn untag(call: &Call, permit: &Permit, tag: &Tag) -> Result<Response, Refusal> {
    call.repository(permit)?.untag(tag).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED).done())
}

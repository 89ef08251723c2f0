use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use postern_access::Permit;
use postern_model::Digest;

use crate::call::Call;
use crate::error::{Condition, Refusal};
use crate::range::{ByteRange, etag, names_etag};
use crate::reply::Reply;
use crate::route::Want;

const BLOB_TYPE: &str = "application/octet-stream";

/// end-2: a blob, or the part of it that `Range` names; in a registry with a data endpoint a link to it there.
pub(crate) async fn pull(
    call: &Call,
    permit: &Permit,
    digest: Digest,
    want: Want,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let repository = call.repository(permit)?;
    if want == Want::HeadersOnly {
        let size = repository.stat_blob(&digest).await?;
        if is_known(headers, &digest) {
            return Ok(Reply::not_modified(&digest).done());
        }
        return Ok(Reply::empty(StatusCode::OK)
            .content(&digest, BLOB_TYPE, size)
            .header(ACCEPT_RANGES, "bytes")
            .done());
    }
    if let Some(link) = call.data_link(&digest)? {
        repository.locate_blob(&digest).await?;
        return Ok(Reply::empty(StatusCode::TEMPORARY_REDIRECT).location(link).digest(&digest).done());
    }
    let blob = repository.open_blob(&digest).await?;
    if is_known(headers, &digest) {
        return Ok(Reply::not_modified(&digest).done());
    }
    let size = blob.size();
    let reply = match range(headers, &digest, size) {
        ByteRange::Whole => Reply::new(StatusCode::OK, Body::new(blob.into_body())).content(&digest, BLOB_TYPE, size),
        ByteRange::Part(start, end) => Reply::new(StatusCode::PARTIAL_CONTENT, Body::new(blob.into_range(start, end)))
            .content(&digest, BLOB_TYPE, end - start)
            .header(CONTENT_RANGE, format!("bytes {start}-{}/{size}", end.saturating_sub(1))),
        ByteRange::Unsatisfiable => {
            let range = HeaderValue::try_from(format!("bytes */{size}")).ok();
            return Err(Refusal::new(Condition::RangeNotSatisfiable).with_header(CONTENT_RANGE, range));
        }
    };
    Ok(reply.header(ACCEPT_RANGES, "bytes").done())
}

/// end-10: takes a blob out of the repository.
pub(crate) async fn delete(call: &Call, permit: &Permit, digest: Digest) -> Result<Response, Refusal> {
    call.repository(permit)?.delete_blob(&digest).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED).digest(&digest).done())
}

/// Whether the client says that it has this content.
pub(crate) fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    text(headers, &IF_NONE_MATCH).is_some_and(|header| names_etag(header, &etag(digest)))
}

/// A range counts only while `If-Range`, where there is one, names what the client has a part of.
fn range(headers: &HeaderMap, digest: &Digest, size: u64) -> ByteRange {
    match text(headers, &IF_RANGE) {
        Some(condition) if condition != etag(digest) => ByteRange::Whole,
        _ => ByteRange::parse(text(headers, &RANGE), size),
    }
}

/// A header's text, unless it holds other bytes.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

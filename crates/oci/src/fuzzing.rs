//! What holds for requests to the data plane, whatever they are read from.

use bytes::Bytes;
use http::{HeaderValue, Method};
use postern_access::{Operation, OperationKind};
use postern_model::Algorithm;
use sha2::{Digest as _, Sha256};

use crate::challenge::{ChallengeError, challenge, missing_access};
use crate::host::Host;
use crate::manifest::{MAX_ANNOTATION_BYTES, MAX_CHILDREN, MAX_LAYERS, parse, platform};
use crate::page::MAX_PAGE;
use crate::query::{Pairs, encode};
use crate::range::{ByteRange, ChunkRange, names_etag};
use crate::route::Route;

/// Line by line: method and address, `Range`, `Content-Range`, host, entity tag.
pub fn requests(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    route(line());
    let range = line();
    for size in [0, 1, 1000, u64::MAX] {
        if let ByteRange::Part(start, end) = ByteRange::parse(Some(range), size) {
            assert!(start < end && end <= size, "{range} of {size}");
        }
    }
    if let Some(chunk) = ChunkRange::parse(line()) {
        assert!(chunk.length() >= 1 && chunk.first.checked_add(chunk.length()).is_some());
    }
    host(line());
    names_etag(line(), "\"sha256:00\"");
}

fn route(line: &str) {
    let (method, address) = line.split_once(' ').unwrap_or((line, ""));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    if let Ok(pairs) = Pairs::parse(query.unwrap_or_default().as_bytes()) {
        let value = pairs.get("last").unwrap_or_default();
        // What is written into a link is read back as it was.
        let written = format!("last={}", encode(value));
        assert!(Pairs::parse(written.as_bytes()).is_ok_and(|again| again.get("last").unwrap_or_default() == value));
        assert!(HeaderValue::try_from(written).is_ok());
    }
    let route = match Route::parse(&method, path, query) {
        Ok(route) => route,
        // A refusal of whatever kind can be answered.
        Err(refusal) => {
            assert!(refusal.into_response().status().is_client_error());
            return;
        }
    };
    let operation = route.operation();
    let needs_repository = !operation.kind.is_token_request()
        && !matches!(
            operation.kind,
            OperationKind::Ping | OperationKind::ListCatalog | OperationKind::ListDeletedCatalog
        );
    assert_eq!(operation.repository.is_some(), needs_repository, "{line}");
    if let Some(repository) = &operation.repository {
        assert!(!repository.as_str().contains("..") && !repository.as_str().contains('%'));
    }
    if let Route::ListTags { page, .. }
    | Route::ListTagObjects { page, .. }
    | Route::ListCatalog { page, .. }
    | Route::ListDeletedCatalog { page }
    | Route::ListDeletedTags { page, .. } = &route
    {
        assert!(page.limit <= MAX_PAGE);
        assert!(page.link("/v2/a/tags/list", page.last.as_deref().unwrap_or("x"), &[]).is_some());
    }
}

fn host(text: &str) {
    let Some(host) = Host::parse(text) else { return };
    assert_eq!(Host::parse(&host.to_string()).as_ref(), Some(&host));
    let operation = Operation::registry(OperationKind::ListCatalog);
    let header = challenge(
        &host,
        "reg.azurecr.io.localhost",
        &operation,
        operation.kind.challenge(),
        ChallengeError::InvalidToken,
    );
    // Nothing in it ends the quotes early.
    assert!(header.is_some_and(|header| header.to_str().is_ok_and(|text| text.matches('"').count() == 8)));
    assert!(missing_access(&operation, operation.kind.challenge()).is_some());
}

/// The first byte chooses the media type, the rest is the manifest; all of it is a config, too.
pub fn manifests(data: &[u8]) {
    const TYPES: [&str; 4] = [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8",
    ];
    let Some((first, body)) = data.split_first() else { return };
    let (architecture, os) = platform(body);
    assert!([architecture, os].iter().flatten().all(|word| word.bytes().all(|byte| byte.is_ascii_graphic())));
    let content_type = TYPES.into_iter().cycle().nth(usize::from(*first) % TYPES.len()).unwrap_or_default();
    let body = Bytes::copy_from_slice(body);
    let Ok(parsed) = parse(Some(content_type), body.clone(), Algorithm::Sha256) else { return };
    let facts = parsed.facts;
    assert_eq!(facts.bytes, body, "stored as it came");
    let hex = Sha256::digest(&body).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(facts.digest.hex(), hex);
    assert!(facts.blobs.len() <= MAX_LAYERS + 1 && facts.children.len() <= MAX_CHILDREN);
    assert!(facts.annotations.is_none_or(|text| text.len() <= MAX_ANNOTATION_BYTES));
    assert!(HeaderValue::try_from(&facts.media_type).is_ok());
    for media_type in [facts.artifact_type, facts.config_media_type].into_iter().flatten() {
        assert!(HeaderValue::try_from(media_type).is_ok());
    }
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("requests", super::requests);
        super::kept::each("manifests", super::manifests);
    }
}

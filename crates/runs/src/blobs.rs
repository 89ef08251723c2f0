//! Files that clients upload for runs, and logs that they read, the way a storage service has them: whoever has a link may use it.
//!
//! ```text
//!  PUT /postern/v1/blobs/<registry>/source/<name>.tar.gz?…&sig=…     comp=block&blockid=…, comp=blocklist
//!  GET /postern/v1/blobs/<registry>/logs/<run>.log?…&sig=…           x-ms-range
//! ```
//!
//! Source: Azure Storage, Blob service REST API: Put Blob, Put Block, Put Block List, Get Blob, Get Blob Properties; Azure CLI 2.91,
//! observed (read 2026-11).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use postern_access::InvalidCredential;
use postern_identity::{FileAccess, FileLink};
use postern_model::{RegistryUid, Timestamp};
use postern_store::{ContextWriter, LogFile, MAX_CONTEXT_BYTES, Missing, Run, StoreError};
use tokio::task::spawn_blocking;

use crate::request::{UPLOAD_SUFFIX, UPLOADS};
use crate::show::completion;
use crate::{Runs, RunsError};

/// How long a link to upload with is good for, in seconds.
const UPLOAD_LINK_SECONDS: i64 = 3600;
/// How long a link to a log is good for, in seconds.
///
/// Source: Azure Container Registry, Runs, Get Log SAS URL, observed: about 75 minutes (read 2026-11).
const LOG_LINK_SECONDS: i64 = 75 * 60;
/// Largest file in one request, and largest block.
const MAX_PIECE_BYTES: u64 = 64 << 20;
/// Largest list of blocks.
const MAX_LIST_BYTES: usize = 4 << 20;
/// Longest query.
const MAX_QUERY_BYTES: usize = 8192;
/// Bytes that are read from a file at once.
const PIECE_BYTES: u64 = 256 << 10;
const ROOT: &str = "/postern/v1/blobs";
const VERSION: &str = "2026-04-06";

/// Method and path of every operation on files.
pub const BLOB_ENDPOINTS: [(&str, &str); 3] = [
    ("PUT", "/postern/v1/blobs/{registry}/source/{name}"),
    ("GET", "/postern/v1/blobs/{registry}/logs/{name}"),
    ("HEAD", "/postern/v1/blobs/{registry}/logs/{name}"),
];

pub(crate) fn router(runs: Runs) -> Router {
    let [(_, upload), (_, log), _] = BLOB_ENDPOINTS;
    Router::new()
        .route(upload, put(write))
        .route(log, get(read_log))
        .layer(DefaultBodyLimit::disable())
        .with_state(runs)
}

/// Where files for a run go.
pub struct UploadTarget {
    /// The path and query of the link, to be put behind this server's address.
    pub link: String,
    /// What the request for the run names them by.
    pub relative_path: String,
}

impl Runs {
    /// A link to upload the files for a run with.
    pub fn upload_target(&self, registry: RegistryUid) -> UploadTarget {
        let name = self.0.store.runs().contexts().new_name();
        let relative_path = format!("{UPLOADS}{name}{UPLOAD_SUFFIX}");
        let path = format!("{ROOT}/{registry}/{relative_path}");
        let query = self.0.identity.file_link(&path, FileAccess::Write, UPLOAD_LINK_SECONDS, self.now());
        UploadTarget { link: format!("{path}?{query}"), relative_path }
    }

    /// The path and query of a link to a run's log, to be put behind this server's address.
    pub fn log_link(&self, run: &Run) -> String {
        let path = format!("{ROOT}/{}/logs/{}.log", run.registry, run.number);
        let query = self.0.identity.file_link(&path, FileAccess::Read, LOG_LINK_SECONDS, self.now());
        format!("{path}?{query}")
    }
}

/// What a request is refused with.
#[derive(Clone, Copy)]
enum Refusal {
    Unauthenticated,
    Expired,
    NotFound,
    BadQuery,
    NotABlockBlob,
    LengthRequired,
    TooLarge,
    BadList,
    Full,
    Broken,
    Internal,
    Range(u64),
}

impl Refusal {
    /// Source: Azure Storage, "Common REST API error codes", "Blob service error codes" (read 2026-11).
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated => (
                StatusCode::FORBIDDEN,
                "AuthenticationFailed",
                "Server failed to authenticate the request. Make sure the signature of the link is formed correctly.",
            ),
            Self::Expired => (StatusCode::FORBIDDEN, "AuthenticationFailed", "The link has expired."),
            Self::NotFound => (StatusCode::NOT_FOUND, "BlobNotFound", "The specified blob does not exist."),
            Self::BadQuery => (
                StatusCode::BAD_REQUEST,
                "InvalidQueryParameterValue",
                "Value for one of the query parameters specified in the request URI is invalid.",
            ),
            Self::NotABlockBlob => (
                StatusCode::BAD_REQUEST,
                "InvalidHeaderValue",
                "The value for one of the HTTP headers is not in the correct format: x-ms-blob-type must be BlockBlob.",
            ),
            Self::LengthRequired => {
                (StatusCode::LENGTH_REQUIRED, "MissingContentLengthHeader", "Content-Length HTTP header is missing.")
            }
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestBodyTooLarge",
                "The request body is too large and exceeds the maximum permissible limit.",
            ),
            Self::BadList => (StatusCode::BAD_REQUEST, "InvalidBlockList", "The specified block list is invalid."),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", "There is no room for the blob."),
            Self::Broken => (StatusCode::BAD_REQUEST, "IncompleteBody", "The request body ended early."),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "Server encountered an internal error.")
            }
            Self::Range(_) => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidRange",
                "The range specified is invalid for the current size of the resource.",
            ),
        }
    }

    fn answer(self) -> Response {
        let (status, code, message) = self.row();
        let body = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        let headers =
            [(header::CONTENT_TYPE.as_str(), "application/xml"), ("x-ms-error-code", code), ("x-ms-version", VERSION)];
        let mut response = (status, headers, body).into_response();
        if let Self::Range(length) = self
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{length}"))
        {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge { .. } => Self::TooLarge,
            StoreError::NotFound(Missing::Upload) => Self::BadList,
            error if error.is_storage_full() => Self::Full,
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "a file cannot be stored or read");
                Self::Internal
            }
        }
    }
}

impl From<RunsError> for Refusal {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::Store(error) => error.into(),
            RunsError::Invalid(_) | RunsError::NotFound(_) | RunsError::Conflict(_) => Self::NotFound,
        }
    }
}

/// A query's parameters, decoded once.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let query = query.unwrap_or_default();
        if query.len() > MAX_QUERY_BYTES {
            return Err(Refusal::BadQuery);
        }
        let decode = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map_err(|_| Refusal::BadQuery)?;
            Ok::<_, Refusal>(text.into_owned())
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, Refusal>>().map(Self)
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Whether the request has a link to this path.
fn allowed(runs: &Runs, path: &str, parameters: &Parameters, access: FileAccess) -> Result<(), Refusal> {
    let link =
        FileLink { expires: parameters.get("se"), access: parameters.get("sp"), signature: parameters.get("sig") };
    runs.0.identity.file_linked(path, access, link, runs.now()).map_err(|why| match why {
        InvalidCredential::Expired => Refusal::Expired,
        _ => Refusal::Unauthenticated,
    })
}

async fn write(
    State(runs): State<Runs>,
    Path((registry, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let written = upload(&runs, &registry, &name, query.as_deref(), &parts, body).await;
    let modified = runs.now();
    match written {
        Ok(()) => {
            let mut response = StatusCode::CREATED.into_response();
            let etag = format!("\"0x{:X}\"", modified.unix_micros());
            let headers = response.headers_mut();
            headers.extend(HeaderValue::try_from(etag).ok().map(|etag| (header::ETAG, etag)));
            headers.extend(HeaderValue::try_from(http_date(modified)).ok().map(|date| (header::LAST_MODIFIED, date)));
            headers.insert("x-ms-version", HeaderValue::from_static(VERSION));
            headers.insert("x-ms-request-server-encrypted", HeaderValue::from_static("false"));
            response
        }
        Err(refusal) => refusal.answer(),
    }
}

async fn upload(
    runs: &Runs,
    registry: &str,
    file: &str,
    query: Option<&str>,
    parts: &Parts,
    body: Body,
) -> Result<(), Refusal> {
    let parameters = Parameters::read(query)?;
    allowed(runs, &format!("{ROOT}/{registry}/{UPLOADS}{file}"), &parameters, FileAccess::Write)?;
    let registry: RegistryUid = registry.parse().map_err(|_| Refusal::NotFound)?;
    let name = file.strip_suffix(UPLOAD_SUFFIX).ok_or(Refusal::NotFound)?;
    let contexts = runs.0.store.runs().contexts();
    match parameters.get("comp") {
        "" => {
            let is_block_blob = header_of(&parts.headers, "x-ms-blob-type").is_some_and(|kind| kind == "BlockBlob");
            if !is_block_blob {
                return Err(Refusal::NotABlockBlob);
            }
            let length = length_of(&parts.headers)?;
            save(contexts.write(registry, name, length).await?, body, length).await
        }
        "block" => {
            let block = parameters.get("blockid");
            if block.is_empty() {
                return Err(Refusal::BadQuery);
            }
            let length = length_of(&parts.headers)?;
            save(contexts.write_block(registry, name, block, length).await?, body, length).await
        }
        "blocklist" => {
            let list = http_body_util::Limited::new(body, MAX_LIST_BYTES).collect().await;
            let list = list.map_err(|_| Refusal::TooLarge)?.to_bytes();
            let list = std::str::from_utf8(&list).map_err(|_| Refusal::BadList)?;
            Ok(contexts.assemble(registry, name, blocks_of(list).ok_or(Refusal::BadList)?).await?)
        }
        _ => Err(Refusal::BadQuery),
    }
}

fn header_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn length_of(headers: &HeaderMap) -> Result<u64, Refusal> {
    let length = header_of(headers, "content-length").ok_or(Refusal::LengthRequired)?;
    let length: u64 = length.parse().map_err(|_| Refusal::LengthRequired)?;
    if length > MAX_PIECE_BYTES.min(MAX_CONTEXT_BYTES) { Err(Refusal::TooLarge) } else { Ok(length) }
}

/// Writes a body as it comes.
async fn save(mut writer: ContextWriter, mut body: Body, length: u64) -> Result<(), Refusal> {
    let mut written = 0;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|_| Refusal::Broken)?.into_data() else { continue };
        written += bytes.len() as u64;
        writer = writer.write(bytes).await?;
    }
    if written != length {
        return Err(Refusal::Broken);
    }
    Ok(writer.commit().await?)
}

/// `<BlockList><Latest>B</Latest>…</BlockList>`: the ids, in their order.
pub(crate) fn blocks_of(list: &str) -> Option<Vec<String>> {
    let list = list.trim_start_matches('\u{feff}').trim_start();
    let list = match list.strip_prefix("<?") {
        Some(declaration) => declaration.split_once("?>")?.1.trim_start(),
        None => list,
    };
    let mut rest = match list.strip_prefix("<BlockList") {
        Some(rest) => rest.split_once('>')?,
        None => return None,
    };
    if rest.0.ends_with('/') {
        return rest.1.trim().is_empty().then(Vec::new);
    }
    let mut blocks = Vec::new();
    loop {
        let text = rest.1.trim_start();
        if let Some(end) = text.strip_prefix("</BlockList>") {
            return end.trim().is_empty().then_some(blocks);
        }
        let (name, behind) = text.strip_prefix('<')?.split_once('>')?;
        if !["Latest", "Committed", "Uncommitted"].contains(&name) {
            return None;
        }
        let (id, behind) = behind.split_once("</")?;
        // Ids are base64: there is nothing to unescape.
        if id.is_empty() || id.contains(['<', '&']) {
            return None;
        }
        blocks.push(id.to_owned());
        let (closed, behind) = behind.split_once('>')?;
        if closed != name {
            return None;
        }
        rest = (name, behind);
    }
}

async fn read_log(
    State(runs): State<Runs>,
    Path((registry, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request<Body>,
) -> Response {
    let (parts, _) = request.into_parts();
    match log(&runs, &registry, &name, query.as_deref(), &parts.headers).await {
        // The body of an answer to HEAD is left out above.
        Ok(response) => response,
        Err(refusal) => refusal.answer(),
    }
}

async fn log(
    runs: &Runs,
    registry: &str,
    file: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(query)?;
    allowed(runs, &format!("{ROOT}/{registry}/logs/{file}"), &parameters, FileAccess::Read)?;
    let registry: RegistryUid = registry.parse().map_err(|_| Refusal::NotFound)?;
    let id = file.strip_suffix(".log").ok_or(Refusal::NotFound)?;
    // The run first: a log of a run that has ended grows no more.
    let run = runs.find(registry, id).await?.ok_or(Refusal::NotFound)?;
    let log = runs.0.store.runs().read_log(registry, run.number).await?.ok_or(Refusal::NotFound)?;
    let LogFile { file, length, modified } = log;
    let range = header_of(headers, "x-ms-range").or_else(|| header_of(headers, "range"));
    let range = range.map(|range| range_of(range, length)).transpose()?.flatten();
    let (from, until) = range.unwrap_or((0, length));
    let mut response = Response::new(Body::from_stream(stream(file, from, until)));
    *response.status_mut() = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = format!("\"0x{:X}{length:X}\"", modified.as_micros());
    let modified = Timestamp::from_unix_seconds(i64::try_from(modified.as_secs()).unwrap_or(0));
    let mut put = |name: &'static str, value: String| {
        response
            .headers_mut()
            .extend(HeaderValue::try_from(value).ok().map(|value| (http::HeaderName::from_static(name), value)));
    };
    put("content-type", "text/plain; charset=utf-8".into());
    put("content-length", (until - from).to_string());
    put("etag", etag);
    put("last-modified", http_date(modified));
    put("accept-ranges", "bytes".into());
    put("x-ms-blob-type", "AppendBlob".into());
    put("x-ms-version", VERSION.into());
    if range.is_some() {
        put("content-range", format!("bytes {from}-{}/{length}", until.saturating_sub(1)));
    }
    if let Some(completion) = completion(run.status) {
        put("x-ms-meta-complete", completion.into());
    }
    Ok(response)
}

/// `bytes=a-b`, `bytes=a-`: where it begins and ends, or none for what is no such range.
fn range_of(text: &str, length: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let (Ok(first), last) = (first.trim().parse::<u64>(), last.trim()) else { return Ok(None) };
    let last = if last.is_empty() { u64::MAX } else { last.parse().map_err(|_| Refusal::Range(length))? };
    if first >= length || last < first {
        return Err(Refusal::Range(length));
    }
    Ok(Some((first, last.saturating_add(1).min(length))))
}

/// A part of a file, piece by piece.
pub(crate) fn stream(file: Arc<File>, from: u64, until: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    unfold((file, from), move |(file, at)| async move {
        let left = until.saturating_sub(at);
        if left == 0 {
            return None;
        }
        let length = usize::try_from(left.min(PIECE_BYTES)).unwrap_or(usize::MAX);
        let read = spawn_blocking(move || {
            let mut piece = vec![0; length];
            let outcome = file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
            (file, outcome)
        });
        match read.await {
            Ok((file, Ok(piece))) => {
                let next = at + piece.len() as u64;
                Some((Ok(piece), (file, next)))
            }
            Ok((file, Err(error))) => Some((Err(error), (file, until))),
            Err(error) => {
                tracing::error!(error = %error, "a file cannot be read");
                None
            }
        }
    })
}

/// `Sun, 22 Nov 2026 01:02:03 GMT`.
fn http_date(time: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time.to_string();
    let mut parts = text.split(['-', 'T', '.']);
    let mut next = || parts.next().unwrap_or_default();
    let (year, month, day, clock) = (next(), next(), next(), next());
    let weekday = time.unix_seconds().div_euclid(24 * 3600).rem_euclid(7);
    let weekday = usize::try_from(weekday).ok().and_then(|day| DAYS.get(day)).unwrap_or(&"Thu");
    let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"Jan");
    format!("{weekday}, {day} {month} {year} {clock} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(http_date(Timestamp::from_unix_seconds(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(Timestamp::from_unix_seconds(1_795_308_729)), "Sun, 22 Nov 2026 00:52:09 GMT");
    }

    #[test]
    fn ranges() {
        let check = |text: &str, expected: Option<Option<(u64, u64)>>| {
            assert_eq!(range_of(text, 10).ok(), expected, "{text}");
        };
        check("bytes=0-3", Some(Some((0, 4))));
        check("bytes=4-", Some(Some((4, 10))));
        check("bytes=9-4095", Some(Some((9, 10))));
        check("bytes=10-11", None);
        check("bytes=3-2", None);
        check("bytes=3-x", None);
        check("bytes=-3", Some(None));
        check("lines=1-2", Some(None));
    }

    #[test]
    fn block_lists() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let blocks = blocks_of(text);
            let blocks: Option<Vec<&str>> = blocks.as_ref().map(|blocks| blocks.iter().map(String::as_str).collect());
            assert_eq!(blocks.as_deref(), expected, "{text}");
        };
        let declared = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n <Latest>QQ==</Latest><Uncommitted>Qg==</Uncommitted> </BlockList>\n";
        check(declared, Some(&["QQ==", "Qg=="]));
        check("<BlockList></BlockList>", Some(&[]));
        check("<BlockList />", Some(&[]));
        for bad in [
            "",
            "<BlockList>",
            "<BlockList><Latest></Latest></BlockList>",
            "<BlockList><Latest>a</Uncommitted></BlockList>",
            "<BlockList><Other>a</Other></BlockList>",
            "<BlockList><Latest>a</Latest></BlockList>x",
            "<BlockList><Latest>a&amp;</Latest></BlockList>",
            "<BlockList><Latest>a",
        ] {
            check(bad, None);
        }
    }
}

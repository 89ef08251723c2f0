use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use postern_access::{Operation, OperationKind};
use postern_model::{Algorithm, Digest, Reference, RepositoryName, Tag, UploadId};
use postern_store::Order;

use crate::error::{Condition, Refusal};
use crate::page::Page;
use crate::query::Pairs;

/// At most so many `tag` parameters in one push by digest.
///
/// Source: OCI distribution specification, "Pushing manifests", end-7b: at least 10, 414 beyond (read 2026-11).
pub const MAX_TAGS_PER_PUSH: usize = 10;

const MAX_ARTIFACT_TYPE_BYTES: usize = 256;

/// What a request asks for: method, path and query, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Ping,
    ExchangeToken,
    IssueToken(TokenForm),
    ListCatalog { family: Family, page: Page },
    ListTags { repository: RepositoryName, page: Page },
    ListReferrers { repository: RepositoryName, subject: Digest, artifact_type: Option<String>, page: Page },
    PullManifest { repository: RepositoryName, reference: Reference, want: Want },
    PushManifest { repository: RepositoryName, reference: Reference, tags: Vec<Tag> },
    DeleteManifest { repository: RepositoryName, digest: Digest },
    Untag { repository: RepositoryName, tag: Tag },
    PullBlob { repository: RepositoryName, digest: Digest, want: Want },
    DeleteBlob { repository: RepositoryName, digest: Digest },
    StartUpload { repository: RepositoryName, start: UploadStart },
    UploadStatus { repository: RepositoryName, upload: UploadId },
    AppendUpload { repository: RepositoryName, upload: UploadId },
    FinishUpload { repository: RepositoryName, upload: UploadId, digest: Digest },
    CancelUpload { repository: RepositoryName, upload: UploadId },
    ReadRepository { repository: RepositoryName },
    ChangeRepository { repository: RepositoryName },
    DeleteRepository { repository: RepositoryName },
    ListTagObjects { repository: RepositoryName, digest: Option<Digest>, page: Page },
    ReadTag { repository: RepositoryName, tag: Tag },
    ChangeTag { repository: RepositoryName, tag: Tag },
    ListManifestObjects { repository: RepositoryName, page: Page },
    ReadManifest { repository: RepositoryName, digest: Digest },
    ChangeManifest { repository: RepositoryName, digest: Digest },
    ListDeletedCatalog { page: Page },
    ListDeletedManifests { repository: RepositoryName, page: Page },
    ListDeletedTags { repository: RepositoryName, page: Page },
    RestoreDeleted { repository: RepositoryName, digest: Digest, force: bool },
}

/// Which of the two APIs a list is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Distribution,
    Repository,
}

/// `GET` or `HEAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Content,
    HeadersOnly,
}

/// How a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenForm {
    /// `GET`: parameters in the query, credentials in the `Authorization` header.
    Query,
    /// `POST`: everything in the form.
    Form,
}

/// What a new upload begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UploadStart {
    /// Nothing; bytes follow in later requests.
    Empty(Algorithm),
    /// The whole blob is in this request.
    Whole(Digest),
    /// The blob is to be taken from another repository.
    Mount { digest: Digest, from: Option<RepositoryName> },
}

impl Route {
    /// Whether this is a later step of an upload.
    pub(crate) const fn continues_upload(&self) -> bool {
        matches!(
            self,
            Self::UploadStatus { .. }
                | Self::AppendUpload { .. }
                | Self::FinishUpload { .. }
                | Self::CancelUpload { .. }
        )
    }

    /// Parses a request line.
    ///
    /// A repository's name may hold segments such as `blobs` or `tags`, so that the path is read from its end. `%2F` within a
    /// segment is a slash of the name, never one of the path.
    pub(crate) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let query =
            Pairs::parse(query.unwrap_or_default().as_bytes()).map_err(|_| Refusal::new(Condition::QueryInvalid))?;
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        match segments.as_slice() {
            ["v2"] | ["v2", ""] => one(method, &[Method::GET, Method::HEAD], || Ok(Self::Ping)),
            ["v2", "_catalog"] => {
                get(method, || Ok(Self::ListCatalog { family: Family::Distribution, page: Page::parse(&query)? }))
            }
            ["v2", name @ .., "tags", "list"] => {
                get(method, || Ok(Self::ListTags { repository: repository(name)?, page: Page::parse(&query)? }))
            }
            ["v2", name @ .., "blobs", "uploads"] | ["v2", name @ .., "blobs", "uploads", ""] => {
                one(method, &[Method::POST], || {
                    Ok(Self::StartUpload { repository: repository(name)?, start: upload_start(&query)? })
                })
            }
            ["v2", name @ .., "blobs", "uploads", id] => upload(method, name, id, &query),
            ["v2", name @ .., "blobs", digest] => blob(method, name, digest),
            ["v2", name @ .., "manifests", reference] => manifest(method, name, reference, &query),
            ["v2", name @ .., "referrers", subject] => get(method, || referrers(name, subject, &query)),
            ["acr", "v1", rest @ ..] => repository_api(method, rest, &query),
            ["oauth2", "exchange"] => one(method, &[Method::POST], || Ok(Self::ExchangeToken)),
            ["oauth2", "token"] => one(method, &[Method::GET, Method::POST], || {
                Ok(Self::IssueToken(if method == Method::GET { TokenForm::Query } else { TokenForm::Form }))
            }),
            _ => Err(Refusal::new(Condition::UnknownEndpoint)),
        }
    }

    /// What the route is to the access decision.
    pub(crate) fn operation(&self) -> Operation {
        use OperationKind as Kind;
        let on = |kind, repository: &RepositoryName, reference: Option<Reference>| {
            Operation::repository(kind, repository.clone(), reference)
        };
        let by_digest = |kind, repository, digest: &Digest| on(kind, repository, Some(Reference::Digest(*digest)));
        let by_tag = |kind, repository, tag: &Tag| on(kind, repository, Some(Reference::Tag(tag.clone())));
        match self {
            Self::Ping => Operation::registry(Kind::Ping),
            Self::ExchangeToken => Operation::registry(Kind::ExchangeToken),
            Self::IssueToken(_) => Operation::registry(Kind::IssueToken),
            Self::ListCatalog { .. } => Operation::registry(Kind::ListCatalog),
            Self::ListTags { repository, .. } => on(Kind::ListTags, repository, None),
            Self::ListReferrers { repository, subject, .. } => by_digest(Kind::ListReferrers, repository, subject),
            Self::PullManifest { repository, reference, .. } => {
                on(Kind::PullManifest, repository, Some(reference.clone()))
            }
            Self::PushManifest { repository, reference, .. } => {
                on(Kind::PushManifest, repository, Some(reference.clone()))
            }
            Self::DeleteManifest { repository, digest } => by_digest(Kind::DeleteManifest, repository, digest),
            Self::Untag { repository, tag } => by_tag(Kind::Untag, repository, tag),
            Self::PullBlob { repository, digest, .. } => by_digest(Kind::PullBlob, repository, digest),
            Self::DeleteBlob { repository, digest } => by_digest(Kind::DeleteBlob, repository, digest),
            Self::FinishUpload { repository, digest, .. } => by_digest(Kind::PushBlob, repository, digest),
            Self::StartUpload { repository, .. }
            | Self::UploadStatus { repository, .. }
            | Self::AppendUpload { repository, .. }
            | Self::CancelUpload { repository, .. } => on(Kind::PushBlob, repository, None),
            Self::ReadRepository { repository }
            | Self::ListTagObjects { repository, .. }
            | Self::ListManifestObjects { repository, .. } => on(Kind::ReadMetadata, repository, None),
            Self::ReadTag { repository, tag } => by_tag(Kind::ReadMetadata, repository, tag),
            Self::ReadManifest { repository, digest } => by_digest(Kind::ReadMetadata, repository, digest),
            Self::ChangeRepository { repository } => on(Kind::WriteMetadata, repository, None),
            Self::ChangeTag { repository, tag } => by_tag(Kind::WriteMetadata, repository, tag),
            Self::ChangeManifest { repository, digest } => by_digest(Kind::WriteMetadata, repository, digest),
            Self::DeleteRepository { repository } => on(Kind::DeleteRepository, repository, None),
            Self::ListDeletedCatalog { .. } => Operation::registry(Kind::ListDeletedCatalog),
            Self::ListDeletedManifests { repository, .. } | Self::ListDeletedTags { repository, .. } => {
                on(Kind::ListDeleted, repository, None)
            }
            Self::RestoreDeleted { repository, digest, .. } => by_digest(Kind::RestoreDeleted, repository, digest),
        }
    }
}

fn one(method: &Method, allowed: &[Method], route: impl FnOnce() -> Result<Route, Refusal>) -> Result<Route, Refusal> {
    if allowed.contains(method) { route() } else { Err(Refusal::method(allowed)) }
}

fn get(method: &Method, route: impl FnOnce() -> Result<Route, Refusal>) -> Result<Route, Refusal> {
    one(method, &[Method::GET], route)
}

fn want(method: &Method) -> Want {
    if method == Method::HEAD { Want::HeadersOnly } else { Want::Content }
}

fn blob(method: &Method, name: &[&str], digest_text: &str) -> Result<Route, Refusal> {
    one(method, &[Method::GET, Method::HEAD, Method::DELETE], || {
        let (repository, digest) = (repository(name)?, digest(&segment(digest_text)?)?);
        Ok(match *method {
            Method::DELETE => Route::DeleteBlob { repository, digest },
            _ => Route::PullBlob { repository, digest, want: want(method) },
        })
    })
}

fn manifest(method: &Method, name: &[&str], reference: &str, query: &Pairs) -> Result<Route, Refusal> {
    one(method, &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE], || {
        let (repository, text) = (repository(name)?, segment(reference)?);
        let reference = if text.contains(':') {
            Reference::Digest(digest(&text)?)
        } else {
            // What cannot exist is not found; what cannot be made is invalid.
            let invalid = if method == Method::PUT { Condition::TagInvalid } else { Condition::ManifestUnknown };
            Reference::Tag(text.parse().map_err(|_| Refusal::new(invalid))?)
        };
        Ok(match (method, reference) {
            (&Method::PUT, Reference::Digest(digest)) => {
                Route::PushManifest { repository, reference: Reference::Digest(digest), tags: pushed_tags(query)? }
            }
            (&Method::PUT, reference) => Route::PushManifest { repository, reference, tags: Vec::new() },
            (&Method::DELETE, Reference::Digest(digest)) => Route::DeleteManifest { repository, digest },
            (&Method::DELETE, Reference::Tag(tag)) => Route::Untag { repository, tag },
            (_, reference) => Route::PullManifest { repository, reference, want: want(method) },
        })
    })
}

fn pushed_tags(query: &Pairs) -> Result<Vec<Tag>, Refusal> {
    let mut tags: Vec<Tag> = Vec::new();
    for (at, text) in query.all("tag").enumerate() {
        if at == MAX_TAGS_PER_PUSH {
            return Err(Refusal::new(Condition::TooManyTags));
        }
        let tag = tag(text)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn upload_start(query: &Pairs) -> Result<UploadStart, Refusal> {
    if let Some(text) = query.get("mount") {
        // A source that cannot exist is a source that does not.
        let from = query.get("from").and_then(|from| from.parse().ok());
        return Ok(UploadStart::Mount { digest: digest(text)?, from });
    }
    if let Some(text) = query.get("digest") {
        return Ok(UploadStart::Whole(digest(text)?));
    }
    let algorithm = query.get("digest-algorithm").map_or(Ok(Algorithm::Sha256), str::parse);
    algorithm.map(UploadStart::Empty).map_err(|error| Refusal::new(Condition::DigestInvalid).with_detail(error))
}

fn upload(method: &Method, name: &[&str], id: &str, query: &Pairs) -> Result<Route, Refusal> {
    one(method, &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE], || {
        let repository = repository(name)?;
        let upload = segment(id)?.parse().map_err(|_| Refusal::new(Condition::UploadUnknown))?;
        Ok(match *method {
            Method::PATCH => Route::AppendUpload { repository, upload },
            Method::PUT => {
                let digest = digest(query.get("digest").unwrap_or_default())?;
                Route::FinishUpload { repository, upload, digest }
            }
            Method::DELETE => Route::CancelUpload { repository, upload },
            _ => Route::UploadStatus { repository, upload },
        })
    })
}

fn referrers(name: &[&str], subject: &str, query: &Pairs) -> Result<Route, Refusal> {
    let artifact_type = query.non_empty("artifactType");
    if artifact_type.is_some_and(|text| text.len() > MAX_ARTIFACT_TYPE_BYTES) {
        return Err(Refusal::new(Condition::QueryInvalid).with_detail("artifactType is too long"));
    }
    Ok(Route::ListReferrers {
        repository: repository(name)?,
        subject: digest(&segment(subject)?)?,
        artifact_type: artifact_type.map(str::to_owned),
        page: Page::parse(query)?,
    })
}

/// `/acr/v1/_deleted/…`.
fn deleted(method: &Method, rest: &[&str], query: &Pairs) -> Result<Route, Refusal> {
    match rest {
        ["_catalog"] => get(method, || Ok(Route::ListDeletedCatalog { page: Page::parse(query)? })),
        [name @ .., "_manifests"] => {
            get(method, || Ok(Route::ListDeletedManifests { repository: repository(name)?, page: Page::parse(query)? }))
        }
        [name @ .., "_tags"] => {
            get(method, || Ok(Route::ListDeletedTags { repository: repository(name)?, page: Page::parse(query)? }))
        }
        [name @ .., "_manifests", text] => one(method, &[Method::POST], || {
            let (repository, digest) = (repository(name)?, digest(&segment(text)?)?);
            // The command-line tool writes `True`.
            let force = match query.get("force") {
                None | Some("") => false,
                Some(word) if word.eq_ignore_ascii_case("false") => false,
                Some(word) if word.eq_ignore_ascii_case("true") => true,
                Some(_) => {
                    return Err(Refusal::new(Condition::QueryInvalid).with_detail("force is neither true nor false"));
                }
            };
            Ok(Route::RestoreDeleted { repository, digest, force })
        }),
        _ => Err(Refusal::new(Condition::UnknownEndpoint)),
    }
}

/// `/acr/v1/…`. No component of a repository's name begins with an underscore, so that nothing is ambiguous here.
fn repository_api(method: &Method, rest: &[&str], query: &Pairs) -> Result<Route, Refusal> {
    const READ_CHANGE: [Method; 2] = [Method::GET, Method::PATCH];
    const READ_CHANGE_DELETE: [Method; 3] = [Method::GET, Method::PATCH, Method::DELETE];
    match rest {
        [] | [""] => Err(Refusal::new(Condition::UnknownEndpoint)),
        ["_deleted", rest @ ..] => deleted(method, rest, query),
        ["_catalog"] => {
            get(method, || Ok(Route::ListCatalog { family: Family::Repository, page: Page::parse(query)? }))
        }
        [name @ .., "_tags"] => get(method, || {
            let digest = query.non_empty("digest").map(digest).transpose()?;
            Ok(Route::ListTagObjects { repository: repository(name)?, digest, page: Page::ordered(query)? })
        }),
        [name @ .., "_tags", text] => one(method, &READ_CHANGE_DELETE, || {
            let (repository, tag) = (repository(name)?, tag(&segment(text)?)?);
            Ok(match *method {
                Method::PATCH => Route::ChangeTag { repository, tag },
                Method::DELETE => Route::Untag { repository, tag },
                _ => Route::ReadTag { repository, tag },
            })
        }),
        [name @ .., "_manifests"] => get(method, || {
            Ok(Route::ListManifestObjects { repository: repository(name)?, page: Page::ordered(query)? })
        }),
        [name @ .., "_manifests", text] => one(method, &READ_CHANGE, || {
            let (repository, digest) = (repository(name)?, digest(&segment(text)?)?);
            Ok(match *method {
                Method::PATCH => Route::ChangeManifest { repository, digest },
                _ => Route::ReadManifest { repository, digest },
            })
        }),
        name => one(method, &READ_CHANGE_DELETE, || {
            let repository = repository(name)?;
            Ok(match *method {
                Method::PATCH => Route::ChangeRepository { repository },
                Method::DELETE => Route::DeleteRepository { repository },
                _ => Route::ReadRepository { repository },
            })
        }),
    }
}

fn repository(segments: &[&str]) -> Result<RepositoryName, Refusal> {
    let decoded: Vec<Cow<'_, str>> = segments.iter().map(|text| segment(text)).collect::<Result<_, _>>()?;
    let name = match decoded.as_slice() {
        [one] => one.parse(),
        several => several.join("/").parse(),
    };
    name.map_err(|error| Refusal::new(Condition::NameInvalid).with_detail(error))
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error| Refusal::new(Condition::DigestInvalid).with_detail(error))
}

fn tag(text: &str) -> Result<Tag, Refusal> {
    text.parse().map_err(|error| Refusal::new(Condition::TagInvalid).with_detail(error))
}

/// Decodes one segment, once. What no name needs is refused instead of being read in one of several ways: encoded dots,
/// controls, anything that is still encoded afterwards, bytes that are no UTF-8.
fn segment(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let bad = || Refusal::new(Condition::PathInvalid);
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    if text.to_ascii_lowercase().contains("%2e") {
        return Err(bad());
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| bad())?;
    if decoded.contains('%') || decoded.chars().any(char::is_control) {
        return Err(bad());
    }
    Ok(decoded)
}

impl Page {
    /// A page of a list that has an `orderby`.
    fn ordered(query: &Pairs) -> Result<Self, Refusal> {
        let order = match query.non_empty("orderby") {
            None | Some("none") => Order::Name,
            Some("timedesc") => Order::NewestFirst,
            Some("timeasc") => Order::OldestFirst,
            Some(_) => {
                return Err(Refusal::new(Condition::QueryInvalid)
                    .with_detail("orderby must be `none`, `timedesc` or `timeasc`"));
            }
        };
        Ok(Self { order, ..Self::parse(query)? })
    }
}

#[cfg(test)]
mod tests;

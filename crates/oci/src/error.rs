use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use postern_access::{ContentCause, ContentState};
use postern_store::{Missing, StoreError};
use serde_json::{Value, json};

/// What clients are told to wait before they try again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// One line of the error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What has happened.
    pub condition: Condition,
    /// The HTTP status.
    pub status: u16,
    /// `code` in the body.
    pub code: &'static str,
    /// `message` in the body; `<…>` stands for what is known at run time.
    pub message: &'static str,
    /// The headers that come with it.
    pub headers: &'static [&'static str],
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident: $status:literal $code:literal $message:literal [$($header:literal),*];)*) => {
        /// Everything that a data-plane request can be refused for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Condition {
            $($(#[$doc])* $name,)*
        }

        impl Condition {
            /// Every condition.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its line in the table.
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$name => Entry {
                        condition: self,
                        status: $status,
                        code: $code,
                        message: $message,
                        headers: &[$($header),*],
                    },)*
                }
            }
        }
    };
}

conditions! {
    /// The `Host` names no registry.
    UnknownRegistry: 404 "NAME_UNKNOWN" "no registry is served under this host name" [];
    /// No such path.
    UnknownEndpoint: 404 "UNSUPPORTED" "there is no such endpoint" [];
    /// The path takes other methods.
    MethodNotAllowed: 405 "UNSUPPORTED" "the operation is unsupported" ["Allow"];
    /// An encoding in the path that no name needs.
    PathInvalid: 400 "NAME_INVALID" "the path is encoded in a way that no name needs" [];
    /// A malformed query or form.
    QueryInvalid: 400 "BAD_REQUEST" "invalid query or form parameter" [];
    /// `n` is no number.
    PageInvalid: 400 "PAGINATION_NUMBER_INVALID" "invalid number of results requested" [];
    /// A repository name outside the grammar.
    NameInvalid: 400 "NAME_INVALID" "invalid repository name" [];
    /// No such repository.
    NameUnknown: 404 "NAME_UNKNOWN" "repository name not known to registry" [];
    /// A tag outside the grammar.
    TagInvalid: 400 "TAG_INVALID" "invalid tag name" [];
    /// No such tag.
    TagUnknown: 404 "TAG_UNKNOWN" "the specified tag does not exist" [];
    /// More `tag` parameters than one push may have.
    TooManyTags: 414 "TAG_INVALID" "too many tags in one request" [];
    /// A digest outside the grammar, or of another algorithm.
    DigestInvalid: 400 "DIGEST_INVALID" "invalid digest" [];
    /// The bytes have another digest.
    DigestMismatch: 400 "DIGEST_INVALID" "provided digest did not match uploaded content" [];
    /// The body is no acceptable manifest.
    ManifestInvalid: 400 "MANIFEST_INVALID" "manifest invalid" [];
    /// No such manifest.
    ManifestUnknown: 404 "MANIFEST_UNKNOWN" "manifest unknown" [];
    /// The manifest names blobs that the repository does not have.
    ManifestBlobUnknown: 404 "MANIFEST_BLOB_UNKNOWN" "manifest references blobs unknown to registry" [];
    /// More than 4 MiB.
    ManifestTooLarge: 413 "SIZE_INVALID" "manifest is larger than 4 MiB" [];
    /// No such blob in the repository.
    BlobUnknown: 404 "BLOB_UNKNOWN" "blob unknown to registry" [];
    /// Deleting it would break a manifest.
    BlobReferenced: 405 "UNSUPPORTED" "a manifest of the repository still needs the blob" [];
    /// More bytes than a blob may have.
    BlobTooLarge: 413 "SIZE_INVALID" "blob is larger than the registry accepts" [];
    /// No such open upload of this caller in this repository.
    UploadUnknown: 404 "BLOB_UPLOAD_UNKNOWN" "blob upload unknown to registry" [];
    /// Another request writes to the upload.
    UploadBusy: 409 "BLOB_UPLOAD_INVALID" "another request is writing to the upload" ["Retry-After"];
    /// The chunk is not the next one.
    ChunkOutOfOrder: 416 "BLOB_UPLOAD_INVALID" "the chunk does not begin where the upload stands" ["Location", "Range"];
    /// The chunk is longer or shorter than it says.
    ChunkLength: 400 "SIZE_INVALID" "the chunk's length is not that of its Content-Range" ["Location", "Range"];
    /// The caller has too many open uploads.
    TooManyUploads: 429 "TOOMANYREQUESTS" "too many open uploads" ["Retry-After"];
    /// The caller has too many bytes in open uploads.
    TooManyUploadBytes: 429 "TOOMANYREQUESTS" "too many bytes in open uploads" ["Retry-After"];
    /// None of the requested bytes exist.
    RangeNotSatisfiable: 416 "RANGE_INVALID" "the requested range is outside the blob" ["Content-Range"];
    /// The connection broke, or the body did not come as announced.
    BodyIncomplete: 400 "SIZE_INVALID" "the request body ended early" ["Location", "Range"];
    /// A body larger than its endpoint reads.
    BodyTooLarge: 413 "SIZE_INVALID" "the request body is too large" [];
    /// A body that is not what its endpoint reads.
    BodyInvalid: 400 "BAD_REQUEST" "invalid request body" [];
    /// No credentials, or credentials that do not hold.
    Unauthorized: 401 "UNAUTHORIZED"
        "authentication required, visit https://aka.ms/acr/authorization for more information." ["Www-Authenticate"];
    /// The token lacks the access; the challenge says which.
    InsufficientScope: 401 "UNAUTHORIZED"
        "authentication required, visit https://aka.ms/acr/authorization for more information." ["Www-Authenticate"];
    /// The token endpoint was not given credentials that hold.
    TokenRefused: 401 "UNAUTHORIZED"
        "authentication required, visit https://aka.ms/acr/authorization for more information." [];
    /// A data endpoint serves links that hold, and nothing else.
    LinkRefused: 403 "DENIED" "the link does not hold, or not any more: ask the registry's login server for another one" [];
    /// The caller is known and may not.
    AccessDenied: 403 "DENIED" "requested access to the resource is denied" [];
    /// The network rules refuse.
    AddressRefused: 403 "DENIED"
        "client with IP '<address>' is not allowed access. Refer https://aka.ms/acr/firewall to grant access. CorrelationId: <id>" [];
    /// A lock or the quarantine refuses.
    Disallowed: 405 "REGISTRY_DISALLOWED_OPERATION"
        "The operation is disallowed on this registry, repository or image. View troubleshooting steps at https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation" [];
    /// The manifest was deleted and is kept.
    SoftDeleted: 405 "REGISTRY_DISALLOWED_OPERATION" "the manifest is soft-deleted: restore it, it cannot be pushed again" [];
    /// What the manifest refers to is not there yet.
    SubjectDeleted: 409 "REGISTRY_DISALLOWED_OPERATION" "the manifest refers to one that is soft-deleted: restore that one first" [];
    /// The tag points at another manifest.
    TagExists: 409 "TAG_ALREADY_EXISTS" "the tag exists and points at another manifest: use force to overwrite it" [];
    /// Too many wrong passwords came from the source.
    TooManyRequests: 429 "TOOMANYREQUESTS" "too many failed attempts" ["Retry-After"];
    /// More requests than the registry's tier lets through.
    RequestsThrottled: 429 "TOOMANYREQUESTS" "too many requests to the registry" ["Retry-After"];
    /// The disk is full.
    StorageFull: 507 "UNAVAILABLE" "the registry's storage is full" [];
    /// The server is stopping.
    Unavailable: 503 "UNAVAILABLE" "the service is not available" ["Retry-After"];
    /// A defect or a failing disk; the log has the cause under the request's id.
    Internal: 500 "UNKNOWN" "internal error" [];
}

/// The error table, in the order in which the reference shows it.
///
/// Source: OCI distribution specification, "Error Codes"; Azure Container Registry's texts as clients print them (read 2026-11).
pub fn table() -> impl Iterator<Item = Entry> {
    Condition::ALL.iter().map(|condition| condition.entry())
}

/// A request refused: the condition and what is special about this one.
#[derive(Debug)]
pub(crate) struct Refusal {
    condition: Condition,
    // Results carry refusals everywhere: a pointer keeps them small.
    more: Box<More>,
}

#[derive(Debug, Default)]
struct More {
    message: Option<String>,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    lock: Option<(ContentCause, ContentState)>,
    source: Option<StoreError>,
}

impl Refusal {
    pub(crate) fn new(condition: Condition) -> Self {
        let headers = match condition.entry().headers {
            ["Retry-After"] => vec![(RETRY_AFTER, RETRY_AFTER_SECONDS)],
            _ => Vec::new(),
        };
        Self { condition, more: Box::new(More { headers, ..More::default() }) }
    }

    pub(crate) fn method(allowed: &[Method]) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        Self::new(Condition::MethodNotAllowed).with_header(ALLOW, HeaderValue::try_from(names.join(", ")).ok())
    }

    /// Token requests or passwords that are not looked at for so long.
    pub(crate) fn throttled(retry_after_seconds: i64) -> Self {
        let mut refusal = Self::new(Condition::TooManyRequests);
        refusal.more.headers = vec![(RETRY_AFTER, HeaderValue::from(retry_after_seconds))];
        refusal
    }

    /// A request beyond what the registry's tier lets through, for so long.
    pub(crate) fn too_many(retry_after_seconds: i64) -> Self {
        let mut refusal = Self::new(Condition::RequestsThrottled);
        refusal.more.headers = vec![(RETRY_AFTER, HeaderValue::from(retry_after_seconds))];
        refusal
    }

    /// Another message than the table's, of the same meaning.
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.more.message = Some(message.into());
        self
    }

    /// `detail` as a sentence.
    pub(crate) fn with_detail(self, detail: impl ToString) -> Self {
        self.with_value(Value::String(detail.to_string()))
    }

    /// `detail` as it is.
    pub(crate) fn with_value(mut self, detail: Value) -> Self {
        self.more.detail = Some(detail);
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: Option<HeaderValue>) -> Self {
        self.more.headers.extend(value.map(|value| (name, value)));
        self
    }

    pub(crate) const fn condition(&self) -> Condition {
        self.condition
    }

    /// What refused on the content, if one did, and all that were looked at.
    pub(crate) const fn lock(&self) -> Option<(ContentCause, ContentState)> {
        self.more.lock
    }

    /// The failure behind it, for the log.
    pub(crate) const fn source(&self) -> Option<&StoreError> {
        self.more.source.as_ref()
    }

    pub(crate) fn into_response(self) -> Response {
        let entry = self.condition.entry();
        let message = self.more.message.as_deref().unwrap_or(entry.message);
        let mut error = json!({"code": entry.code, "message": message});
        if let (Some(object), Some(detail)) = (error.as_object_mut(), self.more.detail) {
            object.insert("detail".into(), detail);
        }
        let mut response = Response::new(Body::from(json!({"errors": [error]}).to_string()));
        *response.status_mut() = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        response.headers_mut().extend(self.more.headers);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let mut refusal = match &error {
            StoreError::NotFound(Missing::Repository) => Self::new(Condition::NameUnknown),
            StoreError::NotFound(Missing::Tag) => Self::new(Condition::TagUnknown),
            // Nobody is told that there is something behind the tag of a manifest in quarantine.
            StoreError::NotFound(Missing::Manifest)
            | StoreError::Locked(ContentCause::Quarantined { by_tag: true }, _) => {
                Self::new(Condition::ManifestUnknown)
            }
            StoreError::NotFound(Missing::Blob) => Self::new(Condition::BlobUnknown),
            StoreError::NotFound(Missing::Upload) => Self::new(Condition::UploadUnknown),
            StoreError::Locked(..) => Self::new(Condition::Disallowed),
            StoreError::MissingBlobs(blobs) => {
                let digests: Vec<String> = blobs.iter().map(ToString::to_string).collect();
                Self::new(Condition::ManifestBlobUnknown).with_value(json!({"digests": digests}))
            }
            StoreError::SoftDeleted(_) => Self::new(Condition::SoftDeleted).with_detail(&error),
            StoreError::SubjectDeleted(_) => Self::new(Condition::SubjectDeleted).with_detail(&error),
            StoreError::TagExists(_) => Self::new(Condition::TagExists).with_detail(&error),
            StoreError::BlobReferenced => Self::new(Condition::BlobReferenced),
            StoreError::DigestMismatch { .. } => Self::new(Condition::DigestMismatch).with_detail(&error),
            StoreError::TooLarge { .. } => Self::new(Condition::BlobTooLarge).with_detail(&error),
            StoreError::TooManyUploads { .. } => Self::new(Condition::TooManyUploads).with_detail(&error),
            StoreError::TooManyUploadBytes { .. } => Self::new(Condition::TooManyUploadBytes).with_detail(&error),
            StoreError::Busy => Self::new(Condition::UploadBusy),
            StoreError::BadCursor => Self::new(Condition::QueryInvalid).with_detail(&error),
            StoreError::Interrupted => Self::new(Condition::Unavailable),
            StoreError::Io(_) | StoreError::Database(_) if error.is_storage_full() => Self::new(Condition::StorageFull),
            StoreError::NotFound(Missing::Resource)
            | StoreError::NotPermitted(_)
            | StoreError::NoRepository
            | StoreError::Conflict
            | StoreError::TooManyJobs { .. }
            | StoreError::TooManyDeviceLogins
            | StoreError::LeaseLost
            | StoreError::FolderInUse
            | StoreError::MasterKeyMissing
            | StoreError::WrongMasterKey
            | StoreError::BadMasterKey(_)
            | StoreError::Io(_)
            | StoreError::Database(_)
            | StoreError::Corrupt(_) => Self::new(Condition::Internal),
        };
        if let StoreError::Locked(cause, state) = &error {
            refusal.more.lock = Some((*cause, *state));
        }
        if refusal.condition.entry().status >= 500 {
            refusal.more.source = Some(error);
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_has_no_duplicates_and_speaks_the_specifications_words() {
        let mut seen = HashSet::new();
        for entry in table() {
            let key = (entry.status, entry.code, entry.message, entry.headers);
            let is_twin = matches!(entry.condition, Condition::InsufficientScope);
            assert!(seen.insert(key) || is_twin, "{entry:?}");
            assert!((400..600).contains(&entry.status));
            assert!(entry.code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{entry:?}");
        }
        for code in [
            "BLOB_UNKNOWN",
            "BLOB_UPLOAD_INVALID",
            "BLOB_UPLOAD_UNKNOWN",
            "DIGEST_INVALID",
            "MANIFEST_BLOB_UNKNOWN",
            "MANIFEST_INVALID",
            "MANIFEST_UNKNOWN",
            "NAME_INVALID",
            "NAME_UNKNOWN",
            "SIZE_INVALID",
            "UNAUTHORIZED",
            "DENIED",
            "UNSUPPORTED",
            "TOOMANYREQUESTS",
        ] {
            assert!(table().any(|entry| entry.code == code), "{code}");
        }
    }

    #[test]
    fn refusals_are_the_specifications_envelope() {
        let response = Refusal::method(&[Method::GET, Method::HEAD]).into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        let response = Refusal::from(StoreError::Corrupt("digest")).into_response();
        assert_eq!(response.status(), 500);
    }
}

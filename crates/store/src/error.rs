use std::fmt;
use std::io;
use std::sync::Arc;

use postern_access::{ContentCause, ContentState, OperationKind};
use postern_model::{Digest, Tag};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing, or not in this repository.
    #[error("{0} not found")]
    NotFound(Missing),
    /// An attribute of the repository, tag or manifest forbids it; with all attributes that were looked at.
    #[error("{0}")]
    Locked(ContentCause, ContentState),
    /// The permit was given for another operation.
    #[error("the permit is for {}, not for this", .0.as_str())]
    NotPermitted(OperationKind),
    /// The permit names no repository.
    #[error("the permit names no repository")]
    NoRepository,
    /// The manifest names blobs that its repository does not have.
    #[error("{} of the manifest's blobs are not in the repository", .0.len())]
    MissingBlobs(Vec<Digest>),
    /// The tag exists, and was not to be moved.
    #[error("tag `{0}` exists")]
    TagExists(Tag),
    /// The manifest was deleted and is kept: it can be restored, and not pushed.
    #[error("manifest {0} is soft-deleted")]
    SoftDeleted(Box<Digest>),
    /// What the manifest refers to is deleted and has to be restored first.
    #[error("the manifest refers to {0}, which is soft-deleted")]
    SubjectDeleted(Box<Digest>),
    /// A manifest of the repository still needs the blob.
    #[error("a manifest still needs the blob")]
    BlobReferenced,
    /// The bytes have another digest than was announced. The upload is gone.
    #[error("content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// What the client announced.
        expected: Box<Digest>,
        /// What arrived.
        actual: Box<Digest>,
    },
    /// More bytes than a blob or manifest may have.
    #[error("content is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The caller has too many open uploads.
    #[error("more than {limit} open uploads")]
    TooManyUploads {
        /// The limit.
        limit: u32,
    },
    /// The caller has too many bytes in uploads that are not finished.
    #[error("more than {limit_bytes} bytes in open uploads")]
    TooManyUploadBytes {
        /// The limit.
        limit_bytes: u64,
    },
    /// Another request writes to the same upload.
    #[error("the upload is being written to")]
    Busy,
    /// The resource is not in the state the caller expected.
    #[error("the resource has changed meanwhile")]
    Conflict,
    /// Too many jobs of one subject have not ended.
    #[error("more than {limit} jobs that have not ended")]
    TooManyJobs {
        /// The limit.
        limit: u32,
    },
    /// Too many sign-ins on devices wait to be approved.
    #[error("too many sign-ins wait to be approved")]
    TooManyDeviceLogins,
    /// Somebody else carries the job out by now, or it has ended.
    #[error("the job is no longer this one's to carry out")]
    LeaseLost,
    /// The continuation of a list is not one that the store gave out.
    #[error("the list cannot be continued from there")]
    BadCursor,
    /// Another process has the folder open.
    #[error("the data folder is in use by another process")]
    FolderInUse,
    /// There is a database, but the key that seals its secrets is gone.
    #[error("the master key is missing, but the data folder holds secrets sealed with it")]
    MasterKeyMissing,
    /// The key is not the one that sealed the secrets.
    #[error("the master key is not the one that the data folder's secrets are sealed with")]
    WrongMasterKey,
    /// The key file is malformed, or others than its owner may read it.
    #[error("the master key file is not usable: {0}")]
    BadMasterKey(&'static str),
    /// Reading or writing a file failed.
    #[error("file operation failed")]
    Io(#[from] io::Error),
    /// The database failed.
    #[error("database operation failed")]
    Database(#[from] DatabaseError),
    /// What was stored cannot be understood.
    #[error("stored data is not readable: {0}")]
    Corrupt(&'static str),
    /// The process is shutting down.
    #[error("interrupted by shutdown")]
    Interrupted,
}

/// What was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The repository.
    Repository,
    /// The tag.
    Tag,
    /// The manifest.
    Manifest,
    /// The blob.
    Blob,
    /// The open upload.
    Upload,
    /// The resource.
    Resource,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => "repository",
            Self::Tag => "tag",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Upload => "upload",
            Self::Resource => "resource",
        })
    }
}

/// An error of the database, for the log.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(#[from] Cause);

impl StoreError {
    /// Whether there was no room: the same may succeed once there is.
    pub fn is_storage_full(&self) -> bool {
        match self {
            Self::Io(error) => matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Database(DatabaseError(Cause::Statement(error))) => is_full(error),
            Self::Database(DatabaseError(Cause::Shared(error))) => is_full(error),
            _ => false,
        }
    }
}

fn is_full(error: &sqlx::Error) -> bool {
    // The primary result code is the last byte of the extended one.
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == SQLITE_FULL)
}

/// Source: SQLite, "Result and Error Codes" (read 2026-11).
const SQLITE_FULL: u32 = 13;

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    #[error(transparent)]
    Shared(#[from] Arc<sqlx::Error>),
    #[error(transparent)]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DatabaseError(Cause::Statement(error)))
    }
}

/// The transaction that several writes shared was lost.
impl From<Arc<sqlx::Error>> for StoreError {
    fn from(error: Arc<sqlx::Error>) -> Self {
        Self::Database(DatabaseError(Cause::Shared(error)))
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Database(DatabaseError(Cause::Migration(error)))
    }
}

//! The embedded store: metadata in SQLite, blobs on local disk, secrets sealed under a master key.
//!
//! ```text
//!  Permit ──▶ Repository ─┬─▶ caches ──miss──▶ readers ─┐
//!                         ├─▶ one writer ───────────────┴─▶ metadata.db
//!                         └─▶ blob files, written in place, never renamed
//! ```
//!
//! **Invariants.** Content is reached only with a [`Permit`](postern_access::Permit), for the operation it was given for. A
//! blob is seen only through a repository that links it. Whoever writes holds the only writing connection, looks at the locks in that
//! transaction, waits for it to be on disk, and tells the caches before it answers; it runs to its end even when its caller goes away. Files have names
//! that are never used again, and a row names a file before it exists: so collection needs no pause.
//!
//! Deliberately absent: what documents mean, what manifests say, HTTP, the decision whether a caller may.
//!
//! ```no_run
//! # async fn example(permit: postern_access::Permit, options: postern_store::StoreOptions) -> Result<(), postern_store::StoreError> {
//! let store = postern_store::Store::open(options).await?;
//! let manifest = store.repository(&permit)?.manifest(&"1.0".parse().unwrap()).await?;
//! println!("{} {}", manifest.digest, manifest.media_type);
//! # Ok(())
//! # }
//! ```

mod blob_body;
mod blob_files;
mod blobs;
mod cache;
mod collection;
mod credentials;
mod database;
mod deleted;
mod device_logins;
mod directory;
mod error;
mod group;
mod hashing;
mod import;
mod jobs;
mod journal;
mod lists;
mod manifests;
mod purge;
mod quarantine;
mod removal;
mod repository;
mod reserve;
mod resources;
mod runs;
mod store;
mod upload_writer;
mod uploads;
mod vault;

#[cfg(test)]
mod tests;

pub use blob_body::BlobBody;
pub use blobs::BlobFile;
pub use collection::Collected;
pub use credentials::{CredentialInfo, Credentials, Keep};
pub use deleted::{DeletedCatalog, DeletedManifest, DeletedTag};
pub use device_logins::{DeviceAnswer, DeviceLogin, DeviceLogins, DeviceState};
pub use directory::{Change, Directory, DirectoryOptions, Outcome};
pub use error::{DatabaseError, Missing, StoreError};
pub use import::{Import, ImportCredentials, ImportError, ImportExecutor, ImportSource, ImportTarget, Importing};
pub use jobs::{
    Beat, Canceling, Enqueued, Job, JobEnd, JobExecutor, JobId, JobKind, JobLimits, JobState, Jobs, Lease, NewJob,
};
pub use journal::{Journal, JournalEntry};
pub use lists::{
    AttributeChange, Catalog, MAX_ITEMS_PER_PAGE, MAX_NAMES_PER_PAGE, ManifestInfo, Order, Page, PageRequest,
    RepositoryInfo, TagInfo,
};
pub use manifests::{MAX_MANIFEST_BYTES, Manifest, ManifestChild, ManifestFacts, ManifestPut, Referrer};
pub use purge::Purged;
pub use quarantine::QuarantineChange;
pub use removal::Removed;
pub use repository::Repository;
pub use resources::{Expected, ResourceChange, ResourceRow, Resources};
pub use runs::{
    ContextWriter, Contexts, LogFile, MAX_CONTEXT_BYTES, MAX_LOG_BYTES, MAX_LOG_TAIL_BYTES, NewRun, Run, RunEnding,
    RunFilter, RunLog, RunNumber, RunStatus, Runs,
};
pub use store::{Store, StoreOptions};
pub use upload_writer::UploadWriter;
pub use uploads::UploadStatus;
pub use vault::{Unsealed, Vault};

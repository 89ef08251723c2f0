//! What is to be imported, decided already: the order that the control plane gives to whoever carries it out.

use std::future::Future;
use std::pin::Pin;

use postern_access::Permit;
use postern_model::{Reference, RepositoryName, Secret, Tag};

use crate::StoreError;

/// One image to be copied, with everything that belongs to it.
#[derive(Debug)]
pub struct Import {
    /// Where it is.
    pub source: ImportSource,
    /// Which it is there.
    pub reference: Reference,
    /// Where it goes.
    pub targets: Vec<ImportTarget>,
    /// Whether tags that exist are moved. Locks hold either way.
    pub overwrite: bool,
    /// Whether an earlier attempt may have made the tags already: one that is where it should be is then as good as made.
    pub resumed: bool,
}

/// Where an image is copied from.
#[derive(Debug)]
pub enum ImportSource {
    /// A repository of this store, with the permits to read there.
    Here {
        /// For [`postern_access::OperationKind::PullManifest`].
        manifests: Permit,
        /// For [`postern_access::OperationKind::PullBlob`].
        blobs: Permit,
        /// For [`postern_access::OperationKind::ListReferrers`].
        referrers: Permit,
    },
    /// Another server.
    Elsewhere {
        /// Its host, with its port if it has one.
        host: String,
        /// The repository there.
        repository: RepositoryName,
        /// What it is logged in with.
        credentials: Option<ImportCredentials>,
    },
}

/// A login at another server.
#[derive(Debug)]
pub struct ImportCredentials {
    /// The user; none when the password is a token.
    pub user: Option<String>,
    /// The password.
    pub password: Secret,
}

/// A repository that an image is copied into.
#[derive(Debug)]
pub struct ImportTarget {
    /// For [`postern_access::OperationKind::PushBlob`].
    pub blobs: Permit,
    /// For [`postern_access::OperationKind::PushManifest`].
    pub manifests: Permit,
    /// The tags it gets; none for an import by digest only.
    pub tags: Vec<Tag>,
}

/// Why an image was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source does not have it, or not all of it.
    #[error("the source does not have {0}")]
    NotInSource(String),
    /// What the source has cannot be imported.
    #[error("the source's content cannot be imported: {0}")]
    Unsuitable(String),
    /// The source turned the import away.
    #[error("the source refused: {0}")]
    SourceRefused(String),
    /// The source cannot be reached, or must not be called.
    #[error("the source cannot be reached: {0}")]
    Unreachable(String),
    /// The connection to the source broke, again and again. The same may succeed later, and goes on where it was.
    #[error("the connection to the source broke: {0}")]
    Interrupted(String),
    /// A lock of the source.
    #[error("the source is locked: {0}")]
    SourceLocked(StoreError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How an import ends.
pub type Importing = Pin<Box<dyn Future<Output = Result<(), ImportError>> + Send>>;

/// Who carries imports out.
pub trait ImportExecutor: Send + Sync {
    /// Copies the image. What was copied before a failure stays unreferenced and is collected; tags move last.
    fn import(&self, import: Import) -> Importing;
}

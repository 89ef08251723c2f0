use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::Hash;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use postern_access::{Attributes, OperationKind, Permit};
use postern_model::{Clock, Digest, Random, RegistryUid, RepositoryName, Tag, Timestamp, UploadId};

use crate::blob_body::BufferPool;
use crate::blob_files::{BlobFiles, sync_folder};
use crate::blobs::LinkEntry;
use crate::cache::{CacheKey, Coherent};
use crate::credentials::CredentialTable;
use crate::database::{Database, blocking};
use crate::jobs::JobChanges;
use crate::lists::Page;
use crate::manifests::Manifest;
use crate::reserve::Reserve;
use crate::uploads::UploadRow;
use crate::vault::Sealer;
use crate::{Catalog, Credentials, DeletedCatalog, DeviceLogins, Jobs, Repository, Resources, Runs, StoreError, Vault};

/// 200 GiB, the emulated service's largest layer.
///
/// Source: Azure Container Registry, service tiers, "Maximum image layer size" (read 2026-11).
const MAX_BLOB_BYTES: u64 = 200 << 30;
const MAX_UPLOADS_PER_HOLDER: u32 = 1000;
/// 1 TiB: five of the largest blobs at once.
const MAX_OPEN_UPLOAD_BYTES_PER_HOLDER: u64 = 1 << 40;
const UPLOAD_LIFETIME_SECONDS: i64 = 7 * 24 * 3600;
const COLLECTION_GRACE_SECONDS: i64 = 24 * 3600;
const MANIFEST_CACHE_BYTES: u64 = 12 << 20;
const CACHED_NAMES: u64 = 10_000;
const TAG_PAGE_CACHE_BYTES: u64 = 4 << 20;
const CACHED_UPLOADS: u64 = 2_000;

/// Where the store lives and what it may use.
#[derive(Clone)]
pub struct StoreOptions {
    /// The data folder. Made if it is missing; its parent must exist.
    pub folder: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where file names, keys and nonces come from.
    pub random: Arc<dyn Random>,
    /// Largest blob in bytes. Default 200 GiB.
    pub max_blob_bytes: u64,
    /// How many uploads one caller may have open in one registry. Default 1000.
    pub max_uploads_per_holder: u32,
    /// How many bytes one caller may have in open uploads of one registry. Default 1 TiB.
    pub max_open_upload_bytes_per_holder: u64,
    /// How long an upload may stay open, in seconds from its start. Default 7 days.
    pub upload_lifetime_seconds: i64,
    /// How long a blob that no manifest needs stays, in seconds. Default 24 hours.
    ///
    /// A client that saw such a blob (by `HEAD`, upload or mount) has at least half of it to push the manifest.
    pub collection_grace_seconds: i64,
    /// How many bytes of manifests are kept in memory. Default 16 MiB.
    pub manifest_cache_bytes: u64,
}

impl StoreOptions {
    /// The defaults for this folder.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            folder: folder.into(),
            clock,
            random,
            max_blob_bytes: MAX_BLOB_BYTES,
            max_uploads_per_holder: MAX_UPLOADS_PER_HOLDER,
            max_open_upload_bytes_per_holder: MAX_OPEN_UPLOAD_BYTES_PER_HOLDER,
            upload_lifetime_seconds: UPLOAD_LIFETIME_SECONDS,
            collection_grace_seconds: COLLECTION_GRACE_SECONDS,
            manifest_cache_bytes: MANIFEST_CACHE_BYTES,
        }
    }
}

/// The open store. Cheap to clone; the folder is free again when the last clone and every handle is gone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) database: Database,
    pub(crate) files: BlobFiles,
    pub(crate) reserve: Reserve,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) sealer: Sealer,
    pub(crate) credentials: CredentialTable,
    pub(crate) repositories: Coherent<Key<()>, Option<Attributes>>,
    pub(crate) tags: Coherent<Key<Tag>, TagEntry>,
    pub(crate) tag_pages: Coherent<TagPageKey, Arc<Page<Tag>>>,
    pub(crate) manifests: Coherent<Key<Digest>, Arc<Manifest>>,
    pub(crate) links: Coherent<Key<Digest>, LinkEntry>,
    pub(crate) uploads: Coherent<UploadId, Arc<UploadRow>>,
    pub(crate) uploads_in_use: Mutex<HashSet<UploadId>>,
    /// Bytes of uploads being written to that no row counts yet, by registry and holder.
    pub(crate) unsaved_bytes: Mutex<HashMap<(String, String), u64>>,
    pub(crate) swept: AtomicBool,
    pub(crate) job_changes: JobChanges,
    // Last, so that it is let go of after everything else.
    _lock: File,
}

/// What a cache entry belongs to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key<T> {
    pub(crate) registry: RegistryUid,
    pub(crate) repository: RepositoryName,
    pub(crate) item: T,
}

impl<T: Hash + Eq + Send + Sync + 'static> CacheKey for Key<T> {
    type Whole = Self;

    fn whole(&self) -> &Self {
        self
    }
}

impl CacheKey for UploadId {
    type Whole = Self;

    fn whole(&self) -> &Self {
        self
    }
}

/// A page of a repository's tags. Any change of its tags changes all pages.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct TagPageKey {
    pub(crate) repository: Key<()>,
    pub(crate) last: Box<str>,
    pub(crate) limit: u32,
}

impl CacheKey for TagPageKey {
    type Whole = Key<()>;

    fn whole(&self) -> &Key<()> {
        &self.repository
    }
}

/// Where a tag points and what it allows.
#[derive(Clone, Copy)]
pub(crate) struct TagEntry {
    pub(crate) digest: Digest,
    pub(crate) attributes: Attributes,
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Tells whoever waits for jobs that they have changed.
    pub(crate) fn announce_jobs(&self) {
        self.job_changes.announce();
    }

    /// Forgets everything a cache holds: after a change that touches too much to name.
    pub(crate) fn forget_all(&self) {
        self.repositories.forget_all();
        self.tags.forget_all();
        self.tag_pages.forget_all();
        self.manifests.forget_all();
        self.links.forget_all();
        self.uploads.forget_all();
    }
}

impl Store {
    /// Opens the folder, or makes it: takes its lock, brings the schema up to date, loads what must be in memory.
    ///
    /// # Errors
    /// [`StoreError::FolderInUse`] when it is open already; [`StoreError::MasterKeyMissing`] and [`StoreError::WrongMasterKey`]
    /// when the sealed secrets could not be read.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let (folder, random) = (options.folder.clone(), Arc::clone(&options.random));
        let (lock, key, files, reserve) = blocking(move || {
            make_folder(&folder)?;
            let lock = lock_folder(&folder)?;
            let key = Sealer::load(&folder, folder.join(DATABASE).exists(), random)?;
            let files = BlobFiles::prepare(folder.join("blobs"))?;
            sync_folder(&folder)?;
            let reserve = Reserve::prepare(&folder);
            Ok::<_, StoreError>((lock, key, files, reserve))
        })
        .await?;
        let database = Database::open(&options.folder.join(DATABASE)).await?;
        key.check(&database).await?;
        let credentials = CredentialTable::load(&database).await?;
        let manifest_cache_bytes = options.manifest_cache_bytes;
        Ok(Self(Arc::new(Inner {
            options,
            database,
            files,
            reserve,
            buffers: Arc::default(),
            sealer: key,
            credentials,
            repositories: Coherent::new(CACHED_NAMES, |_| 1),
            tags: Coherent::new(CACHED_NAMES, |_| 1),
            tag_pages: Coherent::new(TAG_PAGE_CACHE_BYTES, |page: &Arc<Page<Tag>>| page.weight()),
            manifests: Coherent::new(manifest_cache_bytes, |manifest: &Arc<Manifest>| manifest.weight()),
            links: Coherent::new(CACHED_NAMES, |_| 1),
            uploads: Coherent::new(CACHED_UPLOADS, |_| 1),
            uploads_in_use: Mutex::default(),
            unsaved_bytes: Mutex::default(),
            swept: AtomicBool::new(false),
            job_changes: JobChanges::default(),
            _lock: lock,
        })))
    }

    /// The repository that the permit is for. It need not exist yet.
    pub fn repository(&self, permit: &Permit) -> Result<Repository, StoreError> {
        let name = permit.repository().ok_or(StoreError::NoRepository)?.clone();
        Ok(Repository::new(Arc::clone(&self.0), permit.clone(), name))
    }

    /// The list of the registry's repositories.
    pub fn catalog(&self, permit: &Permit) -> Result<Catalog, StoreError> {
        match permit.kind() {
            OperationKind::ListCatalog => Ok(Catalog::new(Arc::clone(&self.0), permit.registry())),
            other => Err(StoreError::NotPermitted(other)),
        }
    }

    /// The list of the registry's repositories with soft-deleted content.
    pub fn deleted_catalog(&self, permit: &Permit) -> Result<DeletedCatalog, StoreError> {
        match permit.kind() {
            OperationKind::ListDeletedCatalog => Ok(DeletedCatalog::new(Arc::clone(&self.0), permit.registry())),
            other => Err(StoreError::NotPermitted(other)),
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(self.0.database.read()).await?;
        Ok(())
    }

    /// The resource documents.
    pub fn resources(&self) -> Resources {
        Resources::new(Arc::clone(&self.0))
    }

    /// The secrets that callers present.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(Arc::clone(&self.0))
    }

    /// The secrets that the server keeps for itself.
    pub fn vault(&self) -> Vault {
        Vault::new(Arc::clone(&self.0))
    }

    /// Sign-ins on one device that are approved on another.
    pub fn device_logins(&self) -> DeviceLogins {
        DeviceLogins::new(Arc::clone(&self.0))
    }

    /// Work that outlives the request that asked for it.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(Arc::clone(&self.0))
    }

    /// Runs of tasks, quick builds and quick runs.
    pub fn runs(&self) -> Runs {
        Runs::new(Arc::clone(&self.0))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Closes the database in order. Further calls fail; the folder's lock goes with the last handle.
    pub async fn close(&self) {
        self.0.database.close().await;
    }
}

const DATABASE: &str = "metadata.db";

/// Makes the folder where it is missing. Its entry is made durable even where it is not: an earlier start may have been cut short
/// between the two, as with every folder below.
fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    match sync_folder(parent.unwrap_or(Path::new("."))) {
        // Who may not read the parent has not made the folder either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn lock_folder(folder: &Path) -> Result<File, StoreError> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::FolderInUse),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

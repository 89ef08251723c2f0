use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use postern_model::Random;
use uuid::Uuid;

use crate::StoreError;
use crate::database::blocking;

/// Files kept open between reads.
const OPEN_FILES: u64 = 256;
const OPEN_FILE_IDLE: Duration = Duration::from_mins(1);

/// A file's name: unique for ever and never reused, so deleting one can never hit another push of the same content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId(Uuid);

impl FileId {
    pub(crate) fn new(random: &dyn Random) -> Self {
        Self(random.uuid())
    }

    fn shard(self) -> u8 {
        let [first, ..] = self.0.into_bytes();
        first
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FileId {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Uuid::try_parse(text).map(Self).map_err(|_| StoreError::Corrupt("name of a blob file"))
    }
}

/// The folder of blob files: `blobs/<first two digits>/<id>`.
pub(crate) struct BlobFiles {
    folder: PathBuf,
    open: Cache<FileId, Arc<File>>,
}

impl BlobFiles {
    /// Makes the folder and its 256 shards where they are missing. Blocks.
    pub(crate) fn prepare(folder: PathBuf) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        let make = |path: &Path| match builder.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        };
        make(&folder)?;
        if fs::read_dir(&folder)?.count() < 256 {
            for shard in 0..=u8::MAX {
                make(&folder.join(format!("{shard:02x}")))?;
            }
        }
        sync_folder(&folder)?;
        let open = Cache::builder().max_capacity(OPEN_FILES).time_to_idle(OPEN_FILE_IDLE).build();
        Ok(Self { folder, open })
    }

    fn shard_path(&self, shard: u8) -> PathBuf {
        self.folder.join(format!("{shard:02x}"))
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.shard_path(file.shard()).join(file.to_string())
    }

    /// Opens a finished blob; the file stays open for the next reader.
    pub(crate) async fn open(&self, file: FileId) -> Result<Arc<File>, StoreError> {
        if let Some(open) = self.open.get(&file) {
            return Ok(open);
        }
        let path = self.path(file);
        let opened = Arc::new(blocking(move || File::open(path)).await?);
        self.open.insert(file, Arc::clone(&opened));
        Ok(opened)
    }

    /// Opens an upload's file for appending at `offset`, dropping what lies behind it. Blocks.
    pub(crate) fn open_upload(&self, file: FileId, offset: u64) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).create(offset == 0);
        let opened = options.open(self.path(file))?;
        let length = opened.metadata()?.len();
        if length < offset {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if length > offset {
            opened.set_len(offset)?;
        }
        Ok(opened)
    }

    /// Makes the file's directory entry durable. Blocks.
    pub(crate) fn sync_entry(&self, file: FileId) -> io::Result<()> {
        sync_folder(&self.shard_path(file.shard()))
    }

    /// Deletes files that no row names any more. A file that is already gone is fine; any other failure leaves an orphan
    /// for the next start's sweep.
    pub(crate) async fn delete(&self, files: Vec<FileId>) -> Result<(), StoreError> {
        for file in &files {
            self.open.invalidate(file);
        }
        let paths: Vec<PathBuf> = files.into_iter().map(|file| self.path(file)).collect();
        if paths.is_empty() {
            return Ok(());
        }
        blocking(move || {
            for path in paths {
                if let Err(error) = fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(error = %error, blob.file = %path.display(), "blob file could not be deleted");
                }
            }
            Ok::<(), io::Error>(())
        })
        .await
    }

    /// The files of one shard. Blocks.
    pub(crate) fn list(&self, shard: u8) -> io::Result<Vec<FileId>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.shard_path(shard))? {
            if let Some(file) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                files.push(file);
            }
        }
        Ok(files)
    }
}

/// Makes a folder's entries durable. Blocks.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use postern_model::{RegistryUid, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::StoreError;
use crate::blob_files::sync_folder;
use crate::database::blocking;
use crate::store::Inner;

/// Largest upload of files for a run, all blocks together.
pub const MAX_CONTEXT_BYTES: u64 = 2 << 30;
/// Most bytes that the uploads of one registry may have altogether.
const MAX_REGISTRY_BYTES: u64 = 16 << 30;
/// Most blocks that one upload is made of.
const MAX_BLOCKS: usize = 50_000;
const COPY_BYTES: usize = 1 << 20;
const BLOCKS: &str = ".blocks";
const PART: &str = ".part";

/// Files that clients upload for their runs, a day's worth. A name is `<seconds since 1970>-<uuid>` and given out once.
#[derive(Clone)]
pub struct Contexts(Arc<Inner>);

/// An upload, or a block of one. Nothing of it is seen before it is committed.
pub struct ContextWriter {
    file: Option<File>,
    part: PathBuf,
    place: PathBuf,
    written: u64,
    limit: u64,
}

impl Contexts {
    pub(super) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(super) fn folder(&self, registry: RegistryUid) -> PathBuf {
        self.0.options.folder.join("runs").join("contexts").join(registry.to_string())
    }

    /// A name for an upload from now on.
    pub fn new_name(&self) -> String {
        format!("{}-{}", self.0.now().unix_seconds(), self.0.options.random.uuid().simple())
    }

    /// Whether it is a name as they are given out.
    pub fn is_name(text: &str) -> bool {
        let parts = text.split_once('-');
        parts.is_some_and(|(time, id)| {
            (1..=12).contains(&time.len())
                && time.bytes().all(|byte| byte.is_ascii_digit())
                && id.len() == 32
                && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    fn place(&self, registry: RegistryUid, name: &str) -> Result<PathBuf, StoreError> {
        if Self::is_name(name) {
            Ok(self.folder(registry).join(name))
        } else {
            Err(StoreError::Corrupt("name of an upload"))
        }
    }

    /// Begins an upload in one piece, of so many bytes at most.
    pub async fn write(&self, registry: RegistryUid, name: &str, limit: u64) -> Result<ContextWriter, StoreError> {
        let place = self.place(registry, name)?;
        self.begin(registry, place, limit).await
    }

    /// Begins a block of an upload.
    pub async fn write_block(
        &self,
        registry: RegistryUid,
        name: &str,
        block: &str,
        limit: u64,
    ) -> Result<ContextWriter, StoreError> {
        let folder = blocks_of(&self.place(registry, name)?);
        self.begin(registry, folder.join(block_name(block)), limit).await
    }

    async fn begin(&self, registry: RegistryUid, place: PathBuf, limit: u64) -> Result<ContextWriter, StoreError> {
        let folder = self.folder(registry);
        let mut part = place.as_os_str().to_owned();
        part.push(format!(".{}{PART}", self.0.options.random.uuid().simple()));
        let part = PathBuf::from(part);
        blocking(move || {
            let parent = place.parent().unwrap_or(&folder);
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            let used = size_of_folder(&folder)?;
            if used >= MAX_REGISTRY_BYTES {
                return Err(StoreError::TooLarge { limit_bytes: MAX_REGISTRY_BYTES });
            }
            let limit = limit.min(MAX_REGISTRY_BYTES - used);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            Ok(ContextWriter { file: Some(file), part, place, written: 0, limit })
        })
        .await
    }

    /// Makes an upload of its blocks, in this order.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when one of them is not there.
    pub async fn assemble(&self, registry: RegistryUid, name: &str, blocks: Vec<String>) -> Result<(), StoreError> {
        if blocks.len() > MAX_BLOCKS {
            return Err(StoreError::TooLarge { limit_bytes: MAX_CONTEXT_BYTES });
        }
        let place = self.place(registry, name)?;
        let mut writer = self.begin(registry, place.clone(), MAX_CONTEXT_BYTES).await?;
        blocking(move || {
            let folder = blocks_of(&place);
            let mut buffer = vec![0; COPY_BYTES];
            for block in blocks {
                let mut file = match File::open(folder.join(block_name(&block))) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(StoreError::NotFound(crate::Missing::Upload));
                    }
                    file => file?,
                };
                loop {
                    let read = io::Read::read(&mut file, &mut buffer)?;
                    let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
                    writer.append(piece)?;
                }
            }
            writer.place_it()?;
            remove(&folder, true)?;
            Ok(())
        })
        .await
    }

    /// The files that were uploaded, and how many bytes they are; none when there are none.
    pub async fn open(&self, registry: RegistryUid, name: &str) -> Result<Option<(File, u64)>, StoreError> {
        let place = self.place(registry, name)?;
        blocking(move || {
            let file = match File::open(place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let length = file.metadata()?.len();
            Ok::<_, io::Error>(Some((file, length)))
        })
        .await
    }

    /// Removes an upload.
    pub async fn remove(&self, registry: RegistryUid, name: &str) -> Result<(), StoreError> {
        let place = self.place(registry, name)?;
        blocking(move || {
            remove(&blocks_of(&place), true)?;
            remove(&place, false)
        })
        .await
    }

    /// Removes uploads that were begun before then, whole or not; gives how many. Those in `needed` stay.
    pub async fn expire(&self, before: Timestamp, needed: Vec<String>) -> Result<u64, StoreError> {
        let folder = self.0.options.folder.join("runs").join("contexts");
        blocking(move || {
            let mut removed = 0;
            for registry in entries(&folder)? {
                for path in entries(&registry)? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    let begun = name.split_once('-').and_then(|(time, _)| time.parse().ok());
                    let is_old = begun.is_none_or(|begun| Timestamp::from_unix_seconds(begun) < before);
                    if is_old && !needed.iter().any(|needed| needed == name) {
                        remove(&path, path.is_dir())?;
                        removed += 1;
                    }
                }
            }
            Ok::<_, io::Error>(removed)
        })
        .await
    }
}

impl ContextWriter {
    /// Writes more of it.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when it is more than it may be.
    pub async fn write(mut self, bytes: Bytes) -> Result<Self, StoreError> {
        blocking(move || {
            self.append(&bytes)?;
            Ok::<_, StoreError>(self)
        })
        .await
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.written += bytes.len() as u64;
        if self.written > self.limit {
            return Err(StoreError::TooLarge { limit_bytes: self.limit });
        }
        let file = self.file.as_mut().ok_or(StoreError::Interrupted)?;
        Ok(file.write_all(bytes)?)
    }

    /// Puts it into its place.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        blocking(move || self.place_it()).await
    }

    fn place_it(&mut self) -> Result<(), StoreError> {
        let file = self.file.take().ok_or(StoreError::Interrupted)?;
        file.sync_all()?;
        fs::rename(&self.part, &self.place)?;
        if let Some(folder) = self.place.parent() {
            sync_folder(folder)?;
        }
        Ok(())
    }
}

/// What is not committed goes.
impl Drop for ContextWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn blocks_of(place: &Path) -> PathBuf {
    let mut folder = place.as_os_str().to_owned();
    folder.push(BLOCKS);
    folder.into()
}

/// Clients choose the ids of their blocks.
fn block_name(id: &str) -> String {
    Sha256::digest(id.as_bytes()).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn remove(path: &Path, is_folder: bool) -> io::Result<()> {
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}

fn size_of_folder(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for path in entries(folder)? {
        // It may be gone by now.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        total += if metadata.is_dir() { size_of_folder(&path)? } else { metadata.len() };
    }
    Ok(total)
}

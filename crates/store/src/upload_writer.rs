use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use postern_model::{Algorithm, Digest};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::StoreError;
use crate::blob_files::FileId;
use crate::database::{blocking, detached};
use crate::hashing::Hasher;
use crate::store::Inner;
use crate::uploads::{Lease, Session, Unsaved, UploadStatus};

/// How many bytes are hashed and written at once.
const BATCH_BYTES: usize = 128 << 10;
/// How many pieces a batch may have: a peer that sends single bytes must not make each of them cost a buffer.
const BATCH_PIECES: usize = 1024;
const REHASH_BYTES: usize = 1 << 20;
/// An upload up to this size is not worth a look at what else its holder has open: there are only so many of them.
const SMALL_BYTES: u64 = 1 << 20;
/// As far as the limit is that much larger.
const SMALL_SHARE: u64 = 1000;

/// Where an upload is: its file and the hash of what is in it. Travels to the blocking pool and back.
pub(crate) struct Position {
    // INVARIANT: held as long as anything may still write to the file, also when the writer itself was dropped.
    _lease: Lease,
    inner: Arc<Inner>,
    name: FileId,
    /// `None` before the first bytes.
    file: Option<File>,
    hasher: Hasher,
    offset: u64,
    /// Up to where the bytes were durable when it was opened.
    saved: u64,
}

impl Position {
    /// At the beginning.
    pub(crate) fn new(lease: Lease, inner: Arc<Inner>, name: FileId, hasher: Hasher) -> Self {
        Self { _lease: lease, inner, name, file: None, hasher, offset: 0, saved: 0 }
    }

    /// Behind what is in the file already.
    pub(crate) fn resumed(self, file: File, offset: u64) -> Self {
        Self { file: Some(file), offset, saved: offset, ..self }
    }

    /// The file; made where this is the beginning. Blocks.
    fn open(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.inner.files.open_upload(self.name, self.offset)?,
        };
        Ok(self.file.insert(file))
    }

    /// Hashes and writes a batch. Blocks.
    fn append(&mut self, batch: &[Bytes]) -> io::Result<()> {
        let written = self.write(batch);
        if let (Err(_), Some(file)) = (&written, &self.file) {
            // On a full disk even forgetting the upload takes room: what nobody can use gives its own back at once.
            let _ = file.set_len(self.saved);
        }
        written
    }

    fn write(&mut self, batch: &[Bytes]) -> io::Result<()> {
        let mut offset = self.offset;
        for piece in batch {
            self.hasher.update(piece);
            self.open()?.write_all_at(piece, offset)?;
            offset += piece.len() as u64;
            self.offset = offset;
        }
        Ok(())
    }

    /// Makes what was written durable. Blocks.
    fn save(&mut self, is_new: bool) -> io::Result<()> {
        self.open()?.sync_data()?;
        if is_new { self.inner.files.sync_entry(self.name) } else { Ok(()) }
    }

    /// Gives the digest; if it is the expected one the file is durable. Blocks.
    fn close(&mut self, expected: Digest) -> io::Result<Digest> {
        let (algorithm, offset) = (expected.algorithm(), self.offset);
        let hasher = if self.hasher.algorithm() == algorithm {
            self.hasher.clone()
        } else {
            hash_file(self.open()?, algorithm, offset)?
        };
        let actual = hasher.finish();
        if actual == expected {
            self.open()?.sync_all()?;
            self.inner.files.sync_entry(self.name)?;
        }
        Ok(actual)
    }
}

/// The only writer of an open upload.
///
/// Holds at most two batches of bytes: one being gathered, one being hashed and written. Dropped without
/// [`pause`](Self::pause) or [`commit`](Self::commit), as when the client's connection breaks, it saves its progress in the
/// background; until then the upload is [`StoreError::Busy`].
pub struct UploadWriter {
    work: Option<Work>,
    is_temporary: bool,
}

struct Work {
    session: Session,
    /// `None` while a batch is being written.
    position: Option<Position>,
    writing: Option<JoinHandle<(Position, io::Result<()>)>>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    accepted: u64,
    unsaved: Unsaved,
}

impl UploadWriter {
    pub(crate) fn new(session: Session, position: Position) -> Self {
        let (accepted, unsaved) = (position.offset, Unsaved::new(&session.repository));
        let work = Work {
            session,
            position: Some(position),
            writing: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
            accepted,
            unsaved,
        };
        Self { work: Some(work), is_temporary: false }
    }

    /// For an upload that nobody could take up again: dropped, it gives the upload up.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.is_temporary = true;
        self
    }

    /// How many bytes were taken so far, also those that are not written yet.
    pub fn offset(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.accepted)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], which discards the upload; [`StoreError::TooManyUploadBytes`] and [`StoreError::Io`], after which it
    /// can be taken up again where it
    /// was last paused. Either way this writer is spent.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let work = self.work.as_mut().ok_or(StoreError::Interrupted)?;
        if let Err(error) = work.session.repository.inner.reserve.check() {
            self.work = None;
            return Err(error);
        }
        let limit_bytes = work.session.repository.inner.options.max_blob_bytes;
        if work.accepted.saturating_add(bytes.len() as u64) > limit_bytes {
            if let Some(work) = self.work.take() {
                detached(work.discard()).await?;
            }
            return Err(StoreError::TooLarge { limit_bytes });
        }
        if let Err(refusal) = work.make_room(bytes.len() as u64).await {
            if let Some(work) = self.work.take() {
                detached(work.save()).await?;
            }
            return Err(refusal);
        }
        let written = work.take(bytes).await;
        if written.is_err() {
            self.work = None;
        }
        written
    }

    /// Makes what was taken durable and lets go of the upload, to be taken up later.
    pub async fn pause(mut self) -> Result<UploadStatus, StoreError> {
        let work = self.work.take().ok_or(StoreError::Interrupted)?;
        detached(work.save()).await
    }

    /// Makes the upload a blob of the repository, durably.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when the bytes have another digest; the upload is gone then.
    pub async fn commit(mut self, expected: Digest) -> Result<u64, StoreError> {
        let work = self.work.take().ok_or(StoreError::Interrupted)?;
        detached(work.commit(expected)).await
    }
}

impl Drop for UploadWriter {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            let is_temporary = self.is_temporary;
            runtime.spawn(async move {
                let ended = if is_temporary { work.discard().await } else { work.save().await.map(drop) };
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "progress of an abandoned upload was not saved");
                }
            });
        }
    }
}

impl Work {
    /// Counts bytes for the holder before they are taken.
    async fn make_room(&mut self, bytes: u64) -> Result<(), StoreError> {
        let repository = &self.session.repository;
        let small = SMALL_BYTES.min(repository.inner.options.max_open_upload_bytes_per_holder / SMALL_SHARE);
        if self.session.open_bytes.is_none() && self.accepted.saturating_add(bytes) > small {
            self.session.open_bytes = Some(repository.open_upload_bytes().await?);
        }
        self.unsaved.grow(bytes, self.session.open_bytes.unwrap_or_default())
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.accepted += bytes.len() as u64;
        self.gathered_bytes += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_bytes >= BATCH_BYTES || self.gathered.len() >= BATCH_PIECES {
            self.send().await?;
        }
        Ok(())
    }

    /// Waits for the batch being written, then sends the gathered one after it.
    async fn send(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        let Some(mut position) = self.position.take() else { return Err(StoreError::Interrupted) };
        let batch = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = position.append(&batch);
            (position, written)
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let joined = writing.await;
        self.writing = None;
        let (position, written) = joined.map_err(|_| StoreError::Interrupted)?;
        // After a failure the file and the hash may disagree: the position is of no more use.
        written?;
        self.position = Some(position);
        Ok(())
    }

    /// Writes everything out and does what is left to do with the file, in one go.
    async fn end<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Position) -> io::Result<T> + Send + 'static,
    ) -> Result<(Session, Position, T), StoreError> {
        self.settle().await?;
        let mut position = self.position.ok_or(StoreError::Interrupted)?;
        let batch = self.gathered;
        let ended = blocking(move || {
            position.append(&batch)?;
            let done = work(&mut position)?;
            Ok::<_, io::Error>((position, done))
        });
        let (position, done) = ended.await?;
        Ok((self.session, position, done))
    }

    async fn save(self) -> Result<UploadStatus, StoreError> {
        let before = self.session.status.offset;
        let save = move |position: &mut Position| {
            if position.offset == before { Ok(()) } else { position.save(before == 0) }
        };
        let (session, position, ()) = self.end(save).await?;
        if position.offset == before {
            return Ok(session.status);
        }
        session.save(position.offset, position.hasher.save()).await
    }

    async fn commit(self, expected: Digest) -> Result<u64, StoreError> {
        let (session, position, actual) = self.end(move |position| position.close(expected)).await?;
        if actual != expected {
            session.discard().await?;
            return Err(StoreError::DigestMismatch { expected: Box::new(expected), actual: Box::new(actual) });
        }
        session.finish(expected, position.offset).await?;
        Ok(position.offset)
    }

    async fn discard(mut self) -> Result<(), StoreError> {
        // The position is kept to the end: it holds the lease.
        let settled = self.settle().await;
        self.session.discard().await?;
        settled
    }
}

/// Hashes the first `length` bytes of a file. Blocks.
pub(crate) fn hash_file(file: &File, algorithm: Algorithm, length: u64) -> io::Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; REHASH_BYTES];
    let mut offset = 0;
    while offset < length {
        let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(REHASH_BYTES);
        let target = buffer.get_mut(..wanted).ok_or(io::ErrorKind::InvalidInput)?;
        file.read_exact_at(target, offset)?;
        hasher.update(target);
        offset += wanted as u64;
    }
    Ok(hasher)
}

use std::sync::{Arc, PoisonError};

use postern_access::{ContentState, OperationKind};
use postern_model::{Algorithm, Digest, RegistryUid, RepositoryName, Timestamp, UploadId};
use sqlx::Row;

use crate::blob_files::FileId;
use crate::database::{blocking, detached};
use crate::hashing::Hasher;
use crate::repository::{attributes_of, check_locks, to_i64, to_u64};
use crate::store::Inner;
use crate::upload_writer::{Position, UploadWriter};
use crate::{Missing, Repository, StoreError};

/// An open upload, as last made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// Its id.
    pub id: UploadId,
    /// How many bytes are safe: where the next one goes.
    pub offset: u64,
    /// What its bytes are hashed with on the way.
    pub algorithm: Algorithm,
    /// When it was started.
    pub created: Timestamp,
}

/// An upload's row.
pub(crate) struct UploadRow {
    registry: RegistryUid,
    repository: RepositoryName,
    holder: String,
    status: UploadStatus,
    file: FileId,
    hash_state: Option<Vec<u8>>,
}

/// Bytes of an upload that its row does not count yet. They count for the holder as long as this lives.
pub(crate) struct Unsaved {
    inner: Arc<Inner>,
    holder: (String, String),
    bytes: u64,
}

impl Unsaved {
    pub(crate) fn new(repository: &Repository) -> Self {
        let holder = (repository.registry_text(), repository.permit.holder().to_string());
        Self { inner: Arc::clone(&repository.inner), holder, bytes: 0 }
    }

    /// Counts some more, unless they and all that the holder has open (`saved` in rows) are more than it may.
    pub(crate) fn grow(&mut self, bytes: u64, saved: u64) -> Result<(), StoreError> {
        let limit_bytes = self.inner.options.max_open_upload_bytes_per_holder;
        let mut all = self.inner.unsaved_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaved = all.get(&self.holder).copied().unwrap_or_default().saturating_add(bytes);
        if unsaved.saturating_add(saved) > limit_bytes {
            return Err(StoreError::TooManyUploadBytes { limit_bytes });
        }
        match all.get_mut(&self.holder) {
            Some(count) => *count = unsaved,
            None => drop(all.insert(self.holder.clone(), unsaved)),
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Unsaved {
    fn drop(&mut self) {
        let mut all = self.inner.unsaved_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.holder) {
            *count = count.saturating_sub(self.bytes);
            if *count == 0 {
                all.remove(&self.holder);
            }
        }
    }
}

/// An open upload in the hands of the one who may go on with it.
pub(crate) struct Session {
    pub(crate) repository: Repository,
    pub(crate) status: UploadStatus,
    pub(crate) file: FileId,
    /// Bytes that the holder had in open uploads of the registry, this one included, when that was looked up.
    pub(crate) open_bytes: Option<u64>,
}

/// The right to write to an upload; one per upload and process.
pub(crate) struct Lease {
    inner: Arc<Inner>,
    id: UploadId,
}

impl Lease {
    pub(crate) fn take(inner: &Arc<Inner>, id: UploadId) -> Result<Self, StoreError> {
        let mut in_use = inner.uploads_in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.insert(id) { Ok(Self { inner: Arc::clone(inner), id }) } else { Err(StoreError::Busy) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.inner.uploads_in_use.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Repository {
    /// Opens an upload. For [`OperationKind::PushBlob`], as all that concerns uploads.
    ///
    /// # Errors
    /// [`StoreError::TooManyUploads`] when the permit's holder has as many open in this registry as it may.
    pub async fn start_upload(&self, algorithm: Algorithm) -> Result<UploadStatus, StoreError> {
        self.permitted(&[OperationKind::PushBlob])?;
        let this = self.clone();
        detached(async move {
            let inner = &this.inner;
            if inner.reserve.is_spent() {
                let of_reserve = Arc::clone(inner);
                blocking(move || of_reserve.reserve.restore()).await?;
            }
            let (holder, now, limit) =
                (this.permit.holder().to_string(), inner.now(), inner.options.max_uploads_per_holder);
            let (id, file) = (UploadId(inner.options.random.uuid()), FileId::new(&*inner.options.random));
            let ticket = inner.uploads.ticket(&id);
            let mut transaction = inner.database.write().await?;
            let rows = sqlx::query(
                "SELECT delete_enabled, write_enabled, read_enabled, list_enabled FROM repositories \
                 WHERE registry = $2 AND name = $3; \
                 INSERT INTO uploads (id, registry, repository, holder, file, offset_bytes, algorithm, created, updated) \
                 SELECT $1, $2, $3, $4, $5, 0, $6, $7, $7 \
                 WHERE (SELECT COUNT(*) FROM uploads WHERE registry = $2 AND holder = $4) < $8 RETURNING id",
            )
            .bind(id.to_string())
            .bind(this.registry_text())
            .bind(this.name.as_str())
            .bind(&holder)
            .bind(file.to_string())
            .bind(algorithm.as_str())
            .bind(now.unix_micros())
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await?;
            let is_open = rows.last().is_some_and(|row| row.try_get::<&str, _>("id").is_ok());
            let repository = rows.first().filter(|_| rows.len() > usize::from(is_open)).map(attributes_of).transpose()?;
            check_locks(&this.permit, ContentState { repository, ..ContentState::default() })?;
            if !is_open {
                return Err(StoreError::TooManyUploads { limit });
            }
            transaction.commit().await?;
            let status = UploadStatus { id, offset: 0, algorithm, created: now };
            let row = UploadRow {
                registry: this.registry(),
                repository: this.name.clone(),
                holder,
                status,
                file,
                hash_state: None,
            };
            inner.uploads.fill(ticket, id, Arc::new(row));
            Ok(status)
        })
        .await
    }

    /// How far an upload is; `None` when it is not open, or belongs to another registry, repository or holder.
    pub async fn upload(&self, id: UploadId) -> Result<Option<UploadStatus>, StoreError> {
        Ok(self.session(id).await?.map(|(session, _)| session.status))
    }

    /// Opens an upload for writing where it was paused.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another writer has it, [`StoreError::NotFound`] where [`Repository::upload`] gives `None`.
    pub async fn upload_writer(&self, id: UploadId) -> Result<UploadWriter, StoreError> {
        let lease = Lease::take(&self.inner, id)?;
        let (session, row) = self.session(id).await?.ok_or(StoreError::NotFound(Missing::Upload))?;
        self.check_repository().await?;
        let (inner, status, file) = (Arc::clone(&self.inner), session.status, session.file);
        if status.offset == 0 {
            // Its file is made together with its first bytes.
            let position = Position::new(lease, inner, file, Hasher::new(status.algorithm));
            return Ok(UploadWriter::new(session, position));
        }
        let opened = blocking(move || {
            let opened = inner.files.open_upload(file, status.offset)?;
            let saved = row.hash_state.as_deref().and_then(|saved| Hasher::restore(status.algorithm, saved));
            let hasher = match saved {
                Some(hasher) => hasher,
                None => crate::upload_writer::hash_file(&opened, status.algorithm, status.offset)?,
            };
            Ok::<_, std::io::Error>(Position::new(lease, inner, file, hasher).resumed(opened, status.offset))
        })
        .await;
        match opened {
            Ok(position) => Ok(UploadWriter::new(session, position)),
            // Bytes that were promised are gone: the client must begin anew.
            Err(StoreError::Io(error))
                if matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::NotFound) =>
            {
                tracing::warn!(upload.id = %id, "an upload's file is missing or too short; the upload is dropped");
                session.discard().await?;
                Err(StoreError::NotFound(Missing::Upload))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while a writer has it.
    pub async fn cancel_upload(&self, id: UploadId) -> Result<(), StoreError> {
        let lease = Lease::take(&self.inner, id)?;
        let (session, _) = self.session(id).await?.ok_or(StoreError::NotFound(Missing::Upload))?;
        let discarded = session.discard().await;
        drop(lease);
        discarded
    }

    async fn session(&self, id: UploadId) -> Result<Option<(Session, Arc<UploadRow>)>, StoreError> {
        self.permitted(&[OperationKind::PushBlob])?;
        let row = if let Some(row) = self.inner.uploads.get(&id) {
            row
        } else {
            let ticket = self.inner.uploads.ticket(&id);
            let Some(row) = self.select_upload(id).await?.map(Arc::new) else { return Ok(None) };
            self.inner.uploads.fill(ticket, id, Arc::clone(&row));
            row
        };
        let is_own = row.registry == self.registry()
            && row.repository == self.name
            && row.holder == self.permit.holder().to_string();
        let expires = row.status.created.plus_seconds(self.inner.options.upload_lifetime_seconds);
        if !is_own || expires < self.inner.now() {
            return Ok(None);
        }
        Ok(Some((Session { repository: self.clone(), status: row.status, file: row.file, open_bytes: None }, row)))
    }

    async fn select_upload(&self, id: UploadId) -> Result<Option<UploadRow>, StoreError> {
        let row = sqlx::query(
            "SELECT registry, repository, holder, file, offset_bytes, algorithm, hash_state, created FROM uploads WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(self.inner.database.read())
        .await?;
        let corrupt = || StoreError::Corrupt("upload");
        let upload = |row: sqlx::sqlite::SqliteRow| {
            Ok(UploadRow {
                registry: row.try_get::<&str, _>("registry")?.parse().map_err(|_| corrupt())?,
                repository: row.try_get::<&str, _>("repository")?.parse().map_err(|_| corrupt())?,
                holder: row.try_get("holder")?,
                status: UploadStatus {
                    id,
                    offset: to_u64(row.try_get("offset_bytes")?)?,
                    algorithm: row.try_get::<&str, _>("algorithm")?.parse().map_err(|_| corrupt())?,
                    created: Timestamp::from_unix_micros(row.try_get("created")?),
                },
                file: row.try_get::<&str, _>("file")?.parse()?,
                hash_state: row.try_get("hash_state")?,
            })
        };
        row.map(upload).transpose()
    }

    /// What the permit's holder has in open uploads of this registry, as their rows count it.
    pub(crate) async fn open_upload_bytes(&self) -> Result<u64, StoreError> {
        let sum: i64 = sqlx::query_scalar(
            "SELECT CAST(COALESCE(SUM(offset_bytes), 0) AS BIGINT) FROM uploads WHERE registry = $1 AND holder = $2",
        )
        .bind(self.registry_text())
        .bind(self.permit.holder().to_string())
        .fetch_one(self.inner.database.read())
        .await?;
        to_u64(sum)
    }
}

impl Session {
    /// Makes progress durable. The bytes are on disk already.
    pub(crate) async fn save(&self, offset: u64, hash_state: Vec<u8>) -> Result<UploadStatus, StoreError> {
        let (inner, id) = (&self.repository.inner, self.status.id);
        let mut transaction = inner.database.write().await?;
        let saved = sqlx::query("UPDATE uploads SET offset_bytes = $1, hash_state = $2, updated = $3 WHERE id = $4")
            .bind(to_i64(offset))
            .bind(hash_state)
            .bind(inner.now().unix_micros())
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        if saved.rows_affected() == 0 {
            return Err(StoreError::NotFound(Missing::Upload));
        }
        transaction.commit().await?;
        inner.uploads.forget(&id);
        Ok(UploadStatus { offset, ..self.status })
    }

    /// Turns the upload into a blob of the repository. The file and its directory entry are durable already.
    ///
    /// Where the content is there already, the repository gets a link to that and the new file goes.
    pub(crate) async fn finish(&self, digest: Digest, size: u64) -> Result<(), StoreError> {
        let (repository, inner) = (&self.repository, &self.repository.inner);
        let (registry, text, now) = (repository.registry_text(), digest.to_string(), inner.now());
        let mut transaction = inner.database.write().await?;
        // Done first and looked at afterwards, in one go: whatever speaks against it takes it back.
        let rows = sqlx::query(
            "SELECT delete_enabled, write_enabled, read_enabled, list_enabled FROM repositories \
             WHERE registry = $2 AND name = $3; \
             INSERT INTO blobs (digest, size_bytes, file, created) VALUES ($4, $5, $6, $7) \
             ON CONFLICT (digest) DO NOTHING; \
             INSERT INTO links (registry, repository, digest, unreferenced_since) VALUES ($2, $3, $4, $7) \
             ON CONFLICT (registry, repository, digest) DO UPDATE SET unreferenced_since = \
             CASE WHEN links.unreferenced_since IS NULL THEN NULL ELSE excluded.unreferenced_since END; \
             DELETE FROM uploads WHERE id = $1 RETURNING id, (SELECT file FROM blobs WHERE digest = $4) AS file",
        )
        .bind(self.status.id.to_string())
        .bind(&registry)
        .bind(repository.name.as_str())
        .bind(&text)
        .bind(to_i64(size))
        .bind(self.file.to_string())
        .bind(now.unix_micros())
        .fetch_all(&mut *transaction)
        .await?;
        let closed = rows.last().and_then(|row| row.try_get::<&str, _>("file").ok());
        let attributes =
            rows.first().filter(|_| rows.len() > usize::from(closed.is_some())).map(attributes_of).transpose()?;
        check_locks(&repository.permit, ContentState { repository: attributes, ..ContentState::default() })?;
        let is_first = closed.ok_or(StoreError::NotFound(Missing::Upload))?.parse::<FileId>()? == self.file;
        transaction.commit().await?;
        inner.links.forget(&repository.key(digest));
        inner.uploads.forget(&self.status.id);
        if !is_first {
            inner.files.delete(vec![self.file]).await?;
        }
        Ok(())
    }

    /// Forgets the upload and its file. The caller holds its lease.
    pub(crate) async fn discard(&self) -> Result<(), StoreError> {
        let (inner, id, file) = (Arc::clone(&self.repository.inner), self.status.id, self.file);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            sqlx::query("DELETE FROM uploads WHERE id = $1").bind(id.to_string()).execute(&mut *transaction).await?;
            transaction.commit().await?;
            inner.uploads.forget(&id);
            inner.files.delete(vec![file]).await
        })
        .await
    }
}

/// Collects uploads that were started before `cutoff` and that nobody writes to.
pub(crate) async fn expire_uploads(inner: &Arc<Inner>, cutoff: Timestamp) -> Result<u64, StoreError> {
    const BATCH: i64 = 256;
    let mut expired = 0;
    let mut after = (i64::MIN, String::new());
    loop {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT id, file, created FROM uploads WHERE created < $1 AND (created, id) > ($2, $3) \
             ORDER BY created, id LIMIT $4",
        )
        .bind(cutoff.unix_micros())
        .bind(after.0)
        .bind(&after.1)
        .bind(BATCH)
        .fetch_all(inner.database.read())
        .await?;
        let Some((id, _, created)) = rows.last() else { return Ok(expired) };
        after = (*created, id.clone());
        for (id, file, _) in rows {
            let id = id.parse().map_err(|_| StoreError::Corrupt("id of an upload"))?;
            let Ok(_lease) = Lease::take(inner, id) else { continue };
            let mut transaction = inner.database.write().await?;
            let deleted = sqlx::query("DELETE FROM uploads WHERE id = $1")
                .bind(id.to_string())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            inner.uploads.forget(&id);
            if deleted.rows_affected() > 0 {
                inner.files.delete(vec![file.parse()?]).await?;
                expired += 1;
            }
        }
    }
}

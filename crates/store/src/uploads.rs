use std::sync::{Arc, PoisonError};

use postern_access::{ContentState, OperationKind};
use postern_model::{Algorithm, Digest, Timestamp, UploadId};
use sqlx::Row;

use crate::blob_files::FileId;
use crate::blobs::insert_link;
use crate::database::{blocking, detached};
use crate::hashing::Hasher;
use crate::repository::{check_locks, select_repository, to_i64, to_u64};
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

/// An upload's row, without the hash state.
pub(crate) struct Session {
    pub(crate) repository: Repository,
    pub(crate) status: UploadStatus,
    pub(crate) file: FileId,
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
            let (registry, holder, now) = (this.registry_text(), this.permit.holder().to_string(), inner.now());
            let mut transaction = inner.database.write().await?;
            let repository = select_repository(&mut *transaction, &registry, this.name.as_str()).await?;
            check_locks(&this.permit, ContentState { repository, ..ContentState::default() })?;
            let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM uploads WHERE registry = $1 AND holder = $2")
                .bind(&registry)
                .bind(&holder)
                .fetch_one(&mut *transaction)
                .await?;
            let limit = inner.options.max_uploads_per_holder;
            if open >= i64::from(limit) {
                return Err(StoreError::TooManyUploads { limit });
            }
            let id = UploadId(inner.options.random.uuid());
            sqlx::query(
                "INSERT INTO uploads (id, registry, repository, holder, file, offset_bytes, algorithm, created, updated) \
                 VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $7)",
            )
            .bind(id.to_string())
            .bind(&registry)
            .bind(this.name.as_str())
            .bind(&holder)
            .bind(FileId::new(&*inner.options.random).to_string())
            .bind(algorithm.as_str())
            .bind(now.unix_micros())
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(UploadStatus { id, offset: 0, algorithm, created: now })
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
        let (session, saved) = self.session(id).await?.ok_or(StoreError::NotFound(Missing::Upload))?;
        self.check_repository().await?;
        let (inner, status, file) = (Arc::clone(&self.inner), session.status, session.file);
        let opened = blocking(move || {
            let file = inner.files.open_upload(file, status.offset)?;
            let hasher = match saved.and_then(|saved| Hasher::restore(status.algorithm, &saved)) {
                Some(hasher) => hasher,
                None => crate::upload_writer::hash_file(&file, status.algorithm, status.offset)?,
            };
            Ok::<_, std::io::Error>(Position::new(lease, file, hasher, status.offset))
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

    async fn session(&self, id: UploadId) -> Result<Option<(Session, Option<Vec<u8>>)>, StoreError> {
        self.permitted(&[OperationKind::PushBlob])?;
        let row = sqlx::query(
            "SELECT file, offset_bytes, algorithm, hash_state, created FROM uploads \
             WHERE id = $1 AND registry = $2 AND repository = $3 AND holder = $4",
        )
        .bind(id.to_string())
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(self.permit.holder().to_string())
        .fetch_optional(self.inner.database.read())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let created = Timestamp::from_unix_micros(row.try_get("created")?);
        if created.plus_seconds(self.inner.options.upload_lifetime_seconds) < self.inner.now() {
            return Ok(None);
        }
        let algorithm: &str = row.try_get("algorithm")?;
        let algorithm = algorithm.parse().map_err(|_| StoreError::Corrupt("algorithm of an upload"))?;
        let status = UploadStatus { id, offset: to_u64(row.try_get("offset_bytes")?)?, algorithm, created };
        let file = row.try_get::<&str, _>("file")?.parse()?;
        Ok(Some((Session { repository: self.clone(), status, file }, row.try_get("hash_state")?)))
    }
}

impl Session {
    /// Makes progress durable. The bytes are on disk already.
    pub(crate) async fn save(&self, offset: u64, hash_state: Vec<u8>) -> Result<UploadStatus, StoreError> {
        let inner = &self.repository.inner;
        let mut transaction = inner.database.write().await?;
        let saved = sqlx::query("UPDATE uploads SET offset_bytes = $1, hash_state = $2, updated = $3 WHERE id = $4")
            .bind(to_i64(offset))
            .bind(hash_state)
            .bind(inner.now().unix_micros())
            .bind(self.status.id.to_string())
            .execute(&mut *transaction)
            .await?;
        if saved.rows_affected() == 0 {
            return Err(StoreError::NotFound(Missing::Upload));
        }
        transaction.commit().await?;
        Ok(UploadStatus { offset, ..self.status })
    }

    /// Turns the upload into a blob of the repository. The file and its directory entry are durable already.
    ///
    /// Where the content is there already, the repository gets a link to that and the new file goes.
    pub(crate) async fn finish(&self, digest: Digest, size: u64) -> Result<(), StoreError> {
        let (repository, inner) = (&self.repository, &self.repository.inner);
        let (registry, text, now) = (repository.registry_text(), digest.to_string(), inner.now());
        let mut transaction = inner.database.write().await?;
        let attributes = select_repository(&mut *transaction, &registry, repository.name.as_str()).await?;
        check_locks(&repository.permit, ContentState { repository: attributes, ..ContentState::default() })?;
        let closed = sqlx::query("DELETE FROM uploads WHERE id = $1")
            .bind(self.status.id.to_string())
            .execute(&mut *transaction)
            .await?;
        if closed.rows_affected() == 0 {
            return Err(StoreError::NotFound(Missing::Upload));
        }
        let inserted = sqlx::query(
            "INSERT INTO blobs (digest, size_bytes, file, created) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&text)
        .bind(to_i64(size))
        .bind(self.file.to_string())
        .bind(now.unix_micros())
        .execute(&mut *transaction)
        .await?;
        insert_link(&mut transaction, &registry, repository.name.as_str(), &digest, now).await?;
        transaction.commit().await?;
        inner.links.forget(&repository.key(digest));
        if inserted.rows_affected() == 0 {
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
            if deleted.rows_affected() > 0 {
                inner.files.delete(vec![file.parse()?]).await?;
                expired += 1;
            }
        }
    }
}

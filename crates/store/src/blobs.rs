use std::fs::File;
use std::sync::Arc;

use postern_access::{ContentState, OperationKind, Permit};
use postern_model::{Digest, Timestamp};
use sqlx::Row;

use crate::blob_body::{BlobBody, BufferPool};
use crate::blob_files::FileId;
use crate::database::detached;
use crate::group::Writing;
use crate::quarantine::check_unpassed;
use crate::repository::{attributes_of, check_locks, select_repository, to_u64};
use crate::{Missing, Repository, StoreError};

/// How often a link that changes under a reader is looked at again.
const LINK_ATTEMPTS: usize = 4;

/// A blob that a repository links, as last read.
#[derive(Clone, Copy)]
pub(crate) struct LinkEntry {
    size: u64,
    file: FileId,
    unreferenced_since: Option<Timestamp>,
}

/// A blob, ready to be read.
pub struct BlobFile {
    digest: Digest,
    size: u64,
    file: Arc<File>,
    buffers: Arc<BufferPool>,
}

impl BlobFile {
    /// The digest it was asked for by.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// All of it, as a response body.
    pub fn into_body(self) -> BlobBody {
        let size = self.size;
        self.into_range(0, size)
    }

    /// The bytes from `start` up to but not including `end`, as far as the blob reaches.
    pub fn into_range(self, start: u64, end: u64) -> BlobBody {
        BlobBody::new(self.file, self.buffers, start, end.min(self.size))
    }
}

impl Repository {
    /// A blob's size. For [`OperationKind::PullBlob`] and [`OperationKind::PushBlob`].
    ///
    /// Whoever was told that a blob is there has half the collection's grace to push a manifest that needs it.
    pub async fn stat_blob(&self, digest: &Digest) -> Result<u64, StoreError> {
        Ok(self.readable_link(digest).await?.size)
    }

    /// The same for a blob that somebody else is about to serve: it is looked at as if it were opened.
    pub async fn locate_blob(&self, digest: &Digest) -> Result<u64, StoreError> {
        let size = self.readable_link(digest).await?.size;
        self.check_blob(digest).await?;
        Ok(size)
    }

    /// Opens a blob for reading. For [`OperationKind::PullBlob`] and [`OperationKind::PushBlob`].
    pub async fn open_blob(&self, digest: &Digest) -> Result<BlobFile, StoreError> {
        for _ in 0..LINK_ATTEMPTS {
            let link = self.readable_link(digest).await?;
            self.check_blob(digest).await?;
            match self.inner.files.open(link.file).await {
                Ok(file) => {
                    let buffers = Arc::clone(&self.inner.buffers);
                    return Ok(BlobFile { digest: *digest, size: link.size, file, buffers });
                }
                // Collected between the two steps; the row says whether someone pushed it again.
                Err(StoreError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.inner.links.forget(&self.key(*digest));
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Corrupt("a blob's file is missing"))
    }

    async fn readable_link(&self, digest: &Digest) -> Result<LinkEntry, StoreError> {
        self.permitted(&[OperationKind::PullBlob, OperationKind::PushBlob])?;
        self.check_repository().await?;
        self.link(digest).await
    }

    async fn link(&self, digest: &Digest) -> Result<LinkEntry, StoreError> {
        let key = self.key(*digest);
        let stale_before = self.inner.now().plus_seconds(-self.inner.options.collection_grace_seconds / 2);
        let is_safe = |link: &LinkEntry| link.unreferenced_since.is_none_or(|since| since > stale_before);
        if let Some(link) = self.inner.links.get(&key)
            && is_safe(&link)
        {
            return Ok(link);
        }
        for _ in 0..LINK_ATTEMPTS {
            let ticket = self.inner.links.ticket(&key);
            let link = self.select_link(digest).await?.ok_or(StoreError::NotFound(Missing::Blob))?;
            if is_safe(&link) {
                self.inner.links.fill(ticket, key, link);
                return Ok(link);
            }
            self.refresh_link(digest).await?;
        }
        Err(StoreError::Busy)
    }

    async fn select_link(&self, digest: &Digest) -> Result<Option<LinkEntry>, StoreError> {
        let row = sqlx::query(
            "SELECT b.size_bytes, b.file, l.unreferenced_since FROM links l JOIN blobs b ON b.digest = l.digest \
             WHERE l.registry = $1 AND l.repository = $2 AND l.digest = $3",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(digest.to_string())
        .fetch_optional(self.inner.database.read())
        .await?;
        let entry = |row: sqlx::sqlite::SqliteRow| {
            Ok(LinkEntry {
                size: to_u64(row.try_get("size_bytes")?)?,
                file: row.try_get::<&str, _>("file")?.parse()?,
                unreferenced_since: row
                    .try_get::<Option<i64>, _>("unreferenced_since")?
                    .map(Timestamp::from_unix_micros),
            })
        };
        row.map(entry).transpose()
    }

    /// Starts an unreferenced link's grace again.
    async fn refresh_link(&self, digest: &Digest) -> Result<(), StoreError> {
        let (this, digest) = (self.clone(), *digest);
        detached(async move {
            let mut transaction = this.inner.database.write().await?;
            sqlx::query(
                "UPDATE links SET unreferenced_since = $1 \
                 WHERE registry = $2 AND repository = $3 AND digest = $4 AND unreferenced_since IS NOT NULL",
            )
            .bind(this.inner.now().unix_micros())
            .bind(this.registry_text())
            .bind(this.name.as_str())
            .bind(digest.to_string())
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            this.inner.links.forget(&this.key(digest));
            Ok(())
        })
        .await
    }

    /// Links a blob of another repository of the registry here, without moving a byte. For [`OperationKind::PushBlob`], with the
    /// source's permit for [`OperationKind::MountBlob`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the source does not have it.
    pub async fn mount_blob(&self, source: &Permit, digest: &Digest) -> Result<(), StoreError> {
        self.permitted(&[OperationKind::PushBlob])?;
        if source.kind() != OperationKind::MountBlob || source.registry() != self.registry() {
            return Err(StoreError::NotPermitted(source.kind()));
        }
        self.link_from(source, digest).await
    }

    /// Links a blob of a repository of any registry of this store here, without moving a byte: an import. For
    /// [`OperationKind::PushBlob`], with the source's permit for [`OperationKind::PullBlob`]: whoever may read the bytes there may
    /// have them here.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the source does not have it.
    pub async fn import_blob(&self, source: &Permit, digest: &Digest) -> Result<(), StoreError> {
        self.permitted(&[OperationKind::PushBlob])?;
        if source.kind() != OperationKind::PullBlob {
            return Err(StoreError::NotPermitted(source.kind()));
        }
        self.link_from(source, digest).await
    }

    async fn link_from(&self, source: &Permit, digest: &Digest) -> Result<(), StoreError> {
        let from = source.repository().ok_or(StoreError::NoRepository)?.clone();
        let (this, source, digest) = (self.clone(), source.clone(), *digest);
        detached(async move {
            let (own, other) = (this.registry_text(), source.registry().to_string());
            let mut transaction = this.inner.database.write().await?;
            // Linked first and looked at afterwards, in one go: whatever speaks against it takes it back.
            let rows = sqlx::query(
                "SELECT registry, name, delete_enabled, write_enabled, read_enabled, list_enabled FROM repositories \
                 WHERE (registry = $1 AND name = $2) OR (registry = $6 AND name = $3); \
                 INSERT INTO links (registry, repository, digest, unreferenced_since) \
                 SELECT $1, $2, digest, $5 FROM links WHERE registry = $6 AND repository = $3 AND digest = $4 \
                 ON CONFLICT (registry, repository, digest) DO UPDATE SET unreferenced_since = \
                 CASE WHEN links.unreferenced_since IS NULL THEN NULL ELSE excluded.unreferenced_since END \
                 RETURNING digest AS linked",
            )
            .bind(&own)
            .bind(this.name.as_str())
            .bind(from.as_str())
            .bind(digest.to_string())
            .bind(this.inner.now().unix_micros())
            .bind(&other)
            .fetch_all(&mut *transaction)
            .await?;
            let is_linked = rows.last().is_some_and(|row| row.try_get::<&str, _>("linked").is_ok());
            let repositories = rows.len() - usize::from(is_linked);
            for (permit, registry, name) in [(&this.permit, &own, &this.name), (&source, &other, &from)] {
                let found = rows.iter().take(repositories).find(|row| {
                    let is =
                        |column: &str, wanted: &str| row.try_get::<&str, _>(column).is_ok_and(|found| found == wanted);
                    is("registry", registry) && is("name", name.as_str())
                });
                let repository = found.map(attributes_of).transpose()?;
                check_locks(permit, ContentState { repository, ..ContentState::default() })?;
            }
            if !is_linked {
                return Err(StoreError::NotFound(Missing::Blob));
            }
            check_unpassed(&source, &mut *transaction, from.as_str(), &digest).await?;
            transaction.commit().await?;
            this.inner.links.forget(&this.key(digest));
            Ok(())
        })
        .await
    }

    /// Takes a blob out of the repository. For [`OperationKind::DeleteBlob`].
    ///
    /// # Errors
    /// [`StoreError::BlobReferenced`] while a manifest of the repository needs it: deleting it would break that manifest.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.permitted(&[OperationKind::DeleteBlob])?;
        let (this, digest) = (self.clone(), *digest);
        detached(async move {
            let (registry, text) = (this.registry_text(), digest.to_string());
            let mut transaction = this.inner.database.write().await?;
            let repository = select_repository(&mut *transaction, &registry, this.name.as_str()).await?;
            check_locks(&this.permit, ContentState { repository, ..ContentState::default() })?;
            let deleted = sqlx::query(
                "DELETE FROM links WHERE registry = $1 AND repository = $2 AND digest = $3 \
                 RETURNING unreferenced_since",
            )
            .bind(&registry)
            .bind(this.name.as_str())
            .bind(&text)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(StoreError::NotFound(Missing::Blob))?;
            if deleted.try_get::<Option<i64>, _>("unreferenced_since")?.is_none() {
                return Err(StoreError::BlobReferenced);
            }
            let file = delete_unlinked(&mut transaction, &text).await?;
            transaction.commit().await?;
            this.inner.links.forget(&this.key(digest));
            this.inner.files.delete(file.map(|(file, _)| file).into_iter().collect()).await
        })
        .await
    }
}

/// Deletes a blob's row if no repository links it any more; gives its file and size, to be deleted after the commit.
pub(crate) async fn delete_unlinked(
    transaction: &mut Writing,
    digest: &str,
) -> Result<Option<(FileId, u64)>, StoreError> {
    let row = sqlx::query(
        "DELETE FROM blobs WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM links WHERE links.digest = $1) \
         RETURNING file, size_bytes",
    )
    .bind(digest)
    .fetch_optional(&mut **transaction)
    .await?;
    let file = |row: sqlx::sqlite::SqliteRow| {
        Ok((row.try_get::<&str, _>("file")?.parse()?, to_u64(row.try_get("size_bytes")?)?))
    };
    row.map(file).transpose()
}

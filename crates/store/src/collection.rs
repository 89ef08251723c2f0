use std::sync::Arc;
use std::sync::atomic::Ordering;

use postern_model::{RegistryUid, Timestamp};
use sqlx::{QueryBuilder, Sqlite};

use crate::blob_files::FileId;
use crate::blobs::delete_unlinked;
use crate::database::{blocking, detached};
use crate::repository::to_u64;
use crate::store::{Inner, Key};
use crate::uploads::expire_uploads;
use crate::{Store, StoreError};

/// How many rows one transaction of the collection touches: pushes wait no longer than that.
const BATCH: i64 = 256;
/// The same on a full disk, where a large transaction has no room.
const BATCH_WHEN_FULL: i64 = 8;
/// How many names one statement asks about.
const SWEEP_BATCH: usize = 500;

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Links between repositories and blobs.
    pub links: u64,
    /// Blobs that no repository linked any more.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads past their lifetime.
    pub uploads: u64,
    /// Files that a crash had left without an owner; looked for once per start.
    pub orphans: u64,
}

impl Store {
    /// Reclaims what nothing needs any more, online, in short transactions.
    ///
    /// A blob goes when no manifest of any repository needed it, and nobody asked for it, for the whole grace
    /// ([`crate::StoreOptions::collection_grace_seconds`]). The first collection after the start also deletes files that a
    /// crash left behind.
    pub async fn collect_garbage(&self, now: Timestamp) -> Result<Collected, StoreError> {
        let collected = match self.collect_in_batches(now, BATCH).await {
            Err(error) if error.is_storage_full() => {
                tracing::warn!("the disk is full: content is reclaimed with the room set aside");
                let inner = Arc::clone(self.inner());
                blocking::<_, StoreError>(move || {
                    inner.reserve.release();
                    Ok(())
                })
                .await?;
                // The log of writes may hold as much as is missing, and does not give it back before all of it has a place.
                if let Err(error) = self.inner().database.empty_log().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the database's log cannot be emptied");
                }
                self.collect_in_batches(now, BATCH_WHEN_FULL).await
            }
            collected => collected,
        }?;
        if self.inner().reserve.is_spent() {
            let inner = Arc::clone(self.inner());
            if let Err(error) = blocking(move || inner.reserve.restore()).await {
                tracing::warn!(error = %error, "no room can be set aside for a full disk");
            }
        }
        Ok(collected)
    }

    async fn collect_in_batches(&self, now: Timestamp, batch: i64) -> Result<Collected, StoreError> {
        let inner = self.inner();
        let mut total = Collected::default();
        if !inner.swept.load(Ordering::Acquire) {
            total.orphans = sweep_orphans(inner).await?;
            inner.swept.store(true, Ordering::Release);
        }
        self.remove_what_registries_left().await?;
        total.uploads = expire_uploads(inner, now.plus_seconds(-inner.options.upload_lifetime_seconds)).await?;
        let cutoff = now.plus_seconds(-inner.options.collection_grace_seconds);
        loop {
            let collected = detached(collect_links(Arc::clone(inner), cutoff, batch)).await?;
            total.links += collected.links;
            total.blobs += collected.blobs;
            total.bytes += collected.bytes;
            if collected.links == 0 {
                return Ok(total);
            }
        }
    }

    /// Bytes that a registry's manifests, also the deleted ones that can be restored, and the blobs they need take up, each blob once
    /// however many repositories share it.
    pub async fn size_of(&self, registry: RegistryUid) -> Result<u64, StoreError> {
        let size: i64 = sqlx::query_scalar(
            "SELECT COALESCE((SELECT SUM(size_bytes) FROM manifests WHERE registry = $1), 0) + \
             COALESCE((SELECT SUM(size_bytes) FROM deleted_manifests WHERE registry = $1), 0) + \
             COALESCE((SELECT SUM(size_bytes) FROM blobs WHERE digest IN \
             (SELECT digest FROM links WHERE registry = $1 AND unreferenced_since IS NULL)), 0)",
        )
        .bind(registry.to_string())
        .fetch_one(self.inner().database.read())
        .await?;
        to_u64(size)
    }

    /// Whoever deleted a registry may have been stopped before its content was gone.
    async fn remove_what_registries_left(&self) -> Result<(), StoreError> {
        let left: Vec<String> = sqlx::query_scalar(
            "SELECT registry FROM removed_registries WHERE NOT EXISTS (SELECT 1 FROM resources WHERE uid = registry)",
        )
        .fetch_all(self.inner().database.read())
        .await?;
        for registry in left {
            self.remove_registry(registry.parse().map_err(|_| StoreError::Corrupt("uid of a registry"))?).await?;
        }
        Ok(())
    }

    /// Deletes all content of a registry that was deleted itself. Its blobs go with the next collection.
    pub async fn remove_registry(&self, registry: RegistryUid) -> Result<(), StoreError> {
        let inner = Arc::clone(self.inner());
        detached(async move {
            let text = registry.to_string();
            let mut transaction = inner.database.write().await?;
            for statement in [
                "DELETE FROM tags WHERE registry = $1",
                "DELETE FROM manifest_references WHERE registry = $1",
                "DELETE FROM manifests WHERE registry = $1",
                "DELETE FROM quarantine WHERE registry = $1",
                "DELETE FROM deleted_manifests WHERE registry = $1",
                "DELETE FROM deleted_tags WHERE registry = $1",
                "DELETE FROM untagged WHERE registry = $1",
                "DELETE FROM deleted_repositories WHERE registry = $1",
                "DELETE FROM repositories WHERE registry = $1",
                "DELETE FROM runs WHERE registry = $1",
                "DELETE FROM run_numbers WHERE registry = $1",
                "DELETE FROM removed_registries WHERE registry = $1",
                "UPDATE links SET unreferenced_since = 0 WHERE registry = $1",
                // Past their lifetime: unknown from now on, collected with the next collection.
                "UPDATE uploads SET created = 0 WHERE registry = $1",
            ] {
                sqlx::query(statement).bind(&text).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            inner.forget_all();
            crate::Runs::new(inner).remove_files_of(registry).await
        })
        .await
    }
}

/// Takes one batch of links that nobody needed since `cutoff`, and the blobs that had no other link.
async fn collect_links(inner: Arc<Inner>, cutoff: Timestamp, batch: i64) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let mut transaction = inner.database.write().await?;
    let links: Vec<(String, String, String)> = sqlx::query_as(
        "DELETE FROM links WHERE (registry, repository, digest) IN \
         (SELECT registry, repository, digest FROM links WHERE unreferenced_since < $1 \
          ORDER BY unreferenced_since LIMIT $2) \
         RETURNING registry, repository, digest",
    )
    .bind(cutoff.unix_micros())
    .bind(batch)
    .fetch_all(&mut *transaction)
    .await?;
    let mut files = Vec::new();
    for (_, _, digest) in &links {
        if let Some((file, size)) = delete_unlinked(&mut transaction, digest).await? {
            files.push(file);
            collected.blobs += 1;
            collected.bytes += size;
        }
    }
    transaction.commit().await?;
    for (registry, repository, digest) in &links {
        let corrupt = || StoreError::Corrupt("link");
        inner.links.forget(&Key {
            registry: registry.parse().map_err(|_| corrupt())?,
            repository: repository.parse().map_err(|_| corrupt())?,
            item: digest.parse().map_err(|_| corrupt())?,
        });
    }
    collected.links = links.len() as u64;
    inner.files.delete(files).await?;
    Ok(collected)
}

/// Deletes files that neither a blob nor an upload names.
///
/// Safe while pushes go on: an upload's row is there before its file, so a file that was listed first and has no row
/// afterwards never gets one.
async fn sweep_orphans(inner: &Arc<Inner>) -> Result<u64, StoreError> {
    let mut swept = 0;
    for shard in 0..=u8::MAX {
        let lister = Arc::clone(inner);
        let files = blocking(move || lister.files.list(shard)).await?;
        for batch in files.chunks(SWEEP_BATCH) {
            let orphans = without_owner(inner, batch).await?;
            swept += orphans.len() as u64;
            inner.files.delete(orphans).await?;
        }
    }
    Ok(swept)
}

async fn without_owner(inner: &Inner, files: &[FileId]) -> Result<Vec<FileId>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("");
    for (at, table) in ["blobs", "uploads"].into_iter().enumerate() {
        query.push(if at == 0 { "SELECT file FROM " } else { " UNION ALL SELECT file FROM " });
        query.push(table).push(" WHERE file IN (");
        let mut names = query.separated(", ");
        for file in files {
            names.push_bind(file.to_string());
        }
        query.push(")");
    }
    let owned: Vec<String> = query.build_query_scalar().fetch_all(inner.database.read()).await?;
    let owned = owned.iter().map(|name| name.parse()).collect::<Result<std::collections::HashSet<FileId>, _>>()?;
    Ok(files.iter().filter(|file| !owned.contains(file)).copied().collect())
}

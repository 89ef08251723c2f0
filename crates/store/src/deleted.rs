//! What was deleted while the registry's soft delete policy was on: it is listed apart and can be restored until it is purged.

use std::sync::Arc;

use postern_access::{Attributes, ContentState, OperationKind};
use postern_model::{Digest, RegistryUid, RepositoryName, Tag, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::database::detached;
use crate::group::Writing;
use crate::lists::{MAX_ITEMS_PER_PAGE, MAX_NAMES_PER_PAGE, fetched};
use crate::manifests::{insert_repository, put_tag, touch_repository};
use crate::removal::{is_needed, note_untagged};
use crate::repository::{
    attributes_of, check_locks, digest_of, parse_digest, parse_tag, select_manifest_attributes, select_repository,
    select_tag, to_u64,
};
use crate::store::{Inner, TagEntry};
use crate::{Missing, Page, Repository, StoreError};

/// Between the parts of a cursor; in none of them.
const CURSOR_SEPARATOR: char = '~';

/// A manifest that was deleted and is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Config and layers together, in bytes.
    pub image_size: u64,
    /// When it was pushed.
    pub created: Timestamp,
    /// When it was deleted.
    pub deleted: Timestamp,
    /// The tags that led to it and are kept.
    pub tags: Vec<Tag>,
}

/// A tag that was deleted and is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTag {
    /// The tag.
    pub name: Tag,
    /// The manifest that it pointed at.
    pub digest: Digest,
    /// When it was deleted.
    pub deleted: Timestamp,
}

/// The list of a registry's repositories with deleted content.
pub struct DeletedCatalog {
    inner: Arc<Inner>,
    registry: RegistryUid,
}

impl DeletedCatalog {
    pub(crate) const fn new(inner: Arc<Inner>, registry: RegistryUid) -> Self {
        Self { inner, registry }
    }

    /// Names after `last`, in byte order.
    pub async fn page(&self, last: Option<&str>, limit: u32) -> Result<Page<RepositoryName>, StoreError> {
        let limit = limit.min(MAX_NAMES_PER_PAGE);
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT repository FROM deleted_manifests WHERE registry = $1 AND repository > $2 UNION \
             SELECT repository FROM deleted_tags WHERE registry = $1 AND repository > $2 ORDER BY repository LIMIT $3",
        )
        .bind(self.registry.to_string())
        .bind(last.unwrap_or_default())
        .bind(fetched(limit))
        .fetch_all(self.inner.database.read())
        .await?;
        let names = names.iter().map(|name| name.parse().map_err(|_| StoreError::Corrupt("repository name")));
        Ok(Page::cut(names.collect::<Result<Vec<RepositoryName>, _>>()?, limit, ToString::to_string))
    }
}

impl Repository {
    /// The deleted manifests after `last`, by digest. For [`OperationKind::ListDeleted`].
    pub async fn deleted_manifests(&self, last: Option<&str>, limit: u32) -> Result<Page<DeletedManifest>, StoreError> {
        self.permitted(&[OperationKind::ListDeleted])?;
        let limit = limit.min(MAX_ITEMS_PER_PAGE);
        // Tags have no line breaks.
        let rows = sqlx::query(
            "SELECT digest, media_type, image_size_bytes, created, deleted, \
             (SELECT string_agg(t.name, char(10)) FROM deleted_tags t WHERE t.registry = $1 AND t.repository = $2 \
             AND t.digest = m.digest) AS tags FROM deleted_manifests m \
             WHERE registry = $1 AND repository = $2 AND digest > $3 ORDER BY digest LIMIT $4",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(last.unwrap_or_default())
        .bind(fetched(limit))
        .fetch_all(self.inner.database.read())
        .await?;
        let manifest = |row: &SqliteRow| {
            let tags: Option<&str> = row.try_get("tags")?;
            let mut tags = tags.unwrap_or_default().lines().map(parse_tag).collect::<Result<Vec<_>, _>>()?;
            tags.sort();
            Ok::<_, StoreError>(DeletedManifest {
                digest: digest_of(row, "digest")?,
                media_type: row.try_get("media_type")?,
                image_size: to_u64(row.try_get("image_size_bytes")?)?,
                created: Timestamp::from_unix_micros(row.try_get("created")?),
                deleted: Timestamp::from_unix_micros(row.try_get("deleted")?),
                tags,
            })
        };
        let manifests = rows.iter().map(manifest).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(manifests, limit, |manifest| manifest.digest.to_string()))
    }

    /// The deleted tags, those deleted last at the end: that is where clients look for what to restore. For
    /// [`OperationKind::ListDeleted`].
    pub async fn deleted_tags(&self, last: Option<&str>, limit: u32) -> Result<Page<DeletedTag>, StoreError> {
        self.permitted(&[OperationKind::ListDeleted])?;
        let limit = limit.min(MAX_ITEMS_PER_PAGE);
        let (deleted, name, digest) = last.map(parse_cursor).transpose()?.unwrap_or((i64::MIN, "", ""));
        let rows = sqlx::query(
            "SELECT name, digest, deleted FROM deleted_tags WHERE registry = $1 AND repository = $2 \
             AND (deleted, name, digest) > ($3, $4, $5) ORDER BY deleted, name, digest LIMIT $6",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(deleted)
        .bind(name)
        .bind(digest)
        .bind(fetched(limit))
        .fetch_all(self.inner.database.read())
        .await?;
        let tag = |row: &SqliteRow| {
            Ok::<_, StoreError>(DeletedTag {
                name: parse_tag(row.try_get("name")?)?,
                digest: digest_of(row, "digest")?,
                deleted: Timestamp::from_unix_micros(row.try_get("deleted")?),
            })
        };
        let tags = rows.iter().map(tag).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(tags, limit, |tag| {
            format!("{}{CURSOR_SEPARATOR}{}{CURSOR_SEPARATOR}{}", tag.deleted.unix_micros(), tag.name, tag.digest)
        }))
    }

    /// Restores a manifest, and a tag to it if one is given. For [`OperationKind::RestoreDeleted`].
    ///
    /// What an index lists and what refers to the manifest stays deleted. With `force` a tag that points elsewhere is moved, and
    /// what it pointed at is deleted in turn, unless something else still needs it or the policy is off.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not among what was deleted, [`StoreError::SubjectDeleted`] when what it refers to has to be
    /// restored first, [`StoreError::TagExists`] when the tag points elsewhere.
    ///
    /// Source: Azure Container Registry, "Enable soft delete policy", restore (read 2026-11).
    pub async fn restore(&self, digest: &Digest, tag: Option<Tag>, force: bool) -> Result<(), StoreError> {
        self.permitted(&[OperationKind::RestoreDeleted])?;
        let (this, digest) = (self.clone(), *digest);
        detached(async move {
            let (registry, name, now) = (this.registry_text(), this.name.as_str(), this.inner.now());
            let text = digest.to_string();
            let mut transaction = this.inner.database.write().await?;
            let repository = select_repository(&mut *transaction, &registry, name).await?;
            let existing = match &tag {
                Some(tag) => select_tag(&mut *transaction, &registry, name, tag).await?,
                None => None,
            };
            let overwritten = existing.filter(|entry| entry.digest != digest);
            let old_target = match &overwritten {
                Some(entry) => {
                    let target = entry.digest.to_string();
                    select_manifest_attributes(&mut *transaction, &registry, name, &target).await?
                }
                None => None,
            };
            let state = ContentState {
                repository,
                tag: existing.map(|entry| entry.attributes),
                manifest: old_target,
                unpassed: false,
            };
            check_locks(&this.permit, state)?;
            this.find_deleted(&mut transaction, &text, tag.as_ref()).await?;
            if let (Some(_), Some(tag), false) = (&overwritten, &tag, force) {
                return Err(StoreError::TagExists(tag.clone()));
            }
            if repository.is_none() {
                insert_repository(&mut transaction, &registry, name, now).await?;
            }
            this.move_back(&mut transaction, &text).await?;
            let mut removed = None;
            if let Some(tag) = &tag {
                let policies = this.permit.policies();
                if overwritten.is_some() && policies.soft_delete {
                    keep_tag(&mut transaction, &registry, name, tag, now).await?;
                }
                let locks = deleted_attributes(&mut transaction, &registry, name, tag, &text).await?;
                put_tag(&mut transaction, &registry, name, tag, &text, now).await?;
                // A tag that is there keeps the locks that it has.
                if let (None, Some(locks)) = (&existing, locks) {
                    set_tag_attributes(&mut transaction, &registry, name, tag, locks).await?;
                }
                if let (Some(entry), true) = (&overwritten, policies.retention) {
                    note_untagged(&mut transaction, &registry, name, &entry.digest.to_string(), now).await?;
                }
                if let (Some(TagEntry { digest: old, .. }), true) = (overwritten, this.permit.policies().soft_delete)
                    && !is_needed(&mut transaction, &registry, name, &old.to_string()).await?
                {
                    removed = Some(this.remove_manifests(&mut transaction, vec![old]).await?);
                }
            }
            touch_repository(&mut transaction, &registry, name, now).await?;
            transaction.commit().await?;
            if let Some((removed, links)) = removed {
                this.forget(&removed, &links);
            }
            this.inner.manifests.forget(&this.key(digest));
            this.inner.repositories.forget(&this.key(()));
            this.forget_tags(tag);
            Ok(())
        })
        .await
    }

    /// Whether there is something to restore, in the right order.
    async fn find_deleted(&self, transaction: &mut Writing, digest: &str, tag: Option<&Tag>) -> Result<(), StoreError> {
        let (registry, name) = (self.registry_text(), self.name.as_str());
        let found = sqlx::query(
            "SELECT (SELECT s.digest FROM deleted_manifests s \
             WHERE s.registry = $1 AND s.repository = $2 AND s.digest = m.subject) AS subject \
             FROM deleted_manifests m WHERE m.registry = $1 AND m.repository = $2 AND m.digest = $3",
        )
        .bind(&registry)
        .bind(name)
        .bind(digest)
        .fetch_optional(&mut **transaction)
        .await?;
        if let Some(row) = found {
            return match row.try_get::<Option<&str>, _>("subject")? {
                Some(subject) => Err(StoreError::SubjectDeleted(Box::new(parse_digest(subject)?))),
                None => Ok(()),
            };
        }
        // The manifest is there, and its tag may have been deleted alone.
        let found: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM deleted_tags t JOIN manifests m \
             ON m.registry = t.registry AND m.repository = t.repository AND m.digest = t.digest \
             WHERE t.registry = $1 AND t.repository = $2 AND t.digest = $3 AND t.name = $4)",
        )
        .bind(&registry)
        .bind(name)
        .bind(digest)
        .bind(tag.map(Tag::as_str))
        .fetch_one(&mut **transaction)
        .await?;
        if found { Ok(()) } else { Err(StoreError::NotFound(Missing::Manifest)) }
    }

    async fn move_back(&self, transaction: &mut Writing, digest: &str) -> Result<(), StoreError> {
        for statement in [
            "INSERT INTO manifests (registry, repository, digest, media_type, config_media_type, artifact_type, subject, \
             annotations, size_bytes, image_size_bytes, architecture, os, created, updated, \
             delete_enabled, write_enabled, read_enabled, list_enabled, content) \
             SELECT registry, repository, digest, media_type, config_media_type, artifact_type, subject, \
             annotations, size_bytes, image_size_bytes, architecture, os, created, $4, \
             delete_enabled, write_enabled, read_enabled, list_enabled, content FROM deleted_manifests \
             WHERE registry = $1 AND repository = $2 AND digest = $3",
            "DELETE FROM deleted_manifests WHERE registry = $1 AND repository = $2 AND digest = $3",
        ] {
            sqlx::query(statement)
                .bind(self.registry_text())
                .bind(self.name.as_str())
                .bind(digest)
                .bind(self.inner.now().unix_micros())
                .execute(&mut **transaction)
                .await?;
        }
        Ok(())
    }
}

fn parse_cursor(text: &str) -> Result<(i64, &str, &str), StoreError> {
    let mut parts = text.splitn(3, CURSOR_SEPARATOR);
    match (parts.next().map(str::parse), parts.next(), parts.next()) {
        (Some(Ok(deleted)), Some(name), Some(digest)) => Ok((deleted, name, digest)),
        _ => Err(StoreError::BadCursor),
    }
}

/// How a tag was locked when it was deleted from this manifest.
async fn deleted_attributes(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    tag: &Tag,
    digest: &str,
) -> Result<Option<Attributes>, StoreError> {
    let row = sqlx::query(
        "SELECT delete_enabled, write_enabled, read_enabled, list_enabled FROM deleted_tags \
         WHERE registry = $1 AND repository = $2 AND name = $3 AND digest = $4",
    )
    .bind(registry)
    .bind(repository)
    .bind(tag.as_str())
    .bind(digest)
    .fetch_optional(&mut **transaction)
    .await?;
    row.as_ref().map(attributes_of).transpose()
}

async fn set_tag_attributes(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    tag: &Tag,
    locks: Attributes,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE tags SET delete_enabled = $4, write_enabled = $5, read_enabled = $6, list_enabled = $7 \
         WHERE registry = $1 AND repository = $2 AND name = $3",
    )
    .bind(registry)
    .bind(repository)
    .bind(tag.as_str())
    .bind(locks.delete_enabled)
    .bind(locks.write_enabled)
    .bind(locks.read_enabled)
    .bind(locks.list_enabled)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Notes tags that are about to go. One that went before from the same manifest went as it is locked now.
macro_rules! keep_tags {
    ($which:literal) => {
        concat!(
            "INSERT INTO deleted_tags (registry, repository, name, digest, created, \
             delete_enabled, write_enabled, read_enabled, list_enabled, deleted) \
             SELECT registry, repository, name, digest, created, \
             delete_enabled, write_enabled, read_enabled, list_enabled, $4 FROM tags \
             WHERE registry = $1 AND repository = $2 AND ",
            $which,
            " = $3 ON CONFLICT (registry, repository, name, digest) DO UPDATE SET deleted = excluded.deleted, \
             created = excluded.created, delete_enabled = excluded.delete_enabled, write_enabled = excluded.write_enabled, \
             read_enabled = excluded.read_enabled, list_enabled = excluded.list_enabled"
        )
    };
}

/// Notes a tag that is about to go.
pub(crate) async fn keep_tag(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    tag: &Tag,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(keep_tags!("name"))
        .bind(registry)
        .bind(repository)
        .bind(tag.as_str())
        .bind(now.unix_micros())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Keeps a manifest and its tags, all of which are about to go.
pub(crate) async fn keep_manifest(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    digest: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for statement in [
        keep_tags!("digest"),
        "INSERT INTO deleted_manifests (registry, repository, digest, media_type, config_media_type, artifact_type, subject, \
         annotations, size_bytes, image_size_bytes, architecture, os, created, updated, \
         delete_enabled, write_enabled, read_enabled, list_enabled, deleted, content) \
         SELECT registry, repository, digest, media_type, config_media_type, artifact_type, subject, \
         annotations, size_bytes, image_size_bytes, architecture, os, created, updated, \
         delete_enabled, write_enabled, read_enabled, list_enabled, $4, content FROM manifests \
         WHERE registry = $1 AND repository = $2 AND digest = $3",
    ] {
        sqlx::query(statement)
            .bind(registry)
            .bind(repository)
            .bind(digest)
            .bind(now.unix_micros())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

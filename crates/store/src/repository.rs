use std::sync::Arc;

use postern_access::{Attributes, ContentState, OperationKind, Permit};
use postern_model::{Digest, Reference, RegistryUid, RepositoryName, Tag};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteExecutor};

use crate::store::{Inner, Key, TagEntry};
use crate::{Missing, StoreError};

/// One repository, for one permitted operation.
///
/// Every method says which [`OperationKind`]s it is for and refuses the permit of any other; those that write ask the permit
/// about locks inside their transaction.
#[derive(Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
    pub(crate) permit: Permit,
    pub(crate) name: RepositoryName,
}

impl Repository {
    pub(crate) const fn new(inner: Arc<Inner>, permit: Permit, name: RepositoryName) -> Self {
        Self { inner, permit, name }
    }

    /// Its name.
    pub const fn name(&self) -> &RepositoryName {
        &self.name
    }

    pub(crate) const fn registry(&self) -> RegistryUid {
        self.permit.registry()
    }

    /// The registry as the database spells it.
    pub(crate) fn registry_text(&self) -> String {
        self.registry().to_string()
    }

    pub(crate) fn key<T>(&self, item: T) -> Key<T> {
        Key { registry: self.registry(), repository: self.name.clone(), item }
    }

    pub(crate) fn permitted(&self, kinds: &[OperationKind]) -> Result<(), StoreError> {
        if kinds.contains(&self.permit.kind()) { Ok(()) } else { Err(StoreError::NotPermitted(self.permit.kind())) }
    }

    /// The repository's attributes; `None` while it has no manifest. From memory when it can.
    pub(crate) async fn attributes(&self) -> Result<Option<Attributes>, StoreError> {
        let key = self.key(());
        if let Some(attributes) = self.inner.repositories.get(&key) {
            return Ok(attributes);
        }
        let ticket = self.inner.repositories.ticket(&key);
        let attributes =
            select_repository(self.inner.database.read(), &self.registry_text(), self.name.as_str()).await?;
        self.inner.repositories.fill(ticket, key, attributes);
        Ok(attributes)
    }

    /// Where a tag points. From memory when it can.
    pub(crate) async fn tag_entry(&self, tag: &Tag) -> Result<Option<TagEntry>, StoreError> {
        let key = self.key(tag.clone());
        if let Some(entry) = self.inner.tags.get(&key) {
            return Ok(Some(entry));
        }
        let ticket = self.inner.tags.ticket(&key);
        let entry = select_tag(self.inner.database.read(), &self.registry_text(), self.name.as_str(), tag).await?;
        if let Some(entry) = entry {
            self.inner.tags.fill(ticket, key, entry);
        }
        Ok(entry)
    }

    /// What memory must no longer serve after these tags changed, came or went.
    pub(crate) fn forget_tags(&self, tags: impl IntoIterator<Item = Tag>) {
        for tag in tags {
            self.inner.tags.forget(&self.key(tag));
        }
        self.inner.tag_pages.forget_whole(&self.key(()));
    }

    /// The digest that a reference stands for; a digest stands for itself, whether it exists or not. For any operation.
    pub async fn resolve(&self, reference: &Reference) -> Result<Digest, StoreError> {
        match reference {
            Reference::Digest(digest) => Ok(*digest),
            Reference::Tag(tag) => Ok(self.tag_entry(tag).await?.ok_or(StoreError::NotFound(Missing::Tag))?.digest),
        }
    }

    /// Asks the permit about the repository's own locks, from memory.
    pub(crate) async fn check_repository(&self) -> Result<(), StoreError> {
        let repository = self.attributes().await?;
        check_locks(&self.permit, ContentState { repository, ..ContentState::default() })
    }
}

/// Asks the permit about locks. A refusal says what all of them were, so that every one to lift can be told.
pub(crate) fn check_locks(permit: &Permit, state: ContentState) -> Result<(), StoreError> {
    permit.check_content(&state).map_err(|cause| StoreError::Locked(cause, state))
}

pub(crate) async fn select_repository(
    executor: impl SqliteExecutor<'_>,
    registry: &str,
    name: &str,
) -> Result<Option<Attributes>, StoreError> {
    let row = sqlx::query(
        "SELECT delete_enabled, write_enabled, read_enabled, list_enabled FROM repositories \
         WHERE registry = $1 AND name = $2",
    )
    .bind(registry)
    .bind(name)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(attributes_of).transpose()
}

pub(crate) async fn select_tag(
    executor: impl SqliteExecutor<'_>,
    registry: &str,
    repository: &str,
    tag: &Tag,
) -> Result<Option<TagEntry>, StoreError> {
    let row = sqlx::query(
        "SELECT digest, delete_enabled, write_enabled, read_enabled, list_enabled FROM tags \
         WHERE registry = $1 AND repository = $2 AND name = $3",
    )
    .bind(registry)
    .bind(repository)
    .bind(tag.as_str())
    .fetch_optional(executor)
    .await?;
    let entry = |row| Ok(TagEntry { digest: digest_of(row, "digest")?, attributes: attributes_of(row)? });
    row.as_ref().map(entry).transpose()
}

pub(crate) async fn select_manifest_attributes(
    executor: impl SqliteExecutor<'_>,
    registry: &str,
    repository: &str,
    digest: &str,
) -> Result<Option<Attributes>, StoreError> {
    let row = sqlx::query(
        "SELECT delete_enabled, write_enabled, read_enabled, list_enabled FROM manifests \
         WHERE registry = $1 AND repository = $2 AND digest = $3",
    )
    .bind(registry)
    .bind(repository)
    .bind(digest)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(attributes_of).transpose()
}

pub(crate) fn attributes_of(row: &SqliteRow) -> Result<Attributes, StoreError> {
    Ok(Attributes {
        delete_enabled: row.try_get("delete_enabled")?,
        write_enabled: row.try_get("write_enabled")?,
        read_enabled: row.try_get("read_enabled")?,
        list_enabled: row.try_get("list_enabled")?,
    })
}

pub(crate) fn digest_of(row: &SqliteRow, column: &str) -> Result<Digest, StoreError> {
    parse_digest(row.try_get(column)?)
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("digest"))
}

pub(crate) fn parse_tag(text: &str) -> Result<Tag, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("tag"))
}

/// A count or size as the database holds it.
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn to_u64(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("negative size"))
}

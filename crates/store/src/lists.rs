use std::collections::HashMap;
use std::sync::Arc;

use postern_access::{Attributes, ContentState, OperationKind};
use postern_model::{Digest, RegistryUid, RepositoryName, Tag, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::database::detached;
use crate::manifests::ManifestChild;
use crate::quarantine::QuarantineChange;
use crate::repository::{attributes_of, check_locks, digest_of, parse_digest, parse_tag, select_repository, to_u64};
use crate::store::{Inner, TagPageKey};
use crate::{Missing, Repository, StoreError};

/// Longest page of plain names.
pub const MAX_NAMES_PER_PAGE: u32 = 10_000;
/// Longest page of descriptions.
pub const MAX_ITEMS_PER_PAGE: u32 = 1_000;

/// Between a name and its time in a cursor; in neither of them.
const CURSOR_SEPARATOR: char = '~';

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give as `last` for the next page; `None` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts what [`fetched`] asked for down to the page, and says whether there is more.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

impl Page<Tag> {
    /// Bytes in memory, about.
    pub(crate) fn weight(&self) -> u32 {
        const PAGE_BYTES: usize = 512;
        let names: usize = self.items.iter().map(|tag| tag.as_str().len() + size_of::<Tag>()).sum();
        u32::try_from(PAGE_BYTES + names).unwrap_or(u32::MAX)
    }
}

/// One more than the page holds, to see whether there is another.
pub(crate) fn fetched(limit: u32) -> i64 {
    if limit == 0 { 0 } else { i64::from(limit) + 1 }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name, byte by byte (`none`).
    #[default]
    Name,
    /// Last updated first (`timedesc`).
    NewestFirst,
    /// Last updated last (`timeasc`).
    OldestFirst,
}

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Begin after this: a name, or what [`Page::next`] said.
    pub last: Option<String>,
    /// At most so many, capped at [`MAX_ITEMS_PER_PAGE`].
    pub limit: u32,
    /// In this order.
    pub order: Order,
}

/// A repository's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryInfo {
    /// Its name.
    pub name: RepositoryName,
    /// When its first manifest was pushed.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// How many manifests it has.
    pub manifest_count: u64,
    /// How many tags it has.
    pub tag_count: u64,
    /// Its locks.
    pub attributes: Attributes,
}

/// A tag's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagInfo {
    /// The tag.
    pub name: Tag,
    /// The manifest it points at.
    pub digest: Digest,
    /// When it was first pushed.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Its locks.
    pub attributes: Attributes,
}

/// A manifest's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Media type of an image's config.
    pub config_media_type: Option<String>,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Its own size in bytes.
    pub size: u64,
    /// Config and layers together, in bytes.
    pub image_size: u64,
    /// Processor architecture of an image.
    pub architecture: Option<String>,
    /// Operating system of an image.
    pub os: Option<String>,
    /// When it was pushed.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Its locks.
    pub attributes: Attributes,
    /// The tags that point at it.
    pub tags: Vec<Tag>,
    /// What an index lists.
    pub children: Vec<ManifestChild>,
    /// What somebody has said about it under quarantine.
    pub quarantine: QuarantineChange,
}

/// New values for locks; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// `deleteEnabled`.
    pub delete_enabled: Option<bool>,
    /// `writeEnabled`.
    pub write_enabled: Option<bool>,
    /// `readEnabled`.
    pub read_enabled: Option<bool>,
    /// `listEnabled`.
    pub list_enabled: Option<bool>,
}

/// The list of a registry's repositories.
pub struct Catalog {
    inner: Arc<Inner>,
    registry: RegistryUid,
}

impl Catalog {
    pub(crate) const fn new(inner: Arc<Inner>, registry: RegistryUid) -> Self {
        Self { inner, registry }
    }

    /// Names after `last`, in byte order. Hidden repositories are left out.
    pub async fn page(&self, last: Option<&str>, limit: u32) -> Result<Page<RepositoryName>, StoreError> {
        let limit = limit.min(MAX_NAMES_PER_PAGE);
        let names: Option<String> = sqlx::query_scalar(
            "SELECT string_agg(name, char(10)) FROM (SELECT name FROM repositories \
             WHERE registry = $1 AND name > $2 AND list_enabled ORDER BY name LIMIT $3)",
        )
        .bind(self.registry.to_string())
        .bind(last.unwrap_or_default())
        .bind(fetched(limit))
        .fetch_one(self.inner.database.read())
        .await?;
        let names = sorted(names.as_deref().unwrap_or_default()).into_iter();
        let names = names.map(|name| name.parse().map_err(|_| StoreError::Corrupt("repository name")));
        Ok(Page::cut(names.collect::<Result<Vec<RepositoryName>, _>>()?, limit, ToString::to_string))
    }
}

/// Lines in byte order: an aggregate promises no order, though it finds the names in this one.
fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

impl Repository {
    /// Tags after `last`, in byte order. For [`OperationKind::ListTags`]. Hidden tags are left out. From memory when it can.
    pub async fn tag_names(&self, last: Option<&str>, limit: u32) -> Result<Arc<Page<Tag>>, StoreError> {
        self.permitted(&[OperationKind::ListTags])?;
        let limit = limit.min(MAX_NAMES_PER_PAGE);
        let last = last.unwrap_or_default();
        let key = TagPageKey { repository: self.key(()), last: last.into(), limit };
        if let Some(page) = self.inner.tag_pages.get(&key) {
            return Ok(page);
        }
        let ticket = self.inner.tag_pages.ticket(&key);
        // One row with a line per name: a row of its own costs the driver far more than a name costs the database.
        let names: Option<String> = sqlx::query_scalar(
            "SELECT string_agg(name, char(10)) FROM (SELECT name FROM tags \
             WHERE registry = $1 AND repository = $2 AND name > $3 AND list_enabled ORDER BY name LIMIT $4)",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(last)
        .bind(fetched(limit))
        .fetch_one(self.inner.database.read())
        .await?;
        // Where there is a tag there is a repository.
        let Some(names) = names else {
            self.must_exist().await?;
            return Ok(Arc::new(Page { items: Vec::new(), next: None }));
        };
        let tags = sorted(&names).into_iter().map(parse_tag).collect::<Result<Vec<_>, _>>()?;
        let page = Arc::new(Page::cut(tags, limit, ToString::to_string));
        self.inner.tag_pages.fill(ticket, key, Arc::clone(&page));
        Ok(page)
    }

    /// What the repository is. For [`OperationKind::ReadMetadata`] and [`OperationKind::WriteMetadata`].
    pub async fn info(&self) -> Result<RepositoryInfo, StoreError> {
        self.permitted(METADATA)?;
        let row = sqlx::query(
            "SELECT created, updated, delete_enabled, write_enabled, read_enabled, list_enabled, \
             (SELECT COUNT(*) FROM manifests m WHERE m.registry = $1 AND m.repository = $2) AS manifest_count, \
             (SELECT COUNT(*) FROM tags t WHERE t.registry = $1 AND t.repository = $2) AS tag_count \
             FROM repositories WHERE registry = $1 AND name = $2",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .fetch_optional(self.inner.database.read())
        .await?
        .ok_or(StoreError::NotFound(Missing::Repository))?;
        Ok(RepositoryInfo {
            name: self.name.clone(),
            created: time_of(&row, "created")?,
            updated: time_of(&row, "updated")?,
            manifest_count: to_u64(row.try_get("manifest_count")?)?,
            tag_count: to_u64(row.try_get("tag_count")?)?,
            attributes: attributes_of(&row)?,
        })
    }

    /// What a tag is. For [`OperationKind::ReadMetadata`] and [`OperationKind::WriteMetadata`].
    pub async fn tag_info(&self, tag: &Tag) -> Result<TagInfo, StoreError> {
        self.permitted(METADATA)?;
        let mut query = self.select(TAG_COLUMNS, "tags");
        query.push(" AND name = ").push_bind(tag.as_str());
        let row = query.build().fetch_optional(self.inner.database.read()).await?;
        row.as_ref().map(tag_of).transpose()?.ok_or(StoreError::NotFound(Missing::Tag))
    }

    /// What tags there are, all or those of one manifest. For [`OperationKind::ReadMetadata`]. Hidden ones are left out.
    pub async fn tag_infos(&self, of: Option<&Digest>, page: &PageRequest) -> Result<Page<TagInfo>, StoreError> {
        self.permitted(METADATA)?;
        self.must_exist().await?;
        let mut query = self.select(TAG_COLUMNS, "tags");
        query.push(" AND list_enabled");
        if let Some(digest) = of {
            query.push(" AND digest = ").push_bind(digest.to_string());
        }
        let limit = self.continue_after(&mut query, "name", "tags", page).await?;
        let rows = query.build().fetch_all(self.inner.database.read()).await?;
        let tags = rows.iter().map(tag_of).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(tags, limit, |tag| cursor(page.order, tag.name.as_str(), tag.updated)))
    }

    /// What a manifest is. For [`OperationKind::ReadMetadata`] and what changes it.
    pub async fn manifest_info(&self, digest: &Digest) -> Result<ManifestInfo, StoreError> {
        self.permitted(&[OperationKind::ReadMetadata, OperationKind::WriteMetadata, OperationKind::WriteQuarantine])?;
        let mut query = self.select(MANIFEST_COLUMNS, "manifests");
        query.push(" AND digest = ").push_bind(digest.to_string());
        let row = query.build().fetch_optional(self.inner.database.read()).await?;
        let mut manifests = vec![manifest_of(&row.ok_or(StoreError::NotFound(Missing::Manifest))?)?];
        self.add_tags_and_children(&mut manifests).await?;
        manifests.pop().ok_or(StoreError::NotFound(Missing::Manifest))
    }

    /// What manifests there are. For [`OperationKind::ReadMetadata`]. Hidden ones are left out.
    pub async fn manifest_infos(&self, page: &PageRequest) -> Result<Page<ManifestInfo>, StoreError> {
        self.permitted(METADATA)?;
        self.must_exist().await?;
        let mut query = self.select(MANIFEST_COLUMNS, "manifests");
        query.push(" AND list_enabled");
        let limit = self.continue_after(&mut query, "digest", "manifests", page).await?;
        let rows = query.build().fetch_all(self.inner.database.read()).await?;
        let manifests = rows.iter().map(manifest_of).collect::<Result<Vec<_>, _>>()?;
        let mut page =
            Page::cut(manifests, limit, |manifest| cursor(page.order, &manifest.digest.to_string(), manifest.updated));
        self.add_tags_and_children(&mut page.items).await?;
        Ok(page)
    }

    /// Locks or unlocks the repository. For [`OperationKind::WriteMetadata`].
    pub async fn update(&self, change: AttributeChange) -> Result<(), StoreError> {
        self.change(change, "repositories", "name", self.name.to_string(), Missing::Repository).await
    }

    /// Locks or unlocks a tag. For [`OperationKind::WriteMetadata`].
    pub async fn update_tag(&self, tag: &Tag, change: AttributeChange) -> Result<(), StoreError> {
        self.change(change, "tags", "name", tag.to_string(), Missing::Tag).await
    }

    /// Locks or unlocks a manifest. For [`OperationKind::WriteMetadata`].
    pub async fn update_manifest(&self, digest: &Digest, change: AttributeChange) -> Result<(), StoreError> {
        self.change(change, "manifests", "digest", digest.to_string(), Missing::Manifest).await
    }

    async fn change(
        &self,
        change: AttributeChange,
        table: &'static str,
        column: &'static str,
        name: String,
        missing: Missing,
    ) -> Result<(), StoreError> {
        self.permitted(&[OperationKind::WriteMetadata])?;
        let this = self.clone();
        detached(async move {
            let (registry, now) = (this.registry_text(), this.inner.now());
            let mut transaction = this.inner.database.write().await?;
            let repository = select_repository(&mut *transaction, &registry, this.name.as_str()).await?;
            check_locks(&this.permit, ContentState { repository, ..ContentState::default() })?;
            let mut query = QueryBuilder::<Sqlite>::new("UPDATE ");
            query.push(table).push(" SET updated = ").push_bind(now.unix_micros());
            for (attribute, value) in [
                ("delete_enabled", change.delete_enabled),
                ("write_enabled", change.write_enabled),
                ("read_enabled", change.read_enabled),
                ("list_enabled", change.list_enabled),
            ] {
                if let Some(value) = value {
                    query.push(", ").push(attribute).push(" = ").push_bind(value);
                }
            }
            query.push(" WHERE registry = ").push_bind(registry);
            if missing != Missing::Repository {
                query.push(" AND repository = ").push_bind(this.name.to_string());
            }
            query.push(" AND ").push(column).push(" = ").push_bind(name.clone());
            if query.build().execute(&mut *transaction).await?.rows_affected() == 0 {
                return Err(StoreError::NotFound(missing));
            }
            transaction.commit().await?;
            match missing {
                Missing::Tag => this.forget_tags([parse_tag(&name)?]),
                Missing::Manifest => this.inner.manifests.forget(&this.key(parse_digest(&name)?)),
                _ => this.inner.repositories.forget(&this.key(())),
            }
            Ok(())
        })
        .await
    }

    async fn must_exist(&self) -> Result<(), StoreError> {
        self.attributes().await?.map(|_| ()).ok_or(StoreError::NotFound(Missing::Repository))
    }

    fn select(&self, columns: &str, table: &str) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new("SELECT ");
        query.push(columns).push(" FROM ").push(table);
        query.push(" WHERE registry = ").push_bind(self.registry_text());
        query.push(" AND repository = ").push_bind(self.name.to_string());
        query
    }

    /// Adds where the list goes on, its order and its limit.
    async fn continue_after(
        &self,
        query: &mut QueryBuilder<Sqlite>,
        column: &str,
        table: &str,
        page: &PageRequest,
    ) -> Result<u32, StoreError> {
        let after = match (&page.last, page.order) {
            (None, _) => None,
            (Some(last), Order::Name) => Some((last.clone(), None)),
            (Some(last), Order::NewestFirst | Order::OldestFirst) => Some(self.time_cursor(last, column, table).await?),
        };
        let (comparison, direction) = if page.order == Order::NewestFirst { (" < ", " DESC") } else { (" > ", "") };
        match after {
            None => {}
            Some((name, None)) => {
                query.push(" AND ").push(column).push(" > ").push_bind(name);
            }
            Some((name, Some(updated))) => {
                query.push(" AND (updated, ").push(column).push(")").push(comparison).push("(").push_bind(updated);
                query.push(", ").push_bind(name).push(")");
            }
        }
        query.push(" ORDER BY ");
        if page.order != Order::Name {
            query.push("updated").push(direction).push(", ");
        }
        let limit = page.limit.min(MAX_ITEMS_PER_PAGE);
        query.push(column).push(direction).push(" LIMIT ").push_bind(fetched(limit));
        Ok(limit)
    }

    /// A cursor carries its item's time, so that the list goes on even when the item is gone; a plain name is looked up.
    async fn time_cursor(&self, last: &str, column: &str, table: &str) -> Result<(String, Option<i64>), StoreError> {
        if let Some((name, updated)) = last.rsplit_once(CURSOR_SEPARATOR) {
            return Ok((name.to_owned(), Some(updated.parse().map_err(|_| StoreError::BadCursor)?)));
        }
        let mut query = self.select("updated", table);
        query.push(" AND ").push(column).push(" = ").push_bind(last.to_owned());
        let updated = query.build_query_scalar().fetch_optional(self.inner.database.read()).await?;
        Ok((last.to_owned(), Some(updated.ok_or(StoreError::BadCursor)?)))
    }

    async fn add_tags_and_children(&self, manifests: &mut [ManifestInfo]) -> Result<(), StoreError> {
        if manifests.is_empty() {
            return Ok(());
        }
        let places: HashMap<Digest, usize> =
            manifests.iter().enumerate().map(|(at, manifest)| (manifest.digest, at)).collect();
        let digests: Vec<String> = manifests.iter().map(|manifest| manifest.digest.to_string()).collect();
        let among = |query: &mut QueryBuilder<Sqlite>, column: &str| {
            query.push(" AND ").push(column).push(" IN (");
            let mut list = query.separated(", ");
            for digest in &digests {
                list.push_bind(digest.clone());
            }
            query.push(")");
        };
        let mut tags = self.select("digest, name", "tags");
        among(&mut tags, "digest");
        tags.push(" ORDER BY name");
        for row in tags.build().fetch_all(self.inner.database.read()).await? {
            let place = places.get(&digest_of(&row, "digest")?);
            if let Some(manifest) = place.and_then(|at| manifests.get_mut(*at)) {
                manifest.tags.push(parse_tag(row.try_get("name")?)?);
            }
        }
        let mut children = self.select("manifest, digest, architecture, os", "manifest_references");
        among(&mut children, "manifest");
        children.push(" AND kind = 'child' ORDER BY manifest, position");
        for row in children.build().fetch_all(self.inner.database.read()).await? {
            let place = places.get(&digest_of(&row, "manifest")?);
            if let Some(manifest) = place.and_then(|at| manifests.get_mut(*at)) {
                manifest.children.push(ManifestChild {
                    digest: digest_of(&row, "digest")?,
                    architecture: row.try_get("architecture")?,
                    os: row.try_get("os")?,
                });
            }
        }
        Ok(())
    }
}

const METADATA: &[OperationKind] = &[OperationKind::ReadMetadata, OperationKind::WriteMetadata];
const TAG_COLUMNS: &str = "name, digest, created, updated, delete_enabled, write_enabled, read_enabled, list_enabled";
const MANIFEST_COLUMNS: &str = "digest, media_type, config_media_type, artifact_type, size_bytes, image_size_bytes, \
     architecture, os, created, updated, delete_enabled, write_enabled, read_enabled, list_enabled, \
     (SELECT q.state FROM quarantine q WHERE q.registry = manifests.registry AND q.repository = manifests.repository \
     AND q.digest = manifests.digest) AS quarantine_state, \
     (SELECT q.details FROM quarantine q WHERE q.registry = manifests.registry AND q.repository = manifests.repository \
     AND q.digest = manifests.digest) AS quarantine_details";

fn cursor(order: Order, name: &str, updated: Timestamp) -> String {
    match order {
        Order::Name => name.to_owned(),
        Order::NewestFirst | Order::OldestFirst => format!("{name}{CURSOR_SEPARATOR}{}", updated.unix_micros()),
    }
}

fn time_of(row: &SqliteRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_unix_micros(row.try_get(column)?))
}

fn tag_of(row: &SqliteRow) -> Result<TagInfo, StoreError> {
    Ok(TagInfo {
        name: parse_tag(row.try_get("name")?)?,
        digest: digest_of(row, "digest")?,
        created: time_of(row, "created")?,
        updated: time_of(row, "updated")?,
        attributes: attributes_of(row)?,
    })
}

fn manifest_of(row: &SqliteRow) -> Result<ManifestInfo, StoreError> {
    Ok(ManifestInfo {
        digest: digest_of(row, "digest")?,
        media_type: row.try_get("media_type")?,
        config_media_type: row.try_get("config_media_type")?,
        artifact_type: row.try_get("artifact_type")?,
        size: to_u64(row.try_get("size_bytes")?)?,
        image_size: to_u64(row.try_get("image_size_bytes")?)?,
        architecture: row.try_get("architecture")?,
        os: row.try_get("os")?,
        created: time_of(row, "created")?,
        updated: time_of(row, "updated")?,
        attributes: attributes_of(row)?,
        tags: Vec::new(),
        children: Vec::new(),
        quarantine: QuarantineChange {
            state: row.try_get::<Option<String>, _>("quarantine_state")?.filter(|state| !state.is_empty()),
            details: row.try_get("quarantine_details")?,
        },
    })
}

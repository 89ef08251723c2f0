use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use postern_access::{Attributes, ContentState, OperationKind, QuarantineView};
use postern_model::{Digest, Reference, Tag, Timestamp};
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::database::detached;
use crate::group::Writing;
use crate::quarantine::PASSED;
use crate::removal::note_untagged;
use crate::repository::{attributes_of, check_locks, digest_of, parse_digest, select_tag, to_i64};
use crate::store::TagEntry;
use crate::{Missing, Repository, StoreError};

/// Largest manifest.
///
/// Source: OCI distribution specification, "Pushing Manifests": registries must take at least 4 MiB; the emulated service takes no more.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// How often a tag that moves under a reader is looked at again.
const TAG_ATTEMPTS: usize = 16;

/// Rows of one insert; seven parameters each, well below the database's limit of parameters.
const REFERENCES_PER_INSERT: usize = 500;

/// A manifest as it is served: the bytes exactly as they were pushed.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Media type, byte for byte as pushed.
    pub media_type: Box<str>,
    /// The bytes.
    pub bytes: Bytes,
    /// Its locks.
    pub attributes: Attributes,
    /// Somebody has passed it; it counts while the registry's quarantine is on.
    pub passed: bool,
}

impl Manifest {
    /// About how much memory it takes.
    pub(crate) fn weight(&self) -> u32 {
        u32::try_from(self.bytes.len() + self.media_type.len() + 256).unwrap_or(u32::MAX)
    }
}

/// What a pushed manifest says, parsed and verified by the caller.
#[derive(Clone, Debug)]
pub struct ManifestFacts {
    /// Digest of the bytes, by the algorithm the client asked for.
    pub digest: Digest,
    /// Media type, byte for byte as pushed.
    pub media_type: String,
    /// The bytes, at most [`MAX_MANIFEST_BYTES`].
    pub bytes: Bytes,
    /// Media type of an image's config.
    pub config_media_type: Option<String>,
    /// Config and layers: what must be in the repository.
    pub blobs: Vec<Digest>,
    /// What an index lists.
    pub children: Vec<ManifestChild>,
    /// The manifest that this one is about.
    pub subject: Option<Digest>,
    /// As lists of referrers show it: the manifest's own, else an image's config media type.
    pub artifact_type: Option<String>,
    /// Its annotations as JSON text.
    pub annotations: Option<String>,
    /// Config and layers together, in bytes.
    pub image_size: u64,
    /// Processor architecture of an image.
    pub architecture: Option<String>,
    /// Operating system of an image.
    pub os: Option<String>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestChild {
    /// The manifest it names.
    pub digest: Digest,
    /// Its platform's architecture.
    pub architecture: Option<String>,
    /// Its platform's operating system.
    pub os: Option<String>,
}

/// What a push changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPut {
    /// Whether the manifest is new to the repository.
    pub created: bool,
    /// Whether the repository is new.
    pub repository_created: bool,
}

impl Repository {
    /// A manifest, after its locks were looked at. For [`OperationKind::PullManifest`]. From memory when it can: then without a
    /// database call.
    pub async fn manifest(&self, reference: &Reference) -> Result<Arc<Manifest>, StoreError> {
        self.permitted(&[OperationKind::PullManifest])?;
        let repository = self.attributes().await?;
        if repository.is_none() {
            return Err(StoreError::NotFound(Missing::Repository));
        }
        for _ in 0..TAG_ATTEMPTS {
            let (digest, tag) = match reference {
                Reference::Digest(digest) => (*digest, None),
                Reference::Tag(tag) => {
                    let entry = self.tag_entry(tag).await?.ok_or(StoreError::NotFound(Missing::Manifest))?;
                    (entry.digest, Some(entry.attributes))
                }
            };
            if let Some(manifest) = self.stored_manifest(&digest).await? {
                let (manifest_attributes, unpassed) = (Some(manifest.attributes), !manifest.passed);
                check_locks(&self.permit, ContentState { repository, tag, manifest: manifest_attributes, unpassed })?;
                return Ok(manifest);
            }
            // Between the two looks the tag may have moved and what it pointed at may have been deleted.
            let Reference::Tag(tag) = reference else { break };
            self.inner.tags.forget(&self.key(tag.clone()));
        }
        Err(StoreError::NotFound(Missing::Manifest))
    }

    async fn stored_manifest(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>, StoreError> {
        let key = self.key(*digest);
        if let Some(manifest) = self.inner.manifests.get(&key) {
            return Ok(Some(manifest));
        }
        let ticket = self.inner.manifests.ticket(&key);
        let row = sqlx::query(
            "SELECT media_type, content, delete_enabled, write_enabled, read_enabled, list_enabled, \
             EXISTS (SELECT 1 FROM quarantine q WHERE q.registry = $1 AND q.repository = $2 AND q.digest = $3 \
             AND q.state = $4) AS passed FROM manifests WHERE registry = $1 AND repository = $2 AND digest = $3",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(digest.to_string())
        .bind(PASSED)
        .fetch_optional(self.inner.database.read())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let manifest = Arc::new(Manifest {
            digest: *digest,
            media_type: row.try_get::<&str, _>("media_type")?.into(),
            bytes: row.try_get::<Vec<u8>, _>("content")?.into(),
            attributes: attributes_of(&row)?,
            passed: row.try_get("passed")?,
        });
        self.inner.manifests.fill(ticket, key, Arc::clone(&manifest));
        Ok(Some(manifest))
    }

    /// Stores a manifest and points the tags at it, all in one transaction. Doing it again changes nothing.
    /// For [`OperationKind::PushManifest`].
    ///
    /// # Errors
    /// [`StoreError::MissingBlobs`] with the blobs that the repository does not link; [`StoreError::Locked`] for the first lock
    /// of repository, manifest or any of the tags.
    pub async fn put_manifest(&self, facts: ManifestFacts, tags: Vec<Tag>) -> Result<ManifestPut, StoreError> {
        self.put(facts, tags, false).await
    }

    /// The same for tags that do not exist yet.
    ///
    /// # Errors
    /// [`StoreError::TagExists`] with the first tag that does, whatever it points at; then nothing is changed.
    pub async fn put_manifest_under_new_tags(
        &self,
        facts: ManifestFacts,
        tags: Vec<Tag>,
    ) -> Result<ManifestPut, StoreError> {
        self.put(facts, tags, true).await
    }

    async fn put(&self, facts: ManifestFacts, tags: Vec<Tag>, must_be_new: bool) -> Result<ManifestPut, StoreError> {
        self.permitted(&[OperationKind::PushManifest])?;
        if facts.bytes.len() > MAX_MANIFEST_BYTES {
            return Err(StoreError::TooLarge { limit_bytes: MAX_MANIFEST_BYTES as u64 });
        }
        let this = self.clone();
        detached(async move {
            let (registry, digest, now) = (this.registry_text(), facts.digest.to_string(), this.inner.now());
            let name = this.name.as_str();
            let mut transaction = this.inner.database.write().await?;
            let Present { repository, manifest, tags: present, is_deleted } =
                Present::select(&mut transaction, &registry, name, &digest, &tags).await?;
            let mut moved = Vec::with_capacity(tags.len());
            for tag in &tags {
                let entry = present.get(tag);
                if must_be_new && entry.is_some() {
                    return Err(StoreError::TagExists(tag.clone()));
                }
                let attributes = entry.map(|entry| entry.attributes);
                check_locks(&this.permit, ContentState { repository, tag: attributes, manifest, unpassed: false })?;
                if entry.is_none_or(|entry| entry.digest != facts.digest) {
                    moved.push(tag);
                }
            }
            // After the tags: of several locks a tag's is the one that is told.
            check_locks(&this.permit, ContentState { repository, tag: None, manifest, unpassed: false })?;
            if is_deleted {
                return Err(StoreError::SoftDeleted(Box::new(facts.digest)));
            }
            if repository.is_none() {
                insert_repository(&mut transaction, &registry, name, now).await?;
            }
            if manifest.is_none() {
                insert_manifest(&mut transaction, &registry, name, &facts, now).await?;
                let missing = hold_blobs(&mut transaction, &registry, name, &digest).await?;
                if !missing.is_empty() {
                    return Err(StoreError::MissingBlobs(missing));
                }
            }
            for tag in &moved {
                put_tag(&mut transaction, &registry, name, tag, &digest, now).await?;
                if let (true, Some(left)) = (this.permit.policies().retention, present.get(*tag)) {
                    note_untagged(&mut transaction, &registry, name, &left.digest.to_string(), now).await?;
                }
            }
            if manifest.is_none() || !moved.is_empty() {
                touch_repository(&mut transaction, &registry, name, now).await?;
            }
            transaction.commit().await?;
            if repository.is_none() {
                this.inner.repositories.forget(&this.key(()));
            }
            if manifest.is_none() {
                // What is known of its blobs' links stays good: that they are needed now only keeps them longer.
                this.inner.manifests.forget(&this.key(facts.digest));
            }
            this.forget_tags(moved.into_iter().cloned());
            Ok(ManifestPut { created: manifest.is_none(), repository_created: repository.is_none() })
        })
        .await
    }
}

pub(crate) async fn insert_repository(
    transaction: &mut Writing,
    registry: &str,
    name: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO repositories (registry, name, created, updated, delete_enabled, write_enabled, read_enabled, list_enabled) \
         VALUES ($1, $2, $3, $3, \
         COALESCE((SELECT delete_enabled FROM deleted_repositories WHERE registry = $1 AND name = $2), TRUE), \
         COALESCE((SELECT write_enabled FROM deleted_repositories WHERE registry = $1 AND name = $2), TRUE), \
         COALESCE((SELECT read_enabled FROM deleted_repositories WHERE registry = $1 AND name = $2), TRUE), \
         COALESCE((SELECT list_enabled FROM deleted_repositories WHERE registry = $1 AND name = $2), TRUE))",
    )
    .bind(registry)
    .bind(name)
    .bind(now.unix_micros())
    .execute(&mut **transaction)
    .await?;
    sqlx::query("DELETE FROM deleted_repositories WHERE registry = $1 AND name = $2")
        .bind(registry)
        .bind(name)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(crate) async fn touch_repository(
    transaction: &mut Writing,
    registry: &str,
    name: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE repositories SET updated = $3 WHERE registry = $1 AND name = $2")
        .bind(registry)
        .bind(name)
        .bind(now.unix_micros())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn insert_manifest(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    facts: &ManifestFacts,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO manifests (registry, repository, digest, media_type, config_media_type, artifact_type, subject, \
         annotations, size_bytes, image_size_bytes, architecture, os, created, updated, \
         delete_enabled, write_enabled, read_enabled, list_enabled, content) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, TRUE, TRUE, TRUE, TRUE, $14)",
    )
    .bind(registry)
    .bind(repository)
    .bind(facts.digest.to_string())
    .bind(&facts.media_type)
    .bind(&facts.config_media_type)
    .bind(&facts.artifact_type)
    .bind(facts.subject.map(|subject| subject.to_string()))
    .bind(&facts.annotations)
    .bind(to_i64(facts.bytes.len() as u64))
    .bind(to_i64(facts.image_size))
    .bind(&facts.architecture)
    .bind(&facts.os)
    .bind(now.unix_micros())
    .bind(&facts.bytes[..])
    .execute(&mut **transaction)
    .await?;

    let manifest = facts.digest.to_string();
    let mut seen = HashSet::new();
    let blobs = facts.blobs.iter().filter(|blob| seen.insert(**blob)).map(|blob| ("blob", *blob, None, None));
    let children =
        facts.children.iter().map(|child| ("child", child.digest, child.architecture.as_deref(), child.os.as_deref()));
    let references: Vec<_> = blobs.chain(children).zip(0_i64..).collect();
    for batch in references.chunks(REFERENCES_PER_INSERT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO manifest_references (registry, repository, manifest, position, kind, digest, architecture, os) ",
        );
        insert.push_values(batch, |mut row, ((kind, digest, architecture, os), position)| {
            row.push_bind(registry.to_owned())
                .push_bind(repository.to_owned())
                .push_bind(manifest.clone())
                .push_bind(*position)
                .push_bind(*kind)
                .push_bind(digest.to_string())
                .push_bind(architecture.map(str::to_owned))
                .push_bind(os.map(str::to_owned));
        });
        insert.build().persistent(false).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// Keeps a manifest's blobs from being collected; gives those that its repository does not link.
async fn hold_blobs(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    manifest: &str,
) -> Result<Vec<Digest>, StoreError> {
    let missing: Vec<String> = sqlx::query_scalar(
        "UPDATE links SET unreferenced_since = NULL WHERE registry = $1 AND repository = $2 AND digest IN \
         (SELECT digest FROM manifest_references \
          WHERE registry = $1 AND repository = $2 AND manifest = $3 AND kind = 'blob'); \
         SELECT r.digest FROM manifest_references r \
         WHERE r.registry = $1 AND r.repository = $2 AND r.manifest = $3 AND r.kind = 'blob' AND NOT EXISTS \
         (SELECT 1 FROM links l WHERE l.registry = r.registry AND l.repository = r.repository AND l.digest = r.digest) \
         ORDER BY r.position",
    )
    .bind(registry)
    .bind(repository)
    .bind(manifest)
    .fetch_all(&mut **transaction)
    .await?;
    missing.iter().map(|digest| parse_digest(digest)).collect()
}

/// What a push finds: locks of the repository and the manifest, where they are there, and where the tags point.
struct Present {
    repository: Option<Attributes>,
    manifest: Option<Attributes>,
    tags: HashMap<Tag, TagEntry>,
    /// The manifest is among what was deleted and is kept.
    is_deleted: bool,
}

impl Present {
    /// In one go for the usual push, which has at most one tag.
    async fn select(
        transaction: &mut Writing,
        registry: &str,
        name: &str,
        digest: &str,
        tags: &[Tag],
    ) -> Result<Self, StoreError> {
        let rows = sqlx::query(
            "SELECT 0 AS kind, '' AS digest, delete_enabled, write_enabled, read_enabled, list_enabled \
             FROM repositories WHERE registry = $1 AND name = $2; \
             SELECT 1 AS kind, '' AS digest, delete_enabled, write_enabled, read_enabled, list_enabled \
             FROM manifests WHERE registry = $1 AND repository = $2 AND digest = $3; \
             SELECT 2 AS kind, digest, delete_enabled, write_enabled, read_enabled, list_enabled \
             FROM tags WHERE registry = $1 AND repository = $2 AND name = $4; \
             SELECT 3 AS kind, '' AS digest, delete_enabled, write_enabled, read_enabled, list_enabled \
             FROM deleted_manifests WHERE registry = $1 AND repository = $2 AND digest = $3",
        )
        .bind(registry)
        .bind(name)
        .bind(digest)
        .bind(tags.first().map(Tag::as_str))
        .fetch_all(&mut **transaction)
        .await?;
        let mut present = Self { repository: None, manifest: None, tags: HashMap::new(), is_deleted: false };
        for row in &rows {
            let attributes = attributes_of(row)?;
            match (row.try_get::<i64, _>("kind")?, tags.first()) {
                (0, _) => present.repository = Some(attributes),
                (1, _) => present.manifest = Some(attributes),
                (3, _) => present.is_deleted = true,
                (_, Some(tag)) => {
                    present.tags.insert(tag.clone(), TagEntry { digest: digest_of(row, "digest")?, attributes });
                }
                (_, None) => {}
            }
        }
        for tag in tags.iter().skip(1) {
            if let Some(entry) = select_tag(&mut **transaction, registry, name, tag).await? {
                present.tags.insert(tag.clone(), entry);
            }
        }
        Ok(present)
    }
}

pub(crate) async fn put_tag(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    tag: &Tag,
    digest: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tags (registry, repository, name, digest, created, updated, \
         delete_enabled, write_enabled, read_enabled, list_enabled) \
         VALUES ($1, $2, $3, $4, $5, $5, TRUE, TRUE, TRUE, TRUE) \
         ON CONFLICT (registry, repository, name) DO UPDATE SET digest = excluded.digest, updated = excluded.updated",
    )
    .bind(registry)
    .bind(repository)
    .bind(tag.as_str())
    .bind(digest)
    .bind(now.unix_micros())
    .execute(&mut **transaction)
    .await?;
    // It is there again: nothing of it is left to restore, and how it was locked then does not matter.
    sqlx::query("DELETE FROM deleted_tags WHERE registry = $1 AND repository = $2 AND name = $3 AND digest = $4")
        .bind(registry)
        .bind(repository)
        .bind(tag.as_str())
        .bind(digest)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// A manifest in a list of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it is; absent for an index that does not say.
    pub artifact_type: Option<String>,
    /// Its annotations as JSON text.
    pub annotations: Option<String>,
}

impl Repository {
    /// The manifests whose subject is `subject`, ordered by digest, those after `last`. For [`OperationKind::ListReferrers`].
    ///
    /// A subject, or a repository, that does not exist has none. Hidden manifests are left out, and so are those in
    /// quarantine for whom they are out of reach.
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
        limit: u32,
    ) -> Result<crate::Page<Referrer>, StoreError> {
        self.permitted(&[OperationKind::ListReferrers])?;
        self.check_repository().await?;
        let rows = sqlx::query(
            "SELECT digest, media_type, size_bytes, artifact_type, annotations FROM manifests \
             WHERE registry = $1 AND repository = $2 AND subject = $3 AND digest > $4 AND list_enabled \
             AND (CAST($5 AS TEXT) IS NULL OR artifact_type = $5) AND ($7 OR EXISTS (SELECT 1 FROM quarantine q \
             WHERE q.registry = $1 AND q.repository = $2 AND q.digest = manifests.digest AND q.state = $8)) \
             ORDER BY digest LIMIT $6",
        )
        .bind(self.registry_text())
        .bind(self.name.as_str())
        .bind(subject.to_string())
        .bind(last.map(ToString::to_string).unwrap_or_default())
        .bind(artifact_type)
        .bind(crate::lists::fetched(limit))
        .bind(self.permit.quarantine() != QuarantineView::Closed)
        .bind(PASSED)
        .fetch_all(self.inner.database.read())
        .await?;
        let referrers = rows.iter().map(|row| {
            Ok(Referrer {
                digest: digest_of(row, "digest")?,
                media_type: row.try_get("media_type")?,
                size: crate::repository::to_u64(row.try_get("size_bytes")?)?,
                artifact_type: row.try_get("artifact_type")?,
                annotations: row.try_get("annotations")?,
            })
        });
        let referrers = referrers.collect::<Result<Vec<_>, StoreError>>()?;
        Ok(crate::Page::cut(referrers, limit, |referrer| referrer.digest.to_string()))
    }
}

use std::collections::HashSet;

use postern_access::{ContentState, OperationKind};
use postern_model::{Digest, Tag, Timestamp};
use sqlx::Row;

use crate::database::detached;
use crate::deleted::{keep_manifest, keep_tag};
use crate::group::Writing;
use crate::manifests::touch_repository;
use crate::repository::{
    attributes_of, check_locks, parse_digest, parse_tag, select_manifest_attributes, select_repository, select_tag,
};
use crate::{Missing, Repository, StoreError};

/// What a deletion took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The manifests.
    pub manifests: Vec<Digest>,
    /// The tags.
    pub tags: Vec<Tag>,
}

impl Repository {
    /// Deletes a manifest with all its tags, and the manifests whose subject it is, and theirs.
    /// For [`OperationKind::DeleteManifest`].
    ///
    /// A lock on any of them keeps them all. The children of an index stay.
    ///
    /// Source: Azure Container Registry, "Manage artifacts": deleting the root artifact deletes the graph of its referrers.
    pub async fn delete_manifest(&self, digest: &Digest) -> Result<Removed, StoreError> {
        self.permitted(&[OperationKind::DeleteManifest])?;
        let (this, digest) = (self.clone(), *digest);
        detached(async move {
            let mut transaction = this.inner.database.write().await?;
            let graph = this.referrer_graph(&mut transaction, digest).await?;
            let (removed, links) = this.remove_manifests(&mut transaction, graph).await?;
            close_if_empty(&mut transaction, &this.registry_text(), this.name.as_str(), this.inner.now()).await?;
            transaction.commit().await?;
            this.forget(&removed, &links);
            Ok(removed)
        })
        .await
    }

    /// Removes a tag and leaves its manifest. For [`OperationKind::Untag`]. Gives the manifest it pointed at.
    pub async fn untag(&self, tag: &Tag) -> Result<Digest, StoreError> {
        self.permitted(&[OperationKind::Untag])?;
        let (this, tag) = (self.clone(), tag.clone());
        detached(async move {
            let (registry, name) = (this.registry_text(), this.name.as_str());
            let mut transaction = this.inner.database.write().await?;
            let repository = select_repository(&mut *transaction, &registry, name).await?;
            let entry = select_tag(&mut *transaction, &registry, name, &tag)
                .await?
                .ok_or(StoreError::NotFound(Missing::Tag))?;
            check_locks(
                &this.permit,
                ContentState { repository, tag: Some(entry.attributes), ..ContentState::default() },
            )?;
            let (now, policies) = (this.inner.now(), this.permit.policies());
            if policies.soft_delete {
                keep_tag(&mut transaction, &registry, name, &tag, now).await?;
            }
            sqlx::query("DELETE FROM tags WHERE registry = $1 AND repository = $2 AND name = $3")
                .bind(&registry)
                .bind(name)
                .bind(tag.as_str())
                .execute(&mut *transaction)
                .await?;
            if policies.retention {
                note_untagged(&mut transaction, &registry, name, &entry.digest.to_string(), now).await?;
            }
            touch_repository(&mut transaction, &registry, name, now).await?;
            transaction.commit().await?;
            this.forget_tags([tag]);
            Ok(entry.digest)
        })
        .await
    }

    /// Deletes the repository with all that is in it. For [`OperationKind::DeleteRepository`].
    ///
    /// A lock on any of its tags and manifests keeps it all. Its blobs are collected like any that no manifest needs.
    pub async fn delete_repository(&self) -> Result<Removed, StoreError> {
        self.permitted(&[OperationKind::DeleteRepository])?;
        let this = self.clone();
        detached(async move {
            let (registry, name) = (this.registry_text(), this.name.as_str());
            let mut transaction = this.inner.database.write().await?;
            let repository = select_repository(&mut *transaction, &registry, name).await?;
            if repository.is_none() {
                return Err(StoreError::NotFound(Missing::Repository));
            }
            check_locks(&this.permit, ContentState { repository, ..ContentState::default() })?;
            let digests: Vec<String> = sqlx::query_scalar(
                "SELECT digest FROM manifests WHERE registry = $1 AND repository = $2 ORDER BY digest",
            )
            .bind(&registry)
            .bind(name)
            .fetch_all(&mut *transaction)
            .await?;
            let digests = digests.iter().map(|digest| parse_digest(digest)).collect::<Result<Vec<_>, _>>()?;
            let (removed, links) = this.remove_manifests(&mut transaction, digests).await?;
            close_if_empty(&mut transaction, &registry, name, this.inner.now()).await?;
            transaction.commit().await?;
            this.forget(&removed, &links);
            Ok(removed)
        })
        .await
    }

    /// The manifest and what refers to it, directly or through others.
    async fn referrer_graph(&self, transaction: &mut Writing, digest: Digest) -> Result<Vec<Digest>, StoreError> {
        let (registry, name) = (self.registry_text(), self.name.as_str());
        if select_manifest_attributes(&mut **transaction, &registry, name, &digest.to_string()).await?.is_none() {
            return Err(StoreError::NotFound(Missing::Manifest));
        }
        let mut graph = vec![digest];
        let mut seen = HashSet::from([digest]);
        let mut next = 0;
        while let Some(subject) = graph.get(next) {
            next += 1;
            let referrers: Vec<String> = sqlx::query_scalar(
                "SELECT digest FROM manifests WHERE registry = $1 AND repository = $2 AND subject = $3 ORDER BY digest",
            )
            .bind(&registry)
            .bind(name)
            .bind(subject.to_string())
            .fetch_all(&mut **transaction)
            .await?;
            for referrer in referrers {
                let referrer = parse_digest(&referrer)?;
                if seen.insert(referrer) {
                    graph.push(referrer);
                }
            }
        }
        Ok(graph)
    }

    /// Removes manifests with their tags, and begins the grace of blobs that none of the remaining ones needs.
    /// With the soft delete policy on they are kept aside, and their blobs with them.
    pub(crate) async fn remove_manifests(
        &self,
        transaction: &mut Writing,
        digests: Vec<Digest>,
    ) -> Result<(Removed, Vec<Digest>), StoreError> {
        let (registry, name, now) = (self.registry_text(), self.name.as_str(), self.inner.now());
        let repository = select_repository(&mut **transaction, &registry, name).await?;
        let mut removed = Removed::default();
        let mut released = Vec::new();
        for digest in digests {
            let text = digest.to_string();
            let manifest = select_manifest_attributes(&mut **transaction, &registry, name, &text).await?;
            let is_kept = self.permit.policies().soft_delete;
            if is_kept {
                keep_manifest(transaction, &registry, name, &text, now).await?;
            }
            let tags = sqlx::query(
                "DELETE FROM tags WHERE registry = $1 AND repository = $2 AND digest = $3 \
                 RETURNING name, delete_enabled, write_enabled, read_enabled, list_enabled",
            )
            .bind(&registry)
            .bind(name)
            .bind(&text)
            .fetch_all(&mut **transaction)
            .await?;
            for row in &tags {
                let tag = Some(attributes_of(row)?);
                check_locks(&self.permit, ContentState { repository, tag, manifest, unpassed: false })?;
                removed.tags.push(parse_tag(row.try_get("name")?)?);
            }
            // After the tags: of several locks a tag's is the one that is told.
            check_locks(&self.permit, ContentState { repository, tag: None, manifest, unpassed: false })?;
            sqlx::query("DELETE FROM manifests WHERE registry = $1 AND repository = $2 AND digest = $3")
                .bind(&registry)
                .bind(name)
                .bind(&text)
                .execute(&mut **transaction)
                .await?;
            // Pushed again it has lost no tag yet.
            sqlx::query("DELETE FROM untagged WHERE registry = $1 AND repository = $2 AND digest = $3")
                .bind(&registry)
                .bind(name)
                .bind(&text)
                .execute(&mut **transaction)
                .await?;
            if !is_kept {
                released.extend(release_blobs(transaction, &registry, name, &text, now).await?);
                sqlx::query("DELETE FROM quarantine WHERE registry = $1 AND repository = $2 AND digest = $3")
                    .bind(&registry)
                    .bind(name)
                    .bind(&text)
                    .execute(&mut **transaction)
                    .await?;
            }
            removed.manifests.push(digest);
        }
        removed.tags.sort();
        Ok((removed, released))
    }

    /// What memory must no longer serve after a removal.
    pub(crate) fn forget(&self, removed: &Removed, links: &[Digest]) {
        self.forget_tags(removed.tags.iter().cloned());
        for digest in &removed.manifests {
            self.inner.manifests.forget(&self.key(*digest));
        }
        for digest in links {
            self.inner.links.forget(&self.key(*digest));
        }
        self.inner.repositories.forget(&self.key(()));
    }
}

/// Takes the repository out of the catalog with its last manifest.
pub(crate) async fn close_if_empty(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for statement in [
        "INSERT INTO deleted_repositories (registry, name, delete_enabled, write_enabled, read_enabled, list_enabled) \
         SELECT registry, name, delete_enabled, write_enabled, read_enabled, list_enabled FROM repositories \
         WHERE registry = $1 AND name = $2 AND NOT EXISTS (SELECT 1 FROM manifests WHERE registry = $1 AND repository = $2) \
         AND EXISTS (SELECT 1 FROM deleted_manifests WHERE registry = $1 AND repository = $2)",
        "DELETE FROM repositories WHERE registry = $1 AND name = $2 AND NOT EXISTS \
         (SELECT 1 FROM manifests WHERE registry = $1 AND repository = $2)",
    ] {
        sqlx::query(statement).bind(registry).bind(repository).execute(&mut **transaction).await?;
    }
    touch_repository(transaction, registry, repository, now).await
}

/// Lets go of what a manifest that is gone held: gives the blobs whose grace begins, because nothing else holds them.
pub(crate) async fn release_blobs(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    manifest: &str,
    now: Timestamp,
) -> Result<Vec<Digest>, StoreError> {
    let links: Vec<String> = sqlx::query_scalar(
        "UPDATE links SET unreferenced_since = $4 \
         WHERE registry = $1 AND repository = $2 AND unreferenced_since IS NULL AND digest IN \
         (SELECT digest FROM manifest_references \
          WHERE registry = $1 AND repository = $2 AND manifest = $3 AND kind = 'blob') \
         AND NOT EXISTS (SELECT 1 FROM manifest_references r WHERE r.registry = $1 AND r.repository = $2 \
          AND r.digest = links.digest AND r.kind = 'blob' AND r.manifest <> $3) RETURNING digest",
    )
    .bind(registry)
    .bind(repository)
    .bind(manifest)
    .bind(now.unix_micros())
    .fetch_all(&mut **transaction)
    .await?;
    sqlx::query("DELETE FROM manifest_references WHERE registry = $1 AND repository = $2 AND manifest = $3")
        .bind(registry)
        .bind(repository)
        .bind(manifest)
        .execute(&mut **transaction)
        .await?;
    links.iter().map(|link| parse_digest(link)).collect()
}

/// Whether something leads to a manifest: a tag, an index (also one that was deleted and can be restored), or a manifest that refers
/// to it.
pub(crate) async fn is_needed(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    digest: &str,
) -> Result<bool, StoreError> {
    let needed = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tags WHERE registry = $1 AND repository = $2 AND digest = $3) \
         OR EXISTS (SELECT 1 FROM manifests WHERE registry = $1 AND repository = $2 AND subject = $3) \
         OR EXISTS (SELECT 1 FROM manifest_references \
         WHERE registry = $1 AND repository = $2 AND digest = $3 AND kind = 'child')",
    );
    Ok(needed.bind(registry).bind(repository).bind(digest).fetch_one(&mut **transaction).await?)
}

/// Begins the time of a manifest that has just lost its last tag, for the retention policy.
pub(crate) async fn note_untagged(
    transaction: &mut Writing,
    registry: &str,
    repository: &str,
    digest: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO untagged (registry, repository, digest, since) SELECT registry, repository, digest, $4 \
         FROM manifests WHERE registry = $1 AND repository = $2 AND digest = $3 AND NOT EXISTS \
         (SELECT 1 FROM tags WHERE registry = $1 AND repository = $2 AND digest = $3) \
         ON CONFLICT (registry, repository, digest) DO UPDATE SET since = excluded.since",
    )
    .bind(registry)
    .bind(repository)
    .bind(digest)
    .bind(now.unix_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

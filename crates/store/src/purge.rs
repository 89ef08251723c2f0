//! What policies take away when its time has come: manifests that lost their last tag, and what was deleted and kept.
//!
//! Each transaction is about one repository and looks at what it takes again, so that a tag, an index or a lock that came meanwhile
//! holds. Blobs are not taken here: they begin their grace, and the collection takes them.

use std::sync::Arc;

use postern_model::{Digest, RegistryUid, RepositoryName, Tag, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::database::detached;
use crate::group::Writing;
use crate::removal::{close_if_empty, is_needed, release_blobs};
use crate::repository::{attributes_of, digest_of, parse_tag, select_repository};
use crate::store::{Inner, Key};
use crate::{Store, StoreError};

/// How many manifests one transaction looks at: pushes wait no longer than that.
const BATCH: i64 = 64;

/// The kinds that the policy is about.
///
/// Source: Azure Container Registry, "Set a retention policy for untagged manifests": OCI manifests are not covered (read 2026-11).
const RETAINED_TYPES: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// What a policy took from a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifests.
    pub manifests: Vec<Digest>,
    /// The tags.
    pub tags: Vec<Tag>,
}

/// What is known of a manifest that lost its last tag.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Untagged {
    digest: Digest,
    since: Timestamp,
    media_type: String,
    is_locked: bool,
    is_needed: bool,
    has_tags: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Purge,
    /// It is looked at again the next time.
    Keep,
    /// It is none of the policy's business any more.
    Forget,
}

/// The policy, without a look at anything else.
fn fate(manifest: &Untagged, cutoff: Timestamp) -> Fate {
    if manifest.has_tags || !RETAINED_TYPES.contains(&manifest.media_type.as_str()) {
        Fate::Forget
    } else if manifest.since > cutoff || manifest.is_locked || manifest.is_needed {
        Fate::Keep
    } else {
        Fate::Purge
    }
}

impl Store {
    /// The registries that [`Store::purge_untagged`] and [`Store::purge_deleted`] may have something to do for.
    pub async fn registries_to_purge(&self) -> Result<Vec<RegistryUid>, StoreError> {
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT registry FROM untagged UNION SELECT registry FROM deleted_manifests \
             UNION SELECT registry FROM deleted_tags",
        )
        .fetch_all(self.inner().database.read())
        .await?;
        found.iter().map(|uid| uid.parse().map_err(|_| StoreError::Corrupt("registry"))).collect()
    }

    /// Deletes manifests that lost their last tag at `cutoff` or before: the retention policy. Skips those that are locked, that an
    /// index lists or that something refers to; forgets those that have a tag again. `done` gets what is gone, whatever fails afterwards.
    pub async fn purge_untagged(
        &self,
        registry: RegistryUid,
        cutoff: Timestamp,
        done: &mut Vec<Purged>,
    ) -> Result<(), StoreError> {
        let inner = self.inner();
        for repository in repositories(inner, registry, "untagged", "since", cutoff).await? {
            let mut last = String::new();
            loop {
                let batch = UntaggedBatch { registry, repository: repository.clone(), cutoff, after: last };
                let (taken, reached) = detached(batch.run(Arc::clone(inner))).await?;
                if !taken.is_empty() {
                    done.push(Purged { repository: repository.clone(), manifests: taken, tags: Vec::new() });
                }
                match reached {
                    Some(digest) => last = digest,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Forgets which manifests lost their last tag: the retention policy is off.
    pub async fn forget_untagged(&self, registry: RegistryUid) -> Result<(), StoreError> {
        let inner = Arc::clone(self.inner());
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM untagged WHERE registry = $1)")
            .bind(registry.to_string())
            .fetch_one(inner.database.read())
            .await?;
        if !any {
            return Ok(());
        }
        detached(async move {
            let mut transaction = inner.database.write().await?;
            sqlx::query("DELETE FROM untagged WHERE registry = $1")
                .bind(registry.to_string())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        })
        .await
    }

    /// Deletes for good what was deleted at `cutoff` or before: the soft delete policy. `done` gets what is gone, whatever fails
    /// afterwards.
    pub async fn purge_deleted(
        &self,
        registry: RegistryUid,
        cutoff: Timestamp,
        done: &mut Vec<Purged>,
    ) -> Result<(), StoreError> {
        let inner = self.inner();
        let mut names = repositories(inner, registry, "deleted_manifests", "deleted", cutoff).await?;
        names.extend(repositories(inner, registry, "deleted_tags", "deleted", cutoff).await?);
        names.sort_unstable();
        names.dedup();
        for repository in names {
            loop {
                let work = purge_deleted_batch(Arc::clone(inner), registry, repository.clone(), cutoff);
                let batch = detached(work).await?;
                if batch.manifests.is_empty() && batch.tags.is_empty() {
                    break;
                }
                done.push(batch);
            }
        }
        Ok(())
    }
}

/// The repositories with rows that are due.
async fn repositories(
    inner: &Inner,
    registry: RegistryUid,
    table: &str,
    column: &str,
    cutoff: Timestamp,
) -> Result<Vec<RepositoryName>, StoreError> {
    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("SELECT DISTINCT repository FROM ");
    query.push(table).push(" WHERE registry = ").push_bind(registry.to_string());
    query.push(" AND ").push(column).push(" <= ").push_bind(cutoff.unix_micros()).push(" ORDER BY repository");
    let names: Vec<String> = query.build_query_scalar().fetch_all(inner.database.read()).await?;
    names.iter().map(|name| name.parse().map_err(|_| StoreError::Corrupt("repository name"))).collect()
}

/// Some of a repository's manifests that lost their last tag, those after a digest.
struct UntaggedBatch {
    registry: RegistryUid,
    repository: RepositoryName,
    cutoff: Timestamp,
    after: String,
}

impl UntaggedBatch {
    /// Gives what it took, and where it stopped if there may be more.
    async fn run(self, inner: Arc<Inner>) -> Result<(Vec<Digest>, Option<String>), StoreError> {
        let (registry, name) = (self.registry.to_string(), self.repository.as_str());
        let mut transaction = inner.database.write().await?;
        let repository = select_repository(&mut *transaction, &registry, name).await?;
        let is_writable = repository.is_none_or(|repository| repository.write_enabled);
        let rows = sqlx::query(
            "SELECT u.digest, u.since, m.media_type, m.delete_enabled, m.write_enabled, m.read_enabled, m.list_enabled \
             FROM untagged u LEFT JOIN manifests m \
             ON m.registry = u.registry AND m.repository = u.repository AND m.digest = u.digest \
             WHERE u.registry = $1 AND u.repository = $2 AND u.since <= $3 AND u.digest > $4 ORDER BY u.digest LIMIT $5",
        )
        .bind(&registry)
        .bind(name)
        .bind(self.cutoff.unix_micros())
        .bind(&self.after)
        .bind(BATCH)
        .fetch_all(&mut *transaction)
        .await?;
        let (mut taken, mut released) = (Vec::new(), Vec::new());
        for row in &rows {
            let digest = digest_of(row, "digest")?;
            let fate = match self.read(&mut transaction, row, is_writable).await? {
                Some(manifest) => fate(&manifest, self.cutoff),
                None => Fate::Forget,
            };
            if fate == Fate::Keep {
                continue;
            }
            let text = digest.to_string();
            delete_at(&mut transaction, "untagged", &registry, name, &text).await?;
            if fate == Fate::Purge {
                delete_at(&mut transaction, "manifests", &registry, name, &text).await?;
                delete_at(&mut transaction, "quarantine", &registry, name, &text).await?;
                released.extend(release_blobs(&mut transaction, &registry, name, &text, inner.now()).await?);
                taken.push(digest);
            }
        }
        if !taken.is_empty() {
            close_if_empty(&mut transaction, &registry, name, inner.now()).await?;
        }
        transaction.commit().await?;
        forget(&inner, self.registry, &self.repository, &taken, &released);
        let last = rows.last().map(|row| row.try_get("digest")).transpose()?;
        Ok((taken, last.filter(|_| i64::try_from(rows.len()) == Ok(BATCH))))
    }

    async fn read(
        &self,
        transaction: &mut Writing,
        row: &SqliteRow,
        is_writable: bool,
    ) -> Result<Option<Untagged>, StoreError> {
        let Some(media_type) = row.try_get::<Option<String>, _>("media_type")? else { return Ok(None) };
        let (digest, attributes) = (digest_of(row, "digest")?, attributes_of(row)?);
        let (registry, name, text) = (self.registry.to_string(), self.repository.as_str(), digest.to_string());
        let has_tags: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM tags WHERE registry = $1 AND repository = $2 AND digest = $3)",
        )
        .bind(&registry)
        .bind(name)
        .bind(&text)
        .fetch_one(&mut **transaction)
        .await?;
        Ok(Some(Untagged {
            digest,
            since: Timestamp::from_unix_micros(row.try_get("since")?),
            media_type,
            is_locked: !attributes.delete_enabled || !attributes.write_enabled || !is_writable,
            is_needed: is_needed(transaction, &registry, name, &text).await?,
            has_tags,
        }))
    }
}

async fn purge_deleted_batch(
    inner: Arc<Inner>,
    registry: RegistryUid,
    repository: RepositoryName,
    cutoff: Timestamp,
) -> Result<Purged, StoreError> {
    let (text, name) = (registry.to_string(), repository.as_str());
    let mut transaction = inner.database.write().await?;
    let mut purged = Purged { repository: repository.clone(), manifests: Vec::new(), tags: Vec::new() };
    let manifests = sqlx::query(
        "DELETE FROM deleted_manifests WHERE (registry, repository, digest) IN \
         (SELECT registry, repository, digest FROM deleted_manifests \
          WHERE registry = $1 AND repository = $2 AND deleted <= $3 ORDER BY deleted LIMIT $4) RETURNING digest",
    )
    .bind(&text)
    .bind(name)
    .bind(cutoff.unix_micros())
    .bind(BATCH)
    .fetch_all(&mut *transaction)
    .await?;
    let mut released = Vec::new();
    for row in &manifests {
        let digest = digest_of(row, "digest")?;
        delete_at(&mut transaction, "quarantine", &text, name, &digest.to_string()).await?;
        released.extend(release_blobs(&mut transaction, &text, name, &digest.to_string(), inner.now()).await?);
        purged.manifests.push(digest);
    }
    // With a manifest go the tags that lead to nothing then, whenever they were deleted.
    let tags = sqlx::query(
        "DELETE FROM deleted_tags WHERE registry = $1 AND repository = $2 AND (name, digest) IN \
         (SELECT name, digest FROM deleted_tags t WHERE t.registry = $1 AND t.repository = $2 AND (t.deleted <= $3 OR \
          (NOT EXISTS (SELECT 1 FROM manifests m WHERE m.registry = $1 AND m.repository = $2 AND m.digest = t.digest) \
          AND NOT EXISTS (SELECT 1 FROM deleted_manifests d \
          WHERE d.registry = $1 AND d.repository = $2 AND d.digest = t.digest))) LIMIT $4) RETURNING name",
    )
    .bind(&text)
    .bind(name)
    .bind(cutoff.unix_micros())
    .bind(BATCH)
    .fetch_all(&mut *transaction)
    .await?;
    for row in &tags {
        purged.tags.push(parse_tag(row.try_get("name")?)?);
    }
    sqlx::query(
        "DELETE FROM deleted_repositories WHERE registry = $1 AND name = $2 AND NOT EXISTS \
         (SELECT 1 FROM deleted_manifests WHERE registry = $1 AND repository = $2)",
    )
    .bind(&text)
    .bind(name)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    forget(&inner, registry, &repository, &[], &released);
    Ok(purged)
}

async fn delete_at(
    transaction: &mut Writing,
    table: &'static str,
    registry: &str,
    repository: &str,
    digest: &str,
) -> Result<(), StoreError> {
    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("DELETE FROM ");
    query.push(table).push(" WHERE registry = ").push_bind(registry.to_owned());
    query.push(" AND repository = ").push_bind(repository.to_owned());
    query.push(" AND digest = ").push_bind(digest.to_owned());
    query.build().execute(&mut **transaction).await?;
    Ok(())
}

/// What memory must no longer serve.
fn forget(inner: &Inner, registry: RegistryUid, repository: &RepositoryName, manifests: &[Digest], links: &[Digest]) {
    let key = |item: Digest| Key { registry, repository: repository.clone(), item };
    for digest in manifests {
        inner.manifests.forget(&key(*digest));
    }
    for digest in links {
        inner.links.forget(&key(*digest));
    }
    inner.repositories.forget(&Key { registry, repository: repository.clone(), item: () });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates() {
        let due = Timestamp::from_unix_seconds(100);
        let manifest = Untagged {
            digest: Digest::Sha256([0; 32]),
            since: due,
            media_type: RETAINED_TYPES[0].into(),
            is_locked: false,
            is_needed: false,
            has_tags: false,
        };
        let check = |expected, change: fn(&mut Untagged)| {
            let mut changed = manifest.clone();
            change(&mut changed);
            assert_eq!(fate(&changed, due), expected, "{changed:?}");
        };
        check(Fate::Purge, |_| {});
        check(Fate::Purge, |manifest| manifest.media_type = RETAINED_TYPES[1].into());
        check(Fate::Keep, |manifest| manifest.since = Timestamp::from_unix_seconds(101));
        check(Fate::Keep, |manifest| manifest.is_locked = true);
        check(Fate::Keep, |manifest| manifest.is_needed = true);
        check(Fate::Forget, |manifest| manifest.has_tags = true);
        check(Fate::Forget, |manifest| {
            manifest.media_type = "application/vnd.oci.image.manifest.v1+json".into();
        });
    }
}

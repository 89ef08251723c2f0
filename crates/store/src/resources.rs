use std::sync::Arc;

use futures_util::TryStreamExt as _;
use postern_estate::types::REGISTRIES;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::database::detached;
use crate::group::Writing;
use crate::store::Inner;
use crate::{Missing, StoreError};

/// A resource document as text. The store keeps it and does not look inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRow {
    /// The id in lower case: what it is found by.
    pub id_key: String,
    /// The id as it was written.
    pub id: String,
    /// The immutable id.
    pub uid: String,
    /// `namespace/type`.
    pub resource_type: String,
    /// The document, JSON.
    pub document: String,
    /// Changes with every write.
    pub etag: String,
    /// The generation that wrote it; set by the store.
    pub generation: u64,
    /// When it was created, microseconds since 1970.
    pub created: i64,
    /// When it last changed, microseconds since 1970.
    pub updated: i64,
}

/// What the writer believes to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// A resource with this etag.
    Etag(String),
}

/// One change of a write.
#[derive(Clone, Debug)]
pub enum ResourceChange {
    /// Creates or replaces a resource.
    Put(ResourceRow, Expected),
    /// Removes the resource of this key; [`StoreError::NotFound`] when there is none.
    Remove(String, Expected),
}

/// The table of resource documents, and what they were at every generation.
#[derive(Clone)]
pub struct Resources(Arc<Inner>);

impl Resources {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Shows every resource, by key; gives the generation they belong to. One row at a time: there may be very many.
    ///
    /// # Errors
    /// What `visit` fails with ends it.
    pub async fn each(&self, mut visit: impl FnMut(ResourceRow) -> Result<(), StoreError>) -> Result<u64, StoreError> {
        // One read transaction, so that the two belong together.
        let mut reading = self.0.database.read().begin().await?;
        let generation: i64 =
            sqlx::query_scalar("SELECT value FROM meta WHERE name = 'generation'").fetch_one(&mut *reading).await?;
        let mut rows = sqlx::query(
            "SELECT id_key, id, uid, type, document, generation, etag, created, updated FROM resources ORDER BY id_key",
        )
        .fetch(&mut *reading);
        while let Some(row) = rows.try_next().await? {
            visit(row_of(&row)?)?;
        }
        drop(rows);
        reading.rollback().await?;
        to_generation(generation)
    }

    /// Creates or replaces one resource; gives the new generation.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when what is there is not what was expected.
    pub async fn put(&self, row: ResourceRow, expected: Expected) -> Result<u64, StoreError> {
        self.write(vec![ResourceChange::Put(row, expected)]).await
    }

    /// Removes one resource; gives the new generation.
    pub async fn remove(&self, id_key: &str, expected: Expected) -> Result<u64, StoreError> {
        self.write(vec![ResourceChange::Remove(id_key.to_owned(), expected)]).await
    }

    /// All of the changes or none, in one generation.
    pub async fn write(&self, changes: Vec<ResourceChange>) -> Result<u64, StoreError> {
        let inner = Arc::clone(&self.0);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let generation: i64 =
                sqlx::query_scalar("UPDATE meta SET value = value + 1 WHERE name = 'generation' RETURNING value")
                    .fetch_one(&mut *transaction)
                    .await?;
            for change in changes {
                apply(&mut transaction, generation, change).await?;
            }
            transaction.commit().await?;
            to_generation(generation)
        })
        .await
    }

    /// The documents as they were at a generation, by key.
    pub async fn at_generation(&self, generation: u64) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT h.id_key, h.document FROM resource_history h WHERE h.document IS NOT NULL AND h.generation = \
             (SELECT MAX(n.generation) FROM resource_history n WHERE n.id_key = h.id_key AND n.generation <= $1) \
             ORDER BY h.id_key",
        )
        .bind(i64::try_from(generation).unwrap_or(i64::MAX))
        .fetch_all(self.0.database.read())
        .await?;
        Ok(rows)
    }
}

async fn apply(transaction: &mut Writing, generation: i64, change: ResourceChange) -> Result<(), StoreError> {
    let (id_key, expected) = match &change {
        ResourceChange::Put(row, expected) => (row.id_key.clone(), expected),
        ResourceChange::Remove(id_key, expected) => (id_key.clone(), expected),
    };
    let etag: Option<String> = sqlx::query_scalar("SELECT etag FROM resources WHERE id_key = $1")
        .bind(&id_key)
        .fetch_optional(&mut **transaction)
        .await?;
    let as_expected = match expected {
        Expected::Any => true,
        Expected::Absent => etag.is_none(),
        Expected::Etag(expected) => etag.as_ref() == Some(expected),
    };
    if !as_expected {
        return Err(StoreError::Conflict);
    }
    let document = match change {
        ResourceChange::Put(row, _) => {
            put_row(transaction, generation, &row).await?;
            Some(row.document)
        }
        ResourceChange::Remove(..) if etag.is_none() => return Err(StoreError::NotFound(Missing::Resource)),
        ResourceChange::Remove(..) => {
            // Known from here on, whatever happens before somebody gets to delete the content.
            sqlx::query(
                "INSERT INTO removed_registries (registry) SELECT uid FROM resources \
                 WHERE id_key = $1 AND lower(type) = lower($2) ON CONFLICT DO NOTHING",
            )
            .bind(&id_key)
            .bind(REGISTRIES)
            .execute(&mut **transaction)
            .await?;
            sqlx::query("DELETE FROM resources WHERE id_key = $1").bind(&id_key).execute(&mut **transaction).await?;
            None
        }
    };
    // A write may change a resource twice; its generation ends with the last one.
    sqlx::query(
        "INSERT INTO resource_history (generation, id_key, document) VALUES ($1, $2, $3) \
         ON CONFLICT (id_key, generation) DO UPDATE SET document = excluded.document",
    )
    .bind(generation)
    .bind(&id_key)
    .bind(document)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn put_row(transaction: &mut Writing, generation: i64, row: &ResourceRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO resources (id_key, id, uid, type, document, generation, etag, created, updated) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id_key) DO UPDATE SET id = excluded.id, \
         uid = excluded.uid, type = excluded.type, document = excluded.document, generation = excluded.generation, \
         etag = excluded.etag, created = excluded.created, updated = excluded.updated",
    )
    .bind(&row.id_key)
    .bind(&row.id)
    .bind(&row.uid)
    .bind(&row.resource_type)
    .bind(&row.document)
    .bind(generation)
    .bind(&row.etag)
    .bind(row.created)
    .bind(row.updated)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn row_of(row: &SqliteRow) -> Result<ResourceRow, StoreError> {
    Ok(ResourceRow {
        id_key: row.try_get("id_key")?,
        id: row.try_get("id")?,
        uid: row.try_get("uid")?,
        resource_type: row.try_get("type")?,
        document: row.try_get("document")?,
        etag: row.try_get("etag")?,
        generation: to_generation(row.try_get("generation")?)?,
        created: row.try_get("created")?,
        updated: row.try_get("updated")?,
    })
}

fn to_generation(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("generation"))
}

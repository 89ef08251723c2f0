use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use postern_model::{CorrelationId, Timestamp};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{Row as _, SqlStr};

use crate::StoreError;
use crate::database::{make_private, pool_options};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST: &str = include_str!("../migrations/journal/0001_first.sql");

/// An append-only table of records, in a database of its own so that writing records never waits for the metadata's writer.
#[derive(Clone)]
pub struct Journal {
    pool: SqlitePool,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The request's id.
    pub id: CorrelationId,
    /// When it was decided.
    pub time: Timestamp,
    /// What it can be listed by: the registry's uid.
    pub scope: String,
    /// The record, JSON.
    pub record: String,
}

impl Journal {
    /// Opens or creates the database file.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path.to_owned()).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A power cut may cost what was appended since the last sync, never the file.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = pool_options().max_connections(2).connect_with(options).await?;
        let first = Migration::new(1, Cow::Borrowed("first"), MigrationType::Simple, SqlStr::from_static(FIRST), false);
        Migrator::with_migrations(vec![first]).run(&pool).await?;
        Ok(Self { pool })
    }

    /// Appends a batch in one transaction.
    pub async fn append(&self, entries: &[JournalEntry]) -> Result<(), StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for entry in entries {
            sqlx::query("INSERT INTO entries (id, time, scope, record) VALUES ($1, $2, $3, $4)")
                .bind(entry.id.0.as_bytes().as_slice())
                .bind(entry.time.unix_micros())
                .bind(&entry.scope)
                .bind(&entry.record)
                .execute(&mut *writing)
                .await?;
        }
        writing.commit().await?;
        Ok(())
    }

    /// Makes what was appended so far durable.
    pub async fn sync(&self) -> Result<(), StoreError> {
        // In this mode the log is forced to disk only before it is taken over into the file.
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.pool).await?;
        Ok(())
    }

    /// The record with this id.
    pub async fn find(&self, id: CorrelationId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT record FROM entries WHERE id = $1 ORDER BY sequence DESC LIMIT 1")
            .bind(id.0.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// The newest records of a scope, newest first, at most `limit`.
    pub async fn newest(&self, scope: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT record FROM entries WHERE scope = $1 ORDER BY sequence DESC LIMIT $2")
            .bind(scope)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Drops records older than `before`, then the oldest beyond `max_records`. Returns how many went.
    pub async fn prune(&self, before: Timestamp, max_records: u64) -> Result<u64, StoreError> {
        let old =
            sqlx::query("DELETE FROM entries WHERE time < $1").bind(before.unix_micros()).execute(&self.pool).await?;
        let excess = sqlx::query("DELETE FROM entries WHERE sequence <= (SELECT MAX(sequence) FROM entries) - $1")
            .bind(i64::try_from(max_records).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await?;
        Ok(old.rows_affected() + excess.rows_affected())
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
mod tests {
    use postern_model::{CorrelationId, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn entry(number: u128) -> JournalEntry {
        JournalEntry {
            id: CorrelationId(Uuid::from_u128(number)),
            time: Timestamp::from_unix_seconds(i64::try_from(number).unwrap()),
            scope: "registry".into(),
            record: format!("{{\"n\":{number}}}"),
        }
    }

    #[tokio::test]
    async fn records_are_found_listed_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        journal.append(&(1..=10).map(entry).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(journal.find(entry(3).id).await.unwrap(), Some(entry(3).record));
        assert_eq!(journal.find(entry(99).id).await.unwrap(), None);
        assert_eq!(journal.newest("registry", 2).await.unwrap(), [entry(10).record, entry(9).record]);
        assert_eq!(journal.prune(Timestamp::from_unix_seconds(4), 5).await.unwrap(), 5);
        assert_eq!(journal.newest("registry", 99).await.unwrap().len(), 5);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        }
        journal.close().await;
    }
}

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use postern_model::{CorrelationId, Timestamp};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{Row as _, SqlStr};

use crate::StoreError;
use crate::database::{EMPTY_LOG, PAGE_CACHE, make_private, pool_options};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "first", include_str!("../migrations/journal/0001_first.sql")),
    (2, "batches", include_str!("../migrations/journal/0002_batches.sql")),
];
/// How far a record's id may lie behind the newest of its batch and still be found by its time. Records are written when their
/// request ends: those of long requests are found by a row of their own.
const WINDOW_MS: i64 = 1000;
/// Larger pages than usual: batches are long, and each page is a write of its own.
const PAGE_BYTES: u32 = 32 << 10;
/// Largest batch that is unpacked. The writer's batches are far smaller.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// An append-only table of records, in a database of its own so that writing records never waits for the metadata's writer.
///
/// Records are kept by the batch, compressed: they are written all the time and read once in a while.
#[derive(Clone)]
pub struct Journal {
    pool: SqlitePool,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The request's id; nil for a record that nobody will ask for.
    pub id: CorrelationId,
    /// When it was decided.
    pub time: Timestamp,
    /// What it can be listed by: the registry's uid. Has no spaces.
    pub scope: String,
    /// The record, JSON on one line.
    pub record: String,
}

impl Journal {
    /// Opens or creates the database file.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path.to_owned()).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            // A power cut may cost what was appended since the last sync, never the file.
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", PAGE_CACHE)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = pool_options().max_connections(2).connect_with(options).await?;
        let migrations = MIGRATIONS.map(|(version, name, sql)| {
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
        });
        Migrator::with_migrations(migrations.into()).run(&pool).await?;
        let journal = Self { pool };
        journal.take_over().await?;
        Ok(journal)
    }

    /// Moves what an earlier version kept by the row into batches.
    async fn take_over(&self) -> Result<(), StoreError> {
        const AT_ONCE: i64 = 512;
        loop {
            let rows = sqlx::query("SELECT sequence, id, time, scope, record FROM entries ORDER BY sequence LIMIT $1")
                .bind(AT_ONCE)
                .fetch_all(&self.pool)
                .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            let last: i64 = last.try_get("sequence")?;
            let entry = |row: &sqlx::sqlite::SqliteRow| {
                Ok(JournalEntry {
                    id: uuid::Uuid::from_slice(row.try_get("id")?)
                        .map(CorrelationId)
                        .map_err(|_| StoreError::Corrupt("id of a record"))?,
                    time: Timestamp::from_unix_micros(row.try_get("time")?),
                    scope: row.try_get("scope")?,
                    record: row.try_get("record")?,
                })
            };
            self.append(&rows.iter().map(entry).collect::<Result<Vec<_>, StoreError>>()?).await?;
            // A crash in between leaves some of them twice, which nobody sees.
            sqlx::query("DELETE FROM entries WHERE sequence <= $1").bind(last).execute(&self.pool).await?;
        }
    }

    /// Appends a batch in one transaction.
    ///
    /// # Errors
    /// [`StoreError::is_storage_full`] on a full disk. The log gave back then what it can, so that the next try may succeed.
    pub async fn append(&self, entries: &[JournalEntry]) -> Result<(), StoreError> {
        let appended = self.insert(entries).await;
        if appended.as_ref().is_err_and(StoreError::is_storage_full) {
            sqlx::query(EMPTY_LOG).execute(&self.pool).await?;
        }
        appended
    }

    async fn insert(&self, entries: &[JournalEntry]) -> Result<(), StoreError> {
        let Some(time) = entries.iter().map(|entry| entry.time).max() else { return Ok(()) };
        let newest_ms = entries.iter().filter_map(|entry| entry.id.unix_ms()).max().unwrap_or(0);
        let is_late = |entry: &&JournalEntry| {
            entry.id.unix_ms().is_none_or(|ms| ms < newest_ms - WINDOW_MS) && !entry.id.0.is_nil()
        };
        let scopes: BTreeSet<&str> = entries.iter().map(|entry| entry.scope.as_str()).collect();
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sequence: i64 = sqlx::query_scalar(
            "INSERT INTO batches (sequence, count, time, newest_ms, records) \
             VALUES ((SELECT COALESCE(MAX(sequence), 0) FROM batches) + $1, $1, $2, $3, $4) RETURNING sequence",
        )
        .bind(i64::try_from(entries.len()).unwrap_or(i64::MAX))
        .bind(time.unix_micros())
        .bind(newest_ms)
        .bind(pack(entries))
        .fetch_one(&mut *writing)
        .await?;
        for scope in scopes {
            sqlx::query("INSERT INTO batch_scopes (scope, batch) VALUES ($1, $2)")
                .bind(scope)
                .bind(sequence)
                .execute(&mut *writing)
                .await?;
        }
        for entry in entries.iter().filter(is_late) {
            sqlx::query("INSERT INTO late_records (id, batch) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(entry.id.0.as_bytes().as_slice())
                .bind(sequence)
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
        let late = sqlx::query_scalar(
            "SELECT records FROM batches WHERE sequence IN (SELECT batch FROM late_records WHERE id = $1) \
             ORDER BY sequence DESC",
        )
        .bind(id.0.as_bytes().as_slice());
        let by_time = sqlx::query_scalar(
            "SELECT records FROM batches WHERE newest_ms BETWEEN $1 AND $1 + $2 ORDER BY sequence DESC",
        )
        .bind(id.unix_ms().unwrap_or(-WINDOW_MS - 1))
        .bind(WINDOW_MS);
        let id = id.to_string();
        for query in [late, by_time] {
            let mut batches = query.fetch(&self.pool);
            while let Some(packed) = batches.try_next().await? {
                let packed: Vec<u8> = packed;
                let lines = unpack(&packed)?;
                if let Some((_, _, record)) = lines.lines().filter_map(parts).rfind(|(own, _, _)| *own == id) {
                    return Ok(Some(record.to_owned()));
                }
            }
        }
        Ok(None)
    }

    /// The newest records of a scope, newest first, at most `limit`.
    pub async fn newest(&self, scope: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut batches = sqlx::query_scalar(
            "SELECT b.records FROM batch_scopes s JOIN batches b ON b.sequence = s.batch \
             WHERE s.scope = $1 ORDER BY s.batch DESC",
        )
        .bind(scope)
        .fetch(&self.pool);
        while found.len() < limit
            && let Some(packed) = batches.try_next().await?
        {
            let packed: Vec<u8> = packed;
            let lines = unpack(&packed)?;
            let own = lines.lines().rev().filter_map(parts).filter(|(_, own, _)| *own == scope);
            found.extend(own.take(limit - found.len()).map(|(_, _, record)| record.to_owned()));
        }
        Ok(found)
    }

    /// Drops batches whose records are all older than `before`, then the oldest while `max_records` remain without them.
    /// Returns how many records went.
    pub async fn prune(&self, before: Timestamp, max_records: u64) -> Result<u64, StoreError> {
        let mut writing = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let last: i64 = sqlx::query_scalar(
            "SELECT MAX(COALESCE((SELECT MIN(sequence) FROM batches WHERE time >= $1) - 1, \
                                 (SELECT MAX(sequence) FROM batches), 0), \
                        COALESCE((SELECT MAX(sequence) FROM batches), 0) - $2)",
        )
        .bind(before.unix_micros())
        .bind(i64::try_from(max_records).unwrap_or(i64::MAX))
        .fetch_one(&mut *writing)
        .await?;
        let counts: Vec<i64> = sqlx::query_scalar("DELETE FROM batches WHERE sequence <= $1 RETURNING count")
            .bind(last)
            .fetch_all(&mut *writing)
            .await?;
        for statement in ["DELETE FROM late_records WHERE batch <= $1", "DELETE FROM batch_scopes WHERE batch <= $1"] {
            sqlx::query(statement).bind(last).execute(&mut *writing).await?;
        }
        writing.commit().await?;
        Ok(counts.into_iter().sum::<i64>().unsigned_abs())
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn pack(entries: &[JournalEntry]) -> Vec<u8> {
    let mut lines = String::with_capacity(entries.iter().map(|entry| entry.record.len() + 80).sum());
    for entry in entries {
        let _ = writeln!(lines, "{} {} {}", entry.id, entry.scope, entry.record);
    }
    lz4_flex::compress_prepend_size(lines.as_bytes())
}

fn unpack(packed: &[u8]) -> Result<String, StoreError> {
    let corrupt = || StoreError::Corrupt("batch of records");
    let (length, block) = lz4_flex::block::uncompressed_size(packed).map_err(|_| corrupt())?;
    if length > MAX_BATCH_BYTES {
        return Err(corrupt());
    }
    let lines = lz4_flex::decompress(block, length).map_err(|_| corrupt())?;
    String::from_utf8(lines).map_err(|_| corrupt())
}

/// Id, scope and record of a line.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let (id, rest) = line.split_once(' ')?;
    let (scope, record) = rest.split_once(' ')?;
    Some((id, scope, record))
}

#[cfg(test)]
mod tests {
    use postern_model::{CorrelationId, Timestamp};
    use uuid::Uuid;

    use super::*;

    /// A record whose request began and ended at these seconds.
    fn entry(begun: u64, ended: i64) -> JournalEntry {
        let id =
            uuid::Builder::from_unix_timestamp_millis(begun * 1000, &[u8::try_from(begun).unwrap(); 10]).into_uuid();
        JournalEntry {
            id: CorrelationId(id),
            time: Timestamp::from_unix_seconds(ended),
            scope: "registry".into(),
            record: format!("{{\"begun\":{begun}}}"),
        }
    }

    fn at(second: u64) -> JournalEntry {
        entry(second, i64::try_from(second).unwrap())
    }

    async fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        (folder, journal)
    }

    #[tokio::test]
    async fn records_are_found_listed_and_pruned() {
        let (folder, journal) = journal().await;
        for second in 1..=10 {
            journal.append(&[at(second)]).await.unwrap();
        }
        assert_eq!(journal.find(at(3).id).await.unwrap(), Some(at(3).record));
        assert_eq!(journal.find(at(99).id).await.unwrap(), None);
        assert_eq!(journal.newest("registry", 2).await.unwrap(), [at(10).record, at(9).record]);
        assert_eq!(journal.newest("other", 2).await.unwrap(), [""; 0]);
        assert_eq!(journal.prune(Timestamp::from_unix_seconds(4), 5).await.unwrap(), 5);
        assert_eq!(journal.newest("registry", 99).await.unwrap().len(), 5);
        assert_eq!(journal.prune(Timestamp::from_unix_seconds(99), 5).await.unwrap(), 5);
        assert_eq!(journal.newest("registry", 99).await.unwrap().len(), 0);
        journal.append(&[at(11)]).await.unwrap();
        assert_eq!(journal.find(at(11).id).await.unwrap(), Some(at(11).record));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        }
        journal.close().await;
    }

    #[tokio::test]
    async fn a_record_of_a_long_request_is_found_too() {
        let (_folder, journal) = journal().await;
        let random = JournalEntry { id: CorrelationId(Uuid::from_u128(7)), record: "7".into(), ..at(100) };
        let nobodys =
            JournalEntry { id: CorrelationId(Uuid::nil()), scope: String::new(), record: "0".into(), ..at(100) };
        journal.append(&[entry(2, 100), at(100), random.clone(), nobodys]).await.unwrap();
        journal.append(&[at(101)]).await.unwrap();
        for looked_for in [entry(2, 100), at(100), random, at(101)] {
            assert_eq!(journal.find(looked_for.id).await.unwrap(), Some(looked_for.record));
        }
        assert_eq!(journal.newest("", 9).await.unwrap(), ["0"]);
        let late: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM late_records").fetch_one(&journal.pool).await.unwrap();
        assert_eq!(late, 2);
    }

    #[tokio::test]
    async fn records_that_an_earlier_version_kept_stay() {
        let (folder, journal) = journal().await;
        for number in 1..=3_u128 {
            sqlx::query("INSERT INTO entries (id, time, scope, record) VALUES ($1, $2, 'registry', $3)")
                .bind(Uuid::from_u128(number).as_bytes().as_slice())
                .bind(i64::try_from(number).unwrap())
                .bind(number.to_string())
                .execute(&journal.pool)
                .await
                .unwrap();
        }
        journal.close().await;
        let journal = Journal::open(&folder.path().join("audit.db")).await.unwrap();
        assert_eq!(journal.newest("registry", 9).await.unwrap(), ["3", "2", "1"]);
        assert_eq!(journal.find(CorrelationId(Uuid::from_u128(2))).await.unwrap().as_deref(), Some("2"));
    }
}

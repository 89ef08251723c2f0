use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqlStr};

use crate::StoreError;
use crate::group::{Writer, Writing};

/// Connections that only read; each is a thread.
const READERS: u32 = 4;
/// Kibibytes of pages that each of them keeps, negative as SQLite has it: the system keeps them too.
pub(crate) const PAGE_CACHE: &str = "-512";
/// Rows that wait to be taken. All resources are read at the start, and each wait is a change of threads.
const READER_ROWS: usize = 256;
/// PostgreSQL has this collation built in; with it both databases sort names by byte.
const COLLATION: &str = " COLLATE \"C\"";
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The write-ahead log is cut back to this size after a burst.
const JOURNAL_LIMIT_BYTES: &str = "67108864";

pub(crate) const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

const MIGRATIONS: [(i64, &str, &str); 6] = [
    (1, "first", include_str!("../migrations/0001_first.sql")),
    (2, "jobs", include_str!("../migrations/0002_jobs.sql")),
    (3, "device logins", include_str!("../migrations/0003_device_logins.sql")),
    (4, "quarantine", include_str!("../migrations/0004_quarantine.sql")),
    (5, "deleted", include_str!("../migrations/0005_deleted.sql")),
    (6, "runs", include_str!("../migrations/0006_runs.sql")),
];

/// The metadata: one connection that writes, some that read.
pub(crate) struct Database {
    writer: Arc<Writer>,
    readers: SqlitePool,
}

impl Database {
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path.to_owned()).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("journal_size_limit", JOURNAL_LIMIT_BYTES)
            // For data folders whose tables were made with it.
            .collation("C", Ord::cmp);
        let mut connection = options.clone().create_if_missing(true).connect().await?;
        migrator(&MIGRATIONS).run(&mut connection).await?;
        let readers = pool_options().max_lifetime(None).test_before_acquire(false);
        let options = options.pragma("query_only", "1").pragma("cache_size", PAGE_CACHE).row_buffer_size(READER_ROWS);
        let readers = readers.max_connections(READERS).connect_lazy_with(options);
        Ok(Self { writer: Writer::new(connection), readers })
    }

    /// Where statements that only read go.
    pub(crate) fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a write. It is the only one until it is committed or dropped.
    pub(crate) async fn write(&self) -> Result<Writing, StoreError> {
        self.writer.begin().await
    }

    /// Brings what is in the write-ahead log to its place, and cuts the log to nothing.
    pub(crate) async fn empty_log(&self) -> Result<(), StoreError> {
        self.writer.run_alone(EMPTY_LOG).await
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = migrations.iter().map(|(version, name, sql)| {
        let migration =
            Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, SqlStr::from_static(sql), false);
        // Bytes are what SQLite compares anyway, and without being told so it does not call back for each comparison.
        Migration { sql: AssertSqlSafe(sql.replace(COLLATION, "")).into_sql_str(), ..migration }
    });
    Migrator::with_migrations(migrations.collect())
}

/// Connections stay, except those that a failing disk has spoilt.
///
/// When the disk fails a commit, SQLite rolls back by itself. The driver's own rollback then finds nothing to do, fails, and the
/// driver takes the connection for being inside a transaction ever after: it would refuse to begin another one.
pub(crate) fn pool_options() -> SqlitePoolOptions {
    SqlitePoolOptions::new().idle_timeout(None).before_acquire(|connection, _| {
        let is_spoilt = connection.is_in_transaction();
        if is_spoilt {
            tracing::warn!("a database connection is replaced after a write that failed");
        }
        Box::pin(std::future::ready(Ok(!is_spoilt)))
    })
}

/// Makes the database's file where it is missing, for its owner only: a data folder that was there before may let others in.
/// SQLite gives the files that it puts beside it the same mode.
pub(crate) async fn make_private(path: PathBuf) -> Result<(), StoreError> {
    let make = move || OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop);
    blocking::<(), io::Error>(make).await
}

/// Runs to its end even when the caller goes away: between a commit and the memory that must follow it, no request may be lost.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work).await.map_err(|_| StoreError::Interrupted)?
}

/// Runs file operations away from the threads that serve requests.
pub(crate) async fn blocking<T: Send + 'static, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, StoreError>
where
    E: Into<StoreError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Interrupted)?.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_content_of_each_earlier_version_is_taken_along() {
        for earlier in 1..MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("metadata.db");
            let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
            let mut connection = options.connect().await.unwrap();
            migrator(&MIGRATIONS[..earlier]).run(&mut connection).await.unwrap();
            sqlx::query("INSERT INTO tags VALUES ('r', 'app', '1.0', 'd', 1, 2, TRUE, TRUE, FALSE, TRUE)")
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();

            let database = Database::open(&path).await.unwrap();
            let kept = "SELECT (SELECT COUNT(*) FROM tags WHERE name = '1.0' AND NOT read_enabled) \
                 + (SELECT COUNT(*) FROM quarantine) + (SELECT COUNT(*) FROM deleted_manifests) + (SELECT COUNT(*) FROM untagged)";
            let kept: i64 = sqlx::query_scalar(kept).fetch_one(database.read()).await.unwrap();
            assert_eq!(kept, 1, "from version {earlier}");
            database.close().await;
        }
    }
}

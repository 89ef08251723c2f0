//! Writes that are made durable together.
//!
//! Making a transaction durable takes longer than everything else in it. Writes that come while one is being made durable
//! share the next one: each has a savepoint of its own, and none is told that it is done before the transaction around them
//! is on disk.

use std::mem::take;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection as _, SqliteConnection};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, oneshot};

use crate::StoreError;

/// Most writes that share a transaction: the first of them waits for all.
const MAX_MEMBERS: usize = 64;

/// The connection that writes, and the queue before it.
pub(crate) struct Writer {
    /// `None` once it is closed.
    turn: Arc<Mutex<Option<Turn>>>,
    /// How many writes wait for their turn.
    waiting: AtomicUsize,
}

struct Turn {
    connection: SqliteConnection,
    /// Whether the transaction around the members is open.
    is_open: bool,
    /// Whether the write that had the last turn is kept.
    is_kept: bool,
    /// Those who wait for the transaction to be on disk.
    members: Vec<oneshot::Sender<Result<(), Arc<sqlx::Error>>>>,
}

/// A write: all of it or nothing, whatever becomes of the others in its transaction. Dropped without
/// [`commit`](Self::commit) it never happened.
pub(crate) struct Writing {
    turn: OwnedMappedMutexGuard<Option<Turn>, Turn>,
    writer: Arc<Writer>,
}

impl Writer {
    pub(crate) fn new(connection: SqliteConnection) -> Arc<Self> {
        let turn = Turn { connection, is_open: false, is_kept: false, members: Vec::new() };
        Arc::new(Self { turn: Arc::new(Mutex::new(Some(turn))), waiting: AtomicUsize::new(0) })
    }

    /// Waits for the turn and begins a write.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<Writing, StoreError> {
        let mut waiting = Waiting::new(self);
        let turn = Arc::clone(&self.turn).lock_owned().await;
        waiting.has_turn = true;
        drop(waiting);
        let turn = OwnedMutexGuard::try_map(turn, Option::as_mut).map_err(|_| StoreError::Interrupted)?;
        let mut writing = Writing { turn, writer: Arc::clone(self) };
        writing.turn.begin().await?;
        Ok(writing)
    }

    /// Runs what cannot be part of a transaction.
    pub(crate) async fn run_alone(&self, statement: &'static str) -> Result<(), StoreError> {
        let mut turn = self.turn.lock().await;
        let turn = turn.as_mut().ok_or(StoreError::Interrupted)?;
        turn.finish().await;
        Ok(turn.run(statement).await?)
    }

    /// Commits what is open if nobody comes after it who would.
    async fn settle(self: Arc<Self>) {
        let mut turn = self.turn.lock().await;
        if let (Some(turn), 0) = (turn.as_mut(), self.waiting.load(Ordering::SeqCst)) {
            turn.finish().await;
        }
    }

    fn settle_later(self: &Arc<Self>) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(Arc::clone(self).settle());
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(mut turn) = self.turn.lock().await.take() {
            turn.finish().await;
            if let Err(error) = turn.connection.close().await {
                tracing::warn!(error = %error, "the database was not closed in order");
            }
        }
    }
}

/// Counts as waiting while it lives.
struct Waiting<'a> {
    writer: &'a Arc<Writer>,
    has_turn: bool,
}

impl<'a> Waiting<'a> {
    fn new(writer: &'a Arc<Writer>) -> Self {
        writer.waiting.fetch_add(1, Ordering::SeqCst);
        Self { writer, has_turn: false }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let others = self.writer.waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        // Whoever had the turn before may have counted on this one to commit.
        if !self.has_turn && others == 0 {
            self.writer.settle_later();
        }
    }
}

impl Turn {
    async fn run(&mut self, statements: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statements).execute(&mut self.connection).await.map(|_| ())
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        if self.is_open {
            let next = if self.is_kept { "RELEASE work; SAVEPOINT work" } else { "ROLLBACK TO work" };
            match self.run(next).await {
                Ok(()) => {
                    // Not before: whoever goes away meanwhile must not take the one before along.
                    self.is_kept = false;
                    return Ok(());
                }
                // The transaction is gone, as after a full disk. So are its members' writes; this one begins another.
                Err(error) => self.fail(error).await,
            }
        }
        // Taking the write lock at once avoids the upgrade from reading, which fails whatever the timeout.
        self.is_open = true;
        self.is_kept = false;
        if let Err(error) = self.run("BEGIN IMMEDIATE; SAVEPOINT work").await {
            let _ = self.run("ROLLBACK").await;
            self.is_open = false;
            return Err(error.into());
        }
        Ok(())
    }

    /// Makes the members' writes durable and tells them.
    async fn finish(&mut self) {
        if !self.is_open {
            return;
        }
        let last = match (self.is_kept, self.members.is_empty()) {
            (true, _) => "COMMIT",
            (false, false) => "ROLLBACK TO work; COMMIT",
            (false, true) => "ROLLBACK",
        };
        match self.run(last).await {
            Ok(()) => {
                self.is_open = false;
                for member in take(&mut self.members) {
                    let _ = member.send(Ok(()));
                }
            }
            Err(error) => self.fail(error).await,
        }
    }

    async fn fail(&mut self, error: sqlx::Error) {
        // It may be gone already.
        let _ = self.run("ROLLBACK").await;
        self.is_open = false;
        let error = Arc::new(error);
        for member in take(&mut self.members) {
            let _ = member.send(Err(Arc::clone(&error)));
        }
    }
}

impl Writing {
    /// Keeps the write. Returns once it is on disk.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let (done, committed) = oneshot::channel();
        self.turn.is_kept = true;
        self.turn.members.push(done);
        if !self.is_followed() {
            // Those who are just about to write come along.
            tokio::task::yield_now().await;
        }
        if !self.is_followed() || self.turn.members.len() >= MAX_MEMBERS {
            self.turn.finish().await;
        }
        drop(self);
        Ok(committed.await.map_err(|_| StoreError::Interrupted)??)
    }

    /// Whether somebody waits who will see to the commit.
    fn is_followed(&self) -> bool {
        self.writer.waiting.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.turn.is_open && !self.is_followed() {
            self.writer.settle_later();
        }
    }
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.turn.connection
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.turn.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn writer() -> Arc<Writer> {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (n INTEGER PRIMARY KEY)").execute(&mut connection).await.unwrap();
        Writer::new(connection)
    }

    async fn insert(writer: &Arc<Writer>, number: i64) -> Writing {
        let mut writing = writer.begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES ($1)").bind(number).execute(&mut *writing).await.unwrap();
        writing
    }

    async fn numbers(writer: &Arc<Writer>) -> Vec<i64> {
        let mut writing = writer.begin().await.unwrap();
        sqlx::query_scalar("SELECT n FROM t ORDER BY n").fetch_all(&mut *writing).await.unwrap()
    }

    /// Begins to write each number in its own task, in this order; those that `keeps` refuses are dropped.
    async fn write_together(
        writer: &Arc<Writer>,
        numbers: &[i64],
        keeps: fn(i64) -> bool,
    ) -> Vec<Result<(), StoreError>> {
        let first = writer.begin().await.unwrap();
        let mut tasks = Vec::new();
        for &number in numbers {
            let own = Arc::clone(writer);
            tasks.push(tokio::spawn(async move {
                let mut writing = own.begin().await?;
                let inserted = sqlx::query("INSERT INTO t VALUES ($1)").bind(number).execute(&mut *writing).await;
                inserted?;
                if keeps(number) { writing.commit().await } else { Err(StoreError::Busy) }
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        outcomes
    }

    #[tokio::test]
    async fn each_write_is_kept_or_not_by_itself() {
        let writer = writer().await;
        insert(&writer, 1).await.commit().await.unwrap();
        let outcomes = write_together(&writer, &[2, 3, 4, 1, 5, 6], |number| number % 3 != 0).await;
        let kept: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        // 1 is there already; 3 and 6 were given up.
        assert_eq!(kept, [true, false, true, false, true, false]);
        assert_eq!(numbers(&writer).await, [1, 2, 4, 5]);
    }

    #[tokio::test]
    async fn nobody_is_told_before_the_transaction_ends() {
        let writer = writer().await;
        let mut writing = insert(&writer, 1).await;
        // What SQLite does by itself on a full disk: the whole transaction is gone.
        sqlx::raw_sql("ROLLBACK").execute(&mut *writing).await.unwrap();
        assert!(writing.commit().await.is_err());
        insert(&writer, 2).await.commit().await.unwrap();
        assert_eq!(numbers(&writer).await, [2]);
    }

    #[tokio::test]
    async fn a_lost_transaction_fails_all_its_members() {
        let writer = writer().await;
        let first = insert(&writer, 1).await;
        let (one, two) = (Arc::clone(&writer), Arc::clone(&writer));
        let breaks = tokio::spawn(async move {
            let mut writing = one.begin().await.unwrap();
            sqlx::raw_sql("ROLLBACK").execute(&mut *writing).await.unwrap();
        });
        tokio::task::yield_now().await;
        let last = tokio::spawn(async move { insert(&two, 3).await.commit().await });
        tokio::task::yield_now().await;
        assert!(first.commit().await.is_err());
        breaks.await.unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(numbers(&writer).await, [3]);
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_leaves_nobody_behind() {
        let writer = writer().await;
        let first = insert(&writer, 1).await;
        let gives_up = tokio::spawn({
            let writer = Arc::clone(&writer);
            async move { writer.begin().await.map(drop) }
        });
        tokio::task::yield_now().await;
        let committing = tokio::spawn(first.commit());
        tokio::task::yield_now().await;
        gives_up.abort();
        committing.await.unwrap().unwrap();
        writer.close().await;
        assert!(writer.begin().await.is_err());
    }
}

use std::sync::Arc;

use postern_model::{Secret, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{
    JobEnd, JobId, JobKind, JobState, Jobs, MAX_NOTE_CHARS, attempts_of, expiry, from_json, parse_id, purpose, time_of,
    to_json,
};
use crate::StoreError;
use crate::database::detached;
use crate::group::Writing;

/// A job that the holder carries out. Nothing happens when it is dropped: the lease runs out.
pub struct Lease<K: JobKind> {
    jobs: Jobs,
    id: JobId,
    /// What later leases have a greater one of.
    token: i64,
    attempt: u32,
    subject: String,
    created: Timestamp,
    payload: K::Payload,
    secret: Option<Secret>,
}

/// What a heartbeat hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The lease lasts on.
    Kept,
    /// The same, but the job is called off: stop, and end it as canceled.
    CancelAsked,
}

/// What is written where a lease ends.
struct Close {
    state: JobState,
    /// For a job that waits again.
    due: Option<Timestamp>,
    /// Whether this attempt does not count.
    is_released: bool,
    outcome: Option<String>,
    note: Option<String>,
}

impl Jobs {
    /// Takes the job of this kind that is due longest; `holder` says who has it, for people.
    ///
    /// A job whose lease has run out is due again, unless it was called off meanwhile or was begun too often: then it has ended.
    pub async fn take<K: JobKind>(&self, holder: &str) -> Result<Option<Lease<K>>, StoreError> {
        self.take_from(holder, None).await
    }

    /// The same among the jobs of one subject.
    pub async fn take_of<K: JobKind>(&self, holder: &str, subject: &str) -> Result<Option<Lease<K>>, StoreError> {
        self.take_from(holder, Some(subject)).await
    }

    async fn take_from<K: JobKind>(&self, holder: &str, subject: Option<&str>) -> Result<Option<Lease<K>>, StoreError> {
        while let Some(row) = self.take_row::<K>(holder, subject).await? {
            match self.lease_of::<K>(&row) {
                Ok(lease) => return Ok(Some(lease)),
                Err(error) => self.give_up::<K>(&row, &error).await?,
            }
        }
        Ok(None)
    }

    /// The lease with this token, for whoever holds it and cannot keep it in memory.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when somebody else has the job, or it has ended.
    pub async fn held<K: JobKind>(&self, id: JobId, token: i64) -> Result<Lease<K>, StoreError> {
        let row = sqlx::query(
            "SELECT id, token, attempts, subject, created, payload, sealed FROM jobs \
             WHERE id = $1 AND token = $2 AND kind = $3 AND state = 'leased'",
        )
        .bind(id.to_string())
        .bind(token)
        .bind(K::NAME)
        .fetch_optional(self.0.database.read())
        .await?;
        self.lease_of(&row.ok_or(StoreError::LeaseLost)?)
    }

    /// Ends the jobs of this kind whose lease has run out and that are not begun again, as taking one does.
    pub async fn end_lost<K: JobKind>(&self) -> Result<u64, StoreError> {
        let now = self.0.now();
        let lost: Option<i64> =
            sqlx::query_scalar("SELECT due FROM jobs WHERE kind = $1 AND due <= $2 AND state = 'leased' LIMIT 1")
                .bind(K::NAME)
                .bind(now.unix_micros())
                .fetch_optional(self.0.database.read())
                .await?;
        if lost.is_none() {
            return Ok(0);
        }
        let inner = Arc::clone(&self.0);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let closed = close_lost::<K>(&mut transaction, now).await?;
            transaction.commit().await?;
            inner.job_changes.0.send_replace(());
            Ok(closed)
        })
        .await
    }

    /// Whether a job of this kind, and of this subject if one is named, waits for somebody who may take it.
    pub async fn is_due<K: JobKind>(&self, subject: Option<&str>) -> Result<bool, StoreError> {
        let due: Option<i64> = sqlx::query_scalar(
            "SELECT due FROM jobs j WHERE kind = $1 AND due <= $2 AND ($3 IS NULL OR subject = $3) \
             AND (SELECT COUNT(*) FROM jobs l WHERE l.kind = j.kind AND l.subject = j.subject \
              AND l.state = 'leased' AND l.due > $2) < $4 LIMIT 1",
        )
        .bind(K::NAME)
        .bind(self.0.now().unix_micros())
        .bind(subject)
        .bind(i64::from(K::LIMITS.leased_per_subject))
        .fetch_optional(self.0.database.read())
        .await?;
        Ok(due.is_some())
    }

    async fn take_row<K: JobKind>(&self, holder: &str, subject: Option<&str>) -> Result<Option<SqliteRow>, StoreError> {
        if !self.is_due::<K>(subject).await? {
            return Ok(None);
        }
        let (inner, holder, subject) = (Arc::clone(&self.0), holder.to_owned(), subject.map(str::to_owned));
        detached(async move {
            let now = inner.now();
            let mut transaction = inner.database.write().await?;
            let closed = close_lost::<K>(&mut transaction, now).await?;
            // The outer condition counts where two processes choose the same row: the second one finds it leased.
            let row = sqlx::query(
                "UPDATE jobs SET state = 'leased', due = $3, token = token + 1, attempts = attempts + 1, holder = $4, \
                 started = COALESCE(started, $2) WHERE id = (SELECT id FROM jobs j WHERE kind = $1 AND due <= $2 \
                 AND ($6 IS NULL OR subject = $6) AND (SELECT COUNT(*) FROM jobs l WHERE l.kind = j.kind AND l.subject = j.subject \
                  AND l.state = 'leased' AND l.due > $2) < $5 ORDER BY due, created, id LIMIT 1) AND due <= $2 \
                 RETURNING id, token, attempts, subject, created, payload, sealed",
            )
            .bind(K::NAME)
            .bind(now.unix_micros())
            .bind(lease_end::<K>(now))
            .bind(holder)
            .bind(i64::from(K::LIMITS.leased_per_subject))
            .bind(subject)
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            if closed > 0 {
                inner.job_changes.0.send_replace(());
            }
            Ok(row)
        })
        .await
    }

    fn lease_of<K: JobKind>(&self, row: &SqliteRow) -> Result<Lease<K>, StoreError> {
        let id = parse_id(row.try_get("id")?)?;
        let sealed: Option<Vec<u8>> = row.try_get("sealed")?;
        let open = |sealed| {
            let opened = self.0.sealer.open(&purpose(id), sealed)?;
            String::from_utf8(opened).map(Secret::new).map_err(|_| StoreError::Corrupt("job secret"))
        };
        Ok(Lease {
            jobs: self.clone(),
            id,
            token: row.try_get("token")?,
            attempt: attempts_of(row)?,
            subject: row.try_get("subject")?,
            created: time_of(row, "created")?.ok_or(StoreError::Corrupt("job without a time"))?,
            payload: from_json(row.try_get("payload")?)?,
            secret: sealed.map(open).transpose()?,
        })
    }

    /// Ends a job that nobody can read.
    async fn give_up<K: JobKind>(&self, row: &SqliteRow, error: &StoreError) -> Result<(), StoreError> {
        let id = parse_id(row.try_get("id")?)?;
        tracing::error!(job.id = %id, job.kind = K::NAME, error = %error, "a job cannot be read");
        let note = Some(format!("it cannot be read: {error}"));
        let close = Close { state: JobState::Failed, due: None, is_released: false, outcome: None, note };
        close_lease::<K>(self, id, row.try_get("token")?, close).await
    }

    /// Ends the leases of this kind that an earlier process had: its jobs are due at once.
    ///
    /// For kinds that are carried out in the server's own process, at its start: nobody else has the data folder open.
    pub async fn reclaim<K: JobKind>(&self) -> Result<u64, StoreError> {
        let inner = Arc::clone(&self.0);
        detached(async move {
            let now = inner.now().unix_micros();
            let mut transaction = inner.database.write().await?;
            let reclaimed = sqlx::query("UPDATE jobs SET due = $2 WHERE kind = $1 AND state = 'leased' AND due > $2")
                .bind(K::NAME)
                .bind(now)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            inner.job_changes.0.send_replace(());
            Ok(reclaimed.rows_affected())
        })
        .await
    }
}

impl<K: JobKind> Lease<K> {
    /// The job's id.
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// What this lease is told from earlier ones of the job by.
    pub const fn token(&self) -> i64 {
        self.token
    }

    /// Which attempt this is, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether somebody has carried it out before, however that ended.
    pub const fn is_resumed(&self) -> bool {
        self.token > 1
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it was asked for.
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// What is to be done.
    pub const fn payload(&self) -> &K::Payload {
        &self.payload
    }

    /// What it needs and nobody may read.
    pub const fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// Makes the lease last from now on.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when somebody else has the job, or it has ended: stop at once.
    pub async fn heartbeat(&self) -> Result<Beat, StoreError> {
        let (inner, id, token) = (Arc::clone(&self.jobs.0), self.id, self.token);
        let cancel_asked: Option<bool> = detached(async move {
            let mut transaction = inner.database.write().await?;
            let cancel_asked = sqlx::query_scalar(
                "UPDATE jobs SET due = $3 WHERE id = $1 AND token = $2 AND state = 'leased' RETURNING cancel_asked",
            )
            .bind(id.to_string())
            .bind(token)
            .bind(lease_end::<K>(inner.now()))
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(cancel_asked)
        })
        .await?;
        beat(cancel_asked)
    }

    /// Makes this attempt the last one: what it has done must not be done again. When its lease runs out, the job has failed.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when somebody else has the job, or it has ended.
    pub async fn make_last(&self) -> Result<(), StoreError> {
        let (inner, id, token) = (Arc::clone(&self.jobs.0), self.id, self.token);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let changed = sqlx::query(
                "UPDATE jobs SET attempts = MAX(attempts, $3) WHERE id = $1 AND token = $2 AND state = 'leased'",
            )
            .bind(id.to_string())
            .bind(token)
            .bind(i64::from(K::LIMITS.attempts))
            .execute(&mut *transaction)
            .await?;
            if changed.rows_affected() == 0 {
                return Err(StoreError::LeaseLost);
            }
            transaction.commit().await
        })
        .await
    }

    /// What a heartbeat would hear, without making the lease last.
    pub(super) async fn look(&self) -> Result<Beat, StoreError> {
        let cancel_asked: Option<bool> =
            sqlx::query_scalar("SELECT cancel_asked FROM jobs WHERE id = $1 AND token = $2 AND state = 'leased'")
                .bind(self.id.to_string())
                .bind(self.token)
                .fetch_optional(self.jobs.0.database.read())
                .await?;
        beat(cancel_asked)
    }

    /// Ends the attempt, and with it the job unless it is to be tried again.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when somebody else has the job, or it has ended: what was done does not count.
    pub async fn end(&self, end: JobEnd<K>) -> Result<(), StoreError> {
        let mut close = Close { state: JobState::Succeeded, due: None, is_released: false, outcome: None, note: None };
        match end {
            JobEnd::Succeeded(outcome) => close.outcome = Some(to_json(&outcome)?),
            JobEnd::Retry(_) if self.attempt < K::LIMITS.attempts => {
                (close.state, close.due) = (JobState::Waiting, Some(self.jobs.0.now().plus_seconds(self.backoff())));
            }
            JobEnd::Retry(outcome) | JobEnd::Failed(outcome) => {
                (close.state, close.outcome) = (JobState::Failed, Some(to_json(&outcome)?));
            }
            JobEnd::Canceled => (close.state, close.note) = (JobState::Canceled, Some("it was canceled".into())),
        }
        close_lease::<K>(&self.jobs, self.id, self.token, close).await
    }

    /// Ends the attempt as if it had not been: the job is due at once.
    pub async fn release(&self) -> Result<(), StoreError> {
        let due = Some(self.jobs.0.now());
        let close = Close { state: JobState::Waiting, due, is_released: true, outcome: None, note: None };
        close_lease::<K>(&self.jobs, self.id, self.token, close).await
    }

    fn backoff(&self) -> i64 {
        let doubled = 1_u32.checked_shl(self.attempt - 1).unwrap_or(u32::MAX);
        K::LIMITS.backoff_seconds.saturating_mul(doubled).min(K::LIMITS.max_backoff_seconds).into()
    }
}

fn beat(cancel_asked: Option<bool>) -> Result<Beat, StoreError> {
    match cancel_asked {
        Some(false) => Ok(Beat::Kept),
        Some(true) => Ok(Beat::CancelAsked),
        None => Err(StoreError::LeaseLost),
    }
}

fn lease_end<K: JobKind>(now: Timestamp) -> i64 {
    now.plus_seconds(i64::from(K::LIMITS.lease_seconds)).unix_micros()
}

/// Ends the jobs whose lease has run out and that are not to be begun again.
async fn close_lost<K: JobKind>(transaction: &mut Writing, now: Timestamp) -> Result<u64, StoreError> {
    let closed = sqlx::query(
        "UPDATE jobs SET state = CASE WHEN cancel_asked THEN 'canceled' ELSE 'failed' END, note = $5, due = NULL, \
         sealed = NULL, holder = NULL, ended = $2, expires = $3 \
         WHERE kind = $1 AND state = 'leased' AND due <= $2 AND (cancel_asked OR attempts >= $4)",
    )
    .bind(K::NAME)
    .bind(now.unix_micros())
    .bind(expiry::<K>(now))
    .bind(i64::from(K::LIMITS.attempts))
    .bind("whoever carried it out has gone away")
    .execute(&mut **transaction)
    .await?;
    Ok(closed.rows_affected())
}

async fn close_lease<K: JobKind>(jobs: &Jobs, id: JobId, token: i64, close: Close) -> Result<(), StoreError> {
    let inner = Arc::clone(&jobs.0);
    detached(async move {
        let mut transaction = inner.database.write().await?;
        close_in::<K>(&mut transaction, inner.now(), id, token, close).await?;
        transaction.commit().await?;
        inner.job_changes.0.send_replace(());
        Ok(())
    })
    .await
}

/// Ends a job whose end is written down with something else, without an outcome of its own.
///
/// # Errors
/// [`StoreError::LeaseLost`] when the lease is held no longer.
pub(crate) async fn close_lease_in<K: JobKind>(
    transaction: &mut Writing,
    now: Timestamp,
    (id, token): (JobId, i64),
    state: JobState,
) -> Result<(), StoreError> {
    let close = Close { state, due: None, is_released: false, outcome: None, note: None };
    close_in::<K>(transaction, now, id, token, close).await
}

async fn close_in<K: JobKind>(
    transaction: &mut Writing,
    now: Timestamp,
    id: JobId,
    token: i64,
    close: Close,
) -> Result<(), StoreError> {
    let is_end = close.state.is_end();
    let closed = sqlx::query(
        "UPDATE jobs SET state = $3, due = $4, outcome = $5, note = $6, holder = NULL, ended = $7, expires = $8, \
         attempts = attempts - $9, sealed = CASE WHEN $10 THEN NULL ELSE sealed END \
         WHERE id = $1 AND token = $2 AND state = 'leased'",
    )
    .bind(id.to_string())
    .bind(token)
    .bind(close.state.as_str())
    .bind(close.due.map(Timestamp::unix_micros))
    .bind(close.outcome)
    .bind(close.note.map(|note| note.chars().take(MAX_NOTE_CHARS).collect::<String>()))
    .bind(is_end.then(|| now.unix_micros()))
    .bind(is_end.then(|| expiry::<K>(now)))
    .bind(i64::from(close.is_released))
    .bind(is_end)
    .execute(&mut **transaction)
    .await?;
    if closed.rows_affected() == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
}

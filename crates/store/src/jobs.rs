//! Work that outlives the request that asked for it, and the process that carries it out.
//!
//! ```text
//!  enqueue ─▶ waiting ─take▶ leased ─end▶ succeeded │ failed │ canceled ─▶ expired
//!               ▲              │  ▲╌╌╌╌╌ heartbeat
//!               └── retry, release, or the lease ran out ──┘
//! ```
//!
//! A job is carried out at least once and ends once: whoever takes it gets a lease with a token, and what is written under an older
//! token has no effect. So an executor must bear being started again on what it had half done, and it is stopped when its lease is
//! lost. Leases, retries and expiry go by the store's clock, whoever asks: with a database that several processes share this is the
//! database's own.

mod lease;
mod runner;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use postern_model::{Secret, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use self::lease::close_lease_in;
pub use self::lease::{Beat, Lease};
pub use self::runner::JobExecutor;
use crate::StoreError;
use crate::database::detached;
use crate::group::Writing;
use crate::store::Inner;

/// Largest payload or outcome, as JSON.
const MAX_JOB_BYTES: usize = 256 << 10;
/// Longest secret.
const MAX_SECRET_BYTES: usize = 16 << 10;
/// Longest note.
const MAX_NOTE_CHARS: usize = 1000;
/// Rows that one transaction of the expiry removes.
const EXPIRY_BATCH: i64 = 256;
/// How often the table is looked at for what other processes wrote.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A kind of job: its name in the table, what it is about, and how it ends.
pub trait JobKind: Send + Sync + 'static {
    /// Its name. Never reused for something else: rows outlive versions.
    const NAME: &'static str;
    /// Its bounds.
    const LIMITS: JobLimits;
    /// What is to be done. Must stay readable by later versions. Secrets do not belong here, see [`NewJob::secret`].
    type Payload: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What came of it, for whoever asks afterwards.
    type Outcome: Serialize + DeserializeOwned + Send + Sync + 'static;
}

/// The bounds of a kind of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// How often it is begun at most; then it has failed.
    pub attempts: u32,
    /// How long a lease lasts without a heartbeat, in seconds.
    pub lease_seconds: u32,
    /// How long the first retry waits, in seconds; each further one waits twice as long.
    pub backoff_seconds: u32,
    /// The longest that a retry waits, in seconds.
    pub max_backoff_seconds: u32,
    /// How long the end is kept, in seconds.
    pub keep_seconds: u32,
    /// How many jobs of one subject may not have ended.
    pub open_per_subject: u32,
    /// How many jobs of one subject are carried out at once: the others' turn comes too.
    pub leased_per_subject: u32,
}

/// The id of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// A job that is to be.
pub struct NewJob<K: JobKind> {
    subject: String,
    payload: K::Payload,
    key: Option<String>,
    secret: Option<Secret>,
    not_before: Option<Timestamp>,
}

impl<K: JobKind> NewJob<K> {
    /// Something to do with a subject: what it is counted, listed and canceled by, a resource's uid for instance.
    pub fn new(subject: impl Into<String>, payload: K::Payload) -> Self {
        Self { subject: subject.into(), payload, key: None, secret: None, not_before: None }
    }

    /// Asked for twice under the same key it is one job, as long as it is kept.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// What it needs and nobody may read: sealed in the table, and gone with the job's end.
    #[must_use]
    pub fn secret(self, secret: Secret) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// It waits until then.
    #[must_use]
    pub fn not_before(self, time: Timestamp) -> Self {
        Self { not_before: Some(time), ..self }
    }
}

/// What asking for a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id.
    pub id: JobId,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Nobody has it.
    Waiting,
    /// Somebody carries it out.
    Leased,
    /// It has ended well.
    Succeeded,
    /// It has not, and is not tried again.
    Failed,
    /// It was called off.
    Canceled,
}

impl JobState {
    const ALL: [Self; 5] = [Self::Waiting, Self::Leased, Self::Succeeded, Self::Failed, Self::Canceled];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing comes after it.
    pub const fn is_end(self) -> bool {
        match self {
            Self::Waiting | Self::Leased => false,
            Self::Succeeded | Self::Failed | Self::Canceled => true,
        }
    }
}

/// A job as it stands.
pub struct Job<K: JobKind> {
    /// Its id.
    pub id: JobId,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: JobState,
    /// What is to be done.
    pub payload: K::Payload,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it was first begun.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What its executor says came of it. There is none when it was canceled before, or when every attempt was cut short.
    pub outcome: Option<K::Outcome>,
    /// Why there is no outcome, for people.
    pub note: Option<String>,
}

/// How an attempt ends.
pub enum JobEnd<K: JobKind> {
    /// Well.
    Succeeded(K::Outcome),
    /// It cannot be done.
    Failed(K::Outcome),
    /// It could not be done this time. After the last attempt this is how it has failed.
    Retry(K::Outcome),
    /// It was called off.
    Canceled,
}

/// What calling off came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canceling {
    /// It will not be begun.
    Done,
    /// Whoever carries it out is told.
    Asked,
    /// It has ended, or there is no such job.
    TooLate,
}

/// The jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

/// What everybody who waits for a job looks at.
pub(crate) struct JobChanges(watch::Sender<()>);

impl Default for JobChanges {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl JobChanges {
    pub(crate) fn announce(&self) {
        self.0.send_replace(());
    }
}

impl Jobs {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Asks for a job. It lasts when this returns.
    ///
    /// # Errors
    /// [`StoreError::TooManyJobs`] when the subject has too many that have not ended.
    pub async fn enqueue<K: JobKind>(&self, job: NewJob<K>) -> Result<Enqueued, StoreError> {
        let prepared = self.prepare(job)?;
        let inner = Arc::clone(&self.0);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let enqueued = prepared.insert(&mut transaction, inner.now()).await?;
            if enqueued.is_new {
                transaction.commit().await?;
                inner.job_changes.0.send_replace(());
            }
            Ok(enqueued)
        })
        .await
    }

    /// What a job's row will hold.
    pub(crate) fn prepare<K: JobKind>(&self, job: NewJob<K>) -> Result<Prepared, StoreError> {
        let id = JobId(self.0.options.random.uuid());
        let payload = to_json(&job.payload)?;
        let seal = |secret: &Secret| match secret.expose().len() {
            0..=MAX_SECRET_BYTES => self.0.sealer.seal(&purpose(id), secret.expose().as_bytes()),
            _ => Err(StoreError::TooLarge { limit_bytes: MAX_SECRET_BYTES as u64 }),
        };
        let sealed = job.secret.as_ref().map(seal).transpose()?;
        let NewJob { subject, key, not_before, .. } = job;
        Ok(Prepared { id, kind: K::NAME, limits: K::LIMITS, subject, key, not_before, sealed, payload })
    }

    /// A job as it stands; none when there is no such job of this kind, or no longer.
    pub async fn find<K: JobKind>(&self, id: JobId) -> Result<Option<Job<K>>, StoreError> {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = $1 AND kind = $2")
            .bind(id.to_string())
            .bind(K::NAME)
            .fetch_optional(self.0.database.read())
            .await?;
        row.as_ref().map(job_of).transpose()
    }

    /// Waits until a job has ended.
    pub async fn ended<K: JobKind>(&self, id: JobId) -> Result<Option<Job<K>>, StoreError> {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let job = self.find::<K>(id).await?;
            if job.as_ref().is_none_or(|job| job.state.is_end()) {
                return Ok(job);
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }

    /// Calls a job off.
    pub async fn cancel<K: JobKind>(&self, id: JobId) -> Result<Canceling, StoreError> {
        let (ended, asked) = self.cancel_where::<K>("id", id.to_string()).await?;
        Ok(match (ended, asked) {
            (1.., _) => Canceling::Done,
            (0, 1..) => Canceling::Asked,
            (0, 0) => Canceling::TooLate,
        })
    }

    /// Calls every job of a subject off; gives how many that were.
    pub async fn cancel_all_of<K: JobKind>(&self, subject: &str) -> Result<u64, StoreError> {
        let (ended, asked) = self.cancel_where::<K>("subject", subject.to_owned()).await?;
        Ok(ended + asked)
    }

    async fn cancel_where<K: JobKind>(&self, column: &'static str, value: String) -> Result<(u64, u64), StoreError> {
        let inner = Arc::clone(&self.0);
        detached(async move {
            let now = inner.now();
            let mut transaction = inner.database.write().await?;
            let end = format!(
                "UPDATE jobs SET state = 'canceled', due = NULL, sealed = NULL, ended = $3, expires = $4, \
                 note = 'it was canceled' WHERE kind = $1 AND {column} = $2 AND state = 'waiting'"
            );
            let ended = sqlx::query(sqlx::AssertSqlSafe(end))
                .bind(K::NAME)
                .bind(&value)
                .bind(now.unix_micros())
                .bind(expiry::<K>(now))
                .execute(&mut *transaction)
                .await?;
            let ask =
                format!("UPDATE jobs SET cancel_asked = TRUE WHERE kind = $1 AND {column} = $2 AND state = 'leased'");
            let asked =
                sqlx::query(sqlx::AssertSqlSafe(ask)).bind(K::NAME).bind(&value).execute(&mut *transaction).await?;
            transaction.commit().await?;
            inner.job_changes.0.send_replace(());
            Ok((ended.rows_affected(), asked.rows_affected()))
        })
        .await
    }

    /// Removes what has ended and is not kept any longer; gives how many that were.
    pub async fn expire(&self) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let inner = Arc::clone(&self.0);
            let removed = detached(async move {
                let mut transaction = inner.database.write().await?;
                let removed = sqlx::query(
                    "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE expires <= $1 ORDER BY expires LIMIT $2)",
                )
                .bind(inner.now().unix_micros())
                .bind(EXPIRY_BATCH)
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(removed.rows_affected())
            })
            .await?;
            total += removed;
            if removed == 0 {
                return Ok(total);
            }
        }
    }

    /// Tells of every job that was asked for, called off or ended in this process.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.job_changes.0.subscribe()
    }
}

/// A job that can be put into its table, together with what belongs to it.
pub(crate) struct Prepared {
    pub(crate) id: JobId,
    kind: &'static str,
    limits: JobLimits,
    subject: String,
    key: Option<String>,
    not_before: Option<Timestamp>,
    sealed: Option<Vec<u8>>,
    payload: String,
}

impl Prepared {
    /// Puts it there, unless its key is known.
    pub(crate) async fn insert(self, transaction: &mut Writing, now: Timestamp) -> Result<Enqueued, StoreError> {
        let due = self.not_before.map_or(now, |time| time.max(now));
        if let Some(key) = &self.key {
            let known: Option<String> =
                sqlx::query_scalar("SELECT id FROM jobs WHERE kind = $1 AND idempotency_key = $2")
                    .bind(self.kind)
                    .bind(key)
                    .fetch_optional(&mut **transaction)
                    .await?;
            if let Some(known) = known {
                return Ok(Enqueued { id: parse_id(&known)?, is_new: false });
            }
        }
        let open: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE kind = $1 AND subject = $2 AND due IS NOT NULL")
                .bind(self.kind)
                .bind(&self.subject)
                .fetch_one(&mut **transaction)
                .await?;
        let limit = self.limits.open_per_subject;
        if open >= i64::from(limit) {
            return Err(StoreError::TooManyJobs { limit });
        }
        sqlx::query(
            "INSERT INTO jobs (id, kind, subject, idempotency_key, state, due, token, attempts, cancel_asked, created, sealed, \
             payload) VALUES ($1, $2, $3, $4, $5, $6, 0, 0, FALSE, $7, $8, $9)",
        )
        .bind(self.id.to_string())
        .bind(self.kind)
        .bind(self.subject)
        .bind(self.key)
        .bind(JobState::Waiting.as_str())
        .bind(due.unix_micros())
        .bind(now.unix_micros())
        .bind(self.sealed)
        .bind(self.payload)
        .execute(&mut **transaction)
        .await?;
        Ok(Enqueued { id: self.id, is_new: true })
    }
}

/// What a job's secret is sealed for.
fn purpose(id: JobId) -> String {
    format!("job:{id}")
}

pub(crate) fn expiry<K: JobKind>(now: Timestamp) -> i64 {
    now.plus_seconds(i64::from(K::LIMITS.keep_seconds)).unix_micros()
}

fn parse_id(text: &str) -> Result<JobId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("job id"))
}

fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    let text = serde_json::to_string(value).map_err(|_| StoreError::Corrupt("job that cannot be written"))?;
    if text.len() > MAX_JOB_BYTES {
        return Err(StoreError::TooLarge { limit_bytes: MAX_JOB_BYTES as u64 });
    }
    Ok(text)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("job"))
}

fn time_of(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_unix_micros))
}

fn job_of<K: JobKind>(row: &SqliteRow) -> Result<Job<K>, StoreError> {
    let state: &str = row.try_get("state")?;
    let state = JobState::parse(state);
    let outcome: Option<&str> = row.try_get("outcome")?;
    Ok(Job {
        id: parse_id(row.try_get("id")?)?,
        subject: row.try_get("subject")?,
        state: state.ok_or(StoreError::Corrupt("job state"))?,
        payload: from_json(row.try_get("payload")?)?,
        attempts: attempts_of(row)?,
        created: time_of(row, "created")?.ok_or(StoreError::Corrupt("job without a time"))?,
        started: time_of(row, "started")?,
        ended: time_of(row, "ended")?,
        outcome: outcome.map(from_json).transpose()?,
        note: row.try_get("note")?,
    })
}

fn attempts_of(row: &SqliteRow) -> Result<u32, StoreError> {
    row.try_get::<i64, _>("attempts")?.try_into().map_err(|_| StoreError::Corrupt("job attempts"))
}

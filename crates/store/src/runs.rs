//! Runs: what was asked for, how it goes, how it ended. Who carries them out is told by their [jobs](crate::Jobs).
//!
//! A run and its job are made in one transaction, and where a lease ends a run they end in one. A job that ends by itself, because its
//! lease ran out or it was called off, is found by [`Runs::abandoned`].

mod contexts;
mod log;

use std::fmt;
use std::sync::Arc;

use postern_model::{RegistryUid, Secret, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

pub use self::contexts::{ContextWriter, Contexts, MAX_CONTEXT_BYTES};
pub use self::log::{LogFile, MAX_LOG_BYTES, MAX_LOG_TAIL_BYTES, RunLog};
use crate::database::{blocking, detached};
use crate::group::Writing;
use crate::jobs::close_lease_in;
use crate::store::Inner;
use crate::{JobId, JobKind, JobState, Lease, NewJob, StoreError};

/// Largest document of a run, as JSON.
const MAX_DOCUMENT_BYTES: usize = 256 << 10;
/// Largest order, with everything secret in it.
const MAX_ORDER_BYTES: usize = 4 << 20;
/// Longest message about a run's end.
const MAX_MESSAGE_CHARS: usize = 4000;
/// Rows that one transaction of the expiry removes.
const EXPIRY_BATCH: i64 = 64;

/// Digits of run ids: none looks like another one.
const DIGITS: &[u8; 32] = b"123456789abcdefghjkmnpqrstuvwxyz";
/// So that the first id is `ca1`.
const FIRST: u64 = 9 * 32;

/// Which run of its registry: `ca1`, `ca2` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunNumber(u32);

impl RunNumber {
    /// Reads an id in letters of any case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['c', 'C']).filter(|digits| (2..=8).contains(&digits.len()))?;
        let mut value = 0_u64;
        for digit in digits.bytes() {
            let at = DIGITS.iter().position(|known| *known == digit.to_ascii_lowercase())?;
            value = value * 32 + at as u64;
        }
        let number = value.checked_sub(FIRST)?;
        // No zeros in front: one run has one id.
        let number = Self(u32::try_from(number).ok()?);
        number.to_string().eq_ignore_ascii_case(text).then_some(number)
    }

    fn row(self) -> i64 {
        self.0.into()
    }

    fn of_row(row: i64) -> Result<Self, StoreError> {
        u32::try_from(row).map(Self).map_err(|_| StoreError::Corrupt("run number"))
    }
}

impl fmt::Display for RunNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::with_capacity(8);
        let mut rest = u64::from(self.0) + FIRST;
        while rest > 0 {
            digits.push(DIGITS.get(usize::try_from(rest % 32).unwrap_or(0)).copied().unwrap_or(b'1'));
            rest /= 32;
        }
        digits.push(b'c');
        digits.reverse();
        f.write_str(&String::from_utf8_lossy(&digits))
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// No worker has it.
    Queued,
    /// A worker has it.
    Started,
    /// Its steps have begun.
    Running,
    /// Every step did what it should.
    Succeeded,
    /// A step failed.
    Failed,
    /// It was called off.
    Canceled,
    /// It could not be carried out.
    Error,
    /// It took too long.
    Timeout,
}

impl RunStatus {
    const ALL: [Self; 8] = [
        Self::Queued,
        Self::Started,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Error,
        Self::Timeout,
    ];

    /// The name it has everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Started => "Started",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
            Self::Error => "Error",
            Self::Timeout => "Timeout",
        }
    }

    /// By its name, in letters of any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether nothing comes after it.
    pub const fn is_end(self) -> bool {
        match self {
            Self::Queued | Self::Started | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Error | Self::Timeout => true,
        }
    }
}

/// A run that is to be.
pub struct NewRun {
    /// The registry that it belongs to.
    pub registry: RegistryUid,
    /// Its immutable id.
    pub uid: Uuid,
    /// The name and the immutable id of its task.
    pub task: Option<(String, Uuid)>,
    /// The name and the immutable id of its agent pool; none for the shared one.
    pub pool: Option<(String, Uuid)>,
    /// `QuickBuild` and so on.
    pub kind: &'static str,
    /// What is shown of it, as JSON.
    pub document: String,
    /// What its worker needs.
    pub order: Secret,
    /// The uploaded files that it uses.
    pub context: Option<String>,
}

/// A run as it stands.
#[derive(Clone, Debug)]
pub struct Run {
    /// The registry that it belongs to.
    pub registry: RegistryUid,
    /// Which one of the registry.
    pub number: RunNumber,
    /// Its immutable id.
    pub uid: Uuid,
    /// Its job.
    pub job: JobId,
    /// Its task's name.
    pub task: Option<String>,
    /// Its task's immutable id.
    pub task_uid: Option<Uuid>,
    /// Its agent pool's name; none for the shared one.
    pub pool: Option<String>,
    /// Its agent pool's immutable id.
    pub pool_uid: Option<Uuid>,
    /// `QuickBuild` and so on.
    pub kind: String,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When a worker first took it.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Whether it is kept for good.
    pub archived: bool,
    /// Whether it may have changed anything outside of its worker.
    pub has_effects: bool,
    /// How many secrets were found in its log.
    pub findings: u64,
    /// Why it did not succeed.
    pub message: Option<String>,
    /// What it pushed, as JSON.
    pub outputs: Option<String>,
    /// What it was built upon, as JSON.
    pub dependencies: Option<String>,
    /// The uploaded files that it uses.
    pub context: Option<String>,
    /// What is shown of it, as JSON.
    pub document: String,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnding {
    /// Where it stands now: an end.
    pub status: RunStatus,
    /// Why it did not succeed.
    pub message: Option<String>,
    /// What it pushed, as JSON.
    pub outputs: Option<String>,
    /// The same as `repository@digest`, one a line: what lists are searched by.
    pub images: Option<String>,
    /// What it was built upon, as JSON.
    pub dependencies: Option<String>,
    /// How many secrets were found in its log.
    pub findings: u64,
}

impl RunEnding {
    /// An end without results.
    pub fn of(status: RunStatus, message: Option<String>) -> Self {
        Self { status, message, outputs: None, images: None, dependencies: None, findings: 0 }
    }
}

/// Which runs of a registry are listed.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this task.
    pub task: Option<String>,
    /// In this state.
    pub status: Option<RunStatus>,
    /// Of this kind.
    pub kind: Option<String>,
    /// On this agent pool.
    pub pool: Option<String>,
    /// With an output that has this in `repository@digest`.
    pub image: Option<String>,
    /// Asked for at this time or later.
    pub created_from: Option<Timestamp>,
    /// Asked for at this time or earlier.
    pub created_to: Option<Timestamp>,
}

/// The runs. Cheap to clone.
#[derive(Clone)]
pub struct Runs(Arc<Inner>);

/// What a run is made of, without its order: that may be large, and nobody who looks at many runs needs it.
macro_rules! columns {
    () => {
        "registry, number, uid, job, task, task_uid, pool, pool_uid, kind, status, created, updated, started, finished, archived, \
         has_effects, findings, message, outputs, dependencies, context, document"
    };
}

impl Runs {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// The uploaded files that runs use.
    pub fn contexts(&self) -> Contexts {
        Contexts::new(Arc::clone(&self.0))
    }

    /// Makes a run and the job to carry it out; none where there is a job of this key already. It lasts when this returns, and its log is
    /// there.
    pub async fn schedule<K: JobKind>(&self, new: NewRun, job: NewJob<K>) -> Result<Option<Run>, StoreError> {
        check_size(new.document.len(), MAX_DOCUMENT_BYTES)?;
        check_size(new.order.expose().len(), MAX_ORDER_BYTES)?;
        let sealed = self.0.sealer.seal(&purpose(new.uid), new.order.expose().as_bytes())?;
        let (inner, prepared) = (Arc::clone(&self.0), crate::Jobs::new(Arc::clone(&self.0)).prepare(job)?);
        let this = self.clone();
        detached(async move {
            let now = inner.now();
            let registry = new.registry.to_string();
            let mut transaction = inner.database.write().await?;
            let number: i64 = sqlx::query_scalar(
                "INSERT INTO run_numbers (registry, last) VALUES ($1, 0) \
                 ON CONFLICT (registry) DO UPDATE SET last = last + 1 RETURNING last",
            )
            .bind(&registry)
            .fetch_one(&mut *transaction)
            .await?;
            let number = RunNumber::of_row(number)?;
            let job = prepared.insert(&mut transaction, now).await?;
            if !job.is_new {
                return Ok(None);
            }
            let row = sqlx::query(concat!(
                "INSERT INTO runs (registry, number, uid, job, task, task_uid, pool, pool_uid, kind, status, created, updated, \
                 archived, has_effects, findings, context, sealed, document) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, FALSE, FALSE, 0, $12, $13, $14) RETURNING ",
                columns!()
            ))
            .bind(&registry)
            .bind(number.row())
            .bind(new.uid.to_string())
            .bind(job.id.to_string())
            .bind(new.task.as_ref().map(|(name, _)| name))
            .bind(new.task.as_ref().map(|(_, uid)| uid.to_string()))
            .bind(new.pool.as_ref().map(|(name, _)| name))
            .bind(new.pool.as_ref().map(|(_, uid)| uid.to_string()))
            .bind(new.kind)
            .bind(RunStatus::Queued.as_str())
            .bind(now.unix_micros())
            .bind(new.context)
            .bind(sealed)
            .bind(new.document)
            .fetch_one(&mut *transaction)
            .await?;
            let run = run_of(&row)?;
            // Clients that find no log wait for it for very long.
            let (uid, folder) = (new.registry, this.clone());
            blocking(move || folder.create_log(uid, number)).await?;
            transaction.commit().await?;
            inner.announce_jobs();
            Ok(Some(run))
        })
        .await
    }

    /// A run of a registry.
    pub async fn find(&self, registry: RegistryUid, number: RunNumber) -> Result<Option<Run>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM runs WHERE registry = $1 AND number = $2"))
            .bind(registry.to_string())
            .bind(number.row())
            .fetch_optional(self.0.database.read())
            .await?;
        row.as_ref().map(run_of).transpose()
    }

    /// A run by its immutable id.
    pub async fn by_uid(&self, uid: Uuid) -> Result<Option<Run>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM runs WHERE uid = $1"))
            .bind(uid.to_string())
            .fetch_optional(self.0.database.read())
            .await?;
        row.as_ref().map(run_of).transpose()
    }

    /// A registry's runs, the newest first, those before a number.
    pub async fn list(
        &self,
        registry: RegistryUid,
        filter: &RunFilter,
        before: Option<RunNumber>,
        limit: u32,
    ) -> Result<Vec<Run>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(concat!("SELECT ", columns!(), " FROM runs WHERE registry = "));
        query.push_bind(registry.to_string());
        if let Some(before) = before {
            query.push(" AND number < ").push_bind(before.row());
        }
        for (column, value) in [("task", &filter.task), ("kind", &filter.kind), ("pool", &filter.pool)] {
            if let Some(value) = value {
                query.push(format!(" AND {column} = ")).push_bind(value).push(" COLLATE NOCASE");
            }
        }
        if let Some(status) = filter.status {
            query.push(" AND status = ").push_bind(status.as_str());
        }
        if let Some(image) = &filter.image {
            let escaped = image.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            query.push(" AND images LIKE ").push_bind(format!("%{escaped}%")).push(" ESCAPE '\\'");
        }
        if let Some(from) = filter.created_from {
            query.push(" AND created >= ").push_bind(from.unix_micros());
        }
        if let Some(to) = filter.created_to {
            query.push(" AND created <= ").push_bind(to.unix_micros());
        }
        query.push(" ORDER BY number DESC LIMIT ").push_bind(i64::from(limit));
        let rows = query.build().fetch_all(self.0.database.read()).await?;
        rows.iter().map(run_of).collect()
    }

    /// How many runs of an agent pool no worker has.
    pub async fn waiting(&self, registry: RegistryUid, pool: Uuid) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM runs WHERE registry = $1 AND pool_uid = $2 AND finished IS NULL AND status = 'Queued'",
        )
        .bind(registry.to_string())
        .bind(pool.to_string())
        .fetch_one(self.0.database.read())
        .await?;
        Ok(count.try_into().unwrap_or(0))
    }

    /// Every run that has not ended.
    pub async fn open(&self) -> Result<Vec<Run>, StoreError> {
        let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM runs WHERE finished IS NULL ORDER BY created"))
            .fetch_all(self.0.database.read())
            .await?;
        rows.iter().map(run_of).collect()
    }

    /// The runs that have not ended although their job has, and how that ended.
    pub async fn abandoned(&self) -> Result<Vec<(Run, Option<JobState>)>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            ", (SELECT state FROM jobs WHERE id = runs.job) AS job_state FROM runs \
             WHERE finished IS NULL AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = runs.job AND due IS NOT NULL)"
        ))
        .fetch_all(self.0.database.read())
        .await?;
        let read = |row: &SqliteRow| {
            let state: Option<&str> = row.try_get("job_state")?;
            Ok((run_of(row)?, state.and_then(JobState::parse)))
        };
        rows.iter().map(read).collect()
    }

    /// What the run's worker needs; none once it has ended.
    pub async fn order(&self, uid: Uuid) -> Result<Option<Secret>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> = sqlx::query_scalar("SELECT sealed FROM runs WHERE uid = $1")
            .bind(uid.to_string())
            .fetch_optional(self.0.database.read())
            .await?;
        let Some(sealed) = sealed.flatten() else { return Ok(None) };
        let order = self.0.sealer.open(&purpose(uid), sealed)?;
        String::from_utf8(order).map(|order| Some(Secret::new(order))).map_err(|_| StoreError::Corrupt("run order"))
    }

    /// Notes that a worker has the run, or that its steps have begun; gives whether it had not ended before.
    pub async fn advance(&self, uid: Uuid, status: RunStatus) -> Result<bool, StoreError> {
        self.update(
            uid,
            "UPDATE runs SET status = $2, updated = $3, started = COALESCE(started, $3) \
             WHERE uid = $1 AND finished IS NULL",
            status.as_str().to_owned(),
        )
        .await
    }

    /// Notes that the run may have changed something outside of its worker.
    pub async fn note_effects(&self, uid: Uuid) -> Result<bool, StoreError> {
        self.update(
            uid,
            "UPDATE runs SET has_effects = TRUE, updated = $3 WHERE uid = $1 AND finished IS NULL AND $2 <> ''",
            "noted".to_owned(),
        )
        .await
    }

    async fn update(&self, uid: Uuid, statement: &'static str, value: String) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.0);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let updated = sqlx::query(statement)
                .bind(uid.to_string())
                .bind(value)
                .bind(inner.now().unix_micros())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(updated.rows_affected() == 1)
        })
        .await
    }

    /// Keeps a run for good, or no longer; gives it as it is then.
    pub async fn archive(
        &self,
        registry: RegistryUid,
        number: RunNumber,
        archived: bool,
    ) -> Result<Option<Run>, StoreError> {
        let inner = Arc::clone(&self.0);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let row = sqlx::query(concat!(
                "UPDATE runs SET archived = $3, updated = $4 WHERE registry = $1 AND number = $2 RETURNING ",
                columns!()
            ))
            .bind(registry.to_string())
            .bind(number.row())
            .bind(archived)
            .bind(inner.now().unix_micros())
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            row.as_ref().map(run_of).transpose()
        })
        .await
    }

    /// Ends a run whose job has ended, or has never been begun; gives whether it had not ended before.
    pub async fn end(&self, uid: Uuid, ending: RunEnding) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.0);
        detached(async move {
            let mut transaction = inner.database.write().await?;
            let is_new = write_end(&mut transaction, inner.now(), uid, ending).await?;
            transaction.commit().await?;
            inner.announce_jobs();
            Ok(is_new)
        })
        .await
    }

    /// Ends a run and its job; gives whether the run had not ended before.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is held no longer: nothing has changed then.
    pub async fn end_leased<K: JobKind>(
        &self,
        uid: Uuid,
        lease: &Lease<K>,
        ending: RunEnding,
    ) -> Result<bool, StoreError> {
        let (inner, held) = (Arc::clone(&self.0), (lease.id(), lease.token()));
        detached(async move {
            let state = match ending.status {
                RunStatus::Succeeded => JobState::Succeeded,
                RunStatus::Canceled => JobState::Canceled,
                _ => JobState::Failed,
            };
            let now = inner.now();
            let mut transaction = inner.database.write().await?;
            close_lease_in::<K>(&mut transaction, now, held, state).await?;
            let is_new = write_end(&mut transaction, now, uid, ending).await?;
            transaction.commit().await?;
            inner.announce_jobs();
            Ok(is_new)
        })
        .await
    }

    /// Whether a run that has not ended uses these uploaded files.
    pub async fn needs_context(&self, registry: RegistryUid, name: &str) -> Result<bool, StoreError> {
        let needed: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM runs WHERE registry = $1 AND context = $2 AND finished IS NULL LIMIT 1")
                .bind(registry.to_string())
                .bind(name)
                .fetch_optional(self.0.database.read())
                .await?;
        Ok(needed.is_some())
    }

    /// Removes runs that ended before then and are not kept, with their logs; gives how many.
    pub async fn expire(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let inner = Arc::clone(&self.0);
            let expired: Vec<(String, i64)> = detached(async move {
                let mut transaction = inner.database.write().await?;
                let expired = sqlx::query_as(
                    "DELETE FROM runs WHERE (registry, number) IN (SELECT registry, number FROM runs \
                     WHERE finished IS NOT NULL AND finished < $1 AND NOT archived LIMIT $2) RETURNING registry, number",
                )
                .bind(before.unix_micros())
                .bind(EXPIRY_BATCH)
                .fetch_all(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(expired)
            })
            .await?;
            if expired.is_empty() {
                return Ok(total);
            }
            total += expired.len() as u64;
            let this = self.clone();
            blocking(move || {
                for (registry, number) in expired {
                    let registry = registry.parse().map_err(|_| StoreError::Corrupt("uid of a registry"))?;
                    this.remove_log(registry, RunNumber::of_row(number)?)?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        }
    }
}

async fn write_end(
    transaction: &mut Writing,
    now: Timestamp,
    uid: Uuid,
    ending: RunEnding,
) -> Result<bool, StoreError> {
    let ended = sqlx::query(
        "UPDATE runs SET status = $2, message = $3, outputs = $4, images = $5, dependencies = $6, findings = $7, finished = $8, \
         updated = $8, sealed = NULL WHERE uid = $1 AND finished IS NULL",
    )
    .bind(uid.to_string())
    .bind(ending.status.as_str())
    .bind(ending.message.map(|message| message.chars().take(MAX_MESSAGE_CHARS).collect::<String>()))
    .bind(ending.outputs)
    .bind(ending.images)
    .bind(ending.dependencies)
    .bind(i64::try_from(ending.findings).unwrap_or(i64::MAX))
    .bind(now.unix_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// What a run's order is sealed for.
fn purpose(uid: Uuid) -> String {
    format!("run:{uid}")
}

fn check_size(bytes: usize, limit: usize) -> Result<(), StoreError> {
    if bytes > limit { Err(StoreError::TooLarge { limit_bytes: limit as u64 }) } else { Ok(()) }
}

fn run_of(row: &SqliteRow) -> Result<Run, StoreError> {
    let corrupt = || StoreError::Corrupt("run");
    let time = |column| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_unix_micros))
    };
    let uuid = |column| -> Result<Option<Uuid>, StoreError> {
        let text: Option<&str> = row.try_get(column)?;
        text.map(|text| Uuid::try_parse(text).map_err(|_| corrupt())).transpose()
    };
    Ok(Run {
        registry: row.try_get::<&str, _>("registry")?.parse().map_err(|_| corrupt())?,
        number: RunNumber::of_row(row.try_get("number")?)?,
        uid: uuid("uid")?.ok_or_else(corrupt)?,
        job: row.try_get::<&str, _>("job")?.parse().map_err(|_| corrupt())?,
        task: row.try_get("task")?,
        task_uid: uuid("task_uid")?,
        pool: row.try_get("pool")?,
        pool_uid: uuid("pool_uid")?,
        kind: row.try_get("kind")?,
        status: RunStatus::parse(row.try_get("status")?).ok_or_else(corrupt)?,
        created: time("created")?.ok_or_else(corrupt)?,
        updated: time("updated")?.ok_or_else(corrupt)?,
        started: time("started")?,
        finished: time("finished")?,
        archived: row.try_get("archived")?,
        has_effects: row.try_get("has_effects")?,
        findings: row.try_get::<i64, _>("findings")?.try_into().map_err(|_| corrupt())?,
        message: row.try_get("message")?,
        outputs: row.try_get("outputs")?,
        dependencies: row.try_get("dependencies")?,
        context: row.try_get("context")?,
        document: row.try_get("document")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_read_back() {
        let ids: Vec<String> = [0, 1, 8, 9, 31, 32, 735, 736, u32::MAX].map(|n| RunNumber(n).to_string()).into();
        assert_eq!(ids[..8], ["ca1", "ca2", "ca9", "caa", "caz", "cb1", "czz", "c211"]);
        for number in (0..5000).chain([u32::MAX]).map(RunNumber) {
            assert_eq!(RunNumber::parse(&number.to_string().to_uppercase()), Some(number));
        }
        for bad in ["", "c", "ca", "ca0", "cao", "c1a1", "da1", "c11", "czzzzzzzz", "ca1/", "cä"] {
            assert_eq!(RunNumber::parse(bad), None, "{bad}");
        }
    }
}

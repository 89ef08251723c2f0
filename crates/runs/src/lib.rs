//! Runs of tasks, quick builds and quick runs, as the server sees them.
//!
//! ```text
//!  scheduleRun ─▶ request ─▶ order, sealed ─▶ store: run and job ─lease▶ worker
//!                                               │  ▲                      │ beats, log, report
//!                              logs ◀── masks ◀─┴──┴── agent API ◀────────┘
//! ```
//!
//! **Invariants.** A run ends once, and its log is whole when it has. A secret of a run is in its sealed order and with its worker, and
//! in no log: what a worker sends is masked before it is stored. A worker gets runs of its own pool only, by the certificate of its
//! connection. Deliberately absent: who may ask for a run (`postern-arm`), how one is carried out (`postern agent`).

mod agent;
mod blobs;
mod ending;
mod error;
mod lease;
mod logins;
mod logs;
mod mask;
mod request;
mod schedule;
mod show;
mod timers;
mod upkeep;
mod why;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use postern_audit::Audit;
use postern_identity::Identity;
use postern_model::{Clock, Random, RegistryUid, ResourceId, Timestamp};
use postern_store::{Directory, JobKind, JobLimits, Run, RunNumber, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

pub use agent::AGENT_ENDPOINTS;
pub use blobs::{BLOB_ENDPOINTS, UploadTarget};
pub use error::RunsError;
pub use schedule::{Ask, Prepared, Trigger};

/// How long a worker keeps a run without a heartbeat, in seconds.
const LEASE_SECONDS: u32 = 30;
/// How often a run is begun that nobody has seen the end of.
const ATTEMPTS: u32 = 2;
const KEEP_JOB_SECONDS: u32 = 24 * 3600;
/// Runs of one registry, or of one agent pool, that have not ended.
const MAX_OPEN: u32 = 1000;
/// Runs of one registry that the shared pool carries out at once.
const MAX_SHARED: u32 = 8;
/// Runs that one agent pool carries out at once.
const MAX_POOLED: u32 = 1000;

/// What runs are made of.
pub struct RunsOptions {
    /// Where they are kept.
    pub store: Store,
    /// The live resources.
    pub directory: Directory,
    /// Who workers are, and what they get to prove it.
    pub identity: Arc<Identity>,
    /// Where decisions are recorded.
    pub audit: Audit,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub random: Arc<dyn Random>,
    /// Turns true when the server stops: nobody waits for a run any longer.
    pub stop: watch::Receiver<bool>,
}

/// The runs. Cheap to clone.
#[derive(Clone)]
pub struct Runs(Arc<Inner>);

struct Inner {
    store: Store,
    directory: Directory,
    identity: Arc<Identity>,
    audit: Audit,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    stop: watch::Receiver<bool>,
    /// The logs that workers write to, by run.
    logs: Mutex<HashMap<Uuid, logs::SharedLog>>,
    /// When a worker of a pool last asked for a run; of the shared pool under none.
    seen: Mutex<HashMap<Option<Uuid>, Timestamp>>,
    /// The runs whose log says what they wait for.
    told: Mutex<HashSet<Uuid>>,
    /// Up to when schedules were looked at, in seconds since 1970.
    timers: Mutex<Option<i64>>,
}

/// A job to carry a run out.
#[derive(Serialize, Deserialize)]
struct RunJob {
    run: Uuid,
}

/// On the shared pool; its subject is the registry.
struct SharedRun;

impl JobKind for SharedRun {
    const NAME: &'static str = "run";
    const LIMITS: JobLimits = JobLimits {
        attempts: ATTEMPTS,
        lease_seconds: LEASE_SECONDS,
        backoff_seconds: 1,
        max_backoff_seconds: 1,
        keep_seconds: KEEP_JOB_SECONDS,
        open_per_subject: MAX_OPEN,
        leased_per_subject: MAX_SHARED,
    };
    type Payload = RunJob;
    type Outcome = ();
}

/// On an agent pool, which is its subject.
struct PoolRun;

impl JobKind for PoolRun {
    const NAME: &'static str = "pool-run";
    const LIMITS: JobLimits = JobLimits { leased_per_subject: MAX_POOLED, ..SharedRun::LIMITS };
    type Payload = RunJob;
    type Outcome = ();
}

impl Runs {
    /// Takes up the runs that an earlier process left open.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn start(options: RunsOptions) -> Result<Self, RunsError> {
        let RunsOptions { store, directory, identity, audit, clock, random, stop } = options;
        let runs = Self(Arc::new(Inner {
            store,
            directory,
            identity,
            audit,
            clock,
            random,
            stop,
            logs: Mutex::default(),
            seen: Mutex::default(),
            told: Mutex::default(),
            timers: Mutex::default(),
        }));
        for run in runs.0.store.runs().open().await? {
            runs.announce(&run)?;
        }
        Ok(runs)
    }

    /// What workers call, and where logs are read from and files uploaded to. A `postern_identity::Peer` among a request's extensions is
    /// its own.
    pub fn router(&self) -> Router {
        agent::router(self.clone()).merge(blobs::router(self.clone()))
    }

    /// A run of a registry, by its id in letters of any case.
    pub async fn find(&self, registry: RegistryUid, id: &str) -> Result<Option<Run>, RunsError> {
        match RunNumber::parse(id) {
            Some(number) => Ok(self.0.store.runs().find(registry, number).await?),
            None => Ok(None),
        }
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

/// The id of a run, which is no resource.
fn run_id(registry: &ResourceId, number: RunNumber) -> ResourceId {
    registry.child("runs", &number.to_string())
}

/// A lock that outlives a panic of whoever had it.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

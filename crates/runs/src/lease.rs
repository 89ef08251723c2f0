//! Runs are given to workers.

use std::time::Duration;

use postern_access::Workload;
use postern_estate::Resource;
use postern_model::{ResourceId, ResourceUid, Timestamp};
use postern_store::{JobEnd, JobId, Lease, Run, RunEnding, RunStatus, StoreError};
use postern_tasks::order::{
    Beat, BeatRequest, LeaseRequest, Leased, Login, RegistryLogin, RunEnd, RunOrder, RunReport,
};
use uuid::Uuid;

use crate::schedule::{Kept, Kind, kind_of, registry_of};
use crate::{LEASE_SECONDS, PoolRun, Runs, RunsError, SharedRun, locked, run_id};

/// The longest that a worker may wait for a run in one request, in seconds.
const MAX_WAIT_SECONDS: u32 = 60;
/// How often somebody who waits looks again at what nobody tells of.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How much longer than its run a run's token lasts, in seconds: files are fetched and the end is reported, too.
const TOKEN_SLACK_SECONDS: i64 = 600;
/// Longest name of a worker that is kept.
const MAX_WORKER_CHARS: usize = 100;

/// Whose runs a worker gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// The shared pool's.
    Shared,
    /// An agent pool's.
    Own(ResourceId, Uuid),
}

impl Pool {
    /// By what the worker proves to be.
    pub(crate) fn of(workload: &Workload) -> Option<Self> {
        let is = |name: &str| workload.resource_type.eq_ignore_ascii_case(name);
        if is(postern_access::AGENTS) {
            return Some(Self::Shared);
        }
        is(postern_access::AGENT_POOLS).then(|| Self::Own(workload.resource.clone(), workload.uid.0))
    }

    const fn uid(&self) -> Option<Uuid> {
        match self {
            Self::Shared => None,
            Self::Own(_, uid) => Some(*uid),
        }
    }
}

/// A run that a worker has.
pub(crate) enum Held {
    Shared(Lease<SharedRun>),
    Own(Lease<PoolRun>),
}

impl Held {
    fn run(&self) -> Uuid {
        match self {
            Self::Shared(lease) => lease.payload().run,
            Self::Own(lease) => lease.payload().run,
        }
    }

    pub(crate) fn token(&self) -> i64 {
        match self {
            Self::Shared(lease) => lease.token(),
            Self::Own(lease) => lease.token(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Shared(lease) => format!("{}.{}", lease.id(), lease.token()),
            Self::Own(lease) => format!("{}.{}", lease.id(), lease.token()),
        }
    }

    fn is_resumed(&self) -> bool {
        match self {
            Self::Shared(lease) => lease.is_resumed(),
            Self::Own(lease) => lease.is_resumed(),
        }
    }

    async fn heartbeat(&self) -> Result<postern_store::Beat, StoreError> {
        match self {
            Self::Shared(lease) => lease.heartbeat().await,
            Self::Own(lease) => lease.heartbeat().await,
        }
    }

    async fn make_last(&self) -> Result<(), StoreError> {
        match self {
            Self::Shared(lease) => lease.make_last().await,
            Self::Own(lease) => lease.make_last().await,
        }
    }

    /// Ends a job whose run has ended already, or is gone.
    async fn drop_job(&self) -> Result<(), StoreError> {
        match self {
            Self::Shared(lease) => lease.end(JobEnd::Failed(())).await,
            Self::Own(lease) => lease.end(JobEnd::Failed(())).await,
        }
    }
}

impl Runs {
    /// Gives the worker the run that waits longest, or none within the time it waits.
    pub(crate) async fn lease(&self, pool: &Pool, request: &LeaseRequest) -> Result<Option<Leased>, RunsError> {
        let worker: String = request.worker.chars().filter(|c| !c.is_control()).take(MAX_WORKER_CHARS).collect();
        let wait = Duration::from_secs(request.wait_seconds.min(MAX_WAIT_SECONDS).into());
        let mut changes = self.0.store.jobs().changes();
        let mut stop = self.0.stop.clone();
        let patience = tokio::time::sleep(wait);
        tokio::pin!(patience);
        loop {
            changes.mark_unchanged();
            self.note_worker(pool);
            if *stop.borrow_and_update() {
                return Ok(None);
            }
            if self.has_instances(pool) {
                while let Some(held) = self.take(pool, &worker).await? {
                    if let Some(leased) = self.give(held, &worker).await? {
                        return Ok(Some(leased));
                    }
                }
            }
            tokio::select! {
                () = &mut patience => return Ok(None),
                _ = changes.changed() => {}
                stopped = stop.changed() => if stopped.is_err() { return Ok(None) },
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Waits until a run waits for a worker: of the agent pool with this uid, or of the shared pool.
    pub async fn wanted(&self, pool: Option<Uuid>) {
        let mut changes = self.0.store.jobs().changes();
        loop {
            changes.mark_unchanged();
            let jobs = self.0.store.jobs();
            let waits = match pool {
                None => jobs.is_due::<SharedRun>(None).await,
                Some(uid) => jobs.is_due::<PoolRun>(Some(&uid.to_string())).await,
            };
            match waits {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::error!(error = %error, "whether runs wait cannot be found out"),
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn take(&self, pool: &Pool, worker: &str) -> Result<Option<Held>, RunsError> {
        let jobs = self.0.store.jobs();
        Ok(match pool {
            Pool::Shared => jobs.take::<SharedRun>(worker).await?.map(Held::Shared),
            Pool::Own(_, uid) => jobs.take_of::<PoolRun>(worker, &uid.to_string()).await?.map(Held::Own),
        })
    }

    /// Whether the pool is to have any workers at all.
    fn has_instances(&self, pool: &Pool) -> bool {
        let Pool::Own(id, _) = pool else { return true };
        self.0.directory.resource(id).is_some_and(|pool| instances(&pool) > 0)
    }

    fn note_worker(&self, pool: &Pool) {
        let now = self.now();
        locked(&self.0.seen).insert(pool.uid(), now);
    }

    /// When a worker of the pool last asked for a run.
    pub(crate) fn worker_seen(&self, pool: Option<Uuid>) -> Option<Timestamp> {
        locked(&self.0.seen).get(&pool).copied()
    }

    /// What a worker gets for its lease; none when there is nothing to do for the run.
    async fn give(&self, held: Held, worker: &str) -> Result<Option<Leased>, RunsError> {
        let runs = self.0.store.runs();
        let run = runs.by_uid(held.run()).await?.filter(|run| run.finished.is_none());
        let kept = match &run {
            Some(run) => self.order_of(run).await?,
            None => None,
        };
        let (Some(run), Some(kept)) = (run, kept) else {
            lost_is_fine(held.drop_job().await)?;
            return Ok(None);
        };
        self.announce(&run)?;
        let order = self.order(&run, kept)?;
        let again = held
            .is_resumed()
            .then(|| self.line("The worker went away before it had pushed anything: the run begins again."));
        self.begin_log(&run, held.token(), again).await?;
        if !runs.advance(run.uid, RunStatus::Started).await? {
            lost_is_fine(held.drop_job().await)?;
            return Ok(None);
        }
        tracing::info!(run.id = %run.number, registry.uid = %run.registry, worker, "a worker takes a run");
        Ok(Some(Leased { lease: held.name(), lease_seconds: LEASE_SECONDS, order }))
    }

    /// The order as the worker gets it, with what is only known now.
    fn order(&self, run: &Run, kept: Kept) -> Result<RunOrder, RunsError> {
        let Kept { mut order, default_login, as_caller, caller } = kept;
        let kind = kind_of(run)?;
        order.run_id = run.number.to_string();
        if order.workload.is_empty() {
            order.workload = run_id(&registry_of(&kind)?, run.number).to_string();
        }
        if default_login || as_caller {
            let login = self.own_login(run, &kind, order.timeout_seconds, caller.filter(|_| as_caller));
            order.logins.insert(0, RegistryLogin { server: order.registry.clone(), login });
        }
        Ok(order)
    }

    /// What the service gives a run to log in to its own registry with; `caller` where that is to be whoever asked for it.
    fn own_login(&self, run: &Run, kind: &Kind, seconds: u32, caller: Option<Uuid>) -> Login {
        let unavailable = |reason: &str| Login::Unavailable { reason: reason.to_owned() };
        if caller.is_some() {
            return unavailable("this server gives runs no login of whoever asked for them; name a managed identity");
        }
        let workload = run.task_uid.unwrap_or(run.uid);
        let rules = registry_of(kind).ok().and_then(|registry| self.0.directory.registry_by_id(&registry));
        let Some(rules) = rules else { return unavailable("the registry is gone") };
        let seconds = i64::from(seconds) + TOKEN_SLACK_SECONDS;
        match self.0.identity.run_token(&rules, ResourceUid(workload), seconds, self.now()) {
            Ok(token) => Login::Token { token },
            Err(refusal) => unavailable(&refusal.to_string()),
        }
    }

    /// The run that a worker of this pool has under this lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it has it no longer.
    pub(crate) async fn held(&self, pool: &Pool, lease: &str) -> Result<(Held, Run), RunsError> {
        let lost = || RunsError::Store(StoreError::LeaseLost);
        let (id, token) = lease.split_once('.').ok_or_else(lost)?;
        let id: JobId = id.parse().map_err(|_| lost())?;
        let token: i64 = token.parse().map_err(|_| lost())?;
        let jobs = self.0.store.jobs();
        let held = match pool {
            Pool::Shared => Held::Shared(jobs.held(id, token).await?),
            Pool::Own(_, uid) => {
                let held = jobs.held::<PoolRun>(id, token).await?;
                if held.subject() != uid.to_string() {
                    return Err(lost());
                }
                Held::Own(held)
            }
        };
        let run = self.0.store.runs().by_uid(held.run()).await?.filter(|run| run.finished.is_none());
        Ok((held, run.ok_or_else(lost)?))
    }

    /// A worker still has a run.
    pub(crate) async fn beat(&self, pool: &Pool, lease: &str, request: BeatRequest) -> Result<Beat, RunsError> {
        let (held, run) = self.held(pool, lease).await?;
        if request.has_effects && !run.has_effects {
            held.make_last().await?;
            self.0.store.runs().note_effects(run.uid).await?;
        }
        Ok(Beat { canceled: held.heartbeat().await? == postern_store::Beat::CancelAsked })
    }

    /// A run's steps begin.
    pub(crate) async fn started(&self, pool: &Pool, lease: &str) -> Result<(), RunsError> {
        let (_, run) = self.held(pool, lease).await?;
        self.0.store.runs().advance(run.uid, RunStatus::Running).await?;
        Ok(())
    }

    /// A run has ended.
    pub(crate) async fn report(&self, pool: &Pool, lease: &str, report: RunReport) -> Result<(), RunsError> {
        let (held, run) = self.held(pool, lease).await?;
        let status = match report.end {
            RunEnd::Succeeded => RunStatus::Succeeded,
            RunEnd::Failed => RunStatus::Failed,
            RunEnd::Canceled => RunStatus::Canceled,
            RunEnd::Error => RunStatus::Error,
            RunEnd::Timeout => RunStatus::Timeout,
        };
        let message = match report.message {
            Some(message) => Some(self.masked(&run, message).await?),
            None => None,
        };
        let images = report
            .outputs
            .iter()
            .filter_map(|image| image.digest.as_ref().map(|digest| format!("{}@{digest}\n", image.repository)));
        let json = |value| serde_json::to_string(&value).ok();
        let ending = RunEnding {
            images: Some(images.collect()),
            outputs: json(serde_json::to_value(&report.outputs).unwrap_or_default()),
            dependencies: json(serde_json::to_value(&report.dependencies).unwrap_or_default()),
            ..RunEnding::of(status, message)
        };
        self.end_held(&run, &held, ending).await
    }
}

/// How many workers an agent pool is to have.
pub(crate) fn instances(pool: &Resource) -> u64 {
    pool.property(&["count"]).and_then(|count| count.as_u64()).unwrap_or(1)
}

/// Whoever lost a lease has nothing left to do.
fn lost_is_fine(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(StoreError::LeaseLost) => Ok(()),
        result => result,
    }
}

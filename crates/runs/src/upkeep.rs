//! What is done without being asked for.

use std::time::Duration;

use postern_model::ResourceId;
use postern_store::{Run, RunStatus, StoreError};
use uuid::Uuid;

use crate::lease::instances;
use crate::schedule::{kind_of, registry_of};
use crate::{Runs, RunsError, locked};

/// How often runs are looked at that nobody carries out any more, or yet.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a run waits before its log says for what, in seconds.
const PATIENCE_SECONDS: i64 = 5;
/// How long after its last request a worker still counts, in seconds.
const WORKER_SECONDS: i64 = 90;
const DAY_SECONDS: i64 = 24 * 3600;
/// How long runs are kept, in days.
///
/// Source: Azure Container Registry, "View and manage task run logs": logs are kept for 30 days (read 2026-11).
const KEEP_DAYS: i64 = 30;

impl Runs {
    /// Looks after runs until the server stops.
    pub async fn attend(self) {
        let mut stop = self.0.stop.clone();
        loop {
            if let Err(error) = self.look_after().await {
                tracing::error!(error = %error, "runs cannot be looked after");
            }
            if let Err(error) = self.fire_timers().await {
                tracing::error!(error = %error, "tasks cannot be run at their times");
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Once.
    pub(crate) async fn look_after(&self) -> Result<(), RunsError> {
        self.end_abandoned().await?;
        let since = self.now().plus_seconds(-PATIENCE_SECONDS);
        for run in self.0.store.runs().open().await? {
            let is_new = run.status == RunStatus::Queued && run.created < since && locked(&self.0.told).insert(run.uid);
            if let Some(why) = self.is_orphan(&run)? {
                self.call_off(&run, why).await?;
                continue;
            }
            if is_new && let Some(why) = self.waits_for(&run)? {
                match self.say(&run, self.line(&why)).await {
                    // It has ended meanwhile.
                    Ok(()) | Err(RunsError::Store(StoreError::LeaseLost)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Why a run that waits is not to be carried out any more: what it belongs to has gone, whether or not that was followed then.
    fn is_orphan(&self, run: &Run) -> Result<Option<&'static str>, RunsError> {
        if run.status != RunStatus::Queued {
            return Ok(None);
        }
        let kind = kind_of(run)?;
        let has_gone = |id: Option<ResourceId>, uid: Option<Uuid>| {
            let found = id.and_then(|id| self.0.directory.resource(&id));
            uid.is_some_and(|uid| found.is_none_or(|found| found.uid.0 != uid))
        };
        let pool = run.pool.as_ref().map(|name| registry_of(&kind).map(|registry| registry.child("agentPools", name)));
        Ok(if has_gone(pool.transpose()?, run.pool_uid) {
            Some("its agent pool was deleted.")
        } else if has_gone(kind.task.and_then(|task| task.parse().ok()), run.task_uid) {
            Some("its task was deleted.")
        } else {
            None
        })
    }

    /// What a run waits for, as far as that is not just its turn.
    fn waits_for(&self, run: &Run) -> Result<Option<String>, RunsError> {
        let pool = match &run.pool {
            Some(name) => format!("the agent pool '{name}'"),
            None => "the shared pool".to_owned(),
        };
        if let Some(name) = &run.pool {
            let id = registry_of(&kind_of(run)?)?.child("agentPools", name);
            let count = self.0.directory.resource(&id).map_or(0, |pool| instances(&pool));
            if count == 0 {
                return Ok(Some(format!("Waiting for an agent of {pool}: its count is 0.")));
            }
        }
        let limit = self.now().plus_seconds(-WORKER_SECONDS);
        let is_there = self.worker_seen(run.pool_uid).is_some_and(|seen| seen > limit);
        let why = if is_there { "all of them are busy." } else { "none is connected to this server." };
        Ok(Some(format!("Waiting for an agent of {pool}: {why}")))
    }

    /// Removes what has been kept for long enough: runs with their logs, and uploads.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self) -> Result<(), RunsError> {
        let (runs, now) = (self.0.store.runs(), self.now());
        runs.expire(now.plus_seconds(-KEEP_DAYS * DAY_SECONDS)).await?;
        let needed = runs.open().await?.into_iter().filter_map(|run| run.context).collect();
        runs.contexts().expire(now.plus_seconds(-DAY_SECONDS), needed).await?;
        Ok(())
    }
}

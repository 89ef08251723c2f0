//! Runs end: by their worker's report, because somebody calls them off, because nobody carries them out any more.

use postern_model::{RegistryUid, ResourceUid};
use postern_store::{Canceling, JobState, Run, RunEnding, RunStatus, StoreError};

use crate::lease::Held;
use crate::schedule::{kind_of, registry_of};
use crate::{PoolRun, Runs, RunsError, SharedRun, locked, run_id};

impl Runs {
    /// Ends a run that a worker has.
    pub(crate) async fn end_held(&self, run: &Run, held: &Held, ending: RunEnding) -> Result<(), RunsError> {
        // The log first: whoever sees that it is complete has read all of it.
        let findings = self.finish_log(run, None).await?;
        let ending = RunEnding { findings, ..ending };
        let (runs, status) = (self.0.store.runs(), ending.status);
        match held {
            Held::Shared(lease) => runs.end_leased(run.uid, lease, ending).await?,
            Held::Own(lease) => runs.end_leased(run.uid, lease, ending).await?,
        };
        self.ended(run, status, findings).await
    }

    /// Ends a run that no worker has; nothing happens to one that somebody else has ended meanwhile.
    async fn end_unheld(&self, run: &Run, status: RunStatus, message: &str) -> Result<(), RunsError> {
        match self.end_waiting(run, status, message).await {
            Err(RunsError::Store(StoreError::LeaseLost)) => Ok(()),
            ended => ended,
        }
    }

    async fn end_waiting(&self, run: &Run, status: RunStatus, message: &str) -> Result<(), RunsError> {
        let line = self.line(&format!("Run ID: {} ended: {message}", run.number));
        let findings = self.finish_log(run, Some(line)).await?;
        let message = (status != RunStatus::Canceled).then(|| message.to_owned());
        let ending = RunEnding { findings, ..RunEnding::of(status, message) };
        self.0.store.runs().end(run.uid, ending).await?;
        self.ended(run, status, findings).await
    }

    /// Lets go of what only an open run needs.
    async fn ended(&self, run: &Run, status: RunStatus, findings: u64) -> Result<(), RunsError> {
        tracing::info!(run.id = %run.number, registry.uid = %run.registry, run.status = status.as_str(), "a run has ended");
        if findings > 0 {
            tracing::warn!(
                run.id = %run.number, registry.uid = %run.registry, run.findings = findings,
                "secrets were found in a run's log and masked"
            );
        }
        locked(&self.0.told).remove(&run.uid);
        self.close_log(run).await?;
        let kind = kind_of(run)?;
        if kind.task.is_none() {
            self.0.directory.close_run(&run_id(&registry_of(&kind)?, run.number));
        }
        if let Some(context) = &run.context
            && !self.0.store.runs().needs_context(run.registry, context).await?
        {
            self.0.store.runs().contexts().remove(run.registry, context).await?;
        }
        Ok(())
    }

    /// Calls a run off; nothing happens to one that has ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cancel(&self, run: &Run) -> Result<(), RunsError> {
        // It is ended as a whole, also when whoever asked goes away meanwhile.
        let (this, run) = (self.clone(), run.clone());
        let ending = tokio::spawn(async move { this.call_off(&run, "it was canceled.").await });
        ending.await.unwrap_or(Err(RunsError::Store(StoreError::Interrupted)))
    }

    pub(crate) async fn call_off(&self, run: &Run, why: &str) -> Result<(), RunsError> {
        if run.finished.is_some() {
            return Ok(());
        }
        let jobs = self.0.store.jobs();
        let canceling = match run.pool_uid {
            Some(_) => jobs.cancel::<PoolRun>(run.job).await?,
            None => jobs.cancel::<SharedRun>(run.job).await?,
        };
        match canceling {
            Canceling::Done => self.end_unheld(run, RunStatus::Canceled, why).await,
            // Its worker hears of it, or it is found when its lease has run out.
            Canceling::Asked | Canceling::TooLate => Ok(()),
        }
    }

    /// Ends the runs whose jobs have ended without them.
    pub(crate) async fn end_abandoned(&self) -> Result<(), RunsError> {
        let jobs = self.0.store.jobs();
        jobs.end_lost::<SharedRun>().await?;
        jobs.end_lost::<PoolRun>().await?;
        for (run, state) in self.0.store.runs().abandoned().await? {
            let (status, why) = match state {
                Some(JobState::Canceled) => (RunStatus::Canceled, "it was canceled."),
                _ if run.has_effects => (RunStatus::Error, "the worker went away after it had pushed."),
                _ => (RunStatus::Error, "the workers that had it went away."),
            };
            // One that cannot be ended is not in the way of the others.
            if let Err(error) = self.end_unheld(&run, status, why).await {
                tracing::error!(error = %error, run.id = %run.number, registry.uid = %run.registry, "a run cannot be ended");
            }
        }
        Ok(())
    }

    /// Calls off everything of an agent pool that is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pool_removed(&self, pool: ResourceUid) -> Result<(), RunsError> {
        locked(&self.0.seen).remove(&Some(pool.0));
        self.call_off_where(|run| run.pool_uid == Some(pool.0), "its agent pool was deleted.").await
    }

    /// Calls off everything of a task that is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn task_removed(&self, task: ResourceUid) -> Result<(), RunsError> {
        self.call_off_where(|run| run.task_uid == Some(task.0), "its task was deleted.").await
    }

    /// Calls off everything of a registry that is gone. Its rows and logs go with its content.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registry_removed(&self, registry: RegistryUid) -> Result<(), RunsError> {
        self.call_off_where(|run| run.registry == registry, "its registry was deleted.").await?;
        // Those that workers have: nothing that they hold is worth anything any more.
        for run in self.open_of(|run| run.registry == registry).await? {
            locked(&self.0.logs).remove(&run.uid);
            self.0.directory.close_run(&run_id(&registry_of(&kind_of(&run)?)?, run.number));
        }
        Ok(())
    }

    async fn open_of(&self, is_meant: impl Fn(&Run) -> bool) -> Result<Vec<Run>, RunsError> {
        let mut open = self.0.store.runs().open().await?;
        open.retain(is_meant);
        Ok(open)
    }

    async fn call_off_where(&self, is_meant: impl Fn(&Run) -> bool, why: &str) -> Result<(), RunsError> {
        let mut outcome = Ok(());
        for run in self.open_of(is_meant).await? {
            // One that cannot be called off is not in the way of the others.
            outcome = outcome.and(self.call_off(&run, why).await);
        }
        outcome
    }
}

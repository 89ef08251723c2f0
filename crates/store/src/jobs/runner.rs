use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Beat, JobEnd, JobKind, Jobs, LOOK_AGAIN, Lease};
use crate::StoreError;

/// A lease is made to last so many times before it would run out.
const BEATS_PER_LEASE: u32 = 3;

/// Who carries jobs of a kind out, in this process.
pub trait JobExecutor<K: JobKind>: Send + Sync + 'static {
    /// One attempt. Dropped when the lease is lost, the job is called off or the server stops: what it has half done is found by the
    /// next attempt.
    fn run(&self, job: &Lease<K>) -> impl Future<Output = JobEnd<K>> + Send;
}

impl Jobs {
    /// Carries jobs of this kind out, so many at once, until `stop` says so; then their leases are given back.
    pub async fn carry_out<K: JobKind>(
        &self,
        executor: Arc<impl JobExecutor<K>>,
        at_once: usize,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut changes = self.changes();
        let mut running = JoinSet::new();
        while !*stop.borrow_and_update() {
            changes.mark_unchanged();
            while running.len() < at_once {
                match self.take::<K>("server").await {
                    Ok(Some(lease)) => {
                        running.spawn(attempt(self.changes(), lease, Arc::clone(&executor), stop.clone()));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(job.kind = K::NAME, error = %error, "jobs cannot be taken");
                        break;
                    }
                }
            }
            let has_room = running.len() < at_once;
            let pause = self.until_due::<K>().await;
            tokio::select! {
                stopped = stop.changed() => if stopped.is_err() { break },
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(job.kind = K::NAME, error = %error, "an attempt at a job was cut short");
                    }
                }
                _ = changes.changed(), if has_room => {}
                () = tokio::time::sleep(pause), if has_room => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// How long until the next job is due, as far as is known now.
    async fn until_due<K: JobKind>(&self) -> Duration {
        let next: Result<Option<i64>, _> = sqlx::query_scalar("SELECT MIN(due) FROM jobs WHERE kind = $1")
            .bind(K::NAME)
            .fetch_one(self.0.database.read())
            .await;
        let left = next.ok().flatten().map(|due| due.saturating_sub(self.0.now().unix_micros()));
        // One that is due already could not be taken.
        let left = left.and_then(|micros| u64::try_from(micros).ok()).filter(|micros| *micros > 0);
        left.map_or(LOOK_AGAIN, |micros| Duration::from_micros(micros).min(LOOK_AGAIN))
    }
}

async fn attempt<K: JobKind>(
    mut changes: watch::Receiver<()>,
    lease: Lease<K>,
    executor: Arc<impl JobExecutor<K>>,
    mut stop: watch::Receiver<bool>,
) {
    let end = {
        let work = executor.run(&lease);
        tokio::pin!(work);
        let pause = Duration::from_secs(K::LIMITS.lease_seconds.into()) / BEATS_PER_LEASE;
        let mut beats = tokio::time::interval(pause);
        beats.reset();
        loop {
            // In this order: what was taken while the server was told to stop is given back, not begun.
            let beat = tokio::select! {
                biased;
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break None,
                end = &mut work => break Some(end),
                _ = beats.tick() => lease.heartbeat().await,
                _ = changes.changed() => lease.look().await,
            };
            match beat {
                Ok(Beat::Kept) => {}
                Ok(Beat::CancelAsked) => break Some(JobEnd::Canceled),
                Err(StoreError::LeaseLost) => return,
                // It may be there again at the next beat; until then the lease lasts.
                Err(error) => tracing::warn!(job.id = %lease.id(), error = %error, "a lease was not made to last"),
            }
        }
    };
    let written = match end {
        Some(end) => lease.end(end).await,
        None => lease.release().await,
    };
    if let Err(error) = written {
        tracing::error!(job.id = %lease.id(), job.kind = K::NAME, error = %error, "the end of a job was not written");
    }
}

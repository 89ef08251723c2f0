//! What the registries' content policies take away when its time has come: one place from which it is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postern_access::RegistryRules;
use postern_audit::{Audit, Purge};
use postern_estate::types::REGISTRIES;
use postern_model::{Clock, CorrelationId, Random, Reference, RegistryUid, ResourceId, Timestamp};
use postern_runs::Runs;
use postern_store::{Directory, Purged, Store, StoreError};
use tokio::task::AbortHandle;

/// Days of zero mean "within seconds"; with nothing to do it costs one look into three indices.
const INTERVAL: Duration = Duration::from_secs(5);
const DAY_SECONDS: i64 = 24 * 3600;

/// What a sweep works with.
pub(crate) struct Sweep {
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) runs: Runs,
}

impl Sweep {
    /// Sweeps until it is ended.
    pub(crate) fn start(self) -> AbortHandle {
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = self.runs.sweep().await {
                    tracing::error!(error = %error, "runs that have been kept for long enough cannot be removed");
                }
                if let Err(error) = self.run().await {
                    tracing::error!(error = %error, "what policies take away cannot be purged");
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        task.abort_handle()
    }

    /// One sweep over every registry with something in it that may expire.
    pub(crate) async fn run(&self) -> Result<(), StoreError> {
        let due = self.store.registries_to_purge().await?;
        if due.is_empty() {
            return Ok(());
        }
        let registries = self.directory.list(&ResourceId::root(), REGISTRIES);
        let by_uid: HashMap<RegistryUid, &ResourceId> =
            registries.iter().map(|registry| (registry.uid.into(), &registry.id)).collect();
        for uid in due {
            // What a registry that was deleted has left goes with the registry.
            let rules = by_uid.get(&uid).and_then(|id| self.directory.registry_by_id(id));
            if let Some(rules) = rules {
                // One that cannot be purged is not in the way of the others.
                if let Err(error) = self.registry(&rules).await {
                    tracing::error!(error = %error, registry = %rules.login_server, "what policies take away cannot be purged");
                }
            }
        }
        Ok(())
    }

    async fn registry(&self, rules: &RegistryRules) -> Result<(), StoreError> {
        let (policies, now) = (rules.policies, self.clock.now());
        if policies.retention {
            let mut purged = Vec::new();
            let outcome = self.store.purge_untagged(rules.uid, before(now, policies.retention_days), &mut purged).await;
            self.record(rules, "retentionPolicy", purged).await;
            outcome?;
        } else {
            self.store.forget_untagged(rules.uid).await?;
        }
        // Also with the policy off: what was kept is kept for as long as was promised, and no longer.
        let mut purged = Vec::new();
        let outcome = self.store.purge_deleted(rules.uid, before(now, policies.soft_delete_days), &mut purged).await;
        self.record(rules, "softDeletePolicy", purged).await;
        outcome
    }

    async fn record(&self, rules: &RegistryRules, policy: &'static str, purged: Vec<Purged>) {
        for Purged { repository, manifests, tags } in purged {
            tracing::info!(
                registry = %rules.login_server, repository.name = %repository, policy,
                manifests = manifests.len(), tags = tags.len(), "purged",
            );
            let references = manifests.into_iter().map(Reference::Digest).chain(tags.into_iter().map(Reference::Tag));
            for reference in references {
                let time = self.clock.now();
                let purge = Purge {
                    id: CorrelationId::new(time, self.random.as_ref()),
                    time,
                    registry: rules.uid,
                    registry_id: rules.id.clone(),
                    repository: repository.clone(),
                    reference,
                    policy,
                };
                self.audit.record_purge(purge).await;
            }
        }
    }
}

fn before(now: Timestamp, days: u16) -> Timestamp {
    now.plus_seconds(-DAY_SECONDS * i64::from(days))
}

use std::sync::Arc;

use http::StatusCode;
use postern_estate::{Document, Resource};
use postern_model::{PrincipalId, ResourceId, ResourceUid};
use postern_store::{Import, ImportError, JobEnd, JobExecutor, JobKind, JobLimits, Lease, NewJob};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::order::Order;
use super::{Asking, IMPORT, READ, decide, failed};
use crate::ArmState;
use crate::call::{Call, Caller};
use crate::error::{ArmError, Condition, KeptError};
use crate::operations;
use crate::reply::Reply;

/// How many imports this process does at once.
const AT_ONCE: usize = 4;
/// A request that comes again within this time is a repetition, and begins nothing.
const REPEAT_SECONDS: i64 = 600;

/// An image to be copied.
pub(crate) struct ImportJob;

impl JobKind for ImportJob {
    const NAME: &'static str = "import";
    const LIMITS: JobLimits = JobLimits {
        attempts: 5,
        lease_seconds: 30,
        backoff_seconds: 2,
        max_backoff_seconds: 60,
        // Source: Azure Resource Manager, "Track asynchronous operations": results are kept for a while; a day (read 2026-11).
        keep_seconds: 24 * 3600,
        open_per_subject: 100,
        leased_per_subject: 2,
    };
    type Payload = Ordered;
    type Outcome = Option<KeptError>;
}

/// What was asked for, and by whom. The permits that this takes are not kept: it is decided again whenever an attempt begins.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ordered {
    registry: String,
    registry_uid: Uuid,
    caller: Uuid,
    /// As it could be sent, without credentials.
    body: Document,
}

impl Ordered {
    pub(crate) fn is_of(&self, caller: PrincipalId) -> bool {
        self.caller == caller.0
    }

    pub(crate) fn is_on(&self, registry: &ResourceId) -> bool {
        self.registry.eq_ignore_ascii_case(registry.as_str())
    }
}

/// Makes a job of an order that is allowed now, and waits for its end a little.
pub(super) async fn begin(call: &Call, registry: &Resource, order: &Order) -> Result<Reply, ArmError> {
    let caller = call.caller.principal.id;
    let body = order.body();
    let jobs = call.state.store.jobs();
    let new = || {
        let registry_uid = registry.uid.0;
        let ordered =
            Ordered { registry: registry.id.as_str().to_owned(), registry_uid, caller: caller.0, body: body.clone() };
        let job = NewJob::<ImportJob>::new(registry.uid.to_string(), ordered);
        order.secret().into_iter().fold(job, NewJob::secret)
    };
    let key = call.client_request_id().map(|id| format!("{}:{caller}:{id}", registry.uid));
    let mut enqueued = jobs.enqueue(key.into_iter().fold(new(), NewJob::key)).await?;
    if !enqueued.is_new {
        // Some clients give every request the same id.
        let known = jobs.find::<ImportJob>(enqueued.id).await?;
        let is_same = known.is_some_and(|known| {
            let is_open = !known.state.is_end();
            let is_recent = call.now < known.created.plus_seconds(REPEAT_SECONDS);
            known.payload.body == body && (is_open || (is_recent && matches!(known.outcome, Some(None))))
        });
        if !is_same {
            enqueued = jobs.enqueue(new()).await?;
        }
    }
    let patience = call.state.patience;
    if patience.is_zero() {
        return Ok(operations::going_on(call, &registry.id, enqueued.id));
    }
    match tokio::time::timeout(patience, jobs.ended::<ImportJob>(enqueued.id)).await {
        Ok(job) => operations::end_of(job?.as_ref(), StatusCode::OK),
        Err(_) => Ok(operations::going_on(call, &registry.id, enqueued.id)),
    }
}

/// Ends what a registry that is gone was to get.
pub(crate) async fn call_off(state: &ArmState, registry: &Resource) {
    if let Err(error) = state.store.jobs().cancel_all_of::<ImportJob>(&registry.uid.to_string()).await {
        tracing::error!(resource.id = %registry.id, error = %error, "imports into a deleted registry could not be called off");
    }
}

/// Carries imports out until `stop` says so.
pub(crate) async fn carry_out(state: Arc<ArmState>, stop: watch::Receiver<bool>) {
    let jobs = state.store.jobs();
    if let Err(error) = jobs.reclaim::<ImportJob>().await {
        tracing::error!(error = %error, "imports that were cut short go on later than they could");
    }
    jobs.carry_out(Arc::new(Imports(state)), AT_ONCE, stop).await;
}

struct Imports(Arc<ArmState>);

impl JobExecutor<ImportJob> for Imports {
    async fn run(&self, job: &Lease<ImportJob>) -> JobEnd<ImportJob> {
        tracing::info!(job.id = %job.id(), job.attempt = job.attempt(), "an import begins");
        match self.attempt(job).await {
            Ok(()) => JobEnd::Succeeded(None),
            Err((error, true)) => JobEnd::Retry(Some(error.keep())),
            Err((error, false)) => JobEnd::Failed(Some(error.keep())),
        }
    }
}

impl Imports {
    /// Decides and copies; gives beside an error whether another attempt may do better.
    async fn attempt(&self, job: &Lease<ImportJob>) -> Result<(), (ArmError, bool)> {
        let finally = |error| (error, false);
        let ordered = job.payload();
        let order = Order::restore(&ordered.body, job.secret()).map_err(finally)?;
        let registry = self.registry(ordered).map_err(finally)?;
        let asking = self.asking(ordered).map_err(finally)?;
        for action in [IMPORT, READ] {
            asking.authorize(action, &registry.id).map_err(finally)?;
        }
        let import = decide(&asking, &registry, &order).await.map_err(finally)?;
        let resumed = job.is_resumed();
        match self.0.importer.import(Import { resumed, ..import }).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let is_transient = matches!(error, ImportError::Interrupted(_));
                Err((failed(&registry, &order, error), is_transient))
            }
        }
    }

    fn registry(&self, ordered: &Ordered) -> Result<Arc<Resource>, ArmError> {
        let gone = || {
            ArmError::new(Condition::ResourceNotFound, "The registry that the image was to go into has been deleted.")
        };
        let id = ordered.registry.parse::<ResourceId>().map_err(|_| ArmError::internal())?;
        let found = self.0.directory.resource(&id).ok_or_else(gone)?;
        if found.uid == ResourceUid(ordered.registry_uid) { Ok(found) } else { Err(gone()) }
    }

    fn asking(&self, ordered: &Ordered) -> Result<Asking, ArmError> {
        let known = self.0.identity.caller_of(PrincipalId(ordered.caller));
        let known = known.ok_or_else(|| {
            ArmError::new(
                Condition::Forbidden,
                format!(
                    "The client with object id '{}', who asked for the import, is not known any more.",
                    ordered.caller
                ),
            )
        })?;
        let now = self.0.clock.now();
        Ok(Asking { state: Arc::clone(&self.0), caller: Caller::from(known), now, records_allows: true })
    }
}

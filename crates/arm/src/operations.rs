//! Operations that go on after their request was answered.
//!
//! Source: Azure Resource Manager, "Track asynchronous Azure operations"; Azure CLI 2.91, observed (read 2026-11).

use http::StatusCode;
use postern_estate::types;
use postern_model::ResourceId;
use postern_store::{Job, JobId, JobState};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::import::ImportJob;
use crate::reply::Reply;

/// How long a client waits before it asks again, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;

/// Where operations are found below their registry: their state, and what they come to.
const STATUSES: &str = "operationStatuses";
const RESULTS: &str = "operationResults";
/// Before the id of every operation on a registry.
const PREFIX: &str = "registries-";

/// What of an operation a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its state, as a document: `Azure-AsyncOperation`.
    State,
    /// Its answer, as soon as there is one: `Location`.
    Answer,
}

impl Told {
    /// Whether the id is that of an operation.
    pub(crate) fn of(id: &ResourceId) -> Option<Self> {
        let is = |kind: &str| id.is_type(&format!("{}/{kind}", types::REGISTRIES));
        match (is(STATUSES), is(RESULTS)) {
            (true, _) => Some(Self::State),
            (_, true) => Some(Self::Answer),
            (false, false) => None,
        }
    }
}

/// The answer to what goes on.
pub(crate) fn going_on(call: &Call, registry: &ResourceId, id: JobId) -> Reply {
    let url = |kind| format!("{}{registry}/{kind}/{PREFIX}{id}?api-version={}", call.base, call.version);
    Reply::empty(StatusCode::ACCEPTED).with_operation(url(STATUSES), url(RESULTS))
}

/// The answer to what has ended: `status`, or why it has failed.
pub(crate) fn end_of(job: Option<&Job<ImportJob>>, status: StatusCode) -> Result<Reply, ArmError> {
    let job = job.ok_or_else(ArmError::internal)?;
    match (job.state, error_of(job)) {
        (_, Some(error)) => Err(error),
        (JobState::Canceled, None) => Err(ArmError::new(Condition::Conflict, "The operation was canceled.")),
        (_, None) => Ok(Reply::empty(status)),
    }
}

/// `GET {registry}/operationStatuses/{id}` and `…/operationResults/{id}`: for whoever began it, and who may read a registry's operations.
pub(crate) async fn get(call: &Call, id: &ResourceId, told: Told) -> Result<Reply, ArmError> {
    let registry = id.parent().ok_or_else(ArmError::internal)?;
    let number = id.name().to_ascii_lowercase();
    let job = match number.strip_prefix(PREFIX).and_then(|number| number.parse::<JobId>().ok()) {
        Some(number) => call.state.store.jobs().find::<ImportJob>(number).await?,
        None => None,
    };
    let job = job.filter(|job| job.payload.is_on(&registry));
    if !job.as_ref().is_some_and(|job| job.payload.is_of(call.caller.principal.id)) {
        call.authorize(&format!("{}/{STATUSES}/read", types::REGISTRIES), &registry)?;
    }
    let job = job.ok_or_else(|| {
        ArmError::new(Condition::ResourceNotFound, format!("The operation '{}' was not found.", id.name()))
    })?;
    tracing::debug!(job.id = %job.id, job.state = ?job.state, "an operation is asked for");
    match told {
        Told::State => {
            let reply = Reply::ok(state_of(call, &registry, &job));
            Ok(if job.state.is_end() { reply } else { reply.retried() })
        }
        Told::Answer if job.state.is_end() => end_of(Some(&job), StatusCode::OK),
        Told::Answer => Ok(going_on(call, &registry, job.id)),
    }
}

fn state_of(call: &Call, registry: &ResourceId, job: &Job<ImportJob>) -> Value {
    let name = format!("{PREFIX}{}", job.id);
    let status = match job.state {
        JobState::Waiting | JobState::Leased => "InProgress",
        JobState::Succeeded => "Succeeded",
        JobState::Failed => "Failed",
        JobState::Canceled => "Canceled",
    };
    let mut shown = json!({
        "id": format!("{registry}/{STATUSES}/{name}?api-version={}", call.version),
        "name": name,
        "status": status,
        "startTime": job.created.to_string(),
    });
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(job.ended.map(|ended| ("endTime".to_owned(), ended.to_string().into())));
        shown.extend(error_of(job).map(|error| ("error".to_owned(), error.keep().shown())));
    }
    shown
}

/// Why it has failed.
fn error_of(job: &Job<ImportJob>) -> Option<ArmError> {
    match (&job.outcome, job.state) {
        (Some(Some(error)), _) => Some(error.clone().into()),
        (_, JobState::Failed) => {
            let why = job.note.as_deref().unwrap_or("it has failed");
            Some(ArmError::new(Condition::Internal, format!("The operation did not come to its end: {why}.")))
        }
        (_, JobState::Waiting | JobState::Leased | JobState::Succeeded | JobState::Canceled) => None,
    }
}

//! A run as the resource manager shows it.

use postern_access::RUNS;
use postern_model::ResourceId;
use postern_store::{Run, RunStatus};
use serde_json::{Value, json};

use crate::schedule::kind_of;
use crate::{Runs, run_id};

impl Runs {
    /// A run as its registry's resource manager shows it.
    pub fn shown(registry: &ResourceId, run: &Run) -> Value {
        let mut properties = kind_of(run).map(|kind| kind.shown).unwrap_or_default();
        properties.remove("logTemplate");
        let list = |text: &Option<String>| -> Value {
            text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!([]))
        };
        let mut put = |name: &str, value: Value| properties.insert(name.to_owned(), value);
        put("runId", run.number.to_string().into());
        put("status", run.status.as_str().into());
        put("runType", run.kind.as_str().into());
        put("agentPoolName", run.pool.clone().into());
        put("createTime", run.created.to_string().into());
        put("lastUpdatedTime", run.updated.to_string().into());
        put("startTime", run.started.map(|time| time.to_string()).into());
        put("finishTime", run.finished.map(|time| time.to_string()).into());
        put("outputImages", list(&run.outputs));
        put("runErrorMessage", run.message.clone().into());
        put("isArchiveEnabled", run.archived.into());
        put("provisioningState", provisioning(run.status).into());
        let id = run_id(registry, run.number);
        json!({"id": id.as_str(), "name": run.number.to_string(), "type": RUNS, "properties": properties})
    }
}

/// What the outcome is called in a log's metadata.
///
/// Source: Azure CLI 2.91, `acr/_stream_utils.py`, observed (read 2026-11).
pub(crate) const fn completion(status: RunStatus) -> Option<&'static str> {
    match status {
        RunStatus::Queued | RunStatus::Started | RunStatus::Running => None,
        RunStatus::Succeeded => Some("succeeded"),
        RunStatus::Failed => Some("failed"),
        RunStatus::Canceled => Some("canceled"),
        RunStatus::Error => Some("internalerror"),
        RunStatus::Timeout => Some("timedout"),
    }
}

/// Of the run as something that was made, not of what it does.
const fn provisioning(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued | RunStatus::Started | RunStatus::Running | RunStatus::Succeeded => "Succeeded",
        RunStatus::Canceled => "Canceled",
        RunStatus::Failed | RunStatus::Error | RunStatus::Timeout => "Failed",
    }
}

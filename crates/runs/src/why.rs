//! Why a registry refused a run, in one line of the run's log.

use postern_model::CorrelationId;
use postern_store::Run;
use serde_json::Value;

use crate::schedule::kind_of;
use crate::{Runs, RunsError};

impl Runs {
    /// What is recorded of a decision about the run, by its own registry: which layer decided, why, and what would change that. None when
    /// it was about somebody else or another registry: whoever reads the log need not be allowed to read that.
    pub(crate) async fn why(&self, run: &Run, id: CorrelationId) -> Result<Option<String>, RunsError> {
        let Some(record) = self.0.audit.find(id).await? else { return Ok(None) };
        let record: Value = serde_json::from_str(&record).unwrap_or_default();
        let workload = match kind_of(run)?.task {
            Some(_) => run.task_uid,
            None => Some(run.uid),
        };
        let is = |pointer: &str, uid: &str| record.pointer(pointer).and_then(Value::as_str) == Some(uid);
        let is_own = workload.is_some_and(|uid| is("/origin/workload/uid", &uid.to_string()));
        if !is_own || !is("/registryUid", &run.registry.to_string()) {
            return Ok(None);
        }
        Ok(line(&record, id))
    }
}

fn line(record: &Value, id: CorrelationId) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts = |value: &Value| value.as_array().into_iter().flatten().filter_map(text).collect::<Vec<_>>();
    let decided = text(record.get("decidedBy")?)?;
    let layers = record.get("layers")?.as_array()?;
    let layer = layers.iter().find(|layer| layer.get("layer").and_then(Value::as_str) == Some(&decided))?;
    let findings = texts(layer.get("findings")?).join("; ");
    let fixes = record.get("fixes")?.as_array()?.iter().map(|fix| texts(fix).join(" and ")).collect::<Vec<_>>();
    let server = text(record.get("loginServer")?)?;
    let mut line = format!("{server} refused this by its {decided} layer: {findings}.");
    if !fixes.is_empty() {
        line = format!("{line} Fix: {}.", fixes.join("; or "));
    }
    Some(format!("{line} Trace: postern explain {id}"))
}

//! Tasks run at their times: once for each minute that a schedule names, also when the server was started again meanwhile. Of the
//! minutes that it was not there for, the last one counts.
//!
//! Source: Azure Container Registry, "Run an ACR task on a defined schedule" (read 2026-11).

use postern_access::TASKS;
use postern_estate::{Document, Resource};
use postern_model::{ResourceId, Timestamp};
use postern_tasks::Schedule;
use serde_json::{Value, json};

use crate::schedule::{Ask, Trigger};
use crate::{Runs, RunsError, locked};

const MINUTE_SECONDS: i64 = 60;
/// What was missed longer ago is not made up for; and jobs are known again by their keys for as long.
const MAX_MISSED_SECONDS: i64 = 20 * 3600;
/// Where it is kept up to when the schedules were looked at.
const LOOKED_AT: &str = "runs/timers";

impl Runs {
    /// Asks for the runs whose time has come since this was last done.
    pub(crate) async fn fire_timers(&self) -> Result<(), RunsError> {
        let now = self.now();
        let minute = now.plus_seconds(-now.unix_seconds().rem_euclid(MINUTE_SECONDS)).unix_seconds();
        let looked = *locked(&self.0.timers);
        let looked = match looked {
            Some(looked) => looked,
            None => self.timers_looked_at().await?.unwrap_or(minute),
        };
        let is_first = locked(&self.0.timers).is_none();
        if looked >= minute && !is_first {
            return Ok(());
        }
        let from = looked.max(minute - MAX_MISSED_SECONDS);
        for task in self.0.directory.list(&ResourceId::root(), TASKS) {
            let Some((slot, trigger)) = due(&task, from, minute) else { continue };
            if let Err(error) = self.fire(&task, slot, trigger).await {
                tracing::warn!(resource.id = %task.id, error = %error, "a task could not be run at its time");
            }
        }
        self.0.store.vault().put(LOOKED_AT, minute.to_string().as_bytes()).await?;
        *locked(&self.0.timers) = Some(minute.max(looked));
        Ok(())
    }

    async fn timers_looked_at(&self) -> Result<Option<i64>, RunsError> {
        let kept = self.0.store.vault().get(LOOKED_AT).await?;
        Ok(kept.and_then(|kept| std::str::from_utf8(kept.expose()).ok()?.parse().ok()))
    }

    async fn fire(&self, task: &Resource, slot: i64, name: String) -> Result<(), RunsError> {
        let gone = || RunsError::NotFound("its registry is gone".into());
        let registry = task.id.parent().and_then(|registry| self.0.directory.resource(&registry)).ok_or_else(gone)?;
        let body = json!({"type": "TaskRunRequest", "taskId": task.id.as_str()});
        let body = body.as_object().cloned().unwrap_or_else(Document::new);
        let occurrence = Timestamp::from_unix_seconds(slot).to_string();
        let trigger = Trigger::Timer { name, occurrence };
        let ask = Ask { registry: &registry, body: &body, caller: None, trigger, identities: Vec::new() };
        let prepared = self.prepare(ask).await?.under(format!("timer:{}:{slot}", task.uid));
        match self.begin(prepared).await {
            // Begun by an earlier process, which did not get to note that.
            Err(RunsError::Conflict(_)) => Ok(()),
            begun => begun.map(drop),
        }
    }
}

/// The last minute behind `from`, up to `until`, that a schedule of the task names, with the trigger's name. A task runs once in a minute,
/// however many of its schedules name it.
fn due(task: &Resource, from: i64, until: i64) -> Option<(i64, String)> {
    let is_enabled = |status: Option<&Value>| {
        status.and_then(Value::as_str).is_none_or(|status| status.eq_ignore_ascii_case("Enabled"))
    };
    let timers = task.list(&["trigger", "timerTriggers"])?;
    if from >= until || !is_enabled(task.property(&["status"]).as_ref()) {
        return None;
    }
    let last = |timer: &Value| {
        let schedule: Schedule = timer.get("schedule")?.as_str()?.parse().ok()?;
        let name = timer.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut slot = until;
        while slot > from {
            if schedule.matches(Timestamp::from_unix_seconds(slot)) {
                return Some((slot, name));
            }
            slot -= MINUTE_SECONDS;
        }
        None
    };
    timers.iter().filter(|timer| is_enabled(timer.get("status"))).filter_map(last).max_by_key(|(slot, _)| *slot)
}

//! Tasks and agent pools.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_estate::{
    ApiVersion, Document, Estate, Refusal, RefusalCode, Resource, hide_task_secrets, keep_task_secrets, validate,
};
use postern_tasks::{Location, Schedule};
use serde_json::{Value, json};

use super::Provider;
use crate::error::ArmError;
use crate::resources::Draft;

const DEFAULT_TIMEOUT: u32 = 3600;
const DEFAULT_CPU: u32 = 2;

/// `Microsoft.ContainerRegistry/registries/tasks`.
pub(super) struct Tasks;

impl Provider for Tasks {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let known = draft.existing.and_then(|task| task.properties()).unwrap_or_default();
        let properties = draft.properties()?;
        properties.remove("provisioningState");
        properties.remove("creationDate");
        without_null(properties);
        keep_task_secrets(properties, &known);
        keep_dependencies(properties, &known);
        fill_in(properties);
        validate::task(draft.estate, &draft.id, &draft.document)?;
        let properties = draft.properties()?;
        schedules(properties)?;
        contents(properties)
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = details(estate, resource, version);
        if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
            hide_task_secrets(properties);
        }
        document
    }
}

/// What `listDetails` answers: the task with its secrets.
pub(crate) fn details(estate: &Estate, task: &Resource, version: ApiVersion) -> Document {
    let mut document = estate.project(task, version);
    if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("creationDate".into(), task.created.to_string().into());
    }
    document
}

/// `null` says the same as nothing, at every depth but in the lists.
fn without_null(document: &mut Document) {
    document.retain(|_, value| !value.is_null());
    for inner in document.values_mut().filter_map(Value::as_object_mut) {
        without_null(inner);
    }
}

/// What was learnt from runs is nobody's to write.
fn keep_dependencies(properties: &mut Document, known: &Document) {
    const LEARNT: &str = "baseImageDependencies";
    let kept = known.get("step").and_then(|step| step.get(LEARNT)).cloned();
    if let Some(step) = properties.get_mut("step").and_then(Value::as_object_mut) {
        step.remove(LEARNT);
        step.extend(kept.map(|kept| (LEARNT.to_owned(), kept)));
    }
}

fn fill_in(properties: &mut Document) {
    let defaults = [("status", json!("Enabled")), ("isSystemTask", json!(false)), ("timeout", json!(DEFAULT_TIMEOUT))];
    for (name, value) in defaults {
        properties.entry(name).or_insert(value);
    }
    for (outer, inner, value) in [
        ("platform", "os", json!("linux")),
        ("platform", "architecture", json!("amd64")),
        ("agentConfiguration", "cpu", json!(DEFAULT_CPU)),
    ] {
        let object = properties.entry(outer).or_insert_with(|| json!({}));
        if let Some(object) = object.as_object_mut() {
            object.entry(inner).or_insert(value);
        }
    }
    if let Some(step) = properties.get_mut("step").and_then(Value::as_object_mut)
        && step.get("type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("Docker"))
    {
        step.entry("isPushEnabled").or_insert_with(|| true.into());
        step.entry("noCache").or_insert_with(|| false.into());
    }
    let Some(trigger) = properties.get_mut("trigger").and_then(Value::as_object_mut) else { return };
    for list in ["timerTriggers", "sourceTriggers"] {
        let triggers = trigger.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for one in triggers.filter_map(Value::as_object_mut) {
            one.retain(|_, value| !value.is_null());
            one.entry("status").or_insert_with(|| "Enabled".into());
        }
    }
    if let Some(base) = trigger.get_mut("baseImageTrigger").and_then(Value::as_object_mut) {
        for (name, value) in
            [("baseImageTriggerType", "Runtime"), ("status", "Enabled"), ("updateTriggerPayloadType", "Default")]
        {
            base.entry(name).or_insert_with(|| value.into());
        }
    }
}

fn schedules(properties: &Document) -> Result<(), ArmError> {
    let timers = properties.get("trigger").and_then(|trigger| trigger.get("timerTriggers")).and_then(Value::as_array);
    for timer in timers.into_iter().flatten() {
        let text = |key: &str| timer.get(key).and_then(Value::as_str).unwrap_or_default();
        if let Err(error) = text("schedule").parse::<Schedule>() {
            let message = format!("The schedule of the timer trigger '{}' is not valid: {error}.", text("name"));
            return Err(refused("properties.trigger.timerTriggers.schedule", message));
        }
    }
    Ok(())
}

/// Task files in the document, and where it takes its files from.
fn contents(properties: &Document) -> Result<(), ArmError> {
    let text = |key: &str| properties.get("step").and_then(|step| step.get(key)).and_then(Value::as_str);
    for name in ["encodedTaskContent", "encodedValuesContent"] {
        let Some(encoded) = text(name) else { continue };
        let target = format!("properties.step.{name}");
        let bytes = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(content) = bytes else {
            return Err(refused(&target, format!("The property '{name}' is not text in base64.")));
        };
        if name == "encodedTaskContent"
            && let Err(error) = postern_tasks::check(&content)
        {
            return Err(refused(&target, format!("The task cannot be carried out: {error}.")));
        }
    }
    let context = text("contextPath").unwrap_or_default();
    // What has no scheme is the name of an archive that was uploaded.
    if context.contains("://")
        && let Err(error) = Location::parse(context, false)
    {
        return Err(refused("properties.step.contextPath", format!("The context of the task is not valid: {error}.")));
    }
    Ok(())
}

fn refused(target: &str, message: String) -> ArmError {
    Refusal::at(RefusalCode::InvalidParameter, target, message).into()
}

/// `Microsoft.ContainerRegistry/registries/agentPools`.
pub(super) struct AgentPools;

impl Provider for AgentPools {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let properties = draft.properties()?;
        properties.remove("provisioningState");
        without_null(properties);
        for (name, value) in [("count", json!(1)), ("tier", json!("S1")), ("os", json!("Linux"))] {
            properties.entry(name).or_insert(value);
        }
        let existing = draft.existing.map(|pool| pool.document());
        Ok(validate::agent_pool(draft.estate, &draft.id, &draft.document, existing.as_ref())?)
    }
}

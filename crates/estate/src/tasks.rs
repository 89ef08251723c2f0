//! What tasks keep that not everybody sees, what versions know of them, and how a PATCH changes their triggers.

#![expect(clippy::inconsistent_digit_grouping, reason = "the numbers are days: year, month, day")]

use serde_json::Value;

use crate::resource::{remove_at, set_at, value_at};
use crate::{ApiVersion, Document, merge};

/// Whoever may do this sees everything of a task.
pub const REVEAL_TASK: &str = "Microsoft.ContainerRegistry/registries/tasks/listDetails/action";

/// Lists of things with names, in a step or a run's request.
const NAMED: [&str; 2] = ["arguments", "values"];
/// What a source trigger proves itself with.
const TRIGGER_SECRETS: [&str; 2] = ["token", "refreshToken"];

/// Properties that came later, with the first day of the versions that know them.
///
/// Source: Microsoft.ContainerRegistry API descriptions, tasks, 2019-04-01 to 2025-03-01-preview (read 2026-11).
const LATER: [(&[&str], u32); 5] = [
    (&["agentPoolName"], 2019_06_01),
    (&["logTemplate"], 2019_06_01),
    (&["isSystemTask"], 2019_06_01),
    (&["trigger", "baseImageTrigger", "updateTriggerEndpoint"], 2019_06_01),
    (&["credentials", "sourceRegistry", "identity"], 2025_03_01),
];

fn unknown(version: ApiVersion) -> impl Iterator<Item = &'static [&'static str]> {
    LATER.into_iter().filter(move |(_, since)| version.date() < *since).map(|(path, _)| path)
}

/// Takes out what the version does not know.
pub(crate) fn forget_unknown(properties: &mut Document, version: ApiVersion) {
    for path in unknown(version) {
        remove_at(properties, path);
    }
}

/// What the version does not know stays as it was, whatever the body says.
pub(crate) fn keep_unknown(body: &mut Document, existing: Option<&Document>, version: ApiVersion) {
    let stored = existing.and_then(|document| document.get("properties")).and_then(Value::as_object);
    let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) else { return };
    forget_unknown(properties, version);
    for path in unknown(version) {
        if let Some(kept) = stored.and_then(|stored| value_at(stored, path)) {
            set_at(properties, path, kept.clone());
        }
    }
}

/// Takes every secret out of the properties of a task.
pub fn hide_task_secrets(properties: &mut Document) {
    if let Some(step) = properties.get_mut("step").and_then(Value::as_object_mut) {
        step.remove("contextAccessToken");
        for one in NAMED.iter().flat_map(|list| secret_entries(step, list)).collect::<Vec<_>>() {
            let (list, index) = one;
            if let Some(entry) = step.get_mut(list).and_then(|list| list.get_mut(index)).and_then(Value::as_object_mut)
            {
                entry.remove("value");
            }
        }
    }
    for login in custom_registries(properties) {
        for field in ["userName", "password"] {
            let Some(object) = login.get_mut(field).and_then(Value::as_object_mut) else { continue };
            if !is_in_vault(object) {
                object.remove("value");
            }
        }
    }
    for trigger in source_triggers(properties) {
        for secret in TRIGGER_SECRETS {
            trigger.remove(secret);
        }
    }
}

/// Puts back the secrets that the properties lack because no answer shows them.
pub fn keep_task_secrets(properties: &mut Document, known: &Document) {
    let same_step = text(properties, &["step", "type"]) == text(known, &["step", "type"]);
    let same_context = text(properties, &["step", "contextPath"]) == text(known, &["step", "contextPath"]);
    if let (true, Some(step)) = (same_step, properties.get_mut("step").and_then(Value::as_object_mut)) {
        let known = known.get("step").and_then(Value::as_object).cloned().unwrap_or_default();
        if let (true, Some(token)) = (same_context, known.get("contextAccessToken")) {
            step.entry("contextAccessToken").or_insert_with(|| token.clone());
        }
        for list in NAMED {
            let before = known.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for entry in step.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let old = before.iter().find(|old| old.get("name") == entry.get("name"));
                keep(entry, old, "value", |entry| entry.get("isSecret") == Some(&Value::Bool(true)));
            }
        }
    }
    let logins = value_at(known, &["credentials", "customRegistries"]).cloned().unwrap_or_default();
    for (server, login) in logins.as_object().into_iter().flatten() {
        let mut now = custom_registry(properties, server);
        for field in ["userName", "password"] {
            if let Some(object) = now.as_mut().and_then(|login| login.get_mut(field)) {
                let opaque = |object: &Value| object.as_object().is_some_and(|object| !is_in_vault(object));
                keep(object, login.get(field), "value", opaque);
            }
        }
    }
    let before = value_at(known, &["trigger", "sourceTriggers"]).cloned().unwrap_or_default();
    let triggers = properties.get_mut("trigger").and_then(|trigger| trigger.get_mut("sourceTriggers"));
    for trigger in triggers.and_then(Value::as_array_mut).into_iter().flatten() {
        let old = before.as_array().into_iter().flatten().find(|old| old.get("name") == trigger.get("name"));
        let repository = |trigger: &Value| trigger.pointer("/sourceRepository/repositoryUrl").cloned();
        if old.is_none_or(|old| repository(old) != repository(trigger)) {
            continue;
        }
        let old = old.and_then(|old| old.pointer("/sourceRepository/sourceControlAuthProperties"));
        if let Some(login) = trigger.pointer_mut("/sourceRepository/sourceControlAuthProperties") {
            for secret in TRIGGER_SECRETS {
                keep(login, old, secret, |_| true);
            }
        }
    }
}

fn keep(now: &mut Value, before: Option<&Value>, key: &str, is_secret: impl Fn(&Value) -> bool) {
    let Some(kept) = before.filter(|before| is_secret(before)).and_then(|before| before.get(key)) else { return };
    if is_secret(now)
        && let Some(now) = now.as_object_mut()
    {
        now.entry(key).or_insert_with(|| kept.clone());
    }
}

fn text<'a>(document: &'a Document, path: &[&str]) -> &'a str {
    value_at(document, path).and_then(Value::as_str).unwrap_or_default()
}

fn secret_entries<'a>(step: &Document, list: &'a str) -> Vec<(&'a str, usize)> {
    let entries = step.get(list).and_then(Value::as_array).into_iter().flatten().enumerate();
    entries
        .filter(|(_, entry)| entry.get("isSecret") == Some(&Value::Bool(true)))
        .map(|(index, _)| (list, index))
        .collect()
}

fn is_in_vault(object: &Document) -> bool {
    object.get("type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("Vaultsecret"))
}

fn custom_registries(properties: &mut Document) -> impl Iterator<Item = &mut Document> {
    let logins = properties.get_mut("credentials").and_then(|credentials| credentials.get_mut("customRegistries"));
    let logins = logins.and_then(Value::as_object_mut).into_iter().flat_map(serde_json::Map::values_mut);
    logins.filter_map(Value::as_object_mut)
}

fn custom_registry<'a>(properties: &'a mut Document, server: &str) -> Option<&'a mut Document> {
    properties.get_mut("credentials")?.get_mut("customRegistries")?.get_mut(server)?.as_object_mut()
}

fn source_triggers(properties: &mut Document) -> impl Iterator<Item = &mut Document> {
    let triggers = properties.get_mut("trigger").and_then(|trigger| trigger.get_mut("sourceTriggers"));
    let triggers = triggers.and_then(Value::as_array_mut).into_iter().flatten();
    triggers.filter_map(|trigger| trigger.pointer_mut("/sourceRepository/sourceControlAuthProperties")?.as_object_mut())
}

/// Makes a PATCH of a task one that replaces whole lists: triggers are changed by name, and a step of another type is another step.
pub(crate) fn resolve_patch(existing: &mut Document, body: &mut Document) {
    let Some(patch) = body.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let Some(known) = existing.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let kind = |document: &Document| text(document, &["step", "type"]).to_ascii_lowercase();
    if !kind(patch).is_empty() && kind(patch) != kind(known) {
        known.remove("step");
    }
    let Some(trigger) = patch.get_mut("trigger").and_then(Value::as_object_mut) else { return };
    for list in ["timerTriggers", "sourceTriggers"] {
        let Some(Value::Array(changes)) = trigger.get_mut(list) else { continue };
        let stored = value_at(known, &["trigger", list]).and_then(Value::as_array);
        let mut whole = stored.cloned().unwrap_or_default();
        for change in std::mem::take(changes) {
            let name = change.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let same = |old: &Value| {
                old.get("name").and_then(Value::as_str).is_some_and(|old| old.eq_ignore_ascii_case(&name))
            };
            match (whole.iter_mut().find(|old| same(old)).and_then(Value::as_object_mut), change) {
                (Some(old), Value::Object(change)) => merge::merge_into(old, change),
                (_, change) => whole.push(change),
            }
        }
        *changes = whole;
    }
}

//! How a body changes a stored document.

use postern_access::TASKS;
use serde_json::{Map, Value};

use crate::resource::{remove_at, set_at, value_at};
use crate::schema::{GROUPS, PROPERTIES, READ_ONLY, knows_private_link, normalize};
use crate::types::REGISTRIES;
use crate::{ApiVersion, Document, tasks};

/// Keys of a body that the server decides.
const SERVER_KEYS: [&str; 5] = ["id", "name", "type", "systemData", "etag"];

/// A PUT: what the version knows and the body leaves out returns to its default; what the version does not know stays.
/// A body without `properties` says nothing about them. For other types than registries the body replaces everything.
pub fn put(resource_type: &str, existing: Option<&Document>, body: &Document, version: ApiVersion) -> Document {
    let mut document = body.clone();
    for key in SERVER_KEYS {
        document.remove(key);
    }
    if resource_type.eq_ignore_ascii_case(TASKS) {
        tasks::keep_unknown(&mut document, existing, version);
    }
    if !resource_type.eq_ignore_ascii_case(REGISTRIES) {
        return document;
    }
    let stored = existing.and_then(|document| document.get("properties")).and_then(Value::as_object);
    let properties = match document.remove("properties") {
        None | Some(Value::Null) => stored.cloned(),
        Some(Value::Object(body)) => Some(put_properties(stored, body, version)),
        // Not an object: kept for the validation to refuse.
        Some(other) => {
            document.insert("properties".into(), other);
            return document;
        }
    };
    document.extend(properties.map(|properties| ("properties".to_owned(), Value::Object(properties))));
    if !knows_private_link(version) {
        document.remove("identity");
        document.extend(existing.and_then(|existing| existing.get_key_value("identity")).map(owned));
    }
    document
}

fn put_properties(stored: Option<&Document>, mut body: Document, version: ApiVersion) -> Document {
    normalize(&mut body);
    for path in READ_ONLY {
        remove_at(&mut body, path);
    }
    let mut result = stored.cloned().unwrap_or_default();
    for property in PROPERTIES.iter().filter(|property| property.is_known(version)) {
        match value_at(&body, property.path) {
            Some(value) => set_at(&mut result, property.path, value.clone()),
            None if property.kept_by_put => {}
            None => drop(remove_at(&mut result, property.path)),
        }
    }
    overlay_unknown(&mut result, &body);
    result
}

/// Takes over what no version in the table knows: a newer client's property is kept, not lost.
fn overlay_unknown(result: &mut Document, body: &Document) {
    let is_known = |path: &[&str]| PROPERTIES.iter().any(|property| property.path == path);
    for (key, value) in body {
        match value.as_object() {
            Some(members) if GROUPS.contains(&key.as_str()) => {
                for (member, value) in members.iter().filter(|(member, _)| !is_known(&[key, member])) {
                    set_at(result, &[key, member], value.clone());
                }
            }
            // A group that is not an object is kept for the validation to refuse.
            _ if !is_known(&[key]) && !value.is_null() => {
                result.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
}

/// A PATCH: what the body leaves out stays, at every depth; `null` takes away; lists and `tags` are replaced as a whole,
/// but for a task's triggers, which have names.
pub fn patch(resource_type: &str, existing: &Document, body: &Document, version: ApiVersion) -> Document {
    let mut body = body.clone();
    for key in SERVER_KEYS {
        body.remove(key);
    }
    if resource_type.eq_ignore_ascii_case(REGISTRIES) {
        if let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) {
            normalize(properties);
            for path in READ_ONLY {
                remove_at(properties, path);
            }
            for property in PROPERTIES.iter().filter(|property| !property.is_known(version)) {
                remove_at(properties, property.path);
            }
        }
        if !knows_private_link(version) {
            body.remove("identity");
        }
    }
    let mut document = existing.clone();
    if resource_type.eq_ignore_ascii_case(TASKS) {
        tasks::keep_unknown(&mut body, None, version);
        tasks::resolve_patch(&mut document, &mut body);
    }
    if let Some(tags) = body.remove("tags") {
        document.insert("tags".into(), tags);
    }
    merge_into(&mut document, body);
    document
}

/// Source: RFC 7386, JSON merge patch.
pub(crate) fn merge_into(target: &mut Document, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            Value::Object(inner) => {
                let entry = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !entry.is_object() {
                    *entry = Value::Object(Map::new());
                }
                if let Some(object) = entry.as_object_mut() {
                    merge_into(object, inner);
                }
            }
            other => drop(target.insert(key, other)),
        }
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests;

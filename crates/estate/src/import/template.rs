//! ARM templates: literal values, parameters' defaults, variables, and the functions that make ids and names.

mod expression;

use serde_json::Value;

use self::expression::Scope;
use super::{ImportError, Target, resource, shown};
use crate::Document;

const TEMPLATE_KEYS: [&str; 9] = [
    "$schema",
    "contentVersion",
    "apiProfile",
    "languageVersion",
    "metadata",
    "parameters",
    "variables",
    "resources",
    "outputs",
];

/// Keys of a template's resource that an envelope does not have.
const RESOURCE_ONLY: [&str; 6] = ["dependsOn", "comments", "metadata", "resources", "scope", "condition"];

pub(super) fn is_template(object: &Document) -> bool {
    object.contains_key("$schema") || (object.contains_key("resources") && !object.contains_key("id"))
}

pub(super) fn expand(template: &Document, target: &Target) -> Result<Vec<Document>, ImportError> {
    if let Some(key) = template.keys().find(|key| !TEMPLATE_KEYS.contains(&key.as_str())) {
        return Err(ImportError::UnknownKey { at: "the template".into(), key: shown(key) });
    }
    let scope = Scope {
        target,
        parameters: template.get("parameters").and_then(Value::as_object),
        variables: template.get("variables").and_then(Value::as_object),
    };
    let mut documents = Vec::new();
    add_all(template.get("resources"), "the template", None, &scope, &mut documents)?;
    Ok(documents)
}

/// Where a nested resource is.
struct Parent<'a> {
    resource_type: &'a str,
    name: &'a str,
}

fn add_all(
    resources: Option<&Value>,
    at: &str,
    parent: Option<&Parent<'_>>,
    scope: &Scope<'_>,
    documents: &mut Vec<Document>,
) -> Result<(), ImportError> {
    let entries: Vec<&Value> = match resources {
        None => return Ok(()),
        Some(Value::Array(entries)) => entries.iter().collect(),
        // Templates of language version 2.0 give resources names.
        Some(Value::Object(entries)) => entries.values().collect(),
        Some(_) => return Err(ImportError::Shape { at: format!("the `resources` of {at}"), wanted: "a list" }),
    };
    for (index, entry) in entries.into_iter().enumerate() {
        let at = format!("resource {index} of {at}");
        let Value::Object(entry) = entry else { return Err(ImportError::Shape { at, wanted: "an object" }) };
        add(entry, &at, parent, scope, documents)?;
    }
    Ok(())
}

fn add(
    entry: &Document,
    at: &str,
    parent: Option<&Parent<'_>>,
    scope: &Scope<'_>,
    documents: &mut Vec<Document>,
) -> Result<(), ImportError> {
    match entry.get("condition").map(|condition| scope.evaluate(condition, at)).transpose()? {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Ok(()),
        Some(_) => return Err(ImportError::Shape { at: format!("the `condition` of {at}"), wanted: "true or false" }),
    }
    let text = |key: &str| -> Result<String, ImportError> {
        let value = entry.get(key).map(|value| scope.evaluate(value, at)).transpose()?;
        let text = value.as_ref().and_then(Value::as_str).map(str::to_owned);
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| ImportError::Shape { at: format!("the `{key}` of {at}"), wanted: "a text" })
    };
    let (mut resource_type, mut name) = (text("type")?, text("name")?);
    // A nested resource gives its type and name from its parent on.
    if let Some(parent) = parent {
        if !resource_type.contains('/') {
            resource_type = format!("{}/{resource_type}", parent.resource_type);
        }
        if !name.contains('/') {
            name = format!("{}/{name}", parent.name);
        }
    }
    let base = match entry.get("scope") {
        None => base_of(&resource_type, scope.target),
        Some(value) => match scope.evaluate(value, at)? {
            Value::String(text) => scope.scope_id(&text, at)?,
            _ => return Err(ImportError::Shape { at: format!("the `scope` of {at}"), wanted: "a text" }),
        },
    };
    let id = expression::id_within(&base, &resource_type, &name).ok_or_else(|| ImportError::Shape {
        at: format!("the `name` of {at}"),
        wanted: "one segment for each of the type's",
    })?;
    let mut document = Document::new();
    for (key, value) in entry.iter().filter(|(key, _)| !RESOURCE_ONLY.contains(&key.as_str())) {
        document.insert(key.clone(), scope.evaluate(value, at)?);
    }
    document.insert("id".into(), id.into());
    document.insert("type".into(), resource_type.clone().into());
    document.remove("name");
    documents.extend(resource(document, at)?);
    let parent = Parent { resource_type: &resource_type, name: &name };
    add_all(entry.get("resources"), at, Some(&parent), scope, documents)
}

/// Groups and what belongs to the subscription as a whole are not within a group.
fn base_of(resource_type: &str, target: &Target) -> String {
    let subscription = format!("/subscriptions/{}", target.subscription);
    let lower = resource_type.to_ascii_lowercase();
    if lower == "microsoft.security/pricings" || lower == "microsoft.resources/resourcegroups" {
        subscription
    } else if lower.starts_with("microsoft.graph/") {
        "/".into()
    } else {
        format!("{subscription}/resourceGroups/{}", target.resource_group)
    }
}

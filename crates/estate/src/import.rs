//! Reads what `apply` is given: a resource, a list of them (`az resource list`), an ARM template, or the flattened answer of
//! `az acr show` and its siblings.

mod flat;
mod template;

use std::collections::BTreeMap;

use postern_model::{ResourceId, ResourceIdError};
use serde_json::Value;

use crate::{Document, types};

/// Longest text accepted.
pub const MAX_IMPORT_BYTES: usize = 16 << 20;

/// Most resources in one text.
pub const MAX_IMPORT_RESOURCES: usize = 50_000;

/// Most levels of objects and lists.
const MAX_DEPTH: usize = 64;

/// Where the resources of a template go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The subscription's id.
    pub subscription: String,
    /// The resource group's name.
    pub resource_group: String,
    /// What `resourceGroup().location` stands for.
    pub location: String,
}

/// Why a text cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Longer than [`MAX_IMPORT_BYTES`].
    #[error("the file is larger than {MAX_IMPORT_BYTES} bytes")]
    TooLarge,
    /// More than [`MAX_IMPORT_RESOURCES`].
    #[error("the file holds more than {MAX_IMPORT_RESOURCES} resources")]
    TooMany,
    /// Not JSON.
    #[error("the file is not JSON: {0}")]
    Syntax(String),
    /// Nested too deep.
    #[error("{at} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Where.
        at: String,
    },
    /// Something other than what belongs there.
    #[error("{at} must be {wanted}")]
    Shape {
        /// Where.
        at: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A key that no envelope has.
    #[error("{at} has the unknown key `{key}`")]
    UnknownKey {
        /// Where.
        at: String,
        /// The key.
        key: String,
    },
    /// An id that is not one.
    #[error("{at}: {source}")]
    BadId {
        /// Where.
        at: String,
        /// What is wrong.
        source: ResourceIdError,
    },
    /// `id`, `type` and `name` do not agree.
    #[error("{at}: the `{key}` `{found}` does not fit the id `{id}`")]
    Disagrees {
        /// Where.
        at: String,
        /// `type` or `name`.
        key: &'static str,
        /// Its value.
        found: String,
        /// The id.
        id: String,
    },
    /// Two resources with one id.
    #[error("`{0}` is there twice")]
    Twice(ResourceId),
    /// A flattened resource whose type's properties are not known.
    #[error(
        "{at} has no `properties`: give resources of type `{resource_type}` as the resource manager shows them (`az resource show`)"
    )]
    Flat {
        /// Where.
        at: String,
        /// Its type.
        resource_type: String,
    },
    /// A template without a place to put it.
    #[error("a template needs a target subscription and resource group")]
    NoTarget,
    /// Something in a template that is not evaluated here.
    #[error("{at}: `{expression}` is not supported: {why}")]
    Expression {
        /// Where.
        at: String,
        /// The expression, shortened.
        expression: String,
        /// Why not.
        why: String,
    },
}

/// Reads a text into documents with full ids, in an order in which they can be created.
pub fn parse(text: &str, target: Option<&Target>) -> Result<Vec<Document>, ImportError> {
    if text.len() > MAX_IMPORT_BYTES {
        return Err(ImportError::TooLarge);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| ImportError::Syntax(error.to_string()))?;
    bounded(&value, 0, "the file")?;
    let mut documents = Vec::new();
    match value {
        Value::Array(entries) => list(entries, &mut documents)?,
        Value::Object(object) if template::is_template(&object) => {
            documents = template::expand(&object, target.ok_or(ImportError::NoTarget)?)?;
        }
        Value::Object(mut object) if !object.contains_key("id") && object.contains_key("value") => {
            let entries = object.remove("value");
            object.remove("nextLink");
            refuse_others(&object, "the list")?;
            match entries {
                Some(Value::Array(entries)) => list(entries, &mut documents)?,
                _ => return Err(ImportError::Shape { at: "`value`".into(), wanted: "a list" }),
            }
        }
        Value::Object(object) => documents.extend(resource(object, "the resource")?),
        _ => return Err(ImportError::Shape { at: "the file".into(), wanted: "an object or a list" }),
    }
    if documents.len() > MAX_IMPORT_RESOURCES {
        return Err(ImportError::TooMany);
    }
    let mut seen = BTreeMap::new();
    for (at, document) in documents.iter().enumerate() {
        let id = id_of(document);
        if seen.insert(id.clone(), at).is_some() {
            return Err(ImportError::Twice(id));
        }
    }
    sort(&mut documents);
    Ok(documents)
}

fn list(entries: Vec<Value>, documents: &mut Vec<Document>) -> Result<(), ImportError> {
    for (index, entry) in entries.into_iter().enumerate() {
        let at = format!("resource {index}");
        let Value::Object(object) = entry else { return Err(ImportError::Shape { at, wanted: "an object" }) };
        documents.extend(resource(object, &at)?);
    }
    Ok(())
}

fn bounded(value: &Value, depth: usize, at: &str) -> Result<(), ImportError> {
    if depth > MAX_DEPTH {
        return Err(ImportError::TooDeep { at: at.to_owned() });
    }
    match value {
        Value::Array(entries) => entries.iter().try_for_each(|entry| bounded(entry, depth + 1, at)),
        Value::Object(object) => object.values().try_for_each(|entry| bounded(entry, depth + 1, at)),
        _ => Ok(()),
    }
}

fn refuse_others(object: &Document, at: &str) -> Result<(), ImportError> {
    match object.keys().next() {
        None => Ok(()),
        Some(key) => Err(ImportError::UnknownKey { at: at.to_owned(), key: shown(key) }),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Keys of an envelope that are kept.
const KEPT: [&str; 15] = [
    "id",
    "name",
    "type",
    "location",
    "tags",
    "sku",
    "identity",
    "properties",
    "kind",
    "zones",
    "plan",
    "managedBy",
    "extendedLocation",
    "etag",
    "systemData",
];

/// Keys that tools add to an envelope and that mean nothing here.
const DROPPED: [&str; 6] =
    ["apiVersion", "resourceGroup", "createdTime", "changedTime", "provisioningState", "managedByExtended"];

/// A subscription has no `properties`: what there is to say of it is at the top.
const SUBSCRIPTION_KEYS: [&str; 6] =
    ["subscriptionId", "displayName", "state", "tenantId", "managedByTenants", "subscriptionPolicies"];

/// One resource, and the private endpoint connections that its answer embeds.
fn resource(mut object: Document, at: &str) -> Result<Vec<Document>, ImportError> {
    let at_id = || format!("the `id` of {at}");
    let id = match object.get("id") {
        Some(Value::String(id)) => {
            id.parse::<ResourceId>().map_err(|source| ImportError::BadId { at: at_id(), source })?
        }
        _ => return Err(ImportError::Shape { at: at_id(), wanted: "a resource id" }),
    };
    let Some(resource_type) = id.resource_type() else {
        return Err(ImportError::Shape { at: at_id(), wanted: "the id of a resource" });
    };
    agrees(&object, at, "type", &resource_type, &id)?;
    agrees(&object, at, "name", id.name(), &id)?;
    object.retain(|key, value| !(value.is_null() && key != "properties"));
    let is_subscription = id.is_type(types::SUBSCRIPTIONS);
    if !is_subscription && !matches!(object.get("properties"), Some(Value::Object(_))) {
        if object.get("properties").is_some_and(|properties| !properties.is_null()) {
            return Err(ImportError::Shape { at: format!("the `properties` of {at}"), wanted: "an object" });
        }
        object.remove("properties");
        flat::unflatten(&mut object, &resource_type, at)?;
    }
    let is_known = |key: &str| {
        KEPT.contains(&key) || DROPPED.contains(&key) || (is_subscription && SUBSCRIPTION_KEYS.contains(&key))
    };
    if let Some(key) = object.keys().find(|key| !is_known(key)) {
        return Err(ImportError::UnknownKey { at: at.to_owned(), key: shown(key) });
    }
    for key in DROPPED {
        object.remove(key);
    }
    object.insert("id".into(), id.as_str().into());
    object.insert("name".into(), id.name().into());
    object.insert("type".into(), resource_type.clone().into());
    let mut documents = Vec::new();
    if resource_type.eq_ignore_ascii_case(types::REGISTRIES) {
        documents = embedded_connections(&mut object, at)?;
    }
    documents.insert(0, object);
    Ok(documents)
}

fn agrees(object: &Document, at: &str, key: &'static str, wanted: &str, id: &ResourceId) -> Result<(), ImportError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(()),
        // A child's name may be given in full: `registry/child`.
        Some(Value::String(found)) if found.eq_ignore_ascii_case(wanted) => Ok(()),
        Some(Value::String(found)) if key == "name" && found.rsplit('/').next() == Some(wanted) => Ok(()),
        // Directory objects and subscriptions carry a display name.
        Some(Value::String(_)) if key == "name" && id.is_type(types::SUBSCRIPTIONS) => Ok(()),
        Some(found) => Err(ImportError::Disagrees {
            at: at.to_owned(),
            key,
            found: shown(found.as_str().unwrap_or("something that is not a text")),
            id: id.to_string(),
        }),
    }
}

/// A registry's answer shows its private endpoint connections; here they are resources of their own.
fn embedded_connections(registry: &mut Document, at: &str) -> Result<Vec<Document>, ImportError> {
    let properties = registry.get_mut("properties").and_then(Value::as_object_mut);
    let Some(Value::Array(entries)) = properties.and_then(|properties| properties.remove("privateEndpointConnections"))
    else {
        return Ok(Vec::new());
    };
    let mut documents = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = format!("private endpoint connection {index} of {at}");
        let Value::Object(connection) = entry else { return Err(ImportError::Shape { at, wanted: "an object" }) };
        documents.extend(resource(connection, &at)?);
    }
    Ok(documents)
}

fn id_of(document: &Document) -> ResourceId {
    let id = document.get("id").and_then(Value::as_str);
    id.and_then(|id| id.parse().ok()).unwrap_or_else(ResourceId::root)
}

/// Sorts documents so that none comes before what it needs.
pub fn sort(documents: &mut [Document]) {
    documents.sort_by_cached_key(|document| {
        let id = id_of(document);
        (rank(&id), id.segments().count(), id)
    });
}

fn rank(id: &ResourceId) -> u8 {
    use types::{
        APPLICATIONS, GROUPS, PRIVATE_ENDPOINTS, REGISTRIES, RESOURCE_GROUPS, ROLE_ASSIGNMENTS, ROLE_DEFINITIONS,
        SERVICE_PRINCIPALS, SUBSCRIPTIONS, TOKENS, USER_ASSIGNED_IDENTITIES, USERS, VIRTUAL_NETWORKS,
    };
    const LAST: u8 = 9;
    let ranks: [&[&str]; 7] = [
        &[SUBSCRIPTIONS],
        &[RESOURCE_GROUPS],
        &[USERS, APPLICATIONS, SERVICE_PRINCIPALS],
        &[GROUPS],
        &[USER_ASSIGNED_IDENTITIES, VIRTUAL_NETWORKS, ROLE_DEFINITIONS],
        &[REGISTRIES],
        &[PRIVATE_ENDPOINTS],
    ];
    let rank = ranks.iter().position(|types| types.iter().any(|name| id.is_type(name)));
    match rank {
        Some(rank) => u8::try_from(rank).unwrap_or(LAST),
        None if id.is_type(ROLE_ASSIGNMENTS) => LAST,
        // A token names its scope map.
        None if id.is_type(TOKENS) => LAST - 1,
        None => LAST - 2,
    }
}

#[cfg(test)]
mod tests;

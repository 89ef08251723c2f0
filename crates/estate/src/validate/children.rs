use postern_access::{SYSTEM_SCOPE_MAPS, ScopeMapActions};
use postern_model::ResourceId;
use serde_json::Value;

use super::{invalid, malformed, shown};
use crate::compile::status_named;
use crate::resource::value_at;
use crate::types::{PRIVATE_ENDPOINTS, SCOPE_MAPS, TOKENS, WEBHOOKS};
use crate::{Document, Estate, Refusal, RefusalCode, Sku};

fn child_name(id: &ResourceId, extra: &[u8]) -> Result<(), Refusal> {
    let name = id.name();
    let fits = (5..=50).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b));
    if fits {
        return Ok(());
    }
    Err(Refusal::at(
        RefusalCode::InvalidResourceName,
        "name",
        format!(
            "The name '{}' is not valid: 5 to 50 alpha numeric characters{} are allowed.",
            shown(name),
            match extra {
                [] => "",
                [_] => " and '-'",
                _ => ", '-' and '_'",
            }
        ),
    ))
}

fn within_limit(estate: &Estate, id: &ResourceId, resource_type: &str, what: &str) -> Result<(), Refusal> {
    let Some(registry) = id.parent() else { return Ok(()) };
    let sku: Sku = estate.sku_of(&registry);
    let limits = sku.limits();
    let limit = if resource_type == WEBHOOKS { limits.webhooks } else { limits.tokens };
    if estate.get(id).is_none() && estate.children_of_type(&registry, resource_type).count() as u64 >= limit {
        return Err(Refusal::new(
            RefusalCode::LimitExceeded,
            format!("A registry of the SKU {sku} can have at most {limit} {what}."),
        ));
    }
    Ok(())
}

/// Whether the registry has the scope map from the start.
fn is_system_scope_map(name: &str) -> bool {
    SYSTEM_SCOPE_MAPS.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Refuses to delete what every registry has.
pub fn deletable(id: &ResourceId) -> Result<(), Refusal> {
    if id.is_type(SCOPE_MAPS) && is_system_scope_map(id.name()) {
        return Err(Refusal::new(
            RefusalCode::SystemDefined,
            format!("The scope map '{}' is system defined and cannot be deleted.", shown(id.name())),
        ));
    }
    Ok(())
}

/// Checks a scope map.
pub fn scope_map(estate: &Estate, id: &ResourceId, document: &Document) -> Result<(), Refusal> {
    if is_system_scope_map(id.name()) {
        return Err(Refusal::new(
            RefusalCode::SystemDefined,
            format!("The scope map '{}' is system defined and cannot be changed.", shown(id.name())),
        ));
    }
    child_name(id, b"-_")?;
    within_limit(estate, id, SCOPE_MAPS, "scope maps")?;
    let actions = value_at(document, &["properties", "actions"]).and_then(Value::as_array);
    let lines = actions.and_then(|lines| lines.iter().map(Value::as_str).collect::<Option<Vec<&str>>>());
    let Some(lines) = lines.filter(|lines| !lines.is_empty()) else {
        return Err(malformed("properties.actions", "A scope map needs 'actions', a list of strings."));
    };
    ScopeMapActions::parse(lines)
        .map(drop)
        .map_err(|error| invalid("properties.actions", format!("The actions of the scope map are not valid: {error}.")))
}

/// Checks a repository-scoped token.
pub fn token(estate: &Estate, id: &ResourceId, document: &Document) -> Result<(), Refusal> {
    const SCOPE_MAP: &str = "properties.scopeMapId";
    child_name(id, b"-")?;
    within_limit(estate, id, TOKENS, "tokens")?;
    let status = value_at(document, &["properties", "status"]);
    let known = |status: &Value| matches!(status.as_str(), Some("enabled" | "disabled"));
    if !status.is_none_or(known) {
        return Err(invalid("properties.status", "The status of a token is 'enabled' or 'disabled'."));
    }
    let map = value_at(document, &["properties", "scopeMapId"]).and_then(Value::as_str);
    let Some(map) = map else { return Err(malformed(SCOPE_MAP, "A token needs a 'scopeMapId'.")) };
    let map = map.parse::<ResourceId>().ok().filter(|map| map.is_type(SCOPE_MAPS) && map.parent() == id.parent());
    let Some(map) = map else {
        return Err(invalid(
            SCOPE_MAP,
            "The 'scopeMapId' of a token must be the id of a scope map of the same registry.",
        ));
    };
    if !is_system_scope_map(map.name()) && estate.get(&map).is_none() {
        return Err(invalid(SCOPE_MAP, format!("The scope map '{}' was not found.", shown(map.name()))));
    }
    Ok(())
}

/// What a webhook can tell of.
const WEBHOOK_ACTIONS: [&str; 5] = ["push", "delete", "quarantine", "chart_push", "chart_delete"];
/// Longest address that a webhook calls.
const MAX_URI_BYTES: usize = 2048;

/// Checks a webhook.
pub fn webhook(estate: &Estate, id: &ResourceId, document: &Document) -> Result<(), Refusal> {
    child_name(id, b"")?;
    within_limit(estate, id, WEBHOOKS, "webhooks")?;
    let property = |name: &str| value_at(document, &["properties", name]);
    let uri = property("serviceUri").and_then(Value::as_str);
    let uri = uri.ok_or_else(|| malformed("properties.serviceUri", "A webhook needs a 'serviceUri'."))?;
    let host = ["https://", "http://"].into_iter().find_map(|scheme| uri.strip_prefix(scheme));
    if uri.len() > MAX_URI_BYTES || host.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(invalid(
            "properties.serviceUri",
            "The 'serviceUri' of a webhook is an absolute address by http or https.",
        ));
    }
    let actions = property("actions").and_then(Value::as_array).filter(|actions| !actions.is_empty());
    let known = |action: &Value| action.as_str().is_some_and(|action| WEBHOOK_ACTIONS.contains(&action));
    if !actions.is_some_and(|actions| actions.iter().all(known)) {
        let message = format!("A webhook needs 'actions' of: {}.", WEBHOOK_ACTIONS.join(", "));
        return Err(invalid("properties.actions", message));
    }
    if !property("status").is_none_or(|status| matches!(status.as_str(), Some("enabled" | "disabled"))) {
        return Err(invalid("properties.status", "The status of a webhook is 'enabled' or 'disabled'."));
    }
    if !property("scope").is_none_or(Value::is_string) {
        return Err(malformed("properties.scope", "The scope of a webhook is a text."));
    }
    let headers = property("customHeaders").filter(|headers| !headers.is_null());
    let is_text = |headers: &Value| headers.as_object().is_some_and(|all| all.values().all(Value::is_string));
    if headers.is_some_and(|headers| !is_text(headers)) {
        return Err(malformed("properties.customHeaders", "The 'customHeaders' of a webhook are texts by name."));
    }
    Ok(())
}

/// Checks a private endpoint connection.
pub fn private_endpoint_connection(document: &Document) -> Result<(), Refusal> {
    let state = value_at(document, &["properties", "privateLinkServiceConnectionState"]);
    let status = state.and_then(|state| state.get("status")).and_then(Value::as_str);
    if status.and_then(status_named).is_none() {
        return Err(invalid(
            "properties.privateLinkServiceConnectionState.status",
            "The status of a private endpoint connection is one of: Approved, Pending, Rejected, Disconnected.",
        ));
    }
    let endpoint = value_at(document, &["properties", "privateEndpoint", "id"]).and_then(Value::as_str);
    let endpoint = endpoint.and_then(|id| id.parse::<ResourceId>().ok());
    if !endpoint.is_some_and(|id| id.is_type(PRIVATE_ENDPOINTS)) {
        return Err(invalid(
            "properties.privateEndpoint.id",
            "The connection must name its private endpoint by resource id.",
        ));
    }
    Ok(())
}

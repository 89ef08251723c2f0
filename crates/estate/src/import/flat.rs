use serde_json::Value;

use super::{DROPPED, ImportError, KEPT, shown};
use crate::schema::{PROPERTIES, READ_ONLY};
use crate::{Document, types};

/// What the CLI's answers for these types have at the top level instead of below `properties`.
const FLAT: [(&str, &[&str]); 5] = [
    (
        types::ROLE_ASSIGNMENTS,
        &[
            "principalId",
            "principalType",
            "roleDefinitionId",
            "scope",
            "condition",
            "conditionVersion",
            "description",
            "delegatedManagedIdentityResourceId",
            "createdBy",
            "createdOn",
            "updatedBy",
            "updatedOn",
            "principalName",
            "roleDefinitionName",
        ],
    ),
    (types::USER_ASSIGNED_IDENTITIES, &["principalId", "clientId", "tenantId", "isolationScope"]),
    (types::SCOPE_MAPS, &["actions", "description", "creationDate", "typePropertiesType"]),
    (types::TOKENS, &["scopeMapId", "status", "credentials", "creationDate"]),
    (types::PRIVATE_ENDPOINT_CONNECTIONS, &["privateEndpoint", "privateLinkServiceConnectionState"]),
];

/// What only the tool's answer has.
const TOOL_ONLY: [&str; 2] = ["principalName", "roleDefinitionName"];

/// Moves the properties of a flattened answer below `properties`. An envelope that has none at all (`az resource list`) stays
/// without: it says nothing about them.
pub(super) fn unflatten(object: &mut Document, resource_type: &str, at: &str) -> Result<(), ImportError> {
    let is_envelope = |key: &String| KEPT.contains(&key.as_str()) || DROPPED.contains(&key.as_str());
    let flat: Vec<String> = object.keys().filter(|key| !is_envelope(key)).cloned().collect();
    if flat.is_empty() {
        return Ok(());
    }
    let is_registry = resource_type.eq_ignore_ascii_case(types::REGISTRIES);
    let known = FLAT.iter().find(|(name, _)| resource_type.eq_ignore_ascii_case(name)).map(|(_, keys)| *keys);
    if !is_registry && known.is_none() {
        return Err(ImportError::Flat { at: at.to_owned(), resource_type: resource_type.to_owned() });
    }
    let mut properties = Document::new();
    for key in flat {
        let is_known = match known {
            Some(keys) => keys.contains(&key.as_str()),
            None => is_registry_property(&key),
        };
        if !is_known {
            return Err(ImportError::UnknownKey { at: at.to_owned(), key: shown(&key) });
        }
        if let Some(value) = object.remove(&key)
            && !TOOL_ONLY.contains(&key.as_str())
        {
            properties.insert(key, value);
        }
    }
    if is_registry {
        respell_ip_rules(&mut properties);
    }
    object.insert("properties".into(), Value::Object(properties));
    Ok(())
}

fn is_registry_property(key: &str) -> bool {
    let firsts = PROPERTIES.iter().filter_map(|property| property.path.first());
    firsts.chain(READ_ONLY.iter().filter_map(|path| path.first())).any(|first| *first == key)
}

/// The CLI shows a rule's `value` as `ipAddressOrRange`.
fn respell_ip_rules(properties: &mut Document) {
    let rules =
        properties.get_mut("networkRuleSet").and_then(|set| set.get_mut("ipRules")).and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(value) = rule.remove("ipAddressOrRange") {
            rule.entry("value").or_insert(value);
        }
    }
}

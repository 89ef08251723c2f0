use postern_access::TASKS;
use postern_model::ResourceId;
use serde_json::{Map, Value, json};

use crate::resource::{remove_at, set_at, text, value_at};
use crate::schema::{PROPERTIES, SUBNET_KEYS, knows_private_link, knows_regional_endpoints};
use crate::types::{PRIVATE_ENDPOINT_CONNECTIONS, REGISTRIES, RESOURCE_GROUPS, ROLE_ASSIGNMENTS, SCOPE_MAPS, TOKENS};
use crate::{ApiVersion, Document, Estate, RegistryView, Resource, Sku, tasks};

/// Types of namespaces whose documents have no `provisioningState`.
const STATELESS: [&str; 4] =
    ["microsoft.authorization/", "microsoft.graph/", "microsoft.security/", "microsoft.insights/"];

/// Source: RFC 1035 §2.3.4.
const MAX_LABEL_BYTES: usize = 63;

impl Estate {
    /// The document as an answer shows it: what the version does not know is left out, defaults and computed properties are
    /// filled in.
    pub fn project(&self, resource: &Resource, version: ApiVersion) -> Document {
        let resource_type = resource.resource_type();
        let mut document = envelope(resource, &resource_type);
        let properties = match document.remove("properties") {
            Some(Value::Object(properties)) => properties,
            _ => Map::new(),
        };
        let mut properties = if resource_type.eq_ignore_ascii_case(REGISTRIES) {
            if !knows_private_link(version) {
                document.remove("identity");
            }
            if let Some(sku) = value_at(&document, &["sku", "name"]).cloned() {
                set_at(&mut document, &["sku", "tier"], sku);
            }
            self.project_registry(resource, properties, version)
        } else {
            properties
        };
        if resource_type.eq_ignore_ascii_case(TASKS) {
            tasks::forget_unknown(&mut properties, version);
        }
        fill_in(resource, &resource_type, &mut properties);
        document.insert("properties".into(), Value::Object(properties));
        document
    }

    fn project_registry(&self, registry: &Resource, mut properties: Document, version: ApiVersion) -> Document {
        for property in &PROPERTIES {
            if property.is_known(version) {
                fill_default(&mut properties, property.path, property.preset());
            } else {
                remove_at(&mut properties, property.path);
            }
        }
        if let Some(Value::Array(rules)) =
            properties.get_mut("networkRuleSet").and_then(|set| set.get_mut("virtualNetworkRules"))
        {
            for rule in rules {
                respell_subnet(rule, version);
            }
        }
        let rules =
            properties.get_mut("networkRuleSet").and_then(|set| set.get_mut("ipRules")).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
            rule.entry("action").or_insert_with(|| "Allow".into());
        }
        properties.insert("loginServer".into(), self.login_server(&registry.id).into());
        properties.insert("creationDate".into(), registry.created.to_string().into());
        properties.insert("provisioningState".into(), "Succeeded".into());
        properties.insert("status".into(), Value::Null);
        if knows_private_link(version) {
            let connections = self.children_of_type(&registry.id, PRIVATE_ENDPOINT_CONNECTIONS);
            let connections: Vec<Value> = connections.map(|one| Value::Object(self.project(one, version))).collect();
            properties.insert("privateEndpointConnections".into(), connections.into());
            properties.insert("dataEndpointHostNames".into(), self.data_endpoints(registry, &properties).into());
        }
        if knows_regional_endpoints(version) {
            properties.insert("regionalEndpointHostNames".into(), json!([]));
        }
        properties
    }

    fn data_endpoints(&self, registry: &Resource, properties: &Document) -> Vec<Value> {
        if properties.get("dataEndpointEnabled") != Some(&Value::Bool(true)) {
            return Vec::new();
        }
        self.data_endpoint(registry).map(Value::from).into_iter().collect()
    }

    /// The host of a registry's dedicated data endpoint, with the port that the suffix has; `None` where the location cannot be part of a
    /// host's name.
    pub(crate) fn data_endpoint(&self, registry: &Resource) -> Option<String> {
        let location = registry.value(&["location"]).and_then(text).unwrap_or_default();
        let region: String = location.chars().filter(char::is_ascii_alphanumeric).collect();
        let (name, region) = (registry.id.name().to_ascii_lowercase(), region.to_ascii_lowercase());
        (1..=MAX_LABEL_BYTES).contains(&region.len()).then(|| format!("{name}.{region}.data.{}", self.suffix()))
    }

    /// What `listUsages` answers: the registry's limits and how much of them is used. Storage is the caller's to add.
    pub fn usages(&self, registry: &Resource, size_bytes: u64) -> Vec<Value> {
        let (view, _) = RegistryView::read(registry);
        let limits = view.sku.limits();
        let count = |resource_type: &str| self.children_of_type(&registry.id, resource_type).count() as u64;
        let child = |name: &str| count(&format!("{REGISTRIES}/{name}"));
        let row = |name: &str, limit: u64, current: u64, unit: &str| json!({"name": name, "limit": limit, "currentValue": current, "unit": unit});
        vec![
            row("Size", limits.storage_bytes, size_bytes, "Bytes"),
            row("Webhooks", limits.webhooks, child("webhooks"), "Count"),
            row("Geo-replications", limits.replications, child("replications"), "Count"),
            row("IPRules", limits.ip_rules, view.ip_rules.len() as u64, "Count"),
            row("VNetRules", limits.virtual_network_rules, view.subnets.len() as u64, "Count"),
            row("PrivateEndpointConnections", limits.private_endpoints, count(PRIVATE_ENDPOINT_CONNECTIONS), "Count"),
            row("ScopeMaps", limits.tokens, count(SCOPE_MAPS), "Count"),
            row("Tokens", limits.tokens, count(TOKENS), "Count"),
        ]
    }

    /// The registry's service tier, Basic when it cannot be read.
    pub fn sku_of(&self, registry: &ResourceId) -> Sku {
        self.get(registry).map_or(Sku::Basic, |registry| RegistryView::read(registry).0.sku)
    }
}

fn envelope(resource: &Resource, resource_type: &str) -> Document {
    let mut document = resource.document();
    let name = document.get("name").and_then(Value::as_str).unwrap_or_else(|| resource.id.name()).to_owned();
    // A name that is not the id's own is a leftover of the file it came from.
    let name = if name.eq_ignore_ascii_case(resource.id.name()) { name } else { resource.id.name().to_owned() };
    document.insert("id".into(), resource.id.as_str().into());
    document.insert("name".into(), name.into());
    document.insert("type".into(), canonical_type(resource_type).into());
    document
}

/// The type as answers spell it, whatever the caller's case was.
fn canonical_type(resource_type: &str) -> &str {
    use crate::types;
    const KNOWN: [&str; 13] = [
        types::SUBSCRIPTIONS,
        types::RESOURCE_GROUPS,
        types::REGISTRIES,
        types::PRIVATE_ENDPOINT_CONNECTIONS,
        types::SCOPE_MAPS,
        types::TOKENS,
        types::ROLE_ASSIGNMENTS,
        types::ROLE_DEFINITIONS,
        types::USER_ASSIGNED_IDENTITIES,
        types::PRIVATE_ENDPOINTS,
        types::VIRTUAL_NETWORKS,
        types::SERVICE_PRINCIPALS,
        types::PRICINGS,
    ];
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(resource_type)).unwrap_or(resource_type)
}

fn fill_in(resource: &Resource, resource_type: &str, properties: &mut Document) {
    let lower = resource_type.to_ascii_lowercase();
    if !STATELESS.iter().any(|prefix| lower.starts_with(prefix)) {
        properties.entry("provisioningState").or_insert_with(|| "Succeeded".into());
    }
    if resource_type.eq_ignore_ascii_case(ROLE_ASSIGNMENTS) {
        if let Some(scope) = crate::assignment::scope_of(&resource.id) {
            properties.insert("scope".into(), scope.as_str().into());
        }
        properties.entry("createdOn").or_insert_with(|| resource.created.to_string().into());
        properties.insert("updatedOn".into(), resource.updated.to_string().into());
    }
    if [TOKENS, SCOPE_MAPS].iter().any(|name| resource_type.eq_ignore_ascii_case(name)) {
        properties.insert("creationDate".into(), resource.created.to_string().into());
    }
    if resource_type.eq_ignore_ascii_case(SCOPE_MAPS) {
        properties.insert("type".into(), "UserDefined".into());
    }
    if resource_type.eq_ignore_ascii_case(TOKENS) {
        properties.entry("status").or_insert_with(|| "enabled".into());
        properties.entry("credentials").or_insert_with(|| json!({"passwords": [], "certificates": []}));
    }
    if resource_type.eq_ignore_ascii_case(RESOURCE_GROUPS) {
        properties.retain(|key, _| key == "provisioningState");
    }
}

fn fill_default(properties: &mut Document, path: &[&str], preset: Value) {
    let filled = match (value_at(properties, path), preset) {
        (None, preset) => preset,
        (Some(Value::Object(stored)), Value::Object(mut preset)) => {
            preset.extend(stored.clone());
            Value::Object(preset)
        }
        (Some(_), _) => return,
    };
    set_at(properties, path, filled);
}

fn respell_subnet(rule: &mut Value, version: ApiVersion) {
    let [newest, oldest] = SUBNET_KEYS;
    let (wanted, other) = if knows_regional_endpoints(version) { (newest, oldest) } else { (oldest, newest) };
    let Some(rule) = rule.as_object_mut() else { return };
    if let Some(subnet) = rule.remove(other) {
        rule.entry(wanted).or_insert(subnet);
    }
}

#[cfg(test)]
mod tests;

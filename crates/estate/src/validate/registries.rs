use postern_model::{IpRule, IpRuleMode, RegistryName};
use serde_json::Value;

use super::{invalid, malformed, shown};
use crate::registry::subnet_of;
use crate::resource::value_at;
use crate::schema::{POLICY_STATUS, PROPERTIES};
use crate::{Document, Refusal, RefusalCode, Sku};

/// What the server's configuration says about registries' network rules.
#[derive(Clone, Copy, Debug)]
pub struct RegistryLimits {
    /// Which addresses IP rules may name.
    pub ip_rule_mode: IpRuleMode,
    /// How many IP rules a registry may have.
    pub ip_rules: usize,
    /// How many virtual network rules a registry may have.
    pub virtual_network_rules: usize,
}

impl Default for RegistryLimits {
    /// Source: Azure Container Registry service tiers, Premium (read 2026-11).
    fn default() -> Self {
        Self { ip_rule_mode: IpRuleMode::Permissive, ip_rules: 200, virtual_network_rules: 100 }
    }
}

/// Words that no resource may be named. A name may contain `microsoft` or `windows` nowhere, and begin with `login` never.
const RESERVED_ANYWHERE: [&str; 2] = ["microsoft", "windows"];
const RESERVED_START: &str = "login";

/// Checks a registry's name.
pub fn registry_name(name: &str) -> Result<(), Refusal> {
    if name.parse::<RegistryName>().is_err() {
        return Err(Refusal::at(
            RefusalCode::InvalidResourceName,
            "name",
            "Resource names may contain alpha numeric characters only and must be between 5 and 50 characters.",
        ));
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(RESERVED_START) || RESERVED_ANYWHERE.iter().any(|word| lower.contains(word)) {
        return Err(Refusal::at(
            RefusalCode::ReservedResourceName,
            "name",
            format!("The resource name '{name}' or a part of the name is a trademarked or reserved word."),
        ));
    }
    Ok(())
}

/// Checks a registry's document as it would be stored. `has_private_endpoints`: a private endpoint connection exists.
pub fn registry(
    existing: Option<&Document>,
    document: &Document,
    has_private_endpoints: bool,
    limits: &RegistryLimits,
) -> Result<(), Refusal> {
    if value_at(document, &["location"]).and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(Refusal::at(
            RefusalCode::LocationRequired,
            "location",
            "The location property is required for this definition.",
        ));
    }
    envelope(document)?;
    let sku = sku(document)?;
    let empty = Document::new();
    let properties = match document.get("properties") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(properties)) => properties,
        Some(_) => return Err(malformed("properties", "The property 'properties' must be an object.")),
    };
    shapes(properties)?;
    policies(properties)?;
    let rules = network_rules(properties, limits)?;
    for_sku(properties, sku, &rules)?;
    combinations(properties, &rules, has_private_endpoints)?;
    unchanged(existing, properties)
}

fn envelope(document: &Document) -> Result<(), Refusal> {
    if let Some(tags) = document.get("tags").filter(|tags| !tags.is_null()) {
        let texts = tags.as_object().is_some_and(|tags| tags.values().all(Value::is_string));
        if !texts {
            return Err(malformed("tags", "The property 'tags' must be an object whose values are strings."));
        }
    }
    Ok(())
}

fn sku(document: &Document) -> Result<Sku, Refusal> {
    let name = value_at(document, &["sku", "name"]).and_then(Value::as_str);
    let Some(name) = name else {
        return Err(invalid(
            "sku.name",
            "The property 'sku.name' is required. Valid values are: Basic, Standard, Premium.",
        ));
    };
    name.parse().map_err(|()| {
        invalid(
            "sku.name",
            format!("The SKU '{}' is not supported. Valid values are: Basic, Standard, Premium.", shown(name)),
        )
    })
}

/// Every property has the type of its default, and enumerated ones one of their words.
fn shapes(properties: &Document) -> Result<(), Refusal> {
    for group in crate::schema::GROUPS {
        if value_at(properties, &[group]).is_some_and(|value| !value.is_object()) {
            return Err(malformed(format!("properties.{group}"), format!("The property '{group}' must be an object.")));
        }
    }
    for property in &PROPERTIES {
        let Some(value) = value_at(properties, property.path) else { continue };
        let name = property.path.join(".");
        let target = || format!("properties.{name}");
        let preset = property.preset();
        let (same_type, wanted) = match preset {
            Value::Bool(_) => (value.is_boolean(), "true or false"),
            Value::Array(_) => (value.is_array(), "a list"),
            Value::Object(_) => (value.is_object(), "an object"),
            _ => (value.is_string(), "a string"),
        };
        if !same_type {
            return Err(malformed(target(), format!("The property '{name}' must be {wanted}.")));
        }
        let word = value.as_str().unwrap_or_default();
        if !property.words.is_empty() && !property.words.contains(&word) {
            return Err(invalid(
                target(),
                format!(
                    "The value '{}' of the property '{name}' is not valid. Valid values are: {}.",
                    shown(word),
                    property.words.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

fn policies(properties: &Document) -> Result<(), Refusal> {
    let Some(policies) = value_at(properties, &["policies"]).and_then(Value::as_object) else { return Ok(()) };
    for (name, policy) in policies {
        let Some(status) = policy.get("status").filter(|status| !status.is_null()) else { continue };
        if !status.as_str().is_some_and(|status| POLICY_STATUS.contains(&status)) {
            return Err(invalid(
                format!("properties.policies.{}.status", shown(name)),
                format!(
                    "The status of the policy '{}' is not valid. Valid values are: enabled, disabled.",
                    shown(name)
                ),
            ));
        }
    }
    let days = |policy: &str, key: &str, range: std::ops::RangeInclusive<i64>| {
        let Some(value) = value_at(policies, &[policy, key]) else { return Ok(()) };
        if value.as_i64().is_some_and(|days| range.contains(&days)) {
            return Ok(());
        }
        Err(invalid(
            format!("properties.policies.{policy}.{key}"),
            format!(
                "The property '{key}' of the policy '{policy}' must be a number of days from {} to {}.",
                range.start(),
                range.end()
            ),
        ))
    };
    days("retentionPolicy", "days", 0..=365)?;
    days("softDeletePolicy", "retentionDays", 1..=90)
}

#[derive(Default)]
struct Rules {
    deny: bool,
    addresses: usize,
    subnets: usize,
}

fn network_rules(properties: &Document, limits: &RegistryLimits) -> Result<Rules, Refusal> {
    const IP: &str = "properties.networkRuleSet.ipRules";
    const SUBNETS: &str = "properties.networkRuleSet.virtualNetworkRules";
    let list =
        |name| value_at(properties, &["networkRuleSet", name]).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (ip_rules, subnets) = (list("ipRules"), list("virtualNetworkRules"));
    let too_many = |target: &str, what: &str, limit: usize, found: usize| {
        Err(Refusal::at(
            RefusalCode::LimitExceeded,
            target,
            format!("A registry can have at most {limit} {what}, and {found} were given."),
        ))
    };
    if ip_rules.len() > limits.ip_rules {
        return too_many(IP, "IP rules", limits.ip_rules, ip_rules.len());
    }
    if subnets.len() > limits.virtual_network_rules {
        return too_many(SUBNETS, "virtual network rules", limits.virtual_network_rules, subnets.len());
    }
    for (at, rule) in ip_rules.iter().enumerate() {
        let target = || format!("{IP}[{at}]");
        action(rule, &target())?;
        let text = rule.get("value").and_then(Value::as_str);
        let Some(text) = text else { return Err(malformed(target(), "An IP rule needs a 'value'.")) };
        IpRule::parse(text, limits.ip_rule_mode).map_err(|error| {
            let message = error.to_string();
            let mut letters = message.chars();
            let capital = letters.next().map(|first| first.to_ascii_uppercase());
            invalid(target(), format!("{}{}.", capital.into_iter().collect::<String>(), letters.as_str()))
        })?;
    }
    for (at, rule) in subnets.iter().enumerate() {
        let target = || format!("{SUBNETS}[{at}]");
        action(rule, &target())?;
        if subnet_of(rule).is_none() {
            return Err(invalid(target(), "A virtual network rule needs the resource id of a subnet."));
        }
    }
    let default_action = value_at(properties, &["networkRuleSet", "defaultAction"]).and_then(Value::as_str);
    Ok(Rules { deny: default_action == Some("Deny"), addresses: ip_rules.len(), subnets: subnets.len() })
}

fn action(rule: &Value, target: &str) -> Result<(), Refusal> {
    match rule.get("action") {
        None | Some(Value::Null) => Ok(()),
        Some(action) if action.as_str().is_some_and(|action| action.eq_ignore_ascii_case("Allow")) => Ok(()),
        Some(_) => Err(invalid(target, "The only action of a network rule is 'Allow'.")),
    }
}

fn is(properties: &Document, path: &[&str], wanted: &str) -> bool {
    value_at(properties, path).and_then(Value::as_str) == Some(wanted)
}

fn is_on(properties: &Document, name: &str) -> bool {
    value_at(properties, &[name]) == Some(&Value::Bool(true))
}

fn for_sku(properties: &Document, sku: Sku, rules: &Rules) -> Result<(), Refusal> {
    if is_on(properties, "anonymousPullEnabled") && sku == Sku::Basic {
        return Err(not_in(sku, "anonymousPullEnabled", "Anonymous pull"));
    }
    if sku == Sku::Premium {
        return Ok(());
    }
    if is(properties, &["publicNetworkAccess"], "Disabled") {
        return Err(Refusal::at(
            RefusalCode::DisablingPublicNetworkAccessNotSupported,
            "properties.publicNetworkAccess",
            format!(
                "Disabling public network access is not supported for the SKU {sku}. For more information, please visit https://aka.ms/acr/private-link."
            ),
        ));
    }
    let enabled = |policy| is(properties, &["policies", policy, "status"], "enabled");
    let switched = |name| is(properties, &[name], "Enabled");
    let premium_only = [
        (rules.deny || rules.addresses > 0 || rules.subnets > 0, "networkRuleSet", "Network rules"),
        (is_on(properties, "dataEndpointEnabled"), "dataEndpointEnabled", "The dedicated data endpoint"),
        (is(properties, &["encryption", "status"], "enabled"), "encryption", "Encryption with customer managed keys"),
        (enabled("quarantinePolicy"), "policies.quarantinePolicy", "The quarantine policy"),
        (enabled("trustPolicy"), "policies.trustPolicy", "The content trust policy"),
        (enabled("retentionPolicy"), "policies.retentionPolicy", "The retention policy"),
        (
            is(properties, &["policies", "exportPolicy", "status"], "disabled"),
            "policies.exportPolicy",
            "The export policy",
        ),
        (switched("regionalEndpoints"), "regionalEndpoints", "Regional endpoints"),
        (switched("writableCacheRepos"), "writableCacheRepos", "Writable cache repositories"),
        (is(properties, &["endpointProtocol"], "IPv4AndIPv6"), "endpointProtocol", "The dual-stack endpoint protocol"),
    ];
    premium_only.into_iter().find(|(used, ..)| *used).map_or(Ok(()), |(_, target, what)| Err(not_in(sku, target, what)))
}

fn not_in(sku: Sku, property: &str, what: &str) -> Refusal {
    Refusal::at(
        RefusalCode::FeatureNotSupportedForSku,
        format!("properties.{property}"),
        format!(
            "{what} is not supported for the SKU {sku}. For more information, please visit https://aka.ms/acr/tiers."
        ),
    )
}

fn combinations(properties: &Document, rules: &Rules, has_private_endpoints: bool) -> Result<(), Refusal> {
    let conflict = |target: &str, message: &str| Err(Refusal::at(RefusalCode::ValidationError, target, message));
    let enabled = |policy| is(properties, &["policies", policy, "status"], "enabled");
    if has_private_endpoints && rules.subnets > 0 {
        return conflict(
            "properties.networkRuleSet.virtualNetworkRules",
            "Virtual network rules cannot be added to a registry that has private endpoint connections.",
        );
    }
    if is(properties, &["policies", "exportPolicy", "status"], "disabled")
        && !is(properties, &["publicNetworkAccess"], "Disabled")
    {
        return conflict(
            "properties.policies.exportPolicy",
            "The export policy can be disabled only when public network access is disabled.",
        );
    }
    if is(properties, &["endpointProtocol"], "IPv4AndIPv6") && !is_on(properties, "dataEndpointEnabled") {
        return conflict(
            "properties.endpointProtocol",
            "The dual-stack endpoint protocol needs the dedicated data endpoint.",
        );
    }
    if is(properties, &["regionalEndpoints"], "Enabled") && enabled("trustPolicy") {
        return conflict(
            "properties.regionalEndpoints",
            "Regional endpoints cannot be used together with content trust.",
        );
    }
    if enabled("softDeletePolicy") && enabled("retentionPolicy") {
        return conflict(
            "properties.policies.softDeletePolicy",
            "The soft delete policy cannot be enabled together with the retention policy.",
        );
    }
    Ok(())
}

fn unchanged(existing: Option<&Document>, properties: &Document) -> Result<(), Refusal> {
    let Some(existing) = existing else { return Ok(()) };
    let empty = Document::new();
    let before = existing.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for property in PROPERTIES.iter().filter(|property| property.create_only) {
        let value = |properties| value_at(properties, property.path).cloned().unwrap_or_else(|| property.preset());
        if value(before) != value(properties) {
            let name = property.path.join(".");
            return Err(Refusal::at(
                RefusalCode::PropertyChangeNotAllowed,
                format!("properties.{name}"),
                format!("The property '{name}' can be set only when the registry is created."),
            ));
        }
    }
    Ok(())
}

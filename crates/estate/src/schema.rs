//! What each api-version knows of a registry, and what an absent property means.

#![expect(clippy::inconsistent_digit_grouping, reason = "the numbers are days: year, month, day")]

use serde_json::{Value, json};

use crate::version::ApiVersion;
use crate::{Document, resource};

/// One property of a registry.
pub(crate) struct Property {
    /// Where it is below `properties`.
    pub(crate) path: &'static [&'static str],
    known: Known,
    /// What it reads as when nothing is stored.
    preset: Preset,
    /// A PUT that leaves it out keeps it: settable at creation only, or absent is a state of its own.
    pub(crate) kept_by_put: bool,
    /// Settable at creation only.
    pub(crate) create_only: bool,
    /// The words it may be, if it is an enumeration.
    pub(crate) words: &'static [&'static str],
}

/// The first day of the versions that know a property.
#[derive(Clone, Copy)]
struct Known {
    preview: u32,
    stable: u32,
    /// Days between which no preview, and no stable version, knows it after all.
    gap: Option<[(u32, u32); 2]>,
}

#[derive(Clone, Copy)]
enum Preset {
    Bool(bool),
    Text(&'static str),
    Json(fn() -> Value),
}

const NEVER: u32 = u32::MAX;
const SWITCH: &[&str] = &["enabled", "disabled"];
const CAPITAL_SWITCH: &[&str] = &["Enabled", "Disabled"];

const fn property(path: &'static [&'static str], preview: u32, stable: u32, preset: Preset) -> Property {
    Property {
        path,
        known: Known { preview, stable, gap: None },
        preset,
        kept_by_put: false,
        create_only: false,
        words: &[],
    }
}

impl Property {
    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    const fn kept_by_put(self) -> Self {
        Self { kept_by_put: true, ..self }
    }

    const fn create_only(self) -> Self {
        Self { kept_by_put: true, create_only: true, ..self }
    }

    const fn with_gap(self, preview: (u32, u32), stable: (u32, u32)) -> Self {
        Self { known: Known { gap: Some([preview, stable]), ..self.known }, ..self }
    }

    pub(crate) fn is_known(&self, version: ApiVersion) -> bool {
        self.known.covers(version)
    }

    pub(crate) fn preset(&self) -> Value {
        match self.preset {
            Preset::Bool(value) => value.into(),
            Preset::Text(text) => text.into(),
            Preset::Json(value) => value(),
        }
    }
}

impl Known {
    fn covers(self, version: ApiVersion) -> bool {
        let since = if version.is_preview() { self.preview } else { self.stable };
        let gap = self.gap.map(|[preview, stable]| if version.is_preview() { preview } else { stable });
        version.date() >= since && !gap.is_some_and(|(from, to)| (from..to).contains(&version.date()))
    }
}

/// The settable properties.
///
/// Source: Microsoft.ContainerRegistry API descriptions, 2017-10-01 to 2026-09-01-preview (read 2026-11).
pub(crate) const PROPERTIES: [Property; 23] = [
    property(&["adminUserEnabled"], 2017_03_01, 2017_03_01, Preset::Bool(false)),
    property(&["networkRuleSet", "defaultAction"], 2017_10_01, 2017_10_01, Preset::Text("Allow"))
        .words(&["Allow", "Deny"]),
    property(&["networkRuleSet", "ipRules"], 2017_10_01, 2017_10_01, Preset::Json(|| json!([]))),
    property(&["networkRuleSet", "virtualNetworkRules"], 2017_10_01, 2017_10_01, Preset::Json(|| json!([])))
        // Stable versions dropped it in 2021-09-01, previews after 2021-12-01-preview; the newest preview has it again.
        .with_gap((2021_12_02, 2026_01_01), (2021_09_01, NEVER)),
    property(&["policies", "quarantinePolicy"], 2019_05_01, 2019_05_01, Preset::Json(|| json!({"status": "disabled"}))),
    property(
        &["policies", "trustPolicy"],
        2019_05_01,
        2019_05_01,
        Preset::Json(|| json!({"type": "Notary", "status": "disabled"})),
    ),
    property(
        &["policies", "retentionPolicy"],
        2019_05_01,
        2019_05_01,
        Preset::Json(|| json!({"days": 7, "status": "disabled"})),
    ),
    property(&["policies", "exportPolicy"], 2021_06_01, 2022_12_01, Preset::Json(|| json!({"status": "enabled"}))),
    property(
        &["policies", "azureADAuthenticationAsArmPolicy"],
        2022_02_01,
        2025_04_01,
        Preset::Json(|| json!({"status": "enabled"})),
    ),
    property(
        &["policies", "softDeletePolicy"],
        2022_02_01,
        NEVER,
        Preset::Json(|| json!({"retentionDays": 7, "status": "disabled"})),
    ),
    property(&["encryption"], 2019_12_01, 2021_09_01, Preset::Json(|| json!({"status": "disabled"}))).create_only(),
    property(&["dataEndpointEnabled"], 2019_12_01, 2021_09_01, Preset::Bool(false)),
    property(&["publicNetworkAccess"], 2019_12_01, 2021_09_01, Preset::Text("Enabled")).words(CAPITAL_SWITCH),
    property(&["networkRuleBypassOptions"], 2019_12_01, 2021_09_01, Preset::Text("AzureServices"))
        .words(&["AzureServices", "None"]),
    // Unset is a state of its own: before the policy was enforced it did not mean `false`.
    property(&["networkRuleBypassAllowedForTasks"], 2025_05_01, 2025_11_01, Preset::Bool(false)).kept_by_put(),
    property(&["zoneRedundancy"], 2020_11_01, 2021_09_01, Preset::Text("Disabled")).words(CAPITAL_SWITCH).create_only(),
    property(&["anonymousPullEnabled"], 2020_11_01, 2025_04_01, Preset::Bool(false)),
    property(&["roleAssignmentMode"], 2025_03_01, 2025_11_01, Preset::Text("LegacyRegistryPermissions"))
        .words(&["LegacyRegistryPermissions", "AbacRepositoryPermissions"]),
    property(&["metadataSearch"], 2023_11_01, NEVER, Preset::Text("Disabled")).words(CAPITAL_SWITCH),
    property(&["autoGeneratedDomainNameLabelScope"], 2024_11_01, NEVER, Preset::Text("Unsecure"))
        .words(&["Unsecure", "TenantReuse", "SubscriptionReuse", "ResourceGroupReuse", "NoReuse"])
        .create_only(),
    property(&["regionalEndpoints"], 2026_01_01, NEVER, Preset::Text("Disabled")).words(CAPITAL_SWITCH),
    property(&["endpointProtocol"], 2026_01_01, NEVER, Preset::Text("IPv4")).words(&["IPv4", "IPv4AndIPv6"]),
    property(&["writableCacheRepos"], 2026_01_01, NEVER, Preset::Text("Disabled")).words(CAPITAL_SWITCH),
];

/// Objects whose members are properties of their own.
pub(crate) const GROUPS: [&str; 2] = ["networkRuleSet", "policies"];

/// Computed properties: ignored in bodies.
pub(crate) const READ_ONLY: [&[&str]; 9] = [
    &["loginServer"],
    &["creationDate"],
    &["provisioningState"],
    &["status"],
    &["privateEndpointConnections"],
    &["dataEndpointHostNames"],
    &["regionalEndpointHostNames"],
    &["policies", "retentionPolicy", "lastUpdatedTime"],
    &["policies", "softDeletePolicy", "lastUpdatedTime"],
];

const PRIVATE_LINK: Known = Known { preview: 2019_12_01, stable: 2021_09_01, gap: None };
const REGIONAL_ENDPOINTS: Known = Known { preview: 2026_01_01, stable: NEVER, gap: None };

/// Whether the version has private endpoint connections, data endpoints and identities.
pub(crate) fn knows_private_link(version: ApiVersion) -> bool {
    PRIVATE_LINK.covers(version)
}

/// Whether the version has regional endpoints, and names a subnet in a rule by `virtualNetworkSubnetResourceId`.
pub(crate) fn knows_regional_endpoints(version: ApiVersion) -> bool {
    REGIONAL_ENDPOINTS.covers(version)
}

/// The two spellings of the subnet in a virtual network rule.
pub(crate) const SUBNET_KEYS: [&str; 2] = ["virtualNetworkSubnetResourceId", "id"];

/// Spells keys and enumerated words as the schema does: clients write them in any case.
pub(crate) fn normalize(properties: &mut Document) {
    let firsts = || {
        PROPERTIES
            .iter()
            .filter_map(|property| property.path.first())
            .chain(READ_ONLY.iter().filter_map(|path| path.first()))
    };
    respell(properties, firsts().copied());
    for group in GROUPS {
        if let Some(inner) = properties.get_mut(group).and_then(Value::as_object_mut) {
            let members = PROPERTIES.iter().filter(|property| property.path.first() == Some(&group));
            respell(inner, members.filter_map(|property| property.path.get(1)).copied());
        }
    }
    for property in PROPERTIES.iter().filter(|property| !property.words.is_empty()) {
        respell_word(properties, property.path, property.words);
    }
    for policy in [
        "quarantinePolicy",
        "trustPolicy",
        "retentionPolicy",
        "exportPolicy",
        "azureADAuthenticationAsArmPolicy",
        "softDeletePolicy",
    ] {
        respell_word(properties, &["policies", policy, "status"], SWITCH);
    }
}

fn respell<'a>(object: &mut Document, names: impl Iterator<Item = &'a str>) {
    for name in names {
        if object.contains_key(name) {
            continue;
        }
        let other = object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        if let Some(value) = other.and_then(|key| object.remove(&key)) {
            object.insert(name.to_owned(), value);
        }
    }
}

fn respell_word(properties: &mut Document, path: &[&str], words: &[&str]) {
    let text = resource::value_at(properties, path).and_then(Value::as_str);
    let word = text.and_then(|text| words.iter().find(|word| word.eq_ignore_ascii_case(text)));
    if let Some(word) = word {
        resource::set_at(properties, path, (*word).into());
    }
}

/// The words a policy's `status` may be.
pub(crate) const POLICY_STATUS: &[&str] = SWITCH;

#[cfg(test)]
mod tests;

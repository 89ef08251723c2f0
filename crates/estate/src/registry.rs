use postern_access::{ContentPolicies, RoleAssignmentMode};
use postern_model::{IpRule, IpRuleMode, ResourceId};
use serde_json::Value;

use crate::resource::value_at;
use crate::schema::SUBNET_KEYS;
use crate::{Document, Problem, Resource, Sku};

/// What a decision needs of a registry's document. What cannot be read has the closed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryView {
    /// `sku.name`.
    pub sku: Sku,
    /// `publicNetworkAccess` is `Enabled`.
    pub public_access: bool,
    /// `networkRuleSet.defaultAction` is `Allow`.
    pub default_allow: bool,
    /// `networkRuleSet.ipRules`.
    pub ip_rules: Vec<IpRule>,
    /// `networkRuleSet.virtualNetworkRules`.
    pub subnets: Vec<ResourceId>,
    /// `networkRuleBypassOptions` is `AzureServices`.
    pub azure_services: bool,
    /// `networkRuleBypassAllowedForTasks`.
    pub tasks: Option<bool>,
    /// `adminUserEnabled`.
    pub admin_enabled: bool,
    /// `anonymousPullEnabled`.
    pub anonymous_pull: bool,
    /// `policies.azureADAuthenticationAsArmPolicy.status` is `enabled`.
    pub arm_tokens_accepted: bool,
    /// `dataEndpointEnabled`.
    pub data_endpoint: bool,
    /// `policies`, as far as they are about content. What is quarantined or deleted stays so when its policy cannot be read.
    pub policies: ContentPolicies,
    /// `roleAssignmentMode`; `None` when it cannot be read, then no assignment counts.
    pub mode: Option<RoleAssignmentMode>,
}

impl RegistryView {
    /// Reads the document. Absent properties have their documented defaults.
    pub fn read(registry: &Resource) -> (Self, Vec<Problem>) {
        let empty = Document::new();
        let document = registry.document();
        let mut reader = Reader {
            properties: match document.get("properties") {
                None | Some(Value::Null) => &empty,
                Some(Value::Object(properties)) => properties,
                Some(_) => return Self::unreadable(registry),
            },
            registry: &registry.id,
            problems: Vec::new(),
        };
        let sku = value_at(&document, &["sku", "name"]).and_then(Value::as_str).and_then(|name| name.parse().ok());
        if sku.is_none() {
            reader.report("sku.name", "is not one of Basic, Standard, Premium: limits of Basic apply");
        }
        let sku = sku.unwrap_or(Sku::Basic);
        let mut view = Self {
            sku,
            public_access: reader.word(
                "publicNetworkAccess",
                &["publicNetworkAccess"],
                &[("Enabled", true), ("Disabled", false)],
                true,
                false,
            ),
            default_allow: reader.word(
                "networkRuleSet.defaultAction",
                &["networkRuleSet", "defaultAction"],
                &[("Allow", true), ("Deny", false)],
                true,
                false,
            ),
            ip_rules: reader.ip_rules(),
            subnets: Vec::new(),
            azure_services: reader.word(
                "networkRuleBypassOptions",
                &["networkRuleBypassOptions"],
                &[("AzureServices", true), ("None", false)],
                true,
                false,
            ),
            tasks: reader.flag("networkRuleBypassAllowedForTasks", None),
            admin_enabled: reader.flag("adminUserEnabled", None).unwrap_or(false),
            anonymous_pull: reader.flag("anonymousPullEnabled", None).unwrap_or(false),
            arm_tokens_accepted: reader.word(
                "policies.azureADAuthenticationAsArmPolicy.status",
                &["policies", "azureADAuthenticationAsArmPolicy", "status"],
                &[("enabled", true), ("disabled", false)],
                true,
                false,
            ),
            data_endpoint: reader.flag("dataEndpointEnabled", None).unwrap_or(false),
            policies: reader.policies(),
            mode: reader.word(
                "roleAssignmentMode",
                &["roleAssignmentMode"],
                &[
                    ("LegacyRegistryPermissions", Some(RoleAssignmentMode::Legacy)),
                    ("AbacRepositoryPermissions", Some(RoleAssignmentMode::Abac)),
                ],
                Some(RoleAssignmentMode::Legacy),
                None,
            ),
        };
        match reader.subnets() {
            Some(subnets) => view.subnets = subnets,
            // A rule that is there but unreadable still voids the bypass.
            None => view.azure_services = false,
        }
        if value_at(reader.properties, &["networkRuleSet"]).is_some_and(|rules| !rules.is_object()) {
            reader.report("networkRuleSet", "is not an object: nothing is let in by it");
            view.default_allow = false;
        }
        view.limit_by_sku(&mut reader);
        (view, reader.problems)
    }

    fn limit_by_sku(&mut self, reader: &mut Reader<'_>) {
        if self.anonymous_pull && self.sku == Sku::Basic {
            reader.report("anonymousPullEnabled", "needs Standard or Premium: anonymous pull is off");
            self.anonymous_pull = false;
        }
        if self.data_endpoint && self.sku != Sku::Premium {
            reader.report("dataEndpointEnabled", "needs Premium: blobs are served by the login server");
            self.data_endpoint = false;
        }
        let restricted = !self.public_access || !self.default_allow || !self.subnets.is_empty();
        if restricted && self.sku != Sku::Premium {
            reader.report("networkRuleSet", "needs Premium: the registry stays closed and its exceptions do not count");
            self.ip_rules.clear();
            self.azure_services = false;
            self.default_allow = false;
        }
    }

    fn unreadable(registry: &Resource) -> (Self, Vec<Problem>) {
        let closed = Self {
            sku: Sku::Basic,
            public_access: false,
            default_allow: false,
            ip_rules: Vec::new(),
            subnets: Vec::new(),
            azure_services: false,
            tasks: Some(false),
            admin_enabled: false,
            anonymous_pull: false,
            arm_tokens_accepted: false,
            data_endpoint: false,
            // Nothing goes before somebody can read for how long it was to be kept.
            policies: ContentPolicies {
                quarantine: true,
                soft_delete: true,
                soft_delete_days: u16::MAX,
                ..ContentPolicies::default()
            },
            mode: None,
        };
        (closed, vec![Problem::new(&registry.id, "`properties` is not an object: the registry is closed")])
    }
}

struct Reader<'a> {
    properties: &'a Document,
    registry: &'a ResourceId,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn report(&mut self, property: &str, what: &str) {
        self.problems.push(Problem::new(self.registry, format!("`{property}` {what}")));
    }

    fn word<T: Copy>(&mut self, name: &str, path: &[&str], words: &[(&str, T)], absent: T, unreadable: T) -> T {
        let Some(value) = value_at(self.properties, path) else { return absent };
        let known = value.as_str().and_then(|text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)));
        if known.is_none() {
            self.report(name, "cannot be read: the closed value applies");
        }
        known.map_or(unreadable, |(_, value)| *value)
    }

    fn flag(&mut self, name: &str, absent: Option<bool>) -> Option<bool> {
        match value_at(self.properties, &[name]) {
            None => absent,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => {
                self.report(name, "is neither true nor false: false applies");
                Some(false)
            }
        }
    }

    fn policies(&mut self) -> ContentPolicies {
        const STATUS: [(&str, bool); 2] = [("enabled", true), ("disabled", false)];
        let default = ContentPolicies::default();
        ContentPolicies {
            quarantine: self.word(
                "policies.quarantinePolicy.status",
                &["policies", "quarantinePolicy", "status"],
                &STATUS,
                false,
                true,
            ),
            soft_delete: self.word(
                "policies.softDeletePolicy.status",
                &["policies", "softDeletePolicy", "status"],
                &STATUS,
                false,
                true,
            ),
            soft_delete_days: self.days(&["policies", "softDeletePolicy", "retentionDays"], default.soft_delete_days),
            retention: self.word(
                "policies.retentionPolicy.status",
                &["policies", "retentionPolicy", "status"],
                &STATUS,
                false,
                false,
            ),
            retention_days: self.days(&["policies", "retentionPolicy", "days"], default.retention_days),
        }
    }

    /// Days that cannot be read keep for longest.
    fn days(&mut self, path: &[&str], absent: u16) -> u16 {
        let Some(value) = value_at(self.properties, path) else { return absent };
        let days = value.as_u64().and_then(|days| u16::try_from(days).ok());
        if days.is_none() {
            self.report(&path.join("."), "is no number of days: nothing is purged by it");
        }
        days.unwrap_or(u16::MAX)
    }

    fn ip_rules(&mut self) -> Vec<IpRule> {
        let mut rules = Vec::new();
        for entry in self.entries("networkRuleSet.ipRules", &["networkRuleSet", "ipRules"]).unwrap_or_default() {
            let text = entry.get("value").and_then(Value::as_str).unwrap_or_default();
            // What is stored was accepted under the mode of that time.
            match IpRule::parse(text, IpRuleMode::Permissive) {
                Ok(rule) if allows(&entry) => rules.push(rule),
                Ok(rule) => self.report(
                    "networkRuleSet.ipRules",
                    &format!("`{rule}` has an action other than Allow: it lets nobody in"),
                ),
                Err(error) => self.report("networkRuleSet.ipRules", &format!("is left out: {error}")),
            }
        }
        rules
    }

    fn subnets(&mut self) -> Option<Vec<ResourceId>> {
        const NAME: &str = "networkRuleSet.virtualNetworkRules";
        let entries = self.entries(NAME, &["networkRuleSet", "virtualNetworkRules"])?;
        let mut subnets = Vec::with_capacity(entries.len());
        let mut readable = true;
        for entry in &entries {
            match subnet_of(entry) {
                Some(subnet) if allows(entry) => subnets.push(subnet),
                _ => {
                    self.report(NAME, "holds a rule that cannot be read: it lets nobody in and voids the bypass");
                    readable = false;
                }
            }
        }
        // Readable rules stay: they only ever let their own subnets in, and here they void the bypass too.
        (readable || !subnets.is_empty()).then_some(subnets)
    }

    fn entries(&mut self, name: &str, path: &[&str]) -> Option<Vec<Value>> {
        match value_at(self.properties, path) {
            None => Some(Vec::new()),
            Some(Value::Array(entries)) => Some(entries.clone()),
            Some(_) => {
                self.report(name, "is not a list: it lets nobody in");
                None
            }
        }
    }
}

fn allows(entry: &Value) -> bool {
    match entry.get("action") {
        None | Some(Value::Null) => true,
        Some(action) => action.as_str().is_some_and(|action| action.eq_ignore_ascii_case("Allow")),
    }
}

/// The subnet of a virtual network rule, in either spelling.
pub(crate) fn subnet_of(entry: &Value) -> Option<ResourceId> {
    let text = SUBNET_KEYS.iter().find_map(|key| entry.get(*key)).and_then(Value::as_str)?;
    text.parse::<ResourceId>().ok().filter(|id| id.is_type("Microsoft.Network/virtualNetworks/subnets"))
}

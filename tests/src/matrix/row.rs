use std::net::IpAddr;

use serde::Deserialize;

/// One request and the answer that it must get.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// What the row shows, in words.
    pub name: String,
    /// The document or decision that the answer comes from.
    pub source: String,
    /// The registry as its owner set it up.
    #[serde(default)]
    pub registry: Registry,
    /// `policyDate` of the server.
    #[serde(default = "current")]
    pub policy_date: String,
    /// The server's named switches.
    #[serde(default)]
    pub switches: Switches,
    /// Where the request comes from.
    #[serde(default)]
    pub from: From,
    /// As whom.
    #[serde(default, rename = "as")]
    pub caller: Caller,
    /// What it wants.
    #[serde(default)]
    pub operation: Operation,
    /// Attributes that are false on what it touches; without the table the content is not looked at.
    pub locks: Option<Locks>,
    /// The answer.
    pub expect: Expect,
    /// Set on rows that were made from one row with `may`: they are shown as one.
    #[serde(default)]
    pub group: Option<usize>,
}

fn current() -> String {
    "current".to_owned()
}

impl Row {
    /// Whether the request goes to a token endpoint, which looks at who asks only after the wall has let the request in.
    pub fn asks_for_token(&self) -> bool {
        matches!(self.operation.kind.as_str(), "exchangeToken" | "issueToken")
            // The only place where tokens of that audience are shown.
            || self.caller.invalid.as_deref() == Some("ArmAudienceRefused")
    }
}

/// A registry's properties, spelled as in its ARM document.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Registry {
    /// `publicNetworkAccess`.
    pub public_access: String,
    /// `networkRuleSet.defaultAction`.
    pub default_action: String,
    /// `networkRuleSet.ipRules`.
    pub ip_rules: Vec<String>,
    /// `networkRuleSet.virtualNetworkRules`: names of [`Place`]s that are subnets.
    pub subnets: Vec<Place>,
    /// State of the connection of the private endpoint; none when absent.
    pub private_endpoint: Option<String>,
    /// `networkRuleBypassOptions`.
    pub bypass: String,
    /// `networkRuleBypassAllowedForTasks`: `unset`, `true`, `false`.
    pub tasks_policy: String,
    /// `roleAssignmentMode`.
    pub role_mode: String,
    /// `adminUserEnabled`.
    pub admin: bool,
    /// `anonymousPullEnabled`.
    pub anonymous_pull: bool,
    /// The subscription has the vulnerability scanner's plan.
    pub scanner_plan: bool,
    /// `policies.quarantinePolicy` is on.
    pub quarantine: bool,
}

impl Default for Registry {
    /// Closed to the public, and otherwise as it is created.
    fn default() -> Self {
        Self {
            public_access: "Disabled".to_owned(),
            default_action: "Deny".to_owned(),
            ip_rules: Vec::new(),
            subnets: Vec::new(),
            private_endpoint: None,
            bypass: "AzureServices".to_owned(),
            tasks_policy: "unset".to_owned(),
            role_mode: "LegacyRegistryPermissions".to_owned(),
            admin: false,
            anonymous_pull: false,
            scanner_plan: false,
            quarantine: false,
        }
    }
}

/// The named switches; absent ones have their default.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Switches {
    /// `tasksPolicyRequiresAzureServices`.
    pub tasks_policy_requires_azure_services: Option<bool>,
    /// `quickRunBypass`.
    pub quick_run_bypass: Option<bool>,
    /// `tasksUserIdentityBypass`.
    pub tasks_user_identity_bypass: Option<bool>,
    /// `aciTrusted`.
    pub aci_trusted: Option<bool>,
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct From {
    /// The place of the connection.
    pub place: Place,
    /// The workload behind it, if it presents a certificate.
    pub workload: Option<Workload>,
}

/// A place that connections come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Anywhere on the public internet.
    #[default]
    Internet,
    /// The office, whose public range owners put into IP rules.
    Office,
    /// A public IPv6 address.
    Ipv6,
    /// The shared pool of task workers: public addresses of a service tag.
    SharedPool,
    /// The private endpoint that the row's registry may be connected to.
    PrivateEndpoint,
    /// A private endpoint of another registry.
    OtherPrivateEndpoint,
    /// The private endpoint's address, reached from a network that may not use it.
    Misrouted,
    /// A subnet with a service endpoint.
    Subnet,
    /// Another such subnet.
    OtherSubnet,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 9] = [
        Self::Internet,
        Self::Office,
        Self::Ipv6,
        Self::SharedPool,
        Self::PrivateEndpoint,
        Self::OtherPrivateEndpoint,
        Self::Misrouted,
        Self::Subnet,
        Self::OtherSubnet,
    ];

    /// The client's address as the gate sees it.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Internet => IpAddr::from([203, 0, 113, 9]),
            Self::Office => IpAddr::from([198, 51, 100, 7]),
            Self::Ipv6 => IpAddr::from([0x2001, 0x0db8, 0, 0, 0, 0, 0, 7]),
            Self::SharedPool => IpAddr::from([192, 0, 2, 40]),
            Self::PrivateEndpoint | Self::OtherPrivateEndpoint | Self::Misrouted => IpAddr::from([10, 0, 0, 4]),
            Self::Subnet => IpAddr::from([10, 1, 0, 4]),
            Self::OtherSubnet => IpAddr::from([10, 2, 0, 4]),
        }
    }

    /// The name in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::Office => "office",
            Self::Ipv6 => "internet, IPv6",
            Self::SharedPool => "shared task pool",
            Self::PrivateEndpoint => "private endpoint",
            Self::OtherPrivateEndpoint => "another registry's private endpoint",
            Self::Misrouted => "private endpoint, from a foreign network",
            Self::Subnet => "subnet with service endpoint",
            Self::OtherSubnet => "other subnet with service endpoint",
        }
    }
}

/// A workload that presents its certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: WorkloadKind,
    /// The managed identities it may use.
    #[serde(default)]
    pub identities: Vec<Identity>,
    /// Why its certificate does not count, if it does not.
    pub rejected: Option<Rejected>,
}

/// What a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// A container group.
    ContainerGroup,
    /// A run of a task.
    Task,
    /// A quick build or run, of no task.
    Run,
    /// A machine learning workspace.
    Workspace,
    /// The vulnerability scanner.
    Scanner,
    /// The import service.
    Importer,
    /// A web app.
    WebApp,
    /// A resource of a type that is in no table.
    Cluster,
}

/// An identity of the row's workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// Its system-assigned one.
    System,
    /// A user-assigned one.
    User,
}

/// Why a workload's certificate does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejected {
    /// Expired.
    Expired,
    /// Of another authority.
    UnknownIssuer,
    /// Names no workload.
    Malformed,
    /// The workload was deleted.
    ResourceGone,
}

/// As whom a request comes, and what that caller has been given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Caller {
    /// `none`, `anonymous`, `admin`, `token`, `system` or `user` (the workload's identities), `principal` (a service principal
    /// of its own), `scanner`; or `invalid`.
    pub kind: String,
    /// With `invalid`: why the credentials do not hold, as the decision names it.
    pub invalid: Option<String>,
    /// The role it has on the registry.
    pub role: Option<String>,
    /// The condition on that assignment, by its name in the file.
    pub condition: Option<String>,
    /// The role was assigned to a group of the caller's, not to itself.
    pub by_group: bool,
    /// Further assignments.
    pub also: Vec<Assignment>,
    /// What the presented access token claims: `team/app:pull,push` or `catalog`. Absent: direct credentials, or a token for
    /// everything.
    pub claim: Option<Vec<String>>,
    /// The access token was issued to a workload: `workload` (the row's) or `other`.
    pub bound: Option<String>,
    /// With `token`: the repository-scoped token.
    pub token: Token,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            kind: "none".to_owned(),
            invalid: None,
            role: None,
            condition: None,
            by_group: false,
            also: Vec::new(),
            claim: None,
            bound: None,
            token: Token::default(),
        }
    }
}

impl Caller {
    /// Every role assignment of the caller.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment> {
        let first = self.role.clone().map(|role| Assignment {
            role,
            condition: self.condition.clone(),
            by_group: self.by_group,
        });
        first.into_iter().chain(self.also.iter().cloned())
    }
}

/// A role assignment on the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Assignment {
    /// The built-in role's name.
    pub role: String,
    /// The condition's text (by name in the file, resolved when it is read).
    pub condition: Option<String>,
    /// To a group of the caller's, not to itself.
    #[serde(default)]
    pub by_group: bool,
}

/// A repository-scoped token of the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Token {
    /// `enabled`, `disabled`, or `absent`: it was deleted.
    pub status: String,
    /// The scope map's actions.
    pub scope_map: Vec<String>,
}

impl Default for Token {
    fn default() -> Self {
        Self { status: "enabled".to_owned(), scope_map: Vec::new() }
    }
}

/// What a request wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Operation {
    /// The operation's name: `pullManifest`.
    pub kind: String,
    /// The repository, for operations that concern one.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// A manifest is read by its digest, not by the tag.
    pub by_digest: bool,
}

impl Default for Operation {
    fn default() -> Self {
        Self {
            kind: "pullManifest".to_owned(),
            repository: "team/app".to_owned(),
            tag: Some("1.0".to_owned()),
            by_digest: false,
        }
    }
}

/// Attributes that are false, and the quarantine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locks {
    /// On the repository.
    pub repository: Vec<String>,
    /// On the tag.
    pub tag: Vec<String>,
    /// On the manifest.
    pub manifest: Vec<String>,
    /// Nobody has passed the manifest. It counts in a registry with the quarantine on.
    pub quarantined: bool,
}

/// The answer that a row must get.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Allow or deny.
    pub verdict: Verdict,
    /// The deciding layer; of an allow, compared when it is given.
    pub layer: Option<String>,
    /// The HTTP status of a denial, where the layer alone does not say.
    pub status: Option<u16>,
    /// The way in, as it prints.
    pub via: Option<String>,
    /// Why the caller has the right, as it prints.
    pub ground: Option<String>,
    /// Everything that stood in the way in the deciding layer, in order, by its typed name.
    #[serde(default)]
    pub blockers: Vec<String>,
    /// What later layers would object to, by typed name; compared when it is given.
    pub later: Option<Vec<String>>,
    /// The smallest fixes, as they print, joined by ` + `; compared when it is given.
    pub fixes: Option<Vec<String>>,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The operation happens.
    Allow,
    /// It does not.
    Deny,
}

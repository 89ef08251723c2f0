use crate::conditions::Condition;
use crate::rights::{Given, Words, given};

/// A registry as its owner set it up, every value as the documents write it.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Resource id.
    pub id: String,
    /// `publicNetworkAccess` is `Enabled`.
    pub public: bool,
    /// `defaultAction` is `Allow`.
    pub default_allow: bool,
    /// `ipRules`.
    pub ip_rules: Vec<String>,
    /// `virtualNetworkRules`: subnet ids.
    pub subnets: Vec<String>,
    /// Private endpoints connected, with the connection's status.
    pub connections: Vec<(String, &'static str)>,
    /// `networkRuleBypassOptions`.
    pub bypass: &'static str,
    /// `networkRuleBypassAllowedForTasks`.
    pub tasks: Option<bool>,
    /// `roleAssignmentMode` is `AbacRepositoryPermissions`.
    pub abac: bool,
    /// `adminUserEnabled`.
    pub admin: bool,
    /// `anonymousPullEnabled`.
    pub anonymous: bool,
    /// The scanner's plan is on for the subscription.
    pub scanner: bool,
    /// The quarantine policy is on.
    pub quarantine: bool,
    /// Role assignments anywhere.
    pub assignments: Vec<Assignment>,
    /// The registry's one repository-scoped token, `robot`.
    pub token: Option<ScopedToken>,
}

/// A role assignment.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The last segment of its id.
    pub name: String,
    /// To whom.
    pub principal: u8,
    /// Where.
    pub scope: String,
    /// Which role.
    pub role: Role,
    /// Its condition as text, and read.
    pub condition: Option<(String, Condition)>,
    /// What it gives on content, by mode: legacy, then ABAC.
    pub(crate) given: [Given; 2],
}

/// A role definition.
#[derive(Clone, Debug)]
pub struct Role {
    /// `roleName`.
    pub name: String,
    /// `actions`.
    pub actions: Vec<String>,
    /// `notActions`.
    pub not_actions: Vec<String>,
    /// `dataActions`.
    pub data_actions: Vec<String>,
    /// `notDataActions`.
    pub not_data_actions: Vec<String>,
}

impl Assignment {
    /// An assignment; a condition that cannot be read is a mistake of the test.
    pub fn new(name: &str, principal: u8, scope: &str, role: Role, condition: Option<&str>) -> Self {
        let read = |text: &str| (text.to_owned(), Condition::read(text).expect("a condition"));
        Self {
            name: name.to_owned(),
            principal,
            scope: scope.to_owned(),
            given: [given(&role, false), given(&role, true)],
            role,
            condition: condition.map(read),
        }
    }
}

/// A repository-scoped token.
#[derive(Clone, Debug)]
pub struct ScopedToken {
    /// `status` is `enabled`.
    pub enabled: bool,
    /// The scope map's `actions`.
    pub scope_map: Vec<String>,
}

/// What the server is told about decisions.
#[derive(Clone, Debug)]
pub struct Server {
    /// `policyDate`.
    pub date: String,
    /// `tasksPolicyRequiresAzureServices`.
    pub policy_requires_services: bool,
    /// `quickRunBypass`.
    pub quick_runs: bool,
    /// `tasksUserIdentityBypass`.
    pub user_identities: bool,
    /// `aciTrusted`.
    pub aci: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            date: "current".to_owned(),
            policy_requires_services: true,
            quick_runs: false,
            user_identities: false,
            aci: true,
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The way it took.
    pub way: Way,
    /// The address the gate sees.
    pub address: String,
    /// The workload behind the connection.
    pub workload: Workload,
}

/// The way a request took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The public endpoint.
    Public,
    /// This private endpoint, from a network that may use it.
    Endpoint(String),
    /// The public endpoint, from this subnet with a service endpoint.
    Subnet(String),
    /// A private endpoint's address, from a network that may not use it.
    Misrouted,
}

/// What the connection proved about a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Nothing was presented.
    None,
    /// A certificate that does not count.
    Rejected,
    /// A workload.
    Verified {
        /// Its resource's type.
        resource_type: String,
        /// Its resource.
        uid: u8,
        /// Its identities: principal, and whether system-assigned.
        identities: Vec<(u8, bool)>,
    },
}

/// The credentials of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose.
    pub who: Who,
    /// What the access token claims; absent for direct credentials.
    pub claim: Option<Claim>,
    /// The workload that the token was issued to.
    pub bound: Option<u8>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// No credentials.
    Nobody,
    /// Credentials that do not hold, by the decision's word for why.
    Invalid(String),
    /// Verified as nobody in particular.
    Anonymous,
    /// The admin user.
    Admin,
    /// A repository-scoped token.
    Token(String),
    /// A directory object.
    Principal {
        /// Its id.
        id: u8,
        /// Its groups.
        groups: Vec<u8>,
        /// Whether it is a service of the server itself.
        first_party: bool,
    },
}

/// An access token's claim.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// Words by repository.
    pub repositories: Vec<(String, Words)>,
    /// The catalog.
    pub catalog: bool,
    /// The catalog of what was deleted.
    pub deleted_catalog: bool,
}

/// What a request wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The operation: `pullManifest`.
    pub operation: &'static str,
    /// In this repository.
    pub repository: Option<String>,
    /// A manifest is named by its digest.
    pub by_digest: bool,
}

/// Attributes that are false, by what carries them.
#[derive(Clone, Debug, Default)]
pub struct LockedParts {
    /// On the repository.
    pub repository: Vec<String>,
    /// On the tag.
    pub tag: Vec<String>,
    /// On the manifest.
    pub manifest: Vec<String>,
    /// Nobody has passed it.
    pub quarantined: bool,
}

//! The heart of Postern: who may do what with a registry, and why.
//!
//! ```text
//!   origin ─┐
//!   rules ──┤
//!   credential ─┼──▶ evaluate ──▶ Decision { verdict: Allow(Permit) | Deny(Layer), trace }
//!   operation ──┤                               fixes ──▶ the smallest changes that lift a denial
//!   content ┘
//! ```
//!
//! One function decides for the server, the command line, audits and what-ifs. It is total and deterministic. Deliberately
//! absent: input and output, clocks, random numbers, cryptography (credentials arrive verified), serialisation, async.
//! **Invariant:** a [`Permit`] is made nowhere else, and nothing opens a repository without one.
//!
//! ```
//! use postern_access::{Credential, Inputs, Layer, Operation, OperationKind, evaluate};
//! # let (origin, rules) = postern_access::example();
//! // A registry with public access disabled, called from the internet without credentials:
//! let decision = evaluate(&Inputs {
//!     origin: &origin,
//!     rules: &rules,
//!     credential: &Credential::None,
//!     operation: &Operation::registry(OperationKind::Ping),
//!     content: None,
//! });
//! assert_eq!(decision.permit().unwrap_err(), Layer::Network); // 403 before any 401 challenge
//! ```
#![deny(missing_docs)]

mod actions;
mod condition;
mod content;
mod credential;
mod decision;
mod evaluate;
mod fixes;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod management;
mod operation;
mod origin;
mod roles;
mod rules;
mod scope_map;
mod services;
mod switches;

pub use actions::{Action, Actions};
pub use condition::{
    Condition, ConditionError, ConditionFault, ConditionProblem, ConditionRequest, Found, MAX_CONDITION_BYTES,
    MAX_CONDITION_DEPTH, MAX_CONDITION_VALUES,
};
pub use content::{Attributes, ContentCause, ContentPolicies, ContentState, LockAttribute, Locked, QuarantineView};
pub use credential::{
    Caller, Credential, Holder, InvalidCredential, Principal, PrincipalKind, TokenBinding, TokenClaim, Verified,
};
pub use decision::{
    AuthenticationStep, AuthorizationBlocker, AuthorizationStep, ContentStep, Decision, Ground, Layer, NetworkBlocker,
    NetworkStep, Permit, Trace, Verdict, Via,
};
pub use evaluate::{Inputs, claimable, evaluate, rights};
pub use fixes::{Change, Fix, fixes};
pub use management::{DenyAssignment, ManagementDecision, ManagementGrant, UnmetCondition, authorize_management};
pub use operation::{Operation, OperationKind};
pub use origin::{Ingress, Origin, Workload, WorkloadIdentity, WorkloadRejection, WorkloadState};
pub use roles::{
    Permissions, RoleDefinition, built_in_role, built_in_roles, data_plane_actions, names_metadata_read, operation_name,
};
pub use rules::{
    AddressRanges, ConnectionStatus, Grant, GrantTable, NetworkRules, PrivateEndpointConnection, RegistryRules,
    RepositoryTokenRule, RoleAssignmentMode,
};
pub use scope_map::{
    MAX_SCOPE_MAP_ACTIONS, MAX_SCOPE_MAP_REPOSITORIES, SYSTEM_SCOPE_MAPS, ScopeMapActions, ScopeMapError,
};
pub use services::{
    AGENT_POOLS, AGENTS, CONTAINER_GROUPS, IMPORTERS, IdentityRequirement, RUNS, SCANNERS, ServicePolicy, TASKS,
    TASKS_SERVICE, TrustedService, TrustedServices, WEB_SITES, WORKSPACES,
};
pub use switches::{PolicyDate, PolicyDateError, Settings, Switches, TasksPhase};

/// A closed registry and a caller on the internet, for the examples in the documentation.
#[doc(hidden)]
pub fn example() -> (Origin, RegistryRules) {
    use std::sync::Arc;
    let nobody = uuid::Uuid::nil();
    let origin = Origin {
        ingress: Ingress::Public,
        address: std::net::IpAddr::from([198, 51, 100, 7]),
        place: "internet".into(),
        simulated: false,
        workload: WorkloadState::None,
    };
    let rules = RegistryRules {
        uid: postern_model::RegistryUid(nobody),
        id: postern_model::ResourceId::root(),
        login_server: "example.azurecr.io.localhost".into(),
        generation: 1,
        network: NetworkRules {
            public_access: false,
            default_allow: false,
            addresses: Arc::default(),
            subnets: Arc::new([]),
            private_endpoints: Arc::new([]),
            azure_services: true,
            tasks: None,
        },
        mode: RoleAssignmentMode::Legacy,
        admin_enabled: false,
        anonymous_pull: false,
        arm_tokens_accepted: true,
        scanner_enabled: false,
        data_endpoint: None,
        policies: ContentPolicies::default(),
        grants: Arc::default(),
        tokens: Arc::default(),
        settings: Arc::default(),
    };
    (origin, rules)
}

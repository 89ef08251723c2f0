use std::sync::Arc;

use postern_model::PrincipalId;
use uuid::Uuid;

/// One row of the trusted services: who may pass the network rules, and with which identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedService {
    /// The name used in traces and settings: `containerInstances`.
    pub name: Arc<str>,
    /// The resource type whose workloads are this service.
    pub resource_type: Box<str>,
    /// Which identity counts.
    pub identity: IdentityRequirement,
    /// A rule of its own on top of the registry's bypass setting.
    pub policy: ServicePolicy,
    /// Whether the network rules are waived for it at all; a row that says no explains the refusal.
    pub trusted: bool,
}

/// Which identity of a workload opens the network gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityRequirement {
    /// None: the service acts as itself or for its caller.
    NotNeeded,
    /// The workload's system-assigned identity or any user-assigned identity it was given.
    SystemOrUser,
    /// The workload's own system-assigned identity only.
    SystemOnly,
}

/// A rule beside `networkRuleBypassOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServicePolicy {
    /// None.
    BypassOptions,
    /// `networkRuleBypassAllowedForTasks`, read by the policy date.
    Tasks,
}

/// The trusted services of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedServices(Vec<TrustedService>);

/// Resource type of a container group.
pub const CONTAINER_GROUPS: &str = "Microsoft.ContainerInstance/containerGroups";
/// Resource type of an ACR task.
pub const TASKS: &str = "Microsoft.ContainerRegistry/registries/tasks";
/// Resource type of a run that belongs to no task: a quick build or quick run.
pub const RUNS: &str = "Microsoft.ContainerRegistry/registries/runs";
/// Resource type of the first-party workers that carry runs out.
pub const AGENTS: &str = "Microsoft.ContainerRegistry/agents";
/// Resource type of an agent pool, whose workers carry its runs out.
pub const AGENT_POOLS: &str = "Microsoft.ContainerRegistry/registries/agentPools";
/// The principal that runs log in to their own registry with, unless they are given an identity.
pub const TASKS_SERVICE: PrincipalId = PrincipalId(Uuid::from_u128(0x0000_0000_0000_4000_9000_7a58_5e2e_0003));
/// Resource type of a machine learning workspace.
pub const WORKSPACES: &str = "Microsoft.MachineLearningServices/workspaces";
/// Resource type of the first-party vulnerability scanner.
pub const SCANNERS: &str = "Microsoft.Security/scanners";
/// Resource type of the first-party import service.
pub const IMPORTERS: &str = "Microsoft.ContainerRegistry/importers";
/// Resource type of a web app.
pub const WEB_SITES: &str = "Microsoft.Web/sites";

impl TrustedServices {
    /// The documented services.
    ///
    /// Source: "Allow trusted services to securely access a network-restricted container registry" and
    /// "Manage network bypass policy for tasks" (read 2026-11).
    pub fn documented(container_instances_trusted: bool) -> Self {
        use IdentityRequirement::{NotNeeded, SystemOnly, SystemOrUser};
        use ServicePolicy::{BypassOptions, Tasks};
        let row = |name: &str, resource_type: &str, identity, policy, trusted| TrustedService {
            name: name.into(),
            resource_type: resource_type.into(),
            identity,
            policy,
            trusted,
        };
        Self(vec![
            row("containerInstances", CONTAINER_GROUPS, SystemOrUser, BypassOptions, container_instances_trusted),
            row("defender", SCANNERS, NotNeeded, BypassOptions, true),
            row("machineLearning", WORKSPACES, SystemOnly, BypassOptions, true),
            row("acrImport", IMPORTERS, NotNeeded, BypassOptions, true),
            row("acrTasks", TASKS, SystemOnly, Tasks, true),
            row("acrTasks", RUNS, SystemOnly, Tasks, true),
            row("appService", WEB_SITES, SystemOrUser, BypassOptions, false),
        ])
    }

    /// The rows.
    pub fn rows(&self) -> &[TrustedService] {
        &self.0
    }

    /// The row for workloads of this resource type.
    pub fn find(&self, resource_type: &str) -> Option<&TrustedService> {
        self.0.iter().find(|row| row.resource_type.eq_ignore_ascii_case(resource_type))
    }
}

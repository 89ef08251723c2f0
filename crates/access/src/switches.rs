use postern_model::Timestamp;

use crate::TrustedServices;

/// Everything the server's configuration says about decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The named switches.
    pub switches: Switches,
    /// The day whose Tasks policy applies.
    pub policy_date: PolicyDate,
    /// The trusted services.
    pub services: TrustedServices,
}

impl Default for Settings {
    fn default() -> Self {
        let switches = Switches::default();
        Self {
            services: TrustedServices::documented(switches.container_instances_trusted),
            policy_date: PolicyDate::Current,
            switches,
        }
    }
}

/// Points where sources disagree, each with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// `tasksPolicyRequiresAzureServices`: the tasks policy opens nothing unless trusted services are on.
    pub tasks_policy_requires_azure_services: bool,
    /// `quickRunBypass`: runs without a task and identity may bypass as tasks do.
    pub quick_run_bypass: bool,
    /// `tasksUserIdentityBypass`: a task's user-assigned identity may bypass.
    pub tasks_user_identity_bypass: bool,
    /// `aciTrusted`: container instances are a trusted service.
    pub container_instances_trusted: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            tasks_policy_requires_azure_services: true,
            quick_run_bypass: false,
            tasks_user_identity_bypass: false,
            container_instances_trusted: true,
        }
    }
}

/// `policyDate`: which phase of the Tasks bypass policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyDate {
    /// `pre-2025-05-16`: tasks are trusted as any service is.
    Before,
    /// `grace`: the policy counts only where it says no.
    Grace,
    /// `current`: the policy must say yes.
    Current,
    /// A moment, which lies in one of the three.
    At(Timestamp),
}

/// A phase of the Tasks bypass policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TasksPhase {
    /// Before 2025-05-16.
    Before,
    /// 2025-05-16 to 2025-05-31.
    Grace,
    /// From 2025-06-01.
    Current,
}

/// 2025-05-16T00:00:00Z: `networkRuleBypassAllowedForTasks` appears.
const POLICY_INTRODUCED: Timestamp = Timestamp::from_unix_seconds(1_747_353_600);
/// 2025-06-01T00:00:00Z: unset means denied.
const POLICY_ENFORCED: Timestamp = Timestamp::from_unix_seconds(1_748_736_000);

impl PolicyDate {
    /// The phase that applies.
    pub fn phase(self) -> TasksPhase {
        match self {
            Self::Before => TasksPhase::Before,
            Self::Grace => TasksPhase::Grace,
            Self::At(moment) if moment < POLICY_INTRODUCED => TasksPhase::Before,
            Self::At(moment) if moment < POLICY_ENFORCED => TasksPhase::Grace,
            Self::Current | Self::At(_) => TasksPhase::Current,
        }
    }
}

impl std::str::FromStr for PolicyDate {
    type Err = PolicyDateError;

    fn from_str(text: &str) -> Result<Self, PolicyDateError> {
        match text {
            "pre-2025-05-16" => Ok(Self::Before),
            "grace" => Ok(Self::Grace),
            "current" => Ok(Self::Current),
            // A bare day means its beginning.
            day if day.len() == 10 => format!("{day}T00:00:00Z").parse().map(Self::At).map_err(|_| PolicyDateError),
            moment => moment.parse().map(Self::At).map_err(|_| PolicyDateError),
        }
    }
}

/// The text is not a policy date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("policy date must be `pre-2025-05-16`, `grace`, `current`, or a date such as `2025-05-20`")]
pub struct PolicyDateError;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, phase: Result<TasksPhase, PolicyDateError>) {
        assert_eq!(text.parse::<PolicyDate>().map(PolicyDate::phase), phase, "{text}");
    }

    #[test]
    fn policy_dates() {
        check("pre-2025-05-16", Ok(TasksPhase::Before));
        check("2025-05-15", Ok(TasksPhase::Before));
        check("2025-05-15T23:59:59Z", Ok(TasksPhase::Before));
        check("2025-05-16", Ok(TasksPhase::Grace));
        check("grace", Ok(TasksPhase::Grace));
        check("2025-05-31T23:59:59Z", Ok(TasksPhase::Grace));
        check("2025-06-01", Ok(TasksPhase::Current));
        check("current", Ok(TasksPhase::Current));
        check("soon", Err(PolicyDateError));
        check("2025-13-01", Err(PolicyDateError));
    }
}

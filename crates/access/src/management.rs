use std::sync::Arc;

use postern_model::ResourceId;
use uuid::Uuid;

use crate::{Condition, ConditionFault, ConditionRequest, Permissions};

/// A role assignment as the resource manager's authorization needs it. The caller of [`authorize_management`] passes those
/// whose principal is the asking one or a group it is in.
#[derive(Clone, Debug)]
pub struct ManagementGrant {
    /// The assignment's resource id.
    pub assignment: ResourceId,
    /// Where it holds: this id and everything below.
    pub scope: ResourceId,
    /// The role definition's id.
    pub role: Uuid,
    /// The role's name.
    pub role_name: Arc<str>,
    /// What the role gives.
    pub permissions: Arc<[Permissions]>,
    /// Its condition.
    pub condition: Option<Arc<Condition>>,
}

/// A deny assignment. The caller of [`authorize_management`] passes those whose `principals` hold the asking one, or a group it
/// is in, and whose `excludePrincipals` do not.
///
/// Source: Azure deny assignments, properties (read 2026-11).
#[derive(Clone, Debug)]
pub struct DenyAssignment {
    /// The deny assignment's resource id.
    pub id: ResourceId,
    /// `denyAssignmentName`.
    pub name: Arc<str>,
    /// Where it holds.
    pub scope: ResourceId,
    /// Whether it holds below its scope too: the opposite of `doNotApplyToChildScopes`.
    pub reaches_below: bool,
    /// What it takes away.
    pub permissions: Arc<[Permissions]>,
    /// Its condition.
    pub condition: Option<Arc<Condition>>,
}

/// What the role and deny assignments say about one management operation.
#[derive(Clone, Debug)]
pub struct ManagementDecision<'a> {
    /// The assignment that gives the action; of several, the one with the least id.
    pub allowed_by: Option<&'a ManagementGrant>,
    /// The deny assignment that takes it away; of several, the one with the least id.
    pub denied_by: Option<&'a DenyAssignment>,
    /// Assignments whose role gives the action here and whose condition does not, by id.
    pub unmet: Vec<UnmetCondition<'a>>,
}

/// An assignment that would have given the action but for its condition.
#[derive(Clone, Debug)]
pub struct UnmetCondition<'a> {
    /// The assignment.
    pub grant: &'a ManagementGrant,
    /// Why the condition has no answer; `None` when its answer is no.
    pub fault: Option<ConditionFault>,
}

impl ManagementDecision<'_> {
    /// Whether the operation may go on: given by an assignment, and taken away by none.
    pub fn is_allowed(&self) -> bool {
        self.allowed_by.is_some() && self.denied_by.is_none()
    }
}

/// Decides whether a caller may do the action (`Microsoft.ContainerRegistry/registries/write`) on the scope. The order of
/// assignments never matters; a condition without an answer gives nothing, and on a deny assignment takes away.
///
/// Source: Azure role-based access control overview, "How Azure RBAC determines if a user has access" (read 2026-11).
pub fn authorize_management<'a>(
    grants: impl IntoIterator<Item = &'a ManagementGrant>,
    denials: impl IntoIterator<Item = &'a DenyAssignment>,
    action: &str,
    scope: &ResourceId,
) -> ManagementDecision<'a> {
    let request = ConditionRequest { action, repository: None };
    let mut allowed_by: Option<&ManagementGrant> = None;
    let mut unmet = Vec::new();
    for grant in grants {
        if !scope.is_within(&grant.scope) || !allows(&grant.permissions, action) {
            continue;
        }
        match holds(grant.condition.as_deref(), &request) {
            Ok(true) => allowed_by = Some(allowed_by.map_or(grant, |known| least(known, grant, |g| &g.assignment))),
            Ok(false) => unmet.push(UnmetCondition { grant, fault: None }),
            Err(fault) => unmet.push(UnmetCondition { grant, fault: Some(fault) }),
        }
    }
    unmet.sort_by(|a, b| a.grant.assignment.cmp(&b.grant.assignment));
    let denied_by = denials
        .into_iter()
        .filter(|denial| denial.reaches(scope) && allows(&denial.permissions, action))
        .filter(|denial| holds(denial.condition.as_deref(), &request).unwrap_or(true))
        .min_by(|a, b| a.id.cmp(&b.id));
    ManagementDecision { allowed_by, denied_by, unmet }
}

impl DenyAssignment {
    fn reaches(&self, scope: &ResourceId) -> bool {
        *scope == self.scope || (self.reaches_below && scope.is_within(&self.scope))
    }
}

fn allows(permissions: &[Permissions], action: &str) -> bool {
    permissions.iter().any(|entry| entry.allows_action(action))
}

fn holds(condition: Option<&Condition>, request: &ConditionRequest<'_>) -> Result<bool, ConditionFault> {
    condition.map_or(Ok(true), |condition| condition.evaluate(request))
}

fn least<'a, T>(one: &'a T, other: &'a T, id: fn(&T) -> &ResourceId) -> &'a T {
    if id(other) < id(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::built_in_roles;

    const GROUP: &str = "/subscriptions/s/resourceGroups/g";
    const REGISTRY: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/reg";
    const WRITE: &str = "Microsoft.ContainerRegistry/registries/write";
    const READ: &str = "Microsoft.ContainerRegistry/registries/read";

    fn grant(id: &str, role: &str, scope: &str, condition: Option<&str>) -> ManagementGrant {
        let role = built_in_roles().iter().find(|known| &*known.name == role).unwrap();
        ManagementGrant {
            assignment: format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{id}").parse().unwrap(),
            scope: scope.parse().unwrap(),
            role: role.id,
            role_name: (&*role.name).into(),
            permissions: role.permissions.clone().into(),
            condition: condition.map(|text| Arc::new(text.parse().unwrap())),
        }
    }

    fn denial(actions: &[&str], not_actions: &[&str], scope: &str, reaches_below: bool) -> DenyAssignment {
        let list = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        DenyAssignment {
            id: format!("{scope}/providers/Microsoft.Authorization/denyAssignments/d").parse().unwrap(),
            name: "d".into(),
            scope: scope.parse().unwrap(),
            reaches_below,
            permissions: Arc::new([Permissions {
                actions: list(actions),
                not_actions: list(not_actions),
                ..Permissions::default()
            }]),
            condition: None,
        }
    }

    /// The outcome for the action on the registry, whatever the order of the assignments.
    #[track_caller]
    fn check(grants: &[ManagementGrant], denials: &[DenyAssignment], action: &str, expected: bool) {
        let scope = REGISTRY.to_uppercase().parse().unwrap();
        let decision = authorize_management(grants, denials, action, &scope);
        let reversed = authorize_management(grants.iter().rev(), denials.iter().rev(), action, &scope);
        assert_eq!(decision.is_allowed(), expected, "{action}: {decision:?}");
        assert_eq!(format!("{decision:?}"), format!("{reversed:?}"));
    }

    #[test]
    fn roles_by_scope() {
        check(&[], &[], READ, false);
        for (role, scope, action, expected) in [
            ("Reader", REGISTRY, READ, true),
            ("Reader", REGISTRY, WRITE, false),
            ("Reader", "/", READ, true),
            ("Contributor", GROUP, WRITE, true),
            ("Contributor", "/SUBSCRIPTIONS/S", WRITE, true),
            ("Contributor", "/subscriptions/s2", WRITE, false),
            ("Contributor", "/subscriptions/s/resourceGroups/g2", WRITE, false),
            ("Contributor", GROUP, "Microsoft.Authorization/roleAssignments/write", false),
            ("Owner", GROUP, "Microsoft.Authorization/roleAssignments/write", true),
            ("User Access Administrator", GROUP, "microsoft.authorization/roleassignments/write", true),
            ("AcrPush", REGISTRY, READ, false),
        ] {
            check(&[grant("a", role, scope, None)], &[], action, expected);
        }
        let below = format!("{REGISTRY}/tokens/t");
        check(&[grant("a", "Owner", &below, None)], &[], READ, false);
        // What one role subtracts another may give.
        let both = [grant("a", "Contributor", GROUP, None), grant("b", "User Access Administrator", REGISTRY, None)];
        check(&both, &[], "Microsoft.Authorization/roleAssignments/write", true);
    }

    #[test]
    fn denials_win() {
        let owner = [grant("a", "Owner", "/", None)];
        for (denial, action, expected) in [
            (denial(&["*"], &[], GROUP, true), WRITE, false),
            (denial(&["*"], &["*/read"], GROUP, true), WRITE, false),
            (denial(&["*"], &["*/read"], GROUP, true), READ, true),
            (denial(&["*"], &[], GROUP, false), WRITE, true),
            (denial(&["*"], &[], REGISTRY, false), WRITE, false),
            (denial(&["*/delete"], &[], REGISTRY, true), WRITE, true),
            (denial(&["*"], &[], "/subscriptions/s2", true), WRITE, true),
        ] {
            check(&owner, &[denial], action, expected);
        }
    }

    #[test]
    fn conditions() {
        const NOT_WRITE: &str = "!(ActionMatches{'*/write'})";
        const UNKNOWN: &str = "@Request[Microsoft.Authorization/roleAssignments:PrincipalType] StringEquals 'User'";
        let conditional = |condition| [grant("a", "Owner", GROUP, Some(condition))];
        check(&conditional(NOT_WRITE), &[], READ, true);
        check(&conditional(NOT_WRITE), &[], WRITE, false);
        check(&conditional(UNKNOWN), &[], READ, false);
        let mut denies = denial(&["*"], &[], GROUP, true);
        denies.condition = Some(Arc::new(UNKNOWN.parse().unwrap()));
        check(&[grant("a", "Owner", GROUP, None)], &[denies], READ, false);

        let grants = [
            grant("d", "Reader", GROUP, Some(UNKNOWN)),
            grant("c", "Reader", GROUP, None),
            grant("b", "Owner", GROUP, None),
            grant("a", "Owner", GROUP, Some("!(ActionMatches{'*'})")),
        ];
        check(&grants, &[], READ, true);
        let decision = authorize_management(&grants, [], READ, &REGISTRY.parse().unwrap());
        assert_eq!(decision.allowed_by.map(|grant| grant.assignment.name()), Some("b"));
        let unmet: Vec<_> =
            decision.unmet.iter().map(|unmet| (unmet.grant.assignment.name(), unmet.fault.is_some())).collect();
        assert_eq!(unmet, [("a", false), ("d", true)]);
    }
}

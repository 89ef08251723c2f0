use std::cmp::Ordering;
use std::sync::Arc;

use postern_access::{Condition, DenyAssignment, ManagementGrant};
use postern_model::{PrincipalId, ResourceId};
use serde_json::Value;
use uuid::Uuid;

use crate::roles::permissions_of;
use crate::{Problem, Resource};

/// A role assignment, read once when it comes into the estate.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Its resource id.
    pub id: ResourceId,
    /// Where it holds.
    pub scope: ResourceId,
    /// Who gets the role.
    pub principal: PrincipalId,
    /// The role definition's id: the last segment of `roleDefinitionId`.
    pub role: Uuid,
    /// Its condition.
    pub condition: Option<Arc<Condition>>,
}

/// Two readings of one resource are the same assignment.
impl PartialEq for Assignment {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Assignment {}

impl PartialOrd for Assignment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Assignment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

const MARK: &str = "/providers/microsoft.authorization/";

/// The scope of an extension resource: what comes before the last `/providers/Microsoft.Authorization/`.
pub fn scope_of(id: &ResourceId) -> Option<ResourceId> {
    let at = id.key().rfind(MARK)?;
    let scope = id.as_str().get(..at)?;
    if scope.is_empty() { Some(ResourceId::root()) } else { scope.parse().ok() }
}

impl Assignment {
    /// Reads the document; an assignment that cannot be read gives nothing.
    pub fn read(resource: &Resource) -> Result<Self, Problem> {
        let problem = |what: &str| Problem::new(&resource.id, format!("{what}: the assignment gives nothing"));
        let scope = scope_of(&resource.id).ok_or_else(|| problem("its id names no scope"))?;
        if let Some(stated) = resource.property(&["scope"]) {
            let same =
                stated.as_str().and_then(|text| text.parse::<ResourceId>().ok()).is_some_and(|stated| stated == scope);
            if !same {
                return Err(problem("`scope` is not the scope of its id"));
            }
        }
        let principal = resource.text(&["principalId"]).and_then(|text| text.parse().ok());
        let role = resource.text(&["roleDefinitionId"]).as_deref().and_then(role_id);
        let condition = match resource.property(&["condition"]) {
            None => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => match text.parse::<Condition>() {
                Ok(condition) => Some(Arc::new(condition)),
                Err(error) => return Err(problem(&format!("`condition` cannot be read ({error})"))),
            },
            Some(_) => return Err(problem("`condition` is not a text")),
        };
        let version = resource.property(&["conditionVersion"]);
        if condition.is_some() && version.is_some_and(|version| version != CONDITION_VERSION) {
            return Err(problem("`conditionVersion` is not 2.0"));
        }
        Ok(Self {
            id: resource.id.clone(),
            scope,
            principal: principal.ok_or_else(|| problem("`principalId` is not a UUID"))?,
            role: role.ok_or_else(|| problem("`roleDefinitionId` does not end in a UUID"))?,
            condition,
        })
    }
}

/// The only version of conditions there is.
pub(crate) const CONDITION_VERSION: &str = "2.0";

/// The UUID that a role definition's id ends in.
pub fn role_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text.rsplit('/').next()?).ok()
}

/// A deny assignment with whom it concerns.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    pub(crate) assignment: DenyAssignment,
    principals: Vec<PrincipalId>,
    excluded: Vec<PrincipalId>,
}

/// `principals` names everybody by this id.
const EVERYBODY: PrincipalId = PrincipalId(Uuid::nil());

impl Denial {
    /// Reads the document. What cannot be read takes everything away from everybody at its scope.
    pub(crate) fn read(resource: &Resource) -> (Option<Self>, Option<Problem>) {
        let Some(scope) = scope_of(&resource.id) else {
            return (None, Some(Problem::new(&resource.id, "its id names no scope: it takes nothing away")));
        };
        let ids = |name: &str| -> Option<Vec<PrincipalId>> {
            let Some(list) = resource.property(&[name]) else { return Some(Vec::new()) };
            list.as_array()?.iter().map(|entry| entry.get("id")?.as_str()?.parse().ok()).collect()
        };
        let condition = match resource.property(&["condition"]) {
            None => Some(None),
            Some(text) => {
                text.as_str().and_then(|text| text.parse::<Condition>().ok()).map(|condition| Some(Arc::new(condition)))
            }
        };
        let parts = (ids("principals"), ids("excludePrincipals"), permissions_of(resource), condition);
        let (principals, excluded, permissions, condition, problem) =
            if let (Some(principals), Some(excluded), Some(permissions), Some(condition)) = parts {
                (principals, excluded, permissions, condition, None)
            } else {
                let everything = postern_access::Permissions {
                    actions: vec!["*".into()],
                    data_actions: vec!["*".into()],
                    ..Default::default()
                };
                let problem = Problem::new(&resource.id, "cannot be read: it takes everything away from everybody");
                (vec![EVERYBODY], Vec::new(), Arc::from([everything]), None, Some(problem))
            };
        let reaches_below = resource.property(&["doNotApplyToChildScopes"]).is_none_or(|value| value != true);
        let name = resource.text(&["denyAssignmentName"]).map_or_else(|| resource.id.name().into(), Into::into);
        let assignment = DenyAssignment { id: resource.id.clone(), name, scope, reaches_below, permissions, condition };
        (Some(Self { assignment, principals, excluded }), problem)
    }

    /// Whether it concerns a caller who is all of these: itself and its groups.
    pub(crate) fn concerns(&self, principals: &[PrincipalId]) -> bool {
        let names = |list: &[PrincipalId]| list.iter().any(|id| principals.contains(id));
        (names(&self.principals) || self.principals.contains(&EVERYBODY)) && !names(&self.excluded)
    }
}

impl Assignment {
    pub(crate) fn management_grant(&self, role: &crate::roles::Role) -> ManagementGrant {
        ManagementGrant {
            assignment: self.id.clone(),
            scope: self.scope.clone(),
            role: self.role,
            role_name: Arc::clone(&role.name),
            permissions: Arc::clone(&role.permissions),
            condition: self.condition.clone(),
        }
    }
}

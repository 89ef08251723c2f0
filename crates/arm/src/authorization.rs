//! The list of role assignments.

use postern_estate::{Resource, scope_of, types};
use postern_model::{PrincipalId, ResourceId};

use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::filter::{self, Term};
use crate::lists::{principal_in, shown, unknown_filter};
use crate::reply::Reply;

/// `GET {scope}/providers/Microsoft.Authorization/roleAssignments`: those made above, at, and without `atScope()` also below the scope.
///
/// Source: Azure role assignments, "List role assignments by scope", filters (read 2026-11).
pub(crate) fn assignments(call: &Call, scope: &ResourceId) -> Result<Reply, ArmError> {
    call.authorize(&format!("{}/read", types::ROLE_ASSIGNMENTS), scope)?;
    let (mut below, mut principals) = (true, None::<Vec<PrincipalId>>);
    for term in filter::parse(call.query.get("$filter"))? {
        match term {
            Term::Call(name, _) if name == "atscope" => below = false,
            Term::Call(name, value) if name == "assignedto" => principals = Some(with_groups(call, parse_id(&value)?)),
            Term::Equals(name, value) if name == "principalid" => principals = Some(vec![parse_id(&value)?]),
            Term::Equals(name, _) | Term::Call(name, _) | Term::StartsWith(name, _) | Term::Any(name, _) => {
                return Err(unknown_filter(&name));
            }
        }
    }
    let wanted = |resource: &Resource| {
        let Some(own) = scope_of(&resource.id) else { return false };
        let in_scope = scope.is_within(&own) || (below && own.is_within(scope));
        let is_theirs =
            principals.as_ref().is_none_or(|ids| principal_in(resource).is_some_and(|id| ids.contains(&id)));
        in_scope && is_theirs
    };
    let everywhere = ResourceId::root();
    Ok(call.state.directory.with_estate(|estate| {
        let found = estate.list(&everywhere, types::ROLE_ASSIGNMENTS).filter(|resource| wanted(resource));
        Reply::list(found.map(|resource| shown(estate, resource, call)).collect())
    }))
}

fn with_groups(call: &Call, id: PrincipalId) -> Vec<PrincipalId> {
    call.state.directory.principal(id).map_or_else(|| vec![id], |principal| principal.all_ids())
}

fn parse_id(text: &str) -> Result<PrincipalId, ArmError> {
    text.parse().map_err(|_| ArmError::new(Condition::InvalidFilter, "The principal in the $filter must be a GUID."))
}

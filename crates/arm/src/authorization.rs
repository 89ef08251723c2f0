//! The list of role assignments.

use postern_estate::{Estate, scope_of, types};
use postern_model::{PrincipalId, ResourceId};

use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::filter::{self, Term};
use crate::lists::{Paging, page, principal_in, shown, unknown_filter};
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
            other => return Err(unknown_filter(other.name())),
        }
    }
    call.state.directory.with_estate(|estate| {
        let mut found = match &principals {
            Some(principals) => theirs(estate, principals, scope, below),
            None => everybodys(estate, scope, below, &Paging::of(call)?),
        };
        found.sort_unstable();
        found.dedup();
        page(call, estate, &found, |resource| shown(estate, resource, call))
    })
}

/// Those that concern the scope, found by its place, as many as a page takes: there may be very many, here and elsewhere.
fn everybodys<'a>(estate: &'a Estate, scope: &ResourceId, below: bool, paging: &Paging) -> Vec<&'a ResourceId> {
    let above = std::iter::successors(Some(scope.clone()), ResourceId::parent).map(|above| made_at(&above));
    let places = below.then(|| scope.clone()).into_iter().chain(above);
    places.flat_map(|place| paging.cut(estate.ids_after(&place, types::ROLE_ASSIGNMENTS, paging.after()))).collect()
}

/// Where the assignments at a scope are.
fn made_at(scope: &ResourceId) -> ResourceId {
    scope.child("providers", types::ROLE_ASSIGNMENTS)
}

/// Those of the principals that concern the scope; also the few that name them but are not understood.
fn theirs<'a>(estate: &'a Estate, principals: &[PrincipalId], scope: &ResourceId, below: bool) -> Vec<&'a ResourceId> {
    let in_scope =
        |id: &ResourceId| scope_of(id).is_some_and(|own| scope.is_within(&own) || (below && own.is_within(scope)));
    let understood = principals.iter().flat_map(|principal| estate.assignments_of(*principal)).map(|one| &one.id);
    let others = estate.not_understood().filter(|resource| resource.id.is_type(types::ROLE_ASSIGNMENTS));
    let others = others.filter(|resource| principal_in(resource).is_some_and(|id| principals.contains(&id)));
    understood.chain(others.map(|resource| &resource.id)).filter(|id| in_scope(id)).collect()
}

fn with_groups(call: &Call, id: PrincipalId) -> Vec<PrincipalId> {
    call.state.directory.principal(id).map_or_else(|| vec![id], |principal| principal.all_ids())
}

fn parse_id(text: &str) -> Result<PrincipalId, ArmError> {
    text.parse().map_err(|_| ArmError::new(Condition::InvalidFilter, "The principal in the $filter must be a GUID."))
}

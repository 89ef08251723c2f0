use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use postern_access::{
    Action, Actions, AddressRanges, ConnectionStatus, Grant, GrantTable, NetworkRules, PrivateEndpointConnection,
    RegistryRules, RepositoryTokenRule, RoleAssignmentMode, SYSTEM_SCOPE_MAPS, ScopeMapActions, Settings,
    TASKS_SERVICE, data_plane_actions, names_metadata_read,
};
use postern_model::{PrincipalId, ResourceId};
use serde_json::Value;
use uuid::Uuid;

use crate::assignment::Denial;
use crate::estate::scopes_of;
use crate::types::{PRIVATE_ENDPOINT_CONNECTIONS, REGISTRIES, TOKENS};
use crate::{Assignment, Estate, EstateError, RegistryView, Resource};

/// Something in a document that could not be taken at its word, and what it means instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The document.
    pub resource: ResourceId,
    /// What is wrong and what follows.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(resource: &ResourceId, message: impl Into<String>) -> Self {
        Self { resource: resource.clone(), message: message.into() }
    }
}

/// A registry's rules, and what was wrong with the documents they come from.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The rules; closed wherever a problem was found.
    pub rules: RegistryRules,
    /// What was found.
    pub problems: Vec<Problem>,
}

impl Estate {
    /// Compiles the rules of a registry.
    pub fn rules(&self, registry: &ResourceId, settings: &Arc<Settings>) -> Result<Compiled, EstateError> {
        let registry = self
            .get(registry)
            .filter(|resource| resource.id.is_type(REGISTRIES))
            .ok_or_else(|| EstateError::RegistryNotFound(registry.clone()))?;
        let (view, mut problems) = RegistryView::read(registry);
        let scopes = scopes_of(&registry.id);
        problems.extend(self.problems_within(&scopes).cloned());
        let network = NetworkRules {
            public_access: view.public_access,
            default_allow: view.default_allow,
            addresses: Arc::new(AddressRanges::new(view.ip_rules.iter().map(postern_model::IpRule::range))),
            private_endpoints: self.connections(&registry.id, &mut problems),
            subnets: view.subnets.into(),
            azure_services: view.azure_services,
            tasks: view.tasks,
        };
        let grants = view.mode.map(|mode| self.grants(&scopes, mode, &mut problems)).unwrap_or_default();
        let login_server = self.login_server(&registry.id);
        let rules = RegistryRules {
            uid: registry.uid.into(),
            id: registry.id.clone(),
            login_server: login_server.split(':').next().unwrap_or_default().into(),
            generation: self.generation(),
            network,
            mode: view.mode.unwrap_or(RoleAssignmentMode::Abac),
            admin_enabled: view.admin_enabled,
            anonymous_pull: view.anonymous_pull,
            arm_tokens_accepted: view.arm_tokens_accepted,
            data_endpoint: self
                .data_endpoint(registry)
                .filter(|_| view.data_endpoint)
                .map(|host| host.split(':').next().unwrap_or_default().into()),
            policies: view.policies,
            scanner_enabled: registry.id.subscription().is_some_and(|subscription| self.scanner_enabled(subscription)),
            grants: Arc::new(grants),
            tokens: Arc::new(self.tokens(&registry.id, &mut problems)),
            settings: Arc::clone(settings),
        };
        Ok(Compiled { rules, problems })
    }

    fn connections(&self, registry: &ResourceId, problems: &mut Vec<Problem>) -> Arc<[PrivateEndpointConnection]> {
        let connections = self.children_of_type(registry, PRIVATE_ENDPOINT_CONNECTIONS);
        connections
            .filter_map(|connection| {
                let endpoint = connection.text(&["privateEndpoint", "id"]).and_then(|id| id.parse().ok());
                let status = connection.text(&["privateLinkServiceConnectionState", "status"]);
                let status = status.as_deref().and_then(status_named);
                if endpoint.is_none() || status.is_none() {
                    problems
                        .push(Problem::new(&connection.id, "has no readable endpoint and status: it lets nobody in"));
                }
                let status = status.unwrap_or(ConnectionStatus::Rejected);
                Some(PrivateEndpointConnection { id: connection.id.clone(), endpoint: endpoint?, status })
            })
            .collect()
    }

    fn grants(&self, scopes: &[ResourceId], mode: RoleAssignmentMode, problems: &mut Vec<Problem>) -> GrantTable {
        let other = match mode {
            RoleAssignmentMode::Legacy => RoleAssignmentMode::Abac,
            RoleAssignmentMode::Abac => RoleAssignmentMode::Legacy,
        };
        let mut actions_of: HashMap<Uuid, Option<Given>> = HashMap::new();
        let assignments = scopes.iter().flat_map(|scope| self.assignments_at(scope));
        let mut grants: Vec<(PrincipalId, Grant)> = Vec::new();
        for assignment in assignments {
            let role = actions_of.entry(assignment.role).or_insert_with(|| {
                let role = self.role(assignment.role)?;
                let given = |mode| data_plane_actions(&role.permissions, mode);
                let names_metadata_read = names_metadata_read(&role.permissions);
                Some(Given {
                    role: Arc::clone(&role.name),
                    here: given(mode),
                    other: given(other),
                    names_metadata_read,
                })
            });
            let Some(given) = role else {
                problems.push(Problem::new(&assignment.id, "its role is not known: the assignment gives nothing"));
                continue;
            };
            grants.push((assignment.principal, grant(assignment, given)));
        }
        grants.push((TASKS_SERVICE, tasks_grant(mode)));
        self.apply_denials(scopes, mode, &mut grants, problems);
        GrantTable::new(grants)
    }

    /// A deny assignment is about callers, grants are about principals, groups among them. A group that the denied caller is in
    /// loses the action as a whole: too much is denied rather than too little.
    fn apply_denials(
        &self,
        scopes: &[ResourceId],
        mode: RoleAssignmentMode,
        grants: &mut [(PrincipalId, Grant)],
        problems: &mut Vec<Problem>,
    ) {
        let reaches = |denial: &&Denial| {
            let assignment = &denial.assignment;
            scopes.first() == Some(&assignment.scope)
                || (assignment.reaches_below && scopes.contains(&assignment.scope))
        };
        for denial in self.denials().filter(reaches) {
            let denied = data_plane_actions(&denial.assignment.permissions, mode);
            if denied.is_empty() {
                continue;
            }
            let principals: BTreeSet<PrincipalId> = grants.iter().map(|(principal, _)| *principal).collect();
            for principal in principals {
                let own = self.principal(principal).map_or_else(|| vec![principal], |principal| principal.all_ids());
                let through_member = || self.members_among(principal, |member| denial.concerns(&[member]));
                if !denial.concerns(&own) && !through_member() {
                    continue;
                }
                for (_, grant) in grants.iter_mut().filter(|(owner, _)| *owner == principal) {
                    grant.actions = grant.actions.without(denied);
                }
                problems.push(Problem::new(
                    &denial.assignment.id,
                    format!("takes `{denied}` away from principal {principal}"),
                ));
            }
        }
    }

    fn tokens(&self, registry: &ResourceId, problems: &mut Vec<Problem>) -> HashMap<Box<str>, RepositoryTokenRule> {
        let tokens = self.children_of_type(registry, TOKENS);
        tokens
            .map(|token| {
                let enabled = match token.property(&["status"]) {
                    None => true,
                    Some(status) => status.as_str().is_some_and(|status| status.eq_ignore_ascii_case("enabled")),
                };
                let actions = self.scope_map_actions(registry, token).unwrap_or_else(|message| {
                    problems.push(Problem::new(&token.id, message));
                    ScopeMapActions::default()
                });
                let name = token.id.name();
                let rule =
                    RepositoryTokenRule { name: name.into(), uid: token.uid, enabled, actions: Arc::new(actions) };
                (name.to_ascii_lowercase().into(), rule)
            })
            .collect()
    }

    fn scope_map_actions(&self, registry: &ResourceId, token: &Resource) -> Result<ScopeMapActions, String> {
        const NOTHING: &str = "the token gives nothing";
        let id = token.text(&["scopeMapId"]).and_then(|id| id.parse::<ResourceId>().ok());
        let id = id
            .filter(|id| id.parent().as_ref() == Some(registry))
            .ok_or_else(|| format!("`scopeMapId` names no scope map of this registry: {NOTHING}"))?;
        if let Some((_, lines)) = SYSTEM_SCOPE_MAPS.iter().find(|(name, _)| name.eq_ignore_ascii_case(id.name())) {
            return ScopeMapActions::parse(lines.iter()).map_err(|error| error.to_string());
        }
        let map = self.get(&id).ok_or_else(|| format!("scope map `{}` is gone: {NOTHING}", id.name()))?;
        let actions = map.property(&["actions"]);
        let lines = actions.as_ref().and_then(Value::as_array);
        let lines = lines.and_then(|lines| lines.iter().map(Value::as_str).collect::<Option<Vec<&str>>>());
        let lines = lines.ok_or_else(|| format!("scope map `{}` has no list of actions: {NOTHING}", id.name()))?;
        ScopeMapActions::parse(lines).map_err(|error| format!("scope map `{}`: {error}: {NOTHING}", id.name()))
    }
}

/// What a role gives on a registry's content.
struct Given {
    role: Arc<str>,
    here: Actions,
    other: Actions,
    names_metadata_read: bool,
}

fn grant(assignment: &Assignment, given: &Given) -> Grant {
    Grant {
        assignment: assignment.id.shared(),
        role: Arc::clone(&given.role),
        actions: given.here,
        other_mode_actions: given.other,
        names_metadata_read: given.names_metadata_read,
        condition: assignment.condition.clone(),
    }
}

/// What runs may do in their own registry without an identity of their own: everything with its images, except where repositories
/// have permissions of their own.
///
/// Source: Azure Container Registry, "Registry permissions and ACR Tasks": default data plane access (read 2026-11).
fn tasks_grant(mode: RoleAssignmentMode) -> Grant {
    use Action::{CatalogRead, Delete, MetadataDelete, MetadataRead, MetadataWrite, Pull, Push};
    const ALL: Actions = Actions::of(&[Pull, Push, Delete, MetadataRead, MetadataWrite, MetadataDelete, CatalogRead]);
    let (here, other) = match mode {
        RoleAssignmentMode::Legacy => (ALL, Actions::NONE),
        RoleAssignmentMode::Abac => (Actions::NONE, ALL),
    };
    Grant {
        assignment: "the default login of runs".into(),
        role: "ACR Tasks".into(),
        actions: here,
        other_mode_actions: other,
        names_metadata_read: true,
        condition: None,
    }
}

/// The state of a private endpoint connection by its wire name.
pub(crate) fn status_named(name: &str) -> Option<ConnectionStatus> {
    [
        ("Approved", ConnectionStatus::Approved),
        ("Pending", ConnectionStatus::Pending),
        ("Rejected", ConnectionStatus::Rejected),
        ("Disconnected", ConnectionStatus::Disconnected),
    ]
    .into_iter()
    .find_map(|(word, status)| word.eq_ignore_ascii_case(name).then_some(status))
}

#[cfg(test)]
mod tests;

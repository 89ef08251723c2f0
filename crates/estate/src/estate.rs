use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use postern_access::{DenyAssignment, ManagementGrant, Workload, WorkloadIdentity};
use postern_model::{IdentityKind, PrincipalId, ResourceId, ResourceIdError, ResourceUid, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use self::index::Index;
use crate::assignment::Denial;
use crate::directory_objects::{members_of, principal_of};
use crate::roles::{Role, built_in, permissions_of};
use crate::types::{
    DENY_ASSIGNMENTS, GROUPS, PRICINGS, PRIVATE_ENDPOINT_CONNECTIONS, REGISTRIES, ROLE_ASSIGNMENTS, ROLE_DEFINITIONS,
    SUBSCRIPTIONS, USER_ASSIGNED_IDENTITIES,
};
use crate::{Assignment, Document, Packed, Principal, Problem, Resource, Rights, identity};

mod index;

/// Most groups that a principal's transitive membership may reach; those beyond do not count.
const MAX_GROUPS: usize = 1000;

/// Every resource of a server, in memory, with the indices that decisions and lists need. Changing one resource costs the same
/// however many there are.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    suffix: Arc<str>,
    generation: u64,
    resources: HashMap<ResourceId, Arc<Resource>>,
    /// By lower-case type.
    by_type: HashMap<Box<str>, BTreeSet<ResourceId>>,
    /// By lower-case name: names are unique among all registries.
    registries: Index<Box<str>, ResourceId>,
    /// By scope.
    assignments: Index<ResourceId, Arc<Assignment>>,
    assignments_of: Index<PrincipalId, Arc<Assignment>>,
    denials: BTreeMap<ResourceId, Denial>,
    roles: HashMap<Uuid, BTreeMap<ResourceId, Role>>,
    principals: Index<PrincipalId, ResourceId>,
    clients: Index<Uuid, ResourceId>,
    /// Private endpoint connections by private endpoint.
    connections: Index<ResourceId, ResourceId>,
    /// Groups by member.
    groups: Index<PrincipalId, PrincipalId>,
    problems: BTreeMap<ResourceId, Problem>,
}

/// Why the estate has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstateError {
    /// There is no registry with this id.
    #[error("registry `{0}` not found")]
    RegistryNotFound(ResourceId),
    /// A document without a readable `id`.
    #[error("document {index} has no resource id")]
    NoId {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// A document whose `id` is not one.
    #[error("document {index}: {source}")]
    BadId {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        source: ResourceIdError,
    },
}

impl Estate {
    /// An empty estate. Registries are reached at `<name>.<suffix>`; the suffix may carry a port, which answers repeat.
    pub fn new(suffix: &str) -> Self {
        Self { suffix: suffix.trim_start_matches('.').to_ascii_lowercase().into(), ..Self::default() }
    }

    /// An estate that lives in no server: for what-ifs over a file. Uids are made up, in order.
    pub fn from_documents(suffix: &str, documents: Vec<Document>) -> Result<Self, EstateError> {
        let mut estate = Self::new(suffix);
        for (index, document) in documents.into_iter().enumerate() {
            let id = document.get("id").and_then(Value::as_str).ok_or(EstateError::NoId { index })?;
            let id: ResourceId = id.parse().map_err(|source| EstateError::BadId { index, source })?;
            let moment = Timestamp::from_unix_seconds(0);
            let content = Packed::new(&id, document);
            estate.insert(Arc::new(Resource {
                id,
                uid: ResourceUid(Uuid::from_u128(index as u128 + 1)),
                generation: 1,
                etag: String::new(),
                created: moment,
                updated: moment,
                content,
            }));
        }
        Ok(estate)
    }

    /// The login servers' suffix, with its port if it has one.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// The highest generation seen.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes a generation that changed nothing here.
    pub fn advance(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// Adds a resource, or replaces the one of the same id, which it returns.
    pub fn insert(&mut self, resource: Arc<Resource>) -> Option<Arc<Resource>> {
        let before = self.remove(&resource.id, resource.generation);
        self.index(&resource);
        self.resources.insert(resource.id.clone(), resource);
        before
    }

    /// Takes one resource away; its children stay.
    pub fn remove(&mut self, id: &ResourceId, generation: u64) -> Option<Arc<Resource>> {
        self.advance(generation);
        let removed = self.resources.remove(id)?;
        self.unindex(&removed);
        Some(removed)
    }

    fn index(&mut self, resource: &Arc<Resource>) {
        let id = &resource.id;
        let resource_type = resource.resource_type().to_ascii_lowercase();
        let is = |name: &str| resource_type.eq_ignore_ascii_case(name);
        if is(REGISTRIES) {
            self.registries.insert(lower_name(id), id.clone());
        }
        if is(ROLE_ASSIGNMENTS) {
            self.index_assignment(resource);
        }
        if is(DENY_ASSIGNMENTS) {
            let (denial, problem) = Denial::read(resource);
            self.denials.extend(denial.map(|denial| (id.clone(), denial)));
            self.problems.extend(problem.map(|problem| (id.clone(), problem)));
        }
        if is(ROLE_DEFINITIONS) {
            self.index_role(resource);
        }
        if is(PRIVATE_ENDPOINT_CONNECTIONS)
            && let Some(endpoint) = endpoint_of(resource)
        {
            self.connections.insert(endpoint, id.clone());
        }
        if is(GROUPS)
            && let Ok(group) = id.name().parse::<PrincipalId>()
        {
            for member in members_of(resource) {
                self.groups.insert(member, group);
            }
        }
        if let Some(principal) = principal_of(resource) {
            self.principals.insert(principal.id, id.clone());
            if let Some(client) = principal.client_id {
                self.clients.insert(client, id.clone());
            }
        }
        self.by_type.entry(resource_type.into()).or_default().insert(id.clone());
    }

    fn index_assignment(&mut self, resource: &Resource) {
        match Assignment::read(resource) {
            Ok(assignment) => {
                let scope = self.assignments.shared(assignment.scope);
                let assignment = Arc::new(Assignment { scope: scope.clone(), ..assignment });
                self.assignments_of.insert(assignment.principal, Arc::clone(&assignment));
                self.assignments.insert(scope, assignment);
            }
            Err(problem) => drop(self.problems.insert(resource.id.clone(), problem)),
        }
    }

    fn index_role(&mut self, resource: &Resource) {
        let Ok(id) = Uuid::try_parse(resource.id.name()) else { return };
        let name = resource.text(&["roleName"]).map_or_else(|| resource.id.name().into(), Into::into);
        if let Some(permissions) = permissions_of(resource) {
            self.roles.entry(id).or_default().insert(resource.id.clone(), Role { name, permissions });
        } else {
            let problem = Problem::new(&resource.id, "`permissions` cannot be read: the role gives nothing");
            self.problems.insert(resource.id.clone(), problem);
        }
    }

    fn unindex(&mut self, resource: &Resource) {
        let id = &resource.id;
        let resource_type = resource.resource_type().to_ascii_lowercase();
        let is = |name: &str| resource_type.eq_ignore_ascii_case(name);
        if is(REGISTRIES) {
            self.registries.remove(&lower_name(id), id);
        }
        if is(ROLE_ASSIGNMENTS)
            && let Ok(assignment) = Assignment::read(resource)
        {
            let assignment = Arc::new(assignment);
            self.assignments.remove(&assignment.scope, &assignment);
            self.assignments_of.remove(&assignment.principal, &assignment);
        }
        if is(PRIVATE_ENDPOINT_CONNECTIONS)
            && let Some(endpoint) = endpoint_of(resource)
        {
            self.connections.remove(&endpoint, id);
        }
        if let Ok(role) = Uuid::try_parse(id.name()) {
            take_entry(&mut self.roles, &role, id);
        }
        if is(GROUPS)
            && let Ok(group) = id.name().parse::<PrincipalId>()
        {
            for member in members_of(resource) {
                self.groups.remove(&member, &group);
            }
        }
        if let Some(principal) = principal_of(resource) {
            self.principals.remove(&principal.id, id);
            if let Some(client) = principal.client_id {
                self.clients.remove(&client, id);
            }
        }
        self.denials.remove(id);
        self.problems.remove(id);
        take_from(&mut self.by_type, &Box::from(resource_type), id);
    }

    /// The resource with this id.
    pub fn get(&self, id: &ResourceId) -> Option<&Arc<Resource>> {
        self.resources.get(id)
    }

    /// Every resource, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// The types that there are resources of, in lower case, in no order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.by_type.keys().map(|name| &**name)
    }

    /// The ids of a type within a scope, in order.
    pub fn ids<'a>(
        &'a self,
        scope: &ResourceId,
        resource_type: &str,
    ) -> impl Iterator<Item = &'a ResourceId> + use<'a> {
        self.ids_after(scope, resource_type, None)
    }

    /// As [`ids`](Self::ids), from behind one on. What comes before costs nothing.
    pub fn ids_after<'a>(
        &'a self,
        scope: &ResourceId,
        resource_type: &str,
        after: Option<&ResourceId>,
    ) -> impl Iterator<Item = &'a ResourceId> + use<'a> {
        let ids = self.by_type.get(resource_type.to_ascii_lowercase().as_str());
        ids.map(|ids| within(ids, scope, after)).into_iter().flatten()
    }

    /// The resources of a type within a scope, by id.
    pub fn list<'a>(
        &'a self,
        scope: &ResourceId,
        resource_type: &str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> + use<'a> {
        self.ids(scope, resource_type).filter_map(|id| self.resources.get(id))
    }

    /// The children of one type, by id.
    pub fn children_of_type<'a>(
        &'a self,
        parent: &'a ResourceId,
        resource_type: &str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> + 'a {
        self.list(parent, resource_type).filter(|child| child.id.parent().as_ref() == Some(parent))
    }

    /// Everything below a resource that cannot outlive it, the deepest first.
    pub fn descendants(&self, id: &ResourceId) -> Vec<ResourceId> {
        let all = self.by_type.values().flat_map(|ids| within(ids, id, None));
        let mut below: Vec<ResourceId> = all.filter(|found| *found != id).cloned().collect();
        below.sort_by_cached_key(|id| std::cmp::Reverse(id.segments().count()));
        below
    }

    /// The registry of this name, whatever its case. None when two claim the name.
    pub fn registry_named(&self, name: &str) -> Option<&Arc<Resource>> {
        self.registries.only(name.to_ascii_lowercase().as_str()).and_then(|id| self.resources.get(id))
    }

    /// Whether any registry has this name, whatever its case.
    pub fn is_registry_name_taken(&self, name: &str) -> bool {
        self.registries.has(name.to_ascii_lowercase().as_str())
    }

    /// The connections of a private endpoint to registries.
    pub fn connections_of<'a>(&'a self, endpoint: &ResourceId) -> impl Iterator<Item = &'a Arc<Resource>> + 'a {
        self.connections.of(endpoint).filter_map(|id| self.resources.get(id))
    }

    /// Every registry.
    pub fn all_registries(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_type
            .get(REGISTRIES.to_ascii_lowercase().as_str())
            .into_iter()
            .flatten()
            .filter_map(|id| self.resources.get(id))
    }

    /// Where a registry is reached, with the port if the suffix has one.
    pub fn login_server(&self, registry: &ResourceId) -> String {
        format!("{}.{}", registry.name().to_ascii_lowercase(), self.suffix)
    }

    /// The directory object with this object id. None when two documents claim it.
    pub fn principal(&self, id: PrincipalId) -> Option<Principal> {
        let source = self.principals.only(&id)?;
        let mut principal = principal_of(self.resources.get(source)?)?;
        principal.groups = self.groups_of(id);
        Some(principal)
    }

    /// The directory object with this client id. None when two documents claim it.
    pub fn principal_by_client_id(&self, client: Uuid) -> Option<Principal> {
        let source = self.clients.only(&client)?;
        self.principal(principal_of(self.resources.get(source)?)?.id)
    }

    /// The ids of every directory object, in order.
    pub fn principal_ids(&self) -> BTreeSet<PrincipalId> {
        self.principals.keys().copied().collect()
    }

    /// Whether any document claims the object id.
    pub fn is_principal_taken(&self, id: PrincipalId) -> bool {
        self.principals.has(&id)
    }

    /// The groups that this object id is in, transitively, whether it belongs to anybody or not.
    pub fn groups_of(&self, id: PrincipalId) -> Vec<PrincipalId> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([id]);
        let mut open = vec![id];
        while let Some(member) = open.pop() {
            for &group in self.groups.of(&member) {
                if found.len() < MAX_GROUPS && seen.insert(group) {
                    found.push(group);
                    open.push(group);
                }
            }
        }
        found
    }

    /// A resource as the caller of a connection: its identities are those its document names and that exist.
    pub fn workload(&self, id: &ResourceId) -> Option<Workload> {
        let resource = self.resources.get(id)?;
        let block = resource.value(&["identity"]).unwrap_or_default();
        let system = identity::system_in(&block)
            .map(|principal| WorkloadIdentity { principal, kind: IdentityKind::SystemAssigned });
        let user = identity::users_in(&block).into_iter().filter_map(|id| {
            let (principal, _) = self.user_identity(&id)?;
            Some(WorkloadIdentity { principal, kind: IdentityKind::UserAssigned })
        });
        Some(Workload {
            resource: resource.id.clone(),
            resource_type: resource.resource_type().into(),
            uid: resource.uid,
            identities: system.into_iter().chain(user).collect(),
        })
    }

    /// The object and client id of a user-assigned identity.
    pub fn user_identity(&self, id: &ResourceId) -> Option<identity::UserIdentity> {
        let resource = self.resources.get(id).filter(|resource| resource.id.is_type(USER_ASSIGNED_IDENTITIES))?;
        principal_of(resource).map(|principal| (principal.id, principal.client_id))
    }

    /// The role with this id: a built-in one, else the only custom one.
    pub(crate) fn role(&self, id: Uuid) -> Option<&Role> {
        built_in(id).or_else(|| {
            let custom = self.roles.get(&id)?;
            custom.values().next().filter(|_| custom.len() == 1)
        })
    }

    /// Whether the role exists.
    pub fn has_role(&self, id: Uuid) -> bool {
        self.role(id).is_some()
    }

    /// The role assignments made at exactly this scope.
    pub fn assignments_at<'a>(&'a self, scope: &ResourceId) -> impl Iterator<Item = &'a Arc<Assignment>> + 'a {
        self.assignments.of(scope)
    }

    /// The role assignments of one principal, at any scope.
    pub fn assignments_of(&self, principal: PrincipalId) -> impl Iterator<Item = &Arc<Assignment>> {
        self.assignments_of.of(&principal)
    }

    /// What these principals (a caller and its groups) may do in the resource manager.
    pub fn management_grants(&self, principals: &[PrincipalId]) -> Vec<ManagementGrant> {
        let assignments = principals.iter().flat_map(|&principal| self.assignments_of(principal));
        assignments.filter_map(|assignment| Some(assignment.management_grant(self.role(assignment.role)?))).collect()
    }

    /// What is taken away from these principals (a caller and its groups).
    pub fn management_denials(&self, principals: &[PrincipalId]) -> Vec<DenyAssignment> {
        let denials = self.denials.values().filter(|denial| denial.concerns(principals));
        denials.map(|denial| denial.assignment.clone()).collect()
    }

    /// What a caller (itself and its groups) may do in the resource manager.
    pub fn rights(&self, principals: &[PrincipalId]) -> Rights {
        Rights {
            grants: self.management_grants(principals),
            denials: self.management_denials(principals),
            subscriptions: self.subscriptions().map(|one| one.id.clone()).collect(),
        }
    }

    /// Whether a caller (itself and its groups) may do the action on the scope.
    pub fn may(&self, principals: &[PrincipalId], action: &str, scope: &ResourceId) -> bool {
        self.rights(principals).may(action, scope)
    }

    /// Every subscription.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_type
            .get(SUBSCRIPTIONS.to_ascii_lowercase().as_str())
            .into_iter()
            .flatten()
            .filter_map(|id| self.resources.get(id))
    }

    pub(crate) fn denials(&self) -> impl Iterator<Item = &Denial> {
        self.denials.values()
    }

    /// Resources whose documents cannot be taken at their word.
    pub fn not_understood(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.problems.keys().filter_map(|id| self.resources.get(id))
    }

    pub(crate) fn problems_within<'a>(&'a self, scopes: &'a [ResourceId]) -> impl Iterator<Item = &'a Problem> + 'a {
        self.problems.values().filter(move |problem| {
            crate::assignment::scope_of(&problem.resource).is_none_or(|scope| scopes.contains(&scope))
        })
    }

    pub(crate) fn members_among(&self, group: PrincipalId, candidates: impl Fn(PrincipalId) -> bool) -> bool {
        self.groups.keys().any(|&member| candidates(member) && self.groups_of(member).contains(&group))
    }

    /// Whether the vulnerability scanner's plan is on for the subscription.
    pub fn scanner_enabled(&self, subscription: &str) -> bool {
        ["Containers", "ContainerRegistry"].into_iter().any(|plan| {
            let id = format!("/subscriptions/{subscription}/providers/{PRICINGS}/{plan}").parse::<ResourceId>();
            let tier = id.ok().and_then(|id| self.resources.get(&id)).and_then(|plan| plan.text(&["pricingTier"]));
            tier.is_some_and(|tier| tier.eq_ignore_ascii_case("Standard"))
        })
    }
}

/// The id and every scope above it, the root last.
pub(crate) fn scopes_of(id: &ResourceId) -> Vec<ResourceId> {
    std::iter::successors(Some(id.clone()), ResourceId::parent).collect()
}

/// Those that are the scope or below it, in order.
fn within<'a>(
    ids: &'a BTreeSet<ResourceId>,
    scope: &ResourceId,
    after: Option<&ResourceId>,
) -> impl Iterator<Item = &'a ResourceId> + use<'a> {
    let itself = ids.get(scope).filter(|id| after.is_none_or(|after| *id > after));
    let first_below = scope.first_below();
    let from = after.filter(|after| **after > first_below).cloned().unwrap_or(first_below);
    let (below, scope) = (ids.range((Bound::Excluded(from), Bound::Unbounded)), scope.clone());
    itself.into_iter().chain(below.take_while(move |id| id.is_within(&scope)))
}

/// The private endpoint that a connection names.
fn endpoint_of(resource: &Resource) -> Option<ResourceId> {
    resource.text(&["privateEndpoint", "id"])?.parse().ok()
}

fn lower_name(id: &ResourceId) -> Box<str> {
    id.name().to_ascii_lowercase().into()
}

fn take_from<K: std::hash::Hash + Eq, V: Ord>(index: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}

fn take_entry<K: std::hash::Hash + Eq, I: Ord, V>(index: &mut HashMap<K, BTreeMap<I, V>>, key: &K, id: &I) {
    if let Some(map) = index.get_mut(key) {
        map.remove(id);
        if map.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! GET, HEAD, PUT, PATCH and DELETE of one resource, whatever its type.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};
use postern_access::{AGENT_POOLS, RUNS, TASKS};
use postern_estate::{ApiVersion, Document, Estate, Resource, Rights, identity, merge, scope_of, types, validate};
use postern_identity::SecretOwner;
use postern_model::{PrincipalId, ResourceId, ResourceUid};
use postern_store::{Change, Expected};
use serde_json::Value;
use uuid::Uuid;

use crate::ArmState;
use crate::call::{Call, Caller};
use crate::error::{ArmError, Condition};
use crate::operations;
use crate::path::canonical;
use crate::providers;
use crate::reply::Reply;
use crate::runs;

const ASSIGN_IDENTITY: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action";

/// Types whose PUT answers 200 also for a new resource: their clients insist.
///
/// Source: Azure CLI 2.91, observed (read 2026-11).
const PUT_ALWAYS_OK: [&str; 2] =
    ["Microsoft.ContainerRegistry/registries/tasks", "Microsoft.Insights/diagnosticSettings"];

/// Types whose PUT answers 201 also for a resource that was there, and whose DELETE shows what is gone.
///
/// Source: Azure CLI 2.91, observed (read 2026-11).
const PUT_ALWAYS_CREATED: [&str; 1] = [types::ROLE_DEFINITIONS];
const DELETE_SHOWS: [&str; 2] = [types::ROLE_ASSIGNMENTS, types::ROLE_DEFINITIONS];

/// Types whose DELETE must not answer 200.
const DELETE_NO_CONTENT: [&str; 3] = [
    "Microsoft.ContainerRegistry/registries/agentPools",
    "Microsoft.ContainerRegistry/registries/cacheRules",
    "Microsoft.ContainerRegistry/registries/credentialSets",
];

pub(crate) async fn get(call: &Call, id: &ResourceId) -> Result<Reply, ArmError> {
    if let Some(told) = operations::Told::of(id) {
        return operations::get(call, id, told).await;
    }
    let resource_type = type_of(id)?;
    call.authorize(&format!("{resource_type}/read"), id)?;
    if id.is_type(RUNS) {
        return runs::get(call, id).await;
    }
    if let Some(made_up) = providers::made_up(call, id) {
        return Ok(Reply::ok(Value::Object(made_up)));
    }
    let reply = call.state.directory.with_estate(|estate| {
        let stored = stored(estate, id);
        let Some(resource) = estate.get(&stored) else {
            let departing = call.state.departing.take(estate, id, call.version);
            return departing.map(|pool| Reply::ok(pool.into())).ok_or_else(|| not_found(estate, id));
        };
        // It may be kept at another scope.
        if !estate.may(&call.caller.ids, &format!("{resource_type}/read"), &stored) {
            return Err(call.caller.forbidden(&format!("{resource_type}/read"), &stored));
        }
        Ok(shown(estate, resource, call.version, StatusCode::OK))
    })?;
    runs::with_results(call, &resource_type, reply).await
}

/// Where the resource of this id is kept. A role definition has one GUID whatever scope it is asked for at, and clients ask at the
/// subscription for those that were made below.
fn stored(estate: &Estate, id: &ResourceId) -> ResourceId {
    if !id.is_type(types::ROLE_DEFINITIONS) || estate.get(id).is_some() {
        return id.clone();
    }
    let Some(asked) = scope_of(id) else { return id.clone() };
    let everywhere = ResourceId::root();
    let mut all = estate.list(&everywhere, types::ROLE_DEFINITIONS);
    let reaches = |one: &ResourceId| scope_of(one).is_some_and(|own| own.is_within(&asked) || asked.is_within(&own));
    let found = all.find(|one| one.id.name().eq_ignore_ascii_case(id.name()) && reaches(&one.id));
    found.map_or_else(|| id.clone(), |one| one.id.clone())
}

pub(crate) fn head(call: &Call, id: &ResourceId) -> Result<Reply, ArmError> {
    call.authorize(&format!("{}/read", type_of(id)?), id)?;
    let exists = call.state.directory.resource(id).is_some();
    Ok(Reply::empty(if exists { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }))
}

fn shown(estate: &Estate, resource: &Resource, version: ApiVersion, status: StatusCode) -> Reply {
    let document = providers::of(&resource.resource_type()).project(estate, resource, version);
    Reply::new(status, Value::Object(document)).with_etag(&resource.etag)
}

/// What a provider completes and checks before it is stored.
pub(crate) struct Draft<'a> {
    pub(crate) estate: &'a Estate,
    pub(crate) state: &'a ArmState,
    pub(crate) caller: &'a Caller,
    pub(crate) rights: &'a Rights,
    pub(crate) id: ResourceId,
    pub(crate) existing: Option<&'a Arc<Resource>>,
    pub(crate) document: Document,
    /// What must change together with it.
    pub(crate) also: Vec<Change>,
}

impl Draft<'_> {
    /// The document's `properties`, made if they are missing.
    pub(crate) fn properties(&mut self) -> Result<&mut Document, ArmError> {
        let entry = self.document.entry("properties").or_insert_with(|| Value::Object(Document::new()));
        if entry.is_null() {
            *entry = Value::Object(Document::new());
        }
        entry
            .as_object_mut()
            .ok_or_else(|| ArmError::new(Condition::InvalidContent, "The property 'properties' must be an object."))
    }

    /// A text below `properties`.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        let mut value = self.document.get("properties")?;
        for key in path {
            value = value.get(key)?;
        }
        value.as_str()
    }

    /// Refuses unless the caller may do the action on the scope.
    pub(crate) fn authorize(&self, action: &str, scope: &ResourceId) -> Result<(), ArmError> {
        if self.rights.may(action, scope) { Ok(()) } else { Err(self.caller.forbidden(action, scope)) }
    }

    /// The object id of a new identity: the one that the document came with, if nobody has it and the caller may give out every
    /// right that it already has; else a new one. A file that was exported can so be applied with its role assignments.
    pub(crate) fn new_principal(&self, given: Option<&str>) -> PrincipalId {
        let given = given.and_then(|text| text.parse::<PrincipalId>().ok());
        let fresh = || PrincipalId(self.state.random.uuid());
        let Some(given) = given.filter(|given| !self.estate.is_principal_taken(*given) && !is_first_party(*given))
        else {
            return fresh();
        };
        let write = format!("{}/write", types::ROLE_ASSIGNMENTS);
        let subscription =
            self.id.subscription().and_then(|id| format!("/subscriptions/{id}").parse::<ResourceId>().ok());
        let may = |scope: &ResourceId| self.rights.may(&write, scope);
        let may_all = self.estate.assignments_of(given).all(|assignment| may(&assignment.scope));
        let may_groups = self
            .estate
            .groups_of(given)
            .into_iter()
            .all(|group| self.estate.assignments_of(group).all(|assignment| may(&assignment.scope)));
        if subscription.as_ref().is_some_and(may) && may_all && may_groups { given } else { fresh() }
    }
}

/// Whether the object id is that of a service of this server itself.
pub(crate) fn is_first_party(id: PrincipalId) -> bool {
    postern_identity::FirstPartyService::ALL.into_iter().any(|service| service.principal() == Some(id))
}

/// Everything a plan needs besides the estate.
struct PutPlan {
    state: Arc<ArmState>,
    caller: Caller,
    id: ResourceId,
    is_patch: bool,
    version: ApiVersion,
    headers: HeaderMap,
    body: Document,
}

pub(crate) async fn put(call: Call, id: ResourceId) -> Result<Reply, ArmError> {
    let resource_type = type_of(&id)?;
    if operations::Told::of(&id).is_some() {
        return Err(ArmError::new(Condition::MethodNotAllowed, "Operations are not written to."));
    }
    if id.is_type(RUNS) {
        return runs::update(&call, &id).await;
    }
    let body = call.body()?.clone();
    let task_run =
        if id.is_type(runs::TASK_RUNS) { Some(runs::TaskRun::prepare(&call, &id, &body).await?) } else { None };
    let plan = PutPlan {
        state: Arc::clone(&call.state),
        caller: call.caller.clone(),
        id,
        is_patch: call.method == Method::PATCH,
        version: call.version,
        headers: call.headers.clone(),
        body,
    };
    let outcome = call.state.directory.change(move |estate| plan.changes(estate)).await?;
    let (resource, created) = outcome.put.first().ok_or_else(ArmError::internal)?;
    crate::credentials::follow(&call.state, resource).await;
    if let Some(task_run) = task_run {
        return task_run.begin(&call, resource, *created).await;
    }
    let is_one_of = |types: &[&str]| types.iter().any(|name| name.eq_ignore_ascii_case(&resource_type));
    let created = (*created && !is_one_of(&PUT_ALWAYS_OK)) || is_one_of(&PUT_ALWAYS_CREATED);
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(call.state.directory.with_estate(|estate| shown(estate, resource, call.version, status)))
}

impl PutPlan {
    fn changes(self, estate: &Estate) -> Result<Vec<Change>, ArmError> {
        let id = canonical(estate, &self.id);
        let resource_type = type_of(&id)?;
        let rights = estate.rights(&self.caller.ids);
        let action = format!("{resource_type}/write");
        if !rights.may(&action, &id) {
            return Err(self.caller.forbidden(&action, &id));
        }
        let existing = estate.get(&id);
        if existing.is_none() {
            if self.is_patch {
                return Err(not_found(estate, &id));
            }
            place_exists(estate, &id)?;
        }
        let expected = precondition(&self.headers, existing)?;
        let stored = existing.map(|resource| resource.document());
        let document = match (self.is_patch, stored.as_ref()) {
            (true, Some(stored)) => merge::patch(&resource_type, stored, &self.body, self.version),
            _ => merge::put(&resource_type, stored.as_ref(), &self.body, self.version),
        };
        stays_in_place(&id, stored.as_ref(), &document)?;
        let mut draft = Draft {
            estate,
            state: &self.state,
            caller: &self.caller,
            rights: &rights,
            id,
            existing,
            document,
            also: Vec::new(),
        };
        settle_identity(&mut draft, &self.body, &action)?;
        providers::of(&resource_type).complete(&mut draft)?;
        let Draft { id, mut document, also, .. } = draft;
        document.insert("id".into(), id.as_str().into());
        document.insert("name".into(), id.name().into());
        document.insert("type".into(), type_of(&id)?.into());
        let mut changes = vec![Change::Put { id, document, expected }];
        changes.extend(also);
        Ok(changes)
    }
}

/// A resource does not move: `East US` and `eastus` are one place.
fn stays_in_place(id: &ResourceId, stored: Option<&Document>, document: &Document) -> Result<(), ArmError> {
    let location = |document: &Document| Some(document.get("location")?.as_str()?.to_owned());
    let place = |location: &str| location.to_ascii_lowercase().replace(' ', "");
    let (Some(old), Some(new)) = (stored.and_then(location), location(document)) else { return Ok(()) };
    if place(&old) == place(&new) {
        return Ok(());
    }
    let shown: String = new.chars().filter(|c| !c.is_control()).take(50).collect();
    Err(ArmError::new(
        Condition::LocationChanged,
        format!(
            "The resource '{}' already exists in location '{old}'. A resource with the same name cannot be created in location \
             '{shown}'. Please select a new resource name.",
            id.name()
        ),
    ))
}

/// Fills in the `identity` block; whoever attaches a user-assigned identity must be allowed to.
fn settle_identity(draft: &mut Draft<'_>, body: &Document, action: &str) -> Result<(), ArmError> {
    let before = draft.existing.map(|resource| resource.document());
    let known = before.as_ref().and_then(identity::system_principal);
    let given = body.get("identity").and_then(|block| block.get("principalId")).and_then(Value::as_str);
    let system = known.unwrap_or_else(|| draft.new_principal(given));
    let estate = draft.estate;
    let mut document = std::mem::take(&mut draft.document);
    let settled =
        identity::settle(&mut document, draft.state.identity.tenant(), || system, |id| estate.user_identity(id));
    draft.document = document;
    settled?;
    let attached = before.as_ref().map(identity::user_identities).unwrap_or_default();
    for id in identity::user_identities(&draft.document) {
        if !attached.contains(&id) && !draft.rights.may(ASSIGN_IDENTITY, &id) {
            return Err(draft.caller.forbidden_linked(action, &draft.id, ASSIGN_IDENTITY, &id));
        }
    }
    Ok(())
}

/// `If-Match` and `If-None-Match`.
fn precondition(headers: &HeaderMap, existing: Option<&Arc<Resource>>) -> Result<Expected, ArmError> {
    let header = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or_default().trim());
    let failed =
        || ArmError::new(Condition::PreconditionFailed, "The condition set on the resource's etag is not satisfied.");
    if let Some(wanted) = header(header::IF_MATCH) {
        let existing = existing.ok_or_else(failed)?;
        if wanted != "*" && wanted.trim_matches('"') != existing.etag {
            return Err(failed());
        }
    }
    if header(header::IF_NONE_MATCH) == Some("*") && existing.is_some() {
        return Err(failed());
    }
    // The plan runs alone: what it saw is what is there.
    Ok(existing.map_or(Expected::Absent, |existing| Expected::Etag(existing.etag.clone())))
}

/// Refuses to create a resource where nothing is.
fn place_exists(estate: &Estate, id: &ResourceId) -> Result<(), ArmError> {
    if id.is_type(types::SUBSCRIPTIONS) {
        return Ok(());
    }
    let subscription = id.subscription().and_then(|name| format!("/subscriptions/{name}").parse::<ResourceId>().ok());
    if let Some(subscription) = subscription.filter(|subscription| estate.get(subscription).is_none()) {
        return Err(not_found(estate, &subscription));
    }
    let Some(parent) = id.parent() else { return Ok(()) };
    let is_there = parent.is_root() || estate.get(&parent).is_some();
    if is_there {
        return Ok(());
    }
    // `/providers/Microsoft.Management/managementGroups/x` and its like are scopes without a document.
    if parent.subscription().is_none() {
        return Err(ArmError::new(Condition::ParentNotFound, format!("The scope '{parent}' was not found.")));
    }
    if parent.is_type(types::RESOURCE_GROUPS) {
        return Err(not_found(estate, &parent));
    }
    Err(ArmError::new(
        Condition::ParentNotFound,
        format!(
            "Can not perform requested operation on nested resource. Parent resource '{}' not found.",
            parent.name()
        ),
    ))
}

/// What the emulated service says of a resource that is not there.
pub(crate) fn not_found(estate: &Estate, id: &ResourceId) -> ArmError {
    let name = id.name();
    let group = id.resource_group().unwrap_or_default();
    if id.is_type(types::SUBSCRIPTIONS) {
        return ArmError::new(
            Condition::SubscriptionNotFound,
            format!("The subscription '{name}' could not be found."),
        );
    }
    let subscription = id.subscription().and_then(|name| format!("/subscriptions/{name}").parse::<ResourceId>().ok());
    if let Some(subscription) = subscription.filter(|subscription| estate.get(subscription).is_none()) {
        return ArmError::new(
            Condition::SubscriptionNotFound,
            format!("The subscription '{}' could not be found.", subscription.name()),
        );
    }
    if id.is_type(types::RESOURCE_GROUPS) {
        return ArmError::new(Condition::GroupNotFound, format!("Resource group '{name}' could not be found."));
    }
    if id.is_type(types::ROLE_ASSIGNMENTS) {
        return ArmError::new(Condition::RoleAssignmentNotFound, format!("The role assignment '{name}' is not found."));
    }
    if id.is_type(types::ROLE_DEFINITIONS) {
        return ArmError::new(
            Condition::RoleDefinitionNotFound,
            format!("The specified role definition with ID '{name}' does not exist."),
        );
    }
    let resource_type = id.resource_type().unwrap_or_default();
    ArmError::new(
        Condition::ResourceNotFound,
        format!(
            "The Resource '{resource_type}/{name}' under resource group '{group}' was not found. For more details please go to \
             https://aka.ms/ARMResourceNotFoundFix"
        ),
    )
}

pub(crate) fn type_of(id: &ResourceId) -> Result<String, ArmError> {
    id.resource_type()
        .ok_or_else(|| ArmError::new(Condition::NoSuchOperation, format!("'{id}' is not the id of a resource.")))
}

pub(crate) async fn delete(call: Call, id: ResourceId) -> Result<Reply, ArmError> {
    let resource_type = type_of(&id)?;
    if id.is_type(RUNS) {
        return Err(ArmError::new(Condition::MethodNotAllowed, "Runs are not deleted: they expire."));
    }
    let (caller, headers, target) = (call.caller.clone(), call.headers.clone(), id.clone());
    let outcome = call
        .state
        .directory
        .change(move |estate| {
            let target = stored(estate, &target);
            let action = format!("{}/delete", type_of(&target)?);
            if !estate.may(&caller.ids, &action, &target) {
                return Err(caller.forbidden(&action, &target));
            }
            let Some(existing) = estate.get(&target) else {
                validate::deletable(&target)?;
                return Ok(Vec::new());
            };
            let expected = precondition(&headers, Some(existing))?;
            let mut removed = vec![target.clone()];
            removed.extend(estate.descendants(&target));
            let mut changes = vec![Change::Remove { id: target.clone(), expected }];
            for id in &removed {
                if let Some(resource) = estate.get(id) {
                    changes.extend(providers::of(&resource.resource_type()).removed(estate, resource, &removed)?);
                }
            }
            Ok(changes)
        })
        .await?;
    let Some(resource) = outcome.removed.first() else { return Ok(Reply::empty(StatusCode::NO_CONTENT)) };
    if resource.id.is_type(AGENT_POOLS) {
        call.state.departing.remember(resource);
    }
    for resource in &outcome.removed {
        forget(&call.state, resource).await;
    }
    if DELETE_SHOWS.iter().any(|name| name.eq_ignore_ascii_case(&resource_type)) {
        return Ok(call.state.directory.with_estate(|estate| shown(estate, resource, call.version, StatusCode::OK)));
    }
    let no_content = DELETE_NO_CONTENT.iter().any(|name| name.eq_ignore_ascii_case(&resource_type));
    Ok(Reply::empty(if no_content { StatusCode::NO_CONTENT } else { StatusCode::OK }))
}

fn application_id(resource: &Resource) -> Option<Uuid> {
    let id = resource.id.is_type(types::APPLICATIONS).then(|| resource.text(&["appId"]))??;
    Uuid::try_parse(&id).ok()
}

fn has_secrets(resource: &Resource) -> bool {
    resource.id.is_type(types::SERVICE_PRINCIPALS) || resource.id.is_type(types::USERS)
}

/// What the store keeps for a resource goes with it. Nothing can reach it any more, so a failure is for the log only.
async fn forget(state: &ArmState, resource: &Resource) {
    let credentials = state.store.credentials();
    let uid: ResourceUid = resource.uid;
    let result = if resource.id.is_type(types::REGISTRIES) {
        crate::import::call_off(state, resource).await;
        runs::call_off(state, resource).await;
        let content = state.store.remove_registry(uid.into()).await;
        credentials.remove_owner(&SecretOwner::Admin(uid.into()).to_string()).await.and(content)
    } else if resource.id.is_type(types::TOKENS) {
        credentials.remove_owner(&SecretOwner::RepositoryToken(uid).to_string()).await.map(drop)
    } else if resource.id.is_type(AGENT_POOLS) || resource.id.is_type(TASKS) {
        runs::call_off(state, resource).await;
        return;
    } else if let Some(client) = application_id(resource) {
        credentials.remove_owner(&SecretOwner::Application(client).to_string()).await.map(drop)
    } else if let (true, Ok(id)) = (has_secrets(resource), Uuid::try_parse(resource.id.name())) {
        credentials.remove_owner(&SecretOwner::Principal(PrincipalId(id)).to_string()).await.map(drop)
    } else {
        return;
    };
    if let Err(error) = result {
        tracing::error!(resource.id = %resource.id, error = %error, "what a deleted resource left behind could not be removed");
    }
}

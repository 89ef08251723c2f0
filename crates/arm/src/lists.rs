//! Lists, page by page.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postern_estate::{Estate, Resource, Rights, role_id, scope_of, types};
use postern_model::{PrincipalId, ResourceId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::authorization::assignments;
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::filter::{self, Term};
use crate::providers;
use crate::reply::Reply;
use crate::resources::{not_found, type_of};
use crate::runs;

/// Most resources in one answer.
const PAGE: usize = 1000;

const PRIVATE_DNS_ZONES: &str = "Microsoft.Network/privateDnsZones";
/// The records of a zone whatever their type, as if they were children of one.
const ALL_RECORDS: &str = "Microsoft.Network/privateDnsZones/ALL";

/// Where a list goes on; names of parameters are compared in lower case.
pub(crate) const SKIP_TOKEN: &str = "$skiptoken";

/// Types that are no resources of a subscription: nothing lists them among its resources.
const NOT_LISTED: [&str; 4] =
    ["microsoft.authorization/", "microsoft.security/", "microsoft.graph/", "microsoft.resources/"];

pub(crate) fn subscriptions(call: &Call) -> Reply {
    call.state.directory.with_estate(|estate| {
        let rights = estate.rights(&call.caller.ids);
        let seen = estate.subscriptions().filter(|one| rights.touches(&one.id));
        Reply::list(seen.map(|one| shown(estate, one, call)).collect())
    })
}

pub(crate) fn of_subscription(call: &Call, id: &ResourceId, what: &str) -> Result<Reply, ArmError> {
    match what {
        "resourcegroups" => listed(call, id, types::RESOURCE_GROUPS),
        "resources" => resources(call, id),
        "locations" => {
            call.authorize("Microsoft.Resources/subscriptions/locations/read", id)?;
            Ok(crate::metadata::locations(id))
        }
        _ => {
            call.authorize("Microsoft.Resources/subscriptions/providers/read", id)?;
            Ok(crate::metadata::namespaces(id))
        }
    }
}

/// `GET …/resources`: the resources below a scope in short.
pub(crate) fn resources(call: &Call, scope: &ResourceId) -> Result<Reply, ArmError> {
    let (mut wanted_type, mut group, mut name) = (None, None, None);
    for term in filter::parse(call.query.get("$filter"))? {
        match term {
            Term::Equals(key, value) => match key.as_str() {
                "resourcetype" => wanted_type = Some(value),
                "resourcegroup" => group = Some(value),
                "name" => name = Some(value),
                _ => return Err(unknown_filter(&key)),
            },
            other => return Err(unknown_filter(other.name())),
        }
    }
    call.state.directory.with_estate(|estate| {
        let rights = estate.rights(&call.caller.ids);
        if !rights.touches(scope) {
            return Err(call.caller.forbidden("Microsoft.Resources/subscriptions/resources/read", scope));
        }
        exists(estate, scope)?;
        let wanted: Vec<&str> = match &wanted_type {
            Some(wanted) => vec![wanted],
            None => estate.types().collect(),
        };
        let listed = wanted.into_iter().filter(|one| is_listed(one));
        let mut found: Vec<&ResourceId> = listed.flat_map(|one| estate.ids(scope, one)).collect();
        found.retain(|id| {
            group.as_deref().is_none_or(|group| id.resource_group().is_some_and(|own| own.eq_ignore_ascii_case(group)))
                && name.as_deref().is_none_or(|name| id.name().eq_ignore_ascii_case(name))
                && may_read(&rights, id)
                && (is_top(id) || estate.get(id).is_some_and(|one| one.value(&["location"]).is_some()))
        });
        found.sort_unstable();
        let expand = call.query.get("$expand").is_some();
        page(call, estate, &found, |resource| in_short(estate, resource, call, expand))
    })
}

/// Whether it is a type of records: what a private DNS zone holds besides its links to networks.
fn is_record(resource_type: &str) -> bool {
    let (zone, record) = resource_type.rsplit_once('/').unwrap_or_default();
    zone.eq_ignore_ascii_case(PRIVATE_DNS_ZONES) && !record.eq_ignore_ascii_case("virtualNetworkLinks")
}

fn is_listed(resource_type: &str) -> bool {
    let lower = resource_type.to_ascii_lowercase();
    !NOT_LISTED.iter().any(|prefix| lower.starts_with(prefix))
}

/// Whether it is no child of another resource. Children are listed when they have a place of their own.
fn is_top(id: &ResourceId) -> bool {
    id.resource_type().is_some_and(|own| own.matches('/').count() == 1)
}

fn in_short(estate: &Estate, resource: &Resource, call: &Call, expand: bool) -> Value {
    let mut full = providers::of(&resource.resource_type()).project(estate, resource, call.version);
    let properties = full.remove("properties");
    full.retain(|key, _| {
        ["id", "name", "type", "location", "tags", "sku", "kind", "identity", "managedBy", "zones"]
            .contains(&key.as_str())
    });
    if expand {
        let state = properties.as_ref().and_then(|properties| properties.get("provisioningState")).cloned();
        full.insert("provisioningState".into(), state.unwrap_or_else(|| "Succeeded".into()));
        full.insert("createdTime".into(), resource.created.to_string().into());
        full.insert("changedTime".into(), resource.updated.to_string().into());
    }
    Value::Object(full)
}

/// `GET {scope}/providers/{namespace}/{type}`.
pub(crate) fn collection(call: &Call, scope: &ResourceId, resource_type: &str) -> Result<Reply, ArmError> {
    if resource_type.eq_ignore_ascii_case(types::ROLE_ASSIGNMENTS) {
        return assignments(call, scope);
    }
    if resource_type.eq_ignore_ascii_case(types::ROLE_DEFINITIONS) {
        return role_definitions(call, scope);
    }
    listed(call, scope, resource_type)
}

fn listed(call: &Call, scope: &ResourceId, resource_type: &str) -> Result<Reply, ArmError> {
    call.state.directory.with_estate(|estate| {
        let rights = estate.rights(&call.caller.ids);
        let action = format!("{resource_type}/read");
        // Who has nothing to do with the scope does not learn whether it exists.
        if !rights.touches(scope) {
            return Err(call.caller.forbidden(&action, scope));
        }
        exists(estate, scope)?;
        let paging = Paging::of(call)?;
        let found =
            paging.cut(estate.ids_after(scope, resource_type, paging.after()).filter(|id| may_read(&rights, id)));
        page(call, estate, &found, |resource| shown(estate, resource, call))
    })
}

/// `GET {resource}/{children}`, and what else is read from a registry in that way.
pub(crate) async fn children(call: &Call, parent: &ResourceId, kind: &str) -> Result<Reply, ArmError> {
    let parent_type = type_of(parent)?;
    let resource_type = format!("{parent_type}/{kind}");
    if resource_type.eq_ignore_ascii_case("Microsoft.Network/locations/serviceTags") {
        return crate::service_tags::list(call, parent);
    }
    call.authorize(&format!("{resource_type}/read"), parent)?;
    if resource_type.eq_ignore_ascii_case(postern_access::RUNS) {
        return runs::list(call, parent).await;
    }
    let registry = call.state.directory.resource(parent).filter(|resource| resource.id.is_type(types::REGISTRIES));
    if let Some(registry) = &registry
        && kind.eq_ignore_ascii_case("listUsages")
    {
        let size_bytes = call.state.store.size_of(registry.uid.into()).await?;
        return Ok(Reply::list(call.state.directory.with_estate(|estate| estate.usages(registry, size_bytes))));
    }
    let page = call.state.directory.with_estate(|estate| {
        let Some(resource) = estate.get(parent) else { return Err(not_found(estate, parent)) };
        if registry.is_some() && kind.eq_ignore_ascii_case("privateLinkResources") {
            return Ok(Reply::list(vec![private_link_resource(resource)]));
        }
        let listed: Vec<&str> = if resource_type.eq_ignore_ascii_case(ALL_RECORDS) {
            estate.types().filter(|one| is_record(one)).collect()
        } else {
            vec![&resource_type]
        };
        let children = listed.into_iter().flat_map(|one| estate.children_of_type(parent, one));
        let mut found: Vec<&ResourceId> = children.map(|child| &child.id).collect();
        found.sort_unstable();
        let page = page(call, estate, &found, |child| shown(estate, child, call))?;
        if resource_type.eq_ignore_ascii_case(types::SCOPE_MAPS) && call.query.get(SKIP_TOKEN).is_none() {
            return Ok(page.preceded_by(providers::system_scope_maps(&resource.id).map(Value::Object).collect()));
        }
        Ok(page)
    })?;
    runs::with_results(call, &resource_type, page).await
}

pub(crate) fn private_link_resource(registry: &Resource) -> Value {
    let location = registry.value(&["location"]).unwrap_or_default();
    let region = location.as_str().unwrap_or_default().to_ascii_lowercase().replace(' ', "");
    json!({
        "id": format!("{}/privateLinkResources/registry", registry.id),
        "name": "registry",
        "type": format!("{}/privateLinkResources", types::REGISTRIES),
        "properties": {
            "groupId": "registry",
            "requiredMembers": ["registry", format!("registry_data_{region}")],
            "requiredZoneNames": ["privatelink.azurecr.io"],
        },
    })
}

fn role_definitions(call: &Call, scope: &ResourceId) -> Result<Reply, ArmError> {
    call.authorize(&format!("{}/read", types::ROLE_DEFINITIONS), scope)?;
    let (mut name, mut kind) = (None, None);
    for term in filter::parse(call.query.get("$filter"))? {
        match term {
            Term::Equals(key, value) if key == "rolename" => name = Some(value),
            Term::Equals(key, value) if key == "type" => kind = Some(value),
            Term::Call(key, _) if key == "atscopeandbelow" || key == "atscope" => {}
            other => return Err(unknown_filter(other.name())),
        }
    }
    let fits = |role: &str, own: &str| {
        name.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(role))
            && kind.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case(own))
    };
    let built_in = providers::built_in_roles_at(scope).filter(|(role, _)| fits(&role.name, "BuiltInRole"));
    let mut values: Vec<Value> = built_in.map(|(_, shown)| Value::Object(shown)).collect();
    let everywhere = ResourceId::root();
    call.state.directory.with_estate(|estate| {
        let reaches =
            |one: &Resource| scope_of(&one.id).is_some_and(|own| scope.is_within(&own) || own.is_within(scope));
        let custom = estate.list(&everywhere, types::ROLE_DEFINITIONS).filter(|one| reaches(one));
        let custom = custom.filter(|one| fits(&one.text(&["roleName"]).unwrap_or_default(), "CustomRole"));
        values.extend(custom.map(|one| shown(estate, one, call)));
    });
    Ok(Reply::list(values))
}

pub(crate) fn shown(estate: &Estate, resource: &Resource, call: &Call) -> Value {
    Value::Object(providers::of(&resource.resource_type()).project(estate, resource, call.version))
}

fn may_read(rights: &Rights, id: &ResourceId) -> bool {
    rights.may(&format!("{}/read", id.resource_type().unwrap_or_default()), id)
}

fn exists(estate: &Estate, scope: &ResourceId) -> Result<(), ArmError> {
    let is_scope = scope.is_root() || estate.get(scope).is_some();
    if is_scope { Ok(()) } else { Err(not_found(estate, scope)) }
}

pub(crate) fn unknown_filter(key: &str) -> ArmError {
    ArmError::new(Condition::InvalidFilter, format!("The $filter term '{key}' is not supported here."))
}

/// Where a page begins, and how long it is at most.
pub(crate) struct Paging {
    size: usize,
    after: Option<ResourceId>,
}

impl Paging {
    /// What the caller asks for.
    pub(crate) fn of(call: &Call) -> Result<Self, ArmError> {
        let invalid =
            || ArmError::new(Condition::InvalidParameters, "The query parameter '$top' must be a positive number.");
        let size = match call.query.get("$top") {
            None => PAGE,
            Some(text) => text.parse().ok().filter(|top| *top > 0).ok_or_else(invalid)?,
        };
        let after = call.query.get(SKIP_TOKEN).and_then(|text| text.parse().ok());
        Ok(Self { size: PAGE.min(size), after })
    }

    /// How long it is at most.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// What the page begins behind.
    pub(crate) fn after(&self) -> Option<&ResourceId> {
        self.after.as_ref()
    }

    /// As many of what comes behind that as show whether there is another page.
    pub(crate) fn cut<'a>(&self, found: impl Iterator<Item = &'a ResourceId>) -> Vec<&'a ResourceId> {
        found.take(self.size + 1).collect()
    }
}

/// One page of what was found, in the order given (by id), with a link to the next.
pub(crate) fn page(
    call: &Call,
    estate: &Estate,
    found: &[&ResourceId],
    show: impl Fn(&Resource) -> Value,
) -> Result<Reply, ArmError> {
    let Paging { size, after } = Paging::of(call)?;
    let seen = after.map_or(0, |after| found.partition_point(|id| **id <= after));
    let rest = found.get(seen..).unwrap_or_default();
    let (page, more) = rest.split_at_checked(size).unwrap_or((rest, &[]));
    let next = page.last().filter(|_| !more.is_empty()).map(|last| next_link(call, last.as_str()));
    let values: Vec<Value> = page.iter().filter_map(|id| estate.get(id)).map(|one| show(one)).collect();
    let mut body = json!({ "value": values });
    if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
        body.insert("nextLink".into(), next.into());
    }
    Ok(Reply::ok(body))
}

pub(crate) fn next_link(call: &Call, last: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut link = format!("{}{}?api-version={}", call.base, call.path, call.version);
    for name in ["$filter", "$expand", "$top"] {
        if let Some(value) = call.query.get(name) {
            link = format!("{link}&{}={}", encode(name), encode(value));
        }
    }
    format!("{link}&%24skiptoken={}", encode(last))
}

/// The principal that a role assignment names.
pub(crate) fn principal_in(resource: &Resource) -> Option<PrincipalId> {
    resource.text(&["principalId"]).as_deref().and_then(role_id).map(|id: Uuid| PrincipalId(id))
}

//! Reading the directory.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postern_access::PrincipalKind;
use postern_estate::{Estate, Principal, Resource, types};
use postern_model::{PrincipalId, ResourceId};
use serde_json::Value;
use uuid::Uuid;

use super::{Kind, bad, collection, missing, objects};
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::filter::{self, Term};
use crate::reply::Reply;

/// Most objects in one answer.
///
/// Source: Microsoft Graph, paging, largest `$top` of directory objects (read 2026-11).
const PAGE: usize = 999;
/// Most ids that are looked up at once.
///
/// Source: Microsoft Graph, directoryObject: getByIds (read 2026-11).
const MAX_IDS: usize = 1000;

/// One object with what filters look at.
struct Entry {
    id: Uuid,
    names: Vec<(&'static str, String)>,
    object: Object,
}

enum Object {
    Principal(Principal),
    Application(Arc<Resource>),
}

impl Entry {
    fn shown(&self, call: &Call, estate: &Estate) -> Value {
        match &self.object {
            Object::Principal(principal) => objects::principal(&call.state, estate, principal),
            Object::Application(resource) => objects::application(&call.state, resource),
        }
    }

    fn has(&self, name: &str, test: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|(known, value)| *known == name && test(value))
    }
}

pub(super) fn me(call: &Call) -> Result<Reply, ArmError> {
    if call.caller.principal.kind != PrincipalKind::User {
        return Err(bad("/me request is only valid with delegated authentication flow."));
    }
    let id = call.caller.principal.id;
    any_object(call, &id.to_string())
}

/// `GET /{kind}`.
pub(super) fn list(call: &Call, kind: Kind) -> Result<Reply, ArmError> {
    let terms = filter::parse(call.query.get("$filter"))?;
    // Whoever asks for itself by its own id gets the answer.
    let own = terms.iter().find_map(|term| match term {
        Term::Any(_, value) | Term::Equals(_, value) => Uuid::try_parse(value).ok(),
        Term::Call(..) | Term::StartsWith(..) | Term::Contains(..) | Term::AtLeast(..) | Term::AtMost(..) => None,
    });
    let own = own.filter(|id| *id == call.caller.client_id || *id == call.caller.principal.id.0);
    call.may_see(own.map(|_| call.caller.principal.id))?;
    let from = match call.query.get("$skiptoken") {
        None => None,
        Some(text) => Some(Uuid::try_parse(text).map_err(|_| bad("The $skiptoken is not valid."))?),
    };
    let size = match call.query.get("$top") {
        None => PAGE,
        Some(text) => {
            text.parse().ok().filter(|top| (1..=PAGE).contains(top)).ok_or_else(|| bad("Invalid page size."))?
        }
    };
    call.state.directory.with_estate(|estate| {
        let mut found = match client_id(&terms) {
            Some(client) if kind == Kind::ServicePrincipals => of_client(estate, kind, client).into_iter().collect(),
            _ => entries(estate, kind),
        };
        found.sort_by_key(|entry| entry.id);
        let mut page: Vec<Entry> = Vec::new();
        let mut next = None;
        for entry in found.into_iter().filter(|entry| from.is_none_or(|from| entry.id > from)) {
            let mut matches = true;
            for term in &terms {
                matches &= holds(term, &entry)?;
            }
            if !matches {
                continue;
            }
            if page.len() == size {
                next = page.last().map(|last| next_page(call, last.id));
                break;
            }
            page.push(entry);
        }
        let shown = page.iter().map(|entry| entry.shown(call, estate)).collect();
        Ok(collection(call, segment(kind), shown, next))
    })
}

/// The application id that all that is looked for must have: found without looking at everything.
fn client_id(terms: &[Term]) -> Option<Uuid> {
    terms.iter().find_map(|term| match term {
        Term::Any(name, value) if name == "serviceprincipalnames" => Uuid::try_parse(value).ok(),
        Term::Equals(name, value) if name == "appid" => Uuid::try_parse(value).ok(),
        _ => None,
    })
}

fn next_page(call: &Call, last: Uuid) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut link = format!("{}{}?$skiptoken={last}", call.base, call.path);
    for name in ["$filter", "$top"] {
        if let Some(value) = call.query.get(name) {
            link = format!("{link}&{name}={}", encode(value));
        }
    }
    link
}

const fn segment(kind: Kind) -> &'static str {
    match kind {
        Kind::Applications => "applications",
        Kind::ServicePrincipals => "servicePrincipals",
        Kind::Users => "users",
        Kind::Groups => "groups",
    }
}

fn entries(estate: &Estate, kind: Kind) -> Vec<Entry> {
    if kind == Kind::Applications {
        let root = ResourceId::root();
        return estate.list(&root, types::APPLICATIONS).filter_map(application).collect();
    }
    let ids = estate.principal_ids();
    let principals = ids.into_iter().filter_map(|id| estate.principal(id)).filter(|one| is(one.kind, kind));
    principals.map(|one| entry(estate, one)).collect()
}

/// The application, or the service principal, with this application id.
fn of_client(estate: &Estate, kind: Kind, client: Uuid) -> Option<Entry> {
    if kind == Kind::Applications {
        let text = client.to_string();
        return entries(estate, kind).into_iter().find(|entry| entry.has("appid", |own| own == text));
    }
    let by_object_id = || estate.principal(PrincipalId(client)).filter(|one| objects::client_of(one) == Some(client));
    let principal = estate.principal_by_client_id(client).or_else(by_object_id);
    let principal = principal.filter(|principal| is(principal.kind, kind))?;
    Some(entry(estate, principal))
}

fn application(resource: &Arc<Resource>) -> Option<Entry> {
    Some(Entry {
        id: Uuid::try_parse(resource.id.name()).ok()?,
        names: vec![
            ("appid", resource.text(&["appId"])?),
            ("displayname", resource.text(&["displayName"]).unwrap_or_default()),
        ],
        object: Object::Application(Arc::clone(resource)),
    })
}

fn entry(estate: &Estate, principal: Principal) -> Entry {
    let source = principal.owner.as_ref().and_then(|owner| estate.get(owner));
    let mut names = vec![("displayname", principal.display_name.to_string())];
    names.extend(objects::client_of(&principal).map(|client| ("appid", client.to_string())));
    for (name, property) in
        [("userprincipalname", "userPrincipalName"), ("mail", "mail"), ("mailnickname", "mailNickname")]
    {
        let own = source.filter(|_| matches!(principal.kind, PrincipalKind::User | PrincipalKind::Group));
        names.extend(own.and_then(|source| source.text(&[property])).map(|text| (name, text)));
    }
    if principal.kind == PrincipalKind::User && !names.iter().any(|(name, _)| *name == "userprincipalname") {
        // What is shown for want of another.
        names.push(("userprincipalname", principal.display_name.to_string()));
    }
    Entry { id: principal.id.0, names, object: Object::Principal(principal) }
}

fn is(principal: PrincipalKind, kind: Kind) -> bool {
    match principal {
        PrincipalKind::User => kind == Kind::Users,
        PrincipalKind::Group => kind == Kind::Groups,
        PrincipalKind::ServicePrincipal | PrincipalKind::ManagedIdentity | PrincipalKind::FirstParty => {
            kind == Kind::ServicePrincipals
        }
    }
}

fn holds(term: &Term, entry: &Entry) -> Result<bool, ArmError> {
    let known = |name: &str| match name {
        "id" | "displayname" | "appid" | "userprincipalname" | "mail" | "mailnickname" => Ok(()),
        _ => Err(unsupported(name)),
    };
    match term {
        Term::Equals(name, value) => {
            known(name)?;
            let is_id = name == "id" && Uuid::try_parse(value).is_ok_and(|id| id == entry.id);
            Ok(is_id || entry.has(name, |own| own.eq_ignore_ascii_case(value)))
        }
        Term::StartsWith(name, value) => {
            known(name)?;
            let start = value.to_lowercase();
            Ok(entry.has(name, |own| own.to_lowercase().starts_with(&start)))
        }
        // The names of a service principal are its application id.
        Term::Any(name, value) => match name.as_str() {
            "serviceprincipalnames" => Ok(entry.has("appid", |own| own.eq_ignore_ascii_case(value))),
            "identifieruris" => Ok(match &entry.object {
                Object::Application(resource) => resource
                    .list(&["identifierUris"])
                    .is_some_and(|uris| uris.iter().any(|uri| uri.as_str() == Some(value))),
                Object::Principal(_) => false,
            }),
            other => Err(unsupported(other)),
        },
        Term::Call(name, _) | Term::Contains(name, _) | Term::AtLeast(name, _) | Term::AtMost(name, _) => {
            Err(unsupported(name))
        }
    }
}

fn unsupported(name: &str) -> ArmError {
    ArmError::new(
        Condition::InvalidFilter,
        format!("Unsupported or invalid query filter clause specified for property '{name}'."),
    )
}

/// `GET /{kind}/{id}`; a user also by its user principal name.
pub(super) fn one(call: &Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    let id = Uuid::try_parse(name).ok();
    call.may_see(id.map(PrincipalId))?;
    call.state.directory.with_estate(|estate| {
        let found = find(call, estate, kind, name).ok_or_else(|| missing(name))?;
        Ok(Reply::ok(found))
    })
}

fn find(call: &Call, estate: &Estate, kind: Kind, name: &str) -> Option<Value> {
    let Ok(id) = Uuid::try_parse(name) else {
        let users = (kind == Kind::Users).then(|| entries(estate, kind))?;
        let own = |entry: &&Entry| entry.has("userprincipalname", |own| own.eq_ignore_ascii_case(name));
        return users.iter().find(own).map(|entry| entry.shown(call, estate));
    };
    if kind == Kind::Applications {
        let resource = estate.get(&kind.resource(id).ok()?)?;
        return Some(objects::application(&call.state, resource));
    }
    let principal = estate.principal(PrincipalId(id)).filter(|principal| is(principal.kind, kind))?;
    Some(objects::principal(&call.state, estate, &principal))
}

/// `GET /servicePrincipals(appId='…')`.
pub(super) fn by_client(call: &Call, kind: Kind, client: Uuid) -> Result<Reply, ArmError> {
    call.may_see((client == call.caller.client_id).then_some(call.caller.principal.id))?;
    call.state.directory.with_estate(|estate| {
        let found = of_client(estate, kind, client).ok_or_else(|| missing(&client.to_string()))?;
        Ok(Reply::ok(found.shown(call, estate)))
    })
}

/// `GET /directoryObjects/{id}`.
pub(super) fn any_object(call: &Call, name: &str) -> Result<Reply, ArmError> {
    let id = Uuid::try_parse(name).map_err(|_| missing(name))?;
    call.may_see(Some(PrincipalId(id)))?;
    call.state.directory.with_estate(|estate| {
        let principal = estate.principal(PrincipalId(id)).ok_or_else(|| missing(name))?;
        Ok(Reply::ok(objects::principal(&call.state, estate, &principal)))
    })
}

/// `POST /directoryObjects/getByIds`: ids of nobody are left out.
pub(super) fn by_ids(call: &Call) -> Result<Reply, ArmError> {
    let ids = ids_of(call, "ids")?;
    call.may_see(None).or_else(|refusal| {
        let only_own = ids.iter().all(|id| call.caller.ids.contains(id));
        if only_own { Ok(()) } else { Err(refusal) }
    })?;
    let values = call.state.directory.with_estate(|estate| {
        let found = ids.iter().filter_map(|id| estate.principal(*id));
        found.map(|principal| objects::principal(&call.state, estate, &principal)).collect()
    });
    Ok(collection(call, "directoryObjects", values, None))
}

fn ids_of(call: &Call, field: &str) -> Result<Vec<PrincipalId>, ArmError> {
    let list = call.body()?.get(field).and_then(Value::as_array);
    let list = list.filter(|list| list.len() <= MAX_IDS);
    let list = list.ok_or_else(|| bad(format!("'{field}' must be a list of at most {MAX_IDS} ids.")))?;
    let ids = list.iter().map(|id| id.as_str().and_then(|id| id.parse().ok()));
    ids.collect::<Option<_>>().ok_or_else(|| bad(format!("'{field}' must hold GUIDs.")))
}

/// What `checkMemberGroups` is asked about.
pub(super) fn group_ids(call: &Call) -> Result<Vec<PrincipalId>, ArmError> {
    ids_of(call, "groupIds")
}

/// The groups that an object is in, transitively; of those asked about, if any are.
pub(super) fn member_groups(call: &Call, name: &str, among: Option<&[PrincipalId]>) -> Result<Reply, ArmError> {
    let id = name.parse::<PrincipalId>().map_err(|_| missing(name))?;
    call.may_see(Some(id))?;
    let groups = call.state.directory.with_estate(|estate| estate.groups_of(id));
    let wanted = groups.iter().filter(|group| among.is_none_or(|among| among.contains(group)));
    Ok(collection(call, "Collection(Edm.String)", wanted.map(|group| group.to_string().into()).collect(), None))
}

/// `GET /groups/{id}/members`, direct ones.
pub(super) fn members(call: &Call, name: &str) -> Result<Reply, ArmError> {
    let id = Uuid::try_parse(name).map_err(|_| missing(name))?;
    call.may_see(None)?;
    let group = call.state.directory.resource(&Kind::Groups.resource(id)?).ok_or_else(|| missing(name))?;
    let values = call.state.directory.with_estate(|estate| {
        let found = postern_estate::members_of(&group).into_iter().filter_map(|member| estate.principal(member));
        found.map(|principal| objects::principal(&call.state, estate, &principal)).collect()
    });
    Ok(collection(call, "directoryObjects", values, None))
}

/// Nobody owns objects here; the list is there because clients ask for it.
pub(super) fn owners(call: &Call, kind: Kind, name: &str) -> Result<Reply, ArmError> {
    one(call, kind, name)?;
    Ok(collection(call, "directoryObjects", Vec::new(), None))
}

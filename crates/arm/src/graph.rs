//! The subset of Microsoft Graph that command lines and SDKs use beside the resource manager: who is there, and applications,
//! service principals, users and groups that are made, changed and removed.
//!
//! Every object is a resource below `/providers/Microsoft.Graph`; a change here is a PUT or DELETE of that resource and goes the
//! same way, with the same checks. Passwords are never part of an object.
//!
//! CHOICE: users may look anybody up, and so may whoever may read role assignments anywhere: they have to name principals. Others
//! see themselves only.

mod changes;
mod endpoints;
mod federated;
mod objects;
mod search;

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use postern_access::PrincipalKind;
use postern_estate::{ApiVersion, types};
use postern_model::{PrincipalId, ResourceId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::reply::Reply;

pub use endpoints::GRAPH_ENDPOINTS;

/// The version under which the directory's resources are written.
pub(crate) const VERSION: ApiVersion = ApiVersion::stable(2025, 11, 1);

/// Longest path accepted.
const MAX_PATH_BYTES: usize = 1024;

/// The kinds of objects, as paths name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Applications,
    ServicePrincipals,
    Users,
    Groups,
}

impl Kind {
    fn parse(segment: &str) -> Option<Self> {
        match segment {
            "applications" => Some(Self::Applications),
            "serviceprincipals" => Some(Self::ServicePrincipals),
            "users" => Some(Self::Users),
            "groups" => Some(Self::Groups),
            _ => None,
        }
    }

    const fn resource_type(self) -> &'static str {
        match self {
            Self::Applications => types::APPLICATIONS,
            Self::ServicePrincipals => types::SERVICE_PRINCIPALS,
            Self::Users => types::USERS,
            Self::Groups => types::GROUPS,
        }
    }

    /// Where the object with this id is kept.
    fn resource(self, id: Uuid) -> Result<ResourceId, ArmError> {
        format!("/providers/{}/{id}", self.resource_type()).parse().map_err(|_| ArmError::internal())
    }
}

/// Answers a request whose caller is known. `path` is what follows the version.
///
/// Source: Microsoft Graph REST API v1.0 (read 2026-11).
pub(crate) async fn dispatch(call: Call, path: &str) -> Result<Reply, ArmError> {
    let segments = segments(path)?;
    let lower: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let method = call.method.clone();
    match (method.as_str(), lower.as_slice()) {
        ("GET", ["me"]) => search::me(&call),
        ("GET", ["me", "ownedobjects"]) => Ok(Reply::list(Vec::new())),
        ("POST", ["directoryobjects", "getbyids"]) => search::by_ids(&call),
        ("GET", ["directoryobjects", id]) => search::any_object(&call, id),
        ("POST", ["directoryobjects" | "users" | "groups" | "serviceprincipals", id, "getmembergroups"]) => {
            search::member_groups(&call, id, None)
        }
        ("POST", ["directoryobjects" | "users" | "groups" | "serviceprincipals", id, "checkmembergroups"]) => {
            search::member_groups(&call, id, Some(&search::group_ids(&call)?))
        }
        ("GET", ["groups", id, "members"]) => search::members(&call, id),
        ("POST", ["groups", id, "members", "$ref"]) => changes::add_member(call, id).await,
        ("DELETE", ["groups", id, "members", member, "$ref"]) => changes::remove_member(call, id, member).await,
        (verb, [kind]) => match (verb, parse_kind(kind)?) {
            ("GET", (kind, None)) => search::list(&call, kind),
            ("POST", (kind, None)) => changes::create(call, kind).await,
            // `servicePrincipals(appId='…')`.
            ("GET", (kind, Some(client))) => search::by_client(&call, kind, client),
            _ => Err(not_allowed(&method)),
        },
        (verb, [kind, rest @ ..]) => {
            let (kind, None) = parse_kind(kind)? else { return Err(nothing()) };
            match (verb, rest) {
                ("GET", [name]) => search::one(&call, kind, name),
                ("PATCH", [name]) => changes::update(call, kind, name).await,
                ("DELETE", [name]) => changes::delete(call, kind, name).await,
                ("GET", [name, "federatedidentitycredentials"]) => federated::list(&call, kind, name),
                ("POST", [name, "federatedidentitycredentials"]) => federated::create(call, kind, name).await,
                ("GET", [name, "federatedidentitycredentials", one]) => federated::show(&call, kind, name, one),
                ("PATCH", [name, "federatedidentitycredentials", one]) => {
                    federated::update(call, kind, name, one).await
                }
                ("DELETE", [name, "federatedidentitycredentials", one]) => {
                    federated::delete(call, kind, name, one).await
                }
                ("GET", [name, "owners"]) => search::owners(&call, kind, name),
                ("POST", [name, "addpassword"]) => changes::add_password(call, kind, name).await,
                ("POST", [name, "removepassword"]) => changes::remove_password(call, kind, name).await,
                _ => Err(nothing()),
            }
        }
        (_, []) => Err(nothing()),
    }
}

fn segments(path: &str) -> Result<Vec<String>, ArmError> {
    let invalid = || ArmError::new(Condition::InvalidUri, "The request's path is not valid.");
    if path.len() > MAX_PATH_BYTES {
        return Err(invalid());
    }
    let decoded = path.split('/').filter(|segment| !segment.is_empty()).map(|segment| {
        let segment = percent_decode_str(segment).decode_utf8().map_err(|_| invalid())?;
        if segment.contains('/') { Err(invalid()) } else { Ok(segment.into_owned()) }
    });
    decoded.collect()
}

/// `servicePrincipals`, or `serviceprincipals(appid='…')` with the application id.
fn parse_kind(segment: &str) -> Result<(Kind, Option<Uuid>), ArmError> {
    let (name, key) = match segment.split_once('(') {
        None => (segment, None),
        Some((name, key)) => {
            let id = key.strip_prefix("appid='").and_then(|key| key.strip_suffix("')"));
            (name, Some(id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(nothing)?))
        }
    };
    Ok((Kind::parse(name).ok_or_else(nothing)?, key))
}

impl Call {
    /// Refuses unless the caller may see the object, or all objects.
    fn may_see(&self, id: Option<PrincipalId>) -> Result<(), ArmError> {
        let own = id.is_some_and(|id| self.caller.ids.contains(&id));
        if own || self.caller.principal.kind == PrincipalKind::User {
            return Ok(());
        }
        let read = format!("{}/read", types::ROLE_ASSIGNMENTS);
        let may = self.state.directory.with_estate(|estate| estate.rights(&self.caller.ids).may_somewhere(&read));
        if may { Ok(()) } else { Err(denied()) }
    }
}

fn denied() -> ArmError {
    ArmError::new(Condition::DirectoryDenied, "Insufficient privileges to complete the operation.")
}

fn nothing() -> ArmError {
    ArmError::new(Condition::DirectoryBadRequest, "Resource not found for the segment.")
}

fn not_allowed(method: &Method) -> ArmError {
    ArmError::new(Condition::MethodNotAllowed, format!("The http method '{method}' is not supported here."))
}

fn missing(name: &str) -> ArmError {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    ArmError::new(
        Condition::DirectoryNotFound,
        format!("Resource '{shown}' does not exist or one of its queried reference-property objects are not present."),
    )
}

fn bad(message: impl Into<String>) -> ArmError {
    ArmError::new(Condition::DirectoryBadRequest, message)
}

fn created(object: Value) -> Reply {
    Reply::new(StatusCode::CREATED, object)
}

fn collection(call: &Call, kind: &str, values: Vec<Value>, next: Option<String>) -> Reply {
    let context = format!("{}/v1.0/$metadata#{kind}", call.base);
    let mut body = json!({"@odata.context": context, "value": values});
    if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
        body.insert("@odata.nextLink".into(), next.into());
    }
    Reply::ok(body)
}

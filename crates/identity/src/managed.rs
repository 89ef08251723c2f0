//! Tokens for managed identities: what a workload gets for its certificate, and nobody for anything else.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use http::{Response, StatusCode};
use postern_access::{TokenBinding, Workload, WorkloadIdentity, WorkloadRejection, WorkloadState};
use postern_model::{IdentityKind, ResourceId, Secret, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::Identity;
use crate::authority::{is_audience, reply};
use crate::identity::Known;
use crate::issue::Form;
use crate::peer::Peer;
use crate::token::MANAGED_IDENTITY_TOKEN_SECONDS;

/// Where on the authority's host a workload gets tokens.
pub const TOKEN_PATH: &str = "/postern/v1/identity/token";

/// Which of a workload's identities is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdentitySelector {
    /// The system-assigned one, or the only one.
    #[default]
    Default,
    /// By application id.
    ClientId(Uuid),
    /// By object id.
    ObjectId(Uuid),
    /// By the user-assigned identity's resource id.
    ResourceId(ResourceId),
}

/// A token of a managed identity.
#[derive(Clone, Debug)]
pub struct ManagedToken {
    /// The token, bound to the workload.
    pub access_token: Secret,
    /// When it expires.
    pub expires: Timestamp,
    /// Its audience.
    pub resource: String,
    /// The identity's application id.
    pub client_id: Uuid,
}

/// Why a workload gets no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedTokenRefusal {
    /// The connection proves no workload.
    #[error("a workload certificate is required")]
    NoWorkload,
    /// It does not hold.
    #[error(transparent)]
    Rejected(#[from] WorkloadRejection),
    /// `resource` is missing or no audience.
    #[error("the resource to get a token for is missing or not valid")]
    BadResource,
    /// The identity asked for is none of the workload's.
    #[error("the identity is not assigned to this workload")]
    IdentityNotAssigned,
    /// The workload has no system-assigned identity and none or several user-assigned ones.
    #[error("say which identity: the workload has no system-assigned one and not exactly one user-assigned one")]
    Ambiguous,
    /// More than one way of naming the identity, or one that cannot be read.
    #[error("name the identity by one of client_id, object_id and mi_res_id")]
    BadSelector,
    /// Signing failed.
    #[error("the token could not be signed")]
    Signing,
}

impl ManagedTokenRefusal {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoWorkload | Self::Rejected(_) => (StatusCode::FORBIDDEN, "unauthorized_client"),
            Self::BadResource => (StatusCode::BAD_REQUEST, "invalid_resource"),
            Self::IdentityNotAssigned | Self::Ambiguous | Self::BadSelector => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            Self::Signing => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        }
    }
}

impl IdentitySelector {
    pub(crate) fn from_form(form: &Form) -> Result<Self, ManagedTokenRefusal> {
        let bad = ManagedTokenRefusal::BadSelector;
        let uuid = |text: &str| Uuid::try_parse(text).map_err(|_| ManagedTokenRefusal::BadSelector);
        match (form.get("client_id"), form.get("object_id"), form.get("mi_res_id")) {
            (None, None, None) => Ok(Self::Default),
            (Some(client), None, None) => uuid(client).map(Self::ClientId),
            (None, Some(object), None) => uuid(object).map(Self::ObjectId),
            (None, None, Some(id)) => id.parse().map(Self::ResourceId).map_err(|_| bad),
            _ => Err(bad),
        }
    }
}

impl Identity {
    /// Issues a token for one of the identities of a verified workload.
    pub fn managed_token(
        &self,
        workload: &WorkloadState,
        resource: &str,
        selector: &IdentitySelector,
        now: Timestamp,
    ) -> Result<ManagedToken, ManagedTokenRefusal> {
        let workload = match workload {
            WorkloadState::None => return Err(ManagedTokenRefusal::NoWorkload),
            WorkloadState::Rejected(why) => return Err(ManagedTokenRefusal::Rejected(*why)),
            WorkloadState::Verified(workload) => workload,
        };
        if !is_audience(resource) {
            return Err(ManagedTokenRefusal::BadResource);
        }
        let known = self.select(workload, selector)?;
        // Of a system-assigned identity this is the resource it belongs to, of a user-assigned one its own.
        let owner = known.owner.as_ref().unwrap_or(&workload.resource).as_str();
        let binding = TokenBinding { resource: workload.uid };
        let access_token = self
            .authority_access_token(&known, resource, Some((owner, binding)), MANAGED_IDENTITY_TOKEN_SECONDS, now)
            .map_err(|_| ManagedTokenRefusal::Signing)?;
        Ok(ManagedToken {
            access_token,
            expires: now.plus_seconds(MANAGED_IDENTITY_TOKEN_SECONDS),
            resource: resource.to_owned(),
            client_id: known.client_id,
        })
    }

    fn select(&self, workload: &Workload, selector: &IdentitySelector) -> Result<Arc<Known>, ManagedTokenRefusal> {
        let known = |identity: &WorkloadIdentity| self.known(identity.principal).filter(|known| known.enabled);
        let identities = workload.identities.iter();
        if *selector == IdentitySelector::Default {
            let mut user = identities.clone().filter(|identity| identity.kind == IdentityKind::UserAssigned);
            let system = identities.clone().find(|identity| identity.kind == IdentityKind::SystemAssigned);
            let chosen = match (system, user.next(), user.next()) {
                (Some(system), _, _) => system,
                (None, Some(only), None) => only,
                _ => return Err(ManagedTokenRefusal::Ambiguous),
            };
            return known(chosen).ok_or(ManagedTokenRefusal::IdentityNotAssigned);
        }
        let is_meant = |known: &Arc<Known>| match selector {
            IdentitySelector::Default => true,
            IdentitySelector::ClientId(id) => known.client_id == *id,
            IdentitySelector::ObjectId(id) => known.principal.id.0 == *id,
            IdentitySelector::ResourceId(id) => known.owner.as_ref() == Some(id),
        };
        identities.filter_map(known).find(is_meant).ok_or(ManagedTokenRefusal::IdentityNotAssigned)
    }
}

/// `POST` with the form fields `resource` and at most one of `client_id`, `object_id`, `mi_res_id`.
pub(crate) async fn token(
    State(identity): State<Arc<Identity>>,
    peer: Option<Extension<Peer>>,
    body: Bytes,
) -> Response<Body> {
    let now = identity.clock.now();
    let workload = peer.map(|peer| peer.workload(&identity, now)).unwrap_or_default();
    let outcome = Form::parse(&body).map_err(|_| ManagedTokenRefusal::BadSelector).and_then(|form| {
        let selector = IdentitySelector::from_form(&form)?;
        identity.managed_token(&workload, form.get("resource").unwrap_or_default(), &selector, now)
    });
    match outcome {
        Ok(token) => reply(
            StatusCode::OK,
            &json!({
                "access_token": token.access_token.expose(),
                "expires_on": token.expires.unix_seconds().to_string(),
                "expires_in": MANAGED_IDENTITY_TOKEN_SECONDS.to_string(),
                "resource": token.resource,
                "token_type": "Bearer",
                "client_id": token.client_id,
            }),
        ),
        Err(refusal) => {
            let (status, error) = refusal.status();
            reply(status, &json!({ "error": error, "error_description": refusal.to_string() }))
        }
    }
}

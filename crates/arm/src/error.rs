use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use postern_estate::Refusal;
use postern_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::operations::RETRY_AFTER_SECONDS;

/// Why a request is not served: what the client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArmError {
    status: StatusCode,
    code: Cow<'static, str>,
    message: String,
    target: Option<String>,
    challenge: Option<String>,
    retry_after_seconds: Option<u32>,
}

/// The same as it is kept with an operation that has failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptError {
    status: u16,
    code: String,
    message: String,
}

macro_rules! conditions {
    ($($name:ident = $status:ident, $code:literal;)*) => {
        /// Everything that is refused here; documents are refused by `postern_estate::RefusalCode`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Condition { $($name,)* }

        impl Condition {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            pub(crate) const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

conditions! {
    MissingApiVersion = BAD_REQUEST, "MissingApiVersionParameter";
    InvalidApiVersion = BAD_REQUEST, "InvalidApiVersionParameter";
    InvalidUri = BAD_REQUEST, "InvalidRequestUri";
    InvalidContent = BAD_REQUEST, "InvalidRequestContent";
    InvalidParameters = BAD_REQUEST, "InvalidParameters";
    ImportDenied = BAD_REQUEST, "ImportDenied";
    ImportSourceNotFound = BAD_REQUEST, "ImportSourceNotFound";
    InvalidFilter = BAD_REQUEST, "InvalidFilterInQueryString";
    InvalidGroupName = BAD_REQUEST, "InvalidResourceGroup";
    DirectoryBadRequest = BAD_REQUEST, "Request_BadRequest";
    RoleHasAssignments = BAD_REQUEST, "RoleDefinitionHasAssignments";
    AdminDisabled = BAD_REQUEST, "UnAuthorizedForCredentialOperations";
    SubnetInUse = BAD_REQUEST, "InUseSubnetCannotBeDeleted";
    SecurityGroupInUse = BAD_REQUEST, "InUseNetworkSecurityGroupCannotBeDeleted";
    RouteTableInUse = BAD_REQUEST, "InUseRouteTableCannotBeDeleted";
    MissingToken = UNAUTHORIZED, "AuthenticationFailed";
    InvalidToken = UNAUTHORIZED, "InvalidAuthenticationToken";
    ExpiredToken = UNAUTHORIZED, "ExpiredAuthenticationToken";
    Forbidden = FORBIDDEN, "AuthorizationFailed";
    ForbiddenLinked = FORBIDDEN, "LinkedAuthorizationFailed";
    DirectoryDenied = FORBIDDEN, "Authorization_RequestDenied";
    DirectoryNotFound = NOT_FOUND, "Request_ResourceNotFound";
    ResourceNotFound = NOT_FOUND, "ResourceNotFound";
    GroupNotFound = NOT_FOUND, "ResourceGroupNotFound";
    SubscriptionNotFound = NOT_FOUND, "SubscriptionNotFound";
    ParentNotFound = NOT_FOUND, "ParentResourceNotFound";
    RoleAssignmentNotFound = NOT_FOUND, "RoleAssignmentNotFound";
    RoleDefinitionNotFound = NOT_FOUND, "RoleDefinitionDoesNotExist";
    NoSuchOperation = NOT_FOUND, "InvalidResourceType";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "MethodNotAllowed";
    Conflict = CONFLICT, "Conflict";
    LocationChanged = CONFLICT, "InvalidResourceLocation";
    PreconditionFailed = PRECONDITION_FAILED, "PreconditionFailed";
    TooLarge = PAYLOAD_TOO_LARGE, "RequestContentTooLarge";
    TooManyRequests = TOO_MANY_REQUESTS, "TooManyRequests";
    SubscriptionThrottled = TOO_MANY_REQUESTS, "SubscriptionRequestsThrottled";
    Internal = INTERNAL_SERVER_ERROR, "InternalServerError";
}

impl ArmError {
    pub(crate) fn new(condition: Condition, message: impl Into<String>) -> Self {
        Self {
            status: condition.status(),
            code: condition.code().into(),
            message: message.into(),
            target: None,
            challenge: None,
            retry_after_seconds: None,
        }
    }

    /// With a `WWW-Authenticate` header.
    pub(crate) fn challenging(self, challenge: String) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    /// With a `Retry-After` header.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    pub(crate) fn keep(self) -> KeptError {
        KeptError { status: self.status.as_u16(), code: self.code.into_owned(), message: self.message }
    }

    pub(crate) fn is(&self, condition: Condition) -> bool {
        self.code == condition.code()
    }

    pub(crate) fn internal() -> Self {
        Self::new(Condition::Internal, "The server could not do what it was asked.")
    }
}

impl KeptError {
    /// What an operation's status shows as its `error`.
    pub(crate) fn shown(&self) -> Value {
        json!({"code": self.code, "message": self.message})
    }
}

impl From<KeptError> for ArmError {
    fn from(kept: KeptError) -> Self {
        Self {
            status: StatusCode::from_u16(kept.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: kept.code.into(),
            message: kept.message,
            target: None,
            challenge: None,
            retry_after_seconds: None,
        }
    }
}

impl From<Refusal> for ArmError {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::BAD_REQUEST),
            code: refusal.code.as_str().into(),
            message: refusal.message,
            target: refusal.target,
            challenge: None,
            retry_after_seconds: None,
        }
    }
}

impl From<StoreError> for ArmError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => {
                Self::new(Condition::PreconditionFailed, "The condition set on the resource's etag is not satisfied.")
            }
            StoreError::TooManyJobs { limit } => Self::new(
                Condition::TooManyRequests,
                format!("The resource has {limit} operations that have not ended. Try again when one of them has."),
            )
            .retry_after(RETRY_AFTER_SECONDS),
            other => {
                tracing::error!(error = %other, "the store failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ArmError {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(target), Some(error)) = (self.target, error.as_object_mut()) {
            error.insert("target".into(), target.into());
        }
        let body = json!({"error": error}).to_string();
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response();
        if let Some(challenge) = self.challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use postern_estate::RefusalCode;

    use super::*;

    #[test]
    fn codes_are_unique() {
        let codes: Vec<&str> = Condition::ALL.iter().map(|condition| condition.code()).collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        for refusal in RefusalCode::ALL {
            let twin = Condition::ALL.iter().find(|condition| condition.code() == refusal.as_str());
            assert!(twin.is_none_or(|twin| twin.status().as_u16() == refusal.status()), "{refusal:?}");
        }
    }
}

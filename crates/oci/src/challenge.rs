use http::HeaderValue;
use postern_access::{Actions, Operation, OperationKind};
use serde_json::{Value, json};

use crate::host::Host;

/// What a challenge says went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChallengeError {
    /// Nothing: there were no credentials.
    None,
    /// `invalid_token`.
    InvalidToken,
    /// `insufficient_scope`.
    InsufficientScope,
}

/// The `Www-Authenticate` header: where the client gets which token.
///
/// `wanted` is what the next token must give: it takes the place of the one presented, so that what that one has is in it too.
/// Realm and scheme are those that the client reaches this server by. No blank follows a comma: the command-line tools split there.
///
/// Source: Docker registry token authentication; Azure Container Registry's challenge (read 2026-11).
pub(crate) fn challenge(
    host: &Host,
    service: &str,
    operation: &Operation,
    wanted: Actions,
    error: ChallengeError,
) -> Option<HeaderValue> {
    let scheme = if host.is_plain() { "http" } else { "https" };
    let mut text = format!("Bearer realm=\"{scheme}://{host}/oauth2/token\",service=\"{service}\"");
    if let Some(scope) = scope(operation, wanted) {
        text.push_str(",scope=\"");
        text.push_str(&scope);
        text.push('"');
    }
    match error {
        ChallengeError::None => {}
        ChallengeError::InvalidToken => text.push_str(",error=\"invalid_token\""),
        ChallengeError::InsufficientScope => text.push_str(",error=\"insufficient_scope\""),
    }
    HeaderValue::try_from(text).ok()
}

fn scope(operation: &Operation, wanted: Actions) -> Option<String> {
    match (&operation.repository, operation.kind) {
        (Some(repository), _) => Some(format!("repository:{repository}:{wanted}")),
        (None, OperationKind::ListCatalog) => Some("registry:catalog:*".to_owned()),
        (None, OperationKind::ListDeletedCatalog) => Some("registry:deleted_catalog:*".to_owned()),
        (None, _) => None,
    }
}

/// `detail` of a 401: one entry per action that the token must give.
pub(crate) fn missing_access(operation: &Operation, wanted: Actions) -> Option<Value> {
    let (kind, name) = match (&operation.repository, operation.kind) {
        (Some(repository), _) => ("repository", repository.as_str()),
        (None, OperationKind::ListCatalog) => ("registry", "catalog"),
        (None, OperationKind::ListDeletedCatalog) => {
            return Some(json!([{"Type": "registry", "Name": "deleted_catalog", "Action": "*"}]));
        }
        (None, _) => return None,
    };
    let entry = |action: postern_access::Action| json!({"Type": kind, "Name": name, "Action": action.as_str()});
    Some(wanted.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: OperationKind, repository: Option<&str>, error: ChallengeError, expected: &str) {
        let operation = Operation { kind, repository: repository.map(|name| name.parse().unwrap()), reference: None };
        let host = Host::parse("reg.azurecr.io.localhost:8443").unwrap();
        let header = challenge(&host, "reg.azurecr.io.localhost", &operation, kind.challenge(), error).unwrap();
        let prefix =
            "Bearer realm=\"https://reg.azurecr.io.localhost:8443/oauth2/token\",service=\"reg.azurecr.io.localhost\"";
        assert_eq!(header.to_str().unwrap(), format!("{prefix}{expected}"));
    }

    #[test]
    fn challenges() {
        use ChallengeError::{InsufficientScope, InvalidToken, None as Plain};
        check(OperationKind::Ping, None, Plain, "");
        check(OperationKind::PullBlob, Some("a/b"), Plain, ",scope=\"repository:a/b:pull\"");
        check(
            OperationKind::PushManifest,
            Some("a"),
            InvalidToken,
            ",scope=\"repository:a:pull,push\",error=\"invalid_token\"",
        );
        check(
            OperationKind::ListCatalog,
            None,
            InsufficientScope,
            ",scope=\"registry:catalog:*\",error=\"insufficient_scope\"",
        );
        check(OperationKind::ReadMetadata, Some("a"), Plain, ",scope=\"repository:a:metadata_read\"");
        check(OperationKind::Untag, Some("a"), Plain, ",scope=\"repository:a:delete\"");
        let local = Host::parse("localhost:5000").unwrap().plain();
        let ping = Operation::registry(OperationKind::Ping);
        let header = challenge(&local, "reg.azurecr.io.localhost", &ping, Actions::NONE, Plain).unwrap();
        assert_eq!(header, "Bearer realm=\"http://localhost:5000/oauth2/token\",service=\"reg.azurecr.io.localhost\"");
    }

    #[test]
    fn missing_access_is_one_entry_per_action() {
        let operation = Operation::repository(OperationKind::PushBlob, "a".parse().unwrap(), None);
        let expected = json!([
            {"Type": "repository", "Name": "a", "Action": "pull"},
            {"Type": "repository", "Name": "a", "Action": "push"},
        ]);
        assert_eq!(missing_access(&operation, operation.kind.challenge()), Some(expected));
        assert_eq!(missing_access(&Operation::registry(OperationKind::Ping), Actions::NONE), None);
    }
}

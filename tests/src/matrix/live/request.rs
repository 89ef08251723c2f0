//! The request that a row's operation stands for.

use postern_access::OperationKind;
use serde_json::json;

use super::content::{Content, IMAGE, digest};
use super::credentials::{Credentials, form};
use super::documents::MOUNT_TARGETS;
use super::server::Outgoing;
use super::target::Target;
use crate::matrix::Row;

const FORM: &str = "application/x-www-form-urlencoded";

/// The `number` makes repositories that are mounted to, and blobs that are pushed, new ones.
pub(super) fn of(row: &Row, target: &Target, content: &Content, credentials: Credentials, number: usize) -> Outgoing {
    let service = &target.host();
    let repository = &row.operation.repository;
    let mut outgoing = Outgoing {
        host: service.clone(),
        method: "GET",
        target: String::new(),
        authorization: None,
        content_type: None,
        body: Vec::new(),
    };
    // The resource manager's audience is met where tokens of the authority are taken, and nowhere else.
    let kind = match credentials {
        Credentials::Authority(_) => OperationKind::ExchangeToken,
        _ => row.kind(),
    };
    match kind {
        OperationKind::ExchangeToken => return exchange(outgoing, service, credentials),
        OperationKind::IssueToken => return issue(outgoing, row, service, credentials),
        _ => outgoing.authorization = credentials.header(),
    }
    let in_repository = |path: String| format!("/v2/{repository}/{path}");
    let tag = || row.tag(row.kind()).expect("the row names a tag").to_owned();
    let (method, target) = match kind {
        OperationKind::Ping | OperationKind::ExchangeToken | OperationKind::IssueToken => ("GET", "/v2/".to_owned()),
        OperationKind::ListCatalog => ("GET", "/v2/_catalog".to_owned()),
        OperationKind::PullManifest if row.operation.by_digest => {
            ("GET", in_repository(format!("manifests/{}", content.manifest_digest)))
        }
        OperationKind::PullManifest => ("GET", in_repository(format!("manifests/{}", tag()))),
        OperationKind::PullBlob => ("GET", in_repository(format!("blobs/{}", content.blob))),
        OperationKind::ListReferrers => ("GET", in_repository(format!("referrers/{}", content.manifest_digest))),
        OperationKind::ListTags => ("GET", in_repository("tags/list".to_owned())),
        OperationKind::PushBlob => {
            let blob = format!("pushed by request {number}");
            outgoing.body = blob.clone().into();
            ("POST", in_repository(format!("blobs/uploads/?digest={}", digest(&blob))))
        }
        OperationKind::MountBlob => {
            let target = format!("/v2/{MOUNT_TARGETS}/by-{number}/blobs/uploads/");
            ("POST", format!("{target}?mount={}&from={repository}", content.blob))
        }
        OperationKind::PushManifest => {
            outgoing.content_type = Some(IMAGE);
            outgoing.body = content.manifest.clone().into();
            ("PUT", in_repository(format!("manifests/{}", tag())))
        }
        OperationKind::DeleteManifest => ("DELETE", in_repository(format!("manifests/{}", content.manifest_digest))),
        OperationKind::DeleteBlob => ("DELETE", in_repository(format!("blobs/{}", content.loose))),
        OperationKind::Untag => ("DELETE", in_repository(format!("manifests/{}", tag()))),
        OperationKind::ReadMetadata => ("GET", format!("/acr/v1/{repository}")),
        OperationKind::WriteMetadata => {
            outgoing.content_type = Some("application/json");
            outgoing.body = br#"{"listEnabled":true}"#.to_vec();
            ("PATCH", format!("/acr/v1/{repository}"))
        }
        OperationKind::ListDeletedCatalog => ("GET", "/acr/v1/_deleted/_catalog".to_owned()),
        OperationKind::ListDeleted => ("GET", format!("/acr/v1/_deleted/{repository}/_tags")),
        OperationKind::RestoreDeleted => {
            outgoing.content_type = Some("application/json");
            outgoing.body = json!({"tag": content.tag()}).to_string().into();
            ("POST", format!("/acr/v1/_deleted/{repository}/_manifests/{}", content.manifest_digest))
        }
        OperationKind::WriteQuarantine => {
            outgoing.content_type = Some("application/json");
            outgoing.body = br#"{"quarantineState":"Passed"}"#.to_vec();
            ("PATCH", format!("/acr/v1/{repository}/_manifests/{}", content.manifest_digest))
        }
        OperationKind::DeleteRepository => ("DELETE", format!("/acr/v1/{repository}")),
    };
    Outgoing { method, target, ..outgoing }
}

/// Only principals have tokens of the authority; others ask without one, which the gate decides on all the same.
fn exchange(outgoing: Outgoing, service: &str, credentials: Credentials) -> Outgoing {
    let mut fields = vec![("grant_type", "access_token"), ("service", service)];
    if let Credentials::Authority(token) = &credentials {
        fields.push(("access_token", token));
    }
    let (target, body) = ("/oauth2/exchange".to_owned(), form(&fields).into());
    Outgoing { method: "POST", target, content_type: Some(FORM), body, ..outgoing }
}

/// Refresh tokens come in a form, passwords in a header.
fn issue(outgoing: Outgoing, row: &Row, service: &str, credentials: Credentials) -> Outgoing {
    let scope = format!("repository:{}:pull", row.operation.repository);
    let mut fields = vec![("service", service), ("scope", scope.as_str())];
    if let Credentials::Refresh(token) = &credentials {
        fields.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
        let (target, body) = ("/oauth2/token".to_owned(), form(&fields).into());
        return Outgoing { method: "POST", target, content_type: Some(FORM), body, ..outgoing };
    }
    Outgoing { target: format!("/oauth2/token?{}", form(&fields)), authorization: credentials.header(), ..outgoing }
}

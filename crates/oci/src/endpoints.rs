use postern_access::OperationKind;

/// One line of the API: for the reference, and for the test that every line is parsed.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The specification's id, or `acr`, `token`.
    pub id: &'static str,
    /// The method.
    pub method: &'static str,
    /// The path and the parameters that make it this endpoint.
    pub path: &'static str,
    /// What it is to the access decision.
    pub operation: OperationKind,
}

const fn endpoint(id: &'static str, method: &'static str, path: &'static str, operation: OperationKind) -> Endpoint {
    Endpoint { id, method, path, operation }
}

/// Every endpoint of the data plane.
///
/// Source: OCI distribution specification 1.1, "Endpoints"; Azure Container Registry data plane, api-version 2021-07-01 (read 2026-11).
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("end-1", "GET", "/v2/", OperationKind::Ping),
    endpoint("end-2", "GET", "/v2/<name>/blobs/<digest>", OperationKind::PullBlob),
    endpoint("end-2", "HEAD", "/v2/<name>/blobs/<digest>", OperationKind::PullBlob),
    endpoint("end-3", "GET", "/v2/<name>/manifests/<reference>", OperationKind::PullManifest),
    endpoint("end-3", "HEAD", "/v2/<name>/manifests/<reference>", OperationKind::PullManifest),
    endpoint("end-4a", "POST", "/v2/<name>/blobs/uploads/", OperationKind::PushBlob),
    endpoint("end-4b", "POST", "/v2/<name>/blobs/uploads/?digest=<digest>", OperationKind::PushBlob),
    endpoint("end-4c", "POST", "/v2/<name>/blobs/uploads/?digest-algorithm=sha512", OperationKind::PushBlob),
    endpoint("end-5", "PATCH", "/v2/<name>/blobs/uploads/<upload>", OperationKind::PushBlob),
    endpoint("end-6", "PUT", "/v2/<name>/blobs/uploads/<upload>?digest=<digest>", OperationKind::PushBlob),
    endpoint("end-7a", "PUT", "/v2/<name>/manifests/<reference>", OperationKind::PushManifest),
    endpoint("end-7b", "PUT", "/v2/<name>/manifests/<digest>?tag=a&tag=b", OperationKind::PushManifest),
    endpoint("end-8", "GET", "/v2/<name>/tags/list", OperationKind::ListTags),
    endpoint("end-9", "DELETE", "/v2/<name>/manifests/<digest>", OperationKind::DeleteManifest),
    endpoint("end-9", "DELETE", "/v2/<name>/manifests/<tag>", OperationKind::Untag),
    endpoint("end-10", "DELETE", "/v2/<name>/blobs/<digest>", OperationKind::DeleteBlob),
    endpoint("end-11", "POST", "/v2/<name>/blobs/uploads/?mount=<digest>&from=<name>", OperationKind::PushBlob),
    endpoint("end-12", "GET", "/v2/<name>/referrers/<digest>", OperationKind::ListReferrers),
    endpoint("end-13", "GET", "/v2/<name>/blobs/uploads/<upload>", OperationKind::PushBlob),
    endpoint("end-14", "DELETE", "/v2/<name>/blobs/uploads/<upload>", OperationKind::PushBlob),
    endpoint("ext", "GET", "/v2/_catalog", OperationKind::ListCatalog),
    endpoint("acr", "GET", "/acr/v1/_catalog", OperationKind::ListCatalog),
    endpoint("acr", "GET", "/acr/v1/<name>", OperationKind::ReadMetadata),
    endpoint("acr", "PATCH", "/acr/v1/<name>", OperationKind::WriteMetadata),
    endpoint("acr", "DELETE", "/acr/v1/<name>", OperationKind::DeleteRepository),
    endpoint("acr", "GET", "/acr/v1/<name>/_tags", OperationKind::ReadMetadata),
    endpoint("acr", "GET", "/acr/v1/<name>/_tags/<tag>", OperationKind::ReadMetadata),
    endpoint("acr", "PATCH", "/acr/v1/<name>/_tags/<tag>", OperationKind::WriteMetadata),
    endpoint("acr", "DELETE", "/acr/v1/<name>/_tags/<tag>", OperationKind::Untag),
    endpoint("acr", "GET", "/acr/v1/<name>/_manifests", OperationKind::ReadMetadata),
    endpoint("acr", "GET", "/acr/v1/<name>/_manifests/<digest>", OperationKind::ReadMetadata),
    endpoint("acr", "PATCH", "/acr/v1/<name>/_manifests/<digest>", OperationKind::WriteMetadata),
    endpoint("acr", "GET", "/acr/v1/_deleted/_catalog", OperationKind::ListDeletedCatalog),
    endpoint("acr", "GET", "/acr/v1/_deleted/<name>/_manifests", OperationKind::ListDeleted),
    endpoint("acr", "GET", "/acr/v1/_deleted/<name>/_tags", OperationKind::ListDeleted),
    endpoint("acr", "POST", "/acr/v1/_deleted/<name>/_manifests/<digest>", OperationKind::RestoreDeleted),
    endpoint("token", "POST", "/oauth2/exchange", OperationKind::ExchangeToken),
    endpoint("token", "GET", "/oauth2/token", OperationKind::IssueToken),
    endpoint("token", "POST", "/oauth2/token", OperationKind::IssueToken),
];

use super::*;
use crate::ENDPOINTS;

const SHA: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const UPLOAD: &str = "9f0c2b6e-0d5d-4b6a-9a53-3c1f0a6a2f11";

fn parse(method: &str, target: &str) -> Result<Route, Condition> {
    let target = target.replace("SHA", SHA).replace("HEX", SHA.trim_start_matches("sha256:")).replace("UPLOAD", UPLOAD);
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    Route::parse(&method.parse().unwrap(), path, query).map_err(|refusal| refusal.condition())
}

#[track_caller]
fn check(method: &str, target: &str, expected: Result<(OperationKind, Option<&str>, Option<&str>), Condition>) {
    let operation = parse(method, target).map(|route| route.operation());
    let seen = operation.as_ref().map(|operation| {
        (
            operation.kind,
            operation.repository.as_ref().map(RepositoryName::as_str),
            operation.reference.as_ref().map(ToString::to_string),
        )
    });
    let expected = expected.map(|(kind, name, reference)| (kind, name, reference.map(|text| text.replace("SHA", SHA))));
    assert_eq!(seen.map_err(|condition| *condition), expected, "{method} {target}");
}

#[test]
fn every_endpoint_of_the_table_is_parsed() {
    for endpoint in ENDPOINTS {
        for name in ["app", "team/app", "blobs", "a/tags", "manifests/blobs/uploads"] {
            let target = endpoint
                .path
                .replace("<name>", name)
                .replace("<digest>", SHA)
                .replace("<upload>", UPLOAD)
                .replace("<reference>", "1.0")
                .replace("<tag>", "1.0");
            let operation =
                parse(endpoint.method, &target).unwrap_or_else(|error| panic!("{target}: {error:?}")).operation();
            assert_eq!(operation.kind, endpoint.operation, "{} {target}", endpoint.method);
            let named = endpoint.path.contains("<name>").then_some(name);
            assert_eq!(operation.repository.as_ref().map(RepositoryName::as_str), named, "{target}");
        }
    }
}

#[test]
fn names_are_read_from_the_end() {
    use OperationKind::{ListTags, Ping, PullBlob, PullManifest, PushBlob, ReadMetadata};
    check("GET", "/v2", Ok((Ping, None, None)));
    check("HEAD", "/v2/", Ok((Ping, None, None)));
    check("GET", "/v2/a/manifests/b/tags/list", Ok((ListTags, Some("a/manifests/b"), None)));
    check("GET", "/v2/tags/list/manifests/list", Ok((PullManifest, Some("tags/list"), Some("list"))));
    check("GET", "/v2/a/blobs/uploads/manifests/1", Ok((PullManifest, Some("a/blobs/uploads"), Some("1"))));
    check("GET", "/v2/a/blobs/uploads/blobs/SHA", Ok((PullBlob, Some("a/blobs/uploads"), Some("SHA"))));
    check("POST", "/v2/a/manifests/blobs/uploads", Ok((PushBlob, Some("a/manifests"), None)));
    check("GET", "/v2/a%2Fb/tags/list", Ok((ListTags, Some("a/b"), None)));
    check("GET", "/v2/a%2fb/manifests/sha256%3AHEX", Ok((PullManifest, Some("a/b"), Some("SHA"))));
    check("GET", "/acr/v1/a%2Fb/_tags/v1", Ok((ReadMetadata, Some("a/b"), Some("v1"))));
    check("GET", "/acr/v1/a/b/c", Ok((ReadMetadata, Some("a/b/c"), None)));
    // An encoded slash is never one of the path.
    check("GET", "/v2/a%2Ftags/list", Err(Condition::UnknownEndpoint));
    check("GET", "/v2/a/tags%2Flist", Err(Condition::UnknownEndpoint));
}

#[test]
fn bad_paths() {
    use Condition::{
        DigestInvalid, ManifestUnknown, MethodNotAllowed, NameInvalid, PageInvalid, PathInvalid, QueryInvalid,
        TagInvalid, TooManyTags, UnknownEndpoint, UploadUnknown,
    };
    for (method, target, condition) in [
        ("GET", "/", UnknownEndpoint),
        ("GET", "/v1/_ping", UnknownEndpoint),
        ("GET", "/v2/app", UnknownEndpoint),
        ("GET", "/v2/app/tags/list/", UnknownEndpoint),
        ("GET", "/acr/v1", UnknownEndpoint),
        ("GET", "/acr/v1/", UnknownEndpoint),
        ("GET", "/acr/v1/_deleted", UnknownEndpoint),
        ("GET", "/acr/v1/_deleted/app", UnknownEndpoint),
        ("POST", "/acr/v1/_deleted/app/_manifests/1.0", DigestInvalid),
        ("POST", "/acr/v1/_deleted/app/_manifests/SHA?force=maybe", QueryInvalid),
        ("POST", "/v2/", MethodNotAllowed),
        ("DELETE", "/v2/_catalog", MethodNotAllowed),
        ("POST", "/v2/app/manifests/1", MethodNotAllowed),
        ("GET", "/oauth2/exchange", MethodNotAllowed),
        ("PUT", "/oauth2/token", MethodNotAllowed),
        ("GET", "/v2/App/tags/list", NameInvalid),
        ("GET", "/v2/tags/list", NameInvalid),
        ("GET", "/v2//app/tags/list", NameInvalid),
        ("GET", "/v2/a//b/tags/list", NameInvalid),
        ("GET", "/v2/../etc/passwd/tags/list", NameInvalid),
        ("GET", "/v2/a/../b/tags/list", NameInvalid),
        ("GET", "/v2/a/./b/tags/list", NameInvalid),
        ("GET", "/v2/a%2F/tags/list", NameInvalid),
        ("GET", "/v2/a%2F..%2Fb/tags/list", NameInvalid),
        ("GET", "/v2/a%5Cb/tags/list", NameInvalid),
        ("GET", "/v2/a%2e%2E/tags/list", PathInvalid),
        ("GET", "/v2/a%00b/tags/list", PathInvalid),
        ("GET", "/v2/a%0d%0ab/tags/list", PathInvalid),
        ("GET", "/v2/a%252Fb/tags/list", PathInvalid),
        ("GET", "/v2/a%ff/tags/list", PathInvalid),
        ("GET", "/v2/a%zz/tags/list", PathInvalid),
        ("GET", "/acr/v1/_app", NameInvalid),
        ("GET", "/acr/v1/a/_other", NameInvalid),
        ("GET", "/v2/app/blobs/latest", DigestInvalid),
        ("GET", "/v2/app/blobs/md5:00", DigestInvalid),
        ("GET", "/v2/app/referrers/1.0", DigestInvalid),
        ("GET", "/v2/app/manifests/sha256:abc", DigestInvalid),
        ("GET", "/v2/app/manifests/.bad", ManifestUnknown),
        ("HEAD", "/v2/app/manifests/.bad", ManifestUnknown),
        ("DELETE", "/v2/app/manifests/.bad", ManifestUnknown),
        ("PUT", "/v2/app/manifests/.bad", TagInvalid),
        ("PUT", "/v2/app/manifests/SHA?tag=.bad", TagInvalid),
        ("PUT", "/v2/app/manifests/SHA?tag=a&tag=b&tag=c&tag=d&tag=e&tag=f&tag=g&tag=h&tag=i&tag=j&tag=k", TooManyTags),
        ("GET", "/acr/v1/app/_tags/.bad", TagInvalid),
        ("GET", "/acr/v1/app/_manifests/1.0", DigestInvalid),
        ("PATCH", "/v2/app/blobs/uploads/not-an-id", UploadUnknown),
        ("PUT", "/v2/app/blobs/uploads/UPLOAD", DigestInvalid),
        ("PUT", "/v2/app/blobs/uploads/UPLOAD?digest=x", DigestInvalid),
        ("POST", "/v2/app/blobs/uploads/?digest=x", DigestInvalid),
        ("POST", "/v2/app/blobs/uploads/?digest-algorithm=md5", DigestInvalid),
        ("POST", "/v2/app/blobs/uploads/?mount=x&from=b", DigestInvalid),
        ("GET", "/v2/app/tags/list?n=-1", PageInvalid),
        ("GET", "/v2/app/tags/list?last=%00", QueryInvalid),
        ("GET", "/acr/v1/app/_tags?orderby=size", QueryInvalid),
        ("GET", "/acr/v1/app/_tags?digest=x", DigestInvalid),
    ] {
        check(method, target, Err(condition));
    }
    check("GET", &format!("/v2/{}/tags/list", "a".repeat(256)), Err(NameInvalid));
    check("GET", &format!("/v2/app/referrers/SHA?artifactType={}", "a".repeat(257)), Err(QueryInvalid));
}

#[test]
fn parameters() {
    let start = |query: &str| match parse("POST", &format!("/v2/app/blobs/uploads/?{query}")) {
        Ok(Route::StartUpload { start, .. }) => start,
        other => panic!("{query}: {other:?}"),
    };
    let digest: Digest = SHA.parse().unwrap();
    assert_eq!(start(""), UploadStart::Empty(Algorithm::Sha256));
    assert_eq!(start("digest-algorithm=sha512"), UploadStart::Empty(Algorithm::Sha512));
    assert_eq!(start("digest=SHA"), UploadStart::Whole(digest));
    assert_eq!(start("mount=SHA"), UploadStart::Mount { digest, from: None });
    assert_eq!(start("mount=SHA&from=BAD"), UploadStart::Mount { digest, from: None });
    assert_eq!(start("mount=SHA&from=a%2Fb"), UploadStart::Mount { digest, from: Some("a/b".parse().unwrap()) });
    match parse("PUT", "/v2/app/manifests/SHA?tag=a&tag=b&tag=a") {
        Ok(Route::PushManifest { tags, .. }) => assert_eq!(tags, ["a".parse().unwrap(), "b".parse().unwrap()]),
        other => panic!("{other:?}"),
    }
    match parse("GET", "/acr/v1/app/_manifests?orderby=timedesc&n=5") {
        Ok(Route::ListManifestObjects { page, .. }) => assert_eq!((page.limit, page.order), (5, Order::NewestFirst)),
        other => panic!("{other:?}"),
    }
}

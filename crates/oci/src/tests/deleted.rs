use super::*;

impl Bench {
    async fn soft_delete(&self, status: &str) {
        self.set(&json!({"policies": {"softDeletePolicy": {"status": status, "retentionDays": 7}}})).await;
    }

    async fn deleted(&self, repository: &str, what: &str) -> Vec<Value> {
        let target = format!("/acr/v1/_deleted/{repository}/_{what}");
        self.request("GET", &target).expect(200, "").await.json()[what].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn deleted_content_is_listed_and_restored() {
    let bench = Bench::new().await;
    bench.soft_delete("enabled").await;
    let (digest, bytes) = bench.push_image("team/app", "1.0", "layer", json!({})).await;
    let deleted = bench.request("DELETE", "/acr/v1/team%2Fapp").expect(202, "").await.json();
    assert_eq!(deleted["tagsDeleted"], json!(["1.0"]));
    bench.request("GET", "/v2/team/app/manifests/1.0").expect(404, "NAME_UNKNOWN").await;
    let catalog = bench.request("GET", "/acr/v1/_deleted/_catalog").expect(200, "").await.json();
    assert_eq!(catalog["repositories"], json!(["team/app"]));
    let [manifest] = bench.deleted("team/app", "manifests").await.try_into().unwrap();
    assert_eq!((&manifest["digest"], &manifest["tags"]), (&json!(digest.to_string()), &json!(["1.0"])));
    assert!(manifest["deletedAt"].as_str().unwrap().ends_with('Z'), "{manifest}");
    let [tag] = bench.deleted("team/app", "tags").await.try_into().unwrap();
    assert_eq!((&tag["tag"], &tag["digest"]), (&json!("1.0"), &json!(digest.to_string())));

    let push = bench.request("PUT", "/v2/team/app/manifests/2.0").header("content-type", IMAGE).body(bytes);
    let refused = push.expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    assert!(refused.text().contains("restore it"), "{}", refused.text());

    let target = format!("/acr/v1/_deleted/team/app/_manifests/{digest}?force=False");
    for body in ["[]", "{", r#"{"tags":["a"]}"#, r#"{"tag":7}"#] {
        bench.request("POST", &target).body(body).expect(400, "BAD_REQUEST").await;
    }
    bench.request("POST", &target).body(r#"{"tag":".bad"}"#).expect(400, "TAG_INVALID").await;
    let restored = bench.request("POST", &target).body(r#"{"tag":"1.0"}"#).expect(200, "").await.json();
    assert_eq!((&restored["digest"], &restored["tag"]), (&json!(digest.to_string()), &json!("1.0")));
    bench.request("GET", "/v2/team/app/manifests/1.0").expect(200, "").await;
    bench.request("POST", &target).body(r#"{"tag":"1.0"}"#).expect(404, "MANIFEST_UNKNOWN").await;
    assert!(bench.deleted("team/app", "manifests").await.is_empty());
}

#[tokio::test]
async fn a_tag_in_use_takes_force() {
    let bench = Bench::new().await;
    bench.soft_delete("enabled").await;
    let (first, _) = bench.push_image("app", "1.0", "first", json!({})).await;
    bench.request("DELETE", &format!("/v2/app/manifests/{first}")).expect(202, "").await;
    let (second, _) = bench.push_image("app", "1.0", "second", json!({})).await;
    let target = |force: &str| format!("/acr/v1/_deleted/app/_manifests/{first}?force={force}");
    let refused = bench.request("POST", &target("false")).body(r#"{"tag":"1.0"}"#);
    refused.expect(409, "TAG_ALREADY_EXISTS").await;
    bench.request("POST", &target("True")).body(r#"{"tag":"1.0"}"#).expect(200, "").await;
    let now = bench.request("GET", "/v2/app/manifests/1.0").expect(200, "").await;
    assert_eq!(now.header("docker-content-digest"), Some(&*first.to_string()));
    assert_eq!(bench.deleted("app", "manifests").await[0]["digest"], json!(second.to_string()));
    bench.request("PATCH", "/acr/v1/app").body(r#"{"writeEnabled":false}"#).expect(200, "").await;
    let locked = format!("/acr/v1/_deleted/app/_manifests/{second}");
    let answer = bench.request("POST", &locked).expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    assert_eq!(bench.record(&answer).await["decidedBy"], json!("content"));
}

#[tokio::test]
async fn it_takes_rights_of_its_own() {
    let bench = Bench::new().await;
    bench.soft_delete("enabled").await;
    let (digest, _) = bench.push_image("app", "1.0", "layer", json!({})).await;
    bench.request("DELETE", &format!("/v2/app/manifests/{digest}")).expect(202, "").await;
    let restore = format!("/acr/v1/_deleted/app/_manifests/{digest}");
    let robot = |method: &str, target: &str| bench.request(method, target).basic(&ROBOT.1.to_string(), PASSWORD);
    for target in ["/acr/v1/_deleted/_catalog", "/acr/v1/_deleted/app/_tags", "/acr/v1/_deleted/app/_manifests"] {
        robot("GET", target).expect(403, "DENIED").await;
    }
    robot("POST", &restore).expect(403, "DENIED").await;
    let answer = bench.anonymous("GET", "/acr/v1/_deleted/_catalog").expect(401, "UNAUTHORIZED").await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("registry:deleted_catalog:*"), "{challenge}");
    let answer = bench.anonymous("POST", &restore).expect(401, "UNAUTHORIZED").await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("repository:app:deleted_read,deleted_restore"), "{challenge}");
    let ask = |scope: &str| format!("/oauth2/token?service={HOST}&scope={scope}");
    for (scope, target, status, code) in [
        ("registry:deleted_catalog:*", "/acr/v1/_deleted/_catalog", 200, ""),
        ("registry:catalog:*", "/acr/v1/_deleted/_catalog", 401, "UNAUTHORIZED"),
        ("registry:deleted_catalog:*", "/v2/_catalog", 401, "UNAUTHORIZED"),
        ("repository:app:deleted_read", "/acr/v1/_deleted/app/_tags", 200, ""),
        ("repository:app:pull", "/acr/v1/_deleted/app/_tags", 401, "UNAUTHORIZED"),
    ] {
        let token = bench.request("GET", &ask(scope)).expect(200, "").await.json();
        let request = bench.request("GET", target).bearer(token["access_token"].as_str().unwrap());
        request.expect(status, code).await;
    }
}

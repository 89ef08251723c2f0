use super::*;

#[tokio::test]
async fn challenges_name_the_way_the_client_came() {
    let bench = Bench::new().await;
    let answer = bench.anonymous("GET", "/v2/").expect(401, "UNAUTHORIZED").await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some(
            "Bearer realm=\"https://contoso.azurecr.io.localhost/oauth2/token\",service=\"contoso.azurecr.io.localhost\""
        )
    );
    assert_eq!(
        answer.json()["errors"][0]["message"],
        "authentication required, visit https://aka.ms/acr/authorization for more information."
    );
    let answer =
        bench.anonymous("PUT", "/v2/app/manifests/1").host("localhost:5000").plain().expect(401, "UNAUTHORIZED").await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some(
            "Bearer realm=\"http://localhost:5000/oauth2/token\",service=\"contoso.azurecr.io.localhost\",scope=\"repository:app:pull,push\""
        )
    );
    assert_eq!(
        answer.json()["errors"][0]["detail"],
        json!([
            {"Type": "repository", "Name": "app", "Action": "pull"},
            {"Type": "repository", "Name": "app", "Action": "push"},
        ])
    );
    bench.request("GET", "/v2/").expect(200, "").await;
    for host in ["localhost:5000", "127.0.0.1:80", "[::1]:443", &HOST.to_uppercase()] {
        bench.request("GET", "/v2/").host(host).expect(200, "").await;
    }
    for host in ["unknown.azurecr.io.localhost", "example.com", "a b", "contoso.azurecr.io.localhost:x"] {
        bench.request("GET", "/v2/").host(host).expect(404, "NAME_UNKNOWN").await;
    }
    bench.request("GET", "/v2/").without("host").expect(404, "NAME_UNKNOWN").await;
}

#[tokio::test]
async fn the_gate_comes_before_everything() {
    let bench = Bench::new().await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    bench.set(&json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": "203.0.113.0/24"}]}})).await;
    for (method, target) in [
        ("GET", "/v2/"),
        ("GET", "/v2/app/manifests/1.0"),
        ("GET", "/v2/BAD/manifests/1.0"),
        ("GET", "/nowhere"),
        ("TRACE", "/v2/"),
        ("GET", "/v2/app/tags/list?n=x"),
        ("POST", "/oauth2/exchange"),
        ("POST", "/oauth2/token"),
        ("GET", "/oauth2/token"),
        ("GET", "/acr/v1/app"),
        ("GET", "/v2/%00/tags/list"),
    ] {
        for call in
            [bench.request(method, target), bench.anonymous(method, target), bench.request(method, target).bearer("x")]
        {
            let answer = call.expect(403, "DENIED").await;
            let id = answer.header("x-ms-correlation-request-id").unwrap().to_owned();
            assert_eq!(
                answer.json(),
                json!({"errors": [{"code": "DENIED", "message": format!(
                    "client with IP '198.51.100.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access. CorrelationId: {id}"
                )}]})
            );
            let record = bench.record(&answer).await;
            assert_eq!(
                (&record["verdict"], &record["decidedBy"], &record["status"]),
                (&json!("deny"), &json!("network"), &json!(403))
            );
        }
    }
    let mut call = bench.request("GET", "/v2/app/manifests/1.0");
    call.address = [203, 0, 113, 9].into();
    let answer = call.expect(200, "").await;
    assert_eq!(bench.record(&answer).await["via"], "IP rule 203.0.113.0/24");
}

#[tokio::test]
async fn existence_is_hidden_from_those_without_rights() {
    let bench = Bench::new().await;
    bench.push_image("secret", "1.0", "layer", json!({})).await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    // The same answer for what is there and for what is not.
    for name in ["secret", "nothing"] {
        bench.anonymous("GET", &format!("/v2/{name}/manifests/1.0")).expect(401, "UNAUTHORIZED").await;
        for target in [format!("/v2/{name}/manifests/1.0"), format!("/acr/v1/{name}"), format!("/v2/{name}/tags/list")]
        {
            bench.request("GET", &target).basic("reader", PASSWORD).expect(403, "DENIED").await;
        }
    }
    bench.anonymous("GET", "/v2/BAD/tags/list").expect(401, "UNAUTHORIZED").await;
    bench.anonymous("GET", "/nowhere").expect(401, "UNAUTHORIZED").await;
    bench.request("GET", "/v2/BAD/tags/list").expect(400, "NAME_INVALID").await;
    bench.request("GET", "/nowhere").expect(404, "UNSUPPORTED").await;
    let answer = bench.request("POST", "/v2/app/manifests/1.0").expect(405, "UNSUPPORTED").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT, DELETE"));
}

#[tokio::test]
async fn repository_scoped_tokens() {
    let bench = Bench::new().await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    // Directly as Basic.
    bench.request("GET", "/v2/app/manifests/1.0").basic("reader", PASSWORD).expect(200, "").await;
    bench.request("GET", "/acr/v1/app").basic("reader", PASSWORD).expect(200, "").await;
    let answer = bench.request("DELETE", "/v2/app/manifests/1.0").basic("reader", PASSWORD).expect(403, "DENIED").await;
    assert_eq!(answer.json()["errors"][0]["message"], "requested access to the resource is denied");
    bench.request("GET", "/v2/_catalog").basic("reader", PASSWORD).expect(403, "DENIED").await;
    // By an access token: what it does not claim may be asked for; what the map does not give may not.
    let token = bench.access_token("reader", "repository:app:pull,push").await;
    bench.request("GET", "/v2/app/manifests/1.0").bearer(&token).expect(200, "").await;
    bench.request("POST", "/v2/app/blobs/uploads/").bearer(&token).expect(403, "DENIED").await;
    let bare = bench.access_token("reader", "repository:other:pull").await;
    let answer = bench.request("GET", "/v2/app/manifests/1.0").bearer(&bare).expect(401, "UNAUTHORIZED").await;
    assert!(answer.header("www-authenticate").unwrap().ends_with("error=\"insufficient_scope\""));
}

#[tokio::test]
async fn a_challenge_asks_for_the_right_that_this_caller_can_get() {
    let bench = Bench::new().await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    for (right, scope) in [("metadata/write", "metadata_write"), ("content/delete", "delete"), ("content/read", "")] {
        let actions = json!([format!("repositories/app/{right}")]);
        put(&bench.directory, &format!("{CONTOSO}/scopeMaps/read-app"), json!({"properties": {"actions": actions}}))
            .await;
        let bare = bench.access_token("reader", "repository:other:pull").await;
        let untag = bench.request("DELETE", "/v2/app/manifests/1.0").bearer(&bare);
        if right == "content/read" {
            // No token would help.
            untag.expect(403, "DENIED").await;
            continue;
        }
        let answer = untag.expect(401, "UNAUTHORIZED").await;
        let challenge = answer.header("www-authenticate").unwrap();
        let expected = format!(",scope=\"repository:app:{scope}\",error=\"insufficient_scope\"");
        assert!(challenge.ends_with(&expected), "{challenge}");
        assert_eq!(
            answer.json()["errors"][0]["detail"],
            json!([{"Type": "repository", "Name": "app", "Action": scope}])
        );
    }
    // What the new token takes the place of is asked for again.
    let pull = bench.access_token("contoso", "repository:app:pull").await;
    let answer = bench.request("POST", "/v2/app/blobs/uploads/").bearer(&pull).expect(401, "UNAUTHORIZED").await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.ends_with(",scope=\"repository:app:pull,push\",error=\"insufficient_scope\""), "{challenge}");
}

#[tokio::test]
async fn a_request_without_a_peer_is_not_let_in() {
    let bench = Bench::new().await;
    let request = Request::builder().uri("/v2/").header("host", HOST).body(Body::empty()).unwrap();
    let response = bench.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 500);
}

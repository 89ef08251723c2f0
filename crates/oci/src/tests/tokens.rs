use super::*;

impl Bench {
    /// An access token for these scopes, by the user's password.
    pub(super) async fn access_token(&self, user: &str, scope: &str) -> String {
        let target = format!("/oauth2/token?service={HOST}&scope={}", crate::query::encode(scope));
        let answer = self.request("GET", &target).basic(user, PASSWORD).expect(200, "").await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn form(&self, endpoint: &str, form: &str) -> Call<'_> {
        self.anonymous("POST", endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
    }
}

/// A token of the authority for the service principal.
async fn authority_token(bench: &Bench, audience: &str) -> String {
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={audience}/.default",
        ROBOT.1,
        PASSWORD.replace(' ', "+")
    );
    let mut request = Request::post(format!("/{TENANT}/oauth2/v2.0/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .unwrap();
    request.extensions_mut().insert(peer([198, 51, 100, 7].into()));
    let response = bench.authority.clone().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn a_directory_identity_exchanges_its_token() {
    let bench = Bench::new().await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    for audience in ["https://containerregistry.azure.net", "https://management.azure.com/"] {
        let proof = authority_token(&bench, audience).await;
        let form = format!("grant_type=access_token&service={HOST}:8443&tenant={TENANT}&access_token={proof}");
        let answer = bench.form("/oauth2/exchange", &form).expect(200, "").await;
        assert_eq!(bench.record(&answer).await["caller"]["name"], "robot");
        let refresh = answer.json()["refresh_token"].as_str().unwrap().to_owned();

        let form = format!(
            "grant_type=refresh_token&service={HOST}&scope=repository%3Aapp%3Apull%2Cpush&refresh_token={refresh}"
        );
        let answer = bench.form("/oauth2/token", &form).expect(200, "").await;
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        bench.request("GET", "/v2/app/manifests/1.0").bearer(&token).expect(200, "").await;
        let answer = bench.request("POST", "/v2/app/blobs/uploads/").bearer(&token).expect(401, "UNAUTHORIZED").await;
        assert!(answer.header("www-authenticate").unwrap().ends_with("error=\"insufficient_scope\""));
        // As docker stores it: the refresh token as a password.
        let nobody = Uuid::nil().to_string();
        bench.request("GET", "/v2/app/manifests/1.0").basic(&nobody, &refresh).expect(200, "").await;
        // Neither token stands in for the other.
        bench.request("GET", "/v2/").bearer(&refresh).expect(401, "UNAUTHORIZED").await;
        bench.request("GET", "/v2/").bearer(&proof).expect(401, "UNAUTHORIZED").await;
    }
    // Directly, with its secret; another tenant; a role taken away.
    bench.request("GET", "/v2/app/manifests/1.0").basic(&ROBOT.1.to_string(), PASSWORD).expect(200, "").await;
    bench.request("POST", "/v2/app/blobs/uploads/").basic(&ROBOT.1.to_string(), PASSWORD).expect(403, "DENIED").await;
    let proof = authority_token(&bench, "https://containerregistry.azure.net").await;
    let form = format!("grant_type=access_token&service={HOST}&tenant={}&access_token={proof}", Uuid::from_u128(8));
    bench.form("/oauth2/exchange", &form).expect(401, "UNAUTHORIZED").await;
    bench.set(&json!({"policies": {"azureADAuthenticationAsArmPolicy": {"status": "disabled"}}})).await;
    let proof = authority_token(&bench, "https://management.azure.com/").await;
    let form = format!("grant_type=access_token&service={HOST}&access_token={proof}");
    bench.form("/oauth2/exchange", &form).expect(401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn tokens_by_get_and_post_open_what_they_say() {
    let bench = Bench::new().await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    let pull = "/v2/app/manifests/1.0";

    let token = bench.access_token("contoso", "repository:app:pull").await;
    bench.request("GET", pull).bearer(&token).expect(200, "").await;
    bench.request("GET", "/v2/").bearer(&token).expect(200, "").await;
    let answer = bench.request("DELETE", pull).bearer(&token).expect(401, "UNAUTHORIZED").await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.ends_with(",scope=\"repository:app:delete\",error=\"insufficient_scope\""), "{challenge}");
    bench.request("GET", "/v2/other/tags/list").bearer(&token).expect(401, "UNAUTHORIZED").await;

    // Several scopes, as parameters and in one.
    let scopes = "scope=repository%3Aapp%3Apull%20registry%3Acatalog%3A*&scope=repository%3Aother%3Apull%2Cpush";
    let form =
        format!("grant_type=password&service={HOST}&username=contoso&password={}&{scopes}", PASSWORD.replace(' ', "+"));
    let answer = bench.form("/oauth2/token", &form).expect(200, "").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    bench.request("GET", "/v2/_catalog").bearer(&token).expect(200, "").await;
    bench.request("POST", "/v2/other/blobs/uploads/").bearer(&token).expect(202, "").await;

    // The service is any name of this registry.
    for service in [HOST.to_owned(), format!("{HOST}:8443"), "localhost:5000".into(), HOST.to_uppercase()] {
        bench.request("GET", &format!("/oauth2/token?service={service}")).expect(200, "").await;
    }
    for service in ["fabrikam.azurecr.io.localhost", "example.com", "a b"] {
        bench
            .request("GET", &format!("/oauth2/token?service={}", crate::query::encode(service)))
            .expect(400, "BAD_REQUEST")
            .await;
    }
    // What is no scope here gives nothing.
    bench.request("GET", &format!("/oauth2/token?service={HOST}&scope=registry:None:*")).expect(200, "").await;
}

#[tokio::test]
async fn tokens_that_do_not_hold() {
    let bench = Bench::new().await;
    let pull = "/v2/app/manifests/1.0";
    let token = bench.access_token("contoso", "repository:app:pull").await;
    let answer = bench
        .request("GET", pull)
        .host("fabrikam.azurecr.io.localhost")
        .bearer(&token)
        .expect(401, "UNAUTHORIZED")
        .await;
    assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    for header in ["Bearer", "Bearer x", "Bearer a.b.c", "Digest x", "Basic !!!", "Basic Y29udG9zbw=="] {
        let answer = bench.request("GET", pull).header("authorization", header).expect(401, "UNAUTHORIZED").await;
        assert!(answer.header("www-authenticate").unwrap().ends_with("error=\"invalid_token\""), "{header}");
    }
    for (user, password) in [("contoso", "wrong"), ("nobody", PASSWORD), ("reader", "wrong"), ("", "x")] {
        bench.request("GET", pull).basic(user, password).expect(401, "UNAUTHORIZED").await;
        bench
            .request("GET", &format!("/oauth2/token?service={HOST}"))
            .basic(user, password)
            .expect(401, "UNAUTHORIZED")
            .await;
    }
    bench.clock.0.fetch_add(76 * 60 * 1_000_000, Ordering::SeqCst);
    bench.request("GET", pull).bearer(&token).expect(401, "UNAUTHORIZED").await;
    // Access tokens get no others.
    bench.request("GET", &format!("/oauth2/token?service={HOST}")).bearer(&token).expect(401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn bad_token_requests() {
    let bench = Bench::new().await;
    for form in [
        "",
        "grant_type=magic",
        "grant_type=refresh_token",
        "grant_type=password&service=example.com",
        "grant_type=password&username=contoso&scope=repository",
        "grant_type=password&scope=repository:BAD:pull",
    ] {
        bench.form("/oauth2/token", form).expect(400, "BAD_REQUEST").await;
    }
    for form in [
        "",
        "grant_type=password",
        "grant_type=access_token",
        &format!("grant_type=access_token&service={HOST}"),
        "grant_type=access_token&service=example.com&access_token=x",
    ] {
        bench.form("/oauth2/exchange", form).expect(400, "BAD_REQUEST").await;
    }
    bench
        .form("/oauth2/exchange", &format!("grant_type=access_token&service={HOST}&access_token=a.b.c"))
        .expect(401, "UNAUTHORIZED")
        .await;
    bench
        .form("/oauth2/token", &format!("grant_type=refresh_token&service={HOST}&refresh_token=a.b.c"))
        .expect(401, "UNAUTHORIZED")
        .await;
    let large = format!("grant_type=password&x={}", "a".repeat(64 << 10));
    bench.form("/oauth2/token", &large).expect(413, "SIZE_INVALID").await;
    bench.form("/oauth2/exchange", &large).expect(413, "SIZE_INVALID").await;
}

#[tokio::test]
async fn anonymous_pull() {
    let bench = Bench::new().await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    let target = format!("/oauth2/token?service={HOST}&scope=repository:app:pull,push");
    let answer = bench.anonymous("GET", &target).expect(401, "UNAUTHORIZED").await;
    let record = bench.record(&answer).await;
    assert_eq!((&record["verdict"], &record["decidedBy"]), (&json!("deny"), &json!("authentication")));

    bench.set(&json!({"anonymousPullEnabled": true})).await;
    // Still challenged first: the token says who it is that is anonymous.
    bench.anonymous("GET", "/v2/app/manifests/1.0").expect(401, "UNAUTHORIZED").await;
    let token =
        bench.anonymous("GET", &target).expect(200, "").await.json()["access_token"].as_str().unwrap().to_owned();
    bench.request("GET", "/v2/app/manifests/1.0").bearer(&token).expect(200, "").await;
    bench.request("GET", "/v2/app/tags/list").bearer(&token).expect(200, "").await;
    bench.request("POST", "/v2/app/blobs/uploads/").bearer(&token).expect(401, "UNAUTHORIZED").await;
    bench.request("GET", "/v2/_catalog").bearer(&token).expect(401, "UNAUTHORIZED").await;
    let form = format!("grant_type=password&service={HOST}&scope=repository%3Aapp%3Apull&username=");
    bench.form("/oauth2/token", &form).expect(200, "").await;
    // A right that went takes the token's with it.
    bench.set(&json!({})).await;
    bench.request("GET", "/v2/app/manifests/1.0").bearer(&token).expect(401, "UNAUTHORIZED").await;
}

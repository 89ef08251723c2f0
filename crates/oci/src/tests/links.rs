use postern_identity::LINK_SECONDS;

use super::*;

const DATA_HOST: &str = "contoso.eastus.data.azurecr.io.localhost";

impl Bench {
    async fn data_endpoint(&self, more: Value) {
        let mut document = registry(&json!({"dataEndpointEnabled": true}));
        document["location"] = json!("East US");
        let properties = document["properties"].as_object_mut().unwrap();
        properties.extend(more.as_object().cloned().unwrap_or_default());
        put(&self.directory, CONTOSO, document).await;
    }

    /// Where a pull of the blob is sent, by these credentials.
    async fn link(&self, call: Call<'_>) -> String {
        let answer = call.expect(307, "").await;
        let location = answer.header("location").unwrap().to_owned();
        assert!(answer.body.is_empty() && !location.contains("eyJ0eXAi"), "{location}");
        location.strip_prefix(&format!("https://{DATA_HOST}")).expect(&location).to_owned()
    }

    /// A request as clients send it after a redirect to another host: without credentials.
    fn follow(&self, target: &str) -> Call<'_> {
        self.anonymous("GET", target).host(DATA_HOST)
    }
}

#[tokio::test]
async fn blobs_are_served_by_links_to_the_data_endpoint() {
    let bench = Bench::new().await;
    bench.data_endpoint(json!({})).await;
    bench.push_image("team/app", "1.0", "layer", json!({})).await;
    let digest = digest_of(b"layer", Algorithm::Sha256);
    let target = format!("/v2/team/app/blobs/{digest}");
    let link = bench.link(bench.request("GET", &target)).await;
    assert!(link.starts_with(&format!("{target}?link=")), "{link}");
    let answer = bench.follow(&link).expect(200, "").await;
    assert_eq!(answer.text(), "layer");
    let record = bench.record(&answer).await;
    assert_eq!((&record["operation"], &record["caller"]["kind"]), (&json!("pullBlob"), &json!("admin")), "{record}");
    let part = bench.follow(&link).header("range", "bytes=1-2").expect(206, "").await;
    assert_eq!(part.text(), "ay");
    // The port that the client came by goes with it.
    let answer = bench.request("GET", &target).host(&format!("{HOST}:8443")).expect(307, "").await;
    assert!(answer.header("location").unwrap().starts_with(&format!("https://{DATA_HOST}:8443/v2/")));

    // Not for headers, not by another name, not without TLS, and not what is not there.
    bench.request("HEAD", &target).expect(200, "").await;
    bench.request("GET", &target).host("localhost:5000").expect(200, "").await;
    bench.request("GET", &target).plain().expect(200, "").await;
    let none = format!("/v2/team/app/blobs/{}", digest_of(b"none", Algorithm::Sha256));
    bench.request("GET", &none).expect(404, "BLOB_UNKNOWN").await;
    bench.set(&json!({})).await;
    bench.request("GET", &target).expect(200, "").await;
    bench.follow(&link).expect(404, "NAME_UNKNOWN").await;
}

#[tokio::test]
async fn a_link_is_for_one_blob_one_registry_and_a_while() {
    let bench = Bench::new().await;
    bench.data_endpoint(json!({})).await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    bench.push_image("other", "1.0", "layer", json!({})).await;
    let (layer, config) = (
        digest_of(b"layer", Algorithm::Sha256),
        digest_of(br#"{"architecture":"arm64","os":"linux"}"#, Algorithm::Sha256),
    );
    let target = format!("/v2/app/blobs/{layer}");
    let link = bench.link(bench.request("GET", &target)).await;
    let (_, signed) = link.split_once("?link=").unwrap();
    let (payload, signature) = signed.split_once('.').unwrap();
    for wrong in [
        target.clone(),
        format!("{target}?link="),
        format!("{target}?link={payload}"),
        format!("{target}?link={payload}.AAAA"),
        format!("{target}?link=A{payload}.{signature}"),
        format!("/v2/app/blobs/{config}?link={signed}"),
        format!("/v2/other/blobs/{layer}?link={signed}"),
        format!("{target}?link={}", "a".repeat(5000)),
    ] {
        bench.follow(&wrong).expect(403, "DENIED").await;
        // Other credentials count for nothing there.
        bench.request("GET", &wrong).host(DATA_HOST).expect(403, "DENIED").await;
    }
    // Nothing but blobs.
    for (method, target) in
        [("GET", "/v2/"), ("GET", "/v2/app/manifests/1.0"), ("POST", "/oauth2/token"), ("DELETE", &*link)]
    {
        bench.request(method, target).host(DATA_HOST).expect(403, "DENIED").await;
    }
    bench.request("GET", &link).host("contoso.westus.data.azurecr.io.localhost").expect(404, "NAME_UNKNOWN").await;
    bench.request("GET", &link).host("fabrikam.eastus.data.azurecr.io.localhost").expect(404, "NAME_UNKNOWN").await;

    bench.clock.0.fetch_add((LINK_SECONDS - 5) * 1_000_000, Ordering::SeqCst);
    bench.follow(&link).expect(200, "").await;
    bench.clock.0.fetch_add(6_000_000, Ordering::SeqCst);
    let answer = bench.follow(&link).expect(403, "DENIED").await;
    assert_eq!(bench.record(&answer).await["decidedBy"], json!("authentication"));
}

#[tokio::test]
async fn the_whole_decision_is_made_again_at_the_data_endpoint() {
    let bench = Bench::new().await;
    bench.data_endpoint(json!({})).await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    let target = format!("/v2/app/blobs/{}", digest_of(b"layer", Algorithm::Sha256));
    let robot = bench.request("GET", &target).basic(&ROBOT.1.to_string(), PASSWORD);
    let (admins, robots) = (bench.link(bench.request("GET", &target)).await, bench.link(robot).await);
    bench.follow(&robots).expect(200, "").await;

    // The wall: the link is as good as the place it is used from.
    let closed = json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}});
    bench.data_endpoint(closed).await;
    bench.follow(&robots).expect(200, "").await;
    let elsewhere = Call { address: [203, 0, 113, 9].into(), ..bench.follow(&robots) };
    let answer = elsewhere.expect(403, "DENIED").await;
    assert_eq!(bench.record(&answer).await["decidedBy"], json!("network"));
    // The caller: the admin user is off, the robot's role is gone.
    bench.data_endpoint(json!({"adminUserEnabled": false})).await;
    bench.follow(&admins).expect(403, "DENIED").await;
    bench.follow(&robots).expect(200, "").await;
    let assignment = format!("{CONTOSO}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(0x30));
    bench.directory.remove(assignment.parse().unwrap(), Expected::Any).await.unwrap();
    let answer = bench.follow(&robots).expect(403, "DENIED").await;
    assert_eq!(bench.record(&answer).await["decidedBy"], json!("authorization"));
}

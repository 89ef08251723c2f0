use super::*;

const READER: &str = "/providers/Microsoft.Authorization/roleDefinitions/cdda3590-29a3-44f6-95f2-9f980659eb04";
const WRITER: &str = "/providers/Microsoft.Authorization/roleDefinitions/c8d4ff99-41c3-41a8-9f60-21dfdad59608";
/// A service principal that looks after the quarantine: object id and application id.
const KEEPER: (Uuid, Uuid) = (Uuid::from_u128(0x11), Uuid::from_u128(0x21));

impl Bench {
    async fn quarantine(&self, status: &str) {
        self.set(&json!({"policies": {"quarantinePolicy": {"status": status}}})).await;
    }

    async fn keeper(&self, role: &str) {
        let id = format!("/providers/Microsoft.Graph/servicePrincipals/{}", KEEPER.0);
        put(&self.directory, &id, json!({"properties": {"appId": KEEPER.1.to_string(), "displayName": "keeper"}}))
            .await;
        let owner = SecretOwner::Principal(PrincipalId(KEEPER.0)).to_string();
        self.store.credentials().put(&owner, "secret", &Secret::new(PASSWORD), Keep::Hashed, None).await.unwrap();
        let id = format!("{CONTOSO}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(0x31));
        let properties = json!({"principalId": KEEPER.0.to_string(), "roleDefinitionId": role, "scope": CONTOSO});
        put(&self.directory, &id, json!({"properties": properties})).await;
    }

    /// A request of the principal that may pull and nothing else.
    fn robot(&self, method: &str, target: &str) -> Call<'_> {
        self.request(method, target).basic(&ROBOT.1.to_string(), PASSWORD)
    }

    fn guard(&self, method: &str, target: &str) -> Call<'_> {
        self.request(method, target).basic(&KEEPER.1.to_string(), PASSWORD)
    }
}

#[tokio::test]
async fn a_push_is_out_of_reach_until_somebody_passes_it() {
    let bench = Bench::new().await;
    let (old, _) = bench.push_image("app", "0.9", "old layer", json!({})).await;
    bench.robot("GET", "/v2/app/manifests/0.9").expect(200, "").await;
    bench.quarantine("enabled").await;
    bench.keeper(WRITER).await;
    let (digest, _) = bench.push_image("app", "1.0", "layer", json!({})).await;
    let (by_tag, by_digest) = ("/v2/app/manifests/1.0", format!("/v2/app/manifests/{digest}"));

    // Those who may pull: nothing there by tag, refused by digest; older images that nobody has passed are no better.
    let answer = bench.robot("GET", by_tag).expect(404, "MANIFEST_UNKNOWN").await;
    let record = bench.record(&answer).await;
    assert_eq!((&record["verdict"], &record["decidedBy"]), (&json!("deny"), &json!("content")), "{record}");
    assert_eq!(record["fixes"][0][0], json!("set quarantineState to Passed on the manifest"), "{record}");
    bench.robot("HEAD", by_tag).expect(404, "").await;
    bench.robot("GET", &by_digest).expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    bench.robot("GET", "/v2/app/manifests/0.9").expect(404, "MANIFEST_UNKNOWN").await;
    bench.robot("GET", &format!("/v2/app/manifests/{old}")).expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    let layer = format!("/v2/app/blobs/{}", digest_of(b"layer", Algorithm::Sha256));
    bench.robot("GET", &layer).expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    bench.robot("HEAD", &layer).expect(200, "").await;
    // A mount would let the bytes out by another repository.
    let mount = format!("/v2/own/blobs/uploads/?mount={}&from=app", digest_of(b"layer", Algorithm::Sha256));
    bench.request("POST", &mount).expect(201, "").await;

    // Those who look after it: by digest, and what belongs to it.
    bench.guard("GET", &by_digest).expect(200, "").await;
    bench.guard("GET", &layer).expect(200, "").await;
    bench.guard("GET", by_tag).expect(403, "DENIED").await;
    let object = bench.request("GET", &format!("/acr/v1/app/_manifests/{digest}")).expect(200, "").await.json();
    assert_eq!(object["manifest"]["changeableAttributes"]["quarantineState"], json!("Quarantined"));

    let patch = |body: Value| bench.guard("PATCH", &format!("/acr/v1/app/_manifests/{digest}")).body(body.to_string());
    let answer = patch(json!({"quarantineState": "Failed", "quarantineDetails": "{\"state\":\"Scan Failed\"}"}))
        .expect(200, "")
        .await;
    let attributes = &answer.json()["manifest"]["changeableAttributes"];
    assert_eq!(
        (&attributes["quarantineState"], &attributes["quarantineDetails"]),
        (&json!("Failed"), &json!("{\"state\":\"Scan Failed\"}"))
    );
    assert_eq!(bench.record(&answer).await["operation"], json!("writeQuarantine"));
    bench.robot("GET", by_tag).expect(404, "MANIFEST_UNKNOWN").await;
    patch(json!({"quarantineState": "passed"})).expect(200, "").await;
    for target in [by_tag, &by_digest, &layer] {
        bench.robot("GET", target).expect(200, "").await;
    }
    // Back again, and then with the policy off.
    patch(json!({"quarantineState": "Failed"})).expect(200, "").await;
    bench.robot("GET", by_tag).expect(404, "MANIFEST_UNKNOWN").await;
    bench.quarantine("disabled").await;
    bench.robot("GET", by_tag).expect(200, "").await;
    bench.guard("GET", &by_digest).expect(403, "DENIED").await;
}

#[tokio::test]
async fn locks_and_quarantine_take_different_rights() {
    let bench = Bench::new().await;
    bench.quarantine("enabled").await;
    bench.keeper(WRITER).await;
    let (digest, _) = bench.push_image("app", "1.0", "layer", json!({})).await;
    let target = format!("/acr/v1/app/_manifests/{digest}");
    let passed = json!({"quarantineState": "Passed"}).to_string();
    let locked = json!({"readEnabled": false}).to_string();
    let both = json!({"readEnabled": false, "quarantineState": "Passed"}).to_string();

    let answer = bench.robot("PATCH", &target).body(passed.clone()).expect(403, "DENIED").await;
    let record = bench.record(&answer).await;
    assert_eq!(record["operation"], json!("writeQuarantine"));
    assert_eq!(record["fixes"][0][0], json!("assign the caller a role that gives quarantine_write here"), "{record}");
    let answer = bench.robot("PATCH", &target).body(locked.clone()).expect(403, "DENIED").await;
    assert_eq!(bench.record(&answer).await["operation"], json!("writeMetadata"));
    bench.guard("PATCH", &target).body(locked).expect(403, "DENIED").await;
    bench.guard("PATCH", &target).body(both.clone()).expect(403, "DENIED").await;
    bench.guard("PATCH", &target).body("{").expect(403, "DENIED").await;
    bench.anonymous("PATCH", &target).body(passed.clone()).expect(401, "UNAUTHORIZED").await;
    for body in [r#"{"quarantineState":""}"#, r#"{"quarantineState":"so so"}"#, r#"{"quarantineState":7}"#, "[]", "{"] {
        bench.request("PATCH", &target).body(body).expect(400, "BAD_REQUEST").await;
    }
    let none = format!("/acr/v1/app/_manifests/{}", digest_of(b"none", Algorithm::Sha256));
    bench.guard("PATCH", &none).body(passed).expect(404, "MANIFEST_UNKNOWN").await;
    bench.request("PATCH", &target).body(both).expect(200, "").await;
    bench.request("GET", &format!("/v2/app/manifests/{digest}")).expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
}

#[tokio::test]
async fn tokens_claim_for_the_quarantine_what_their_words_stand_for() {
    let bench = Bench::new().await;
    bench.quarantine("enabled").await;
    bench.keeper(READER).await;
    let (digest, _) = bench.push_image("app", "1.0", "layer", json!({})).await;
    let token = bench
        .guard("GET", &format!("/oauth2/token?service={HOST}&scope=repository:app:pull,push"))
        .expect(200, "")
        .await
        .json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let by_digest = format!("/v2/app/manifests/{digest}");
    bench.request("GET", &by_digest).bearer(&token).expect(200, "").await;
    bench.request("GET", "/v2/app/manifests/1.0").bearer(&token).expect(403, "DENIED").await;
    let answer = bench.request("PATCH", &format!("/acr/v1/app/_manifests/{digest}")).bearer(&token);
    let answer = answer.body(r#"{"quarantineState":"Passed"}"#).expect(401, "UNAUTHORIZED").await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("repository:app:metadata_write"), "{challenge}");
    // What the words stand for is looked at again: with the policy off the token opens nothing.
    bench.quarantine("disabled").await;
    bench.request("GET", &by_digest).bearer(&token).expect(403, "DENIED").await;
}

#[tokio::test]
async fn referrers_in_quarantine_are_not_listed_for_everybody() {
    let bench = Bench::new().await;
    bench.quarantine("enabled").await;
    let (subject, _) = bench.push_image("app", "1.0", "layer", json!({})).await;
    let subject_descriptor = json!({"subject": {"mediaType": IMAGE, "digest": subject.to_string(), "size": 1}});
    let (referrer, _) = bench.push_image("app", "signature", "signature", subject_descriptor).await;
    let list = format!("/v2/app/referrers/{subject}");
    assert_eq!(bench.robot("GET", &list).expect(200, "").await.json()["manifests"], json!([]));
    assert_eq!(bench.request("GET", &list).expect(200, "").await.json()["manifests"].as_array().unwrap().len(), 1);
    let target = format!("/acr/v1/app/_manifests/{referrer}");
    bench.request("PATCH", &target).body(r#"{"quarantineState":"Passed"}"#).expect(200, "").await;
    assert_eq!(bench.robot("GET", &list).expect(200, "").await.json()["manifests"].as_array().unwrap().len(), 1);
}

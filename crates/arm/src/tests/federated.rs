//! Federated credentials of managed identities and applications.

use super::graph::{graph, text};
use super::*;

const ISSUER: &str = "https://issuer.example";

fn credential(subject: &str) -> Value {
    json!({"issuer": ISSUER, "subject": subject, "audiences": ["api://AzureADTokenExchange"]})
}

#[tokio::test]
async fn of_a_managed_identity() {
    let bench = Bench::new().await;
    let identity = format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ci");
    let path = |name: &str| format!("{identity}/federatedIdentityCredentials/{name}");
    let body = |subject: &str| json!({"properties": credential(subject)});
    assert_eq!(bench.put(&path("main"), body("a")).await.short(), "404 ParentResourceNotFound");
    assert_eq!(bench.put(&identity, json!({"location": "eastus"})).await.status, 201);

    let made = bench.put(&path("main"), body("repo:a/b:ref:refs/heads/main")).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.at("/properties/audiences/0"), "api://AzureADTokenExchange");
    // The audience may be left out.
    let without = json!({"properties": {"issuer": ISSUER, "subject": "b"}});
    assert_eq!(bench.put(&path("other"), without).await.at("/properties/audiences/0"), "api://AzureADTokenExchange");
    assert_eq!(bench.put(&path("third"), body("b")).await.short(), "409 Conflict", "the same subject twice");
    assert_eq!(bench.put(&path("x"), body("c")).await.short(), "400 InvalidResourceName");
    let changed = bench.put(&path("main"), body("repo:a/b:ref:refs/heads/release")).await;
    assert_eq!((changed.status, changed.at("/properties/subject")), (200, json!("repo:a/b:ref:refs/heads/release")));
    let listed = bench.get(&format!("{identity}/federatedIdentityCredentials")).await;
    assert_eq!(listed.body["value"].as_array().unwrap().len(), 2, "{}", listed.body);

    // Whoever may write one becomes the identity: readers may not.
    let by_reader = bench.send(Who::Reader, "PUT", &path("mine"), Some(body("mine"))).await;
    assert_eq!(by_reader.short(), "403 AuthorizationFailed");
    assert_eq!(bench.delete(&path("other")).await.status, 200);
    assert_eq!(bench.delete(&path("other")).await.status, 204);
    assert_eq!(bench.delete(&identity).await.status, 200);
    assert_eq!(bench.get(&path("main")).await.short(), "404 ResourceNotFound", "it goes with the identity");
}

#[tokio::test]
async fn of_an_application() {
    let bench = Bench::new().await;
    let send = async |method: &str, path: &str, body: Value| graph(&bench, Who::Owner, method, path, body).await;
    let application = text(&send("POST", "applications", json!({"displayName": "ci"})).await.at("/id"));
    let base = format!("applications/{application}/federatedIdentityCredentials");
    let mut body = credential("repo:a/b:environment:prod");
    body["name"] = "prod".into();
    body["description"] = "what deploys".into();
    let made = send("POST", &base, body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(made.body[name], *value, "{name}");
    }
    let id = text(&made.at("/id"));
    assert_eq!(send("POST", &base, body.clone()).await.short(), "409 Conflict");
    body["name"] = "other".into();
    assert_eq!(send("POST", &base, body.clone()).await.short(), "409 Conflict", "the same issuer and subject");
    body["name"] = "a/b".into();
    assert_eq!(send("POST", &base, body.clone()).await.short(), "400 InvalidResourceName");

    for name in [id.as_str(), "prod", "PROD"] {
        assert_eq!(send("GET", &format!("{base}/{name}"), Value::Null).await.at("/subject"), body["subject"], "{name}");
    }
    let changed = send("PATCH", &format!("{base}/prod"), json!({"subject": "other", "name": "ignored"})).await;
    assert_eq!(changed.status, 204, "{}", changed.body);
    let listed = send("GET", &base, Value::Null).await;
    assert_eq!(listed.at("/value/0/subject"), "other");
    assert_eq!((listed.at("/value/0/name"), listed.at("/value/0/id")), (json!("prod"), json!(id)));
    let refused = send("PATCH", &format!("{base}/prod"), json!({"issuer": "http://issuer.example"})).await;
    assert_eq!(refused.short(), "400 InvalidParameter");
    assert_eq!(send("GET", &format!("{base}/{application}"), Value::Null).await.status, 404);
    for (kind, id) in [("users", &application), ("groups", &application)] {
        let path = format!("{kind}/{id}/federatedIdentityCredentials");
        assert_eq!(send("GET", &path, Value::Null).await.status, 400, "{kind} have none");
    }
    let by_reader = graph(&bench, Who::Reader, "POST", &base, body.clone()).await;
    assert_eq!(by_reader.short(), "403 Authorization_RequestDenied");
    assert_eq!(send("DELETE", &format!("{base}/{id}"), Value::Null).await.status, 204);
    assert_eq!(send("DELETE", &format!("{base}/{id}"), Value::Null).await.status, 404);
}

#[tokio::test]
async fn of_people() {
    let bench = Bench::new().await;
    let path = |number: u128| format!("/providers/Microsoft.Graph/users/{}", uuid::Uuid::from_u128(number));
    let body =
        |identities: Value| json!({"properties": {"userPrincipalName": "a@example.org", "identities": identities}});
    let own = |subject: &str| json!([{"signInType": "federated", "issuer": ISSUER, "issuerAssignedId": subject}]);
    assert_eq!(bench.put(&path(0xf1), body(own("1"))).await.status, 201);
    assert_eq!(bench.put(&path(0xf1), body(own("1"))).await.status, 200, "itself again");
    assert_eq!(bench.put(&path(0xf2), body(own("1"))).await.short(), "409 Conflict", "neither of two could sign in");
    assert_eq!(bench.put(&path(0xf2), body(own("2"))).await.status, 201);
    let name =
        json!([{"signInType": "userPrincipalName", "issuer": "example.org", "issuerAssignedId": "a@example.org"}]);
    for (number, local) in [(0xf3, name), (0xf4, json!([])), (0xf5, json!(null))] {
        assert_eq!(bench.put(&path(number), body(local.clone())).await.status, 201, "{local}");
    }
    for bad in [
        json!({}),
        json!(["x"]),
        json!([{"issuer": ISSUER, "issuerAssignedId": "3"}]),
        json!([{"signInType": "federated", "issuerAssignedId": "3"}]),
        json!([{"signInType": "federated", "issuer": ISSUER, "issuerAssignedId": ""}]),
    ] {
        assert_eq!(bench.put(&path(0xf6), body(bad.clone())).await.short(), "400 InvalidRequestContent", "{bad}");
    }
    assert_eq!(bench.get(&path(0xf6)).await.status, 404);
}

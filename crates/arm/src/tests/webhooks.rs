use super::*;

fn webhook(properties: Value) -> Value {
    let mut whole = json!({"serviceUri": "https://hooks.test/x", "actions": ["push"]});
    whole.as_object_mut().unwrap().extend(properties.as_object().cloned().unwrap());
    json!({"location": "eastus", "properties": whole})
}

#[tokio::test]
async fn a_webhook_hides_where_it_calls() {
    let bench = Bench::new().await;
    let path = format!("{}/webhooks/mywebhook", bench.registry("myregistry").await);
    let made = bench.put(&path, webhook(json!({"customHeaders": {"Authorization": "hidden"}}))).await;
    assert_eq!(made.status, 201);
    let shown = json!({"actions": ["push"], "scope": "", "status": "enabled", "provisioningState": "Succeeded"});
    assert_eq!(made.at("/properties"), shown);
    assert_eq!(bench.get(&path).await.at("/properties"), shown);
    let callback = format!("{path}/getCallbackConfig");
    let kept = json!({"serviceUri": "https://hooks.test/x", "customHeaders": {"Authorization": "hidden"}});
    assert_eq!(bench.post(&callback, json!({})).await.body, kept);
    assert_eq!(bench.send(Who::Reader, "POST", &callback, None).await.status, 403);
    // A file of everything that somebody may read has no more.
    let exported = |may: fn(&str) -> bool| {
        let root = postern_model::ResourceId::root();
        let all = bench.directory.with_estate(|estate| postern_estate::export(estate, &root, |action, _| may(action)));
        all.to_string().contains("hooks.test")
    };
    assert!(!exported(|action| action.ends_with("/read")) && exported(|_| true));
    // Whoever changes something else keeps them, by PATCH and by putting back what was got.
    let patched = bench.send(Who::Owner, "PATCH", &path, Some(json!({"properties": {"status": "disabled"}}))).await;
    assert_eq!(patched.at("/properties/status"), "disabled");
    assert_eq!(bench.put(&path, patched.body).await.status, 200);
    assert_eq!(bench.post(&callback, json!({})).await.body, kept);
    let moved = webhook(json!({"serviceUri": "http://hooks.test:8080/y", "customHeaders": {}}));
    assert_eq!(bench.put(&path, moved).await.status, 200);
    let kept = json!({"serviceUri": "http://hooks.test:8080/y", "customHeaders": {}});
    assert_eq!(bench.post(&callback, json!({})).await.body, kept);
}

#[tokio::test]
async fn webhooks_that_are_refused() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let check = async |name: &str, properties: Value, expected: &str| {
        let answer = bench.put(&format!("{path}/webhooks/{name}"), webhook(properties.clone())).await;
        assert_eq!(answer.short(), expected, "{name} {properties}");
    };
    check("hook", json!({}), "400 InvalidResourceName").await;
    check("my-webhook", json!({}), "400 InvalidResourceName").await;
    check("mywebhook", json!({"serviceUri": null}), "400 InvalidRequestContent").await;
    for uri in ["", "hooks.test", "ftp://hooks.test/", "https://", "https:///x"] {
        check("mywebhook", json!({"serviceUri": uri}), "400 InvalidParameter").await;
    }
    for actions in [json!([]), json!("push"), json!(["push", "pull"]), json!([1])] {
        check("mywebhook", json!({"actions": actions}), "400 InvalidParameter").await;
    }
    check("mywebhook", json!({"status": "paused"}), "400 InvalidParameter").await;
    check("mywebhook", json!({"scope": ["x"]}), "400 InvalidRequestContent").await;
    check("mywebhook", json!({"customHeaders": ["x"]}), "400 InvalidRequestContent").await;
    check("mywebhook", json!({"customHeaders": {"x": 1}}), "400 InvalidRequestContent").await;
    assert_eq!(bench.get(&format!("{path}/webhooks")).await.at("/value"), json!([]));
    // As many as the tier has.
    let basic = registry("basic01");
    assert_eq!(bench.put(&basic, json!({"location": "eastus", "sku": {"name": "Basic"}})).await.status, 201);
    let put = async |name: &str| bench.put(&format!("{basic}/webhooks/{name}"), webhook(json!({}))).await.short();
    assert_eq!([put("first").await, put("second").await, put("third").await], ["201", "201", "400 LimitExceeded"]);
    assert_eq!(put("first").await, "200", "one that is there may still be changed");
}

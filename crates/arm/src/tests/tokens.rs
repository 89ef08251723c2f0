use super::*;

#[tokio::test]
async fn scope_maps_and_tokens() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let (map, token) = (format!("{path}/scopeMaps/my-map"), format!("{path}/tokens/MyToken"));
    let made = bench
        .put(&map, json!({"properties": {"description": "x", "actions": ["repositories/app/content/read"]}}))
        .await;
    assert_eq!((made.status, made.at("/properties/type")), (201, json!("UserDefined")));
    assert_eq!(
        bench.put(&map, json!({"properties": {"actions": ["repositories/a*/content/read"]}})).await.short(),
        "400 InvalidParameter"
    );
    let maps = bench.get(&format!("{path}/scopeMaps")).await;
    assert_eq!(maps.at("/value").as_array().unwrap().len(), 6);
    assert_eq!(
        bench.get(&format!("{path}/scopeMaps/_repositories_pull")).await.at("/properties/type"),
        "SystemDefined"
    );
    assert_eq!(bench.put(&format!("{path}/scopeMaps/_repositories_pull"), json!({})).await.short(), "409 Conflict");
    let made = bench.put(&token, json!({"properties": {"status": "enabled", "scopeMapId": map}})).await;
    assert_eq!((made.status, made.at("/properties/credentials/passwords")), (201, json!([])));
    let rules = bench.directory.registry_by_id(&id(&path)).unwrap();
    assert_eq!(rules.tokens["mytoken"].actions.allows(&"app".parse().unwrap()).to_string(), "pull");
    assert_eq!(bench.delete(&map).await.short(), "409 Conflict", "in use");
    // A change of the map holds at once.
    bench.put(&map, json!({"properties": {"actions": ["repositories/other/content/read"]}})).await;
    let rules = bench.directory.registry_by_id(&id(&path)).unwrap();
    assert!(rules.tokens["mytoken"].actions.allows(&"app".parse().unwrap()).is_empty());
    assert_eq!(
        bench.put(&token, json!({"properties": {"scopeMapId": format!("{path}/scopeMaps/none")}})).await.short(),
        "400 InvalidParameter"
    );
}

#[tokio::test]
async fn passwords_are_shown_once() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let token = format!("{path}/tokens/mytoken");
    bench.put(&token, json!({"properties": {"scopeMapId": format!("{path}/scopeMaps/_repositories_pull")}})).await;
    let generate = async |body: Value| bench.post(&format!("{path}/generateCredentials"), body).await;
    let both = generate(json!({"tokenId": token})).await;
    assert_eq!(
        (both.status, both.at("/username"), both.at("/passwords").as_array().unwrap().len()),
        (200, json!("mytoken"), 2)
    );
    let owner = SecretOwner::RepositoryToken(bench.directory.resource(&id(&token)).unwrap().uid).to_string();
    let holds = |password: &Value| {
        bench.store.credentials().verify(&owner, &Secret::new(password.as_str().unwrap()), bench.clock.now()).is_some()
    };
    assert!(holds(&both.at("/passwords/0/value")) && holds(&both.at("/passwords/1/value")));
    let one = generate(json!({"tokenId": token, "name": "password1", "expiry": "2026-11-22T01:00:00Z"})).await;
    assert!(!holds(&both.at("/passwords/0/value")) && holds(&one.at("/passwords/0/value")));
    let shown = bench.get(&token).await;
    assert_eq!(
        shown.at("/properties/credentials/passwords/0"),
        json!({"creationTime": "2026-11-22T00:52:09.0000000Z", "expiry": "2026-11-22T01:00:00.0000000Z", "name": "password1"})
    );
    assert!(!shown.body.to_string().contains(one.at("/passwords/0/value").as_str().unwrap()));
    bench.clock.0.fetch_add(600, Ordering::SeqCst);
    assert!(!holds(&one.at("/passwords/0/value")), "expired");
    // A body that lists one password takes the other away; it cannot make one.
    bench.send(Who::Owner, "PATCH", &token, Some(json!({"properties": {"credentials": {"passwords": [{"name": "password1", "value": "x"}, {"name": "password3"}]}}}))).await;
    assert!(!holds(&both.at("/passwords/1/value")));
    assert_eq!(bench.get(&token).await.at("/properties/credentials/passwords").as_array().unwrap().len(), 1);
    assert_eq!(
        generate(json!({"tokenId": token, "expiry": "2020-01-01T00:00:00Z"})).await.short(),
        "400 InvalidRequestContent"
    );
    assert_eq!(generate(json!({"tokenId": token, "name": "password3"})).await.short(), "400 InvalidRequestContent");
    assert_eq!(generate(json!({"tokenId": format!("{path}/tokens/other")})).await.short(), "400 InvalidRequestContent");
    let fresh = generate(json!({"tokenId": token})).await;
    bench.delete(&token).await;
    assert!(!holds(&fresh.at("/passwords/0/value")));
}

#[tokio::test]
async fn service_principals_and_their_secrets() {
    let bench = Bench::new().await;
    let (object, client) = (Uuid::from_u128(0x51), Uuid::from_u128(0x52));
    let path = format!("/providers/Microsoft.Graph/servicePrincipals/{object}");
    let made = bench.put(&path, json!({"properties": {"appId": client.to_string(), "displayName": "ci"}})).await;
    assert_eq!((made.status, made.at("/properties/displayName")), (201, json!("ci")));
    let secret = bench.post(&format!("{path}/addPassword"), json!({})).await;
    let text = secret.at("/secretText").as_str().unwrap().to_owned();
    assert!(bench.token(client, &text).await.is_some());
    let removed = bench.post(&format!("{path}/removePassword"), json!({"keyId": secret.at("/keyId")})).await;
    assert_eq!(removed.status, 204);
    assert!(bench.token(client, &text).await.is_none());
    let twin = format!("/providers/Microsoft.Graph/servicePrincipals/{}", Uuid::from_u128(0x53));
    assert_eq!(bench.put(&twin, json!({"properties": {"appId": client.to_string()}})).await.short(), "409 Conflict");
    assert_eq!(
        bench.put(&format!("/providers/Microsoft.Graph/users/{object}"), json!({})).await.short(),
        "409 Conflict"
    );
    assert_eq!(bench.put("/providers/Microsoft.Graph/users/ada", json!({})).await.short(), "400 InvalidRequestContent");
    let group = format!("/providers/Microsoft.Graph/groups/{}", Uuid::from_u128(0x54));
    assert_eq!(
        bench.put(&group, json!({"properties": {"members": [Who::Stranger.id().to_string()]}})).await.status,
        201
    );
    assert_eq!(bench.send(Who::Contributor, "PUT", &group, Some(json!({}))).await.status, 403);
    assert_eq!(
        bench.put(&group, json!({"properties": {"members": ["me"]}})).await.short(),
        "400 InvalidRequestContent"
    );
}

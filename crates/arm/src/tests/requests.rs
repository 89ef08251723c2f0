//! Paths, versions, callers, bodies, headers: what every request has.

use super::*;

#[tokio::test]
async fn without_a_token_nothing_is_answered() {
    let bench = Bench::new().await;
    let check = async |authorization: Option<String>, expected: &str| {
        let mut request = Request::get(format!("{SUBSCRIPTION}?api-version=2022-12-01"));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = bench.request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.short(), expected);
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer authorization_uri=\"https://localhost:8443/")
        );
    };
    let token = bench.tokens[0].clone();
    check(None, "401 AuthenticationFailed").await;
    check(Some("Bearer nonsense".into()), "401 InvalidAuthenticationToken").await;
    check(Some(format!("Basic {token}")), "401 InvalidAuthenticationToken").await;
    let other = token.chars().rev().skip(2).collect::<String>().chars().rev().collect::<String>();
    check(Some(format!("Bearer {other}xx")), "401 InvalidAuthenticationToken").await;
    bench.clock.0.fetch_add(30 * 3600, Ordering::SeqCst);
    check(Some(format!("Bearer {token}")), "401 ExpiredAuthenticationToken").await;
}

#[tokio::test]
async fn every_verb_is_refused_to_who_has_no_role() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let absent = registry("absent");
    for (method, path, body) in [
        ("GET", SUBSCRIPTION, false),
        ("GET", GROUP, false),
        ("GET", &format!("{SUBSCRIPTION}/resourcegroups"), false),
        ("GET", &format!("{SUBSCRIPTION}/resources"), false),
        ("GET", &format!("{SUBSCRIPTION}/locations"), false),
        ("GET", &format!("{SUBSCRIPTION}/providers"), false),
        ("GET", &format!("{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry"), false),
        ("GET", &format!("{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/registries"), false),
        ("GET", &format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments"), false),
        ("GET", &format!("{GROUP}/providers/Microsoft.Authorization/roleDefinitions"), false),
        ("GET", &path, false),
        ("GET", &absent, false),
        ("HEAD", &path, false),
        ("PUT", &path, true),
        ("PUT", &absent, true),
        ("PATCH", &path, true),
        ("DELETE", &path, false),
        ("DELETE", &absent, false),
        ("GET", &format!("{path}/listUsages"), false),
        ("GET", &format!("{path}/tokens"), false),
        ("POST", &format!("{path}/listCredentials"), true),
        ("POST", &format!("{path}/generateCredentials"), true),
        ("POST", &format!("{path}/issueWorkloadCertificate"), true),
        ("POST", &format!("{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/checkNameAvailability"), true),
        ("PUT", &format!("/providers/Microsoft.Graph/users/{}", Uuid::from_u128(1)), true),
        ("POST", &format!("/providers/Microsoft.Graph/servicePrincipals/{}/addPassword", Who::Owner.id()), true),
        ("PUT", "/subscriptions/other", true),
    ] {
        let answer = bench.send(Who::Stranger, method, path, body.then(|| json!({}))).await;
        assert_eq!(answer.status, 403, "{method} {path}");
        if method != "HEAD" {
            assert_eq!(answer.short(), "403 AuthorizationFailed", "{method} {path}");
        }
    }
    let answer = bench.send(Who::Reader, "DELETE", &path, None).await;
    assert_eq!(
        answer.at("/error/message"),
        json!(format!(
            "The client '{}' with object id '{}' does not have authorization to perform action \
         'Microsoft.ContainerRegistry/registries/delete' over scope '{path}' or the scope is invalid. If access was recently granted, \
         please refresh your credentials.",
            Who::Reader.client(),
            Who::Reader.id()
        ))
    );
    assert_eq!(bench.send(Who::Reader, "GET", &path, None).await.status, 200);
    assert_eq!(bench.send(Who::Contributor, "PATCH", &path, Some(json!({"tags": {}}))).await.status, 200);
    let assignment = format!("{path}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(1));
    assert_eq!(
        bench.send(Who::Contributor, "PUT", &assignment, Some(json!({}))).await.short(),
        "403 AuthorizationFailed"
    );
    assert_eq!(bench.send(Who::Stranger, "GET", "/subscriptions", None).await.body, json!({"value": []}));
}

#[tokio::test]
async fn malformed_requests() {
    let bench = Bench::new().await;
    let check = async |method: &str, path: &str, body: &str, expected: &str| {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {}", bench.tokens[0]));
        let answer = bench.request(request.body(Body::from(body.to_owned())).unwrap()).await;
        assert_eq!(answer.short(), expected, "{method} {path}");
    };
    let path = registry("myregistry");
    check("GET", "/subscriptions", "", "400 MissingApiVersionParameter").await;
    check("GET", "/subscriptions?api-version=", "", "400 MissingApiVersionParameter").await;
    check("GET", "/subscriptions?api-version=latest", "", "400 InvalidApiVersionParameter").await;
    check("GET", "/subscriptions?api-version=2025-11-01&x=%ff", "", "400 InvalidRequestUri").await;
    check("GET", "/nothing?api-version=2025-11-01", "", "404 InvalidResourceType").await;
    check("GET", "/subscriptions/a%2Fb?api-version=2025-11-01", "", "400 InvalidRequestUri").await;
    let put = format!("{path}?api-version=2025-11-01");
    check("PUT", &put, "", "400 InvalidRequestContent").await;
    check("PUT", &put, "[]", "400 InvalidRequestContent").await;
    check("PUT", &put, "{\"location\": ", "400 InvalidRequestContent").await;
    check("PUT", &put, &format!("{{\"x\": {}{}}}", "[".repeat(100), "]".repeat(100)), "400 InvalidRequestContent")
        .await;
    check("PUT", &put, &format!("{{\"x\": \"{}\"}}", "y".repeat(4 << 20)), "413 RequestContentTooLarge").await;
    check("POST", &put, "{}", "405 MethodNotAllowed").await;
    check("POST", &format!("{GROUP}/providers/A/b/c/stop?api-version=2025-11-01"), "{}", "404 ResourceNotFound").await;
    check(
        "GET",
        &format!("{SUBSCRIPTION}/resources?api-version=2024-11-01&$filter=colour%20eq%20'red'"),
        "",
        "400 InvalidFilterInQueryString",
    )
    .await;
    assert!(bench.directory.resource(&id(&path)).is_none(), "nothing was stored");
}

#[tokio::test]
async fn headers() {
    let bench = Bench::new().await;
    let request = Request::get("/subscriptions?api-version=2022-12-01")
        .header("authorization", format!("Bearer {}", bench.tokens[0]))
        .header("x-ms-client-request-id", "mine")
        .extension(postern_model::CorrelationId(Uuid::from_u128(7)))
        .body(Body::empty())
        .unwrap();
    let answer = bench.request(request).await;
    assert_eq!(answer.headers["x-ms-client-request-id"], "mine");
    assert_eq!(answer.headers["x-ms-correlation-request-id"], Uuid::from_u128(7).to_string().as_str());
    assert!(answer.headers.contains_key("x-ms-request-id"));
    assert_eq!(
        answer.body,
        json!({"value": [{
            "id": SUBSCRIPTION, "subscriptionId": id(SUBSCRIPTION).name(), "displayName": "Test", "authorizationSource": "RoleBased", "managedByTenants": [],
        }]})
    );
}

#[tokio::test]
async fn discovery_is_for_anybody() {
    let bench = Bench::new().await;
    let get = async |version: &str| {
        bench
            .request(Request::get(format!("/metadata/endpoints?api-version={version}")).body(Body::empty()).unwrap())
            .await
    };
    assert_eq!(get("2022-09-01").await.at("/authentication/loginEndpoint"), ENDPOINT);
    assert_eq!(get("2019-05-01").await.at("/0/suffixes/acrLoginServer"), SUFFIX);
    // By whatever name of the server.
    let request = Request::get("/metadata/endpoints?api-version=2022-09-01").header("host", "azurecr.io:443");
    let found = bench.request(request.body(Body::empty()).unwrap()).await;
    assert_eq!(found.at("/authentication/loginEndpoint"), "https://azurecr.io");
    assert_eq!(found.at("/microsoftGraphResourceId"), "https://azurecr.io/");
    assert_eq!(bench.get("/tenants").await.at("/value/0/tenantId"), json!(TENANT.to_string()));
    let provider = bench.get(&format!("{SUBSCRIPTION}/providers/microsoft.containerregistry")).await;
    assert_eq!(provider.at("/resourceTypes/0/defaultApiVersion"), "2025-11-01");
    let registered = bench.post(&format!("{SUBSCRIPTION}/providers/Microsoft.Network/register"), json!({})).await;
    assert_eq!(registered.at("/registrationState"), "Registered");
}

#[tokio::test]
async fn groups_and_generic_resources() {
    let bench = Bench::new().await;
    let group = format!("{SUBSCRIPTION}/resourcegroups/other");
    assert_eq!(bench.send(Who::Owner, "HEAD", &group, None).await.status, 404);
    assert_eq!(bench.get(&group).await.short(), "404 ResourceGroupNotFound");
    assert_eq!(bench.put(&group, json!({})).await.short(), "400 LocationRequired");
    let answer = bench.put(&group, json!({"location": "eastus", "tags": {"a": "b"}})).await;
    assert_eq!(
        (answer.status, answer.body),
        (
            201,
            json!({
        "id": format!("{SUBSCRIPTION}/resourceGroups/other"), "name": "other", "type": "Microsoft.Resources/resourceGroups",
        "location": "eastus", "tags": {"a": "b"}, "properties": {"provisioningState": "Succeeded"}})
        )
    );
    assert_eq!(bench.put(&group, json!({"location": "eastus"})).await.status, 200);
    assert_eq!(bench.send(Who::Owner, "HEAD", &group, None).await.status, 204);
    assert_eq!(bench.get(&format!("{SUBSCRIPTION}/resourcegroups")).await.at("/value").as_array().unwrap().len(), 2);
    // A type that nothing here knows, below the group, with the double slash of generic clients.
    let thing = format!("{group}/providers/Contoso.Widgets//widgets/w%20one");
    let answer = bench.put(&thing, json!({"location": "eastus", "properties": {"size": 3}, "custom": [1]})).await;
    assert_eq!(
        (answer.status, answer.body),
        (
            201,
            json!({
        "id": format!("{SUBSCRIPTION}/resourceGroups/other/providers/Contoso.Widgets/widgets/w one"), "name": "w one", "type": "Contoso.Widgets/widgets",
        "location": "eastus", "properties": {"size": 3, "provisioningState": "Succeeded"}, "custom": [1]})
        )
    );
    let answer = bench.send(Who::Owner, "PATCH", &thing, Some(json!({"properties": {"colour": "red"}}))).await;
    assert_eq!(answer.at("/properties"), json!({"size": 3, "colour": "red", "provisioningState": "Succeeded"}));
    let listed = bench.get(&format!("{SUBSCRIPTION}/resources?$filter=resourceGroup%20eq%20'OTHER'%20and%20resourceType%20eq%20'contoso.widgets/widgets'&$expand=createdTime")).await;
    assert_eq!(listed.at("/value/0/name"), "w one");
    assert_eq!(listed.at("/value/0/provisioningState"), "Succeeded");
    assert_eq!(listed.at("/value/0/properties"), Value::Null);
    let missing = format!("{SUBSCRIPTION}/resourceGroups/none/providers/Contoso.Widgets/widgets/w");
    assert_eq!(bench.put(&missing, json!({})).await.short(), "404 ResourceGroupNotFound");
    assert_eq!(bench.put(&format!("{thing}/parts/p/screws/s"), json!({})).await.short(), "404 ParentResourceNotFound");
    assert_eq!(bench.delete(&group).await.status, 200);
    assert_eq!(bench.get(&thing).await.short(), "404 ResourceNotFound");
    assert_eq!(bench.delete(&group).await.status, 204);
    assert_eq!(bench.get("/subscriptions/nowhere").await.short(), "404 SubscriptionNotFound");
}

#[tokio::test]
async fn etags() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let etag = bench.get(&path).await.headers["etag"].clone();
    let put = async |name: &str, value: &str| {
        let request = Request::put(format!("{path}?api-version=2025-11-01"))
            .header("authorization", format!("Bearer {}", bench.tokens[0]))
            .header(name, value)
            .body(Body::from(premium(json!({})).to_string()));
        bench.request(request.unwrap()).await.short()
    };
    assert_eq!(put("if-none-match", "*").await, "412 PreconditionFailed");
    assert_eq!(put("if-match", "\"other\"").await, "412 PreconditionFailed");
    assert_eq!(put("if-match", etag.to_str().unwrap()).await, "200");
    assert_eq!(put("if-match", etag.to_str().unwrap()).await, "412 PreconditionFailed");
    assert_eq!(put("if-match", "*").await, "200");

    let send = async |method: &str, etag: &str| {
        let request = Request::builder().method(method).uri(format!("{path}?api-version=2025-11-01"));
        let request = request.header("authorization", format!("Bearer {}", bench.tokens[0])).header("if-match", etag);
        bench.request(request.body(Body::from(json!({"tags": {"a": method}}).to_string())).unwrap()).await.short()
    };
    let etag = bench.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(send("PATCH", "\"other\"").await, "412 PreconditionFailed");
    assert_eq!(send("PATCH", &etag).await, "200");
    assert_eq!(send("DELETE", &etag).await, "412 PreconditionFailed");
    assert_eq!(bench.get(&path).await.at("/tags"), json!({"a": "PATCH"}));
    let etag = bench.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(send("DELETE", &etag).await, "200");
    assert_eq!(put("if-match", "*").await, "412 PreconditionFailed");
    assert_eq!(put("if-none-match", "*").await, "201");
}

#[tokio::test]
async fn subscriptions_can_be_made_and_the_servers_own_stays() {
    let bench = Bench::new().await;
    let answer = bench
        .put(
            "/subscriptions/imported",
            json!({"displayName": "Imported", "postern": {"administratorObjectId": "evil"}}),
        )
        .await;
    assert_eq!(
        (answer.status, answer.at("/displayName"), answer.at("/postern")),
        (201, json!("Imported"), Value::Null)
    );
    assert!(!bench.directory.resource(&id("/subscriptions/imported")).unwrap().document().contains_key("postern"));
    assert_eq!(
        bench.put("/subscriptions/imported/resourceGroups/g", json!({"location": "eastus"})).await.status,
        201,
        "who makes it owns it"
    );
    assert_eq!(bench.put(SUBSCRIPTION, json!({"displayName": "Renamed", "postern": {}})).await.status, 200);
    assert_eq!(bench.directory.resource(&id(SUBSCRIPTION)).unwrap().document()["postern"], json!({"secret": "kept"}));
    assert_eq!(bench.delete(SUBSCRIPTION).await.short(), "409 Conflict");
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let bench = Bench::new().await;
    let changes = (0..1001).map(|n| postern_store::Change::Put {
        id: id(&format!("{GROUP}/providers/Contoso.Widgets/widgets/w{n:04}")),
        document: serde_json::Map::new(),
        expected: Expected::Any,
    });
    let changes: Vec<_> = changes.collect();
    bench.directory.change(move |_| Ok::<_, postern_store::StoreError>(changes)).await.unwrap();
    let first = bench.get(&format!("{GROUP}/providers/Contoso.Widgets/widgets")).await;
    assert_eq!(first.at("/value").as_array().unwrap().len(), 1000);
    let next = first.at("/nextLink").as_str().unwrap().strip_prefix(ENDPOINT).unwrap().to_owned();
    let second = bench.get(&next).await;
    assert_eq!(second.at("/value/0/name"), "w1000");
    assert_eq!(second.at("/nextLink"), Value::Null);
}

#[tokio::test]
async fn pages_are_as_long_as_they_are_wanted() {
    let bench = Bench::new().await;
    let registry = bench.registry("myregistry").await;
    for name in ["first", "second", "third"] {
        let map = json!({"properties": {"actions": ["repositories/a/content/read"]}});
        assert_eq!(bench.put(&format!("{registry}/scopeMaps/{name}"), map).await.status, 201);
    }
    let assignments = format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments");
    for (list, expected) in [
        (format!("{registry}/scopeMaps"), 3 + postern_access::SYSTEM_SCOPE_MAPS.len()),
        (assignments, 3),
        // Those made above it.
        (format!("{registry}/providers/Microsoft.Authorization/roleAssignments"), 3),
        (format!("{GROUP}/providers/Microsoft.ContainerRegistry/registries"), 1),
    ] {
        let names = |answer: &Answer| -> Vec<String> {
            let values = answer.at("/value");
            values.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        let whole = names(&bench.get(&list).await);
        assert_eq!(whole.len(), expected, "{list}");
        let (mut found, mut next) = (Vec::new(), format!("{list}?$top=2"));
        loop {
            let answer = bench.get(&next).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let page = names(&answer);
            assert!(page.len() <= 2 || found.is_empty(), "{page:?}");
            found.extend(page);
            let Some(link) = answer.at("/nextLink").as_str().map(str::to_owned) else { break };
            next = link.strip_prefix(ENDPOINT).unwrap().to_owned();
        }
        assert_eq!(found, whole, "{list}");
        for bad in ["0", "-1", "many", ""] {
            assert_eq!(bench.get(&format!("{list}?$top={bad}")).await.short(), "400 InvalidParameters", "{bad}");
        }
    }
}

use super::*;

fn roles(scope: &str, kind: &str) -> String {
    format!("{}/providers/Microsoft.Authorization/{kind}", scope.trim_end_matches('/'))
}

fn assignment(principal: Uuid, role: &str) -> Value {
    json!({"properties": {"principalId": principal.to_string(), "roleDefinitionId": format!("{}/{role}", roles(SUBSCRIPTION, "roleDefinitions"))}})
}

#[tokio::test]
async fn an_assignment_takes_effect_and_ends() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let name = Uuid::from_u128(1);
    let one = format!("{}/{name}", roles(&path, "roleAssignments"));
    let made = bench.put(&one, assignment(Who::Stranger.id(), PULL)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.at("/id"), json!(one));
    let definition = bench.get(&format!("{}?$filter=roleName%20eq%20'AcrPull'", roles(&path, "roleDefinitions"))).await;
    assert_eq!(made.at("/properties/roleDefinitionId"), definition.at("/value/0/id"), "clients compare them");
    assert_eq!(definition.at("/value").as_array().unwrap().len(), 1);
    assert_eq!(made.at("/properties/principalType"), "ServicePrincipal");
    assert_eq!(made.at("/properties/scope"), json!(path));
    let rules = bench.directory.registry_by_id(&id(&path)).unwrap();
    assert_eq!(rules.grants.of(std::iter::once(PrincipalId(Who::Stranger.id()))).count(), 1);
    assert_eq!(bench.put(&one, assignment(Who::Stranger.id(), PULL)).await.status, 200);
    assert_eq!(
        bench.put(&one, assignment(Who::Reader.id(), PULL)).await.short(),
        "409 RoleAssignmentUpdateNotPermitted"
    );
    let twin = format!("{}/{}", roles(&path, "roleAssignments"), Uuid::from_u128(2));
    assert_eq!(bench.put(&twin, assignment(Who::Stranger.id(), PULL)).await.short(), "409 RoleAssignmentExists");
    assert_eq!(bench.delete(&one).await.at("/name"), json!(name.to_string()));
    assert_eq!(bench.delete(&one).await.status, 204);
    assert_eq!(bench.get(&one).await.short(), "404 RoleAssignmentNotFound");
    let rules = bench.directory.registry_by_id(&id(&path)).unwrap();
    assert_eq!(rules.grants.of(std::iter::once(PrincipalId(Who::Stranger.id()))).count(), 0);
}

#[tokio::test]
async fn refusals() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let one = format!("{}/{}", roles(&path, "roleAssignments"), Uuid::from_u128(1));
    let nobody = bench.put(&one, assignment(Uuid::from_u128(0x99), PULL)).await;
    assert_eq!(nobody.short(), "400 PrincipalNotFound");
    assert_eq!(
        bench.put(&one, assignment(Who::Reader.id(), &Uuid::from_u128(5).to_string())).await.short(),
        "404 RoleDefinitionDoesNotExist"
    );
    let mut with_condition = assignment(Who::Reader.id(), PULL);
    with_condition["properties"]["condition"] = json!("@Request[");
    assert_eq!(bench.put(&one, with_condition.clone()).await.short(), "400 InvalidCondition");
    with_condition["properties"]["condition"] = json!("(!(ActionMatches{'x'}))");
    assert_eq!(bench.put(&one, with_condition).await.at("/properties/conditionVersion"), "2.0");
    assert_eq!(
        bench
            .put(&format!("{}/mine", roles(&path, "roleAssignments")), assignment(Who::Reader.id(), PULL))
            .await
            .short(),
        "400 InvalidResourceName"
    );
    let absent = format!("{}/{}", roles(&registry("absent"), "roleAssignments"), Uuid::from_u128(1));
    assert_eq!(bench.put(&absent, assignment(Who::Reader.id(), PULL)).await.short(), "404 ParentResourceNotFound");
    let deny = format!("{}/{}", roles(GROUP, "denyAssignments"), Uuid::from_u128(1));
    assert_eq!(bench.put(&deny, json!({"properties": {}})).await.short(), "405 MethodNotAllowed");
    let root = format!("{}/{}", roles("/", "roleAssignments"), Uuid::from_u128(1));
    assert_eq!(bench.put(&root, assignment(Who::Owner.id(), OWNER)).await.short(), "403 AuthorizationFailed");
}

#[tokio::test]
async fn lists_look_up_and_down() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    bench
        .put(
            &format!("{}/{}", roles(&path, "roleAssignments"), Uuid::from_u128(1)),
            assignment(Who::Stranger.id(), PULL),
        )
        .await;
    let count = async |scope: &str, filter: &str| {
        let path = roles(scope, "roleAssignments");
        let path = if filter.is_empty() { path } else { format!("{path}?$filter={}", filter.replace(' ', "%20")) };
        bench.get(&path).await.at("/value").as_array().map_or(0, Vec::len)
    };
    assert_eq!(count(&path, "atScope()").await, 4);
    assert_eq!(count(GROUP, "atScope()").await, 3);
    assert_eq!(count(GROUP, "").await, 4);
    assert_eq!(count(SUBSCRIPTION, "").await, 4);
    assert_eq!(count(SUBSCRIPTION, "atScope()").await, 1);
    assert_eq!(count(SUBSCRIPTION, &format!("principalId eq '{}'", Who::Stranger.id())).await, 1);
    assert_eq!(count(&path, &format!("atScope() and assignedTo('{}')", Who::Reader.id())).await, 1);
    let all = bench.get(&roles(SUBSCRIPTION, "roleDefinitions")).await;
    assert!(all.at("/value").as_array().unwrap().len() > 20);
    let one = bench.get(&format!("{}/{PULL}", roles(SUBSCRIPTION, "roleDefinitions"))).await;
    assert_eq!((one.status, one.at("/properties/roleName")), (200, json!("AcrPull")));
}

/// Very many in one place, few elsewhere, and one that came in by another way and is not understood.
#[tokio::test]
async fn lists_come_in_pages_and_leave_nothing_out() {
    let bench = Bench::new().await;
    let (path, other) = (bench.registry("myregistry").await, bench.registry("myregistry2").await);
    let made = |scope: &str, n: u128, more: Value| {
        let id = format!("{}/{}", roles(scope, "roleAssignments"), Uuid::from_u128(n));
        let mut document = assignment(Uuid::from_u128(n), PULL);
        document["properties"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        postern_store::Change::Put {
            id: id.parse().unwrap(),
            document: document.as_object().unwrap().clone(),
            expected: Expected::Any,
        }
    };
    let mut changes: Vec<_> = (1..=1001).map(|n| made(&path, n, json!({}))).collect();
    changes.push(made(&other, 2000, json!({})));
    changes.push(made(&other, 2001, json!({"condition": "@Request["})));
    bench.directory.change(move |_| Ok::<_, postern_store::StoreError>(changes)).await.unwrap();
    let list = async |scope: &str, filter: &str| {
        let filter = if filter.is_empty() { String::new() } else { format!("?$filter={}", filter.replace(' ', "%20")) };
        let mut path = format!("{}{filter}", roles(scope, "roleAssignments"));
        let (mut names, mut pages) = (Vec::new(), 0);
        loop {
            let page = bench.get(&path).await;
            names
                .extend(page.at("/value").as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = page.at("/nextLink").as_str().map(|next| next.strip_prefix(ENDPOINT).unwrap().to_owned())
            else {
                assert!(names.iter().map(|name| name.to_lowercase()).is_sorted());
                return (names.len(), pages);
            };
            path = next;
        }
    };
    assert_eq!(list(&path, "atScope()").await, (1001 + 3, 2));
    assert_eq!(list(&other, "atScope()").await, (2 + 3, 1));
    assert_eq!(list(&other, "").await, (2 + 3, 1));
    assert_eq!(list(GROUP, "").await, (1003 + 3, 2));
    assert_eq!(list(SUBSCRIPTION, "atScope()").await, (1, 1));
    for (n, scope, found) in
        [(1001, GROUP, 1), (1001, &other, 0), (2000, &other, 1), (2001, &other, 1), (2001, &path, 0)]
    {
        let principal = Uuid::from_u128(n);
        assert_eq!(list(scope, &format!("principalId eq '{principal}'")).await, (found, 1), "{n} {scope}");
        assert_eq!(list(scope, &format!("assignedTo('{principal}')")).await, (found, 1), "{n} {scope}");
        let at_scope = if scope == GROUP { 0 } else { found };
        assert_eq!(
            list(scope, &format!("atScope() and assignedTo('{principal}')")).await,
            (at_scope, 1),
            "{n} {scope}"
        );
    }
}

#[tokio::test]
async fn custom_roles() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let role = Uuid::from_u128(0x70);
    let definition = format!("{}/{role}", roles(SUBSCRIPTION, "roleDefinitions"));
    let body =
        |name: &str, action: &str| json!({"properties": {"roleName": name, "permissions": [{"actions": [action]}]}});
    assert_eq!(bench.put(&definition, body("AcrPull", "*")).await.short(), "409 RoleDefinitionWithSameNameExists");
    assert_eq!(
        bench.put(&definition, json!({"properties": {"roleName": "x"}})).await.short(),
        "400 InvalidRequestContent"
    );
    assert_eq!(bench.put(&definition, body("lister", "Microsoft.ContainerRegistry/registries/read")).await.status, 201);
    let found = bench.get(&format!("{}?$filter=roleName%20eq%20'lister'", roles(&path, "roleDefinitions"))).await;
    assert_eq!(found.at("/value/0/properties/type"), "CustomRole");
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 403);
    let one = format!("{}/{}", roles(&path, "roleAssignments"), Uuid::from_u128(1));
    assert_eq!(bench.put(&one, assignment(Who::Stranger.id(), &role.to_string())).await.status, 201);
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 200);
    assert_eq!(bench.send(Who::Stranger, "DELETE", &path, None).await.status, 403);
    assert_eq!(bench.send(Who::Contributor, "PUT", &definition, Some(body("lister", "*"))).await.status, 403);
    // What the client of the CLI insists on.
    let changed = bench.put(&definition, body("lister", "Microsoft.ContainerRegistry/registries/*")).await;
    assert_eq!(changed.status, 201, "{}", changed.body);
    assert_eq!(bench.delete(&definition).await.short(), "400 RoleDefinitionHasAssignments");
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 200);
    bench.delete(&one).await;
    let gone = bench.delete(&definition).await;
    assert_eq!((gone.status, gone.at("/properties/roleName")), (200, json!("lister")));
    assert_eq!(bench.delete(&definition).await.status, 204);
    // One that was made for a registry is found, and deleted, at the subscription.
    let below = format!("{}/{role}", roles(&path, "roleDefinitions"));
    assert_eq!(bench.put(&below, body("lister", "Microsoft.ContainerRegistry/registries/read")).await.status, 201);
    assert_eq!(bench.get(&definition).await.at("/id"), json!(below));
    assert_eq!(bench.send(Who::Contributor, "DELETE", &definition, None).await.status, 403);
    assert_eq!(bench.delete(&definition).await.status, 200);
    assert_eq!(bench.get(&below).await.status, 404);
}

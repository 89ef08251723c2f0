use postern_access::ConnectionStatus;

use super::*;

#[tokio::test]
async fn service_tags_are_for_readers_of_the_subscription() {
    let bench = Bench::new().await;
    let path = format!("{SUBSCRIPTION}/providers/Microsoft.Network/locations/eastus/serviceTags");
    let tags = bench.get(&path).await;
    assert_eq!((tags.status, tags.at("/cloud"), tags.at("/changeNumber")), (200, json!("Public"), json!("1")));
    let values = tags.at("/values");
    let region = values.as_array().unwrap().iter().find(|tag| tag["id"] == "AzureContainerRegistry.EastUS").unwrap();
    let prefixes = region["properties"]["addressPrefixes"].as_array().unwrap();
    assert_eq!(prefixes.len(), 19);
    // What is IPv4 can be a network rule as it is.
    let rules: Vec<Value> = prefixes
        .iter()
        .filter(|prefix| !prefix.as_str().unwrap().contains(':'))
        .map(|prefix| json!({"action": "Allow", "value": prefix}))
        .collect();
    let registry = registry("myregistry");
    let properties = json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}});
    assert_eq!(bench.put(&registry, premium(properties)).await.status, 201);
    for who in [Who::Reader, Who::Stranger] {
        assert_eq!(bench.send(who, "GET", &path, None).await.short(), "403 AuthorizationFailed");
    }
}

const ENDPOINTS: &str = "providers/Microsoft.Network/privateEndpoints";

fn endpoint(registry: &str) -> Value {
    json!({"location": "eastus", "properties": {"subnet": {"id": "/x"}, "privateLinkServiceConnections": [
        {"name": "c", "properties": {"groupIds": ["registry"], "privateLinkServiceId": registry, "requestMessage": "please"}}]}})
}

fn statuses(bench: &Bench, registry: &str) -> Vec<ConnectionStatus> {
    let rules = bench.directory.registry_by_id(&id(registry)).unwrap();
    rules.network.private_endpoints.iter().map(|connection| connection.status).collect()
}

#[tokio::test]
async fn a_private_endpoint_connects_and_is_approved_rejected_and_gone() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let endpoint_path = format!("{GROUP}/{ENDPOINTS}/pe");
    let made = bench.put(&endpoint_path, endpoint(&path)).await;
    assert_eq!(made.status, 201);
    let state = "/properties/privateLinkServiceConnections/0/properties/privateLinkServiceConnectionState/status";
    assert_eq!(made.at(state), "Approved");
    assert_eq!(statuses(&bench, &path), [ConnectionStatus::Approved]);
    assert_eq!(bench.put(&endpoint_path, endpoint(&path)).await.status, 200);
    let connections = bench.get(&format!("{path}/privateEndpointConnections")).await;
    assert_eq!(connections.at("/value").as_array().unwrap().len(), 1, "putting it again connects nothing anew");
    let shown = bench.get(&path).await;
    assert_eq!(shown.at("/properties/privateEndpointConnections"), connections.at("/value"));
    assert_eq!(shown.at("/properties/dataEndpointEnabled"), true);
    let connection = connections.at("/value/0/id").as_str().unwrap().to_owned();
    let decide = async |who, status: &str| {
        let body = json!({"properties": {"privateEndpoint": {"id": "/forged"}, "privateLinkServiceConnectionState": {"status": status, "description": "x"}}});
        bench.send(who, "PUT", &connection, Some(body)).await
    };
    let rejected = decide(Who::Owner, "Rejected").await;
    assert_eq!((rejected.status, rejected.at("/properties/privateEndpoint/id")), (200, json!(endpoint_path)));
    assert_eq!(statuses(&bench, &path), [ConnectionStatus::Rejected]);
    assert_eq!(bench.get(&endpoint_path).await.at(state), "Rejected");
    assert_eq!(decide(Who::Owner, "Perhaps").await.short(), "400 InvalidParameter");
    assert_eq!(decide(Who::Contributor, "Approved").await.status, 200);
    assert_eq!(decide(Who::Reader, "Approved").await.status, 403);
    assert_eq!(bench.delete(&endpoint_path).await.status, 200);
    assert_eq!(statuses(&bench, &path), [ConnectionStatus::Disconnected]);
    assert_eq!(bench.delete(&connection).await.status, 200);
    assert_eq!(statuses(&bench, &path), []);
}

#[tokio::test]
async fn without_the_right_to_approve_it_waits() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let elsewhere = format!("{SUBSCRIPTION}/resourceGroups/second");
    bench.put(&elsewhere, json!({"location": "eastus"})).await;
    // The stranger may do everything in a group of its own.
    let assignment = format!("{elsewhere}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(1));
    bench
        .put(
            &assignment,
            json!({"properties": {"principalId": Who::Stranger.id().to_string(), "roleDefinitionId": OWNER}}),
        )
        .await;
    let made = bench.send(Who::Stranger, "PUT", &format!("{elsewhere}/{ENDPOINTS}/pe"), Some(endpoint(&path))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(statuses(&bench, &path), [ConnectionStatus::Pending]);
    let manual = json!({"location": "eastus", "properties": {"manualPrivateLinkServiceConnections": endpoint(&path)["properties"]["privateLinkServiceConnections"]}});
    bench.put(&format!("{GROUP}/{ENDPOINTS}/manual"), manual).await;
    assert_eq!(statuses(&bench, &path), [ConnectionStatus::Pending; 2]);
    // The whole group goes: its endpoint's connection, on a registry elsewhere, loses its endpoint.
    assert_eq!(bench.delete(&elsewhere).await.status, 200);
    assert!(statuses(&bench, &path).contains(&ConnectionStatus::Disconnected));
}

#[tokio::test]
async fn endpoints_and_virtual_network_rules_exclude_each_other() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let subnet = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/v/subnets/s");
    let rules = |subnets: Value| json!({"properties": {"networkRuleSet": {"virtualNetworkRules": subnets}}});
    let newest = format!("{path}?api-version=2026-09-01-preview");
    let put = bench.send(Who::Owner, "PATCH", &newest, Some(rules(json!([{"action": "Allow", "id": subnet}])))).await;
    assert_eq!(
        (put.status, put.at("/properties/networkRuleSet/virtualNetworkRules/0/virtualNetworkSubnetResourceId")),
        (200, json!(subnet))
    );
    assert_eq!(bench.put(&format!("{GROUP}/{ENDPOINTS}/pe"), endpoint(&path)).await.short(), "400 ValidationError");
    bench.send(Who::Owner, "PATCH", &newest, Some(rules(json!([])))).await;
    assert_eq!(bench.put(&format!("{GROUP}/{ENDPOINTS}/pe"), endpoint(&path)).await.status, 201);
    let put = bench.send(Who::Owner, "PATCH", &newest, Some(rules(json!([{"id": subnet}])))).await;
    assert_eq!(put.short(), "400 ValidationError");
    let downgrade = bench
        .send(
            Who::Owner,
            "PATCH",
            &path,
            Some(json!({"sku": {"name": "Basic"}, "properties": {"dataEndpointEnabled": false}})),
        )
        .await;
    assert_eq!(downgrade.short(), "409 Conflict");
    bench.put(&registry("basic01"), json!({"location": "eastus", "sku": {"name": "Basic"}})).await;
    assert_eq!(
        bench.put(&format!("{GROUP}/{ENDPOINTS}/pe2"), endpoint(&registry("basic01"))).await.short(),
        "400 FeatureNotSupportedForSku"
    );
    assert_eq!(
        bench.put(&format!("{GROUP}/{ENDPOINTS}/pe3"), endpoint(&registry("absent"))).await.short(),
        "404 ResourceNotFound"
    );
}

#[tokio::test]
async fn an_imported_connection_takes_the_place_of_the_automatic_one() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let endpoint_path = format!("{GROUP}/{ENDPOINTS}/pe");
    bench.put(&endpoint_path, endpoint(&path)).await;
    let imported = json!({"properties": {"privateEndpoint": {"id": endpoint_path}, "privateLinkServiceConnectionState": {"status": "Rejected"}}});
    assert_eq!(bench.put(&format!("{path}/privateEndpointConnections/imported"), imported).await.status, 201);
    assert_eq!(statuses(&bench, &path), [ConnectionStatus::Rejected]);
}

#[tokio::test]
async fn subnets_are_resources_of_their_own() {
    let bench = Bench::new().await;
    let path = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/v");
    let made = bench
        .put(
            &path,
            json!({"location": "eastus", "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
        "subnets": [{"name": "one", "properties": {"addressPrefix": "10.0.1.0/24"}}]}}),
        )
        .await;
    assert_eq!((made.status, made.at("/properties/subnets/0/id")), (201, json!(format!("{path}/subnets/one"))));
    assert_eq!(
        bench.put(&format!("{path}/subnets/two"), json!({"properties": {"addressPrefix": "10.0.2.0/24"}})).await.status,
        201
    );
    assert_eq!(bench.get(&path).await.at("/properties/subnets").as_array().unwrap().len(), 2);
    let put = bench
        .put(&path, json!({"location": "eastus", "properties": {"subnets": [{"name": "two", "properties": {}}]}}))
        .await;
    assert_eq!(put.at("/properties/subnets").as_array().unwrap().len(), 1);
    assert_eq!(bench.get(&format!("{path}/subnets/one")).await.short(), "404 ResourceNotFound");
}

#[tokio::test]
async fn what_was_exported_can_be_put_back_as_it_was() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let user = format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ua");
    bench.put(&user, json!({"location": "eastus"})).await;
    let identity = json!({"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {user: {}}});
    let task = bench.put(&format!("{path}/tasks/build"), json!({"location": "eastus", "identity": identity})).await;
    let network = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/v");
    bench
        .put(&network, json!({"location": "eastus", "properties": {"subnets": [{"name": "s", "properties": {}}]}}))
        .await;
    bench.put(&format!("{GROUP}/{ENDPOINTS}/pe"), endpoint(&path)).await;
    let map = format!("{path}/scopeMaps/my-map");
    bench.put(&map, json!({"properties": {"actions": ["repositories/app/content/read"]}})).await;
    bench.put(&format!("{path}/tokens/mytoken"), json!({"properties": {"scopeMapId": map}})).await;
    let assignment = format!("{path}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(1));
    let properties = json!({"principalId": task.at("/identity/principalId"), "roleDefinitionId": PULL});
    assert_eq!(bench.put(&assignment, json!({"properties": properties})).await.status, 201);

    // The bench's own assignments came past the API, which would have completed them.
    let is_own = |id: &ResourceId| {
        id.parent() == Some(GROUP.parse().unwrap()) && id.is_type("Microsoft.Authorization/roleAssignments")
    };
    let export =
        || bench.directory.with_estate(|estate| postern_estate::export(estate, &id(GROUP), |_, id| !is_own(id)));
    let before = export();
    bench.delete(GROUP).await;
    let documents = postern_estate::import::parse(&before.to_string(), None).unwrap();
    assert_eq!(documents.len(), 11);
    for document in documents {
        let path = document["id"].as_str().unwrap().to_owned();
        let answer = bench.put(&format!("{path}?api-version=2026-09-01-preview"), Value::Object(document)).await;
        assert!(answer.status < 300, "{path}: {}", answer.body);
    }
    assert_eq!(export(), before);
}

#[tokio::test]
async fn rules_and_routes_are_resources_and_what_is_in_use_stays() {
    let bench = Bench::new().await;
    let registry = bench.registry("myregistry").await;
    let network = |rest: &str| format!("{GROUP}/providers/Microsoft.Network/{rest}");
    let (group, table) = (network("networkSecurityGroups/nsg"), network("routeTables/routes"));
    let rule = json!({"properties": {"access": "Allow", "direction": "Outbound", "priority": 100}});
    let listed = json!({"location": "eastus", "properties": {"securityRules": [{"name": "first", "properties": {"priority": 99}}]}});
    assert_eq!(bench.put(&group, listed).await.status, 201);
    assert_eq!(bench.put(&format!("{group}/securityRules/second"), rule).await.status, 201);
    let route = json!({"properties": {"addressPrefix": "0.0.0.0/0", "nextHopType": "Internet"}});
    assert_eq!(bench.put(&table, json!({"location": "eastus"})).await.status, 201);
    assert_eq!(bench.put(&format!("{table}/routes/out"), route).await.status, 201);
    let names = |answer: &Answer, list: &str| -> Vec<Value> {
        answer.at(list).as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    assert_eq!(names(&bench.get(&group).await, "/properties/securityRules"), ["first", "second"]);
    assert_eq!(names(&bench.get(&table).await, "/properties/routes"), ["out"]);
    let tags = json!({"tags": {"a": "b"}});
    assert_eq!(names(&bench.send(Who::Owner, "PATCH", &group, Some(tags)).await, "/properties/securityRules").len(), 2);

    let subnet = json!({"name": "inner", "properties": {
        "addressPrefix": "10.0.0.0/24", "networkSecurityGroup": {"id": group}, "routeTable": {"id": table}}});
    let vnet = network("virtualNetworks/vnet");
    let whole = json!({"location": "eastus", "properties": {"subnets": [subnet]}});
    assert_eq!(bench.put(&vnet, whole.clone()).await.status, 201);
    let inner = format!("{vnet}/subnets/inner");
    let link = json!({"name": "c", "properties": {"groupIds": ["registry"], "privateLinkServiceId": registry}});
    let endpoint =
        json!({"location": "eastus", "properties": {"subnet": {"id": inner}, "privateLinkServiceConnections": [link]}});
    let endpoint_path = format!("{GROUP}/{ENDPOINTS}/pe");
    assert_eq!(bench.put(&endpoint_path, endpoint).await.status, 201);

    for (path, code) in [
        (&group, "400 InUseNetworkSecurityGroupCannotBeDeleted"),
        (&table, "400 InUseRouteTableCannotBeDeleted"),
        (&inner, "400 InUseSubnetCannotBeDeleted"),
        (&vnet, "400 InUseSubnetCannotBeDeleted"),
    ] {
        let before = bench.get(path).await.body;
        assert_eq!(bench.delete(path).await.short(), code, "{path}");
        assert_eq!(bench.get(path).await.body, before, "{path}");
    }
    let without = json!({"location": "eastus", "properties": {"subnets": []}});
    assert_eq!(bench.put(&vnet, without.clone()).await.short(), "400 InUseSubnetCannotBeDeleted");
    assert_eq!(bench.delete(&endpoint_path).await.status, 200);
    assert_eq!(bench.put(&vnet, without).await.status, 200);
    assert_eq!(bench.put(&vnet, whole).await.status, 200);
    assert_eq!(bench.delete(&vnet).await.status, 200);
    assert_eq!([bench.delete(&group).await.status, bench.delete(&table).await.status], [200, 200]);
    assert_eq!(bench.get(&format!("{group}/securityRules/first")).await.status, 404);
}

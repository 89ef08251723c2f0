use std::net::Ipv4Addr;

use super::*;

#[tokio::test]
async fn create_read_update_delete() {
    let bench = Bench::new().await;
    let path = registry("MyRegistry");
    assert_eq!(bench.get(&path).await.short(), "404 ResourceNotFound");
    let answer = bench.put(&path.to_lowercase().replace("myregistry", "MyRegistry"), json!({
        "location": "eastus", "sku": {"name": "Premium"}, "tags": {"a": "b"},
        "properties": {"publicNetworkAccess": "Disabled", "networkRuleSet": {"defaultAction": "Deny"}, "loginServer": "ignored"}})).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.at("/id"), json!(path), "spelled as the group is, and as documented");
    assert_eq!(answer.at("/properties/provisioningState"), "Succeeded");
    assert_eq!(answer.at("/properties/loginServer"), json!("myregistry.azurecr.io.localhost:8443"));
    assert_eq!(answer.at("/properties/creationDate"), "2026-11-22T00:52:09.0000000Z");
    assert_eq!(answer.body, bench.get(&path).await.body);
    // A generic client puts everything back that it got, under its own version.
    let mut whole = answer.body.clone();
    whole["properties"]["networkRuleBypassAllowedForTasks"] = json!(true);
    let put = bench
        .put(&format!("{}?api-version=2025-06-01-preview", path.replace("/registries", "//registries")), whole)
        .await;
    assert_eq!((put.status, put.at("/properties/networkRuleBypassAllowedForTasks")), (200, json!(true)));
    assert_eq!(put.at("/properties/publicNetworkAccess"), "Disabled");
    let rules = bench.directory.registry_by_id(&id(&path)).unwrap();
    assert_eq!((rules.network.tasks, rules.network.public_access), (Some(true), false));
    let patch = bench
        .send(
            Who::Owner,
            "PATCH",
            &path,
            Some(json!({"properties": {"publicNetworkAccess": "Enabled",
        "networkRuleSet": {"ipRules": [{"action": "Allow", "value": "198.51.100.0/24"}]}}, "tags": {"c": "d"}})),
        )
        .await;
    assert_eq!(patch.status, 200);
    assert_eq!(
        patch.at("/properties/networkRuleSet"),
        json!({"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": "198.51.100.0/24"}]})
    );
    assert_eq!(patch.at("/tags"), json!({"c": "d"}));
    let rules = bench.directory.registry_by_host("myregistry.azurecr.io.localhost").unwrap();
    assert!(rules.network.addresses.find(Ipv4Addr::new(198, 51, 100, 7)).is_some());
    assert_eq!(
        bench
            .get(&format!("{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/registries"))
            .await
            .at("/value/0/name"),
        "MyRegistry"
    );
    let found = bench
        .get(&format!("{SUBSCRIPTION}/resources?$filter=resourceType%20eq%20'Microsoft.ContainerRegistry/registries'"))
        .await;
    assert_eq!(
        found.at("/value"),
        json!([{"id": path, "name": "MyRegistry", "type": "Microsoft.ContainerRegistry/registries",
        "location": "eastus", "sku": {"name": "Premium", "tier": "Premium"}, "tags": {"c": "d"}}])
    );
    assert_eq!(bench.delete(&path).await.status, 200);
    assert_eq!(bench.delete(&path).await.status, 204);
    assert!(bench.directory.registry_by_host("myregistry.azurecr.io.localhost").is_none());
}

#[tokio::test]
async fn refusals_store_nothing() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let before = bench.directory.generation();
    let check = async |method: &str, path: &str, body: Value, expected: &str, message: &str| {
        let answer = bench.send(Who::Owner, method, path, Some(body)).await;
        assert_eq!(answer.short(), expected);
        if !message.is_empty() {
            assert_eq!(answer.at("/error/message"), message);
        }
    };
    let basic = |properties: Value| json!({"location": "eastus", "sku": {"name": "Basic"}, "properties": properties});
    check("PUT", &registry("basic01"), basic(json!({"publicNetworkAccess": "Disabled"})), "400 DisablingPublicNetworkAccessNotSupported",
        "Disabling public network access is not supported for the SKU Basic. For more information, please visit https://aka.ms/acr/private-link.").await;
    check("PUT", &registry("no"), premium(json!({})), "400 InvalidResourceName", "").await;
    check("PUT", &registry("my-registry"), premium(json!({})), "400 InvalidResourceName", "").await;
    check(
        "PUT",
        &registry("mymicrosoft"),
        premium(json!({})),
        "400 ReservedResourceName",
        "The resource name 'mymicrosoft' or a part of the name is a trademarked or reserved word.",
    )
    .await;
    check("PUT", &registry("nolocation"), json!({"sku": {"name": "Basic"}}), "400 LocationRequired", "").await;
    check(
        "PATCH",
        &path,
        json!({"properties": {"networkRuleSet": {"ipRules": [{"value": "10.0.0.1"}]}}}),
        "400 InvalidParameter",
        "IP rule `10.0.0.1` is in a private range: use public IPv4 addresses, or a private endpoint.",
    )
    .await;
    check(
        "PATCH",
        &path,
        json!({"properties": {"networkRuleSet": {"ipRules": [{"value": "2001:db8::1"}]}}}),
        "400 InvalidParameter",
        "IP rule `2001:db8::1` is IPv6: firewall rules are IPv4 only.",
    )
    .await;
    check("PATCH", &path, json!({"properties": {"zoneRedundancy": "Enabled"}}), "409 PropertyChangeNotAllowed", "")
        .await;
    check("PATCH", &registry("absent"), json!({}), "404 ResourceNotFound", "").await;
    check("PATCH", &path, json!({"identity": {"type": "Both"}}), "400 InvalidRequestContent", "").await;
    check(
        "PATCH",
        &path,
        json!({"identity": {"type": "UserAssigned", "userAssignedIdentities": {"/x": {}}}}),
        "400 InvalidRequestContent",
        "The user-assigned identity '/x' was not found.",
    )
    .await;
    bench.put(&format!("{SUBSCRIPTION}/resourceGroups/second"), json!({"location": "eastus"})).await;
    check(
        "PUT",
        &path.replace("/Group/", "/second/").replace("myregistry", "MYREGISTRY"),
        premium(json!({})),
        "409 AlreadyInUse",
        "",
    )
    .await;
    assert_eq!(bench.directory.generation(), before + 1, "only the group was stored");
}

#[tokio::test]
async fn names() {
    let bench = Bench::new().await;
    bench.registry("myregistry").await;
    let check = async |name: &str, expected: Value| {
        let path = format!("{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/checkNameAvailability");
        let answer = bench.post(&path, json!({"name": name, "type": "Microsoft.ContainerRegistry/registries"})).await;
        assert_eq!((answer.status, answer.body), (200, expected));
    };
    check("MyRegistry", json!({"nameAvailable": false, "reason": "AlreadyExists", "message": "The registry MyRegistry is already in use."})).await;
    check("other", json!({"nameAvailable": true, "availableLoginServerName": "other.azurecr.io.localhost:8443"})).await;
    check("x", json!({"nameAvailable": false, "reason": "Invalid",
        "message": "Resource names may contain alpha numeric characters only and must be between 5 and 50 characters."})).await;
}

#[tokio::test]
async fn admin_passwords() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let list = format!("{path}/listCredentials");
    assert_eq!(bench.post(&list, json!({})).await.short(), "400 UnAuthorizedForCredentialOperations");
    bench.send(Who::Owner, "PATCH", &path, Some(json!({"properties": {"adminUserEnabled": true}}))).await;
    let first = bench.send(Who::Owner, "POST", &list, None).await;
    assert_eq!(
        (first.status, first.at("/username"), first.at("/passwords/1/name")),
        (200, json!("myregistry"), json!("password2"))
    );
    let uid = bench.directory.resource(&id(&path)).unwrap().uid;
    let holds = |password: Value| {
        let secret = Secret::new(password.as_str().unwrap());
        bench.store.credentials().verify(&SecretOwner::Admin(uid.into()).to_string(), &secret, bench.clock.now())
    };
    assert_eq!(holds(first.at("/passwords/0/value")).as_deref(), Some("password"));
    assert_eq!(bench.post(&list, json!({})).await.body, first.body);
    let second = bench.post(&format!("{path}/regenerateCredential"), json!({"name": "password"})).await;
    assert_ne!(second.at("/passwords/0/value"), first.at("/passwords/0/value"));
    assert_eq!(second.at("/passwords/1"), first.at("/passwords/1"));
    assert_eq!(holds(first.at("/passwords/0/value")), None);
    assert_eq!(
        bench.post(&format!("{path}/regenerateCredential"), json!({"name": "third"})).await.short(),
        "400 InvalidRequestContent"
    );
    assert_eq!(bench.send(Who::Reader, "POST", &list, None).await.status, 403);
    bench.delete(&path).await;
    assert_eq!(holds(second.at("/passwords/0/value")), None, "they go with the registry");
}

#[tokio::test]
async fn usages_and_private_link_resources() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let usages = bench.get(&format!("{path}/listUsages")).await;
    assert_eq!(usages.at("/value/3"), json!({"name": "IPRules", "limit": 200, "currentValue": 0, "unit": "Count"}));
    let links = bench.get(&format!("{path}/privateLinkResources")).await;
    assert_eq!(links.at("/value/0/properties/requiredMembers"), json!(["registry", "registry_data_eastus"]));
    let link = bench.get(&format!("{path}/privateLinkResources/registry")).await;
    assert_eq!((link.status, link.body), (200, links.at("/value/0")));
    for nothing in [format!("{path}/privateLinkResources/other"), format!("{path}x/privateLinkResources/registry")] {
        assert_eq!(bench.get(&nothing).await.short(), "404 ResourceNotFound");
    }
}

#[tokio::test]
async fn identities() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let user = format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ua");
    let made = bench.put(&user, json!({"location": "eastus"})).await;
    assert_eq!(made.status, 201);
    assert_eq!(
        bench
            .put(&user, json!({"location": "eastus", "properties": {"principalId": Uuid::from_u128(9).to_string()}}))
            .await
            .at("/properties"),
        made.at("/properties")
    );
    let patch = async |who, identity: Value| bench.send(who, "PATCH", &path, Some(json!({"identity": identity}))).await;
    let both = json!({"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {user.clone(): {}}});
    let first = patch(Who::Owner, both).await;
    assert_eq!(first.at("/identity/type"), "SystemAssigned, UserAssigned");
    assert_eq!(first.at("/identity/tenantId"), json!(TENANT.to_string()));
    assert_eq!(first.body["identity"]["userAssignedIdentities"][&user]["clientId"], made.at("/properties/clientId"));
    let again =
        patch(Who::Owner, json!({"type": "SystemAssigned", "principalId": Uuid::from_u128(9).to_string()})).await;
    assert_eq!(again.at("/identity/principalId"), first.at("/identity/principalId"), "stable");
    assert_eq!(again.at("/identity/userAssignedIdentities"), Value::Null);
    let principal = first.at("/identity/principalId").as_str().unwrap().parse().unwrap();
    assert_eq!(bench.directory.principal(principal).unwrap().owner, Some(id(&path)));
    assert_eq!(patch(Who::Owner, json!({"type": "None"})).await.at("/identity"), json!({"type": "None"}));
    assert!(bench.directory.principal(principal).is_none());
    // Attaching needs the right to on the identity itself.
    let elsewhere = format!("{SUBSCRIPTION}/resourceGroups/second");
    bench.put(&elsewhere, json!({"location": "eastus"})).await;
    let foreign = format!("{elsewhere}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/foreign");
    bench.put(&foreign, json!({"location": "eastus"})).await;
    let refused =
        patch(Who::Contributor, json!({"type": "UserAssigned", "userAssignedIdentities": {foreign: {}}})).await;
    assert_eq!(refused.short(), "403 LinkedAuthorizationFailed");
}

#[tokio::test]
async fn imported_object_ids_are_kept_only_for_who_could_give_out_their_rights() {
    let bench = Bench::new().await;
    let make = async |who, name: &str, principal: Uuid| {
        let path = format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/{name}");
        let body =
            json!({"location": "eastus", "identity": {"type": "SystemAssigned", "principalId": principal.to_string()}});
        bench.send(who, "PUT", &path, Some(body)).await.at("/identity/principalId") == json!(principal.to_string())
    };
    assert!(make(Who::Owner, "one", Uuid::from_u128(0x11)).await);
    assert!(!make(Who::Owner, "two", Uuid::from_u128(0x11)).await, "taken");
    assert!(!make(Who::Owner, "three", Who::Stranger.id()).await, "taken by a service principal");
    assert!(!make(Who::Contributor, "four", Uuid::from_u128(0x12)).await);
    // An assignment for nobody waits elsewhere, where the owner has no say.
    bench.place("/subscriptions/foreign", json!({})).await;
    bench
        .place(
            &format!(
                "/subscriptions/foreign/providers/Microsoft.Authorization/roleAssignments/{}",
                Uuid::from_u128(0x99)
            ),
            json!({"properties": {"principalId": Uuid::from_u128(0x13).to_string(), "roleDefinitionId": OWNER}}),
        )
        .await;
    assert!(!make(Who::Owner, "five", Uuid::from_u128(0x13)).await);
}

#[tokio::test]
async fn workload_certificates() {
    let bench = Bench::new().await;
    let path = format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/aci");
    bench.put(&path, json!({"location": "eastus", "identity": {"type": "SystemAssigned"}})).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let issue = format!("{path}/issueWorkloadCertificate");
    let answer = bench.post(&issue, json!({"csr": csr})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.at("/certificate").as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(bench.post(&issue, json!({"csr": "nonsense"})).await.short(), "400 InvalidRequestContent");
    assert_eq!(bench.post(&issue, json!({})).await.short(), "400 InvalidRequestContent");
    assert_eq!(bench.send(Who::Reader, "POST", &issue, Some(json!({"csr": csr}))).await.status, 403);
    assert_eq!(
        bench.post(&issue.replace("/aci/", "/gone/"), json!({"csr": csr})).await.short(),
        "404 ResourceNotFound"
    );
}

#[tokio::test]
async fn tasks_always_answer_200() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let task = bench
        .put(&format!("{path}/tasks/build"), json!({"location": "eastus", "identity": {"type": "SystemAssigned"}}))
        .await;
    assert_eq!(task.status, 200);
    assert_eq!(task.at("/type"), "Microsoft.ContainerRegistry/registries/tasks");
    assert_eq!(bench.get(&format!("{path}/tasks")).await.at("/value/0/name"), "build");
    assert_eq!(bench.delete(&format!("{path}/tasks/build")).await.status, 200);
    assert_eq!(bench.put(&format!("{path}/agentPools/pool"), json!({})).await.status, 201);
    assert_eq!(bench.delete(&format!("{path}/agentPools/pool")).await.status, 204);
}

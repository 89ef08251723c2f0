use serde_json::json;

use super::*;

pub(crate) const SUBSCRIPTION: &str = "/subscriptions/s";
pub(crate) const REGISTRY: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/Reg01";
const GROUP: &str = "/subscriptions/s/resourceGroups/g";

pub(crate) fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

pub(crate) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(crate) fn oid(n: u128) -> String {
    uuid(n).to_string()
}

pub(crate) fn estate(documents: serde_json::Value) -> Estate {
    let documents = documents.as_array().unwrap().iter().map(|document| document.as_object().unwrap().clone());
    Estate::from_documents("azurecr.io.localhost:8443", documents.collect()).unwrap()
}

pub(crate) fn assignment(scope: &str, n: u128, principal: u128, role: &str) -> serde_json::Value {
    let scope = scope.trim_end_matches('/');
    json!({
        "id": format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{}", uuid(n)),
        "properties": {"principalId": oid(principal), "roleDefinitionId": format!("/x/{role}")},
    })
}

const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

#[track_caller]
fn same(one: &Estate, other: &Estate) {
    // Empty sets must not stay behind either: the indices would grow with every change.
    let debug = |estate: &Estate| {
        [
            estate.by_type.len(),
            estate.registries.keys().len(),
            estate.assignments.keys().len(),
            estate.assignments_of.keys().len(),
            estate.denials.len(),
            estate.roles.len(),
            estate.principals.keys().len(),
            estate.clients.keys().len(),
            estate.groups.keys().len(),
            estate.connections.keys().len(),
            estate.problems.len(),
            estate.resources.len(),
        ]
    };
    assert_eq!(debug(one), debug(other));
}

fn everything() -> serde_json::Value {
    json!([
        {"id": SUBSCRIPTION},
        {"id": GROUP},
        {"id": REGISTRY},
        {"id": format!("{REGISTRY}/tokens/tok01")},
        {"id": format!("{REGISTRY}/privateEndpointConnections/c"), "properties": {"privateEndpoint": {"id": "/pe"}}},
        {"id": format!("{REGISTRY}/tasks/build"), "identity": {"type": "SystemAssigned", "principalId": oid(7)}},
        {"id": format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ua"),
         "properties": {"principalId": oid(8), "clientId": oid(88)}},
        {"id": format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/aci"),
         "identity": {"type": "SystemAssigned, UserAssigned", "principalId": oid(9), "userAssignedIdentities": {
             format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/UA"): {},
             format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/gone"): {}}}},
        {"id": format!("/providers/Microsoft.Graph/users/{}", uuid(1)), "properties": {"displayName": "Ada"}},
        {"id": format!("/providers/Microsoft.Graph/servicePrincipals/{}", uuid(2)), "properties": {"appId": oid(22), "accountEnabled": false}},
        {"id": format!("/providers/Microsoft.Graph/groups/{}", uuid(3)), "properties": {"members": [oid(1)]}},
        {"id": format!("/providers/Microsoft.Graph/groups/{}", uuid(4)), "properties": {"members": [{"id": oid(3)}]}},
        {"id": format!("/providers/Microsoft.Graph/groups/{}", uuid(5)), "properties": {"members": [oid(4), oid(5), "nonsense"]}},
        assignment(REGISTRY, 100, 7, READER),
        assignment(SUBSCRIPTION, 101, 5, OWNER),
        {"id": format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments/broken"), "properties": {}},
        {"id": format!("{GROUP}/providers/Microsoft.Authorization/denyAssignments/{}", uuid(102)), "properties": {
            "principals": [{"id": oid(9)}], "permissions": [{"actions": ["*/write"]}]}},
        {"id": format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{}", uuid(103)), "properties": {
            "roleName": "custom", "permissions": [{"actions": ["*/read"]}]}},
    ])
}

#[test]
fn removing_everything_leaves_nothing_behind() {
    let mut estate = estate(everything());
    let full = estate.clone();
    let again: Vec<_> = estate.iter().cloned().collect();
    for resource in &again {
        assert!(estate.insert(Arc::clone(resource)).is_some());
    }
    same(&estate, &full);
    for resource in &again {
        assert!(estate.remove(&resource.id, 5).is_some());
    }
    same(&estate, &Estate::new("x"));
    assert_eq!(estate.generation(), 5);
}

#[test]
fn lists_stay_within_whole_segments() {
    let estate = estate(json!([
        {"id": "/subscriptions/s/resourceGroups/g/providers/a/b/one"},
        {"id": "/subscriptions/s/resourceGroups/G/providers/A/B/two"},
        {"id": "/subscriptions/s/resourceGroups/g-1/providers/a/b/three"},
        {"id": "/subscriptions/s/resourceGroups/g2/providers/a/b/four"},
    ]));
    let names =
        |scope: &str| -> Vec<String> { estate.list(&id(scope), "A/b").map(|r| r.id.name().to_owned()).collect() };
    assert_eq!(names("/subscriptions/s/resourceGroups/g"), ["one", "two"]);
    assert_eq!(names("/"), ["three", "one", "two", "four"]);
    assert_eq!(names("/subscriptions/x"), [""; 0]);
}

#[test]
fn principals_come_from_documents() {
    let estate = estate(everything());
    let found = |n: u128| estate.principal(PrincipalId(uuid(n))).unwrap();
    assert_eq!(found(7).owner, Some(id(&format!("{REGISTRY}/tasks/build"))));
    assert_eq!(found(8).client_id, Some(uuid(88)));
    assert_eq!(estate.principal_by_client_id(uuid(88)), Some(found(8)));
    assert_eq!(&*found(1).display_name, "Ada");
    assert_eq!(found(1).groups, [3, 4, 5].map(|n| PrincipalId(uuid(n))), "transitively, and cycles end");
    assert!(!found(2).enabled);
    assert_eq!(estate.principal(PrincipalId(uuid(99))), None);
}

#[test]
fn an_object_id_that_two_documents_claim_is_nobodys() {
    let claim = |name: &str| json!({"id": format!("{GROUP}/providers/a/b/{name}"), "identity": {"type": "SystemAssigned", "principalId": oid(1)}});
    let mut estate = estate(json!([claim("one"), claim("two")]));
    assert_eq!(estate.principal(PrincipalId(uuid(1))), None);
    estate.remove(&id(&format!("{GROUP}/providers/a/b/two")), 2);
    assert!(estate.principal(PrincipalId(uuid(1))).is_some());
}

#[test]
fn workloads_have_the_identities_that_exist() {
    let estate = estate(everything());
    let workload =
        estate.workload(&id(&format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/ACI"))).unwrap();
    assert_eq!(&*workload.resource_type, "Microsoft.ContainerInstance/containerGroups");
    assert_eq!(
        workload.identities,
        [
            WorkloadIdentity { principal: PrincipalId(uuid(9)), kind: IdentityKind::SystemAssigned },
            WorkloadIdentity { principal: PrincipalId(uuid(8)), kind: IdentityKind::UserAssigned },
        ]
    );
}

#[test]
fn descendants_come_deepest_first() {
    let estate = estate(everything());
    let below = estate.descendants(&id(GROUP));
    assert!(below.contains(&id(&format!("{REGISTRY}/tokens/tok01"))));
    let at = |text: &str| below.iter().position(|one| *one == id(text)).unwrap();
    assert!(at(&format!("{REGISTRY}/tasks/build")) < at(REGISTRY));
    assert_eq!(estate.descendants(&id(SUBSCRIPTION)).len(), 12);
}

#[test]
fn management_rights() {
    let estate = estate(everything());
    let may = |who: &[u128], action: &str, scope: &str| {
        let who: Vec<_> = who.iter().map(|&n| PrincipalId(uuid(n))).collect();
        estate.may(&who, action, &id(scope))
    };
    assert!(may(&[7], "Microsoft.ContainerRegistry/registries/read", REGISTRY));
    assert!(!may(&[7], "Microsoft.ContainerRegistry/registries/write", REGISTRY));
    assert!(!may(&[7], "Microsoft.ContainerRegistry/registries/read", GROUP));
    assert!(may(&[1, 5], "Microsoft.ContainerRegistry/registries/write", REGISTRY));
    assert!(!may(&[9, 5], "Microsoft.ContainerRegistry/registries/write", REGISTRY), "a deny assignment wins");
    assert!(may(&[1, 5], "Microsoft.Graph/users/write", &format!("/providers/Microsoft.Graph/users/{}", uuid(1))));
    assert!(!may(&[7], "Microsoft.Graph/users/read", &format!("/providers/Microsoft.Graph/users/{}", uuid(1))));
    assert!(!may(&[1, 5], "a/b/read", "/providers/a/b/c"), "elsewhere above the subscriptions nobody has roles");
}

#[test]
fn a_list_goes_on_behind_any_id() {
    let scopes = ["/", SUBSCRIPTION, GROUP, REGISTRY, "/subscriptions/S2", "/subscriptions/s/resourceGroups/g-2"];
    let documents = scopes.iter().zip(1..).map(|(scope, number)| assignment(scope, number, 1, READER));
    let estate = estate(documents.collect());
    let all: Vec<&ResourceId> = estate.ids(&ResourceId::root(), ROLE_ASSIGNMENTS).collect();
    assert_eq!(all.len(), scopes.len());
    let places = || scopes.map(id).into_iter().chain(all.iter().map(|id| (*id).clone()));
    for (scope, after) in places().flat_map(|scope| places().map(move |after| (scope.clone(), after))) {
        let expected: Vec<_> = all.iter().copied().filter(|id| id.is_within(&scope) && **id > after).collect();
        let found: Vec<_> = estate.ids_after(&scope, ROLE_ASSIGNMENTS, Some(&after)).collect();
        assert_eq!(found, expected, "in {scope} behind {after}");
    }
}

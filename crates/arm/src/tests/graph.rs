//! The directory by its own API.

use super::*;

/// A request to the directory, by a caller whose token is for it.
pub(super) async fn graph(bench: &Bench, who: Who, method: &str, path: &str, body: Value) -> Answer {
    let token = bench.token_for(who.client(), "a secret of no importance", ENDPOINT).await.unwrap();
    let request = Request::builder().method(method).uri(format!("/v1.0/{path}"));
    let request = request.header("authorization", format!("Bearer {token}"));
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    bench.request(request.body(body).unwrap()).await
}

async fn get(bench: &Bench, path: &str) -> Answer {
    graph(bench, Who::Owner, "GET", path, Value::Null).await
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.body["value"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
}

#[tokio::test]
async fn an_application_with_a_service_principal_logs_in_until_it_is_deleted() {
    let bench = Bench::new().await;
    let post = async |path: &str, body: Value| graph(&bench, Who::Owner, "POST", path, body).await;
    let application = post("applications", json!({"displayName": "ci"})).await;
    assert_eq!((application.status, application.at("/displayName")), (201, json!("ci")));
    let (object, client) = (text(&application.at("/id")), text(&application.at("/appId")));
    let secret = post(&format!("applications/{object}/addPassword"), json!({"passwordCredential": {}})).await;
    assert_eq!(secret.status, 200, "{}", secret.body);
    let secret_text = text(&secret.at("/secretText"));
    let client_id = Uuid::try_parse(&client).unwrap();
    assert!(bench.token(client_id, &secret_text).await.is_none(), "an application alone is nobody");

    assert_eq!(
        post("servicePrincipals", json!({"appId": Uuid::from_u128(9)})).await.short(),
        "400 Request_BadRequest",
        "of no application"
    );
    let principal = post("servicePrincipals", json!({"appId": client, "accountEnabled": true})).await;
    assert_eq!((principal.status, principal.at("/displayName")), (201, json!("ci")));
    assert_eq!(post("servicePrincipals", json!({"appId": client})).await.short(), "409 Conflict");
    let principal_id = text(&principal.at("/id"));
    assert!(bench.token(client_id, &secret_text).await.is_some());
    assert!(bench.token(client_id, "another").await.is_none());

    // Whoever is asked for is found by each of its names, and by no other.
    for (path, found) in [
        (format!("servicePrincipals?$filter=servicePrincipalNames/any(c:c%20eq%20'{client}')"), true),
        (format!("servicePrincipals?$filter=appId%20eq%20'{client}'"), true),
        ("servicePrincipals?$filter=displayName%20eq%20'CI'".into(), true),
        ("servicePrincipals?$filter=startswith(displayName,'c')".into(), true),
        (format!("servicePrincipals?$filter=id%20eq%20'{principal_id}'"), true),
        ("servicePrincipals?$filter=displayName%20eq%20'c'".into(), false),
        (format!("servicePrincipals?$filter=servicePrincipalNames/any(c:c%20eq%20'{principal_id}')"), false),
        (format!("servicePrincipals?$filter=appId%20eq%20'{client}'%20and%20displayName%20eq%20'x'"), false),
    ] {
        let expected = if found { vec![principal_id.clone()] } else { Vec::new() };
        assert_eq!(ids(&get(&bench, &path).await), expected, "{path}");
    }
    assert_eq!(ids(&get(&bench, &format!("applications?$filter=appId%20eq%20'{client}'")).await), [object.as_str()]);
    assert_eq!(get(&bench, "servicePrincipals?$filter=colour%20eq%20'red'").await.status, 400);
    let shown = get(&bench, &format!("servicePrincipals(appId='{client}')")).await;
    assert_eq!((shown.at("/id"), shown.at("/servicePrincipalType")), (json!(principal_id), json!("Application")));
    let shown = get(&bench, &format!("applications/{object}")).await;
    assert_eq!(shown.at("/passwordCredentials/0/keyId"), secret.at("/keyId"));
    assert!(!shown.body.to_string().contains(&secret_text), "shown once");

    let gone = graph(&bench, Who::Owner, "DELETE", &format!("applications/{object}"), Value::Null).await;
    assert_eq!(gone.status, 204);
    assert!(bench.token(client_id, &secret_text).await.is_none());
    assert_eq!(get(&bench, &format!("servicePrincipals/{principal_id}")).await.short(), "404 Request_ResourceNotFound");
}

#[tokio::test]
async fn the_secret_of_an_application_is_not_that_of_a_managed_identity() {
    let bench = Bench::new().await;
    let made = graph(&bench, Who::Owner, "POST", "applications", json!({"displayName": "x"})).await;
    let (object, client) = (text(&made.at("/id")), text(&made.at("/appId")));
    let path = format!("applications/{object}/addPassword");
    let secret = text(&graph(&bench, Who::Owner, "POST", &path, json!({})).await.at("/secretText"));
    let identity = format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/twin");
    let principal = Uuid::from_u128(0x77).to_string();
    bench.place(&identity, json!({"properties": {"principalId": principal, "clientId": client}})).await;
    assert!(bench.token(Uuid::try_parse(&client).unwrap(), &secret).await.is_none());
}

#[tokio::test]
async fn groups_give_their_members_roles() {
    let bench = Bench::new().await;
    let path = bench.registry("myregistry").await;
    let call = async |method: &str, path: &str, body: Value| graph(&bench, Who::Owner, method, path, body).await;
    let group = call("POST", "groups", json!({"displayName": "team", "mailNickname": "team"})).await;
    assert_eq!(group.status, 201, "{}", group.body);
    let group = text(&group.at("/id"));
    let assignment = format!("{path}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(1));
    let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{READER}");
    let assign = json!({"properties": {"principalId": group, "roleDefinitionId": role}});
    assert_eq!(bench.put(&assignment, assign).await.status, 201);
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 403);

    let stranger = Who::Stranger.id().to_string();
    let reference = json!({"@odata.id": format!("{ENDPOINT}/v1.0/directoryObjects/{stranger}")});
    let members = format!("groups/{group}/members/$ref");
    assert_eq!(call("POST", &members, reference.clone()).await.status, 204);
    assert_eq!(call("POST", &members, reference).await.short(), "400 Request_BadRequest");
    let nobody = json!({"@odata.id": format!("{ENDPOINT}/v1.0/directoryObjects/{}", Uuid::from_u128(5))});
    assert_eq!(call("POST", &members, nobody).await.short(), "404 Request_ResourceNotFound");
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 200);
    assert_eq!(ids(&get(&bench, &format!("groups/{group}/members")).await), [stranger.as_str()]);
    let asked = json!({"groupIds": [group, Uuid::from_u128(6)]});
    let checked = call("POST", &format!("directoryObjects/{stranger}/checkMemberGroups"), asked).await;
    assert_eq!(checked.at("/value"), json!([group]));

    // A change of something else leaves the members alone.
    let renamed = json!({"displayName": "crew", "members": []});
    assert_eq!(call("PATCH", &format!("groups/{group}"), renamed).await.status, 204);
    assert_eq!(get(&bench, &format!("groups/{group}")).await.at("/displayName"), json!("crew"));
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 200);
    assert_eq!(call("DELETE", &format!("groups/{group}/members/{stranger}/$ref"), Value::Null).await.status, 204);
    assert_eq!(bench.send(Who::Stranger, "GET", &path, None).await.status, 403);
    let both = [Who::Stranger, Who::Reader].map(|who| format!("{ENDPOINT}/v1.0/directoryObjects/{}", who.id()));
    let second = call("POST", "groups", json!({"displayName": "two", "members@odata.bind": both})).await;
    assert_eq!(ids(&get(&bench, &format!("groups/{}/members", text(&second.at("/id")))).await).len(), 2);
}

#[tokio::test]
async fn users_are_found_by_name_and_keep_their_passwords_out_of_sight() {
    let bench = Bench::new().await;
    let ada = json!({
        "displayName": "Ada", "userPrincipalName": "ada@postern.localhost", "mailNickname": "ada",
        "accountEnabled": true, "passwordProfile": {"password": "correct horse battery"},
    });
    let made = graph(&bench, Who::Owner, "POST", "users", ada.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        graph(&bench, Who::Owner, "POST", "users", ada).await.short(),
        "400 Request_BadRequest",
        "the name is taken"
    );
    let id = text(&made.at("/id"));
    let found = get(&bench, "users?$filter=userPrincipalName%20eq%20'Ada@Postern.Localhost'").await;
    assert_eq!(ids(&found), [id.as_str()]);
    let found = get(&bench, "users/ada@postern.localhost").await;
    assert_eq!(found.at("/id"), json!(id));
    assert!(!found.body.to_string().contains("correct horse"));
    let resource = bench.get(&format!("/providers/Microsoft.Graph/users/{id}")).await;
    assert!(!resource.body.to_string().contains("correct horse"));
    let weak = json!({"displayName": "B", "userPrincipalName": "b@x", "passwordProfile": {"password": "short"}});
    assert_eq!(graph(&bench, Who::Owner, "POST", "users", weak).await.short(), "400 Request_BadRequest");
    assert!(get(&bench, "users?$filter=displayName%20eq%20'B'").await.body["value"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn system_assigned_identities_are_found_by_the_id_that_their_tokens_name() {
    let bench = Bench::new().await;
    let group = format!("{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/mycontainer");
    let made = bench.put(&group, json!({"location": "eastus", "identity": {"type": "SystemAssigned"}})).await;
    let principal = text(&made.at("/identity/principalId"));
    for filter in [format!("servicePrincipalNames/any(c:c%20eq%20'{principal}')"), format!("id%20eq%20'{principal}'")] {
        let found = get(&bench, &format!("servicePrincipals?$filter={filter}")).await;
        assert_eq!(ids(&found), [principal.as_str()], "{filter}");
        assert_eq!(found.at("/value/0/servicePrincipalNames"), json!([principal]));
    }
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let bench = Bench::new().await;
    let first = get(&bench, "servicePrincipals?$top=3").await;
    assert_eq!(ids(&first).len(), 3);
    let next = text(&first.body["@odata.nextLink"]);
    let second = get(&bench, next.strip_prefix(&format!("{ENDPOINT}/v1.0/")).unwrap()).await;
    assert_eq!(ids(&second).len(), 1);
    assert!(second.body.get("@odata.nextLink").is_none());
    assert!(!ids(&first).contains(&ids(&second)[0]));
    for bad in ["$top=0", "$top=1000", "$top=x", "$skiptoken=x"] {
        assert_eq!(get(&bench, &format!("servicePrincipals?{bad}")).await.short(), "400 Request_BadRequest", "{bad}");
    }
}

#[tokio::test]
async fn who_may_look_and_who_may_change() {
    let bench = Bench::new().await;
    let owner = Who::Owner.id();
    let own = Who::Stranger.id();
    for (who, method, path, body, expected) in [
        (Who::Stranger, "GET", format!("directoryObjects/{own}"), Value::Null, "200"),
        (Who::Stranger, "GET", format!("servicePrincipals/{own}"), Value::Null, "200"),
        (Who::Stranger, "POST", "directoryObjects/getByIds".into(), json!({"ids": [own]}), "200"),
        (Who::Stranger, "GET", "servicePrincipals".into(), Value::Null, "403 Authorization_RequestDenied"),
        (Who::Stranger, "GET", format!("servicePrincipals/{owner}"), Value::Null, "403 Authorization_RequestDenied"),
        (
            Who::Stranger,
            "POST",
            "directoryObjects/getByIds".into(),
            json!({"ids": [own, owner]}),
            "403 Authorization_RequestDenied",
        ),
        (
            Who::Stranger,
            "POST",
            format!("servicePrincipals/{own}/addPassword"),
            json!({}),
            "403 Authorization_RequestDenied",
        ),
        (Who::Reader, "GET", "servicePrincipals".into(), Value::Null, "200"),
        (Who::Reader, "POST", "directoryObjects/getByIds".into(), json!({"ids": [owner]}), "200"),
        (Who::Reader, "POST", "directoryObjects/getByIds".into(), json!({"ids": ["me"]}), "400 Request_BadRequest"),
        (Who::Reader, "POST", "users".into(), json!({}), "403 Authorization_RequestDenied"),
        (
            Who::Contributor,
            "POST",
            "applications".into(),
            json!({"displayName": "x"}),
            "403 Authorization_RequestDenied",
        ),
        (
            Who::Contributor,
            "POST",
            "servicePrincipals".into(),
            json!({"appId": Uuid::from_u128(7)}),
            "403 Authorization_RequestDenied",
        ),
        (
            Who::Contributor,
            "POST",
            format!("servicePrincipals/{owner}/addPassword"),
            json!({}),
            "403 Authorization_RequestDenied",
        ),
        (
            Who::Contributor,
            "PATCH",
            format!("servicePrincipals/{owner}"),
            json!({"accountEnabled": false}),
            "403 Authorization_RequestDenied",
        ),
        (
            Who::Contributor,
            "DELETE",
            format!("servicePrincipals/{owner}"),
            Value::Null,
            "403 Authorization_RequestDenied",
        ),
        (
            Who::Contributor,
            "POST",
            format!("groups/{owner}/members/$ref"),
            json!({"@odata.id": "x"}),
            "404 Request_ResourceNotFound",
        ),
        (Who::Owner, "GET", "me".into(), Value::Null, "400 Request_BadRequest"),
        (Who::Owner, "GET", "nothing".into(), Value::Null, "400 Request_BadRequest"),
        (Who::Owner, "GET", "servicePrincipals/a%2Fb".into(), Value::Null, "400 InvalidRequestUri"),
        (Who::Owner, "PUT", "servicePrincipals".into(), json!({}), "405 MethodNotAllowed"),
    ] {
        let answer = graph(&bench, who, method, &path, body).await;
        assert_eq!(answer.short(), expected, "{method} {path} by {}", who.client());
    }
    // A token for the name by which the directory is called, and for another one.
    let token = bench.token_for(Who::Owner.client(), "a secret of no importance", "https://azurecr.io").await.unwrap();
    for (host, expected) in [("azurecr.io", "200"), ("localhost:8443", "401 InvalidAuthenticationToken")] {
        let request = Request::get("/v1.0/servicePrincipals").header("host", host);
        let request = request.header("authorization", format!("Bearer {token}"));
        assert_eq!(bench.request(request.body(Body::empty()).unwrap()).await.short(), expected, "{host}");
    }
    // A token for the registry, and no token.
    let token =
        bench.token_for(Who::Owner.client(), "a secret of no importance", "https://containerregistry.azure.net").await;
    for authorization in [Some(format!("Bearer {}", token.unwrap())), Some(format!("Bearer {}", bench.tokens[0])), None]
    {
        let mut request = Request::get("/v1.0/servicePrincipals");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        assert_eq!(bench.request(request.body(Body::empty()).unwrap()).await.status, 401);
    }
}

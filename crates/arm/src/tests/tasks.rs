use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A step that needs no files.
fn encoded(task: &str) -> Value {
    json!({"type": "EncodedTask", "encodedTaskContent": STANDARD.encode(task)})
}

fn task(properties: Value) -> Value {
    let mut whole = json!({"step": encoded("version: v1.1.0\nsteps:\n- cmd: acr purge --registry $RegistryName\n")});
    whole.as_object_mut().unwrap().extend(properties.as_object().cloned().unwrap());
    json!({"location": "eastus", "identity": {"type": "SystemAssigned"}, "properties": whole})
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let bench = Bench::new().await;
    let path = format!("{}/tasks/mytask", bench.registry("myregistry").await);
    let made = bench.put(&path, task(json!({"trigger": {}, "agentPoolName": null, "platform": {"os": "Linux"}}))).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert!(made.at("/identity/principalId").is_string());
    let properties = made.at("/properties");
    for (pointer, expected) in [
        ("/status", json!("Enabled")),
        ("/timeout", json!(3600)),
        ("/isSystemTask", json!(false)),
        ("/platform", json!({"os": "Linux", "architecture": "amd64"})),
        ("/agentConfiguration", json!({"cpu": 2})),
        ("/provisioningState", json!("Succeeded")),
    ] {
        assert_eq!(properties.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(properties.get("agentPoolName").is_none() && properties["creationDate"].is_string());
    // The base image trigger's too, and those of a build.
    let base =
        json!({"trigger": {"baseImageTrigger": {"name": "base"}}, "step": {"type": "Docker", "dockerFilePath": "D"}});
    let made = bench.put(&path, task(base)).await;
    let trigger = json!({"name": "base", "baseImageTriggerType": "Runtime", "status": "Enabled", "updateTriggerPayloadType": "Default"});
    assert_eq!(made.at("/properties/trigger/baseImageTrigger"), trigger);
    assert_eq!(made.at("/properties/step/isPushEnabled"), json!(true));
    // A task for the settings of quick runs has no step.
    let quick = json!({"location": "eastus", "properties": {"isSystemTask": true, "logTemplate": "acr/logs"}});
    assert_eq!(bench.put(&path.replace("mytask", "quicktask"), quick).await.status, 200);
}

#[tokio::test]
async fn secrets_are_shown_by_list_details_alone() {
    let bench = Bench::new().await;
    let path = format!("{}/tasks/mytask", bench.registry("myregistry").await);
    let secret = |name: &str| json!({"name": name, "value": format!("s3cret-{name}"), "isSecret": true});
    let body = task(json!({
        "step": {
            "type": "Docker", "dockerFilePath": "Dockerfile", "imageNames": ["a"], "contextPath": "https://host/x.git#main",
            "contextAccessToken": "s3cret-context", "arguments": [secret("a"), {"name": "b", "value": "open"}],
        },
        "trigger": {"sourceTriggers": [{
            "name": "s", "sourceTriggerEvents": ["commit"],
            "sourceRepository": {"sourceControlType": "Github", "repositoryUrl": "https://host/x.git",
                "sourceControlAuthProperties": {"tokenType": "PAT", "token": "s3cret-source"}},
        }]},
        "credentials": {"customRegistries": {"other.azurecr.io": {
            "userName": {"type": "Opaque", "value": "s3cret-user"}, "password": {"type": "Opaque", "value": "s3cret-password"},
        }, "vault.azurecr.io": {
            "userName": {"type": "Vaultsecret", "value": "https://v/u"}, "password": {"type": "Vaultsecret", "value": "https://v/p"},
        }}},
    }));
    let made = bench.put(&path, body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let count = |answer: &Answer| answer.body.to_string().matches("s3cret-").count();
    let details = format!("{path}/listDetails");
    let everything = bench.post(&details, json!({})).await;
    assert_eq!(count(&everything), 5, "{}", everything.body);
    let list = path.strip_suffix("/mytask").unwrap();
    for hidden in [&made, &bench.get(&path).await, &bench.get(list).await] {
        assert_eq!(count(hidden), 0, "{}", hidden.body);
        assert!(hidden.body.to_string().contains("https://v/p") && hidden.body.to_string().contains("open"));
    }
    assert_eq!(bench.send(Who::Reader, "POST", &details, None).await.status, 403);
    let exported = |may: fn(&str) -> bool| {
        let root = postern_model::ResourceId::root();
        let all = bench.directory.with_estate(|estate| postern_estate::export(estate, &root, |action, _| may(action)));
        all.to_string().matches("s3cret-").count()
    };
    assert_eq!((exported(|action| action.ends_with("/read")), exported(|_| true)), (0, 5));
    // Whoever puts back what it got keeps them; another step has none of them.
    assert_eq!(bench.put(&path, made.body.clone()).await.status, 200);
    assert_eq!(bench.post(&details, json!({})).await.at("/properties/step"), everything.at("/properties/step"));
    assert_eq!(count(&bench.post(&details, json!({})).await), 5);
    let patched = json!({"properties": {"step": {"type": "Docker", "noCache": true}}});
    assert_eq!(bench.send(Who::Owner, "PATCH", &path, Some(patched)).await.status, 200);
    assert_eq!(count(&bench.post(&details, json!({})).await), 5);
    let mut moved = made.body;
    moved["properties"]["step"]["contextPath"] = json!("https://elsewhere/x.git");
    moved["properties"]["trigger"]["sourceTriggers"][0]["sourceRepository"]["repositoryUrl"] =
        json!("https://elsewhere/x.git");
    assert_eq!(bench.put(&path, moved).await.status, 200);
    assert_eq!(count(&bench.post(&details, json!({})).await), 3, "tokens go to the host that they were given for");
}

#[tokio::test]
async fn patches_merge_triggers_and_logins() {
    let bench = Bench::new().await;
    let path = format!("{}/tasks/mytask", bench.registry("myregistry").await);
    let timer = |name: &str, schedule: &str| json!({"name": name, "schedule": schedule});
    bench.put(&path, task(json!({"trigger": {"timerTriggers": [timer("t1", "0 1 * * *")]}}))).await;
    let patch =
        async |properties: Value| bench.send(Who::Owner, "PATCH", &path, Some(json!({"properties": properties}))).await;
    let answer = patch(json!({"trigger": {"timerTriggers": [timer("t2", "0 2 * * *")]}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = patch(json!({"trigger": {"timerTriggers": [{"name": "T1", "status": "Disabled"}]}})).await;
    let timers = answer.at("/properties/trigger/timerTriggers");
    let shown: Vec<String> = timers
        .as_array()
        .unwrap()
        .iter()
        .map(|timer| ["name", "schedule", "status"].map(|key| timer[key].as_str().unwrap_or("-")).join(" "))
        .collect();
    assert_eq!(shown, ["T1 0 1 * * * Disabled", "t2 0 2 * * * Enabled"]);
    let login = |server: &str, login: Value| json!({"credentials": {"customRegistries": {server: login}}});
    patch(login("a.azurecr.io", json!({"identity": "[system]"}))).await;
    patch(login("b.azurecr.io", json!({"identity": "[system]"}))).await;
    let answer = patch(login("a.azurecr.io", Value::Null)).await;
    let left = json!({"b.azurecr.io": {"identity": "[system]"}});
    assert_eq!(answer.at("/properties/credentials/customRegistries"), left);
    // Another type is another step: nothing of the old one stays.
    let answer =
        patch(json!({"step": {"type": "Docker", "dockerFilePath": "D", "contextPath": "https://h/x.git"}})).await;
    assert_eq!(answer.at("/properties/step/encodedTaskContent"), Value::Null);
    assert_eq!(patch(json!({"timeout": 600})).await.at("/properties/timeout"), json!(600));
}

#[tokio::test]
async fn older_versions_leave_alone_what_they_do_not_know() {
    let bench = Bench::new().await;
    let path = format!("{}/tasks/mytask", bench.registry("myregistry").await);
    let later = json!({"logTemplate": "acr/logs", "credentials": {"sourceRegistry": {"identity": "[system]", "loginMode": "None"}}});
    bench.put(&path, task(later)).await;
    let shown = |answer: &Answer| {
        [
            "/properties/logTemplate",
            "/properties/credentials/sourceRegistry/identity",
            "/properties/credentials/sourceRegistry/loginMode",
        ]
        .map(|pointer| answer.at(pointer).as_str().unwrap_or("-").to_owned())
        .join(" ")
    };
    let [oldest, preview] = ["2019-04-01", "2019-06-01-preview"].map(|version| format!("{path}?api-version={version}"));
    assert_eq!(shown(&bench.get(&oldest).await), "- - None");
    assert_eq!(shown(&bench.get(&preview).await), "acr/logs - None");
    let back = bench.get(&oldest).await.body;
    assert_eq!(shown(&bench.put(&oldest, back).await), "- - None");
    let patch =
        json!({"properties": {"logTemplate": "x", "credentials": {"sourceRegistry": {"loginMode": "Default"}}}});
    bench.send(Who::Owner, "PATCH", &oldest, Some(patch)).await;
    assert_eq!(shown(&bench.get(&path).await), "acr/logs [system] Default");
}

#[tokio::test]
async fn tasks_that_are_refused() {
    let bench = Bench::new().await;
    let registry = bench.registry("myregistry").await;
    let check = async |properties: Value, code: &str, message: &str| {
        let answer = bench.put(&format!("{registry}/tasks/mytask"), task(properties.clone())).await;
        assert_eq!(answer.short(), format!("400 {code}"), "{properties}");
        let text = answer.at("/error/message").as_str().unwrap_or_default().to_owned();
        assert!(text.contains(message), "{properties}: {text}");
    };
    let invalid = "InvalidParameter";
    let malformed = "InvalidRequestContent";
    check(json!({"status": "Paused"}), invalid, "is one of: Enabled, Disabled").await;
    check(json!({"timeout": 299}), invalid, "a number from 300 to 28800").await;
    check(json!({"timeout": 28801}), invalid, "a number from 300 to 28800").await;
    check(json!({"agentConfiguration": {"cpu": 0}}), invalid, "a number from 1 to 64").await;
    check(json!({"platform": {"os": "Mac"}}), invalid, "Linux, Windows").await;
    check(json!({"agentPoolName": "nowhere"}), invalid, "agent pool 'nowhere' was not found").await;
    check(json!({"step": {"type": "Shell"}}), invalid, "Docker, FileTask, EncodedTask").await;
    check(json!({"step": {"type": "Docker"}}), malformed, "needs the text 'dockerFilePath'").await;
    check(json!({"step": {"type": "EncodedTask", "encodedTaskContent": "!"}}), invalid, "not text in base64").await;
    check(
        json!({"step": encoded("steps:\n- cmd: {{ nope }}\n")}),
        invalid,
        "line 2, column 11: function \"nope\" not defined",
    )
    .await;
    check(
        json!({"step": encoded("steps:\n- {cmd: a, id: x, when: [y]}\n- {cmd: b, id: y}\n")}),
        invalid,
        "x -> y -> x",
    )
    .await;
    check(json!({"step": encoded("steps:\n- {cmd: a, id: a b}\n")}), invalid, "step ID cannot contain spaces").await;
    let docker = |context: &str| json!({"type": "Docker", "dockerFilePath": "D", "contextPath": context});
    check(json!({"step": docker("http://host/x.git")}), invalid, "use https").await;
    check(json!({"step": docker("https://host/x.git#main:../..")}), invalid, "leads out of the repository").await;
    let timers = |timers: Value| json!({"trigger": {"timerTriggers": timers}});
    check(timers(json!([{"name": "t", "schedule": "0 0 30 2 *"}])), invalid, "the schedule never fires").await;
    check(timers(json!([{"name": "t", "schedule": "0 25 * * *"}])), invalid, "25 is not between 0 and 23").await;
    check(timers(json!([{"name": "t"}])), malformed, "needs a 'schedule'").await;
    let twice = |first: &str, second: &str| json!([{"name": first, "schedule": "0 1 * * *"}, {"name": second, "schedule": "0 1  * * *"}]);
    check(timers(twice("a", "b")), invalid, "schedules must differ").await;
    check(timers(twice("a", "A")), invalid, "Two triggers are named 'a'").await;
    let source = json!({"sourceTriggers": [{"name": "s", "sourceTriggerEvents": ["commit"],
        "sourceRepository": {"sourceControlType": "Github", "repositoryUrl": "https://h/x.git"}}]});
    check(json!({"trigger": source}), invalid, "nothing is committed there").await;
    let login = |login: Value| json!({"credentials": {"customRegistries": {"o.azurecr.io": login}}});
    check(login(json!({})), malformed, "both 'userName' and 'password', or an 'identity'").await;
    check(login(json!({"identity": "00000000-0000-0000-0000-000000000009"})), invalid, "no user-assigned identity")
        .await;
    check(login(json!({"userName": {"type": "Plain"}, "password": {}})), invalid, "Opaque, Vaultsecret").await;
    let caller = json!({"credentials": {"sourceRegistry": {"identity": "[caller]"}}});
    check(caller, invalid, "no user-assigned identity with the client id '[caller]'").await;
    let mut without = task(login(json!({"identity": "[system]"})));
    without.as_object_mut().unwrap().remove("identity");
    assert_eq!(bench.put(&format!("{registry}/tasks/mytask"), without).await.short(), "400 InvalidParameter");
    assert_eq!(bench.put(&format!("{registry}/tasks/t"), task(json!({}))).await.short(), "400 InvalidResourceName");
}

#[tokio::test]
async fn a_user_identity_is_named_by_its_client_id() {
    let bench = Bench::new().await;
    let registry = bench.registry("myregistry").await;
    let user = format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ua");
    let made = bench.put(&user, json!({"location": "eastus"})).await;
    let client = made.at("/properties/clientId");
    let mut body = task(json!({"credentials": {"sourceRegistry": {"identity": client}}}));
    body["identity"] = json!({"type": "UserAssigned", "userAssignedIdentities": {user: {}}});
    assert_eq!(bench.put(&format!("{registry}/tasks/mytask"), body).await.short(), "200");
}

#[tokio::test]
async fn agent_pools() {
    let bench = Bench::new().await;
    let registry = bench.registry("myregistry").await;
    let network = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/v");
    let subnets = json!({"location": "eastus", "properties": {"subnets": [{"name": "s", "properties": {}}]}});
    bench.put(&network, subnets).await;
    let pool = |name: &str| format!("{registry}/agentPools/{name}");
    let put = async |name: &str, properties: Value| {
        bench.put(&pool(name), json!({"location": "eastus", "properties": properties})).await
    };
    let made =
        put("mypool", json!({"count": null, "virtualNetworkSubnetResourceId": format!("{network}/subnets/s")})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let shown = json!({"count": 1, "tier": "S1", "os": "Linux", "provisioningState": "Succeeded",
        "virtualNetworkSubnetResourceId": format!("{network}/subnets/s")});
    assert_eq!(made.at("/properties"), shown);
    assert_eq!(bench.delete(&format!("{network}/subnets/s")).await.short(), "400 InUseSubnetCannotBeDeleted");
    let patch = async |properties: Value| {
        bench.send(Who::Owner, "PATCH", &pool("mypool"), Some(json!({"properties": properties}))).await.short()
    };
    assert_eq!(patch(json!({"count": 0})).await, "200");
    assert_eq!(patch(json!({"count": 3})).await, "200");
    assert_eq!(patch(json!({"tier": "S2"})).await, "409 PropertyChangeNotAllowed");
    assert_eq!(patch(json!({"virtualNetworkSubnetResourceId": null})).await, "409 PropertyChangeNotAllowed");
    assert_eq!(patch(json!({"count": 9})).await, "400 LimitExceeded", "18 processors");
    for (name, properties, expected) in [
        ("p", json!({}), "400 InvalidResourceName"),
        ("a-name-that-is-too-long", json!({}), "400 InvalidResourceName"),
        ("my_pool", json!({}), "400 InvalidResourceName"),
        ("other", json!({"tier": "S3", "count": 2}), "400 LimitExceeded"),
        ("other", json!({"tier": "I6"}), "400 LimitExceeded"),
        ("other", json!({"tier": "S4"}), "400 InvalidParameter"),
        ("other", json!({"os": "Windows"}), "400 InvalidParameter"),
        ("other", json!({"count": -1}), "400 InvalidParameter"),
        ("other", json!({"virtualNetworkSubnetResourceId": format!("{network}/subnets/x")}), "400 InvalidParameter"),
        ("other", json!({"tier": "s3"}), "201"),
    ] {
        assert_eq!(put(name, properties.clone()).await.short(), expected, "{name} {properties}");
    }
    // It reads `Deleting` once, and is gone for everything else at once.
    assert_eq!(bench.delete(&pool("mypool")).await.status, 204);
    assert_eq!(bench.send(Who::Owner, "PATCH", &pool("mypool"), Some(json!({}))).await.status, 404);
    let last = bench.get(&pool("mypool")).await;
    assert_eq!((last.status, last.at("/properties/provisioningState")), (200, json!("Deleting")));
    assert_eq!(bench.get(&pool("mypool")).await.short(), "404 ResourceNotFound");
    assert_eq!(bench.delete(&pool("mypool")).await.status, 204);
    assert_eq!(bench.get(&pool("mypool")).await.status, 404);
    assert_eq!(bench.delete(&format!("{network}/subnets/s")).await.status, 200);
    let basic = super::registry("basic01");
    bench.put(&basic, json!({"location": "eastus", "sku": {"name": "Basic"}})).await;
    assert_eq!(
        bench.put(&format!("{basic}/agentPools/pool"), json!({})).await.short(),
        "400 FeatureNotSupportedForSku"
    );
}

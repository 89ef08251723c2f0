use super::*;

/// What a request comes to, in short.
async fn outcome(bench: &Bench, body: Value) -> String {
    match bench.ask(body).await {
        Ok(run) => run.kind,
        Err(RunsError::Invalid(message)) => format!("invalid: {message}"),
        Err(RunsError::NotFound(message)) => format!("not found: {message}"),
        Err(RunsError::Conflict(message)) => format!("conflict: {message}"),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests() {
    let bench = Bench::new().await;
    let encoded = |changes: Value| {
        let mut body = quick(&json!([]));
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let docker = json!({"type": "DockerBuildRequest", "imageNames": ["app:{{.Run.ID}}"], "dockerFilePath": "Dockerfile",
        "platform": {"os": "Linux", "architecture": "arm64", "variant": "v8"}, "sourceLocation": "https://host/app.git#main"});
    let file = json!({"type": "filetaskrunrequest", "taskFilePath": "acb.yaml", "sourceLocation": "/dev/null", "values": null});
    for (body, expected) in [
        (docker, "QuickBuild"),
        (file, "QuickRun"),
        (encoded(json!({})), "QuickRun"),
        (json!({}), "invalid: The type '' is not known."),
        (json!({"type": "Other\u{7}"}), "invalid: The type 'Other' is not known."),
        (json!({"type": "DockerBuildRequest"}), "invalid: The property 'dockerFilePath' is required."),
        (json!({"type": "FileTaskRunRequest"}), "invalid: The property 'taskFilePath' is required."),
        (encoded(json!({"encodedTaskContent": "%"})), "invalid: encodedTaskContent is not UTF-8 text in base64."),
        (encoded(json!({"encodedTaskContent": "/w=="})), "invalid: encodedTaskContent is not UTF-8 text in base64."),
        (encoded(json!({"timeout": 299})), "invalid: The timeout of 299 seconds is not between 300 and 28800."),
        (encoded(json!({"timeout": 300})), "QuickRun"),
        (
            encoded(json!({"platform": {"os": "Windows"}})),
            "invalid: The platform's os is 'windows': workers of this server run Linux alone.",
        ),
        (
            encoded(json!({"platform": {"os": "linux", "architecture": "mips"}})),
            "invalid: The platform's architecture 'mips' is not one of amd64, x86, 386, arm and arm64.",
        ),
        (
            encoded(json!({"agentConfiguration": {"cpu": 0}})),
            "invalid: agentConfiguration.cpu is not between 1 and 64.",
        ),
        (encoded(json!({"agentPoolName": "none"})), "not found: The agent pool 'none' was not found."),
        (
            encoded(json!({"sourceLocation": "source/1-00000000000000000000000000000000.tar.gz"})),
            "invalid: There is no upload 'source/1-00000000000000000000000000000000.tar.gz', or no longer: ask for another upload URL.",
        ),
        (
            encoded(json!({"sourceLocation": "source/../../master.key.tar.gz"})),
            "invalid: There is no upload 'source/../../master.key.tar.gz', or no longer: ask for another upload URL.",
        ),
        (encoded(json!({"values": [{"value": "x"}]})), "invalid: The request cannot be read: missing field `name`."),
        (json!({"type": "TaskRunRequest"}), "invalid: The property 'taskId' is required."),
        (json!({"type": "TaskRunRequest", "taskId": "t"}), "not found: The task 't' was not found."),
    ] {
        assert_eq!(outcome(&bench, body.clone()).await, expected, "{body}");
    }
}

#[tokio::test]
async fn tasks_are_run_as_they_are_overridden() {
    let bench = Bench::new().await;
    let step = json!({"type": "Docker", "imageNames": ["app:1"], "dockerFilePath": "Dockerfile", "contextPath": "https://host/a.git",
        "contextAccessToken": "t0ken", "arguments": [{"name": "A", "value": "1"}, {"name": "B", "value": "2", "isSecret": true}]});
    let properties = json!({"status": "Enabled", "timeout": 600, "agentConfiguration": {"cpu": 4}, "step": step,
        "credentials": {"sourceRegistry": {"loginMode": "None"}}});
    let task = bench.place("registries/reg/tasks/Build", json!({"properties": properties})).await;
    let overrides = json!({"contextPath": "https://host/b.git", "file": "Other", "target": "stage",
        "arguments": [{"name": "B", "value": "3", "isSecret": true}], "updateTriggerToken": "u"});
    let body = json!({"type": "TaskRunRequest", "taskId": task.id.as_str().to_lowercase(), "overrideTaskStepProperties": overrides});
    let run = bench.ask(body.clone()).await.unwrap();
    let shown = Bench::shown(&run);
    assert_eq!((&shown["task"], &shown["runType"]), (&json!("Build"), &json!("AutoBuild")));
    assert_eq!(shown["updateTriggerToken"], "u");
    let order = bench.lease(&Who::Shared).await.unwrap()["order"].clone();
    assert_eq!(order["workload"], task.id.as_str());
    assert_eq!(order["taskName"], "Build");
    assert_eq!((&order["timeoutSeconds"], &order["cpu"]), (&json!(600), &json!(4)));
    // The task's token is for the task's repository alone.
    assert_eq!(order["source"], json!({"type": "remote", "location": "https://host/b.git", "accessToken": null}));
    assert_eq!((&order["work"]["dockerfile"], &order["work"]["target"]), (&json!("Other"), &json!("stage")));
    assert_eq!(order["work"]["arguments"][1], json!({"name": "B", "value": "3", "isSecret": true}));
    assert_eq!(order["logins"], json!([]));

    let disabled =
        json!({"properties": {"status": "Disabled", "step": {"type": "FileTask", "taskFilePath": "a.yaml"}}});
    bench.place("registries/reg/tasks/Build", disabled).await;
    let expected = "conflict: The task 'Build' is disabled and cannot be run.";
    assert_eq!(outcome(&bench, body.clone()).await, expected);
    // Its run is called off with it.
    bench.runs.task_removed(task.uid).await.unwrap();
    bench.pass(31);
    bench.runs.look_after().await.unwrap();
    assert_eq!(bench.run("ca1").await.status.as_str(), "Canceled");
}

#[tokio::test]
async fn where_runs_log_in() {
    let bench = Bench::new().await;
    bench.place("registries/other", json!({"sku": {"name": "Basic"}, "properties": {}})).await;
    let client = "aaaaaaaa-2222-4333-8444-555555555555";
    let secret = |kind: &str, value: &str| json!({"type": kind, "value": value});
    let abac =
        || json!({"sku": {"name": "Premium"}, "properties": {"roleAssignmentMode": "AbacRepositoryPermissions"}});
    for (is_abac, credentials, expected) in [
        (false, json!(null), "reg.azurecr.io.localhost:8443 token"),
        (false, json!({"sourceRegistry": {"loginMode": "Default"}}), "reg.azurecr.io.localhost:8443 token"),
        (false, json!({"sourceRegistry": {"loginMode": "None"}}), ""),
        (
            false,
            json!({"sourceRegistry": {"loginMode": "x"}}),
            "invalid: credentials.sourceRegistry.loginMode is not one of Default and None.",
        ),
        (true, json!({"sourceRegistry": {"loginMode": "Default"}}), ""),
        (true, json!({"sourceRegistry": {"identity": "[system]"}}), "reg.azurecr.io.localhost:8443 identity null"),
        (
            true,
            json!({"sourceRegistry": {"identity": client}}),
            "reg.azurecr.io.localhost:8443 identity \"aaaaaaaa-2222-4333-8444-555555555555\"",
        ),
        (true, json!({"sourceRegistry": {"identity": "[caller]"}}), "reg.azurecr.io.localhost:8443 unavailable"),
        (
            false,
            json!({"customRegistries": {"REG.azurecr.io.localhost": {"identity": "[system]"}}}),
            "reg.azurecr.io.localhost:8443 identity null",
        ),
        (
            false,
            json!({"sourceRegistry": {"loginMode": "None"}, "customRegistries": {"other.azurecr.io.localhost": {"userName": secret("Opaque", "u"), "password": secret("Opaque", "p")}}}),
            "other.azurecr.io.localhost:8443 password",
        ),
        (
            false,
            json!({"sourceRegistry": {"loginMode": "None"}, "customRegistries": {"example.com": {"userName": secret("Vaultsecret", "https://v/u"), "password": secret("Opaque", "p")}}}),
            "example.com unavailable",
        ),
        (false, json!({"sourceRegistry": {"loginMode": "None"}, "customRegistries": {"example.com": null}}), ""),
        (
            false,
            json!({"customRegistries": {"example.com": {"identity": "x"}}}),
            "invalid: An identity of the credentials is neither [system] nor the client id of a managed identity.",
        ),
    ] {
        if is_abac {
            bench.place("registries/reg", abac()).await;
        }
        let mut body = quick(&json!([]));
        body["credentials"] = credentials.clone();
        let said = match bench.ask(body).await {
            Ok(_) => {
                let leased = bench.lease(&Who::Shared).await.unwrap();
                let logins = leased["order"]["logins"].as_array().unwrap().iter().map(|login| {
                    let kind = login["login"]["type"].as_str().unwrap();
                    let of = login["login"].get("clientId").map(|client| format!(" {client}")).unwrap_or_default();
                    format!("{} {kind}{of}", login["server"].as_str().unwrap())
                });
                let said = logins.collect::<Vec<_>>().join(", ");
                bench.end(&Who::Shared, &lease_of(&leased), report("Succeeded")).await.is(204);
                said
            }
            Err(RunsError::Invalid(message)) => format!("invalid: {message}"),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(said, expected, "{credentials}");
        bench.place("registries/reg", json!({"sku": {"name": "Premium"}, "properties": {}})).await;
    }
}

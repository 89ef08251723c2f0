use postern_store::RunStatus;

use super::*;

#[tokio::test]
async fn a_run_from_its_request_to_its_end() {
    let bench = Bench::new().await;
    let run = bench.quick(json!([{"name": "a", "value": "s3cret-value", "isSecret": true}])).await;
    assert_eq!((run.number.to_string().as_str(), run.status), ("ca1", RunStatus::Queued));
    assert_eq!(bench.read(&run).await, (String::new(), None));

    let leased = bench.lease(&Who::Shared).await.unwrap();
    let (lease, order) = (lease_of(&leased), &leased["order"]);
    assert_eq!(order["runId"], "ca1");
    assert_eq!(order["registry"], "reg.azurecr.io.localhost:8443");
    assert_eq!(order["workload"], Bench::id("registries/reg/runs/ca1").as_str());
    assert_eq!(order["work"]["task"], "steps:\n  - cmd: acr\n");
    assert_eq!(order["work"]["values"][0]["value"], "s3cret-value");
    assert_eq!(order["logins"][0]["login"]["type"], "token");
    assert!(bench.lease(&Who::Shared).await.is_none());
    assert_eq!(bench.run("ca1").await.status, RunStatus::Started);
    bench.agent(&Who::Shared, &format!("runs/{lease}/start"), "").await.is(204);
    assert_eq!(bench.run("CA1").await.status, RunStatus::Running);

    // The same bytes twice, bytes that go further, bytes that leave some out.
    bench.log(&Who::Shared, &lease, 0, "one\ntwo s3cr").await.is(204);
    bench.log(&Who::Shared, &lease, 0, "one\ntwo s3cr").await.is(204);
    assert_eq!(bench.read(&run).await.0, "one\r\n");
    bench.log(&Who::Shared, &lease, 4, "two s3cret-value!\r\nthree").await.is(204);
    let gap = bench.log(&Who::Shared, &lease, 29, "x").await.is(409);
    assert_eq!(gap.json()["error"]["code"], "LogGap");
    assert_eq!(bench.read(&run).await, ("one\r\ntwo ***!\r\n".into(), None));
    let beat = bench.agent(&Who::Shared, &format!("runs/{lease}/beat"), r#"{"hasEffects":true}"#).await.is(200);
    assert_eq!(beat.json(), json!({"canceled": false}));

    let image =
        json!({"registry": "reg.azurecr.io.localhost:8443", "repository": "app", "tag": "1", "digest": "sha256:aa"});
    let report = json!({"end": "Succeeded", "message": null, "outputs": [image], "dependencies": []});
    bench.end(&Who::Shared, &lease, report.clone()).await.is(204);
    let lost = bench.end(&Who::Shared, &lease, report).await.is(409);
    assert_eq!(lost.json()["error"]["code"], "LeaseLost");
    assert_eq!(bench.read(&run).await, ("one\r\ntwo ***!\r\nthree\r\n".into(), Some("succeeded".into())));
    let ended = bench.run("ca1").await;
    assert_eq!((ended.status, ended.findings), (RunStatus::Succeeded, 1));
    let shown = Bench::shown(&ended);
    assert_eq!(shown["outputImages"], json!([image]));
    assert_eq!(shown["runType"], "QuickRun");
    assert!(bench.directory.workload(&Bench::id("registries/reg/runs/ca1")).is_none());
}

#[tokio::test]
async fn a_worker_goes_on_after_the_server_was_started_again() {
    let bench = Bench::new().await;
    let run = bench.quick(json!([{"name": "a", "value": "s3cret-value", "isSecret": true}])).await;
    let lease = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    bench.log(&Who::Shared, &lease, 0, "one\nhalf a s3cret").await.is(204);
    let bench = bench.restarted().await;
    assert!(bench.directory.workload(&Bench::id("registries/reg/runs/ca1")).is_some());
    bench.log(&Who::Shared, &lease, 4, "half a s3cret-value\n").await.is(204);
    let report = json!({"end": "Failed", "message": "x\ns3cret-value failed", "outputs": [], "dependencies": []});
    bench.end(&Who::Shared, &lease, report).await.is(204);
    assert_eq!(bench.read(&run).await, ("one\r\nhalf a ***\r\n".into(), Some("failed".into())));
    // What is told beside the log holds no more than the log does.
    assert_eq!(bench.run("ca1").await.message.as_deref(), Some("x *** failed"));
}

#[tokio::test]
async fn a_run_is_given_out_again_once() {
    let bench = Bench::new().await;
    let run = bench.quick(json!([])).await;
    let first = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    bench.log(&Who::Shared, &first, 0, "begun\nand").await.is(204);
    bench.pass(31);
    let second = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    assert_eq!(bench.log(&Who::Shared, &first, 9, "x").await.is(409).json()["error"]["code"], "LeaseLost");
    bench.log(&Who::Shared, &second, 0, "again\n").await.is(204);
    bench.pass(31);
    assert!(bench.lease(&Who::Shared).await.is_none());
    bench.runs.look_after().await.unwrap();
    let ended = bench.run("ca1").await;
    assert_eq!(ended.status, RunStatus::Error);
    assert_eq!(ended.message.as_deref(), Some("the workers that had it went away."));
    let (log, outcome) = bench.read(&run).await;
    let log: Vec<&str> = log.lines().map(|line| line.trim_start_matches(|c: char| !c.is_ascii_alphabetic())).collect();
    let told = [
        "begun",
        "and",
        "The worker went away before it had pushed anything: the run begins again.",
        "again",
        "Run ID: ca1 ended: the workers that had it went away.",
    ];
    assert_eq!((log.as_slice(), outcome.as_deref()), (&told[..], Some("internalerror")));
}

#[tokio::test]
async fn a_run_that_has_pushed_is_not_given_out_again() {
    let bench = Bench::new().await;
    let run = bench.quick(json!([])).await;
    let lease = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    bench.agent(&Who::Shared, &format!("runs/{lease}/beat"), r#"{"hasEffects":true}"#).await.is(200);
    bench.pass(31);
    assert!(bench.lease(&Who::Shared).await.is_none());
    bench.runs.look_after().await.unwrap();
    let ended = bench.run("ca1").await;
    assert_eq!(ended.message.as_deref(), Some("the worker went away after it had pushed."));
    assert_eq!(bench.read(&run).await.1.as_deref(), Some("internalerror"));
}

#[tokio::test]
async fn runs_are_called_off() {
    let bench = Bench::new().await;
    let (queued, running) = (bench.quick(json!([])).await, bench.quick(json!([])).await);
    bench.runs.cancel(&queued).await.unwrap();
    assert_eq!(bench.run("ca1").await.status, RunStatus::Canceled);
    let (log, outcome) = bench.read(&queued).await;
    assert!(log.ends_with("Run ID: ca1 ended: it was canceled.\r\n"), "{log}");
    assert_eq!(outcome.as_deref(), Some("canceled"));

    let lease = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    bench.runs.cancel(&running).await.unwrap();
    assert_eq!(bench.run("ca2").await.status, RunStatus::Started);
    let beat = bench.agent(&Who::Shared, &format!("runs/{lease}/beat"), r#"{"hasEffects":false}"#).await;
    assert_eq!(beat.json(), json!({"canceled": true}));
    // Its worker does not say anything any more.
    bench.pass(31);
    bench.runs.look_after().await.unwrap();
    assert_eq!(bench.run("ca2").await.status, RunStatus::Canceled);
    // What has ended stays as it is.
    bench.runs.cancel(&bench.run("ca2").await).await.unwrap();
    assert_eq!(bench.run("ca2").await.status, RunStatus::Canceled);
}

#[tokio::test]
async fn workers_get_the_runs_of_their_own_pool_alone() {
    let bench = Bench::new().await;
    bench.place("registries/reg/agentPools/other", json!({"properties": {"count": 1}})).await;
    let mut body = quick(&json!([]));
    body["agentPoolName"] = "POOL".into();
    let run = bench.ask(body.clone()).await.unwrap();
    assert_eq!(run.pool.as_deref(), Some("pool"));
    let [pool, other] = ["pool", "other"].map(|name| Who::Resource(format!("registries/reg/agentPools/{name}")));
    assert!(bench.lease(&Who::Shared).await.is_none());
    assert!(bench.lease(&other).await.is_none());
    let lease = lease_of(&bench.lease(&pool).await.unwrap());
    for who in [&other, &Who::Shared] {
        bench.log(who, &lease, 0, "x").await.is(409);
        bench.end(who, &lease, report("Succeeded")).await.is(409);
    }
    for who in [Who::Nobody, Who::Resource("registries/reg".into()), Who::Resource("registries/reg/runs/ca1".into())] {
        for path in ["lease", "certificate", &format!("runs/{lease}/beat"), &format!("runs/{lease}/certificate")] {
            bench.agent(&who, path, "{}").await.is(403);
        }
    }
    for lease in ["", "x", "x.1", &format!("{}.1", Uuid::nil()), &format!("{lease}1")] {
        let status = bench.log(&pool, lease, 0, "x").await.status;
        assert!([404, 409].contains(&status), "{lease}: {status}");
    }

    // Without instances nothing is given out.
    bench.ask(body).await.unwrap();
    bench.place("registries/reg/agentPools/pool", json!({"properties": {"count": 0}})).await;
    assert!(bench.lease(&pool).await.is_none());
    let pool_uid = run.pool_uid.unwrap();
    assert_eq!(bench.store.runs().waiting(run.registry, pool_uid).await.unwrap(), 1);
    bench.pass(6);
    bench.runs.look_after().await.unwrap();
    bench.runs.look_after().await.unwrap();
    let (log, _) = bench.read(&bench.run("ca2").await).await;
    assert_eq!(log.matches("Waiting for an agent of the agent pool 'pool': its count is 0.\r\n").count(), 1, "{log}");
    bench.runs.pool_removed(ResourceUid(pool_uid)).await.unwrap();
    assert_eq!(bench.run("ca2").await.status, RunStatus::Canceled);
}

#[tokio::test]
async fn certificates_prove_to_be_the_run_as_long_as_its_worker_has_it() {
    let bench = Bench::new().await;
    bench.quick(json!([])).await;
    let lease = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let body = json!({"csr": csr}).to_string();
    let path = format!("runs/{lease}/certificate");
    let issued = bench.agent(&Who::Shared, &path, body.clone()).await.is(200).json();
    assert!(issued["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    bench.agent(&Who::Shared, &path, r#"{"csr":"x"}"#).await.is(400);
    bench.agent(&Who::Shared, "certificate", body.clone()).await.is(200);
    bench.end(&Who::Shared, &lease, report("Succeeded")).await.is(204);
    bench.agent(&Who::Shared, &path, body).await.is(409);
}

#[tokio::test]
async fn a_worker_that_waits_gets_what_comes() {
    let bench = Bench::new().await;
    let request = json!({"worker": "w", "waitSeconds": 60}).to_string();
    let waiting = bench.agent(&Who::Shared, "lease", request);
    let (answer, _) = tokio::join!(waiting, bench.quick(json!([])));
    assert_eq!(answer.is(200).json()["order"]["runId"], "ca1");
}

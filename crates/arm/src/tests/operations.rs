use postern_store::{JobState, StoreError};

use super::import::{by_id, closed, place_registries};
use super::*;
use crate::import::ImportJob;

/// Two registries, and requests that wait for nothing.
async fn bench() -> Bench {
    place_registries(Bench::with_patience(Duration::ZERO).await, json!({}), json!({})).await
}

/// The addresses of an operation: for its state, for its answer.
struct Addresses {
    state: String,
    answer: String,
}

impl Bench {
    /// Begins an import that goes on.
    async fn begin(&self) -> Addresses {
        let answer = self.import(Who::Stranger, by_id()).await;
        assert_eq!((answer.short().as_str(), &answer.body), ("202", &Value::Null), "{}", answer.body);
        assert_eq!(answer.headers["retry-after"], "1");
        let address = |name: &str| answer.headers[name].to_str().unwrap().strip_prefix(ENDPOINT).unwrap().to_owned();
        Addresses { state: address("azure-asyncoperation"), answer: address("location") }
    }

    /// The state of an operation once it has ended.
    async fn ended(&self, at: &Addresses) -> Answer {
        let name = at.state.split("registries-").nth(1).unwrap().split('?').next().unwrap();
        self.store.jobs().ended::<ImportJob>(name.parse().unwrap()).await.unwrap();
        let told = self.send(Who::Stranger, "GET", &at.state, None).await;
        assert_eq!(told.status, 200, "{}", told.body);
        assert!(!told.headers.contains_key("retry-after"));
        assert!(told.at("/endTime").is_string(), "{}", told.body);
        told
    }

    fn hold(&self) {
        self.importer.1.waits.store(true, Ordering::SeqCst);
    }

    async fn has_begun(&self) {
        self.importer.1.begun.notified().await;
    }

    fn imported(&self) -> Vec<bool> {
        self.importer.0.lock().unwrap().iter().map(|import| import.resumed).collect()
    }

    /// Nothing is carried out any more, as when the server is told to end.
    async fn stop(&self) {
        let (stop, ended) =
            std::mem::replace(&mut *self.behind.lock().unwrap(), (watch::channel(true).0, tokio::spawn(async {})));
        stop.send(true).unwrap();
        ended.await.unwrap();
    }

    /// The same, as when it is killed.
    async fn kill(&self) {
        let (_stop, running) =
            std::mem::replace(&mut *self.behind.lock().unwrap(), (watch::channel(true).0, tokio::spawn(async {})));
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }

    fn restart(&self) {
        *self.behind.lock().unwrap() = begin(&self.state);
    }
}

#[tokio::test]
async fn what_takes_longer_is_told_of() {
    let bench = bench().await;
    bench.hold();
    let at = bench.begin().await;
    bench.has_begun().await;
    let state = bench.send(Who::Stranger, "GET", &at.state, None).await;
    assert_eq!((state.status, state.at("/status")), (200, json!("InProgress")));
    assert_eq!(state.headers["retry-after"], "1");
    assert_eq!((state.at("/endTime"), state.at("/error")), (Value::Null, Value::Null));
    let name = state.at("/name").as_str().unwrap().to_owned();
    assert!(at.state.contains(&format!("/registries/target1/operationStatuses/{name}?api-version=")), "{}", at.state);
    let answer = bench.send(Who::Stranger, "GET", &at.answer, None).await;
    assert_eq!((answer.short().as_str(), &answer.headers["retry-after"]), ("202", &"1".parse().unwrap()));
    assert!(answer.headers["location"].to_str().unwrap().ends_with(&at.answer));

    bench.importer.1.let_go.notify_one();
    assert_eq!(bench.ended(&at).await.at("/status"), "Succeeded");
    assert_eq!(bench.send(Who::Stranger, "GET", &at.answer, None).await.short(), "200");
    assert_eq!(bench.imported(), [false]);
}

#[tokio::test]
async fn operations_are_shown_to_who_began_them_and_who_may_read() {
    let bench = bench().await;
    let at = bench.begin().await;
    bench.ended(&at).await;
    for (who, expected) in
        [(Who::Owner, "200"), (Who::Contributor, "200"), (Who::Reader, "200"), (Who::Stranger, "200")]
    {
        assert_eq!(bench.send(who, "GET", &at.state, None).await.short(), expected);
    }
    // What is not there, or is another registry's, looks to others like what they may not see.
    let unknown = at.state.replace("registries-", "registries-0");
    let elsewhere = at.state.replace("target1", "source1");
    for address in [&unknown, &elsewhere] {
        assert_eq!(bench.get(address).await.short(), "404 ResourceNotFound", "{address}");
        assert_eq!(
            bench.send(Who::Stranger, "GET", address, None).await.short(),
            "403 AuthorizationFailed",
            "{address}"
        );
    }
    assert_eq!(bench.put(&at.state, json!({})).await.short(), "405 MethodNotAllowed");
    assert_eq!(bench.delete(&at.state).await.status, 204, "there is no such resource");
    // The one who began it is shown it also without any role.
    for number in [0xe0, 0xe1] {
        let registry = registry(if number == 0xe0 { "target1" } else { "source1" });
        let id = format!("{registry}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::from_u128(number));
        assert_eq!(bench.delete(&id).await.status, 200);
    }
    assert_eq!(bench.send(Who::Stranger, "GET", &at.state, None).await.short(), "200");
}

#[tokio::test]
async fn an_import_goes_on_after_a_restart() {
    let bench = bench().await;
    bench.hold();
    let at = bench.begin().await;
    bench.has_begun().await;
    bench.kill().await;
    assert_eq!(bench.get(&at.state).await.at("/status"), "InProgress");
    bench.restart();
    bench.has_begun().await;
    // Told to end, the server gives back what it is at.
    bench.stop().await;
    assert_eq!(bench.get(&at.state).await.at("/status"), "InProgress");
    bench.restart();
    bench.has_begun().await;
    bench.importer.1.let_go.notify_one();
    assert_eq!(bench.ended(&at).await.at("/status"), "Succeeded");
    assert_eq!(bench.imported(), [false, true, true]);
    bench.restart();
    assert_eq!(bench.ended(&at).await.at("/status"), "Succeeded");
    assert_eq!(bench.imported().len(), 3, "what has ended is not begun again");
}

#[tokio::test]
async fn what_has_changed_meanwhile_counts() {
    let assignment = |name: &str, number: u128| {
        format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", registry(name), Uuid::from_u128(number))
    };
    let principal = format!("/providers/Microsoft.Graph/servicePrincipals/{}", Who::Stranger.id());
    let (target, source) = (registry("target1"), registry("source1"));
    let no_export = json!({"publicNetworkAccess": "Disabled", "policies": {"exportPolicy": {"status": "disabled"}}});
    for (method, path, body, expected) in [
        ("DELETE", assignment("target1", 0xe0), None, "AuthorizationFailed"),
        ("DELETE", assignment("source1", 0xe1), None, "LinkedAuthorizationFailed"),
        ("PUT", target.clone(), Some(premium(closed("None"))), "InvalidParameters"),
        ("PUT", source.clone(), Some(premium(closed("None"))), "InvalidParameters"),
        ("PUT", source.clone(), Some(premium(no_export)), "ImportDenied"),
        ("DELETE", source, None, "LinkedAuthorizationFailed"),
        ("DELETE", principal, None, "AuthorizationFailed"),
        ("DELETE", target, None, ""),
    ] {
        let bench = bench().await;
        bench.stop().await;
        let at = bench.begin().await;
        let changed = match &body {
            // Not everything has an API that this caller may use.
            None if path.contains("Microsoft.Graph") => {
                bench.directory.remove(id(&path), Expected::Any).await.unwrap();
                200
            }
            _ => bench.send(Who::Owner, method, &path, body).await.status,
        };
        assert_eq!(changed, 200, "{method} {path}");
        bench.restart();
        let name = at.state.split("registries-").nth(1).unwrap().split('?').next().unwrap();
        let job = bench.store.jobs().ended::<ImportJob>(name.parse().unwrap()).await.unwrap().unwrap();
        if expected.is_empty() {
            assert_eq!(job.state, JobState::Canceled, "{method} {path}");
        } else {
            let error = ArmErrorShown(job.outcome.unwrap().unwrap().shown());
            assert_eq!((job.state, error.code()), (JobState::Failed, expected.to_owned()), "{method} {path}");
        }
        assert!(bench.imported().is_empty(), "{method} {path}");
    }
}

struct ArmErrorShown(Value);

impl ArmErrorShown {
    fn code(&self) -> String {
        self.0["code"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_failure_is_told_of() {
    let refusal = || ImportError::Store(StoreError::TagExists("1".parse().unwrap()));
    let bench = bench().await;
    *bench.importer.1.refusal.lock().unwrap() = Some(refusal());
    let at = bench.begin().await;
    let told = bench.ended(&at).await;
    assert_eq!((told.at("/status"), told.at("/error/code")), (json!("Failed"), json!("Conflict")));
    let message = told.at("/error/message");
    assert!(message.as_str().unwrap().contains("Tag 1 already exists in target registry target1"), "{message}");
    assert_eq!(bench.send(Who::Stranger, "GET", &at.answer, None).await.short(), "409 Conflict");

    // To who waits it is said at once.
    let bench = super::import::bench(json!({}), json!({})).await;
    *bench.importer.1.refusal.lock().unwrap() = Some(refusal());
    assert_eq!(bench.import(Who::Stranger, by_id()).await.short(), "409 Conflict");
}

#[tokio::test]
async fn a_repeated_request_begins_nothing() {
    let bench = bench().await;
    let send = async |body: Value, id: &str| {
        let request = Request::post(format!("{}/importImage?api-version=2025-11-01", registry("target1")))
            .header("authorization", format!("Bearer {}", bench.tokens[Who::Stranger as usize]))
            .header("x-ms-client-request-id", id)
            .body(Body::from(body.to_string()));
        let answer = bench.request(request.unwrap()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.headers["azure-asyncoperation"].to_str().unwrap().strip_prefix(ENDPOINT).unwrap().to_owned()
    };
    let ended = async |state: &str| {
        let at = Addresses { state: state.to_owned(), answer: String::new() };
        bench.ended(&at).await.at("/status").as_str().unwrap().to_owned()
    };
    bench.stop().await;
    let first = send(by_id(), "a").await;
    assert_eq!(send(by_id(), "a").await, first);
    bench.restart();
    assert_eq!(ended(&first).await, "Succeeded");
    assert_eq!(send(by_id(), "a").await, first);
    assert_ne!(send(by_id(), "b").await, first);
    let mut other = by_id();
    other["mode"] = json!("Force");
    assert_ne!(send(other, "a").await, first);
    // After some time it is meant; so it is after a failure.
    bench.clock.0.fetch_add(601, Ordering::SeqCst);
    let second = send(by_id(), "a").await;
    assert_ne!(second, first);
    assert_eq!(ended(&second).await, "Succeeded");
    *bench.importer.1.refusal.lock().unwrap() = Some(ImportError::NotInSource("it".into()));
    let third = send(by_id(), "c").await;
    assert_eq!(ended(&third).await, "Failed");
    assert_ne!(send(by_id(), "c").await, third);
}

#[tokio::test]
async fn a_registry_has_so_many_operations_at_once() {
    let bench = bench().await;
    bench.stop().await;
    for _ in 0..100 {
        bench.begin().await;
    }
    let refused = bench.import(Who::Stranger, by_id()).await;
    assert_eq!(
        (refused.short().as_str(), &refused.headers["retry-after"]),
        ("429 TooManyRequests", &"1".parse().unwrap())
    );
}

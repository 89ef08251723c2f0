use postern_store::ImportSource;

use super::*;

const IMPORTER: &str = "577a9874-89fd-4f24-9dbd-b5034d0ad23a";

/// Two registries and a caller who may import into the one and read the other.
pub(super) async fn bench(target: Value, source: Value) -> Bench {
    place_registries(Bench::new().await, target, source).await
}

pub(super) async fn place_registries(bench: Bench, target: Value, source: Value) -> Bench {
    assert_eq!(bench.put(&registry("target1"), premium(target)).await.status, 201);
    assert_eq!(bench.put(&registry("source1"), premium(source)).await.status, 201);
    for (at, name) in ["target1", "source1"].into_iter().enumerate() {
        let assignment = format!(
            "{}/providers/Microsoft.Authorization/roleAssignments/{}",
            registry(name),
            Uuid::from_u128(0xe0 + at as u128)
        );
        let principal = Who::Stranger.id().to_string();
        bench.place(&assignment, json!({"properties": {"principalId": principal, "roleDefinitionId": IMPORTER}})).await;
    }
    bench
}

pub(super) fn closed(bypass: &str) -> Value {
    json!({"publicNetworkAccess": "Disabled", "networkRuleBypassOptions": bypass})
}

pub(super) fn by_id() -> Value {
    json!({"source": {"resourceId": registry("source1"), "sourceImage": "app:1"}, "targetTags": ["app:1"]})
}

fn by_host() -> Value {
    let host = "source1.azurecr.io.localhost:8443";
    json!({"source": {"registryUri": host, "sourceImage": "app:1"}, "targetTags": ["app:1"]})
}

impl Bench {
    pub(super) async fn import(&self, who: Who, body: Value) -> Answer {
        self.send(who, "POST", &format!("{}/importImage", registry("target1")), Some(body)).await
    }

    /// Refused with everything in these words; the decision that the message names is in the records.
    async fn refuses(&self, who: Who, body: Value, expected: &str, words: &[&str]) {
        let answer = self.import(who, body).await;
        assert_eq!(answer.short(), expected, "{}", answer.body);
        let message = answer.at("/error/message").as_str().unwrap().to_owned();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
        if let Some((_, id)) = message.rsplit_once("CorrelationId: ") {
            self.audit.flush().await;
            let record = self.audit.find(id.parse().unwrap()).await.unwrap().unwrap();
            assert!(record.contains("\"verdict\":\"deny\""), "{record}");
        }
        assert!(self.importer.0.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn both_walls_let_the_service_in_as_a_trusted_one() {
    for (target, source) in [(json!({}), json!({})), (closed("AzureServices"), closed("AzureServices"))] {
        let bench = bench(target, source).await;
        let answer = bench.import(Who::Stranger, by_id()).await;
        assert_eq!(answer.short(), "200", "{}", answer.body);
        let imports = bench.importer.0.lock().unwrap();
        assert_eq!(imports.len(), 1);
        assert!(!imports[0].overwrite && imports[0].targets.len() == 1);
        let ImportSource::Here { manifests, .. } = &imports[0].source else { panic!("{:?}", imports[0]) };
        let uid = |name| bench.directory.registry_by_id(&id(&registry(name))).unwrap().uid;
        assert_eq!(
            (manifests.registry(), imports[0].targets[0].manifests.registry()),
            (uid("source1"), uid("target1"))
        );
    }
}

#[tokio::test]
async fn a_closed_wall_is_named_with_its_side_switch_and_fix() {
    let firewall = "Invalid message Forbidden Forbidden {\"errors\":[{\"code\":\"DENIED\",\"message\":\"client with IP '203.0.113.9'";
    let fix = "allow trusted services (networkRuleBypassOptions=AzureServices)";
    let bench1 = bench(closed("None"), json!({})).await;
    let words = [firewall, "The network rules of the target registry", "Fix, on the target registry target1", fix];
    bench1.refuses(Who::Stranger, by_id(), "400 InvalidParameters", &words).await;

    let bench2 = bench(json!({}), closed("None")).await;
    // The resource named is the target even when the source refused.
    let named = format!("Resource {} Invalid", registry("target1"));
    let words =
        [firewall, &named, "The network rules of the source registry", "Fix, on the source registry source1", fix];
    bench2.refuses(Who::Stranger, by_id(), "400 InvalidParameters", &words).await;

    let bench3 = bench(json!({}), closed("AzureServices")).await;
    let words = ["the source registry", "by its resource id"];
    bench3.refuses(Who::Stranger, by_host(), "400 InvalidParameters", &words).await;
}

#[tokio::test]
async fn rights_count_on_both_sides() {
    // In the other mode reading everything is reading content too.
    let bench = bench(json!({}), json!({"roleAssignmentMode": "AbacRepositoryPermissions"})).await;
    bench.refuses(Who::Reader, by_id(), "403 AuthorizationFailed", &["importImage/action"]).await;
    let source =
        format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", registry("source1"), Uuid::from_u128(0xe1));
    assert_eq!(bench.delete(&source).await.status, 200);
    bench.refuses(Who::Stranger, by_id(), "403 LinkedAuthorizationFailed", &["registries/read", "source1"]).await;
    // Reading the resource is not reading its content.
    let reader = json!({"properties": {"principalId": Who::Stranger.id().to_string(), "roleDefinitionId": READER}});
    bench.place(&source, reader).await;
    let words = ["Access to source1.azurecr.io.localhost denied. The source registry", "assign the caller a role"];
    bench.refuses(Who::Stranger, by_id(), "400 ImportDenied", &words).await;
    // A login server's registry is not told about to those who may not read it.
    assert_eq!(bench.delete(&source).await.status, 200);
    let told = bench.import(Who::Stranger, by_host()).await;
    assert_eq!(told.short(), "400 ImportDenied");
    assert!(!told.body.to_string().contains("anonymous"), "{}", told.body);
}

#[tokio::test]
async fn what_may_not_be_exported_is_not_imported() {
    let mut source = closed("AzureServices");
    source["policies"] = json!({"exportPolicy": {"status": "disabled"}});
    let bench = bench(json!({}), source).await;
    bench.refuses(Who::Stranger, by_id(), "400 ImportDenied", &["source1", "exportPolicy.status"]).await;
}

#[tokio::test]
async fn other_servers_are_left_to_who_calls_them() {
    let bench = bench(json!({}), json!({})).await;
    let body = json!({
        "source": {"registryUri": "docker.io", "sourceImage": "library/hello-world:latest", "credentials": {"username": "u", "password": "hunter2"}},
        "targetTags": ["hello:1"], "mode": "Force",
    });
    assert_eq!(bench.import(Who::Stranger, body).await.short(), "200");
    let imports = bench.importer.0.lock().unwrap();
    let shown = format!("{:?}", imports[0]);
    assert!(shown.contains("docker.io") && imports[0].overwrite && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn another_port_is_another_server() {
    for (host, is_here) in [
        ("source1.azurecr.io.localhost:8443", true),
        ("source1.azurecr.io.localhost", true),
        ("source1.azurecr.io.localhost:9443", false),
        ("localhost:8443", false),
    ] {
        let bench = bench(json!({}), json!({"anonymousPullEnabled": true})).await;
        let body = json!({"source": {"registryUri": host, "sourceImage": "app:1"}, "targetTags": ["app:1"]});
        let answer = bench.import(Who::Stranger, body).await;
        assert_eq!(answer.short(), "200", "{host}: {}", answer.body);
        let imports = bench.importer.0.lock().unwrap();
        assert_eq!(matches!(imports[0].source, ImportSource::Here { .. }), is_here, "{host}");
    }
}

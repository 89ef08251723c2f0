use postern_access::{
    Caller, Credential, Inputs, Operation, OperationKind, Origin, Permit, Verified, WorkloadState, evaluate,
};
use postern_model::Reference;
use postern_outbound::{Outbound, OutboundOptions};
use postern_store::{Import, ImportError, ImportExecutor as _, ImportSource, ImportTarget, StoreError};

use super::*;
use crate::Importer;

impl Bench {
    /// The admin user's permit.
    fn permit(&self, registry: &str, repository: &str, kind: OperationKind) -> Permit {
        let rules = self.directory.registry_by_id(&registry.parse().unwrap()).unwrap();
        let origin = Origin {
            ingress: Ingress::Public,
            address: [198, 51, 100, 7].into(),
            place: "internet".into(),
            simulated: false,
            workload: WorkloadState::None,
        };
        let credential = Credential::Verified(Verified { caller: Caller::Admin, claim: None, binding: None });
        let operation = Operation::repository(kind, repository.parse().unwrap(), None);
        let inputs =
            Inputs { origin: &origin, rules: &rules, credential: &credential, operation: &operation, content: None };
        evaluate(&inputs).permit().unwrap().clone()
    }

    async fn import(&self, reference: &str, tags: &[&str], overwrite: bool) -> Result<(), ImportError> {
        self.attempt(reference, tags, overwrite, false).await
    }

    async fn attempt(&self, reference: &str, tags: &[&str], overwrite: bool, resumed: bool) -> Result<(), ImportError> {
        let source = ImportSource::Here {
            manifests: self.permit(CONTOSO, "app", OperationKind::PullManifest),
            blobs: self.permit(CONTOSO, "app", OperationKind::PullBlob),
            referrers: self.permit(CONTOSO, "app", OperationKind::ListReferrers),
        };
        let target = ImportTarget {
            blobs: self.permit(FABRIKAM, "copy", OperationKind::PushBlob),
            manifests: self.permit(FABRIKAM, "copy", OperationKind::PushManifest),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        };
        let reference: Reference = reference.parse().unwrap();
        let importer = Importer::new(self.store.clone(), Outbound::new(OutboundOptions::default()).unwrap());
        importer.import(Import { source, reference, targets: vec![target], overwrite, resumed }).await
    }

    async fn copied(&self, path: &str, status: u16) -> Answer {
        let answer = self
            .request("GET", &format!("/v2/copy/{path}"))
            .host("fabrikam.azurecr.io.localhost")
            .basic("fabrikam", PASSWORD)
            .send()
            .await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        answer
    }

    async fn push_index(&self, tag: &str, manifests: &[(Digest, usize)]) -> Digest {
        let manifests: Vec<Value> = manifests
            .iter()
            .map(|(digest, size)| json!({"mediaType": IMAGE, "digest": digest.to_string(), "size": size}))
            .collect();
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
        let digest = digest_of(body.as_bytes(), Algorithm::Sha256);
        let put = self.request("PUT", &format!("/v2/app/manifests/{tag}")).header("content-type", INDEX).body(body);
        assert_eq!(put.send().await.status, StatusCode::CREATED);
        digest
    }
}

#[tokio::test]
async fn an_index_comes_with_its_children_their_blobs_and_referrers() {
    let bench = Bench::new().await;
    let (one, one_bytes) = bench.push_image("app", "one", "layer one", json!({})).await;
    let (two, two_bytes) = bench.push_image("app", "two", "layer two", json!({})).await;
    let index = bench.push_index("all", &[(one, one_bytes.len()), (two, two_bytes.len())]).await;
    let subject = json!({"subject": {"mediaType": IMAGE, "digest": two.to_string(), "size": two_bytes.len()}});
    let (signature, _) = bench.push_image("app", "signature", "signed", subject).await;

    bench.copied("manifests/all", 404).await;
    bench.import("all", &["1.0", "latest"], false).await.unwrap();
    for tag in ["1.0", "latest"] {
        let answer = bench.copied(&format!("manifests/{tag}"), 200).await;
        assert_eq!(answer.header("docker-content-digest"), Some(index.to_string().as_str()));
    }
    for (digest, bytes) in [(one, one_bytes), (two, two_bytes)] {
        assert_eq!(bench.copied(&format!("manifests/{digest}"), 200).await.text().as_bytes(), &bytes[..]);
    }
    let layer = digest_of(b"layer two", Algorithm::Sha256);
    assert_eq!(bench.copied(&format!("blobs/{layer}"), 200).await.text(), "layer two");
    let referrers = bench.copied(&format!("referrers/{two}"), 200).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], json!(signature.to_string()));
    // What nobody asked for stays where it was.
    bench.copied("manifests/one", 404).await;
}

#[tokio::test]
async fn tags_move_only_when_they_may() {
    let bench = Bench::new().await;
    let (one, _) = bench.push_image("app", "one", "layer one", json!({})).await;
    let (two, _) = bench.push_image("app", "two", "layer two", json!({})).await;
    bench.import("one", &["1"], false).await.unwrap();
    let refused = bench.import("two", &["new", "1"], false).await.unwrap_err();
    assert!(matches!(&refused, ImportError::Store(StoreError::TagExists(tag)) if tag.as_str() == "1"), "{refused}");
    bench.copied("manifests/new", 404).await;
    assert_eq!(bench.copied("manifests/1", 200).await.header("docker-content-digest"), Some(one.to_string().as_str()));
    bench.import("two", &["1"], true).await.unwrap();
    assert_eq!(bench.copied("manifests/1", 200).await.header("docker-content-digest"), Some(two.to_string().as_str()));

    let lock = bench
        .request("PATCH", "/acr/v1/copy/_tags/1")
        .host("fabrikam.azurecr.io.localhost")
        .basic("fabrikam", PASSWORD)
        .body(json!({"writeEnabled": false}).to_string());
    assert_eq!(lock.send().await.status, StatusCode::OK);
    let refused = bench.import("one", &["1"], true).await.unwrap_err();
    assert!(matches!(refused, ImportError::Store(StoreError::Locked(..))), "{refused}");
    let missing = bench.import("gone", &["2"], false).await.unwrap_err();
    assert_eq!(missing.to_string(), "the source does not have manifest gone");
}

#[tokio::test]
async fn an_attempt_goes_on_where_one_was_cut_short() {
    let bench = Bench::new().await;
    let (one, _) = bench.push_image("app", "one", "layer one", json!({})).await;
    bench.push_image("app", "two", "layer two", json!({})).await;
    bench.import("one", &["1"], false).await.unwrap();
    // It had made one of the tags, and nobody wrote that down.
    bench.attempt("one", &["1", "2"], false, true).await.unwrap();
    for tag in ["1", "2"] {
        let answer = bench.copied(&format!("manifests/{tag}"), 200).await;
        assert_eq!(answer.header("docker-content-digest"), Some(one.to_string().as_str()));
    }
    let refused = bench.attempt("two", &["3", "1"], false, true).await.unwrap_err();
    assert!(matches!(&refused, ImportError::Store(StoreError::TagExists(tag)) if tag.as_str() == "1"), "{refused}");
    bench.copied("manifests/3", 404).await;
}

#[tokio::test]
async fn an_image_of_too_many_manifests_is_not_imported() {
    let bench = Bench::new().await;
    let mut manifests = Vec::new();
    for number in 0..50 {
        let (digest, bytes) =
            bench.push_image("app", &format!("t{number}"), &format!("layer {number}"), json!({})).await;
        manifests.push((digest, bytes.len()));
    }
    bench.push_index("all", &manifests).await;
    let refused = bench.import("all", &["1"], false).await.unwrap_err();
    assert!(refused.to_string().ends_with("the image has more than 50 manifests"), "{refused}");
    bench.copied("manifests/1", 404).await;
    bench.push_index("fewer", &manifests[1..]).await;
    bench.import("fewer", &["1"], false).await.unwrap();
}

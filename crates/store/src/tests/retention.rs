use std::sync::Arc;

use postern_access::{ContentPolicies, OperationKind};
use postern_model::{Digest, Reference};
use tokio::task::JoinSet;

use super::{Bench, manifest, permit_under, put_blob, read_all, referrer, registry, sha256, tags_of};
use crate::{AttributeChange, ManifestChild, ManifestFacts, Repository};

const DAY: i64 = 24 * 3600;
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const ON: ContentPolicies =
    ContentPolicies { quarantine: false, soft_delete: false, soft_delete_days: 7, retention: true, retention_days: 7 };

fn image(blob: &[u8]) -> ManifestFacts {
    ManifestFacts { media_type: DOCKER.into(), ..manifest(&[blob]) }
}

impl Bench {
    fn retaining(&self, kind: OperationKind) -> Repository {
        self.store.repository(&permit_under(ON, kind, "app")).unwrap()
    }

    async fn push_docker(&self, blob: &[u8], tags: &[&str]) -> Digest {
        put_blob(&self.push("app"), blob).await;
        let facts = image(blob);
        let digest = facts.digest;
        self.retaining(OperationKind::PushManifest).put_manifest(facts, tags_of(tags)).await.unwrap();
        digest
    }

    async fn retain(&self, days: i64) -> Vec<Digest> {
        let cutoff = self.now().plus_seconds(-days * DAY);
        let mut purged = Vec::new();
        self.store.purge_untagged(registry(1), cutoff, &mut purged).await.unwrap();
        purged.into_iter().flat_map(|purged| purged.manifests).collect()
    }

    async fn is_there(&self, digest: Digest) -> bool {
        self.open(OperationKind::PullManifest, "app").manifest(&Reference::Digest(digest)).await.is_ok()
    }

    async fn untag(&self, tag: &str) {
        self.retaining(OperationKind::Untag).untag(&tag.parse().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn what_lost_its_last_tag_goes_after_its_time() {
    let bench = Bench::new().await;
    let moved = bench.push_docker(b"moved", &["latest"]).await;
    let latest = bench.push_docker(b"latest", &["latest"]).await;
    let two = bench.push_docker(b"two tags", &["a", "b"]).await;
    let never = bench.push_docker(b"never tagged", &[]).await;
    bench.untag("a").await;
    bench.pass(7 * DAY - 60);
    assert_eq!(bench.retain(7).await, []);
    bench.pass(61);
    assert_eq!(bench.retain(7).await, [moved]);
    assert!(!bench.is_there(moved).await && bench.is_there(latest).await);
    assert!(bench.is_there(two).await, "it has a tag left");
    assert!(bench.is_there(never).await, "it did not become untagged");
    bench.untag("b").await;
    // At once, with no days.
    assert_eq!(bench.retain(0).await, [two]);
    bench.pass(DAY + 60);
    assert_eq!(bench.collect().await.blobs, 2);
    assert_eq!(read_all(&bench.open(OperationKind::PullBlob, "app"), &sha256(b"latest")).await.unwrap(), "latest");
}

#[tokio::test]
async fn what_is_tagged_again_locked_or_needed_stays() {
    let bench = Bench::new().await;
    let again = bench.push_docker(b"again", &["again"]).await;
    let locked = bench.push_docker(b"locked", &["locked"]).await;
    let child = bench.push_docker(b"child", &["child"]).await;
    let subject = bench.push_docker(b"subject", &["subject"]).await;
    let put = |facts, tags: &'static [&'static str]| {
        let repository = bench.retaining(OperationKind::PushManifest);
        async move { repository.put_manifest(facts, tags_of(tags)).await.unwrap() }
    };
    let listed = ManifestChild { digest: child, architecture: None, os: None };
    let index = ManifestFacts { children: vec![listed], ..referrer(child, "index", 1) };
    let index = ManifestFacts { subject: None, ..index };
    put(index, &["index"]).await;
    put(referrer(subject, "signature", 2), &[]).await;
    let lock = AttributeChange { delete_enabled: Some(false), ..AttributeChange::default() };
    let metadata = bench.open(OperationKind::WriteMetadata, "app");
    metadata.update_manifest(&locked, lock).await.unwrap();
    for tag in ["again", "locked", "child", "subject"] {
        bench.untag(tag).await;
    }
    bench.pass(8 * DAY);
    bench.push_docker(b"again", &["back"]).await;
    assert_eq!(bench.retain(7).await, []);
    for digest in [again, locked, child, subject] {
        assert!(bench.is_there(digest).await);
    }
    // Its time begins anew, and a lock that is lifted lets go at once.
    bench.untag("back").await;
    let unlock = AttributeChange { delete_enabled: Some(true), ..AttributeChange::default() };
    metadata.update_manifest(&locked, unlock).await.unwrap();
    assert_eq!(bench.retain(7).await, [locked]);
    bench.pass(8 * DAY);
    assert_eq!(bench.retain(7).await, [again]);
}

#[tokio::test]
async fn only_docker_manifests_and_only_while_the_policy_is_on() {
    let bench = Bench::new().await;
    let oci = bench.push_image("app", &[b"oci"], &["oci"]).await;
    bench.untag("oci").await;
    let before = bench.push_docker(b"before", &["before"]).await;
    bench.open(OperationKind::Untag, "app").untag(&"before".parse().unwrap()).await.unwrap();
    let during = bench.push_docker(b"during", &["during"]).await;
    bench.untag("during").await;
    assert_eq!(bench.store.registries_to_purge().await.unwrap(), [registry(1)]);
    bench.store.forget_untagged(registry(1)).await.unwrap();
    bench.pass(30 * DAY);
    assert_eq!(bench.retain(7).await, []);
    for digest in [oci, before, during] {
        assert!(bench.is_there(digest).await);
    }
    assert_eq!(bench.store.registries_to_purge().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_comes_while_it_is_purged_leads_to_all_of_its_image() {
    let bench = Arc::new(Bench::new().await);
    for round in 0..40_u8 {
        let blob = [round; 8];
        let digest = bench.push_docker(&blob, &["t"]).await;
        bench.untag("t").await;
        let mut racing = JoinSet::new();
        let one = Arc::clone(&bench);
        racing.spawn(async move { drop(one.retain(0).await) });
        let other = Arc::clone(&bench);
        racing.spawn(async move {
            let push = other.retaining(OperationKind::PushManifest);
            push.put_manifest(image(&blob), tags_of(&["t"])).await.unwrap();
        });
        racing.join_all().await;
        bench.pass(DAY / 2);
        bench.collect().await;
        bench.retain(0).await;
        assert!(bench.is_there(digest).await, "round {round}");
        let blobs = bench.open(OperationKind::PullBlob, "app");
        assert_eq!(read_all(&blobs, &sha256(&blob)).await.unwrap(), &blob[..], "round {round}");
        bench.untag("t").await;
        assert_eq!(bench.retain(0).await, [digest], "round {round}");
    }
}

#[tokio::test]
async fn what_was_deleted_and_pushed_again_has_lost_no_tag() {
    let bench = Bench::new().await;
    let image = bench.push_docker(b"again", &["1"]).await;
    bench.untag("1").await;
    bench.retaining(OperationKind::DeleteManifest).delete_manifest(&image).await.unwrap();
    assert_eq!(bench.push_docker(b"again", &[]).await, image);
    bench.pass(8 * DAY);
    assert_eq!(bench.retain(7).await, []);
    assert!(bench.is_there(image).await);
}

use postern_access::{ContentPolicies, OperationKind};
use postern_model::{Digest, Reference, Tag};

use super::{Bench, assert_err, manifest, permit_under, put_blob, read_all, referrer, registry, sha256, tags_of};
use crate::{AttributeChange, Missing, Repository, StoreError};

const DAY: i64 = 24 * 3600;
const ON: ContentPolicies =
    ContentPolicies { quarantine: false, soft_delete: true, soft_delete_days: 7, retention: false, retention_days: 7 };

impl Bench {
    fn soft(&self, kind: OperationKind, name: &str) -> Repository {
        self.store.repository(&permit_under(ON, kind, name)).unwrap()
    }

    async fn delete(&self, name: &str, digest: &Digest) {
        self.soft(OperationKind::DeleteManifest, name).delete_manifest(digest).await.unwrap();
    }

    async fn restore(&self, name: &str, digest: &Digest, tag: Option<&str>, force: bool) -> Result<(), StoreError> {
        let tag: Option<Tag> = tag.map(|tag| tag.parse().unwrap());
        self.soft(OperationKind::RestoreDeleted, name).restore(digest, tag, force).await
    }

    async fn pulled(&self, name: &str, reference: &str) -> Result<Digest, StoreError> {
        let reference: Reference = reference.parse().unwrap();
        Ok(self.open(OperationKind::PullManifest, name).manifest(&reference).await?.digest)
    }

    async fn deleted(&self, name: &str) -> (Vec<Digest>, Vec<String>) {
        let lists = self.soft(OperationKind::ListDeleted, name);
        let manifests = lists.deleted_manifests(None, 100).await.unwrap().items;
        let tags = lists.deleted_tags(None, 100).await.unwrap().items;
        (manifests.iter().map(|item| item.digest).collect(), tags.iter().map(|item| item.name.to_string()).collect())
    }

    async fn purge(&self, days: i64) -> Vec<crate::Purged> {
        let mut purged = Vec::new();
        self.store.purge_deleted(registry(1), self.now().plus_seconds(-days * DAY), &mut purged).await.unwrap();
        purged
    }
}

#[tokio::test]
async fn what_is_deleted_is_kept_with_its_blobs_and_can_be_restored() {
    let bench = Bench::new().await;
    let image = bench.push_image("app", &[b"blob"], &["1.0", "latest"]).await;
    bench.delete("app", &image).await;
    assert_err!(bench.pulled("app", "1.0").await, StoreError::NotFound(_));
    assert_err!(bench.pulled("app", &image.to_string()).await, StoreError::NotFound(_));
    let names = bench.store.catalog(&permit_under(ON, OperationKind::ListCatalog, "")).unwrap();
    assert_eq!(names.page(None, 9).await.unwrap().items, []);
    let kept = bench.store.deleted_catalog(&permit_under(ON, OperationKind::ListDeletedCatalog, "")).unwrap();
    assert_eq!(kept.page(None, 9).await.unwrap().items, ["app".parse().unwrap()]);
    assert_eq!(bench.deleted("app").await, (vec![image], vec!["1.0".into(), "latest".into()]));

    // The collection takes nothing that it needs, however long it is kept.
    bench.pass(6 * DAY);
    assert_eq!(bench.collect().await.blobs, 0);
    assert_eq!(bench.purge(7).await, []);
    // One tag at a time.
    bench.restore("app", &image, Some("1.0"), false).await.unwrap();
    assert_eq!(bench.pulled("app", "1.0").await.unwrap(), image);
    assert_eq!(read_all(&bench.open(OperationKind::PullBlob, "app"), &sha256(b"blob")).await.unwrap(), "blob");
    assert_err!(bench.pulled("app", "latest").await, StoreError::NotFound(_));
    assert_eq!(bench.deleted("app").await, (vec![], vec!["latest".into()]));
    bench.restore("app", &image, Some("latest"), false).await.unwrap();
    assert_eq!(bench.pulled("app", "latest").await.unwrap(), image);
    assert_err!(bench.restore("app", &image, Some("latest"), false).await, StoreError::NotFound(Missing::Manifest));
    assert_eq!(kept.page(None, 9).await.unwrap().items, []);
    bench.pass(30 * DAY);
    assert_eq!((bench.purge(7).await.len(), bench.collect().await.blobs), (0, 0));
}

#[tokio::test]
async fn what_expired_is_gone_for_good() {
    let bench = Bench::new().await;
    let old = bench.push_image("app", &[b"old", b"both"], &["old"]).await;
    let new = bench.push_image("app", &[b"new", b"both"], &["new"]).await;
    bench.delete("app", &old).await;
    bench.pass(3 * DAY);
    bench.soft(OperationKind::DeleteRepository, "app").delete_repository().await.unwrap();
    bench.pass(4 * DAY + 60);
    let purged = bench.purge(7).await;
    assert_eq!((&purged[0].manifests, &purged[0].tags), (&vec![old], &tags_of(&["old"])));
    assert_eq!(bench.deleted("app").await, (vec![new], vec!["new".into()]));
    bench.pass(DAY + 60);
    assert_eq!(bench.collect().await.blobs, 1, "only what the other one does not hold");
    assert_err!(bench.restore("app", &old, Some("old"), false).await, StoreError::NotFound(Missing::Manifest));
    // A shorter time holds for what is kept already; a longer one would keep it for longer.
    assert_eq!(bench.purge(30).await, []);
    assert_eq!(bench.purge(1).await[0].manifests, [new]);
    bench.pass(DAY + 60);
    assert_eq!(bench.collect().await.blobs, 2);
    assert_eq!(bench.store.registries_to_purge().await.unwrap(), []);
    assert_eq!(bench.blob_files(), 0);
}

#[tokio::test]
async fn what_is_deleted_cannot_be_pushed_again() {
    let bench = Bench::new().await;
    let image = bench.push_image("app", &[b"blob"], &["1.0"]).await;
    bench.delete("app", &image).await;
    let push = bench.soft(OperationKind::PushManifest, "app");
    let again = push.put_manifest(manifest(&[b"blob"]), tags_of(&["2.0"])).await;
    assert_err!(again, StoreError::SoftDeleted(digest) if *digest == image);
    // Another one brings the repository back, and not what was in it.
    put_blob(&bench.push("app"), b"other").await;
    push.put_manifest(manifest(&[b"other"]), tags_of(&["1.0"])).await.unwrap();
    assert_eq!(bench.deleted("app").await.0, [image]);
    assert_eq!(bench.pulled("app", "1.0").await.unwrap(), manifest(&[b"other"]).digest);
    // In another repository it is not deleted.
    bench.push_image("else", &[b"blob"], &["1.0"]).await;
}

#[tokio::test]
async fn a_tag_in_use_is_overwritten_by_force() {
    let bench = Bench::new().await;
    let first = bench.push_image("app", &[b"first"], &["1.0"]).await;
    bench.delete("app", &first).await;
    let second = bench.push_image("app", &[b"second"], &["1.0"]).await;
    let refused = bench.restore("app", &first, Some("1.0"), false).await;
    assert_err!(refused, StoreError::TagExists(tag) if tag.as_str() == "1.0");
    assert_eq!(bench.deleted("app").await.0, [first]);
    bench.restore("app", &first, Some("1.0"), true).await.unwrap();
    assert_eq!(bench.pulled("app", "1.0").await.unwrap(), first);
    assert_eq!(bench.deleted("app").await, (vec![second], vec!["1.0".into()]));
    // What it leaves stays where something else leads to it.
    bench.restore("app", &second, Some("other"), false).await.unwrap();
    bench.restore("app", &second, Some("1.0"), true).await.unwrap();
    assert_eq!(bench.pulled("app", "1.0").await.unwrap(), second);
    assert_eq!(bench.deleted("app").await, (vec![first], vec!["1.0".into()]));
    bench.restore("app", &first, Some("1.0"), true).await.unwrap();
    assert_eq!(bench.pulled("app", "other").await.unwrap(), second);
    // A lock on what would be lost, or on the tag, keeps everything as it is.
    bench.delete("app", &second).await;
    let lock = AttributeChange { delete_enabled: Some(false), ..AttributeChange::default() };
    bench.open(OperationKind::WriteMetadata, "app").update_manifest(&first, lock).await.unwrap();
    assert_err!(bench.restore("app", &second, Some("1.0"), true).await, StoreError::Locked(..));
    assert_eq!(bench.pulled("app", "1.0").await.unwrap(), first);
}

#[tokio::test]
async fn untagged_alone_a_tag_comes_back_as_it_was_locked() {
    let bench = Bench::new().await;
    let image = bench.push_image("app", &[b"blob"], &["1.0", "kept"]).await;
    let hidden = AttributeChange { list_enabled: Some(false), ..AttributeChange::default() };
    bench.open(OperationKind::WriteMetadata, "app").update_tag(&"1.0".parse().unwrap(), hidden).await.unwrap();
    bench.soft(OperationKind::Untag, "app").untag(&"1.0".parse().unwrap()).await.unwrap();
    assert_eq!(bench.deleted("app").await, (vec![], vec!["1.0".into()]));
    bench.restore("app", &image, Some("1.0"), false).await.unwrap();
    let info = bench.open(OperationKind::ReadMetadata, "app").tag_info(&"1.0".parse().unwrap()).await.unwrap();
    assert!(!info.attributes.list_enabled && info.attributes.write_enabled);
}

#[tokio::test]
async fn referrers_come_back_after_their_subject() {
    let bench = Bench::new().await;
    let image = bench.push_image("app", &[b"blob"], &["1.0"]).await;
    let signature = referrer(image, "signature", 1);
    let push = bench.soft(OperationKind::PushManifest, "app");
    push.put_manifest(signature.clone(), Vec::new()).await.unwrap();
    bench.delete("app", &image).await;
    assert_eq!(bench.deleted("app").await.0.len(), 2);
    let refused = bench.restore("app", &signature.digest, None, false).await;
    assert_err!(refused, StoreError::SubjectDeleted(subject) if *subject == image);
    bench.restore("app", &image, Some("1.0"), false).await.unwrap();
    let list = bench.open(OperationKind::ListReferrers, "app");
    assert_eq!(list.referrers(&image, None, None, 9).await.unwrap().items.len(), 0);
    bench.restore("app", &signature.digest, None, false).await.unwrap();
    assert_eq!(list.referrers(&image, None, None, 9).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn lists_are_paged_and_the_last_deleted_comes_last() {
    let bench = Bench::new().await;
    for round in 0..5_u8 {
        let image = bench.push_image("app", &[&[round]], &["same", &format!("t{round}")]).await;
        bench.delete("app", &image).await;
    }
    let lists = bench.soft(OperationKind::ListDeleted, "app");
    let (mut tags, mut last) = (Vec::new(), None);
    loop {
        let page = lists.deleted_tags(last.as_deref(), 3).await.unwrap();
        assert!(page.items.len() <= 3);
        tags.extend(page.items);
        match page.next {
            Some(next) => last = Some(next),
            None => break,
        }
    }
    assert_eq!(tags.len(), 10);
    assert!(tags.windows(2).all(|pair| pair[0].deleted <= pair[1].deleted));
    let newest = tags.iter().rfind(|tag| tag.name.as_str() == "same").unwrap();
    assert_eq!(newest.digest, manifest(&[&[4]]).digest);
    let first = lists.deleted_manifests(None, 4).await.unwrap();
    let rest = lists.deleted_manifests(first.next.as_deref(), 4).await.unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (4, 1, None));
    assert_eq!(first.items[0].tags.len(), 2);
    assert_err!(lists.deleted_tags(Some("x"), 3).await, StoreError::BadCursor);
}

#[tokio::test]
async fn without_the_policy_nothing_is_kept() {
    let bench = Bench::new().await;
    let image = bench.push_image("app", &[b"blob"], &["1.0"]).await;
    bench.open(OperationKind::DeleteManifest, "app").delete_manifest(&image).await.unwrap();
    assert_eq!(bench.deleted("app").await, (vec![], vec![]));
    bench.pass(DAY + 60);
    assert_eq!(bench.collect().await.blobs, 1);
    // A registry's end takes what it kept.
    let image = bench.push_image("app", &[b"blob"], &["1.0"]).await;
    bench.delete("app", &image).await;
    bench.store.remove_registry(registry(1)).await.unwrap();
    assert_eq!(bench.deleted("app").await, (vec![], vec![]));
    assert_eq!(bench.collect().await.blobs, 1);
}

#[tokio::test]
async fn what_was_locked_since_stays_locked() {
    let bench = Bench::new().await;
    let image = bench.push_image("app", &[b"blob"], &["1", "2"]).await;
    let tag: Tag = "1".parse().unwrap();
    let unreadable = AttributeChange { read_enabled: Some(false), ..AttributeChange::default() };
    let untag = async || bench.soft(OperationKind::Untag, "app").untag(&tag).await.unwrap();
    let again = async || {
        let facts = manifest(&[b"blob"]);
        assert_eq!(facts.digest, image);
        bench.soft(OperationKind::PushManifest, "app").put_manifest(facts, tags_of(&["1"])).await.unwrap();
        bench.open(OperationKind::WriteMetadata, "app").update_tag(&tag, unreadable).await.unwrap();
    };
    // There again, it is not among what was deleted, and restoring it opens nothing.
    untag().await;
    again().await;
    assert_eq!(bench.deleted("app").await, (vec![], vec![]));
    assert_err!(bench.restore("app", &image, Some("1"), true).await, StoreError::NotFound(_));
    assert_err!(bench.pulled("app", "1").await, StoreError::Locked(..));
    untag().await;
    bench.restore("app", &image, Some("1"), false).await.unwrap();
    assert_err!(bench.pulled("app", "1").await, StoreError::Locked(..));

    // So does a repository of which nothing was left.
    bench.open(OperationKind::WriteMetadata, "app").update(unreadable).await.unwrap();
    bench.delete("app", &image).await;
    bench.restore("app", &image, Some("2"), false).await.unwrap();
    assert_err!(bench.pulled("app", "2").await, StoreError::Locked(..));
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use postern_access::{ContentCause, LockAttribute, Locked, OperationKind};
use postern_model::{Reference, Tag};

use super::{Bench, assert_err, manifest, permit, put_blob, read_all, referrer, sample, sha256, tags_of};
use crate::{AttributeChange, Expected, ManifestChild, Missing, StoreError};

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

#[tokio::test]
async fn push_pull_mount_delete() {
    let bench = Bench::new().await;
    let digest = bench.push_image("team/app", &[b"config", b"layer"], &["1", "latest"]).await;

    let pull = bench.open(OperationKind::PullManifest, "team/app");
    for reference in ["1".to_owned(), "latest".to_owned(), digest.to_string()] {
        for _ in 0..2 {
            let manifest_read = pull.manifest(&reference.parse().unwrap()).await.unwrap();
            assert_eq!(manifest_read.digest, digest);
            assert_eq!(manifest_read.bytes, manifest(&[b"config", b"layer"]).bytes);
        }
    }
    let blobs = bench.open(OperationKind::PullBlob, "team/app");
    assert_eq!(read_all(&blobs, &sha256(b"layer")).await.unwrap(), "layer");
    assert_eq!(blobs.stat_blob(&sha256(b"layer")).await.unwrap(), 5);

    // Only a repository that links the blob shows it.
    let elsewhere = bench.open(OperationKind::PullBlob, "team/other");
    assert_err!(elsewhere.stat_blob(&sha256(b"layer")).await, StoreError::NotFound(Missing::Blob));
    let same_name_in_another_registry =
        bench.store.repository(&permit(2, OperationKind::PullBlob, "team/app")).unwrap();
    assert_err!(same_name_in_another_registry.stat_blob(&sha256(b"layer")).await, StoreError::NotFound(Missing::Blob));
    let source = permit(1, OperationKind::MountBlob, "team/app");
    bench.push("team/other").mount_blob(&source, &sha256(b"layer")).await.unwrap();
    assert_eq!(read_all(&elsewhere, &sha256(b"layer")).await.unwrap(), "layer");
    assert_err!(
        bench.push("team/other").mount_blob(&source, &sha256(b"nothing")).await,
        StoreError::NotFound(Missing::Blob)
    );
    let foreign = permit(2, OperationKind::MountBlob, "team/app");
    assert_err!(
        bench.push("team/other").mount_blob(&foreign, &sha256(b"layer")).await,
        StoreError::NotPermitted(OperationKind::MountBlob)
    );

    let removed = bench.open(OperationKind::DeleteManifest, "team/app").delete_manifest(&digest).await.unwrap();
    assert_eq!(removed.manifests, [digest]);
    assert_eq!(removed.tags, tags_of(&["1", "latest"]));
    assert_err!(pull.manifest(&"1".parse().unwrap()).await, StoreError::NotFound(Missing::Repository));
    assert_err!(pull.manifest(&Reference::Digest(digest)).await, StoreError::NotFound(Missing::Repository));
}

#[tokio::test]
async fn a_manifest_needs_its_blobs_and_the_right_permit() {
    let bench = Bench::new().await;
    put_blob(&bench.push("app"), b"here").await;
    put_blob(&bench.push("elsewhere"), b"not here").await;
    let push = bench.open(OperationKind::PushManifest, "app");
    assert_err!(
        push.put_manifest(manifest(&[b"here", b"not here"]), tags_of(&["1"])).await,
        StoreError::MissingBlobs(missing) if missing == [sha256(b"not here")]
    );
    assert_err!(
        bench.open(OperationKind::PullManifest, "app").manifest(&"1".parse().unwrap()).await,
        StoreError::NotFound(Missing::Repository)
    );
    assert_err!(
        bench.push("app").put_manifest(manifest(&[]), Vec::new()).await,
        StoreError::NotPermitted(OperationKind::PushBlob)
    );

    let first = push.put_manifest(manifest(&[b"here"]), tags_of(&["1"])).await.unwrap();
    assert!(first.created && first.repository_created);
    let info = bench.open(OperationKind::ReadMetadata, "app").info().await.unwrap();
    let again = push.put_manifest(manifest(&[b"here"]), tags_of(&["1"])).await.unwrap();
    assert!(!again.created && !again.repository_created);
    assert_eq!(bench.open(OperationKind::ReadMetadata, "app").info().await.unwrap(), info);

    // A blob that a manifest needs cannot be taken from under it.
    let delete = bench.open(OperationKind::DeleteBlob, "app");
    assert_err!(delete.delete_blob(&sha256(b"here")).await, StoreError::BlobReferenced);
    put_blob(&bench.push("app"), b"spare").await;
    delete.delete_blob(&sha256(b"spare")).await.unwrap();
    assert_err!(delete.delete_blob(&sha256(b"spare")).await, StoreError::NotFound(Missing::Blob));
    assert_eq!(bench.blob_files(), 2);
}

#[tokio::test]
async fn an_index_of_many_children_keeps_their_order_and_platforms() {
    let bench = Bench::new().await;
    let children: Vec<ManifestChild> = (0..1200_u32)
        .map(|at| ManifestChild {
            digest: sha256(&(at % 1000).to_be_bytes()),
            architecture: Some(format!("a{at}")),
            os: None,
        })
        .collect();
    let mut facts = manifest(&[]);
    facts.children.clone_from(&children);
    let digest = facts.digest;
    bench.open(OperationKind::PushManifest, "app").put_manifest(facts, Vec::new()).await.unwrap();
    let info = bench.open(OperationKind::ReadMetadata, "app").manifest_info(&digest).await.unwrap();
    assert_eq!(info.children, children);
    assert_eq!((info.image_size, info.os.as_deref()), (7, Some("linux")));
}

#[tokio::test]
async fn reads_see_every_acknowledged_write() {
    let bench = Bench::new().await;
    let one = bench.push_image("app", &[b"one"], &["t"]).await;
    let pull = bench.open(OperationKind::PullManifest, "app");
    assert_eq!(pull.manifest(&"t".parse().unwrap()).await.unwrap().digest, one);
    let two = bench.push_image("app", &[b"two"], &["t"]).await;
    assert_eq!(pull.manifest(&"t".parse().unwrap()).await.unwrap().digest, two);
    assert_eq!(pull.resolve(&"t".parse().unwrap()).await.unwrap(), two);

    let write = bench.open(OperationKind::WriteMetadata, "app");
    let unreadable = AttributeChange { read_enabled: Some(false), ..AttributeChange::default() };
    let readable = AttributeChange { read_enabled: Some(true), ..AttributeChange::default() };
    write.update_manifest(&two, unreadable).await.unwrap();
    assert_err!(
        pull.manifest(&"t".parse().unwrap()).await,
        StoreError::Locked(ContentCause::Locked { locked: Locked::Manifest, .. }, _)
    );
    write.update_manifest(&two, readable).await.unwrap();
    write.update_tag(&tag("t"), unreadable).await.unwrap();
    assert_err!(
        pull.manifest(&"t".parse().unwrap()).await,
        StoreError::Locked(ContentCause::Locked { locked: Locked::Tag, .. }, _)
    );
    assert_eq!(pull.manifest(&Reference::Digest(two)).await.unwrap().digest, two);
    write.update(unreadable).await.unwrap();
    assert_err!(
        pull.manifest(&Reference::Digest(two)).await,
        StoreError::Locked(ContentCause::Locked { locked: Locked::Repository, .. }, _)
    );
    assert_err!(bench.open(OperationKind::PullBlob, "app").stat_blob(&sha256(b"two")).await, StoreError::Locked(..));
    write.update(readable).await.unwrap();

    assert_eq!(bench.open(OperationKind::Untag, "app").untag(&tag("t")).await.unwrap(), two);
    assert_err!(pull.manifest(&"t".parse().unwrap()).await, StoreError::NotFound(Missing::Manifest));
    assert_err!(bench.open(OperationKind::Untag, "app").untag(&tag("t")).await, StoreError::NotFound(Missing::Tag));
    assert!(pull.manifest(&Reference::Digest(two)).await.is_ok());
}

#[tokio::test]
async fn locks_keep_content_as_it_is() {
    let bench = Bench::new().await;
    let digest = bench.push_image("app", &[b"one"], &["fixed"]).await;
    let write = bench.open(OperationKind::WriteMetadata, "app");
    let locked = AttributeChange { write_enabled: Some(false), ..AttributeChange::default() };
    let unlocked = AttributeChange { write_enabled: Some(true), ..AttributeChange::default() };
    write.update_tag(&tag("fixed"), locked).await.unwrap();

    let push = bench.open(OperationKind::PushManifest, "app");
    put_blob(&bench.push("app"), b"two").await;
    let refused = push.put_manifest(manifest(&[b"two"]), tags_of(&["free", "fixed"])).await;
    assert_err!(
        refused,
        StoreError::Locked(ContentCause::Locked { locked: Locked::Tag, attribute: LockAttribute::Write }, _)
    );
    let pull = bench.open(OperationKind::PullManifest, "app");
    assert_err!(pull.manifest(&"free".parse().unwrap()).await, StoreError::NotFound(Missing::Manifest));
    assert_err!(bench.open(OperationKind::Untag, "app").untag(&tag("fixed")).await, StoreError::Locked(..));
    let delete = bench.open(OperationKind::DeleteManifest, "app");
    assert_err!(delete.delete_manifest(&digest).await, StoreError::Locked(..));
    let delete_repository = bench.open(OperationKind::DeleteRepository, "app");
    assert_err!(delete_repository.delete_repository().await, StoreError::Locked(..));
    assert_eq!(pull.manifest(&"fixed".parse().unwrap()).await.unwrap().digest, digest);

    write.update_tag(&tag("fixed"), unlocked).await.unwrap();
    write.update(locked).await.unwrap();
    assert_err!(bench.push("app").start_upload(postern_model::Algorithm::Sha256).await, StoreError::Locked(..));
    assert_err!(push.put_manifest(manifest(&[b"two"]), Vec::new()).await, StoreError::Locked(..));
    write.update(unlocked).await.unwrap();
    push.put_manifest(manifest(&[b"two"]), tags_of(&["free"])).await.unwrap();
    let removed = delete_repository.delete_repository().await.unwrap();
    assert_eq!((removed.manifests.len(), removed.tags), (2, tags_of(&["fixed", "free"])));
    assert_err!(delete_repository.delete_repository().await, StoreError::NotFound(Missing::Repository));
}

#[tokio::test]
async fn referrers_are_listed_and_go_with_their_subject() {
    let bench = Bench::new().await;
    let subject = bench.push_image("app", &[b"one"], &["1"]).await;
    let push = bench.open(OperationKind::PushManifest, "app");
    let mut expected = Vec::new();
    for salt in 0..5 {
        let facts = referrer(subject, if salt < 3 { "sbom" } else { "signature" }, salt);
        expected.push((facts.digest.to_string(), facts.artifact_type.clone().unwrap()));
        push.put_manifest(facts, Vec::new()).await.unwrap();
    }
    expected.sort();
    let list = bench.open(OperationKind::ListReferrers, "app");
    let page = list.referrers(&subject, None, None, 3).await.unwrap();
    let rest = list.referrers(&subject, None, page.next.map(|last| last.parse().unwrap()).as_ref(), 3).await.unwrap();
    assert_eq!(rest.next, None);
    let all = page.items.iter().chain(&rest.items);
    let all: Vec<_> =
        all.map(|referrer| (referrer.digest.to_string(), referrer.artifact_type.clone().unwrap())).collect();
    assert_eq!(all, expected);
    assert_eq!(list.referrers(&subject, Some("sbom"), None, 10).await.unwrap().items.len(), 3);
    assert_eq!(page.items[0].annotations.as_deref(), Some(r#"{"k":"v"}"#));
    assert!(list.referrers(&sha256(b"unknown"), None, None, 10).await.unwrap().items.is_empty());
    let nowhere = bench.open(OperationKind::ListReferrers, "nowhere");
    assert!(nowhere.referrers(&subject, None, None, 10).await.unwrap().items.is_empty());

    let removed = bench.open(OperationKind::DeleteManifest, "app").delete_manifest(&subject).await.unwrap();
    assert_eq!(removed.manifests.len(), 6);
}

#[tokio::test]
async fn bodies_give_any_range() {
    let bench = Bench::new().await;
    let digest = put_blob(&bench.push("app"), sample(700_000)).await;
    let pull = bench.open(OperationKind::PullBlob, "app");
    for (start, end) in [(0, 700_000), (0, 0), (5, 6), (1, 65_537), (0, 65_536), (262_143, 262_145), (699_999, 900_000)]
    {
        let body = pull.open_blob(&digest).await.unwrap().into_range(start, end);
        let end = usize::try_from(end).unwrap().min(700_000);
        let expected = &sample(700_000)[usize::try_from(start).unwrap()..end];
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(expected.len() as u64));
        assert_eq!(body.collect().await.unwrap().to_bytes(), expected, "{start}..{end}");
    }
}

#[tokio::test]
async fn a_registry_goes_with_its_content() {
    let bench = Bench::new().await;
    bench.push_image("app", &[b"one"], &["1"]).await;
    let pull = bench.open(OperationKind::PullManifest, "app");
    pull.manifest(&"1".parse().unwrap()).await.unwrap();
    bench.store.remove_registry(super::registry(1)).await.unwrap();
    assert_err!(pull.manifest(&"1".parse().unwrap()).await, StoreError::NotFound(Missing::Repository));
    assert_eq!(bench.collect().await.blobs, 1);
    assert_eq!(bench.blob_files(), 0);
}

#[tokio::test]
async fn a_registrys_content_goes_also_when_only_the_registry_was_deleted() {
    let bench = Bench::new().await;
    let resources = bench.store.resources();
    for (number, resource_type) in [(1, "microsoft.containerregistry/Registries"), (2, "Other/type")] {
        let mut row = super::resources::row(&format!("/{number}"), "{}", "1");
        row.uid = super::registry(number).to_string();
        row.resource_type = resource_type.into();
        resources.put(row, Expected::Absent).await.unwrap();
    }
    drop(resources);
    bench.push_image("app", &[b"one"], &["1"]).await;
    bench.pass(2 * 24 * 3600);
    assert_eq!(bench.collect().await.blobs, 0);
    let resources = bench.store.resources();
    resources.remove("/2", Expected::Any).await.unwrap();
    resources.remove("/1", Expected::Any).await.unwrap();
    drop(resources);
    // As after a crash at this moment.
    let bench = bench.reopen().await;
    assert_eq!(bench.collect().await.blobs, 1);
    let pull = bench.open(OperationKind::PullManifest, "app");
    assert_err!(pull.manifest(&"1".parse().unwrap()).await, StoreError::NotFound(Missing::Repository));
}

/// Readers and a writer race for the caches; whoever reads after a write was acknowledged sees it or a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_never_serve_what_was_replaced() {
    let bench = Arc::new(Bench::new().await);
    for content in [b"0", b"1"] {
        put_blob(&bench.push("app"), content).await;
    }
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let push = bench.open(OperationKind::PushManifest, "app");
    let images = [manifest(&[b"0"]), manifest(&[b"1"])];
    push.put_manifest(images[0].clone(), tags_of(&["t"])).await.unwrap();
    let digests = [images[0].digest, images[1].digest];
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (bench, acknowledged) = (Arc::clone(&bench), Arc::clone(&acknowledged));
        readers.spawn(async move {
            let pull = bench.open(OperationKind::PullManifest, "app");
            loop {
                let before = acknowledged.load(Ordering::SeqCst);
                let read = pull.manifest(&"t".parse().unwrap()).await.unwrap().digest;
                let after = acknowledged.load(Ordering::SeqCst);
                // With no write begun or acknowledged meanwhile, only one answer is right.
                if before == after && before == usize::MAX {
                    return;
                }
                if before == after && after % 2 == 0 {
                    assert_eq!(read, digests[after / 2 % 2]);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for round in 1..150_usize {
        // Odd: a write is under way. Even: the write of round / 2 is acknowledged.
        acknowledged.store(2 * round - 1, Ordering::SeqCst);
        push.put_manifest(images[round % 2].clone(), tags_of(&["t"])).await.unwrap();
        acknowledged.store(2 * round, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    acknowledged.store(usize::MAX, Ordering::SeqCst);
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
}

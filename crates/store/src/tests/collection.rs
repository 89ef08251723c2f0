use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_access::OperationKind;
use postern_model::Algorithm;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Bench, assert_err, manifest, permit, put_blob, read_all, registry, sample, sha256, tags_of};
use crate::{Collected, Missing, PageRequest, StoreError};

const DAY: i64 = 24 * 3600;

#[tokio::test]
async fn what_nothing_needs_goes_after_its_grace() {
    let bench = Bench::new().await;
    let kept = bench.push_image("app", &[b"shared", b"kept"], &["kept"]).await;
    let gone = bench.push_image("app", &[b"shared", b"gone"], &["gone"]).await;
    bench.pass(10 * DAY);
    assert_eq!(bench.collect().await, Collected::default());

    bench.open(OperationKind::DeleteManifest, "app").delete_manifest(&gone).await.unwrap();
    bench.pass(DAY - 60);
    assert_eq!(bench.collect().await, Collected::default());
    bench.pass(61);
    assert_eq!(bench.collect().await, Collected { links: 1, blobs: 1, bytes: 4, ..Collected::default() });
    assert_eq!(bench.blob_files(), 2);
    let blobs = bench.open(OperationKind::PullBlob, "app");
    assert_err!(read_all(&blobs, &sha256(b"gone")).await, StoreError::NotFound(Missing::Blob));
    assert_eq!(read_all(&blobs, &sha256(b"shared")).await.unwrap(), "shared");

    // Another repository's link keeps the bytes.
    bench.push("other").mount_blob(&permit(1, OperationKind::MountBlob, "app"), &sha256(b"kept")).await.unwrap();
    bench.open(OperationKind::DeleteManifest, "app").delete_manifest(&kept).await.unwrap();
    bench.pass(DAY / 2 + 60);
    let other = bench.open(OperationKind::PullBlob, "other");
    assert_eq!(other.stat_blob(&sha256(b"kept")).await.unwrap(), 4);
    bench.pass(DAY / 2 + 60);
    assert_eq!(bench.collect().await, Collected { links: 2, blobs: 1, bytes: 6, ..Collected::default() });
    assert_eq!(read_all(&other, &sha256(b"kept")).await.unwrap(), "kept");
    bench.pass(DAY);
    assert_eq!(bench.collect().await.blobs, 1);
    assert_eq!(bench.blob_files(), 0);
}

#[tokio::test]
async fn a_registrys_size_counts_what_its_manifests_need_once() {
    let bench = Bench::new().await;
    let size = async |number| bench.store.size_of(registry(number)).await.unwrap();
    assert_eq!(size(1).await, 0);
    put_blob(&bench.push("app"), b"of no manifest").await;
    assert_eq!(size(1).await, 0);
    let first = bench.push_image("app", &[b"shared", b"first"], &["1"]).await;
    let manifest_bytes = manifest(&[b"shared", b"first"]).bytes.len() as u64;
    assert_eq!(size(1).await, 11 + manifest_bytes);
    bench.push_image("other", &[b"shared"], &["1"]).await;
    let other_bytes = manifest(&[b"shared"]).bytes.len() as u64;
    assert_eq!(size(1).await, 11 + manifest_bytes + other_bytes);
    assert_eq!(size(2).await, 0, "another registry");
    bench.open(OperationKind::DeleteManifest, "app").delete_manifest(&first).await.unwrap();
    assert_eq!(size(1).await, 6 + other_bytes);
}

#[tokio::test]
async fn whoever_was_told_of_a_blob_has_time_to_push_its_manifest() {
    let bench = Bench::new().await;
    put_blob(&bench.push("app"), b"blob").await;
    let blobs = bench.open(OperationKind::PullBlob, "app");
    for _ in 0..6 {
        bench.pass(DAY * 2 / 3);
        assert_eq!(blobs.stat_blob(&sha256(b"blob")).await.unwrap(), 4);
        assert_eq!(bench.collect().await.blobs, 0);
    }
    bench.pass(DAY / 2 - 60);
    bench.collect().await;
    bench.open(OperationKind::PushManifest, "app").put_manifest(manifest(&[b"blob"]), Vec::new()).await.unwrap();
}

#[tokio::test]
async fn expired_uploads_and_orphans_go() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    let upload = push.start_upload(Algorithm::Sha256).await.unwrap();
    let mut writer = push.upload_writer(upload.id).await.unwrap();
    writer.write(bytes::Bytes::from_static(b"half")).await.unwrap();
    writer.pause().await.unwrap();
    put_blob(&push, b"whole").await;
    bench.open(OperationKind::PushManifest, "app").put_manifest(manifest(&[b"whole"]), Vec::new()).await.unwrap();
    let orphan = bench.path("blobs/ab/abababab-abab-4bab-abab-abababababab");
    std::fs::write(&orphan, "left over").unwrap();
    assert_eq!(bench.collect().await, Collected { orphans: 1, ..Collected::default() });
    assert!(!orphan.exists());
    assert_eq!(bench.blob_files(), 2);

    bench.pass(7 * DAY + 60);
    assert_eq!(push.upload(upload.id).await.unwrap(), None);
    assert_eq!(bench.collect().await, Collected { uploads: 1, ..Collected::default() });
    assert_eq!(bench.blob_files(), 1);
}

/// Pushers that also mount and delete, and the collector, at once. A blob that a push was told of is there when its manifest comes.
///
/// Time passes between the rounds only, so that no push takes longer than its grace however slow the machine is: what a round deleted is
/// refreshed by the second one after it, and collected in the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_collected_from_under_a_push() {
    let bench = Arc::new(Bench::with(|options| options.collection_grace_seconds = 3600).await);
    let barrier = Arc::new(Barrier::new(WORKERS));
    let done = Arc::new(AtomicBool::new(false));
    let collector = tokio::spawn({
        let (bench, done) = (Arc::clone(&bench), Arc::clone(&done));
        async move {
            let mut blobs = 0;
            while !done.load(Ordering::SeqCst) {
                blobs += bench.collect().await.blobs;
                tokio::task::yield_now().await;
            }
            blobs
        }
    });
    let mut pushers = JoinSet::new();
    for worker in 0..WORKERS {
        let (bench, barrier) = (Arc::clone(&bench), Arc::clone(&barrier));
        pushers.spawn(async move {
            for round in 0..ROUNDS {
                push_round(&bench, worker, round).await;
                if barrier.wait().await.is_leader() {
                    bench.pass(1200);
                }
                barrier.wait().await;
            }
        });
    }
    while let Some(pushed) = pushers.join_next().await {
        pushed.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert!(collector.await.unwrap() > 0, "the collector had something to do");

    bench.pass(2 * 3600);
    bench.collect().await;
    for worker in 0..WORKERS {
        let name = format!("app{worker}");
        let (read, pull) = (bench.open(OperationKind::ReadMetadata, &name), bench.open(OperationKind::PullBlob, &name));
        let manifests = read.manifest_infos(&PageRequest { limit: 100, ..PageRequest::default() }).await.unwrap();
        assert_eq!(manifests.items.len(), ROUNDS / 2);
        for round in (1..ROUNDS).step_by(2) {
            assert!(read_all(&pull, &sha256(own_layer(worker, round).as_bytes())).await.is_ok());
            assert!(read_all(&pull, &sha256(shared_layer(round))).await.is_ok());
        }
        assert_err!(
            pull.stat_blob(&sha256(own_layer(worker, 0).as_bytes())).await,
            StoreError::NotFound(Missing::Blob)
        );
    }
}

const WORKERS: usize = 3;
const ROUNDS: usize = 40;

fn own_layer(worker: usize, round: usize) -> String {
    format!("{worker}-{round}")
}

/// The same few by all workers: deduplicated, deleted and pushed again all the time. Only odd rounds keep theirs.
fn shared_layer(round: usize) -> &'static [u8] {
    sample(if round.is_multiple_of(2) { 10_000 + round / 2 % 3 } else { 20_000 })
}

/// As a client does it: ask, else mount, else upload; then the manifest. Every second image is deleted again.
async fn push_round(bench: &Bench, worker: usize, round: usize) {
    let name = format!("app{worker}");
    let (layer, own) = (shared_layer(round), own_layer(worker, round));
    let push = bench.push(&name);
    put_blob(&push, own.as_bytes()).await;
    match push.stat_blob(&sha256(layer)).await {
        Ok(_) => {}
        Err(StoreError::NotFound(Missing::Blob)) => {
            let neighbour = permit(1, OperationKind::MountBlob, &format!("app{}", (worker + 1) % WORKERS));
            match push.mount_blob(&neighbour, &sha256(layer)).await {
                Ok(()) => {}
                Err(StoreError::NotFound(Missing::Blob)) => {
                    put_blob(&push, layer).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        Err(error) => panic!("{error:?}"),
    }
    let facts = manifest(&[own.as_bytes(), layer]);
    let digest = facts.digest;
    let pushed = bench.open(OperationKind::PushManifest, &name).put_manifest(facts, tags_of(&["latest"])).await;
    pushed.expect("its blobs stay for the manifest");
    let read = read_all(&bench.open(OperationKind::PullBlob, &name), &sha256(layer)).await;
    assert_eq!(read.expect("a manifest needs it"), layer);
    if round.is_multiple_of(2) {
        bench.open(OperationKind::DeleteManifest, &name).delete_manifest(&digest).await.unwrap();
    }
}

use bytes::Bytes;
use postern_access::{Caller, OperationKind};
use postern_model::{Algorithm, Digest};

use super::{Bench, assert_err, permit, permit_of, put_blob, read_all, sample, sha256, sha512};
use crate::{Missing, Repository, StoreError};

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let mut bench = Bench::new().await;
    let id = bench.push("app").start_upload(Algorithm::Sha256).await.unwrap().id;
    let whole = sample(2_500_000);
    for (start, end) in [(0, 1), (1, 700_000), (700_000, 1_700_001)] {
        let push = bench.push("app");
        assert_eq!(push.upload(id).await.unwrap().unwrap().offset, start as u64);
        let mut writer = push.upload_writer(id).await.unwrap();
        for piece in whole[start..end].chunks(70_000) {
            writer.write(Bytes::from_static(piece)).await.unwrap();
        }
        assert_eq!(writer.offset(), end as u64);
        assert_eq!(writer.pause().await.unwrap().offset, end as u64);
        drop(push);
        bench = bench.reopen().await;
    }
    // What was written after the last pause is not counted, and does not harm.
    let push = bench.push("app");
    let row: (String,) =
        sqlx::query_as("SELECT file FROM uploads").fetch_one(push.inner.database.read()).await.unwrap();
    let path = bench.path(&format!("blobs/{}/{}", row.0.get(..2).unwrap(), row.0));
    let mut torn = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut torn, b"torn").unwrap();
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(&whole[1_700_001..])).await.unwrap();
    assert_eq!(writer.commit(sha256(whole)).await.unwrap(), whole.len() as u64);
    assert_eq!(read_all(&push, &sha256(whole)).await.unwrap(), whole);
    assert_eq!(push.upload(id).await.unwrap(), None);
}

#[tokio::test]
async fn an_unreadable_hash_state_is_hashed_again() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(sample(1000))).await.unwrap();
    writer.pause().await.unwrap();
    let mut transaction = push.inner.database.write().await.unwrap();
    sqlx::query("UPDATE uploads SET hash_state = $1").bind(&b"\xffother"[..]).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(&sample(2000)[1000..])).await.unwrap();
    writer.commit(sha256(sample(2000))).await.unwrap();
}

#[tokio::test]
async fn an_abandoned_writer_saves_what_it_has() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(sample(600_000))).await.unwrap();
    writer.write(Bytes::from_static(b"tail")).await.unwrap();
    drop(writer);
    let writer = loop {
        match push.upload_writer(id).await {
            Ok(writer) => break writer,
            Err(StoreError::Busy) => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(writer.offset(), 600_004);
    let whole = [sample(600_000), b"tail"].concat();
    writer.commit(sha256(&whole)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_digest_stores_nothing() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(b"content")).await.unwrap();
    let expected = sha256(b"other");
    assert_err!(
        writer.commit(expected).await,
        StoreError::DigestMismatch { actual, .. } if *actual == sha256(b"content")
    );
    assert_eq!(push.upload(id).await.unwrap(), None);
    for digest in [expected, sha256(b"content")] {
        assert_err!(push.stat_blob(&digest).await, StoreError::NotFound(Missing::Blob));
    }
    assert_eq!(bench.blob_files(), 0);
}

#[tokio::test]
async fn any_algorithm_may_close_an_upload() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    for (algorithm, digest) in [
        (Algorithm::Sha256, sha256(b"")),
        (Algorithm::Sha512, sha512(b"content")),
        (Algorithm::Sha256, sha512(b"other")),
        (Algorithm::Sha512, sha256(b"content")),
    ] {
        let content: &[u8] = match digest {
            digest if digest == sha256(b"") => b"",
            digest if digest == sha512(b"other") => b"other",
            _ => b"content",
        };
        let id = push.start_upload(algorithm).await.unwrap().id;
        let mut writer = push.upload_writer(id).await.unwrap();
        writer.write(Bytes::from_static(content)).await.unwrap();
        writer.commit(digest).await.unwrap();
        assert_eq!(read_all(&push, &digest).await.unwrap(), content);
    }
}

#[tokio::test]
async fn the_same_content_is_kept_once() {
    let bench = Bench::new().await;
    let digest = put_blob(&bench.push("app"), b"layer").await;
    for name in ["app", "other"] {
        put_blob(&bench.push(name), b"layer").await;
        assert_eq!(bench.blob_files(), 1);
        assert_eq!(read_all(&bench.push(name), &digest).await.unwrap(), "layer");
    }
}

#[tokio::test]
async fn an_upload_belongs_to_registry_repository_and_holder() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    let other_caller = permit_of(Caller::RepositoryToken("other".into()), 1, OperationKind::PushBlob, "app");
    for stranger in
        [permit(1, OperationKind::PushBlob, "other"), permit(2, OperationKind::PushBlob, "app"), other_caller]
    {
        let stranger = bench.store.repository(&stranger).unwrap();
        assert_eq!(stranger.upload(id).await.unwrap(), None);
        assert_err!(stranger.upload_writer(id).await, StoreError::NotFound(Missing::Upload));
        assert_err!(stranger.cancel_upload(id).await, StoreError::NotFound(Missing::Upload));
    }
    let writer = push.upload_writer(id).await.unwrap();
    assert_err!(push.upload_writer(id).await, StoreError::Busy);
    assert_err!(push.cancel_upload(id).await, StoreError::Busy);
    writer.pause().await.unwrap();
    push.cancel_upload(id).await.unwrap();
    assert_err!(push.upload_writer(id).await, StoreError::NotFound(Missing::Upload));
    assert_eq!(bench.blob_files(), 0);
}

#[tokio::test]
async fn limits_hold_at_the_edge_and_not_past_it() {
    let bench = Bench::with(|options| {
        options.max_blob_bytes = 10;
        options.max_uploads_per_holder = 2;
    })
    .await;
    let push = bench.push("app");
    put_blob(&push, b"0123456789").await;
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(b"0123456789")).await.unwrap();
    assert_err!(writer.write(Bytes::from_static(b"x")).await, StoreError::TooLarge { limit_bytes: 10 });
    assert_eq!(push.upload(id).await.unwrap(), None);

    push.start_upload(Algorithm::Sha256).await.unwrap();
    let second = push.start_upload(Algorithm::Sha256).await.unwrap();
    assert_err!(push.start_upload(Algorithm::Sha256).await, StoreError::TooManyUploads { limit: 2 });
    push.cancel_upload(second.id).await.unwrap();
    push.start_upload(Algorithm::Sha256).await.unwrap();
}

#[tokio::test]
async fn a_holder_has_so_many_bytes_open_and_no_more() {
    let bench = Bench::with(|options| options.max_open_upload_bytes_per_holder = 10).await;
    let push = bench.push("app");
    let begin = async |repository: &Repository, bytes: &'static [u8]| {
        let id = repository.start_upload(Algorithm::Sha256).await.unwrap().id;
        let mut writer = repository.upload_writer(id).await.unwrap();
        writer.write(Bytes::from_static(bytes)).await.unwrap();
        writer
    };
    let refused = |outcome| assert_err!(outcome, StoreError::TooManyUploadBytes { limit_bytes: 10 });
    // What is saved and what is being written count alike, in whichever repository.
    let saved = begin(&push, b"01234").await.pause().await.unwrap();
    let mut writing = begin(&bench.push("other"), b"56789").await;
    refused(writing.write(Bytes::from_static(b"x")).await);
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    refused(push.upload_writer(id).await.unwrap().write(Bytes::from_static(b"x")).await);
    // Another caller is not held up, and a registry is for itself.
    let other_caller = permit_of(Caller::RepositoryToken("other".into()), 1, OperationKind::PushBlob, "app");
    begin(&bench.store.repository(&other_caller).unwrap(), b"0123456789").await;
    // What is finished or given up counts no more; what was refused was kept as far as it had come.
    push.cancel_upload(saved.id).await.unwrap();
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(b"hello")).await.unwrap();
    refused(writer.write(Bytes::from_static(b"x")).await);
    assert_eq!(push.upload(id).await.unwrap().unwrap().offset, 5);
    push.upload_writer(id).await.unwrap().commit(sha256(b"hello")).await.unwrap();
    put_blob(&push, b"01234").await;
    assert!(push.inner.unsaved_bytes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_lost_file_drops_its_upload() {
    let bench = Bench::new().await;
    let push = bench.push("app");
    let id = push.start_upload(Algorithm::Sha256).await.unwrap().id;
    let mut writer = push.upload_writer(id).await.unwrap();
    writer.write(Bytes::from_static(b"bytes")).await.unwrap();
    writer.pause().await.unwrap();
    for shard in std::fs::read_dir(bench.path("blobs")).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    assert_err!(push.upload_writer(id).await, StoreError::NotFound(Missing::Upload));
    assert_eq!(push.upload(id).await.unwrap(), None);
    let _: Digest = put_blob(&push, b"bytes").await;
}

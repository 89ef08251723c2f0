use super::*;

fn location(answer: &Answer) -> String {
    answer.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn a_blob_goes_up_in_every_way_and_comes_down() {
    let bench = Bench::new().await;
    let bytes = b"0123456789".to_vec();
    let digest = digest_of(&bytes, Algorithm::Sha256);

    // In one POST.
    let answer = bench
        .request("POST", &format!("/v2/one/blobs/uploads/?digest={digest}"))
        .body(bytes.clone())
        .expect(201, "")
        .await;
    assert_eq!(answer.header("location"), Some(&*format!("/v2/one/blobs/{digest}")));
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest.to_string()));

    // POST, one PATCH without a range, PUT: the way of docker, podman and buildah.
    let answer = bench.request("POST", "/v2/two/blobs/uploads/").expect(202, "").await;
    assert_eq!(answer.header("range"), Some("0-0"));
    let upload = location(&answer);
    assert!(upload.ends_with(answer.header("docker-upload-uuid").unwrap()));
    let answer = bench.request("PATCH", &upload).body(bytes.clone()).expect(202, "").await;
    assert_eq!(answer.header("range"), Some("0-9"));
    bench.request("PUT", &format!("{}?digest={digest}", location(&answer))).expect(201, "").await;

    // POST, then PUT with everything.
    let upload = location(&bench.request("POST", "/v2/three/blobs/uploads/").expect(202, "").await);
    bench.request("PUT", &format!("{upload}?digest={digest}")).body(bytes.clone()).expect(201, "").await;
    bench.request("PUT", &format!("{upload}?digest={digest}")).expect(404, "BLOB_UPLOAD_UNKNOWN").await;

    for repository in ["one", "two", "three"] {
        let target = format!("/v2/{repository}/blobs/{digest}");
        let answer = bench.request("GET", &target).expect(200, "").await;
        assert_eq!(answer.body, bytes);
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest.to_string()));
        assert_eq!(answer.header("etag"), Some(&*format!("\"{digest}\"")));
        let answer = bench.request("HEAD", &target).expect(200, "").await;
        assert_eq!((answer.header("content-length"), answer.body.len()), (Some("10"), 0));
    }
    // A blob is seen only through a repository that links it.
    bench.request("GET", &format!("/v2/four/blobs/{digest}")).expect(404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn chunks_resume_and_cancel() {
    let bench = Bench::new().await;
    let digest = digest_of(b"hello world", Algorithm::Sha256);
    let upload = location(&bench.request("POST", "/v2/app/blobs/uploads/").expect(202, "").await);
    let patch = |range: &str, bytes: &str| {
        bench.request("PATCH", &upload).header("content-range", range).body(bytes.to_owned())
    };
    patch("0-5", "hello ").expect(202, "").await;
    for (range, bytes, status, code) in [
        ("0-5", "hello ", 416, "BLOB_UPLOAD_INVALID"),
        ("7-8", "or", 416, "BLOB_UPLOAD_INVALID"),
        ("bytes 6-7/11", "wo", 416, "BLOB_UPLOAD_INVALID"),
        ("6-9", "world", 400, "SIZE_INVALID"),
    ] {
        let answer = patch(range, bytes).expect(status, code).await;
        assert_eq!((answer.header("range"), answer.header("location")), (Some("0-5"), Some(&*upload)), "{range}");
    }
    let answer = bench.request("GET", &upload).expect(204, "").await;
    assert_eq!(answer.header("range"), Some("0-5"));
    patch("6-8", "wor").header("content-length", "3").expect(202, "").await;
    patch("9-10", "ld").header("content-length", "5").expect(400, "SIZE_INVALID").await;
    let finish = format!("{upload}?digest={digest}");
    bench.request("PUT", &finish).header("content-range", "9-10").body("ld").expect(201, "").await;
    assert_eq!(bench.request("GET", &format!("/v2/app/blobs/{digest}")).expect(200, "").await.body, "hello world");

    // Uploads belong to a repository and a caller.
    let upload = location(&bench.request("POST", "/v2/app/blobs/uploads/").expect(202, "").await);
    bench.request("GET", &upload.replace("/v2/app/", "/v2/other/")).expect(404, "BLOB_UPLOAD_UNKNOWN").await;
    bench.request("GET", &upload).basic("reader", PASSWORD).expect(403, "DENIED").await;
    bench.request("DELETE", &upload).expect(204, "").await;
    bench.request("DELETE", &upload).expect(404, "BLOB_UPLOAD_UNKNOWN").await;
    bench.request("PATCH", &upload).body("x").expect(404, "BLOB_UPLOAD_UNKNOWN").await;
}

#[tokio::test]
async fn wrong_digests_and_other_algorithms() {
    let bench = Bench::new().await;
    let wrong = digest_of(b"other", Algorithm::Sha256);
    bench
        .request("POST", &format!("/v2/app/blobs/uploads/?digest={wrong}"))
        .body("bytes")
        .expect(400, "DIGEST_INVALID")
        .await;
    let upload = location(&bench.request("POST", "/v2/app/blobs/uploads/").expect(202, "").await);
    bench.request("PUT", &format!("{upload}?digest={wrong}")).body("bytes").expect(400, "DIGEST_INVALID").await;
    bench.request("GET", &format!("/v2/app/blobs/{wrong}")).expect(404, "BLOB_UNKNOWN").await;
    bench.request("GET", &upload).expect(404, "BLOB_UPLOAD_UNKNOWN").await;

    let long = digest_of(b"bytes", Algorithm::Sha512);
    for start in ["/v2/app/blobs/uploads/?digest-algorithm=sha512", "/v2/app/blobs/uploads/"] {
        let upload = location(&bench.request("POST", start).expect(202, "").await);
        bench.request("PUT", &format!("{upload}?digest={long}")).body("bytes").expect(201, "").await;
    }
    assert_eq!(bench.request("GET", &format!("/v2/app/blobs/{long}")).expect(200, "").await.body, "bytes");
}

#[tokio::test]
async fn ranges_and_conditions() {
    let bench = Bench::new().await;
    let digest = bench.push_blob("app", b"0123456789").await;
    let target = format!("/v2/app/blobs/{digest}");
    let (tag, other) = (format!("\"{digest}\""), "\"other\"");
    for (header, value, status, body, range) in [
        ("range", "bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("range", "bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("range", "bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("range", "bytes=5-500", 206, "56789", Some("bytes 5-9/10")),
        ("range", "bytes=0-1,4-5", 200, "0123456789", None),
        ("range", "lines=1-2", 200, "0123456789", None),
        ("if-none-match", tag.as_str(), 304, "", None),
        ("if-none-match", other, 200, "0123456789", None),
    ] {
        let answer = bench.request("GET", &target).header(header, value).expect(status, "").await;
        assert_eq!((answer.text().as_str(), answer.header("content-range")), (body, range), "{value}");
    }
    let answer = bench.request("GET", &target).header("range", "bytes=10-").expect(416, "RANGE_INVALID").await;
    assert_eq!(answer.header("content-range"), Some("bytes */10"));
    for (condition, status) in [(tag.as_str(), 206), (other, 200)] {
        bench
            .request("GET", &target)
            .header("range", "bytes=0-0")
            .header("if-range", condition)
            .expect(status, "")
            .await;
    }
    bench.request("HEAD", &target).header("if-none-match", &tag).expect(304, "").await;
}

#[tokio::test]
async fn mounts_fall_back_without_a_word() {
    let bench = Bench::new().await;
    let digest = bench.push_blob("base", b"layer").await;
    let absent = digest_of(b"absent", Algorithm::Sha256);
    let mounted =
        bench.request("POST", &format!("/v2/app/blobs/uploads/?mount={digest}&from=base")).expect(201, "").await;
    assert_eq!(mounted.header("location"), Some(&*format!("/v2/app/blobs/{digest}")));
    bench.request("GET", &format!("/v2/app/blobs/{digest}")).expect(200, "").await;
    for query in [
        format!("mount={absent}&from=base"),
        format!("mount={digest}&from=nowhere"),
        format!("mount={digest}"),
        format!("mount={digest}&from=BAD"),
    ] {
        let answer = bench.request("POST", &format!("/v2/new/blobs/uploads/?{query}")).expect(202, "").await;
        assert!(answer.header("location").is_some());
    }
    // A token for one repository reads no other one.
    let token = bench.access_token("contoso", "repository:secret:pull,push").await;
    bench
        .request("POST", &format!("/v2/secret/blobs/uploads/?mount={digest}&from=base"))
        .bearer(&token)
        .expect(202, "")
        .await;
}

#[tokio::test]
async fn blobs_are_deleted_unless_needed() {
    let bench = Bench::new().await;
    let digest = bench.push_blob("app", b"loose").await;
    bench.request("DELETE", &format!("/v2/app/blobs/{digest}")).expect(202, "").await;
    bench.request("DELETE", &format!("/v2/app/blobs/{digest}")).expect(404, "BLOB_UNKNOWN").await;
    bench.push_image("app", "1.0", "layer", json!({})).await;
    let layer = digest_of(b"layer", Algorithm::Sha256);
    bench.request("DELETE", &format!("/v2/app/blobs/{layer}")).expect(405, "UNSUPPORTED").await;
    bench.request("GET", &format!("/v2/app/blobs/{layer}")).expect(200, "").await;
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_again() {
    let bench = Bench::new().await;
    let digest = digest_of(b"hello world", Algorithm::Sha256);
    let upload = location(&bench.request("POST", "/v2/app/blobs/uploads/").expect(202, "").await);
    let broken = futures_util::stream::iter([Ok("hello "), Err(std::io::Error::other("connection reset"))]);
    let answer = bench.request("PATCH", &upload).body(Body::from_stream(broken)).expect(400, "SIZE_INVALID").await;
    assert_eq!(answer.header("range"), Some("0-5"));
    let answer = bench.request("GET", &upload).expect(204, "").await;
    assert_eq!(answer.header("range"), Some("0-5"));
    bench.request("PATCH", &upload).header("content-range", "6-10").body("world").expect(202, "").await;
    bench.request("PUT", &format!("{upload}?digest={digest}")).expect(201, "").await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_record_and_its_progress() {
    let bench = Bench::new().await;
    let upload = location(&bench.request("POST", "/v2/app/blobs/uploads/").expect(202, "").await);
    let (ask, asked_for_more) = tokio::sync::oneshot::channel();
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>("hello ")]);
    let nothing = futures_util::stream::once(async move {
        ask.send(()).unwrap();
        std::future::pending().await
    });
    let endless = futures_util::StreamExt::chain(first, nothing);
    tokio::select! {
        answer = bench.request("PATCH", &upload).body(Body::from_stream(endless)).send() => panic!("{}", answer.status),
        asked = asked_for_more => asked.unwrap(),
    }
    // The next attempt waits for what the broken one had in hand.
    bench.request("PATCH", &upload).header("content-range", "6-10").body("world").expect(202, "").await;
    let uid = bench.directory.registry_by_id(&CONTOSO.parse().unwrap()).unwrap().uid;
    let statuses: Vec<Value> = bench
        .audit
        .newest(uid, 10)
        .await
        .unwrap()
        .iter()
        .map(|record| serde_json::from_str::<Value>(record).unwrap()["status"].clone())
        .collect();
    assert!(statuses.contains(&json!(499)), "{statuses:?}");
}

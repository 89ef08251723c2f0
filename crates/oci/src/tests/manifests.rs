use super::*;

#[tokio::test]
async fn an_image_is_pushed_and_pulled_byte_for_byte() {
    let bench = Bench::new().await;
    let (digest, bytes) = bench.push_image("team/app", "1.0", "layer", json!({"unknownField": [1, 2]})).await;
    for reference in ["1.0".to_owned(), digest.to_string()] {
        for name in ["team/app", "team%2Fapp"] {
            let target = format!("/v2/{name}/manifests/{reference}");
            let answer = bench.request("GET", &target).expect(200, "").await;
            assert_eq!(answer.body, bytes);
            assert_eq!(answer.header("content-type"), Some(IMAGE));
            assert_eq!(answer.header("docker-content-digest"), Some(&*digest.to_string()));
            let answer = bench.request("HEAD", &target).expect(200, "").await;
            assert_eq!(answer.header("content-length"), Some(&*bytes.len().to_string()));
            assert_eq!((answer.header("content-type"), answer.body.len()), (Some(IMAGE), 0));
            let known =
                bench.request("GET", &target).header("if-none-match", format!("\"{digest}\"")).expect(304, "").await;
            assert!(known.body.is_empty());
        }
    }
    let again = bench
        .request("PUT", "/v2/team/app/manifests/2.0")
        .header("content-type", IMAGE)
        .body(bytes)
        .expect(201, "")
        .await;
    assert_eq!(again.header("location"), Some(&*format!("/v2/team/app/manifests/{digest}")));
    let tags = bench.request("GET", "/v2/team/app/tags/list").expect(200, "").await.json();
    assert_eq!(tags, json!({"name": "team/app", "tags": ["1.0", "2.0"]}));
}

#[tokio::test]
async fn bad_manifests_are_refused_and_nothing_is_stored() {
    let bench = Bench::new().await;
    let put = |reference: &str, content_type: &str, body: String| {
        bench.request("PUT", &format!("/v2/app/manifests/{reference}")).header("content-type", content_type).body(body)
    };
    let blob = |size: u64| json!({"mediaType": "a/b", "digest": digest_of(b"absent", Algorithm::Sha256).to_string(), "size": size});
    let image = json!({"schemaVersion": 2, "config": blob(1), "layers": []}).to_string();
    let answer = put("1.0", IMAGE, image.clone()).expect(404, "MANIFEST_BLOB_UNKNOWN").await;
    assert_eq!(answer.json()["errors"][0]["detail"]["digests"][0], digest_of(b"absent", Algorithm::Sha256).to_string());
    put("1.0", IMAGE, "{".into()).expect(400, "MANIFEST_INVALID").await;
    put("1.0", IMAGE, String::new()).expect(400, "MANIFEST_INVALID").await;
    put("1.0", "application/json", image.clone()).expect(400, "MANIFEST_INVALID").await;
    put("1.0", INDEX, image.clone()).expect(400, "MANIFEST_INVALID").await;
    bench.request("PUT", "/v2/app/manifests/1.0").body(image.clone()).expect(400, "MANIFEST_INVALID").await;
    put(&digest_of(b"x", Algorithm::Sha256).to_string(), IMAGE, image).expect(400, "DIGEST_INVALID").await;
    put("-bad", IMAGE, "{}".into()).expect(400, "TAG_INVALID").await;
    put("1.0", IMAGE, " ".repeat((4 << 20) + 1)).expect(413, "SIZE_INVALID").await;
    put("1.0", IMAGE, "x".into()).header("content-length", "5000000").expect(413, "SIZE_INVALID").await;
    bench.request("GET", "/v2/app/manifests/1.0").expect(404, "NAME_UNKNOWN").await;
    bench.request("GET", "/v2/app/tags/list").expect(404, "NAME_UNKNOWN").await;
    let catalog = bench.request("GET", "/v2/_catalog").expect(200, "").await.json();
    assert_eq!(catalog, json!({"repositories": []}));
}

#[tokio::test]
async fn a_manifest_of_exactly_the_limit_is_taken() {
    let bench = Bench::new().await;
    let empty = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let body = format!("{empty}{}", " ".repeat((4 << 20) - empty.len()));
    let put = bench.request("PUT", "/v2/app/manifests/big").header("content-type", INDEX).body(body);
    put.expect(201, "").await;
}

#[tokio::test]
async fn a_push_by_digest_may_name_tags() {
    let bench = Bench::new().await;
    let body = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let digest = digest_of(body.as_bytes(), Algorithm::Sha512);
    let put = |tags: &str| {
        bench
            .request("PUT", &format!("/v2/app/manifests/{digest}?{tags}"))
            .header("content-type", INDEX)
            .body(body.clone())
    };
    let answer = put("tag=a&tag=b").expect(201, "").await;
    let tags: Vec<_> = answer.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!(tags, ["a", "b"]);
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest.to_string()));
    put("tag=1&tag=2&tag=3&tag=4&tag=5&tag=6&tag=7&tag=8&tag=9&tag=10").expect(201, "").await;
    put("tag=1&tag=2&tag=3&tag=4&tag=5&tag=6&tag=7&tag=8&tag=9&tag=10&tag=11").expect(414, "TAG_INVALID").await;
    put("tag=.bad").expect(400, "TAG_INVALID").await;
    let pulled = bench.request("GET", "/v2/app/manifests/b").expect(200, "").await;
    assert_eq!((pulled.header("docker-content-digest"), pulled.text()), (Some(&*digest.to_string()), body.clone()));
}

#[tokio::test]
async fn untag_keeps_the_manifest_and_delete_takes_all() {
    let bench = Bench::new().await;
    let (digest, bytes) = bench.push_image("app", "1.0", "layer", json!({})).await;
    bench.request("PUT", "/v2/app/manifests/2.0").header("content-type", IMAGE).body(bytes).expect(201, "").await;
    bench.request("DELETE", "/v2/app/manifests/1.0").expect(202, "").await;
    bench.request("DELETE", "/v2/app/manifests/1.0").expect(404, "TAG_UNKNOWN").await;
    bench.request("GET", "/v2/app/manifests/1.0").expect(404, "MANIFEST_UNKNOWN").await;
    bench.request("GET", &format!("/v2/app/manifests/{digest}")).expect(200, "").await;
    bench.request("DELETE", &format!("/v2/app/manifests/{digest}")).expect(202, "").await;
    bench.request("DELETE", &format!("/v2/app/manifests/{digest}")).expect(404, "MANIFEST_UNKNOWN").await;
    bench.request("GET", "/v2/app/manifests/2.0").expect(404, "NAME_UNKNOWN").await;
    bench.request("GET", "/v2/app/manifests/.INVALID_MANIFEST_NAME").expect(404, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn referrers_of_present_and_absent_subjects() {
    let bench = Bench::new().await;
    let absent = digest_of(b"absent", Algorithm::Sha256);
    let answer = bench.request("GET", &format!("/v2/app/referrers/{absent}")).expect(200, "").await;
    assert_eq!(answer.header("content-type"), Some(INDEX));
    assert_eq!(answer.json()["manifests"], json!([]));

    let (subject, bytes) = bench.push_image("app", "1.0", "layer", json!({})).await;
    let subject_field = json!({"mediaType": IMAGE, "digest": subject.to_string(), "size": bytes.len()});
    let sbom =
        json!({"subject": subject_field, "artifactType": "application/vnd.example.sbom", "annotations": {"k": "v"}});
    let (sbom_digest, sbom_bytes) = bench.push_image("app", "sbom", "sbom", sbom).await;
    let plain = json!({"subject": subject_field});
    bench.push_image("app", "plain", "plain", plain).await;
    let index = json!({"schemaVersion": 2, "manifests": [], "subject": subject_field}).to_string();
    let put = bench.request("PUT", "/v2/app/manifests/index").header("content-type", INDEX).body(index);
    assert_eq!(put.expect(201, "").await.header("oci-subject"), Some(&*subject.to_string()));

    let target = format!("/v2/app/referrers/{subject}");
    let all = bench.request("GET", &target).expect(200, "").await;
    assert_eq!((all.header("oci-filters-applied"), all.header("link")), (None, None));
    let mut types: Vec<String> = all.json()["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["artifactType"].as_str().unwrap_or("none").to_owned())
        .collect();
    types.sort();
    assert_eq!(types, ["application/vnd.example.sbom", "application/vnd.oci.image.config.v1+json", "none"]);

    let some =
        bench.request("GET", &format!("{target}?artifactType=application%2Fvnd.example.sbom")).expect(200, "").await;
    assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(
        some.json()["manifests"],
        json!([{
            "mediaType": IMAGE, "digest": sbom_digest.to_string(), "size": sbom_bytes.len(),
            "artifactType": "application/vnd.example.sbom", "annotations": {"k": "v"},
        }])
    );
    // Page by page, the list is the same.
    let (mut next, mut seen) = (Some(format!("{target}?n=1")), 0);
    while let Some(page) = next {
        let answer = bench.request("GET", &page).expect(200, "").await;
        seen += answer.json()["manifests"].as_array().unwrap().len();
        next = answer.header("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
    }
    assert_eq!(seen, 3);
    bench.request("GET", &format!("{target}?n=1&last=x")).expect(400, "BAD_REQUEST").await;
    // What refers to a manifest goes with it.
    bench.request("DELETE", &format!("/v2/app/manifests/{subject}")).expect(202, "").await;
    bench.request("GET", "/v2/app/manifests/sbom").expect(404, "NAME_UNKNOWN").await;
}

use super::*;

fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    Some(target.to_owned())
}

/// Every page of a list, by its `Link`s.
async fn pages(bench: &Bench, target: &str, list: &str, field: Option<&str>) -> Vec<Vec<String>> {
    let (mut pages, mut target) = (Vec::new(), Some(target.to_owned()));
    while let Some(page) = target {
        let answer = bench.request("GET", &page).expect(200, "").await;
        let items = answer.json()[list].as_array().unwrap().clone();
        let text = |item: &Value| field.map_or(item, |field| &item[field]).as_str().unwrap().to_owned();
        pages.push(items.iter().map(text).collect());
        target = next(&answer);
    }
    pages
}

#[tokio::test]
async fn lists_are_paged() {
    let bench = Bench::new().await;
    for tag in ["c", "a", "b"] {
        bench.push_image("team/app", tag, tag, json!({})).await;
    }
    bench.push_image("zeta", "1", "z", json!({})).await;
    bench.push_image("alpha", "1", "a", json!({})).await;

    assert_eq!(pages(&bench, "/v2/team/app/tags/list?n=2", "tags", None).await, [vec!["a", "b"], vec!["c"]]);
    assert_eq!(pages(&bench, "/v2/team/app/tags/list", "tags", None).await, [vec!["a", "b", "c"]]);
    assert_eq!(pages(&bench, "/v2/team/app/tags/list?n=3", "tags", None).await, [vec!["a", "b", "c"]]);
    assert_eq!(pages(&bench, "/v2/team/app/tags/list?last=a", "tags", None).await, [vec!["b", "c"]]);
    assert_eq!(pages(&bench, "/v2/team/app/tags/list?n=0", "tags", None).await, [Vec::<String>::new()]);
    bench.request("GET", "/v2/team/app/tags/list?n=x").expect(400, "PAGINATION_NUMBER_INVALID").await;

    for catalog in ["/v2/_catalog?n=2", "/acr/v1/_catalog?n=2"] {
        assert_eq!(pages(&bench, catalog, "repositories", None).await, [vec!["alpha", "team/app"], vec!["zeta"]]);
        let answer = bench.request("GET", catalog).expect(200, "").await;
        let path = catalog.split('?').next().unwrap();
        assert_eq!(answer.header("link"), Some(&*format!("<{path}?last=team/app&n=2>; rel=\"next\"")));
    }

    let newest = pages(&bench, "/acr/v1/team%2Fapp/_tags?n=2&orderby=timedesc", "tags", Some("name")).await;
    assert_eq!(newest, [vec!["b", "a"], vec!["c"]]);
    let oldest = pages(&bench, "/acr/v1/team/app/_tags?n=1&orderby=timeasc", "tags", Some("name")).await;
    assert_eq!(oldest, [vec!["c"], vec!["a"], vec!["b"]]);
    let manifests =
        pages(&bench, "/acr/v1/team/app/_manifests?n=2&orderby=timedesc", "manifests", Some("digest")).await;
    assert_eq!(manifests.concat().len(), 3);
    bench.request("GET", "/acr/v1/team/app/_tags?orderby=timedesc&last=never~x").expect(400, "BAD_REQUEST").await;

    // The registry's own tool asks behind the last one, until there is no list, and takes the last one of every list.
    let behind = format!("/acr/v1/team/app/_manifests?n=100&orderby=&last=sha256:{}", "f".repeat(64));
    for (path, key) in [("/acr/v1/team/app/_tags?n=100&orderby=&last=c", "tags"), (&behind, "manifests")] {
        let answer = bench.request("GET", path).expect(200, "").await.json();
        assert_eq!(answer.get(key), Some(&Value::Null), "{path}: {answer}");
    }
}

#[tokio::test]
async fn objects_are_those_of_the_repository_api() {
    let bench = Bench::new().await;
    let (digest, _) = bench.push_image("team/app", "1.0", "layer", json!({})).await;
    let child = json!({"mediaType": IMAGE, "digest": digest.to_string(), "size": 1, "platform": {"architecture": "arm64", "os": "linux"}});
    let index = json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    bench
        .request("PUT", "/v2/team/app/manifests/multi")
        .header("content-type", INDEX)
        .body(index.clone())
        .expect(201, "")
        .await;
    let open = json!({"deleteEnabled": true, "writeEnabled": true, "readEnabled": true, "listEnabled": true});

    let repository = bench.request("GET", "/acr/v1/team%2Fapp").expect(200, "").await.json();
    assert_eq!((&repository["registry"], &repository["imageName"]), (&json!(HOST), &json!("team/app")));
    assert_eq!((&repository["manifestCount"], &repository["tagCount"]), (&json!(2), &json!(2)));
    assert_eq!(repository["changeableAttributes"], open);
    let created = repository["createdTime"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.len() == "2021-09-01T12:34:56.1234567Z".len(), "{created}");

    let tag = bench.request("GET", "/acr/v1/team/app/_tags/1.0").expect(200, "").await.json();
    assert_eq!((&tag["registry"], &tag["imageName"]), (&json!(HOST), &json!("team/app")));
    assert_eq!(
        (&tag["tag"]["name"], &tag["tag"]["digest"], &tag["tag"]["signed"]),
        (&json!("1.0"), &json!(digest.to_string()), &json!(false))
    );
    assert_eq!(tag["tag"]["changeableAttributes"], open);

    let manifest = bench.request("GET", &format!("/acr/v1/team/app/_manifests/{digest}")).expect(200, "").await.json();
    let manifest = &manifest["manifest"];
    assert_eq!(
        (&manifest["architecture"], &manifest["os"]),
        (&json!("arm64"), &json!("linux")),
        "read from the config"
    );
    assert_eq!((&manifest["mediaType"], &manifest["tags"]), (&json!(IMAGE), &json!(["1.0"])));
    assert_eq!(manifest["imageSize"], json!(r#"{"architecture":"arm64","os":"linux"}"#.len() + "layer".len()));
    assert!(manifest.get("references").is_none());

    let target = format!("/acr/v1/team/app/_manifests/{}", digest_of(index.as_bytes(), Algorithm::Sha256));
    let manifest = bench.request("GET", &target).expect(200, "").await.json();
    assert_eq!(
        manifest["manifest"]["references"],
        json!([{"digest": digest.to_string(), "architecture": "arm64", "os": "linux"}])
    );
    assert!(manifest["manifest"].get("architecture").is_none());

    let of_digest =
        bench.request("GET", &format!("/acr/v1/team/app/_tags?digest={digest}")).expect(200, "").await.json();
    assert_eq!(of_digest["tags"].as_array().unwrap().len(), 1);

    bench.request("GET", "/acr/v1/nothing").expect(404, "NAME_UNKNOWN").await;
    bench.request("GET", "/acr/v1/team/app/_tags/none").expect(404, "TAG_UNKNOWN").await;
    bench.request("DELETE", "/acr/v1/team/app/_tags/1.0").expect(202, "").await;
    let removed = bench.request("DELETE", "/acr/v1/team%2Fapp").expect(202, "").await.json();
    assert_eq!(
        (removed["manifestsDeleted"].as_array().unwrap().len(), &removed["tagsDeleted"]),
        (2, &json!(["multi"]))
    );
    bench.request("DELETE", "/acr/v1/team%2Fapp").expect(404, "NAME_UNKNOWN").await;
}

#[tokio::test]
async fn locks_refuse_and_are_recorded() {
    let bench = Bench::new().await;
    let (digest, bytes) = bench.push_image("app", "1.0", "layer", json!({})).await;
    let patch = |target: &str, body: &str| bench.request("PATCH", target).body(body.to_owned());

    let changed =
        patch("/acr/v1/app/_tags/1.0", r#"{"writeEnabled":false,"deleteEnabled":false}"#).expect(200, "").await;
    assert_eq!(changed.json()["tag"]["changeableAttributes"]["writeEnabled"], json!(false));
    let put = || bench.request("PUT", "/v2/app/manifests/1.0").header("content-type", IMAGE).body(bytes.clone());
    let answer = put().expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    let record = bench.record(&answer).await;
    assert_eq!(
        (&record["verdict"], &record["decidedBy"], &record["status"]),
        (&json!("deny"), &json!("content"), &json!(405))
    );
    bench.request("DELETE", "/acr/v1/app/_tags/1.0").expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    bench.request("DELETE", &format!("/v2/app/manifests/{digest}")).expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    patch("/acr/v1/app/_tags/1.0", r#"{"writeEnabled":true,"deleteEnabled":true}"#).expect(200, "").await;

    patch(&format!("/acr/v1/app/_manifests/{digest}"), r#"{"readEnabled":false}"#).expect(200, "").await;
    bench.request("GET", "/v2/app/manifests/1.0").expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    patch(&format!("/acr/v1/app/_manifests/{digest}"), r#"{"readEnabled":true}"#).expect(200, "").await;
    let answer = bench.request("GET", "/v2/app/manifests/1.0").expect(200, "").await;
    let record = bench.record(&answer).await;
    assert_eq!((&record["verdict"], &record["layers"][3]["outcome"]), (&json!("allow"), &json!("allowed")));

    patch("/acr/v1/app", r#"{"writeEnabled":false,"listEnabled":false}"#).expect(200, "").await;
    bench.request("POST", "/v2/app/blobs/uploads/").expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    let blob = digest_of(b"layer", Algorithm::Sha256);
    bench
        .request("POST", &format!("/v2/app/blobs/uploads/?mount={blob}&from=app"))
        .expect(405, "REGISTRY_DISALLOWED_OPERATION")
        .await;
    bench.request("DELETE", "/acr/v1/app").expect(405, "REGISTRY_DISALLOWED_OPERATION").await;
    assert_eq!(bench.request("GET", "/v2/_catalog").expect(200, "").await.json()["repositories"], json!([]));

    for body in [
        "",
        "[]",
        "{",
        r#"{"writeEnabled":"false"}"#,
        r#"{"writeEnabled":0}"#,
        r#"{"writeenabled":true}"#,
        r#"{"quarantineState":"Passed"}"#,
    ] {
        patch("/acr/v1/app", body).expect(400, "BAD_REQUEST").await;
    }
    patch("/acr/v1/app", &format!("{{{}}}", " ".repeat(16 << 10))).expect(413, "SIZE_INVALID").await;
    patch("/acr/v1/nothing", r#"{"writeEnabled":false}"#).expect(404, "NAME_UNKNOWN").await;
    patch("/acr/v1/app/_tags/none", r#"{"writeEnabled":false}"#).expect(404, "TAG_UNKNOWN").await;
}

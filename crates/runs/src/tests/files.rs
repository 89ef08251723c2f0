use super::*;

impl Bench {
    async fn put_file(&self, link: &str, more: &str, body: &[u8]) -> Answer {
        let request = Request::put(format!("{link}{more}"))
            .header("x-ms-blob-type", "BlockBlob")
            .header("content-length", body.len())
            .body(Body::from(body.to_vec()))
            .unwrap();
        self.send(&Who::Nobody, request).await
    }

    async fn get_log(&self, method: &str, link: &str, range: Option<&str>) -> Answer {
        let request = Request::builder().method(method).uri(link);
        let request = range.into_iter().fold(request, |request, range| request.header("x-ms-range", range));
        self.send(&Who::Nobody, request.body(Body::empty()).unwrap()).await
    }

    fn contexts(&self) -> usize {
        let folder = self.options.folder.join("runs/contexts").join(self.registry().uid.to_string());
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

#[tokio::test]
async fn uploads_are_what_a_worker_gets_and_go_with_the_run() {
    let bench = Bench::new().await;
    let registry = bench.registry().uid.into();
    let whole = bench.runs.upload_target(registry);
    let answer = bench.put_file(&whole.link, "", b"archive").await.is(201);
    assert!(answer.headers.contains_key("etag") && answer.headers.contains_key("last-modified"));

    let blocks = bench.runs.upload_target(registry);
    bench.put_file(&blocks.link, "&comp=block&blockid=Qg%3D%3D", b"two").await.is(201);
    bench.put_file(&blocks.link, "&comp=block&blockid=QQ%3D%3D", b"one").await.is(201);
    let missing = b"<BlockList><Latest>QQ==</Latest><Latest>Qw==</Latest></BlockList>";
    assert!(bench.put_file(&blocks.link, "&comp=blocklist", missing).await.is(400).text().contains("InvalidBlockList"));
    let list = b"<?xml version='1.0'?><BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest></BlockList>";
    bench.put_file(&blocks.link, "&comp=blocklist", list).await.is(201);
    assert_eq!(bench.contexts(), 2);

    for (target, content) in [(whole, "archive"), (blocks, "onetwo")] {
        let mut body = quick(&json!([]));
        body["sourceLocation"] = target.relative_path.into();
        bench.ask(body).await.unwrap();
        let leased = bench.lease(&Who::Shared).await.unwrap();
        assert_eq!(leased["order"]["source"], json!({"type": "uploaded"}));
        let lease = lease_of(&leased);
        let source = Request::get(format!("/postern/v1/agent/runs/{lease}/source")).body(Body::empty()).unwrap();
        let source = bench.send(&Who::Shared, source).await.is(200);
        assert_eq!(
            (source.text(), &source.headers["content-length"]),
            (content, &content.len().to_string().parse().unwrap())
        );
        bench.end(&Who::Shared, &lease, report("Succeeded")).await.is(204);
    }
    assert_eq!(bench.contexts(), 0);
}

#[tokio::test]
async fn links_are_good_for_one_file_one_way_and_a_while() {
    let bench = Bench::new().await;
    let registry = bench.registry().uid.into();
    let (upload, other) = (bench.runs.upload_target(registry), bench.runs.upload_target(registry));
    let run = bench.quick(json!([])).await;
    let log = bench.runs.log_link(&run);
    let query = |link: &str| link.split_once('?').unwrap().1.to_owned();
    let path = |link: &str| link.split_once('?').unwrap().0.to_owned();
    for (link, status) in [
        (upload.link.clone(), 201),
        (path(&upload.link), 403),
        (format!("{}?{}", path(&upload.link), query(&other.link)), 403),
        (format!("{}?{}", path(&upload.link), query(&log)), 403),
        (upload.link.replace("sp=cw", "sp=r"), 403),
        (upload.link.replace("se=2026", "se=2027"), 403),
        (format!("{}x", upload.link), 403),
        (format!("{}&comp=other", upload.link), 400),
        (upload.link.replace("/source/", "/source/..%2f"), 403),
    ] {
        bench.put_file(&link, "", b"x").await.is(status);
    }
    let not_a_block = Request::put(&upload.link).header("content-length", 1).body(Body::from("x")).unwrap();
    bench.send(&Who::Nobody, not_a_block).await.is(400);
    let short = Request::put(&upload.link).header("x-ms-blob-type", "BlockBlob").header("content-length", 2);
    bench.send(&Who::Nobody, short.body(Body::from("x")).unwrap()).await.is(400);
    let long =
        Request::put(&upload.link).header("x-ms-blob-type", "BlockBlob").header("content-length", (64 << 20) + 1);
    bench.send(&Who::Nobody, long.body(Body::from("x")).unwrap()).await.is(413);
    let unsized_one = Request::put(&upload.link).header("x-ms-blob-type", "BlockBlob").body(Body::from("x")).unwrap();
    bench.send(&Who::Nobody, unsized_one).await.is(411);

    bench.get_log("GET", &log, None).await.is(200);
    bench.get_log("GET", &format!("{}?{}", path(&log), query(&upload.link)), None).await.is(403);
    bench.get_log("GET", &log.replace("ca1.log", "ca2.log"), None).await.is(403);
    bench.pass(75 * 60);
    assert!(bench.get_log("GET", &log, None).await.is(403).text().contains("expired"));
    bench.put_file(&upload.link, "", b"x").await.is(403);
}

#[tokio::test]
async fn logs_are_read_in_pieces() {
    let bench = Bench::new().await;
    let run = bench.quick(json!([])).await;
    let lease = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    let link = bench.runs.log_link(&run);
    assert_eq!(bench.get_log("HEAD", &link, None).await.is(200).headers["content-length"], "0");
    bench.get_log("GET", &link, Some("bytes=0-4095")).await.is(416);
    let text = (0..1000).fold(String::new(), |text, n| format!("{text}line {n}\r\n"));
    bench.log(&Who::Shared, &lease, 0, &text).await.is(204);
    let head = bench.get_log("HEAD", &link, None).await.is(200);
    assert_eq!(head.headers["content-length"], text.len().to_string().as_str());
    assert!(!head.headers.contains_key("x-ms-meta-complete") && head.headers.contains_key("last-modified"));
    let mut read = String::new();
    while read.len() < text.len() {
        let range = format!("bytes={}-{}", read.len(), read.len() + 4095);
        let part = bench.get_log("GET", &link, Some(&range)).await.is(206);
        let end = (read.len() + part.body.len() - 1).to_string();
        let expected = format!("bytes {}-{end}/{}", read.len(), text.len());
        assert_eq!(part.headers["content-range"], expected.as_str());
        read.push_str(part.text());
    }
    assert_eq!(read, text);
    bench.end(&Who::Shared, &lease, report("Timeout")).await.is(204);
    assert_eq!(bench.get_log("HEAD", &link, None).await.is(200).headers["x-ms-meta-complete"], "timedout");
}

#[tokio::test]
async fn logs_are_cut_off_and_expire() {
    let bench = Bench::new().await;
    let (run, kept) = (bench.quick(json!([])).await, bench.quick(json!([])).await);
    let lease = lease_of(&bench.lease(&Who::Shared).await.unwrap());
    let piece = ("x".repeat(1022) + "\r\n").repeat(4 << 10);
    assert_eq!(piece.len(), 4 << 20);
    for at in 0..17 {
        bench.log(&Who::Shared, &lease, at * piece.len(), &piece).await.is(204);
    }
    bench.end(&Who::Shared, &lease, report("Succeeded")).await.is(204);
    let link = bench.runs.log_link(&run);
    let length = 64 << 20;
    let head = bench.get_log("HEAD", &link, None).await.is(200);
    assert_eq!(head.headers["content-length"], (length + 62).to_string().as_str());
    let end = bench.get_log("GET", &link, Some(&format!("bytes={length}-"))).await.is(206);
    assert_eq!(end.text(), "\r\n[The log is larger than 64 MiB: what follows is not kept.]\r\n");

    bench.runs.cancel(&kept).await.unwrap();
    bench.store.runs().archive(kept.registry, kept.number, true).await.unwrap();
    let upload = bench.runs.upload_target(kept.registry);
    bench.put_file(&upload.link, "", b"x").await.is(201);
    bench.pass(30 * 24 * 3600);
    bench.runs.sweep().await.unwrap();
    assert_eq!(bench.contexts(), 0);
    assert!(bench.runs.find(run.registry, "ca1").await.unwrap().is_some());
    bench.pass(1);
    bench.runs.sweep().await.unwrap();
    assert!(bench.runs.find(run.registry, "ca1").await.unwrap().is_none());
    let (log, _) = bench.read(&bench.run("ca2").await).await;
    assert!(log.contains("it was canceled"));
    let folder = bench.options.folder.join("runs").join(run.registry.to_string());
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["ca2.log"]);
    // Its number is not given again.
    assert_eq!(bench.quick(json!([])).await.number.to_string(), "ca3");
}

//! Clients that are told to come back later wait, and go on: with a hundredth or so of the documented numbers of requests.

use std::time::Duration;

use postern_tests::{Command, Scratch, Server};

use crate::Bench;

/// Some of them wait for half a minute.
const LIMIT: Duration = Duration::from_mins(2);

/// A server that lets so many hundredths of the documented numbers through.
fn server(scratch: &Scratch, percent: u32) -> Server {
    let config = scratch.write("postern.toml", format!("[throttling]\nenabled = true\npercent = {percent}\n"));
    let config = config.to_str().expect("a path is text");
    Server::start_in(&scratch.join("data"), &["--config", config])
}

/// Whether the client came through, and what it said.
fn outcome(command: Command) -> (bool, String) {
    let outcome = command.limit(LIMIT).run();
    (outcome.code == Some(0), format!("{outcome}"))
}

#[test]
fn registry_clients_wait_for_their_turn() {
    let scratch = Scratch::new();
    let bench = Bench::on(server(&scratch, 1));
    bench.log_in();
    let (host, server) = (bench.localhost(), &bench.server);
    let bootstrap = server.bootstrap();
    let login = format!("{}:{}", bootstrap.client_id, bootstrap.client_secret);
    // A Premium registry lets an identity push 1 000 requests a minute: a hundredth of that is twenty at once, and one every three
    // seconds.
    let url = format!("https://{host}/v2/limit/blobs/uploads/");
    let post = |login: Option<&str>| {
        let options =
            ["--request", "POST", "--output", "/dev/null", "--write-out", "%{http_code} %header{retry-after}"];
        let user = login.iter().flat_map(|login| ["--user", login]);
        server.curl().args(options).args(user).arg(&url).stdout()
    };
    for _ in 0..30 {
        assert_eq!(post(None), "401 ", "who may not push takes nobody's turn");
    }
    let mut answers: Vec<String> = Vec::new();
    while !answers.last().is_some_and(|answer| answer.starts_with("429")) {
        assert!(answers.len() < 60, "nothing stops it: {answers:?}");
        answers.push(post(Some(&login)));
    }
    assert!(answers.len() > 20, "{answers:?}");
    assert!(["429 1", "429 2", "429 3"].contains(&answers.last().map_or("", String::as_str)), "{answers:?}");
    let body = server.curl().args(["--request", "POST", "--user", &login, &url]).run().succeeded().json();
    assert_eq!(body["errors"][0]["code"], "TOOMANYREQUESTS");

    // The bucket is empty now. Whoever has patience gets through.
    let folder = scratch.join("artifact");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::write(folder.join("note.txt"), "a note").expect("a file can be written");
    let push = ["push", &format!("{host}/oras:1"), "note.txt:text/plain"];
    let (pushed, shown) = outcome(bench.containers.oras().args(push).current_dir(&folder));
    assert!(pushed, "{shown}");
    let engine = bench.containers.engine();
    let archive = bench.containers.scratch().join("hello.tar");
    let target = format!("docker-archive:{}:hello:1", archive.display());
    let _ = bench.containers.skopeo().args(["copy", &bench.layout.reference("hello"), &target]).run().succeeded();
    let _ = engine.docker().args(["load", "--input"]).arg(&archive).run().succeeded();
    let image = format!("{host}/docker/hello:1");
    let _ = engine.docker().args(["tag", "hello:1", &image]).run().succeeded();
    let (pushed, shown) = outcome(engine.docker().args(["push", &image]));
    assert!(pushed, "{shown}");
}

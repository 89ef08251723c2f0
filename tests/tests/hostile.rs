//! Clients that want the server's time, memory or connections instead of its answers, and requests that two servers would read in
//! two ways.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test, also in what the tests share")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_tests::{Scratch, Server};
use sha2::{Digest as _, Sha256};

/// Longer than anything here takes that is not waited for without end.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    server: Server,
    scratch: Scratch,
}

impl Bench {
    fn with(limits: &str) -> Self {
        let scratch = Scratch::new();
        let config = scratch.write("postern.toml", format!("[limits]\n{limits}\n"));
        let config = config.to_str().expect("a path is text");
        let server = Server::start_in(&scratch.join("data"), &["--config", config]);
        Self { server, scratch }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
        stream
    }

    /// The administrator's login, as a header.
    fn authorization(&self) -> String {
        let bootstrap = self.server.bootstrap();
        format!(
            "Authorization: Basic {}",
            STANDARD.encode(format!("{}:{}", bootstrap.client_id, bootstrap.client_secret))
        )
    }

    /// Sends bytes as they are; gives all that comes back until the server closes.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that has heard enough may close before all is sent.
        let _ = stream.write_all(request);
        rest(&mut stream)
    }

    /// Status and `Retry-After` of a ping as this user, from an address of this machine.
    fn ping(&self, login: &str, from: &str) -> String {
        let url = format!("https://{}/v2/", self.server.registry_host("postern"));
        let options =
            ["--interface", from, "--output", "/dev/null", "--write-out", "%{http_code} %header{retry-after}"];
        self.server.curl().args(options).args(["--user", login, &url]).run().stdout.trim().to_owned()
    }

    fn login(&self) -> String {
        let bootstrap = self.server.bootstrap();
        format!("{}:{}", bootstrap.client_id, bootstrap.client_secret)
    }

    fn is_well(&self) {
        let ready = self.server.curl().arg(format!("{}/readyz", self.server.bootstrap().arm_endpoint)).stdout();
        assert_eq!(ready, "ready\n");
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
    }
}

/// All that comes until the end, whichever way it ends.
fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn passwords_cannot_be_guessed_for_long() {
    let bench = Bench::with("wrong_passwords_per_user = 3\nwrong_passwords_per_source = 5");
    let (here, there) = ("127.0.0.1", "127.0.0.2");
    for _ in 0..3 {
        assert_eq!(bench.ping("postern:wrong", here), "401");
    }
    let throttled = bench.ping("POSTERN:wrong", here);
    let (status, seconds) = throttled.split_once(' ').unwrap_or_else(|| panic!("no Retry-After: {throttled}"));
    assert!(status == "429" && (1..=60).contains(&seconds.parse::<u32>().expect("a number")), "{throttled}");
    // The token endpoint counts with it, as does any other name with any other password.
    let token = format!("https://{}/oauth2/token?scope=repository:a:pull", bench.server.registry_host("postern"));
    let options = ["--output", "/dev/null", "--write-out", "%{http_code}", "--user", "postern:wrong", &token];
    assert_eq!(bench.server.curl().args(options).run().stdout, "429");
    assert_eq!(bench.ping(&bench.login(), here), "200", "nobody else is held up yet");
    for _ in 0..2 {
        assert_eq!(bench.ping("somebody:wrong", here), "401");
    }
    assert!(bench.ping(&bench.login(), here).starts_with("429"), "now the source is");
    assert_eq!(bench.ping(&bench.login(), there), "200", "whoever calls from elsewhere is not");
    bench.is_well();
}

#[test]
fn bodies_that_do_not_come() {
    let bench = Bench::with("stall_seconds = 1");
    let authorization = bench.authorization();
    let registry = "/subscriptions/s/resourceGroups/g?api-version=2026-01-01-preview";
    let begun = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\nContent-Length: 100\r\n\r\nhello")
    };
    let answer = bench.raw(begun("POST", &format!("/v2/app/blobs/uploads/?digest={}", digest_of(b"x"))).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // A caller of the resource manager who is nobody is refused before the body.
    let answer = bench.raw(begun("PUT", registry).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    bench.is_well();
}

#[test]
fn slow_bodies_come_as_slowly_as_they_like() {
    let bench = Bench::with("stall_seconds = 1");
    let piece = vec![b'x'; 16 << 10];
    let whole = piece.repeat(8);
    let mut stream = bench.connect();
    write!(
        stream,
        "POST /v2/app/blobs/uploads/?digest={} HTTP/1.1\r\nHost: localhost\r\n{}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        digest_of(&whole),
        bench.authorization(),
        whole.len()
    )
    .expect("the server takes what is sent");
    let begun = Instant::now();
    for _ in 0..8 {
        sleep(Duration::from_millis(300));
        stream.write_all(&piece).expect("the server takes what is sent");
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "that was not slow");
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[test]
fn answers_that_are_not_taken() {
    let bench = Bench::with("idle_seconds = 1\n[log]\nfilter = 'postern=debug'");
    let bytes = vec![b'x'; 32 << 20];
    let digest = digest_of(&bytes);
    let file = bench.scratch.write("blob", &bytes);
    let url = format!("https://{}/v2/app/blobs/uploads/?digest={digest}", bench.server.registry_host("postern"));
    let upload = ["--fail", "--user", &bench.login(), "--data-binary", &format!("@{}", file.display()), &url];
    let _ = bench.server.curl().args(upload).run().succeeded();
    let mut stream = bench.connect();
    let request =
        format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", bench.authorization());
    stream.write_all(request.as_bytes()).expect("the server takes what is sent");
    let begun = Instant::now();
    while !bench.server.log().contains("nothing happened on the connection") {
        assert!(begun.elapsed() < PATIENCE, "the server waits for who does not read");
        sleep(Duration::from_millis(100));
    }
    let taken = rest(&mut stream);
    assert!(taken.starts_with("HTTP/1.1 200") && taken.len() < bytes.len(), "{} bytes came", taken.len());
    // Neither is a connection kept for nothing.
    let mut idle = bench.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server takes what is sent");
    assert!(rest(&mut idle).starts_with("HTTP/1.1 200"));
    bench.is_well();
}

#[test]
fn one_source_cannot_take_all_connections() {
    let bench = Bench::with("connections_per_source = 2");
    let (first, second) = (bench.connect(), bench.connect());
    assert_eq!(rest(&mut bench.connect()), "", "the third is closed");
    assert_eq!(bench.ping(&bench.login(), "127.0.0.2"), "200", "others are served");
    drop((first, second));
    let begun = Instant::now();
    while bench.ping(&bench.login(), "127.0.0.1") != "200" {
        assert!(begun.elapsed() < PATIENCE, "the places are not given back");
    }
    bench.is_well();
}

#[test]
fn uploads_that_are_never_finished() {
    let bench = Bench::with("open_upload_bytes = 100000");
    let url = format!("https://{}/v2/app/blobs/uploads/", bench.server.registry_host("postern"));
    let login = bench.login();
    let options = ["--user", &login, "--output", "/dev/null", "--write-out", "%{http_code} %header{location}"];
    let mut statuses = Vec::new();
    // What is a thousandth of the limit at most is not worth a look at the others.
    for size in [60_000, 40_000, 100, 101] {
        let begun = bench.server.curl().args(options).args(["--request", "POST", &url]).run().stdout;
        let location = begun.split_once(' ').expect("an upload has a location").1.to_owned();
        let file = bench.scratch.write("chunk", vec![b'x'; size]);
        let to = format!("https://{}{location}", bench.server.registry_host("postern"));
        let chunk = format!("@{}", file.display());
        let sent = bench.server.curl().args(options).args(["--request", "PATCH", "--data-binary", &chunk, &to]).run();
        statuses.push(sent.stdout.split(' ').next().unwrap_or_default().to_owned());
    }
    assert_eq!(statuses, ["202", "202", "202", "429"]);
    bench.is_well();
}

#[test]
fn requests_that_two_servers_would_read_in_two_ways() {
    let bench = Bench::with("header_seconds = 2");
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}")
    };
    let get = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").into_bytes()
    };
    let host = "Host: localhost\r\n";
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!").into(), "400"),
        ("a length of no number", post("Content-Length: +5\r\n", "hello").into(), "400"),
        ("a coding before chunked", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n").into(), "400"),
        ("a blank before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n").into(), "400"),
        ("a folded header", get("/healthz", "Host: localhost\r\nX-A: b\r\n c\r\n"), "400"),
        ("a NUL in a header", get("/healthz", "Host: localhost\r\nX-A: b\0c\r\n"), "400"),
        ("a NUL in the address", get("/v2/\0", host), "400"),
        ("a blank in the address", get("/v2/ x", host), "400"),
        ("two hosts", get("/healthz", "Host: localhost\r\nHost: localhost\r\n"), "421"),
        ("two hosts at the data plane", get("/v2/", "Host: localhost\r\nHost: example.com\r\n"), "421"),
        ("an address of another host", get("http://example.com/healthz", host), "421"),
        ("an address of this host", get("http://localhost/healthz", "Host: example.com\r\n"), "200"),
        ("a long address", get(&format!("/{}", "x".repeat(66_000)), host), "414"),
        ("HTTP/1.0 without a host", b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(), "421"),
        ("HTTP/0.9", b"GET /healthz\r\n\r\n".to_vec(), "400"),
        ("encoded slashes", get("/v2/%2e%2e%2fhealthz", host), "401"),
        ("doubled slashes", get("//healthz", host), "404"),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(row, request, expected)| {
            let answer = bench.raw(request);
            let status = answer.split(' ').nth(1).unwrap_or("nothing").to_owned();
            (status != *expected).then(|| format!("{row}: {status}, expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Where both are given chunks count, as everywhere, and what follows them is not a request that somebody hid.
    let both = post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n", "0\r\n\r\n");
    let answer = bench.raw(format!("{both}{smuggled}").as_bytes());
    assert!(answer.matches("HTTP/1.1 ").count() <= 1 && !answer.contains("ok\n"), "{answer}");
    bench.is_well();
}

#[test]
fn heads_that_do_not_end() {
    let bench = Bench::with("header_seconds = 10");
    // A head is refused in words while there is room to hear its end, and not heard any further beyond.
    let head = |bytes: usize| format!("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "x".repeat(bytes));
    assert!(bench.raw(head(60_000).as_bytes()).starts_with("HTTP/1.1 401"));
    assert!(bench.raw(head(66_000).as_bytes()).starts_with("HTTP/1.1 431"));
    let mut stream = bench.connect();
    let mut sent = 0_usize;
    let line = format!("X-A: {}\r\n", "x".repeat(1000));
    let begun = stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n");
    while begun.is_ok() && sent < (64 << 20) && stream.write_all(line.as_bytes()).is_ok() {
        sent += line.len();
    }
    assert!(sent < (64 << 20), "the server goes on listening");
    bench.is_well();
}

//! What nobody should send: it is answered with a precise error in the API's own envelope, nothing is stored, nothing leaks, and
//! the server goes on.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_tests::{Admin, Command, Scratch, Server, postern, run_postern};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const VERSION: &str = "api-version=2026-01-01-preview";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const MANIFEST_TYPE: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json";

/// A server, and a folder for what is sent to it.
struct Bench {
    server: Server,
    scratch: Scratch,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
    challenge: String,
}

impl Answer {
    /// Status and error code.
    fn short(&self) -> String {
        let code =
            ["/errors/0/code", "/error/code", "/error"].into_iter().find_map(|at| self.body.pointer(at)?.as_str());
        code.map_or_else(|| self.status.to_string(), |code| format!("{} {code}", self.status))
    }

    fn message(&self) -> &str {
        ["/errors/0/message", "/error/message"]
            .into_iter()
            .find_map(|at| self.body.pointer(at)?.as_str())
            .unwrap_or_default()
    }
}

impl Bench {
    fn new() -> Self {
        Self::with("")
    }

    fn with(config: &str) -> Self {
        let scratch = Scratch::new();
        let config = scratch.write("postern.toml", config);
        let server = Server::start_in(&scratch.join("data"), &["--config", text(&config)]);
        Self { server, scratch }
    }

    /// A request, in curl's words. The path goes out as it is written. HTTP/1.1: of an answer that comes before all is sent some
    /// versions of curl show nothing over HTTP/2.
    fn call(&self, arguments: &[&str]) -> Answer {
        let options =
            ["--http1.1", "--path-as-is", "--globoff", "--write-out", "\n%{http_code} %header{www-authenticate}"];
        let output = self.server.curl().args(options).args(arguments).run();
        let (body, last) = output.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("no status in {output}"));
        let (status, challenge) = last.split_once(' ').unwrap_or((last, ""));
        Answer {
            status: status.parse().unwrap_or_else(|_| panic!("no status in {output}")),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
            challenge: challenge.to_owned(),
        }
    }

    /// A data-plane request of the administrator.
    fn data(&self, path: &str, arguments: &[&str]) -> Answer {
        let bootstrap = self.server.bootstrap();
        let (login, url) =
            (format!("{}:{}", bootstrap.client_id, bootstrap.client_secret), self.registry("postern", path));
        self.call(&[&["--user", &login, &url], arguments].concat())
    }

    fn registry(&self, name: &str, path: &str) -> String {
        format!("https://{}{path}", self.server.registry_host(name))
    }

    fn arm(&self, path: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{}{path}{separator}{VERSION}", self.server.bootstrap().arm_endpoint)
    }

    /// The administrator's token for the resource manager.
    fn token(&self) -> String {
        let bootstrap = self.server.bootstrap();
        self.token_of(&bootstrap.client_id, &bootstrap.client_secret)
    }

    fn token_of(&self, client: &str, secret: &str) -> String {
        let bootstrap = self.server.bootstrap();
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={secret}&scope=https://management.azure.com/.default"
        );
        let url = format!("{}/{}/oauth2/v2.0/token", bootstrap.authority, bootstrap.tenant_id);
        let answer = self.call(&["--data", &form, &url]);
        answer.body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer:?}")).to_owned()
    }

    /// Access and refresh token of a registry for the administrator.
    fn registry_tokens(&self, name: &str) -> (String, String) {
        let host = self.server.registry_host(name);
        let form = format!("grant_type=access_token&service={host}&access_token={}", self.token());
        let exchanged = self.call(&["--data", &form, &self.registry(name, "/oauth2/exchange")]);
        let refresh = exchanged.body["refresh_token"].as_str().unwrap_or_else(|| panic!("no token: {exchanged:?}"));
        let form = format!("grant_type=refresh_token&service={host}&scope=registry:catalog:*&refresh_token={refresh}");
        let issued = self.call(&["--data", &form, &self.registry(name, "/oauth2/token")]);
        let access = issued.body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {issued:?}"));
        (access.to_owned(), refresh.to_owned())
    }

    /// What a connection without TLS is answered.
    fn raw(&self, request: &str) -> String {
        let mut stream = self.connect(Duration::from_secs(10));
        stream.write_all(request.as_bytes()).expect("the server takes what is sent");
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn connect(&self, patience: Duration) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).expect("the server listens");
        stream.set_read_timeout(Some(patience)).expect("a socket takes a time limit");
        stream
    }

    /// The record of the request that was refused with this answer.
    fn record(&self, answer: &Answer) -> Value {
        let id = answer.message().rsplit("CorrelationId: ").next().unwrap_or_default();
        Admin::of(&self.server).send("GET", &format!("/postern/v1/decisions/{id}"), None)
    }

    /// The server answers as before, and nothing in it has panicked.
    fn is_well(&self) {
        let ready = self.server.curl().arg(format!("{}/readyz", self.server.bootstrap().arm_endpoint)).stdout();
        assert_eq!(ready, "ready\n");
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}

fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}

/// All rows that are answered otherwise than expected, at once.
#[track_caller]
fn check<L: std::fmt::Display>(rows: impl IntoIterator<Item = (L, String, &'static str)>) {
    let wrong = rows.into_iter().filter(|(_, seen, expected)| seen != expected);
    let wrong: Vec<String> = wrong.map(|(row, seen, expected)| format!("{row}: {seen}, expected {expected}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bodies_that_cannot_be_read() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let (registry, authorization) = (admin.first_registry(), format!("Authorization: Bearer {}", bench.token()));
    let before = admin.send("GET", &registry, None);
    let deep = format!("{{\"tags\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let deeper = format!("{{\"tags\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"tags\":{{\"a\":\"{}\"}}}}", "x".repeat(5 << 20));
    let content = "400 InvalidRequestContent";
    let bodies: [(&str, &[u8], &str); 14] = [
        ("nothing", b"", content),
        ("a part", b"{", content),
        ("a list", b"[]", content),
        ("a text", b"\"text\"", content),
        ("a comma too many", b"{\"location\": \"eastus\",}", content),
        ("not UTF-8", b"{\"location\": \"\xff\"}", content),
        ("two documents", b"{} {}", content),
        ("nested", deep.as_bytes(), content),
        ("nested deeper", deeper.as_bytes(), content),
        ("large", large.as_bytes(), "413 RequestContentTooLarge"),
        ("no object of properties", b"{\"properties\": 5}", content),
        ("no switch", b"{\"properties\": {\"adminUserEnabled\": \"yes\"}}", content),
        ("no rules", b"{\"properties\": {\"networkRuleSet\": []}}", content),
        ("an identity of no kind", b"{\"identity\": {\"type\": \"Root\"}}", content),
    ];
    check(bodies.iter().map(|(row, body, expected)| {
        let file = format!("@{}", text(&bench.scratch.write("body", body)));
        let arguments =
            ["--request", "PATCH", "--header", &authorization, "--data-binary", &file, &bench.arm(&registry)];
        (*row, bench.call(&arguments).short(), *expected)
    }));
    let url = |query: &str| format!("{}{registry}{query}", bench.server.bootstrap().arm_endpoint);
    let queries = [
        ("", "400 MissingApiVersionParameter"),
        ("?api-version=", "400 MissingApiVersionParameter"),
        ("?api-version=tomorrow", "400 InvalidApiVersionParameter"),
        ("?api-version=%ff", "400 InvalidRequestUri"),
    ];
    check(
        queries
            .map(|(query, expected)| (query, bench.call(&["--header", &authorization, &url(query)]).short(), expected)),
    );
    assert_eq!(admin.send("GET", &registry, None), before, "nothing is stored");

    let tenant = bench.server.bootstrap().tenant_id.clone();
    let token = |tenant: &str| format!("{}/{tenant}/oauth2/v2.0/token", bench.server.bootstrap().authority);
    let fields = "a=b&".repeat(200);
    let long = format!("@{}", text(&bench.scratch.write("form", "x".repeat(70 << 10))));
    let (elsewhere, here) = (token("00000000-0000-0000-0000-000000000001"), token(&tenant));
    let exchange = bench.registry("postern", "/oauth2/exchange");
    let access = bench.registry("postern", "/oauth2/token");
    check([
        (
            "another tenant",
            bench.call(&["--data", "grant_type=client_credentials", &elsewhere]).short(),
            "400 invalid_request",
        ),
        ("no fields", bench.call(&["--data", "", &here]).short(), "400 invalid_request"),
        ("too many fields", bench.call(&["--data", &fields, &here]).short(), "400 invalid_request"),
        ("no grant", bench.call(&["--data", "grant_type=wish", &here]).short(), "400 unsupported_grant_type"),
        ("a long form", bench.call(&["--data-binary", &long, &here]).short(), "413"),
        ("an exchange of nothing", bench.call(&["--data", "", &exchange]).short(), "400 BAD_REQUEST"),
        ("a long exchange", bench.call(&["--data-binary", &long, &exchange]).short(), "413 SIZE_INVALID"),
        (
            "a scope of no form",
            bench
                .call(&["--data", "grant_type=refresh_token&refresh_token=x&scope=repository:A:pull", &access])
                .short(),
            "400 BAD_REQUEST",
        ),
        (
            "too many scopes",
            bench.call(&["--get", "--data", &"scope=repository:a:pull&".repeat(65), &access]).short(),
            "400 BAD_REQUEST",
        ),
    ]);
    bench.is_well();
}

#[test]
fn files_that_cannot_be_read() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let configs = [
        ("[server", "unclosed table"),
        ("[server]\nsuffixx = 'a.b'", "unknown field `suffixx`"),
        ("[servers]\n", "unknown field `servers`"),
        ("[server]\nlisten = ['localhost']", "socket address"),
        ("[limits]\nconnections = -1", "invalid value"),
        ("[limits]\nheader_seconds = 9223372036854775807", "limits.header_seconds must be from 1 to 3600"),
        ("[[place]]\nname = 'p'\npeers = ['10.0.0.0/33']", "invalid"),
    ];
    for (config, problem) in configs {
        let file = scratch.write("postern.toml", config);
        for arguments in [vec!["check-config"], vec!["serve", "--listen", "127.0.0.1:0", "--data", text(&data)]] {
            let outcome = run_postern(&[&arguments[..], &["--config", text(&file)]].concat()).run().failed();
            assert!(outcome.code == Some(1) && outcome.stderr.contains(problem), "expected `{problem}` of {outcome}");
            assert!(outcome.stderr.contains(text(&file)) && !outcome.stderr.contains("panicked"), "{outcome}");
        }
        assert!(!data.exists(), "nothing is begun");
    }

    let bench = Bench::new();
    let registry = Admin::of(&bench.server).first_registry();
    let export = || postern(&bench.server, &["export"], &[]).stdout();
    let before = export();
    let (deep, twice) =
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), json!([{"id": registry}, {"id": registry}]));
    let files = [
        (String::from("{"), "the file is not JSON"),
        (deep, "the file is not JSON"),
        (json!(5).to_string(), "must be"),
        (json!({"id": registry, "propertiess": {}}).to_string(), "has the unknown key `propertiess`"),
        (json!({"id": format!("{registry}/../other"), "properties": {}}).to_string(), "no `.` or `..` segments"),
        (json!({"id": registry, "name": "other", "properties": {}}).to_string(), "does not fit the id"),
        (twice.to_string(), "is there twice"),
        (json!({"id": registry, "location": "eastus", "sku": {"name": "Premium"}, "properties": {"publicNetworkAccess": "Perhaps"}}).to_string(), "publicNetworkAccess"),
    ];
    for (file, problem) in files {
        let path = scratch.write("estate.json", file);
        let outcome = postern(&bench.server, &["apply"], &["--file", text(&path)]).run().failed();
        assert!(outcome.code == Some(1) && outcome.stderr.contains(problem), "expected `{problem}` of {outcome}");
    }
    assert_eq!(export(), before, "nothing is stored");
    bench.is_well();
}

#[test]
fn digests_and_manifests_that_do_not_fit() {
    let bench = Bench::new();
    let (right, wrong) = (digest_of(b"hello"), digest_of(b"other"));
    let upload = |query: &str| {
        let type_header = "Content-Type: application/octet-stream";
        let path = format!("/v2/app/blobs/uploads/?{query}");
        bench.data(&path, &["--request", "POST", "--header", type_header, "--data", "hello"]).short()
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": right, "size": 5},
        "layers": [],
    });
    let push = |reference: &str, content_type: &str, body: &str| {
        let file = format!("@{}", text(&bench.scratch.write("manifest", body)));
        let path = format!("/v2/app/manifests/{reference}");
        bench.data(&path, &["--request", "PUT", "--header", content_type, "--data-binary", &file]).short()
    };
    let (manifest, oci) = (manifest.to_string(), MANIFEST_TYPE);
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let large = format!("{manifest}{}", " ".repeat(4 << 20));
    let read = |path: &str| bench.data(path, &[]).short();
    check([
        ("another blob", upload(&format!("digest={wrong}")), "400 DIGEST_INVALID"),
        ("a short digest", upload("digest=sha256:abc"), "400 DIGEST_INVALID"),
        ("a digest in capitals", upload(&format!("digest={}", right.to_uppercase())), "400 DIGEST_INVALID"),
        ("an algorithm nobody has", upload("digest=md5:5d41402abc4b2a76b9719d911017c592"), "400 DIGEST_INVALID"),
        ("an algorithm to come", upload("digest-algorithm=sha3"), "400 DIGEST_INVALID"),
        ("a mount from nowhere to nowhere", upload("mount=x&from=../x"), "400 DIGEST_INVALID"),
        (
            "an upload of nobody's",
            read("/v2/app/blobs/uploads/00000000-0000-4000-8000-000000000000"),
            "404 BLOB_UPLOAD_UNKNOWN",
        ),
        ("another manifest", push(&wrong, oci, &manifest), "400 DIGEST_INVALID"),
        ("no blobs", push("1", oci, &manifest), "404 MANIFEST_BLOB_UNKNOWN"),
        ("no manifest", push("1", oci, "{"), "400 MANIFEST_INVALID"),
        ("nested", push("1", oci, &deep), "400 MANIFEST_INVALID"),
        ("no type", push("1", "Content-Type:", &manifest), "400 MANIFEST_INVALID"),
        ("another type", push("1", "Content-Type: text/html", &manifest), "400 MANIFEST_INVALID"),
        ("no tag", push("-1", oci, &manifest), "400 TAG_INVALID"),
        ("too large", push("1", oci, &large), "413 SIZE_INVALID"),
        ("the blob afterwards", read(&format!("/v2/app/blobs/{right}")), "404 BLOB_UNKNOWN"),
        ("the other blob afterwards", read(&format!("/v2/app/blobs/{wrong}")), "404 BLOB_UNKNOWN"),
        ("the tags afterwards", read("/v2/app/tags/list"), "404 NAME_UNKNOWN"),
    ]);
    let file = format!("@{}", text(&bench.scratch.write("manifest", large)));
    let chunked =
        ["--request", "PUT", "--header", oci, "--header", "Transfer-Encoding: chunked", "--data-binary", &file];
    assert_eq!(bench.data("/v2/app/manifests/1", &chunked).short(), "413 SIZE_INVALID", "its length is not announced");
    assert_eq!(bench.data("/v2/_catalog", &[]).body["repositories"], json!([]), "nothing is stored");
    bench.is_well();
}

#[test]
fn headers_and_addresses_that_are_too_long() {
    let bench = Bench::new();
    let long = format!("X-Long: {}", "x".repeat(70_000));
    let many: Vec<String> = (0..200).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<&str> = many.iter().flat_map(|header| ["--header", header]).collect();
    let path = format!("/v2/{}/tags/list", "a".repeat(70_000));
    check([
        ("a long header", bench.data("/v2/", &["--header", &long]).short(), "431 UNSUPPORTED"),
        ("many headers", bench.data("/v2/", &many).short(), "431"),
        ("a long path", bench.data(&path, &[]).short(), "414"),
        ("a long name", bench.data(&format!("/v2/{}/tags/list", "a".repeat(256)), &[]).short(), "400 NAME_INVALID"),
    ]);
    bench.is_well();
}

#[test]
fn addresses_that_no_rule_may_name() {
    // In the service's own words, and with what the server allows beyond it switched off.
    for (config, ranges) in [
        ("", &["2001:db8::/32", "::1", "::ffff:203.0.113.7", "203.0.113.300", "203.0.113.0/33", "example.com", ""][..]),
        (
            "[access]\nparity = 'strict'\n",
            &["10.0.0.0/8", "192.168.1.1", "172.16.0.0/12", "127.0.0.1", "2001:db8::/32"][..],
        ),
    ] {
        let bench = Bench::with(config);
        let admin = Admin::of(&bench.server);
        let registry = admin.first_registry();
        let rules = |range: &str| json!({"properties": {"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": range}]}}});
        admin.send("PATCH", &registry, Some(&rules("203.0.113.7")));
        let before = admin.send("GET", &registry, None);
        check(ranges.iter().map(|range| {
            let (status, body) = admin.try_send("PATCH", &registry, Some(&rules(range)));
            let code = body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default();
            (*range, format!("{status} {code}"), "400 InvalidParameter")
        }));
        assert_eq!(admin.send("GET", &registry, None), before, "nothing is stored");
        bench.is_well();
    }
}

/// The token with another payload under the old signature, and with no algorithm at all.
fn forged(token: &str) -> [String; 2] {
    let parts: Vec<&str> = token.split('.').collect();
    let [_, claims, signature] = parts[..] else { panic!("not a token") };
    let mut value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
    value["exp"] = json!(4_102_444_800_u64);
    let claims = URL_SAFE_NO_PAD.encode(value.to_string());
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"none"}"#);
    [format!("{}.{claims}.{signature}", parts[0]), format!("{header}.{claims}.")]
}

#[test]
fn tokens_that_do_not_hold_here() {
    let (bench, elsewhere) = (Bench::new(), Bench::new());
    let admin = Admin::of(&bench.server);
    let second = admin.id("postern", "Microsoft.ContainerRegistry/registries/second");
    admin.send("PUT", &second, Some(&json!({"location": "eastus", "sku": {"name": "Premium"}})));
    let (access, refresh) = bench.registry_tokens("postern");
    let (other_access, other_refresh) = bench.registry_tokens("second");
    let (foreign_access, foreign_refresh) = elsewhere.registry_tokens("postern");
    let (arm, foreign_arm) = (bench.token(), elsewhere.token());
    let bearer = |url: &str, token: &str| bench.call(&["--header", &format!("Authorization: Bearer {token}"), url]);
    let (ping, catalog) = (bench.registry("postern", "/v2/"), bench.registry("postern", "/v2/_catalog"));
    assert_eq!(bearer(&catalog, &access).short(), "200", "the token that is forged below holds");

    let garbage = ["x".to_owned(), "x".repeat(40_000), "a.b.c".to_owned(), "\u{e9}".to_owned()];
    let rows = [
        ("arm", arm.clone()),
        ("refresh", refresh.clone()),
        ("other", other_access),
        ("foreign", foreign_access.clone()),
    ];
    let rows = rows.into_iter().chain(forged(&access).map(|token| ("forged", token)));
    let rows = rows.chain(garbage.clone().map(|token| ("garbage", token)));
    check(rows.map(|(row, token)| {
        let answer = bearer(&ping, &token);
        (
            row,
            format!("{} {}", answer.short(), answer.challenge.ends_with("error=\"invalid_token\"")),
            "401 UNAUTHORIZED true",
        )
    }));

    let list = bench.arm("/subscriptions");
    let rows =
        [("registry's", access.clone()), ("registry's refresh", refresh.clone()), ("foreign", foreign_arm.clone())];
    let rows = rows.into_iter().chain(forged(&arm).map(|token| ("forged", token)));
    let rows = rows.chain(garbage.map(|token| ("garbage", token)));
    check(rows.map(|(row, token)| {
        let answer = bearer(&list, &token);
        let challenged = answer.challenge.starts_with("Bearer authorization_uri=");
        (row, format!("{} {challenged}", answer.short()), "401 InvalidAuthenticationToken true")
    }));

    let post = |path: &str, form: String| bench.call(&["--data", &form, &bench.registry("postern", path)]).short();
    let exchange = |token: &str, tenant: &str| {
        let service = bench.server.registry_host("postern");
        post(
            "/oauth2/exchange",
            format!("grant_type=access_token&service={service}&tenant={tenant}&access_token={token}"),
        )
    };
    let issue = |token: &str| {
        let service = bench.server.registry_host("postern");
        post(
            "/oauth2/token",
            format!("grant_type=refresh_token&service={service}&scope=registry:catalog:*&refresh_token={token}"),
        )
    };
    let tenant = bench.server.bootstrap().tenant_id.as_str();
    let other = bench.server.registry_host("second");
    check([
        ("a foreign token", exchange(&foreign_arm, tenant), "401 UNAUTHORIZED"),
        ("another tenant", exchange(&arm, "00000000-0000-0000-0000-000000000001"), "401 UNAUTHORIZED"),
        ("a refresh token as the authority's", exchange(&refresh, tenant), "401 UNAUTHORIZED"),
        ("another registry's refresh token", issue(&other_refresh), "401 UNAUTHORIZED"),
        ("a foreign refresh token", issue(&foreign_refresh), "401 UNAUTHORIZED"),
        ("an access token as refresh token", issue(&access), "401 UNAUTHORIZED"),
        ("the authority's as refresh token", issue(&arm), "401 UNAUTHORIZED"),
        (
            "a token for another service",
            post("/oauth2/token", format!("grant_type=refresh_token&service={other}&refresh_token={refresh}")),
            "400 BAD_REQUEST",
        ),
    ]);
    for secret in [&arm, &access, &refresh, &bench.server.bootstrap().client_secret] {
        assert!(!bench.server.log().contains(secret.as_str()), "the log holds a secret");
    }
    bench.is_well();
}

#[test]
fn passwords_end_when_they_said() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let map = json!({"properties": {"actions": ["repositories/app/content/read", "repositories/app/metadata/read"]}});
    let map = admin.send("PUT", &format!("{registry}/scopeMaps/readers"), Some(&map));
    let token = json!({"properties": {"scopeMapId": map["id"], "status": "enabled"}});
    let token = admin.send("PUT", &format!("{registry}/tokens/reader"), Some(&token));
    let generate = |expiry: &str| {
        let wanted = json!({"tokenId": token["id"], "name": "password1", "expiry": expiry});
        admin.try_send("POST", &format!("{registry}/generateCredentials"), Some(&wanted))
    };
    assert_eq!(generate("2020-01-01T00:00:00Z").0, 400);
    let soon = Command::new("date").args(["--utc", "--date", "+3 seconds", "+%Y-%m-%dT%H:%M:%SZ"]).stdout();
    let (_, made) = generate(soon.trim());
    let login = format!("reader:{}", made["passwords"][0]["value"].as_str().expect("a password is shown once"));
    let ping = || bench.call(&["--user", &login, &bench.registry("postern", "/v2/")]).short();
    assert_eq!(ping(), "200");
    sleep(Duration::from_secs(3));
    assert_eq!(ping(), "401 UNAUTHORIZED");
    bench.is_well();
}

#[test]
fn certificates_of_another_authority() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let group = admin.container_group("mycontainer", &registry);
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = Issuer::new(authority, KeyPair::generate().expect("a key"));
    let key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::default();
    let name = format!("spiffe://{}{group}", bench.server.bootstrap().tenant_id);
    leaf.subject_alt_names = vec![SanType::URI(name.try_into().expect("a URI is ASCII"))];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let (certificate, key) =
        (bench.scratch.write("client.pem", leaf.pem()), bench.scratch.write("client.key", key.serialize_pem()));
    let url = bench.registry("postern", "/v2/");
    let ping = || bench.call(&["--cert", text(&certificate), "--key", text(&key), &url]);

    assert_eq!(ping().short(), "401 UNAUTHORIZED", "an open registry takes the request as anybody's");
    admin.update(&registry, &json!({"publicNetworkAccess": "Disabled"}));
    let refused = ping();
    assert_eq!(refused.short(), "403 DENIED");
    let workload = &bench.record(&refused)["origin"]["workload"];
    assert_eq!(workload, &json!({"rejected": "the workload certificate was not issued by this server"}));
    // The identity that it names gets no token, either.
    let token = format!("{}/postern/v1/identity/token", bench.server.bootstrap().authority);
    let arguments =
        ["--cert", text(&certificate), "--key", text(&key), "--data", "resource=https://management.azure.com", &token];
    assert_eq!(bench.call(&arguments).short(), "403 unauthorized_client");
    bench.is_well();
}

#[test]
fn headers_that_claim_another_origin() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let rules = json!({"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": "198.51.100.7"}]});
    admin.update(&registry, &json!({ "networkRuleSet": rules }));
    let url = bench.registry("postern", "/v2/");
    for header in [
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-Host: localhost",
        "X-Real-IP: 198.51.100.7",
        "Forwarded: for=198.51.100.7;proto=https",
        "X-Client-IP: 198.51.100.7",
        "True-Client-IP: 198.51.100.7",
        "X-Original-URL: /healthz",
        "Client-Cert: :MIIB:",
        "X-Forwarded-Client-Cert: URI=spiffe://x/y",
        "X-Ms-Correlation-Request-Id: 00000000-0000-0000-0000-000000000001",
    ] {
        let refused = bench.call(&["--header", header, &url]);
        assert_eq!(refused.short(), "403 DENIED", "{header}");
        assert!(refused.message().starts_with("client with IP '127.0.0.1' is not allowed"), "{header}: {refused:?}");
        let record = bench.record(&refused);
        let origin = &record["origin"];
        let facts = (&origin["address"], &origin["ingress"], &origin["workload"]);
        // A certificate is a claim that the server knows of: it is noted, and is nobody's.
        let workload = match header {
            "Client-Cert: :MIIB:" => {
                json!({"rejected": "the workload certificate came in a header, and not from a proxy that may send it"})
            }
            _ => Value::Null,
        };
        assert_eq!(facts, (&json!("127.0.0.1"), &json!("public"), &workload), "{header}");
    }
    let host = format!("localhost:{}", bench.server.address().port());
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for preface in ["PROXY TCP4 198.51.100.7 127.0.0.1 5000 443\r\n", "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let answer = bench.raw(&format!("{preface}{request}"));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    bench.is_well();
}

#[test]
fn paths_that_lead_nowhere() {
    let bench = Bench::new();
    let name = "400 NAME_INVALID";
    let nothing = "404 UNSUPPORTED";
    let long = format!("/v2/{}/tags/list", "a/".repeat(2000));
    let paths = [
        ("/v2/../../etc/passwd", nothing),
        ("/%2e%2e/%2e%2e/metadata.db", nothing),
        ("//v2/app/tags/list", nothing),
        ("/v2/app/tags/list/", nothing),
        ("/V2/app/tags/list", nothing),
        ("/v2/app/blobs/uploads/../../../x", nothing),
        ("/v2/app/../other/tags/list", name),
        ("/v2/%2e%2e/%2e%2e/tags/list", name),
        ("/v2/app%2F..%2Fother/tags/list", name),
        ("/v2/app%00/tags/list", name),
        ("/v2/app%0d%0aX:y/tags/list", name),
        ("/v2/app%252Fother/tags/list", name),
        ("/v2/app%ff/tags/list", name),
        ("/v2/app%/tags/list", name),
        ("/v2/APP/tags/list", name),
        ("/v2/app//other/tags/list", name),
        ("/v2//tags/list", name),
        ("/v2/-app/tags/list", name),
        ("/v2/app%5cother/tags/list", name),
        (&long, name),
        ("/acr/v1/../../x", name),
        ("/acr/v1/app%20other", name),
        ("/v2/app/manifests/..", "404 MANIFEST_UNKNOWN"),
        ("/v2/app/manifests/sha256:zz", "400 DIGEST_INVALID"),
        ("/v2/app/blobs/..%2f..%2fmaster.key", "400 DIGEST_INVALID"),
        ("/v2/app/tags/list?n=-1", "400 PAGINATION_NUMBER_INVALID"),
        ("/v2/app/tags/list?n=1%00", "400 BAD_REQUEST"),
        ("/v2/app/tags/list?last=%ff", "400 BAD_REQUEST"),
        // A slash in a name may be encoded; that is all.
        ("/v2/app%2Fother/tags/list", "404 NAME_UNKNOWN"),
    ];
    check(
        paths.map(|(path, expected)| {
            (path.chars().take(60).collect::<String>(), bench.data(path, &[]).short(), expected)
        }),
    );
    let upload = |path: &str| bench.data(path, &["--request", "POST", "--data", ""]).short();
    check(
        ["/v2/%2e%2e/blobs/uploads/", "/v2/a/%2e%2e/blobs/uploads/", "/v2/..%2f/blobs/uploads/"]
            .map(|path| (path, upload(path), name)),
    );

    let authorization = format!("Authorization: Bearer {}", bench.token());
    let subscription = format!("/subscriptions/{}", bench.server.bootstrap().subscription_id);
    let group = format!("{subscription}/resourceGroups/postern");
    let paths = [
        (format!("{subscription}/../x"), "404 InvalidResourceType"),
        (format!("{subscription}/resourceGroups/%2e%2e"), "400 InvalidRequestUri"),
        (format!("{group}/providers/A.B/c/d%2Fe"), "400 InvalidRequestUri"),
        (format!("{group}/providers/A.B/c/d%00"), "400 InvalidRequestUri"),
        (format!("{group}/providers/A.B/c/%ff"), "400 InvalidRequestUri"),
        (format!("{group}/providers/A.B/c/{}", "x".repeat(3000)), "400 InvalidRequestUri"),
        (format!("{group}/elsewhere"), "404 InvalidResourceType"),
        (format!("{group}/providers/providers/providers"), "404 InvalidResourceType"),
    ];
    check(paths.iter().map(|(path, expected)| {
        let answer = bench.call(&[
            "--request",
            "PUT",
            "--header",
            &authorization,
            "--data",
            "{\"location\":\"eastus\"}",
            &bench.arm(path),
        ]);
        (path, answer.short(), *expected)
    }));
    bench.is_well();
}

#[test]
fn hosts_and_destinations_of_others() {
    let bench = Bench::new();
    let url = bench.registry("postern", "/v2/");
    let port = bench.server.address().port();
    let rows = [
        ("example.com", "421 UNSUPPORTED"),
        ("localhost", "421 UNSUPPORTED"),
        ("127.0.0.1", "421 UNSUPPORTED"),
        ("postern.azurecr.io.localhost.example.com", "421 UNSUPPORTED"),
        ("a.b.azurecr.io.localhost", "421 UNSUPPORTED"),
        ("workload-gateway.azurecr.io.localhost", "421 UNSUPPORTED"),
        ("x@postern.azurecr.io.localhost", "421 UNSUPPORTED"),
        ("nobody.azurecr.io.localhost", "404 NAME_UNKNOWN"),
    ];
    check(
        rows.map(|(host, expected)| {
            (host, bench.call(&["--header", &format!("Host: {host}"), &url]).short(), expected)
        }),
    );
    let local = format!("https://localhost:{port}/v2/");
    let named = format!("Host: {}", bench.server.registry_host("postern"));
    assert_eq!(bench.call(&["--header", &named, &local]).short(), "421 UNSUPPORTED");

    let status = |request: &str| bench.raw(request).lines().next().unwrap_or_default().to_owned();
    let connect =
        |target: &str| status(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n"));
    let get = |target: &str, host: &str| {
        status(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    let (forbidden, misdirected) = ("HTTP/1.1 403 Forbidden", "HTTP/1.1 421 Misdirected Request");
    check([
        ("another host", connect("example.com:443"), forbidden),
        ("the metadata service", connect("169.254.169.254:80"), forbidden),
        ("an address", connect("10.0.0.1:443"), forbidden),
        ("a name that ends alike", connect("evilazurecr.io.localhost:443"), forbidden),
        ("a registry without TLS", get("/v2/", "postern.azurecr.io.localhost"), misdirected),
        ("an address of another host", get("http://example.com/v2/", &format!("localhost:{port}")), misdirected),
        ("no host", status("GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n"), misdirected),
    ]);
    // Under a name of its own with TLS there is no proxy, and a tunnel leads into no other tunnel but the gateway's.
    let proxy = format!("https://localhost:{port}");
    let tunnelled = bench
        .server
        .curl()
        .args(["--proxy-cacert"])
        .arg(&bench.server.bootstrap().ca_file)
        .args(["--proxy", &proxy, &url]);
    let tunnelled = tunnelled.run().failed();
    assert!(tunnelled.stderr.contains("response 405"), "{tunnelled}");
    bench.is_well();
}

#[test]
fn connections_that_do_nothing() {
    let bench = Bench::with("[limits]\nconnections = 2\nheader_seconds = 1\n");
    let host = format!("postern.azurecr.io.localhost:{}", bench.server.address().port());
    let tunnel = || {
        let mut stream = bench.connect(Duration::from_secs(10));
        write!(stream, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("the server takes what is sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("the proxy answers");
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    };
    let (first, second) = (tunnel(), tunnel());
    // A tunnel is as good as the connection that it runs in.
    let mut third = bench.connect(Duration::from_millis(500));
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("the kernel takes what is sent");
    let mut answer = [0; 12];
    let waits = third.read_exact(&mut answer).expect_err("there is no room for a third").kind();
    assert!(matches!(waits, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    drop(first);
    third.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a time limit");
    third.read_exact(&mut answer).expect("now there is room");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop((second, third));
    // Whoever begins and does not go on is not waited for, whichever protocol it begins.
    for start in ["G", "GET / HTTP/1.1\r\nHost: ", "P", "PRI * HTTP/2.0\r\n"] {
        let mut stream = bench.connect(Duration::from_secs(10));
        stream.write_all(start.as_bytes()).expect("the server takes what is sent");
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "{start:?}: {ended:?}");
    }
    let token = format!("/{}/oauth2/v2.0/token", bench.server.bootstrap().tenant_id);
    for path in [token.as_str(), "/oauth2/token", "/oauth2/exchange"] {
        let begun = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ngrant");
        let answer = bench.raw(&begun);
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
    }
    bench.is_well();
}

#[test]
fn a_push_through_a_tunnel_outlives_the_order_to_stop() {
    let mut bench = Bench::new();
    let bootstrap = bench.server.bootstrap().clone();
    let bytes = vec![b'x'; 1 << 20];
    let digest = digest_of(&bytes);
    let file = bench.scratch.write("blob", bytes);
    let push = Command::new(postern_tests::tool("curl"))
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--limit-rate",
            "512K",
            "--proxy",
            &bootstrap.proxy,
            "--cacert",
        ])
        .arg(&bootstrap.ca_file)
        .args([
            "--user",
            &format!("{}:{}", bootstrap.client_id, bootstrap.client_secret),
            "--write-out",
            "%{http_code}",
        ])
        .args(["--header", "Content-Type: application/octet-stream", "--data-binary", &format!("@{}", text(&file))])
        .arg(bench.registry("postern", &format!("/v2/app/blobs/uploads/?digest={digest}")));
    let push = std::thread::spawn(move || push.stdout());
    sleep(Duration::from_secs(1));
    assert!(!push.is_finished(), "the push was over before the order came");
    assert!(bench.server.stop().success());
    assert_eq!(push.join().expect("the push ends"), "201");
}

#[test]
fn documents_that_claim_what_is_not_theirs() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let identity = admin.id("postern", "Microsoft.ManagedIdentity/userAssignedIdentities/other");
    admin.send("PUT", &identity, Some(&json!({"location": "eastus"})));
    let assignments = admin.send("GET", &format!("{registry}/providers/Microsoft.Authorization/roleAssignments"), None);
    let principal = &assignments["value"][0]["properties"]["principalId"];
    assert!(principal.is_string(), "{assignments}");
    let network = admin.id("postern", "Microsoft.Network/virtualNetworks/net");
    for block in [
        json!({"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}),
        json!({"type": "SystemAssigned", "principalId": principal}),
    ] {
        let body = json!({"location": "eastus", "properties": {"subnets": [{"name": "s", "identity": block, "properties": {"addressPrefix": "10.0.0.0/24"}}]}});
        admin.send("PUT", &network, Some(&body));
        let subnet = admin.send("GET", &format!("{network}/subnets/s"), None);
        assert_eq!(
            (&subnet["identity"], &subnet["properties"]["addressPrefix"]),
            (&Value::Null, &json!("10.0.0.0/24"))
        );
    }
    // An identity that another has is not given again.
    let claimed = json!({"location": "eastus", "identity": {"type": "SystemAssigned", "principalId": principal}});
    let made = admin.send("PUT", &admin.id("postern", "Microsoft.ContainerInstance/containerGroups/c"), Some(&claimed));
    assert_ne!(&made["identity"]["principalId"], principal);

    // A second definition of a role would take the first one's rights away.
    let role = "11111111-2222-4333-8444-555555555555";
    let definition = json!({"properties": {"roleName": "mine", "permissions": [{"actions": ["*/read"]}]}});
    let at = |scope: &str, role: &str| format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{role}");
    admin.send("PUT", &at(&registry, role), Some(&definition));
    admin.send("PUT", &at(&registry, role), Some(&definition));
    check([("a custom role's", role), ("a built-in role's", READER)].map(|(row, role)| {
        let (status, body) = admin.try_send("PUT", &at(&network, role), Some(&definition));
        (row, format!("{status} {}", body["error"]["code"].as_str().unwrap_or_default()), "409 Conflict")
    }));
    let first_party = "/providers/Microsoft.Security/scanners/defender";
    let (status, _) = admin.try_send("PUT", first_party, Some(&json!({"location": "eastus"})));
    assert_eq!(status, 403, "the server's own services are nobody's to make");
    bench.is_well();
}

#[test]
fn questions_about_what_one_may_not_read() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let registry = admin.first_registry();
    let group = admin.container_group("mycontainer", &registry);
    let object = "aaaaaaaa-2222-4333-8444-555555555555";
    let account = format!("/providers/Microsoft.Graph/servicePrincipals/{object}");
    let made = admin.send("PUT", &account, Some(&json!({"properties": {"displayName": "reader"}})));
    let secret = admin.send("POST", &format!("{account}/addPassword"), Some(&json!({})));
    admin.assign(READER, object, &registry);
    let (client, secret) = (made["properties"]["appId"].as_str(), secret["secretText"].as_str());
    let token = bench.token_of(client.expect("an application id"), secret.expect("a secret is shown once"));
    let authorization = format!("Authorization: Bearer {token}");
    let ask = |who: &str, from: &str| {
        let question = json!({"registry": "postern", "as": who, "from": from, "operation": "ping"}).to_string();
        let url = bench.arm("/postern/v1/explain");
        let answer = bench.call(&[
            "--header",
            &authorization,
            "--header",
            "Content-Type: application/json",
            "--data",
            &question,
            &url,
        ]);
        format!("{} {}", answer.short(), answer.message().contains("you may not read it"))
    };
    let hidden = "400 InvalidRequestContent true";
    check([
        ("nobody", ask("none", "203.0.113.7"), "200 false"),
        ("a resource elsewhere", ask(&group, ""), hidden),
        ("no resource", ask(&group.replace("mycontainer", "nothing"), ""), hidden),
        ("a subnet elsewhere", ask("none", &format!("subnet:{group}")), hidden),
        ("an endpoint elsewhere", ask("none", &format!("private-endpoint:{group}")), hidden),
    ]);
    // The directory, other registries' decisions and the estate are as closed.
    let get = |path: &str| bench.call(&["--header", &authorization, &bench.arm(path)]).short();
    let refused = bench.call(&[&bench.registry("postern", "/v2/")]);
    assert_eq!(refused.short(), "401 UNAUTHORIZED");
    check([
        ("an account", get(&account), "403 AuthorizationFailed"),
        ("a decision of nobody", get("/postern/v1/decisions/00000000-0000-0000-0000-000000000000"), "404 NotFound"),
        ("a decision of no id", get("/postern/v1/decisions/x"), "404 NotFound"),
        ("a password", get(&format!("{account}/addPassword")), "403 AuthorizationFailed"),
    ]);
    let post = |path: &str| {
        bench.call(&["--request", "POST", "--header", &authorization, "--data", "{}", &bench.arm(path)]).short()
    };
    check(
        [
            "listCredentials",
            "regenerateCredential",
            "generateCredentials",
            "issueWorkloadCertificate",
            "ISSUEWORKLOADCERTIFICATE",
        ]
        .map(|operation| (operation, post(&format!("{registry}/{operation}")), "403 AuthorizationFailed")),
    );
    check([("an account's", post(&format!("{account}/addPassword")), "403 AuthorizationFailed")]);
    bench.is_well();
}

//! Proxies in front of the server, with the configurations of `docs/guides/behind-a-proxy.md`.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::io::{Read as _, Write as _, copy};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_tests::{Admin, Command, Containers, Scratch, Server, postern, tool};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const GUIDE: &str = include_str!("../../docs/guides/behind-a-proxy.md");
const SUBSCRIPTION: &str = "00000000-0000-4000-8000-000000000001";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longer than anything here takes that is not waited for without end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server behind two proxies, each with a listener of its own, and a closed registry.
struct Bench {
    server: Server,
    scratch: Scratch,
    /// The listener for the proxy that hands bytes on.
    relay: SocketAddr,
    /// The listener for the proxy that ends TLS.
    ends_tls: SocketAddr,
}

/// A proxy; ends when dropped.
struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The guide's blocks in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let blocks = GUIDE.split("\n```").filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.collect()
}

/// Replaces what is there.
fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is not in the guide's configuration:\n{text}");
        text.replace(from, to)
    })
}

impl Bench {
    fn new() -> Self {
        Self::with("")
    }

    fn with(limits: &str) -> Self {
        let scratch = Scratch::new();
        let front = rcgen::generate_simple_self_signed(["*.azurecr.io.localhost".to_owned()]).expect("a certificate");
        scratch.write("front.pem", front.cert.pem() + &front.signing_key.serialize_pem());
        let digest = Sha256::digest(front.cert.der());
        let pin = digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let [relay, place, ends_tls] = blocks("toml")[..] else {
            panic!("the guide has three pieces of configuration")
        };
        let relay = replaced(relay, &[("10.0.0.5", "127.0.0.1"), ("10.0.0.4:6443", "127.0.0.2:0")]);
        let ends_tls = replaced(ends_tls, &[("10.0.0.5", "127.0.0.1"), ("10.0.0.4:6444", "127.0.0.3:0"), ("…", &pin)]);
        let server = format!("[server]\nsubscription_id = '{SUBSCRIPTION}'\nlisten = ['127.0.0.1:0']\n");
        let config = format!("{server}[limits]\n{limits}\n{relay}\n{place}\n{ends_tls}\n");
        let file = scratch.write("postern.toml", config);
        let file = file.to_str().expect("the path is text");
        let server = Server::start_in(&scratch.join("data"), &["--config", file]);
        let listener = |ip: [u8; 4]| {
            let found = server.bootstrap().listen.iter().find(|address| address.ip() == IpAddr::from(ip));
            *found.expect("the proxy's listener is one of the server's")
        };
        let (relay, ends_tls) = (listener([127, 0, 0, 2]), listener([127, 0, 0, 3]));
        let bench = Self { server, scratch, relay, ends_tls };
        let closed = json!({
            "publicNetworkAccess": "Enabled",
            "networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": "127.0.0.9"}]},
            "networkRuleBypassOptions": "AzureServices",
        });
        let admin = Admin::of(&bench.server);
        admin.update(&admin.first_registry(), &closed);
        // What the proxy trusts, and what clients of either do.
        let own = std::fs::read_to_string(&bench.server.bootstrap().ca_file).expect("the server's authority");
        bench.scratch.write("trusted.pem", own + &front.cert.pem());
        bench
    }

    fn host(&self) -> String {
        self.server.registry_host("postern")
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).to_str().expect("the path is text").to_owned()
    }

    /// The proxy that hands bytes on, and where it listens.
    fn relay(&self) -> (Haproxy, SocketAddr) {
        let (socket, address) = free_port();
        (self.haproxy("relay", 0, socket.into(), &[("10.0.0.4:6443", &self.relay.to_string())]), address)
    }

    /// The proxy that ends TLS, and where it listens.
    fn ends_tls(&self) -> (Haproxy, SocketAddr) {
        let (socket, address) = free_port();
        let workloads = self.server.data().join("workload-ca.crt");
        let replaced = [
            ("10.0.0.4:6444", self.ends_tls.to_string()),
            ("/etc/haproxy/front.pem", self.path("front.pem")),
            ("/etc/haproxy/own.pem", self.path("front.pem")),
            ("/etc/haproxy/workload-ca.crt", workloads.display().to_string()),
            ("/etc/haproxy/postern-ca.crt", self.server.bootstrap().ca_file.display().to_string()),
        ];
        let pairs = replaced.each_ref().map(|(from, to)| (*from, to.as_str()));
        (self.haproxy("ends-tls", 1, socket.into(), &pairs), address)
    }

    /// Starts a proxy of the guide. It listens before it runs: the socket is handed to it.
    fn haproxy(&self, name: &str, block: usize, socket: OwnedFd, pairs: &[(&str, &str)]) -> Haproxy {
        let config = replaced(blocks("haproxy")[block], &[pairs, &[("203.0.113.10:443", "fd@0")]].concat());
        let file = self.scratch.write(format!("{name}.cfg"), config + "\n");
        let log = std::fs::File::create(self.scratch.join(format!("{name}.log"))).expect("a log");
        let child = std::process::Command::new(tool("haproxy"))
            .args(["-db", "-f"])
            .arg(file)
            .env_clear()
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("haproxy starts");
        Haproxy(child)
    }

    /// A client at an address; gives the status, `000` without an answer, and the body.
    fn ask(&self, through: SocketAddr, from: &str, further: &[&str]) -> (String, Value) {
        let outcome = Command::new(tool("curl"))
            .args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"])
            .arg(self.path("trusted.pem"))
            .arg(format!("https://{}/v2/", self.host()))
            .args(["--interface", from, "--connect-to", &format!("::{through}")])
            .args(further)
            .run();
        let (body, status) = outcome.stdout.rsplit_once('\n').unwrap_or(("", &outcome.stdout));
        (status.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    #[track_caller]
    fn check(&self, through: SocketAddr, from: &str, further: &[&str], expected: &str) {
        let (status, body) = self.ask(through, from, further);
        assert_eq!(status, expected, "{from} {further:?}: {body}\n{}", self.server.log());
    }

    /// Place, ingress and address of a refusal, and why its workload was rejected.
    fn origin_of(&self, refusal: &Value) -> (Value, Value) {
        let message = refusal["errors"][0]["message"].as_str().expect("a refusal says why");
        let (_, id) = message.rsplit_once(' ').expect("the message ends with the id");
        let origin = postern(&self.server, &["explain", "--json"], &[id]).run().succeeded().json()["origin"].clone();
        (json!([origin["place"], origin["ingress"], origin["address"]]), origin["workload"]["rejected"].clone())
    }

    /// A connection from the proxy's address, with bytes sent.
    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.relay).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
        stream.write_all(bytes).expect("the server takes what is sent");
        stream
    }
}

fn free_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Sends bytes ahead of each connection, as a proxy does; gives the address to connect to.
fn ahead(target: SocketAddr, bytes: Vec<u8>) -> SocketAddr {
    let (listener, address) = free_port();
    thread::spawn(move || {
        // Clients of this test only: the thread ends with the test's process.
        for client in listener.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect(target) else { continue };
            let _ = server.write_all(&bytes);
            let pairs = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
            for (from, to) in pairs {
                if let (Ok(mut from), Ok(mut to)) = (from, to) {
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        }
    });
    address
}

/// A header for a client at `source`, with further fields.
fn header(source: [u8; 4], fields: &[u8]) -> Vec<u8> {
    let rest = [&source, &[203, 0, 113, 10][..], &[0x30, 0x39, 0x01, 0xbb], fields].concat();
    let length = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
    [SIGNATURE, &[0x21, 0x11], &length, &rest].concat()
}

#[test]
fn a_proxy_that_hands_bytes_on_says_who_is_behind_it() {
    let bench = Bench::new();
    let (_haproxy, relay) = bench.relay();
    bench.check(relay, "127.0.0.9", &[], "401");
    let (status, refusal) = bench.ask(relay, "127.0.0.8", &[]);
    assert_eq!(status, "403", "{refusal}");
    let message = refusal["errors"][0]["message"].as_str().expect("a refusal says why");
    assert!(message.starts_with("client with IP '127.0.0.8' is not allowed access."), "{message}");
    assert_eq!(bench.origin_of(&refusal).0, json!(["public", "public", "127.0.0.8"]));

    // The same header from anybody else is no header, and a proxy without one is nobody.
    let good = header([127, 0, 0, 9], &[]);
    bench.check(ahead(bench.relay, good.clone()), "127.0.0.1", &[], "401");
    bench.check(ahead(bench.server.address(), good.clone()), "127.0.0.1", &[], "000");
    bench.check(bench.relay, "127.0.0.9", &[], "000");
    bench.check(bench.relay, "127.0.0.1", &[], "000");
    bench.check(ahead(bench.relay, b"PROXY TCP4 127.0.0.9 203.0.113.10 1 443\r\n".to_vec()), "127.0.0.1", &[], "000");
    let mut cut = good;
    cut[15] = 13;
    bench.check(ahead(bench.relay, cut), "127.0.0.1", &[], "000");
}

#[test]
fn clients_of_a_proxy_that_ends_tls_do_not_share_its_connections() {
    let bench = Bench::new();
    let (_haproxy, ends_tls) = bench.ends_tls();
    for _ in 0..3 {
        bench.check(ends_tls, "127.0.0.9", &[], "401");
        bench.check(ends_tls, "127.0.0.8", &[], "403");
    }
}

#[test]
fn what_a_proxy_says_of_nobody_opens_nothing_but_its_health_checks() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    // The proxy's own address is one of those that may come in.
    let rules =
        json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "value": "127.0.0.1"}]}});
    admin.update(&admin.first_registry(), &rules);
    bench.check(bench.server.address(), "127.0.0.1", &[], "401");
    let local = ahead(bench.relay, [SIGNATURE, &[0x20, 0, 0, 0]].concat());
    let (status, refusal) = bench.ask(local, "127.0.0.1", &[]);
    assert_eq!(status, "403", "{refusal}");
    assert_eq!(bench.origin_of(&refusal).0, json!(["relay", "misrouted", "127.0.0.1"]));
    let get = |scheme: &str, path: &str| {
        let url = format!("{scheme}://localhost:{}{path}", bench.server.address().port());
        let to = format!("::{local}");
        let options =
            ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--connect-to", &to, "--cacert"];
        Command::new(tool("curl")).args(options).arg(bench.path("trusted.pem")).arg(url).run().stdout
    };
    assert_eq!(["/healthz", "/readyz", "/metrics"].map(|path| get("https", path)), ["200", "200", "404"]);
    assert_eq!(get("http", "/healthz"), "000");
    // A real proxy that does not know its client's address.
    let socket = bench.path("client.sock");
    let listener = UnixListener::bind(&socket).expect("a new path");
    let _haproxy = bench.haproxy("unix", 0, listener.into(), &[("10.0.0.4:6443", &bench.relay.to_string())]);
    let (status, refusal) = bench.ask(bench.relay, "127.0.0.1", &["--unix-socket", &socket]);
    assert_eq!(status, "403", "{refusal}");
    assert_eq!(bench.origin_of(&refusal).0, json!(["relay", "misrouted", "127.0.0.1"]));
}

#[test]
fn limits_count_whoever_the_proxy_names() {
    let bench = Bench::with("connections_per_source = 2\nhandshake_seconds = 60");
    let (_haproxy, relay) = bench.relay();
    let same = header([127, 0, 0, 8], &[]);
    let held: Vec<TcpStream> = (0..3).map(|_| bench.send(&same)).collect();
    let (closed, first_closed) = mpsc::channel();
    for stream in &held {
        let (mut stream, closed) = (stream.try_clone().expect("a socket can be shared"), closed.clone());
        thread::spawn(move || closed.send(stream.read(&mut [0]).is_ok_and(|count| count == 0)));
    }
    assert_eq!(first_closed.recv_timeout(PATIENCE), Ok(true), "one of three is closed");
    // The proxy has more than two open: those of the others are served, and the same source's are not.
    bench.check(relay, "127.0.0.9", &[], "401");
    bench.check(relay, "127.0.0.8", &[], "000");
    assert!(first_closed.try_recv().is_err(), "the other two stay");
    // The server waits for them when it stops.
    for stream in &held {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_proxy_that_says_nothing_is_not_waited_for() {
    let bench = Bench::with("handshake_seconds = 1");
    // Whoever only looks whether the port is open is not worth a line.
    drop(bench.send(&[]));
    let too_long = [SIGNATURE, &[0x21, 0x11, 0x7f, 0xff]].concat();
    let rows = [&[][..], &SIGNATURE[..5], &header([127, 0, 0, 9], &[])[..20], &too_long];
    for said in rows {
        let mut rest = Vec::new();
        let ended = bench.send(said).read_to_end(&mut rest);
        // Closed with bytes unread is a reset.
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{said:?}");
        assert!(rest.is_empty(), "{said:?}: {rest:?}");
    }
    let log = bench.server.log();
    assert_eq!(log.matches("a proxy's connection is refused").count(), rows.len(), "{log}");
}

#[test]
fn a_private_link_is_a_place_and_an_unknown_one_is_closed() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let connection = format!("{}/privateEndpointConnections/e", admin.first_registry());
    let endpoint = admin.id("g", "Microsoft.Network/privateEndpoints/e");
    let approve = json!({"properties": {
        "privateEndpoint": {"id": endpoint}, "privateLinkServiceConnectionState": {"status": "Approved"},
    }});
    admin.send("PUT", &connection, Some(&approve));
    admin.update(&admin.first_registry(), &json!({"publicNetworkAccess": "Disabled"}));
    let link = [0xee, 0, 5, 1, 0x78, 0x56, 0x34, 0x12];
    bench.check(ahead(bench.relay, header([10, 1, 0, 9], &link)), "127.0.0.1", &[], "401");
    for (source, fields, place, ingress) in [
        ([10, 1, 0, 9], &[][..], "public", "public"),
        ([10, 2, 0, 9], &link, "vnet", "misrouted"),
        ([10, 1, 0, 9], &[0xee, 0, 5, 1, 0x79, 0x56, 0x34, 0x12], "relay", "misrouted"),
        ([10, 1, 0, 9], &[0xee, 0, 1, 1], "relay", "misrouted"),
    ] {
        let (status, refusal) = bench.ask(ahead(bench.relay, header(source, fields)), "127.0.0.1", &[]);
        assert_eq!(status, "403", "{fields:?}");
        let address = std::net::Ipv4Addr::from(source).to_string();
        assert_eq!(bench.origin_of(&refusal).0, json!([place, ingress, address]), "{fields:?}");
    }
}

#[test]
fn a_certificate_in_a_header_counts_from_the_proxy_that_ends_tls_only() {
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    admin.update(&admin.first_registry(), &json!({"publicNetworkAccess": "Disabled"}));
    let group = admin.container_group("mycontainer", &admin.first_registry());
    let out = bench.path("workload");
    let _ = postern(&bench.server, &["workload", "certificate"], &["--as", &group, "--out", &out]).run().succeeded();
    let (certificate, key) = (format!("{out}/client.cert"), format!("{out}/client.key"));
    let proof = ["--cert", certificate.as_str(), "--key", key.as_str()];
    let claimed = format!("Client-Cert: :{}:", STANDARD.encode(der(Path::new(&certificate))));
    let claim = ["--header", claimed.as_str()];

    let ((_first, ends_tls), (_second, relay)) = (bench.ends_tls(), bench.relay());
    bench.check(ends_tls, "127.0.0.8", &proof, "401");
    bench.check(ends_tls, "127.0.0.8", &[], "403");
    // A certificate is public: to show it is not to have its key.
    bench.check(ends_tls, "127.0.0.8", &claim, "403");
    bench.check(relay, "127.0.0.8", &proof, "401");
    let direct = bench.server.address();
    bench.check(direct, "127.0.0.8", &proof, "401");
    for (through, what) in [(relay, "through a proxy that hands bytes on"), (direct, "directly")] {
        // With a certificate of one's own, too: the header speaks for somebody else.
        for further in [&claim[..], &[&claim[..], &proof].concat()] {
            let (status, refusal) = bench.ask(through, "127.0.0.8", further);
            assert_eq!(status, "403", "{what}");
            let (_, rejected) = bench.origin_of(&refusal);
            assert!(rejected.as_str().is_some_and(|why| why.contains("came in a header")), "{what}: {rejected}");
        }
    }
    // On the proxy's listener nobody is heard who is not the proxy: neither another address nor its neighbour at the same one.
    let through = ahead(bench.ends_tls, header([127, 0, 0, 8], &[]));
    bench.check(bench.ends_tls, "127.0.0.8", &claim, "000");
    bench.check(through, "127.0.0.1", &claim, "000");
    bench.check(through, "127.0.0.1", &[&claim[..], &proof].concat(), "000");
    // The proxy itself, by its certificate, with a header that cannot be read.
    let front = bench.path("front.pem");
    bench.check(through, "127.0.0.1", &["--cert", &front, "--header", &claimed], "401");
    bench.check(through, "127.0.0.1", &["--cert", &front, "--header", &claimed, "--header", &claimed], "403");
    bench.check(through, "127.0.0.1", &["--cert", &front, "--header", "Client-Cert: :AAAA:"], "403");
    // What is taken away from the workload is taken away here as well, on connections that are open.
    admin.send("DELETE", &group, None);
    bench.check(ends_tls, "127.0.0.8", &proof, "403");
}

#[test]
fn go_clients_and_images_go_through_both_kinds_of_proxy() {
    const BYTES: usize = 20 << 20;
    const LAYER: &str = "layer:application/octet-stream";
    let bench = Bench::new();
    let admin = Admin::of(&bench.server);
    let group = admin.container_group("builder", &admin.first_registry());
    let out = bench.path("workload");
    let _ = postern(&bench.server, &["workload", "certificate"], &["--as", &group, "--out", &out]).run().succeeded();
    let workload = ["--cert-file", &format!("{out}/client.cert"), "--key-file", &format!("{out}/client.key")];
    let bootstrap = bench.server.bootstrap();
    let login = ["--username", &bootstrap.client_id, "--password", &bootstrap.client_secret];
    let containers = Containers::new();
    let layer: Vec<u8> = (0..BYTES).map(|at| u8::try_from((at * at / 7) % 251).unwrap_or_default()).collect();
    containers.scratch().write("layer", &layer);
    let ((_first, ends_tls), (_second, relay)) = (bench.ends_tls(), bench.relay());
    for (name, proxy) in [("relay", relay), ("ends-tls", ends_tls)] {
        let image = format!("{}/app:{name}", bench.host());
        let resolve = format!("{}:{proxy}", bench.host());
        let oras = |arguments: &[&[&str]]| {
            let command = containers.oras().args(arguments.concat());
            command.args(["--ca-file", &bench.path("trusted.pem"), "--resolve", &resolve]).run()
        };
        admin.update(&admin.first_registry(), &json!({"publicNetworkAccess": "Disabled"}));
        let nobody = oras(&[&["manifest", "fetch", &image]]).failed();
        assert!(nobody.stderr.contains("is not allowed access"), "{name}: {}", nobody.stderr);
        // The wall lets the workload in, and then asks who it is.
        let known = oras(&[&["manifest", "fetch", &image], &workload]).failed();
        assert!(known.stderr.contains("unauthorized"), "{name}: {}", known.stderr);
        let open = json!({"publicNetworkAccess": "Enabled", "networkRuleSet": {"defaultAction": "Allow"}});
        admin.update(&admin.first_registry(), &open);
        let _ = oras(&[&["push", &image, LAYER], &login]).succeeded();
        let _ = oras(&[&["pull", "--output", name, &image], &login]).succeeded();
        assert!(std::fs::read(containers.scratch().join(format!("{name}/layer"))).is_ok_and(|pulled| pulled == layer));
    }
}

/// The one certificate of a PEM file.
fn der(file: &Path) -> Vec<u8> {
    let pem = std::fs::read_to_string(file).expect("the file can be read");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("PEM is base64")
}

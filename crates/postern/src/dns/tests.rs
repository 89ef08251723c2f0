use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use postern_model::ResourceId;
use postern_store::{DirectoryOptions, Expected, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::environment;

const GROUP: &str = "/subscriptions/s/resourceGroups/g/providers";
const PLACES: &str = "
    [[place]]
    name = 'vnet'
    peers = ['10.1.0.0/16']
    listen = '10.1.0.4'
    private_endpoint = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/one'

    [[place]]
    name = 'first'
    peers = ['10.0.0.0/16']
    listen = '10.0.0.4'
    interface = 'eth1'
    dns_listen = '10.0.0.2:53'
    private_endpoint = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/one'

    [[place]]
    name = 'second'
    peers = ['10.0.0.0/16']
    listen = '10.0.0.4'
    interface = 'eth2'
    dns_listen = '10.0.0.2:53'
    private_endpoint = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/two'
    address = '10.0.0.44'

    [[place]]
    name = 'office'
    peers = ['10.9.0.0/16']
";

struct Bench {
    dns: Dns,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (clock, random) = (environment::clock(), environment::random());
        let store = Store::open(StoreOptions::new(folder.path().join("data"), clock, random)).await.unwrap();
        let options = DirectoryOptions {
            settings: Arc::default(),
            suffix: "azurecr.io:443".into(),
            default_registry: Some("acme1".into()),
        };
        let directory = Directory::open(&store, options).await.unwrap();
        let dns = Dns {
            zone: Zone::new("azurecr.io", 5).unwrap(),
            public: vec!["203.0.113.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
            places: Places::new(&Config::parse(PLACES).unwrap().places).unwrap(),
            directory,
        };
        let bench = Self { dns, _folder: folder };
        bench.put("Microsoft.ContainerRegistry/registries/acme1", &json!({"sku": {"name": "Premium"}})).await;
        bench.put("Microsoft.ContainerRegistry/registries/plain", &json!({"sku": {"name": "Premium"}})).await;
        bench
    }

    async fn put(&self, id: &str, document: &Value) {
        let id: ResourceId = format!("{GROUP}/{id}").parse().unwrap();
        self.dns.directory.put(id, document.as_object().unwrap().clone(), Expected::Any).await.unwrap();
    }

    /// Puts the registry's connection to a private endpoint into a state.
    async fn connect(&self, endpoint: &str, status: &str) {
        let path = format!("Microsoft.ContainerRegistry/registries/acme1/privateEndpointConnections/{endpoint}");
        let endpoint = format!("{GROUP}/Microsoft.Network/privateEndpoints/{endpoint}");
        let properties =
            json!({"privateEndpoint": {"id": endpoint}, "privateLinkServiceConnectionState": {"status": status}});
        self.put(&path, &json!({"properties": properties})).await;
    }

    /// The answer as a line: code, then records.
    #[track_caller]
    fn ask(&self, from: (Option<&str>, &str), name: &str, kind: RecordType) -> String {
        let (interface, asker) = (from.0, from.1.parse().unwrap());
        let scope = Scope::new(interface, None);
        let look = |asked: &Asked| self.dns.answer(&scope, asker, asked);
        let answer = respond(&self.dns.zone, &question(name, kind), Transport::Datagram, look).unwrap();
        shown(&answer)
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.metadata.recursion_desired = true;
    message
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    query(name, kind).to_vec().unwrap()
}

fn shown(answer: &[u8]) -> String {
    let answer = Message::from_vec(answer).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (7, MessageType::Response));
    let code = match answer.metadata.response_code {
        ResponseCode::NoError => "ok".to_owned(),
        code => format!("{code:?}"),
    };
    let records = answer.answers.iter().map(|record| format!(" {} {}", record.record_type(), record.data));
    let authority = answer.authorities.iter().map(|record| format!(" [{}]", record.record_type()));
    code + &records.chain(authority).collect::<String>()
}

const PUBLIC: &str = "ok A 203.0.113.10";
const LINKED: &str = "ok CNAME acme1.privatelink.azurecr.io.";

#[tokio::test]
async fn names_lead_to_the_endpoint_of_the_askers_own_network() {
    let bench = Bench::new().await;
    let a = |from, name| bench.ask(from, name, RecordType::A);
    let (vnet, office) = ((None, "10.1.0.9"), (None, "10.9.0.9"));
    let (first, second) = ((Some("eth1"), "10.0.0.9"), (Some("eth2"), "10.0.0.9"));
    for asker in [vnet, office, first, second] {
        assert_eq!(a(asker, "acme1.azurecr.io."), PUBLIC);
        assert_eq!(a(asker, "acme1.privatelink.azurecr.io."), "NXDomain [SOA]");
    }
    bench.connect("one", "Pending").await;
    assert_eq!(a(vnet, "acme1.azurecr.io."), PUBLIC);
    bench.connect("one", "Approved").await;
    assert_eq!(a(vnet, "acme1.azurecr.io."), format!("{LINKED} A 10.1.0.4"));
    assert_eq!(a(first, "acme1.azurecr.io."), format!("{LINKED} A 10.0.0.4"));
    assert_eq!(a(second, "acme1.azurecr.io."), format!("{LINKED} A 203.0.113.10"));
    assert_eq!(a(office, "acme1.azurecr.io."), format!("{LINKED} A 203.0.113.10"));
    assert_eq!(a(vnet, "acme1.privatelink.azurecr.io."), "ok A 10.1.0.4");
    assert_eq!(
        a(vnet, "acme1.eastus.data.azurecr.io."),
        "ok CNAME acme1.eastus.data.privatelink.azurecr.io. A 10.1.0.4"
    );
    assert_eq!(a(vnet, "plain.azurecr.io."), PUBLIC);
    bench.connect("two", "Approved").await;
    assert_eq!(a(second, "acme1.azurecr.io."), format!("{LINKED} A 10.0.0.44"));
    bench.connect("one", "Rejected").await;
    assert_eq!(a(vnet, "acme1.azurecr.io."), format!("{LINKED} A 203.0.113.10"));
    assert_eq!(a(second, "acme1.azurecr.io."), format!("{LINKED} A 10.0.0.44"));
}

#[tokio::test]
async fn an_endpoint_hides_the_public_address_of_the_other_family() {
    let bench = Bench::new().await;
    bench.connect("one", "Approved").await;
    let ask = |asker, kind| bench.ask((None, asker), "Acme1.Azurecr.IO.", kind);
    assert_eq!(ask("10.1.0.9", RecordType::AAAA), "ok CNAME Acme1.privatelink.azurecr.io. [SOA]");
    assert_eq!(ask("10.9.0.9", RecordType::AAAA), "ok CNAME Acme1.privatelink.azurecr.io. AAAA 2001:db8::10");
    assert_eq!(ask("10.1.0.9", RecordType::ANY), "ok CNAME Acme1.privatelink.azurecr.io. A 10.1.0.4");
    assert_eq!(ask("10.1.0.9", RecordType::CNAME), "ok CNAME Acme1.privatelink.azurecr.io.");
    assert_eq!(ask("10.1.0.9", RecordType::TXT), "ok CNAME Acme1.privatelink.azurecr.io. [SOA]");
}

#[tokio::test]
async fn only_own_names_are_answered() {
    let bench = Bench::new().await;
    let ask = |name, kind| bench.ask((None, "198.51.100.7"), name, kind);
    assert_eq!(ask("azurecr.io.", RecordType::A), PUBLIC);
    assert!(ask("azurecr.io.", RecordType::SOA).starts_with("ok SOA dns.azurecr.io."));
    assert_eq!(ask("workload-gateway.azurecr.io.", RecordType::A), PUBLIC);
    assert_eq!(ask("nobody.azurecr.io.", RecordType::A), "NXDomain [SOA]");
    assert_eq!(ask("privatelink.azurecr.io.", RecordType::A), "ok [SOA]");
    assert_eq!(ask("eastus.data.privatelink.azurecr.io.", RecordType::A), "ok [SOA]");
    assert_eq!(ask("plain.azurecr.io.", RecordType::MX), "ok [SOA]");
    for name in ["example.com.", ".", "localhost.", "azurecr.io.example.com.", "xazurecr.io."] {
        assert_eq!(ask(name, RecordType::A), "Refused", "{name}");
    }
    // A network's own resolver is for that network.
    assert_eq!(bench.ask((Some("eth1"), "198.51.100.7"), "plain.azurecr.io.", RecordType::A), "Refused");
}

#[test]
fn what_is_no_question_gets_no_answer() {
    let zone = Zone::new("azurecr.io", 5).unwrap();
    let found = |_: &Asked| Answer::Addresses { linked: false, addresses: vec![[203, 0, 113, 10].into()] };
    let respond = |bytes: &[u8]| respond(&zone, bytes, Transport::Datagram, found);
    let good = question("acme1.azurecr.io.", RecordType::A);
    assert_eq!(shown(&respond(&good).unwrap()), PUBLIC);
    for length in 0..12 {
        assert_eq!(respond(&good[..length]), None, "{length}");
    }
    for length in 12..good.len() {
        assert_eq!(shown(&respond(&good[..length]).unwrap()), "FormErr", "{length}");
    }
    let answer = respond(&good).unwrap();
    assert_eq!(respond(&answer), None, "an answer is not answered");
    assert_eq!(respond(&[good.clone(), vec![0; 1232]].concat()), None);
    let mut counted = good.clone();
    counted[6..8].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(shown(&respond(&counted).unwrap()), "FormErr");
    let mut update = good;
    update[2] = 0x28;
    assert_eq!(shown(&respond(&update).unwrap()), "NotImp");
}

#[test]
fn an_answer_fits_what_the_client_takes() {
    let zone = Zone::new("azurecr.io", 5).unwrap();
    let many: Vec<IpAddr> = (0..40).map(|n| [10, 0, 0, n].into()).collect();
    let found = |_: &Asked| Answer::Addresses { linked: true, addresses: many.clone() };
    let mut asked = query("acme1.azurecr.io.", RecordType::A);
    let small = respond(&zone, &asked.to_vec().unwrap(), Transport::Datagram, found).unwrap();
    let cut = Message::from_vec(&small).unwrap();
    assert!(small.len() <= 512 && cut.metadata.truncation && cut.answers.is_empty(), "{}", small.len());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns.clone());
    let large = respond(&zone, &asked.to_vec().unwrap(), Transport::Datagram, found).unwrap();
    assert!(large.len() <= 1232 && Message::from_vec(&large).unwrap().answers.len() == 41, "{}", large.len());
    asked.edns = None;
    let whole = respond(&zone, &asked.to_vec().unwrap(), Transport::Connection, found).unwrap();
    assert_eq!(Message::from_vec(&whole).unwrap().answers.len(), 41);
    edns.set_version(1);
    asked.set_edns(edns);
    let newer = respond(&zone, &asked.to_vec().unwrap(), Transport::Datagram, found).unwrap();
    // 16 is "bad version" here and "bad signature" elsewhere.
    assert_eq!(u16::from(Message::from_vec(&newer).unwrap().metadata.response_code), 16);
}

#[tokio::test]
async fn both_transports_answer_at_one_address() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Bench { dns, _folder } = Bench::new().await;
    let responder = Responder::bind(&["127.0.0.1:0".parse().unwrap()], &[]).unwrap();
    let address = responder.addresses().unwrap()[0];
    let running = responder.serve(Arc::new(dns));
    let asked = question("plain.azurecr.io.", RecordType::A);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = [0; 512];
    // What is no question is dropped, and the next one answered.
    for bytes in [&b"junk"[..], &asked] {
        socket.send_to(bytes, address).await.unwrap();
    }
    let length = socket.recv(&mut answer).await.unwrap();
    assert_eq!(shown(&answer[..length]), PUBLIC);
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        let length = u16::try_from(asked.len()).unwrap();
        connection.write_all(&[&length.to_be_bytes(), asked.as_slice()].concat()).await.unwrap();
        let mut answer = vec![0; usize::from(connection.read_u16().await.unwrap())];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(shown(&answer), PUBLIC);
    }
    // A question that nobody needs ends the connection.
    connection.write_all(&[0xff, 0xff]).await.unwrap();
    assert_eq!(connection.read(&mut answer).await.unwrap(), 0);
    running.iter().for_each(tokio::task::AbortHandle::abort);
}

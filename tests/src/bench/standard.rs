//! The places that the documents speak of, and a server that knows them.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::topology::{self, Spec, Way};
use super::{Place, sandbox};
use crate::{Admin, Command, Server};

/// The port of all addresses: names have no port then.
pub(super) const PORT: u16 = 443;
/// Registries are named as in the documents.
pub(super) const SUFFIX: &str = "azurecr.io";
/// The server's address on the public networks.
pub(super) const PUBLIC: &str = "198.18.0.10";
pub(super) const PUBLIC_V6: &str = "2001:db8:18::10";
/// The subscription of everything.
const SUBSCRIPTION: &str = "5b5c0000-0000-4000-8000-000000000001";
/// The group of everything; the first registry is in it.
const GROUP: &str = "postern";
/// What the server says when it has read its configuration again.
const READ_AGAIN: &str = "configuration and certificate read again";
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// Places, joined as the module's documentation draws them, and a server among them.
#[derive(Debug)]
pub struct Bench {
    /// Ends before its place does.
    server: Option<Server>,
    server_place: Place,
    places: Vec<Place>,
    setup: Setup,
}

/// What a bench is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its places.
    pub places: Vec<Spec>,
    /// Lines of the section `[access]` of the server's configuration.
    pub access: String,
    /// Lines of its section `[limits]`.
    pub limits: String,
    /// Lines of its section `[throttling]`.
    pub throttling: String,
    /// Lines of its section `[outbound]`.
    pub outbound: String,
    /// Lines of its section `[log]`.
    pub log: String,
    /// Sections `[[issuer]]`, as they are.
    pub issuers: String,
    /// Lines of its section `[tasks]`, and what belongs to it.
    pub tasks: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            places: topology::standard(),
            access: String::new(),
            limits: String::new(),
            throttling: String::new(),
            outbound: String::new(),
            log: String::new(),
            issuers: String::new(),
            tasks: String::new(),
        }
    }
}

impl Setup {
    /// The places, as a table for people.
    pub fn table(&self) -> String {
        let mut text = "| place | addresses | how its network reaches registries |\n| --- | --- | --- |\n".to_owned();
        for Spec { name, addresses, by, .. } in &self.places {
            let by = match by {
                Way::Internet => "over the internet".to_owned(),
                Way::PrivateEndpoint(endpoint) => format!("private endpoint at {endpoint}, once it is approved"),
                Way::ServiceEndpoint => "service endpoint: its private address is seen at the public one".to_owned(),
                Way::Peering(with) => {
                    format!("peered with `{with}`: sees the endpoint there, which does not let it in")
                }
            };
            let _ = writeln!(text, "| `{name}` | {} | {by} |", addresses.join(", "));
        }
        text
    }

    /// Gives a place's private endpoint or subnet another resource id.
    #[must_use]
    pub fn resource(mut self, place: &str, id: &str) -> Self {
        let found = self.places.iter_mut().find(|spec| spec.name == place);
        found.unwrap_or_else(|| panic!("the bench has no place `{place}`")).resource = Some(id.to_owned());
        self
    }
}

impl Bench {
    /// All places, and no server yet.
    fn networks(setup: Setup) -> Self {
        topology::build(&setup.places);
        let place = |spec: &Spec| {
            let place = Place::new(&spec.name, spec.addresses.iter().map(|address| host(address)).collect());
            place.set_resolver(match &spec.by {
                Way::PrivateEndpoint(endpoint) => host(endpoint),
                Way::Internet | Way::ServiceEndpoint | Way::Peering(_) => host(PUBLIC),
            });
            place
        };
        let places = setup.places.iter().map(place).collect();
        let server_place = Place::new("server", vec![host(PUBLIC)]);
        server_place.set_resolver(host(PUBLIC));
        Self { server: None, server_place, places, setup }
    }

    /// All places and a server in their middle: registries are named as in the documents (`<name>.azurecr.io`, port 443), and the
    /// bench's authority is the system's. The first registry is called `postern`.
    #[expect(clippy::new_without_default, reason = "starting a server is not a default value")]
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// The same with another configuration.
    pub fn with(setup: Setup) -> Self {
        let mut bench = Self::networks(setup);
        bench.restart();
        bench
    }

    /// Ends the server. Its data stays.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Ends the server as a crash would, and starts it again.
    pub fn crash(&mut self) {
        self.server.as_mut().expect("a bench has a server").crash();
        self.restart();
    }

    /// Starts the server, on the data that it left if it ran before.
    pub fn restart(&mut self) {
        self.stop();
        self.write_configuration();
        let config = configuration_file().display().to_string();
        let server = Server::start_at(&self.server_place, &self.data(), &["--config", &config]);
        let authority = fs::read(&server.bootstrap().ca_file).expect("a server writes its authority");
        sandbox::trust(&authority).expect("the bench's folder can be written");
        self.server = Some(server);
    }

    /// Gives the running server other lines in its section `[access]`. They hold when this returns.
    pub fn set_access(&mut self, lines: &str) {
        if self.setup.access == lines {
            return;
        }
        lines.clone_into(&mut self.setup.access);
        self.write_configuration();
        let server = self.server();
        let read = |server: &Server| server.log().matches(READ_AGAIN).count();
        let before = read(server);
        server.hang_up();
        let start = Instant::now();
        while read(server) == before {
            assert!(start.elapsed() < RELOAD_LIMIT, "the server did not read its configuration\n{}", server.log());
            std::thread::yield_now();
        }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        sandbox::path("data")
    }

    fn write_configuration(&self) {
        let text = topology::configuration(&self.setup, SUBSCRIPTION);
        fs::write(configuration_file(), text).expect("the bench's folder can be written");
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a bench has a server")
    }

    /// The server's administrator.
    pub fn admin(&self) -> Admin<'_> {
        Admin::of(self.server())
    }

    /// A machine by its name, which is also the name of the place in the server's configuration: `internet`, `ipv6`, `office`,
    /// `shared-pool`, `workload`, `vnet-a`, `vnet-b`, `subnet`, `other-subnet`, `peered`.
    pub fn place(&self, name: &str) -> &Place {
        let found = self.places.iter().find(|place| place.name() == name);
        found.unwrap_or_else(|| panic!("the bench has no place `{name}`"))
    }

    /// Every machine but the server's.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The machine that the server runs on.
    pub fn server_place(&self) -> &Place {
        &self.server_place
    }

    /// The host name of a registry.
    pub fn host(registry: &str) -> String {
        format!("{registry}.{SUFFIX}")
    }

    /// The server's address on the public networks.
    pub fn public_address() -> SocketAddr {
        SocketAddr::new(host(PUBLIC), PORT)
    }

    /// The same in IPv6.
    pub fn public_address_v6() -> SocketAddr {
        SocketAddr::new(host(PUBLIC_V6), PORT)
    }

    /// The address of the private endpoint in the network of this place.
    pub fn endpoint_address(&self, place: &str) -> SocketAddr {
        let spec = self.setup.places.iter().find(|spec| spec.name == place);
        match spec.map(|spec| &spec.by) {
            Some(Way::PrivateEndpoint(address)) => SocketAddr::new(host(address), PORT),
            _ => panic!("`{place}` has no private endpoint"),
        }
    }

    /// The resource id of the private endpoint in the network of this place, such as `vnet-a`.
    pub fn endpoint(place: &str) -> String {
        format!("{}/privateEndpoints/{place}", network_provider())
    }

    /// The resource id of the subnet that is this place, such as `subnet`.
    pub fn subnet(place: &str) -> String {
        format!("{}/virtualNetworks/bench/subnets/{place}", network_provider())
    }

    /// `postern` as a command line tool in a place, talking to the server as its administrator.
    pub fn postern(&self, place: &Place, subcommand: &[&str], rest: &[&str]) -> Command {
        place.command(crate::server::binary()).args(subcommand).arg("--server").arg(self.bootstrap_file()).args(rest)
    }

    /// The administrator's file for other machines: there `localhost` is not the server.
    fn bootstrap_file(&self) -> PathBuf {
        let bootstrap = fs::read(self.server().data().join("bootstrap.json")).expect("a server writes its file");
        let mut bootstrap: serde_json::Value = serde_json::from_slice(&bootstrap).expect("the file is JSON");
        for endpoint in ["armEndpoint", "authority"] {
            bootstrap[endpoint] = format!("https://{SUFFIX}").into();
        }
        let file = sandbox::path("bootstrap.json");
        fs::write(&file, bootstrap.to_string()).expect("the bench's folder can be written");
        file
    }
}

fn network_provider() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network")
}

fn configuration_file() -> PathBuf {
    sandbox::path("postern.toml")
}

/// `203.0.113.9` of `203.0.113.9/24`.
pub(super) fn host(address: &str) -> IpAddr {
    let host = address.split('/').next().unwrap_or_default();
    host.parse().unwrap_or_else(|_| panic!("`{address}` is no address"))
}

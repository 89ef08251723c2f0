//! The places that the documents speak of, and a server that knows them.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::fabric::{FABRIC, Fabric};
use super::{Place, sandbox};
use crate::{Admin, Command, Server};

/// The port of all addresses: names have no port then.
const PORT: u16 = 443;
/// Registries are named as in the documents.
const SUFFIX: &str = "azurecr.io";
/// The subscription of everything.
const SUBSCRIPTION: &str = "5b5c0000-0000-4000-8000-000000000001";
/// The group of everything; the first registry is in it.
const GROUP: &str = "postern";
/// The server's address on the public networks.
const PUBLIC: &str = "198.18.0.10";
const PUBLIC_V6: &str = "2001:db8:18::10";
/// Their addresses on its networks.
const ENDPOINTS: [(&str, &str); 2] = [("vnet-a", "10.0.0.10"), ("vnet-b", "10.0.0.20")];
const SUBNETS: [(&str, &str); 2] = [("subnet", "10.1.0.0/24"), ("other-subnet", "10.2.0.0/24")];

/// Machines on public networks: name, network and addresses.
const PUBLIC_PLACES: [(&str, &str, &[&str]); 5] = [
    ("internet", "net-internet", &["203.0.113.9/24"]),
    ("ipv6", "net-internet", &["203.0.113.6/24", "2001:db8::7/64"]),
    ("office", "net-office", &["198.51.100.7/24"]),
    ("shared-pool", "net-pool", &["192.0.2.40/24"]),
    ("workload", "net-internet", &["203.0.113.77/24"]),
];

/// Places, joined as the module's documentation draws them, and a server among them.
#[derive(Debug)]
pub struct Bench {
    /// Ends before its place does.
    server: Option<Server>,
    server_place: Place,
    places: Vec<Place>,
    /// Registries, and the place whose private endpoint leads to them there.
    names: Vec<(String, Option<String>)>,
}

impl Bench {
    /// All places, and no server yet.
    fn networks() -> Self {
        let mut fabric = Fabric::new();
        fabric.network("net-server", &["198.18.0.1/24", "2001:db8:18::1/64"]);
        fabric.network("net-internet", &["203.0.113.1/24", "2001:db8::1/64"]);
        fabric.network("net-office", &["198.51.100.1/24"]);
        fabric.network("net-pool", &["192.0.2.1/24"]);
        for network in ["net-vnet-a", "net-vnet-b", "net-subnet", "net-other", "net-peered"] {
            fabric.network(network, &[]);
        }
        fabric.namespace("server");
        for (device, network, addresses) in [
            ("public0", "net-server", [format!("{PUBLIC}/24"), format!("{PUBLIC_V6}/64")].as_slice()),
            ("vneta0", "net-vnet-a", &["10.0.0.10/24".to_owned()]),
            ("vnetb0", "net-vnet-b", &["10.0.0.20/24".to_owned()]),
            ("subnet0", "net-subnet", &["10.1.0.1/24".to_owned()]),
            ("other0", "net-other", &["10.2.0.1/24".to_owned()]),
            ("peered0", "net-peered", &["10.9.0.1/24".to_owned()]),
        ] {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            fabric.join("server", device, network, &addresses);
        }
        fabric.line("server", "route add default via 198.18.0.1");
        fabric.line("server", "route add ::/0 via 2001:db8:18::1");
        // Two networks have the same prefix: what a private endpoint answers leaves by its own device.
        for (number, (device, address)) in [("vneta0", "10.0.0.10"), ("vnetb0", "10.0.0.20")].into_iter().enumerate() {
            let table = 101 + number;
            fabric.line("server", &format!("rule add from {address} lookup {table}"));
            fabric.line("server", &format!("route add 10.0.0.0/24 dev {device} table {table}"));
        }
        for (place, network, addresses) in PUBLIC_PLACES {
            fabric.namespace(place);
            fabric.join(place, "eth0", network, addresses);
            for address in addresses {
                let all = if address.contains(':') { "::/0" } else { "0.0.0.0/0" };
                fabric.line(place, &format!("route add {all} via {}", gateway(address)));
            }
        }
        for (place, network, address, outbound) in [
            ("vnet-a", "net-vnet-a", "10.0.0.4/24", "203.0.113.104/24"),
            ("vnet-b", "net-vnet-b", "10.0.0.4/24", "203.0.113.105/24"),
        ] {
            fabric.namespace(place);
            fabric.join(place, "eth0", network, &[address]);
            // What the network has for everything else: an outbound address on the internet.
            fabric.join(place, "out0", "net-internet", &[outbound]);
            fabric.line(place, "route add default via 203.0.113.1");
        }
        for (place, network, address) in [
            ("subnet", "net-subnet", "10.1.0.4/24"),
            ("other-subnet", "net-other", "10.2.0.4/24"),
            ("peered", "net-peered", "10.9.0.4/24"),
        ] {
            fabric.namespace(place);
            fabric.join(place, "eth0", network, &[address]);
            fabric.line(place, &format!("route add default via {}", gateway(address)));
        }
        debug_assert_eq!(FABRIC, "fabric", "the drawing calls it so");
        fabric.build();
        let mut places: Vec<Place> = PUBLIC_PLACES
            .iter()
            .map(|(name, _, addresses)| {
                // The address that says what the place is about: the last.
                Place::new(name, addresses.iter().rev().map(|address| host(address)).collect())
            })
            .collect();
        for (name, address) in [
            ("vnet-a", "10.0.0.4"),
            ("vnet-b", "10.0.0.4"),
            ("subnet", "10.1.0.4"),
            ("other-subnet", "10.2.0.4"),
            ("peered", "10.9.0.4"),
        ] {
            places.push(Place::new(name, vec![host(address)]));
        }
        let server_place = Place::new("server", vec![host(PUBLIC)]);
        Self { server: None, server_place, places, names: Vec::new() }
    }

    /// All places and a server in their middle: registries are named as in the documents (`<name>.azurecr.io`, port 443), and the
    /// bench's authority is the system's. The first registry is called `postern`.
    #[expect(clippy::new_without_default, reason = "starting a server is not a default value")]
    pub fn new() -> Self {
        let mut bench = Self::networks();
        let config = sandbox::path("postern.toml");
        fs::write(&config, configuration("")).expect("the bench's folder can be written");
        let config = config.display().to_string();
        let server = Server::start_at(&bench.server_place, &sandbox::path("data"), &["--config", &config]);
        let authority = fs::read(&server.bootstrap().ca_file).expect("a server writes its authority");
        sandbox::trust(&authority).expect("the bench's folder can be written");
        bench.server = Some(server);
        bench.name("postern", None);
        bench
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

    /// Makes a registry's names known. In the place of the private endpoint they lead to the endpoint's address, everywhere else
    /// to the public one.
    pub fn name(&mut self, registry: &str, endpoint: Option<&str>) {
        self.names.retain(|(name, _)| name != registry);
        self.names.push((registry.to_owned(), endpoint.map(str::to_owned)));
        for place in &self.places {
            let public = if place.name() == "ipv6" { PUBLIC_V6 } else { PUBLIC };
            let mut hosts = vec![(host(public), format!("{SUFFIX} workload-gateway.{SUFFIX}"))];
            for (registry, endpoint) in &self.names {
                let private = ENDPOINTS
                    .iter()
                    .find(|(network, _)| *network == place.name() && endpoint.as_deref() == Some(*network));
                let address = private.map_or(public, |(_, address)| address);
                hosts.push((host(address), format!("{registry}.{SUFFIX}")));
            }
            place.set_hosts(&hosts);
        }
    }

    /// The server's address on the public networks.
    pub fn public_address() -> SocketAddr {
        SocketAddr::new(host(PUBLIC), PORT)
    }

    /// The address of the private endpoint in the network of this place.
    pub fn endpoint_address(place: &str) -> SocketAddr {
        let found = ENDPOINTS.iter().find(|(network, _)| *network == place);
        let (_, address) = found.unwrap_or_else(|| panic!("`{place}` has no private endpoint"));
        SocketAddr::new(host(address), PORT)
    }

    /// The resource id of the private endpoint in the network of this place, `vnet-a` or `vnet-b`.
    pub fn endpoint(place: &str) -> String {
        format!("{}/privateEndpoints/{place}", network_provider())
    }

    /// The resource id of the subnet that is this place, `subnet` or `other-subnet`.
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

/// The server's configuration.
fn configuration(access: &str) -> String {
    let mut text = format!(
        "[server]\nlisten = ['{PUBLIC}:{PORT}', '[{PUBLIC_V6}]:{PORT}', '127.0.0.1:{PORT}']\nsuffix = '{SUFFIX}'\n\
         subscription_id = '{SUBSCRIPTION}'\n\n[access]\n{access}\n"
    );
    for (place, address) in ENDPOINTS {
        let endpoint = Bench::endpoint(place);
        let _ = write!(
            text,
            "[[place]]\nname = '{place}'\npeers = ['10.0.0.0/24']\nlisten = '{address}'\nprivate_endpoint = '{endpoint}'\n\n"
        );
    }
    for (place, prefix) in SUBNETS {
        let subnet = Bench::subnet(place);
        let _ = write!(text, "[[place]]\nname = '{place}'\npeers = ['{prefix}']\nsubnet = '{subnet}'\n\n");
    }
    for (place, _, addresses) in PUBLIC_PLACES {
        let peers: Vec<String> = addresses.iter().map(|address| format!("'{}'", single(address))).collect();
        let _ = write!(text, "[[place]]\nname = '{place}'\npeers = [{}]\n\n", peers.join(", "));
    }
    text
}

/// `203.0.113.9` of `203.0.113.9/24`.
fn host(address: &str) -> IpAddr {
    let host = address.split('/').next().unwrap_or_default();
    host.parse().unwrap_or_else(|_| panic!("`{address}` is no address"))
}

/// The range of one address.
fn single(address: &str) -> String {
    let host = host(address);
    format!("{host}/{}", if host.is_ipv4() { 32 } else { 128 })
}

/// The first address of an address's network.
fn gateway(address: &str) -> String {
    let separator = if address.contains(':') { "::" } else { "." };
    let (network, _) = address.rsplit_once(separator).unwrap_or_else(|| panic!("`{address}` is no address"));
    format!("{network}{separator}1")
}

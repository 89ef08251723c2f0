//! Which places there are, and the networks that they make.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::fabric::Fabric;
use super::standard::{PORT, PUBLIC, PUBLIC_V6, SUFFIX, Setup, host};

/// What virtual networks have for everything that is not in them: outbound addresses on a public network.
const OUTBOUND: &str = "198.19.0";
/// Devices are numbered, and so are outbound addresses.
const MAX_PLACES: usize = 64;

/// A place: a machine in a network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// Its name, of at most fifteen characters.
    pub name: String,
    /// Its address with the prefix of its network, such as `198.51.100.7/24`; the one that it is known by is the first. The network's
    /// first address is its gateway.
    pub addresses: Vec<String>,
    /// What its network has to do with the registry's; without it, it is on the internet.
    #[serde(default)]
    pub by: Way,
    /// The resource id of its private endpoint or subnet; by default one in the bench's subscription.
    pub resource: Option<String>,
}

/// How a place's network reaches registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Over the internet, with its own address.
    #[default]
    Internet,
    /// It has a private endpoint at this address, and an outbound address for everything else.
    PrivateEndpoint(String),
    /// It is a subnet with a service endpoint: its private address is seen at the public one.
    ServiceEndpoint,
    /// It is peered with the network of this place, and reaches the private endpoint there without being let in.
    Peering(String),
}

/// The places that the documents speak of.
pub(super) fn standard() -> Vec<Spec> {
    let spec = |name: &str, addresses: &[&str], by: Way| Spec {
        name: name.to_owned(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        by,
        resource: None,
    };
    let private = || Way::PrivateEndpoint("10.0.0.10".to_owned());
    vec![
        spec("internet", &["203.0.113.9/24"], Way::Internet),
        spec("ipv6", &["2001:db8::7/64", "203.0.113.6/24"], Way::Internet),
        spec("office", &["198.51.100.7/24"], Way::Internet),
        spec("shared-pool", &["192.0.2.40/24"], Way::Internet),
        spec("workload", &["203.0.113.77/24"], Way::Internet),
        spec("vnet-a", &["10.0.0.4/24"], private()),
        spec("vnet-b", &["10.0.0.4/24"], private()),
        spec("peered", &["10.9.0.4/24"], Way::Peering("vnet-a".to_owned())),
        spec("subnet", &["10.1.0.4/24"], Way::ServiceEndpoint),
        spec("other-subnet", &["10.2.0.4/24"], Way::ServiceEndpoint),
    ]
}

/// Makes the networks, with a namespace called `server` that has a leg in each.
pub(super) fn build(places: &[Spec]) {
    assert!(places.len() <= MAX_PLACES, "a bench has at most {MAX_PLACES} places");
    let mut fabric = Fabric::new();
    fabric.network("public", &["198.18.0.1/24", "2001:db8:18::1/64"]);
    fabric.network("outbound", &[&format!("{OUTBOUND}.1/24")]);
    fabric.namespace("server");
    fabric.join("server", "public0", "public", &[&format!("{PUBLIC}/24"), &format!("{PUBLIC_V6}/64")]);
    fabric.line("server", "route add 0.0.0.0/0 via 198.18.0.1");
    fabric.line("server", "route add ::/0 via 2001:db8:18::1");
    // Public places of one prefix are in one network.
    let mut public: BTreeMap<String, String> = BTreeMap::new();
    for (number, place) in places.iter().enumerate() {
        let addresses: Vec<&str> = place.addresses.iter().map(String::as_str).collect();
        let first = *addresses.first().unwrap_or_else(|| panic!("`{}` has no address", place.name));
        let own = network(number);
        fabric.namespace(&place.name);
        match &place.by {
            Way::Internet => {
                for (device, address) in addresses.iter().copied().enumerate() {
                    let gateway = gateway(address);
                    let known = public.len();
                    let network = public.entry(gateway.clone()).or_insert_with(|| {
                        let network = format!("internet{known}");
                        let length = address.split_once('/').map_or("24", |(_, length)| length);
                        fabric.network(&network, &[&format!("{gateway}/{length}")]);
                        network
                    });
                    fabric.join(&place.name, &format!("eth{device}"), network, &[address]);
                    let all = if address.contains(':') { "::/0" } else { "0.0.0.0/0" };
                    fabric.line(&place.name, &format!("route add {all} via {gateway}"));
                }
            }
            Way::PrivateEndpoint(endpoint) => {
                fabric.network(&own, &[]);
                let length = first.split_once('/').map_or("24", |(_, length)| length);
                fabric.join("server", &leg(number), &own, &[&format!("{endpoint}/{length}")]);
                fabric.join(&place.name, "eth0", &own, &addresses);
                outbound(&mut fabric, place, number);
            }
            Way::ServiceEndpoint => {
                let (gateway, length) = (gateway(first), first.split_once('/').map_or("24", |(_, length)| length));
                fabric.network(&own, &[]);
                fabric.join("server", &leg(number), &own, &[&format!("{gateway}/{length}")]);
                fabric.join(&place.name, "eth0", &own, &addresses);
                fabric.line(&place.name, &format!("route add 0.0.0.0/0 via {gateway}"));
            }
            Way::Peering(with) => {
                let other = places.iter().position(|other| other.name == *with);
                let other =
                    other.unwrap_or_else(|| panic!("`{}` is peered with `{with}`, which is no place", place.name));
                let prefix = prefix(places[other].addresses.first().map_or("", String::as_str));
                fabric.join(&place.name, "eth0", &network(other), &addresses);
                fabric.line(&place.name, &format!("route add {prefix} dev eth0"));
                fabric.line("server", &format!("route add {} dev {}", self::prefix(first), leg(other)));
                outbound(&mut fabric, place, number);
            }
        }
    }
    fabric.build();
}

fn outbound(fabric: &mut Fabric, place: &Spec, number: usize) {
    fabric.join(&place.name, "out0", "outbound", &[&format!("{OUTBOUND}.{}/24", number + 10)]);
    fabric.line(&place.name, &format!("route add 0.0.0.0/0 via {OUTBOUND}.1"));
}

fn network(number: usize) -> String {
    format!("net{number}")
}

fn leg(number: usize) -> String {
    format!("leg{number}")
}

/// The server's configuration: where it listens, what its networks are, and where names lead.
pub(super) fn configuration(
    Setup { places, access, limits, throttling, outbound, log, issuers, tasks }: &Setup,
    subscription: &str,
) -> String {
    let mut text = format!(
        "[server]\nlisten = ['{PUBLIC}:{PORT}', '[{PUBLIC_V6}]:{PORT}', '127.0.0.1:{PORT}']\nsuffix = '{SUFFIX}'\n\
         subscription_id = '{subscription}'\n\n\
         [dns]\nlisten = ['{PUBLIC}:53']\npublic_addresses = ['{PUBLIC}', '{PUBLIC_V6}']\n\n[access]\n{access}\n\n[limits]\n{limits}\n\n[throttling]\n{throttling}\n\n[outbound]\n{outbound}\n\n[log]\n{log}\n\n[tasks]\n{tasks}\n\n{issuers}\n\n"
    );
    for (number, place) in places.iter().enumerate() {
        let Spec { name, addresses, by, .. } = place;
        let first = addresses.first().map_or("", String::as_str);
        let (peers, rest) = match by {
            Way::Internet => (addresses.iter().map(|address| single(address)).collect(), String::new()),
            Way::PrivateEndpoint(endpoint) => (
                vec![prefix(first)],
                format!(
                    "listen = '{endpoint}'\ninterface = '{}'\ndns_listen = '{endpoint}:53'\nprivate_endpoint = '{}'\n",
                    leg(number),
                    place.resource_id()
                ),
            ),
            Way::ServiceEndpoint => (vec![prefix(first)], format!("subnet = '{}'\n", place.resource_id())),
            // Nobody told the server about it: that is the point.
            Way::Peering(_) => continue,
        };
        let peers: Vec<String> = peers.iter().map(|peer| format!("'{peer}'")).collect();
        let _ = write!(text, "[[place]]\nname = '{name}'\npeers = [{}]\n{rest}\n", peers.join(", "));
    }
    text
}

impl Spec {
    /// The resource id of its private endpoint or subnet.
    pub fn resource_id(&self) -> String {
        self.resource.clone().unwrap_or_else(|| match self.by {
            Way::ServiceEndpoint => super::Bench::subnet(&self.name),
            _ => super::Bench::endpoint(&self.name),
        })
    }
}

/// The range of one address.
fn single(address: &str) -> String {
    let host = host(address);
    format!("{host}/{}", if host.is_ipv4() { 32 } else { 128 })
}

/// The range of an IPv4 address's network, which is a /24 or smaller in number.
fn prefix(address: &str) -> String {
    let (host, length) = address.split_once('/').unwrap_or((address, "24"));
    let host: std::net::Ipv4Addr = host.parse().unwrap_or_else(|_| panic!("`{address}` is no IPv4 address"));
    let bits: u32 =
        length.parse().ok().filter(|bits| *bits <= 32).unwrap_or_else(|| panic!("`{address}` has no prefix"));
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or_default();
    format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(host) & mask))
}

/// The first address of an address's network.
fn gateway(address: &str) -> String {
    if address.contains(':') {
        let (network, _) = address.rsplit_once("::").unwrap_or_else(|| panic!("`{address}` has no `::`"));
        return format!("{network}::1");
    }
    let prefix = prefix(address);
    let network: std::net::Ipv4Addr = prefix.split('/').next().and_then(|text| text.parse().ok()).expect("a network");
    std::net::Ipv4Addr::from(u32::from(network) + 1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_addresses() {
        assert_eq!((prefix("10.4.5.6/16"), gateway("10.4.5.6/16")), ("10.4.0.0/16".to_owned(), "10.4.0.1".to_owned()));
        assert_eq!(gateway("2001:db8::7/64"), "2001:db8::1");
        assert_eq!(
            (single("203.0.113.9/24"), single("2001:db8::7/64")),
            ("203.0.113.9/32".into(), "2001:db8::7/128".into())
        );
    }
}

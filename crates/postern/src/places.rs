//! Which place a connection comes from, by the listener it arrived on and its peer address: facts the caller cannot choose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use postern_access::Ingress;
use postern_model::ResourceId;

use crate::config::PlaceConfig;
use crate::sockets::Scope;

/// All configured places.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    places: Vec<Place>,
    elsewhere: Arc<str>,
}

#[derive(Debug, Clone)]
struct Place {
    name: Arc<str>,
    listener: Option<IpAddr>,
    scope: Scope,
    /// Where a private endpoint is found by its own network.
    address: Option<IpAddr>,
    resolver: Option<SocketAddr>,
    peers: Vec<IpNet>,
    seen_as: Option<IpNet>,
    ingress: Ingress,
    simulated: bool,
}

/// Where one connection comes from.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The place's name.
    pub(crate) place: Arc<str>,
    /// The way in.
    pub(crate) ingress: Ingress,
    /// The address as the gate sees it.
    pub(crate) address: IpAddr,
    /// Whether the place is a simulated one.
    pub(crate) simulated: bool,
    /// Whether both ends really are on this machine: only then is plain HTTP spoken.
    pub(crate) loopback: bool,
}

impl Places {
    /// From the checked configuration.
    pub(crate) fn new(config: &[PlaceConfig]) -> anyhow::Result<Self> {
        let places = config.iter().map(Place::new).collect::<anyhow::Result<_>>()?;
        Ok(Self { places, elsewhere: "public".into() })
    }

    /// The places' own listeners: addresses that need one, and where.
    pub(crate) fn listeners(&self) -> Vec<(Scope, IpAddr)> {
        let mut listeners: Vec<_> =
            self.places.iter().filter_map(|place| Some((place.scope.clone(), place.listener?))).collect();
        listeners.sort_unstable();
        listeners.dedup();
        listeners
    }

    /// Where places ask for names.
    pub(crate) fn resolvers(&self) -> Vec<(Scope, SocketAddr)> {
        let mut resolvers: Vec<_> =
            self.places.iter().filter_map(|place| Some((place.scope.clone(), place.resolver?))).collect();
        resolvers.sort_unstable();
        resolvers.dedup();
        resolvers
    }

    /// The private endpoints of the network that this peer is in, each with its address there.
    pub(crate) fn endpoints(&self, scope: &Scope, peer: IpAddr) -> impl Iterator<Item = (&ResourceId, IpAddr)> {
        let peer = peer.to_canonical();
        let near = self.places.iter().filter(move |place| place.scope == *scope && place.holds(peer));
        near.filter_map(|place| match &place.ingress {
            Ingress::PrivateEndpoint(endpoint) => Some((endpoint, place.address?)),
            Ingress::Public | Ingress::Subnet(_) | Ingress::Misrouted(_) => None,
        })
    }

    /// Whether the peer is in a place that has its sockets there.
    pub(crate) fn know(&self, scope: &Scope, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.places.iter().any(|place| place.scope == *scope && place.holds(peer))
    }

    /// The names of all places.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.places.iter().map(|place| &*place.name).collect()
    }

    /// An arrival from the first address of the place with this name.
    pub(crate) fn named(&self, name: &str) -> Option<Arrival> {
        let place = self.places.iter().find(|place| *place.name == *name)?;
        let first = place.peers.first()?.hosts().next()?;
        Some(Arrival {
            place: Arc::clone(&place.name),
            ingress: place.ingress.clone(),
            address: place.seen(first),
            simulated: place.simulated,
            loopback: first.is_loopback(),
        })
    }

    /// The place of a connection from `peer` to `local` that a listener in `scope` accepted.
    pub(crate) fn locate(&self, scope: &Scope, local: SocketAddr, peer: SocketAddr) -> Arrival {
        let (local, peer) = (local.ip().to_canonical(), peer.ip().to_canonical());
        let loopback = scope.is_default() && local.is_loopback() && peer.is_loopback();
        let here = || self.places.iter().filter(|place| place.listener == Some(local) && place.scope == *scope);
        let anywhere = || self.places.iter().filter(|place| place.listener.is_none());
        // On a listener of their own only its places count; on a private endpoint's, anybody else is misrouted.
        let found = match here().next() {
            Some(_) => here().find(|place| place.holds(peer)),
            None if scope.is_default() => anywhere().find(|place| place.holds(peer)),
            None => None,
        };
        let owner = here().find(|place| matches!(place.ingress, Ingress::PrivateEndpoint(_)));
        match (found, owner) {
            (Some(place), _) => Arrival {
                place: Arc::clone(&place.name),
                ingress: place.ingress.clone(),
                address: place.seen(peer),
                simulated: place.simulated,
                loopback,
            },
            (None, Some(owner)) => {
                let ingress = match &owner.ingress {
                    Ingress::PrivateEndpoint(endpoint) => Ingress::Misrouted(endpoint.clone()),
                    other => other.clone(),
                };
                let address = anywhere().find(|place| place.holds(peer)).map_or(peer, |place| place.seen(peer));
                Arrival { place: Arc::clone(&owner.name), ingress, address, simulated: owner.simulated, loopback }
            }
            (None, None) => Arrival {
                place: Arc::clone(&self.elsewhere),
                ingress: Ingress::Public,
                address: peer,
                simulated: false,
                loopback,
            },
        }
    }
}

impl Place {
    fn new(config: &PlaceConfig) -> anyhow::Result<Self> {
        let ingress = match (&config.private_endpoint, &config.subnet) {
            (Some(endpoint), _) => Ingress::PrivateEndpoint(endpoint.parse::<ResourceId>()?),
            (None, Some(subnet)) => Ingress::Subnet(subnet.parse::<ResourceId>()?),
            (None, None) => Ingress::Public,
        };
        Ok(Self {
            name: config.name.as_str().into(),
            // Addresses are compared with canonical ones.
            listener: config.listen.map(|address| address.to_canonical()),
            scope: config.scope(),
            address: config.address.or(config.listen).map(|address| address.to_canonical()),
            resolver: config.dns_listen,
            peers: config.peers.clone(),
            seen_as: config.seen_as,
            ingress,
            simulated: config.simulated,
        })
    }

    fn holds(&self, peer: IpAddr) -> bool {
        self.peers.iter().any(|range| range.contains(&peer))
    }

    fn seen(&self, peer: IpAddr) -> IpAddr {
        match (self.seen_as, peer) {
            (Some(IpNet::V4(range)), IpAddr::V4(peer)) => {
                let host = u32::from(peer) & u32::from(range.hostmask());
                Ipv4Addr::from(u32::from(range.network()) | host).into()
            }
            (Some(IpNet::V6(range)), IpAddr::V6(peer)) => {
                let host = u128::from(peer) & u128::from(range.hostmask());
                Ipv6Addr::from(u128::from(range.network()) | host).into()
            }
            _ => peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PLACES: &str = "
        [[place]]
        name = 'internet'
        peers = ['127.51.100.0/24']
        seen_as = '198.51.100.0/24'
        simulated = true

        [[place]]
        name = 'vnet'
        peers = ['127.1.0.0/24']
        seen_as = '10.1.0.0/24'
        listen = '127.77.0.4'
        private_endpoint = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe'
        simulated = true

        [[place]]
        name = 'vms'
        peers = ['127.2.0.0/24']
        subnet = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/vms'
        simulated = true
    ";

    #[track_caller]
    fn check_in(config: &str, scope: &Scope, local: &str, peer: &str, expected: &str) {
        let places = Places::new(&Config::parse(config).unwrap().places).unwrap();
        let at =
            places.locate(scope, SocketAddr::new(local.parse().unwrap(), 1), SocketAddr::new(peer.parse().unwrap(), 2));
        let ingress = match at.ingress {
            Ingress::Public => "public".to_owned(),
            Ingress::PrivateEndpoint(endpoint) => format!("private endpoint {}", endpoint.name()),
            Ingress::Subnet(_) => "subnet".to_owned(),
            Ingress::Misrouted(_) => "misrouted".to_owned(),
        };
        assert_eq!(format!("{} {ingress} {}", at.place, at.address), expected, "{local}{scope} from {peer}");
    }

    fn check(local: &str, peer: &str, expected: &str) {
        check_in(PLACES, &Scope::default(), local, peer, expected);
    }

    #[test]
    fn connections_are_located() {
        check("127.0.0.1", "127.51.100.7", "internet public 198.51.100.7");
        check("127.77.0.4", "127.1.0.5", "vnet private endpoint pe 10.1.0.5");
        check("127.77.0.4", "127.51.100.7", "vnet misrouted 198.51.100.7");
        check("127.77.0.4", "127.0.0.1", "vnet misrouted 127.0.0.1");
        check("127.0.0.1", "127.1.0.5", "public public 127.1.0.5");
        check("127.0.0.1", "127.2.0.9", "vms subnet 127.2.0.9");
        check("127.0.0.1", "127.0.0.1", "public public 127.0.0.1");
        check("::ffff:127.0.0.1", "::ffff:127.51.100.7", "internet public 198.51.100.7");
    }

    /// Two virtual networks with the same range and the same addresses in it, and a third way to the public endpoint.
    const SAME_RANGE: &str = "
        [[place]]
        name = 'first'
        peers = ['10.0.0.0/16']
        listen = '10.0.0.4'
        interface = 'eth1'
        private_endpoint = '/one'

        [[place]]
        name = 'second'
        peers = ['10.0.0.0/16']
        listen = '10.0.0.4'
        interface = 'eth2'
        private_endpoint = '/two'

        [[place]]
        name = 'machines'
        peers = ['10.0.1.0/24']
        listen = '10.0.0.4'
        namespace = '/run/netns/x'
        subnet = '/subnets/machines'

        [[place]]
        name = 'office'
        peers = ['10.0.0.0/8']
    ";

    #[test]
    fn the_same_range_on_another_interface_is_another_place() {
        let check = |interface: Option<&str>, namespace: Option<&str>, peer, expected| {
            let scope = Scope::new(interface, namespace.map(std::path::Path::new));
            check_in(SAME_RANGE, &scope, "10.0.0.4", peer, expected);
        };
        check(Some("eth1"), None, "10.0.0.9", "first private endpoint one 10.0.0.9");
        check(Some("eth2"), None, "10.0.0.9", "second private endpoint two 10.0.0.9");
        check(Some("eth1"), None, "10.9.0.9", "first misrouted 10.9.0.9");
        check(None, Some("/run/netns/x"), "10.0.1.9", "machines subnet 10.0.1.9");
        check(None, Some("/run/netns/x"), "10.0.2.9", "public public 10.0.2.9");
        check(None, None, "10.0.0.9", "office public 10.0.0.9");
        check(Some("eth3"), None, "10.0.0.9", "public public 10.0.0.9");
    }

    #[test]
    fn a_network_knows_its_own_endpoints_only() {
        let places = Places::new(&Config::parse(SAME_RANGE).unwrap().places).unwrap();
        let found = |interface: Option<&str>, peer: &str| -> Vec<String> {
            let scope = Scope::new(interface, None);
            let found = places.endpoints(&scope, peer.parse().unwrap());
            found.map(|(endpoint, address)| format!("{} {address}", endpoint.name())).collect()
        };
        assert_eq!(found(Some("eth1"), "10.0.0.9"), ["one 10.0.0.4"]);
        assert_eq!(found(Some("eth2"), "10.0.0.9"), ["two 10.0.0.4"]);
        assert_eq!(found(None, "10.0.0.9"), [""; 0]);
        assert_eq!(found(Some("eth1"), "10.9.0.9"), [""; 0]);
        assert_eq!(places.listeners().len(), 3);
    }
}

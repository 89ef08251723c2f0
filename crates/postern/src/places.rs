//! Which place a connection comes from, by the listener it arrived on and its peer address: facts the caller cannot choose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use postern_access::Ingress;
use postern_model::ResourceId;

use crate::config::{Link, PlaceConfig};
use crate::proxies::{Proxied, Proxy};
use crate::sockets::Scope;

/// What traces call an origin behind a proxy that cannot be told.
const UNKNOWN_ORIGINS: &str = "Postern.Network/unknownOrigins";

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
    link: Option<Link>,
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
    /// The proxy that says so.
    pub(crate) proxy: Option<Arc<Proxy>>,
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
            proxy: None,
        })
    }

    /// The place of a connection from `peer` to `local` that a listener in `scope` accepted.
    pub(crate) fn locate(&self, scope: &Scope, local: SocketAddr, peer: SocketAddr) -> Arrival {
        let (local, peer) = (local.ip().to_canonical(), peer.ip().to_canonical());
        let loopback = scope.is_default() && local.is_loopback() && peer.is_loopback();
        Arrival { loopback, ..self.seek(|_| true, scope, local, peer) }
    }

    /// The place of whoever is behind a proxy that `peer` is an address of. Never a simulated one, and never this machine: that is
    /// for connections made here.
    pub(crate) fn behind(&self, proxy: &Arc<Proxy>, peer: IpAddr, said: &Proxied) -> Arrival {
        let arrival = match said {
            // Proxies say so of their health checks, and of clients whose address they do not know.
            Proxied::Local => nowhere(proxy, peer.to_canonical()),
            Proxied::Client { source, destination, vendor } => {
                let (source, destination) = (source.ip().to_canonical(), destination.ip().to_canonical());
                let mut links = vendor.iter().filter(|(kind, _)| self.is_link(*kind));
                match (links.next(), links.next()) {
                    (None, _) => self.without_link(destination, source),
                    (Some((kind, value)), None) => {
                        self.by_link(*kind, value, source).unwrap_or_else(|| nowhere(proxy, source))
                    }
                    (Some(_), Some(_)) => nowhere(proxy, source),
                }
            }
        };
        Arrival { loopback: false, proxy: Some(Arc::clone(proxy)), ..arrival }
    }

    fn is_link(&self, kind: u8) -> bool {
        kind == Link::AZURE || self.places.iter().any(|place| place.link.as_ref().is_some_and(|link| link.kind == kind))
    }

    /// The place of a client behind a proxy that came by this private link, if a place has it.
    fn by_link(&self, kind: u8, value: &[u8], source: IpAddr) -> Option<Arrival> {
        let named = |link: &Link| link.kind == kind && link.value == value;
        let place = self.places.iter().find(|place| place.link.as_ref().is_some_and(named))?;
        Some(if place.holds(source) { place.arrival(source) } else { place.misrouted(source) })
    }

    /// The place of a client behind a proxy that did not come by a private link.
    fn without_link(&self, destination: IpAddr, source: IpAddr) -> Arrival {
        // Interfaces may share an endpoint's address, and which of them a proxy means cannot be told.
        let mut endpoints =
            self.places.iter().filter(|place| place.is_endpoint() && place.listener == Some(destination));
        match endpoints.next() {
            Some(place) if !place.scope.is_default() && endpoints.all(|place| !place.scope.is_default()) => {
                place.misrouted(source)
            }
            _ => self.seek(|place| !place.simulated, &Scope::default(), destination, source),
        }
    }

    /// The place, among those that count.
    fn seek(&self, counts: impl Fn(&Place) -> bool, scope: &Scope, local: IpAddr, peer: IpAddr) -> Arrival {
        let places = || self.places.iter().filter(|place| counts(place));
        let here = || places().filter(|place| place.listener == Some(local) && place.scope == *scope);
        // A private link's place is told by the link and nothing else.
        let anywhere = || places().filter(|place| place.listener.is_none() && place.link.is_none());
        // On a listener of their own only its places count; on a private endpoint's, anybody else is misrouted.
        let found = match here().next() {
            Some(_) => here().find(|place| place.holds(peer)),
            None if scope.is_default() => anywhere().find(|place| place.holds(peer)),
            None => None,
        };
        match (found, here().find(|place| place.is_endpoint())) {
            (Some(place), _) => place.arrival(peer),
            (None, Some(owner)) => {
                let address = anywhere().find(|place| place.holds(peer)).map_or(peer, |place| place.seen(peer));
                owner.misrouted(address)
            }
            (None, None) => Arrival {
                place: Arc::clone(&self.elsewhere),
                ingress: Ingress::Public,
                address: peer,
                simulated: false,
                loopback: false,
                proxy: None,
            },
        }
    }
}

/// Behind a proxy, and nobody knows where: somebody's private network, or no network at all.
fn nowhere(proxy: &Proxy, address: IpAddr) -> Arrival {
    let endpoint = format!("/providers/{UNKNOWN_ORIGINS}/{}", proxy.name);
    Arrival {
        place: Arc::clone(&proxy.name),
        ingress: Ingress::Misrouted(endpoint.parse().unwrap_or_else(|_| ResourceId::root())),
        address,
        simulated: false,
        loopback: false,
        proxy: None,
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
            link: config.link()?,
            peers: config.peers.clone(),
            seen_as: config.seen_as,
            ingress,
            simulated: config.simulated,
        })
    }

    /// From this place.
    fn arrival(&self, peer: IpAddr) -> Arrival {
        Arrival {
            place: Arc::clone(&self.name),
            ingress: self.ingress.clone(),
            address: self.seen(peer),
            simulated: self.simulated,
            loopback: false,
            proxy: None,
        }
    }

    /// On this place's private endpoint, but not from its network.
    fn misrouted(&self, address: IpAddr) -> Arrival {
        let ingress = match &self.ingress {
            Ingress::PrivateEndpoint(endpoint) => Ingress::Misrouted(endpoint.clone()),
            other => other.clone(),
        };
        Arrival { ingress, address, ..self.arrival(address) }
    }

    const fn is_endpoint(&self) -> bool {
        matches!(self.ingress, Ingress::PrivateEndpoint(_))
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
    use crate::proxies::{Proxies, Sender};

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
        assert_eq!(shown(&at), expected, "{local}{scope} from {peer}");
    }

    fn shown(at: &Arrival) -> String {
        let ingress = match &at.ingress {
            Ingress::Public => "public".to_owned(),
            Ingress::PrivateEndpoint(endpoint) => format!("private endpoint {}", endpoint.name()),
            Ingress::Subnet(_) => "subnet".to_owned(),
            Ingress::Misrouted(endpoint) => format!("misrouted {}", endpoint.name()),
        };
        format!("{} {ingress} {}", at.place, at.address)
    }

    fn check(local: &str, peer: &str, expected: &str) {
        check_in(PLACES, &Scope::default(), local, peer, expected);
    }

    #[test]
    fn connections_are_located() {
        check("127.0.0.1", "127.51.100.7", "internet public 198.51.100.7");
        check("127.77.0.4", "127.1.0.5", "vnet private endpoint pe 10.1.0.5");
        check("127.77.0.4", "127.51.100.7", "vnet misrouted pe 198.51.100.7");
        check("127.77.0.4", "127.0.0.1", "vnet misrouted pe 127.0.0.1");
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
        check(Some("eth1"), None, "10.9.0.9", "first misrouted one 10.9.0.9");
        check(None, Some("/run/netns/x"), "10.0.1.9", "machines subnet 10.0.1.9");
        check(None, Some("/run/netns/x"), "10.0.2.9", "public public 10.0.2.9");
        check(None, None, "10.0.0.9", "office public 10.0.0.9");
        check(Some("eth3"), None, "10.0.0.9", "public public 10.0.0.9");
    }

    const BEHIND: &str = "
        [[proxy]]
        name = 'edge'
        peers = ['192.0.2.0/24']

        [[place]]
        name = 'linked'
        peers = ['10.1.0.0/16']
        link_id = 305419896
        private_endpoint = '/one'

        [[place]]
        name = 'other-cloud'
        peers = ['10.1.0.0/16']
        tlv = 'ea:0176'
        private_endpoint = '/two'

        [[place]]
        name = 'vnet'
        peers = ['10.2.0.0/16']
        listen = '10.2.0.4'
        private_endpoint = '/three'

        [[place]]
        name = 'bound'
        peers = ['10.3.0.0/16']
        listen = '10.3.0.4'
        interface = 'eth3'
        private_endpoint = '/four'

        [[place]]
        name = 'office'
        peers = ['10.9.0.0/16', '198.51.100.0/24']
    ";

    #[test]
    fn a_proxys_word_is_taken_and_what_it_leaves_open_is_closed() {
        let config = Config::parse(BEHIND).unwrap();
        let places = Places::new(&config.places).unwrap();
        let peer = "192.0.2.7".parse().unwrap();
        let Sender::Proxy(proxy) = Proxies::new(&config.proxies).unwrap().sender(None, &Scope::default(), peer) else {
            panic!("the peer is a proxy")
        };
        let check = |destination: &str, source: &str, vendor: &[(u8, &[u8])], expected: &str| {
            let vendor: Vec<_> = vendor.iter().map(|(kind, value)| (*kind, value.to_vec())).collect();
            let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 1);
            let said = Proxied::Client { source: at(source), destination: at(destination), vendor };
            let at = places.behind(&proxy, peer, &said);
            assert!(!at.loopback && !at.simulated && at.proxy.is_some());
            assert_eq!(shown(&at), expected, "{said:?}");
        };
        let link: (u8, &[u8]) = (0xee, &[1, 0x78, 0x56, 0x34, 0x12]);
        let public = "203.0.113.10";
        check(public, "198.51.100.7", &[], "office public 198.51.100.7");
        check(public, "192.0.2.9", &[], "public public 192.0.2.9");
        check(public, "10.1.0.9", &[], "public public 10.1.0.9");
        check(public, "10.1.0.9", &[link], "linked private endpoint one 10.1.0.9");
        check(public, "10.1.0.9", &[(0xea, &[1, 0x76])], "other-cloud private endpoint two 10.1.0.9");
        check(public, "10.1.0.9", &[(0xe1, &[1])], "public public 10.1.0.9");
        check(public, "198.51.100.7", &[link], "linked misrouted one 198.51.100.7");
        check("10.2.0.4", "10.2.0.9", &[], "vnet private endpoint three 10.2.0.9");
        check("10.2.0.4", "198.51.100.7", &[], "vnet misrouted three 198.51.100.7");
        check("10.3.0.4", "10.3.0.9", &[], "bound misrouted four 10.3.0.9");
        // The proxy's own connection: its address may be one of a place, or one that rules list.
        let local = places.behind(&proxy, "198.51.100.7".parse().unwrap(), &Proxied::Local);
        assert_eq!(shown(&local), "edge misrouted edge 198.51.100.7");
        assert!(!local.loopback && local.proxy.is_some());
        // An unknown link, an unreadable one, and two at once are nobody's.
        for vendor in [
            &[(0xee, &[1, 0x79, 0x56, 0x34, 0x12][..])][..],
            &[(0xee, &[2, 0x78, 0x56, 0x34, 0x12])],
            &[(0xee, &[1, 0x78, 0x56, 0x34])],
            &[(0xee, &[])],
            &[(0xea, &[1])],
            &[link, link],
            &[link, (0xea, &[1, 0x76])],
        ] {
            check(public, "10.1.0.9", vendor, "edge misrouted edge 10.1.0.9");
        }
    }

    #[test]
    fn a_proxy_cannot_speak_for_a_simulated_place() {
        let text = format!("{PLACES}[[proxy]]\nname = 'edge'\npeers = ['127.0.0.1/32']");
        let config = Config::parse(&text).unwrap();
        let places = Places::new(&config.places).unwrap();
        let peer = "127.0.0.1".parse().unwrap();
        let Sender::Proxy(proxy) = Proxies::new(&config.proxies).unwrap().sender(None, &Scope::default(), peer) else {
            panic!("the peer is a proxy")
        };
        let (source, destination) = ("127.51.100.7:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let at = places.behind(&proxy, peer, &Proxied::Client { source, destination, vendor: Vec::new() });
        assert_eq!(shown(&at), "public public 127.51.100.7");
        assert!(!at.loopback && !at.simulated);
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

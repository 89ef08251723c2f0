//! Which place a connection comes from, by the listener it arrived on and its peer address: facts the caller cannot choose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use postern_access::Ingress;
use postern_model::ResourceId;

use crate::config::PlaceConfig;

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

    /// Addresses that private endpoints arrive on: each needs a listener of its own.
    pub(crate) fn private_addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.places.iter().filter_map(|place| place.listener).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
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

    /// The place of a connection from `peer` to `local`.
    pub(crate) fn locate(&self, local: SocketAddr, peer: SocketAddr) -> Arrival {
        let (local, peer) = (local.ip().to_canonical(), peer.ip().to_canonical());
        let loopback = local.is_loopback() && peer.is_loopback();
        let here = || self.places.iter().filter(|place| place.listener.is_none_or(|listener| listener == local));
        let owner = here().find(|place| place.listener.is_some());
        let found = match owner {
            // On a private endpoint's address only its own network counts.
            Some(_) => here().find(|place| place.listener.is_some() && place.holds(peer)),
            None => here().find(|place| place.holds(peer)),
        };
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
                let seen = here_or_anywhere(&self.places, peer);
                Arrival { place: Arc::clone(&owner.name), ingress, address: seen, simulated: owner.simulated, loopback }
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

/// The address under which the peer is seen in whichever place it belongs to.
fn here_or_anywhere(places: &[Place], peer: IpAddr) -> IpAddr {
    places.iter().find(|place| place.holds(peer)).map_or(peer, |place| place.seen(peer))
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
            listener: config.listen,
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
    fn check(local: &str, peer: &str, expected: &str) {
        let places = Places::new(&Config::parse(PLACES).unwrap().places).unwrap();
        let at = places.locate(SocketAddr::new(local.parse().unwrap(), 1), SocketAddr::new(peer.parse().unwrap(), 2));
        let ingress = match at.ingress {
            Ingress::Public => "public",
            Ingress::PrivateEndpoint(_) => "private endpoint",
            Ingress::Subnet(_) => "subnet",
            Ingress::Misrouted(_) => "misrouted",
        };
        assert_eq!(format!("{} {ingress} {}", at.place, at.address), expected);
    }

    #[test]
    fn connections_are_located() {
        check("127.0.0.1", "127.51.100.7", "internet public 198.51.100.7");
        check("127.77.0.4", "127.1.0.5", "vnet private endpoint 10.1.0.5");
        check("127.77.0.4", "127.51.100.7", "vnet misrouted 198.51.100.7");
        check("127.77.0.4", "127.0.0.1", "vnet misrouted 127.0.0.1");
        check("127.0.0.1", "127.1.0.5", "public public 127.1.0.5");
        check("127.0.0.1", "127.2.0.9", "vms subnet 127.2.0.9");
        check("127.0.0.1", "127.0.0.1", "public public 127.0.0.1");
        check("::ffff:127.0.0.1", "::ffff:127.51.100.7", "internet public 198.51.100.7");
    }
}

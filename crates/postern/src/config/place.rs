//! `[[place]]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use postern_model::ResourceId;
use serde::Deserialize;

use super::{Config, hex};
use crate::proxies::is_vendor;
use crate::sockets::Scope;

/// Longest name of a network interface in bytes.
const MAX_INTERFACE_BYTES: usize = 15;

/// `[[place]]`: connections on a listener from certain peers come in this way. The first that fits counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaceConfig {
    /// Its name in traces.
    pub(crate) name: String,
    /// Peer addresses that are in this place.
    pub(crate) peers: Vec<IpNet>,
    /// An address of this machine, on which connections from this place arrive (on the first listener's port).
    pub(crate) listen: Option<IpAddr>,
    /// The network interface that `listen` is bound to: the same address range on another interface is another place.
    pub(crate) interface: Option<String>,
    /// The network namespace that `listen` is bound in, a path like `/run/netns/NAME`.
    pub(crate) namespace: Option<PathBuf>,
    /// The private endpoint that `listen` is the address of.
    pub(crate) private_endpoint: Option<String>,
    /// The private endpoint's address as this place's network knows it, where that is not `listen`.
    pub(crate) address: Option<IpAddr>,
    /// Where this place's network asks for names: an address and port, bound on the same interface and in the same namespace.
    pub(crate) dns_listen: Option<SocketAddr>,
    /// The Azure private link whose id a proxy's PROXY protocol header says that the private endpoint's connections came by.
    pub(crate) link_id: Option<u32>,
    /// The same for other vendors: type and value of the header's field in hexadecimal digits, for instance `ea:0176`.
    pub(crate) tlv: Option<String>,
    /// The subnet with a service endpoint that the peers are in.
    pub(crate) subnet: Option<String>,
    /// The range that peers are seen as coming from, address by address. Simulated places only.
    pub(crate) seen_as: Option<IpNet>,
    /// The place is a pretence on one machine.
    #[serde(default)]
    pub(crate) simulated: bool,
}

/// A vendor's field of a PROXY protocol header that names a private link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: u8,
    pub(crate) value: Vec<u8>,
}

impl Link {
    /// The type of Azure's field.
    pub(crate) const AZURE: u8 = 0xee;
    /// What it begins with when a link's id follows, the least significant byte first.
    const AZURE_LINK_ID: u8 = 0x01;

    fn azure(id: u32) -> Self {
        Self { kind: Self::AZURE, value: [&[Self::AZURE_LINK_ID], id.to_le_bytes().as_slice()].concat() }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (kind, value) = text.split_once(':').context("`tlv` is a type and a value, as in `ea:0176`")?;
        let (kind, value) = (hex(kind).context("`tlv`")?, hex(value).context("`tlv`")?);
        let [kind] = *kind else { bail!("the type of `tlv` is one byte") };
        ensure!(is_vendor(kind), "the type of `tlv` is one of the vendors' own, e0 to ef: clients choose others");
        ensure!(!value.is_empty(), "the value of `tlv` is empty");
        Ok(Self { kind, value })
    }
}

/// Every place by itself, and beside the listeners.
pub(super) fn check_all(config: &Config) -> anyhow::Result<()> {
    let listeners = config.server.listen.iter().map(SocketAddr::ip);
    let listeners = listeners.chain(config.places.iter().filter_map(|place| place.listen));
    let listeners = listeners.chain(config.proxies.iter().filter_map(|proxy| proxy.listen).map(|address| address.ip()));
    let beyond_loopback = { listeners }.find(|address| !address.is_loopback());
    for (at, place) in config.places.iter().enumerate() {
        place.check().with_context(|| format!("place `{}`", place.name))?;
        if let (true, Some(address)) = (place.simulated, beyond_loopback) {
            bail!(
                "place `{}` is simulated, which is refused beside {address}: simulated places need loopback listeners only",
                place.name
            );
        }
        if let Some(link) = place.link()? {
            ensure!(
                !config.proxies.is_empty(),
                "place `{}` is told by what a proxy's header says: configure a [[proxy]]",
                place.name
            );
            for other in config.places.iter().take(at) {
                ensure!(
                    other.link()?.as_ref() != Some(&link),
                    "places `{}` and `{}` have the same private link",
                    other.name,
                    place.name
                );
            }
        }
    }
    Ok(())
}

impl PlaceConfig {
    /// Where its sockets are made.
    pub(crate) fn scope(&self) -> Scope {
        Scope::new(self.interface.as_deref(), self.namespace.as_deref())
    }

    /// The field of a proxy's header that says that a connection came by this place's private link.
    pub(crate) fn link(&self) -> anyhow::Result<Option<Link>> {
        match (self.link_id, &self.tlv) {
            (Some(_), Some(_)) => bail!("a place has a `link_id` or a `tlv`, not both"),
            (Some(id), None) => Ok(Some(Link::azure(id))),
            (None, Some(text)) => Link::parse(text).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.name.is_empty() && self.name.len() <= 64, "a place needs a name of 1 to 64 characters");
        ensure!(!self.peers.is_empty(), "`peers` must name at least one range");
        ensure!(
            self.private_endpoint.is_none() || self.subnet.is_none(),
            "a place is a private endpoint or a subnet, not both"
        );
        for id in [&self.private_endpoint, &self.subnet].into_iter().flatten() {
            id.parse::<ResourceId>().with_context(|| format!("`{id}`"))?;
        }
        self.check_listeners()?;
        if let Some(seen_as) = self.seen_as {
            ensure!(self.simulated, "`seen_as` needs `simulated = true`");
            let same = |net: &IpNet| {
                net.max_prefix_len() == seen_as.max_prefix_len() && net.prefix_len() == seen_as.prefix_len()
            };
            ensure!(self.peers.iter().all(same), "`seen_as` must be as large as each range in `peers`");
        }
        if self.simulated {
            let loopback = |net: &IpNet| net.network().is_loopback() && net.broadcast().is_loopback();
            ensure!(self.peers.iter().all(loopback), "the peers of a simulated place must be loopback addresses");
            ensure!(
                self.listen.is_none_or(|address| address.is_loopback()),
                "`listen` of a simulated place must be loopback"
            );
            ensure!(self.scope().is_default(), "a simulated place has no interface and no namespace");
        }
        Ok(())
    }

    fn check_listeners(&self) -> anyhow::Result<()> {
        let bound = !self.scope().is_default();
        let linked = self.link()?.is_some();
        ensure!(
            self.private_endpoint.is_none() || self.listen.is_some() || linked,
            "`private_endpoint` and `listen` need each other: connections to the endpoint need an address to arrive on, \
             or a proxy's `link_id` or `tlv`"
        );
        ensure!(
            !linked || self.private_endpoint.is_some(),
            "`link_id` and `tlv` are those of a `private_endpoint`: give it too"
        );
        ensure!(!linked || !self.simulated, "a simulated place has no `link_id` and no `tlv`");
        ensure!(
            self.listen.is_none() || self.private_endpoint.is_some() || bound,
            "`private_endpoint` and `listen` need each other, unless the listener has an `interface` or `namespace`"
        );
        ensure!(
            !bound || self.listen.is_some(),
            "`interface` and `namespace` say where `listen` is bound: give it too"
        );
        ensure!(
            self.address.is_none() || self.private_endpoint.is_some(),
            "`address` is that of a `private_endpoint`: give it too"
        );
        for address in [self.listen, self.address].into_iter().flatten() {
            ensure!(!address.is_unspecified(), "`{address}` is no address that anybody can connect to");
        }
        if let Some(interface) = &self.interface {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
            ensure!(
                (1..=MAX_INTERFACE_BYTES).contains(&interface.len()) && interface.bytes().all(plain),
                "`{interface}` is not the name of a network interface"
            );
        }
        if let Some(namespace) = &self.namespace {
            ensure!(namespace.is_absolute(), "`namespace` is an absolute path, such as /run/netns/NAME");
        }
        Ok(())
    }
}

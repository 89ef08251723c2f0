//! Proxies in front of the server: whose word about where a connection comes from is taken, and on which listeners.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use crate::config::ProxyConfig;
use crate::sockets::Scope;

mod header;

pub(crate) use header::is_vendor;
pub use header::{HeaderProblem, PREFIX_BYTES, Proxied, header_length, read_header};

/// All configured proxies.
#[derive(Debug, Clone)]
pub(crate) struct Proxies(Vec<Arc<Proxy>>);

/// A proxy whose header is read.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// It ends TLS, and its requests may carry a client's certificate.
    pub(crate) client_cert: bool,
    peers: Vec<IpNet>,
    listen: Option<SocketAddr>,
    certificate: Option<[u8; 32]>,
}

/// Who a connection comes from.
#[derive(Debug)]
pub(crate) enum Sender {
    /// Not from a proxy: what it sends is its own.
    Client,
    /// From this proxy: a header must come first.
    Proxy(Arc<Proxy>),
    /// From somebody else on a proxy's own listener.
    Stranger,
}

impl Proxies {
    /// From the checked configuration.
    pub(crate) fn new(config: &[ProxyConfig]) -> anyhow::Result<Self> {
        let proxy = |config: &ProxyConfig| {
            anyhow::Ok(Arc::new(Proxy {
                name: config.name.as_str().into(),
                client_cert: config.client_cert,
                peers: config.peers.clone(),
                listen: config.listen,
                certificate: config.certificate()?,
            }))
        };
        config.iter().map(proxy).collect::<anyhow::Result<_>>().map(Self)
    }

    /// The proxies' own listeners.
    pub(crate) fn listeners(&self) -> Vec<SocketAddr> {
        let mut listeners: Vec<_> = self.0.iter().filter_map(|proxy| proxy.listen).collect();
        listeners.sort_unstable();
        listeners.dedup();
        listeners
    }

    /// Who a connection comes from. `own` is the configured address of a proxies' own listener.
    pub(crate) fn sender(&self, own: Option<SocketAddr>, scope: &Scope, peer: IpAddr) -> Sender {
        // On another network's interface the address is somebody else's.
        if !scope.is_default() {
            return Sender::Client;
        }
        let peer = peer.to_canonical();
        let holds = |proxy: &Proxy| proxy.peers.iter().any(|range| range.contains(&peer));
        match (self.0.iter().find(|proxy| proxy.listen == own && holds(proxy)), own) {
            (Some(proxy), _) => Sender::Proxy(Arc::clone(proxy)),
            (None, Some(_)) => Sender::Stranger,
            (None, None) => Sender::Client,
        }
    }
}

impl Proxy {
    /// Whether the certificate that the proxy itself showed is the configured one, where there is one.
    pub(crate) fn is_proved_by(&self, shown: Option<&[CertificateDer<'_>]>) -> bool {
        let Some(expected) = &self.certificate else { return true };
        let leaf = shown.and_then(<[_]>::first);
        leaf.is_some_and(|leaf| digest(&SHA256, leaf).as_ref() == expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn only_configured_peers_are_proxies() {
        let text = "
            [[proxy]]
            name = 'shared'
            peers = ['10.9.0.0/24']

            [[proxy]]
            name = 'own'
            peers = ['10.9.0.0/16']
            listen = '10.0.0.1:6443'
            client_cert = true
        ";
        let proxies = Proxies::new(&Config::parse(text).unwrap().proxies).unwrap();
        let own: SocketAddr = "10.0.0.1:6443".parse().unwrap();
        assert_eq!(proxies.listeners(), [own]);
        let check = |listener, scope: Scope, peer: &str, expected| {
            let sender = match proxies.sender(listener, &scope, peer.parse().unwrap()) {
                Sender::Client => "client".to_owned(),
                Sender::Proxy(proxy) => proxy.name.to_string(),
                Sender::Stranger => "stranger".to_owned(),
            };
            assert_eq!(sender, expected, "{peer} {listener:?}{scope}");
        };
        check(None, Scope::default(), "10.9.0.7", "shared");
        check(None, Scope::default(), "::ffff:10.9.0.7", "shared");
        check(None, Scope::default(), "10.9.1.7", "client");
        check(Some(own), Scope::default(), "10.9.0.7", "own");
        check(Some(own), Scope::default(), "10.9.1.7", "own");
        check(Some(own), Scope::default(), "10.8.0.7", "stranger");
        check(None, Scope::new(Some("eth1"), None), "10.9.0.7", "client");
    }
}

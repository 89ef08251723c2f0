//! `[dns]`.

use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use serde::Deserialize;

/// So many addresses fit in an answer over UDP, whatever the resolver takes.
const MAX_PUBLIC_ADDRESSES: usize = 8;
const LONGEST_TTL_SECONDS: u32 = 3600;

/// `[dns]`: tells where the server's names lead, by the place of whoever asks. Off without an address to listen on, here or in a
/// place.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DnsConfig {
    /// Addresses to answer on, over UDP and TCP.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where the names lead for everybody who has no private endpoint; default: the addresses of `server.listen`.
    pub(crate) public_addresses: Vec<IpAddr>,
    /// How long answers may be kept, in seconds.
    pub(crate) ttl_seconds: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { listen: Vec::new(), public_addresses: Vec::new(), ttl_seconds: 5 }
    }
}

impl DnsConfig {
    /// Where the names lead for everybody who has no private endpoint.
    pub(crate) fn public(&self, listeners: &[SocketAddr]) -> Vec<IpAddr> {
        if !self.public_addresses.is_empty() {
            return self.public_addresses.clone();
        }
        let mut addresses: Vec<IpAddr> = listeners.iter().map(SocketAddr::ip).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    pub(super) fn check(&self, answers: bool, listeners: &[SocketAddr]) -> anyhow::Result<()> {
        let public = self.public(listeners);
        ensure!(
            !answers || public.iter().all(|address| !address.is_unspecified()),
            "dns.public_addresses must name the public addresses: those of server.listen are not concrete"
        );
        ensure!(
            public.len() <= MAX_PUBLIC_ADDRESSES,
            "dns.public_addresses must be at most {MAX_PUBLIC_ADDRESSES} addresses"
        );
        ensure!(self.ttl_seconds <= LONGEST_TTL_SECONDS, "dns.ttl_seconds must be at most {LONGEST_TTL_SECONDS}");
        Ok(())
    }
}

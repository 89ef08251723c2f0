use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use ipnet::IpNet;
use postern_outbound::OutboundOptions;
use serde::Deserialize;

/// `[outbound]`: whom the server may call, for imports and for the keys of issuers. It speaks HTTPS only, and never to its own listeners.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OutboundConfig {
    /// Ranges that may be called although they are not public: `10.1.0.0/16`.
    pub(crate) allow: Vec<IpNet>,
    /// PEM file with authorities to trust beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The address with which the import service comes to a registry of this server on the public path: what IP rules are asked
    /// about.
    pub(crate) address: IpAddr,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), ca_file: None, address: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

impl OutboundConfig {
    /// What the client is made with.
    pub(crate) fn options(&self, own_listeners: Vec<SocketAddr>) -> anyhow::Result<OutboundOptions> {
        let read = |file: &PathBuf| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let ca_pem = self.ca_file.as_ref().map(read).transpose()?;
        Ok(OutboundOptions { allow: self.allow.clone(), own_listeners, ca_pem })
    }
}

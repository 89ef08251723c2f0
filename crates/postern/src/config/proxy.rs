//! `[[proxy]]`.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use ipnet::IpNet;
use serde::Deserialize;

use super::hex;

/// `[[proxy]]`: connections from these peers come from a proxy, which says in a PROXY protocol header who is behind it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyConfig {
    /// Its name in logs, and in traces of what cannot be told.
    pub(crate) name: String,
    /// Addresses of the proxy.
    pub(crate) peers: Vec<IpNet>,
    /// An address and port for this proxy only; without it, it connects where everybody does.
    pub(crate) listen: Option<SocketAddr>,
    /// The proxy ends TLS, and hands client certificates on in `Client-Cert` (RFC 9440). Needs `listen`.
    #[serde(default)]
    pub(crate) client_cert: bool,
    /// SHA-256 of the certificate that the proxy itself shows; with `client_cert`.
    pub(crate) certificate_sha256: Option<String>,
}

/// Every proxy by itself, and beside the others.
pub(super) fn check_all(proxies: &[ProxyConfig]) -> anyhow::Result<()> {
    for (at, proxy) in proxies.iter().enumerate() {
        proxy.check().with_context(|| format!("proxy `{}`", proxy.name))?;
        let overlaps = |others: &[IpNet]| {
            proxy.peers.iter().any(|own| others.iter().any(|other| own.contains(other) || other.contains(own)))
        };
        for other in proxies.iter().take(at) {
            ensure!(proxy.name != other.name, "there are two proxies `{}`", proxy.name);
            ensure!(
                proxy.listen != other.listen || !overlaps(&other.peers),
                "proxies `{}` and `{}` have the same peers on the same listener",
                other.name,
                proxy.name
            );
        }
    }
    Ok(())
}

impl ProxyConfig {
    /// The certificate that the proxy itself shows.
    pub(crate) fn certificate(&self) -> anyhow::Result<Option<[u8; 32]>> {
        let parse = |text: &String| {
            let bytes = hex(&text.replace(':', ""))?;
            <[u8; 32]>::try_from(bytes).ok().context("a SHA-256 has 64 hexadecimal digits")
        };
        self.certificate_sha256.as_ref().map(parse).transpose().context("certificate_sha256")
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.name.is_empty() && self.name.len() <= 64, "a proxy needs a name of 1 to 64 characters");
        ensure!(
            self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "a proxy's name is made of letters, digits and hyphens"
        );
        ensure!(!self.peers.is_empty(), "`peers` must name at least one range");
        // Everybody could say to be anybody.
        ensure!(self.peers.iter().all(|range| range.prefix_len() > 0), "`peers` of a proxy cannot be everybody");
        // Beside clients of the same proxy that it does not look into, anybody could send the header.
        ensure!(!self.client_cert || self.listen.is_some(), "`client_cert` needs a `listen` of its own");
        ensure!(self.client_cert || self.certificate_sha256.is_none(), "`certificate_sha256` goes with `client_cert`");
        self.certificate().map(drop)
    }
}

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;

/// Which addresses may be called.
#[derive(Debug)]
pub(crate) struct Addresses {
    allow: Vec<IpNet>,
    own: Vec<SocketAddr>,
}

impl Addresses {
    pub(crate) fn new(allow: Vec<IpNet>, own: Vec<SocketAddr>) -> Self {
        Self { allow, own }
    }

    /// Whether the address may be called; else, what it is.
    pub(crate) fn check(&self, address: SocketAddr) -> Result<(), &'static str> {
        let ip = embedded(address.ip());
        if self.is_own(ip, address.port()) {
            return Err("this server's own");
        }
        if self.allow.iter().any(|range| range.contains(&ip)) {
            return Ok(());
        }
        match ip {
            IpAddr::V4(ip) => not_public_v4(ip),
            IpAddr::V6(ip) => not_public_v6(ip),
        }
        .map_or(Ok(()), Err)
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        self.own.iter().filter(|own| own.port() == port).any(|own| {
            let own = own.ip().to_canonical();
            // Every loopback address and every local one leads to a listener on all of them.
            own == ip || (own.is_unspecified() && is_local(ip))
        })
    }
}

/// Whether the address is one of this machine's: only then it can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The IPv4 address inside of an IPv6 address that leads to one.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip.to_canonical() else { return ip.to_canonical() };
    match v6.segments() {
        // NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => IpAddr::V6(v6),
    }
}

/// Source: IANA IPv4 Special-Purpose Address Registry (read 2026-11).
fn not_public_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some("in a private range"),
        [0 | 224..=255, ..] | [192, 0, 0, _] | [198, 18..=19, ..] => Some("not a public address"),
        _ => None,
    }
}

/// Source: IANA IPv6 Special-Purpose Address Registry (read 2026-11).
fn not_public_v6(ip: Ipv6Addr) -> Option<&'static str> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some("in a private range"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("not a public address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allow: &[&str], own: &[&str], address: &str, expected: Result<(), &'static str>) {
        let allow = allow.iter().map(|range| range.parse().unwrap()).collect();
        let own = own.iter().map(|own| own.parse().unwrap()).collect();
        assert_eq!(Addresses::new(allow, own).check(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn only_public_addresses_are_called() {
        for public in
            ["20.62.128.1:443", "172.32.0.1:443", "100.128.0.1:443", "[2606:4700::1]:443", "[64:ff9b::808:808]:443"]
        {
            check(&[], &[], public, Ok(()));
        }
        for (address, why) in [
            ("127.0.0.1:443", "a loopback address"),
            ("127.51.100.7:443", "a loopback address"),
            ("[::1]:443", "a loopback address"),
            ("[::ffff:127.0.0.1]:443", "a loopback address"),
            ("[64:ff9b::7f00:1]:443", "a loopback address"),
            ("[2002:7f00:1::]:443", "a loopback address"),
            ("169.254.169.254:80", "a link-local address"),
            ("[fe80::1]:443", "a link-local address"),
            ("10.0.0.4:443", "in a private range"),
            ("172.31.0.1:443", "in a private range"),
            ("192.168.1.1:443", "in a private range"),
            ("100.64.0.1:443", "in a private range"),
            ("[fd00::1]:443", "in a private range"),
            ("0.0.0.0:443", "not a public address"),
            ("[::]:443", "not a public address"),
            ("[::127.0.0.1]:443", "not a public address"),
            ("224.0.0.1:443", "not a public address"),
            ("255.255.255.255:443", "not a public address"),
            ("[ff02::1]:443", "not a public address"),
        ] {
            check(&[], &[], address, Err(why));
        }
    }

    #[test]
    fn the_allow_list_opens_its_ranges_and_never_an_own_listener() {
        check(&["127.0.0.1/32"], &[], "127.0.0.1:5000", Ok(()));
        check(&["127.0.0.1/32"], &[], "[::ffff:127.0.0.1]:5000", Ok(()));
        check(&["127.0.0.1/32"], &[], "127.0.0.2:5000", Err("a loopback address"));
        check(&["127.0.0.0/8"], &["127.0.0.1:5443"], "127.0.0.1:5443", Err("this server's own"));
        check(&["127.0.0.0/8"], &["127.0.0.1:5443"], "127.0.0.1:5444", Ok(()));
        check(&["127.0.0.0/8"], &["0.0.0.0:5443"], "127.9.9.9:5443", Err("this server's own"));
        check(&["127.0.0.0/8"], &["[::]:5443"], "127.9.9.9:5443", Err("this server's own"));
        check(&[], &["0.0.0.0:5443"], "20.62.128.1:5443", Ok(()));
        check(&[], &["20.62.128.1:443"], "20.62.128.1:443", Err("this server's own"));
    }
}

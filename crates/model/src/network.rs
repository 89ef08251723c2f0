use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

/// Whoever has one IPv6 address has the network around it.
const IPV6_NETWORK_BITS: u32 = 64;

/// The source that an address counts for where something is counted by source: itself, for IPv6 the network around it.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let host_bits = Ipv6Addr::BITS - IPV6_NETWORK_BITS;
            Ipv6Addr::from_bits(address.to_bits() >> host_bits << host_bits).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// An address rule of the registry's firewall: one IPv4 address or an IPv4 range, always `Allow`.
///
/// Prints as it was written, so that documents stay lossless; compares by the range it means.
#[derive(Clone, Debug)]
pub struct IpRule {
    text: Box<str>,
    range: Ipv4Net,
}

/// Which addresses an IP rule may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpRuleMode {
    /// Public addresses only, as the emulated service's sister services do.
    Strict,
    /// Private ranges too: a self-hosted registry's office network is one.
    Permissive,
}

/// Why a text is not an IP rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpRuleError {
    /// IPv6: firewall rules are IPv4 only.
    #[error("IP rule `{0}` is IPv6: firewall rules are IPv4 only")]
    Ipv6(String),
    /// Neither an address nor a range.
    #[error("IP rule `{0}` must be an IPv4 address or an IPv4 range in CIDR notation")]
    Malformed(String),
    /// A private, loopback or link-local range under [`IpRuleMode::Strict`].
    #[error("IP rule `{0}` is in a private range: use public IPv4 addresses, or a private endpoint")]
    Private(String),
}

impl IpRule {
    /// Parses `a.b.c.d` or `a.b.c.d/n`; host bits behind the prefix are ignored, as firewalls do.
    pub fn parse(text: &str, mode: IpRuleMode) -> Result<Self, IpRuleError> {
        let shown = || text.chars().take(64).collect::<String>();
        let range = match text.parse::<Ipv4Net>() {
            Ok(range) => range.trunc(),
            Err(_) => match text.parse::<Ipv4Addr>() {
                Ok(address) => Ipv4Net::from(address),
                Err(_) if text.contains(':') => return Err(IpRuleError::Ipv6(shown())),
                Err(_) => return Err(IpRuleError::Malformed(shown())),
            },
        };
        if mode == IpRuleMode::Strict && is_private(range) {
            return Err(IpRuleError::Private(shown()));
        }
        Ok(Self { text: text.into(), range })
    }

    /// The range that the rule lets in.
    pub const fn range(&self) -> Ipv4Net {
        self.range
    }
}

fn is_private(range: Ipv4Net) -> bool {
    const PRIVATE: [Ipv4Net; 6] = [
        Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
        Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
        Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
        Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
        Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
        Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    ];
    PRIVATE.iter().any(|private| private.contains(&range))
}

impl PartialEq for IpRule {
    fn eq(&self, other: &Self) -> bool {
        self.range == other.range
    }
}

impl Eq for IpRule {}

impl fmt::Display for IpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, mode: IpRuleMode, expected: Result<&str, IpRuleError>) {
        let rule = IpRule::parse(text, mode);
        if let Ok(rule) = &rule {
            assert_eq!(rule.to_string(), text);
        }
        assert_eq!(rule.map(|rule| rule.range().to_string()), expected.map(str::to_owned));
    }

    #[test]
    fn ip_rules() {
        use IpRuleMode::{Permissive, Strict};
        check("198.51.100.7", Strict, Ok("198.51.100.7/32"));
        check("198.51.100.7/32", Strict, Ok("198.51.100.7/32"));
        check("198.51.100.7/24", Strict, Ok("198.51.100.0/24"));
        check("0.0.0.0/0", Strict, Ok("0.0.0.0/0"));
        for private in ["10.1.0.0/16", "172.31.0.1", "192.168.1.0/24", "127.0.0.1", "169.254.169.254", "100.64.0.0/10"]
        {
            check(private, Strict, Err(IpRuleError::Private(private.into())));
            assert!(IpRule::parse(private, Permissive).is_ok());
        }
        check("2603:1030:210:402::90/125", Permissive, Err(IpRuleError::Ipv6("2603:1030:210:402::90/125".into())));
        for bad in ["", "198.51.100", "198.51.100.7/33", "198.51.100.256", "example.com", "1.2.3.4 "] {
            check(bad, Permissive, Err(IpRuleError::Malformed(bad.into())));
        }
    }
}

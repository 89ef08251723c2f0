//! The PROXY protocol's header, version 2: who is behind a proxy.
//!
//! Source: <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2 (read 2026-11-22).

use std::net::{IpAddr, SocketAddr};

/// Signature, version and command, family, length.
pub const PREFIX_BYTES: usize = 16;
/// Longest header: addresses, and what proxies say about TLS and private links.
const MAX_HEADER_BYTES: usize = 4096;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const CHECKSUM: u8 = 0x03;
/// Types that vendors give a meaning of their own.
const FIRST_VENDOR: u8 = 0xe0;
const LAST_VENDOR: u8 = 0xef;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxied {
    /// The connection is the proxy's own, or it does not know whose.
    Local,
    /// It is a client's.
    Client {
        /// The client's address.
        source: SocketAddr,
        /// The address that it connected to.
        destination: SocketAddr,
        /// Vendors' fields, by type: the private link that it came by is among them.
        vendor: Vec<(u8, Vec<u8>)>,
    },
}

/// Why a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// It does not begin as a header of version 2 does.
    #[error("there is no PROXY protocol header of version 2")]
    Missing,
    /// It announces more than is read.
    #[error("the PROXY protocol header is longer than {max} bytes", max = MAX_HEADER_BYTES)]
    TooLong,
    /// Its addresses or fields cannot be read.
    #[error("the PROXY protocol header cannot be read")]
    Malformed,
    /// A client that did not come by TCP over IPv4 or IPv6.
    #[error("the PROXY protocol header names no TCP connection")]
    NotTcp,
    /// Its checksum is another one.
    #[error("the PROXY protocol header's checksum is wrong")]
    Checksum,
}

/// How long the whole header is, by its first bytes.
pub fn header_length(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, HeaderProblem> {
    let [.., version, _, high, low] = *prefix;
    if !prefix.starts_with(SIGNATURE) || version >> 4 != 2 {
        return Err(HeaderProblem::Missing);
    }
    let length = PREFIX_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER_BYTES { Err(HeaderProblem::TooLong) } else { Ok(length) }
}

/// Reads a whole header.
pub fn read_header(header: &[u8]) -> Result<Proxied, HeaderProblem> {
    let (prefix, rest) = header.split_first_chunk::<PREFIX_BYTES>().ok_or(HeaderProblem::Missing)?;
    if header_length(prefix)? != header.len() {
        return Err(HeaderProblem::Malformed);
    }
    let [.., command, family, _, _] = *prefix;
    match command {
        PROXY => {}
        // Nothing of what follows means anything.
        LOCAL => return Ok(Proxied::Local),
        _ => return Err(HeaderProblem::Malformed),
    }
    let read = match family {
        TCP_OVER_IPV4 => addresses::<4>(rest),
        TCP_OVER_IPV6 => addresses::<16>(rest),
        _ => return Err(HeaderProblem::NotTcp),
    };
    let (source, destination, mut fields) = read.ok_or(HeaderProblem::Malformed)?;
    let mut vendor = Vec::new();
    while !fields.is_empty() {
        let (&[kind, high, low], rest) = fields.split_first_chunk().ok_or(HeaderProblem::Malformed)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(HeaderProblem::Malformed)?;
        if kind == CHECKSUM {
            check_sum(header, header.len() - rest.len() - length, value)?;
        }
        if is_vendor(kind) {
            vendor.push((kind, value.to_vec()));
        }
        fields = rest;
    }
    Ok(Proxied::Client { source, destination, vendor })
}

/// Whether a field type is one of those that vendors use for themselves.
pub(crate) fn is_vendor(kind: u8) -> bool {
    (FIRST_VENDOR..=LAST_VENDOR).contains(&kind)
}

/// Source and destination, and what follows: both addresses come before both ports.
fn addresses<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk()?;
    let (to, rest) = rest.split_first_chunk()?;
    let at = |address: &[u8; N], port: &[u8; 2]| SocketAddr::new((*address).into(), u16::from_be_bytes(*port));
    Some((at(source, from), at(destination, to), rest))
}

/// A checksum is of the whole header, in which it counts as zeros itself.
fn check_sum(header: &[u8], at: usize, sent: &[u8]) -> Result<(), HeaderProblem> {
    let sent = <[u8; 4]>::try_from(sent).map_err(|_| HeaderProblem::Malformed)?;
    let counted = header.iter().enumerate().map(|(i, byte)| if (at..at + sent.len()).contains(&i) { 0 } else { *byte });
    if u32::from_be_bytes(sent) == crc32c(counted) { Ok(()) } else { Err(HeaderProblem::Checksum) }
}

/// RFC 4960, appendix B. Bit by bit: a header is short and comes once per connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |sum: u32, byte: u8| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 })
    };
    !bytes.fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header by its parts.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    const V4: &[u8] = &[198, 51, 100, 7, 10, 1, 0, 4, 0x30, 0x39, 0x01, 0xbb];
    const LINK: &[u8] = &[0xee, 0, 5, 1, 0x78, 0x56, 0x34, 0x12];

    #[track_caller]
    fn check(header: &[u8], expected: Result<&str, HeaderProblem>) {
        let shown = read_header(header).map(|read| match read {
            Proxied::Local => "local".to_owned(),
            Proxied::Client { source, destination, vendor } => format!("{source} {destination} {vendor:02x?}"),
        });
        assert_eq!(shown.as_deref().map_err(|problem| *problem), expected);
    }

    #[test]
    fn headers_are_read() {
        use HeaderProblem::{Malformed, Missing, NotTcp, TooLong};
        check(&header(0x21, 0x11, V4), Ok("198.51.100.7:12345 10.1.0.4:443 []"));
        check(
            &header(0x21, 0x11, &[V4, LINK].concat()),
            Ok("198.51.100.7:12345 10.1.0.4:443 [(ee, [01, 78, 56, 34, 12])]"),
        );
        // Fields that clients choose, like the name they ask for, are not among the vendors'.
        check(
            &header(0x21, 0x11, &[V4, &[2, 0, 1, b'a'], &[4, 0, 0]].concat()),
            Ok("198.51.100.7:12345 10.1.0.4:443 []"),
        );
        let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 1, 0, 2]].concat();
        check(&header(0x21, 0x21, &v6), Ok("[2001:db8::1]:1 [::]:2 []"));
        check(&header(0x20, 0x00, &[]), Ok("local"));
        check(&header(0x20, 0x11, V4), Ok("local"));
        check(&header(0x21, 0x00, &[]), Err(NotTcp));
        check(&header(0x21, 0x12, V4), Err(NotTcp));
        check(&header(0x21, 0x31, &[0; 216]), Err(NotTcp));
        // Whatever follows is the proxy's own affair.
        check(&header(0x20, 0xff, &[0xee]), Ok("local"));
        check(&header(0x21, 0x00, V4), Err(NotTcp));
        check(&header(0x21, 0x13, V4), Err(NotTcp));
        check(&header(0x22, 0x11, V4), Err(Malformed));
        check(&header(0x31, 0x11, V4), Err(Missing));
        check(&header(0x21, 0x11, &V4[..11]), Err(Malformed));
        check(&header(0x21, 0x11, &[V4, &[0xee, 0, 6, 1, 2]].concat()), Err(Malformed));
        check(&header(0x21, 0x11, &[V4, &[0xee]].concat()), Err(Malformed));
        check(&header(0x21, 0x11, V4)[..20], Err(Malformed));
        check(&[header(0x21, 0x11, V4), vec![0]].concat(), Err(Malformed));
        check(b"PROXY TCP4 198.51.100.7 10.1.0.4 12345 443\r\n", Err(Missing));
        check(b"", Err(Missing));
        let padding = |bytes: usize| {
            let length = u16::try_from(bytes).unwrap().to_be_bytes();
            header(0x21, 0x11, &[V4, &[4], &length, &vec![0; bytes]].concat())
        };
        let most = MAX_HEADER_BYTES - PREFIX_BYTES - V4.len() - 3;
        check(&padding(most), Ok("198.51.100.7:12345 10.1.0.4:443 []"));
        check(&padding(most + 1), Err(TooLong));
    }

    #[test]
    fn a_checksum_has_four_bytes() {
        check(&header(0x21, 0x11, &[V4, &[3, 0, 3, 0, 0, 0]].concat()), Err(HeaderProblem::Malformed));
        check(&header(0x21, 0x11, &[V4, &[3, 0, 4, 0, 0, 0, 0]].concat()), Err(HeaderProblem::Checksum));
    }

    #[test]
    fn a_checksum_is_checked() {
        // The example of the catalogue of checksums: every implementation gives this for these nine bytes.
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let mut good = header(0x21, 0x11, &[V4, &[3, 0, 4, 0, 0, 0, 0], LINK].concat());
        let sum = crc32c(good.iter().copied()).to_be_bytes();
        let at = PREFIX_BYTES + V4.len() + 3;
        good[at..at + 4].copy_from_slice(&sum);
        check(&good, Ok("198.51.100.7:12345 10.1.0.4:443 [(ee, [01, 78, 56, 34, 12])]"));
        // Another field than a checksum is checked by nobody.
        for bad in (PREFIX_BYTES..good.len()).filter(|bad| *bad != at - 3) {
            let mut header = good.clone();
            header[bad] ^= 1;
            assert!(read_header(&header).is_err(), "byte {bad}");
        }
    }
}

use std::fmt;
use std::net::Ipv6Addr;

/// Longest DNS name.
const MAX_NAME_BYTES: usize = 253;

/// The host that a client addressed, as it wrote it: the registry is found by it and challenges repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    name: Box<str>,
    port: Option<u16>,
    plain: bool,
}

impl Host {
    /// Parses `name`, `name:port`, `1.2.3.4:port` or `[::1]:port`. What passes can be written into a header.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_address = bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        let valid = !name.is_empty() && name.len() <= MAX_NAME_BYTES && (is_name || is_address);
        valid.then(|| Self { name: name.to_ascii_lowercase().into(), port, plain: false })
    }

    /// The same, reached without TLS.
    pub(crate) fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// Another host, by the port that this one is reached at.
    pub(crate) fn named(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// Whether the client speaks plain HTTP.
    pub(crate) const fn is_plain(&self) -> bool {
        self.plain
    }

    /// Without port, lower case.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, &str)>) {
        let host = Host::parse(text);
        let seen = host.as_ref().map(|host| (host.to_string(), host.name().to_owned()));
        assert_eq!(seen, expected.map(|(shown, name)| (shown.into(), name.into())), "{text:?}");
    }

    #[test]
    fn hosts() {
        check("Reg.azurecr.io.localhost", Some(("reg.azurecr.io.localhost", "reg.azurecr.io.localhost")));
        check("reg.azurecr.io.localhost:8443", Some(("reg.azurecr.io.localhost:8443", "reg.azurecr.io.localhost")));
        check("127.0.0.1:5000", Some(("127.0.0.1:5000", "127.0.0.1")));
        check("[::1]:5000", Some(("[::1]:5000", "[::1]")));
        check("[::1]", Some(("[::1]", "[::1]")));
        for bad in ["", ":80", "a:b", "a:", "a:99999", "::1", "[::1", "a\"b", "a b", "a/b", "a@b", "[x]:1", "é"] {
            check(bad, None);
        }
        check(&"a".repeat(254), None);
    }
}

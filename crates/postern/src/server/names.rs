//! Host names and what is served under them.

/// One more than any name below the suffix has.
const MAX_LABELS: usize = 4;

/// The server's names.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    suffix: Box<str>,
    gateway: Box<str>,
}

/// What a host name stands for. A connection serves requests of one class only, so that a certificate valid for several
/// names does not let a client reach one class by another's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A registry's login server or its data endpoint.
    Registry,
    /// `localhost` and the suffix itself: resource manager, authority, and the default registry.
    Control,
    /// The workload gateway's tunnel.
    Gateway,
}

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The data plane.
    DataPlane,
    /// The resource manager.
    ResourceManager,
    /// The authority and the managed identity endpoint.
    Authority,
    /// Postern's own API: decisions, explanations, export.
    Postern,
    /// Health and metrics.
    Operations,
}

impl Target {
    /// The name in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::DataPlane => "dataPlane",
            Self::ResourceManager => "resourceManager",
            Self::Authority => "authority",
            Self::Postern => "postern",
            Self::Operations => "operations",
        }
    }
}

impl Names {
    pub(crate) fn new(suffix: &str) -> Self {
        // A registry's name has no hyphen, so this can be none.
        Self { suffix: suffix.into(), gateway: format!("workload-gateway.{suffix}").into() }
    }

    /// The name that the gateway's outer connection asks for.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Names for the server's certificate.
    pub(crate) fn certificate_names(&self) -> Vec<String> {
        vec![
            "localhost".into(),
            "127.0.0.1".into(),
            "::1".into(),
            self.suffix.to_string(),
            format!("*.{}", self.suffix),
        ]
    }

    /// The class of a host name without port; `None` for names that are not this server's.
    pub(crate) fn class(&self, host: &str) -> Option<Class> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if *host == *self.gateway {
            return Some(Class::Gateway);
        }
        if matches!(host.as_str(), "localhost" | "[::1]" | "::1") || *host == *self.suffix || is_loopback(&host) {
            return Some(Class::Control);
        }
        let label = host.strip_suffix(&*self.suffix)?.strip_suffix('.')?;
        // `myreg`, or its data endpoint: `myreg.eastus.data`.
        let labels: Vec<&str> = label.splitn(MAX_LABELS, '.').collect();
        let is_name = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric());
        match labels.as_slice() {
            [name] | [name, _, "data"] if labels.iter().all(|label| is_name(label)) && is_name(name) => {
                Some(Class::Registry)
            }
            _ => None,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Splits `host:port`, `[v6]:port` or a bare host.
pub(crate) fn split_host(authority: &str) -> (&str, Option<u16>) {
    let bare_v6 = authority.starts_with('[') && authority.ends_with(']');
    match authority.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

/// Who answers this path under a host of this class.
pub(crate) fn target(class: Class, path: &str) -> Target {
    if class == Class::Registry {
        return Target::DataPlane;
    }
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let (first, second) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    match first.to_ascii_lowercase().as_str() {
        "v2" | "acr" => Target::DataPlane,
        "oauth2" if matches!(second, "exchange" | "token") => Target::DataPlane,
        "subscriptions" | "providers" | "tenants" | "metadata" | "v1.0" | "beta" => Target::ResourceManager,
        "postern" if segments.next() != Some("identity") => Target::Postern,
        "healthz" | "readyz" | "metrics" => Target::Operations,
        _ => Target::Authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let names = Names::new("azurecr.io.localhost");
        for (host, class) in [
            ("myreg.azurecr.io.localhost", Some(Class::Registry)),
            ("MYREG.AZURECR.IO.LOCALHOST.", Some(Class::Registry)),
            ("azurecr.io.localhost", Some(Class::Control)),
            ("localhost", Some(Class::Control)),
            ("127.0.0.1", Some(Class::Control)),
            ("127.77.0.4", Some(Class::Control)),
            ("[::1]", Some(Class::Control)),
            ("workload-gateway.azurecr.io.localhost", Some(Class::Gateway)),
            ("myreg.eastus.data.azurecr.io.localhost", Some(Class::Registry)),
            ("myreg.eastus.date.azurecr.io.localhost", None),
            ("x.myreg.eastus.data.azurecr.io.localhost", None),
            (".eastus.data.azurecr.io.localhost", None),
            ("a.b.azurecr.io.localhost", None),
            (".azurecr.io.localhost", None),
            ("evilazurecr.io.localhost", None),
            ("example.com", None),
            ("", None),
        ] {
            assert_eq!(names.class(host), class, "{host}");
        }
    }

    #[test]
    fn authorities_split() {
        assert_eq!(split_host("a.b:443"), ("a.b", Some(443)));
        assert_eq!(split_host("[::1]:443"), ("[::1]", Some(443)));
        assert_eq!(split_host("[::1]"), ("[::1]", None));
        assert_eq!(split_host("a.b"), ("a.b", None));
    }

    #[test]
    fn targets() {
        assert_eq!(target(Class::Registry, "/subscriptions"), Target::DataPlane);
        assert_eq!(target(Class::Control, "/v2/"), Target::DataPlane);
        assert_eq!(target(Class::Control, "/oauth2/token"), Target::DataPlane);
        assert_eq!(target(Class::Control, "//subscriptions/x"), Target::ResourceManager);
        assert_eq!(target(Class::Control, "/5b1c/oauth2/v2.0/token"), Target::Authority);
        assert_eq!(target(Class::Control, "/postern/v1/decisions/x"), Target::Postern);
        assert_eq!(target(Class::Control, "/postern/v1/identity/token"), Target::Authority);
        assert_eq!(target(Class::Control, "/readyz"), Target::Operations);
    }
}

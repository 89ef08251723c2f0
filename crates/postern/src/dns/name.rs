//! What a name below the suffix stands for.

/// What a name stands for, before anybody has looked whether there is such a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Not below the suffix, or not written as host names are.
    Elsewhere,
    /// Below the suffix, but of no form that leads anywhere.
    Nowhere,
    /// The suffix itself: resource manager and authority.
    Apex,
    /// The workload gateway.
    Gateway,
    /// A registry's login server or one of its data endpoints.
    Registry {
        /// The registry's login server.
        login_server: String,
        /// Asked for by its `privatelink` name.
        private: bool,
    },
    /// Names lie below it, so that it may not be called missing: `privatelink`, `data`. A registry may be named so all the same.
    Between {
        /// The login server of a registry of that name.
        login_server: String,
    },
}

/// Reads a name, in lower case and without the dot at its end.
pub fn asked(name: &str, suffix: &str) -> Asked {
    let below = match name.strip_suffix(suffix) {
        Some("") => return Asked::Apex,
        Some(below) => below.strip_suffix('.'),
        None => None,
    };
    let Some(below) = below else { return Asked::Elsewhere };
    let (inner, private) = match below.strip_suffix(".privatelink") {
        Some(inner) => (inner, true),
        None => (below, false),
    };
    let login_server = |registry: &str| format!("{registry}.{suffix}");
    let mut labels = inner.split('.');
    match (labels.next(), labels.next(), labels.next(), labels.next()) {
        (Some("workload-gateway"), None, None, None) if !private => Asked::Gateway,
        (Some(label @ ("data" | "privatelink")), None, None, None) => {
            Asked::Between { login_server: login_server(label) }
        }
        (Some(registry), None, None, None) if is_registry(registry) => {
            Asked::Registry { login_server: login_server(registry), private }
        }
        (Some(region), Some("data"), None, None) if is_region(region) => Asked::Between { login_server: String::new() },
        (Some(registry), Some(region), Some("data"), None) if is_registry(registry) && is_region(region) => {
            Asked::Registry { login_server: login_server(registry), private }
        }
        _ => Asked::Nowhere,
    }
}

fn is_registry(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_region(label: &str) -> bool {
    is_registry(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let registry = |private| Asked::Registry { login_server: "acme.azurecr.io".into(), private };
        let between = |login_server: &str| Asked::Between { login_server: login_server.into() };
        for (name, expected) in [
            ("azurecr.io", Asked::Apex),
            ("workload-gateway.azurecr.io", Asked::Gateway),
            ("workload-gateway.privatelink.azurecr.io", Asked::Nowhere),
            ("acme.azurecr.io", registry(false)),
            ("acme.privatelink.azurecr.io", registry(true)),
            ("acme.eastus.data.azurecr.io", registry(false)),
            ("acme.eastus.data.privatelink.azurecr.io", registry(true)),
            ("privatelink.azurecr.io", between("privatelink.azurecr.io")),
            ("data.azurecr.io", between("data.azurecr.io")),
            ("data.privatelink.azurecr.io", between("data.azurecr.io")),
            ("eastus.data.azurecr.io", between("")),
            ("eastus.data.privatelink.azurecr.io", between("")),
            ("a.b.azurecr.io", Asked::Nowhere),
            ("x.acme.eastus.data.azurecr.io", Asked::Nowhere),
            ("a-b.azurecr.io", Asked::Nowhere),
            ("*.azurecr.io", Asked::Nowhere),
            (".azurecr.io", Asked::Nowhere),
            ("acme..azurecr.io", Asked::Nowhere),
            ("acmeazurecr.io", Asked::Elsewhere),
            ("azurecr.io.example.com", Asked::Elsewhere),
            ("io", Asked::Elsewhere),
            ("", Asked::Elsewhere),
        ] {
            assert_eq!(asked(name, "azurecr.io"), expected, "{name}");
        }
    }
}

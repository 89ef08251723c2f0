use std::fmt;
use std::str::FromStr;

/// A registry's service tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sku {
    /// `Basic`.
    Basic,
    /// `Standard`.
    Standard,
    /// `Premium`.
    Premium,
}

/// What a service tier includes.
///
/// Source: Azure Container Registry service tiers (read 2026-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Included storage.
    pub storage_bytes: u64,
    /// Webhooks.
    pub webhooks: u64,
    /// Replicas besides the home region.
    pub replications: u64,
    /// IP rules.
    pub ip_rules: u64,
    /// Virtual network rules.
    pub virtual_network_rules: u64,
    /// Private endpoint connections.
    pub private_endpoints: u64,
    /// Repository-scoped tokens, and as many scope maps.
    pub tokens: u64,
}

const GIB: u64 = 1 << 30;

impl Sku {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::Basic, Self::Standard, Self::Premium];

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
            Self::Standard => "Standard",
            Self::Premium => "Premium",
        }
    }

    /// What the tier includes.
    pub const fn limits(self) -> Limits {
        let none = Limits {
            storage_bytes: 10 * GIB,
            webhooks: 2,
            replications: 0,
            ip_rules: 0,
            virtual_network_rules: 0,
            private_endpoints: 0,
            tokens: 100,
        };
        match self {
            Self::Basic => none,
            Self::Standard => Limits { storage_bytes: 100 * GIB, webhooks: 10, tokens: 500, ..none },
            Self::Premium => Limits {
                storage_bytes: 500 * GIB,
                webhooks: 500,
                replications: 50,
                ip_rules: 200,
                virtual_network_rules: 100,
                private_endpoints: 200,
                tokens: 50_000,
            },
        }
    }
}

impl FromStr for Sku {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|sku| sku.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

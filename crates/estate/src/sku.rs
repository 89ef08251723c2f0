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

/// Requests a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// By everybody together.
    pub registry: u32,
    /// By one identity.
    pub identity: u32,
}

/// How many requests to a registry the service lets through.
///
/// Source: Azure Container Registry service tiers, "Throttling" (read 2026-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRates {
    /// Pulls, lists and attributes.
    pub read: RequestRate,
    /// Pushes and changes of attributes.
    pub write: RequestRate,
    /// Deletions.
    pub delete: RequestRate,
    /// Lists of referrers.
    pub referrers: RequestRate,
    /// Requests for tokens: whoever makes them is not known yet.
    pub token: RequestRate,
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

    /// How many requests the service lets through.
    pub const fn request_rates(self) -> RequestRates {
        const fn half(registry: u32) -> RequestRate {
            RequestRate { registry, identity: registry / 2 }
        }
        match self {
            Self::Basic | Self::Standard => RequestRates {
                read: half(10_000),
                write: half(2_000),
                delete: half(1_000),
                referrers: half(500),
                token: RequestRate { registry: 10_000, identity: 10_000 },
            },
            Self::Premium => RequestRates {
                read: half(20_000),
                write: half(4_000),
                delete: half(4_000),
                referrers: half(2_000),
                token: RequestRate { registry: 20_000, identity: 20_000 },
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

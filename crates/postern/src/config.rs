//! `postern.toml`: one documented struct per section, unknown keys refused.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use postern_access::{PolicyDate, Settings, Switches, TrustedServices};
use postern_model::IpRuleMode;
use serde::Deserialize;

mod dns;
mod issuer;
mod outbound;
mod place;
mod proxy;
mod tasks;

pub(crate) use dns::DnsConfig;
pub(crate) use issuer::IssuerConfig;
pub(crate) use outbound::OutboundConfig;
pub(crate) use place::{Link, PlaceConfig};
pub(crate) use proxy::ProxyConfig;
pub(crate) use tasks::TasksConfig;

/// Beyond a thousand times the documented numbers nobody is throttled.
const MOST_PERCENT: u32 = 100_000;

/// Longest list of service tags that is read. Published ones have 5 MiB.
const LARGEST_LIST_BYTES: u64 = 64 << 20;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Addresses, names.
    pub(crate) server: ServerConfig,
    /// Own certificate.
    pub(crate) tls: Option<TlsConfig>,
    /// How decisions are made.
    pub(crate) access: AccessConfig,
    /// What records are kept.
    pub(crate) audit: AuditConfig,
    /// What the log looks like.
    pub(crate) log: LogConfig,
    /// Bounds.
    pub(crate) limits: LimitsConfig,
    /// Whether callers are held to the documented numbers of requests.
    pub(crate) throttling: ThrottlingConfig,
    /// Which addresses services have.
    pub(crate) service_tags: ServiceTagsConfig,
    /// Whom the server may call, and how it is seen then.
    pub(crate) outbound: OutboundConfig,
    /// Who carries runs out.
    pub(crate) tasks: TasksConfig,
    /// Whom people sign in with.
    #[serde(rename = "issuer")]
    pub(crate) issuers: Vec<IssuerConfig>,
    /// Answers to the question where the server's names lead.
    pub(crate) dns: DnsConfig,
    /// Where connections come from.
    #[serde(rename = "place")]
    pub(crate) places: Vec<PlaceConfig>,
    /// Who speaks for others.
    #[serde(rename = "proxy")]
    pub(crate) proxies: Vec<ProxyConfig>,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerConfig {
    /// Addresses to listen on; `--listen` replaces them. Port 0 picks a free one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Registries are named `<name>.<suffix>`.
    pub(crate) suffix: String,
    /// The registry that `localhost:PORT` addresses. Default: the one made at first start.
    pub(crate) default_registry: Option<String>,
    /// Name of the Premium registry that the first start makes; empty for none.
    pub(crate) first_registry: String,
    /// The subscription that the first start makes, a GUID; default: a random one. Places name resources by ids that begin with it.
    pub(crate) subscription_id: Option<uuid::Uuid>,
    /// The location that first resources are made in.
    pub(crate) location: String,
    /// How long a shutdown waits for open requests, in seconds.
    pub(crate) shutdown_seconds: u64,
}

/// `[tls]`: the operator's own certificate; it is read again on SIGHUP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// PEM file with the certificate and its chain.
    pub(crate) certificate_file: PathBuf,
    /// PEM file with the key.
    pub(crate) key_file: PathBuf,
}

/// `[access]`: the named switches. `parity = "strict"` turns every improvement over the emulated service off.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessConfig {
    /// `default` or `strict`.
    pub(crate) parity: Parity,
    /// Which phase of the Tasks bypass policy applies: `pre-2025-05-16`, `grace`, `current`, or a date.
    pub(crate) policy_date: String,
    /// The tasks policy opens nothing unless trusted services are on.
    pub(crate) tasks_policy_requires_azure_services: bool,
    /// Runs without a task and identity may bypass as tasks do.
    pub(crate) quick_run_bypass: bool,
    /// A task's user-assigned identity may bypass.
    pub(crate) tasks_user_identity_bypass: bool,
    /// Container instances are a trusted service.
    pub(crate) aci_trusted: bool,
    /// IP rules may name private ranges. Strict parity refuses them.
    pub(crate) private_ip_rules: bool,
}

/// Whether improvements over the emulated service are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Parity {
    /// Improvements are on.
    Default,
    /// They are off.
    Strict,
}

/// `[audit]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// Records older than this many days are dropped.
    pub(crate) keep_days: u32,
    /// The oldest records beyond this number are dropped.
    pub(crate) max_records: u64,
}

/// `[service_tags]`: the addresses that network rules are made of; read again on SIGHUP.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServiceTagsConfig {
    /// A file in the form of those published for the public cloud. Default: the documented addresses of registries in East US.
    pub(crate) file: Option<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// `text` or `json`.
    pub(crate) format: LogFormat,
    /// What to log, in the form `info` or `postern_oci=debug,info`.
    pub(crate) filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsConfig {
    /// Connections open at once; further ones wait.
    pub(crate) connections: usize,
    /// Connections of one address (IPv6: one /64 network) open at once; further ones are closed.
    pub(crate) connections_per_source: usize,
    /// How long a TLS handshake may take, in seconds.
    pub(crate) handshake_seconds: u64,
    /// How long a client may take to send a request's headers, in seconds.
    pub(crate) header_seconds: u64,
    /// How long 16 KiB of a request's body may be waited for, in seconds. A whole body may take as long as it likes.
    pub(crate) stall_seconds: u64,
    /// How long a connection may be open without a request, or without 16 KiB of an answer being taken, in seconds.
    pub(crate) idle_seconds: u64,
    /// Wrong passwords that are forgiven within a minute, from one source and for one user.
    pub(crate) wrong_passwords_per_user: u32,
    /// Wrong passwords that are forgiven within a minute, from one source.
    pub(crate) wrong_passwords_per_source: u32,
    /// Largest blob in bytes.
    pub(crate) blob_bytes: u64,
    /// Bytes that one caller may have in uploads that are not finished, per registry.
    pub(crate) open_upload_bytes: u64,
    /// How long unreferenced blobs are kept before they are reclaimed, in seconds.
    pub(crate) collection_grace_seconds: u64,
    /// How long the collection rests between two rounds, in seconds.
    pub(crate) collection_interval_seconds: u64,
}

/// `[throttling]`: 429 beyond the documented numbers of requests. Off by default: they protect a service that strangers share; the
/// machine is the limit of a server of one's own, and `[limits]` guards it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ThrottlingConfig {
    /// Whether requests are counted.
    pub(crate) enabled: bool,
    /// Hundredths of the documented numbers, at least 1.
    pub(crate) percent: u32,
}

impl Default for ThrottlingConfig {
    fn default() -> Self {
        Self { enabled: false, percent: 100 }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5443))],
            suffix: "azurecr.io.localhost".into(),
            default_registry: None,
            first_registry: "postern".into(),
            subscription_id: None,
            location: "eastus".into(),
            shutdown_seconds: 20,
        }
    }
}

impl Default for AccessConfig {
    fn default() -> Self {
        let switches = Switches::default();
        Self {
            parity: Parity::Default,
            policy_date: "current".into(),
            tasks_policy_requires_azure_services: switches.tasks_policy_requires_azure_services,
            quick_run_bypass: switches.quick_run_bypass,
            tasks_user_identity_bypass: switches.tasks_user_identity_bypass,
            aci_trusted: switches.container_instances_trusted,
            private_ip_rules: true,
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        let options = postern_audit::AuditOptions::default();
        Self { keep_days: options.keep_days, max_records: options.max_records }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let passwords = postern_identity::PasswordLimits::default();
        Self {
            connections: 16_384,
            connections_per_source: 4096,
            handshake_seconds: 10,
            header_seconds: 30,
            stall_seconds: 30,
            idle_seconds: 120,
            wrong_passwords_per_user: passwords.per_user,
            wrong_passwords_per_source: passwords.per_source,
            blob_bytes: 200 << 30,
            open_upload_bytes: 1 << 40,
            collection_grace_seconds: 24 * 3600,
            collection_interval_seconds: 600,
        }
    }
}

impl ServiceTagsConfig {
    /// The file's content, if one is named.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = &self.file else { return Ok(None) };
        let length = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        ensure!(length <= LARGEST_LIST_BYTES, "{} is longer than {LARGEST_LIST_BYTES} bytes", file.display());
        fs::read(file).map(Some).with_context(|| format!("cannot read {}", file.display()))
    }
}

impl AccessConfig {
    /// The settings that decisions are made with.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let switches = Switches {
            tasks_policy_requires_azure_services: self.tasks_policy_requires_azure_services,
            quick_run_bypass: self.quick_run_bypass && self.parity == Parity::Default,
            tasks_user_identity_bypass: self.tasks_user_identity_bypass && self.parity == Parity::Default,
            container_instances_trusted: self.aci_trusted,
        };
        Ok(Settings {
            services: TrustedServices::documented(switches.container_instances_trusted),
            policy_date: self.policy_date.parse::<PolicyDate>().context("access.policy_date")?,
            switches,
        })
    }

    /// Which addresses IP rules may name.
    pub(crate) fn ip_rule_mode(&self) -> IpRuleMode {
        if self.private_ip_rules && self.parity == Parity::Default {
            IpRuleMode::Permissive
        } else {
            IpRuleMode::Strict
        }
    }
}

impl Config {
    /// Reads and checks the file; without one, the defaults.
    pub(crate) fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Parses and checks.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// What the types cannot say.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.access.settings()?;
        self.tasks.check()?;
        ensure!(!self.server.listen.is_empty(), "server.listen must name at least one address");
        check_suffix(&self.server.suffix)?;
        for name in [Some(&self.server.first_registry), self.server.default_registry.as_ref()].into_iter().flatten() {
            ensure!(
                name.is_empty() || name.parse::<postern_model::RegistryName>().is_ok(),
                "`{name}` is not a registry name"
            );
        }
        self.limits.check()?;
        ensure!(
            (1..=MOST_PERCENT).contains(&self.throttling.percent),
            "throttling.percent must be from 1 to {MOST_PERCENT}"
        );
        place::check_all(self)?;
        proxy::check_all(&self.proxies)?;
        issuer::check_all(&self.issuers)?;
        let answers = !self.dns.listen.is_empty() || self.places.iter().any(|place| place.dns_listen.is_some());
        self.dns.check(answers, &self.server.listen)?;
        Ok(())
    }
}

impl LimitsConfig {
    /// Numbers beyond these mean nothing, and some cannot be counted with.
    fn check(&self) -> anyhow::Result<()> {
        const MOST_CONNECTIONS: usize = 1 << 20;
        const LONGEST_WAIT_SECONDS: u64 = 3600;
        const LONGEST_INTERVAL_SECONDS: u64 = 24 * 3600;
        const LONGEST_GRACE_SECONDS: u64 = 10 * 365 * 24 * 3600;
        let within = |name: &str, value: u64, most: u64| {
            ensure!((1..=most).contains(&value), "limits.{name} must be from 1 to {most}");
            anyhow::Ok(())
        };
        within("connections", self.connections as u64, MOST_CONNECTIONS as u64)?;
        within("connections_per_source", self.connections_per_source as u64, MOST_CONNECTIONS as u64)?;
        within("handshake_seconds", self.handshake_seconds, LONGEST_WAIT_SECONDS)?;
        within("header_seconds", self.header_seconds, LONGEST_WAIT_SECONDS)?;
        within("stall_seconds", self.stall_seconds, LONGEST_WAIT_SECONDS)?;
        within("idle_seconds", self.idle_seconds, LONGEST_WAIT_SECONDS)?;
        within("wrong_passwords_per_user", self.wrong_passwords_per_user.into(), u32::MAX.into())?;
        within("wrong_passwords_per_source", self.wrong_passwords_per_source.into(), u32::MAX.into())?;
        within("open_upload_bytes", self.open_upload_bytes, i64::MAX.unsigned_abs())?;
        within("collection_interval_seconds", self.collection_interval_seconds, LONGEST_INTERVAL_SECONDS)?;
        within("blob_bytes", self.blob_bytes, i64::MAX.unsigned_abs())?;
        let grace = self.collection_grace_seconds;
        ensure!(
            grace <= LONGEST_GRACE_SECONDS,
            "limits.collection_grace_seconds must be at most {LONGEST_GRACE_SECONDS}"
        );
        Ok(())
    }
}

/// Bytes from hexadecimal digits.
fn hex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect::<Option<_>>().context("not pairs of hexadecimal digits")
}

fn check_suffix(suffix: &str) -> anyhow::Result<()> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    ensure!(
        suffix.contains('.') && suffix.len() <= 180 && suffix.split('.').all(label),
        "server.suffix `{suffix}` must be a lower-case domain name of two or more labels, without port"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, refusal: Option<&str>) {
        match (Config::parse(text), refusal) {
            (Ok(_), None) => {}
            (Ok(_), Some(expected)) => panic!("accepted, expected: {expected}"),
            (Err(error), Some(expected)) => {
                let message = format!("{error:#}");
                assert!(message.contains(expected), "{message}");
            }
            (Err(error), None) => panic!("{error:#}"),
        }
    }

    #[test]
    fn configurations() {
        check("", None);
        check("[server]\nlisten = ['127.0.0.1:0', '[::1]:5000']", None);
        check("[server]\nlisten = []", Some("at least one address"));
        check("[server]\nlisten = ['localhost']", Some("socket address"));
        check("[server]\nsuffixx = 'a.b'", Some("unknown field `suffixx`"));
        check("[server]\nsuffix = 'azurecr.io:443'", Some("without port"));
        check("[server]\nfirst_registry = 'a-b'", Some("not a registry name"));
        check("[access]\npolicy_date = 'someday'", Some("policy date must be"));
        check("[access]\nparity = 'strict'", None);
        check("[throttling]\nenabled = true\npercent = 1", None);
        for percent in ["0", "100001"] {
            check(&format!("[throttling]\npercent = {percent}"), Some("throttling.percent must be from 1 to 100000"));
        }
        check(
            "[[place]]\nname = 'p'\npeers = ['127.51.100.0/24']\nseen_as = '198.51.100.0/24'\nsimulated = true",
            None,
        );
        check(
            "[[place]]\nname = 'p'\npeers = ['127.51.100.0/24']\nseen_as = '198.51.100.0/24'",
            Some("needs `simulated"),
        );
        check(
            "[[place]]\nname = 'p'\npeers = ['127.51.100.0/24']\nseen_as = '198.51.0.0/16'\nsimulated = true",
            Some("as large"),
        );
        check("[[place]]\nname = 'p'\npeers = ['198.51.100.0/24']\nsimulated = true", Some("must be loopback"));
        check(
            "[server]\nlisten = ['0.0.0.0:0']\n[[place]]\nname = 'p'\npeers = ['127.51.100.0/24']\nsimulated = true",
            Some("refused beside 0.0.0.0"),
        );
        check("[[place]]\nname = 'p'\npeers = ['10.0.0.0/8']\nlisten = '10.1.0.4'", Some("need each other"));
        let endpoint = "[[place]]\nname = 'e'\npeers = ['10.0.0.0/8']\nlisten = '10.1.0.4'\nprivate_endpoint = '/x'\n";
        check(endpoint, None);
        check(&format!("{endpoint}interface = 'eth1'\nnamespace = '/run/netns/x'\ndns_listen = '10.1.0.2:53'"), None);
        check(&format!("{endpoint}interface = 'a/b'"), Some("not the name of a network interface"));
        check(&format!("{endpoint}interface = 'sixteen-letters-'"), Some("not the name of a network interface"));
        check(&format!("{endpoint}namespace = 'x'"), Some("absolute path"));
        let place = |rest: &str| format!("[[place]]\nname = 'p'\npeers = ['10.0.0.0/8']\n{rest}");
        check(&place("interface = 'eth1'"), Some("give it too"));
        check(&place("address = '10.0.0.4'"), Some("give it too"));
        check(&place("private_endpoint = '/x'"), Some("need each other"));
        check(&place("listen = '0.0.0.0'\nprivate_endpoint = '/x'"), Some("no address that anybody can connect to"));
        check(&place("listen = '10.0.0.1'\ninterface = 'eth1'\nsubnet = '/s'"), None);
        check("[server]\nlisten = ['0.0.0.0:0']\n[dns]\nlisten = ['127.0.0.1:53']", Some("dns.public_addresses"));
        check("[dns]\nttl_seconds = 3601", Some("dns.ttl_seconds"));
        let simulated = "[[place]]\nname = 'p'\npeers = ['127.51.100.0/24']\nsimulated = true";
        check(&format!("{endpoint}{simulated}"), Some("refused beside 10.1.0.4"));
        for (limit, most) in [
            ("connections", "1048576"),
            ("connections_per_source", "1048576"),
            ("header_seconds", "3600"),
            ("handshake_seconds", "3600"),
            ("stall_seconds", "3600"),
            ("idle_seconds", "3600"),
        ] {
            check(&format!("[limits]\n{limit} = 0"), Some(&format!("limits.{limit} must be from 1 to {most}")));
            check(
                &format!("[limits]\n{limit} = {}", i64::MAX),
                Some(&format!("limits.{limit} must be from 1 to {most}")),
            );
        }
        check(
            "[limits]\ncollection_grace_seconds = 9223372036854775807",
            Some("collection_grace_seconds must be at most"),
        );
    }

    #[test]
    fn proxies() {
        let proxy = |rest: &str| format!("[[proxy]]\nname = 'edge'\npeers = ['10.9.0.0/24']\n{rest}\n");
        let own = "listen = '10.0.0.1:6443'\nclient_cert = true";
        check(&proxy(""), None);
        check(&proxy(own), None);
        check(&proxy(&format!("{own}\ncertificate_sha256 = '{}'", "0aF1".repeat(16))), None);
        check(&proxy(&format!("{own}\ncertificate_sha256 = '{}'", "AA:".repeat(31) + "AA")), None);
        check(&proxy(&format!("{own}\ncertificate_sha256 = 'aa'")), Some("64 hexadecimal digits"));
        check(&proxy(&format!("{own}\ncertificate_sha256 = '+a'")), Some("hexadecimal digits"));
        check(&proxy("client_cert = true"), Some("needs a `listen`"));
        check(&proxy("certificate_sha256 = 'aa'"), Some("goes with `client_cert`"));
        check("[[proxy]]\nname = 'edge'\npeers = []", Some("at least one range"));
        check("[[proxy]]\nname = 'edge'\npeers = ['10.0.0.1/32', '::/0']", Some("everybody"));
        check("[[proxy]]\nname = 'e/e'\npeers = ['10.0.0.0/8']", Some("letters, digits"));
        check(&(proxy("") + &proxy("")), Some("two proxies `edge`"));
        let other = "[[proxy]]\nname = 'other'\npeers = ['10.0.0.0/8']\n";
        check(&(proxy("") + other), Some("same peers on the same listener"));
        check(&(proxy(own) + other), None);
        let simulated = "[[place]]\nname = 'p'\npeers = ['127.51.100.0/24']\nsimulated = true\n";
        check(&format!("{simulated}{}", proxy(own)), Some("refused beside 10.0.0.1"));
    }

    #[test]
    fn issuers() {
        let issuer = |rest: &str| {
            format!("[[issuer]]\nname = 'corporate'\nurl = 'https://id.example.org'\nclient_id = 'postern'\n{rest}\n")
        };
        let groups = "groups = {admins = '00000000-0000-0000-0000-000000000001'}";
        check(&issuer(""), None);
        check(&issuer(&format!("groups_claim = 'groups'\n{groups}\nscopes = ['openid', 'groups']")), None);
        check(&issuer(groups), Some("need a `groups_claim`"));
        check(&issuer("groups_claim = 'groups'\ngroups = {admins = 'admins'}"), Some("UUID"));
        check(&issuer("scopes = ['profile']"), Some("must name `openid`"));
        check(&issuer("scopes = ['openid profile']"), Some("no space"));
        check(&issuer("client_secret = 'x'"), Some("unknown field"));
        check(&issuer("").replace("https:", "http:"), Some("must be an https address"));
        check(&issuer("").replace(".org", ".org/?a"), Some("must be an https address"));
        check(&issuer("").replace("'postern'", "''"), Some("client_id"));
        check(&issuer("").replace("'corporate'", "'a b'"), Some("letters, digits and hyphens"));
        check(&(issuer("") + &issuer("")), Some("two issuers `corporate`"));
        check(&(issuer("") + &issuer("").replace("corporate", "other")), Some("same url"));
    }

    #[test]
    fn links() {
        let edge = "[[proxy]]\nname = 'edge'\npeers = ['10.9.0.0/24']\n";
        let place = |name: &str, rest: &str| {
            format!("[[place]]\nname = '{name}'\npeers = ['10.0.0.0/16']\nprivate_endpoint = '/x'\n{rest}\n")
        };
        check(&(edge.to_owned() + &place("p", "link_id = 305419896")), None);
        check(&(edge.to_owned() + &place("p", "tlv = 'ea:01767063652d'")), None);
        check(&place("p", "link_id = 1"), Some("configure a [[proxy]]"));
        for bad in ["ea", "ea:", "02:61", "ea:1", "ea:xx", "f0:01"] {
            check(&(edge.to_owned() + &place("p", &format!("tlv = '{bad}'"))), Some("`tlv`"));
        }
        check(&(edge.to_owned() + &place("p", "link_id = 1\ntlv = 'ea:01'")), Some("not both"));
        check(
            &(edge.to_owned() + &place("p", "link_id = 1") + &place("q", "tlv = 'EE:0101000000'")),
            Some("places `p` and `q` have the same private link"),
        );
        check(&format!("{edge}[[place]]\nname = 'p'\npeers = ['10.0.0.0/16']\nlink_id = 1"), Some("give it too"));
    }

    #[test]
    fn strict_parity_turns_improvements_off() {
        let config = Config::parse("[access]\nparity = 'strict'\nquick_run_bypass = true").unwrap();
        assert_eq!(config.access.ip_rule_mode(), IpRuleMode::Strict);
        assert!(!config.access.settings().unwrap().switches.quick_run_bypass);
    }

    /// The keys that the page names, as `(section, key)`.
    fn documented() -> Vec<(String, String)> {
        let page = include_str!("../../../docs/reference/configuration.md");
        let mut section = String::new();
        let mut keys = Vec::new();
        for line in page.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                section = title.split('`').nth(1).unwrap_or_default().trim_matches(['[', ']']).to_owned();
            }
            let first = line.strip_prefix("| ").and_then(|row| row.split(" | ").next()).unwrap_or_default();
            for key in first.split('`').skip(1).step_by(2) {
                keys.push(match key.split_once('.') {
                    Some((section, key)) => (section.to_owned(), key.to_owned()),
                    None => (section.clone(), key.to_owned()),
                });
            }
        }
        keys
    }

    #[test]
    fn the_reference_page_names_every_key_and_no_other() {
        let documented = documented();
        for section in [
            "server",
            "tls",
            "access",
            "audit",
            "log",
            "limits",
            "service_tags",
            "outbound",
            "dns",
            "place",
            "proxy",
            "issuer",
        ] {
            let many = matches!(section, "place" | "proxy" | "issuer");
            let head = if many { format!("[[{section}]]") } else { format!("[{section}]") };
            let error = Config::parse(&format!("{head}\nno_such_key = 1")).unwrap_err().to_string();
            let (_, expected) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
            let mut known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
            let mut named: Vec<&str> =
                documented.iter().filter(|(of, _)| of == section).map(|(_, key)| key.as_str()).collect();
            known.sort_unstable();
            named.sort_unstable();
            assert_eq!(named, known, "[{section}]");
        }
    }
}

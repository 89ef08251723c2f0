//! What holds for the server's own inputs, whatever they are read from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use postern_access::{Ingress, RegistryRules, Settings};
use postern_estate::{Estate, import};
use postern_model::Timestamp;
use serde_json::{Value, json};

use crate::config::Config;
use crate::dns::{Answer, Asked, Transport, Zone, respond};
use crate::explain::{Image, Question, in_words};
use crate::places::Places;
use crate::proxies::{
    HeaderProblem, PREFIX_BYTES, Proxied, Proxies, Proxy, Sender, header_length, is_vendor, read_header,
};
use crate::server::{Class, Names, Target, split_host, target};
use crate::sockets::Scope;

const SUFFIX: &str = "azurecr.io.localhost";

/// A registry that nobody may enter, and who might want to.
struct Closed {
    estate: Estate,
    rules: Arc<RegistryRules>,
}

static CLOSED: LazyLock<Option<Closed>> = LazyLock::new(closed);

fn closed() -> Option<Closed> {
    let group = "/subscriptions/00000000-0000-4000-8000-000000000051/resourceGroups/g";
    let resources = json!([
        {
            "id": format!("{group}/providers/Microsoft.ContainerRegistry/registries/closed"),
            "location": "eastus",
            "sku": {"name": "Premium"},
            "properties": {"publicNetworkAccess": "Disabled", "networkRuleBypassOptions": "None"},
        },
        {
            "id": format!("{group}/providers/Microsoft.ContainerInstance/containerGroups/c"),
            "identity": {"type": "SystemAssigned", "principalId": "00000000-0000-4000-8000-0000000000b1"},
            "properties": {},
        },
    ]);
    let documents = import::parse(&resources.to_string(), None).ok()?;
    let estate = Estate::from_documents(SUFFIX, documents).ok()?;
    let registry = estate.registry_named("closed")?.id.clone();
    let rules = Arc::new(estate.rules(&registry, &Arc::new(Settings::default())).ok()?.rules);
    Some(Closed { estate, rules })
}

/// One text as a configuration file.
pub fn configurations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = Config::parse(text) else { return };
    assert!(Proxies::new(&config.proxies).is_ok());
    assert!(config.check().is_ok(), "what was parsed is checked");
    assert!(config.access.settings().is_ok());
    let Ok(places) = Places::new(&config.places) else { return };
    for name in places.names() {
        let _ = places.named(name);
    }
}

/// A question to the name server, over both transports.
pub fn dns(data: &[u8]) {
    const LARGEST_DATAGRAM: usize = 1232;
    const IS_ANSWER: u8 = 0x80;
    let Ok(zone) = Zone::new(SUFFIX, 30) else { return };
    for transport in [Transport::Datagram, Transport::Connection] {
        let look = |asked: &Asked| match asked {
            Asked::Registry { login_server, .. } => {
                let label = login_server.strip_suffix(SUFFIX).and_then(|rest| rest.strip_suffix('.'));
                assert!(label.is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_alphanumeric())));
                let addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                Answer::Addresses { linked: true, addresses }
            }
            Asked::Elsewhere => Answer::Refused,
            Asked::Nowhere => Answer::NoSuchName,
            Asked::Apex | Asked::Gateway | Asked::Between { .. } => Answer::Nothing,
        };
        let Some(answer) = respond(&zone, data, transport, look) else { continue };
        assert!(answer.len() >= 12 && answer.get(..2) == data.get(..2), "the answer is to this question");
        assert!(answer.get(2).is_some_and(|flags| flags & IS_ANSWER != 0), "nobody answers an answer");
        assert!(data.get(2).is_some_and(|flags| flags & IS_ANSWER == 0), "an answer is not answered");
        assert!(transport == Transport::Connection || answer.len() <= LARGEST_DATAGRAM);
    }
}

/// A proxy, private endpoints behind it, and what must not be taken for them.
const BEHIND: &str = "
    [[proxy]]
    name = 'edge'
    peers = ['192.0.2.7/32']

    [[place]]
    name = 'azure'
    peers = ['10.1.0.0/16', 'fd00::/8']
    link_id = 305419896
    private_endpoint = '/one'

    [[place]]
    name = 'other'
    peers = ['10.1.0.0/16']
    tlv = 'ea:0176'
    private_endpoint = '/two'

    [[place]]
    name = 'direct'
    peers = ['10.2.0.0/16']
    listen = '10.2.0.4'
    private_endpoint = '/three'
";

struct Front {
    proxy: Arc<Proxy>,
    places: Places,
}

static FRONT: LazyLock<Option<Front>> = LazyLock::new(|| {
    let config = Config::parse(BEHIND).ok()?;
    let peer = "192.0.2.7".parse().ok()?;
    let Sender::Proxy(proxy) = Proxies::new(&config.proxies).ok()?.sender(None, &Scope::default(), peer) else {
        return None;
    };
    Some(Front { proxy, places: Places::new(&config.places).ok()? })
});

/// What a proxy sends ahead of a connection, read as the server reads it: no further than the header says.
pub fn proxy_headers(data: &[u8]) {
    const LONGEST: usize = 4096;
    let Some(prefix) = data.first_chunk::<PREFIX_BYTES>() else {
        assert_eq!(read_header(data), Err(HeaderProblem::Missing));
        return;
    };
    let length = match header_length(prefix) {
        Ok(length) => length,
        Err(problem) => {
            assert_eq!(read_header(data), Err(problem), "what is not read by its beginning is not read at all");
            return;
        }
    };
    assert!((PREFIX_BYTES..=LONGEST).contains(&length));
    assert!(data.len() == length || read_header(data) == Err(HeaderProblem::Malformed));
    let Some(Ok(said)) = data.get(..length).map(read_header) else { return };
    if let Proxied::Client { source, destination, vendor } = &said {
        assert!(vendor.iter().all(|(kind, _)| is_vendor(*kind)), "clients choose no link");
        assert_eq!(read_header(&written(*source, *destination, vendor)).as_ref(), Ok(&said));
    }
    behind(&said);
}

/// A header that says this.
fn written(source: SocketAddr, destination: SocketAddr, vendor: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut rest = [octets(source.ip()), octets(destination.ip())].concat();
    rest.extend(source.port().to_be_bytes().into_iter().chain(destination.port().to_be_bytes()));
    let of = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    for (kind, value) in vendor {
        rest.extend([&[*kind], of(value.len()).as_slice(), value].concat());
    }
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    [b"\r\n\r\n\0\r\nQUIT\n", [0x21, family].as_slice(), &of(rest.len()), &rest].concat()
}

/// A private endpoint is entered by its one link or its own address, from its own network.
fn behind(said: &Proxied) {
    let Some(front) = FRONT.as_ref() else { return };
    let arrival = front.places.behind(&front.proxy, Ipv4Addr::new(192, 0, 2, 7).into(), said);
    assert!(!arrival.loopback && !arrival.simulated && arrival.proxy.is_some());
    let Ingress::PrivateEndpoint(endpoint) = &arrival.ingress else { return };
    let Proxied::Client { source, destination, vendor } = said else { unreachable!("nobody's connection has a place") };
    let links: Vec<_> = vendor.iter().filter(|(kind, _)| matches!(kind, 0xee | 0xea)).collect();
    let (link, network): (&[(u8, &[u8])], &[u8]) = match endpoint.name() {
        "one" => (&[(0xee, &[1, 0x78, 0x56, 0x34, 0x12])], &[10, 1]),
        "two" => (&[(0xea, &[1, 0x76])], &[10, 1]),
        _ => (&[], &[10, 2]),
    };
    assert!(links.iter().map(|(kind, value)| (*kind, value.as_slice())).eq(link.iter().copied()), "{said:?}");
    match source.ip().to_canonical() {
        IpAddr::V4(address) => assert!(address.octets().starts_with(network), "{said:?}"),
        IpAddr::V6(address) => assert!(endpoint.name() == "one" && address.octets().starts_with(&[0xfd]), "{said:?}"),
    }
    let own = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 4));
    assert!(endpoint.name() != "three" || destination.ip().to_canonical() == own, "{said:?}");
}

/// One text as a host, a path, an image and a hypothetical request.
pub fn questions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    host(text);
    if target(Class::Registry, text) != Target::DataPlane {
        unreachable!("under a registry's name there is nothing but its content");
    }
    let _ = target(Class::Control, text);
    if let Ok(image) = Image::parse(text) {
        assert!(image.repository.is_some() && image.reference.is_some());
    }
    let Ok(question) = serde_json::from_str::<Question>(text) else { return };
    let Some(closed) = CLOSED.as_ref() else { return };
    let Ok(places) = Places::new(&[]) else { return };
    let _ = question.resources();
    let time = Timestamp::from_unix_seconds(0);
    if let Ok(record) = question.answer(&closed.estate, Arc::clone(&closed.rules), &places, time) {
        assert_eq!(record.get("verdict").and_then(Value::as_str), Some("deny"), "{text}");
        assert!(!in_words(&record).contains(|c: char| c.is_control() && c != '\n'));
    }
}

fn host(text: &str) {
    let names = Names::new(SUFFIX);
    let (name, _) = split_host(text);
    assert!(text.starts_with(name));
    let Some(class) = names.class(name) else { return };
    assert_eq!(names.class(&name.to_ascii_uppercase()), Some(class), "names compare without case");
    if class == Class::Registry {
        // One label and the suffix, nothing else.
        let lower = name.to_ascii_lowercase();
        let label = lower.trim_end_matches('.').strip_suffix(SUFFIX).and_then(|rest| rest.strip_suffix('.'));
        assert!(label.is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{name}");
    }
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("configurations", super::configurations);
        super::kept::each("questions", super::questions);
        super::kept::each("dns", super::dns);
        super::kept::each("proxy_headers", super::proxy_headers);
    }
}

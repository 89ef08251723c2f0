//! What holds for the server's own inputs, whatever they are read from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use postern_access::{RegistryRules, Settings};
use postern_estate::{Estate, import};
use postern_model::Timestamp;
use serde_json::{Value, json};

use crate::config::Config;
use crate::dns::{Answer, Asked, Transport, Zone, respond};
use crate::explain::{Image, Question, in_words};
use crate::places::Places;
use crate::server::{Class, Names, Target, split_host, target};

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
    }
}

//! Service tags: which addresses a service has in a region. Given out for network rules; nothing is decided by them.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use postern_model::ResourceId;
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::ArmError;
use crate::reply::Reply;

/// Most tags of a list. The public cloud has about 3,000.
const MAX_TAGS: usize = 20_000;
/// Most prefixes of all tags together. The public cloud has about 100,000.
const MAX_PREFIXES: usize = 1_000_000;
const MAX_NAME_BYTES: usize = 128;
/// Largest list as a file.
const MAX_FILE_BYTES: usize = 64 << 20;

/// The service tag of registries.
const REGISTRY: &str = "AzureContainerRegistry";
/// Source: "Azure Container Registry Tasks: Access network-restricted registry", East US (2023-05, read 2026-11).
const EAST_US: [&str; 19] = [
    "20.42.66.0/24",
    "20.42.67.0/24",
    "20.42.74.64/26",
    "20.62.128.0/26",
    "40.71.10.216/29",
    "40.78.226.208/29",
    "40.78.231.0/24",
    "40.79.154.104/29",
    "52.168.112.192/26",
    "52.168.114.0/24",
    "52.168.115.0/24",
    "2603:1030:210:402::90/125",
    "2603:1030:210:402::340/122",
    "2603:1030:210:402::580/121",
    "2603:1030:210:802::90/125",
    "2603:1030:210:802::2c0/122",
    "2603:1030:210:802::400/121",
    "2603:1030:210:c02::90/125",
    "2603:1030:210:c02::400/121",
];

/// The list that is given out now. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct ServiceTags(Arc<RwLock<Arc<List>>>);

#[derive(Debug)]
struct List {
    cloud: String,
    change_number: String,
    tags: Vec<Tag>,
}

#[derive(Debug)]
struct Tag {
    name: String,
    change_number: String,
    region: String,
    system_service: String,
    prefixes: Vec<String>,
}

/// Why a list is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of service tags: {0}")]
pub struct ServiceTagsError(String);

impl Default for ServiceTags {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Arc::new(List::documented()))))
    }
}

impl ServiceTags {
    /// Gives out the list in this text from now on, in the form of the file that is published for the public cloud
    /// (`ServiceTags_Public_20260101.json`). Without a text, the documented addresses of registries in East US.
    ///
    /// # Errors
    /// When it is no such list, or too long a one. Then the list from before stays.
    pub fn load(&self, text: Option<&[u8]>) -> Result<usize, ServiceTagsError> {
        let list = text.map_or_else(|| Ok(List::documented()), List::parse)?;
        let count = list.tags.len();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        Ok(count)
    }

    /// Checks a text without using it.
    ///
    /// # Errors
    /// As [`ServiceTags::load`].
    pub fn check(text: &[u8]) -> Result<usize, ServiceTagsError> {
        List::parse(text).map(|list| list.tags.len())
    }

    fn current(&self) -> Arc<List> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl List {
    fn documented() -> Self {
        let tag = |name: &str, region: &str| Tag {
            name: name.into(),
            change_number: "1".into(),
            region: region.into(),
            system_service: REGISTRY.into(),
            prefixes: EAST_US.iter().map(|prefix| (*prefix).to_owned()).collect(),
        };
        Self {
            cloud: "Public".into(),
            change_number: "1".into(),
            tags: vec![tag(REGISTRY, ""), tag("AzureContainerRegistry.EastUS", "eastus")],
        }
    }

    fn parse(text: &[u8]) -> Result<Self, ServiceTagsError> {
        let error = |message: String| ServiceTagsError(message);
        if text.len() > MAX_FILE_BYTES {
            return Err(error(format!("it is longer than {MAX_FILE_BYTES} bytes")));
        }
        let file: Value = serde_json::from_slice(text).map_err(|wrong| error(wrong.to_string()))?;
        let values = file.get("values").and_then(Value::as_array).ok_or_else(|| error("it has no `values`".into()))?;
        if values.len() > MAX_TAGS {
            return Err(error(format!("it has more than {MAX_TAGS} tags")));
        }
        let tags = values.iter().map(Tag::parse).collect::<Result<Vec<_>, _>>()?;
        let mut names = HashSet::new();
        if let Some(twice) = tags.iter().find(|tag| !names.insert(tag.name.to_ascii_lowercase())) {
            return Err(error(format!("`{}` is in it twice", twice.name)));
        }
        if tags.iter().map(|tag| tag.prefixes.len()).sum::<usize>() > MAX_PREFIXES {
            return Err(error(format!("it has more than {MAX_PREFIXES} prefixes")));
        }
        let cloud = file.get("cloud").and_then(Value::as_str).filter(|cloud| is_name(cloud)).unwrap_or("Public");
        Ok(Self { cloud: cloud.to_owned(), change_number: number(&file), tags })
    }
}

impl Tag {
    fn parse(value: &Value) -> Result<Self, ServiceTagsError> {
        let name = value.get("name").and_then(Value::as_str).filter(|name| is_name(name));
        let name = name.ok_or_else(|| ServiceTagsError("a tag has no usable `name`".into()))?;
        let wrong = |what: &str| ServiceTagsError(format!("`{name}` {what}"));
        let properties = value.get("properties").ok_or_else(|| wrong("has no `properties`"))?;
        let text = |key: &str| match properties.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) if text.is_empty() || is_name(text) => Ok(text.clone()),
            Some(_) => Err(wrong(&format!("has an unusable `{key}`"))),
        };
        let list = properties.get("addressPrefixes").and_then(Value::as_array);
        let list = list.ok_or_else(|| wrong("has no `addressPrefixes`"))?;
        let prefixes = list.iter().map(|prefix| {
            let text = prefix.as_str().filter(|text| text.parse::<IpNet>().is_ok());
            text.map(str::to_owned).ok_or_else(|| wrong(&format!("names {prefix}, which is no address prefix")))
        });
        Ok(Self {
            name: name.to_owned(),
            change_number: number(properties),
            region: text("region")?,
            system_service: text("systemService")?,
            prefixes: prefixes.collect::<Result<_, _>>()?,
        })
    }

    fn shown(&self) -> Value {
        json!({
            "name": self.name,
            "id": self.name,
            "serviceTagChangeNumber": self.change_number,
            "properties": {
                "changeNumber": self.change_number,
                "region": self.region,
                "state": "GA",
                "systemService": self.system_service,
                "addressPrefixes": self.prefixes,
            },
        })
    }
}

/// A number in the file, a text in answers.
fn number(value: &Value) -> String {
    value.get("changeNumber").and_then(Value::as_u64).unwrap_or(1).to_string()
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(fits)
}

/// `GET /subscriptions/{s}/providers/Microsoft.Network/locations/{location}/serviceTags`. The location says which copy of the list is
/// meant; each has all regions.
///
/// Source: Microsoft.Network, Service Tags, List (read 2026-11).
pub(crate) fn list(call: &Call, location: &ResourceId) -> Result<Reply, ArmError> {
    call.authorize("Microsoft.Network/locations/serviceTags/read", location)?;
    let list = call.state.service_tags.current();
    let subscription = location.subscription().unwrap_or_default();
    Ok(Reply::ok(json!({
        "name": list.cloud,
        "id": format!("/subscriptions/{subscription}/providers/Microsoft.Network/serviceTags/{}", list.cloud),
        "type": "Microsoft.Network/serviceTags",
        "changeNumber": list.change_number,
        "cloud": list.cloud,
        "values": list.tags.iter().map(Tag::shown).collect::<Vec<_>>(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, prefixes: &[&str]) -> Value {
        json!({"changeNumber": 7, "cloud": "Public", "values": [{
            "name": name, "id": name,
            "properties": {"changeNumber": 3, "region": "westeurope", "regionId": 18, "platform": "Azure",
                "systemService": "AzureContainerRegistry", "addressPrefixes": prefixes, "networkFeatures": ["API", "NSG"]},
        }]})
    }

    #[track_caller]
    fn refused(file: &Value, expected: &str) {
        let tags = ServiceTags::default();
        let error = tags.load(Some(file.to_string().as_bytes())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(tags.current().tags.len(), 2, "the old list stays");
    }

    #[test]
    fn a_published_list_replaces_the_documented_one_until_it_is_taken_away() {
        let tags = ServiceTags::default();
        let clone = tags.clone();
        let west = file("AzureContainerRegistry.WestEurope", &["20.61.97.128/25", "2603:1020:206:403::/121"]);
        assert_eq!(tags.load(Some(west.to_string().as_bytes())), Ok(1));
        let list = clone.current();
        assert_eq!((list.change_number.as_str(), list.tags[0].region.as_str()), ("7", "westeurope"));
        assert_eq!(list.tags[0].prefixes.len(), 2);
        assert_eq!(tags.load(None), Ok(2));
        assert!(EAST_US.iter().all(|prefix| prefix.parse::<IpNet>().is_ok_and(|net| net.trunc() == net)));
    }

    #[test]
    fn what_is_no_list_is_refused_whole() {
        refused(&json!([]), "no `values`");
        refused(&json!({"values": [{"name": ""}]}), "no usable `name`");
        refused(&json!({"values": [{"name": "a b"}]}), "no usable `name`");
        refused(&json!({"values": [{"name": "a"}]}), "no `properties`");
        refused(&json!({"values": [{"name": "a", "properties": {}}]}), "no `addressPrefixes`");
        refused(&file("a", &["20.61.97.128/33"]), "no address prefix");
        refused(&file("a", &["example.org"]), "no address prefix");
        let mut twice = file("a", &[]);
        let again = file("A", &[])["values"][0].clone();
        twice["values"].as_array_mut().unwrap().push(again);
        refused(&twice, "twice");
        let many: Vec<Value> = (0..=MAX_TAGS).map(|n| file(&format!("t{n}"), &[])["values"][0].clone()).collect();
        refused(&json!({"values": many}), "more than 20000 tags");
        assert!(ServiceTags::check(b"{").is_err());
        assert!(ServiceTags::check(&vec![b' '; MAX_FILE_BYTES + 1]).is_err());
    }
}

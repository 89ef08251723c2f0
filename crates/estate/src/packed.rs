use std::fmt;

use postern_model::ResourceId;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::Document;

/// A document as text. There may be very many, and each is looked at rarely: parsed, one takes several times as much memory.
#[derive(Clone, Default)]
pub struct Packed {
    /// JSON, an object.
    text: Box<str>,
    /// What the id says is not kept a second time.
    is_named: bool,
}

impl Packed {
    /// Packs the document of the resource with this id.
    pub fn new(id: &ResourceId, mut document: Document) -> Self {
        let names = names_of(id);
        let is_named = names.iter().all(|(key, value)| document.get(*key) == Some(value));
        if is_named {
            document.retain(|key, _| !names.iter().any(|(name, _)| name == key));
        }
        // An object of texts, numbers and the like always has a text.
        let text = serde_json::to_string(&document).unwrap_or_default();
        Self { text: text.into(), is_named }
    }

    /// The document; with the same id that it was packed with.
    pub fn document(&self, id: &ResourceId) -> Document {
        let mut document: Document = serde_json::from_str(&self.text).unwrap_or_default();
        if self.is_named {
            document.extend(names_of(id).map(|(key, value)| (key.to_owned(), value)));
        }
        document
    }

    /// A value below the object; `null` counts as absent. What else is there is passed over. Not for what the id says.
    pub(crate) fn value_at(&self, path: &[&str]) -> Option<Value> {
        let mut reader = serde_json::Deserializer::from_str(&self.text);
        At(path).deserialize(&mut reader).ok().flatten().filter(|value| !value.is_null())
    }
}

fn names_of(id: &ResourceId) -> [(&'static str, Value); 3] {
    let own_type = id.resource_type().unwrap_or_default();
    [("id", id.as_str().into()), ("name", id.name().into()), ("type", own_type.into())]
}

/// The value at the end of a path of keys.
#[derive(Clone, Copy)]
struct At<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((wanted, rest)) = self.0.split_first() else { return Ok(None) };
        while let Some(is_wanted) = map.next_key_seed(Is(wanted))? {
            if is_wanted {
                found = map.next_value_seed(At(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is this one.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "/subscriptions/s/resourceGroups/G/providers/Microsoft.Some/things/One";

    fn document(value: Value) -> Document {
        let Value::Object(document) = value else { panic!("{value}") };
        document
    }

    #[test]
    fn a_document_comes_out_as_it_went_in() {
        let id: ResourceId = ID.parse().unwrap();
        let named = json!({"id": ID, "name": "One", "type": "Microsoft.Some/things", "properties": {"x": 1}});
        for (value, is_named) in [
            (named.clone(), true),
            (json!({}), false),
            (json!({"id": ID}), false),
            (json!({"id": ID.to_lowercase(), "name": "One", "type": "Microsoft.Some/things"}), false),
            (json!({"id": ID, "name": "one", "type": "Microsoft.Some/things"}), false),
            (json!({"id": ID, "name": "One", "type": null}), false),
            (json!({"": "\u{0}\"\\\u{e9}", "n": [0, -1, u64::MAX, i64::MIN, 1.5, null, true, [], {}]}), false),
        ] {
            let packed = Packed::new(&id, document(value.clone()));
            assert_eq!(Value::Object(packed.document(&id)), value);
            assert_eq!(packed.is_named, is_named, "{value}");
        }
        assert_eq!(&*Packed::new(&id, document(named)).text, r#"{"properties":{"x":1}}"#);
    }

    #[test]
    fn values_are_found_by_their_path() {
        let value = json!({
            "a": {"b": {"c": "deep", "": 0}, "d": [1, {"e": 2}], "n": null}, "b": "other", "c\"\n": true, "z": {"b": {"c": 1}},
        });
        let packed = Packed::new(&ID.parse().unwrap(), document(value.clone()));
        for (path, found) in [
            (&[][..], Some(value)),
            (&["a", "b", "c"], Some("deep".into())),
            (&["a", "b", ""], Some(0.into())),
            (&["a", "d"], Some(json!([1, {"e": 2}]))),
            (&["a", "d", "e"], None),
            (&["a", "n"], None),
            (&["a", "n", "x"], None),
            (&["b"], Some("other".into())),
            (&["b", "c"], None),
            (&["c\"\n"], Some(true.into())),
            (&["z", "b", "c"], Some(1.into())),
            (&["none"], None),
        ] {
            assert_eq!(packed.value_at(path), found, "{path:?}");
        }
    }
}

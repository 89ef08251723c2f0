use std::fmt;

use postern_model::{ResourceId, ResourceUid, Timestamp};
use serde_json::{Map, Value};

use crate::Packed;

/// A resource's whole envelope: `id`, `name`, `type`, `location`, `tags`, `sku`, `identity`, `properties` and whatever else came.
pub type Document = Map<String, Value>;

const PROPERTIES: &str = "properties";

/// One resource of the estate.
#[derive(Clone)]
pub struct Resource {
    /// Its id, which another resource may have after this one was deleted.
    pub id: ResourceId,
    /// Its immutable id.
    pub uid: ResourceUid,
    /// The generation of the configuration in which it got this content.
    pub generation: u64,
    /// Changes with every change of the content.
    pub etag: String,
    /// When it came to be.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// The content, lossless.
    pub content: Packed,
}

impl Resource {
    /// `namespace/type` from the id.
    pub fn resource_type(&self) -> String {
        self.id.resource_type().unwrap_or_default()
    }

    /// The content as a document, made anew each time. Who wants little of it looks at that alone.
    pub fn document(&self) -> Document {
        self.content.document(&self.id)
    }

    /// A value below the document, other than its `id`, `name` and `type`.
    pub fn value(&self, path: &[&str]) -> Option<Value> {
        self.content.value_at(path)
    }

    /// The `properties`, if there are any.
    pub fn properties(&self) -> Option<Document> {
        object(self.value(&[PROPERTIES])?)
    }

    /// A value below `properties`.
    pub fn property(&self, path: &[&str]) -> Option<Value> {
        self.value(&[&[PROPERTIES], path].concat())
    }

    /// A text below `properties`.
    pub fn text(&self, path: &[&str]) -> Option<String> {
        self.property(path).and_then(text)
    }

    /// A list below `properties`.
    pub fn list(&self, path: &[&str]) -> Option<Vec<Value>> {
        self.property(path).and_then(|value| if let Value::Array(list) = value { Some(list) } else { None })
    }
}

/// Documents hold what users put there, secrets included.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("id", &self.id)
            .field("uid", &self.uid)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

fn object(value: Value) -> Option<Document> {
    if let Value::Object(object) = value { Some(object) } else { None }
}

pub(crate) fn text(value: Value) -> Option<String> {
    if let Value::String(text) = value { Some(text) } else { None }
}

/// A value below an object; `null` counts as absent.
pub(crate) fn value_at<'a>(document: &'a Document, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = document.get(*first).filter(|value| !value.is_null())?;
    if rest.is_empty() { Some(value) } else { value_at(value.as_object()?, rest) }
}

/// Puts a value below an object, making the objects on the way.
pub(crate) fn set_at(document: &mut Document, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        document.insert((*first).to_owned(), value);
        return;
    }
    let entry = document.entry(*first).or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    if let Some(inner) = entry.as_object_mut() {
        set_at(inner, rest, value);
    }
}

/// Takes a value below an object away, and the objects on the way that it leaves empty.
pub(crate) fn remove_at(document: &mut Document, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return document.remove(*first);
    }
    let inner = document.get_mut(*first)?.as_object_mut()?;
    let removed = remove_at(inner, rest);
    if inner.is_empty() {
        document.remove(*first);
    }
    removed
}

//! What holds for requests to the resource manager, whatever they are read from.

use postern_estate::{ApiVersion, Estate};

use crate::call::{Query, parse_body};
use crate::filter;
use crate::path::{self, Target, canonical};

/// Two lines, path with query and `$filter`; the rest is the body.
pub fn requests(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (address, filter, body) = (part(), part(), part());
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    path_of(path);
    if let Some(query) = Query::parse(query) {
        let version = query.get("api-version").and_then(|text| text.parse::<ApiVersion>().ok());
        if let Some(version) = version {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        let _ = filter::parse(query.get("$filter"));
    }
    if let Ok(terms) = filter::parse(Some(filter)) {
        assert!(terms.len() <= filter.len());
    }
    if let Ok(Some(document)) = parse_body(body.as_bytes()) {
        let written = serde_json::Value::Object(document.clone()).to_string();
        assert_eq!(parse_body(written.as_bytes()).ok().flatten().as_ref(), Some(&document));
    }
}

fn path_of(path: &str) {
    let Ok(target) = path::parse(path) else { return };
    // Doubled slashes, and one at the end, mean nothing.
    assert_eq!(path::parse(&format!("{}/", path.replace('/', "//"))).ok().as_ref(), Some(&target));
    let estate = Estate::new("azurecr.io.localhost");
    let (Target::Resource(id) | Target::Children(id, _) | Target::Collection(id, _)) = target else { return };
    let stored = canonical(&estate, &id);
    assert_eq!(stored, id, "only the spelling changes");
    assert_eq!(canonical(&estate, &stored).as_str(), stored.as_str());
    assert_eq!(
        stored.resource_type().map(|kind| kind.to_lowercase()),
        id.resource_type().map(|kind| kind.to_lowercase())
    );
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("resource_manager", super::requests);
    }
}

//! What holds for resource documents, whatever JSON they are read from.

use std::sync::Arc;

use postern_access::Settings;
use postern_model::{ResourceId, ResourceUid, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::{ApiVersion, Document, Estate, Packed, Resource, export, import, merge, types, validate};

const GROUP: &str = "/subscriptions/00000000-0000-4000-8000-000000000051/resourceGroups/g";
const VERSIONS: [ApiVersion; 3] = [ApiVersion::stable(2019, 5, 1), ApiVersion::preview(2024, 1, 1), ApiVersion::NEWEST];

/// One text as what `apply` is given, and as the body of a request for a resource of every type.
pub fn documents(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let target = import::Target { subscription: "s".into(), resource_group: "g".into(), location: "eastus".into() };
    if let Ok(documents) = import::parse(text, Some(&target)) {
        imported(documents);
    }
    if let Ok(Value::Object(body)) = serde_json::from_str::<Value>(text) {
        body_of_everything(&body);
    }
}

fn imported(documents: Vec<Document>) {
    assert!(documents.len() <= import::MAX_IMPORT_RESOURCES);
    let estate = Estate::from_documents("azurecr.io.localhost", documents);
    let Ok(estate) = estate else { return };
    let settings = Arc::new(Settings::default());
    for registry in estate.all_registries() {
        let compiled = estate.rules(&registry.id, &settings);
        assert!(compiled.is_ok(), "every registry has rules");
    }
    for resource in estate.iter() {
        for version in VERSIONS {
            let _ = estate.project(resource, version);
        }
        let _ = (estate.workload(&resource.id), estate.descendants(&resource.id));
    }
    for principal in estate.principal_ids() {
        let _ = (estate.principal(principal), estate.groups_of(principal));
        let _ = estate.may(&[principal], "Microsoft.ContainerRegistry/registries/read", &ResourceId::root());
    }
    // What was taken in is given out in a form that is taken in again.
    let exported = export(&estate, &ResourceId::root(), |_, _| true);
    let again = import::parse(&exported.to_string(), None);
    assert!(again.is_ok(), "{again:?}");
}

fn body_of_everything(body: &Document) {
    let estate = Estate::new("azurecr.io.localhost");
    for version in VERSIONS {
        for resource_type in [types::REGISTRIES, types::TOKENS] {
            let stored = merge::put(resource_type, None, body, version);
            let again = merge::put(resource_type, Some(&stored), body, version);
            assert_eq!(again, stored, "the same PUT twice is one");
            let empty = merge::patch(resource_type, &stored, &Document::new(), version);
            assert_eq!(empty, stored, "an empty PATCH changes nothing");
            let patched = merge::patch(resource_type, &stored, body, version);
            assert_eq!(merge::patch(resource_type, &patched, body, version), patched, "the same PATCH twice is one");
        }
    }
    for (resource_type, name) in [
        (types::SCOPE_MAPS, "map"),
        (types::TOKENS, "token"),
        (types::ROLE_ASSIGNMENTS, "00000000-0000-4000-8000-000000000001"),
        (types::ROLE_DEFINITIONS, "00000000-0000-4000-8000-000000000002"),
    ] {
        let (namespace, kind) = resource_type.split_once('/').unwrap_or_default();
        let kinds = kind.replace('/', "/parent/");
        let Ok(id) = format!("{GROUP}/providers/{namespace}/{kinds}/{name}").parse::<ResourceId>() else { continue };
        let _ = validate::scope_map(&estate, &id, body);
        let _ = validate::token(&estate, &id, body);
        let _ = validate::role_assignment(&estate, &id, body, |_| true);
        let moment = Timestamp::from_unix_seconds(0);
        let content = Packed::new(&id, body.clone());
        assert_eq!(content.document(&id), *body, "packing loses nothing");
        let _ = validate::role_definition(&Resource {
            id,
            uid: ResourceUid(Uuid::nil()),
            generation: 1,
            etag: String::new(),
            created: moment,
            updated: moment,
            content,
        });
    }
    let _ = validate::private_endpoint_connection(body);
    let limits = validate::RegistryLimits::default();
    if validate::registry(None, body, false, &limits).is_ok() {
        valid_registry(body);
    }
}

/// What the resource manager takes compiles without a complaint.
fn valid_registry(body: &Document) {
    let mut document = body.clone();
    let id = format!("{GROUP}/providers/{}/fuzzed", types::REGISTRIES);
    document.insert("id".into(), id.as_str().into());
    let estate = Estate::from_documents("azurecr.io.localhost", vec![document]);
    let compiled = match (estate, id.parse::<ResourceId>()) {
        (Ok(estate), Ok(id)) => estate.rules(&id, &Arc::new(Settings::default())),
        _ => return,
    };
    assert!(compiled.as_ref().is_ok_and(|compiled| compiled.problems.is_empty()), "{compiled:?}");
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("documents", super::documents);
    }
}

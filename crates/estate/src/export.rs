use postern_model::ResourceId;
use serde_json::{Value, json};

use crate::{Document, Estate, import, types};

/// What of a subscription only its own server may know.
const SERVER_ONLY: &str = "postern";

/// Every resource within the scope that the filter lets through, as a file that `apply` takes: `{"value": […]}`, lossless, in an
/// order in which they can be created.
pub fn export(estate: &Estate, scope: &ResourceId, may: impl Fn(&ResourceId) -> bool) -> Value {
    let resources = estate.iter().filter(|resource| resource.id.is_within(scope) && may(&resource.id));
    let mut documents: Vec<Document> = resources
        .map(|resource| {
            let mut document = resource.document();
            document.insert("id".into(), resource.id.as_str().into());
            document.insert("name".into(), resource.id.name().into());
            document.insert("type".into(), resource.resource_type().into());
            if resource.id.is_type(types::SUBSCRIPTIONS) {
                document.remove(SERVER_ONLY);
            }
            document
        })
        .collect();
    import::sort(&mut documents);
    json!({"value": documents})
}

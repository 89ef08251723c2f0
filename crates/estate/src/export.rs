use postern_access::TASKS;
use postern_model::ResourceId;
use serde_json::{Value, json};

use crate::{Document, Estate, REVEAL_TASK, hide_task_secrets, import, types};

/// What of a subscription only its own server may know.
pub const SERVER_ONLY: &str = "postern";
/// Where a webhook calls, and with what: secrets, shown to who may ask for just that.
pub const WEBHOOK_CALLBACK: [&str; 2] = ["serviceUri", "customHeaders"];
const REVEAL_CALLBACK: &str = "Microsoft.ContainerRegistry/registries/webhooks/getCallbackConfig/action";

/// Every resource within the scope that the caller may read, as a file that `apply` takes: `{"value": […]}`, in an order in which they
/// can be created. `may` says whether the caller may do an action to a resource. Lossless but for what takes more than reading.
pub fn export(estate: &Estate, scope: &ResourceId, may: impl Fn(&str, &ResourceId) -> bool) -> Value {
    let may_read = |id: &ResourceId| may(&format!("{}/read", id.resource_type().unwrap_or_default()), id);
    let resources = estate.iter().filter(|resource| resource.id.is_within(scope) && may_read(&resource.id));
    let mut documents: Vec<Document> = resources
        .map(|resource| {
            let mut document = resource.document();
            document.insert("id".into(), resource.id.as_str().into());
            document.insert("name".into(), resource.id.name().into());
            document.insert("type".into(), resource.resource_type().into());
            if resource.id.is_type(types::SUBSCRIPTIONS) {
                document.remove(SERVER_ONLY);
            }
            if resource.id.is_type(TASKS)
                && !may(REVEAL_TASK, &resource.id)
                && let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut)
            {
                hide_task_secrets(properties);
            }
            if resource.id.is_type(types::WEBHOOKS)
                && !may(REVEAL_CALLBACK, &resource.id)
                && let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut)
            {
                properties.retain(|key, _| !WEBHOOK_CALLBACK.contains(&key.as_str()));
            }
            document
        })
        .collect();
    import::sort(&mut documents);
    json!({"value": documents})
}

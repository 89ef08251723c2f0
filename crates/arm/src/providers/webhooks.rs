use postern_estate::{ApiVersion, Document, Estate, Resource, WEBHOOK_CALLBACK, validate};
use serde_json::{Value, json};

use super::Provider;
use crate::error::ArmError;
use crate::resources::Draft;

pub(super) struct Webhooks;

impl Provider for Webhooks {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let known = draft.existing.and_then(|webhook| webhook.properties()).unwrap_or_default();
        let properties = draft.properties()?;
        properties.remove("provisioningState");
        properties.entry("status").or_insert_with(|| "enabled".into());
        properties.entry("scope").or_insert_with(|| "".into());
        // No answer shows them, so whoever puts back what it got has left them out.
        for hidden in WEBHOOK_CALLBACK {
            if let (false, Some(kept)) = (properties.contains_key(hidden), known.get(hidden)) {
                properties.insert(hidden.into(), kept.clone());
            }
        }
        Ok(validate::webhook(draft.estate, &draft.id, &draft.document)?)
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|key, _| !WEBHOOK_CALLBACK.contains(&key.as_str()));
        }
        document
    }
}

/// What `getCallbackConfig` answers.
pub(crate) fn callback(webhook: &Resource) -> Value {
    let [uri, headers] = WEBHOOK_CALLBACK.map(|name| webhook.property(&[name]));
    json!({"serviceUri": uri, "customHeaders": headers.unwrap_or_else(|| json!({}))})
}

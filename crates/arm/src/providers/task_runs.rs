use postern_estate::{ApiVersion, Document, Estate, Resource};
use serde_json::Value;

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::Draft;
use crate::runs::LAST_RUN;

/// A run as a resource: it runs when it is made, and again when its `forceUpdateTag` changes.
///
/// Source: Microsoft.ContainerRegistry 2019-06-01-preview, Task Runs, Create (read 2026-11).
pub(super) struct TaskRuns;

impl Provider for TaskRuns {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let last = draft.existing.and_then(|existing| existing.property(&[LAST_RUN]));
        let properties = draft.properties()?;
        for shown in ["provisioningState", "runResult", LAST_RUN] {
            properties.remove(shown);
        }
        properties.extend(last.map(|last| (LAST_RUN.to_owned(), last)));
        if properties.get("runRequest").is_none_or(|request| !request.is_object()) {
            return Err(ArmError::new(Condition::InvalidParameters, "The property 'runRequest' is required."));
        }
        Ok(())
    }

    fn project(&self, estate: &Estate, resource: &Resource, version: ApiVersion) -> Document {
        let mut document = estate.project(resource, version);
        if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
            properties.get_mut("runRequest").into_iter().for_each(hide);
        }
        document
    }
}

/// Takes secrets out of a request for a run.
fn hide(request: &mut Value) {
    let lists =
        ["/arguments", "/values", "/overrideTaskStepProperties/arguments", "/overrideTaskStepProperties/values"];
    for list in lists {
        for entry in request.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut().filter(|entry| entry.get("isSecret") == Some(&Value::Bool(true)))
            {
                entry.remove("value");
            }
        }
    }
    if let Some(request) = request.as_object_mut() {
        request.remove("contextAccessToken");
    }
    let registries = request.pointer_mut("/credentials/customRegistries").and_then(Value::as_object_mut);
    for registry in registries.into_iter().flat_map(|registries| registries.values_mut()) {
        for name in ["userName", "password"] {
            if let Some(secret) = registry.get_mut(name).and_then(Value::as_object_mut) {
                secret.remove("value");
            }
        }
    }
}

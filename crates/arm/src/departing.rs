//! Agent pools that are gone, and are still told of once: clients look at what they delete.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use postern_estate::{ApiVersion, Document, Estate, Resource};
use postern_model::ResourceId;
use serde_json::Value;

/// Most pools that are remembered; the oldest is forgotten first.
const MAX_DEPARTING: usize = 256;

/// Agent pools that were deleted and not asked for since. Whatever else looks for them finds nothing any more.
#[derive(Debug, Default)]
pub struct Departing(Mutex<VecDeque<Arc<Resource>>>);

impl Departing {
    /// Tells of a pool once.
    pub(crate) fn remember(&self, pool: &Arc<Resource>) {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|known| known.id != pool.id);
        pools.push_back(Arc::clone(pool));
        if pools.len() > MAX_DEPARTING {
            pools.pop_front();
        }
    }

    /// A pool by its id, for the last time.
    pub(crate) fn take(&self, estate: &Estate, id: &ResourceId, version: ApiVersion) -> Option<Document> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = pools.iter().position(|pool| pool.id == *id)?;
        let pool = pools.remove(index)?;
        let mut document = estate.project(&pool, version);
        let properties = document.entry("properties").or_insert_with(|| Value::Object(Document::new()));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("provisioningState".into(), "Deleting".into());
        }
        Some(document)
    }
}

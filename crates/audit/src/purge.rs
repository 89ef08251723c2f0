use postern_model::{CorrelationId, Reference, RegistryUid, RepositoryName, ResourceId, Timestamp};
use serde_json::json;

/// Something that a policy took away. Nobody asked for it, so that there was nothing to decide; it is recorded all the same.
#[derive(Clone, Debug)]
pub struct Purge {
    /// The record's id.
    pub id: CorrelationId,
    /// When.
    pub time: Timestamp,
    /// From which registry.
    pub registry: RegistryUid,
    /// Its resource id.
    pub registry_id: ResourceId,
    /// From which repository.
    pub repository: RepositoryName,
    /// The manifest by its digest, or the tag.
    pub reference: Reference,
    /// The policy, by its name in the registry's document.
    pub policy: &'static str,
}

impl Purge {
    /// The record as it is read.
    pub(crate) fn render(&self) -> String {
        let operation = match self.reference {
            Reference::Digest(_) => "purgeManifest",
            Reference::Tag(_) => "purgeTag",
        };
        json!({
            "id": self.id.to_string(),
            "time": self.time.to_string(),
            "registry": self.registry_id.as_str(),
            "registryUid": self.registry.to_string(),
            "operation": operation,
            "repository": self.repository.as_str(),
            "reference": self.reference.to_string(),
            "verdict": "allow",
            "decidedBy": "content",
            "policy": self.policy,
        })
        .to_string()
    }
}

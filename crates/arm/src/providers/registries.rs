use postern_estate::validate::{self, RegistryLimits};
use postern_estate::{RegistryView, Sku, types};

use super::Provider;
use crate::error::{ArmError, Condition};
use crate::resources::Draft;

/// What only Premium has, and what must be gone before a registry becomes something else.
const PREMIUM_CHILDREN: [&str; 3] = [
    types::PRIVATE_ENDPOINT_CONNECTIONS,
    "Microsoft.ContainerRegistry/registries/replications",
    "Microsoft.ContainerRegistry/registries/connectedRegistries",
];

pub(super) struct Registries;

impl Provider for Registries {
    fn complete(&self, draft: &mut Draft<'_>) -> Result<(), ArmError> {
        let (id, estate) = (&draft.id, draft.estate);
        if draft.existing.is_none() {
            validate::registry_name(id.name())?;
            if estate.is_registry_name_taken(id.name()) {
                return Err(already_in_use(&estate.login_server(id)));
            }
        }
        let before = draft.existing.map(|resource| resource.document());
        let has_private_endpoints = estate.children_of_type(id, types::PRIVATE_ENDPOINT_CONNECTIONS).next().is_some();
        let limits = RegistryLimits { ip_rule_mode: draft.state.ip_rule_mode, ..RegistryLimits::default() };
        validate::registry(before.as_ref(), &draft.document, has_private_endpoints, &limits)?;
        let is_premium = draft.document.get("sku").and_then(|sku| sku.get("name")).and_then(|name| name.as_str());
        let is_premium = is_premium.and_then(|name| name.parse().ok()) == Some(Sku::Premium);
        let was_premium = draft.existing.is_some_and(|registry| RegistryView::read(registry).0.sku == Sku::Premium);
        if was_premium && !is_premium {
            let kept = PREMIUM_CHILDREN.into_iter().find(|kind| estate.children_of_type(id, kind).next().is_some());
            if let Some(kept) = kept {
                let kind = kept.rsplit('/').next().unwrap_or_default();
                return Err(ArmError::new(
                    Condition::Conflict,
                    format!("The SKU of the registry '{}' cannot be changed while it has {kind}.", id.name()),
                ));
            }
        }
        Ok(())
    }
}

fn already_in_use(login_server: &str) -> ArmError {
    postern_estate::Refusal::at(
        postern_estate::RefusalCode::AlreadyInUse,
        "name",
        format!("The registry DNS name {login_server} is already in use. You can check if the name is already claimed by the operation checkNameAvailability."),
    )
    .into()
}

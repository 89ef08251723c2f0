//! What the resource manager refuses, with the code and message it refuses it with.
//!
//! Source: Microsoft.ContainerRegistry and Microsoft.Authorization API descriptions and error messages (read 2026-11).

mod assignments;
mod children;
mod federated;
mod registries;
mod tasks;

pub use assignments::{principal_type, role_assignment, role_definition};
pub use children::{deletable, private_endpoint_connection, scope_map, token, webhook};
pub use federated::{federated_credential, federated_credential_name, is_issuer};
pub use registries::{RegistryLimits, registry, registry_name};
pub use tasks::{agent_pool, task};

use crate::{Refusal, RefusalCode};

/// As much of a value as a message repeats.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn invalid(target: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::at(RefusalCode::InvalidParameter, target, message)
}

fn malformed(target: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::at(RefusalCode::InvalidRequestContent, target, message)
}

#[cfg(test)]
mod tests;

use postern_model::ResourceId;
use serde_json::Value;

use super::{invalid, malformed, shown};
use crate::federation::FederatedCredential;
use crate::resource::value_at;
use crate::{Document, Estate, Refusal, RefusalCode};

/// Most federated credentials of one identity or application.
///
/// Source: Microsoft Entra ID, considerations for workload identity federation (read 2026-11).
const MAX_CREDENTIALS: usize = 20;
/// Longest issuer, subject, audience or description.
///
/// Source: Microsoft Graph, federatedIdentityCredential resource type (read 2026-11).
const MAX_TEXT_CHARS: usize = 600;
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=120;

/// Checks the name of a federated credential.
pub fn federated_credential_name(name: &str) -> Result<(), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && NAME_CHARS.contains(&name.len()) && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(Refusal::at(
        RefusalCode::InvalidResourceName,
        "name",
        format!(
            "The name '{}' of a federated identity credential is not valid: 3 to 120 letters, digits, '-' and '_', the first a \
             letter or digit.",
            shown(name)
        ),
    ))
}

/// Whether a text can be an issuer: an HTTPS address that other paths can be put behind.
///
/// Source: OpenID Connect Core 1.0 §2, `iss`.
pub fn is_issuer(text: &str) -> bool {
    let host = text.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
    text.len() <= MAX_TEXT_CHARS
        && host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\'))
}

/// Checks a federated credential of a managed identity or an application.
pub fn federated_credential(estate: &Estate, id: &ResourceId, document: &Document) -> Result<(), Refusal> {
    federated_credential_name(id.name())?;
    let property = |name: &str| value_at(document, &["properties", name]);
    let text = |name: &str| {
        let target = || format!("properties.{name}");
        let text = property(name).and_then(Value::as_str);
        let text =
            text.ok_or_else(|| malformed(target(), format!("A federated identity credential needs '{name}'.")))?;
        if (1..=MAX_TEXT_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Ok(text);
        }
        Err(invalid(target(), format!("The {name} must have 1 to {MAX_TEXT_CHARS} characters.")))
    };
    if property("claimsMatchingExpression").is_some_and(|value| !value.is_null()) {
        let message = "Claims matching expressions are not supported here: name the 'subject'.";
        return Err(invalid("properties.claimsMatchingExpression", message));
    }
    let (issuer, subject) = (text("issuer")?, text("subject")?);
    if !is_issuer(issuer) {
        let message = "The issuer must be an https address without query, fragment and user.";
        return Err(invalid("properties.issuer", message));
    }
    let audiences = property("audiences").and_then(Value::as_array).map(Vec::as_slice);
    match audiences {
        Some([Value::String(one)]) if (1..=MAX_TEXT_CHARS).contains(&one.chars().count()) => {}
        _ => return Err(invalid("properties.audiences", "A federated identity credential has exactly one audience.")),
    }
    if property("description").is_some_and(|value| !value.is_null()) {
        text("description")?;
    }
    let Some(owner) = id.parent() else { return Ok(()) };
    let others: Vec<_> = estate.federated_credentials(&owner).filter(|other| other.id != *id).collect();
    if others.len() >= MAX_CREDENTIALS {
        let message = format!("There can be at most {MAX_CREDENTIALS} federated identity credentials.");
        return Err(Refusal::new(RefusalCode::LimitExceeded, message));
    }
    let same = |other: &FederatedCredential| other.issuer == issuer && other.subject == subject;
    if others.iter().filter_map(|other| FederatedCredential::read(other)).any(|other| same(&other)) {
        let message = "Another federated identity credential has the same combination of issuer and subject.";
        return Err(Refusal::new(RefusalCode::AlreadyThere, message));
    }
    Ok(())
}

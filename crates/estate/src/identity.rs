//! The `identity` block of a resource: which managed identities it has.

use postern_model::{PrincipalId, ResourceId, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::types::USER_ASSIGNED_IDENTITIES;
use crate::{Document, Refusal, RefusalCode};

/// Most user-assigned identities of one resource.
const MAX_USER_IDENTITIES: usize = 1000;

/// The kinds of identity that a block asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityTypes {
    /// `SystemAssigned`.
    pub system: bool,
    /// `UserAssigned`.
    pub user: bool,
}

impl IdentityTypes {
    /// Reads `type`: `None`, `SystemAssigned`, `UserAssigned`, or both with a comma.
    pub fn parse(text: &str) -> Option<Self> {
        let mut types = Self::default();
        for word in text.split(',').map(str::trim) {
            match word.to_ascii_lowercase().as_str() {
                "systemassigned" => types.system = true,
                "userassigned" => types.user = true,
                "none" if !text.contains(',') => {}
                _ => return None,
            }
        }
        Some(types)
    }

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match (self.system, self.user) {
            (true, true) => "SystemAssigned, UserAssigned",
            (true, false) => "SystemAssigned",
            (false, true) => "UserAssigned",
            (false, false) => "None",
        }
    }

    /// The types that a document's block names; none when it cannot be read.
    pub fn of(document: &Document) -> Self {
        document.get("identity").map(Self::in_block).unwrap_or_default()
    }

    fn in_block(block: &Value) -> Self {
        block.get("type").and_then(Value::as_str).and_then(Self::parse).unwrap_or_default()
    }
}

/// The object id of a document's system-assigned identity.
pub fn system_principal(document: &Document) -> Option<PrincipalId> {
    system_in(document.get("identity")?)
}

/// The same, of the `identity` block alone.
pub(crate) fn system_in(block: &Value) -> Option<PrincipalId> {
    block.get("principalId").filter(|_| IdentityTypes::in_block(block).system)?.as_str()?.parse().ok()
}

/// The ids of the user-assigned identities that a document's block names.
pub fn user_identities(document: &Document) -> Vec<ResourceId> {
    document.get("identity").map(users_in).unwrap_or_default()
}

/// The same, of the `identity` block alone.
pub(crate) fn users_in(block: &Value) -> Vec<ResourceId> {
    if !IdentityTypes::in_block(block).user {
        return Vec::new();
    }
    let named = block.get("userAssignedIdentities").and_then(Value::as_object);
    let ids = named.into_iter().flat_map(Document::keys).filter_map(|id| id.parse::<ResourceId>().ok());
    ids.filter(|id| id.is_type(USER_ASSIGNED_IDENTITIES)).collect()
}

/// The object and client id of a user-assigned identity.
pub type UserIdentity = (PrincipalId, Option<Uuid>);

/// Checks a document's `identity` block and fills in what the server decides: `principalId` and `tenantId`, and those of the
/// user-assigned identities. `system` is the object id that the system-assigned identity has or gets.
pub fn settle(
    document: &mut Document,
    tenant: TenantId,
    system: impl FnOnce() -> PrincipalId,
    user: impl Fn(&ResourceId) -> Option<UserIdentity>,
) -> Result<(), Refusal> {
    let invalid = |target: &str, message: String| Refusal::at(RefusalCode::InvalidRequestContent, target, message);
    let block = match document.get("identity") {
        None | Some(Value::Null) => {
            document.remove("identity");
            return Ok(());
        }
        Some(Value::Object(block)) => block.clone(),
        Some(_) => return Err(invalid("identity", "The property 'identity' must be an object.".into())),
    };
    let text = block.get("type").and_then(Value::as_str).unwrap_or_default();
    let Some(types) = IdentityTypes::parse(text) else {
        return Err(invalid(
            "identity.type",
            format!(
                "The identity type '{}' is not valid. Use 'None', 'SystemAssigned', 'UserAssigned' or 'SystemAssigned, UserAssigned'.",
                text.chars().take(64).collect::<String>()
            ),
        ));
    };
    if !types.system && !types.user {
        document.insert("identity".into(), json!({"type": "None"}));
        return Ok(());
    }
    let mut settled = Document::new();
    settled.insert("type".into(), types.as_str().into());
    settled.insert("tenantId".into(), tenant.to_string().into());
    if types.system {
        settled.insert("principalId".into(), system().to_string().into());
    }
    let named = match block.get("userAssignedIdentities") {
        None | Some(Value::Null) => Document::new(),
        Some(Value::Object(named)) => named.clone(),
        Some(_) => {
            return Err(invalid(
                "identity.userAssignedIdentities",
                "The property 'userAssignedIdentities' must be an object whose keys are resource ids.".into(),
            ));
        }
    };
    if types.user {
        settled.insert("userAssignedIdentities".into(), Value::Object(settle_user_identities(&named, user)?));
    }
    document.insert("identity".into(), Value::Object(settled));
    Ok(())
}

fn settle_user_identities(
    named: &Document,
    user: impl Fn(&ResourceId) -> Option<UserIdentity>,
) -> Result<Document, Refusal> {
    const TARGET: &str = "identity.userAssignedIdentities";
    let invalid = |message: String| Refusal::at(RefusalCode::InvalidRequestContent, TARGET, message);
    if named.is_empty() {
        return Err(invalid(
            "The identity type 'UserAssigned' needs at least one entry in 'userAssignedIdentities'.".into(),
        ));
    }
    if named.len() > MAX_USER_IDENTITIES {
        return Err(invalid(format!("A resource has at most {MAX_USER_IDENTITIES} user-assigned identities.")));
    }
    let mut settled = Document::new();
    // `null` removes the identity.
    for (text, _) in named.iter().filter(|(_, value)| !value.is_null()) {
        let id = text.parse::<ResourceId>().ok().filter(|id| id.is_type(USER_ASSIGNED_IDENTITIES));
        let found = id.as_ref().and_then(&user);
        let (Some(id), Some((principal, client))) = (id, found) else {
            let shown: String = text.chars().take(300).collect();
            return Err(Refusal::at(
                RefusalCode::InvalidRequestContent,
                TARGET,
                format!("The user-assigned identity '{shown}' was not found."),
            ));
        };
        let mut entry = Document::new();
        entry.insert("principalId".into(), principal.to_string().into());
        if let Some(client) = client {
            entry.insert("clientId".into(), client.to_string().into());
        }
        settled.insert(id.as_str().to_owned(), Value::Object(entry));
    }
    Ok(settled)
}

//! Passwords: the admin user's, repository-scoped tokens', service principals'.

use postern_estate::{Document, Resource, types};
use postern_identity::SecretOwner;
use postern_model::{PrincipalId, RegistryUid, ResourceId, Secret, Timestamp};
use postern_store::{Change, Expected, Keep, StoreError};
use serde_json::{Value, json};

use crate::ArmState;
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::reply::Reply;

const ADMIN_SLOTS: [&str; 2] = ["password", "password2"];
const TOKEN_SLOTS: [&str; 2] = ["password1", "password2"];
/// Most secrets of one service principal.
const MAX_CLIENT_SECRETS: usize = 20;

fn invalid(message: impl Into<String>) -> ArmError {
    ArmError::new(Condition::InvalidContent, message)
}

/// `listCredentials`. Passwords are made when they are first asked for.
pub(crate) async fn list(call: &Call, registry: &Resource) -> Result<Reply, ArmError> {
    admin_enabled(registry)?;
    answer(call, registry).await
}

/// `regenerateCredential`.
pub(crate) async fn regenerate(call: &Call, registry: &Resource) -> Result<Reply, ArmError> {
    admin_enabled(registry)?;
    let name = call.body_text("name")?;
    let slot = ADMIN_SLOTS.into_iter().find(|slot| *slot == name);
    let slot = slot.ok_or_else(|| invalid("The 'name' must be 'password' or 'password2'."))?;
    set_admin(&call.state, registry, slot).await?;
    answer(call, registry).await
}

fn admin_enabled(registry: &Resource) -> Result<(), ArmError> {
    if registry.property(&["adminUserEnabled"]) == Some(Value::Bool(true)) {
        return Ok(());
    }
    Err(ArmError::new(
        Condition::AdminDisabled,
        format!(
            "Cannot perform credential operations for {} as admin user is disabled. Kindly enable admin user as per docs: \
             https://docs.microsoft.com/en-us/azure/container-registry/container-registry-authentication#admin-account",
            registry.id
        ),
    ))
}

fn admin_of(registry: &Resource) -> String {
    SecretOwner::Admin(RegistryUid::from(registry.uid)).to_string()
}

async fn set_admin(state: &ArmState, registry: &Resource, slot: &str) -> Result<Secret, StoreError> {
    let secret = state.identity.new_secret();
    state.store.credentials().put(&admin_of(registry), slot, &secret, Keep::Revealable, None).await?;
    Ok(secret)
}

async fn answer(call: &Call, registry: &Resource) -> Result<Reply, ArmError> {
    let mut passwords = Vec::new();
    for slot in ADMIN_SLOTS {
        let known = call.state.store.credentials().reveal(&admin_of(registry), slot).await?;
        let secret = match known {
            Some(secret) => secret,
            None => set_admin(&call.state, registry, slot).await?,
        };
        passwords.push(json!({"name": slot, "value": secret.expose()}));
    }
    Ok(Reply::ok(json!({"username": registry.id.name(), "passwords": passwords})))
}

/// `generateCredentials`: a token's passwords, shown this once.
pub(crate) async fn generate(call: &Call, registry: &Resource) -> Result<Reply, ArmError> {
    let id = call.body_text("tokenId")?.parse::<ResourceId>();
    let id = id.ok().filter(|id| id.is_type(types::TOKENS) && id.parent().as_ref() == Some(&registry.id));
    let token = id.and_then(|id| call.state.directory.resource(&id));
    let token = token.ok_or_else(|| invalid("The 'tokenId' must be the id of a token of this registry."))?;
    let expires = expiry(call.body()?.get("expiry"), call.now)?;
    let slots: Vec<&str> = match call.body()?.get("name") {
        None | Some(Value::Null) => TOKEN_SLOTS.to_vec(),
        Some(name) => TOKEN_SLOTS.into_iter().filter(|slot| name.as_str() == Some(slot)).collect(),
    };
    if slots.is_empty() {
        return Err(invalid("The 'name' must be 'password1' or 'password2'."));
    }
    let mut made = Vec::new();
    for slot in slots {
        let secret = call.state.identity.new_secret();
        let owner = SecretOwner::RepositoryToken(token.uid).to_string();
        call.state.store.credentials().put(&owner, slot, &secret, Keep::Hashed, expires).await?;
        let mut entry = json!({"creationTime": call.now.to_string(), "name": slot});
        if let (Some(expires), Some(entry)) = (expires, entry.as_object_mut()) {
            entry.insert("expiry".into(), expires.to_string().into());
        }
        made.push((entry, secret));
    }
    let entries: Vec<Value> = made.iter().map(|(entry, _)| entry.clone()).collect();
    let target = token.id.clone();
    call.state.directory.change(move |estate| Ok::<_, ArmError>(note(estate.get(&target), &entries))).await?;
    let shown: Vec<Value> = made
        .into_iter()
        .map(|(mut entry, secret)| {
            if let Some(entry) = entry.as_object_mut() {
                entry.insert("value".into(), secret.expose().into());
            }
            entry
        })
        .collect();
    Ok(Reply::ok(json!({"username": token.id.name(), "passwords": shown})))
}

/// Writes into the token's document which passwords it has.
fn note(token: Option<&std::sync::Arc<Resource>>, entries: &[Value]) -> Vec<Change> {
    let Some(token) = token else { return Vec::new() };
    let mut document = token.document();
    let mut listed = token.list(&["credentials", "passwords"]).unwrap_or_default();
    listed.retain(|known| !entries.iter().any(|entry| entry.get("name") == known.get("name")));
    listed.extend(entries.iter().cloned());
    listed.sort_by_key(|entry| entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
    let properties = document.entry("properties").or_insert_with(|| Value::Object(Document::new()));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("credentials".into(), json!({"passwords": listed, "certificates": []}));
    }
    vec![Change::Put { id: token.id.clone(), document, expected: Expected::Any }]
}

fn expiry(value: Option<&Value>, now: Timestamp) -> Result<Option<Timestamp>, ArmError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_str().ok_or_else(|| invalid("The expiry must be a date and time."))?,
    };
    let moment = text.parse::<Timestamp>().map_err(|_| invalid("The expiry must be a date and time."))?;
    if moment <= now {
        return Err(invalid("The expiry must be in the future."));
    }
    Ok(Some(moment))
}

/// After a token was changed: passwords that its document lists no more do not hold any more.
pub(crate) async fn follow(state: &ArmState, token: &Resource) {
    if !token.id.is_type(types::TOKENS) {
        return;
    }
    let owner = SecretOwner::RepositoryToken(token.uid).to_string();
    let listed = token.list(&["credentials", "passwords"]).unwrap_or_default();
    let is_listed = |slot: &str| listed.iter().any(|entry| entry.get("name").and_then(Value::as_str) == Some(slot));
    let credentials = state.store.credentials();
    for known in credentials.list(&owner) {
        if !is_listed(&known.slot)
            && let Err(error) = credentials.remove(&owner, &known.slot).await
        {
            tracing::error!(resource.id = %token.id, error = %error, "a token's password could not be removed");
        }
    }
}

/// `addPassword`, as Microsoft Graph has it: a client secret, shown this once.
///
/// Source: Microsoft Graph, servicePrincipal: addPassword (read 2026-11).
pub(crate) async fn add_password(call: &Call, owner: SecretOwner) -> Result<Reply, ArmError> {
    let given = call.body.as_ref().and_then(|body| body.get("passwordCredential"));
    let expires = expiry(given.and_then(|given| given.get("endDateTime")), call.now)?;
    let name = given.and_then(|given| given.get("displayName")).and_then(Value::as_str).map(str::to_owned);
    let owner = owner.to_string();
    let credentials = call.state.store.credentials();
    if credentials.list(&owner).len() >= MAX_CLIENT_SECRETS {
        return Err(ArmError::new(
            Condition::Conflict,
            format!("A service principal has at most {MAX_CLIENT_SECRETS} secrets."),
        ));
    }
    let (key, secret) = (call.state.random.uuid().to_string(), call.state.identity.new_secret());
    credentials.put(&owner, &key, &secret, Keep::Hashed, expires).await?;
    Ok(Reply::ok(json!({
        "keyId": key,
        "displayName": name,
        "secretText": secret.expose(),
        "startDateTime": call.now.to_string(),
        "endDateTime": expires.map(|expires| expires.to_string()),
    })))
}

/// `removePassword`.
pub(crate) async fn remove_password(call: &Call, owner: SecretOwner) -> Result<Reply, ArmError> {
    let key = call.body_text("keyId")?;
    let removed = call.state.store.credentials().remove(&owner.to_string(), key).await?;
    if removed {
        Ok(Reply::empty(http::StatusCode::NO_CONTENT))
    } else {
        Err(invalid("The service principal has no secret with this 'keyId'."))
    }
}

/// Whose secrets a service principal's own are.
pub(crate) fn secrets_of(principal: &Resource) -> Result<SecretOwner, ArmError> {
    let id = principal.id.name().parse::<PrincipalId>().map_err(|_| ArmError::internal())?;
    Ok(SecretOwner::Principal(id))
}

//! What ties somebody of the directory to an issuer of tokens outside: federated credentials of programs, identities of people.

use std::sync::Arc;

use postern_model::ResourceId;
use serde_json::{Value, json};

use crate::types::{APPLICATION_FEDERATED_CREDENTIALS, IDENTITY_FEDERATED_CREDENTIALS, USERS};
use crate::{Estate, Resource};

/// Source: Microsoft Graph, objectIdentity resource type (read 2026-11).
const FEDERATED: &str = "federated";

/// Whose outside tokens are worth one of a managed identity or a service principal.
///
/// Source: Microsoft Graph, federatedIdentityCredential resource type (read 2026-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedCredential {
    /// Who issues the token: its `iss`.
    pub issuer: String,
    /// Whom it is about: its `sub`.
    pub subject: String,
    /// Whom it is meant for: its `aud`.
    pub audience: String,
}

/// Who a person is at an issuer outside. Unlike a name, this never becomes somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideIdentity {
    /// The issuer's URL. Empty where the document does not say it: that is nobody.
    pub issuer: String,
    /// What the issuer calls the person for good.
    pub subject: String,
}

impl FederatedCredential {
    /// Reads the document; one that cannot be read is worth nothing.
    pub fn read(resource: &Resource) -> Option<Self> {
        let (issuer, subject) = (resource.text(&["issuer"])?, resource.text(&["subject"])?);
        // What is there beside the subject could narrow it down, and is not understood.
        if resource.property(&["claimsMatchingExpression"]).is_some() {
            return None;
        }
        match resource.list(&["audiences"])?.as_slice() {
            [Value::String(audience)] => Some(Self { issuer, subject, audience: audience.clone() }),
            _ => None,
        }
    }
}

impl OutsideIdentity {
    /// Those of a user.
    pub fn all_of(user: &Resource) -> Vec<Self> {
        let listed = user.list(&["identities"]).unwrap_or_default();
        let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let federated = listed.iter().filter(|entry| text(entry, "signInType").eq_ignore_ascii_case(FEDERATED));
        federated.map(|one| Self { issuer: text(one, "issuer"), subject: text(one, "issuerAssignedId") }).collect()
    }

    /// The federated ones of a list as it is written to a user's document; `None` where it is no such list.
    pub fn listed(identities: &Value) -> Option<Vec<Self>> {
        let mut federated = Vec::new();
        for entry in identities.as_array()? {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            if text("signInType")?.eq_ignore_ascii_case(FEDERATED) {
                let (issuer, subject) = (text("issuer")?.to_owned(), text("issuerAssignedId")?.to_owned());
                federated.push(Self { issuer, subject });
            }
        }
        Some(federated)
    }

    /// As a user's document has it.
    pub fn document(&self) -> Value {
        json!({"signInType": FEDERATED, "issuer": self.issuer, "issuerAssignedId": self.subject})
    }
}

impl Estate {
    /// The federated credentials of a managed identity or an application, by id.
    pub fn federated_credentials<'a>(&'a self, owner: &'a ResourceId) -> impl Iterator<Item = &'a Arc<Resource>> + 'a {
        let types = [IDENTITY_FEDERATED_CREDENTIALS, APPLICATION_FEDERATED_CREDENTIALS];
        types.into_iter().flat_map(move |one| self.children_of_type(owner, one))
    }

    /// The users who are this person, of whom there should be one at most.
    pub fn users_who_are<'a>(&'a self, who: &'a OutsideIdentity) -> impl Iterator<Item = &'a Arc<Resource>> + 'a {
        let is_who = move |user: &&Arc<Resource>| OutsideIdentity::all_of(user).contains(who);
        self.list(&ResourceId::root(), USERS).filter(is_who)
    }
}

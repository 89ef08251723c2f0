//! What is sent as `Authorization`: a password as it is, or access tokens for a refresh token.
//!
//! A token is asked for one repository at a time, with no more than these commands need: that holds in both role assignment modes.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HeaderValue};
use postern_model::{Clock, RepositoryName, Secret, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Registry, RegistryError, refusal};
use crate::Credentials;

/// What a repository is asked for.
const ACTIONS: &str = "pull,delete,metadata_read,metadata_write";
/// How long a token is good for where its registry does not say.
const DEFAULT_LIFETIME_SECONDS: i64 = 60;
/// A token is not used any more so long before its end.
const MARGIN_SECONDS: i64 = 30;
/// Longest life that is believed.
const MAX_LIFETIME_SECONDS: i64 = 24 * 3600;

/// What a request needs a token for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    Catalog,
    Repository(&'a RepositoryName),
}

pub(super) struct Login {
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    /// The last one only: a command goes from repository to repository.
    tokens: Mutex<HashMap<String, Token>>,
}

struct Token {
    header: HeaderValue,
    until: Timestamp,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: Option<i64>,
}

impl Scope<'_> {
    fn text(self) -> String {
        match self {
            Self::Catalog => "registry:catalog:*".into(),
            Self::Repository(name) => format!("repository:{name}:{ACTIONS}"),
        }
    }
}

impl Login {
    pub(super) fn new(credentials: Credentials, clock: Arc<dyn Clock>) -> Self {
        Self { credentials, clock, tokens: Mutex::default() }
    }

    pub(super) async fn authorization(
        &self,
        registry: &Registry,
        scope: Scope<'_>,
    ) -> Result<HeaderValue, RegistryError> {
        match &self.credentials {
            Credentials::Password { user, password } => {
                let encoded = STANDARD.encode(format!("{user}:{}", password.expose()));
                sensitive(&format!("Basic {encoded}")).ok_or_else(|| registry.malformed("the login"))
            }
            Credentials::RefreshToken(token) => self.access_token(registry, token, scope).await,
        }
    }

    /// Whether there was a token that may have run out.
    pub(super) async fn forget(&self, scope: Scope<'_>) -> bool {
        self.tokens.lock().await.remove(&scope.text()).is_some()
    }

    /// The token at hand, or another one. Whoever comes meanwhile waits for it instead of asking for one more.
    async fn access_token(
        &self,
        registry: &Registry,
        refresh: &Secret,
        scope: Scope<'_>,
    ) -> Result<HeaderValue, RegistryError> {
        let mut tokens = self.tokens.lock().await;
        let wanted = scope.text();
        let now = self.clock.now();
        if let Some(token) = tokens.get(&wanted).filter(|token| now < token.until) {
            return Ok(token.header.clone());
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", registry.server())
            .append_pair("scope", &wanted)
            .append_pair("refresh_token", refresh.expose())
            .finish();
        let request = registry.http.post(format!("{}/oauth2/token", registry.base));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let (status, answer) = registry.receive(request).await?;
        if !status.is_success() {
            return Err(refusal(status, &answer));
        }
        let issued: Issued = registry.json(&answer)?;
        let header =
            sensitive(&format!("Bearer {}", issued.access_token)).ok_or_else(|| registry.malformed("a token"))?;
        let lifetime = issued.expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS).min(MAX_LIFETIME_SECONDS);
        tokens.clear();
        tokens.insert(wanted, Token { header: header.clone(), until: now.plus_seconds(lifetime - MARGIN_SECONDS) });
        Ok(header)
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

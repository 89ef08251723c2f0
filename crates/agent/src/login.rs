//! Logs a run in to registries, and writes what it gets where container tools look for it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use postern_acr::Credentials;
use postern_identity::{Gateway, REFRESH_TOKEN_USER};
use postern_model::Secret;
use postern_tasks::lines::LogLine;
use postern_tasks::order::{Login, RegistryLogin};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::folder::write_private;
use crate::log::Log;

/// The audience of tokens for registries.
const AUDIENCE: &str = "https://containerregistry.azure.net";
const FORM: &str = "application/x-www-form-urlencoded";
/// Source: Azure Container Registry Tasks, runs observed: a login is tried so often (read 2026-11).
const ATTEMPTS: usize = 3;
/// Longest answer that is looked at.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why a run is not logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The identity endpoint gives no token.
    #[error("failed to get a token of the {identity}: {message}")]
    NoIdentity {
        /// Which identity.
        identity: String,
        /// What the endpoint said.
        message: String,
    },
    /// The registry exchanges it for nothing.
    #[error("failed to get ACR refresh token, exchange API response code: {status}{reason}")]
    Exchange {
        /// `403 Forbidden`.
        status: StatusCode,
        /// What the registry said, if it said something.
        reason: Reason,
    },
    /// The registry refused the login.
    #[error("failed to login, {server} answered {status}{reason}")]
    Refused {
        /// The registry.
        server: String,
        /// `401 Unauthorized`.
        status: StatusCode,
        /// What it said.
        reason: Reason,
    },
    /// The registry could not be asked.
    #[error("{server} cannot be reached: {source}")]
    Unreachable {
        /// The registry.
        server: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// What it is to log in with is not to be had.
    #[error("{0}")]
    Unavailable(String),
    /// The credentials could not be kept.
    #[error("the credentials could not be written: {0}")]
    Io(#[from] std::io::Error),
}

/// What a registry said why.
#[derive(Debug, Default)]
pub(crate) struct Reason(Option<String>);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

/// The registries that a run is logged in to.
#[derive(Default)]
pub(crate) struct Logins(Vec<(String, Credentials)>);

impl Logins {
    /// What a registry is called with.
    pub(crate) fn of(&self, server: &str) -> Option<&Credentials> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(server)).map(|(_, credentials)| credentials)
    }

    /// docker's `config.json`.
    fn config(&self) -> Value {
        let entry = |credentials: &Credentials| {
            let login = match credentials {
                Credentials::Password { user, password } => format!("{user}:{}", password.expose()),
                Credentials::RefreshToken(token) => format!("{REFRESH_TOKEN_USER}:{}", token.expose()),
            };
            json!({"auth": STANDARD.encode(login)})
        };
        let entries = self.0.iter().map(|(server, credentials)| (server.clone(), entry(credentials)));
        json!({"auths": entries.collect::<serde_json::Map<_, _>>()})
    }
}

/// Logs in to each registry and writes `config.json`. The first that refuses ends it, as nothing that follows would do what it should.
pub(crate) async fn log_in(
    http: &reqwest::Client,
    gateway: &Gateway,
    wanted: &[RegistryLogin],
    config: &Path,
    log: &Log,
) -> Result<Logins, LoginError> {
    let mut logins = Logins::default();
    for RegistryLogin { server, login } in wanted {
        log.line(&LogLine::LoggingIn(server)).await;
        let mut attempt = 1;
        let credentials = loop {
            match one(http, gateway, server, login).await {
                Ok(credentials) => break credentials,
                // Whoever was refused is refused the next time too.
                Err(error @ LoginError::Unreachable { .. }) if attempt < ATTEMPTS => {
                    log.line(&format!("failed to login to {server}, attempt {attempt}: {error}")).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        logins.0.push((server.clone(), credentials));
        log.line(&LogLine::LoggedIn(server)).await;
    }
    write_private(config, logins.config().to_string().as_bytes())?;
    Ok(logins)
}

async fn one(
    http: &reqwest::Client,
    gateway: &Gateway,
    server: &str,
    login: &Login,
) -> Result<Credentials, LoginError> {
    let credentials = match login {
        Login::Token { token } => Credentials::RefreshToken(token.clone()),
        Login::Identity { client_id } => exchange(http, gateway, server, client_id.as_deref()).await?,
        Login::Password { user, password } => Credentials::new(user, password.clone()),
        Login::Unavailable { reason } => return Err(LoginError::Unavailable(reason.clone())),
    };
    check(http, server, &credentials).await?;
    Ok(credentials)
}

/// A managed identity's token, then the registry's refresh token for it.
async fn exchange(
    http: &reqwest::Client,
    gateway: &Gateway,
    server: &str,
    client_id: Option<&str>,
) -> Result<Credentials, LoginError> {
    let token = identity_token(gateway, client_id).await?;
    let form = Serializer::new(String::new())
        .extend_pairs([("grant_type", "access_token"), ("service", server), ("access_token", token.expose())])
        .finish();
    let request = http.post(format!("https://{server}/oauth2/exchange")).header(CONTENT_TYPE, FORM).body(form);
    let answer = request.send().await.map_err(|source| unreachable(server, source))?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|source| unreachable(server, source))?;
    let body: Value = body
        .get(..body.len().min(MAX_ANSWER_BYTES))
        .and_then(|body| serde_json::from_slice(body).ok())
        .unwrap_or_default();
    match body.get("refresh_token").and_then(Value::as_str) {
        Some(token) if status.is_success() => Ok(Credentials::RefreshToken(Secret::new(token))),
        _ => Err(LoginError::Exchange { status, reason: reason(&body) }),
    }
}

/// What a managed identity of the workload proves itself to registries with.
async fn identity_token(gateway: &Gateway, client_id: Option<&str>) -> Result<Secret, LoginError> {
    let identity = client_id.map_or_else(
        || "system-assigned identity".to_owned(),
        |client_id| format!("user-assigned identity with client id {client_id}"),
    );
    let failed = |message: String| LoginError::NoIdentity { identity: identity.clone(), message };
    let mut url = format!("{}?api-version=2019-08-01&resource={AUDIENCE}", gateway.identity_endpoint);
    if let Some(client_id) = client_id {
        url = format!("{url}&client_id={client_id}");
    }
    let plain = reqwest::Client::builder().no_proxy().build().map_err(|error| failed(error.to_string()))?;
    let request = plain.get(url).header("x-identity-header", gateway.identity_header.expose());
    let answer = request.send().await.map_err(|error| failed(error.without_url().to_string()))?;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    match body.get("access_token").and_then(Value::as_str) {
        Some(token) if status.is_success() => Ok(Secret::new(token)),
        _ => {
            let told = ["error_description", "error"].into_iter().find_map(|key| body.get(key).and_then(Value::as_str));
            Err(failed(format!("{status}{}", told.map(|told| format!(", {told}")).unwrap_or_default())))
        }
    }
}

/// Whether the registry takes them: what `docker login` asks.
async fn check(http: &reqwest::Client, server: &str, credentials: &Credentials) -> Result<(), LoginError> {
    let request = match credentials {
        Credentials::Password { user, password } => {
            let url = format!("https://{server}/oauth2/token?service={server}");
            http.get(url).basic_auth(user, Some(password.expose()))
        }
        Credentials::RefreshToken(token) => {
            let form = Serializer::new(String::new())
                .extend_pairs([("grant_type", "refresh_token"), ("service", server), ("refresh_token", token.expose())])
                .finish();
            http.post(format!("https://{server}/oauth2/token")).header(CONTENT_TYPE, FORM).body(form)
        }
    };
    let answer = request.send().await.map_err(|source| unreachable(server, source))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body: Value = answer.json().await.unwrap_or_default();
    Err(LoginError::Refused { server: server.to_owned(), status, reason: reason(&body) })
}

fn unreachable(server: &str, source: reqwest::Error) -> LoginError {
    LoginError::Unreachable { server: server.to_owned(), source: source.without_url() }
}

/// The message of an error as registries write it.
fn reason(body: &Value) -> Reason {
    const MAX_CHARS: usize = 1000;
    let message = body.pointer("/errors/0/message").and_then(Value::as_str);
    Reason(message.map(|message| message.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()))
}

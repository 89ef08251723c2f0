//! The subcommands' way to a server: as its administrator, over the same HTTPS that everybody uses.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use postern_model::Secret;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::bootstrap::Bootstrap;

/// The api-version that the subcommands speak.
pub(crate) const API_VERSION: &str = "2025-11-01";

/// Which server to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgument {
    /// The server's data folder, or its bootstrap.json.
    #[arg(long, env = "POSTERN_SERVER", default_value = "postern-data", value_name = "PATH")]
    pub(crate) server: PathBuf,
}

/// A client with the administrator's token.
pub(crate) struct AdminClient {
    pub(crate) http: reqwest::Client,
    pub(crate) bootstrap: Bootstrap,
    token: Secret,
}

impl AdminClient {
    /// Reads the bootstrap file and logs in.
    pub(crate) async fn connect(path: &Path) -> anyhow::Result<Self> {
        let bootstrap = Bootstrap::read(path)?;
        let http = http_client(&bootstrap)?.build()?;
        let token = client_token(&http, &bootstrap, "https://management.azure.com/.default").await?;
        Ok(Self { http, bootstrap, token })
    }

    /// Sends a request to the resource manager or Postern's own API. Refusals are errors with the server's own words.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let version =
            if path.contains("api-version=") { String::new() } else { format!("{separator}api-version={API_VERSION}") };
        let url = format!("{}{path}{version}", self.bootstrap.arm_endpoint);
        let mut request = self.http.request(method.clone(), &url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{method} {path}: {}", refusal(status, &text));
        }
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}

/// A builder that trusts the server's authority only, and finds the server's names without DNS.
pub(crate) fn http_client(bootstrap: &Bootstrap) -> anyhow::Result<reqwest::ClientBuilder> {
    let pem = fs::read(&bootstrap.ca_file).with_context(|| format!("cannot read {}", bootstrap.ca_file.display()))?;
    let authority = reqwest::Certificate::from_pem(&pem)?;
    Ok(reqwest::Client::builder().tls_certs_only([authority]).no_proxy().redirect(reqwest::redirect::Policy::none()))
}

/// A token from the authority for the bootstrap file's client.
pub(crate) async fn client_token(http: &reqwest::Client, bootstrap: &Bootstrap, scope: &str) -> anyhow::Result<Secret> {
    let url = format!("{}/{}/oauth2/v2.0/token", bootstrap.authority, bootstrap.tenant_id);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &bootstrap.client_id),
        ("client_secret", bootstrap.client_secret.expose()),
        ("scope", scope),
    ];
    token_of(http.post(url).header("content-type", FORM).body(form_body(&form)).send().await?, "access_token").await
}

/// The token in an answer of a token endpoint.
pub(crate) async fn token_of(response: reqwest::Response, field: &str) -> anyhow::Result<Secret> {
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("{}", refusal(status, &text));
    }
    let answer: Value = serde_json::from_str(&text)?;
    Ok(Secret::new(answer.get(field).and_then(Value::as_str).context("the answer holds no token")?))
}

/// The server's own words about a refusal, whichever API said it.
pub(crate) fn refusal(status: StatusCode, text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let pick = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let code = pick("/error/code").or_else(|| pick("/errors/0/code")).or_else(|| pick("/error"));
    let message = pick("/error/message").or_else(|| pick("/errors/0/message")).or_else(|| pick("/error_description"));
    match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => format!("the server answered {status}"),
    }
}

/// Content type of [`form_body`].
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// A form as a request body.
pub(crate) fn form_body(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
            use std::fmt::Write as _;
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                let _ = write!(encoded, "%{byte:02X}");
            }
            encoded
        })
    };
    fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

/// The first address in the bootstrap file: where to dial whatever the name.
pub(crate) fn first_address(bootstrap: &Bootstrap) -> anyhow::Result<SocketAddr> {
    Ok(bootstrap.listen.first().context("the bootstrap file lists no address")?.parse()?)
}

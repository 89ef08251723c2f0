//! Requests to a registry: logged in, page by page, patient when told to wait.

mod answers;
mod login;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LINK, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use postern_model::{Digest, RepositoryName, Tag};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::answers::{Catalog, ManifestPage, ReferrerPage, TagPage, WireManifest};
pub(crate) use self::answers::{Content, FoundManifest, FoundTag, Kind};
use self::login::{Login, Scope};
use crate::{Credentials, Surroundings};

/// Most entries asked for at once.
const PAGE: u32 = 100;
/// Most pages of one list.
const MAX_PAGES: usize = 100_000;
/// Largest answer. A manifest has at most 4 MiB.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// How long and how often one request waits for its turn: many at once take it from each other.
const MAX_PATIENCE_SECONDS: u64 = 600;
const MAX_ATTEMPTS: u32 = 100;
/// How many broken connections are tried again.
const MAX_FAILURES: u32 = 2;
/// Longest wait that a registry may ask for.
const MAX_WAIT_SECONDS: u64 = 120;
/// How long to wait when a registry does not say.
const FIRST_WAIT_SECONDS: u64 = 1;
/// Longest text of a refusal that is shown.
const MAX_SHOWN_CHARS: usize = 500;
/// What a registry says which decision it was.
const CORRELATION_ID: &str = "x-ms-correlation-request-id";
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.artifact.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, */*";

/// Why a registry did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// It refused.
    #[error("{}", shown_refusal(*status, text, id.as_deref()))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code and message, as far as the answer has them.
        text: String,
        /// The id under which the decision can be explained.
        id: Option<String>,
    },
    /// It cannot be reached.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// The login server.
        server: String,
        /// Why not.
        reason: String,
    },
    /// It asks for more patience than there is.
    #[error("{server} asks to wait: {why}")]
    Throttled {
        /// The login server.
        server: String,
        /// For how long, or how often.
        why: String,
    },
    /// It answers with something else than it should.
    #[error("{server} gives an answer that cannot be read: {what}")]
    Malformed {
        /// The login server.
        server: String,
        /// What cannot be read.
        what: String,
    },
    /// The name is none that a registry can have.
    #[error("`{0}` is no registry that can be called")]
    BadServer(String),
}

impl RegistryError {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable { .. } | Self::Throttled { .. } | Self::Malformed { .. } | Self::BadServer(_) => None,
        }
    }
}

fn shown_refusal(status: u16, text: &str, id: Option<&str>) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    // The message of a closed wall ends with the id already.
    let id = id.filter(|id| !text.contains(*id)).map(|id| format!(" (request {id})")).unwrap_or_default();
    format!("HTTP status {status} {reason}{text}{id}")
}

/// A registry that one is logged in to.
pub(crate) struct Registry {
    http: reqwest::Client,
    base: String,
    server: String,
    login: Login,
}

struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Registry {
    pub(crate) fn new(
        surroundings: &Surroundings,
        server: String,
        credentials: Credentials,
    ) -> Result<Self, RegistryError> {
        let scheme = if surroundings.plain_http { "http" } else { "https" };
        let base = format!("{scheme}://{server}");
        let url = reqwest::Url::parse(&base).ok().filter(|url| {
            // Only host and port: whatever else would send the login elsewhere.
            url.host_str().is_some()
                && url.path() == "/"
                && url.username().is_empty()
                && url.query().is_none()
                && url.fragment().is_none()
                && !server.contains(['/', '@', '\\'])
        });
        let url = url.ok_or_else(|| RegistryError::BadServer(shown(&server)))?;
        if surroundings.plain_http && !is_loopback(&url) {
            return Err(RegistryError::BadServer(format!(
                "{}: without TLS only this machine is called",
                shown(&server)
            )));
        }
        let login = Login::new(credentials, std::sync::Arc::clone(&surroundings.clock));
        Ok(Self { http: surroundings.http.clone(), base, server, login })
    }

    /// The host, and the port if it is not the usual one, as references to images have it.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Whether the login holds.
    pub(crate) async fn ping(&self) -> Result<(), RegistryError> {
        self.send(Method::GET, "/v2/", Scope::Catalog, None).await.map(|_| ())
    }

    /// All repositories.
    pub(crate) async fn catalog(&self, page_size: u32) -> Result<Vec<RepositoryName>, RegistryError> {
        let mut names = Vec::new();
        self.pages(format!("/acr/v1/_catalog?n={page_size}"), Scope::Catalog, |page: Catalog| {
            names.extend(page.repositories.unwrap_or_default());
        })
        .await?;
        names.into_iter().map(|name: String| self.parsed(&name, "a repository")).collect()
    }

    /// All tags of a repository, newest first.
    pub(crate) async fn tags(&self, repository: &RepositoryName, order: &str) -> Result<Vec<FoundTag>, RegistryError> {
        let mut tags = Vec::new();
        let path = format!("/acr/v1/{repository}/_tags?n={PAGE}{order}");
        self.pages(path, Scope::Repository(repository), |page: TagPage| tags.extend(page.tags.unwrap_or_default()))
            .await?;
        tags.into_iter().map(|tag| tag.read().map_err(|what| self.malformed(&what))).collect()
    }

    /// All manifests of a repository.
    pub(crate) async fn manifests(&self, repository: &RepositoryName) -> Result<Vec<FoundManifest>, RegistryError> {
        let mut manifests = Vec::new();
        let path = format!("/acr/v1/{repository}/_manifests?n={PAGE}");
        self.pages(path, Scope::Repository(repository), |page: ManifestPage| {
            manifests.extend(page.manifests.unwrap_or_default());
        })
        .await?;
        manifests.into_iter().map(|one| one.read().map_err(|what| self.malformed(&what))).collect()
    }

    /// What the registry knows of one manifest.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<FoundManifest, RegistryError> {
        let path = format!("/acr/v1/{repository}/_manifests/{digest}");
        let answer = self.send(Method::GET, &path, Scope::Repository(repository), None).await?;
        let parsed: WireManifest = self.json(&answer)?;
        parsed.manifest.read().map_err(|what| self.malformed(&what))
    }

    /// What a manifest itself says.
    pub(crate) async fn content(&self, repository: &RepositoryName, digest: &Digest) -> Result<Content, RegistryError> {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let answer = self.send(Method::GET, &path, Scope::Repository(repository), None).await?;
        let content: answers::WireContent = self.json(&answer)?;
        content.read().map_err(|what| self.malformed(&what))
    }

    /// What refers to a manifest. A registry without that list has none.
    pub(crate) async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Digest>, RegistryError> {
        let mut found = Vec::new();
        let path = format!("/v2/{repository}/referrers/{digest}");
        let listed = self.pages(path, Scope::Repository(repository), |page: ReferrerPage| {
            found.extend(page.manifests.unwrap_or_default().into_iter().map(|one| one.digest));
        });
        match listed.await {
            Err(error) if error.status() == Some(404) => return Ok(Vec::new()),
            listed => listed?,
        }
        found.iter().map(|digest| self.parsed(digest, "a digest")).collect()
    }

    pub(crate) async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<(), RegistryError> {
        self.delete(&format!("/acr/v1/{repository}/_tags/{tag}"), repository).await
    }

    pub(crate) async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        self.delete(&format!("/v2/{repository}/manifests/{digest}"), repository).await
    }

    /// Lets a tag, or a manifest, be written and deleted.
    pub(crate) async fn unlock(&self, repository: &RepositoryName, path: &str) -> Result<(), RegistryError> {
        let (path, body) =
            (format!("/acr/v1/{repository}/{path}"), json!({"deleteEnabled": true, "writeEnabled": true}));
        self.send(Method::PATCH, &path, Scope::Repository(repository), Some(&body)).await.map(|_| ())
    }

    async fn delete(&self, path: &str, repository: &RepositoryName) -> Result<(), RegistryError> {
        self.send(Method::DELETE, path, Scope::Repository(repository), None).await.map(|_| ())
    }

    /// Page after page, as long as the registry names another.
    async fn pages<T: DeserializeOwned>(
        &self,
        first: String,
        scope: Scope<'_>,
        mut take: impl FnMut(T),
    ) -> Result<(), RegistryError> {
        let mut path = first;
        for _ in 0..MAX_PAGES {
            let answer = self.send(Method::GET, &path, scope, None).await?;
            take(self.json(&answer)?);
            match self.next_page(&answer.headers)? {
                Some(next) if next == path => return Err(self.malformed("a list that goes round in circles")),
                Some(next) => path = next,
                None => return Ok(()),
            }
        }
        Err(self.malformed("a list without an end"))
    }

    /// The path in `Link`. A link to somewhere else is not followed: it would be sent the login.
    fn next_page(&self, headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
        let Some(link) = headers.get(LINK) else { return Ok(None) };
        let target = link.to_str().ok().and_then(|link| link.strip_prefix('<')?.split_once('>'));
        let Some((target, relation)) = target else { return Err(self.malformed("Link")) };
        if !relation.contains("next") {
            return Ok(None);
        }
        let path = target.strip_prefix(&*self.base).unwrap_or(target);
        let is_path = path.starts_with('/') && !path.starts_with("//");
        if is_path { Ok(Some(path.to_owned())) } else { Err(self.malformed("Link leads to another host")) }
    }

    /// Sends a request until it is answered with more than a plea for patience. All that is sent here may be sent twice.
    async fn send(
        &self,
        method: Method,
        path: &str,
        scope: Scope<'_>,
        body: Option<&Value>,
    ) -> Result<Answer, RegistryError> {
        let (mut is_fresh, mut failures, mut waited_seconds) = (false, 0, 0);
        let mut wait_seconds = FIRST_WAIT_SECONDS;
        let mut last = None;
        for _ in 0..MAX_ATTEMPTS {
            if last.is_some() {
                waited_seconds += wait_seconds;
                if waited_seconds > MAX_PATIENCE_SECONDS {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(wait_seconds)).await;
            }
            let received = match self.login.authorization(self, scope).await {
                Err(error) => Err(error),
                Ok(authorization) => {
                    let request = self.http.request(method.clone(), format!("{}{path}", self.base));
                    let request = request.header(AUTHORIZATION, authorization).header(ACCEPT, MANIFEST_TYPES);
                    self.receive(match body {
                        Some(body) => request.json(body),
                        None => request,
                    })
                    .await
                }
            };
            match received {
                Ok((status, answer)) if status.is_success() => return Ok(answer),
                // The token may have run out on the way.
                Ok((StatusCode::UNAUTHORIZED, _)) if !is_fresh && self.login.forget(scope).await => is_fresh = true,
                Ok((status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE), answer)) => {
                    wait_seconds = self.wait_seconds(&answer.headers)?;
                    last = Some(refusal(status, &answer));
                }
                Ok((status, answer)) => return Err(refusal(status, &answer)),
                Err(error) if matches!(error.status(), Some(429 | 503)) => last = Some(error),
                Err(error @ RegistryError::Unreachable { .. }) if failures < MAX_FAILURES => {
                    failures += 1;
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| self.malformed("401 for a token of its own")))
    }

    async fn receive(&self, request: reqwest::RequestBuilder) -> Result<(StatusCode, Answer), RegistryError> {
        let unreachable =
            |error: reqwest::Error| RegistryError::Unreachable { server: self.server.clone(), reason: causes(&error) };
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(self.malformed("it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, Answer { headers, body: body.into() }))
    }

    fn wait_seconds(&self, headers: &HeaderMap) -> Result<u64, RegistryError> {
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        match asked {
            None => Ok(FIRST_WAIT_SECONDS),
            Some(seconds) if seconds <= MAX_WAIT_SECONDS => Ok(seconds),
            Some(seconds) => {
                Err(RegistryError::Throttled { server: self.server.clone(), why: format!("for {seconds} seconds") })
            }
        }
    }

    fn json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, RegistryError> {
        serde_json::from_slice(&answer.body).map_err(|error| self.malformed(&error.to_string()))
    }

    fn parsed<T: std::str::FromStr>(&self, text: &str, what: &str) -> Result<T, RegistryError> {
        text.parse().map_err(|_| self.malformed(&format!("`{}` is not the name of {what}", shown(text))))
    }

    fn malformed(&self, what: &str) -> RegistryError {
        RegistryError::Malformed { server: self.server.clone(), what: shown(what) }
    }
}

fn refusal(status: StatusCode, answer: &Answer) -> RegistryError {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let pick = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let words: Vec<&str> = ["/errors/0/code", "/errors/0/message"].into_iter().filter_map(pick).collect();
    let id = answer.headers.get(CORRELATION_ID).and_then(|id| id.to_str().ok());
    RegistryError::Refused { status: status.as_u16(), text: shown(&words.join(": ")), id: id.map(shown) }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What came from outside, for a terminal.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    // The error's own text repeats the URL.
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() { "the connection failed".into() } else { shown(&causes.join(": ")) }
}

#[cfg(test)]
mod tests;

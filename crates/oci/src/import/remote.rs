use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use postern_model::{Digest, Reference, RepositoryName};
use postern_outbound::{Answer, Outbound, OutboundError, Url};
use postern_store::{ImportCredentials, ImportError, MAX_MANIFEST_BYTES, Repository, StoreError, UploadWriter};
use serde::Deserialize;

use super::MAX_REFERRERS;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.docker.distribution.manifest.v2+json";
const MAX_TOKEN_BYTES: usize = 64 << 10;
/// Of a refusal only the beginning is repeated.
const MAX_REFUSAL_BYTES: usize = 16 << 10;
const MAX_REFUSAL_CHARS: usize = 400;
/// How often in a row a download may break without having brought anything, and how long is waited between.
const MAX_BREAKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// The user of logins whose password is a token.
///
/// Source: Azure Container Registry, "Authenticate with a service principal", `az acr login --expose-token` (read 2026-11).
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// A repository of another server, spoken to as any client would.
pub(super) struct Remote {
    outbound: Outbound,
    base: Url,
    repository: String,
    credentials: Option<ImportCredentials>,
    authorization: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
}

impl Remote {
    pub(super) fn new(
        outbound: Outbound,
        host: &str,
        repository: &RepositoryName,
        credentials: Option<ImportCredentials>,
    ) -> Result<Self, ImportError> {
        // What people call Docker Hub is not where it serves, and its own images stand below `library/`.
        let is_hub = ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host);
        let host = if is_hub { "registry-1.docker.io" } else { host };
        let repository = match repository.as_str() {
            name if is_hub && !name.contains('/') => format!("library/{name}"),
            name => name.to_owned(),
        };
        let base = Url::parse(&format!("https://{host}/v2/")).ok().filter(|base| base.username().is_empty());
        let base = base.ok_or_else(|| ImportError::Unreachable("its address is not a host name".into()))?;
        Ok(Self { outbound, base, repository, credentials, authorization: Mutex::default() })
    }

    pub(super) async fn manifest(&self, reference: &Reference) -> Result<(String, Bytes), ImportError> {
        let answer = self.get(&format!("manifests/{reference}")).await?;
        let Some(answer) = answer else { return Err(ImportError::NotInSource(format!("manifest {reference}"))) };
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let bytes = answer.bytes(MAX_MANIFEST_BYTES).await.map_err(unreachable)?;
        Ok((media_type, bytes))
    }

    /// By the referrers API, or by the tag that stands in for it at servers without one.
    ///
    /// Source: OCI distribution specification, "Listing Referrers", "Referrers Tag Schema".
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>, ImportError> {
        let listed = match self.get(&format!("referrers/{subject}")).await? {
            Some(answer) => Some(answer),
            None => self.get(&format!("manifests/{}", subject.to_string().replace(':', "-"))).await?,
        };
        let Some(answer) = listed else { return Ok(Vec::new()) };
        let bytes = answer.bytes(MAX_MANIFEST_BYTES).await.map_err(unreachable)?;
        let Ok(index) = serde_json::from_slice::<Index>(&bytes) else { return Ok(Vec::new()) };
        Ok(index.manifests.iter().filter_map(|entry| entry.digest.parse().ok()).take(MAX_REFERRERS + 1).collect())
    }

    /// Streams a blob into an upload, which refuses bytes of another digest. Where the connection breaks, the rest is asked for.
    pub(super) async fn fetch_blob(&self, target: &Repository, digest: &Digest) -> Result<(), ImportError> {
        let upload = target.start_upload(digest.algorithm()).await?;
        // Nobody else knows its id, so that nobody could go on with it.
        let writer = target.upload_writer(upload.id).await?.temporary();
        let received = self.fetch_into(writer, digest).await;
        if received.is_err() {
            let _ = target.cancel_upload(upload.id).await;
        }
        received
    }

    async fn fetch_into(&self, mut writer: UploadWriter, digest: &Digest) -> Result<(), ImportError> {
        let mut breaks = 0;
        loop {
            let before = writer.offset();
            let Err(error) = self.fetch_rest(&mut writer, digest).await? else { break };
            breaks = if writer.offset() > before { 1 } else { breaks + 1 };
            tracing::info!(blob.digest = %digest, blob.offset = writer.offset(), error = %error, "a download broke");
            if breaks > MAX_BREAKS {
                return Err(ImportError::Interrupted(error.to_string()));
            }
            tokio::time::sleep(PAUSE * breaks).await;
        }
        writer.commit(*digest).await.map(drop).map_err(|error| match error {
            StoreError::DigestMismatch { .. } => ImportError::Unsuitable(error.to_string()),
            error => error.into(),
        })
    }

    /// Writes what is missing. An error inside is a connection that broke.
    async fn fetch_rest(
        &self,
        writer: &mut UploadWriter,
        digest: &Digest,
    ) -> Result<Result<(), OutboundError>, ImportError> {
        let start = writer.offset();
        let url = self.url(&format!("blobs/{digest}"))?;
        let mut answer = match self.ask_logged_in(&url, start).await {
            Ok(answer) => answer?,
            Err(error) if start > 0 => return Ok(Err(error)),
            Err(error) => return Err(unreachable(error)),
        };
        // A server that knows no ranges begins anew.
        let mut skip = match (answer.status(), start) {
            (StatusCode::PARTIAL_CONTENT, 1..) if begins_at(answer.headers(), start) => 0,
            (StatusCode::OK, _) => start,
            (StatusCode::NOT_FOUND, _) => return Err(ImportError::NotInSource(format!("blob {digest}"))),
            // Nothing is left: it had broken after the last byte.
            (StatusCode::RANGE_NOT_SATISFIABLE, 1..) => return Ok(Ok(())),
            (status, _) => return Err(refused(status, answer).await),
        };
        loop {
            match answer.chunk().await {
                Ok(Some(mut chunk)) => {
                    let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                    chunk.advance(skipped);
                    skip -= skipped as u64;
                    if !chunk.is_empty() {
                        writer.write(chunk).await?;
                    }
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// `None` for what the server does not have.
    async fn get(&self, path: &str) -> Result<Option<Answer>, ImportError> {
        let answer = self.ask_logged_in(&self.url(path)?, 0).await.map_err(unreachable)??;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(refused(status, answer).await),
        }
    }

    fn url(&self, path: &str) -> Result<Url, ImportError> {
        let url = self.base.join(&format!("{}/{path}", self.repository));
        url.map_err(|_| ImportError::Unreachable("its address is not a host name".into()))
    }

    /// Asks, and once more after a login where one is demanded. An outer error is a connection that failed.
    async fn ask_logged_in(&self, url: &Url, start: u64) -> Result<Result<Answer, ImportError>, OutboundError> {
        let answer = self.ask(url, start).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(Ok(answer));
        }
        if let Err(error) = self.log_in(&answer).await {
            return Ok(Err(error));
        }
        self.ask(url, start).await.map(Ok)
    }

    async fn ask(&self, url: &Url, start: u64) -> Result<Answer, OutboundError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        if start > 0 {
            headers.extend(format!("bytes={start}-").parse().ok().map(|range: HeaderValue| (RANGE, range)));
        }
        self.outbound.get(url, headers).await
    }

    /// Answers a challenge: with the password itself, or with a token from where the challenge says.
    ///
    /// Source: Docker registry token authentication; RFC 7235 (read 2026-11).
    async fn log_in(&self, challenged: &Answer) -> Result<(), ImportError> {
        let unusable = || ImportError::SourceRefused("it asks for a login of a kind that import does not know".into());
        let headers = challenged.headers().get_all(WWW_AUTHENTICATE);
        let challenge = headers.iter().find_map(|value| Challenge::parse(value.to_str().ok()?));
        let value = match challenge.ok_or_else(unusable)? {
            Challenge::Basic => {
                self.basic().ok_or_else(|| ImportError::SourceRefused("it asks for a user name and password".into()))?
            }
            Challenge::Bearer { realm, service } => {
                let mut url = Url::parse(&realm).map_err(|_| unusable())?;
                {
                    let mut query = url.query_pairs_mut();
                    if let Some(service) = &service {
                        query.append_pair("service", service);
                    }
                    query.append_pair("scope", &format!("repository:{}:pull", self.repository));
                }
                let headers = self.basic().map(|value| (AUTHORIZATION, value)).into_iter().collect();
                let answer = self.outbound.get(&url, headers).await.map_err(unreachable)?;
                if answer.status() != StatusCode::OK {
                    return Err(refused(answer.status(), answer).await);
                }
                let bytes = answer.bytes(MAX_TOKEN_BYTES).await.map_err(unreachable)?;
                let token: Token = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
                let token = token.token.or(token.access_token).ok_or_else(unusable)?;
                secret_header(&format!("Bearer {token}")).ok_or_else(unusable)?
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    fn basic(&self) -> Option<HeaderValue> {
        let credentials = self.credentials.as_ref()?;
        let user = credentials.user.as_deref().unwrap_or(TOKEN_USER);
        secret_header(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", credentials.password.expose()))))
    }
}

/// Whether the part that came is the one that was asked for.
fn begins_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes "));
    range.and_then(|range| range.split_once('-')).is_some_and(|(first, _)| first.parse() == Ok(start))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut rest) = (None, None, rest);
        while let Some((name, behind)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']);
            let (value, behind) = match behind.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => behind.split_once(',').unwrap_or((behind, "")),
            };
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = behind;
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// What the server said, cut short.
async fn refused(status: StatusCode, answer: Answer) -> ImportError {
    let said = answer.bytes(MAX_REFUSAL_BYTES).await.unwrap_or_default();
    let said: String =
        String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control()).take(MAX_REFUSAL_CHARS).collect();
    ImportError::SourceRefused(format!("{status} {said}").trim_end().to_owned())
}

fn unreachable(error: OutboundError) -> ImportError {
    ImportError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (text, expected) in [
            ("Basic realm=\"Registry\"", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a:pull,push\"",
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            ("bearer service=s, realm=https://a", bearer("https://a", Some("s"))),
            ("Bearer service=\"s\"", None),
            ("Bearer realm=\"https://a", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}

//! The one HTTP client by which the server calls others: registries to import from, issuers of tokens.
//!
//! ```text
//!  URL ─▶ https? ─▶ address: public or allow-listed, no own listener? ─▶ connect to what was checked ─▶ answer
//!    ▲                                                                                                   │
//!    └──────────────── redirect, without credentials where it leads to another host ◀────────────────────┘
//! ```
//!
//! **Invariants.** Whoever names an address to the server reaches nothing by it that only the server can reach. TLS is always
//! verified. Whatever is read has a limit.

mod addresses;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{HeaderMap, StatusCode};
use ipnet::IpNet;
pub use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::addresses::Addresses;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the next piece of an answer may be waited for. A whole answer may take as long as it likes.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom the server may call.
#[derive(Clone, Debug, Default)]
pub struct OutboundOptions {
    /// Ranges that may be called although they are not public.
    pub allow: Vec<IpNet>,
    /// Where this server listens: never called, allow-listed or not.
    pub own_listeners: Vec<SocketAddr>,
    /// Authorities to trust beside the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address is none that can be called.
    #[error("`{0}` is not a URL that can be called")]
    BadUrl(String),
    /// Only HTTPS is spoken.
    #[error("`{0}` is not called: it is no HTTPS address")]
    NotHttps(String),
    /// The name cannot be resolved.
    #[error("the name `{0}` cannot be resolved")]
    Unresolved(String),
    /// Every address of the host is one that must not be called.
    #[error("`{host}` is not called: its address {address} is {why}")]
    Refused {
        /// The host as it was named.
        host: String,
        /// The first of its addresses.
        address: IpAddr,
        /// Which kind of address it is.
        why: &'static str,
    },
    /// Too many redirects, or one that leads nowhere.
    #[error("`{0}` redirects too often, or to nowhere")]
    Redirects(String),
    /// The answer is longer than it may be.
    #[error("the answer of `{host}` is longer than {limit_bytes} bytes")]
    TooLong {
        /// Who answered.
        host: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// Connection, TLS or HTTP failed.
    #[error("`{host}` cannot be called: {reason}")]
    Failed {
        /// Who was called.
        host: String,
        /// The reason, innermost cause last.
        reason: String,
    },
    /// The options cannot be used.
    #[error("the outbound client cannot be set up: {0}")]
    Setup(String),
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    http: reqwest::Client,
    addresses: Arc<Addresses>,
}

/// An answer whose body is not read yet.
pub struct Answer {
    host: String,
    response: reqwest::Response,
}

impl Outbound {
    /// Sets the client up.
    pub fn new(options: OutboundOptions) -> Result<Self, OutboundError> {
        let addresses = Arc::new(Addresses::new(options.allow, options.own_listeners));
        let setup = |error: reqwest::Error| OutboundError::Setup(causes(&error));
        let authorities = match &options.ca_pem {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(setup)?,
            None => Vec::new(),
        };
        let http = reqwest::Client::builder()
            .tls_certs_merge(authorities)
            .https_only(true)
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .dns_resolver(Arc::new(Filtered(Arc::clone(&addresses))))
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(setup)?;
        Ok(Self { http, addresses })
    }

    /// Fetches. `Authorization` and `Cookie` are left out as soon as a redirect leads to another host.
    pub async fn get(&self, url: &Url, mut headers: HeaderMap) -> Result<Answer, OutboundError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let host = self.check(&url).await?;
            let sent = self.http.get(url.clone()).headers(headers.clone()).send().await;
            let response =
                sent.map_err(|error| OutboundError::Failed { host: host.clone(), reason: causes(&error) })?;
            if !is_redirect(response.status()) {
                return Ok(Answer { host, response });
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| OutboundError::Redirects(host.clone()))?;
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
                headers.remove(COOKIE);
            }
            url = next;
        }
        Err(OutboundError::Redirects(host_of(&url)))
    }

    /// Sends one request, a GET or with a body a POST, and reads the whole answer. No redirect is followed: whoever is asked answers
    /// itself, or not at all. All of it takes no longer than `patience`.
    pub async fn ask(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Option<Bytes>,
        limit_bytes: usize,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        let asked = async {
            let host = self.check(url).await?;
            let request = match body {
                None => self.http.get(url.clone()),
                Some(body) => self.http.post(url.clone()).body(body),
            };
            let sent = request.headers(headers).send().await;
            let response =
                sent.map_err(|error| OutboundError::Failed { host: host.clone(), reason: causes(&error) })?;
            let status = response.status();
            Ok((status, Answer { host, response }.bytes(limit_bytes).await?))
        };
        let late = |_| OutboundError::Failed { host: host_of(url), reason: "it takes too long to answer".into() };
        tokio::time::timeout(patience, asked).await.map_err(late)?
    }

    /// Refuses a URL whose host has no address that may be called.
    async fn check(&self, url: &Url) -> Result<String, OutboundError> {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(OutboundError::BadUrl(shown(url.as_str())));
        };
        if url.scheme() != "https" {
            return Err(OutboundError::NotHttps(shown(host)));
        }
        let found = tokio::net::lookup_host((host.trim_start_matches('[').trim_end_matches(']'), port)).await;
        let found = found.map_err(|_| OutboundError::Unresolved(shown(host)))?;
        let mut refused = None;
        for address in found {
            match self.addresses.check(address) {
                Ok(()) => return Ok(shown(host)),
                Err(why) => refused = refused.or(Some((address.ip(), why))),
            }
        }
        Err(match refused {
            Some((address, why)) => OutboundError::Refused { host: shown(host), address, why },
            None => OutboundError::Unresolved(shown(host)),
        })
    }
}

impl Answer {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OutboundError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| OutboundError::Failed { host: self.host.clone(), reason: causes(&error) })
    }

    /// The whole body, if it is not longer than this.
    pub async fn bytes(mut self, limit_bytes: usize) -> Result<Bytes, OutboundError> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit_bytes {
                return Err(OutboundError::TooLong { host: self.host, limit_bytes });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }
}

/// Resolves names to the addresses that may be called: a name that leads elsewhere the moment after it was checked gains nothing.
struct Filtered(Arc<Addresses>);

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let kept: Vec<SocketAddr> = found.filter(|found| addresses.check(*found).is_ok()).collect();
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn host_of(url: &Url) -> String {
    shown(url.host_str().unwrap_or_default())
}

/// Longest host or URL that an error repeats.
const MAX_SHOWN_CHARS: usize = 200;

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
}

fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    // The error's own text repeats the URL, which may hold what must not be shown.
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if text.is_empty() { "the connection failed".into() } else { shown(&text) }
}

#[cfg(test)]
mod tests;

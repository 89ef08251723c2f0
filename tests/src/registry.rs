//! A client of the data plane for tests that need many requests at once.

use std::net::SocketAddr;

use http::{HeaderMap, Method};
use serde_json::Value;

/// Speaks plain HTTP to the default registry of a server on this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    http: reqwest::Client,
    base: String,
    user: String,
    password: String,
}

/// What a request was answered with.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the parts of an HTTP answer")]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The error code in the body, if it is an error in the specification's form.
    pub fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body.pointer("/errors/0/code")?.as_str()?.to_owned())
    }
}

impl RegistryClient {
    /// A client with this login.
    pub fn new(address: SocketAddr, user: &str, password: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(16).build();
        Self {
            http: http.expect("a client without TLS needs nothing"),
            base: format!("http://{address}"),
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When there is no whole answer: the connection broke.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        request = request.basic_auth(&self.user, Some(&self.password)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
    }

    /// Asks for something.
    pub async fn get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.send(Method::GET, path, &[("accept", "*/*")], Vec::new()).await
    }
}

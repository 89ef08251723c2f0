//! Clients of the story: each really connects from its place, gets its tokens and pulls.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use postern_identity::Gateway;
use postern_model::Secret;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

use super::image::{Content, Image};
use crate::bootstrap::Bootstrap;
use crate::client::{FORM, client_token, form_body, http_client};
use crate::workload::{AUDIENCE, managed_identity_token};

const ID_HEADER: &str = "x-ms-correlation-request-id";

/// Where a caller is: the address it connects from, and the one it connects to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
}

/// What a caller proves itself with.
pub(crate) enum Proof<'a> {
    /// Nothing.
    None,
    /// A service principal's secret, for a token of the authority.
    Secret { client_id: &'a str, secret: &'a Secret },
    /// A managed identity, from the endpoint in the workload.
    ManagedIdentity { gateway: &'a Gateway, client_id: Option<&'a str> },
    /// A token of the authority.
    Token(&'a Secret),
    /// A registry refresh token.
    Refresh(&'a Secret),
    /// A repository-scoped token.
    RepositoryToken { name: &'a str, password: &'a Secret },
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) id: String,
}

/// One registry, seen by one caller.
pub(crate) struct Registry<'a> {
    pub(crate) client: Client,
    pub(crate) bootstrap: &'a Bootstrap,
    /// Its login server with port.
    pub(crate) host: String,
}

/// A client in a place.
pub(crate) fn client_at(bootstrap: &Bootstrap, spot: Spot, hosts: &[&str]) -> anyhow::Result<Client> {
    let mut builder = http_client(bootstrap)?.local_address(spot.from);
    for host in hosts {
        let name = host.split(':').next().unwrap_or(host);
        builder = builder.resolve(name, SocketAddr::new(spot.to, 0));
    }
    Ok(builder.build()?)
}

/// A client whose connections go through a workload's gateway.
pub(crate) fn client_through(bootstrap: &Bootstrap, gateway: &Gateway) -> anyhow::Result<Client> {
    Ok(http_client(bootstrap)?.proxy(reqwest::Proxy::all(gateway.proxy_url.expose())?).build()?)
}

impl Registry<'_> {
    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.host)
    }

    /// Pulls a manifest the way clients do: try, be challenged, get a token, try again. The last answer counts.
    pub(crate) async fn pull(&self, repository: &str, reference: &str, proof: Proof<'_>) -> anyhow::Result<Answer> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let scope = format!("repository:{repository}:pull");
        match self.access(&scope, proof).await? {
            Ok(token) => self.get(&path, token.as_ref()).await,
            Err(refused) => Ok(refused),
        }
    }

    /// An access token, or the refusal met on the way to it; no token for a caller without proof.
    async fn access(&self, scope: &str, proof: Proof<'_>) -> anyhow::Result<Result<Option<Secret>, Answer>> {
        let challenge = self.client.get(self.url("/v2/")).send().await?;
        if challenge.status() != StatusCode::UNAUTHORIZED {
            return Ok(Err(answer(&challenge)));
        }
        let refresh = match proof {
            Proof::None => return Ok(Ok(None)),
            Proof::RepositoryToken { name, password } => {
                let url = format!("{}?service={}&scope={scope}", self.url("/oauth2/token"), self.host);
                let response = self.client.get(url).basic_auth(name, Some(password.expose())).send().await?;
                return granted(response, "access_token").await.map(|granted| granted.map(Some));
            }
            Proof::Refresh(token) => Ok(token.clone()),
            Proof::Token(token) => self.exchange(token).await?,
            Proof::Secret { client_id, secret } => {
                let caller = Bootstrap {
                    client_id: client_id.to_owned(),
                    client_secret: secret.clone(),
                    ..self.bootstrap.clone()
                };
                let token =
                    client_token(&http_client(self.bootstrap)?.build()?, &caller, &format!("{AUDIENCE}/.default"))
                        .await?;
                self.exchange(&token).await?
            }
            Proof::ManagedIdentity { gateway, client_id } => {
                self.exchange(&managed_identity_token(gateway, client_id).await?).await?
            }
        };
        let refresh = match refresh {
            Ok(refresh) => refresh,
            Err(refused) => return Ok(Err(refused)),
        };
        let form = form_body(&[
            ("grant_type", "refresh_token"),
            ("service", &self.host),
            ("scope", scope),
            ("refresh_token", refresh.expose()),
        ]);
        let request = self.client.post(self.url("/oauth2/token")).header("content-type", FORM).body(form);
        granted(request.send().await?, "access_token").await.map(|granted| granted.map(Some))
    }

    /// A registry refresh token for a token of the authority.
    pub(crate) async fn exchange(&self, token: &Secret) -> anyhow::Result<Result<Secret, Answer>> {
        let form = form_body(&[
            ("grant_type", "access_token"),
            ("service", &self.host),
            ("tenant", &self.bootstrap.tenant_id),
            ("access_token", token.expose()),
        ]);
        let request = self.client.post(self.url("/oauth2/exchange")).header("content-type", FORM).body(form);
        granted(request.send().await?, "refresh_token").await
    }

    async fn get(&self, path: &str, token: Option<&Secret>) -> anyhow::Result<Answer> {
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let mut request = self.client.get(self.url(path)).header("accept", accept);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        Ok(answer(&request.send().await?))
    }

    /// Pushes an image under a tag as the administrator.
    pub(crate) async fn push(&self, repository: &str, tag: &str, image: &Image) -> anyhow::Result<Answer> {
        for blob in &image.blobs {
            let path = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest());
            self.send(Method::POST, &path, blob).await?.error_for_status()?;
        }
        let mut last = None;
        for (at, manifest) in image.manifests.iter().enumerate() {
            let is_last = at + 1 == image.manifests.len();
            let reference = if is_last { tag.to_owned() } else { manifest.digest() };
            let response = self.send(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"), manifest).await?;
            last = Some(answer(&response));
            if !response.status().is_success() {
                break;
            }
        }
        last.context("the image has no manifest")
    }

    async fn send(&self, method: Method, path: &str, content: &Content) -> anyhow::Result<Response> {
        Ok(self
            .client
            .request(method, self.url(path))
            .basic_auth(&self.bootstrap.client_id, Some(self.bootstrap.client_secret.expose()))
            .header("content-type", content.media_type)
            .body(content.bytes.clone())
            .send()
            .await?)
    }

    /// Locks a tag as the administrator.
    pub(crate) async fn lock(&self, repository: &str, tag: &str) -> anyhow::Result<()> {
        self.client
            .patch(self.url(&format!("/acr/v1/{repository}/_tags/{tag}")))
            .basic_auth(&self.bootstrap.client_id, Some(self.bootstrap.client_secret.expose()))
            .json(&serde_json::json!({"writeEnabled": false}))
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }
}

async fn granted(response: Response, field: &str) -> anyhow::Result<Result<Secret, Answer>> {
    if !response.status().is_success() {
        return Ok(Err(answer(&response)));
    }
    let text: Value = serde_json::from_str(&response.text().await?)?;
    Ok(Ok(Secret::new(text.get(field).and_then(Value::as_str).context("the answer holds no token")?)))
}

fn answer(response: &Response) -> Answer {
    let id = response.headers().get(ID_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default();
    Answer { status: response.status(), id: id.to_owned() }
}

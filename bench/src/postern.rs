//! Postern under measurement: started, walled in, and asked for tokens.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::load::{Caller, Limit, Load, Script, Step, call};
use crate::process::{Server, Starter};
use crate::scripts::access_token;
use crate::site::Site;
use crate::wire::{Body, Reply, Request};

const READY: &str = "postern is ready:";
const API_VERSION: &str = "2025-11-01";
const REGISTRY: &str = "Microsoft.ContainerRegistry/registries/postern";
const IDENTITIES: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
const ACR_PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
/// An address of this machine that no rule names.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);
/// Connections for setting things up.
const CALLERS: usize = 16;

/// What stands between a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wall {
    /// Anonymous pulls from everywhere.
    Off,
    /// A closed network with so many address rules, and so many role assignments; every request with a token.
    On { address_rules: u32, assignments: u32 },
}

/// A running Postern.
pub(crate) struct Postern {
    pub(crate) server: Server,
    /// Without credentials.
    pub(crate) site: Site,
    pub(crate) tls: Site,
    bootstrap: Value,
}

/// How it is started, so that it can be started again.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) program: PathBuf,
    pub(crate) data: PathBuf,
}

impl Postern {
    pub(crate) fn start(starter: Starter<'_>, options: &Options) -> Result<Self> {
        let mut command = Command::new(&options.program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&options.data);
        let (server, file) = starter.start_until("postern", &mut command, READY)?;
        let bootstrap: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let address = bootstrap.pointer("/listen/0").and_then(Value::as_str).context("no address")?;
        let site = Site::new(address.parse()?);
        let authority = bootstrap.get("caFile").and_then(Value::as_str).context("no authority")?;
        let tls = site.over_tls(Path::new(authority), None)?;
        Ok(Self { server, site, tls, bootstrap })
    }

    pub(crate) fn known(&self, name: &str) -> &str {
        self.bootstrap.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The data plane with the administrator's own secret in each request.
    pub(crate) fn administrator(&self) -> Site {
        let login = STANDARD.encode(format!("{}:{}", self.known("clientId"), self.known("clientSecret")));
        self.site.with_authorization(&format!("Basic {login}"))
    }

    /// The request for an access token.
    pub(crate) fn token_request(&self, scopes: &[&str]) -> Request {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("service", "localhost");
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        self.administrator().request("GET", &format!("/oauth2/token?{}", query.finish()))
    }

    /// The data plane with a token for nobody, where anonymous pulls are allowed.
    pub(crate) fn anonymous(&self, scope: &str) -> Result<Site> {
        let scope: String = form_urlencoded::byte_serialize(scope.as_bytes()).collect();
        let request = self.site.request("GET", &format!("/oauth2/token?service=localhost&scope={scope}"));
        let token = access_token(&call(&self.site, request).context("no anonymous token")?.body)?;
        Ok(self.site.with_authorization(&format!("Bearer {token}")))
    }

    /// An access token, as the value of an `Authorization` header.
    pub(crate) fn token(&self, scopes: &[&str]) -> Result<String> {
        let reply = call(&self.site, self.token_request(scopes)).context("no token")?;
        Ok(format!("Bearer {}", access_token(&reply.body)?))
    }

    /// The data plane with a token for these scopes.
    pub(crate) fn with_token(&self, scopes: &[&str]) -> Result<Site> {
        Ok(self.site.with_authorization(&self.token(scopes)?))
    }

    /// The resource manager, as its administrator.
    pub(crate) fn manager(&self) -> Result<Site> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", self.known("clientId"))
            .append_pair("client_secret", self.known("clientSecret"))
            .append_pair("scope", "https://management.azure.com/.default")
            .finish();
        let target = format!("/{}/oauth2/v2.0/token", self.known("tenantId"));
        let lines = "content-type: application/x-www-form-urlencoded\r\n";
        let body = Body::Bytes(form.into_bytes().into());
        let reply = call(&self.site, self.site.send("POST", &target, lines, body)).context("no login")?;
        Ok(self.site.with_authorization(&format!("Bearer {}", access_token(&reply.body)?)))
    }

    fn group(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/postern", self.known("subscriptionId"))
    }

    /// Puts the wall up, or makes sure that there is none.
    pub(crate) fn set(&self, wall: Wall) -> Result<()> {
        let manager = self.manager()?;
        let registry = format!("{}/providers/{REGISTRY}", self.group());
        let properties = match wall {
            Wall::Off => json!({"anonymousPullEnabled": true}),
            Wall::On { address_rules, assignments } => {
                self.assign(&manager, &registry, assignments)?;
                let others = (1..address_rules).map(|at| format!("20.{}.{}.0/24", at / 256, at % 256 * 2 % 256));
                let rules: Vec<Value> = std::iter::once("127.0.0.1".to_owned())
                    .chain(others)
                    .map(|value| json!({"action": "Allow", "value": value}))
                    .collect();
                json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}})
            }
        };
        let request = resource(&manager, "PATCH", &registry, &json!({ "properties": properties }));
        Caller::connect(&manager)?.call(request)?;
        Ok(())
    }

    /// One role assignment on the registry for each of so many identities.
    fn assign(&self, manager: &Site, registry: &str, count: u32) -> Result<()> {
        let identity = |number: u32| format!("{}/providers/{IDENTITIES}/bench-{number}", self.group());
        let principal = |number: u32| Uuid::from_u128(0xbe9c_0000_0000_4000_8000_0000_0000_0000 + u128::from(number));
        let role = format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{ACR_PULL}",
            self.known("subscriptionId")
        );
        let make = |number: u32| {
            let (id, name) = (principal(number), Uuid::from_u128(u128::from(number)));
            let body = json!({"location": "eastus", "properties": {"principalId": id.to_string()}});
            let identity = resource(manager, "PUT", &identity(number), &body).expect(201);
            let body = json!({"properties": {
                "roleDefinitionId": role, "principalId": id.to_string(), "principalType": "ServicePrincipal",
            }});
            let scope = format!("{registry}/providers/Microsoft.Authorization/roleAssignments/{name}");
            [identity, resource(manager, "PUT", &scope, &body).expect(201)]
        };
        let mut script = Pairs::new(make);
        Load::connect(manager, CALLERS)?
            .run(&mut script, Limit { time: std::time::Duration::MAX, operations: u64::from(count) })?;
        Ok(())
    }
}

/// Two requests each, one after the other.
pub(crate) struct Pairs<F> {
    make: F,
    next: u32,
    half: Vec<Option<Request>>,
}

impl<F: FnMut(u32) -> [Request; 2]> Pairs<F> {
    /// `make` gets the number of the operation, from 1.
    pub(crate) fn new(make: F) -> Self {
        Self { make, next: 1, half: Vec::new() }
    }
}

impl<F: FnMut(u32) -> [Request; 2]> Script for Pairs<F> {
    fn next(&mut self, connection: usize, _: Option<Reply>) -> Result<Step> {
        if self.half.len() <= connection {
            self.half.resize_with(connection + 1, || None);
        }
        let half = self.half.get_mut(connection).context("no such connection")?;
        if let Some(request) = half.take() {
            return Ok(Step { request, begins: false });
        }
        let [first, second] = (self.make)(self.next);
        self.next += 1;
        *half = Some(second);
        Ok(Step { request: first, begins: true })
    }
}

pub(crate) fn resource(manager: &Site, method: &str, id: &str, body: &Value) -> Request {
    let target =
        format!("{id}?api-version={}", if id.contains("roleAssignments") { "2022-04-01" } else { API_VERSION });
    let lines = "content-type: application/json\r\n";
    manager.send(method, &target, lines, Body::Bytes(body.to_string().into_bytes().into()))
}

//! What a row's caller presents. Tokens are issued by the server itself, before the registry is closed; those that do not hold
//! are issued for another registry, tenant, time or kind, or tampered with.

use std::collections::HashMap;

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_identity::{MANAGED_TOKEN_PATH, Peer};
use postern_model::PrincipalId;
use uuid::Uuid;

use super::documents::{CLIENT_ID, opened};
use super::server::{OTHER_TENANT, Outgoing, PASSWORD, Routes, send};
use super::workloads::{Kept, USER_IDENTITY, presented};
use super::{LONG_AGO_SECONDS, Live, at, documents};
use crate::matrix::scene::TOKEN_NAME;
use crate::matrix::{LOGIN_SERVER, Place, Row, WorkloadKind};

const AUTHORITY: &str = "login.azurecr.io";
const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";
const ARM_AUDIENCE: &str = "https://management.azure.com";
const FORM: &str = "application/x-www-form-urlencoded";

/// What is presented.
pub(super) enum Credentials {
    None,
    /// An `Authorization` header with user name and password.
    Password(String),
    /// An access token.
    Access(String),
    /// A refresh token.
    Refresh(String),
    /// A token of the authority.
    Authority(String),
}

impl Credentials {
    pub(super) fn header(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Password(header) => Some(header),
            Self::Access(token) | Self::Refresh(token) | Self::Authority(token) => Some(format!("Bearer {token}")),
        }
    }
}

/// Tokens that were issued, by what they were issued for.
#[derive(Default)]
pub(super) struct Minted {
    pub(super) tokens: HashMap<String, String>,
    foreign: Option<Routes>,
}

/// Which kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Access,
    Refresh,
}

/// `Basic` with everybody's password.
pub(super) fn basic(user: &str) -> String {
    encoded(user, PASSWORD)
}

fn encoded(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A form or query.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn post(host: &str, target: String, fields: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        host: host.to_owned(),
        method: "POST",
        target,
        authorization: None,
        content_type: Some(FORM),
        body: form(fields).into(),
    }
}

/// The scopes that give the row's claim; without one, everything.
fn scopes(row: &Row) -> String {
    let Some(claim) = &row.caller.claim else {
        return format!("repository:{}:* registry:catalog:* registry:deleted_catalog:*", row.operation.repository);
    };
    let scope = |entry: &String| match entry.as_str() {
        "catalog" => "registry:catalog:*".to_owned(),
        "deleted-catalog" => "registry:deleted_catalog:*".to_owned(),
        entry => format!("repository:{entry}"),
    };
    claim.iter().map(scope).collect::<Vec<_>>().join(" ")
}

impl Live {
    /// The row's credentials. The registry may be left open.
    pub(super) async fn credentials(&mut self, row: &Row, caller: Option<PrincipalId>) -> Credentials {
        let has_claim = row.caller.claim.is_some();
        match row.caller.kind.as_str() {
            "none" => Credentials::None,
            "invalid" => self.broken(row).await,
            "principal" | "system" | "user" if row.operation.kind == "exchangeToken" => {
                Credentials::Authority(self.proof(row, issued_to(row), &mut at(Place::Internet)).await)
            }
            "system" | "user" if row.operation.kind == "issueToken" => {
                Credentials::Refresh(self.minted(row, caller, Kind::Refresh).await)
            }
            "principal" if !has_claim => Credentials::Password(basic(&CLIENT_ID.to_string())),
            "admin" if !has_claim => Credentials::Password(basic(&self.target.name())),
            "token" if !has_claim => Credentials::Password(basic(TOKEN_NAME)),
            _ => Credentials::Access(self.minted(row, caller, Kind::Access).await),
        }
    }

    /// A token for the row's caller, issued while the registry was open.
    async fn minted(&mut self, row: &Row, caller: Option<PrincipalId>, kind: Kind) -> String {
        let workload = issued_to(row);
        let key = format!(
            "{kind:?} {} {workload:?} {} {} {:?}",
            row.caller.kind,
            row.registry.role_mode,
            scopes(row),
            self.robot
        );
        if let Some(token) = self.minted.tokens.get(&key) {
            return token.clone();
        }
        self.settle(documents::of(&opened(row), caller)).await;
        let token = self.mint(row, workload, kind).await;
        self.minted.tokens.insert(key, token.clone());
        token
    }

    async fn mint(&mut self, row: &Row, workload: Option<Kept>, kind: Kind) -> String {
        let scope = scopes(row);
        let host = self.target.host();
        let query = format!("/oauth2/token?{}", form(&[("service", &host), ("scope", &scope)]));
        let by_password = match row.caller.kind.as_str() {
            "anonymous" => Some(None),
            "admin" => Some(Some(basic(&self.target.name()))),
            "token" => Some(Some(basic(TOKEN_NAME))),
            _ => None,
        };
        if let Some(authorization) = by_password {
            let ask =
                Outgoing { host, method: "GET", target: query, authorization, content_type: None, body: Vec::new() };
            return self.server.send(ask, at(Place::Internet)).await.field("access_token");
        }
        let mut peer = at(Place::Internet);
        let proof = self.proof(row, workload, &mut peer).await;
        let router = &self.server.routes.data_plane;
        let refresh = exchange(router, &host, &proof, &peer).await;
        if kind == Kind::Refresh { refresh } else { access(router, &host, &refresh, &scope, &peer).await }
    }

    /// The authority's token of the service principal, or of the workload's identity: the connection becomes the workload's.
    async fn proof(&mut self, row: &Row, workload: Option<Kept>, peer: &mut Peer) -> String {
        let Some(workload) = workload else {
            return authority_token(&self.server.routes, REGISTRY_AUDIENCE).await;
        };
        let leaf = self.leaf(workload);
        peer.certificate = presented(&self.server.identity, &leaf, self.server.now());
        let mut fields = vec![("resource", REGISTRY_AUDIENCE)];
        if row.caller.kind == "user" {
            fields.push(("mi_res_id", USER_IDENTITY));
        }
        let ask = post(AUTHORITY, MANAGED_TOKEN_PATH.to_owned(), &fields);
        send(&self.server.routes.authority, ask, peer.clone()).await.field("access_token")
    }

    /// Tokens of the service principal before the registry is deleted and created again.
    pub(super) async fn mint_for_replaced_registry(&mut self, sample: &Row) {
        let row = of_principal(sample);
        for kind in [Kind::Access, Kind::Refresh] {
            let token = self.mint(&row, None, kind).await;
            self.minted.tokens.insert(format!("{kind:?} replaced"), token);
        }
    }

    /// Credentials that do not hold, for the row's reason.
    async fn broken(&mut self, row: &Row) -> Credentials {
        let kind = if row.operation.kind == "issueToken" { Kind::Refresh } else { Kind::Access };
        let token = match row.caller.invalid.as_deref().unwrap_or_default() {
            "Malformed" => "not-a-token".to_owned(),
            "BadSignature" => self.forged(row, kind).await,
            "Expired" => {
                self.server.turn_clock(-LONG_AGO_SECONDS);
                let token = self.fresh(row, kind).await;
                self.server.turn_clock(LONG_AGO_SECONDS);
                token
            }
            "WrongAudience" => self.of_other_registry(kind).await,
            "WrongTenant" => self.of_other_tenant(row, kind).await,
            "WrongKind" => self.fresh(row, if kind == Kind::Access { Kind::Refresh } else { Kind::Access }).await,
            "RegistryReplaced" => self.minted.tokens.get(&format!("{kind:?} replaced")).cloned().unwrap_or_default(),
            "ModeChanged" => {
                let mut other = row.clone();
                let is_legacy = other.registry.role_mode.starts_with("Legacy");
                let mode = if is_legacy { "AbacRepositoryPermissions" } else { "LegacyRegistryPermissions" };
                mode.clone_into(&mut other.registry.role_mode);
                self.fresh(&other, kind).await
            }
            "ArmAudienceRefused" => {
                return Credentials::Authority(authority_token(&self.server.routes, ARM_AUDIENCE).await);
            }
            "UnknownCaller" => return Credentials::Password(basic(&Uuid::from_u128(0xdead).to_string())),
            // The admin user is off in this row.
            "Disabled" => return Credentials::Password(basic(&self.target.name())),
            "WrongPassword" => return Credentials::Password(encoded(&CLIENT_ID.to_string(), "wrong")),
            other => panic!("`{other}` is no reason for credentials not to hold"),
        };
        if kind == Kind::Refresh { Credentials::Refresh(token) } else { Credentials::Access(token) }
    }

    /// A token of the service principal, issued now.
    async fn fresh(&mut self, row: &Row, kind: Kind) -> String {
        let row = of_principal(row);
        self.settle(documents::of(&opened(&row), super::caller_of(&row))).await;
        self.mint(&row, None, kind).await
    }

    /// The claims of one token with the signature of another.
    async fn forged(&mut self, row: &Row, kind: Kind) -> String {
        let (one, other) = (self.fresh(row, kind).await, self.fresh(row, kind).await);
        let (claims, _) = one.rsplit_once('.').expect("a token has a signature");
        let (_, signature) = other.rsplit_once('.').expect("a token has a signature");
        format!("{claims}.{signature}")
    }

    async fn of_other_registry(&mut self, kind: Kind) -> String {
        let host = LOGIN_SERVER.replacen("example", "other", 1);
        let (router, peer) = (&self.server.routes.data_plane, at(Place::Internet));
        let proof = authority_token(&self.server.routes, REGISTRY_AUDIENCE).await;
        let refresh = exchange(router, &host, &proof, &peer).await;
        if kind == Kind::Refresh { refresh } else { access(router, &host, &refresh, "", &peer).await }
    }

    async fn of_other_tenant(&mut self, row: &Row, kind: Kind) -> String {
        self.settle(documents::of(&opened(row), None)).await;
        if self.minted.foreign.is_none() {
            self.minted.foreign = Some(self.server.of_tenant(OTHER_TENANT).await);
        }
        let routes = self.minted.foreign.clone().expect("it was made just now");
        let (router, peer) = (&routes.data_plane, at(Place::Internet));
        let proof = authority_token(&routes, REGISTRY_AUDIENCE).await;
        let host = self.target.host();
        let refresh = exchange(router, &host, &proof, &peer).await;
        if kind == Kind::Refresh { refresh } else { access(router, &host, &refresh, "", &peer).await }
    }
}

fn of_principal(row: &Row) -> Row {
    let mut row = row.clone();
    "principal".clone_into(&mut row.caller.kind);
    row
}

/// The workload that a managed identity's token is issued to.
fn issued_to(row: &Row) -> Option<Kept> {
    match (row.caller.kind.as_str(), row.caller.bound.as_deref()) {
        ("scanner", _) => Some(Kept { kind: WorkloadKind::Scanner, ..Kept::of(row) }),
        ("system" | "user", Some("other")) => Some(Kept::other()),
        ("system" | "user", _) => Some(Kept::of(row)),
        _ => None,
    }
}

/// A token of the service principal for an audience.
async fn authority_token(routes: &Routes, audience: &str) -> String {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &CLIENT_ID.to_string()),
        ("client_secret", PASSWORD),
        ("scope", &format!("{audience}/.default")),
    ];
    let ask = post(AUTHORITY, format!("/{}/oauth2/v2.0/token", routes.tenant), &fields);
    send(&routes.authority, ask, at(Place::Internet)).await.field("access_token")
}

async fn exchange(router: &Router, host: &str, proof: &str, peer: &Peer) -> String {
    let fields = [("grant_type", "access_token"), ("service", host), ("access_token", proof)];
    send(router, post(host, "/oauth2/exchange".to_owned(), &fields), peer.clone()).await.field("refresh_token")
}

async fn access(router: &Router, host: &str, refresh: &str, scope: &str, peer: &Peer) -> String {
    let fields = [("grant_type", "refresh_token"), ("service", host), ("scope", scope), ("refresh_token", refresh)];
    send(router, post(host, "/oauth2/token".to_owned(), &fields), peer.clone()).await.field("access_token")
}

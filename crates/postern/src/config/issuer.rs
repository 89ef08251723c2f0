//! `[[issuer]]`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use postern_estate::validate;
use postern_identity::TrustedIssuer;
use postern_model::{PrincipalId, Secret};
use postern_outbound::Outbound;
use serde::Deserialize;

use super::OutboundConfig;

/// Groups of an issuer that stand for groups of the directory.
const MAX_GROUPS: usize = 1000;

/// `[[issuer]]`: people sign in with this OpenID provider of theirs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    /// What people know it by, on the page and in users' names.
    pub(crate) name: String,
    /// Its URL, exactly as its tokens have it.
    pub(crate) url: String,
    /// What it calls this server.
    pub(crate) client_id: String,
    /// A file with what this server proves itself with there; without it, it is a public client.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// What is asked for.
    #[serde(default = "scopes")]
    pub(crate) scopes: Vec<String>,
    /// The claim with the name that a new user gets.
    #[serde(default = "user_claim")]
    pub(crate) user_claim: String,
    /// The claim with the names of a person's groups.
    pub(crate) groups_claim: Option<String>,
    /// The object ids of the directory's groups that they stand for, by their names at the issuer.
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, uuid::Uuid>,
    /// Whether whoever signs in the first time becomes a user.
    #[serde(default = "create_users")]
    pub(crate) create_users: bool,
    /// PEM file with authorities to trust for it beside the system's and those of `[outbound]`.
    pub(crate) ca_file: Option<PathBuf>,
}

fn scopes() -> Vec<String> {
    ["openid", "profile"].map(str::to_owned).into()
}

fn user_claim() -> String {
    "preferred_username".to_owned()
}

const fn create_users() -> bool {
    true
}

/// Every issuer by itself, and beside the others.
pub(super) fn check_all(issuers: &[IssuerConfig]) -> anyhow::Result<()> {
    for (at, issuer) in issuers.iter().enumerate() {
        issuer.check().with_context(|| format!("issuer `{}`", issuer.name))?;
        for other in issuers.iter().take(at) {
            ensure!(!issuer.name.eq_ignore_ascii_case(&other.name), "there are two issuers `{}`", issuer.name);
            ensure!(issuer.url != other.url, "issuers `{}` and `{}` have the same url", other.name, issuer.name);
        }
    }
    Ok(())
}

impl IssuerConfig {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=32).contains(&self.name.len())
                && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "an issuer's name is made of 1 to 32 letters, digits and hyphens"
        );
        ensure!(
            validate::is_issuer(&self.url),
            "`url` must be an https address without query, fragment and user, as the issuer's tokens have it"
        );
        ensure!(!self.client_id.is_empty(), "`client_id` must not be empty");
        let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(self.scopes.iter().all(is_scope), "a scope has no space");
        ensure!(self.scopes.iter().any(|scope| scope == "openid"), "`scopes` must name `openid`");
        ensure!(self.groups.is_empty() || self.groups_claim.is_some(), "`groups` need a `groups_claim`");
        ensure!(self.groups.len() <= MAX_GROUPS, "`groups` has more than {MAX_GROUPS} entries");
        Ok(())
    }

    /// The issuer, with a client of its own that asks it.
    pub(crate) fn issuer(
        &self,
        outbound: &OutboundConfig,
        own_listeners: Vec<SocketAddr>,
    ) -> anyhow::Result<TrustedIssuer> {
        let read = |file: &PathBuf| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let mut options = outbound.options(own_listeners)?;
        if let Some(file) = &self.ca_file {
            let known = options.ca_pem.get_or_insert_default();
            known.push(b'\n');
            known.extend(read(file)?);
        }
        let client_secret = self.client_secret_file.as_ref().map(|file| {
            let text = String::from_utf8(read(file)?).with_context(|| format!("{} is no text", file.display()))?;
            ensure!(!text.trim().is_empty(), "{} is empty", file.display());
            anyhow::Ok(Secret::new(text.trim()))
        });
        Ok(TrustedIssuer {
            name: self.name.clone(),
            url: self.url.clone(),
            client_id: self.client_id.clone(),
            client_secret: client_secret.transpose()?,
            scopes: self.scopes.clone(),
            user_claim: self.user_claim.clone(),
            groups_claim: self.groups_claim.clone(),
            groups: self.groups.iter().map(|(name, id)| (name.clone(), PrincipalId(*id))).collect(),
            create_users: self.create_users,
            outbound: Outbound::new(options)?,
        })
    }
}

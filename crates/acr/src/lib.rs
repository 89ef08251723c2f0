//! `acr`, the registry's own command line tool: `purge`, `tag`, `manifest`, `login`. It is a client like any other, of any registry
//! that speaks the repository API.
//!
//! ```text
//!  words ─▶ arguments ─▶ filters, age: all of it is understood, or nothing is done
//!                            │
//!  registry (HTTP) ─▶ what there is ─▶ plan (pure): which tags, which manifests, in which order ─▶ registry, lines of output
//! ```
//!
//! The same code is run by `postern acr …` and, as a step command, by whoever calls [`run`] with a registry and credentials of its own.
//! Flags, defaults and lines are those of the tool that people know; where it would take away what somebody still needs, this one does
//! not ([`plan`] says what that is).
//!
//! Source: Azure Container Registry command line tool, release 0.19; "Automatically purge images" (read 2026-11).
//!
//! **Invariants.** [`plan`], [`Filters`] and [`Age`] know no input and output. Nothing is deleted before every filter was understood.
//! A manifest is deleted only if none that stays lists it, is referred to by it, or goes with it.
//!
//! ```
//! let words = ["acr", "purge", "--filter", "hello-world:.*", "--ago", "1d", "--untagged", "--dry-run"];
//! assert!(postern_acr::Invocation::from_words(words).is_ok());
//! ```

mod ago;
mod arguments;
mod credentials;
mod filter;
mod inventory;
mod lists;
pub mod plan;
mod purge;
mod registry;

use std::path::PathBuf;
use std::sync::Arc;

use postern_model::{Clock, Secret};

pub use ago::{Age, AgeError};
pub use arguments::{
    AcrCommand, Invocation, LoginArguments, LogoutArguments, ManifestArguments, ManifestCommand, PurgeArguments,
    TagArguments, TagCommand,
};
pub use credentials::{CredentialError, Credentials};
pub use filter::{FilterError, Filters};
pub use registry::RegistryError;

use crate::registry::Registry;

/// Where registries are that are named without a domain.
pub const DEFAULT_SUFFIX: &str = ".azurecr.io";

/// Takes what a command prints, line by line.
pub trait Output: Send + Sync {
    /// One line, without its end. It holds no control characters.
    fn line(&self, text: &str);
}

/// What a command finds around it. Whoever runs it decides.
pub struct Surroundings {
    /// The client that requests go through: trust, name resolution and time limits are its. It must follow no redirects.
    pub http: reqwest::Client,
    /// Whether to speak HTTP instead of HTTPS.
    pub plain_http: bool,
    /// The registry where none is named.
    pub registry: Option<String>,
    /// What completes a name without a dot, beginning with one.
    pub suffix: String,
    /// Where neither the arguments nor the files have any.
    pub credentials: Option<Credentials>,
    /// docker's `config.json`, where none is named.
    pub config: Option<PathBuf>,
    /// The password of `--username`, where `--password` is not given.
    pub password: Option<Secret>,
    /// How many requests at once, unless told.
    pub concurrency: usize,
    /// The time that ages are counted from.
    pub clock: Arc<dyn Clock>,
    /// What `version` prints.
    pub version: String,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// `--ago`.
    #[error(transparent)]
    Age(#[from] AgeError),
    /// `--filter`.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// No login, or none that can be read.
    #[error("{0}")]
    Credentials(#[from] CredentialError),
    /// The registry refused, or could not be asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The same, with what was being done.
    #[error("{what}: {source}")]
    During {
        /// What was being done.
        what: &'static str,
        /// What happened.
        source: Box<Failure>,
    },
    /// The caller's rights end at a repository.
    #[error("{text}")]
    Permissions {
        /// Where they end, and what was done before and is left.
        text: String,
        /// The id of the decision.
        id: Option<String>,
    },
}

impl Failure {
    pub(crate) fn during(what: &'static str) -> impl Fn(Self) -> Self {
        move |source| Self::During { what, source: Box::new(source) }
    }

    /// The id of the decision that refused, if a registry said one.
    pub fn decision(&self) -> Option<&str> {
        match self {
            Self::Registry(RegistryError::Refused { id, .. }) | Self::Permissions { id, .. } => id.as_deref(),
            Self::During { source, .. } => source.decision(),
            Self::Registry(_) | Self::Usage(_) | Self::Age(_) | Self::Filter(_) | Self::Credentials(_) => None,
        }
    }

    /// The refusal, if it is the caller's rights that do not reach.
    fn lack_of_rights(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) => matches!(error.status(), Some(401 | 403)).then_some(error),
            Self::During { source, .. } => source.lack_of_rights(),
            Self::Usage(_) | Self::Age(_) | Self::Filter(_) | Self::Credentials(_) | Self::Permissions { .. } => None,
        }
    }
}

/// Runs a command.
pub async fn run(invocation: &Invocation, surroundings: &Surroundings, output: &dyn Output) -> Result<(), Failure> {
    match &invocation.command {
        AcrCommand::Purge(arguments) => {
            let job = purge::Job::new(arguments, surroundings)?;
            job.run(&open(invocation, surroundings)?, output).await
        }
        AcrCommand::Tag(arguments) => {
            lists::tags(
                &open(invocation, surroundings)?,
                required(arguments.repository.as_ref())?,
                &arguments.command,
                output,
            )
            .await
        }
        AcrCommand::Manifest(arguments) => {
            let repository = required(arguments.repository.as_ref())?;
            lists::manifests(&open(invocation, surroundings)?, repository, &arguments.command, output).await
        }
        AcrCommand::Login(arguments) => log_in(invocation, arguments, surroundings, output).await,
        AcrCommand::Logout(arguments) => Ok(credentials::erase(
            &written_file(invocation, surroundings)?,
            &login_server(&arguments.server, surroundings),
        )?),
        AcrCommand::Version => {
            output.line(&surroundings.version);
            Ok(())
        }
    }
}

fn required<T>(repository: Option<&T>) -> Result<&T, Failure> {
    repository.ok_or_else(|| Failure::Usage("required flag(s) \"repository\" not set".into()))
}

/// The registry that the arguments name, with the login that they, docker's files or the surroundings have for it.
fn open(invocation: &Invocation, surroundings: &Surroundings) -> Result<Registry, Failure> {
    let named = invocation.registry.as_ref().or(surroundings.registry.as_ref()).filter(|name| !name.is_empty());
    let named =
        named.ok_or_else(|| Failure::Usage("unable to determine registry name, please use --registry flag".into()))?;
    let login_server = login_server(named, surroundings);
    let password = || invocation.password.clone().or_else(|| surroundings.password.clone());
    let credentials = match (&invocation.username, password()) {
        (None, None) => {
            let default = surroundings.config.iter().filter(|_| invocation.config.is_empty());
            let found = credentials::find(invocation.config.iter().chain(default), &login_server)?;
            found.or_else(|| surroundings.credentials.clone()).ok_or(CredentialError::None)?
        }
        (_, None) => return Err(CredentialError::None.into()),
        (user, Some(password)) => Credentials::new(user.as_deref().unwrap_or_default(), password),
    };
    Ok(Registry::new(surroundings, login_server, credentials)?)
}

/// A name with a dot or a port is a login server.
fn login_server(named: &str, surroundings: &Surroundings) -> String {
    if named.contains(['.', ':']) {
        named.to_owned()
    } else {
        format!("{}{}", named.to_lowercase(), surroundings.suffix)
    }
}

fn written_file(invocation: &Invocation, surroundings: &Surroundings) -> Result<PathBuf, CredentialError> {
    invocation.config.first().or(surroundings.config.as_ref()).cloned().ok_or(CredentialError::NoFile)
}

async fn log_in(
    invocation: &Invocation,
    arguments: &LoginArguments,
    surroundings: &Surroundings,
    output: &dyn Output,
) -> Result<(), Failure> {
    let password = invocation.password.clone().or_else(|| surroundings.password.clone());
    let password = password.filter(|password| !password.expose().is_empty());
    let password = password.ok_or_else(|| Failure::Usage("password required".into()))?;
    let credentials = Credentials::new(invocation.username.as_deref().unwrap_or_default(), password);
    let server = login_server(&arguments.server, surroundings);
    let registry = Registry::new(surroundings, server.clone(), credentials.clone())?;
    registry.ping().await?;
    credentials::store(&written_file(invocation, surroundings)?, &server, &credentials)?;
    output.line("Login Succeeded");
    Ok(())
}

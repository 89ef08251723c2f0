//! `postern acr`: the registry's own command line tool, for registries of this server and any other.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use postern_acr::{AcrCommand, Credentials, DEFAULT_SUFFIX, Failure, Invocation, Output, Surroundings};
use postern_model::Secret;

use crate::bootstrap::Bootstrap;
use crate::client::{first_address, http_client};
use crate::{environment, runtime, say};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the next piece of an answer may be waited for.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest password on standard input: refresh tokens are long.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct AcrArguments {
    #[command(flatten)]
    invocation: Invocation,
    /// A Postern server's data folder, or its bootstrap.json: whom to trust, how its registries are named and reached, and its
    /// administrator's login where no other is given. Without it the registry is anybody's.
    #[arg(long, env = "POSTERN_SERVER", global = true, value_name = "PATH")]
    server: Option<PathBuf>,
    /// PEM file with a certificate authority to trust beside the system's.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak HTTP to a registry on this machine.
    #[arg(long, global = true)]
    plain_http: bool,
    #[command(flatten)]
    around: Around,
}

/// What is known from the environment.
#[derive(Debug, Args)]
struct Around {
    #[arg(long, env = "ACR_DEFAULT_REGISTRY", hide = true, global = true)]
    default_registry: Option<String>,
    #[arg(long, env = "ACR_PASSWORD", hide = true, hide_env_values = true, global = true, value_parser = secret)]
    default_password: Option<Secret>,
    #[arg(long, env = "DOCKER_CONFIG", hide = true, global = true)]
    docker_config: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true, global = true)]
    acr_home: Option<PathBuf>,
}

#[expect(clippy::unnecessary_wraps, reason = "the form that the parser wants")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

struct Terminal;

impl Output for Terminal {
    fn line(&self, text: &str) {
        say(text);
    }
}

pub(crate) fn run(mut arguments: AcrArguments) -> anyhow::Result<ExitCode> {
    if arguments.invocation.password_stdin {
        arguments.invocation.password = Some(read_password()?);
    } else if matches!(arguments.invocation.command, AcrCommand::Login(_)) && arguments.invocation.password.is_some() {
        warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let surroundings = surroundings(&arguments)?;
    match runtime()?.block_on(postern_acr::run(&arguments.invocation, &surroundings, &Terminal)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            warn(&format!("Error: {}", told(&failure)));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The error, and where to go from it.
fn told(failure: &Failure) -> String {
    match failure.decision() {
        Some(id) => format!("{failure}\n  Why, and what would allow it: postern explain {id}"),
        None => failure.to_string(),
    }
}

fn surroundings(arguments: &AcrArguments) -> anyhow::Result<Surroundings> {
    let bootstrap = arguments.server.as_deref().map(Bootstrap::read).transpose()?;
    let mut http = match &bootstrap {
        Some(bootstrap) => http_client(bootstrap)?.dns_resolver(Here::of(bootstrap)?),
        None => reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()),
    };
    if let Some(file) = &arguments.ca {
        http = http.tls_certs_merge(authorities(file)?);
    }
    let http = http.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
    let http = http.user_agent(concat!("postern-acr/", env!("CARGO_PKG_VERSION")));
    let around = &arguments.around;
    let home = around.acr_home.as_ref().map(|home| home.join(".docker"));
    let administrator = bootstrap.as_ref().map(|bootstrap| Credentials::Password {
        user: bootstrap.client_id.clone(),
        password: bootstrap.client_secret.clone(),
    });
    Ok(Surroundings {
        http: http.build()?,
        plain_http: arguments.plain_http,
        registry: around.default_registry.clone(),
        suffix: bootstrap.map_or_else(|| DEFAULT_SUFFIX.to_owned(), |bootstrap| bootstrap.registry_suffix),
        credentials: administrator,
        config: around.docker_config.clone().or(home).map(|folder| folder.join("config.json")),
        // Without a user it would be taken for a refresh token.
        password: around.default_password.clone().filter(|_| arguments.invocation.username.is_some()),
        concurrency: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        clock: environment::clock(),
        version: format!("Version: {}, Revision: postern", env!("CARGO_PKG_VERSION")),
    })
}

fn authorities(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem)?;
    ensure!(!found.is_empty(), "there is no certificate in {}", file.display());
    Ok(found)
}

fn read_password() -> anyhow::Result<Secret> {
    let mut text = String::new();
    std::io::stdin().take(MAX_PASSWORD_BYTES).read_to_string(&mut text).context("cannot read the password")?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// The server's names lead to it wherever this machine thinks they lead.
struct Here(std::net::SocketAddr);

impl Here {
    fn of(bootstrap: &Bootstrap) -> anyhow::Result<std::sync::Arc<Self>> {
        Ok(std::sync::Arc::new(Self(first_address(bootstrap)?)))
    }
}

impl reqwest::dns::Resolve for Here {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let address = std::net::SocketAddr::new(self.0.ip(), 0);
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs) })
    }
}

#[expect(clippy::print_stderr, reason = "what went wrong goes to the terminal, apart from the result")]
fn warn(line: &str) {
    eprintln!("{line}");
}

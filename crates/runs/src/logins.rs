//! Where a run logs in before its first step.
//!
//! Source: Azure Container Registry, "Cross-registry authentication in a task", "Task authentication with managed identities";
//! "Attribute-based access control: effects on tasks" (read 2026-11).

use postern_access::{RegistryRules, RoleAssignmentMode};
use postern_model::Secret;
use postern_store::Directory;
use postern_tasks::order::{Login, RegistryLogin};

use crate::RunsError;
use crate::request::{Credentials, CustomRegistry, SecretObject};

/// Where a run logs in, as far as it is settled when the run is asked for.
pub(crate) struct Logins {
    /// With what the service gives to runs of the registry itself.
    pub(crate) default: bool,
    /// To the registry itself as whoever asked for the run.
    pub(crate) as_caller: bool,
    /// Everywhere else, and to the registry itself where it is named.
    pub(crate) others: Vec<RegistryLogin>,
}

pub(crate) fn of(
    credentials: Option<&Credentials>,
    directory: &Directory,
    rules: &RegistryRules,
    is_quick: bool,
) -> Result<Logins, RunsError> {
    let own_server = with_port(directory, rules);
    let mut others = Vec::new();
    let custom = credentials.and_then(|credentials| credentials.custom_registries.as_ref());
    for (server, login) in custom.into_iter().flatten() {
        // `null` is how one is taken away.
        let Some(login) = login else { continue };
        let server = named(directory, server);
        others.push(RegistryLogin { login: custom_login(&server, login)?, server });
    }
    let names_itself = others.iter().any(|login| login.server.eq_ignore_ascii_case(&own_server));
    let own = credentials.and_then(|credentials| credentials.source_registry.as_ref());
    let mode = own.and_then(|own| own.login_mode.as_deref()).unwrap_or("Default");
    if !["default", "none"].contains(&mode.to_ascii_lowercase().as_str()) {
        return Err(RunsError::invalid("credentials.sourceRegistry.loginMode is not one of Default and None."));
    }
    let identity = own.and_then(|own| own.identity.as_deref()).filter(|identity| !identity.is_empty());
    let mut logins = Logins { default: false, as_caller: false, others };
    if names_itself {
        return Ok(logins);
    }
    match identity {
        Some(identity) if identity.eq_ignore_ascii_case("[caller]") => {
            if !is_quick {
                return Err(RunsError::invalid(
                    "The identity [caller] is for quick builds and quick runs: a task also runs when nobody calls.",
                ));
            }
            logins.as_caller = true;
        }
        Some(identity) => {
            let login = RegistryLogin { server: own_server, login: by_identity(identity)? };
            logins.others.insert(0, login);
        }
        None => {
            // With repository roles nothing is given by default; there the login mode means nothing.
            let is_legacy = rules.mode == RoleAssignmentMode::Legacy;
            logins.default = is_legacy && mode.eq_ignore_ascii_case("default");
        }
    }
    Ok(logins)
}

/// A registry of this server under its own name, with the port that it is reached at.
fn named(directory: &Directory, server: &str) -> String {
    let server = server.trim().to_ascii_lowercase();
    let known = directory.registry_by_host(&server).filter(|rules| server.starts_with(&*rules.login_server));
    known.map_or(server, |rules| with_port(directory, &rules))
}

pub(crate) fn with_port(directory: &Directory, rules: &RegistryRules) -> String {
    directory.with_estate(|estate| estate.login_server(&rules.id))
}

fn by_identity(identity: &str) -> Result<Login, RunsError> {
    if identity.eq_ignore_ascii_case("[system]") {
        return Ok(Login::Identity { client_id: None });
    }
    let client = uuid::Uuid::try_parse(identity).map_err(|_| {
        RunsError::invalid(
            "An identity of the credentials is neither [system] nor the client id of a managed identity.",
        )
    })?;
    Ok(Login::Identity { client_id: Some(client.to_string()) })
}

fn custom_login(server: &str, custom: &CustomRegistry) -> Result<Login, RunsError> {
    let given = |object: &Option<SecretObject>| {
        object.as_ref().is_some_and(|object| object.value.as_ref().is_some_and(|value| !value.is_empty()))
    };
    let identity = custom.identity.as_deref().filter(|identity| !identity.is_empty());
    if !given(&custom.user_name) && !given(&custom.password) {
        return match identity {
            Some(identity) => by_identity(identity),
            None => Ok(Login::Unavailable {
                reason: format!("the credentials for {server} have neither a user name and a password nor an identity"),
            }),
        };
    }
    let mut values = Vec::with_capacity(2);
    for (name, object) in [("user name", &custom.user_name), ("password", &custom.password)] {
        let object = object.as_ref();
        let value = object.and_then(|object| object.value.as_deref()).unwrap_or_default();
        let kind = object.and_then(|object| object.kind.as_deref()).unwrap_or("Opaque");
        if kind.eq_ignore_ascii_case("Vaultsecret") {
            return Ok(Login::Unavailable {
                reason: format!("the {name} for {server} is in a key vault ({value}), and this server reads none"),
            });
        }
        if !kind.eq_ignore_ascii_case("Opaque") {
            return Err(RunsError::invalid(format!(
                "The type of the {name} for {server} is not one of Opaque and Vaultsecret."
            )));
        }
        values.push(value.to_owned());
    }
    let mut values = values.into_iter();
    let (user, password) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
    Ok(Login::Password { user, password: Secret::new(password) })
}

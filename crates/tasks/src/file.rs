//! A task file after its templates are filled in.

pub(crate) mod fields;
mod step;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_model::Secret;
pub use step::{Line, Mount, Settings, Step};

use crate::file::fields::Fields;
use crate::place::TextError;
use crate::yaml::{self, Node};

/// How many steps a task may have.
pub const MAX_STEPS: usize = 256;
/// How many volumes, networks and secrets it may have, of each.
pub const MAX_PARTS: usize = 64;
/// How long an id or name may be, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// How long a step may take, in seconds, if neither it nor the task says so.
pub const DEFAULT_STEP_TIMEOUT: u32 = 600;
/// What steps run in if a task has no network of its own.
pub const DEFAULT_NETWORK: &str = "acb_default_network";

/// The version that the file is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `1.0-preview-1`
    Preview,
    /// `v1.0.0`
    V1_0,
    /// `v1.1.0`, the first with aliases.
    V1_1,
}

/// A task file.
#[derive(Clone, Debug)]
pub struct TaskFile {
    /// The version that it is written for.
    pub version: Version,
    /// What it takes from key vaults.
    pub secrets: Vec<VaultSecret>,
    /// Networks, the default one among them.
    pub networks: Vec<Network>,
    /// Files that steps get to see.
    pub volumes: Vec<Volume>,
    /// What is done; there is at least one.
    pub steps: Vec<Step>,
}

/// A secret in a key vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSecret {
    /// `{{.Secrets.<id>}}`
    pub id: String,
    /// The secret's URL.
    pub key_vault: String,
    /// The user-assigned identity that reads it; none for the system-assigned one.
    pub client_id: Option<String>,
}

/// A network that steps share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// `bridge`
    pub driver: String,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Whether it is there already.
    pub skip_creation: bool,
    /// Whether steps that name none are in it.
    pub is_default: bool,
}

/// Files that steps get to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Names of files and what is in them, in base64.
    pub files: Vec<(String, Secret)>,
}

impl TaskFile {
    /// Reads a file whose templates are filled in.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let Some(node) = yaml::parse(text)?.filter(|node| !node.is_null()) else {
            return Err(TextError::new("rendered template was empty"));
        };
        let task = Fields::of(&node, "a task")?;
        let version = version(task)?;
        let step_timeout = match u32::try_from(task.number("stepTimeout")?) {
            Ok(0) | Err(_) => DEFAULT_STEP_TIMEOUT,
            Ok(timeout) => timeout,
        };
        let secrets = each(task, "secrets", secret)?;
        let mut networks = each(task, "networks", network)?;
        if networks.is_empty() {
            networks.push(Network {
                name: DEFAULT_NETWORK.to_owned(),
                driver: "bridge".to_owned(),
                ipv6: false,
                skip_creation: false,
                is_default: true,
            });
        }
        let volumes = each(task, "volumes", volume)?;
        unique(task.node, "secret", secrets.iter().map(|secret| &secret.id))?;
        unique(task.node, "network", networks.iter().map(|network| &network.name))?;
        unique(task.node, "volume", volumes.iter().map(|volume| &volume.name))?;
        let defaults = step::Defaults {
            timeout: step_timeout,
            env: task.texts("env")?,
            working_directory: task.text("workingDirectory")?,
            network: networks.iter().rev().find(|network| network.is_default).map(|network| network.name.clone()),
            volumes: volumes.iter().map(|volume| volume.name.clone()).collect(),
        };
        let nodes = task.nodes("steps")?;
        if nodes.is_empty() {
            return Err(TextError::at(node.place, "the task has no steps"));
        }
        if nodes.len() > MAX_STEPS {
            return Err(TextError::at(node.place, format!("the task has more than {MAX_STEPS} steps")));
        }
        let steps = nodes.iter().enumerate().map(|(index, node)| Step::read(node, index, &defaults));
        Ok(Self { version, secrets, networks, volumes, steps: steps.collect::<Result<_, _>>()? })
    }
}

fn version(task: Fields<'_>) -> Result<Version, TextError> {
    let version = task.text("version")?;
    match version.to_ascii_lowercase().as_str() {
        "1.0-preview-1" => Ok(Version::Preview),
        "" | "v1.0.0" => Ok(Version::V1_0),
        "v1.1.0" => Ok(Version::V1_1),
        _ => Err(TextError::at(
            task.node.get("version").unwrap_or(task.node).place,
            format!("invalid version specified: {version:?}, the current version is \"v1.0.0\""),
        )),
    }
}

fn each<T>(task: Fields<'_>, key: &str, read: fn(Fields<'_>) -> Result<T, TextError>) -> Result<Vec<T>, TextError> {
    let nodes = task.nodes(key)?;
    if nodes.len() > MAX_PARTS {
        return Err(TextError::at(task.node.place, format!("the task has more than {MAX_PARTS} {key}")));
    }
    nodes.iter().map(|node| read(Fields::of(node, key)?)).collect()
}

fn unique<'a>(node: &Node, what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), TextError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(TextError::at(node.place, format!("duplicate {what} found with ID: {name}")));
        }
    }
    Ok(())
}

fn secret(fields: Fields<'_>) -> Result<VaultSecret, TextError> {
    let (id, key_vault) = (fields.text("id")?, fields.text("keyvault")?);
    if !is_name(&id) {
        return Err(TextError::at(fields.node.place, "secret is missing an ID of letters, digits, '_', '.' and '-'"));
    }
    if !key_vault.starts_with("https://") {
        return Err(TextError::at(
            fields.node.place,
            format!("failed to validate secret with ID: {id}: keyvault has to be the https URL of a secret"),
        ));
    }
    let client_id = fields.text("clientID")?;
    Ok(VaultSecret { id, key_vault, client_id: (!client_id.is_empty()).then_some(client_id) })
}

fn network(fields: Fields<'_>) -> Result<Network, TextError> {
    let name = fields.text("name")?;
    if !is_name(&name) {
        return Err(TextError::at(fields.node.place, "a network needs a name of letters, digits, '_', '.' and '-'"));
    }
    let driver = fields.text("driver")?;
    Ok(Network {
        name,
        driver: if driver.is_empty() { "bridge".to_owned() } else { driver },
        ipv6: fields.flag("ipv6")?,
        skip_creation: fields.flag("skipCreation")?,
        is_default: fields.flag("isDefault")?,
    })
}

fn volume(fields: Fields<'_>) -> Result<Volume, TextError> {
    let fail = |problem: String| TextError::at(fields.node.place, problem);
    let name = fields.text("name")?;
    let is_well_formed = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_well_formed {
        return Err(fail("volume name is not well formed. Only use alphanumeric and - _".to_owned()));
    }
    let pairs = fields.pairs("secret")?;
    if pairs.is_empty() {
        return Err(fail(format!("volume {name}: secret is empty")));
    }
    let mut files = Vec::with_capacity(pairs.len());
    for (file, content) in pairs {
        if !is_name(&file) {
            return Err(fail(format!("volume {name}: {file:?} is no name for a file")));
        }
        if STANDARD.decode(&content).is_err() {
            return Err(fail(format!("volume {name}: the value of {file} is not base64")));
        }
        files.push((file, Secret::new(content)));
    }
    Ok(Volume { name, files })
}

/// What containers, networks and files may be called: it leads nowhere else.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

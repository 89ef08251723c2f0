//! What a request for a run says, and a task of the steps it takes.
//!
//! Source: Microsoft.ContainerRegistry 2019-06-01-preview, Registries, Schedule Run; Tasks, Create (read 2026-11).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_estate::Document;
use postern_model::Secret;
use postern_tasks::order::{Argument, DockerWork, Source, Work};
use serde::Deserialize;
use serde_json::Value;

use crate::RunsError;

/// How long a run may take, in seconds.
const TIMEOUTS: std::ops::RangeInclusive<i64> = 300..=28_800;
const DEFAULT_TIMEOUT: i64 = 3600;
const DEFAULT_CPU: u32 = 2;
const MAX_CPU: u32 = 64;
/// Most arguments, values, image names and registries of a request.
const MAX_ENTRIES: usize = 500;
/// Largest task file.
const MAX_TASK_BYTES: usize = 1 << 20;
/// Longest location of files.
const MAX_LOCATION_BYTES: usize = 4096;

/// What every kind of request has, and every task.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Common {
    pub(crate) agent_pool_name: Option<String>,
    pub(crate) is_archive_enabled: Option<bool>,
    pub(crate) log_template: Option<String>,
    timeout: Option<i64>,
    platform: Option<Platform>,
    agent_configuration: Option<AgentConfiguration>,
    pub(crate) credentials: Option<Credentials>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AgentConfiguration {
    cpu: Option<u32>,
}

/// Where a run logs in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credentials {
    pub(crate) source_registry: Option<SourceRegistry>,
    pub(crate) custom_registries: Option<BTreeMap<String, Option<CustomRegistry>>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceRegistry {
    pub(crate) login_mode: Option<String>,
    pub(crate) identity: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CustomRegistry {
    pub(crate) user_name: Option<SecretObject>,
    pub(crate) password: Option<SecretObject>,
    pub(crate) identity: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SecretObject {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) value: Option<String>,
}

/// What is done, in a request or in a task.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    image_names: Option<Vec<String>>,
    is_push_enabled: Option<bool>,
    no_cache: Option<bool>,
    docker_file_path: Option<String>,
    target: Option<String>,
    arguments: Option<Vec<Given>>,
    task_file_path: Option<String>,
    values_file_path: Option<String>,
    encoded_task_content: Option<String>,
    encoded_values_content: Option<String>,
    values: Option<Vec<Given>>,
    source_location: Option<String>,
    context_path: Option<String>,
    context_access_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    name: String,
    value: Option<Value>,
    is_secret: Option<bool>,
}

/// What a request changes of its task for once.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overrides {
    context_path: Option<String>,
    file: Option<String>,
    arguments: Option<Vec<Given>>,
    target: Option<String>,
    values: Option<Vec<Given>>,
    pub(crate) update_trigger_token: Option<String>,
}

/// What a run is to do, settled.
pub(crate) struct Asked {
    pub(crate) common: Common,
    pub(crate) timeout_seconds: u32,
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
    pub(crate) cpu: u32,
    pub(crate) source: From,
    pub(crate) work: Work,
}

/// Where its files come from.
pub(crate) enum From {
    /// As it says.
    Source(Source),
    /// What was uploaded under this name.
    Uploaded(String),
}

/// Where uploads are found, relative to their registry.
pub(crate) const UPLOADS: &str = "source/";
/// What clients put behind the name of an upload.
pub(crate) const UPLOAD_SUFFIX: &str = ".tar.gz";

/// A request that brings its own step.
pub(crate) fn quick(kind: &str, body: &Document) -> Result<Asked, RunsError> {
    let step: Step = read(&Value::Object(body.clone()))?;
    let work = match kind.to_ascii_lowercase().as_str() {
        "dockerbuildrequest" => docker(&step)?,
        "filetaskrunrequest" => file(&step)?,
        "encodedtaskrunrequest" => encoded(&step)?,
        _ => return Err(unknown_kind("type", kind)),
    };
    let source = source(step.source_location.as_deref(), step.context_access_token)?;
    settle(read(&Value::Object(body.clone()))?, source, work)
}

/// A task, as a request overrides it.
pub(crate) fn of_task(properties: &Document, overrides: Option<&Value>) -> Result<(Asked, Overrides), RunsError> {
    let mut overrides: Overrides =
        overrides.filter(|value| !value.is_null()).map(read).transpose()?.unwrap_or_default();
    let body = properties.get("step").filter(|step| step.is_object());
    let body = body.ok_or_else(|| RunsError::invalid("The task has no step."))?;
    let mut step: Step = read(body)?;
    let context = overrides.context_path.take().filter(|path| !path.is_empty());
    if let Some(context) = context {
        // What a private repository asks for is for that one alone.
        if step.context_path.as_ref() != Some(&context) {
            step.context_access_token = None;
        }
        step.context_path = Some(context);
    }
    step.target = overrides.target.take().filter(|target| !target.is_empty()).or(step.target);
    override_by_name(&mut step.arguments, overrides.arguments.take());
    override_by_name(&mut step.values, overrides.values.take());
    let file_override = overrides.file.take().filter(|file| !file.is_empty());
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    let work = match kind.to_ascii_lowercase().as_str() {
        "docker" => {
            step.docker_file_path = file_override.or(step.docker_file_path);
            docker(&step)?
        }
        "filetask" => {
            step.task_file_path = file_override.or(step.task_file_path);
            file(&step)?
        }
        "encodedtask" => encoded(&step)?,
        _ => return Err(unknown_kind("step.type", kind)),
    };
    let source = source(step.context_path.as_deref(), step.context_access_token)?;
    let asked = settle(read(&Value::Object(properties.clone()))?, source, work)?;
    Ok((asked, overrides))
}

fn settle(common: Common, source: From, work: Work) -> Result<Asked, RunsError> {
    let timeout = common.timeout.unwrap_or(DEFAULT_TIMEOUT);
    if !TIMEOUTS.contains(&timeout) {
        return Err(RunsError::invalid(format!(
            "The timeout of {timeout} seconds is not between {} and {}.",
            TIMEOUTS.start(),
            TIMEOUTS.end()
        )));
    }
    let platform = common.platform.as_ref();
    let text = |pick: fn(&Platform) -> &Option<String>| {
        platform.and_then(|platform| pick(platform).as_deref()).filter(|text| !text.is_empty())
    };
    let os = text(|platform| &platform.os).unwrap_or("linux").to_ascii_lowercase();
    if os != "linux" {
        return Err(RunsError::invalid(format!(
            "The platform's os is '{}': workers of this server run Linux alone.",
            shown(&os)
        )));
    }
    let architecture = text(|platform| &platform.architecture).unwrap_or("amd64").to_ascii_lowercase();
    if !["amd64", "x86", "386", "arm", "arm64"].contains(&architecture.as_str()) {
        return Err(RunsError::invalid(format!(
            "The platform's architecture '{}' is not one of amd64, x86, 386, arm and arm64.",
            shown(&architecture)
        )));
    }
    let variant = text(|platform| &platform.variant).map(str::to_ascii_lowercase);
    if variant.as_ref().is_some_and(|variant| !["v6", "v7", "v8"].contains(&variant.as_str())) {
        return Err(RunsError::invalid("The platform's variant is not one of v6, v7 and v8."));
    }
    let cpu = common.agent_configuration.as_ref().and_then(|configuration| configuration.cpu).unwrap_or(DEFAULT_CPU);
    if !(1..=MAX_CPU).contains(&cpu) {
        return Err(RunsError::invalid(format!("agentConfiguration.cpu is not between 1 and {MAX_CPU}.")));
    }
    let registries = common.credentials.as_ref().and_then(|credentials| credentials.custom_registries.as_ref());
    if registries.is_some_and(|registries| registries.len() > MAX_ENTRIES) {
        return Err(too_many("credentials.customRegistries"));
    }
    let timeout_seconds = u32::try_from(timeout).unwrap_or(u32::MAX);
    Ok(Asked { common, timeout_seconds, os, architecture, variant, cpu, source, work })
}

fn docker(step: &Step) -> Result<Work, RunsError> {
    let image_names = step.image_names.clone().unwrap_or_default();
    if image_names.len() > MAX_ENTRIES {
        return Err(too_many("imageNames"));
    }
    Ok(Work::Docker(DockerWork {
        push: step.is_push_enabled.unwrap_or(true) && !image_names.is_empty(),
        image_names,
        no_cache: step.no_cache.unwrap_or(false),
        dockerfile: required(step.docker_file_path.as_ref(), "dockerFilePath")?,
        target: step.target.clone(),
        arguments: arguments(step.arguments.as_ref(), "arguments")?,
    }))
}

fn file(step: &Step) -> Result<Work, RunsError> {
    Ok(Work::File {
        task_file: required(step.task_file_path.as_ref(), "taskFilePath")?,
        values_file: step.values_file_path.clone().filter(|path| !path.is_empty()),
        values: arguments(step.values.as_ref(), "values")?,
    })
}

fn encoded(step: &Step) -> Result<Work, RunsError> {
    let content = required(step.encoded_task_content.as_ref(), "encodedTaskContent")?;
    let values = step.encoded_values_content.as_ref().filter(|text| !text.is_empty());
    Ok(Work::Encoded {
        task: decoded(&content, "encodedTaskContent")?,
        values_content: values.map(|text| decoded(text, "encodedValuesContent")).transpose()?,
        values: arguments(step.values.as_ref(), "values")?,
    })
}

fn decoded(text: &str, name: &str) -> Result<String, RunsError> {
    let invalid = || RunsError::invalid(format!("{name} is not UTF-8 text in base64."));
    if text.len() / 4 * 3 > MAX_TASK_BYTES {
        return Err(RunsError::invalid(format!("{name} is larger than 1 MiB.")));
    }
    let compact: String = text.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(compact).map_err(|_| invalid())?;
    String::from_utf8(bytes).map_err(|_| invalid())
}

fn arguments(given: Option<&Vec<Given>>, name: &str) -> Result<Vec<Argument>, RunsError> {
    let given = given.map(Vec::as_slice).unwrap_or_default();
    if given.len() > MAX_ENTRIES {
        return Err(too_many(name));
    }
    let read = |given: &Given| {
        let value = match &given.value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        Argument { name: given.name.clone(), value: Secret::new(value), is_secret: given.is_secret.unwrap_or(false) }
    };
    Ok(given.iter().map(read).collect())
}

fn override_by_name(own: &mut Option<Vec<Given>>, given: Option<Vec<Given>>) {
    let Some(given) = given else { return };
    let own = own.get_or_insert_default();
    for one in given {
        own.retain(|known| known.name != one.name);
        own.push(one);
    }
}

fn source(location: Option<&str>, access_token: Option<String>) -> Result<From, RunsError> {
    let location = location.map(str::trim).unwrap_or_default();
    if location.len() > MAX_LOCATION_BYTES {
        return Err(RunsError::invalid("The location of the source is too long."));
    }
    if location.is_empty() || location.eq_ignore_ascii_case("/dev/null") {
        return Ok(From::Source(Source::None));
    }
    if let Some(name) = location.strip_prefix(UPLOADS).and_then(|name| name.strip_suffix(UPLOAD_SUFFIX)) {
        return Ok(From::Uploaded(name.to_owned()));
    }
    let access_token = access_token.filter(|token| !token.is_empty()).map(Secret::new);
    Ok(From::Source(Source::Remote { location: location.to_owned(), access_token }))
}

fn required(value: Option<&String>, name: &str) -> Result<String, RunsError> {
    let value = value.filter(|value| !value.trim().is_empty());
    value.cloned().ok_or_else(|| RunsError::invalid(format!("The property '{name}' is required.")))
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, RunsError> {
    T::deserialize(value).map_err(|error| RunsError::invalid(format!("The request cannot be read: {error}.")))
}

fn too_many(name: &str) -> RunsError {
    RunsError::invalid(format!("{name} has more than {MAX_ENTRIES} entries."))
}

fn unknown_kind(name: &str, kind: &str) -> RunsError {
    RunsError::invalid(format!("The {name} '{}' is not known.", shown(kind)))
}

pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

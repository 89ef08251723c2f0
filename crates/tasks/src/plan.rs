//! What a worker carries out: an order, with its texts read and filled in.
//!
//! ```text
//!  order + task file ─ needs() ─▶ files and secrets to fetch
//!  order + task file + what was fetched ─ plan() ─▶ Plan
//! ```

#[cfg(test)]
mod tests;
mod values;

use postern_model::{Secret, Timestamp};

use crate::alias::{self, Aliases};
use crate::build::{Build, BuildError};
use crate::file::{Line, Network, Settings, Step, TaskFile, VaultSecret, Version, Volume};
use crate::graph::{GraphError, Steps, When};
use crate::order::{DockerWork, Login, RunOrder, Source, Work};
use crate::place::{Place, TextError};
use crate::template::{self, Value};
use crate::words::{self, WordsError};

/// How long building may take in a quick build, in seconds; the run's own limit comes first.
const QUICK_BUILD_TIMEOUT: u32 = 28_800;
/// How long pushing may take in a quick build, in seconds.
const QUICK_PUSH_TIMEOUT: u32 = 3600;
/// Shorter pieces of secrets are not masked: they would black out words that are none.
const MIN_MASK_BYTES: usize = 4;

/// What is known of a run besides its order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The task file, where the order names one among the run's files.
    pub task: Option<&'a str>,
    /// The values file, likewise.
    pub values: Option<&'a str>,
    /// The sources of aliases by their names.
    pub aliases: &'a [(String, String)],
    /// Secrets from vaults by their ids.
    pub secrets: &'a [(String, Secret)],
    /// `{{.Run.SharedVolume}}`
    pub shared_volume: &'a str,
    /// `{{.Run.OSVersion}}`
    pub os_version: &'a str,
    /// `{{.Run.Commit}}`
    pub commit: &'a str,
    /// `{{.Run.Branch}}`
    pub branch: &'a str,
    /// `{{.Run.GitTag}}`
    pub git_tag: &'a str,
    /// `{{.Run.Repository}}`
    pub repository: &'a str,
}

/// What has to be fetched before a plan can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files or URLs that aliases come from. With any of these the secrets are known only afterwards: ask again.
    pub alias_sources: Vec<String>,
    /// Secrets in vaults.
    pub secrets: Vec<VaultSecret>,
}

/// What is carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether the log says that there are aliases.
    pub has_aliases: bool,
    /// Networks to make; a quick build has none.
    pub networks: Vec<Network>,
    /// Files that steps get to see.
    pub volumes: Vec<Volume>,
    /// The steps.
    pub steps: Vec<PlannedStep>,
    /// Which can start when.
    pub order: Steps,
    /// What may not be seen in the log.
    pub masks: Vec<Secret>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// Its name, also of its container.
    pub id: String,
    /// What it does.
    pub action: StepAction,
    /// How.
    pub settings: Settings,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepAction {
    /// Builds an image.
    Build(Build),
    /// Pushes images, each once.
    Push(Vec<String>),
    /// Runs a container: its image, then what it is given.
    Cmd(Vec<String>),
}

/// Why there is nothing that could be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The order names a file that was not given.
    #[error("the {0} is not among the files")]
    Missing(&'static str),
    /// The values file is none.
    #[error("values file: {0}")]
    Values(TextError),
    /// The aliases are not as they should be.
    #[error("alias: {0}")]
    Aliases(TextError),
    /// A template is none, or fails.
    #[error("failed to render the task: {0}")]
    Template(TextError),
    /// What came of it is no task.
    #[error("failed to read the task: {0}")]
    File(TextError),
    /// The steps are in no order.
    #[error("failed to order the steps: {0}")]
    Order(#[from] GraphError),
    /// A build step is none.
    #[error("step {id}: {error}")]
    Build {
        /// The step.
        id: String,
        /// Why.
        error: BuildError,
    },
    /// A command is none.
    #[error("step {id}: {error}")]
    Words {
        /// The step.
        id: String,
        /// Why.
        error: WordsError,
    },
    /// A command has no image.
    #[error("step {0}: a command begins with the image that it runs")]
    NoImage(String),
    /// Any of these, which would have told a secret.
    #[error("{0}")]
    Masked(String),
    /// The name of an image to build is none.
    #[error("image name {name:?}: {error}")]
    ImageName {
        /// As it was given.
        name: String,
        /// Why.
        error: TextError,
    },
}

/// What has to be fetched: the run's files are there already.
pub fn needs(order: &RunOrder, inputs: &Inputs<'_>) -> Result<Needs, PlanError> {
    let Some(text) = task_text(order, inputs)? else { return Ok(Needs::default()) };
    let run = values::run(order, inputs);
    let parts = alias::separate(text);
    let mut aliases = read_aliases(&parts, &run, order)?;
    let missing: Vec<String> = (aliases.sources.iter())
        .filter(|name| inputs.aliases.iter().all(|(known, _)| known != *name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Ok(Needs { alias_sources: missing, secrets: Vec::new() });
    }
    // As the runner does it: the file without its secrets says which ones there are.
    if !text.contains("secrets") {
        return Ok(Needs::default());
    }
    let empty: Vec<(String, Secret)> = secret_names(text).map(|name| (name, Secret::new(""))).collect();
    let without = Inputs { secrets: &empty, ..*inputs };
    let (task, _) = render(&parts, &mut aliases, order, &without)?;
    Ok(Needs { alias_sources: Vec::new(), secrets: task.secrets })
}

/// What stands behind `.Secrets.` anywhere.
fn secret_names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(".Secrets.")
        .skip(1)
        .map(|rest| rest.chars().take_while(|next| next.is_alphanumeric() || *next == '_').collect())
}

/// Makes the plan. What goes wrong is said without the run's secrets.
pub fn plan(order: &RunOrder, inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    make(order, inputs).map_err(|error| {
        let text = error.to_string();
        let masked = masked(&text, &secrets_of(order, inputs));
        if masked == text { error } else { PlanError::Masked(masked) }
    })
}

/// A text with stars where secrets were.
fn masked(text: &str, secrets: &[Secret]) -> String {
    let long = secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= MIN_MASK_BYTES);
    long.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

fn make(order: &RunOrder, inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let mut plan = match (&order.work, task_text(order, inputs)?) {
        (Work::Docker(work), _) => quick_build(work, order, inputs)?,
        (_, Some(text)) => from_file(text, order, inputs)?,
        (_, None) => return Err(PlanError::Missing("task file")),
    };
    plan.masks.extend(secrets_of(order, inputs));
    plan.masks.retain(|mask| mask.expose().len() >= MIN_MASK_BYTES);
    Ok(plan)
}

/// What can be known of a task file before anything runs: its templates, and without any its steps too.
pub fn check(text: &str) -> Result<(), PlanError> {
    let parts = alias::separate(text);
    template::check(&parts.aliases).map_err(PlanError::Aliases)?;
    template::check(&parts.rest).map_err(|error| PlanError::Template(of_file(error, &parts)))?;
    if text.contains("{{") {
        return Ok(());
    }
    let mut aliases = Aliases::parse(&parts.aliases).map_err(PlanError::Aliases)?;
    if !aliases.sources.is_empty() {
        return Ok(());
    }
    aliases.complete(&[]).map_err(PlanError::Aliases)?;
    // With its aliases the text has templates again, which stand for something that is text.
    let task = TaskFile::parse(&parts.rest).map_err(|error| PlanError::File(of_file(error, &parts)))?;
    Steps::new(task.steps.iter().map(|step| (step.id.as_str(), &step.when)))?;
    Ok(())
}

fn task_text<'a>(order: &'a RunOrder, inputs: &Inputs<'a>) -> Result<Option<&'a str>, PlanError> {
    match &order.work {
        Work::Docker(_) => Ok(None),
        Work::File { .. } => inputs.task.ok_or(PlanError::Missing("task file")).map(Some),
        Work::Encoded { task, .. } => Ok(Some(task)),
    }
}

fn created(order: &RunOrder) -> Timestamp {
    Timestamp::from_unix_seconds(order.created)
}

fn read_aliases(parts: &alias::Parts, run: &Value, order: &RunOrder) -> Result<Aliases, PlanError> {
    let data = Value::map([("Run", run.clone()), ("Build", values::build(order))]);
    let text = template::render(&parts.aliases, &data, created(order)).map_err(PlanError::Aliases)?.text;
    Aliases::parse(&text).map_err(PlanError::Aliases)
}

/// The file with all its templates filled in, and what of it is secret.
fn render(
    parts: &alias::Parts,
    aliases: &mut Aliases,
    order: &RunOrder,
    inputs: &Inputs<'_>,
) -> Result<(TaskFile, Vec<Secret>), PlanError> {
    let replaced = if parts.has_aliases {
        aliases.complete(inputs.aliases).map_err(PlanError::Aliases)?;
        aliases.replace(&parts.rest).map_err(PlanError::Aliases)?
    } else {
        parts.rest.clone()
    };
    let data = values::all(order, inputs)?;
    let rendered = template::render(&replaced, &data, created(order))
        .map_err(|error| PlanError::Template(of_file(error, parts)))?;
    let task = TaskFile::parse(&rendered.text).map_err(|error| {
        let error = TextError { problem: masked(&error.problem, &rendered.secrets), ..error };
        PlanError::File(if rendered.text.lines().count() == parts.lines.len() {
            of_file(error, parts)
        } else {
            TextError::new(format!("as its templates make it: {error}"))
        })
    })?;
    Ok((task, rendered.secrets))
}

/// The line in the file as it was given.
fn of_file(error: TextError, parts: &alias::Parts) -> TextError {
    let line = error.place.and_then(|place| parts.lines.get(place.line.saturating_sub(1)).copied());
    match (error.place, line) {
        (Some(place), Some(line)) => TextError { place: Some(Place { line, ..place }), ..error },
        _ => error,
    }
}

fn from_file(text: &str, order: &RunOrder, inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let parts = alias::separate(text);
    let mut aliases = read_aliases(&parts, &values::run(order, inputs), order)?;
    let (task, masks) = render(&parts, &mut aliases, order, inputs)?;
    let graph = Steps::new(task.steps.iter().map(|step| (step.id.as_str(), &step.when)))?;
    let knows_aliases = parts.has_aliases && task.version >= Version::V1_1;
    let steps = task
        .steps
        .into_iter()
        .map(|Step { id, line, settings, .. }| {
            let action = match line {
                Line::Build(line) => {
                    StepAction::Build(Build::parse(&line).map_err(|error| PlanError::Build { id: id.clone(), error })?)
                }
                Line::Push(images) => StepAction::Push(each_once(images)),
                Line::Cmd(line) => {
                    let line = if knows_aliases { aliases.expand(&line) } else { line };
                    let words = words::split(&line).map_err(|error| PlanError::Words { id: id.clone(), error })?;
                    if words.first().is_none_or(|image| image.is_empty() || image.starts_with('-')) {
                        return Err(PlanError::NoImage(id));
                    }
                    StepAction::Cmd(words)
                }
            };
            Ok(PlannedStep { id, action, settings })
        })
        .collect::<Result<_, _>>()?;
    Ok(Plan {
        has_aliases: parts.has_aliases,
        networks: task.networks,
        volumes: task.volumes,
        steps,
        order: graph,
        masks,
    })
}

fn quick_build(work: &DockerWork, order: &RunOrder, inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let data = Value::map([("Run", values::run(order, inputs)), ("Build", values::build(order))]);
    let mut tags = Vec::new();
    for name in &work.image_names {
        let fail = |error| PlanError::ImageName { name: name.clone(), error };
        let image = template::render(name, &data, created(order)).map_err(fail)?.text;
        if image.is_empty() || image.contains(char::is_whitespace) {
            return Err(fail(TextError::new("it is empty or has a gap in it")));
        }
        tags.push(in_registry(&image, &order.registry));
    }
    let build = Build {
        tags: tags.clone(),
        dockerfile: Some(work.dockerfile.clone()).filter(|path| !path.is_empty()),
        context: ".".to_owned(),
        target: work.target.clone().filter(|target| !target.is_empty()),
        arguments: work.arguments.iter().map(|one| format!("{}={}", one.name, one.value.expose())).collect(),
        no_cache: work.no_cache,
        platform: None,
        ..Build::default()
    };
    let step = |id: &str, action, timeout| PlannedStep {
        id: id.to_owned(),
        action,
        settings: Settings { timeout, ..Settings::default() },
    };
    let mut steps = vec![step("build", StepAction::Build(build), QUICK_BUILD_TIMEOUT)];
    if work.push && !tags.is_empty() {
        steps.push(step("push", StepAction::Push(each_once(tags)), QUICK_PUSH_TIMEOUT));
    }
    Ok(Plan {
        has_aliases: false,
        networks: Vec::new(),
        volumes: Vec::new(),
        order: Steps::new(steps.iter().map(|step| (step.id.as_str(), &When::Previous)))?,
        steps,
        masks: Vec::new(),
    })
}

/// The name of an image in the run's registry. A quick build's images are all there, whatever host they name.
fn in_registry(image: &str, registry: &str) -> String {
    match image.strip_prefix(registry) {
        Some(rest) if rest.starts_with('/') => image.to_owned(),
        _ => format!("{registry}/{image}"),
    }
}

fn each_once(images: Vec<String>) -> Vec<String> {
    let mut each: Vec<String> = Vec::with_capacity(images.len());
    for image in images {
        let image = with_tag(image);
        if !each.contains(&image) {
            each.push(image);
        }
    }
    each
}

/// `latest`, if there is neither tag nor digest.
fn with_tag(image: String) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains([':', '@']) { image } else { format!("{image}:latest") }
}

fn secrets_of(order: &RunOrder, inputs: &Inputs<'_>) -> Vec<Secret> {
    let arguments = match &order.work {
        Work::Docker(work) => &work.arguments,
        Work::File { values, .. } | Work::Encoded { values, .. } => values,
    };
    let mut secrets: Vec<Secret> = arguments.iter().filter(|one| one.is_secret).map(|one| one.value.clone()).collect();
    secrets.extend(inputs.secrets.iter().map(|(_, secret)| secret.clone()));
    if let Source::Remote { access_token: Some(token), .. } = &order.source {
        secrets.push(token.clone());
    }
    secrets.extend(order.logins.iter().filter_map(|login| match &login.login {
        Login::Token { token } => Some(token.clone()),
        Login::Password { password, .. } => Some(password.clone()),
        Login::Identity { .. } | Login::Unavailable { .. } => None,
    }));
    secrets
}

use super::fields::Fields;
use super::is_name;
use crate::graph::When;
use crate::place::{Place, TextError};
use crate::yaml::Node;

/// How long the runner waits before it tries a step again, in seconds, unless the step says otherwise.
const DEFAULT_RETRY_DELAY: u32 = 5;

/// A step of a task file.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name, also of its container.
    pub id: String,
    /// What it waits for.
    pub when: When,
    /// What it does.
    pub line: Line,
    /// How.
    pub settings: Settings,
    /// Where it stands in the file.
    pub place: Place,
}

/// What a step does, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `docker build` with this.
    Build(String),
    /// Images to push.
    Push(Vec<String>),
    /// `docker run` with this.
    Cmd(String),
}

/// How a step is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long it may take, in seconds.
    pub timeout: u32,
    /// How long it waits before it begins, in seconds.
    pub start_delay: u32,
    /// How often it is tried again when it fails.
    pub retries: u32,
    /// How long it waits before that, in seconds.
    pub retry_delay: u32,
    /// Only if its output matches one of these.
    pub retry_on_errors: Vec<String>,
    /// How often it is done again when it succeeded.
    pub repeat: u32,
    /// How often its image is fetched again when that fails.
    pub download_retries: u32,
    /// How long to wait before that, in seconds.
    pub download_retry_delay: u32,
    /// `NAME=value`, the task's too.
    pub env: Vec<String>,
    /// Ports that other steps reach.
    pub expose: Vec<String>,
    /// Ports that the host has.
    pub ports: Vec<String>,
    /// Volumes in its container.
    pub mounts: Vec<Mount>,
    /// Whether it goes on in the background.
    pub detach: bool,
    /// Whether its container stays when it has ended.
    pub keep: bool,
    /// Whether its container may do everything.
    pub privileged: bool,
    /// Whether it counts as successful even if it fails.
    pub ignore_errors: bool,
    /// Whether its image is fetched even if it is there.
    pub pull: bool,
    /// Whether it begins in the image's own folder.
    pub keeps_image_directory: bool,
    /// Instead of the image's.
    pub entry_point: Option<String>,
    /// Whom its container runs as.
    pub user: Option<String>,
    /// The network that it is in.
    pub network: Option<String>,
    /// `default` and so on.
    pub isolation: Option<String>,
    /// How many processors it gets.
    pub cpus: Option<String>,
    /// The folder that it begins in.
    pub working_directory: Option<String>,
    /// Whether layers are kept in the registry.
    pub cache: bool,
    /// The only ends that are no failures, if there are any.
    pub exited_with: Vec<i64>,
    /// Ends that are failures even if the above allows them.
    pub exited_without: Vec<i64>,
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub name: String,
    /// Where it is.
    pub path: String,
}

/// What the task says for all its steps.
pub(super) struct Defaults {
    pub(super) timeout: u32,
    pub(super) env: Vec<String>,
    pub(super) working_directory: String,
    pub(super) network: Option<String>,
    pub(super) volumes: Vec<String>,
}

impl Step {
    pub(super) fn read(node: &Node, index: usize, defaults: &Defaults) -> Result<Self, TextError> {
        let fields = Fields::of(node, "a step")?;
        let fail = |problem: String| TextError::at(node.place, problem);
        let id = match fields.text("id")? {
            id if id.is_empty() => format!("acb_step_{index}"),
            id if id.contains(char::is_whitespace) => return Err(fail("step ID cannot contain spaces".to_owned())),
            id if !is_name(&id) => {
                return Err(fail(format!(
                    "step ID {id:?} may only have letters, digits, '_', '.' and '-', at most {} of them",
                    super::MAX_NAME_BYTES
                )));
            }
            id => id,
        };
        let line = line(fields)?;
        let when = When::parse(&id, &fields.texts("when")?).map_err(|error| fail(error.to_string()))?;
        let settings = settings(fields, defaults)?;
        if !settings.mounts.is_empty() && !matches!(line, Line::Cmd(_)) {
            return Err(fail(
                "invalid use of Mounts. Mounts must have unique container paths and used for CMD steps".to_owned(),
            ));
        }
        Ok(Self { id, when, line, settings, place: node.place })
    }
}

fn line(fields: Fields<'_>) -> Result<Line, TextError> {
    let (build, push, cmd) = (fields.text("build")?, fields.texts("push")?, fields.text("cmd")?);
    match (build.is_empty(), push.is_empty(), cmd.is_empty()) {
        (false, true, true) => Ok(Line::Build(build)),
        (true, false, true) => Ok(Line::Push(push)),
        (true, true, false) => Ok(Line::Cmd(cmd)),
        (true, true, true) => Err(TextError::at(fields.node.place, "step is missing a cmd, build, or push property")),
        _ => Err(TextError::at(fields.node.place, "step must only contain a single build, cmd, or push property")),
    }
}

fn settings(fields: Fields<'_>, defaults: &Defaults) -> Result<Settings, TextError> {
    let fail = |problem: &str| TextError::at(fields.node.place, problem);
    let optional = |key: &str| Ok::<_, TextError>(Some(fields.text(key)?).filter(|text| !text.is_empty()));
    let or = |key: &str, default: u32| {
        let number = fields.number(key)?;
        Ok::<_, TextError>(if number <= 0 { default } else { u32::try_from(number).unwrap_or(u32::MAX) })
    };
    for (key, problem) in [("retries", "step must specify retries >= 0"), ("repeat", "step must specify repeat >= 0")] {
        if fields.number(key)? < 0 {
            return Err(fail(problem));
        }
    }
    let cache = match fields.text("cache")?.to_ascii_lowercase().as_str() {
        "" | "disabled" => false,
        "enabled" => true,
        _ => return Err(fail("invalid value for cache property. Valid values are 'enabled', 'disabled'")),
    };
    Ok(Settings {
        timeout: or("timeout", defaults.timeout)?,
        start_delay: or("startDelay", 0)?,
        retries: or("retries", 0)?,
        retry_delay: or("retryDelay", DEFAULT_RETRY_DELAY)?,
        retry_on_errors: fields.texts("retryOnErrors")?,
        repeat: or("repeat", 0)?,
        download_retries: or("cmdDownloadRetries", 0)?,
        download_retry_delay: or("cmdDownloadRetryDelay", 0)?,
        env: env(fields, defaults)?,
        expose: fields.texts("expose")?,
        ports: fields.texts("ports")?,
        mounts: mounts(fields, defaults)?,
        detach: fields.flag("detach")?,
        keep: fields.flag("keep")?,
        privileged: fields.flag("privileged")?,
        ignore_errors: fields.flag("ignoreErrors")?,
        pull: fields.flag("pull")?,
        keeps_image_directory: fields.flag("disableWorkingDirectoryOverride")?,
        entry_point: optional("entryPoint")?,
        user: optional("user")?,
        network: optional("network")?.or_else(|| defaults.network.clone()),
        isolation: optional("isolation")?,
        cpus: optional("cpus")?,
        working_directory: optional("workingDirectory")?
            .or_else(|| Some(defaults.working_directory.clone()).filter(|path| !path.is_empty())),
        cache,
        exited_with: fields.numbers("exitedWith")?,
        exited_without: fields.numbers("exitedWithout")?,
    })
}

/// The step's own, then what only the task has. The task's may stand in one text, with commas between.
fn env(fields: Fields<'_>, defaults: &Defaults) -> Result<Vec<String>, TextError> {
    let mut env = fields.texts("env")?;
    let check = |text: &str, whose: &str| match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(name.to_owned()),
        _ => {
            Err(TextError::at(fields.node.place, format!("cannot parse {whose} environment variable {text} correctly")))
        }
    };
    let mut names = env.iter().map(|text| check(text, "step")).collect::<Result<Vec<_>, _>>()?;
    for text in defaults.env.iter().flat_map(|text| text.split(',')) {
        let name = check(text, "task")?;
        if !names.contains(&name) {
            env.push(text.to_owned());
            names.push(name);
        }
    }
    Ok(env)
}

fn mounts(fields: Fields<'_>, defaults: &Defaults) -> Result<Vec<Mount>, TextError> {
    let mut mounts: Vec<Mount> = Vec::new();
    for node in fields.nodes("volumeMounts")? {
        let fail = |problem: &str| Err(TextError::at(node.place, problem));
        let mount = Fields::of(node, "volumeMounts")?;
        let mount = Mount { name: mount.text("name")?, path: mount.text("mountPath")? };
        if mount.name.is_empty() || mount.path.is_empty() {
            return fail("mount name or container file path is empty");
        }
        if mounts.iter().any(|known| known.path == mount.path) {
            return fail("mount with duplicate container file path found");
        }
        if !defaults.volumes.contains(&mount.name) {
            return fail("provided mount name does not correspond to a volume");
        }
        if !mount.path.starts_with('/') || mount.path.split('/').any(|part| part == "..") {
            return fail("mount path has to be absolute and without ..");
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

//! What builds images and runs containers on this machine: buildah and runc, found and tried before the first run.
//!
//! ```text
//!  build ─▶ buildah build ─▶ runc or chroot for each RUN        push ─▶ buildah push
//!  cmd ──▶ buildah from, mount ─▶ bundle ─▶ runc run
//! ```

mod bundle;
mod image;
mod network;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use postern_model::Secret;
use serde_json::json;
use tokio::process::Command;

pub(crate) use self::bundle::{Container, remove_control_groups};
pub(crate) use self::image::{Build, EngineError, Limits, is_image_name};
pub(crate) use self::network::PrivateNetwork;
use crate::process::{answer, command};

/// What containers reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// The registries of this server, by the gateway, and nothing else: each run has a network of its own.
    Isolated,
    /// What the worker reaches: for workers whose network is closed already.
    Worker,
}

/// How steps of a build are kept apart from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isolation {
    /// As containers of runc.
    Runc,
    /// By chroot alone: for machines where runc does not work, and only where somebody said so.
    Chroot,
}

/// The programs that were found, and how they are used.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    /// What is missing, if anything is: then only steps that need no engine are carried out.
    missing: Option<String>,
    isolation: Isolation,
    driver: &'static str,
    /// Whether this buildah keeps `RUN --mount` within its folders.
    mounts_stay_inside: bool,
    /// Images and layers, kept from run to run.
    storage: PathBuf,
    pub(crate) network: NetworkMode,
}

/// One run's view of the engine: its storage, its settings and its environment.
#[derive(Clone)]
pub(crate) struct RunEngine {
    engine: Engine,
    /// Tells runs apart where names are shared: in control groups and among containers.
    name: String,
    folder: PathBuf,
    /// What container tools read: credentials, trust, the way to the registries.
    environment: BTreeMap<&'static str, String>,
}

/// What a run's tools are told.
pub(crate) struct Settings<'a> {
    /// Its control group, below that of all workers.
    pub(crate) name: &'a str,
    /// Whose layers it may find again.
    pub(crate) cache: &'a str,
    /// Where the run keeps what nobody else needs.
    pub(crate) folder: &'a Path,
    /// docker's settings, with credentials.
    pub(crate) credentials: &'a Path,
    /// The authorities to trust, in one file.
    pub(crate) authorities: &'a Path,
    /// The gateway.
    pub(crate) proxy: &'a Secret,
    /// The home of the programs.
    pub(crate) home: &'a Path,
}

impl Engine {
    /// Looks what there is, and tries it.
    pub(crate) async fn probe(folder: &Path, network: NetworkMode, unsafe_builds: bool) -> Self {
        let storage = folder.join("storage");
        let mut engine = Self {
            missing: None,
            isolation: Isolation::Runc,
            driver: "overlay",
            mounts_stay_inside: false,
            storage,
            network,
        };
        let missing = async {
            for program in ["buildah", "runc"] {
                let mut asked = command(program);
                asked.arg("--version");
                let told = answer(asked).await;
                let told = told.map_err(|error| format!("{error}; install {program} on the worker's machine"))?;
                if program == "buildah" {
                    engine.mounts_stay_inside = version_of(&told).is_some_and(|version| version >= MOUNTS_STAY_INSIDE);
                }
            }
            if !rustix::process::geteuid().is_root() {
                return Err("the worker does not run as root, which containers with limits need here".to_owned());
            }
            if !overlay_works(folder).await {
                engine.driver = "vfs";
            }
            if network == NetworkMode::Isolated {
                PrivateNetwork::new().await.map_err(|error| format!("a network for a run cannot be made: {error}"))?;
            }
            if let Err(error) = bundle::try_runc(folder, &control_group(&format!("{}/trial", group_of(folder)))).await {
                if !unsafe_builds {
                    return Err(format!("runc cannot run a container here: {error}"));
                }
                engine.isolation = Isolation::Chroot;
            }
            Ok(())
        };
        let missing = missing.await.err();
        engine.missing = missing;
        engine
    }

    /// Whether it builds and runs.
    pub(crate) const fn works(&self) -> bool {
        self.missing.is_none()
    }

    /// What it is, for people.
    pub(crate) fn told(&self) -> String {
        match &self.missing {
            Some(missing) => format!("no builds and no containers: {missing}"),
            None => format!(
                "buildah with {} storage, steps isolated by {}, network {}",
                self.driver,
                match self.isolation {
                    Isolation::Runc => "runc",
                    Isolation::Chroot => "chroot alone",
                },
                match self.network {
                    NetworkMode::Isolated => "of each run's own",
                    NetworkMode::Worker => "of the worker",
                }
            ),
        }
    }

    /// For one run.
    ///
    /// # Errors
    /// When there is none, or its settings cannot be written.
    pub(crate) fn for_run(&self, settings: &Settings<'_>) -> Result<RunEngine, EngineError> {
        if let Some(missing) = &self.missing {
            return Err(EngineError::Missing(missing.clone()));
        }
        let storage = self.storage.join(settings.cache);
        let (root, state) = (storage.join("root"), storage.join("state"));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&state)?;
        let write = |name: &str, text: String| -> io::Result<String> {
            let path = settings.folder.join(name);
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let environment = BTreeMap::from([
            (
                "CONTAINERS_STORAGE_CONF",
                write(
                    "storage.conf",
                    format!(
                        "[storage]\ndriver = \"{}\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
                        self.driver,
                        root.display(),
                        state.display()
                    ),
                )?,
            ),
            (
                "CONTAINERS_CONF",
                write(
                    "containers.conf",
                    "[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n"
                        .into(),
                )?,
            ),
            (
                "CONTAINERS_REGISTRIES_CONF",
                write("registries.conf", "unqualified-search-registries = [\"docker.io\"]\n".into())?,
            ),
            ("REGISTRY_AUTH_FILE", settings.credentials.display().to_string()),
            ("SSL_CERT_FILE", settings.authorities.display().to_string()),
            ("HTTPS_PROXY", settings.proxy.expose().to_owned()),
            ("HOME", settings.home.display().to_string()),
            ("TMPDIR", settings.folder.display().to_string()),
            ("XDG_RUNTIME_DIR", settings.folder.display().to_string()),
        ]);
        write("policy.json", json!({"default": [{"type": "insecureAcceptAnything"}]}).to_string())?;
        Ok(RunEngine {
            engine: self.clone(),
            name: settings.name.to_owned(),
            folder: settings.folder.to_path_buf(),
            environment,
        })
    }
}

/// The name of a worker's control group: another one for each folder of each server on the machine, and the same after a restart.
pub(crate) fn group_of(folder: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The control group that everything of a worker is in, or of one of its runs.
pub(crate) fn control_group(name: &str) -> String {
    format!("{CONTROL_GROUPS}/{name}")
}

/// Control groups of all workers are below this.
const CONTROL_GROUPS: &str = "/postern";

impl RunEngine {
    /// A buildah command, which sees nothing of the machine's settings.
    fn buildah(&self, subcommand: &str) -> Command {
        let mut command = self.command("buildah");
        command.arg(subcommand);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command.envs(&self.environment);
        command
    }

    /// Whether files that steps bring along may be mounted into others (`RUN --mount`).
    pub(crate) const fn mounts_stay_inside(&self) -> bool {
        self.engine.mounts_stay_inside
    }

    /// What images from elsewhere must be signed with: nothing.
    fn policy(&self) -> PathBuf {
        self.folder.join("policy.json")
    }
}

/// The first version in which a mount of a RUN step cannot lead out of its folders.
///
/// Source: containers/buildah, release notes of 1.38.1: CVE-2024-11218, after CVE-2024-9675 and CVE-2024-9407 (read 2026-11).
const MOUNTS_STAY_INSIDE: (u32, u32, u32) = (1, 38, 1);

/// The version in `buildah version 1.28.2 (image-spec …)`.
fn version_of(told: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = told.split_whitespace().nth(2)?.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}

/// Whether layers can be laid over one another in the folder: not on every file system.
async fn overlay_works(folder: &Path) -> bool {
    let trial = folder.join("overlay-trial");
    let made = ["lower", "upper", "work", "merged"].iter().all(|name| fs::create_dir_all(trial.join(name)).is_ok());
    let path = |name: &str| trial.join(name).display().to_string();
    let mut mount = command("mount");
    let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(trial.join("merged"));
    let works = made && answer(mount).await.is_ok();
    if works {
        let mut unmount = command("umount");
        unmount.arg(trial.join("merged"));
        let _ = answer(unmount).await;
    }
    let _ = fs::remove_dir_all(&trial);
    works
}

use std::fs;
use std::io;
use std::path::Path;

use postern_tasks::order::Argument;
use tokio::process::Command;

use super::{Isolation, NetworkMode, PrivateNetwork, RunEngine};
use crate::log::Log;
use crate::process::{ProcessError, answer, logged};

/// Why the engine did not do what a step asks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// There is none.
    #[error("this worker cannot build or run images: {0}")]
    Missing(String),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program ended with a code that is not success.
    #[error("exit status {0}")]
    Exit(i32),
    /// A file could not be read or written.
    #[error("a file of the run could not be used: {0}")]
    Io(#[from] io::Error),
    /// What an image says of itself makes no sense.
    #[error("the image {image} cannot be run: {why}")]
    BadImage {
        /// The image.
        image: String,
        /// What is wrong.
        why: String,
    },
    /// The step asks for what is not done here.
    #[error("{0}")]
    Unsupported(String),
}

/// A build.
pub(crate) struct Build<'a> {
    /// The folder that is its context.
    pub(crate) context: &'a Path,
    /// The Dockerfile.
    pub(crate) dockerfile: &'a Path,
    /// What the image is called.
    pub(crate) tags: &'a [String],
    /// Build arguments.
    pub(crate) arguments: &'a [Argument],
    /// The last stage to build.
    pub(crate) target: Option<&'a str>,
    /// Whether layers of earlier builds are not used.
    pub(crate) no_cache: bool,
    /// Labels, as `name=value`.
    pub(crate) labels: &'a [String],
}

/// What a step may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Processors.
    pub(crate) cpus: f64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
}

/// One period of the processor limit, in microseconds.
pub(super) const CPU_PERIOD: u64 = 100_000;

impl Limits {
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "some processors"
    )]
    pub(super) fn cpu_quota(self) -> u64 {
        (self.cpus.clamp(0.01, 1024.0) * CPU_PERIOD as f64) as u64
    }
}

impl RunEngine {
    /// Gets an image from its registry, as the run may, whatever is here already.
    pub(crate) async fn pull(&self, image: &str, log: &Log) -> Result<(), EngineError> {
        let mut pull = self.buildah("pull");
        pull.arg("--signature-policy").arg(self.policy()).args(["--quiet", "--policy", "always", image]);
        match answer(pull).await {
            Ok(_) => Ok(()),
            Err(error) => {
                log.plain(&error.to_string()).await;
                Err(error.into())
            }
        }
    }

    /// The digest that an image has in the registry it came from.
    pub(crate) async fn digest(&self, image: &str) -> Option<String> {
        let mut inspect = self.buildah("inspect");
        inspect.args(["--type", "image", "--format", "{{.FromImageDigest}}", image]);
        answer(inspect).await.ok().map(|digest| digest.trim().to_owned()).filter(|digest| !digest.is_empty())
    }

    /// Builds. What it builds upon must be here.
    pub(crate) async fn build(
        &self,
        build: &Build<'_>,
        limits: Limits,
        network: Option<&PrivateNetwork>,
        log: &Log,
    ) -> Result<(), EngineError> {
        let mut command = self.buildah("build");
        command.arg("--signature-policy").arg(self.policy());
        // The gateway's address holds a password: what is built gets no part of it.
        command.args(["--pull-never", "--http-proxy=false", "--force-rm", "--file"]).arg(build.dockerfile);
        match self.engine.isolation {
            Isolation::Runc => {
                command.args(["--isolation", "oci", "--runtime", "runc", "--cgroup-parent"]).arg(self.control_group());
                command.arg("--memory").arg(limits.memory_bytes.to_string());
                command
                    .arg("--cpu-period")
                    .arg(CPU_PERIOD.to_string())
                    .arg("--cpu-quota")
                    .arg(limits.cpu_quota().to_string());
            }
            Isolation::Chroot => drop(command.args(["--isolation", "chroot"])),
        }
        match (self.engine.network, network) {
            (NetworkMode::Isolated, Some(network)) => drop(command.arg("--network").arg(network.path())),
            (NetworkMode::Isolated, None) => drop(command.args(["--network", "none"])),
            (NetworkMode::Worker, _) => drop(command.args(["--network", "host"])),
        }
        command.arg(if build.no_cache { "--no-cache" } else { "--layers" });
        for tag in build.tags {
            command.args(["--tag", tag]);
        }
        for label in build.labels {
            command.args(["--label", label]);
        }
        if let Some(target) = build.target {
            command.args(["--target", target]);
        }
        for argument in build.arguments {
            self.add_argument(&mut command, argument);
        }
        command.arg(build.context);
        match logged(command, log).await? {
            status if status.success() => Ok(()),
            status => Err(EngineError::Exit(status.code().unwrap_or(-1))),
        }
    }

    /// A value may be secret, and words of a command can be seen by everybody on the machine: it is read from the environment.
    fn add_argument(&self, command: &mut Command, argument: &Argument) {
        let Argument { name, value, is_secret } = argument;
        if *is_secret && !self.environment.contains_key(name.as_str()) && name != "PATH" {
            command.env(name, value.expose()).args(["--build-arg", name]);
        } else {
            command.arg("--build-arg").arg(format!("{name}={}", value.expose()));
        }
    }

    /// Puts an image into its registry; gives its digest there.
    pub(crate) async fn push(&self, image: &str) -> Result<String, EngineError> {
        let file = self.folder.join("pushed-digest");
        let _ = fs::remove_file(&file);
        let mut push = self.buildah("push");
        push.arg("--signature-policy").arg(self.policy()).arg("--quiet").arg("--digestfile").arg(&file);
        push.arg(image).arg(format!("docker://{image}"));
        answer(push).await?;
        Ok(fs::read_to_string(&file)?.trim().to_owned())
    }

    /// The control group that everything of the run is in.
    pub(super) fn control_group(&self) -> String {
        super::control_group(&self.name)
    }
}

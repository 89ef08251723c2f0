use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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
        pull.arg("--signature-policy").arg(self.policy()).args(["--quiet", "--policy", "always", "--"]);
        pull.arg(format!("docker://{image}"));
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
        // buildah itself fetches what ADD names: in the run's own network it finds nothing there.
        let mut command = match network {
            Some(network) => {
                let mut command = self.command("nsenter");
                command.arg(format!("--net={}", network.path().display())).args(["--", "buildah", "build"]);
                command.env_remove("HTTPS_PROXY");
                command
            }
            None => self.buildah("build"),
        };
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
        let has_network = network.is_some() || self.engine.network == NetworkMode::Worker;
        command.args(["--network", if has_network { "host" } else { "none" }]);
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
            add_argument(&mut command, argument)?;
        }
        command.arg("--").arg(build.context);
        match logged(command, log).await? {
            status if status.success() => Ok(()),
            status => Err(EngineError::Exit(status.code().unwrap_or(-1))),
        }
    }

    /// Puts an image into its registry; gives its digest there.
    pub(crate) async fn push(&self, image: &str) -> Result<String, EngineError> {
        static PUSHES: AtomicU64 = AtomicU64::new(0);
        let file = self.folder.join(format!("pushed-digest-{}", PUSHES.fetch_add(1, Ordering::Relaxed)));
        let mut push = self.buildah("push");
        push.arg("--signature-policy").arg(self.policy()).arg("--quiet").arg("--digestfile").arg(&file);
        push.arg("--").arg(image).arg(format!("docker://{image}"));
        answer(push).await?;
        Ok(fs::read_to_string(&file)?.trim().to_owned())
    }

    /// The control group that everything of the run is in.
    pub(super) fn control_group(&self) -> String {
        super::control_group(&self.name)
    }
}

/// A value may be secret, and words of a command can be seen by everybody on the machine: it is read from the environment, where some
/// names mean something to the programs themselves.
fn add_argument(command: &mut Command, argument: &Argument) -> Result<(), EngineError> {
    let Argument { name, value, is_secret } = argument;
    if !is_secret {
        command.arg("--build-arg").arg(format!("{name}={}", value.expose()));
        return Ok(());
    }
    if !is_plain_variable(name) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(EngineError::Unsupported(format!("a secret build argument cannot be called `{shown}`")));
    }
    command.env(name, value.expose()).args(["--build-arg", name]);
    Ok(())
}

/// Whether a variable of this name means nothing to buildah and what it is made of.
fn is_plain_variable(name: &str) -> bool {
    const PREFIXES: [&str; 20] = [
        "LD_",
        "GLIBC_",
        "GCONV_",
        "MALLOC_",
        "GO",
        "CGO_",
        "BUILDAH_",
        "BUILD_",
        "CONTAINERS_",
        "CONTAINER_",
        "STORAGE_",
        "REGISTRY",
        "DOCKER_",
        "XDG_",
        "SSL_",
        "GNUPG",
        "TMP",
        "TEMP",
        "_",
        "LIB",
    ];
    const NAMES: [&str; 8] =
        ["HOME", "PATH", "USER", "SHELL", "LANG", "NOTIFY_SOCKET", "LISTEN_FDS", "DBUS_SESSION_BUS_ADDRESS"];
    let upper = name.to_ascii_uppercase();
    let is_name = !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name
        && !upper.ends_with("_PROXY")
        && !NAMES.contains(&upper.as_str())
        && !PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

/// Whether a text names an image in a registry and nothing else: programs here take names of files and of other stores as well.
pub(crate) fn is_image_name(text: &str) -> bool {
    // Source: containers/image, names of transports (read 2026-11).
    const TRANSPORTS: [&str; 12] = [
        "atomic",
        "containers-storage",
        "dir",
        "docker",
        "docker-archive",
        "docker-daemon",
        "http",
        "https",
        "oci",
        "oci-archive",
        "ostree",
        "sif",
    ];
    const MAX_BYTES: usize = 1024;
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let is_word = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let has_port =
        |host: &str| host.split_once(':').is_some_and(|(host, port)| is_word(host) && port.parse::<u16>().is_ok());
    let mut parts = name.split('/');
    let last = parts.next_back().unwrap_or_default();
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    let is_single = !name.contains('/');
    text.len() <= MAX_BYTES
        && is_word(last)
        && tag.is_none_or(is_word)
        && parts.enumerate().all(|(at, part)| is_word(part) || (at == 0 && has_port(part)))
        && !(is_single && tag.is_some() && TRANSPORTS.contains(&last))
        && digest.is_none_or(|digest| digest.parse::<postern_model::Digest>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_name_nothing_else() {
        for good in [
            "alpine",
            "alpine:3.20",
            "team/app:1",
            "r.azurecr.io/a/b",
            "localhost:5000/a:1",
            "r.io:443/x_y/z.w:v-1",
            "docker/dir:1",
        ] {
            assert!(is_image_name(good), "{good}");
        }
        let digest = format!("r.io/a@sha256:{}", "0".repeat(64));
        assert!(is_image_name(&digest));
        for bad in [
            "",
            "-x",
            "--tag",
            "dir:/etc",
            "docker-archive:/x",
            "docker-daemon:alpine",
            "docker://r.io/a",
            "oci:x",
            "oci-archive:/x:y",
            "containers-storage:[overlay@/x+/y]a",
            "a b",
            "r.io/../a",
            "r.io//a",
            "r.io/a:",
            "r.io:x/a",
            "a@sha256:0",
            "[x]a",
            "/a",
            "a/",
        ] {
            assert!(!is_image_name(bad), "{bad}");
        }
    }

    #[test]
    fn secrets_become_no_settings() {
        for good in ["TOKEN", "npm_token", "A1", "MY_GO_TOKEN"] {
            assert!(is_plain_variable(good), "{good}");
        }
        for bad in [
            "",
            "1A",
            "A-B",
            "A=B",
            "LD_PRELOAD",
            "ld_preload",
            "GODEBUG",
            "https_proxy",
            "STORAGE_OPTS",
            "TMPDIR",
            "HOME",
            "_X",
        ] {
            assert!(!is_plain_variable(bad), "{bad}");
        }
    }
}

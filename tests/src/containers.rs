//! skopeo, buildah, podman, docker, oras and cosign with storage, settings and credentials of their own.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open, pidfd_send_signal};
use serde_json::json;

use crate::bench::Place;
use crate::{Command, Engine, Scratch, tool};

/// What container engines raise the number of open files to where nothing limits it.
const MOST_OPEN_FILES: u64 = 1_048_576;
/// Linux's own limit of process ids where the machine does not say.
const DEFAULT_MOST_PROCESSES: u64 = 32_768;
/// runc for a podman that may not use control groups, because the machine's belong to somebody else: it is told so in words of crun's.
const RUNC_WITHOUT_GROUPS: &str = r#"#!/bin/sh
for word do
    shift
    case $word in --cgroup-manager | --cgroup-manager=disabled | disabled) ;; *) set -- "$@" "$word" ;; esac
done
exec runc "$@"
"#;
/// How long an engine may take to tidy up after its last container.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);

/// Container clients that see nothing of the machine's settings and leave no containers, images or mounts behind.
///
/// Two things are out of reach and shared with the machine: podman's empty parent groups in `/sys/fs/cgroup`, and the
/// note these clients keep in `/var/lib/containers/cache` of which registry had which blob.
///
/// All of them read the same settings, so credentials, certificates and proxies set here hold for each.
#[derive(Debug)]
pub struct Containers {
    scratch: Scratch,
    driver: &'static str,
    trusted: Option<PathBuf>,
    proxy: Option<String>,
    place: Option<Place>,
}

impl Containers {
    /// Empty storage, no credentials, no trust beyond the system's certificates.
    #[expect(clippy::new_without_default, reason = "creating folders is not a default value")]
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let driver = if overlay_works(&scratch) { "overlay" } else { "vfs" };
        let containers = Self { scratch, driver, trusted: None, proxy: None, place: None };
        containers.write_settings();
        containers
    }

    /// A folder for the test's own files; removed with everything else.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Trusts this certificate authority and no other.
    pub fn trust(&mut self, certificate_authority: &Path) {
        self.trusted = Some(certificate_authority.to_path_buf());
    }

    /// Sends HTTPS requests through this proxy. Addresses of the machine itself are reached directly all the same.
    pub fn use_proxy(&mut self, address: &str) {
        self.proxy = Some(address.to_owned());
    }

    /// Runs the clients in a place of the bench from now on.
    pub fn enter(&mut self, place: &Place) {
        self.place = Some(place.clone());
    }

    /// Credentials for registries: (host, user, password). They replace the earlier ones.
    pub fn set_credentials(&self, credentials: &[(&str, &str, &str)]) {
        let entries: serde_json::Map<String, serde_json::Value> = credentials
            .iter()
            .map(|(host, user, password)| {
                ((*host).to_owned(), json!({ "auth": base64(format!("{user}:{password}").as_bytes()) }))
            })
            .collect();
        self.scratch.write("docker/config.json", json!({ "auths": entries }).to_string());
    }

    /// A refresh token for a registry, as `az acr login` leaves it.
    pub fn set_identity_token(&self, host: &str, token: &str) {
        let auth = base64(b"00000000-0000-0000-0000-000000000000:");
        let content = json!({ "auths": { host: { "auth": auth, "identitytoken": token } } });
        self.scratch.write("docker/config.json", content.to_string());
    }

    /// Presents a client certificate to a registry (`host` or `host:port`) and trusts `authority` there.
    pub fn set_client_certificate(&self, host: &str, authority: &Path, certificate: &Path, key: &Path) {
        let folder = PathBuf::from("home/.config/containers/certs.d").join(host);
        for (name, source) in [("ca.crt", authority), ("client.cert", certificate), ("client.key", key)] {
            let content = fs::read(source).unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
            self.scratch.write(folder.join(name), content);
        }
    }

    /// podman. A container gets no network unless `--network` says so: `host` or `ns:PATH`.
    pub fn podman(&self) -> Command {
        self.client("podman")
    }

    /// buildah. Steps of a build run in a chroot and use the caller's network.
    pub fn buildah(&self) -> Command {
        self.client("buildah").env("BUILDAH_ISOLATION", "chroot")
    }

    /// skopeo.
    pub fn skopeo(&self) -> Command {
        self.client("skopeo")
    }

    /// oras. It speaks plain HTTP to the host `localhost` unless `--plain-http=false` is given.
    pub fn oras(&self) -> Command {
        self.client("oras").current_dir(self.scratch.path())
    }

    /// cosign. What it signs with and verifies stays on this machine: its logs are on the internet.
    pub fn cosign(&self) -> Command {
        self.client("cosign").env("COSIGN_PASSWORD", "").current_dir(self.scratch.path())
    }

    /// The `oci-client` crate as a program: verb and image.
    pub fn oci_client(&self) -> Command {
        self.settings(Command::new(crate::oci_client()))
    }

    /// A container engine that docker talks to.
    pub fn engine(&self) -> Engine<'_> {
        self.engine_through(Command::new("env"))
    }

    /// The same, started by another program, which gets the engine's command line as its last arguments.
    pub fn engine_through(&self, launcher: Command) -> Engine<'_> {
        Engine::start(self, launcher, &self.scratch.join("docker.sock"))
    }

    fn client(&self, name: &str) -> Command {
        self.settings(Command::new(tool(name)))
    }

    /// Lets a program, and whatever it starts, be a client like the others.
    pub fn settings(&self, command: Command) -> Command {
        let folder = self.scratch.path();
        let mut command = command
            .env("HOME", folder.join("home"))
            .env("TMPDIR", folder.join("tmp"))
            .env("XDG_RUNTIME_DIR", folder.join("runtime"))
            .env("CONTAINERS_CONF", folder.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", folder.join("registries.conf"))
            .env("REGISTRY_AUTH_FILE", folder.join("docker/config.json"))
            .env("DOCKER_CONFIG", folder.join("docker"));
        if in_user_namespace() {
            // Else podman takes its user for the machine's root, and gives containers to groups that do not exist here.
            command = command.env("_CONTAINERS_USERNS_CONFIGURED", "done").env("_CONTAINERS_ROOTLESS_UID", "0");
        }
        if let Some(authority) = &self.trusted {
            command = command.env("SSL_CERT_FILE", authority).env("SSL_CERT_DIR", "/nonexistent");
        }
        if let Some(proxy) = &self.proxy {
            command = command.env("HTTPS_PROXY", proxy).env("https_proxy", proxy);
        }
        if let Some(place) = &self.place {
            command = command.within(place);
        }
        command
    }

    /// What podman's settings say of control groups, in `[containers]`, of the runtime, in `[engine]`, and of runtimes of our own.
    fn runtime(&self) -> (&'static str, String, String) {
        if !in_user_namespace() {
            return ("", "runtime = \"runc\"\n".to_owned(), String::new());
        }
        let script = self.scratch.write("runc", RUNC_WITHOUT_GROUPS);
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a file of our own can be made a program");
        // The list has another name in the manual than in some versions of the program.
        let lists = ["runtime_supports_nocgroup", "runtime_supports_nocgroups"];
        let lists: String = lists.map(|name| format!("{name} = [\"runc-without-groups\"]\n")).concat();
        let runtimes = format!("[engine.runtimes]\nrunc-without-groups = [\"{}\"]\n", script.display());
        ("cgroups = \"disabled\"\n", format!("runtime = \"runc-without-groups\"\n{lists}"), runtimes)
    }

    fn write_settings(&self) {
        let folder = self.scratch.path();
        for name in ["storage", "run", "tmp", "runtime", "networks", "docker"] {
            fs::create_dir_all(folder.join(name)).expect("folders can be created in a temporary folder");
        }
        let path = |name: &str| folder.join(name).display().to_string();
        let (files, processes) = limits();
        let (groups, runtime, runtimes) = self.runtime();
        // The runtime, the cgroup manager and the file of events work without systemd and on every cgroup version.
        // Locks and state lie in the folder: engines of other tests must not see them.
        self.scratch.write(
            "containers.conf",
            format!(
                "[containers]\n\
                 default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
                 netns = \"none\"\n\
                 {groups}\
                 [engine]\n\
                 cgroup_manager = \"cgroupfs\"\n\
                 {runtime}\
                 events_logger = \"file\"\n\
                 lock_type = \"file\"\n\
                 tmp_dir = \"{}\"\n\
                 [network]\n\
                 network_config_dir = \"{}\"\n\
                 {runtimes}",
                path("run/libpod"),
                path("networks"),
            ),
        );
        self.scratch.write(
            "storage.conf",
            format!(
                "[storage]\ndriver = \"{}\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
                self.driver,
                path("storage"),
                path("run"),
            ),
        );
        self.scratch.write("registries.conf", "unqualified-search-registries = []\n");
        self.scratch.write("home/.config/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        self.set_credentials(&[]);
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let list = format!("storage/{}-containers/containers.json", self.driver);
        let left = fs::read_to_string(self.scratch.path().join(list)).unwrap_or_default();
        // Containers that still run hold mounts and processes.
        if left.contains("\"id\"") && self.scratch.path().join("run/libpod").is_dir() {
            self.podman().args(["rm", "--all", "--force", "--time", "0"]).run();
        }
        // The process that watches a container tidies up after it, on its own time and in our folder.
        let watchers = || processes_naming(self.scratch.path());
        while let Some(watcher) = watchers().first() {
            wait_or_kill(watcher);
        }
    }
}

/// Whether this process is nobody special outside the user namespace that it is in.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a running Linux has /proc");
    map.split_ascii_whitespace().nth(2) != Some("4294967295")
}

/// Processes whose command line names the folder, held so that their ids cannot be reused.
fn processes_naming(folder: &Path) -> Vec<OwnedFd> {
    // With the separator, so that the folder of a neighbour with a longer number does not match.
    let folder = folder.join("");
    let folder = folder.as_os_str().as_encoded_bytes();
    let names_folder = |id: i32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|window| window == folder)
    };
    let entries = fs::read_dir("/proc").expect("a running Linux has /proc");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| names_folder(*id))
        .filter_map(|id| {
            let process = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
            // Looked at again: between the first look and the hold it may have become another process.
            names_folder(id).then_some(process)
        })
        .collect()
}

fn wait_or_kill(process: &OwnedFd) {
    let limit = Timespec::try_from(CLEANUP_LIMIT).expect("a few seconds");
    let ended = |limit: Option<&Timespec>| {
        let mut events = [PollFd::new(process, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut events, limit)).expect("a process can be waited for") > 0
    };
    if !ended(Some(&limit)) {
        // An error says that it has ended meanwhile.
        let _ = pidfd_send_signal(process, Signal::KILL);
        ended(None);
    }
}

/// Overlay mounts need rights and a file system below that can carry them. Trying is the only sure way to know.
fn overlay_works(scratch: &Scratch) -> bool {
    let probe = |name: &str| {
        let folder = scratch.join("probe").join(name);
        fs::create_dir_all(&folder).expect("folders can be created in a temporary folder");
        folder
    };
    let (lower, upper, work, merged) = (probe("lower"), probe("upper"), probe("work"), probe("merged"));
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = Command::new("mount").args(["-t", "overlay", "overlay", "-o", options.as_str()]).arg(&merged);
    let works = mount.run().code == Some(0);
    if works {
        Command::new("umount").arg(&merged).run();
    }
    works
}

/// Open files and processes that a container can be given: engines fail when they ask for more than they have.
fn limits() -> (u64, u64) {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(MOST_OPEN_FILES);
    let process_ids = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse().ok());
    let processes =
        getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX).min(process_ids.unwrap_or(DEFAULT_MOST_PROCESSES));
    (files, processes)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let joined =
            chunk.iter().chain([0, 0].iter()).take(3).fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        for position in 0..4 {
            let letter = LETTERS.get((joined >> (18 - 6 * position)) & 63);
            text.push(letter.filter(|_| position <= chunk.len()).map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_lengths() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}

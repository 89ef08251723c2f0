use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::image::{CPU_PERIOD, EngineError, Limits};
use super::{Isolation, PrivateNetwork, RunEngine};
use crate::log::Log;
use crate::process::{answer, command, logged};

/// What a container may do beyond what anybody may.
///
/// Source: Docker Engine, "Runtime privilege and Linux capabilities": those kept by default (read 2026-11).
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// Most processes of one container.
const MAX_PROCESSES: u64 = 4096;
/// Most variables of one container.
const MAX_VARIABLES: usize = 1000;
/// Largest file of users and groups that is looked at.
const MAX_USERS_BYTES: u64 = 1 << 20;
/// Longest name of a machine. Source: Linux, `__NEW_UTS_LEN`.
const MAX_HOST_CHARS: usize = 64;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a container sees of the kernel that is not its own.
const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container that a step runs.
pub(crate) struct Container<'a> {
    /// The step's id: what the container calls itself. Anything may be in it.
    pub(crate) id: &'a str,
    /// The step's place among the steps: what it is called here.
    pub(crate) number: usize,
    /// The image, which must be here.
    pub(crate) image: &'a str,
    /// What takes the place of the image's command.
    pub(crate) command: &'a [String],
    /// What takes the place of the image's entry point.
    pub(crate) entry_point: Option<&'a [String]>,
    /// Variables, as `name=value`; they win over the image's.
    pub(crate) environment: &'a [String],
    /// Where it begins; none is where the image says.
    pub(crate) working_directory: Option<&'a str>,
    /// Who it runs as; none is who the image says.
    pub(crate) user: Option<&'a str>,
    /// Folders of the machine, and where they appear.
    pub(crate) mounts: &'a [(PathBuf, String)],
    /// Names that lead to the run's own network.
    pub(crate) names: &'a [String],
    /// What it may take.
    pub(crate) limits: Limits,
}

/// What an image says of how it is run.
struct ImageConfig {
    entry_point: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
    working_directory: String,
    user: String,
}

impl RunEngine {
    /// Runs a container to its end; gives its exit code.
    pub(crate) async fn run(
        &self,
        container: &Container<'_>,
        network: Option<&PrivateNetwork>,
        log: &Log,
    ) -> Result<i32, EngineError> {
        if self.engine.isolation == Isolation::Chroot {
            return Err(EngineError::Unsupported(
                "runc does not work on this worker's machine, so that it can build but run nothing".into(),
            ));
        }
        let config = self.image_config(container.image).await?;
        let mut from = self.buildah("from");
        from.arg("--signature-policy").arg(self.policy()).args(["--pull-never", "--", container.image]);
        let working = answer(from).await?.trim().to_owned();
        let mut mount = self.buildah("mount");
        mount.arg(&working);
        let root = PathBuf::from(answer(mount).await?.trim());
        let bundle = self.folder.join(format!("bundle-{}", container.number));
        fs::create_dir_all(&bundle)?;
        let described = self.describe(container, &config, &root, &bundle, network)?;
        fs::write(bundle.join("config.json"), described.to_string())?;
        let name = format!("postern-{}-{}", self.name.replace('/', "-"), container.number);
        let mut run = self.runc();
        run.args(["run", "--bundle"]).arg(&bundle).arg(&name);
        let ended = logged(run, log).await;
        self.remove_container(&name).await;
        for subcommand in ["umount", "rm"] {
            let mut done = self.buildah(subcommand);
            done.arg(&working);
            answer(done).await?;
        }
        Ok(ended?.code().unwrap_or(-1))
    }

    /// Ends what an attempt that was cut short has left, and removes the run's control groups.
    pub(crate) async fn clean(&self) {
        let mut list = self.runc();
        list.args(["list", "--quiet"]);
        for name in answer(list).await.unwrap_or_default().lines() {
            self.remove_container(name).await;
        }
        let mut remove = self.buildah("rm");
        remove.arg("--all");
        if let Err(error) = answer(remove).await {
            tracing::warn!(error = %error, "containers of a run are left");
        }
        // What a build that was cut short has begun is known to nobody but the kernel.
        end_control_groups(&self.control_group()).await;
    }

    fn runc(&self) -> tokio::process::Command {
        let mut runc = command("runc");
        runc.arg("--root").arg(self.folder.join("runc"));
        runc
    }

    async fn remove_container(&self, name: &str) {
        let mut delete = self.runc();
        delete.args(["delete", "--force", name]);
        let _ = answer(delete).await;
    }

    async fn image_config(&self, image: &str) -> Result<ImageConfig, EngineError> {
        let bad = |why: &str| EngineError::BadImage { image: image.to_owned(), why: why.to_owned() };
        let mut inspect = self.buildah("inspect");
        inspect.args(["--type", "image", image]);
        let told: Value =
            serde_json::from_str(&answer(inspect).await?).map_err(|_| bad("its configuration cannot be read"))?;
        let told = told.pointer("/OCIv1/config").unwrap_or(&Value::Null);
        let texts = |key: &str| -> Vec<String> {
            let values = told.get(key).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
        };
        let text = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(ImageConfig {
            entry_point: texts("Entrypoint"),
            command: texts("Cmd"),
            environment: texts("Env"),
            working_directory: text("WorkingDir"),
            user: text("User"),
        })
    }

    /// The bundle's `config.json`.
    ///
    /// Source: Open Container Initiative, runtime specification 1.0.2 (read 2026-11).
    fn describe(
        &self,
        container: &Container<'_>,
        config: &ImageConfig,
        root: &Path,
        bundle: &Path,
        network: Option<&PrivateNetwork>,
    ) -> Result<Value, EngineError> {
        let bad = |why: String| EngineError::BadImage { image: container.image.to_owned(), why };
        let mut words: Vec<&str> =
            container.entry_point.unwrap_or(&config.entry_point).iter().map(String::as_str).collect();
        let replaced = !container.command.is_empty() || container.entry_point.is_some();
        let command = if replaced { container.command } else { &config.command };
        words.extend(command.iter().map(String::as_str));
        if words.is_empty() {
            return Err(bad("it has no command, and the step gives none".into()));
        }
        let user = container.user.unwrap_or(&config.user);
        let (uid, gid) = ids(root, user).map_err(|why| bad(format!("its user `{user}`: {why}")))?;
        let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
        let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        for variable in config.environment.iter().chain(container.environment) {
            environment.insert(name_of(variable), variable.clone());
        }
        if environment.len() > MAX_VARIABLES {
            return Err(bad(format!("there are more than {MAX_VARIABLES} variables")));
        }
        let environment: Vec<String> = environment.into_values().collect();
        let directory = container.working_directory.unwrap_or(&config.working_directory);
        let hosts: String = container.names.iter().flat_map(|name| ["127.0.0.1\t", name, "\n"]).collect();
        fs::write(bundle.join("hosts"), format!("127.0.0.1\tlocalhost\n{hosts}"))?;
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ];
        let mount = |source: &Path, destination: &str, access: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", "nosuid", "nodev", access]});
        let bind = |source: &Path, destination: &str| mount(source, destination, "rw");
        mounts.push(bind(&bundle.join("hosts"), "/etc/hosts"));
        if network.is_none() && Path::new("/etc/resolv.conf").exists() {
            mounts.push(mount(Path::new("/etc/resolv.conf"), "/etc/resolv.conf", "ro"));
        }
        // What is not a folder of the run's own is for reading.
        mounts.extend(
            container
                .mounts
                .iter()
                .map(|(source, destination)| mount(source, destination, if source.is_dir() { "rw" } else { "ro" })),
        );
        let mut namespaces = vec![
            json!({"type": "pid"}),
            json!({"type": "ipc"}),
            json!({"type": "uts"}),
            json!({"type": "mount"}),
            json!({"type": "cgroup"}),
        ];
        namespaces.extend(network.map(|network| json!({"type": "network", "path": network.path()})));
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": uid, "gid": gid},
                "args": words,
                "env": environment,
                "cwd": if directory.is_empty() { "/" } else { directory },
                "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
                "noNewPrivileges": true,
            },
            "root": {"path": root, "readonly": false},
            "hostname": container.id.chars().take(MAX_HOST_CHARS).collect::<String>(),
            "mounts": mounts,
            "linux": {
                "cgroupsPath": format!("{}/step-{}", self.control_group(), container.number),
                "resources": {
                    "memory": {"limit": container.limits.memory_bytes, "swap": container.limits.memory_bytes},
                    "cpu": {"quota": container.limits.cpu_quota(), "period": CPU_PERIOD},
                    "pids": {"limit": MAX_PROCESSES},
                    "devices": [{"allow": false, "access": "rwm"}],
                },
                "namespaces": namespaces,
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
            },
        }))
    }
}

/// The numbers of `name`, `name:group`, `1000` or `1000:1000`. Names are looked up in the image's own files.
fn ids(root: &Path, user: &str) -> Result<(u32, u32), String> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let (uid, own_group) = match (user, user.parse::<u32>()) {
        ("" | "root", _) => (0, Some(0)),
        (_, Ok(uid)) => (
            uid,
            entry(root, "etc/passwd", |fields| fields.get(2) == Some(&user))
                .and_then(|fields| fields.get(3)?.parse().ok()),
        ),
        (name, Err(_)) => {
            let found =
                entry(root, "etc/passwd", |fields| fields.first() == Some(&name)).ok_or("there is no such user")?;
            let number = |at: usize| found.get(at).and_then(|text| text.parse::<u32>().ok());
            (number(2).ok_or("its number cannot be read")?, number(3))
        }
    };
    let gid = match group {
        None => own_group.unwrap_or(0),
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => entry(root, "etc/group", |fields| fields.first() == Some(&group))
                .and_then(|fields| fields.get(2)?.parse().ok())
                .ok_or("there is no such group")?,
        },
    };
    Ok((uid, gid))
}

/// The fields of the first line that fits, of a file in the image.
fn entry(root: &Path, file: &str, fits: impl Fn(&[&str]) -> bool) -> Option<Vec<String>> {
    let mut text = String::new();
    fs::File::from(open_inside(root, file).ok()?).take(MAX_USERS_BYTES).read_to_string(&mut text).ok()?;
    let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.into_iter().find(|fields| fits(fields)).map(|fields| fields.into_iter().map(str::to_owned).collect())
}

/// Opens a file of the image: its links lead nowhere outside of it.
fn open_inside(root: &Path, file: &str) -> io::Result<OwnedFd> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(openat2(root, file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty(), ResolveFlags::IN_ROOT)?)
}

/// Runs the smallest container there is: one whose program is not there. runc has then made all of it but that.
pub(super) async fn try_runc(folder: &Path, group: &str) -> Result<(), String> {
    let bundle = folder.join("runc-trial");
    let root = bundle.join("root");
    let trial = async {
        fs::create_dir_all(root.join("proc")).map_err(|error| error.to_string())?;
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/none"], "cwd": "/", "noNewPrivileges": true},
            "root": {"path": root},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "cgroupsPath": group,
                "resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 16}},
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
            },
        });
        fs::write(bundle.join("config.json"), config.to_string()).map_err(|error| error.to_string())?;
        let mut run = command("runc");
        run.arg("--root").arg(bundle.join("state")).args(["run", "--bundle"]).arg(&bundle).arg("postern-trial");
        let told = answer(run).await.err().map(|error| error.to_string()).unwrap_or_default();
        remove_control_groups(group);
        if told.contains("/none") && told.contains("no such file") { Ok(()) } else { Err(told) }
    };
    let tried = trial.await;
    let _ = fs::remove_dir_all(&bundle);
    tried
}

/// Kills whatever is in the control groups, and removes them.
async fn end_control_groups(group: &str) {
    const ATTEMPTS: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 0..ATTEMPTS {
        let found = processes_in(group);
        if found.is_empty() {
            break;
        }
        for process in found {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        tokio::time::sleep(PAUSE).await;
    }
    remove_control_groups(group);
}

/// The processes of this worker in the control groups, in every hierarchy and below.
fn processes_in(group: &str) -> Vec<Pid> {
    fn collect(folder: &Path, found: &mut Vec<Pid>) {
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        // Those of others have no number here.
        found.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                collect(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.join(group.trim_start_matches('/')), &mut found);
    }
    found
}

/// Where control groups are: the one tree, or one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let inner = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).chain([base.to_path_buf()]).collect()
}

/// Control groups stay behind when what was in them has gone. That of all workers goes with the last of them.
pub(crate) fn remove_control_groups(group: &str) {
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.join(group.trim_start_matches('/')));
        let _ = fs::remove_dir(hierarchy.join(super::CONTROL_GROUPS.trim_start_matches('/')));
    }
}

/// Removes folders from the innermost outwards. Files in them are the kernel's and go along.
fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user: &str, expected: Result<(u32, u32), &str>) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nbuild:x:1000:1001::/:/bin/sh\n").unwrap();
        fs::write(root.path().join("etc/group"), "staff:x:50:\n").unwrap();
        assert_eq!(ids(root.path(), user), expected.map_err(str::to_owned), "{user:?}");
    }

    #[test]
    fn users_of_an_image() {
        check("", Ok((0, 0)));
        check("root", Ok((0, 0)));
        check("build", Ok((1000, 1001)));
        check("1000", Ok((1000, 1001)));
        check("1234", Ok((1234, 0)));
        check("build:staff", Ok((1000, 50)));
        check("7:8", Ok((7, 8)));
        check("nobody", Err("there is no such user"));
        check("build:nobody", Err("there is no such group"));
    }

    #[test]
    fn links_of_an_image_lead_nowhere_outside() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("passwd"), "evil:x:1:1::/:\n").unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("passwd"), root.path().join("etc/passwd")).unwrap();
        assert_eq!(ids(root.path(), "evil"), Err("there is no such user".to_owned()));
    }
}

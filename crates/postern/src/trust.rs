//! `postern trust install|remove`: the certificate authority into the trust folders of docker and containers, and a hosts line
//! per registry. What needs root and does not have it is printed instead.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use postern_model::RegistryName;

use crate::bootstrap::Bootstrap;
use crate::client::{AdminClient, ServerArgument};
use crate::{runtime, say};

/// Marks the lines in the hosts file that are ours.
const MARK: &str = "# postern";
const HOSTS: &str = "/etc/hosts";

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Install.
    Install(TrustArguments),
    /// Take everything back.
    Remove(TrustArguments),
}

#[derive(Debug, Args)]
pub(crate) struct TrustArguments {
    #[command(flatten)]
    server: ServerArgument,
    /// Registries to make known; default: all.
    #[arg(long = "registry", value_name = "NAME")]
    registries: Vec<String>,
    /// A folder to treat as the root of the file system.
    #[arg(long, default_value = "/", value_name = "DIR", hide = true)]
    root: PathBuf,
    /// The home folder whose rootless clients are to trust the server.
    #[arg(long, env = "HOME", value_name = "DIR")]
    home: Option<PathBuf>,
}

pub(crate) fn run(command: TrustCommand) -> anyhow::Result<ExitCode> {
    let (arguments, install) = match command {
        TrustCommand::Install(arguments) => (arguments, true),
        TrustCommand::Remove(arguments) => (arguments, false),
    };
    let bootstrap = Bootstrap::read(&arguments.server.server)?;
    let names = if arguments.registries.is_empty() && install {
        runtime()?.block_on(registries(&arguments.server.server))?
    } else {
        arguments.registries.clone()
    };
    let plan = Plan::new(&arguments, &bootstrap, &names)?;
    if install { plan.install(&bootstrap.ca_file) } else { plan.remove(&bootstrap.ca_file) }
}

async fn registries(server: &Path) -> anyhow::Result<Vec<String>> {
    crate::workload::registry_names(&AdminClient::connect(server).await?).await
}

struct Plan {
    /// Folders that hold one folder per host.
    folders: Vec<PathBuf>,
    /// `HOST:PORT` of everything a client may address.
    hosts: Vec<String>,
    hosts_file: PathBuf,
    /// `ADDRESS NAME` lines.
    lines: Vec<String>,
}

impl Plan {
    fn new(arguments: &TrustArguments, bootstrap: &Bootstrap, names: &[String]) -> anyhow::Result<Self> {
        let under = |path: &str| arguments.root.join(path.trim_start_matches('/'));
        let mut folders = vec![under("/etc/docker/certs.d"), under("/etc/containers/certs.d")];
        if let Some(home) = &arguments.home {
            folders.push(home.join(".config/docker/certs.d"));
            folders.push(home.join(".config/containers/certs.d"));
        }
        let address = crate::client::first_address(bootstrap)?;
        for name in names {
            // They become paths, lines of the hosts file and commands to run as root, whoever named them.
            name.parse::<RegistryName>()
                .with_context(|| format!("`{}` is not a registry name", name.escape_debug()))?;
        }
        let login_servers: Vec<String> =
            names.iter().map(|name| format!("{}{}", name.to_lowercase(), bootstrap.registry_suffix)).collect();
        let lines = login_servers
            .iter()
            .map(|host| format!("{} {} {MARK}", address.ip(), host.split(':').next().unwrap_or(host)))
            .collect();
        let hosts = login_servers.into_iter().chain([format!("localhost:{}", address.port())]).collect();
        Ok(Self { folders, hosts, hosts_file: under(HOSTS), lines })
    }

    fn install(&self, authority: &Path) -> anyhow::Result<ExitCode> {
        let mut left_over = Vec::new();
        for file in self.files() {
            match copy(authority, &file) {
                Ok(()) => say(format_args!("wrote {}", file.display())),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    left_over.push(format!("sudo install -D -m 644 {} {}", authority.display(), file.display()));
                }
                Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
            }
        }
        let missing: Vec<&String> = self.lines.iter().filter(|line| !self.has_line(line)).collect();
        if !missing.is_empty() {
            let lines = missing.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n");
            match append(&self.hosts_file, &lines) {
                Ok(()) => say(format_args!("added {} names to {}", missing.len(), self.hosts_file.display())),
                Err(_) => left_over.extend(
                    missing.iter().map(|line| format!("echo '{line}' | sudo tee -a {}", self.hosts_file.display())),
                ),
            }
        }
        Ok(tell(&left_over))
    }

    fn remove(&self, authority: &Path) -> anyhow::Result<ExitCode> {
        let mut left_over = Vec::new();
        for folder in self.hosts_with(&fs::read(authority)?) {
            let removed = fs::remove_file(folder.join("ca.crt")).map(|()| {
                // Somebody else's client certificate may be beside it: then the folder stays.
                let _ = fs::remove_dir(&folder);
            });
            match removed {
                Ok(()) => say(format_args!("removed {}", folder.join("ca.crt").display())),
                Err(_) => left_over.push(format!("sudo rm {}", folder.join("ca.crt").display())),
            }
        }
        let old = fs::read_to_string(&self.hosts_file).unwrap_or_default();
        let kept: String = old.lines().filter(|line| !line.ends_with(MARK)).flat_map(|line| [line, "\n"]).collect();
        if kept.len() < old.len() {
            match fs::write(&self.hosts_file, kept) {
                Ok(()) => say(format_args!("removed the names from {}", self.hosts_file.display())),
                Err(_) => left_over.push(format!("sudo sed -i '/{MARK}$/d' {}", self.hosts_file.display())),
            }
        }
        Ok(tell(&left_over))
    }

    fn has_line(&self, line: &str) -> bool {
        fs::read_to_string(&self.hosts_file).unwrap_or_default().lines().any(|known| known == line)
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().flat_map(|folder| self.hosts.iter().map(move |host| folder.join(host).join("ca.crt")))
    }

    /// Host folders that trust this authority, also those of registries that are gone.
    fn hosts_with(&self, authority: &[u8]) -> Vec<PathBuf> {
        let entries = self.folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let ours = |folder: &PathBuf| fs::read(folder.join("ca.crt")).is_ok_and(|trusted| trusted == authority);
        entries.map(|entry| entry.path()).filter(ours).collect()
    }
}

/// Puts a new file in the place of whatever was there: a link in somebody's home folder must not lead root elsewhere.
fn copy(authority: &Path, file: &Path) -> std::io::Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    fs::create_dir_all(folder)?;
    let bytes = fs::read(authority)?;
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(&bytes)
}

/// Adds lines behind what is there, which is never written anew: it may be more than this program can read.
fn append(file: &Path, lines: &str) -> std::io::Result<()> {
    let ends_open = match fs::read(file) {
        Ok(bytes) => bytes.last().is_some_and(|last| *last != b'\n'),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let gap = if ends_open { "\n" } else { "" };
    OpenOptions::new().append(true).create(true).open(file)?.write_all(format!("{gap}{lines}\n").as_bytes())
}

fn tell(left_over: &[String]) -> ExitCode {
    if left_over.is_empty() {
        return ExitCode::SUCCESS;
    }
    say("these need root:");
    for line in left_over {
        say(format_args!("  {line}"));
    }
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(root: &Path) -> Bootstrap {
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::write(root.join("ca.pem"), "a certificate").unwrap();
        Bootstrap {
            tenant_id: String::new(),
            subscription_id: String::new(),
            client_id: String::new(),
            client_secret: postern_model::Secret::new(""),
            ca_file: root.join("ca.pem"),
            arm_endpoint: String::new(),
            authority: String::new(),
            registry_suffix: ".azurecr.io.localhost:5443".into(),
            proxy: String::new(),
            listen: vec!["127.0.0.1:5443".into()],
            dns: Vec::new(),
        }
    }

    fn plan(root: &Path, registry: &str) -> anyhow::Result<Plan> {
        let arguments = TrustArguments {
            server: ServerArgument { server: root.to_owned() },
            registries: vec![registry.into()],
            root: root.to_owned(),
            home: None,
        };
        Plan::new(&arguments, &bootstrap(root), &arguments.registries)
    }

    #[test]
    fn names_that_are_no_registry_names_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["../../root", "a b", "x;id", "a\n10.0.0.1 example.com #", ""] {
            let error = plan(scratch.path(), name).err().expect(name).to_string();
            assert!(error.contains("is not a registry name") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_is_in_the_way_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let plan = plan(root, "myreg").unwrap();
        // A hosts file that is not text, and a link where the authority goes.
        fs::write(root.join("etc/hosts"), b"127.0.0.1 caf\xe9").unwrap();
        fs::write(root.join("shadow"), "secret").unwrap();
        let folder = root.join("etc/docker/certs.d/localhost:5443");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(root.join("shadow"), folder.join("ca.crt")).unwrap();
        plan.install(&root.join("ca.pem")).unwrap();
        let hosts = fs::read(root.join("etc/hosts")).unwrap();
        assert_eq!(hosts, b"127.0.0.1 caf\xe9\n127.0.0.1 myreg.azurecr.io.localhost # postern\n");
        assert_eq!(fs::read_to_string(root.join("shadow")).unwrap(), "secret");
        assert_eq!(fs::read_to_string(folder.join("ca.crt")).unwrap(), "a certificate");
    }

    #[test]
    fn install_then_remove_leaves_the_machine_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let (bootstrap, plan) = (bootstrap(root), plan(root, "myreg").unwrap());
        for _ in 0..2 {
            plan.install(&bootstrap.ca_file).unwrap();
        }
        let hosts = fs::read_to_string(root.join("etc/hosts")).unwrap();
        assert_eq!(hosts, "127.0.0.1 localhost\n127.0.0.1 myreg.azurecr.io.localhost # postern\n");
        assert!(root.join("etc/docker/certs.d/myreg.azurecr.io.localhost:5443/ca.crt").is_file());
        assert!(root.join("etc/containers/certs.d/localhost:5443/ca.crt").is_file());
        plan.remove(&bootstrap.ca_file).unwrap();
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "127.0.0.1 localhost\n");
        assert!(fs::read_dir(root.join("etc/docker/certs.d")).unwrap().next().is_none());
    }
}

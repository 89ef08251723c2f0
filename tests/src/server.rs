//! The built binary as a process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::Place;
use crate::command::{content, entering, same, search_path, unnamed_file, wait_at_most};
use crate::{Command, Scratch, tool, tools};

/// Start of the one line on standard output that says the server answers; the path of the bootstrap file follows.
const READY: &str = "postern is ready: ";
/// How long a start may take on a busy machine before it counts as failed.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How long a server may take to finish what it is doing when asked to end.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Names another binary to test, for instance an optimised one.
const BINARY_VARIABLE: &str = "POSTERN_BINARY";

/// A running `postern serve`. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: File,
    data: PathBuf,
    bootstrap: Bootstrap,
    /// The folder that holds `data`, when it is the server's own. Removed after the process has ended.
    scratch: Option<Scratch>,
    /// Where in the bench it runs.
    place: Option<Place>,
}

/// What the server writes for its first administrator: `bootstrap.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the file")]
pub struct Bootstrap {
    pub tenant_id: String,
    pub subscription_id: String,
    pub client_id: String,
    pub client_secret: String,
    pub ca_file: PathBuf,
    pub arm_endpoint: String,
    pub authority: String,
    pub registry_suffix: String,
    pub proxy: String,
    pub listen: Vec<SocketAddr>,
}

impl Server {
    /// A server with fresh data on a free port.
    pub fn start() -> Self {
        let scratch = Scratch::new();
        let mut server = Self::start_in(&scratch.join("data"), &[]);
        server.scratch = Some(scratch);
        server
    }

    /// A server on existing or new data, with further arguments of `postern serve`. It listens on a free port unless
    /// they name one.
    pub fn start_in(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, arguments, &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(data: &Path, arguments: &[&str], variables: &[(&str, &Path)]) -> Self {
        let mut command = std::process::Command::new(binary());
        command.arg("serve").arg("--data").arg(data);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(arguments);
        command.env_clear().envs(variables.iter().copied());
        Self::launch(command, data)
    }

    /// A server with fresh data whose clock is set by a file: `+0` is now, `+90m` is in an hour and a half. It is looked at whenever the
    /// server asks for the time.
    pub fn start_with_clock(clock: &Path) -> Self {
        let scratch = Scratch::new();
        let data = scratch.join("data");
        let mut command = std::process::Command::new("env");
        command
            .arg(format!("LD_PRELOAD={}", tools::clock_library().display()))
            .arg(format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()))
            // Waiting times stay what they are.
            .args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
            .arg(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data);
        let mut server = Self::launch(command, &data);
        server.scratch = Some(scratch);
        server
    }

    /// A server in a place of the bench, with further arguments of `postern serve`.
    pub fn start_at(place: &Place, data: &Path, arguments: &[&str]) -> Self {
        let mut command = std::process::Command::new(binary());
        command.arg("serve").arg("--data").arg(data).args(arguments).env("PATH", search_path());
        let mut command = entering(place, &command);
        command.env_clear();
        let mut server = Self::launch(command, data);
        server.place = Some(place.clone());
        server
    }

    /// A server whose data folder, below this one, is a disk of its own of so many MiB that nobody else sees. It needs root or an
    /// unprivileged user namespace.
    pub fn start_on_small_disk(folder: &Path, size_mib: u32, arguments: &[&str]) -> Self {
        let script = r#"mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@""#;
        let mut command = std::process::Command::new("unshare");
        command.env_clear().args([
            "--map-root-user",
            "--mount",
            "/bin/sh",
            "-c",
            script,
            "sh",
            &format!("{size_mib}m"),
        ]);
        let data = folder.join("data");
        command.arg(folder).arg(binary()).arg("serve").arg("--data").arg(&data);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::launch(command, &data)
    }

    /// A file as the server sees it, which may have disks of its own.
    pub fn seen(&self, path: &Path) -> PathBuf {
        seen_by(&self.child, path)
    }

    /// Asks the server to end and returns how it did. The test fails when it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = wait_at_most(&mut self.child, STOP_LIMIT);
        status.unwrap_or_else(|| panic!("the server did not end when asked to\n{}", self.log()))
    }

    /// Ends the server at once, as a crash would.
    pub fn crash(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Asks the server to read its configuration again.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("the server runs");
    }

    /// What the server wrote for its administrator.
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The first address it listens on.
    pub fn address(&self) -> SocketAddr {
        *self.bootstrap.listen.first().expect("a server listens on an address")
    }

    /// The host name of a registry.
    pub fn registry_host(&self, name: &str) -> String {
        format!("{name}.{}", self.bootstrap.registry_suffix.trim_start_matches('.'))
    }

    /// The process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        content(&self.log)
    }

    /// curl that trusts the server and reaches it under every host name. It prints the body; errors of HTTP do not
    /// make it fail.
    pub fn curl(&self) -> Command {
        let command = Command::new(tool("curl"));
        let command = match &self.place {
            Some(place) => command.within(place),
            None => command,
        };
        command
            .args(["--silent", "--show-error", "--max-time", "50", "--cacert"])
            .arg(self.seen(&self.bootstrap.ca_file))
            .args(["--connect-to", &format!("::{}", self.address())])
    }

    /// Starts a prepared command and waits for its line. The server stays in the group of the test's processes, so
    /// that it ends with the test even when that is killed.
    fn launch(mut command: std::process::Command, data: &Path) -> Self {
        let log = unnamed_file();
        command
            .env("PATH", search_path())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(same(&log));
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", command.get_program().display()));
        let stdout = child.stdout.take().expect("standard output is piped");
        match watch_for_ready(stdout, same(&log)).recv_timeout(READY_LIMIT) {
            Ok(file) => match Bootstrap::read(&seen_by(&child, &file)) {
                Ok(bootstrap) => Self { child, log, data: data.to_path_buf(), bootstrap, scratch: None, place: None },
                Err(problem) => fail(child, &log, &problem),
            },
            Err(RecvTimeoutError::Timeout) => fail(child, &log, "the server did not get ready in time"),
            Err(RecvTimeoutError::Disconnected) => fail(child, &log, "the server ended before it was ready"),
        }
    }

    fn signal(&mut self, signal: Signal) {
        // Once the child is reaped its id may belong to somebody else.
        if let Ok(None) = self.child.try_wait() {
            // An error says that it has ended meanwhile, which is what is wanted.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if wait_at_most(&mut self.child, STOP_LIMIT).is_none() {
            self.crash();
        }
    }
}

impl Bootstrap {
    fn read(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Self::parse(&text).map_err(|problem| format!("{}: {problem}", file.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let field = |name: &str| {
            value.get(name).and_then(|value| value.as_str()).map(str::to_owned).ok_or(format!("no text `{name}`"))
        };
        let addresses = value.get("listen").and_then(|value| value.as_array()).ok_or("no list `listen`")?;
        let listen: Option<Vec<SocketAddr>> = addresses.iter().map(|value| value.as_str()?.parse().ok()).collect();
        Ok(Self {
            tenant_id: field("tenantId")?,
            subscription_id: field("subscriptionId")?,
            client_id: field("clientId")?,
            client_secret: field("clientSecret")?,
            ca_file: field("caFile")?.into(),
            arm_endpoint: field("armEndpoint")?,
            authority: field("authority")?,
            registry_suffix: field("registrySuffix")?,
            proxy: field("proxy")?,
            listen: listen.filter(|list| !list.is_empty()).ok_or("`listen` is not a list of addresses and ports")?,
        })
    }
}

/// The path that the line on standard output names. Goes on copying the output to the log until it ends.
fn watch_for_ready(stdout: impl std::io::Read + Send + 'static, mut log: File) -> Receiver<PathBuf> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The log is for people; losing a line of it must not stop the server's output from being read.
            let _ = log.write_all(format!("{line}\n").as_bytes());
            if let Some(path) = line.strip_prefix(READY)
                && let Some(sender) = sender.take()
            {
                let _ = sender.send(PathBuf::from(path));
            }
        }
    });
    receiver
}

fn seen_by(child: &Child, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", child.id()));
    let seen = path.strip_prefix("/").map(|path| root.join(path));
    seen.ok().filter(|seen| seen.exists()).unwrap_or_else(|| path.to_owned())
}

fn fail(mut child: Child, log: &File, problem: &str) -> ! {
    let _ = child.kill();
    let _ = child.wait();
    panic!("{problem}\n--- output\n{}", content(log));
}

/// The binary that the same build made: next to the folder of the test's own executable.
pub fn binary() -> PathBuf {
    std::env::var_os(BINARY_VARIABLE).map_or_else(|| built("postern"), PathBuf::from)
}

/// The client made with the `oci-client` crate.
pub fn oci_client() -> PathBuf {
    built("oci-client")
}

/// The bench: load generator and table.
pub fn bench_program() -> PathBuf {
    built("postern-bench")
}

fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let mut candidates = test.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    candidates.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("there is no `{name}` beside {}: run `cargo build --workspace --bins`", test.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"tenantId":"t","subscriptionId":"s","clientId":"c","clientSecret":"x","caFile":"/ca.pem",
        "armEndpoint":"https://arm","authority":"https://login","registrySuffix":"registry.test","proxy":"http://p",
        "listen":["127.0.0.1:4433","[::1]:4433"]}"#;

    /// A shell script in the place of the server.
    fn launch(script: &str) -> Server {
        let scratch = Scratch::new();
        scratch.write("bootstrap.json", FILE);
        let mut command = std::process::Command::new("/bin/sh");
        command.env_clear().args(["-c", script]).current_dir(scratch.path());
        let mut server = Server::launch(command, scratch.path());
        server.scratch = Some(scratch);
        server
    }

    #[test]
    fn ready_then_stopped() {
        let mut server = launch(
            "trap 'echo bye; exit 7' TERM; echo first >&2; echo \"postern is ready: $PWD/bootstrap.json\"; while :; do read line; done",
        );
        assert_eq!(server.address().port(), 4433);
        assert_eq!(server.registry_host("acme"), "acme.registry.test");
        let status = server.stop();
        assert_eq!(status.code(), Some(7));
        assert!(server.log().contains("first"), "{}", server.log());
    }

    #[test]
    fn dropped_without_a_trace() {
        let server = launch("echo \"postern is ready: $PWD/bootstrap.json\"; exec sleep 600");
        let (process, data) = (server.process_id(), server.data().to_path_buf());
        drop(server);
        assert!(!Path::new(&format!("/proc/{process}")).exists());
        assert!(!data.exists());
    }

    #[test]
    #[should_panic(expected = "the server ended before it was ready\n--- output\nport is taken")]
    fn a_failed_start_shows_why() {
        launch("echo port is taken >&2; exit 1");
    }

    #[test]
    fn bootstrap_files() {
        let bootstrap = Bootstrap::parse(FILE).expect("the example is complete");
        assert_eq!(bootstrap.ca_file, Path::new("/ca.pem"));
        assert_eq!(bootstrap.listen.len(), 2);
        for (text, problem) in [
            (FILE.replace("clientSecret", "secret"), "no text `clientSecret`"),
            (FILE.replace(r#""127.0.0.1:4433","[::1]:4433""#, ""), "`listen` is not a list of addresses and ports"),
        ] {
            assert_eq!(Bootstrap::parse(&text), Err(problem.to_owned()));
        }
    }
}

//! A container engine for docker to talk to.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::command::unnamed_file;
use crate::{Command, Containers, tool};

/// Becomes the engine, which is handed its socket in the way of systemd: as file 3, with its own process id in the environment. So
/// nobody has to wait for it: who connects before it listens is served when it does. It ends by itself when nobody has wanted anything
/// for a while, which is for tests that were killed.
const BECOME_ENGINE: &str =
    r#"LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$0" system service --time=120 3<&0 </dev/null"#;

/// podman's service on a socket of its own, and docker's client in front of it. Ends when dropped.
///
/// The engine does the pulling and pushing, with its own trust and proxy; docker brings the credentials.
#[derive(Debug)]
pub struct Engine<'a> {
    containers: &'a Containers,
    process: Child,
    socket: PathBuf,
}

impl<'a> Engine<'a> {
    /// Starts the engine through another program, which gets the engine's command line as its last arguments.
    pub(crate) fn start(containers: &'a Containers, launcher: Command, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket can be made in a temporary folder");
        let launcher = containers.settings(launcher.args(["/bin/sh", "-c", BECOME_ENGINE]).arg(tool("podman")));
        let process = launcher.start(OwnedFd::from(listener), &unnamed_file());
        Self { containers, process, socket: socket.to_path_buf() }
    }

    /// docker.
    pub fn docker(&self) -> Command {
        let docker = self.containers.settings(Command::new(tool("docker")));
        // Builds go to the engine as they are; the newer way needs a plugin.
        docker.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).env("DOCKER_BUILDKIT", "0")
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // The launcher and the engine are a group of their own. An error says that both have ended by themselves.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

//! A server as a process: on its own processor, ended on drop.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{self, Cores};

const START: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);
/// A server counts as quiet when it uses less than a hundredth of a processor for so long.
const QUIET_WINDOW: Duration = Duration::from_millis(25);
/// Longest wait for what a server still has to do after its last answer.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// A running server.
pub(crate) struct Server {
    child: Child,
    name: &'static str,
}

/// Starts programs on the servers' processor, with what they print in a file.
#[derive(Clone, Copy)]
pub(crate) struct Starter<'a> {
    pub(crate) cores: Option<Cores>,
    /// Folder for what they print.
    pub(crate) logs: &'a Path,
}

impl Starter<'_> {
    /// Starts a program that says nothing when it is ready.
    pub(crate) fn start(&self, name: &'static str, command: &mut Command) -> Result<Server> {
        self.launch(name, command.stdout(Stdio::null()))
    }

    /// Starts a program and waits for the line that begins so; gives the rest of the line.
    pub(crate) fn start_until(
        &self,
        name: &'static str,
        command: &mut Command,
        ready: &'static str,
    ) -> Result<(Server, String)> {
        let mut server = self.launch(name, command.stdout(Stdio::piped()))?;
        let output = server.child.stdout.take().context("no output")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix(ready) {
                    let _ = sender.send(rest.trim().to_owned());
                }
            }
        });
        let log = self.logs.join(format!("{name}.log"));
        let line = receiver
            .recv_timeout(START)
            .with_context(|| format!("{name} did not get ready:\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        Ok((server, line))
    }

    fn launch(&self, name: &'static str, command: &mut Command) -> Result<Server> {
        let log = File::options().create(true).append(true).open(self.logs.join(format!("{name}.log")))?;
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).stderr(log);
        // A child runs where the thread that starts it runs.
        if let Some(cores) = self.cores {
            machine::pin(cores.server)?;
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()));
        if let Some(cores) = self.cores {
            machine::pin(cores.client)?;
        }
        Ok(Server { child: child?, name })
    }
}

impl Server {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it and its children have used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for process in self.processes() {
            sum += machine::cpu_of(process).with_context(|| self.name)?;
        }
        Ok(sum)
    }

    /// A figure of memory over it and its children, in KiB.
    pub(crate) fn memory(&self, name: &str) -> Result<u64> {
        self.processes().into_iter().map(|process| machine::memory_of(process, name)).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let mut processes = machine::children_of(self.id());
        processes.push(self.id());
        processes
    }

    /// Waits until it has done what it does after its last answer.
    pub(crate) fn settle(&self) -> Result<()> {
        let start = Instant::now();
        let mut before = self.cpu()?;
        while start.elapsed() < QUIET_LIMIT {
            thread::sleep(QUIET_WINDOW);
            let now = self.cpu()?;
            if now.saturating_sub(before) < QUIET_WINDOW / 100 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Waits until somebody listens.
    pub(crate) fn listening(&mut self, address: SocketAddr) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            if start.elapsed() > START {
                bail!("{} does not listen", self.name);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
            let start = Instant::now();
            while self.child.try_wait()?.is_none() {
                if start.elapsed() > STOP {
                    self.child.kill()?;
                    self.child.wait()?;
                    bail!("{} does not end when asked to", self.name);
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.stop();
    }
}

/// An address that nobody listens on at the moment, for servers that cannot choose one themselves.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

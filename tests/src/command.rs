//! Programs with a time limit, a clean environment and captured output.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::Place;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How long a program may take when nothing else is said.
const DEFAULT_LIMIT: Duration = Duration::from_mins(1);
/// How much of each output is kept.
const OUTPUT_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// Folders of administrators' programs, which not every search path names.
const ADMINISTRATOR_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A program to run: with the search path and nothing else of this process's environment, so that proxies,
/// credentials and settings of the machine play no part.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    limit: Duration,
    input: Vec<u8>,
    place: Option<Place>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// The exit status; nothing when the program was stopped by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
    signal: Option<i32>,
    over_limit: bool,
}

impl Command {
    /// A program by path or name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = std::process::Command::new(program);
        inner.env_clear().env("PATH", search_path()).env("LANG", "C.UTF-8");
        Self { inner, limit: DEFAULT_LIMIT, input: Vec::new(), place: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.inner.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets the folder to run in.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.inner.current_dir(folder);
        self
    }

    /// What the program reads from standard input; nothing otherwise.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long the program may take, instead of a minute. Then it is killed, with all it started.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The program runs in a place of the bench.
    #[must_use]
    pub fn within(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Runs the program to its end.
    pub fn run(mut self) -> Outcome {
        let mut command = shown(&self.inner);
        if let Some(place) = &self.place {
            command = format!("[{}] {command}", place.name());
            self.inner = entering(place, &self.inner);
        }
        // Files, not pipes: a program that stays behind cannot keep the test waiting for the end of a pipe.
        let (stdout, stderr) = (unnamed_file(), unnamed_file());
        let mut input = unnamed_file();
        input.write_all(&self.input).and_then(|()| input.rewind()).expect("a temporary file can be written");
        self.inner.process_group(0).stdin(input).stdout(same(&stdout)).stderr(same(&stderr));

        let start = Instant::now();
        let mut child = self.inner.spawn().unwrap_or_else(|error| panic!("cannot start {command}: {error}"));
        let over_limit = end_of(&child).recv_timeout(self.limit).is_err();
        if over_limit {
            // An error says that nothing of the group is left, which is what is wanted.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        }
        let status = child.wait().expect("a child can be waited for");
        Outcome {
            command,
            code: status.code(),
            stdout: content(&stdout),
            stderr: content(&stderr),
            elapsed: start.elapsed(),
            signal: status.signal(),
            over_limit,
        }
    }

    /// Starts the program and leaves it running, as the head of a group of its own. Its output goes to the file.
    pub(crate) fn start(mut self, input: impl Into<Stdio>, output: &File) -> Child {
        if let Some(place) = &self.place {
            self.inner = entering(place, &self.inner);
        }
        self.inner.process_group(0).stdin(input).stdout(same(output)).stderr(same(output));
        let command = shown(&self.inner);
        self.inner.spawn().unwrap_or_else(|error| panic!("cannot start {command}: {error}"))
    }

    /// Runs the program and returns what it wrote to standard output; the test fails unless it succeeds.
    pub fn stdout(self) -> String {
        self.run().succeeded().stdout
    }
}

impl Outcome {
    /// Fails the test unless the program succeeded.
    #[must_use]
    pub fn succeeded(self) -> Self {
        assert!(self.code == Some(0), "expected success of {self}");
        self
    }

    /// Fails the test unless the program ended by itself with an error.
    #[must_use]
    pub fn failed(self) -> Self {
        assert!(!self.over_limit && self.code.is_some_and(|code| code != 0), "expected failure of {self}");
        self
    }

    /// Standard output as JSON; the test fails when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("expected JSON ({error}) of {self}"))
    }
}

impl Display for Outcome {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\nafter {:.1} s: ", self.command, self.elapsed.as_secs_f64())?;
        match (self.over_limit, self.code, self.signal) {
            (true, ..) => write!(formatter, "killed at its time limit")?,
            (false, Some(code), _) => write!(formatter, "status {code}")?,
            (false, None, signal) => write!(formatter, "signal {}", signal.unwrap_or_default())?,
        }
        write!(formatter, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// The same program, started in a place of the bench. Entering it leaves the working folder, which is therefore entered again.
pub(crate) fn entering(place: &Place, program: &std::process::Command) -> std::process::Command {
    let [enter, options @ ..] = place.entrance();
    let mut entering = std::process::Command::new(enter);
    entering.args(options).arg("env");
    if let Some(folder) = program.get_current_dir() {
        entering.arg("--chdir").arg(folder);
    }
    entering.arg(program.get_program()).args(program.get_args()).env_clear();
    for (name, value) in program.get_envs() {
        entering.env(name, value.unwrap_or_default());
    }
    entering
}

/// This process's search path, completed.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(ADMINISTRATOR_FOLDERS);
    path
}

/// A message arrives when the child has ended. The child is not reaped, so its id stays its own until it is waited for.
pub(crate) fn end_of(child: &Child) -> Receiver<()> {
    let pid = Pid::from_child(child);
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let ended =
            rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        if ended.is_ok() {
            // Nobody listens any more when the waiting side gave up.
            let _ = sender.send(());
        }
    });
    receiver
}

/// Prints on behalf of a test.
#[expect(clippy::print_stdout, reason = "the test harness shows what a failed test has printed")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Waits for the end of a child for at most `limit`.
pub(crate) fn wait_at_most(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    end_of(child).recv_timeout(limit).ok()?;
    child.wait().ok()
}

pub(crate) fn unnamed_file() -> File {
    tempfile::tempfile().expect("a temporary file can be created")
}

/// Another handle of the same file, with the same position.
pub(crate) fn same(file: &File) -> File {
    file.try_clone().expect("a file handle can be duplicated")
}

/// The first part of a file, without moving its position.
pub(crate) fn content(file: &File) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(OUTPUT_LIMIT_BYTES)];
    file.read_exact_at(&mut bytes, 0).expect("a temporary file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shown(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn output_input_and_status() {
        let outcome = shell("cat; echo to stderr >&2; exit 3").input("to stdout").run().failed();
        assert_eq!(
            (outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()),
            (Some(3), "to stdout", "to stderr\n")
        );
        assert!(outcome.to_string().contains("status 3"), "{outcome}");
    }

    #[test]
    fn only_the_search_path_is_inherited() {
        let names = shell("env | cut -d= -f1 | sort | tr '\\n' ' '").stdout();
        assert_eq!(names.trim(), "LANG PATH PWD");
    }

    #[test]
    fn a_program_over_its_limit_is_killed_with_all_it_started() {
        let scratch = crate::Scratch::new();
        let script = "sleep 600 & echo $! > pid; wait";
        let outcome = shell(script).current_dir(scratch.path()).limit(Duration::from_secs(2)).run();
        assert!(outcome.to_string().contains("killed at its time limit"), "{outcome}");
        let pid = std::fs::read_to_string(scratch.path().join("pid")).expect("the shell had time to write");
        // The kernel may still be busy ending it.
        let running = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let start = Instant::now();
        while running() {
            assert!(start.elapsed() < DEFAULT_LIMIT, "still running");
            thread::yield_now();
        }
    }
}

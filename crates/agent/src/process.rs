//! Child processes: their output goes to the log line by line, and none outlives what it was started for.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::log::Log;

/// Longest line that is shown as one.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Most output that is kept of a program whose output is an answer.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// A program that could not do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It could not be started, or its output could not be read.
    #[error("cannot run {program}: {source}")]
    Io {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed with {status}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Failed {
        /// The program.
        program: String,
        /// `exit status: 1`.
        status: ExitStatus,
        /// The end of what it wrote.
        message: String,
    },
}

/// A command in a group of its own, without input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).process_group(0).env_clear();
    let path = std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    command.env("PATH", path);
    command
}

/// Kills a process and those that it started when it is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Once it was waited for there is no id any more.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Runs a program; its output goes to the log as it comes.
pub(crate) async fn logged(mut command: Command, log: &Log) -> Result<ExitStatus, ProcessError> {
    let program = name_of(&command);
    let failed = |source| ProcessError::Io { program: program.clone(), source };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group(command.spawn().map_err(failed)?);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let ((), (), status) = tokio::join!(lines(stdout, log), lines(stderr, log), group.0.wait());
    status.map_err(failed)
}

/// Runs a program and gives what it writes.
pub(crate) async fn answer(mut command: Command) -> Result<String, ProcessError> {
    let program = name_of(&command);
    let failed = |source| ProcessError::Io { program: program.clone(), source };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group(command.spawn().map_err(failed)?);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let (answer, told, status) = tokio::join!(all(stdout), all(stderr), group.0.wait());
    let status = status.map_err(failed)?;
    if status.success() {
        return Ok(answer);
    }
    let told =
        told.trim().lines().next_back().unwrap_or_default().chars().filter(|c| !c.is_control()).take(1000).collect();
    Err(ProcessError::Failed { program, status, message: told })
}

fn name_of(command: &Command) -> String {
    command.as_std().get_program().to_string_lossy().into_owned()
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut stream = stream.take(MAX_ANSWER_BYTES);
        let _ = stream.read_to_end(&mut bytes).await;
        // The rest is not needed, and whoever writes it must not wait.
        let _ = tokio::io::copy(&mut stream.into_inner(), &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a stream to the log, line by line. A line that is too long is cut into several.
async fn lines(stream: Option<impl AsyncRead + Unpin>, log: &Log) {
    let Some(mut stream) = stream else { return };
    let (mut line, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        for byte in buffer.iter().take(read) {
            if *byte == b'\n' || line.len() >= MAX_LINE_BYTES {
                log.plain(&shown(&line)).await;
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
    }
    if !line.is_empty() {
        log.plain(&shown(&line)).await;
    }
}

/// What a terminal would show of a line: of what was written over, the last.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    String::from_utf8_lossy(last).into_owned()
}

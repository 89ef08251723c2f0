//! A worker as a process of its own: in namespaces of its own, so that nothing of it is left when it is gone.
//!
//! ```text
//!  whoever issues certificates ── lines of JSON ──▶ unshare ─▶ worker (first process of its namespaces) ─▶ buildah, runc
//! ```
//!
//! The worker's private key is made in it and never leaves; what it gets from outside are certificates for it, asked for over its
//! standard output.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use postern_identity::{CertificateSource, GatewayError, WorkloadCertificate};
use postern_model::{Clock, Random, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc, watch};

use crate::agent::{Agent, AgentOptions};
use crate::engine::{control_group, group_of, remove_control_groups};
use crate::{Connection, NetworkMode};

/// Longest line between a worker and whoever issues its certificates.
const MAX_LINE_BYTES: u64 = 256 << 10;

/// What a worker is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSettings {
    /// What it calls itself, for people; a name for files and control groups too.
    pub name: String,
    /// The server's address: `host:port`.
    pub address: String,
    /// The authority of the server's certificate.
    pub ca_pem: String,
    /// The server's name for tunnels.
    pub gateway_name: String,
    /// What registries' names end with, without a port.
    pub suffix: String,
    /// The base URL of the server's own API.
    pub control: String,
    /// The address to dial from, where it matters.
    pub local_address: Option<IpAddr>,
    /// Where it keeps files.
    pub folder: PathBuf,
    /// What its containers reach.
    pub network: NetworkMode,
    /// Whether it builds where nothing but chroot keeps steps apart from the machine.
    pub unsafe_builds: bool,
    /// The memory that one run may take, in bytes.
    pub memory_bytes: u64,
    /// The network namespace that it works in, by its path; none is that of whoever starts it.
    pub namespace: Option<PathBuf>,
    /// It ends when there was no run for so many seconds; none: it waits on.
    pub idle_seconds: Option<u32>,
}

/// What a worker hears after its settings.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
enum Told {
    /// A certificate for the request that was sent last.
    #[serde(rename_all = "camelCase")]
    Issued { certificate: String, ca: String, not_after: String },
    /// There is none.
    Refused { reason: String },
    /// The worker ends when its run has.
    Drain,
    /// The run that goes on is given up, and the worker ends.
    Stop,
}

/// What a worker asks for.
#[derive(Serialize, Deserialize)]
struct Asked {
    csr: String,
}

/// Starts a worker and gives it certificates until it ends, by itself or as `stop` says.
///
/// `program` is this program, told to be a worker, as [`in_own_namespaces`] makes it. A worker whose supervisor is gone carries on with the
/// run that it has, takes no other, and ends.
///
/// # Errors
/// When it cannot be started.
pub async fn supervise(
    program: &mut Command,
    settings: &WorkerSettings,
    certificates: Arc<dyn CertificateSource>,
    mut stop: watch::Receiver<Stopping>,
) -> io::Result<ExitStatus> {
    let group = control_group(&group_of(&settings.folder));
    // Of one that was killed together with whoever attended to it.
    remove_control_groups(&group);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("a worker has no input or no output"));
    };
    write_line(&mut input, settings).await?;
    // A line that has begun to come is read on by itself, whatever happens meanwhile.
    let (asked, mut asks) = mpsc::channel(1);
    let reading = tokio::spawn(async move {
        let mut output = BufReader::new(output);
        while let Ok(Some(ask)) = read_line::<Asked>(&mut output).await {
            if asked.send(ask).await.is_err() {
                return;
            }
        }
    });
    let mut heard = Stopping::No;
    loop {
        let ask = tokio::select! {
            ask = asks.recv() => ask,
            sooner = sooner(&mut stop, heard), if heard != Stopping::Now => {
                heard = sooner;
                let told = if heard == Stopping::Now { Told::Stop } else { Told::Drain };
                // It may have ended by itself.
                let _ = write_line(&mut input, &told).await;
                continue;
            }
        };
        let Some(Asked { csr }) = ask else { break };
        let told = match certificates.certificate(csr).await {
            Ok(WorkloadCertificate { certificate_pem, ca_pem, not_after }) => {
                Told::Issued { certificate: certificate_pem, ca: ca_pem, not_after: not_after.to_string() }
            }
            Err(error) => Told::Refused { reason: error.to_string() },
        };
        if write_line(&mut input, &told).await.is_err() {
            break;
        }
    }
    let ended = child.wait().await;
    reading.abort();
    // Processes and mounts went with it; these do not.
    remove_control_groups(&group);
    ended
}

/// Waits until a worker is to end sooner than it heard before. Whoever could say so being gone is as good as being told.
async fn sooner(stop: &mut watch::Receiver<Stopping>, heard: Stopping) -> Stopping {
    stop.wait_for(|stop| *stop > heard).await.map_or(Stopping::Now, |stop| *stop)
}

/// The command that starts a program in namespaces of its own: when it ends, however it does, its processes and mounts do.
pub fn in_own_namespaces(program: &std::path::Path, settings: &WorkerSettings) -> Command {
    let mut command = match &settings.namespace {
        Some(namespace) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", namespace.display())).arg("unshare");
            command
        }
        None => Command::new("unshare"),
    };
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]);
    command.arg(program);
    command
}

/// Be a worker: settings come first on standard input, then certificates as they are asked for on standard output.
///
/// # Errors
/// When the settings cannot be read, or there is no certificate to be had.
pub async fn be_worker(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> io::Result<()> {
    let input = Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let output = Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned()?)?;
    let mut input = BufReader::new(input);
    let settings: WorkerSettings =
        read_line(&mut input).await?.ok_or_else(|| io::Error::other("a worker is started by the server"))?;
    let (issued, answers) = mpsc::channel(1);
    let (stop, stopping) = watch::channel(Stopping::No);
    tokio::spawn(listen(input, issued, stop));
    let line = Arc::new(Mutex::new((output, answers)));
    let certificates = move |request: String| {
        // An answer belongs to its request, also when whoever asked does not wait for it.
        let asking = tokio::spawn(certificate(Arc::clone(&line), request));
        async move { asking.await.unwrap_or(Err(GatewayError::Timeout)) }
    };
    let connection = Connection {
        address: settings.address,
        ca_pem: settings.ca_pem,
        gateway_name: settings.gateway_name,
        suffix: settings.suffix,
        control: settings.control,
        local_address: settings.local_address,
        clock,
        random,
    };
    let options = AgentOptions {
        name: settings.name,
        connection,
        certificates: Arc::new(certificates),
        folder: settings.folder,
        network: settings.network,
        unsafe_builds: settings.unsafe_builds,
        memory_bytes: settings.memory_bytes,
        idle: settings.idle_seconds.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let agent = Agent::start(options).await.map_err(io::Error::other)?;
    agent.work(stopping).await;
    Ok(())
}

/// How soon a worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopping {
    /// Not at all.
    No,
    /// When its run has ended.
    AfterRun,
    /// At once.
    Now,
}

/// Hears what a worker is told.
async fn listen(mut input: BufReader<Receiver>, issued: mpsc::Sender<Told>, stop: watch::Sender<Stopping>) {
    loop {
        match read_line::<Told>(&mut input).await {
            Ok(Some(Told::Stop)) => drop(stop.send_replace(Stopping::Now)),
            Ok(Some(Told::Drain)) => end_after_run(&stop),
            // Nobody waits for an answer once the worker ends.
            Ok(Some(told)) => drop(issued.send(told).await),
            Ok(None) | Err(_) => {
                end_after_run(&stop);
                return;
            }
        }
    }
}

fn end_after_run(stop: &watch::Sender<Stopping>) {
    stop.send_if_modified(|stopping| {
        let is_sooner = *stopping < Stopping::AfterRun;
        *stopping = (*stopping).max(Stopping::AfterRun);
        is_sooner
    });
}

type Line = Arc<Mutex<(Sender, mpsc::Receiver<Told>)>>;

/// Asks whoever started the worker for a certificate.
async fn certificate(line: Line, csr: String) -> Result<WorkloadCertificate, GatewayError> {
    let mut line = line.lock().await;
    let (output, answers) = &mut *line;
    write_line(output, &Asked { csr }).await?;
    match answers.recv().await {
        Some(Told::Issued { certificate, ca, not_after }) => {
            let not_after = not_after.parse::<Timestamp>().map_err(|_| GatewayError::Malformed("certificate"))?;
            Ok(WorkloadCertificate { certificate_pem: certificate, ca_pem: ca, not_after })
        }
        Some(Told::Refused { reason }) => Err(GatewayError::Refused(reason)),
        Some(Told::Stop | Told::Drain) | None => {
            Err(GatewayError::Refused("whoever started the worker is gone".into()))
        }
    }
}

async fn write_line(output: &mut (impl tokio::io::AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await
}

/// One line as a value; none at the end.
async fn read_line<T: for<'de> Deserialize<'de>>(
    input: &mut (impl tokio::io::AsyncBufRead + Unpin),
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let mut limited = tokio::io::AsyncReadExt::take(input, MAX_LINE_BYTES);
    if limited.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}

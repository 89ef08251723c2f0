//! The worker's loop: asks for a run, carries it out, asks for the next.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_identity::{CertificateSource, Gateway, GatewayError};
use postern_tasks::order::LeaseRequest;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use crate::Connection;
use crate::engine::{Engine, NetworkMode};
use crate::folder::remove_tree;
use crate::run;
use crate::server::{Server, ServerError};
use crate::worker::Stopping;

/// How long the server may take to find a run, in seconds.
const WAIT_SECONDS: u32 = 20;
/// After the server could not be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Folders of runs, below the worker's own.
pub(crate) const RUNS: &str = "runs";
/// The file that a worker holds as long as its folder is its.
const LOCK: &str = "lock";

/// What a worker is made of.
pub(crate) struct AgentOptions {
    /// What it calls itself.
    pub(crate) name: String,
    /// The server.
    pub(crate) connection: Connection,
    /// What it proves itself with.
    pub(crate) certificates: Arc<dyn CertificateSource>,
    /// Where it keeps files.
    pub(crate) folder: PathBuf,
    /// What its containers reach.
    pub(crate) network: NetworkMode,
    /// Whether chroot alone will do.
    pub(crate) unsafe_builds: bool,
    /// The memory that one run may take, in bytes.
    pub(crate) memory_bytes: u64,
    /// It ends when there was no run for so long; none: it waits on.
    pub(crate) idle: Option<Duration>,
}

/// A worker.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) connection: Connection,
    pub(crate) server: Server,
    pub(crate) engine: Engine,
    pub(crate) folder: PathBuf,
    pub(crate) memory_bytes: u64,
    idle: Option<Duration>,
    /// The folder is this worker's until this is dropped.
    _own: File,
    /// The way to the server; ends with this.
    _gateway: Gateway,
}

impl Agent {
    /// Gets a first certificate, and looks what the machine can do.
    pub(crate) async fn start(options: AgentOptions) -> Result<Self, GatewayError> {
        let AgentOptions { name, connection, certificates, folder, network, unsafe_builds, memory_bytes, idle } =
            options;
        std::fs::create_dir_all(&folder)?;
        let own = take_folder(folder.clone()).await?;
        // Of a worker that was killed: nobody else has this folder. What cannot be removed takes room and nothing else.
        if let Err(error) = remove_tree(&folder.join(RUNS)) {
            tracing::error!(folder = %folder.display(), error = %error, "what a killed worker left cannot be removed");
        }
        let gateway = connection.gateway(certificates, None, true).await?;
        let server = Server::new(&connection, &gateway)?;
        let engine = Engine::probe(&folder, network, unsafe_builds).await;
        tracing::info!(worker = name, engine = engine.told(), "a worker is ready");
        Ok(Self { name, connection, server, engine, folder, memory_bytes, idle, _own: own, _gateway: gateway })
    }

    /// Carries runs out, one after the other, until it is to stop. A run that is given up then is begun again by somebody else when its
    /// lease has run out, unless it had changed something: then it has failed.
    pub(crate) async fn work(&self, mut stop: watch::Receiver<Stopping>) {
        let wait =
            self.idle.map_or(WAIT_SECONDS, |idle| WAIT_SECONDS.min(u32::try_from(idle.as_secs()).unwrap_or(u32::MAX)));
        let request = LeaseRequest { worker: self.name.clone(), wait_seconds: wait };
        let mut since = Instant::now();
        while *stop.borrow_and_update() == Stopping::No {
            let leased = tokio::select! {
                leased = self.server.lease(&request) => leased,
                _ = stop.changed() => continue,
            };
            match leased {
                Ok(Some(leased)) => {
                    run::carry_out(self, leased, &mut stop).await;
                    since = Instant::now();
                }
                Ok(None) if self.idle.is_some_and(|idle| since.elapsed() >= idle) => return,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %Told(&error), "no run can be asked for");
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        _ = stop.changed() => {}
                    }
                }
            }
        }
    }
}

/// Waits until no other worker has the folder: one that ends with its run may have it still.
async fn take_folder(folder: PathBuf) -> std::io::Result<File> {
    let taken = tokio::task::spawn_blocking(move || {
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    });
    taken.await.map_err(std::io::Error::other)?
}

/// An error with what caused it.
pub(crate) struct Told<'a>(pub(crate) &'a ServerError);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

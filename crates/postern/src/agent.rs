//! `postern agent`: workers that carry runs out, as processes of their own, and who gives them their certificates.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use postern_agent::{NetworkMode, Stopping, WorkerSettings, be_worker, in_own_namespaces, supervise};
use postern_identity::{CertificateSource, GatewayError};
use postern_model::ResourceId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bootstrap::Bootstrap;
use crate::client::{AdminClient, ServerArgument, first_address};
use crate::config::LogConfig;
use crate::server::Names;
use crate::workload::certificate;
use crate::{environment, runtime, say};

/// The subcommand that a worker's own process is started with.
pub(crate) const WORKER: &str = "agent-worker";
/// The memory that one run may take, unless told.
pub(crate) const MEMORY_MIB: u64 = 3072;

#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    #[command(flatten)]
    server: ServerArgument,
    /// The agent pool whose runs are carried out.
    #[arg(long, value_name = "RESOURCE ID")]
    pool: ResourceId,
    /// How many runs at once.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Where files of runs are kept, and layers from run to run.
    #[arg(long, default_value = "postern-agent", value_name = "DIR")]
    folder: PathBuf,
    /// What containers reach: what this process reaches (`worker`), or the server's registries alone (`isolated`).
    #[arg(long, default_value = "worker", value_name = "MODE", value_parser = network_mode)]
    network: NetworkMode,
    /// The network namespace that workers are in, by its path: /run/netns/NAME.
    #[arg(long, value_name = "PATH")]
    namespace: Option<PathBuf>,
    /// Address and port of the server, as workers reach it. Default: as it says itself.
    #[arg(long, value_name = "ADDR:PORT")]
    address: Option<String>,
    /// The address that workers call from.
    #[arg(long, value_name = "ADDR")]
    local_address: Option<IpAddr>,
    /// The memory that one run may take, in MiB.
    #[arg(long, default_value_t = MEMORY_MIB, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    memory_mib: u64,
    /// Build also where nothing but chroot keeps steps apart from the machine.
    #[arg(long)]
    unsafe_builds: bool,
}

fn network_mode(text: &str) -> Result<NetworkMode, String> {
    match text {
        "isolated" => Ok(NetworkMode::Isolated),
        "worker" => Ok(NetworkMode::Worker),
        _ => Err("must be `isolated` or `worker`".into()),
    }
}

pub(crate) fn run(arguments: AgentArguments) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let client = AdminClient::connect(&arguments.server.server).await?;
        let (folder, pool) = (std::path::absolute(&arguments.folder)?, arguments.pool.clone());
        let name = format!("{}-{}", pool.parent().as_ref().map(ResourceId::name).unwrap_or_default(), pool.name());
        let settings = |number: u16| -> anyhow::Result<WorkerSettings> {
            let own = format!("{name}-{number}");
            let address = match &arguments.address {
                Some(address) => address.clone(),
                None => first_address(&client.bootstrap)?.to_string(),
            };
            Ok(WorkerSettings {
                folder: folder.join(&own),
                network: arguments.network,
                namespace: arguments.namespace.clone(),
                local_address: arguments.local_address,
                memory_bytes: arguments.memory_mib << 20,
                unsafe_builds: arguments.unsafe_builds,
                ..worker_settings(&client.bootstrap, own, address)?
            })
        };
        let all = (1..=arguments.workers).map(settings).collect::<anyhow::Result<Vec<_>>>()?;
        let client = Arc::new(client);
        let certificates: Arc<dyn CertificateSource> = Arc::new(move |request: String| {
            let (client, pool) = (Arc::clone(&client), pool.clone());
            async move {
                let issued = certificate(&client, &pool, &request).await;
                issued.map_err(|error| GatewayError::Refused(format!("{error:#}")))
            }
        });
        let (stop, stopped) = watch::channel(Stopping::No);
        let mut workers = JoinSet::new();
        for settings in all {
            let (certificates, stopped) = (Arc::clone(&certificates), stopped.clone());
            workers.spawn(async move { start_worker(&settings, certificates, stopped).await });
        }
        say(format_args!("{} workers carry out the runs of {}", arguments.workers, arguments.pool));
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            stopped = tokio::signal::ctrl_c() => stopped?,
            Some(ended) = workers.join_next() => {
                stop.send_replace(Stopping::Now);
                let status = ended??;
                bail!("a worker ended by itself with {status}");
            }
        }
        stop.send_replace(Stopping::Now);
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What every worker of a server is told.
pub(crate) fn worker_settings(bootstrap: &Bootstrap, name: String, address: String) -> anyhow::Result<WorkerSettings> {
    let suffix = bootstrap.registry_suffix.trim_start_matches('.').split(':').next().unwrap_or_default().to_owned();
    Ok(WorkerSettings {
        name,
        address,
        ca_pem: std::fs::read_to_string(&bootstrap.ca_file)
            .context("cannot read the server's certificate authority")?,
        gateway_name: Names::new(&suffix).gateway().to_owned(),
        suffix,
        control: bootstrap.arm_endpoint.clone(),
        local_address: None,
        folder: PathBuf::new(),
        network: NetworkMode::Isolated,
        unsafe_builds: false,
        memory_bytes: MEMORY_MIB << 20,
        namespace: None,
        idle_seconds: None,
    })
}

/// Starts a worker and attends to it until it has ended.
pub(crate) async fn start_worker(
    settings: &WorkerSettings,
    certificates: Arc<dyn CertificateSource>,
    stop: watch::Receiver<Stopping>,
) -> std::io::Result<std::process::ExitStatus> {
    let program = std::env::current_exe()?;
    let mut command = in_own_namespaces(&program, settings);
    command.arg(WORKER);
    supervise(&mut command, settings, certificates, stop).await
}

/// Be a worker: started by this program only.
pub(crate) fn worker() -> anyhow::Result<ExitCode> {
    crate::serve::start_log(&LogConfig::default())?;
    runtime()?.block_on(be_worker(environment::clock(), environment::random()))?;
    Ok(ExitCode::SUCCESS)
}

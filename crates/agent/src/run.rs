//! One run, from its lease to its report.
//!
//! ```text
//!  files ─▶ plan ─▶ logins ─▶ steps, as they may begin ─▶ report
//!    └─ beside it: heartbeats, the log; ends early when called off, too long, or lost
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postern_identity::{Gateway, GatewayError};
use postern_tasks::lines::{self, LogLine};
use postern_tasks::order::{BeatRequest, Leased, RunEnd, RunOrder, RunReport, Work};
use postern_tasks::{Inputs, Needs, Plan, needs, plan};
use tokio::sync::{OnceCell, watch};

use crate::agent::{Agent, RUNS, Told};
use crate::engine::{EngineError, NetworkMode, PrivateNetwork, RunEngine, Settings, group_of};
use crate::folder::RunFolder;
use crate::log::Log;
use crate::login::{Logins, log_in};
use crate::server::{Server, ServerError};
use crate::source::{Revision, fetch, read_inside};
use crate::steps::{Done, Steps};
use crate::worker::Stopping;

/// Largest task or values file.
const MAX_FILE_BYTES: usize = 1 << 20;
/// A lease is made to last so many times before it would run out.
const BEATS_PER_LEASE: u32 = 3;
/// How long the server may be away when a run has ended.
const REPORT_PATIENCE: Duration = Duration::from_mins(10);
/// How long removing what a run has left may take.
const CLEAN_PATIENCE: Duration = Duration::from_mins(1);
const REPORT_PAUSE: Duration = Duration::from_secs(1);
/// Authorities that a machine trusts, where its tools look for them.
const SYSTEM_AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// What comes before the id in a refusal.
const CORRELATION: &str = "CorrelationId:";

/// What a run failed at, for people.
pub(crate) struct Failure {
    pub(crate) end: RunEnd,
    pub(crate) message: String,
}

impl Failure {
    /// The run itself is at fault.
    pub(crate) fn of_run(message: impl std::fmt::Display) -> Self {
        Self { end: RunEnd::Failed, message: message.to_string() }
    }

    /// The worker or what is around it is.
    pub(crate) fn of_worker(message: impl std::fmt::Display) -> Self {
        Self { end: RunEnd::Error, message: message.to_string() }
    }
}

/// Where a run is carried out.
pub(crate) struct Site {
    pub(crate) order: RunOrder,
    pub(crate) lease: String,
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) folder: RunFolder,
    /// Through the run's gateway.
    pub(crate) http: reqwest::Client,
    pub(crate) gateway: Gateway,
    /// The network of the run's containers and the gateway in it, where they have one of their own.
    pub(crate) network: Option<(PrivateNetwork, Gateway)>,
    pub(crate) engine: Result<RunEngine, EngineError>,
    /// Every authority that the run's programs trust, in one file.
    pub(crate) authorities: PathBuf,
    pub(crate) memory_bytes: u64,
    pub(crate) suffix: String,
    effects: Arc<AtomicBool>,
    /// The server has heard of them.
    known_effects: OnceCell<()>,
}

/// Why a run's work was given up.
enum GivenUp {
    Canceled,
    TimedOut,
    /// Somebody else has the run, or it has ended: nothing is reported.
    Lost,
}

/// Carries a run out and reports how it ended.
pub(crate) async fn carry_out(agent: &Agent, leased: Leased, stop: &mut watch::Receiver<Stopping>) {
    let Leased { lease, lease_seconds, order } = leased;
    let (run_id, timeout) = (order.run_id.clone(), Duration::from_secs(order.timeout_seconds.into()));
    tracing::info!(run.id = run_id, registry = order.registry_name, worker = agent.name, "a run begins");
    let begun = Instant::now();
    let (log, sending) = Log::start(agent.server.clone(), lease.clone(), Arc::clone(&agent.connection.clock));
    let effects = Arc::<AtomicBool>::default();
    let pause = Duration::from_secs(lease_seconds.into()) / BEATS_PER_LEASE;
    let mut done = Done::default();
    let outcome = match Site::new(agent, order, lease.clone(), log.clone(), Arc::clone(&effects)).await {
        Ok(site) => {
            let outcome = tokio::select! {
                worked = site.work(&mut done) => Ok(worked),
                given_up = beats(&agent.server, &lease, pause, &effects) => Err(given_up),
                () = tokio::time::sleep(timeout) => Err(GivenUp::TimedOut),
                () = told_to_stop(stop) => Err(GivenUp::Lost),
            };
            // Whatever became of it: nothing that it began goes on when the next run begins.
            site.end().await;
            outcome
        }
        Err(error) => Ok(Err(Failure::of_worker(format!("the worker could not prepare the run: {error}")))),
    };
    let seconds = begun.elapsed().as_secs();
    let (end, message) = match outcome {
        Ok(Ok(())) => (RunEnd::Succeeded, None),
        Ok(Err(Failure { end, message })) => (end, Some(message)),
        Err(GivenUp::Canceled) => (RunEnd::Canceled, Some("the run was canceled".to_owned())),
        Err(GivenUp::TimedOut) => (RunEnd::Timeout, Some(format!("the run took longer than {}s", timeout.as_secs()))),
        Err(GivenUp::Lost) => {
            tracing::warn!(run.id = run_id, "a run was given up");
            log.close();
            return;
        }
    };
    log.raw(&match &message {
        None => lines::succeeded(&run_id, seconds),
        Some(message) => lines::failed(&run_id, seconds, message),
    })
    .await;
    log.close();
    let Done { outputs, dependencies } = done;
    let told = async {
        // Without the server for long, the lease is lost anyway.
        let _ = tokio::time::timeout(REPORT_PATIENCE, sending.done()).await;
        report(&agent.server, &lease, &RunReport { end, message, outputs, dependencies }).await;
    };
    tokio::select! {
        () = told => {}
        () = until_lost(&agent.server, &lease, pause, &effects) => {}
    }
    tracing::info!(run.id = run_id, run.end = ?end, run.seconds = seconds, "a run has ended");
}

/// Keeps the lease until the run is not to go on.
async fn beats(server: &Server, lease: &str, pause: Duration, effects: &AtomicBool) -> GivenUp {
    let mut beats = tokio::time::interval(pause);
    beats.reset();
    loop {
        beats.tick().await;
        match server.beat(lease, BeatRequest { has_effects: effects.load(Ordering::Acquire) }).await {
            Ok(beat) if beat.canceled => return GivenUp::Canceled,
            Ok(_) => {}
            Err(ServerError::LeaseLost | ServerError::NotFound) => return GivenUp::Lost,
            // It may be there again at the next beat; if it is away for long, the lease is lost then.
            Err(error) => tracing::warn!(error = %Told(&error), "the server does not hear of a run"),
        }
    }
}

/// Keeps the lease of a run that has ended already, until it is lost.
async fn until_lost(server: &Server, lease: &str, pause: Duration, effects: &AtomicBool) {
    while !matches!(beats(server, lease, pause, effects).await, GivenUp::Lost) {}
}

/// Until the worker is to end at once. That nobody can say so any more means nothing.
async fn told_to_stop(stop: &mut watch::Receiver<Stopping>) {
    if stop.wait_for(|stop| *stop == Stopping::Now).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says how a run ended until the server has heard it.
async fn report(server: &Server, lease: &str, report: &RunReport) {
    let begun = Instant::now();
    while let Err(error) = server.end(lease, report).await {
        match error {
            ServerError::Unreachable(_) | ServerError::Refused { status: 500.., .. }
                if begun.elapsed() < REPORT_PATIENCE =>
            {
                tokio::time::sleep(REPORT_PAUSE).await;
            }
            error => {
                tracing::error!(error = %Told(&error), "the end of a run was not reported");
                return;
            }
        }
    }
}

impl Site {
    async fn new(
        agent: &Agent,
        order: RunOrder,
        lease: String,
        log: Log,
        effects: Arc<AtomicBool>,
    ) -> Result<Self, GatewayError> {
        let name = format!("{}-{}", order.registry_name, order.run_id);
        let folder = RunFolder::new(&agent.folder.join(RUNS), &name)?;
        let authorities = folder.path("authorities.crt");
        let mut trusted = agent.connection.ca_pem.clone().into_bytes();
        if let Some(system) = SYSTEM_AUTHORITIES.iter().find_map(|path| fs::read(path).ok()) {
            trusted.extend(system);
        }
        fs::write(&authorities, trusted)?;
        let certificates = {
            let (server, lease) = (agent.server.clone(), lease.clone());
            move |request: String| {
                let (server, lease) = (server.clone(), lease.clone());
                async move {
                    let issued = server.certificate(Some(&lease), &request).await;
                    issued.map_err(|error| GatewayError::Refused(Told(&error).to_string()))
                }
            }
        };
        let gateway = agent.connection.gateway(Arc::new(certificates.clone()), None, true).await?;
        let http = agent.connection.client(&gateway)?;
        let network = match agent.engine.network {
            NetworkMode::Isolated if agent.engine.works() => {
                let network = PrivateNetwork::new().await?;
                let inner = agent.connection.gateway(Arc::new(certificates), Some(network.listen()?), false).await?;
                Some((network, inner))
            }
            NetworkMode::Isolated | NetworkMode::Worker => None,
        };
        let (temporary, home) = (folder.temporary(), folder.home());
        let engine = agent.engine.for_run(&Settings {
            name: &format!("{}/{name}", group_of(&agent.folder)),
            cache: &cache_of(&order),
            folder: &temporary,
            credentials: &folder.config(),
            authorities: &authorities,
            proxy: &gateway.proxy_url,
            home: &home,
        });
        let suffix = order.registry.strip_prefix(&order.registry_name).unwrap_or_default().to_owned();
        Ok(Self {
            lease,
            server: agent.server.clone(),
            log,
            folder,
            http,
            gateway,
            network,
            engine,
            authorities,
            memory_bytes: agent.memory_bytes,
            suffix,
            effects,
            known_effects: OnceCell::new(),
            order,
        })
    }

    /// From now on the run may change something: it is not begun again when this worker dies. The server knows before this returns.
    pub(crate) async fn effects_begin(&self) -> Result<(), Failure> {
        self.effects.store(true, Ordering::Release);
        self.known_effects.get_or_try_init(|| self.tell_effects()).await.copied()
    }

    async fn tell_effects(&self) -> Result<(), Failure> {
        loop {
            match self.server.beat(&self.lease, BeatRequest { has_effects: true }).await {
                // That it is called off is heard by the next heartbeat too.
                Ok(_) => return Ok(()),
                Err(ServerError::Unreachable(_) | ServerError::Refused { status: 500.., .. }) => {
                    tokio::time::sleep(REPORT_PAUSE).await;
                }
                Err(error) => return Err(Failure::of_worker(Told(&error))),
            }
        }
    }

    async fn work(&self, done: &mut Done) -> Result<(), Failure> {
        let volume = format!("acb_vol_{}", self.lease.split('.').next().unwrap_or_default());
        // A task file that came with the order says what is wrong with it before anything is fetched.
        if matches!(self.order.work, Work::Encoded { .. }) {
            let inputs = Inputs { shared_volume: &volume, ..Inputs::default() };
            if let Ok(planned) = plan(&self.order, &inputs)
                && planned.has_aliases
            {
                self.log.line(&LogLine::AliasSupport).await;
            }
        }
        let source = &self.order.source;
        let is_remote = !matches!(source, postern_tasks::order::Source::None);
        if is_remote {
            self.log.line(&LogLine::Downloading).await;
        }
        let fetched = fetch(source, &self.folder, (&self.server, &self.lease), &self.authorities).await;
        let (context, revision) = fetched.map_err(Failure::of_run)?;
        if is_remote {
            self.log.line(&LogLine::Downloaded).await;
        }
        self.server.start(&self.lease).await.map_err(|error| Failure::of_worker(Told(&error)))?;
        let planned = self.plan(&context, &revision, &volume)?;
        self.log.line(&LogLine::HomeVolume(&volume)).await;
        for network in &planned.networks {
            self.log.line(&LogLine::CreatingNetwork { name: &network.name, driver: &network.driver }).await;
            self.log.line(&LogLine::CreatedNetwork(&network.name)).await;
        }
        self.log.line(&LogLine::SettingUp).await;
        self.log.line(&LogLine::SetUp).await;
        let logins = self.log_in().await?;
        Steps { site: self, context: &context, plan: &planned, logins: &logins }.carry_out(done).await
    }

    async fn log_in(&self) -> Result<Logins, Failure> {
        let config = self.folder.config();
        match log_in(&self.http, &self.gateway, &self.order.logins, &config, &self.log).await {
            Ok(logins) => Ok(logins),
            Err(error) => {
                self.log.line(&error).await;
                self.explain(&error.to_string()).await;
                Err(Failure::of_run(format!("failed to login, {error}")))
            }
        }
    }

    /// Where a registry of this server refused something and said under which id: the switch behind it, and what would change that.
    pub(crate) async fn explain(&self, refusal: &str) {
        let Some((_, id)) = refusal.rsplit_once(CORRELATION) else { return };
        let id: String = id.trim_start().chars().take_while(|c| c.is_ascii_hexdigit() || *c == '-').collect();
        if id.is_empty() {
            return;
        }
        // Without the line the refusal is what it is.
        if let Ok(Some(line)) = self.server.decision(&self.lease, &id).await {
            self.log.line(&line).await;
        }
    }

    fn plan(&self, context: &Path, revision: &Revision, volume: &str) -> Result<Plan, Failure> {
        let read = |what: &str, path: &str| {
            let text = read_inside(context, path, MAX_FILE_BYTES);
            text.map_err(|error| Failure::of_run(format!("failed to read the {what} `{path}`: {error}")))
        };
        let (task, values) = match &self.order.work {
            Work::File { task_file, values_file, .. } => {
                let values = values_file.as_deref().map(|path| read("values file", path)).transpose()?;
                (Some(read("task file", task_file)?), values)
            }
            Work::Docker(_) | Work::Encoded { .. } => (None, None),
        };
        let mut inputs = Inputs {
            task: task.as_deref(),
            values: values.as_deref(),
            shared_volume: volume,
            os_version: "",
            commit: &revision.commit,
            branch: &revision.branch,
            repository: &revision.repository,
            ..Inputs::default()
        };
        let mut aliases = Vec::new();
        let Needs { alias_sources, .. } = needs(&self.order, &inputs).map_err(Failure::of_run)?;
        for name in alias_sources {
            if name.contains("://") {
                return Err(Failure::of_run(format!(
                    "the alias source `{name}` is not among the run's files, and others are not fetched"
                )));
            }
            let text = read("alias source", &name)?;
            aliases.push((name, text));
        }
        inputs.aliases = &aliases;
        let Needs { secrets, .. } = needs(&self.order, &inputs).map_err(Failure::of_run)?;
        if let Some(secret) = secrets.first() {
            return Err(Failure::of_run(format!(
                "the secret `{}` is in the key vault {}, and there are no key vaults here",
                secret.id, secret.key_vault
            )));
        }
        plan(&self.order, &inputs).map_err(Failure::of_run)
    }

    /// Ends what the run has begun, and removes what it has left.
    async fn end(self) {
        if let Ok(engine) = &self.engine
            && tokio::time::timeout(CLEAN_PATIENCE, engine.clean()).await.is_err()
        {
            // The next run's turn comes all the same; all of it ends with the worker.
            tracing::error!(run.id = self.order.run_id, "what a run has left could not be removed in time");
        }
        if let Some((network, gateway)) = self.network {
            gateway.stop().await;
            network.end().await;
        }
        self.gateway.stop().await;
    }
}

/// Whose layers a run may find again: those of the same task; a quick build's those of quick builds in the same registry.
fn cache_of(order: &RunOrder) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let clean = |text: &str| -> String { text.chars().filter(is_plain).collect() };
    match &order.task_name {
        Some(task) => format!("{}-task-{}", clean(&order.registry_name), clean(task)),
        None => format!("{}-quick", clean(&order.registry_name)),
    }
}

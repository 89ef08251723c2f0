//! `postern serve`: wires the crates together and runs until it is told to stop.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use postern_arm::{ArmState, Departing, ServiceTags};
use postern_audit::{Audit, AuditOptions, AuditWriter};
use postern_estate::types::REGISTRIES;
use postern_identity::{
    CertificateFiles, Identity, IdentityOptions, IdentitySettings, OutsideOptions, PasswordLimits, RequestLimiter,
};
use postern_model::{ResourceId, TenantId};
use postern_oci::{DataPlane, Importer, OciState};
use postern_outbound::Outbound;
use postern_runs::{Runs, RunsOptions};
use postern_store::{Directory, DirectoryOptions, Journal, Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tracing_subscriber::EnvFilter;

use crate::bootstrap::{Bootstrap, write_whole};
use crate::config::{Config, IssuerConfig, LogConfig, LogFormat};
use crate::dns::{Dns, Responder, Zone};
use crate::places::Places;
use crate::proxies::Proxies;
use crate::server::{Bounds, Counted, Names, Operations, Routers, Server, Sources, bind};
use crate::sweep::Sweep;
use crate::workers::Workers;
use crate::{environment, first_start, runtime, say};

/// A folder that clients can be given as their certificate folder: nothing else is in it.
const TRUST_FOLDER: &str = "trust";
const CA_FILE: &str = "ca.crt";
/// Who signs workload certificates: what a proxy that ends TLS asks clients for.
const WORKLOAD_CA_FILE: &str = "workload-ca.crt";
const AUDIT_FILE: &str = "audit.db";
const MAINTENANCE: Duration = Duration::from_hours(1);
/// Longer operations are answered with where to ask for them.
const PATIENCE: Duration = Duration::from_millis(800);
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The data folder. Made at the first start.
    #[arg(long, default_value = "postern-data", value_name = "DIR")]
    data: PathBuf,
    /// Address and port to listen on; may be given several times. Port 0 picks a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArguments {
    /// The configuration file.
    #[arg(long, default_value = "postern.toml", value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn check_config(arguments: CheckConfigArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(Some(&arguments.config))?;
    Places::new(&config.places)?;
    let tags = config.service_tags.read()?.map(|text| ServiceTags::check(&text)).transpose()?;
    say(format_args!("{} is good", arguments.config.display()));
    for address in &config.server.listen {
        say(format_args!("  listens on {address}"));
    }
    say(format_args!("  registries are <name>.{}", config.server.suffix));
    if let Some(tags) = tags {
        say(format_args!("  service tags: {tags}"));
    }
    for address in &config.dns.listen {
        say(format_args!("  answers where names lead on {address}"));
    }
    for proxy in &config.proxies {
        let own = proxy.listen.map(|address| format!(" on {address}")).unwrap_or_default();
        let ends_tls = if proxy.client_cert { ", which hands client certificates on" } else { "" };
        say(format_args!("  proxy `{}`{own}{ends_tls}", proxy.name));
    }
    for issuer in &config.issuers {
        issuer.issuer(&config.outbound, Vec::new()).with_context(|| format!("issuer `{}`", issuer.name))?;
        say(format_args!("  people sign in with `{}`: {}", issuer.name, issuer.url));
    }
    for place in &config.places {
        let simulated = if place.simulated { " (simulated)" } else { "" };
        say(format_args!("  place `{}`{}{simulated}", place.name, place.scope()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run(arguments: ServeArguments) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if !arguments.listen.is_empty() {
        config.server.listen.clone_from(&arguments.listen);
        config.check()?;
    }
    start_log(&config.log)?;
    runtime()?.block_on(async {
        let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        let running = Running::start(&arguments.data, &config).await?;
        say(format_args!("postern is ready: {}", running.bootstrap_file.display()));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                stopped = tokio::signal::ctrl_c() => { stopped?; break }
                _ = hang_up.recv() => running.reload(arguments.config.as_deref()),
            }
        }
        tracing::info!("stopping");
        running.stop().await;
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) bootstrap_file: PathBuf,
    pub(crate) identity: Arc<Identity>,
    pub(crate) directory: Directory,
    pub(crate) audit: Audit,
    service_tags: ServiceTags,
    store: Store,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    carrying_out: JoinHandle<()>,
    writer: AuditWriter,
    background: Vec<AbortHandle>,
}

impl Running {
    /// Binds, opens the data folder, makes what a first start makes, and serves.
    pub(crate) async fn start(folder: &Path, config: &Config) -> anyhow::Result<Self> {
        let (clock, random) = (environment::clock(), environment::random());
        let service_tags = ServiceTags::default();
        service_tags.load(config.service_tags.read()?.as_deref())?;
        let (places, proxies) = (Places::new(&config.places)?, Proxies::new(&config.proxies)?);
        let listeners = bind(&config.server.listen, &places.listeners(), &proxies.listeners())?;
        let addresses = listeners.addresses()?;
        let port = addresses.first().context("nothing is bound")?.port();
        let responder = Responder::bind(&config.dns.listen, &places.resolvers())?;
        let suffix = with_port(&config.server.suffix, port);

        let store = Store::open(StoreOptions {
            max_blob_bytes: config.limits.blob_bytes,
            max_open_upload_bytes_per_holder: config.limits.open_upload_bytes,
            collection_grace_seconds: i64::try_from(config.limits.collection_grace_seconds)?,
            ..StoreOptions::new(folder, Arc::clone(&clock), Arc::clone(&random))
        })
        .await
        .with_context(|| format!("cannot open the data folder {}", folder.display()))?;
        let directory = Directory::open(
            &store,
            DirectoryOptions {
                settings: Arc::new(config.access.settings()?),
                suffix: suffix.clone(),
                default_registry: default_registry(config),
            },
        )
        .await?;
        let ground = first_start::ground(&directory, config, random.as_ref()).await?;
        let names = Names::new(&config.server.suffix);
        let arm_endpoint = format!("https://{}", with_port("localhost", port));
        let outbound = Outbound::new(config.outbound.options(addresses.clone())?)?;
        let issuer = |issuer: &IssuerConfig| {
            let found = issuer.issuer(&config.outbound, addresses.clone());
            found.with_context(|| format!("issuer `{}`", issuer.name))
        };
        let issuers = config.issuers.iter().map(issuer).collect::<anyhow::Result<Vec<_>>>()?;
        let identity = Identity::open(IdentityOptions {
            outside: OutsideOptions { outbound: Some(outbound.clone()), issuers },
            store: store.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            settings: IdentitySettings {
                tenant: TenantId(ground.tenant),
                authority: "localhost".into(),
                arm_audiences: vec![arm_endpoint.clone(), format!("{arm_endpoint}/")],
                certificate_names: names.certificate_names(),
                certificate_files: config.tls.as_ref().map(|tls| CertificateFiles {
                    certificate: tls.certificate_file.clone(),
                    key: tls.key_file.clone(),
                }),
                password_limits: PasswordLimits {
                    per_user: config.limits.wrong_passwords_per_user,
                    per_source: config.limits.wrong_passwords_per_source,
                },
            },
        })
        .await?;
        for registry in directory.list(&ResourceId::root(), REGISTRIES) {
            // Links from before a restart lead there.
            if registry.property(&["dataEndpointEnabled"]) == Some(serde_json::Value::Bool(true))
                && let Some(rules) = directory.registry_by_id(&registry.id)
                && let Some(endpoint) = &rules.data_endpoint
                && let Err(error) = identity.cover(endpoint, clock.now())
            {
                tracing::error!(error = %error, host = %endpoint, "the certificate cannot be made to hold for a data endpoint");
            }
        }
        let journal = Journal::open(&folder.join(AUDIT_FILE)).await?;
        let options = AuditOptions { keep_days: config.audit.keep_days, max_records: config.audit.max_records };
        let (audit, writer) = Audit::start(journal, options, Arc::clone(&clock));

        let trust = std::path::absolute(folder.join(TRUST_FOLDER))?;
        std::fs::create_dir_all(&trust)?;
        let ca_file = trust.join(CA_FILE);
        write_whole(&ca_file, identity.server_ca_pem().as_bytes(), 0o644)?;
        write_whole(&folder.join(WORKLOAD_CA_FILE), identity.workload_ca_pem().as_bytes(), 0o644)?;
        let client_secret = first_start::administrator(&store, &identity, &ground, folder, clock.now()).await?;
        let bootstrap = Bootstrap {
            tenant_id: ground.tenant.to_string(),
            subscription_id: ground.subscription.clone(),
            client_id: ground.administrator_client.to_string(),
            client_secret,
            ca_file,
            arm_endpoint: arm_endpoint.clone(),
            authority: arm_endpoint.clone(),
            registry_suffix: format!(".{suffix}"),
            proxy: format!("http://localhost:{port}"),
            listen: addresses.iter().map(ToString::to_string).collect(),
            dns: responder.addresses()?.iter().map(ToString::to_string).collect(),
        };
        let bootstrap_file = bootstrap.write(folder)?;

        let (stop, stopped) = watch::channel(false);
        let runs = Runs::start(RunsOptions {
            store: store.clone(),
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            stop: stopped.clone(),
        })
        .await?;
        let limiter = || Arc::new(RequestLimiter::new(config.throttling.percent));
        let oci = OciState {
            requests: config.throttling.enabled.then(limiter),
            store: store.clone(),
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            limits: postern_oci::Limits::default(),
        };
        let arm = Arc::new(ArmState {
            patience: PATIENCE,
            requests: config.throttling.enabled.then(limiter),
            audit: audit.clone(),
            importer: Arc::new(Importer::new(store.clone(), outbound)),
            import_address: config.outbound.address,
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            store: store.clone(),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            arm_endpoint,
            ip_rule_mode: config.access.ip_rule_mode(),
            departing: Departing::default(),
            service_tags: service_tags.clone(),
            runs: runs.clone(),
        });
        let postern_api = crate::postern_api::State {
            directory: directory.clone(),
            identity: Arc::clone(&identity),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            places: places.clone(),
        };
        let dns = Dns {
            zone: Zone::new(&config.server.suffix, config.dns.ttl_seconds)?,
            public: config.dns.public(&config.server.listen),
            places: places.clone(),
            directory: directory.clone(),
        };
        let data_plane = DataPlane::new(oci);
        let metrics = metrics_handle()?;
        let server = Server {
            places,
            proxies,
            names,
            routers: Routers {
                tokens: data_plane.router(),
                data_plane,
                resource_manager: postern_arm::router(Arc::clone(&arm)),
                authority: postern_identity::authority_router(Arc::clone(&identity)),
                postern: crate::postern_api::router(postern_api).merge(runs.router()),
            },
            operations: Operations::new(metrics.clone(), store.clone()),
            counted: Counted::default(),
            identity: Arc::clone(&identity),
            clock,
            random,
            bounds: Bounds {
                connections: config.limits.connections,
                handshake: Duration::from_secs(config.limits.handshake_seconds),
                headers: Duration::from_secs(config.limits.header_seconds),
                stall: Duration::from_secs(config.limits.stall_seconds),
                idle: Duration::from_secs(config.limits.idle_seconds),
            },
            sources: Sources::new(config.limits.connections_per_source),
        };
        let patience = Duration::from_secs(config.server.shutdown_seconds);
        let workers = Workers {
            runs: runs.clone(),
            identity: Arc::clone(&identity),
            directory: directory.clone(),
            bootstrap: bootstrap.clone(),
            config: config.tasks.clone(),
            folder: config.tasks.folder(folder)?,
            stop: stopped.clone(),
        };
        let imports = postern_arm::carry_out(arm, stopped.clone());
        let carrying_out = tokio::spawn(async {
            tokio::join!(imports, workers.attend());
        });
        let serving = tokio::spawn(listeners.serve(Arc::new(server), stopped, patience));
        let interval = Duration::from_secs(config.limits.collection_interval_seconds);
        let sweep = Sweep {
            store: store.clone(),
            directory: directory.clone(),
            audit: audit.clone(),
            clock: environment::clock(),
            random: environment::random(),
            runs: runs.clone(),
        };
        let mut background = vec![
            tokio::spawn(runs.attend()).abort_handle(),
            sweep.start(),
            collect(store.clone(), interval),
            maintain(Arc::clone(&identity)),
            upkeep(metrics),
        ];
        background.extend(responder.serve(Arc::new(dns)));
        tracing::info!(server.listen = ?addresses, server.suffix = %suffix, "serving");
        Ok(Self {
            bootstrap,
            bootstrap_file,
            identity,
            directory,
            audit,
            service_tags,
            store,
            stop,
            serving,
            carrying_out,
            writer,
            background,
        })
    }

    /// Reads the certificate, the access settings and the service tags again; what cannot be read leaves everything as it is.
    pub(crate) fn reload(&self, config: Option<&Path>) {
        let usable = Config::load(config).and_then(|config| {
            let (settings, tags) = (config.access.settings()?, config.service_tags.read()?);
            self.service_tags.load(tags.as_deref())?;
            anyhow::Ok(settings)
        });
        match usable {
            Ok(settings) => self.directory.set_settings(Arc::new(settings)),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the configuration is not usable; kept the old one");
            }
        }
        let identity = Arc::clone(&self.identity);
        tokio::task::spawn_blocking(move || match identity.reload_certificate() {
            Ok(()) => tracing::info!("configuration and certificate read again"),
            Err(error) => tracing::error!(error = %error, "the certificate is not usable; kept the old one"),
        });
    }

    /// Lets open requests end, writes what is left to write, closes the data folder.
    pub(crate) async fn stop(self) {
        let Self { identity, directory, audit, store, stop, serving, carrying_out, writer, background, .. } = self;
        let _ = stop.send(true);
        let _ = serving.await;
        let _ = carrying_out.await;
        background.iter().for_each(AbortHandle::abort);
        audit.flush().await;
        drop((identity, directory, audit));
        writer.finished().await;
        store.close().await;
    }
}

fn default_registry(config: &Config) -> Option<String> {
    let first = Some(config.server.first_registry.clone()).filter(|name| !name.is_empty());
    config.server.default_registry.clone().or(first)
}

/// Reclaims what nothing refers to any more, now and then.
fn collect(store: Store, interval: Duration) -> AbortHandle {
    let clock = environment::clock();
    let task = tokio::spawn(async move {
        // At once, too: what a crash left behind goes first.
        loop {
            match store.collect_garbage(clock.now()).await {
                Ok(collected) => tracing::debug!(?collected, "collected"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "unreferenced content cannot be reclaimed"
                    );
                }
            }
            if let Err(error) = store.jobs().expire().await {
                tracing::error!(error = %error, "ends of jobs cannot be forgotten");
            }
            tokio::time::sleep(interval).await;
        }
    });
    task.abort_handle()
}

/// Renews keys and certificates that are due.
fn maintain(identity: Arc<Identity>) -> AbortHandle {
    let clock = environment::clock();
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(MAINTENANCE).await;
            if let Err(error) = identity.maintain(clock.now()).await {
                tracing::error!(error = %error, "keys and certificates cannot be renewed");
            }
        }
    });
    task.abort_handle()
}

/// Takes what histograms have gathered into their buckets: until then they keep every single value.
fn upkeep(metrics: PrometheusHandle) -> AbortHandle {
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    });
    task.abort_handle()
}

/// A host as clients write it: they know the port of HTTPS, and keep their logins under names without it.
fn with_port(host: &str, port: u16) -> String {
    if port == 443 { host.to_owned() } else { format!("{host}:{port}") }
}

fn metrics_handle() -> anyhow::Result<PrometheusHandle> {
    Ok(PrometheusBuilder::new().install_recorder()?)
}

pub(crate) fn start_log(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter).context("log.filter")?;
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn hosts_leave_out_the_usual_port() {
        assert_eq!(with_port("azurecr.io", 443), "azurecr.io");
        assert_eq!(with_port("azurecr.io.localhost", 5443), "azurecr.io.localhost:5443");
    }
}

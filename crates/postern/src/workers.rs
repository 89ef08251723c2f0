//! The workers that the server starts: of the shared pool, and of agent pools whose subnet is on this machine. Each is a process of its
//! own, started when a run waits for it and gone when there was none for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_access::AGENT_POOLS;
use postern_agent::{NetworkMode, Stopping, WorkerSettings};
use postern_estate::Resource;
use postern_identity::{CertificateSource, FirstPartyService, GatewayError, Identity, WorkloadCertificateError};
use postern_model::{ResourceId, ResourceUid};
use postern_runs::Runs;
use postern_store::Directory;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::{start_worker, worker_settings};
use crate::bootstrap::Bootstrap;
use crate::config::TasksConfig;
use crate::environment;

/// How often it is looked whether agent pools have come or gone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A worker that had no run for so many seconds ends.
const IDLE_SECONDS: u32 = 60;
/// After a worker could not be started, or ended otherwise than it should.
const PAUSE: Duration = Duration::from_secs(5);
/// Most workers of one agent pool here.
const MOST_POOLED: usize = 16;

/// Starts workers.
#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) runs: Runs,
    pub(crate) identity: Arc<Identity>,
    pub(crate) directory: Directory,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) config: TasksConfig,
    /// Where they keep files.
    pub(crate) folder: PathBuf,
    pub(crate) stop: watch::Receiver<bool>,
}

/// One pool's workers, each by what ends it. Dropping one ends it at once.
type Slots = Vec<watch::Sender<Stopping>>;

/// Whose runs a worker carries out, and from where.
#[derive(Clone)]
struct Post {
    /// Of an agent pool; none: of the shared pool.
    pool: Option<(ResourceId, ResourceUid)>,
    name: String,
    server: Option<String>,
    namespace: Option<PathBuf>,
    local_address: Option<IpAddr>,
    network: NetworkMode,
}

impl Workers {
    /// Attends to all pools until the server stops, and then to the workers' ends.
    pub(crate) async fn attend(self) {
        let mut stop = self.stop.clone();
        let mut running = JoinSet::new();
        let mut pools: HashMap<ResourceUid, Slots> = HashMap::new();
        let shared = self.shared_post(None, "shared".into());
        let mut shared_slots = Slots::new();
        self.resize(&mut running, &mut shared_slots, &shared, self.config.workers.into());
        let mut seen = None;
        while !*stop.borrow_and_update() {
            let generation = self.directory.generation();
            if seen.replace(generation) != Some(generation) {
                self.follow(&mut running, &mut pools);
            }
            tokio::select! {
                _ = stop.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            while running.try_join_next().is_some() {}
        }
        drop((pools, shared_slots));
        while running.join_next().await.is_some() {}
    }

    /// Has as many workers as the pools ask for that are there now.
    fn follow(&self, running: &mut JoinSet<()>, pools: &mut HashMap<ResourceUid, Slots>) {
        let there = self.directory.list(&ResourceId::root(), AGENT_POOLS);
        pools.retain(|uid, _| there.iter().any(|pool| pool.uid == *uid));
        for pool in there {
            if let Some(post) = self.post(&pool) {
                self.resize(running, pools.entry(pool.uid).or_default(), &post, instances(&pool));
            }
        }
    }

    /// Starts workers that are missing; those that are too many end with the run that they have.
    fn resize(&self, running: &mut JoinSet<()>, slots: &mut Slots, post: &Post, count: usize) {
        for slot in slots.drain(count.min(slots.len())..) {
            let ending = async move {
                slot.send_replace(Stopping::AfterRun);
                slot.closed().await;
            };
            running.spawn(ending);
        }
        for number in slots.len()..count {
            let (stop, stopping) = watch::channel(Stopping::No);
            running.spawn(self.clone().keep(post.clone(), number + 1, stopping));
            slots.push(stop);
        }
    }

    /// Where workers are whose pool has no subnet.
    fn shared_post(&self, pool: Option<(ResourceId, ResourceUid)>, name: String) -> Post {
        let config = &self.config;
        let (server, namespace) = (config.server.clone(), config.namespace.clone());
        Post { pool, name, server, namespace, local_address: config.address, network: config.network }
    }

    /// Where a pool's workers are; none when its subnet is not on this machine.
    fn post(&self, pool: &Resource) -> Option<Post> {
        let registry = pool.id.parent()?;
        let name = format!("{}-{}", registry.name().to_lowercase(), pool.id.name().to_lowercase());
        let pooled = Some((pool.id.clone(), pool.uid));
        let Some(subnet) = pool.text(&["virtualNetworkSubnetResourceId"]) else {
            return Some(self.shared_post(pooled, name));
        };
        let subnet = subnet.parse::<ResourceId>().ok()?;
        let found = self.config.subnets.iter().find(|known| known.id.0 == subnet)?;
        Some(Post {
            pool: pooled,
            name,
            server: Some(found.server.clone()),
            namespace: Some(found.namespace.clone()),
            local_address: None,
            network: NetworkMode::Worker,
        })
    }

    /// One worker after the other, whenever there is a run.
    async fn keep(self, post: Post, number: usize, mut stop: watch::Receiver<Stopping>) {
        let name = format!("{}-{number}", post.name);
        loop {
            tokio::select! {
                () = self.runs.wanted(post.pool.as_ref().map(|(_, uid)| uid.0)) => {}
                _ = stop.wait_for(|stop| *stop != Stopping::No) => return,
            }
            let ended = match self.settings(&post, name.clone()) {
                Ok(settings) => start_worker(&settings, self.certificates(&post), stop.clone()).await,
                Err(error) => Err(std::io::Error::other(format!("{error:#}"))),
            };
            if *stop.borrow() != Stopping::No || stop.has_changed().is_err() {
                return;
            }
            match ended {
                Ok(status) if status.success() => continue,
                Ok(status) => {
                    tracing::error!(worker = name, status = %status, "a worker ended otherwise than it should");
                }
                Err(error) => tracing::error!(worker = name, error = %error, "a worker cannot be started"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.wait_for(|stop| *stop != Stopping::No) => return,
            }
        }
    }

    fn settings(&self, post: &Post, name: String) -> anyhow::Result<WorkerSettings> {
        let address = match &post.server {
            Some(server) => server.clone(),
            None => crate::client::first_address(&self.bootstrap)?.to_string(),
        };
        Ok(WorkerSettings {
            folder: self.folder.join(&name),
            network: post.network,
            namespace: post.namespace.clone(),
            local_address: post.local_address,
            memory_bytes: self.config.memory_mib << 20,
            unsafe_builds: self.config.unsafe_builds,
            idle_seconds: Some(IDLE_SECONDS),
            ..worker_settings(&self.bootstrap, name, address)?
        })
    }

    /// What a worker proves itself with: issued here, for no API gives these.
    fn certificates(&self, post: &Post) -> Arc<dyn CertificateSource> {
        let (identity, directory, pool) = (Arc::clone(&self.identity), self.directory.clone(), post.pool.clone());
        let clock = environment::clock();
        Arc::new(move |request: String| {
            let now = clock.now();
            let issued = match &pool {
                None => identity.first_party_certificate(FirstPartyService::Agents, &request, now),
                Some((id, uid)) => match directory.resource(id).filter(|found| found.uid == *uid) {
                    Some(pool) => identity.issue_workload_certificate(&pool, &request, now),
                    None => Err(WorkloadCertificateError::BadRequest),
                },
            };
            async move { issued.map_err(|error| GatewayError::Refused(error.to_string())) }
        })
    }
}

/// How many workers a pool asks for.
fn instances(pool: &Resource) -> usize {
    let count = pool.property(&["count"]).and_then(|count| usize::try_from(count.as_u64()?).ok());
    count.unwrap_or(1).min(MOST_POOLED)
}

//! `[tasks]`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use postern_agent::NetworkMode;
use postern_estate::types::SUBNETS;
use postern_model::ResourceId;
use serde::Deserialize;

use crate::agent::MEMORY_MIB;

const MOST_WORKERS: u16 = 64;
const LEAST_MEMORY_MIB: u64 = 16;

/// `[tasks]`: who carries the runs of tasks, quick builds and quick runs out.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TasksConfig {
    /// Workers of the shared pool that this server starts when runs wait; 0: none, and runs of the shared pool wait.
    pub(crate) workers: u16,
    /// The address that they call from, one of the regional service tag: what IP rules are asked about.
    pub(crate) address: Option<IpAddr>,
    /// The network namespace that they are in, by its path: `/run/netns/NAME`; default: the server's own.
    pub(crate) namespace: Option<PathBuf>,
    /// Where the server is reached from there, `address:port`; default: its first address.
    pub(crate) server: Option<String>,
    /// What their containers reach: `isolated`, the server's registries alone, or `worker`, whatever this machine does.
    pub(crate) network: NetworkMode,
    /// Where workers keep files of runs and layers; default: beside the data folder, with `-workers` behind its name.
    pub(crate) folder: Option<PathBuf>,
    /// The memory that one run may take, in MiB.
    pub(crate) memory_mib: u64,
    /// Build also where nothing but chroot keeps steps apart from the machine.
    pub(crate) unsafe_builds: bool,
    /// Where subnets of agent pools are on this machine.
    #[serde(rename = "subnet")]
    pub(crate) subnets: Vec<SubnetConfig>,
}

/// `[[tasks.subnet]]`: where a subnet is on this machine. Workers of agent pools in it are started there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubnetConfig {
    /// The subnet's resource id.
    pub(crate) id: ResourceIdText,
    /// Its network namespace, by its path: `/run/netns/NAME`.
    pub(crate) namespace: PathBuf,
    /// Where the server is reached from there, `address:port`: a private endpoint's listener, say.
    pub(crate) server: String,
}

/// A resource id in a configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ResourceIdText(pub(crate) ResourceId);

impl TryFrom<String> for ResourceIdText {
    type Error = postern_model::ResourceIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            address: None,
            namespace: None,
            server: None,
            network: NetworkMode::Isolated,
            folder: None,
            memory_mib: MEMORY_MIB,
            unsafe_builds: false,
            subnets: Vec::new(),
        }
    }
}

impl TasksConfig {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.workers <= MOST_WORKERS, "tasks.workers must be at most {MOST_WORKERS}");
        ensure!(self.memory_mib >= LEAST_MEMORY_MIB, "tasks.memory_mib must be at least {LEAST_MEMORY_MIB}");
        let is_absolute = |path: &Path| path.is_absolute();
        ensure!(
            self.namespace.as_deref().is_none_or(is_absolute),
            "tasks.namespace must be a path such as /run/netns/NAME"
        );
        let mut seen = HashSet::new();
        for subnet in &self.subnets {
            let id = &subnet.id.0;
            ensure!(id.is_type(SUBNETS), "tasks.subnet: `{id}` is not the id of a subnet");
            ensure!(seen.insert(id.clone()), "tasks.subnet: `{id}` is there twice");
            ensure!(is_absolute(&subnet.namespace), "tasks.subnet: `namespace` must be a path such as /run/netns/NAME");
            ensure!(subnet.server.contains(':'), "tasks.subnet: `server` must be `address:port`");
        }
        Ok(())
    }

    /// Where workers keep their files.
    pub(crate) fn folder(&self, data: &Path) -> std::io::Result<PathBuf> {
        if let Some(folder) = &self.folder {
            return std::path::absolute(folder);
        }
        let mut name = std::path::absolute(data)?.into_os_string();
        name.push("-workers");
        Ok(name.into())
    }
}

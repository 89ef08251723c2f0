//! The registry to compare with: Debian's docker-registry on a folder, without TLS and without authentication.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{Server, Starter, free_address};
use crate::site::Site;

/// How it is started, so that it can be started again.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
}

pub(crate) struct Peer {
    pub(crate) server: Server,
    pub(crate) site: Site,
}

impl Peer {
    pub(crate) fn start(starter: Starter<'_>, options: &Options) -> Result<Self> {
        let address = free_address()?;
        let config = options.folder.join("config.yml");
        fs::create_dir_all(&options.folder)?;
        fs::write(&config, text(&options.folder, address))?;
        let mut command = Command::new(&options.program);
        let mut server = starter.start("docker-registry", command.arg("serve").arg(&config))?;
        server.listening(address)?;
        Ok(Self { server, site: Site::new(address) })
    }
}

/// As quiet as it can be, with its cache of descriptors on. How it writes cannot be configured: it syncs what it acknowledges.
fn text(folder: &Path, address: SocketAddr) -> String {
    format!(
        "version: 0.1
log: {{ level: error, accesslog: {{ disabled: true }} }}
storage:
  filesystem: {{ rootdirectory: {}, maxthreads: 100 }}
  cache: {{ blobdescriptor: inmemory }}
  delete: {{ enabled: true }}
  maintenance: {{ uploadpurging: {{ enabled: false }} }}
http: {{ addr: '{address}' }}
",
        folder.display()
    )
}

/// Writes tags and repositories the way it keeps them, since by its API that would take minutes.
pub(crate) struct Layout(PathBuf);

impl Layout {
    pub(crate) fn of(options: &Options) -> Self {
        Self(options.folder.join("docker/registry/v2/repositories"))
    }

    /// A repository that the catalog shows.
    pub(crate) fn repository(&self, name: &str) -> Result<()> {
        let folder = self.0.join(name).join("_layers");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))
    }

    /// A tag in a repository that is there; nothing reads what it names.
    pub(crate) fn tags(&self, repository: &str, names: impl Iterator<Item = String>) -> Result<()> {
        self.repository(repository)?;
        let folder = self.0.join(repository).join("_manifests/tags");
        fs::create_dir_all(&folder)?;
        for name in names {
            fs::create_dir(folder.join(name))?;
        }
        Ok(())
    }
}

//! `DIR/bootstrap.json`: what the first administrator needs. Written by the server, read by the other subcommands.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use postern_model::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The file's name in the data folder.
pub(crate) const FILE: &str = "bootstrap.json";

/// The file's content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bootstrap {
    /// The directory tenant.
    pub(crate) tenant_id: String,
    /// The subscription.
    pub(crate) subscription_id: String,
    /// The administrator's application id.
    pub(crate) client_id: String,
    /// The administrator's secret.
    #[serde(serialize_with = "expose", deserialize_with = "conceal")]
    pub(crate) client_secret: Secret,
    /// PEM file with the certificate authority that signed the server's certificate.
    pub(crate) ca_file: PathBuf,
    /// Base URL of the resource manager.
    pub(crate) arm_endpoint: String,
    /// Base URL of the authority, without the tenant.
    pub(crate) authority: String,
    /// Registries are named `<name><registrySuffix>`; begins with a dot, ends with the port.
    pub(crate) registry_suffix: String,
    /// URL of the CONNECT proxy that maps the server's names.
    pub(crate) proxy: String,
    /// Addresses that the server listens on.
    pub(crate) listen: Vec<String>,
    /// Addresses that it answers on where its names lead.
    #[serde(default)]
    pub(crate) dns: Vec<String>,
}

impl Bootstrap {
    /// Reads the file, or `bootstrap.json` in the folder.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = fs::read(&file)
            .with_context(|| format!("cannot read {}: give the server's data folder with --server", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a bootstrap file", file.display()))
    }

    /// Writes the file, readable by its owner only: a whole one or the old one, never a part.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join(FILE);
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        write_whole(&path, text.as_bytes(), 0o600)?;
        Ok(path)
    }
}

/// Writes a file so that it is there as a whole or as it was before, whatever happens, and durable in the end.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    write_with_mode(&fresh, bytes, mode)?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))?;
    let folder = path.parent().context("a file is in a folder")?;
    File::open(folder)?.sync_all().with_context(|| format!("cannot write {}", folder.display()))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

fn expose<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

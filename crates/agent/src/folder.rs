//! Folders of runs: private, and gone with the run.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where a run's files are. It goes away with the value.
pub(crate) struct RunFolder(PathBuf);

impl RunFolder {
    /// Makes the folder and those in it.
    pub(crate) fn new(parent: &Path, name: &str) -> io::Result<Self> {
        let folder = Self(parent.join(name));
        for path in
            [folder.0.clone(), folder.workspace(), folder.home(), folder.home().join(".docker"), folder.temporary()]
        {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(folder)
    }

    /// The run's files, which its steps work in.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.0.join("workspace")
    }

    /// The home of its steps: credentials are there.
    pub(crate) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// docker's settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.home().join(".docker/config.json")
    }

    /// For what nobody else needs to see.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// A file or folder beside those.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::error!(folder = %self.0.display(), error = %error, "a run's folder cannot be removed");
        }
    }
}

/// Removes a folder that somebody else has filled: however deep it is, and nothing that is mounted in it.
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    let ended = std::process::Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(folder).status()?;
    if ended.success() { Ok(()) } else { Err(io::Error::other(format!("rm ended with {ended}"))) }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

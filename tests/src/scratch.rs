//! A temporary folder that is really gone afterwards.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::Command;

/// A temporary folder. When dropped, whatever is mounted below it is unmounted and the folder removed.
#[derive(Debug)]
pub struct Scratch {
    folder: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// An empty folder that nobody else may enter.
    #[expect(clippy::new_without_default, reason = "creating a folder is not a default value")]
    pub fn new() -> Self {
        let folder = lowercase_folder();
        let path = folder.path().canonicalize().expect("a temporary folder has a real path");
        Self { folder: Some(folder), path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the folder; the folders above it are created.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("folders can be created in a temporary folder");
        }
        path
    }

    /// Writes a file below the folder and returns its path.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(relative);
        fs::write(&path, content).expect("files can be written in a temporary folder");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mount in mounts_below(&self.path) {
            Command::new("umount").arg("--lazy").arg(mount).run();
        }
        let closed = self.folder.take().map_or(Ok(()), TempDir::close);
        if let Err(error) = closed
            && !std::thread::panicking()
        {
            panic!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Container clients take a path in an image reference for a name, and names have no capital letters.
fn lowercase_folder() -> TempDir {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let name = format!("postern-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        match tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir() {
            Ok(folder) => return folder,
            // Left by a process of the same id that was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot create a temporary folder: {error}"),
        }
    }
}

/// Mount points below a folder, the newest first. Field five of each line names the mount point.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(folder))
        .collect();
    mounts.reverse();
    mounts
}

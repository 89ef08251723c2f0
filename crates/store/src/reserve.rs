use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::StoreError;

const FILE: &str = "reserve";
/// As much as the metadata's log may hold: what is in it has to find room in the database's file.
const BYTES: usize = 4 << 20;

/// Room on the disk that is set aside.
///
/// Removing a row takes room before it frees any. On a full disk the collection gives this up to go on, and until it is set aside
/// again no upload may take it: what is left to do then is to pull and to delete.
pub(crate) struct Reserve {
    path: PathBuf,
    is_spent: AtomicBool,
}

impl Reserve {
    /// Sets the room aside, unless there is none. Blocks.
    pub(crate) fn prepare(folder: &Path) -> Self {
        let reserve = Self { path: folder.join(FILE), is_spent: AtomicBool::new(true) };
        if let Err(error) = reserve.restore() {
            tracing::warn!(error = %error, "no room can be set aside for a full disk");
        }
        reserve
    }

    /// Sets the room aside again if it was given up. Blocks.
    pub(crate) fn restore(&self) -> io::Result<()> {
        if !self.is_spent.load(Ordering::Acquire) {
            return Ok(());
        }
        let set_aside = self.fill();
        if set_aside.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        self.is_spent.store(set_aside.is_err(), Ordering::Release);
        set_aside
    }

    fn fill(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == BYTES as u64) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(&self.path)?.write_all(&vec![0; BYTES])
    }

    /// Gives the room up. Blocks.
    pub(crate) fn release(&self) {
        self.is_spent.store(true, Ordering::Release);
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(error = %error, "the room set aside cannot be given up");
        }
    }

    /// Whether uploads may take room.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.is_spent.load(Ordering::Acquire) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Acquire)
    }
}

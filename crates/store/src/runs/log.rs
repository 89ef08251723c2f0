use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use postern_model::RegistryUid;
use sha2::{Digest as _, Sha256};

use super::{RunNumber, Runs};
use crate::StoreError;
use crate::database::blocking;

/// Largest log. What comes behind is dropped, and the log says so.
pub const MAX_LOG_BYTES: u64 = 64 << 20;
/// Most bytes of a log that can be held back: the beginning of a line that is not whole yet.
pub const MAX_LOG_TAIL_BYTES: usize = 8 << 10;
/// What stands at the end of a log that was cut off.
const CUT: &[u8] = b"\r\n[The log is larger than 64 MiB: what follows is not kept.]\r\n";

/// Each of the two places that a log's state is written to in turn: one of them is always whole.
const SLOT_BYTES: usize = 16 << 10;
const CHECK_BYTES: usize = 32;

/// How far a log is, beside the file that holds it.
///
/// The log is written first and its state next, so after a kill the file may be longer than the state says: the worker was told of
/// nothing behind that, and sends it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// Grows with each write.
    turn: u64,
    /// The lease whose bytes are counted.
    lease: u64,
    /// How many bytes came under this lease.
    received: u64,
    /// How long the log is.
    stored: u64,
    /// How many secrets were found in it.
    findings: u64,
    /// Whether it is full.
    is_cut: bool,
    /// What came and is not in the log yet.
    tail: Vec<u8>,
}

/// The log of a run that has not ended, open for writing. Blocks.
pub struct RunLog {
    log: File,
    states: File,
    state: State,
}

impl RunLog {
    /// How many bytes came under a lease.
    pub fn received(&self, lease: u64) -> u64 {
        if self.state.lease == lease { self.state.received } else { 0 }
    }

    /// The lease whose bytes are counted.
    pub fn lease(&self) -> u64 {
        self.state.lease
    }

    /// What came and is not in the log yet.
    pub fn tail(&self) -> &[u8] {
        &self.state.tail
    }

    /// How many secrets were found in it.
    pub fn findings(&self) -> u64 {
        self.state.findings
    }

    /// Appends what may be read now and keeps `tail` back, both from `received` more bytes of a lease and the tail that was kept back
    /// before. A kill after this loses none of it.
    pub fn append(
        &mut self,
        lease: u64,
        received: u64,
        shown: &[u8],
        tail: Vec<u8>,
        findings: u64,
    ) -> Result<(), StoreError> {
        if tail.len() > MAX_LOG_TAIL_BYTES {
            return Err(StoreError::TooLarge { limit_bytes: MAX_LOG_TAIL_BYTES as u64 });
        }
        let mut next = State {
            turn: self.state.turn + 1,
            lease,
            received: self.received(lease) + received,
            findings: self.state.findings + findings,
            tail,
            ..self.state.clone()
        };
        let room = MAX_LOG_BYTES.saturating_sub(next.stored);
        let fits = usize::try_from(room).unwrap_or(usize::MAX);
        if !next.is_cut && !shown.is_empty() {
            let (part, rest) = shown.split_at_checked(fits).unwrap_or((shown, &[]));
            self.log.write_all_at(part, next.stored)?;
            next.stored += part.len() as u64;
            if !rest.is_empty() {
                self.log.write_all_at(CUT, next.stored)?;
                next.stored += CUT.len() as u64;
                next.is_cut = true;
            }
        }
        let (slot, at) = next.slot()?;
        self.states.write_all_at(&slot, at)?;
        self.state = next;
        Ok(())
    }
}

impl State {
    /// As bytes, and where they go.
    fn slot(&self) -> Result<(Vec<u8>, u64), StoreError> {
        let mut body = Vec::with_capacity(SLOT_BYTES);
        let numbers = [self.turn, self.lease, self.received, self.stored, self.findings, u64::from(self.is_cut)];
        for number in numbers {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.tail);
        let length = u32::try_from(body.len()).map_err(|_| StoreError::Corrupt("log state"))?;
        let mut slot = length.to_le_bytes().to_vec();
        slot.extend_from_slice(&Sha256::digest(&body));
        slot.append(&mut body);
        Ok((slot, self.turn % 2 * SLOT_BYTES as u64))
    }

    /// What a place holds, if it is whole.
    fn read(slot: &[u8]) -> Option<Self> {
        let (length, rest) = slot.split_first_chunk::<4>()?;
        let (check, rest) = rest.split_at_checked(CHECK_BYTES)?;
        let body = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        if Sha256::digest(body)[..] != *check {
            return None;
        }
        let mut rest = body;
        let mut next = || {
            let (number, behind) = rest.split_first_chunk::<8>()?;
            rest = behind;
            Some(u64::from_le_bytes(*number))
        };
        let (turn, lease, received, stored, findings, is_cut) = (next()?, next()?, next()?, next()?, next()?, next()?);
        Some(Self { turn, lease, received, stored, findings, is_cut: is_cut != 0, tail: rest.to_vec() })
    }
}

/// A log to be read, as long as it was when it was opened.
pub struct LogFile {
    /// The file.
    pub file: Arc<File>,
    /// How long it is.
    pub length: u64,
    /// When it last changed.
    pub modified: SystemTime,
}

impl Runs {
    fn log_folder(&self, registry: RegistryUid) -> PathBuf {
        self.0.options.folder.join("runs").join(registry.to_string())
    }

    fn log_path(&self, registry: RegistryUid, number: RunNumber, kind: &str) -> PathBuf {
        self.log_folder(registry).join(format!("{number}.{kind}"))
    }

    /// Makes an empty log. Blocks.
    pub(super) fn create_log(&self, registry: RegistryUid, number: RunNumber) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.log_folder(registry))?;
        for kind in ["log", "state"] {
            let path = self.log_path(registry, number, kind);
            // There may be one of a run that was not made after all.
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        }
        Ok(())
    }

    /// Opens a run's log to write to it. Blocks.
    pub fn open_log(&self, registry: RegistryUid, number: RunNumber) -> Result<RunLog, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let log = options.open(self.log_path(registry, number, "log"))?;
        // Without it the log has ended: it stays as it is.
        let states = options.create(false).open(self.log_path(registry, number, "state"))?;
        let mut newest = State::default();
        for at in [0, SLOT_BYTES as u64] {
            let mut slot = vec![0; SLOT_BYTES];
            let mut filled = 0;
            while let Some(rest) = slot.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match states.read_at(rest, at + filled as u64)? {
                    0 => break,
                    read => filled += read,
                }
            }
            if let Some(state) = State::read(&slot).filter(|state| state.turn > newest.turn) {
                newest = state;
            }
        }
        let length = log.metadata()?.len();
        if length > newest.stored {
            log.set_len(newest.stored)?;
        }
        // A power cut may have taken the log's end.
        newest.stored = newest.stored.min(length);
        Ok(RunLog { log, states, state: newest })
    }

    /// A run's log as it is now; none when there is no such file.
    pub async fn read_log(&self, registry: RegistryUid, number: RunNumber) -> Result<Option<LogFile>, StoreError> {
        let path = self.log_path(registry, number, "log");
        blocking(move || {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let metadata = file.metadata()?;
            let modified = metadata.modified()?;
            Ok::<_, io::Error>(Some(LogFile { file: Arc::new(file), length: metadata.len(), modified }))
        })
        .await
    }

    /// Removes a run's log. Blocks.
    pub(super) fn remove_log(&self, registry: RegistryUid, number: RunNumber) -> io::Result<()> {
        for kind in ["log", "state"] {
            match fs::remove_file(self.log_path(registry, number, kind)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets how an ended run's log was written. Blocks.
    pub fn settle_log(&self, registry: RegistryUid, number: RunNumber) -> Result<(), StoreError> {
        match fs::remove_file(self.log_path(registry, number, "state")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes the logs and uploaded files of a registry that is gone.
    pub(crate) async fn remove_files_of(&self, registry: RegistryUid) -> Result<(), StoreError> {
        let folders = [self.log_folder(registry), self.contexts().folder(registry)];
        blocking(move || {
            for folder in folders {
                match fs::remove_dir_all(folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok::<_, io::Error>(())
        })
        .await
    }
}

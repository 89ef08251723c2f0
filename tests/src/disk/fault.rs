/// An operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum FaultKind {
    /// Writing to a file.
    Write = 1,
    /// Making a file or folder durable.
    Sync = 2,
    /// Renaming or linking a file.
    Rename = 4,
    /// Making a file or folder.
    Create = 8,
    /// Removing a file.
    Unlink = 16,
    /// Changing a file's size.
    Truncate = 32,
}

/// Which operation fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kinds fail.
    pub kinds: &'static [FaultKind],
    /// The first one that fails, counted from 1.
    pub nth: u64,
    /// How many fail from there on.
    pub times: u64,
    /// With which error.
    pub error: Error,
    /// Whether the first write that fails still writes a half, as on a disk that fills up.
    pub half: bool,
}

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Error {
    /// `EIO`
    Broken = 5,
    /// `ENOSPC`
    Full = 28,
}

impl Fault {
    pub(super) const SEEN: usize = 4;
    pub(super) const FIRED: usize = 5;

    /// The nth operation of a kind, once.
    pub const fn once(kinds: &'static [FaultKind], nth: u64, error: Error) -> Self {
        Self { kinds, nth, times: 1, error, half: false }
    }

    /// The control words of `recorder.c`.
    pub(super) fn words(&self) -> Vec<u8> {
        let kinds = self.kinds.iter().fold(0, |all, kind| all | *kind as u64);
        let words = [kinds, self.nth, self.error as u64, self.times, 0, 0, u64::from(self.half)];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

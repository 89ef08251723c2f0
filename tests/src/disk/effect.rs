use std::path::Path;
use std::sync::Arc;

/// Something that a process did to a folder, or a note of the test between two such things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A new empty file.
    Create {
        /// Its path.
        path: String,
        /// What later effects name it by.
        inode: u64,
        /// Its permissions.
        mode: u32,
    },
    /// A new folder.
    MakeFolder {
        /// Its path.
        path: String,
        /// What later effects name it by.
        inode: u64,
        /// Its permissions.
        mode: u32,
    },
    /// Bytes written to a file.
    Write {
        /// The file.
        inode: u64,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
        /// The path it was opened by.
        path: String,
    },
    /// A file cut, or made longer with zeros.
    Truncate {
        /// The file.
        inode: u64,
        /// Its new size.
        size: u64,
        /// The path it was opened by.
        path: String,
    },
    /// A file or folder made durable.
    Sync {
        /// Its path; empty for the recorded folder itself.
        path: String,
        /// The file or folder.
        inode: u64,
    },
    /// The same, but it failed: what was to be made durable may be lost for good.
    SyncFailed {
        /// Its path; empty for the recorded folder itself.
        path: String,
        /// The file or folder.
        inode: u64,
    },
    /// A file moved.
    Rename {
        /// Its path before.
        from: String,
        /// Its path since.
        to: String,
    },
    /// A second name for a file.
    Link {
        /// The first name.
        from: String,
        /// The new name.
        to: String,
    },
    /// A name removed.
    Unlink(String),
    /// An empty folder removed.
    RemoveFolder(String),
    /// A note of the test.
    Mark(u64),
}

impl Effect {
    /// The file's name that it is about, for choosing crash points; empty for notes.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::MakeFolder { path, .. }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Sync { path, .. }
            | Self::SyncFailed { path, .. }
            | Self::Unlink(path)
            | Self::RemoveFolder(path) => path,
            Self::Rename { to, .. } | Self::Link { to, .. } => to,
            Self::Mark(_) => "",
        }
    }

    /// What `recorder.c` wrote. A last record that is cut off is left out: its process was killed while it wrote it, and before
    /// anybody could know of it.
    pub fn parse_log(log: &[u8]) -> Vec<Self> {
        let mut effects = Vec::new();
        let mut rest = Reader(log);
        while let Some(length) = rest.number::<4>() {
            let Some(body) = rest.take(usize::try_from(length).expect("a length fits")) else { break };
            effects.push(Self::parse(Reader(body)).expect("the recorder writes whole records"));
        }
        effects
    }

    fn parse(mut record: Reader<'_>) -> Option<Self> {
        let kind = record.number::<1>()?;
        let (inode, second) = (record.number::<8>()?, record.number::<8>()?);
        let (path, to) = (record.text()?, record.text()?);
        let mode = u32::try_from(second & 0o7777).ok()?;
        Some(match kind {
            1 => Self::Create { path, inode, mode },
            2 => Self::MakeFolder { path, inode, mode },
            3 => Self::Write { inode, offset: second, bytes: record.0.into(), path },
            4 => Self::Truncate { inode, size: second, path },
            5 => Self::Sync { path, inode },
            6 => Self::SyncFailed { path, inode },
            7 => Self::Rename { from: path, to },
            8 => Self::Link { from: path, to },
            9 => Self::Unlink(path),
            10 => Self::RemoveFolder(path),
            MARK => Self::Mark(inode),
            12 => panic!("{}: {to}: the recorder does not know this", Path::new(&path).display()),
            other => panic!("record of kind {other}"),
        })
    }

    /// A note as it stands in the log.
    pub(super) fn mark(number: u64) -> Vec<u8> {
        let mut record = 21_u32.to_le_bytes().to_vec();
        record.push(u8::try_from(MARK).expect("a kind is a byte"));
        record.extend_from_slice(&number.to_le_bytes());
        record.extend_from_slice(&[0; 12]);
        record
    }
}

const MARK: u64 = 11;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const BYTES: usize>(&mut self) -> Option<u64> {
        let mut whole = [0; 8];
        whole[..BYTES].copy_from_slice(self.take(BYTES)?);
        Some(u64::from_le_bytes(whole))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number::<2>()?).ok()?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_at_its_last_whole_record() {
        let mut log = Effect::mark(7);
        log.extend(Effect::mark(8));
        assert_eq!(Effect::parse_log(&log), [Effect::Mark(7), Effect::Mark(8)]);
        assert_eq!(Effect::parse_log(&log[..log.len() - 1]), [Effect::Mark(7)]);
    }
}

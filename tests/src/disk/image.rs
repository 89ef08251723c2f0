use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::{Effect, Seeded};

/// Files end up torn at multiples of this.
const SECTOR_BYTES: usize = 512;
/// Shared memory, which every start makes anew.
const SHARED_MEMORY: &str = "-shm";

/// What is left after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process was killed: everything it did is there.
    Kill,
    /// The power failed: there is only what was synced.
    PowerCut,
    /// The power failed while the disk was busy: of what was not synced some is there, the rest is not, one write is torn.
    TornPowerCut(u64),
}

/// A folder with what its files and folders hold, and what of that is durable.
///
/// INVARIANT: durable are a file's bytes as of the last sync of that file, and a folder's entries as of the last sync of that
/// folder; nothing else follows from anything. Real file systems promise more.
#[derive(Default)]
pub struct DiskImage {
    nodes: Vec<Node>,
    by_inode: HashMap<u64, usize>,
}

enum Node {
    File { mode: u32, now: Vec<u8>, durable: Vec<u8>, pending: Vec<Pending> },
    Folder { mode: u32, now: Entries, durable: Entries, pending: Vec<EntryChange> },
}

type Entries = BTreeMap<String, usize>;

#[derive(Clone)]
struct Pending {
    change: Change,
    /// A sync of it failed: no later sync brings it back.
    lost: bool,
}

#[derive(Clone)]
enum Change {
    Write(usize, Arc<[u8]>),
    Size(usize),
}

#[derive(Clone)]
enum EntryChange {
    Set(String, usize),
    Remove(String),
    Move(String, String, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, length: usize) {
        match self {
            Self::Size(size) => bytes.resize(*size, 0),
            Self::Write(offset, written) => {
                let end = offset + length;
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(&written[..length]);
            }
        }
    }

    fn length(&self) -> usize {
        if let Self::Write(_, written) = self { written.len() } else { 0 }
    }
}

impl EntryChange {
    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Set(name, node) => drop(entries.insert(name.clone(), *node)),
            Self::Remove(name) => drop(entries.remove(name)),
            Self::Move(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

impl DiskImage {
    /// An empty folder.
    pub fn new() -> Self {
        Self { nodes: vec![folder(0o700)], by_inode: HashMap::new() }
    }

    /// Lets the next thing happen.
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Create { path, inode, mode } => {
                let node = Node::File { mode: *mode, now: Vec::new(), durable: Vec::new(), pending: Vec::new() };
                self.add(path, *inode, node);
            }
            Effect::MakeFolder { path, inode, mode } => self.add(path, *inode, folder(*mode)),
            Effect::Write { inode, offset, bytes, .. } => {
                self.change_file(*inode, Change::Write(size(*offset), Arc::clone(bytes)));
            }
            Effect::Truncate { inode, size: new, .. } => self.change_file(*inode, Change::Size(size(*new))),
            Effect::Sync { path, inode } => self.sync(path, *inode),
            Effect::SyncFailed { inode, .. } => {
                if let Some(Node::File { pending, .. }) = self.by_inode.get(inode).map(|node| &mut self.nodes[*node]) {
                    for pending in pending {
                        pending.lost = true;
                    }
                }
            }
            Effect::Rename { from, to } => {
                let (folder, old) = self.parent(from);
                let (to_folder, new) = self.parent(to);
                assert_eq!(folder, to_folder, "{from} moved to {to}: not between folders");
                let node = self.find(from);
                self.change_entries(folder, EntryChange::Move(old, new, node));
            }
            Effect::Link { from, to } => {
                let node = self.find(from);
                let (folder, name) = self.parent(to);
                self.change_entries(folder, EntryChange::Set(name, node));
            }
            Effect::Unlink(path) | Effect::RemoveFolder(path) => {
                let (folder, name) = self.parent(path);
                self.change_entries(folder, EntryChange::Remove(name));
            }
            Effect::Mark(_) => {}
        }
    }

    fn add(&mut self, path: &str, inode: u64, node: Node) {
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        // A number that was somebody else's before is free again only because that one is gone.
        self.by_inode.insert(inode, node);
        let (folder, name) = self.parent(path);
        self.change_entries(folder, EntryChange::Set(name, node));
    }

    fn change_file(&mut self, inode: u64, change: Change) {
        let node = *self.by_inode.get(&inode).expect("a file is made before it is written to");
        let Node::File { now, pending, .. } = &mut self.nodes[node] else { panic!("a folder is written to") };
        change.apply(now, change.length());
        pending.push(Pending { change, lost: false });
    }

    fn change_entries(&mut self, folder: usize, change: EntryChange) {
        let Node::Folder { now, pending, .. } = &mut self.nodes[folder] else { panic!("a file has entries") };
        change.apply(now);
        pending.push(change);
    }

    fn sync(&mut self, path: &str, inode: u64) {
        let node = if path.is_empty() { Some(0) } else { self.by_inode.get(&inode).copied() };
        match &mut self.nodes[node.expect("what is synced was made before")] {
            Node::File { durable, pending, .. } => {
                for pending in pending.drain(..).filter(|pending| !pending.lost) {
                    pending.change.apply(durable, pending.change.length());
                }
            }
            Node::Folder { now, durable, pending, .. } => {
                durable.clone_from(now);
                pending.clear();
            }
        }
    }

    /// The folder's node and the name in it.
    fn parent(&self, path: &str) -> (usize, String) {
        match path.rsplit_once('/') {
            Some((folder, name)) => (self.find(folder), name.to_owned()),
            None => (0, path.to_owned()),
        }
    }

    fn find(&self, path: &str) -> usize {
        path.split('/').fold(0, |node, name| match &self.nodes[node] {
            Node::Folder { now, .. } => *now.get(name).unwrap_or_else(|| panic!("{path} was never made")),
            Node::File { .. } => panic!("{path} leads through a file"),
        })
    }

    /// Writes what is left into an empty folder.
    pub fn write_to(&self, target: &Path, end: End) {
        let mut random = match end {
            End::TornPowerCut(seed) => Seeded::new(seed),
            End::Kill | End::PowerCut => Seeded::new(0),
        };
        self.write_entries(0, target, end, &mut random);
    }

    fn write_entries(&self, node: usize, target: &Path, end: End, random: &mut Seeded) {
        for (name, node) in self.entries(node, end, random) {
            let path = target.join(&name);
            match &self.nodes[node] {
                Node::Folder { mode, .. } => {
                    DirBuilder::new().mode(*mode).create(&path).expect("a folder of the image can be made");
                    self.write_entries(node, &path, end, random);
                }
                Node::File { .. } if name.ends_with(SHARED_MEMORY) => {}
                Node::File { mode, .. } => {
                    let mut file = OpenOptions::new();
                    let mut file = file.write(true).create_new(true).mode(*mode).open(&path).expect("a file is new");
                    file.write_all(&self.bytes(node, end, random)).expect("a file of the image can be written");
                }
            }
        }
    }

    fn entries(&self, node: usize, end: End, random: &mut Seeded) -> Entries {
        let Node::Folder { now, durable, pending, .. } = &self.nodes[node] else { panic!("a file has entries") };
        match end {
            End::Kill => now.clone(),
            End::PowerCut => durable.clone(),
            End::TornPowerCut(_) => {
                let mut entries = durable.clone();
                pending.iter().filter(|_| random.flip()).for_each(|change| change.apply(&mut entries));
                entries
            }
        }
    }

    fn bytes(&self, node: usize, end: End, random: &mut Seeded) -> Vec<u8> {
        let Node::File { now, durable, pending, .. } = &self.nodes[node] else { panic!("a folder has bytes") };
        match end {
            End::Kill => now.clone(),
            End::PowerCut => durable.clone(),
            End::TornPowerCut(_) => {
                let mut bytes = durable.clone();
                let torn = random.below(pending.len().max(1) as u64);
                for (at, Pending { change, .. }) in pending.iter().enumerate() {
                    let whole = change.length();
                    if at as u64 == torn && whole > 0 {
                        let sectors = whole.div_ceil(SECTOR_BYTES) as u64;
                        let kept = usize::try_from(random.below(sectors + 1)).expect("a size fits") * SECTOR_BYTES;
                        change.apply(&mut bytes, kept.min(whole));
                    } else if random.flip() {
                        change.apply(&mut bytes, whole);
                    }
                }
                bytes
            }
        }
    }

    /// What differs between the image and a real folder, shared memory apart. Nothing differs as long as the recorder sees
    /// everything.
    pub fn differences(&self, real: &Path) -> Vec<String> {
        let mut differences = Vec::new();
        self.compare(0, real, &mut differences);
        differences
    }

    fn compare(&self, node: usize, real: &Path, differences: &mut Vec<String>) {
        let mut entries = self.entries(node, End::Kill, &mut Seeded::new(0));
        for found in fs::read_dir(real).expect("the real folder can be read") {
            let found = found.expect("the real folder can be read");
            let (name, path) = (found.file_name().to_string_lossy().into_owned(), found.path());
            match entries.remove(&name).map(|node| (node, &self.nodes[node])) {
                None => differences.push(format!("{} was not recorded", path.display())),
                Some((node, Node::Folder { .. })) => self.compare(node, &path, differences),
                Some((_, Node::File { .. })) if name.ends_with(SHARED_MEMORY) => {}
                Some((_, Node::File { now, .. })) => {
                    if fs::read(&path).expect("a real file can be read") != *now {
                        differences.push(format!("{} has other bytes than were recorded", path.display()));
                    }
                }
            }
        }
        let missing = entries.keys().map(|name| format!("{} is not there", real.join(name).display()));
        differences.extend(missing);
    }
}

fn folder(mode: u32) -> Node {
    Node::Folder { mode, now: Entries::new(), durable: Entries::new(), pending: Vec::new() }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a size fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    fn left(effects: &[Effect], end: End) -> Vec<(String, Vec<u8>)> {
        let mut image = DiskImage::new();
        for effect in effects {
            image.apply(effect);
        }
        let scratch = Scratch::new();
        image.write_to(scratch.path(), end);
        let entries = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn write(offset: u64, bytes: &[u8]) -> Effect {
        Effect::Write { inode: 1, offset, bytes: bytes.into(), path: "a".into() }
    }

    #[test]
    fn only_what_was_synced_outlasts_the_power() {
        let create = Effect::Create { path: "a".into(), inode: 1, mode: 0o600 };
        let sync = Effect::Sync { path: "a".into(), inode: 1 };
        let sync_folder = Effect::Sync { path: String::new(), inode: 9 };
        let failed = Effect::SyncFailed { path: "a".into(), inode: 1 };
        let rename = Effect::Rename { from: "a".into(), to: "b".into() };
        let there = |name: &str, bytes: &[u8]| vec![(name.to_owned(), bytes.to_vec())];
        let all = [create.clone(), write(0, b"abc")];
        assert_eq!(left(&all, End::Kill), there("a", b"abc"));
        assert_eq!(left(&all, End::PowerCut), []);
        let all = [create.clone(), write(0, b"abc"), sync_folder.clone()];
        assert_eq!(left(&all, End::PowerCut), there("a", b""));
        let all = [create.clone(), write(0, b"abc"), sync.clone()];
        assert_eq!(left(&all, End::PowerCut), []);
        let all = [create.clone(), write(0, b"abc"), sync.clone(), sync_folder.clone(), write(1, b"xyz"), rename];
        assert_eq!(left(&all, End::PowerCut), there("a", b"abc"));
        assert_eq!(left(&all, End::Kill), there("b", b"axyz"));
        // After a failed sync the same bytes must be written again.
        let all = [create, sync_folder, write(0, b"abc"), failed, sync.clone(), write(3, b"d"), sync];
        assert_eq!(left(&all, End::PowerCut), there("a", b"\0\0\0d"));
        assert_eq!(left(&all, End::Kill), there("a", b"abcd"));
    }

    #[test]
    fn a_torn_end_is_the_same_for_the_same_seed() {
        let create = Effect::Create { path: "a".into(), inode: 1, mode: 0o600 };
        let sync_folder = Effect::Sync { path: String::new(), inode: 9 };
        let all = [create, sync_folder, write(0, &[1; 4096]), write(4096, &[2; 4096]), write(8192, &[3; 4096])];
        let outcomes: std::collections::HashSet<_> = (0..64).map(|seed| left(&all, End::TornPowerCut(seed))).collect();
        assert!(outcomes.len() > 10, "{} outcomes", outcomes.len());
        assert_eq!(left(&all, End::TornPowerCut(5)), left(&all, End::TornPowerCut(5)));
    }
}

//! Files that tests generate. The tests compare them with what is committed; here it is made sure that a test run
//! leaves them as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::root;

/// Files and folders that hold generated content. `Cargo.lock` is one: a build changes it when it was not committed.
const PLACES: [&str; 4] = ["Cargo.lock", "README.md", "docs", "tests/snapshots"];

/// The content of all generated places at one moment.
pub(crate) struct Snapshot(BTreeMap<PathBuf, Vec<u8>>);

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        let root = root();
        let mut files = BTreeMap::new();
        for place in PLACES {
            collect(&root, &root.join(place), &mut files)?;
        }
        Ok(Self(files))
    }

    /// Paths that were added, removed or rewritten since.
    pub(crate) fn changed(&self) -> Result<BTreeSet<PathBuf>> {
        let now = Self::take()?;
        let paths = self.0.keys().chain(now.0.keys());
        Ok(paths.filter(|path| self.0.get(*path) != now.0.get(*path)).cloned().collect())
    }

    /// Fails when anything was added, removed or rewritten since.
    pub(crate) fn unchanged(&self) -> Result<()> {
        let changed = self.changed()?;
        if changed.is_empty() {
            println!("{} files are as they were", self.0.len());
            return Ok(());
        }
        let list: Vec<_> = changed.iter().map(|path| path.display().to_string()).collect();
        bail!("the tests changed files of the checkout: {}; see `cargo xtask bless`", list.join(", "))
    }
}

fn collect(root: &Path, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
            collect(root, &entry?.path(), files)?;
        }
    } else if path.is_file() {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(path.strip_prefix(root)?.to_path_buf(), content);
    }
    Ok(())
}

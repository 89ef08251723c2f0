//! Where the clients are.

use std::path::PathBuf;

use crate::command::search_path;

/// Names a folder with programs that are not installed in the system. `cargo xtask test` sets it.
const TOOLS_VARIABLE: &str = "POSTERN_TEST_TOOLS";

/// The path of a client. The test fails when it is not installed: a client that is missing is not a reason to pass.
pub fn tool(name: &str) -> PathBuf {
    let given = std::env::var_os(TOOLS_VARIABLE).map(PathBuf::from);
    given
        .into_iter()
        .chain(std::env::split_paths(&search_path()))
        .chain(setup_folder())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not installed: run `cargo xtask setup`, or set {TOOLS_VARIABLE}"))
}

/// Where `cargo xtask setup` puts what the system's packages lack, for tests that are started by hand.
fn setup_folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("postern-tests/oras/usr/bin"))
}

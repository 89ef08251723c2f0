//! Where the clients are.

use std::path::PathBuf;

use crate::command::search_path;

/// Names the folder with programs that are not installed in the system. `cargo xtask test` sets it.
const TOOLS_VARIABLE: &str = "POSTERN_TEST_TOOLS";
/// Where programs lie in that folder: right in it, or in the files of a package.
const FOLDERS: [&str; 5] = ["", "oras/usr/bin", "cosign/usr/bin", "docker-cli/usr/bin", "docker-registry/usr/bin"];

/// The path of a client. The test fails when it is not installed: a client that is missing is not a reason to pass.
pub fn tool(name: &str) -> PathBuf {
    let given = std::env::var_os(TOOLS_VARIABLE).map(|folder| PathBuf::from(folder).join(name));
    let in_system = std::env::split_paths(&search_path()).map(|folder| folder.join(name)).collect::<Vec<_>>();
    let borrowed = setup_folder().into_iter().flat_map(|root| FOLDERS.map(|folder| root.join(folder).join(name)));
    given.into_iter().chain(in_system).chain(borrowed).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("`{name}` is not installed: run `cargo xtask setup`, or set {TOOLS_VARIABLE}");
    })
}

/// The Python that has the packages of `tests/sdk/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    in_setup_folder("python/bin/python3")
}

/// The Python that has the packages of `tests/sdk/older.txt`.
pub(crate) fn older_python() -> PathBuf {
    in_setup_folder("python-older/bin/python3")
}

/// The folder with the programs of the Azure CLI's environment.
pub(crate) fn azure_cli() -> PathBuf {
    in_setup_folder("azure-cli/bin")
}

/// Node.js: the one that was installed for lack of another, or the system's.
pub(crate) fn node() -> PathBuf {
    setup_folder()
        .map(|folder| folder.join("python/bin/node"))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| tool("node"))
}

/// The folder with the packages of `tests/sdk/package.json`.
pub(crate) fn node_packages() -> PathBuf {
    in_setup_folder("javascript")
}

/// What sets a program's clock: Debian keeps it in a folder of the processor's name.
pub(crate) fn clock_library() -> PathBuf {
    let entries = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let mut found = entries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    found.next().unwrap_or_else(|| panic!("libfaketime is not installed: run `cargo xtask setup`"))
}

fn in_setup_folder(path: &str) -> PathBuf {
    let found = setup_folder().map(|folder| folder.join(path)).filter(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no `{path}` in the folder of tools: run `cargo xtask setup`"))
}

/// Where `cargo xtask setup` puts what the system's packages lack. The same rule stands there.
fn setup_folder() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os(TOOLS_VARIABLE) {
        return Some(PathBuf::from(given));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("postern-tests"))
}

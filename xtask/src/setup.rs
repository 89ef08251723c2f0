//! `cargo xtask setup`: the programs that tests drive. Quick when everything is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, capture, cargo, find_program, succeeds};
use crate::{apt, sdk};

/// Names the folder with programs that are not installed in the system, for the tests to find.
pub(crate) const TOOLS_VARIABLE: &str = "POSTERN_TEST_TOOLS";

/// The oldest Debian release whose packages are used; it lacks what is borrowed.
const BORROWING_CODENAME: &str = "bookworm";
/// How much of a program is searched for the name of its loader.
const LOADER_SEARCH_BYTES: usize = 4096;

/// Whether cargo-nextest may be built when it is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nextest {
    AsFound,
    Install,
}

/// A Debian package and how to see that it is there without asking the package manager.
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

/// A program that Debian 12 has no package of. Its files come from the next release, and lie below a folder of the package's name.
struct Borrowed {
    package: &'static str,
    program: &'static str,
    version: &'static [&'static str],
}

impl Borrowed {
    fn file(&self, cache: &Path) -> PathBuf {
        cache.join(self.package).join("usr/bin").join(self.program)
    }

    fn path(&self, cache: &Path) -> PathBuf {
        find_program(self.program).unwrap_or_else(|| self.file(cache))
    }
}

const BORROWED: &[Borrowed] = &[
    Borrowed { package: "oras", program: "oras", version: &["version"] },
    Borrowed { package: "cosign", program: "cosign", version: &["version"] },
    // Installed it would run as a service.
    Borrowed { package: "docker-registry", program: "docker-registry", version: &["--version"] },
    // The client only: the engine behind it is podman's.
    Borrowed { package: "docker-cli", program: "docker", version: &["--version"] },
];

const NEEDS: &[Need] = &[
    Need { package: "skopeo", present: || find_program("skopeo").is_some() },
    Need { package: "buildah", present: || find_program("buildah").is_some() },
    Need { package: "podman", present: || find_program("podman").is_some() },
    Need { package: "runc", present: || find_program("runc").is_some() },
    Need { package: "busybox-static", present: || find_program("busybox").is_some_and(|path| is_static(&path)) },
    Need { package: "iproute2", present: || find_program("ip").is_some() },
    Need { package: "haproxy", present: || find_program("haproxy").is_some() },
    Need { package: "curl", present: || find_program("curl").is_some() },
    Need { package: "g++", present: || find_program("g++").is_some() },
    Need { package: "ca-certificates", present: || Path::new("/etc/ssl/certs/ca-certificates.crt").is_file() },
    Need { package: "libfaketime", present: has_clock_library },
    Need { package: "python3-venv", present: sdk::python_makes_environments },
];

/// `cargo xtask setup`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let nextest = match arguments {
        [] => Nextest::AsFound,
        [flag] if flag == "--with-nextest" => Nextest::Install,
        _ => bail!("setup takes only --with-nextest"),
    };
    let cache = tools(nextest)?;
    for need in NEEDS {
        println!("  {:<18}present", need.package);
    }
    for borrowed in BORROWED {
        println!("  {:<18}{}", borrowed.package, borrowed.path(&cache).display());
    }
    for (name, path) in sdk::places(&cache) {
        println!("  {name:<18}{}", path.display());
    }
    Ok(())
}

/// Makes sure that everything is there and returns the folder to pass on in [`TOOLS_VARIABLE`].
pub(crate) fn tools(nextest: Nextest) -> Result<PathBuf> {
    let cache = cache_folder()?;
    let codename = debian_codename();
    let mut missing: Vec<&str> = NEEDS.iter().filter(|need| !(need.present)()).map(|need| need.package).collect();
    let absent: Vec<&Borrowed> = BORROWED.iter().filter(|borrowed| !borrowed.path(&cache).is_file()).collect();
    let borrow = codename.as_deref() == Some(BORROWING_CODENAME);
    if !borrow {
        missing.extend(absent.iter().map(|borrowed| borrowed.package));
    }
    if !missing.is_empty() {
        install(&missing, codename.as_deref())?;
    }
    if let Some(codename) = codename.filter(|_| borrow && !absent.is_empty()) {
        let packages: Vec<&str> = absent.iter().map(|borrowed| borrowed.package).collect();
        apt::unpack_from_donor(&packages, &codename, &cache)?;
        for borrowed in absent {
            command::run(Command::new(borrowed.file(&cache)).args(borrowed.version))?;
        }
    }
    sdk::install(&cache)?;
    if nextest == Nextest::Install && !succeeds(&mut cargo(&["nextest", "--version"])) {
        command::run(&mut cargo(&["install", "--locked", "cargo-nextest"]))?;
    }
    Ok(cache)
}

fn install(missing: &[&str], codename: Option<&str>) -> Result<()> {
    let list = missing.join(" ");
    if codename.is_none() {
        bail!("the tests need these Debian packages or their like, please install them: {list}");
    }
    if !is_root()? {
        bail!("the tests need more packages, please run as root: apt-get install --no-install-recommends {list}");
    }
    apt::install(missing)?;
    let still: Vec<&str> = NEEDS.iter().filter(|need| !(need.present)()).map(|need| need.package).collect();
    if !still.is_empty() {
        bail!("installed, but still not found: {}", still.join(" "));
    }
    Ok(())
}

/// The code name of the Debian release this machine runs; nothing on other systems.
pub(crate) fn debian_codename() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

/// Outside of the checkout, so that it survives a clean clone.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match base {
        Some(base) => base,
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("postern-tests"))
}

fn is_root() -> Result<bool> {
    Ok(capture(Command::new("id").arg("--user"))?.trim() == "0")
}

/// Debian keeps the library in a folder of the processor's name.
fn has_clock_library() -> bool {
    let mut folders = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    folders.any(|folder| folder.path().join("faketime/libfaketimeMT.so.1").is_file())
}

/// A program without a loader runs inside an image that holds nothing else.
fn is_static(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| {
        let start = bytes.get(..LOADER_SEARCH_BYTES).unwrap_or(&bytes);
        bytes.starts_with(b"\x7fELF") && !start.windows(4).any(|window| window == b"/ld-")
    })
}

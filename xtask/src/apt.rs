//! Debian's package manager: installing packages, and taking single packages' files from the next Debian release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::run;

/// The release that `oras` and `cosign` first came with. Their files need nothing but a C library that Debian 12 has too.
const DONOR_RELEASE: &str = "trixie";
const DEFAULT_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names a source may use for a whole release instead of its code name.
const RELEASE_ALIASES: [&str; 3] = ["stable", "oldstable", "oldoldstable"];

/// Where this machine gets its Debian packages from.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    address: String,
    keyring: String,
}

/// Installs packages with the machine's own sources. Needs root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    run(apt_get().arg("update"))?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// Unpacks packages of the donor release, each into a folder of its name below `folder`, from the same mirror as the
/// machine's own packages. The machine's package lists and database are not touched.
pub(crate) fn unpack_from_donor(packages: &[&str], codename: &str, folder: &Path) -> Result<()> {
    unpack_from(DONOR_RELEASE, packages, codename, folder)
}

/// The same with packages of the machine's own release: nothing is installed, so that no service starts.
pub(crate) fn unpack(packages: &[&str], codename: &str, folder: &Path) -> Result<()> {
    unpack_from(codename, packages, codename, folder)
}

fn unpack_from(release: &str, packages: &[&str], codename: &str, folder: &Path) -> Result<()> {
    let mirror = system_mirror(codename)?;
    let work = folder.join(format!("unpacking.{}", std::process::id()));
    let result = download(release, packages, &mirror, &work).and_then(|archives| {
        packages.iter().zip(&archives).try_for_each(|(package, archive)| {
            let unpacked = work.join("files").join(package);
            fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
            run(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&unpacked))?;
            let target = folder.join(package);
            if target.exists() {
                fs::remove_dir_all(&target).with_context(|| format!("cannot replace {}", target.display()))?;
            }
            fs::rename(&unpacked, &target).with_context(|| format!("cannot create {}", target.display()))
        })
    });
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    result
}

/// The archives, in the order of the packages.
fn download(release: &str, packages: &[&str], mirror: &Mirror, work: &Path) -> Result<Vec<PathBuf>> {
    let lists = work.join("lists");
    let archives = work.join("archives");
    for folder in [&lists, &archives] {
        fs::create_dir_all(folder.join("partial")).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let sources = work.join("sources.list");
    let line = format!("deb [signed-by={}] {} {release} main\n", mirror.keyring, mirror.address);
    fs::write(&sources, line).with_context(|| format!("cannot write {}", sources.display()))?;
    let settings = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", lists.display()),
        format!("Dir::Cache::archives={}", archives.display()),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
        // The cache folder may lie in a home folder that apt's own user cannot enter.
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        // Descriptions of graphical programs, which some machines ask for.
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
    ];
    let configured = || {
        let mut command = apt_get();
        for setting in &settings {
            command.arg("--option").arg(setting);
        }
        command.current_dir(work);
        command
    };
    run(configured().arg("update"))?;
    run(configured().arg("download").args(packages))?;
    packages.iter().map(|package| archive_of(package, work)).collect()
}

/// apt names an archive `NAME_VERSION_ARCHITECTURE.deb`.
fn archive_of(package: &str, work: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(work).with_context(|| format!("cannot list {}", work.display()))?;
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_archive = path.extension().is_some_and(|extension| extension == "deb");
            is_archive && name.strip_prefix(package).is_some_and(|rest| rest.starts_with('_'))
        })
        .with_context(|| format!("apt-get downloaded no package {package}"))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "--option", "DPkg::Lock::Timeout=120"]);
    command
}

fn system_mirror(codename: &str) -> Result<Mirror> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => mirror_in_list(&text, codename),
            Some("sources") => mirror_in_stanzas(&text, codename),
            _ => None,
        };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    bail!("no entry for Debian {codename} main in /etc/apt/sources.list or /etc/apt/sources.list.d")
}

/// One-line form: `deb [signed-by=…] ADDRESS SUITE COMPONENT…`.
fn mirror_in_list(text: &str, codename: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim().strip_prefix("deb")?;
        let line = line.strip_prefix(|c: char| c.is_whitespace())?.trim_start();
        let (options, rest) = match line.strip_prefix('[') {
            Some(after) => after.split_once(']')?,
            None => ("", line),
        };
        let mut words = rest.split_whitespace();
        let address = words.next()?;
        let suite = words.next()?;
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        (is_release(suite, codename) && words.any(|component| component == "main")).then(|| mirror(address, keyring))
    })
}

/// Field form (`.sources`): paragraphs of `Name: value`, separated by empty lines.
fn mirror_in_stanzas(text: &str, codename: &str) -> Option<Mirror> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    text.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| {
            let at = stanza.iter().position(|line| {
                line.split_once(':').is_some_and(|(key, _)| !key.starts_with(' ') && key.eq_ignore_ascii_case(name))
            })?;
            let (first, rest) = stanza.get(at..)?.split_first()?;
            let mut value = first.split_once(':')?.1.trim().to_owned();
            for line in rest.iter().take_while(|line| line.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(line.trim());
            }
            Some(value)
        };
        let has = |name: &str, accept: &dyn Fn(&str) -> bool| {
            field(name).is_some_and(|value| value.split_whitespace().any(accept))
        };
        let enabled = field("Enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
        let wanted = enabled
            && has("Types", &|kind| kind == "deb")
            && has("Suites", &|suite| is_release(suite, codename))
            && has("Components", &|component| component == "main");
        let addresses = field("URIs")?;
        let address = addresses.split_whitespace().next()?;
        wanted.then(|| mirror(address, field("Signed-By").as_deref()))
    })
}

fn is_release(suite: &str, codename: &str) -> bool {
    suite == codename || RELEASE_ALIASES.contains(&suite)
}

/// A keyring may also be given as a key in place; then the one that every Debian machine has is used.
fn mirror(address: &str, keyring: Option<&str>) -> Mirror {
    let keyring = keyring.filter(|path| path.starts_with('/')).unwrap_or(DEFAULT_KEYRING);
    Mirror { address: address.to_owned(), keyring: keyring.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: Option<Mirror>, expected: Option<(&str, &str)>) {
        assert_eq!(found, expected.map(|(address, keyring)| mirror(address, Some(keyring))));
    }

    #[test]
    fn one_line_sources() {
        let list = |text| mirror_in_list(text, "bookworm");
        check(list("deb http://m.test/debian bookworm main"), Some(("http://m.test/debian", DEFAULT_KEYRING)));
        check(
            list(
                "# deb http://no/ bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://m/debian stable contrib main",
            ),
            Some(("http://m/debian", "/k.gpg")),
        );
        check(list("deb http://m/debian-security bookworm-security main"), None);
        check(list("deb-src http://m/debian bookworm main"), None);
        check(list("deb http://m/debian bookworm contrib # main"), None);
        check(list("deb [broken"), None);
    }

    #[test]
    fn field_sources() {
        let stanzas = |text| mirror_in_stanzas(text, "bookworm");
        check(
            stanzas(
                "Types: deb\nURIs: http://s/security\nSuites: bookworm-security\nComponents: main\n\n\
                 Types: deb deb-src\n# comment\nURIs: http://m/debian\nSuites: bookworm\n bookworm-updates\n\
                 components: main\nSigned-By: /k.gpg\n",
            ),
            Some(("http://m/debian", "/k.gpg")),
        );
        check(stanzas("Types: deb\nEnabled: no\nURIs: http://m\nSuites: bookworm\nComponents: main"), None);
        check(
            stanzas(
                "Types: deb\nURIs: http://m\nSuites: bookworm\nComponents: main\n\
                 Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n",
            ),
            Some(("http://m", DEFAULT_KEYRING)),
        );
        check(stanzas("Types: deb\nSuites: bookworm\nComponents: main"), None);
    }
}

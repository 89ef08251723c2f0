//! `cargo xtask bench`: builds everything that is measured, finds what it is measured against, runs it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::apt;
use crate::command::{cargo, find_program, root, run};
use crate::setup::{cache_folder, debian_codename};

/// Where the table goes.
const PAGE: &str = "docs/benchmarks.md";

/// `cargo xtask bench`
pub(crate) fn run_all(arguments: &[String]) -> Result<()> {
    let mut profile = "release";
    let mut rest: Vec<&str> = Vec::new();
    let mut peers = true;
    for argument in arguments {
        match argument.as_str() {
            "--dist" => profile = "dist",
            // A table of less than everybody is not written down.
            "--alone" => peers = false,
            "--write" => rest.extend(["--write", PAGE]),
            other => rest.push(other),
        }
    }
    let is_smoke = rest.contains(&"--smoke");
    if is_smoke {
        profile = "dev";
        peers = false;
    } else if !peers && rest.contains(&"--write") {
        bail!("--alone and --write do not go together");
    }
    run(&mut cargo(&["build", "--profile", profile, "--package", "postern", "--package", "postern-bench"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let built = target.join(if profile == "dev" { "debug" } else { profile });
    let mut bench = Command::new(built.join("postern-bench"));
    bench.args(["--profile", profile, "--folder"]).arg(target.join("bench")).args(rest).current_dir(root());
    if peers {
        bench.arg("--docker-registry").arg(program("docker-registry", "docker-registry", "usr/bin/docker-registry")?);
        bench.arg("--nginx").arg(program("nginx", "nginx", "usr/sbin/nginx")?);
    }
    run(&mut bench)
}

/// A program of the system, or else from Debian's package, unpacked: an installed package would start a service.
fn program(name: &str, package: &str, path: &str) -> Result<PathBuf> {
    let cache = cache_folder()?;
    let folder = cache.join(package);
    if let Some(found) = find_program(name).or_else(|| Some(folder.join(path)).filter(|path| path.is_file())) {
        return Ok(found);
    }
    let Some(codename) = debian_codename() else {
        bail!("the bench needs `{name}`, please install it; it need not run as a service");
    };
    apt::unpack(&[package], &codename, &cache)?;
    Ok(folder.join(path))
}

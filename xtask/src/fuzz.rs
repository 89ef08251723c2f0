//! `cargo xtask fuzz`: builds the fuzz targets and lets them run, two at a time.
//!
//! libFuzzer runs on the stable toolchain: the coverage that it is guided by is a pass of LLVM's, switched on by flags.
//! A compiler for the workspace's crates alone adds them; cargo keeps what it makes apart, and everything else is built once for all.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, root, run};

/// How long each target runs, unless [`SECONDS_VARIABLE`] says otherwise.
const DEFAULT_SECONDS: u64 = 60;
const SECONDS_VARIABLE: &str = "POSTERN_FUZZ_SECONDS";
/// What a change is judged by must not depend on chance.
const STAGE_SEED: u32 = 1;
const AT_ONCE: usize = 2;
/// What one input may take.
const INPUT_SECONDS: &str = "5";
const MEMORY_MIB: &str = "2048";
/// Longest input: long enough for every structure, short enough for many of them.
const INPUT_BYTES: &str = "4096";
/// Longest input that is kept in the repository.
const KEPT_INPUT_BYTES: &str = "512";
/// Inputs that are kept of each target.
const KEPT_INPUTS: usize = 64;
/// How often a running target is looked at.
const POLL: Duration = Duration::from_millis(200);

/// `cargo xtask fuzz [TARGET|all [SECONDS]]`, `cargo xtask fuzz keep`
pub(crate) fn task(arguments: &[String]) -> Result<()> {
    let all = targets()?;
    let (wanted, seconds) = match arguments {
        [] => (all.clone(), seconds()?),
        [one] if one == "keep" => return keep(&all),
        [one] if one == "all" => (all.clone(), seconds()?),
        [one] => (vec![one.clone()], seconds()?),
        [one, time] => {
            let time = time.parse().with_context(|| format!("`{time}` is not a number of seconds"))?;
            (if one == "all" { all.clone() } else { vec![one.clone()] }, time)
        }
        _ => bail!("fuzz takes a target, or `all`, and a number of seconds; or `keep`"),
    };
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; targets are: {}", all.join(", "));
    }
    build()?;
    run_targets(wanted, seconds, None)
}

/// The stage of `cargo xtask test`: all targets, from the same seed each time.
pub(crate) fn stage() -> Result<()> {
    build()?;
    run_targets(targets()?, seconds()?, Some(STAGE_SEED))
}

fn seconds() -> Result<u64> {
    match std::env::var_os(SECONDS_VARIABLE).map(OsString::into_string) {
        None => Ok(DEFAULT_SECONDS),
        Some(Ok(text)) => text.parse().with_context(|| format!("{SECONDS_VARIABLE} is not a number of seconds")),
        Some(Err(_)) => bail!("{SECONDS_VARIABLE} is not a number of seconds"),
    }
}

fn folder() -> PathBuf {
    root().join("fuzz")
}

/// What is built and found on the way.
fn work_folder() -> PathBuf {
    root().join("target/fuzz")
}

/// A file per target.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder().join("targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<()> {
    let mut command = cargo(&["build", "--quiet", "--package", "postern-fuzz", "--features", "fuzzing", "--bins"]);
    // All is built at once and seldom again: what incremental builds keep costs more than it saves.
    command.env("CARGO_INCREMENTAL", "0");
    run(command.env("RUSTC_WORKSPACE_WRAPPER", folder().join("rustc-with-coverage")))
}

fn program(target: &str) -> PathBuf {
    root().join("target/debug").join(target)
}

/// A target at work.
struct Running {
    target: String,
    child: Child,
    log: PathBuf,
}

fn run_targets(wanted: Vec<String>, seconds: u64, seed: Option<u32>) -> Result<()> {
    let mut waiting = VecDeque::from(wanted);
    let mut running: Vec<Running> = Vec::new();
    let mut failed = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < AT_ONCE
            && let Some(target) = waiting.pop_front()
        {
            running.push(start(&target, seconds, seed)?);
        }
        sleep(POLL);
        let mut going = Vec::new();
        for mut one in running {
            match one.child.try_wait()? {
                None => going.push(one),
                Some(status) => {
                    println!("  {:<18}{}", one.target, result(&one.log)?);
                    if !status.success() {
                        println!("{}", tail(&one.log)?);
                        failed.push(one.target);
                    }
                }
            }
        }
        running = going;
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "found something: {}; the inputs are in fuzz/regressions: mend what they show and commit them",
        failed.join(", ")
    )
}

fn start(target: &str, seconds: u64, seed: Option<u32>) -> Result<Running> {
    let work = work_folder();
    let (grown, kept) = (work.join("corpus").join(target), folder().join("corpus").join(target));
    let regressions = folder().join("regressions").join(target);
    for folder in [&grown, &kept, &regressions] {
        fs::create_dir_all(folder)?;
    }
    let log = work.join(format!("{target}.log"));
    let output = File::create(&log)?;
    let mut command = Command::new(program(target));
    command.args([&grown, &kept, &regressions]);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={INPUT_SECONDS}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-max_len={INPUT_BYTES}"));
    command.arg(format!("-artifact_prefix={}/", regressions.display())).arg("-print_final_stats=1");
    command.args(seed.map(|seed| format!("-seed={seed}")));
    let dictionary = folder().join("dictionaries").join(target);
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = command.spawn().with_context(|| format!("cannot start {target}"))?;
    Ok(Running { target: target.to_owned(), child, log })
}

/// Executions and coverage, from the end of a log.
fn result(log: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let number = |name: &str| {
        let found = text.lines().rev().find_map(|line| line.strip_prefix(name));
        found.map_or_else(|| "?".to_owned(), |value| value.trim().to_owned())
    };
    let edges = text.lines().rev().find_map(|line| line.split(" cov: ").nth(1)?.split(' ').next());
    Ok(format!(
        "{:>10} executions, {:>7} a second, {:>6} edges, {} MiB",
        number("stat::number_of_executed_units:"),
        number("stat::average_exec_per_sec:"),
        edges.unwrap_or("?"),
        number("stat::peak_rss_mb:")
    ))
}

fn tail(log: &Path) -> Result<String> {
    const LINES: usize = 40;
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n"))
}

/// Takes what was found into the repository's corpus: few inputs that together reach what is reached, the richest of them.
fn keep(all: &[String]) -> Result<()> {
    build()?;
    for target in all {
        let kept = folder().join("corpus").join(target);
        let grown = work_folder().join("corpus").join(target);
        let fresh = work_folder().join("kept").join(target);
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        for folder in [&kept, &grown, &fresh] {
            fs::create_dir_all(folder)?;
        }
        let mut merge = Command::new(program(target));
        merge
            .args([
                "-set_cover_merge=1".to_owned(),
                "-use_counters=0".to_owned(),
                format!("-max_len={KEPT_INPUT_BYTES}"),
            ])
            .args([&fresh, &kept, &grown]);
        run(merge.stdout(Stdio::null()).stderr(Stdio::null()))?;
        fs::remove_dir_all(&kept)?;
        fs::create_dir_all(&kept)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&fresh)? {
            let entry = entry?;
            found.push((entry.metadata()?.len(), entry.file_name()));
        }
        found.sort_by(|a, b| b.cmp(a));
        found.truncate(KEPT_INPUTS);
        for (_, name) in &found {
            fs::copy(fresh.join(name), kept.join(name))?;
        }
        println!("  {target:<18}{} inputs", found.len());
    }
    Ok(())
}

//! Measures Postern beside another registry and beside what the machine can do, interleaved in one run.
//!
//! ```text
//! rows (row) → everybody who takes part (stage, seed, entries) → rounds (measure, load) → verdicts → table (report)
//! ```
//!
//! `cargo xtask bench` builds and runs it. This program is also two of the limits itself: `hello` and `sink`.
#![expect(clippy::print_stdout, reason = "a command line tool speaks through standard output")]

mod connection;
mod content;
mod decide;
mod entries;
mod estate;
mod limits;
mod load;
mod machine;
mod measure;
mod peer;
mod postern;
mod process;
mod report;
mod resources;
mod row;
mod scripts;
mod seed;
mod site;
mod stage;
mod verdict;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::machine::Cores;
use crate::measure::{Plan, measure};
use crate::row::{OTHER_ROWS, ROWS};
use crate::stage::{Programs, Sizes, Stage};
use crate::verdict::Line;

/// Measures Postern beside docker-registry and beside what the machine can do.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    limit: Option<LimitServer>,
    /// Rows whose names begin so; may be given several times.
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// One short round: for work in progress.
    #[arg(long)]
    quick: bool,
    /// Every row for a moment, with little content: that it works, not how fast.
    #[arg(long, conflicts_with_all = ["write", "quick"])]
    smoke: bool,
    /// Writes the page to this file.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The server.
    #[arg(long, value_name = "FILE")]
    postern: Option<PathBuf>,
    /// How the server was built, for the page.
    #[arg(long, default_value = "dev", value_name = "PROFILE")]
    profile: String,
    /// The registry to compare with; without it, nothing is compared.
    #[arg(long, value_name = "FILE")]
    docker_registry: Option<PathBuf>,
    /// nginx; without it, rows have no such limit.
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,
    /// Folder for what the servers store, on the disk that is to be measured.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum LimitServer {
    /// hyper, with an answer of a kibibyte.
    #[command(hide = true)]
    Hello { folder: PathBuf },
    /// Receives, hashes, writes, syncs.
    #[command(hide = true)]
    Sink { folder: PathBuf },
}

const FULL: Plan =
    Plan { rounds: 3, time: Duration::from_millis(600), warm_up: Duration::from_millis(150), operations: u64::MAX };
const QUICK: Plan = Plan { rounds: 1, time: Duration::from_millis(400), ..FULL };
const SMOKE: Plan = Plan { rounds: 1, time: Duration::ZERO, warm_up: Duration::ZERO, operations: 2 };

const SIZES: Sizes = Sizes {
    address_rules: 100,
    assignments: 10_000,
    registries: 1000,
    all_assignments: 100_000,
    many_tags: 100_000,
    fewer_tags: 10_000,
    repositories: 10_000,
    mountable: 1000,
    blob_bytes: 100 << 20,
    idle_connections: 4000,
};
const SMOKE_SIZES: Sizes = Sizes {
    address_rules: 5,
    assignments: 20,
    registries: 3,
    all_assignments: 12,
    many_tags: 300,
    fewer_tags: 200,
    repositories: 150,
    mountable: 40,
    blob_bytes: 9 << 20,
    idle_connections: 20,
};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.limit {
        Some(LimitServer::Hello { .. }) => limits::hello(),
        Some(LimitServer::Sink { folder }) => limits::sink(folder),
        None => run(&arguments),
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let wanted = |name: &str| arguments.row.is_empty() || arguments.row.iter().any(|start| name.starts_with(start));
    let names = ROWS.iter().map(|row| row.name).chain(OTHER_ROWS.iter().copied());
    ensure!(names.clone().any(wanted), "no row begins so; there are: {}", names.collect::<Vec<_>>().join(" "));
    let (plan, sizes) = match (arguments.smoke, arguments.quick) {
        (true, _) => (SMOKE, SMOKE_SIZES),
        (_, true) => (QUICK, SIZES),
        _ => (FULL, SIZES),
    };
    // The smoke run shares the machine with other tests.
    let cores = if arguments.smoke { None } else { Cores::choose()? };
    match cores {
        Some(cores) => machine::pin(cores.client)?,
        None if !arguments.smoke => println!("only one processor: servers and generator disturb each other"),
        None => {}
    }
    let programs = programs(arguments)?;
    let base = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    fs::create_dir_all(&base).with_context(|| format!("cannot create {}", base.display()))?;
    let folder = tempfile::Builder::new().prefix("postern-bench-").tempdir_in(&base)?;
    let about = about(arguments, &plan, folder.path(), &programs)?;
    println!("{}\n{}\n{}\n", about.machine, about.versions, about.plan);

    let mut lines = Vec::new();
    let mut finish = |line: Line| {
        let line = if arguments.smoke { line.unjudged() } else { line };
        println!("{}", report::plain(&line));
        lines.push(line);
    };
    if wanted("decide") {
        finish(decide::line(&plan)?);
    }
    if ROWS.iter().map(|row| row.name).chain(OTHER_ROWS.iter().copied()).any(|name| name != "decide" && wanted(name)) {
        let mut stage = Stage::set(folder.path(), programs, cores, sizes)?;
        println!("set up after {:.1} s", begun.elapsed().as_secs_f64());
        for row in ROWS.iter().filter(|row| wanted(row.name)) {
            stage.seed(row.work).with_context(|| format!("{} cannot be prepared", row.name))?;
            let figures = entries::entries(&stage, row).and_then(|entries| measure(entries, row, &plan));
            finish(Line::of(row, figures.with_context(|| row.name)?));
        }
        for line in resources::lines(&mut stage, &wanted)? {
            finish(line);
        }
    }
    drop(folder);
    println!("\ntook {:.0} s", begun.elapsed().as_secs_f64());
    if let Some(path) = &arguments.write {
        ensure!(arguments.row.is_empty() && !arguments.quick, "only a whole run is written down");
        fs::write(path, report::page(&lines, &about)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The programs to start; the server is looked for beside this program.
fn programs(arguments: &Arguments) -> Result<Programs> {
    let postern = match &arguments.postern {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("postern"),
    };
    if !postern.is_file() {
        bail!("there is no server at {}", postern.display());
    }
    Ok(Programs { postern, peer: arguments.docker_registry.clone(), nginx: arguments.nginx.clone() })
}

fn about(arguments: &Arguments, plan: &Plan, folder: &Path, programs: &Programs) -> Result<report::About> {
    let version = |program: &Path, flag: &str| -> Result<String> {
        let output = std::process::Command::new(program).arg(flag).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(text.lines().next().unwrap_or_default().split_whitespace().last().unwrap_or_default().to_owned())
    };
    let mut versions = vec![format!("Postern {} ({})", version(&programs.postern, "--version")?, arguments.profile)];
    if let Some(peer) = &programs.peer {
        versions.push(format!("docker-registry {}", version(peer, "--version")?));
    }
    if let Some(nginx) = &programs.nginx {
        versions.push(version(nginx, "-v")?);
    }
    Ok(report::About {
        machine: machine::description(folder),
        versions: versions.join(", "),
        plan: format!("{} rounds of {} ms per server and row", plan.rounds, plan.time.as_millis()),
    })
}

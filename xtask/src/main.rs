//! The menu of development tasks: `cargo xtask` lists them, `cargo xtask test` is what continuous integration runs.
//!
//! Tasks call programs with inherited output and stop at the first failure. Nothing here reaches the network
//! except through `apt-get`, `pip` and `npm` (in `setup`) and `cargo`.
#![expect(clippy::print_stdout, reason = "a command line tool speaks through standard output")]

mod apt;
mod bench;
mod command;
mod dependencies;
mod fuzz;
mod generated;
mod sdk;
mod setup;
mod stages;

use anyhow::{Result, bail};

/// One entry of the menu.
struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "setup",
        about: "install what the tests need (--with-nextest also builds cargo-nextest)",
        run: setup::run,
    },
    Task { name: "fmt", about: "format all code in place", run: stages::fmt },
    Task { name: "lint", about: "formatting, clippy and documentation, warnings refused", run: stages::lint },
    Task { name: "check", about: "fmt, lint, check-deps and unit tests: the quick round", run: stages::check },
    Task { name: "test", about: "setup, lint, check-deps, build and every test: what CI runs", run: stages::test },
    Task {
        name: "bless",
        about: "run the tests and let them rewrite generated files and snapshots (arguments filter tests)",
        run: stages::bless,
    },
    Task {
        name: "check-deps",
        about: "who may use whom, and what the pure crates must not pull in",
        run: dependencies::run,
    },
    Task {
        name: "network",
        about: "rehearse a network: FILE is a scenario, out comes who gets in when (docs/guides/rehearse-a-network.md)",
        run: stages::network,
    },
    Task {
        name: "fuzz",
        about: "fuzz all targets, or TARGET, for SECONDS each; `fuzz keep` takes what was found into the corpus",
        run: fuzz::task,
    },
    Task {
        name: "bench",
        about: "measure beside docker-registry and the machine's limits (--row NAME, --quick, --write, --dist, --smoke, --alone)",
        run: bench::run_all,
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        None => {
            menu();
            Ok(())
        }
        Some((name, rest)) => match TASKS.iter().find(|task| task.name == name) {
            Some(task) => (task.run)(rest),
            None if matches!(name.as_str(), "help" | "-h" | "--help") => {
                menu();
                Ok(())
            }
            None => {
                menu();
                bail!("there is no task `{name}`")
            }
        },
    }
}

fn menu() {
    println!("cargo xtask TASK\n");
    for task in TASKS {
        println!("  {:<12}{}", task.name, task.about);
    }
}

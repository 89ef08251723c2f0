//! Tasks made of timed stages: formatting, lints, tests.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::{cargo, run, succeeds};
use crate::generated::Snapshot;
use crate::{dependencies, fuzz, setup};

/// Tells a test to rewrite what it would otherwise compare with.
const BLESS: &str = "POSTERN_BLESS";
/// The package that drives real clients; everything else counts as unit tests.
const CLIENT_TESTS: &str = "postern-tests";

/// Runs stages one after the other and remembers how long each took.
#[derive(Default)]
struct Stages(Vec<(&'static str, Duration)>);

impl Stages {
    fn run<T>(&mut self, name: &'static str, stage: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("── {name}");
        let start = Instant::now();
        let result = stage();
        let took = start.elapsed();
        let verdict = if result.is_ok() { "took" } else { "failed after" };
        println!("── {name} {verdict} {:.1} s", took.as_secs_f64());
        self.0.push((name, took));
        result
    }

    fn summary(&self) {
        let total: Duration = self.0.iter().map(|(_, took)| *took).sum();
        println!();
        for (name, took) in self.0.iter().copied().chain([("all", total)]) {
            println!("  {name:<18}{:>8.1} s", took.as_secs_f64());
        }
    }
}

/// `cargo xtask fmt`
pub(crate) fn fmt(_: &[String]) -> Result<()> {
    run(&mut cargo(&["fmt", "--all"]))
}

/// `cargo xtask lint`
pub(crate) fn lint(_: &[String]) -> Result<()> {
    lint_stages(&mut Stages::default())
}

/// `cargo xtask check`
pub(crate) fn check(_: &[String]) -> Result<()> {
    let mut stages = Stages::default();
    stages.run("format", || fmt(&[]))?;
    lint_stages(&mut stages)?;
    stages.run("dependencies", || dependencies::run(&[]))?;
    stages.run("unit tests", || {
        let mut tests = test_runner();
        run(tests.args(["--workspace", "--exclude", CLIENT_TESTS]))
    })?;
    stages.summary();
    Ok(())
}

/// `cargo xtask test`
pub(crate) fn test(_: &[String]) -> Result<()> {
    let mut stages = Stages::default();
    let tools = stages.run("setup", || setup::tools(setup::Nextest::AsFound))?;
    lint_stages(&mut stages)?;
    stages.run("dependencies", || dependencies::run(&[]))?;
    // The tests are built together with the binary they start, so that both share one set of dependency features.
    stages.run("build", || run(&mut cargo(&["build", "--workspace", "--bins", "--tests"])))?;
    let before = Snapshot::take()?;
    stages.run("tests", || run(test_runner().arg("--workspace").env(setup::TOOLS_VARIABLE, &tools)))?;
    stages.run("doctests", || run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"])))?;
    stages.run("generated files", || before.unchanged())?;
    stages.run("fuzzing", fuzz::stage)?;
    stages.summary();
    Ok(())
}

/// `cargo xtask bless`
pub(crate) fn bless(filters: &[String]) -> Result<()> {
    let tools = setup::tools(setup::Nextest::AsFound)?;
    run(&mut cargo(&["build", "--workspace", "--bins", "--tests"]))?;
    let before = Snapshot::take()?;
    let result = run(test_runner().arg("--workspace").args(filters).env(setup::TOOLS_VARIABLE, &tools).env(BLESS, "1"));
    let changed = before.changed()?;
    println!("{} generated files changed", changed.len());
    for path in changed {
        println!("  {}", path.display());
    }
    result
}

/// `cargo xtask network`
pub(crate) fn network(arguments: &[String]) -> Result<()> {
    let tools = setup::tools(setup::Nextest::AsFound)?;
    run(&mut cargo(&["build", "--workspace", "--bins", "--quiet"]))?;
    let mut network = cargo(&["run", "--package", "postern-tests", "--bin", "network", "--quiet", "--"]);
    run(network.args(arguments).env(setup::TOOLS_VARIABLE, &tools))
}

fn lint_stages(stages: &mut Stages) -> Result<()> {
    stages.run("formatting", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    stages.run("clippy", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
    })?;
    stages.run("documentation", || {
        run(cargo(&["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "--deny warnings"))
    })
}

/// `cargo nextest run` where it is installed; otherwise `cargo test`, which runs the same tests.
fn test_runner() -> Command {
    if succeeds(&mut cargo(&["nextest", "--version"])) {
        return cargo(&["nextest", "run"]);
    }
    println!("cargo-nextest is not installed: using cargo test (`cargo xtask setup --with-nextest` installs it)");
    cargo(&["test", "--lib", "--bins", "--tests", "--no-fail-fast"])
}

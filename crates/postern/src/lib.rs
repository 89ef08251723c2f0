//! Postern: a container registry with its wall up, a side door for known identities, and a reason for every answer.
//!
//! The binary reads configuration, owns the real clock, randomness and environment, binds listeners and wires the crates
//! together; each subcommand is a module. Nothing depends on it but what tries its parsers.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod acr;
mod agent;
mod apply;
mod bootstrap;
mod client;
mod config;
mod demo;
mod device;
mod dns;
mod environment;
mod explain;
mod first_start;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod places;
mod postern_api;
mod proxies;
mod serve;
mod server;
mod sockets;
mod sweep;
mod trust;
mod workers;
mod workload;

/// Method and path of every operation that is the binary's own: the API of decisions, health and metrics, and what is served beside it.
pub fn endpoints() -> Vec<(&'static str, &'static str)> {
    let operations = server::OPERATIONS_PATHS.into_iter().map(|path| ("GET", path));
    let runs = postern_runs::AGENT_ENDPOINTS.into_iter().chain(postern_runs::BLOB_ENDPOINTS);
    postern_api::endpoints().into_iter().chain(operations).chain(runs).collect()
}

/// Parsers of what comes from outside before anybody is known: pure functions, to be tried with hostile input.
pub mod parsers {
    pub use crate::dns::{Answer, Asked, Transport, Zone, asked, respond};
    pub use crate::proxies::{HeaderProblem, PREFIX_BYTES, Proxied, header_length, read_header};
}

/// A container registry with its wall up: network rules, trusted services, roles, and a reason for every answer.
#[derive(Debug, Parser)]
#[command(name = "postern", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a data folder.
    Serve(serve::ServeArguments),
    /// Check a configuration file and say what it means.
    CheckConfig(serve::CheckConfigArguments),
    /// Play the story: a registry is locked down, and who still gets in is shown with the reason.
    Demo(demo::DemoArguments),
    /// Create or update the resources in a file.
    Apply(apply::ApplyArguments),
    /// Print the resources of a server in the form that `apply` takes.
    Export(apply::ExportArguments),
    /// Say which layer decided a request and what would change that: for one that was made, or a hypothetical one.
    Explain(explain::ExplainArguments),
    /// Delete old tags and what nothing needs any more, list and delete tags and manifests: of a registry here or anywhere.
    Acr(acr::AcrArguments),
    /// Carry out the runs of an agent pool on this machine.
    Agent(agent::AgentArguments),
    /// Carry out runs, as the process that a server or `agent` starts.
    #[command(name = agent::WORKER, hide = true)]
    AgentWorker,
    /// Answer devices that wait to be signed in.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Run a program as a workload, or get a workload's certificate.
    #[command(subcommand)]
    Workload(workload::WorkloadCommand),
    /// Make clients on this machine trust the server's certificate authority and find its names.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::CheckConfig(arguments) => serve::check_config(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Apply(arguments) => apply::apply(arguments),
        Command::Export(arguments) => apply::export(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Acr(arguments) => acr::run(arguments),
        Command::Agent(arguments) => agent::run(arguments),
        Command::AgentWorker => agent::worker(),
        Command::Device(command) => device::run(command),
        Command::Workload(command) => workload::run(command),
        Command::Trust(command) => trust::run(command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a failed command goes to the terminal")]
fn report(error: &anyhow::Error) {
    eprintln!("postern: {error:#}");
}

/// Prints a line for the person who ran the command.
#[expect(clippy::print_stdout, reason = "what a command prints is its result")]
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

/// A runtime for a subcommand.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

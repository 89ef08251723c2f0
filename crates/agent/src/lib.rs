//! The worker: leases a run from the server, carries it out, reports.
//!
//! ```text
//!  server ─ lease ─▶ files ─▶ plan (postern-tasks) ─▶ logins ─▶ steps: native acr, buildah, runc ─▶ report ─▶ server
//! ```
//!
//! It is a client like any other: it proves itself by a workload certificate, and each run by one of its own, whose trust it has on the
//! way through the run's gateway and nowhere else.
//!
//! **Invariants.** A run's secrets are in its folder and in memory, and gone with it; they are in no words of a command. Nothing that a
//! run brings along is followed out of its folder. The server knows that a run may have changed something before it does. What a worker
//! started ends with it, however it ends. Deliberately absent: what a task file means (`postern-tasks`), who may do what.

mod agent;
mod archive;
mod connection;
mod engine;
mod folder;
mod log;
mod login;
mod process;
mod run;
mod server;
mod source;
mod steps;
mod worker;

pub use connection::Connection;
pub use engine::NetworkMode;
pub use worker::{Stopping, WorkerSettings, be_worker, in_own_namespaces, supervise};

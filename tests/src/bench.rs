//! The network bench: places that are real networks, on any Linux machine, and nothing of it afterwards.
//!
//! ```text
//!   internet ─┐
//!   office ───┼─ fabric ── public0 ┐               routes between the public networks
//!   workload ─┘                    │
//!   vnet-a ─┬─ its network ── leg ─┼─ server       a private endpoint at 10.0.0.10 in 10.0.0.0/24
//!   peered ─┘                      │               comes by vnet-a's network, and may not use its endpoint
//!   vnet-b ─── its network ── leg ─┤               another endpoint at 10.0.0.10 in another 10.0.0.0/24
//!   subnet ─── its network ── leg ─┘               a service endpoint: the private address is seen
//! ```
//!
//! A test calls [`inside`]: its body runs in a copy of the test's process that has a mount table, a network and process ids of
//! its own, so that all it makes (networks, processes, files in the temporary folder, host names) ends with it, however it ends.
//! There a [`Bench`] makes the places and starts the server. A [`Place`] runs programs ([`Place::command`]) and parts of the
//! test ([`Place::enter`]) as machines of that network: with its address, its names and the bench's authority as the system's.

mod client;
mod fabric;
mod place;
mod sandbox;
mod scenario;
mod standard;
mod topology;

pub use client::{Answer, Client, Request};
pub use place::Place;
pub use sandbox::{inside, program};
pub use scenario::{Scenario, Step, Workload};
pub use standard::{Bench, Setup};
pub use topology::{Spec, Way};

/// Where the bench keeps its files. A file system of its own that is not on disk.
const FOLDER: &str = "/run/bench";

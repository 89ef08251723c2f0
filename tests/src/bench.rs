//! The network bench: places that are real networks, on any Linux machine, and nothing of it afterwards.
//!
//! ```text
//!   internet ── office ── shared-pool ── workload        each in a network of its own
//!       └─────────┴──── fabric ───┴──────────┘           routes between the public networks
//!                         │ public0
//!   vnet-a ── vneta0 ── server ── vnetb0 ── vnet-b        private endpoints; both networks are 10.0.0.0/24
//!   subnet ── subnet0 ──┘ │ └──── other0 ── other-subnet  service endpoints: the private address is seen
//!                      peered0 ── peered                  reaches vnet-a's endpoint, and may not
//! ```
//!
//! A test calls [`inside`]: its body runs in a copy of the test's process that has a mount table, a network and process ids of
//! its own, so that all it makes (networks, processes, files in the temporary folder, host names) ends with it, however it ends.
//! There a [`Bench`] makes the places and starts the server. A [`Place`] runs programs ([`Place::command`]) and parts of the
//! test ([`Place::enter`]) as machines of that network: with its address, its names and the bench's authority as the system's.

mod fabric;
mod place;
mod sandbox;
mod standard;

pub use place::Place;
pub use sandbox::inside;
pub use standard::Bench;

/// Where the bench keeps its files. A file system of its own that is not on disk.
const FOLDER: &str = "/run/bench";

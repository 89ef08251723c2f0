//! What end to end tests stand on: the real binary, real clients kept apart from the machine's own settings, and
//! images made by hand.
//!
//! - [`Server`] starts the built `postern`, waits until it says that it is ready and ends it.
//! - [`Containers`] runs skopeo, buildah, podman, docker, oras and cosign with storage, settings and credentials of their own.
//! - [`Az`] runs scripts with the Azure CLI on a machine of the bench.
//! - [`Sdk`] runs the Azure libraries of the data plane.
//! - [`Layout`] writes images byte by byte, so that they also serve as material no other code here has touched.
//! - [`mod@bench`] makes networks with places in them, which programs and servers run in.
//! - [`Command`] runs a program with a time limit and shows everything when the outcome is not the expected one.
//! - [`disk`] records what a server does to its data folder, plays back crashes and power cuts, and injects errors.
//! - [`Supplier`] is a registry that breaks off or waits in the middle of a download.
//! - [`Issuer`] is an OpenID provider that signs tokens and people in.
//! - [`registry::RegistryClient`] sends many requests at once.
//!
//! Nothing here shares code with the server. A failed expectation ends the test with a message that says what to do.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation of the harness is a failed test"
)]

mod admin;
mod az;
pub mod bench;
mod command;
mod containers;
pub mod disk;
mod engine;
mod golden;
mod image;
mod issuer;
pub mod matrix;
pub mod registry;
mod scratch;
mod sdk;
mod server;
mod supplier;
mod tools;

pub use admin::{Admin, demo, postern, run_postern};
pub use az::Az;
pub use command::{Command, Outcome};
pub use containers::Containers;
pub use engine::Engine;
pub use golden::{golden, golden_parts};
pub use image::{Descriptor, Layout};
pub use issuer::Issuer;
pub use scratch::Scratch;
pub use sdk::Sdk;
pub use server::{Bootstrap, Server, bench_program, binary, oci_client};
pub use supplier::{Cue, Supplier};
pub use tools::tool;

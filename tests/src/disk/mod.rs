//! A disk that forgets and fails: what a server did to its data folder is recorded, any crash in between is played back, and
//! operations are made to fail.
//!
//! ```text
//! postern serve ── recorder.c ──▶ log ──▶ DiskImage ──▶ a folder as after a crash ──▶ check
//!   ▲ requests       ▲ faults      ▲ notes: asked for, acknowledged                    ▲ what must hold
//! Pusher ────────────┴─────────────┴──────────────────── History ─────────────────────┘
//! ```

mod check;
mod effect;
mod fault;
mod history;
mod image;
mod pusher;
mod recorder;
mod seeded;
mod workload;

pub use check::{Checked, check};
pub use effect::Effect;
pub use fault::{Error, Fault, FaultKind};
pub use history::{Expectations, Fate, History, Key};
pub use image::{DiskImage, End};
pub use pusher::{Manifest, Pusher, Refused, image_manifest, index_manifest, referrer_manifest};
pub use recorder::Recorder;
pub use seeded::Seeded;
pub use workload::{Enabled, enable_admin, expect_collection, first_run, second_run};

use std::path::Path;

/// A folder in memory where there is one, so that playing back thousands of crashes is quick.
pub fn fast_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("postern-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).expect("a temporary folder can be made")
}

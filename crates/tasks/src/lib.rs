//! Task files, templates, step graphs and schedules as values; and what server and workers say to each other.
//!
//! ```text
//!  task file ─ aliases ─▶ template ─▶ YAML ─▶ TaskFile ─▶ Plan { steps in order, networks, volumes, masks }
//! ```
//!
//! Everything here is a function of its input, and whatever comes from outside has a limit with a name.

mod alias;
mod build;
mod cron;
pub mod dockerfile;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod graph;
pub mod lines;
pub mod order;
mod place;
mod plan;
mod source;
pub mod template;
mod words;
mod yaml;

pub use alias::MAX_ALIAS_SOURCES;
pub use build::{Build, BuildError};
pub use cron::{MAX_SCHEDULE_BYTES, Schedule, ScheduleError};
pub use file::{
    DEFAULT_NETWORK, DEFAULT_STEP_TIMEOUT, Line, MAX_NAME_BYTES, MAX_PARTS, MAX_STEPS, Mount, Network, Settings, Step,
    TaskFile, VaultSecret, Version, Volume,
};
pub use graph::{GraphError, Outcome, StepStatus, Steps, When};
pub use place::{Place, TextError};
pub use plan::{Inputs, Needs, Plan, PlanError, PlannedStep, StepAction, check, needs, plan};
pub use source::{Location, LocationError, MAX_LOCATION_BYTES, ParsedLocation};
pub use words::{MAX_WORDS, WordsError, split as split_words};
pub use yaml::{MAX_YAML_BYTES, MAX_YAML_DEPTH, MAX_YAML_NODES};

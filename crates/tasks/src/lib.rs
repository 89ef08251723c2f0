//! Task files, templates, step graphs and schedules as values; and what server and workers say to each other.

pub mod dockerfile;
pub mod order;

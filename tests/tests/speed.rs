//! The bench does every row for a moment, so that it cannot rot. Nothing here says how fast anything is.

use std::time::Duration;

use postern_tests::{Command, bench_program};

#[test]
fn every_row_of_the_bench_works() {
    let text = Command::new(bench_program()).args(["--smoke"]).limit(Duration::from_mins(2)).stdout();
    for row in [
        "decide",
        "manifest-head-tag-256",
        "tls-blob-get-100m",
        "deny-403",
        "pull-storm",
        "estate-assign",
        "patch-8m",
        "rss-conn",
        "estate-start",
    ] {
        assert!(text.lines().any(|line| line == row), "no row {row} in\n{text}");
    }
}

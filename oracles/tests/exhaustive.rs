//! Every combination of what is finite: settings, ways in, workloads, identities, credentials, roles, claims, operations, locks.
#![expect(clippy::print_stdout, reason = "how much was compared is worth seeing")]

use std::collections::BTreeMap;
use std::time::Instant;

use postern_oracles::Oracle;
use postern_oracles::space::Space;

#[track_caller]
fn check(space: &Space) {
    let start = Instant::now();
    let compared = space.compare(Oracle::default(), 1000);
    // One of each kind.
    let kinds: BTreeMap<&str, &String> =
        compared.differences.iter().map(|one| (one.lines().next().unwrap_or_default(), one)).collect();
    let shown = kinds.values().take(10).map(|one| one.as_str()).collect::<Vec<_>>().join("\n\n");
    assert!(compared.differences.is_empty(), "{} differences:\n{shown}", compared.differences.len());
    assert_eq!(compared.decisions, space.size());
    println!("{}: {} decisions in {:.1} s", space.name, compared.decisions, start.elapsed().as_secs_f64());
}

#[test]
fn network() {
    check(&Space::network());
}

#[test]
fn private_endpoints() {
    check(&Space::endpoints());
}

#[test]
fn identities() {
    check(&Space::identities());
}

#[test]
fn assignments() {
    check(&Space::assignments());
}

#[test]
fn pairs_of_assignments() {
    check(&Space::pairs());
}

#[test]
fn locks() {
    check(&Space::locks());
}

//! The access matrix: the pure decision and a server agree with every row, every case has a row, and the reference is what it
//! prints.

use std::collections::BTreeSet;

use postern_access::{ServicePolicy, TrustedServices};
use postern_tests::golden;
use postern_tests::matrix::{Answer, ELSEWISE, Live, NAMES, Row, differences, markdown, sample, sections, unnoticed};

#[test]
fn the_decision_agrees_with_every_row() {
    let sections = sections();
    let rows = sections.iter().flat_map(|section| &section.rows);
    let wrong: Vec<String> = rows.filter_map(|row| row.compare(&Answer::pure(&row.scene())).err()).collect();
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whatever the rows would say if they were wrong is noticed, too.
async fn a_server_agrees_with(rows: &[&Row]) {
    let outcomes = Live::start(rows).await.run(rows).await;
    assert_eq!(outcomes.len(), rows.len());
    let wrong = differences(&outcomes);
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    let unnoticed = unnoticed(&outcomes);
    assert!(unnoticed.is_empty(), "{} mistakes are not noticed:\n{}", unnoticed.len(), unnoticed.join("\n"));
}

#[tokio::test]
async fn a_server_agrees_with_every_row() {
    let sections = sections();
    a_server_agrees_with(&sections.iter().flat_map(|section| &section.rows).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_server_agrees_with_the_sample() {
    a_server_agrees_with(&sample().iter().collect::<Vec<_>>()).await;
}

#[test]
fn what_is_seen_elsewise_are_rows() {
    let sections = sections();
    let rows: Vec<&Row> = sections.iter().flat_map(|section| &section.rows).collect();
    for elsewise in ELSEWISE {
        let named = rows.iter().filter(|row| row.name == elsewise.row && row.operation.kind == elsewise.kind);
        assert_eq!(named.count(), 1, "`{}` ({}) is one row", elsewise.row, elsewise.kind);
    }
}

#[test]
fn names_are_unique() {
    for section in sections() {
        let mut seen = BTreeSet::new();
        for row in section.rows.iter().filter(|row| row.group.is_none()) {
            assert!(seen.insert(row.name.clone()), "two rows of {} are called `{}`", section.title, row.name);
        }
    }
}

#[test]
fn every_case_has_a_row() {
    let sections = sections();
    let rows: Vec<_> = sections.iter().flat_map(|section| &section.rows).collect();
    let covered: BTreeSet<&str> = rows.iter().flat_map(|row| Answer::pure(&row.scene()).covered).collect();
    let missing: Vec<String> = NAMES
        .iter()
        .flat_map(|names| names.variants.iter().map(|variant| (names.of, *variant)))
        .filter(|(_, variant)| !covered.contains(variant))
        .map(|(of, variant)| format!("{of}::{variant}"))
        .collect();
    assert!(missing.is_empty(), "no row goes through {}", missing.join(", "));
}

/// Every service with the bypass on and off; the tasks with every policy value in every phase too.
#[test]
fn every_trusted_service_has_its_rows() {
    let sections = sections();
    let rows: Vec<_> = sections.iter().flat_map(|section| &section.rows).collect();
    for service in TrustedServices::documented(true).rows() {
        let of_service: Vec<_> = rows
            .iter()
            .filter(|row| {
                let kind = row.from.workload.as_ref().map(|workload| workload.kind.resource_type());
                kind == Some(&*service.resource_type)
            })
            .collect();
        let name = &service.resource_type;
        for bypass in ["AzureServices", "None"] {
            assert!(
                of_service.iter().any(|row| row.registry.bypass == bypass),
                "{name} has no row with bypass {bypass}"
            );
        }
        if service.policy == ServicePolicy::Tasks {
            for (policy, date) in [
                ("unset", "pre-2025-05-16"),
                ("unset", "grace"),
                ("unset", "current"),
                ("false", "grace"),
                ("false", "current"),
                ("true", "grace"),
                ("true", "current"),
            ] {
                let has = of_service.iter().any(|row| row.registry.tasks_policy == policy && row.policy_date == date);
                assert!(has, "{name} has no row with tasks policy {policy} at {date}");
            }
        }
    }
}

#[test]
fn the_reference_is_what_the_rows_print() {
    golden("docs/reference/access-matrix.md", &markdown(&sections()));
}

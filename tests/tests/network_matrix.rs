//! The access matrix over real connections: every row from its place in the network bench, to the real server.

use postern_tests::bench;
use postern_tests::matrix::{Row, Wire, differences, sample, sections, unnoticed};

/// Whatever the rows would say if they were wrong is noticed, too.
fn real_connections_agree_with(rows: &[&Row]) {
    let outcomes = Wire::start(rows).run();
    assert_eq!(outcomes.len(), rows.len());
    let wrong = differences(&outcomes);
    assert!(wrong.is_empty(), "{} of {} rows differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let unnoticed = unnoticed(&outcomes);
    assert!(unnoticed.is_empty(), "{} mistakes are not noticed:\n{}", unnoticed.len(), unnoticed.join("\n"));
}

#[test]
fn real_connections_agree_with_every_row() {
    bench::inside(|| {
        let sections = sections();
        real_connections_agree_with(&sections.iter().flat_map(|section| &section.rows).collect::<Vec<_>>());
    });
}

/// Every two values of the whole input space that go together, in one request or another.
#[test]
fn real_connections_agree_with_the_sample() {
    bench::inside(|| real_connections_agree_with(&sample().iter().collect::<Vec<_>>()));
}

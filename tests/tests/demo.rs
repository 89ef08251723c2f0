//! The demo tells its story with real requests; what it prints is compared with the committed table.

use postern_tests::{Server, demo, golden};

/// Replaces what differs between two runs.
fn stable(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    text.lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((rest, id)) if is_id(id) => format!("{rest} <id>\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn the_story_is_told_as_it_stands_in_the_documentation() {
    let printed = demo(&["--once"]).stdout();
    let table = stable(&printed);
    assert!(table.contains(" <id>"), "every row has an id:\n{printed}");
    golden("docs/reference/demo.txt", &table);
}

#[test]
fn starting_twice_keeps_identity_and_data() {
    let scratch = postern_tests::Scratch::new();
    let mut server = Server::start_in(&scratch.join("data"), &[]);
    let before = server.bootstrap().clone();
    assert!(server.stop().success());
    let server = Server::start_in(&scratch.join("data"), &[]);
    let after = server.bootstrap();
    assert_eq!((&before.tenant_id, &before.client_secret), (&after.tenant_id, &after.client_secret));
}

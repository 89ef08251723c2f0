//! Committed output that tests compare with.

use std::fs;
use std::path::{Path, PathBuf};

/// Compares with the part of a committed file between the lines `<!-- NAME -->` and `<!-- end of NAME -->`. One test compares all
/// parts of a file: two would undo what the other rewrites.
pub fn golden_parts(path: &str, parts: &[(&str, &str)]) {
    let mut text = fs::read_to_string(committed(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    for (name, part) in parts {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
        let found = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
        let (before, after) = found.unwrap_or_else(|| panic!("{path} has no part `{name}`"));
        text = format!("{before}{begin}\n{}\n\n{end}{after}", part.trim());
    }
    golden(path, &text);
}

fn committed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Compares with a committed file, given by its path in the checkout. `cargo xtask bless` rewrites the file instead.
pub fn golden(path: &str, actual: &str) {
    let file = committed(path);
    if std::env::var_os("POSTERN_BLESS").is_some() {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).expect("the folder of a golden file can be created");
        }
        fs::write(&file, actual).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    if expected == actual {
        return;
    }
    let differs = expected.lines().zip(actual.lines()).take_while(|(left, right)| left == right).count();
    let line = |text: &str| text.lines().nth(differs).unwrap_or("(end)").to_owned();
    panic!(
        "{path} differs from line {}; if that is intended, run `cargo xtask bless`\n  committed: {}\n  now:       {}",
        differs + 1,
        line(&expected),
        line(actual)
    );
}

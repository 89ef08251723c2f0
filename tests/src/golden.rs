//! Committed output that tests compare with.

use std::fs;
use std::path::Path;

/// Compares with a committed file, given by its path in the checkout. `cargo xtask bless` rewrites the file instead.
pub fn golden(path: &str, actual: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
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

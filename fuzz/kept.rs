//! The inputs that are kept for a fuzz target, as an ordinary test sees them: what once found a defect, and a small corpus.

use std::path::Path;

/// Calls `check` with every kept input of the target; there must be some.
pub(super) fn each(target: &str, check: impl Fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut count = 0;
    for folder in ["corpus", "regressions"].map(|kind| root.join(kind).join(target)) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            // The last line of a failing test's output says which input it was.
            println!("{}", path.display());
            check(&std::fs::read(&path).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "nothing is kept for {target}");
}

use crate::{LockedParts, Mutation, Wish};

/// The locks that refuse an operation: what carries it, and the attribute. Read from the table of the data plane's locks, column by
/// column; changing attributes is always possible.
pub(crate) fn violated(wish: &Wish, locked: &LockedParts, mutation: Option<Mutation>) -> Vec<(String, String)> {
    let operation = wish.operation;
    let mut found = Vec::new();
    let mut look = |part: &str, attributes: &[String]| {
        for attribute in attributes {
            if forbids(part, attribute, operation, mutation) {
                found.push((part.to_owned(), attribute.clone()));
            }
        }
    };
    look("repository", &locked.repository);
    if !wish.by_digest {
        look("tag", &locked.tag);
    }
    look("manifest", &locked.manifest);
    found
}

/// The table of the quarantine, row by row: who may look at it finds it by digest, nobody by tag.
pub(crate) fn quarantine(
    is_on: bool,
    may_look: bool,
    wish: &Wish,
    locked: &LockedParts,
    mutation: Option<Mutation>,
) -> Vec<(String, String)> {
    if !is_on || !locked.quarantined {
        return Vec::new();
    }
    let by_tag_too = mutation == Some(Mutation::QuarantineReaderPullsByTag);
    let how = match (wish.operation, wish.by_digest) {
        ("pullManifest", false) if !(may_look && by_tag_too) => "unseen",
        ("pullManifest", true) | ("pullBlob" | "mountBlob", _) if !may_look => "refused",
        _ => return Vec::new(),
    };
    vec![("quarantine".to_owned(), how.to_owned())]
}

fn forbids(part: &str, attribute: &str, operation: &str, mutation: Option<Mutation>) -> bool {
    let reads_a_manifest = operation == "pullManifest";
    let reads_any = reads_a_manifest || ["pullBlob", "listReferrers", "mountBlob"].contains(&operation);
    let pushes_manifest = operation == "pushManifest";
    let deletes_manifest = ["deleteManifest", "deleteRepository"].contains(&operation);
    let removes_tag = (deletes_manifest || operation == "untag") && mutation != Some(Mutation::TagLockLetsRemove);
    match (part, attribute) {
        // A restored tag moves, and what it leaves is deleted.
        ("repository" | "tag", "writeEnabled") | ("manifest", "writeEnabled" | "deleteEnabled")
            if operation == "restoreDeleted" =>
        {
            true
        }
        ("repository", "writeEnabled") => {
            pushes_manifest || deletes_manifest || ["pushBlob", "deleteBlob", "untag"].contains(&operation)
        }
        ("repository", "deleteEnabled") => {
            let keeps_images = mutation == Some(Mutation::RepositoryDeleteLockKeepsImages);
            operation == "deleteRepository" || (keeps_images && operation == "deleteManifest")
        }
        ("repository", "readEnabled") => reads_any,
        ("tag", "writeEnabled") => pushes_manifest || removes_tag,
        ("tag", "deleteEnabled") => removes_tag,
        ("manifest", "writeEnabled") => pushes_manifest || deletes_manifest,
        ("manifest", "deleteEnabled") => deletes_manifest,
        ("tag" | "manifest", "readEnabled") => reads_a_manifest,
        ("repository" | "tag" | "manifest", "listEnabled") => false,
        other => panic!("{other:?} is no lock"),
    }
}

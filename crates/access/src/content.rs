use std::fmt;

use crate::OperationKind;

/// The changeable attributes of a repository, tag or manifest. All true unless someone locked it.
///
/// Source: Azure Container Registry, "Lock a container image" (read 2026-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// May be deleted.
    pub delete_enabled: bool,
    /// May be written.
    pub write_enabled: bool,
    /// May be read.
    pub read_enabled: bool,
    /// Appears in lists.
    pub list_enabled: bool,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { delete_enabled: true, write_enabled: true, read_enabled: true, list_enabled: true }
    }
}

/// What a registry's policies say about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentPolicies {
    /// `policies.quarantinePolicy`: what nobody has passed is not for everybody.
    pub quarantine: bool,
    /// `policies.softDeletePolicy`: what is deleted is kept for a while.
    pub soft_delete: bool,
    /// `policies.softDeletePolicy.retentionDays`; it counts for what is kept already, too.
    pub soft_delete_days: u16,
    /// `policies.retentionPolicy`: what loses its last tag is deleted after a while.
    pub retention: bool,
    /// `policies.retentionPolicy.days`.
    pub retention_days: u16,
}

impl Default for ContentPolicies {
    /// As a registry is created.
    fn default() -> Self {
        Self { quarantine: false, soft_delete: false, soft_delete_days: 7, retention: false, retention_days: 7 }
    }
}

/// What quarantined content is to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuarantineView {
    /// Content like any other: the policy is off.
    Off,
    /// Out of reach.
    Closed,
    /// To be read by digest.
    ByDigest,
}

/// The attributes of what an operation touches; `None` where there is nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentState {
    /// The repository's.
    pub repository: Option<Attributes>,
    /// The tag's: the one read by, moved or removed.
    pub tag: Option<Attributes>,
    /// The manifest's: the one read, overwritten or deleted.
    pub manifest: Option<Attributes>,
    /// Nobody has passed the manifest that is read, or that the blob read belongs to; it counts while the policy is on.
    pub unpassed: bool,
}

/// What refused an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentCause {
    /// A lock.
    Locked {
        /// What is locked.
        locked: Locked,
        /// Which attribute is false.
        attribute: LockAttribute,
    },
    /// The quarantine.
    Quarantined {
        /// A tag was asked for: then nobody is told that there is anything.
        by_tag: bool,
    },
}

/// What carries a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Locked {
    /// The repository.
    Repository,
    /// The tag.
    Tag,
    /// The manifest.
    Manifest,
}

/// An attribute that locks when false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockAttribute {
    /// `deleteEnabled`.
    Delete,
    /// `writeEnabled`.
    Write,
    /// `readEnabled`.
    Read,
}

impl fmt::Display for ContentCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { locked, attribute } => {
                write!(f, "the {} is locked: {} is false", locked.as_str(), attribute.as_str())
            }
            Self::Quarantined { by_tag: true } => {
                f.write_str("the manifest is quarantined: its quarantineState is not Passed, and no tag leads to it")
            }
            Self::Quarantined { by_tag: false } => {
                f.write_str("the manifest is quarantined: its quarantineState is not Passed")
            }
        }
    }
}

impl Locked {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Tag => "tag",
            Self::Manifest => "manifest",
        }
    }
}

impl LockAttribute {
    /// The attribute's wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "deleteEnabled",
            Self::Write => "writeEnabled",
            Self::Read => "readEnabled",
        }
    }
}

/// Whether locks and quarantine let the operation happen. Changing attributes is always let through: that is how one unlocks, and
/// passes.
///
/// The quarantine comes first: whoever must not learn that there is something must not learn that it is locked.
pub(crate) fn check(kind: OperationKind, view: QuarantineView, state: &ContentState) -> Result<(), ContentCause> {
    check_quarantine(kind, view, state)?;
    check_locks(kind, state)
}

/// Source: Azure Container Registry, "Quarantine pattern" (read 2026-11).
fn check_quarantine(kind: OperationKind, view: QuarantineView, state: &ContentState) -> Result<(), ContentCause> {
    let reads = matches!(kind, OperationKind::PullManifest | OperationKind::PullBlob | OperationKind::MountBlob);
    let by_tag = kind == OperationKind::PullManifest && state.tag.is_some();
    let is_open = match view {
        QuarantineView::Off => true,
        QuarantineView::Closed => false,
        QuarantineView::ByDigest => !by_tag,
    };
    if reads && state.unpassed && !is_open { Err(ContentCause::Quarantined { by_tag }) } else { Ok(()) }
}

fn check_locks(kind: OperationKind, state: &ContentState) -> Result<(), ContentCause> {
    use LockAttribute::{Delete, Read, Write};
    use Locked::{Manifest, Repository, Tag};
    let rules: &[(Locked, LockAttribute)] = match kind {
        OperationKind::PullManifest => &[(Repository, Read), (Tag, Read), (Manifest, Read)],
        OperationKind::PullBlob | OperationKind::ListReferrers | OperationKind::MountBlob => &[(Repository, Read)],
        OperationKind::PushManifest => &[(Repository, Write), (Tag, Write), (Manifest, Write)],
        OperationKind::PushBlob | OperationKind::DeleteBlob => &[(Repository, Write)],
        OperationKind::DeleteManifest => {
            &[(Repository, Write), (Tag, Write), (Tag, Delete), (Manifest, Write), (Manifest, Delete)]
        }
        OperationKind::Untag => &[(Repository, Write), (Tag, Write), (Tag, Delete)],
        OperationKind::DeleteRepository => &[
            (Repository, Write),
            (Repository, Delete),
            (Tag, Write),
            (Tag, Delete),
            (Manifest, Write),
            (Manifest, Delete),
        ],
        // The tag that moves, and the manifest that it leaves, which is deleted in turn.
        OperationKind::RestoreDeleted => &[(Repository, Write), (Tag, Write), (Manifest, Write), (Manifest, Delete)],
        OperationKind::Ping
        | OperationKind::ExchangeToken
        | OperationKind::IssueToken
        | OperationKind::ListCatalog
        | OperationKind::ListDeletedCatalog
        | OperationKind::ListDeleted
        | OperationKind::ListTags
        | OperationKind::ReadMetadata
        | OperationKind::WriteMetadata
        | OperationKind::WriteQuarantine => &[],
    };
    let refused = |&&(locked, attribute): &&(Locked, LockAttribute)| {
        let attributes = match locked {
            Repository => state.repository,
            Tag => state.tag,
            Manifest => state.manifest,
        };
        attributes.is_some_and(|attributes| !match attribute {
            Delete => attributes.delete_enabled,
            Write => attributes.write_enabled,
            Read => attributes.read_enabled,
        })
    };
    match rules.iter().find(refused) {
        Some(&(locked, attribute)) => Err(ContentCause::Locked { locked, attribute }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(kind: OperationKind, locked: Locked, attribute: LockAttribute, refused: bool) {
        let mut attributes = Attributes::default();
        match attribute {
            LockAttribute::Delete => attributes.delete_enabled = false,
            LockAttribute::Write => attributes.write_enabled = false,
            LockAttribute::Read => attributes.read_enabled = false,
        }
        let mut state = ContentState::default();
        match locked {
            Locked::Repository => state.repository = Some(attributes),
            Locked::Tag => state.tag = Some(attributes),
            Locked::Manifest => state.manifest = Some(attributes),
        }
        let expected = if refused { Err(ContentCause::Locked { locked, attribute }) } else { Ok(()) };
        assert_eq!(check(kind, QuarantineView::Off, &state), expected, "{kind:?} with {locked:?} {attribute:?}");
    }

    #[test]
    fn quarantine_closes_reading_and_nothing_else() {
        use OperationKind::{DeleteManifest, MountBlob, PullBlob, PullManifest, PushManifest, WriteQuarantine};
        use QuarantineView::{ByDigest, Closed, Off};
        let unpassed = ContentState { unpassed: true, ..ContentState::default() };
        let tagged = ContentState { tag: Some(Attributes::default()), ..unpassed };
        let refused = |by_tag| Err(ContentCause::Quarantined { by_tag });
        for (kind, view, state, expected) in [
            (PullManifest, Off, tagged, Ok(())),
            (PullManifest, Closed, tagged, refused(true)),
            (PullManifest, Closed, unpassed, refused(false)),
            (PullManifest, ByDigest, tagged, refused(true)),
            (PullManifest, ByDigest, unpassed, Ok(())),
            (PullManifest, Closed, ContentState::default(), Ok(())),
            (PullBlob, Closed, unpassed, refused(false)),
            (PullBlob, ByDigest, unpassed, Ok(())),
            (MountBlob, Closed, unpassed, refused(false)),
            (PushManifest, Closed, tagged, Ok(())),
            (DeleteManifest, Closed, tagged, Ok(())),
            (WriteQuarantine, Closed, unpassed, Ok(())),
        ] {
            assert_eq!(check(kind, view, &state), expected, "{kind:?} {view:?} {state:?}");
        }
    }

    #[test]
    fn locks_of_the_table() {
        use LockAttribute::{Delete, Read, Write};
        use Locked::{Manifest, Repository, Tag};
        use OperationKind::{DeleteManifest, DeleteRepository, PullManifest, PushManifest, Untag, WriteMetadata};
        for (kind, locked, attribute, refused) in [
            (PushManifest, Repository, Write, true),
            (DeleteManifest, Repository, Write, true),
            (DeleteManifest, Repository, Delete, false),
            (DeleteRepository, Repository, Delete, true),
            (PushManifest, Tag, Write, true),
            (Untag, Tag, Write, true),
            (Untag, Tag, Delete, true),
            (PushManifest, Tag, Delete, false),
            (PushManifest, Manifest, Write, true),
            (DeleteManifest, Manifest, Delete, true),
            (PullManifest, Repository, Read, true),
            (PullManifest, Tag, Read, true),
            (PullManifest, Manifest, Read, true),
            (PullManifest, Manifest, Write, false),
            (WriteMetadata, Repository, Write, false),
            (WriteMetadata, Manifest, Delete, false),
        ] {
            check_refused(kind, locked, attribute, refused);
        }
    }
}

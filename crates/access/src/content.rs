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

/// The attributes of what an operation touches; `None` where there is nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentState {
    /// The repository's.
    pub repository: Option<Attributes>,
    /// The tag's: the one read by, moved or removed.
    pub tag: Option<Attributes>,
    /// The manifest's: the one read, overwritten or deleted.
    pub manifest: Option<Attributes>,
}

/// The lock that refused an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentCause {
    /// What is locked.
    pub locked: Locked,
    /// Which attribute is false.
    pub attribute: LockAttribute,
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
        let locked = match self.locked {
            Locked::Repository => "repository",
            Locked::Tag => "tag",
            Locked::Manifest => "manifest",
        };
        write!(f, "the {locked} is locked: {} is false", self.attribute.as_str())
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

/// Whether the locks let the operation happen. Changing attributes is always let through: that is how one unlocks.
pub(crate) fn check(kind: OperationKind, state: &ContentState) -> Result<(), ContentCause> {
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
        OperationKind::Ping
        | OperationKind::ExchangeToken
        | OperationKind::IssueToken
        | OperationKind::ListCatalog
        | OperationKind::ListTags
        | OperationKind::ReadMetadata
        | OperationKind::WriteMetadata => &[],
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
        Some(&(locked, attribute)) => Err(ContentCause { locked, attribute }),
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
        let expected = if refused { Err(ContentCause { locked, attribute }) } else { Ok(()) };
        assert_eq!(check(kind, &state), expected, "{kind:?} with {locked:?} {attribute:?}");
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

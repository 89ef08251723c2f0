use std::fmt;

/// Something a caller may do with a registry's content.
///
/// Source: Azure Container Registry, token scopes and repository-scoped permissions (read 2026-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Action {
    /// Read manifests, blobs and referrers.
    Pull,
    /// Write manifests and blobs.
    Push,
    /// Delete manifests, blobs and repositories.
    Delete,
    /// Read attributes, list tags and manifests.
    MetadataRead,
    /// Change attributes, locks among them.
    MetadataWrite,
    /// Remove tags.
    MetadataDelete,
    /// See soft-deleted content.
    DeletedRead,
    /// Restore soft-deleted content.
    DeletedRestore,
    /// List the registry's repositories.
    CatalogRead,
    /// See quarantined content.
    QuarantineRead,
    /// Pass or fail quarantined content.
    QuarantineWrite,
    /// Sign content (content trust).
    Sign,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 12] = [
        Self::Pull,
        Self::Push,
        Self::Delete,
        Self::MetadataRead,
        Self::MetadataWrite,
        Self::MetadataDelete,
        Self::DeletedRead,
        Self::DeletedRestore,
        Self::CatalogRead,
        Self::QuarantineRead,
        Self::QuarantineWrite,
        Self::Sign,
    ];

    /// The word in a token scope: `pull`, `metadata_read`; the catalog's is `*`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::MetadataRead => "metadata_read",
            Self::MetadataWrite => "metadata_write",
            Self::MetadataDelete => "metadata_delete",
            Self::DeletedRead => "deleted_read",
            Self::DeletedRestore => "deleted_restore",
            Self::CatalogRead => "*",
            Self::QuarantineRead => "quarantine_read",
            Self::QuarantineWrite => "quarantine_write",
            Self::Sign => "sign",
        }
    }
}

/// A set of [`Action`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Actions(u16);

impl Actions {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// What a repository scope `*` asks for: everything that a token scope can name.
    pub const REPOSITORY: Self = Self::of(&[
        Action::Pull,
        Action::Push,
        Action::Delete,
        Action::MetadataRead,
        Action::MetadataWrite,
        Action::MetadataDelete,
        Action::DeletedRead,
        Action::DeletedRestore,
    ]);

    /// Every action there is.
    pub const ALL: Self = Self::of(&Action::ALL);

    /// The set of these actions.
    pub const fn of(mut actions: &[Action]) -> Self {
        let mut bits = 0;
        while let [first, rest @ ..] = actions {
            bits |= 1 << *first as u16;
            actions = rest;
        }
        Self(bits)
    }

    /// Adds one action.
    pub const fn insert(&mut self, action: Action) {
        self.0 |= 1 << action as u16;
    }

    /// Whether the action is in the set.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u16) != 0
    }

    /// Whether every action of `other` is in this set.
    pub const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Actions in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Actions in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Actions of this set that are not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }

    /// One word of a repository scope; `*` is [`Actions::REPOSITORY`]; unknown words give nothing.
    pub fn from_scope_word(word: &str) -> Self {
        if word == "*" {
            return Self::REPOSITORY;
        }
        Self::REPOSITORY.iter().find(|action| action.as_str() == word).map_or(Self::NONE, |action| Self::of(&[action]))
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let mut set = Self::NONE;
        actions.into_iter().for_each(|action| set.insert(action));
        set
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, action) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(action.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

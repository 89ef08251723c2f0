use postern_model::{Reference, RepositoryName};

use crate::{Action, Actions, ContentPolicies};

/// What a request wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which of the registry's operations.
    pub kind: OperationKind,
    /// The repository it concerns, if one.
    pub repository: Option<RepositoryName>,
    /// The tag or digest it concerns, if one.
    pub reference: Option<Reference>,
}

/// Every operation of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// `GET /v2/`.
    Ping,
    /// `POST /oauth2/exchange`.
    ExchangeToken,
    /// `GET` or `POST /oauth2/token`.
    IssueToken,
    /// The list of repositories.
    ListCatalog,
    /// Reading a manifest.
    PullManifest,
    /// Reading a blob.
    PullBlob,
    /// Reading a manifest's referrers.
    ListReferrers,
    /// Listing tags by the distribution API.
    ListTags,
    /// Any step of a blob upload.
    PushBlob,
    /// Taking a blob from this repository into another.
    MountBlob,
    /// Writing a manifest.
    PushManifest,
    /// Deleting a manifest with its tags.
    DeleteManifest,
    /// Removing a blob from a repository.
    DeleteBlob,
    /// Removing a tag only.
    Untag,
    /// Reading attributes of a repository, its tags and manifests.
    ReadMetadata,
    /// Changing attributes of a repository, tag or manifest.
    WriteMetadata,
    /// Passing or failing a quarantined manifest.
    WriteQuarantine,
    /// Deleting a whole repository.
    DeleteRepository,
    /// The list of repositories with soft-deleted content.
    ListDeletedCatalog,
    /// The lists of a repository's soft-deleted manifests and tags.
    ListDeleted,
    /// Restoring a soft-deleted manifest under a tag.
    RestoreDeleted,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::Ping,
        Self::ExchangeToken,
        Self::IssueToken,
        Self::ListCatalog,
        Self::PullManifest,
        Self::PullBlob,
        Self::ListReferrers,
        Self::ListTags,
        Self::PushBlob,
        Self::MountBlob,
        Self::PushManifest,
        Self::DeleteManifest,
        Self::DeleteBlob,
        Self::Untag,
        Self::ReadMetadata,
        Self::WriteMetadata,
        Self::WriteQuarantine,
        Self::DeleteRepository,
        Self::ListDeletedCatalog,
        Self::ListDeleted,
        Self::RestoreDeleted,
    ];

    /// The sets of actions of which one must be held in full; empty when any verified caller may. The first is what a client
    /// that says nothing else is sent to get a token for.
    ///
    /// `tags/list` takes `pull`, as clients ask for, or `metadata_read`, as the CLI does. Untagging takes `delete`, as the CLI asks for,
    /// or `metadata_write`, as the roles page says.
    pub const fn required(self) -> &'static [Actions] {
        const PULL: Actions = Actions::of(&[Action::Pull]);
        const PUSH: Actions = Actions::of(&[Action::Pull, Action::Push]);
        const DELETE: Actions = Actions::of(&[Action::Delete]);
        const METADATA_READ: Actions = Actions::of(&[Action::MetadataRead]);
        const METADATA_WRITE: Actions = Actions::of(&[Action::MetadataWrite]);
        const METADATA_DELETE: Actions = Actions::of(&[Action::MetadataDelete]);
        const CATALOG: Actions = Actions::of(&[Action::CatalogRead]);
        const DELETED_READ: Actions = Actions::of(&[Action::DeletedRead]);
        const DELETED_RESTORE: Actions = Actions::of(&[Action::DeletedRead, Action::DeletedRestore]);
        const QUARANTINE_WRITE: Actions = Actions::of(&[Action::QuarantineWrite]);
        match self {
            Self::Ping | Self::ExchangeToken | Self::IssueToken => &[],
            Self::ListCatalog => &[CATALOG],
            Self::PullManifest | Self::PullBlob | Self::ListReferrers | Self::MountBlob => &[PULL],
            Self::ListTags => &[PULL, METADATA_READ],
            Self::PushBlob | Self::PushManifest => &[PUSH],
            Self::DeleteManifest | Self::DeleteBlob | Self::DeleteRepository => &[DELETE],
            Self::Untag => &[DELETE, METADATA_WRITE, METADATA_DELETE],
            Self::ReadMetadata => &[METADATA_READ],
            Self::WriteMetadata => &[METADATA_WRITE],
            Self::WriteQuarantine => &[QUARANTINE_WRITE],
            Self::ListDeletedCatalog | Self::ListDeleted => &[DELETED_READ],
            Self::RestoreDeleted => &[DELETED_RESTORE],
        }
    }

    /// The actions that a challenge asks the client to get a token for.
    pub const fn challenge(self) -> Actions {
        match (self, self.required()) {
            // No word of a scope stands for it; the one for attributes, which they are, does.
            (Self::WriteQuarantine, _) => Actions::of(&[Action::MetadataWrite]),
            (_, [first, ..]) => *first,
            (_, []) => Actions::NONE,
        }
    }

    /// Whether the request itself asks for a token, so that it needs no credentials checked by [`crate::evaluate`].
    pub const fn is_token_request(self) -> bool {
        matches!(self, Self::ExchangeToken | Self::IssueToken)
    }

    /// The name in records and on the command line: `pullManifest`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::ExchangeToken => "exchangeToken",
            Self::IssueToken => "issueToken",
            Self::ListCatalog => "listCatalog",
            Self::PullManifest => "pullManifest",
            Self::PullBlob => "pullBlob",
            Self::ListReferrers => "listReferrers",
            Self::ListTags => "listTags",
            Self::PushBlob => "pushBlob",
            Self::MountBlob => "mountBlob",
            Self::PushManifest => "pushManifest",
            Self::DeleteManifest => "deleteManifest",
            Self::DeleteBlob => "deleteBlob",
            Self::Untag => "untag",
            Self::ReadMetadata => "readMetadata",
            Self::WriteMetadata => "writeMetadata",
            Self::WriteQuarantine => "writeQuarantine",
            Self::DeleteRepository => "deleteRepository",
            Self::ListDeletedCatalog => "listDeletedCatalog",
            Self::ListDeleted => "listDeleted",
            Self::RestoreDeleted => "restoreDeleted",
        }
    }
}

impl Operation {
    /// As [`OperationKind::required`], in a registry with these policies: what may be read by digest while the quarantine is on may
    /// be read by those who look after it, too.
    ///
    /// Source: Azure built-in roles, `AcrQuarantineReader`: "pull quarantined images" (read 2026-11).
    pub const fn required(&self, policies: ContentPolicies) -> &'static [Actions] {
        const PULL: Actions = Actions::of(&[Action::Pull]);
        const QUARANTINE_READ: Actions = Actions::of(&[Action::QuarantineRead]);
        match (self.kind, &self.reference) {
            (OperationKind::PullManifest, Some(Reference::Digest(_))) | (OperationKind::PullBlob, _)
                if policies.quarantine =>
            {
                &[PULL, QUARANTINE_READ]
            }
            _ => self.kind.required(),
        }
    }

    /// An operation on the registry as a whole.
    pub const fn registry(kind: OperationKind) -> Self {
        Self { kind, repository: None, reference: None }
    }

    /// An operation on a repository, or on one reference in it.
    pub const fn repository(kind: OperationKind, repository: RepositoryName, reference: Option<Reference>) -> Self {
        Self { kind, repository: Some(repository), reference }
    }
}

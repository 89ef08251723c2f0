use postern_store::StoreError;

/// Why something was not done with a run.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// What was asked for is not sensible.
    #[error("{0}")]
    Invalid(String),
    /// Something that is named is not there.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Conflict(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RunsError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

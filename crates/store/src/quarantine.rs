use postern_access::{ContentState, OperationKind, Permit, QuarantineView};
use postern_model::Digest;
use sqlx::SqliteExecutor;

use crate::database::detached;
use crate::repository::{check_locks, select_manifest_attributes};
use crate::{Missing, Repository, StoreError};

/// The state that opens.
pub(crate) const PASSED: &str = "Passed";

/// What is said about a manifest under quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantineChange {
    /// `quarantineState`; `Passed` opens, in any letter case, everything else does not.
    pub state: Option<String>,
    /// `quarantineDetails`: text for people and scanners.
    pub details: Option<String>,
}

impl Repository {
    /// Passes or fails a manifest. For [`OperationKind::WriteQuarantine`].
    ///
    /// It can be said whether the policy is on or not, and stays with the digest for as long as the manifest does.
    pub async fn update_quarantine(&self, digest: &Digest, change: QuarantineChange) -> Result<(), StoreError> {
        self.permitted(&[OperationKind::WriteQuarantine])?;
        let (this, digest) = (self.clone(), *digest);
        detached(async move {
            let (registry, name, text) = (this.registry_text(), this.name.as_str(), digest.to_string());
            let state = change.state.map(|state| match state {
                passed if passed.eq_ignore_ascii_case(PASSED) => PASSED.to_owned(),
                other => other,
            });
            let mut transaction = this.inner.database.write().await?;
            if select_manifest_attributes(&mut *transaction, &registry, name, &text).await?.is_none() {
                return Err(StoreError::NotFound(Missing::Manifest));
            }
            sqlx::query(
                "INSERT INTO quarantine (registry, repository, digest, state, details) \
                 VALUES ($1, $2, $3, COALESCE($4, ''), $5) ON CONFLICT (registry, repository, digest) DO UPDATE SET \
                 state = COALESCE($4, state), details = COALESCE($5, details)",
            )
            .bind(&registry)
            .bind(name)
            .bind(&text)
            .bind(&state)
            .bind(&change.details)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("UPDATE manifests SET updated = $4 WHERE registry = $1 AND repository = $2 AND digest = $3")
                .bind(&registry)
                .bind(name)
                .bind(&text)
                .bind(this.inner.now().unix_micros())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            this.inner.manifests.forget(&this.key(digest));
            Ok(())
        })
        .await
    }

    /// Asks the permit whether a blob may be read: one that belongs to manifests, none of which was passed, is theirs.
    pub(crate) async fn check_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.permit.kind() != OperationKind::PullBlob || self.permit.quarantine() == QuarantineView::Off {
            return Ok(());
        }
        check_unpassed(&self.permit, self.inner.database.read(), self.name.as_str(), digest).await
    }
}

/// The same for whoever takes a blob from a repository.
pub(crate) async fn check_unpassed(
    permit: &Permit,
    executor: impl SqliteExecutor<'_>,
    repository: &str,
    blob: &Digest,
) -> Result<(), StoreError> {
    if permit.quarantine() == QuarantineView::Off {
        return Ok(());
    }
    let unpassed: bool = sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM manifest_references r JOIN quarantine q \
         ON q.registry = r.registry AND q.repository = r.repository AND q.digest = r.manifest AND q.state = $4 \
         WHERE r.registry = $1 AND r.repository = $2 AND r.digest = $3 AND r.kind = 'blob')",
    )
    .bind(permit.registry().to_string())
    .bind(repository)
    .bind(blob.to_string())
    .bind(PASSED)
    .fetch_one(executor)
    .await?;
    check_locks(permit, ContentState { unpassed, ..ContentState::default() })
}

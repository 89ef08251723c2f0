//! The documented numbers of requests.

use postern_access::{Caller, Credential, OperationKind};
use postern_estate::{RequestRate, RequestRates};
use postern_identity::{Bucket, Pace};

use crate::call::Call;
use crate::error::Refusal;

impl Call {
    /// Takes one of the requests that the registry's tier lets through for everybody together and for this caller. Only what is
    /// let in by all other rules counts: nobody uses up the turns of others from outside.
    pub(crate) fn take_turn(&self) -> Result<(), Refusal> {
        let Some(limiter) = &self.state().requests else { return Ok(()) };
        let rules = self.rules();
        let rates = self.state().directory.with_estate(|estate| estate.sku_of(&rules.id)).request_rates();
        let (class, RequestRate { registry, identity }) = class(self.kind(), &rates);
        let own = Bucket { identity: Some(&identity_of(self.credential())), pace: Pace::per_minute(identity) };
        let all = Bucket { identity: None, pace: Pace::per_minute(registry) };
        let turn = limiter.take(&rules.uid.to_string(), class, &[own, all], self.now());
        turn.map(drop).map_err(|refusal| Refusal::too_many(refusal.retry_after_seconds))
    }
}

fn class(kind: OperationKind, rates: &RequestRates) -> (&'static str, RequestRate) {
    match kind {
        OperationKind::ExchangeToken | OperationKind::IssueToken => ("token", rates.token),
        OperationKind::ListReferrers => ("referrers", rates.referrers),
        OperationKind::Ping
        | OperationKind::ListCatalog
        | OperationKind::PullManifest
        | OperationKind::PullBlob
        | OperationKind::ListTags
        | OperationKind::ReadMetadata
        | OperationKind::ListDeletedCatalog
        | OperationKind::ListDeleted => ("read", rates.read),
        OperationKind::PushBlob
        | OperationKind::MountBlob
        | OperationKind::PushManifest
        | OperationKind::WriteMetadata
        | OperationKind::WriteQuarantine
        | OperationKind::RestoreDeleted => ("write", rates.write),
        OperationKind::DeleteManifest
        | OperationKind::DeleteBlob
        | OperationKind::Untag
        | OperationKind::DeleteRepository => ("delete", rates.delete),
    }
}

/// All that nobody vouches for is one identity, and so is the admin user.
fn identity_of(credential: &Credential) -> String {
    let Credential::Verified(verified) = credential else { return "anonymous".into() };
    match &verified.caller {
        Caller::Anonymous => "anonymous".into(),
        Caller::Admin => "admin".into(),
        Caller::RepositoryToken(name) => format!("token {}", name.to_ascii_lowercase()),
        Caller::Principal(principal) => format!("principal {}", principal.id),
    }
}

//! Who calls the resource manager.

use std::sync::Arc;

use postern_access::{InvalidCredential, Principal, WorkloadState};
use postern_model::{PrincipalId, Timestamp};
use uuid::Uuid;

use crate::Identity;
use crate::credential::Presented;

/// A caller of the resource manager.
#[derive(Clone, Debug)]
pub struct ArmCaller {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// Its application id.
    pub client_id: Uuid,
}

/// Why a caller of the resource manager is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmRefusal {
    /// There is no token.
    #[error("authentication failed: the `Authorization` header is missing")]
    Missing,
    /// The token does not hold.
    #[error("authentication failed: {0}")]
    Invalid(#[from] InvalidCredential),
    /// The token was issued to a workload, and the connection is not that workload's.
    #[error("authentication failed: the token was issued to a workload and is used outside of it")]
    BoundElsewhere,
}

impl Identity {
    /// Checks a token of the authority for the resource manager. `workload` is that of the connection ([`crate::Peer::workload`]).
    pub fn arm_caller(
        &self,
        authorization: Option<&str>,
        workload: &WorkloadState,
        now: Timestamp,
    ) -> Result<ArmCaller, ArmRefusal> {
        self.control_caller(authorization, workload, now, |audience| self.is_arm_audience(audience))
    }

    /// The same for the directory's API, whose tokens are for another audience: for `base`, where the client finds it, by whatever name
    /// of this server.
    pub fn graph_caller(
        &self,
        authorization: Option<&str>,
        workload: &WorkloadState,
        now: Timestamp,
        base: &str,
    ) -> Result<ArmCaller, ArmRefusal> {
        self.control_caller(authorization, workload, now, |audience| self.is_graph_audience(audience, base))
    }

    /// Somebody who called before, as it is now: for what goes on without a token. None when there is no such principal any more, or it
    /// is switched off.
    pub fn caller_of(&self, id: PrincipalId) -> Option<ArmCaller> {
        let known = self.known(id).filter(|known| known.enabled)?;
        Some(ArmCaller { principal: Arc::clone(&known.principal), client_id: known.client_id })
    }

    fn control_caller(
        &self,
        authorization: Option<&str>,
        workload: &WorkloadState,
        now: Timestamp,
        is_audience: impl FnOnce(&str) -> bool,
    ) -> Result<ArmCaller, ArmRefusal> {
        let token = match Presented::parse(authorization)? {
            None => return Err(ArmRefusal::Missing),
            Some(Presented::Basic { .. }) => return Err(InvalidCredential::WrongKind.into()),
            Some(Presented::Bearer(token)) => token,
        };
        let (claims, known) = self.authority_token(token.expose(), now)?;
        if !is_audience(&claims.aud) {
            return Err(InvalidCredential::WrongAudience.into());
        }
        let at_home = match (claims.binding(), workload) {
            (None, _) => true,
            (Some(binding), WorkloadState::Verified(workload)) => workload.uid == binding.resource,
            (Some(_), WorkloadState::None | WorkloadState::Rejected(_)) => false,
        };
        if !at_home {
            return Err(ArmRefusal::BoundElsewhere);
        }
        Ok(ArmCaller { principal: Arc::clone(&known.principal), client_id: known.client_id })
    }
}

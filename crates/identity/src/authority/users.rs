//! Sessions: begun by user name and password or by approving a device's code, and kept up with refresh tokens.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_access::{InvalidCredential, PrincipalKind};
use postern_estate::OutsideIdentity;
use postern_model::{PrincipalId, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::refusal::AuthorityError;
use super::{Asked, EXPIRES_IN, shown};
use crate::Identity;
use crate::passwords::Holder;
use crate::token::{AuthorityClaims, PRINCIPAL_TOKEN_SECONDS, check_time};

/// The programs that people sign in with, which keep no secret: the Azure CLI and Azure PowerShell.
///
/// Source: Azure CLI and Azure PowerShell, their application ids (read 2026-11).
const PUBLIC_CLIENTS: [Uuid; 2] = [
    Uuid::from_u128(0x04b0_7795_8ddb_461a_bbee_02f9_e1bf_7b46),
    Uuid::from_u128(0x1950_a258_227b_4e31_a9cf_7174_9594_5fc2),
];
/// Whoever is not heard of for so long has to sign in again. Not longer than a signing key verifies after its successor came.
const REFRESH_SECONDS: i64 = 24 * 3600;
/// However often it is heard of, a session ends.
const SESSION_SECONDS: i64 = 90 * 24 * 3600;
/// Whom an issuer outside has signed in is asked for again after a day's work: it may have let somebody go meanwhile.
const OUTSIDE_SESSION_SECONDS: i64 = 8 * 3600;
/// A program's own is for a day's work of the person who approved it: programs that stay have credentials of their own.
const PROGRAM_SESSION_SECONDS: i64 = 8 * 3600;

/// A refresh token. Its issuer is none that access tokens have, so that neither passes for the other.
#[derive(Serialize, Deserialize)]
struct RefreshClaims {
    iss: String,
    /// The client that it was issued to.
    aud: Uuid,
    iat: i64,
    exp: i64,
    jti: Uuid,
    oid: Uuid,
    /// The immutable id of the holder's resource.
    postern_user: Uuid,
    /// When the holder's password was set, in microseconds: another password ends the session.
    postern_password: Option<i64>,
    /// Who the holder was at issuers outside, hashed: whoever is somebody else there, or nobody any more, has to sign in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postern_outside: Option<String>,
    /// When the holder signed in.
    auth_time: i64,
}

/// A client that people sign in with.
pub(super) fn public_client(asked: &Asked) -> Result<Uuid, AuthorityError> {
    let client = asked.field("client_id")?;
    let known = Uuid::try_parse(client).ok().filter(|id| PUBLIC_CLIENTS.contains(id));
    known.ok_or_else(|| AuthorityError::UnknownApplication(shown(client)))
}

/// `grant_type=password`.
pub(super) async fn password(identity: &Arc<Identity>, asked: &Asked) -> Result<Value, AuthorityError> {
    let client = public_client(asked)?;
    let (name, audience) = (asked.field("username")?, asked.audience()?);
    let password = asked.form.secret("password").ok_or(AuthorityError::MissingField("password"))?;
    let outcome = identity.user_by_password(name, password, asked.address, asked.now).await?;
    let user = outcome.map_err(|why| match why {
        InvalidCredential::Disabled => AuthorityError::DisabledUser,
        _ => AuthorityError::WrongPassword,
    })?;
    identity.session_answer(&user, client, audience, asked, asked.now)
}

/// `grant_type=refresh_token`.
pub(super) fn refresh(identity: &Identity, asked: &Asked) -> Result<Value, AuthorityError> {
    let client = public_client(asked)?;
    let audience = asked.audience()?;
    let token = asked.form.secret("refresh_token").ok_or(AuthorityError::MissingField("refresh_token"))?;
    let (user, began) = identity.refreshed(&token, client, asked.now).ok_or(AuthorityError::RefreshRefused)?;
    identity.session_answer(&user, client, audience, asked, began)
}

impl Identity {
    fn refresh_issuer(&self) -> String {
        format!("{}refresh", self.issuer)
    }

    /// Whose refresh token this is, and when they signed in.
    fn refreshed(&self, token: &Secret, client: Uuid, now: Timestamp) -> Option<(Holder, Timestamp)> {
        let claims: RefreshClaims = self.authority_keys.verify(token.expose()).ok()?;
        if claims.iss != self.refresh_issuer() || claims.aud != client {
            return None;
        }
        let at = Timestamp::from_unix_seconds;
        check_time(at(claims.iat), at(claims.exp), now).ok()?;
        let holder = self.holder(PrincipalId(claims.oid))?;
        let seconds = match is_person(&holder) {
            true if holder.known.outside => OUTSIDE_SESSION_SECONDS,
            true => SESSION_SECONDS,
            false => PROGRAM_SESSION_SECONDS,
        };
        check_time(at(claims.auth_time), at(claims.auth_time.saturating_add(seconds)), now).ok()?;
        let same_secret = self.secret_set(&holder).map(Timestamp::unix_micros) == claims.postern_password;
        let same_outside = identities(&holder) == claims.postern_outside;
        let same = holder.resource.uid.0 == claims.postern_user && same_secret && same_outside;
        (same && holder.known.enabled).then_some((holder, at(claims.auth_time)))
    }

    /// What a holder who signed in at `began` gets.
    pub(super) fn session_answer(
        &self,
        holder: &Holder,
        client: Uuid,
        audience: &str,
        asked: &Asked,
        began: Timestamp,
    ) -> Result<Value, AuthorityError> {
        let (now, tenant, id) = (asked.now, self.settings.tenant.0, holder.known.principal.id.0);
        let internal = |_| AuthorityError::Internal;
        let access = AuthorityClaims {
            appid: client,
            idtyp: "user".into(),
            scp: Some("user_impersonation".into()),
            upn: is_person(holder).then(|| holder.name()),
            ..self.claims(&holder.known, audience, PRINCIPAL_TOKEN_SECONDS, now)
        };
        let refresh = RefreshClaims {
            iss: self.refresh_issuer(),
            aud: client,
            iat: now.unix_seconds(),
            exp: now.unix_seconds() + REFRESH_SECONDS,
            jti: self.random.uuid(),
            oid: id,
            postern_user: holder.resource.uid.0,
            postern_password: self.secret_set(holder).map(Timestamp::unix_micros),
            postern_outside: identities(holder),
            auth_time: began.unix_seconds(),
        };
        // Says who it is to the client, and opens nothing: it lacks what an access token has, and has another issuer.
        let about = json!({
            "aud": client, "iss": format!("{}/{tenant}/v2.0", asked.base), "iat": now.unix_seconds(),
            "nbf": now.unix_seconds(), "exp": now.unix_seconds() + PRINCIPAL_TOKEN_SECONDS, "sub": id, "oid": id,
            "tid": tenant, "preferred_username": holder.name(), "name": holder.known.principal.display_name, "ver": "2.0",
        });
        Ok(json!({
            "token_type": "Bearer",
            "scope": format!("{audience}/user_impersonation {audience}/.default"),
            "expires_in": EXPIRES_IN,
            "ext_expires_in": EXPIRES_IN,
            "access_token": self.authority_keys.sign(&access).map_err(internal)?.expose(),
            "refresh_token": self.authority_keys.sign(&refresh).map_err(internal)?.expose(),
            "id_token": self.authority_keys.sign(&about).map_err(internal)?.expose(),
            "client_info": URL_SAFE_NO_PAD.encode(json!({"uid": id, "utid": tenant}).to_string()),
        }))
    }
}

/// A hash of who the holder is at issuers outside.
fn identities(holder: &Holder) -> Option<String> {
    let mut all = OutsideIdentity::all_of(&holder.resource);
    all.sort_unstable_by(|one, other| (&one.issuer, &one.subject).cmp(&(&other.issuer, &other.subject)));
    let pairs: Vec<[&str; 2]> = all.iter().map(|one| [one.issuer.as_str(), one.subject.as_str()]).collect();
    (!pairs.is_empty()).then(|| URL_SAFE_NO_PAD.encode(digest(&SHA256, json!(pairs).to_string().as_bytes())))
}

fn is_person(holder: &Holder) -> bool {
    holder.known.principal.kind == PrincipalKind::User
}

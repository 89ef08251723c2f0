//! The token endpoints of a registry: what they are asked, and what they issue.

use std::net::IpAddr;
use std::sync::Arc;

use postern_access::{
    Caller, Credential, InvalidCredential, Origin, Principal, PrincipalKind, RegistryRules, TokenBinding, TokenClaim,
    Verified, WorkloadState, claimable,
};
use postern_model::{ResourceUid, Secret, Timestamp};
use uuid::Uuid;

use crate::credential::{Presented, as_credential};
use crate::scope::granted;
use crate::token::{ACCESS_TOKEN_SECONDS, REFRESH_TOKEN_SECONDS, RegistryToken, TokenHolder, TokenKind};
use crate::workload::FirstPartyService;
use crate::{Identity, Scope, Throttled};

/// Largest body of a token request.
pub const MAX_FORM_BYTES: usize = 64 * 1024;
const MAX_FORM_FIELDS: usize = 128;
const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";
/// Source: Azure Resource Manager endpoints of the public cloud, old and new (read 2026-11).
const ARM_AUDIENCES: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];
/// Source: Microsoft Graph, national clouds: the root endpoint of the global service (read 2026-11).
const GRAPH_AUDIENCE: &str = "https://graph.microsoft.com";

/// Why a token endpoint issues nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefusal {
    /// The body is not a form, or has too many fields.
    #[error("the request is not a form that can be read")]
    BadForm,
    /// A field is missing.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// `grant_type` is none that this endpoint has.
    #[error("the grant type is not supported")]
    UnsupportedGrant,
    /// `service` names another registry.
    #[error("the service is not this registry")]
    WrongService,
    /// A scope cannot be read.
    #[error("a scope is not `type:name:actions` with a valid name")]
    BadScope,
    /// More than [`crate::MAX_SCOPES`] scopes.
    #[error("too many scopes")]
    TooManyScopes,
    /// There are no credentials, and anonymous pull is off.
    #[error("authentication required")]
    AuthenticationRequired,
    /// The credentials do not hold.
    #[error(transparent)]
    Invalid(#[from] InvalidCredential),
    /// The token presented was issued to a workload, and the connection is not that workload's.
    #[error("the token was issued to a workload and is used outside of it")]
    BoundElsewhere,
    /// Signing failed.
    #[error("the token could not be signed")]
    Signing,
}

/// `POST /oauth2/exchange`: a token of the authority for a registry refresh token.
#[derive(Clone, Debug)]
pub struct ExchangeRequest {
    /// The registry's login server.
    pub service: String,
    /// The tenant, where the client says one.
    pub tenant: Option<String>,
    /// The authority's token.
    pub access_token: Secret,
}

/// `GET` or `POST /oauth2/token`: a registry access token.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What is presented.
    pub grant: TokenGrant,
    /// The registry's login server, where the client says one.
    pub service: Option<String>,
    /// What the token is asked to allow.
    pub scopes: Vec<Scope>,
    /// Whether a refresh token is wanted too.
    pub offline: bool,
}

/// What is presented for an access token.
#[derive(Clone, Debug)]
pub enum TokenGrant {
    /// Nothing.
    Anonymous,
    /// A registry refresh token.
    RefreshToken(Secret),
    /// User name and password in any of the login forms.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// An `Authorization` header that does not hold.
    Invalid(InvalidCredential),
}

/// What `/oauth2/token` issues.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The access token.
    pub access_token: Secret,
    /// The refresh token that it was issued for, if the client asked for one.
    pub refresh_token: Option<Secret>,
    /// Lifetime of the access token in seconds.
    pub expires_in: i64,
    /// What it allows.
    pub claim: Arc<TokenClaim>,
}

impl ExchangeRequest {
    /// Reads the form.
    pub fn from_form(body: &[u8]) -> Result<Self, TokenRefusal> {
        let form = Form::parse(body)?;
        match form.get("grant_type").ok_or(TokenRefusal::Missing("grant_type"))? {
            "access_token" | "access_token_refresh_token" => {}
            // `refresh_token`, deprecated, takes a refresh token of the authority, which ours does not issue.
            _ => return Err(TokenRefusal::UnsupportedGrant),
        }
        Ok(Self {
            service: form.get("service").ok_or(TokenRefusal::Missing("service"))?.to_owned(),
            tenant: form.get("tenant").map(str::to_owned),
            access_token: form.secret("access_token").ok_or(TokenRefusal::Missing("access_token"))?,
        })
    }
}

impl TokenRequest {
    /// Reads the form of a `POST`.
    pub fn from_form(body: &[u8]) -> Result<Self, TokenRefusal> {
        let form = Form::parse(body)?;
        let grant = match form.get("grant_type").ok_or(TokenRefusal::Missing("grant_type"))? {
            "refresh_token" => {
                TokenGrant::RefreshToken(form.secret("refresh_token").ok_or(TokenRefusal::Missing("refresh_token"))?)
            }
            "password" => {
                let (user, password) = (form.get("username").unwrap_or_default(), form.secret("password"));
                password_grant(user, password.unwrap_or_else(|| Secret::new("")))
            }
            _ => return Err(TokenRefusal::UnsupportedGrant),
        };
        Self::new(grant, &form)
    }

    /// Reads query and `Authorization` header of a `GET`. A Bearer header does not count: an access token must not get another one.
    pub fn from_query(query: &str, authorization: Option<&str>) -> Result<Self, TokenRefusal> {
        let form = Form::parse(query.as_bytes())?;
        let grant = match Presented::parse(authorization) {
            Ok(None) => TokenGrant::Anonymous,
            Ok(Some(Presented::Basic { user, password })) => password_grant(&user, password),
            Ok(Some(Presented::Bearer(_))) => TokenGrant::Invalid(InvalidCredential::WrongKind),
            Err(why) => TokenGrant::Invalid(why),
        };
        Self::new(grant, &form)
    }

    fn new(grant: TokenGrant, form: &Form) -> Result<Self, TokenRefusal> {
        Ok(Self {
            grant,
            service: form.get("service").map(str::to_owned),
            scopes: Scope::parse_all(form.all("scope"))?,
            offline: form.get("offline_token").is_some_and(|value| value.eq_ignore_ascii_case("true"))
                || form.get("access_type") == Some("offline"),
        })
    }
}

fn password_grant(user: &str, password: Secret) -> TokenGrant {
    if user.is_empty() && password.expose().is_empty() {
        return TokenGrant::Anonymous;
    }
    if Uuid::try_parse(user) == Ok(crate::REFRESH_TOKEN_USER) {
        return TokenGrant::RefreshToken(password);
    }
    TokenGrant::Password { user: user.to_owned(), password }
}

/// A form's fields. They hold secrets, so that there is no `Debug`.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, TokenRefusal> {
        if body.len() > MAX_FORM_BYTES {
            return Err(TokenRefusal::BadForm);
        }
        let fields: Vec<(String, String)> =
            form_urlencoded::parse(body).into_owned().take(MAX_FORM_FIELDS + 1).collect();
        if fields.len() > MAX_FORM_FIELDS { Err(TokenRefusal::BadForm) } else { Ok(Self(fields)) }
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A field that is there and not empty.
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(Secret::new)
    }
}

impl Identity {
    /// What an exchange request's token amounts to. To be evaluated before [`Self::exchange`] is called with it.
    pub fn exchange_credential(&self, rules: &RegistryRules, request: &ExchangeRequest, now: Timestamp) -> Credential {
        let verified = || {
            if request.tenant.as_deref().is_some_and(|tenant| tenant.parse() != Ok(self.settings.tenant)) {
                return Err(InvalidCredential::WrongTenant);
            }
            let (claims, known) = self.authority_token(request.access_token.expose(), now)?;
            if self.is_arm_audience(&claims.aud) {
                if !rules.arm_tokens_accepted {
                    return Err(InvalidCredential::ArmAudienceRefused);
                }
            } else if !same_audience(&claims.aud, REGISTRY_AUDIENCE) {
                return Err(InvalidCredential::WrongAudience);
            }
            Ok(Some(Verified {
                caller: Caller::Principal(Arc::clone(&known.principal)),
                claim: None,
                binding: claims.binding(),
            }))
        };
        as_credential(verified())
    }

    /// Issues a refresh token to the principal of an exchange request.
    pub fn exchange(
        &self,
        rules: &RegistryRules,
        request: &ExchangeRequest,
        credential: &Credential,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Secret, TokenRefusal> {
        check_service(Some(&request.service), rules)?;
        match credential {
            Credential::None => Err(TokenRefusal::AuthenticationRequired),
            Credential::Invalid(why) => Err(TokenRefusal::Invalid(*why)),
            Credential::Verified(verified) => match &verified.caller {
                Caller::Principal(principal) => {
                    let binding = binding(origin, Some(principal), verified.binding)?;
                    self.sign_registry(
                        rules,
                        verified,
                        (TokenKind::Refresh, REFRESH_TOKEN_SECONDS),
                        Arc::default(),
                        binding,
                        now,
                    )
                }
                Caller::Anonymous | Caller::Admin | Caller::RepositoryToken(_) => {
                    Err(TokenRefusal::Invalid(InvalidCredential::WrongKind))
                }
            },
        }
    }

    /// A refresh token with which a run logs in to its own registry, as the service that carries it out: worth something in a
    /// registry without repository permissions alone, and over connections of the run's workload alone. It lasts `seconds`.
    ///
    /// Source: Azure Container Registry, "Tasks and source registry authentication": the default login mode (read 2026-11).
    pub fn run_token(
        &self,
        rules: &RegistryRules,
        workload: ResourceUid,
        seconds: i64,
        now: Timestamp,
    ) -> Result<Secret, TokenRefusal> {
        let caller =
            FirstPartyService::Agents.caller().ok_or(TokenRefusal::Invalid(InvalidCredential::UnknownCaller))?;
        let verified = Verified { caller: Caller::Principal(Arc::new(caller)), claim: None, binding: None };
        let binding = Some(TokenBinding { resource: workload });
        self.sign_registry(rules, &verified, (TokenKind::Refresh, seconds), Arc::default(), binding, now)
    }

    /// What a token request's grant amounts to. To be evaluated before [`Self::issue`] is called with it.
    ///
    /// # Errors
    /// When too many wrong passwords came from `address`.
    pub fn grant_credential(
        &self,
        rules: &RegistryRules,
        request: &TokenRequest,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Credential, Throttled> {
        Ok(as_credential(match &request.grant {
            TokenGrant::Anonymous => Ok(None),
            TokenGrant::RefreshToken(token) => {
                self.registry_token(rules, token.expose(), TokenKind::Refresh, now).map(Some)
            }
            TokenGrant::Password { user, password } => self.password(rules, user, password, address, now)?.map(Some),
            TokenGrant::Invalid(why) => Err(*why),
        }))
    }

    /// Issues an access token with what was asked for and the caller may. Asking for more is no error: the token then allows less,
    /// possibly nothing.
    pub fn issue(
        &self,
        rules: &RegistryRules,
        request: &TokenRequest,
        credential: &Credential,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<IssuedToken, TokenRefusal> {
        check_service(request.service.as_deref(), rules)?;
        let anonymous;
        let verified = match credential {
            Credential::Invalid(why) => return Err(TokenRefusal::Invalid(*why)),
            Credential::None if !rules.anonymous_pull => return Err(TokenRefusal::AuthenticationRequired),
            Credential::None => {
                anonymous = Verified { caller: Caller::Anonymous, claim: None, binding: None };
                &anonymous
            }
            // An access token that got another one would never end.
            Credential::Verified(verified) if verified.claim.is_some() => {
                return Err(TokenRefusal::Invalid(InvalidCredential::WrongKind));
            }
            Credential::Verified(verified) => verified,
        };
        let principal = match &verified.caller {
            Caller::Principal(principal) => Some(principal),
            Caller::Anonymous | Caller::Admin | Caller::RepositoryToken(_) => None,
        };
        let binding = binding(origin, principal, verified.binding)?;
        let claim = Arc::new(granted(&request.scopes, |name| claimable(rules, &verified.caller, name)));
        let kind = (TokenKind::Access, ACCESS_TOKEN_SECONDS);
        let access_token = self.sign_registry(rules, verified, kind, Arc::clone(&claim), binding, now)?;
        // CHOICE: the refresh token that was presented, which keeps its end; never a new one. Docker forgets the password of who gets
        // a refresh token, and a service principal would be logged out with it after three hours.
        let refresh_token = match &request.grant {
            TokenGrant::RefreshToken(token) if request.offline => Some(token.clone()),
            _ => None,
        };
        Ok(IssuedToken { access_token, refresh_token, expires_in: ACCESS_TOKEN_SECONDS, claim })
    }

    fn sign_registry(
        &self,
        rules: &RegistryRules,
        verified: &Verified,
        (kind, lifetime): (TokenKind, i64),
        claim: Arc<TokenClaim>,
        binding: Option<TokenBinding>,
        now: Timestamp,
    ) -> Result<Secret, TokenRefusal> {
        let holder = match &verified.caller {
            Caller::Anonymous => TokenHolder::Anonymous,
            Caller::Admin => TokenHolder::Admin,
            Caller::RepositoryToken(name) => {
                let token = rules.tokens.get(name.to_ascii_lowercase().as_str());
                let uid = token.ok_or(TokenRefusal::Invalid(InvalidCredential::UnknownCaller))?.uid;
                TokenHolder::RepositoryToken(Arc::clone(name), uid)
            }
            Caller::Principal(principal) => TokenHolder::Principal(principal.id, principal.kind),
        };
        let application = match &holder {
            TokenHolder::Principal(id, PrincipalKind::ServicePrincipal | PrincipalKind::ManagedIdentity) => {
                self.known(*id).map(|known| known.client_id)
            }
            _ => None,
        };
        let token = RegistryToken {
            kind,
            registry: rules.uid,
            login_server: Arc::clone(&rules.login_server),
            mode: rules.mode,
            holder,
            tenant: self.settings.tenant,
            application,
            claim,
            binding,
            issued: now,
            expires: now.plus_seconds(lifetime),
        };
        self.registry_keys.sign(&token.to_claims(self.random.uuid())).map_err(|_| TokenRefusal::Signing)
    }

    /// Clients take the endpoint that they call for the audience, and here that is the resource manager's.
    pub(crate) fn is_graph_audience(&self, audience: &str, base: &str) -> bool {
        let own = self.settings.arm_audiences.iter().map(String::as_str);
        own.chain([GRAPH_AUDIENCE, base]).any(|known| same_audience(audience, known))
    }

    pub(crate) fn is_arm_audience(&self, audience: &str) -> bool {
        let own = self.settings.arm_audiences.iter().map(String::as_str);
        ARM_AUDIENCES.into_iter().chain(own).any(|known| same_audience(audience, known))
    }
}

/// Resources are named with and without a slash at the end.
fn same_audience(a: &str, b: &str) -> bool {
    a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'))
}

fn check_service(service: Option<&str>, rules: &RegistryRules) -> Result<(), TokenRefusal> {
    let Some(service) = service else { return Ok(()) };
    let host = service.rsplit_once(':').map_or(service, |(host, _port)| host);
    if host.eq_ignore_ascii_case(&rules.login_server) { Ok(()) } else { Err(TokenRefusal::WrongService) }
}

/// The workload that a token issued here is bound to. A bound token begets tokens of the same binding, and only in its workload.
fn binding(
    origin: &Origin,
    principal: Option<&Arc<Principal>>,
    inherited: Option<TokenBinding>,
) -> Result<Option<TokenBinding>, TokenRefusal> {
    let workload = match &origin.workload {
        WorkloadState::Verified(workload) => Some(workload),
        WorkloadState::None | WorkloadState::Rejected(_) => None,
    };
    if let Some(inherited) = inherited {
        let at_home = workload.is_some_and(|workload| workload.uid == inherited.resource);
        return if at_home { Ok(Some(inherited)) } else { Err(TokenRefusal::BoundElsewhere) };
    }
    let (Some(workload), Some(principal)) = (workload, principal) else { return Ok(None) };
    let own = workload.identities.iter().any(|identity| identity.principal == principal.id);
    let first_party = FirstPartyService::ALL.iter().any(|service| service.uid() == workload.uid);
    Ok((own || first_party).then_some(TokenBinding { resource: workload.uid }))
}

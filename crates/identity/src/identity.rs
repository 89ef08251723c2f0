use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use moka::sync::Cache;
use postern_access::{Principal, PrincipalKind};
use postern_estate::OutsideIdentity;
use postern_model::{Clock, PrincipalId, Random, ResourceId, Secret, TenantId, Timestamp};
use postern_store::{Credentials, Directory, Store};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::IdentityError;
use crate::certificates::CertificateAuthority;
use crate::issuers::{Issuers, OutsideOptions};
use crate::keys::KeyRing;
use crate::links::LinkKey;
use crate::throttle::{PasswordLimits, Throttle};
use crate::tls::{ServerConfigs, Tls};
use crate::token::{AuthorityClaims, MANAGED_IDENTITY_TOKEN_SECONDS, REFRESH_TOKEN_SECONDS, RegistryToken};
use crate::verified::VerifiedTokens;
use crate::workload::FirstPartyService;

/// 30 random bytes are 40 characters.
const SECRET_BYTES: usize = 30;
/// Leaves the first of 64 characters to the letters: command lines take a word that begins with `-` for an option.
const FIRST_IS_A_LETTER: u8 = 0x7f;
/// One: guessing passwords must not take every core from those who have tokens.
const STRETCHING_AT_ONCE: usize = 1;
/// Codes of issuers outside that are exchanged at once.
const SIGN_INS_AT_ONCE: usize = 16;
const CACHED_TOKEN_BYTES: u64 = 8 << 20;
const CACHED_PRINCIPALS: u64 = 10_000;
const REGISTRY_KEYS: &str = "keys/registry";
const AUTHORITY_KEYS: &str = "keys/authority";
const SERVER_AUTHORITY: &str = "certificates/server";
const WORKLOAD_AUTHORITY: &str = "certificates/workload";

/// What the identity services are made of.
pub struct IdentityOptions {
    /// Where keys and secrets are kept.
    pub store: Store,
    /// The live resources.
    pub directory: Directory,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where secrets and ids come from.
    pub random: Arc<dyn Random>,
    /// The rest.
    pub settings: IdentitySettings,
    /// Whose tokens count beside this server's own.
    pub outside: OutsideOptions,
}

/// Names and files.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// The tenant that everybody belongs to.
    pub tenant: TenantId,
    /// Host name of the authority, without port: `login.azurecr.io.localhost`.
    pub authority: String,
    /// Audiences that mean this server's resource manager, beside the well-known ones: its own endpoint.
    pub arm_audiences: Vec<String>,
    /// Names and addresses that the server's own certificate is for. Wildcards are written `*.suffix`.
    pub certificate_names: Vec<String>,
    /// The operator's own certificate, shown under the names that it is for.
    pub certificate_files: Option<CertificateFiles>,
    /// How many wrong passwords are forgiven.
    pub password_limits: PasswordLimits,
}

/// An operator's own server certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then intermediates.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// The identity services: who somebody is, and what they can prove it with.
pub struct Identity {
    pub(crate) store: Store,
    pub(crate) credentials: Credentials,
    pub(crate) directory: Directory,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) settings: IdentitySettings,
    pub(crate) issuer: String,
    pub(crate) registry_keys: Arc<KeyRing>,
    pub(crate) authority_keys: Arc<KeyRing>,
    pub(crate) server_authority: CertificateAuthority,
    pub(crate) workload_authority: CertificateAuthority,
    pub(crate) tls: Tls,
    pub(crate) links: LinkKey,
    pub(crate) registry_tokens: VerifiedTokens<RegistryToken>,
    pub(crate) authority_tokens: VerifiedTokens<AuthorityClaims>,
    /// Principals with the generation of the configuration they were read from.
    pub(crate) principals: Cache<PrincipalId, (u64, Arc<Known>)>,
    pub(crate) throttle: Throttle,
    pub(crate) issuers: Issuers,
    /// Who may have an issuer exchange a code now.
    pub(crate) signing_in: Arc<Semaphore>,
    /// Who may stretch a user's password now: it takes a core for a tenth of a second.
    pub(crate) stretching: Arc<Semaphore>,
}

/// A directory object as it is now.
pub(crate) struct Known {
    pub(crate) principal: Arc<Principal>,
    pub(crate) client_id: Uuid,
    pub(crate) enabled: bool,
    /// Whether an issuer outside says who it is.
    pub(crate) outside: bool,
    /// For a managed identity: the resource id that its tokens name.
    pub(crate) owner: Option<ResourceId>,
}

impl Identity {
    /// Loads keys and authorities, or makes them the first time, and prepares TLS.
    pub async fn open(options: IdentityOptions) -> Result<Arc<Self>, IdentityError> {
        let IdentityOptions { store, directory, clock, random, settings, outside } = options;
        let links = LinkKey::load(&store.vault(), random.as_ref()).await?;
        let throttle = Throttle::new(settings.password_limits);
        let (vault, now, tenant) = (store.vault(), clock.now(), settings.tenant);
        let registry_keys = KeyRing::load(&vault, REGISTRY_KEYS, REFRESH_TOKEN_SECONDS, now).await?;
        let authority_keys = KeyRing::load(&vault, AUTHORITY_KEYS, MANAGED_IDENTITY_TOKEN_SECONDS, now).await?;
        let authority =
            async |name, title| CertificateAuthority::load(&vault, name, title, tenant, random.as_ref(), now).await;
        let server_authority = authority(SERVER_AUTHORITY, "Postern server authority").await?;
        let workload_authority = authority(WORKLOAD_AUTHORITY, "Postern workload authority").await?;
        let tls = Tls::new(
            &server_authority,
            &workload_authority,
            settings.certificate_names.clone(),
            settings.certificate_files.clone(),
            (&clock, random.as_ref()),
        )?;
        Ok(Arc::new(Self {
            credentials: store.credentials(),
            issuer: format!("https://{}/{tenant}/", settings.authority),
            store,
            directory,
            clock,
            random,
            settings,
            registry_keys,
            authority_keys,
            server_authority,
            workload_authority,
            tls,
            links,
            registry_tokens: VerifiedTokens::new(CACHED_TOKEN_BYTES),
            authority_tokens: VerifiedTokens::new(CACHED_TOKEN_BYTES),
            principals: Cache::new(CACHED_PRINCIPALS),
            throttle,
            issuers: Issuers::new(outside),
            signing_in: Arc::new(Semaphore::new(SIGN_INS_AT_ONCE)),
            stretching: Arc::new(Semaphore::new(STRETCHING_AT_ONCE)),
        }))
    }

    /// Renews what is due: signing keys and the server's own certificate. To be called every hour or so.
    pub async fn maintain(&self, now: Timestamp) -> Result<(), IdentityError> {
        self.tls.maintain(&self.server_authority, self.random.as_ref(), now)?;
        for keys in [&self.registry_keys, &self.authority_keys] {
            if keys.is_due(now) {
                keys.rotate(&self.store.vault(), now).await?;
            }
        }
        Ok(())
    }

    /// Makes new signing keys at once; tokens of the old ones stay good until they expire.
    pub async fn rotate_keys(&self, now: Timestamp) -> Result<(), IdentityError> {
        self.registry_keys.rotate(&self.store.vault(), now).await?;
        self.authority_keys.rotate(&self.store.vault(), now).await
    }

    /// How to answer TLS hellos. The configurations stay the same for good; their certificates change behind them.
    pub fn server_configs(&self) -> ServerConfigs {
        self.tls.configs()
    }

    /// Changes the names that the server's own certificate is for.
    pub fn set_certificate_names(&self, names: Vec<String>, now: Timestamp) -> Result<(), IdentityError> {
        self.tls.set_names(names, &self.server_authority, self.random.as_ref(), now)
    }

    /// Makes the server's own certificate hold for every name beside this one, `*.eastus.data.azurecr.io` for a data endpoint, if it
    /// does not yet.
    pub fn cover(&self, name: &str, now: Timestamp) -> Result<(), IdentityError> {
        self.tls.cover(name, &self.server_authority, self.random.as_ref(), now)
    }

    /// Reads the operator's own certificate and key again. Blocks. When they are not usable, the ones before stay in use.
    pub fn reload_certificate(&self) -> Result<(), IdentityError> {
        self.tls.reload()
    }

    /// The authority that signs this server's own certificate: what clients must trust.
    pub fn server_ca_pem(&self) -> &str {
        self.server_authority.pem()
    }

    /// The authority that signs workload certificates.
    pub fn workload_ca_pem(&self) -> &str {
        self.workload_authority.pem()
    }

    /// The tenant that everybody belongs to.
    pub fn tenant(&self) -> TenantId {
        self.settings.tenant
    }

    /// The public keys of registry tokens.
    pub fn registry_key_set(&self) -> JwkSet {
        self.registry_keys.published()
    }

    /// A new client secret or password: 40 characters that need no escaping in URLs, the first a letter.
    pub fn new_secret(&self) -> Secret {
        new_secret(self.random.as_ref())
    }

    /// A directory object, or a service of this server itself, as it is now.
    pub(crate) fn known(&self, id: PrincipalId) -> Option<Arc<Known>> {
        if let Some(service) = FirstPartyService::of_principal(id) {
            return first_party(service).map(Arc::new);
        }
        // Taken before the look-up: what is kept may be newer than the generation it is kept under, never older.
        let generation = self.directory.generation();
        match self.principals.get(&id) {
            Some((then, known)) if then == generation => Some(known),
            _ => {
                let known = Arc::new(self.understood(self.directory.principal(id)?));
                self.principals.insert(id, (generation, Arc::clone(&known)));
                Some(known)
            }
        }
    }

    pub(crate) fn known_by_client_id(&self, client_id: Uuid) -> Option<Known> {
        self.directory.principal_by_client_id(client_id).map(|found| self.understood(found))
    }

    /// A person whom issuers outside vouch for is nobody while none of them is trusted: then all their tokens stop.
    fn understood(&self, found: postern_estate::Principal) -> Known {
        let user = found.owner.as_ref().filter(|_| found.kind == PrincipalKind::User);
        let user = user.and_then(|id| self.directory.resource(id));
        let identities = user.map(|user| OutsideIdentity::all_of(&user)).unwrap_or_default();
        let is_trusted = identities.iter().any(|one| self.issuers.trusts(&one.issuer));
        Known {
            principal: Arc::new(found.as_caller()),
            client_id: found.client_id.unwrap_or(found.id.0),
            enabled: found.enabled && (identities.is_empty() || is_trusted),
            outside: !identities.is_empty(),
            owner: found.owner,
        }
    }
}

/// A new secret, see [`Identity::new_secret`].
pub(crate) fn new_secret(random: &dyn Random) -> Secret {
    let mut bytes = [0; SECRET_BYTES];
    random.fill(&mut bytes);
    if let Some(first) = bytes.first_mut() {
        *first &= FIRST_IS_A_LETTER;
    }
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

fn first_party(service: FirstPartyService) -> Option<Known> {
    let principal = service.caller()?;
    let (client_id, owner) = (principal.id.0, service.resource_id().parse().ok());
    Some(Known { principal: Arc::new(principal), client_id, enabled: true, outside: false, owner })
}

#[cfg(test)]
mod tests {
    use postern_model::Random;

    use super::new_secret;

    struct Byte(u8);

    impl Random for Byte {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn a_secret_begins_with_a_letter() {
        for byte in 0..=u8::MAX {
            let secret = new_secret(&Byte(byte));
            assert_eq!(secret.expose().len(), 40);
            assert!(secret.expose().starts_with(|first: char| first.is_ascii_alphabetic()), "{}", secret.expose());
        }
    }
}

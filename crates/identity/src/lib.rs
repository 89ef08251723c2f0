//! Who calls: everything that proves an identity, and what is made of it.
//!
//! ```text
//!  handshake ──certificate──▶ Peer ──────────origin────────┐
//!  Authorization header ─────▶ Identity ──credential───────┼──▶ access::Inputs
//!  /oauth2/exchange, /oauth2/token ──▶ Identity ──▶ registry tokens
//!  authority, managed identities ────▶ Identity ──▶ authority tokens ──▶ ArmCaller
//! ```
//!
//! **Invariants.** A token proves its holder to one audience, under one key, as one kind; a token of the authority never opens the
//! data plane. What a token says is checked against the directory as it is now. Trust in a workload belongs to its connection: a
//! token issued to a workload is worth nothing outside of it.
//!
//! Deliberately absent: what anybody may do (`postern-access`), the data plane's HTTP, listeners.
//!
//! ```no_run
//! # fn example(identity: &postern_identity::Identity, peer: &postern_identity::Peer, rules: &postern_access::RegistryRules,
//! #     authorization: Option<&str>, now: postern_model::Timestamp) {
//! let origin = peer.origin(identity, now);
//! let credential = identity.credential(rules, authorization, peer.address, now);
//! # }
//! ```

mod arm;
mod authority;
mod certificates;
mod client_cert;
mod credential;
mod device;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gateway;
mod identity;
mod issue;
mod issuers;
mod keys;
mod links;
mod managed;
mod outside;
mod passwords;
mod peer;
mod requests;
mod scope;
mod throttle;
mod tls;
mod token;
mod verified;
mod workload;

#[cfg(test)]
mod tests;

pub use arm::{ArmCaller, ArmRefusal};
pub use authority::{asked_base, authority_endpoints, authority_router};
pub use client_cert::{CLIENT_CERT, CLIENT_CERT_CHAIN, MalformedClientCert, client_cert_chain};
pub use credential::{MAX_AUTHORIZATION_BYTES, REFRESH_TOKEN_USER, SecretOwner};
pub use device::DeviceRefusal;
pub use error::{FileProblem, IdentityError, WorkloadCertificateError};
pub use gateway::{CertificateFuture, CertificateSource, Gateway, GatewayError, GatewayOptions, WorkloadKey};
pub use identity::{CertificateFiles, Identity, IdentityOptions, IdentitySettings};
pub use issue::{ExchangeRequest, IssuedToken, MAX_FORM_BYTES, TokenGrant, TokenRefusal, TokenRequest};
pub use issuers::{OutsideOptions, TrustedIssuer};
pub use links::{FileAccess, FileLink, LINK_SECONDS, MAX_LINK_BYTES};
pub use managed::{IdentitySelector, ManagedToken, ManagedTokenRefusal, TOKEN_PATH as MANAGED_TOKEN_PATH};
pub use peer::{Peer, PeerCertificate, WorkloadClaim};
pub use requests::{Bucket, Pace, RequestLimiter, TooManyRequests};
pub use scope::{MAX_SCOPES, Scope};
pub use throttle::{PasswordLimits, Throttled};
pub use tls::ServerConfigs;
pub use token::{ACCESS_TOKEN_SECONDS, MANAGED_IDENTITY_TOKEN_SECONDS, PRINCIPAL_TOKEN_SECONDS, REFRESH_TOKEN_SECONDS};
pub use workload::{FirstPartyService, MAX_SIGNING_REQUEST_BYTES, WORKLOAD_CERTIFICATE_SECONDS, WorkloadCertificate};

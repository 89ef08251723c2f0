//! What issuers publish, and the headers of their tokens. Everything here was written by somebody else.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

use super::{AskError, Unproven};
use crate::keys::MAX_TOKEN_BYTES;

/// Keys of one issuer that are looked at.
const MAX_KEYS: usize = 100;

/// Source: OpenID Connect Discovery 1.0 §3.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    pub(super) jwks_uri: String,
    /// Where people sign in. Who only signs tokens of programs has none.
    pub(crate) authorization_endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether it says who it is when it sends people back (RFC 9207).
    #[serde(default)]
    pub(crate) authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// Reads the document, which must be this very issuer's: another one's keys prove nothing about its tokens.
    pub(super) fn parse(document: &[u8], issuer: &str) -> Result<Self, AskError> {
        let metadata: Self = serde_json::from_slice(document)
            .map_err(|_| AskError::Document("its configuration lacks what is needed, or is none"))?;
        if metadata.issuer == issuer { Ok(metadata) } else { Err(AskError::Document("it calls itself otherwise")) }
    }
}

/// Public keys that signatures can be checked with.
pub(super) struct KeySet(Vec<PublicKey>);

struct PublicKey {
    id: Option<String>,
    /// What it is for, where it says so.
    algorithm: Option<Algorithm>,
    kind: Kind,
    key: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

impl Kind {
    /// The kind of key that an algorithm takes. None for those that prove nothing: with a shared secret, whoever can check could sign.
    const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Some(Self::Rsa),
            Algorithm::ES256 => Some(Self::P256),
            Algorithm::ES384 => Some(Self::P384),
            _ => None,
        }
    }
}

impl KeySet {
    /// Reads the document. Keys for other purposes, or of kinds that are not known, are left out.
    ///
    /// Source: RFC 7517 §5.
    pub(super) fn parse(document: &[u8]) -> Result<Self, AskError> {
        #[derive(Deserialize)]
        struct Listed {
            keys: Vec<Value>,
        }
        let listed: Listed =
            serde_json::from_slice(document).map_err(|_| AskError::Document("its keys are no JSON Web Key Set"))?;
        Ok(Self(listed.keys.into_iter().take(MAX_KEYS).filter_map(PublicKey::read).collect()))
    }

    /// The key of this id for this algorithm. Without an id, the only one there is for it.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let kind = Kind::of(algorithm)?;
        let fits = |key: &&PublicKey| {
            key.kind == kind
                && key.algorithm.is_none_or(|own| own == algorithm)
                && id.is_none_or(|id| key.id.as_deref() == Some(id))
        };
        let mut fitting = self.0.iter().filter(fits);
        let first = fitting.next()?;
        fitting.next().is_none().then_some(&first.key)
    }
}

impl PublicKey {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|own| *own == PublicKeyUse::Signature);
        let verifies = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => Kind::P256,
                EllipticCurve::P384 => Kind::P384,
                _ => return None,
            },
            _ => return None,
        };
        // One that is for something else than signatures has an algorithm that is none here.
        let algorithm = match jwk.common.key_algorithm {
            None => None,
            Some(own) => Some(own.to_string().parse::<Algorithm>().ok().filter(|own| Kind::of(*own) == Some(kind))?),
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (signs && verifies).then_some(Self { id: jwk.common.key_id, algorithm, kind, key })
    }
}

/// The header of a token, if it can be somebody's.
pub(super) fn read_header(token: &str) -> Result<Header, Unproven> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Unproven::Malformed("it is too long"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Unproven::Malformed("it cannot be read"))?;
    if header.crit.is_some() {
        return Err(Unproven::Malformed("its header asks for something that is not understood"));
    }
    if Kind::of(header.alg).is_none() {
        return Err(Unproven::Malformed("its algorithm is none of RS256 to RS512, PS256 to PS512, ES256 and ES384"));
    }
    Ok(header)
}

/// Whom a token is meant for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// The audience, if it is a single one: what is meant for others, too, they could pass on.
    pub(crate) fn only(&self) -> Option<&str> {
        match self {
            Self::One(one) => Some(one),
            Self::Several(several) => match several.as_slice() {
                [one] => Some(one),
                _ => None,
            },
        }
    }
}

/// What holds for an issuer's configuration, its keys and a token, whatever they say.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_anything(issuer: &str, configuration: &str, keys: &str, token: &str) {
    if let Ok(metadata) = Metadata::parse(configuration.as_bytes(), issuer) {
        assert_eq!(metadata.issuer, issuer);
    }
    let keys = KeySet::parse(keys.as_bytes());
    if let Ok(keys) = &keys {
        assert!(keys.0.len() <= MAX_KEYS);
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(keys.find(None, algorithm).is_none(), "a public key is no secret");
        }
    }
    let Ok(header) = read_header(token) else { return };
    assert!(token.len() <= MAX_TOKEN_BYTES && Kind::of(header.alg).is_some());
    if let Some(key) = keys.as_ref().ok().and_then(|keys| keys.find(header.kid.as_deref(), header.alg)) {
        let _ = jsonwebtoken::decode::<Value>(token, key, &jsonwebtoken::Validation::new(header.alg));
    }
}

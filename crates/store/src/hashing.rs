use postern_model::{Algorithm, Digest};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// The layout of the stored state; another one is hashed again from the file.
const STATE_VERSION: u8 = 1;

/// A running hash over an upload's bytes that can be put away and taken up again.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }

    /// The state with its version byte in front.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut saved = vec![STATE_VERSION];
        match self {
            Self::Sha256(hasher) => saved.extend_from_slice(&hasher.serialize()),
            Self::Sha512(hasher) => saved.extend_from_slice(&hasher.serialize()),
        }
        saved
    }

    /// `None` if the state is of another version or does not make sense.
    pub(crate) fn restore(algorithm: Algorithm, saved: &[u8]) -> Option<Self> {
        let (&STATE_VERSION, state) = saved.split_first()? else { return None };
        match algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(state).ok()?;
                Sha256::deserialize(&state).ok().map(Self::Sha256)
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(state).ok()?;
                Sha512::deserialize(&state).ok().map(Self::Sha512)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_hash_goes_on_where_it_stopped() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut whole = Hasher::new(algorithm);
            whole.update(&[7; 1000]);
            let mut first = Hasher::new(algorithm);
            first.update(&[7; 333]);
            let mut second = Hasher::restore(algorithm, &first.save()).unwrap();
            second.update(&[7; 667]);
            assert_eq!(second.finish(), whole.finish());

            let mut foreign = first.save();
            foreign[0] = STATE_VERSION + 1;
            assert!(Hasher::restore(algorithm, &foreign).is_none());
            assert!(Hasher::restore(algorithm, &first.save()[..50]).is_none());
            assert!(Hasher::restore(algorithm, &[]).is_none());
        }
    }
}

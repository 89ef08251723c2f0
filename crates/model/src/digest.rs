use std::fmt;
use std::str::FromStr;

/// A content digest, `algorithm:hex`.
///
/// Source: OCI image specification, descriptor, digests
/// (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>, read 2026-11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// 32 bytes of SHA-256.
    Sha256([u8; 32]),
    /// 64 bytes of SHA-512.
    Sha512([u8; 64]),
}

/// A digest algorithm that the registry accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `sha256`, 64 hexadecimal digits.
    Sha256,
    /// `sha512`, 128 hexadecimal digits.
    Sha512,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("a digest has the form `algorithm:hex`")]
    NoAlgorithm,
    /// The algorithm is none of those in [`Algorithm`].
    #[error("digest algorithm is not supported, use sha256 or sha512")]
    UnsupportedAlgorithm,
    /// Wrong number of digits, or a character that is not lower-case hexadecimal.
    #[error("digest must be lower-case hexadecimal of the algorithm's length")]
    BadHex,
}

impl Algorithm {
    /// The name in front of the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::UnsupportedAlgorithm),
        }
    }
}

impl Digest {
    /// The digest's algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes: 32 or 64.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The digits behind the colon, lower case.
    pub fn hex(&self) -> String {
        self.with_hex(str::to_owned)
    }

    /// Digests are written into most answers: no formatting, no allocation.
    fn with_hex<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut text = [0; 128];
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(self.as_bytes()) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        let text = text.get(..2 * self.as_bytes().len()).unwrap_or_default();
        use_it(str::from_utf8(text).unwrap_or_default())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        Ok(match algorithm.parse()? {
            Algorithm::Sha256 => Self::Sha256(bytes_of(hex)?),
            Algorithm::Sha512 => Self::Sha512(bytes_of(hex)?),
        })
    }
}

fn bytes_of<const N: usize>(hex: &str) -> Result<[u8; N], DigestError> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * N {
        return Err(DigestError::BadHex);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Ok(bytes)
}

const fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError::BadHex),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm().as_str())?;
        f.write_str(":")?;
        self.with_hex(|hex| f.write_str(hex))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<Algorithm, DigestError>) {
        let parsed = text.parse::<Digest>();
        if let Ok(digest) = &parsed {
            assert_eq!(digest.to_string(), text, "parse then print is the identity");
        }
        assert_eq!(parsed.map(|digest| digest.algorithm()), expected);
    }

    #[test]
    fn digests_parse_and_print() {
        check(&format!("sha256:{}", "0a".repeat(32)), Ok(Algorithm::Sha256));
        check(&format!("sha512:{}", "f9".repeat(64)), Ok(Algorithm::Sha512));
        check(&format!("sha256:{}", "0A".repeat(32)), Err(DigestError::BadHex));
        check(&format!("sha256:{}", "0a".repeat(31)), Err(DigestError::BadHex));
        check(&format!("sha256:{}", "é".repeat(32)), Err(DigestError::BadHex));
        check(&format!("md5:{}", "0a".repeat(16)), Err(DigestError::UnsupportedAlgorithm));
        check("sha256", Err(DigestError::NoAlgorithm));
        check("", Err(DigestError::NoAlgorithm));
    }
}

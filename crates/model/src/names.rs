use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Digest;

/// Longest repository name in bytes.
///
/// Source: OCI distribution specification, "Pulling manifests": many clients limit host and name to 255 characters.
pub const MAX_REPOSITORY_NAME_BYTES: usize = 255;

const MAX_TAG_BYTES: usize = 128;

/// Why a text is not a name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A repository name outside the grammar, or too long.
    #[error(
        "repository name must be lower-case path components of `a-z`, `0-9` and single separators `.` `_` `__` `-`, at most 255 bytes"
    )]
    Repository,
    /// A tag outside the grammar, or too long.
    #[error("tag must be 1 to 128 of `A-Z`, `a-z`, `0-9`, `_`, `.`, `-`, and begin with none of `.` and `-`")]
    Tag,
    /// A registry name outside the grammar.
    #[error("registry name must be 5 to 50 of `A-Z`, `a-z`, `0-9`")]
    Registry,
    /// Neither a tag nor a digest.
    #[error("reference must be a tag or a digest")]
    Reference,
}

macro_rules! string_newtype {
    ($(#[$doc:meta])* $name:ident, $error:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_newtype!(
    /// A repository's name within its registry: `team/app`.
    ///
    /// Source: OCI distribution specification, "Pulling manifests", `<name>` (read 2026-11).
    RepositoryName, NameError::Repository, is_repository_name);

string_newtype!(
    /// A tag: `1.0`, `latest`.
    ///
    /// Source: OCI distribution specification, "Pulling manifests", `<reference>` (read 2026-11).
    Tag, NameError::Tag, is_tag);

string_newtype!(
    /// A registry's name: 5 to 50 letters and digits, compared without case by its login server.
    ///
    /// Source: Microsoft.ContainerRegistry resource naming rules (read 2026-11).
    RegistryName, NameError::Registry,
    |text| (5..=50).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric()));

/// What names a manifest within a repository.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reference {
    /// By tag, which may move.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|_| NameError::Reference)
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

fn is_tag(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    starts_well
        && text.len() <= MAX_TAG_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_repository_name(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY_NAME_BYTES && text.split('/').all(is_path_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator: &[u8] = b"-"; // a component must not begin with a separator
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let run = rest.iter().position(|&b| !is_alphanumeric(b)).unwrap_or(rest.len());
        if run == 0 {
            return false;
        }
        rest = rest.get(run..).unwrap_or_default();
        let gap = rest.iter().position(|&b| is_alphanumeric(b)).unwrap_or(rest.len());
        separator = rest.get(..gap).unwrap_or_default();
        rest = rest.get(gap..).unwrap_or_default();
        let is_separator = matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-');
        if !is_separator {
            return false;
        }
    }
    separator.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = NameError> + fmt::Display>(text: &str, valid: bool) {
        let parsed = text.parse::<T>();
        assert_eq!(parsed.is_ok(), valid, "{text:?}");
        if let Ok(value) = parsed {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn repository_names() {
        for text in ["a", "a/b", "hello-world", "a.b_c__d---e/f0", "0"] {
            check::<RepositoryName>(text, true);
        }
        for text in
            ["", "/", "a/", "/a", "a//b", "A", "a_", "-a", "a..b", "a___b", "a._b", "..", "a/../b", "a b", "a:b", "é"]
        {
            check::<RepositoryName>(text, false);
        }
        check::<RepositoryName>(&"a".repeat(MAX_REPOSITORY_NAME_BYTES), true);
        check::<RepositoryName>(&"a".repeat(MAX_REPOSITORY_NAME_BYTES + 1), false);
    }

    #[test]
    fn tags_references_and_registries() {
        for text in ["latest", "1.0", "_x", "A-b_c.d"] {
            check::<Tag>(text, true);
            check::<Reference>(text, true);
        }
        for text in ["", ".a", "-a", "a/b", "a:b", "a b"] {
            check::<Tag>(text, false);
            check::<Reference>(text, false);
        }
        check::<Tag>(&"a".repeat(128), true);
        check::<Tag>(&"a".repeat(129), false);
        check::<Reference>(&format!("sha256:{}", "a".repeat(64)), true);
        check::<Reference>("sha256:abc", false);
        check::<RegistryName>("myReg1", true);
        for text in ["four", "my-reg", "", "réges"] {
            check::<RegistryName>(text, false);
        }
    }
}

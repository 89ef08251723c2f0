//! Where a run's files come from.

use std::str::FromStr;

use postern_model::{Reference, RepositoryName, Secret};

/// How long a location may be, in bytes.
pub const MAX_LOCATION_BYTES: usize = 2048;

/// Where a run's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// It has none: `/dev/null`.
    None,
    /// A git repository.
    Git {
        /// Without credentials, branch and folder.
        url: String,
        /// A branch, tag or commit; none for the default branch.
        reference: Option<String>,
        /// The folder in it.
        folder: Option<String>,
    },
    /// A tar archive.
    Archive {
        /// Without credentials.
        url: String,
    },
    /// An artifact in a registry.
    Oci {
        /// The registry's login server.
        server: String,
        /// The repository.
        repository: RepositoryName,
        /// A tag or digest.
        reference: Reference,
    },
}

/// A location, and the credentials that stood in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedLocation {
    /// Where.
    pub location: Location,
    /// What stood before the host's `@`.
    pub token: Option<Secret>,
}

/// Why a text is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It is too long.
    #[error("the location is longer than {MAX_LOCATION_BYTES} characters")]
    TooLong,
    /// It has gaps or characters that nobody sees.
    #[error("the location has a space or an invisible character in it")]
    Characters,
    /// It names no host.
    #[error("the location has no host")]
    NoHost,
    /// What is fetched could be changed on its way.
    #[error("{0} is not protected on its way; use https")]
    Unprotected(&'static str),
    /// There are no keys for it.
    #[error("git over ssh is not supported; use https with an access token")]
    Ssh,
    /// It leads out of the repository.
    #[error("the folder {0:?} leads out of the repository")]
    Folder(String),
    /// It is no name of a branch, tag or commit.
    #[error("{0:?} is no branch, tag or commit")]
    Reference(String),
    /// It is no artifact.
    #[error("{0:?} is no artifact in a registry: oci://server/repository:tag")]
    Artifact(String),
    /// It is none of the kinds that are known.
    #[error("{0:?} is no location: a git or archive URL, oci://server/repository:tag, or /dev/null")]
    Unknown(String),
}

impl Location {
    /// Reads a location; `may_be_unprotected` allows plain http and git's own protocol.
    pub fn parse(text: &str, may_be_unprotected: bool) -> Result<ParsedLocation, LocationError> {
        if text.len() > MAX_LOCATION_BYTES {
            return Err(LocationError::TooLong);
        }
        if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return Err(LocationError::Characters);
        }
        let plain = |location| Ok(ParsedLocation { location, token: None });
        if text.is_empty() || text == "/dev/null" {
            return plain(Self::None);
        }
        if let Some(artifact) = text.strip_prefix("oci://") {
            return oci(artifact).map_or_else(|| Err(LocationError::Artifact(text.to_owned())), plain);
        }
        if text.starts_with("git@") || text.starts_with("ssh://") {
            return Err(LocationError::Ssh);
        }
        let github = text.strip_prefix("github.com/").map(|rest| format!("https://github.com/{rest}"));
        let text = github.as_deref().unwrap_or(text);
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => return Err(LocationError::Unknown(text.to_owned())),
        };
        match scheme.as_str() {
            "https" => {}
            "http" | "git" if may_be_unprotected => {}
            "http" => return Err(LocationError::Unprotected("http")),
            "git" => return Err(LocationError::Unprotected("git's own protocol")),
            _ => return Err(LocationError::Unknown(without_credentials(text))),
        }
        let (whole, fragment) = match rest.split_once('#') {
            Some((whole, fragment)) => (whole, Some(fragment)),
            None => (rest, None),
        };
        let end = whole.find(['/', '?']).unwrap_or(whole.len());
        let (authority, path) = whole.split_at_checked(end).unwrap_or((whole, ""));
        let (host, token) = match authority.rsplit_once('@') {
            Some((user, host)) => (host, Some(user.split_once(':').map_or(user, |(_, password)| password))),
            None => (authority, None),
        };
        if host.split(':').next().unwrap_or_default().is_empty() || host.contains('\\') {
            return Err(LocationError::NoHost);
        }
        let token = token.filter(|token| !token.is_empty()).map(Secret::new);
        let url = format!("{scheme}://{host}{path}");
        if scheme == "git" || is_git(host, path) || github.is_some() {
            let (reference, folder) = place(fragment.unwrap_or_default())?;
            return Ok(ParsedLocation { location: Self::Git { url, reference, folder }, token });
        }
        Ok(ParsedLocation { location: Self::Archive { url }, token })
    }
}

/// Whether an address is that of a repository and not of a file.
fn is_git(host: &str, path: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    path.rsplit_once('.').is_some_and(|(_, kind)| kind.eq_ignore_ascii_case("git"))
        || ((host == "dev.azure.com" || host.ends_with(".visualstudio.com")) && path.contains("/_git/"))
}

/// `branch:folder`, both optional.
fn place(fragment: &str) -> Result<(Option<String>, Option<String>), LocationError> {
    let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
    let is_strange = reference.starts_with('-')
        || reference.contains("..")
        || reference.contains(['~', '^', ':', '?', '*', '[', '\\']);
    if is_strange {
        return Err(LocationError::Reference(reference.to_owned()));
    }
    let parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || folder.contains('\\') {
        return Err(LocationError::Folder(folder.to_owned()));
    }
    let given = |text: String| (!text.is_empty()).then_some(text);
    Ok((given(reference.to_owned()), given(parts.join("/"))))
}

fn oci(text: &str) -> Option<Location> {
    let (server, rest) = text.split_once('/')?;
    let (repository, reference) = match rest.split_once('@') {
        Some((name, digest)) => (name.split(':').next()?, digest),
        None => rest.rsplit_once(':').unwrap_or((rest, "latest")),
    };
    let is_host = !server.is_empty()
        && server.chars().all(|next| next.is_ascii_alphanumeric() || matches!(next, '.' | '-' | ':' | '[' | ']'));
    Some(Location::Oci {
        server: is_host.then(|| server.to_ascii_lowercase())?,
        repository: RepositoryName::from_str(repository).ok()?,
        reference: Reference::from_str(reference).ok()?,
    })
}

/// For messages.
fn without_credentials(text: &str) -> String {
    match (text.split_once("://"), text.split_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = Location::parse(text, false).map_or_else(
            |error| format!("! {error}"),
            |parsed| {
                let token = parsed.token.map(|token| format!(" with {}", token.expose())).unwrap_or_default();
                match parsed.location {
                    Location::None => "none".to_owned(),
                    Location::Git { url, reference, folder } => {
                        format!("git {url} {} {}{token}", reference.unwrap_or_default(), folder.unwrap_or_default())
                    }
                    Location::Archive { url } => format!("archive {url}{token}"),
                    Location::Oci { server, repository, reference } => format!("oci {server} {repository} {reference}"),
                }
            },
        );
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn locations() {
        check("/dev/null", "none");
        check("", "none");
        check("https://host/a/x.git", "git https://host/a/x.git  ");
        check("https://host/x.git#main:/src//app/", "git https://host/x.git main src/app");
        check("https://host:8443/x.git#:src", "git https://host:8443/x.git  src");
        check("https://u:t0ken@host/x.git#v1", "git https://host/x.git v1  with t0ken");
        check("https://t0ken@host/x.git", "git https://host/x.git   with t0ken");
        check("github.com/Azure/x#main", "git https://github.com/Azure/x main ");
        check("https://dev.azure.com/o/p/_git/r#main", "git https://dev.azure.com/o/p/_git/r main ");
        check("https://host/x.tar.gz?sig=a%2F", "archive https://host/x.tar.gz?sig=a%2F");
        check("HTTPS://host/x", "archive https://host/x");
        check("oci://R.azurecr.io/team/src:v1", "oci r.azurecr.io team/src v1");
        check("oci://r.azurecr.io:5000/src", "oci r.azurecr.io:5000 src latest");
        let digest = format!("sha256:{}", "a".repeat(64));
        check(&format!("oci://r.azurecr.io/src@{digest}"), &format!("oci r.azurecr.io src {digest}"));
    }

    #[test]
    fn what_is_refused() {
        check("http://host/x.git", "! http is not protected on its way; use https");
        check("git://host/x.git", "! git's own protocol is not protected on its way; use https");
        check("git@host:x.git", "! git over ssh is not supported; use https with an access token");
        check("https:///x.git", "! the location has no host");
        check("https://u@/x.git", "! the location has no host");
        check("https://host/x.git#main:a/../..", "! the folder \"a/../..\" leads out of the repository");
        check("https://host/x.git#--upload-pack=x", "! \"--upload-pack=x\" is no branch, tag or commit");
        check("https://host/x.git#a..b", "! \"a..b\" is no branch, tag or commit");
        check("https://host/a b", "! the location has a space or an invisible character in it");
        check(
            "oci://r.azurecr.io",
            "! \"oci://r.azurecr.io\" is no artifact in a registry: oci://server/repository:tag",
        );
        check(
            "oci://r.azurecr.io/A:v1",
            "! \"oci://r.azurecr.io/A:v1\" is no artifact in a registry: oci://server/repository:tag",
        );
        check(
            "ftp://u:p@host/x",
            "! \"ftp://host/x\" is no location: a git or archive URL, oci://server/repository:tag, or /dev/null",
        );
        check(
            "./local",
            "! \"./local\" is no location: a git or archive URL, oci://server/repository:tag, or /dev/null",
        );
        check(&"a".repeat(2049), "! the location is longer than 2048 characters");
        assert!(Location::parse("http://host/x.git", true).is_ok());
    }
}

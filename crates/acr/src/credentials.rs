//! What a registry is told, and where docker keeps it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_model::Secret;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Largest configuration file.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The user name that says that the password is a refresh token.
const REFRESH_TOKEN_USER: Uuid = Uuid::nil();

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password, sent with each request.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A registry's refresh token, which access tokens are had for.
    RefreshToken(Secret),
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Nowhere.
    #[error("unable to resolve authentication, missing identity token or password")]
    None,
    /// A file cannot be read or written.
    #[error("error resolving authentication: {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file is not docker's configuration.
    #[error("error resolving authentication: {path}: {why}", path = path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The login is with a program.
    #[error("error resolving authentication: {path} leaves the login of {server} to docker-credential-{helper}, which is not run here: give --username and --password-stdin", path = path.display())]
    Helper {
        /// The file.
        path: PathBuf,
        /// The registry.
        server: String,
        /// The program.
        helper: String,
    },
    /// It is not said where logins are kept.
    #[error("no configuration file to keep logins in: give --config")]
    NoFile,
}

impl Credentials {
    /// A password, or a refresh token if there is no user or the one that says so.
    pub fn new(user: &str, password: Secret) -> Self {
        if user.is_empty() || Uuid::try_parse(user) == Ok(REFRESH_TOKEN_USER) {
            Self::RefreshToken(password)
        } else {
            Self::Password { user: user.to_owned(), password }
        }
    }
}

/// The login for a registry in the first of the files that has one. A file that is not there has none.
pub(crate) fn find<'a>(
    files: impl Iterator<Item = &'a PathBuf>,
    server: &str,
) -> Result<Option<Credentials>, CredentialError> {
    for path in files {
        if let Some(config) = read(path)?
            && let Some(found) = in_config(path, &config, server)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, CredentialError> {
    let error = |source| CredentialError::File { path: path.to_owned(), source };
    let bad = |why| CredentialError::BadFile { path: path.to_owned(), why };
    match fs::metadata(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
        Ok(metadata) if metadata.len() > MAX_CONFIG_BYTES => return Err(bad("it is too large")),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(error)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad("it is not JSON"))?;
    match value {
        Value::Object(config) => Ok(Some(config)),
        _ => Err(bad("it is no object")),
    }
}

fn in_config(path: &Path, config: &Map<String, Value>, server: &str) -> Result<Option<Credentials>, CredentialError> {
    let bad = |why| CredentialError::BadFile { path: path.to_owned(), why };
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let auths = config.get("auths").and_then(Value::as_object);
    let entry = [server.to_owned(), format!("https://{server}"), format!("https://{server}/")];
    let entry = entry.iter().find_map(|name| auths?.get(name));
    if let Some(entry) = entry {
        if let Some(token) = text(entry, "identitytoken") {
            return Ok(Some(Credentials::RefreshToken(Secret::new(token))));
        }
        if let Some(auth) = text(entry, "auth") {
            let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or_else(|| bad("an `auth` is not base64 of text"))?;
            let (user, password) = decoded.split_once(':').ok_or_else(|| bad("an `auth` has no colon"))?;
            return Ok(Some(Credentials::new(user, Secret::new(password))));
        }
        if let Some(password) = text(entry, "password") {
            return Ok(Some(Credentials::new(&text(entry, "username").unwrap_or_default(), Secret::new(password))));
        }
    }
    let helper = config.get("credHelpers").and_then(|helpers| text(helpers, server));
    // A store for everything is asked only for what docker has put there, which leaves an empty entry.
    let store = || config.get("credsStore").and_then(Value::as_str).filter(|_| entry.is_some()).map(str::to_owned);
    match helper.or_else(store) {
        Some(helper) => Err(CredentialError::Helper { path: path.to_owned(), server: server.to_owned(), helper }),
        None => Ok(None),
    }
}

/// Keeps a login. Whatever else the file holds stays.
pub(crate) fn store(path: &Path, server: &str, credentials: &Credentials) -> Result<(), CredentialError> {
    let entry = match credentials {
        Credentials::Password { user, password } => {
            json!({"auth": STANDARD.encode(format!("{user}:{}", password.expose()))})
        }
        Credentials::RefreshToken(token) => {
            json!({"auth": STANDARD.encode(format!("{REFRESH_TOKEN_USER}:")), "identitytoken": token.expose()})
        }
    };
    change(path, |auths| {
        auths.insert(server.to_owned(), entry);
    })
}

/// Removes a login.
pub(crate) fn erase(path: &Path, server: &str) -> Result<(), CredentialError> {
    change(path, |auths| {
        auths.remove(server);
    })
}

fn change(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), CredentialError> {
    let mut config = read(path)?.unwrap_or_default();
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    let auths = auths.as_object_mut();
    change(auths.ok_or_else(|| CredentialError::BadFile { path: path.to_owned(), why: "`auths` is no object" })?);
    let text = format!("{:#}\n", Value::Object(config));
    write_whole(path, text.as_bytes()).map_err(|source| CredentialError::File { path: path.to_owned(), source })
}

/// The new content or the old, never a part, for nobody else's eyes. What a link leads to is what changes.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut fresh = path.clone().into_os_string();
    fresh.push(".postern-new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "myregistry.azurecr.io";

    fn found(config: &str) -> Result<Option<Credentials>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, config).unwrap();
        find([path].iter(), SERVER).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(config: &str, user: &str, secret: &str) {
        assert_eq!(found(config), Ok(Some(Credentials::new(user, Secret::new(secret)))), "{config}");
    }

    #[test]
    fn logins_of_docker() {
        // me:pa:ss
        check(r#"{"auths":{"myregistry.azurecr.io":{"auth":"bWU6cGE6c3M="}}}"#, "me", "pa:ss");
        check(r#"{"auths":{"https://myregistry.azurecr.io":{"auth":"bWU6cGE6c3M="}}}"#, "me", "pa:ss");
        check(r#"{"auths":{"myregistry.azurecr.io":{"auth":"bWU6cGE6c3M=","identitytoken":"t"}}}"#, "", "t");
        // 00000000-0000-0000-0000-000000000000:t
        let auth = "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOnQ=";
        check(&format!(r#"{{"auths":{{"myregistry.azurecr.io":{{"auth":"{auth}"}}}}}}"#), "", "t");
        check(r#"{"auths":{"myregistry.azurecr.io":{"username":"a","password":"b"}}}"#, "a", "b");
        for none in
            ["{}", r#"{"auths":{}}"#, r#"{"auths":{"other.azurecr.io":{"auth":"bWU6cGE6c3M="}},"credsStore":"x"}"#]
        {
            assert_eq!(found(none), Ok(None), "{none}");
        }
        assert!(find([PathBuf::from("/nonexistent/config.json")].iter(), SERVER).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (config, why) in [
            ("", "not JSON"),
            ("[]", "no object"),
            (r#"{"auths":{"myregistry.azurecr.io":{"auth":"%"}}}"#, "not base64"),
            (r#"{"auths":{"myregistry.azurecr.io":{"auth":"bWU="}}}"#, "no colon"),
            (r#"{"auths":{"myregistry.azurecr.io":{}},"credsStore":"desktop"}"#, "docker-credential-desktop"),
            (r#"{"credHelpers":{"myregistry.azurecr.io":"acr-env"}}"#, "docker-credential-acr-env"),
        ] {
            let error = found(config).unwrap_err();
            assert!(error.contains(why), "{config}: {error}");
        }
    }

    #[test]
    fn logins_are_kept_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker/config.json");
        let both = [
            Credentials::Password { user: "me".into(), password: Secret::new("pa:ss") },
            Credentials::RefreshToken(Secret::new("t")),
        ];
        for credentials in &both {
            store(&path, SERVER, credentials).unwrap();
            assert_eq!(find([path.clone()].iter(), SERVER).unwrap().as_ref(), Some(credentials));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, r#"{"proxies":{"a":1},"auths":{"x":{"auth":"bWU6cGE6c3M="}}}"#).unwrap();
        store(&path, SERVER, &both[0]).unwrap();
        erase(&path, SERVER).unwrap();
        let left: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, json!({"proxies": {"a": 1}, "auths": {"x": {"auth": "bWU6cGE6c3M="}}}));
        fs::write(&path, "not JSON").unwrap();
        store(&path, SERVER, &both[0]).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "not JSON", "what cannot be read is not replaced");
    }
}

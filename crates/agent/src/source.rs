//! Brings a run's files into its workspace.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use postern_model::Secret;
use postern_tasks::order::Source;
use postern_tasks::{Location, LocationError, ParsedLocation};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use tokio::io::AsyncWriteExt as _;

use crate::archive::{ArchiveError, unpack};
use crate::folder::RunFolder;
use crate::process::{ProcessError, answer, command};
use crate::server::{Server, ServerError};

/// Largest archive.
const MAX_ARCHIVE_BYTES: u64 = 4 << 30;
/// What redirects lead to is somebody else: so many are followed.
const MAX_REDIRECTS: usize = 5;

/// Why a run has no files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The location is none.
    #[error("the source location cannot be used: {0}")]
    Location(#[from] LocationError),
    /// The archive that was uploaded could not be had.
    #[error("the uploaded files could not be fetched: {0}")]
    Server(#[from] ServerError),
    /// The archive is not unpacked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// git did not do it.
    #[error("failed to clone the repository: {0}")]
    Git(ProcessError),
    /// The archive could not be fetched.
    #[error("failed to download the archive: {0}")]
    Download(String),
    /// There is no such folder in it.
    #[error("the repository has no folder `{0}`")]
    NoFolder(String),
    /// This kind of location is not fetched here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A file could not be written.
    #[error("the files could not be written: {0}")]
    Io(#[from] io::Error),
}

/// What is known of files that came from git.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revision {
    pub(crate) commit: String,
    pub(crate) branch: String,
    pub(crate) repository: String,
}

/// Fetches the files; they are in the run's workspace then, or below it: where, is what is given back.
pub(crate) async fn fetch(
    source: &Source,
    folder: &RunFolder,
    (server, lease): (&Server, &str),
    authorities: &Path,
) -> Result<(PathBuf, Revision), SourceError> {
    let workspace = folder.workspace();
    match source {
        Source::None => Ok((workspace, Revision::default())),
        Source::Uploaded => {
            let archive = folder.path("source.tar.gz");
            server.source(lease, &archive).await?;
            unpack_into(archive, workspace.clone()).await?;
            Ok((workspace, Revision::default()))
        }
        Source::Remote { location, access_token } => {
            let ParsedLocation { location, token } = Location::parse(location, false)?;
            let token = access_token.as_ref().or(token.as_ref());
            match location {
                Location::None => Ok((workspace, Revision::default())),
                Location::Git { url, reference, folder: inner } => {
                    let revision = clone(&url, reference.as_deref(), token, folder, authorities).await?;
                    let at = match inner {
                        None => workspace,
                        Some(inner) => inside(&workspace, &inner)
                            .filter(|path| path.is_dir())
                            .ok_or(SourceError::NoFolder(inner))?,
                    };
                    Ok((at, revision))
                }
                Location::Archive { url } => {
                    let archive = folder.path("source.tar.gz");
                    download(&url, &archive, authorities).await?;
                    unpack_into(archive, workspace.clone()).await?;
                    Ok((workspace, Revision::default()))
                }
                Location::Oci { .. } => Err(SourceError::Unsupported(
                    "files from an OCI artifact are not fetched yet: give a git repository, an archive or a local folder",
                )),
            }
        }
    }
}

async fn unpack_into(archive: PathBuf, folder: PathBuf) -> Result<(), SourceError> {
    let unpacked = tokio::task::spawn_blocking(move || {
        unpack(&archive, &folder)?;
        fs::remove_file(&archive).map_err(ArchiveError::Unreadable)
    });
    Ok(unpacked.await.map_err(io::Error::other)??)
}

/// A path that leads to something below the folder whatever links there are; none if there is nothing, or it leads out.
pub(crate) fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    open_inside(folder, path, OFlags::PATH).ok()?;
    Some(folder.join(path.trim_start_matches('/')))
}

/// Reads a text below the folder, of so many bytes at most.
pub(crate) fn read_inside(folder: &Path, path: &str, limit: usize) -> io::Result<String> {
    use io::Read as _;
    let file = fs::File::from(open_inside(folder, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    file.take(limit as u64 + 1).read_to_string(&mut text)?;
    if text.len() > limit { Err(io::Error::other(format!("it is larger than {} KiB", limit >> 10))) } else { Ok(text) }
}

fn open_inside(folder: &Path, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, path.trim_start_matches('/'), flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Clones what is asked for and nothing of its past. Credentials go by the environment, as words of a command can be seen by everybody.
async fn clone(
    url: &str,
    reference: Option<&str>,
    token: Option<&Secret>,
    folder: &RunFolder,
    authorities: &Path,
) -> Result<Revision, SourceError> {
    let git = |words: &[&str]| {
        let mut git = command("git");
        git.args(["-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "core.symlinks=true"]);
        git.arg("-C").arg(folder.workspace()).args(words);
        git.env("HOME", folder.temporary()).env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("GIT_SSL_CAINFO", authorities);
        if let Some(token) = token {
            use base64::Engine as _;
            let login = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{}", token.expose()));
            // For this host and no other: submodules may be anywhere.
            git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", origin_of(url)));
            git.env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {login}"));
        }
        git
    };
    let run = async |words: &[&str]| answer(git(words)).await.map_err(SourceError::Git);
    run(&["init", "--quiet"]).await?;
    run(&["remote", "add", "origin", url]).await?;
    let wanted = reference.unwrap_or("HEAD");
    run(&["fetch", "--quiet", "--depth", "1", "origin", wanted]).await?;
    run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]).await?;
    run(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"]).await?;
    let commit = run(&["rev-parse", "HEAD"]).await?.trim().to_owned();
    let branch = reference.filter(|reference| *reference != commit).unwrap_or_default().to_owned();
    Ok(Revision { commit, branch, repository: url.to_owned() })
}

/// `https://host:port/` of a URL.
fn origin_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    format!("{scheme}://{}/", rest.split(['/', '?', '#']).next().unwrap_or_default())
}

async fn download(url: &str, file: &Path, authorities: &Path) -> Result<(), SourceError> {
    let failed = |error: reqwest::Error| SourceError::Download(error.without_url().to_string());
    let authorities = reqwest::Certificate::from_pem_bundle(&fs::read(authorities)?).map_err(failed)?;
    let builder = reqwest::Client::builder().no_proxy().https_only(true);
    let builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    let client = builder.redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS)).build().map_err(failed)?;
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut pieces = answer.bytes_stream();
    let mut file = tokio::fs::File::create(file).await?;
    let mut length = 0_u64;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(failed)?;
        length += piece.len() as u64;
        if length > MAX_ARCHIVE_BYTES {
            return Err(SourceError::Download(format!("it is larger than {} GiB", MAX_ARCHIVE_BYTES >> 30)));
        }
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_inside_only() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "no").unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/task.yaml"), "steps").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("in")).unwrap();
        let read = |path: &str| read_inside(folder.path(), path, 5).ok();
        for path in ["a/task.yaml", "/a/task.yaml", "./a/../a/task.yaml", "in/task.yaml"] {
            assert_eq!(read(path).as_deref(), Some("steps"), "{path}");
        }
        let climbing = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
        for path in ["out/secret", climbing.as_str(), "a", "none", ""] {
            assert_eq!(read(path), None, "{path}");
        }
        assert!(read_inside(folder.path(), "a/task.yaml", 4).is_err());
        assert!(inside(folder.path(), "in").is_some());
        assert!(inside(folder.path(), "out").is_none());
    }
}

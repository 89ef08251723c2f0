//! A registry that breaks off, or waits, in the middle of a download.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;

use crate::image::Layout;

/// Nobody who downloads from it waits longer for the next byte.
const PATIENCE: Duration = Duration::from_mins(2);
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// What happens at the next download of a blob that begins at its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// So many bytes come, then the connection ends.
    Break(usize),
    /// So many bytes come, then nothing until [`Supplier::let_go`].
    Hold(usize),
}

/// Serves a layout under any repository name, over TLS with a certificate of its own. A test scripts how.
#[derive(Debug)]
pub struct Supplier {
    certificate: String,
    shared: Arc<Shared>,
    held: Mutex<Receiver<()>>,
    go: Sender<()>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    cues: Mutex<Vec<(String, Cue)>>,
    /// Of each request: path, and the range that it asks for.
    requests: Mutex<Vec<(String, Option<String>)>>,
    is_held: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl Supplier {
    /// Serves at this socket, under this name.
    pub fn start(listener: TcpListener, name: &str, layout: &Layout) -> Self {
        let (config, certificate) = tls_as(name);
        let ((is_held, held), (go, wait)) = (channel(), channel());
        let shared = Arc::new(Shared {
            folder: layout.folder().to_owned(),
            cues: Mutex::default(),
            requests: Mutex::default(),
            is_held,
            go: Mutex::new(wait),
        });
        let serving = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, config) = (Arc::clone(&serving), Arc::clone(&config));
                thread::spawn(move || shared.serve(stream, config));
            }
        });
        Self { certificate, shared, held: Mutex::new(held), go }
    }

    /// Its certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What is to happen at the next download of this blob.
    pub fn cue(&self, digest: &str, cue: Cue) {
        lock(&self.shared.cues).push((digest.to_owned(), cue));
    }

    /// Waits until a download waits.
    pub fn wait_for_hold(&self) {
        lock(&self.held).recv_timeout(PATIENCE).expect("a download comes as far as its cue");
    }

    /// Lets a download that waits go on.
    pub fn let_go(&self) {
        // Whoever waited may be gone.
        let _ = self.go.send(());
    }

    /// How this blob was asked for so far: the ranges, in order.
    pub fn ranges_of(&self, digest: &str) -> Vec<Option<String>> {
        let path = format!("/blobs/{digest}");
        let requests = lock(&self.shared.requests);
        requests.iter().filter(|(own, _)| own.ends_with(&path)).map(|(_, range)| range.clone()).collect()
    }
}

/// What serves TLS under this name, and the certificate, as PEM, that has to be trusted for it.
pub(crate) fn tls_as(name: &str) -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate can be made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("the certificate fits its key");
    (Arc::new(config), made.cert.pem())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// One request; an error is a client that went away.
    fn serve(&self, stream: TcpStream, config: Arc<ServerConfig>) {
        let served = || -> io::Result<()> {
            stream.set_read_timeout(Some(PATIENCE))?;
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            let (path, range) = read_head(&mut stream)?;
            lock(&self.requests).push((path.clone(), range.clone()));
            self.answer(&mut stream, &path, range.as_deref())?;
            stream.conn.send_close_notify();
            stream.flush()
        };
        let _ = served();
    }

    fn answer(&self, stream: &mut impl io::Write, path: &str, range: Option<&str>) -> io::Result<()> {
        let mut segments = path.rsplit('/');
        let (last, kind) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let found = match kind {
            "manifests" => self.manifest(last),
            "blobs" => self.blob(last).map(|content| (content, "application/octet-stream".to_owned())),
            _ => None,
        };
        let Some((content, media_type)) = found else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        };
        let whole = content.len();
        let start: usize = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
        let content = &content[start.min(whole)..];
        let status = if start == 0 {
            "200 OK".to_owned()
        } else {
            format!("206 Partial Content\r\ncontent-range: bytes {start}-{}/{whole}", whole - 1)
        };
        let length = content.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        match self.take_cue(last) {
            None => stream.write_all(content),
            Some(Cue::Break(bytes)) => {
                stream.write_all(&content[..bytes.min(length)])?;
                stream.flush()?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Some(Cue::Hold(bytes)) => {
                let (first, rest) = content.split_at(bytes.min(length));
                stream.write_all(first)?;
                stream.flush()?;
                let _ = self.is_held.send(());
                let _ = lock(&self.go).recv_timeout(PATIENCE);
                stream.write_all(rest)
            }
        }
    }

    fn take_cue(&self, digest: &str) -> Option<Cue> {
        let mut cues = lock(&self.cues);
        let at = cues.iter().position(|(own, _)| own == digest)?;
        Some(cues.remove(at).1)
    }

    /// A manifest by tag or digest, and its media type.
    fn manifest(&self, reference: &str) -> Option<(Vec<u8>, String)> {
        let index: Value = serde_json::from_slice(&fs::read(self.folder.join("index.json")).ok()?).ok()?;
        let entries = index["manifests"].as_array()?;
        let is_tag = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == reference;
        let digest =
            entries.iter().find(is_tag).map_or(reference, |entry| entry["digest"].as_str().unwrap_or_default());
        let content = self.blob(digest)?;
        let manifest: Value = serde_json::from_slice(&content).ok()?;
        Some((content, manifest["mediaType"].as_str()?.to_owned()))
    }

    fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let name = digest.strip_prefix("sha256:").filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        fs::read(self.folder.join(Path::new("blobs/sha256")).join(name)).ok()
    }
}

/// The path of a request, and the range from where on it wants the content.
fn read_head(stream: &mut impl io::Read) -> io::Result<(String, Option<String>)> {
    let mut lines = BufReader::new(stream.take(MAX_HEAD_BYTES)).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return Ok((path, range));
        }
        let lower = line.to_ascii_lowercase();
        range = lower.strip_prefix("range: bytes=").map(str::to_owned).or(range);
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

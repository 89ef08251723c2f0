//! What the machine can do: nginx sending files, hyper saying hello, and a sink that receives, hashes and writes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};

use crate::process::{Server, Starter, free_address};
use crate::site::Site;

/// Line by which the own servers tell their address.
const READY: &str = "listening on ";
/// As long as a small manifest.
const HELLO_BYTES: usize = 1024;
const SINK_BUFFER_BYTES: usize = 256 << 10;
const MAX_LINE_BYTES: u64 = 16 << 10;

/// One of the own servers: this program, run again.
pub(crate) fn own(starter: Starter<'_>, name: &'static str, folder: &Path) -> Result<(Server, Site)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(name).arg(folder);
    let (server, line) = starter.start_until(name, &mut command, READY)?;
    let site = Site::new(line.parse().with_context(|| format!("{name} listens on `{line}`"))?);
    Ok((server, site))
}

/// hyper on one thread, with an answer of a kibibyte.
pub(crate) fn hello() -> Result<()> {
    let body = Bytes::from(vec![b'x'; HELLO_BYTES]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let body = body.clone();
                async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(body))) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// Takes whatever is sent into a new file, which is on disk, hashed, before the answer.
pub(crate) fn sink(folder: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce(listener.local_addr()?)?;
    let folder: PathBuf = folder.into();
    loop {
        let (stream, _) = listener.accept()?;
        let folder = folder.clone();
        // A connection that breaks off is the client's affair.
        thread::spawn(move || take_all(stream, &folder));
    }
}

fn take_all(stream: TcpStream, folder: &Path) -> Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(SINK_BUFFER_BYTES, stream);
    while let Some(length) = announced_length(&mut reader)? {
        let path = folder.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let mut file = File::create(path)?;
        let mut hash = Sha256::new();
        let mut left = length;
        while left > 0 {
            let piece = reader.fill_buf()?;
            let piece = piece.get(..usize::try_from(left)?.min(piece.len())).unwrap_or_default();
            if piece.is_empty() {
                return Ok(());
            }
            hash.update(piece);
            file.write_all(piece)?;
            let taken = piece.len();
            left -= taken as u64;
            reader.consume(taken);
        }
        std::hint::black_box(hash.finalize());
        file.sync_all()?;
        answers.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Reads the head of a request; `None` at the end of the connection.
fn announced_length(reader: &mut BufReader<TcpStream>) -> Result<Option<u64>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.take(MAX_LINE_BYTES).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(length));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
}

#[expect(clippy::print_stdout, reason = "this line is what the starting process waits for")]
fn announce(address: SocketAddr) -> Result<()> {
    println!("{READY}{address}");
    Ok(std::io::stdout().flush()?)
}

/// nginx with static files, plain and over TLS.
pub(crate) struct Nginx {
    pub(crate) server: Server,
    pub(crate) plain: Site,
    pub(crate) tls: Site,
}

impl Nginx {
    /// Serves the folder `files`, one worker.
    pub(crate) fn start(starter: Starter<'_>, program: &Path, folder: &Path, files: &Path) -> Result<Self> {
        let (plain, tls) = (free_address()?, free_address()?);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate_file, certificate.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_config(folder, files, plain, tls))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(&config).arg("-e").arg(folder.join("error.log"));
        let mut server = starter.start("nginx", &mut command)?;
        server.listening(plain)?;
        let plain = Site::new(plain);
        let tls = plain.over_tls(&certificate_file, Some(tls.port()))?;
        Ok(Self { server, plain, tls })
    }
}

fn nginx_config(folder: &Path, files: &Path, plain: SocketAddr, tls: SocketAddr) -> String {
    let (folder, files) = (folder.display(), files.display());
    // As root, the worker would become somebody who may not read the folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen {plain}; root {files}; }}
  server {{
    listen {tls} ssl; root {files}; ssl_protocols TLSv1.3; ssl_session_cache shared:s:1m;
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
  }}
}}
"
    )
}

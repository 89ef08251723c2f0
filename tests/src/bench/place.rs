//! A machine in one of the bench's networks.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sandbox;
use crate::Command;

/// A connection within the bench takes a moment, or is dropped on the way.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The file of certificates that every program inside trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A machine in one of the bench's networks. Copies are the same machine.
#[derive(Clone, Debug)]
pub struct Place(Arc<Machine>);

#[derive(Debug)]
struct Machine {
    name: String,
    addresses: Vec<IpAddr>,
    /// Keeps the machine's mount table.
    holder: Child,
}

/// Keeps a mount table until its input ends. Settings are links in a folder of the machine's own.
const HOLD: &str = r#"
set -e
mount --bind "$1/hosts" "$(readlink --canonicalize /etc/hosts)"
mount --bind "$1/resolv.conf" "$(readlink --canonicalize /etc/resolv.conf)"
echo held
exec cat
"#;

impl Place {
    /// The machine in the network namespace of this name.
    pub(super) fn new(name: &str, addresses: Vec<IpAddr>) -> Self {
        let folder = sandbox::path("places").join(name);
        fs::create_dir_all(&folder).expect("the bench has a folder");
        for (file, content) in [("hosts", LOCAL_HOSTS), ("resolv.conf", "")] {
            fs::write(folder.join(file), content).expect("the bench's folder can be written");
        }
        let mut holder = std::process::Command::new("nsenter")
            .arg(format!("--net=/run/netns/{name}"))
            .args(["--", "unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", HOLD, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter can be started");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line, "held\n", "the mount table of `{name}` cannot be made");
        Self(Arc::new(Machine { name: name.to_owned(), addresses, holder }))
    }

    /// Its name, which is also the name of its network namespace.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        *self.0.addresses.first().expect("a machine has an address")
    }

    /// A program that runs there, with the place's names and addresses, and trusts the bench's authority.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Go, curl and podman read the system's file; these have lists of their own.
        ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE"]
            .iter()
            .fold(Command::new(program), |command, name| command.env(name, AUTHORITIES))
            .env("TMPDIR", std::env::temp_dir())
            .within(self)
    }

    /// curl. It prints the body; errors of HTTP do not make it fail.
    pub fn curl(&self) -> Command {
        self.command(crate::tool("curl")).args(["--silent", "--show-error", "--max-time", "50"])
    }

    /// Runs a part of the test on a thread of this machine: sockets that it makes are the machine's, wherever they are used
    /// afterwards. A failure in there is a failure of the test.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = self.network_namespace();
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(&namespace).expect("the place has a network namespace");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap_or_else(|error| panic!("cannot enter `{}`: {error}", self.name()));
                act()
            });
            thread.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure))
        })
    }

    /// A connection from there.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&to, CONNECT_LIMIT))
    }

    /// A socket that listens there.
    pub fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        self.enter(|| TcpListener::bind(at))
    }

    /// The addresses that a program there finds for a name, as the system's resolver says.
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let found = self.command("getent").args(["ahosts", name]).run();
        let mut addresses: Vec<IpAddr> =
            found.stdout.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        addresses.dedup();
        addresses
    }

    /// Path of its network namespace, which a server's configuration may name.
    pub fn network_namespace(&self) -> PathBuf {
        format!("/run/netns/{}", self.name()).into()
    }

    /// What runs a program there: with it and its arguments behind.
    pub(crate) fn entrance(&self) -> [String; 4] {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.0.holder.id());
        ["nsenter".to_owned(), format!("--net={}", self.network_namespace().display()), mounts, "--".to_owned()]
    }

    /// The address that it asks for names.
    pub(super) fn set_resolver(&self, resolver: IpAddr) {
        self.set_file("resolv.conf", &format!("nameserver {resolver}\noptions timeout:2 attempts:3\n"));
    }

    /// A name that this machine knows by itself.
    pub fn add_host(&self, name: &str, address: IpAddr) {
        let path = sandbox::path("places").join(self.name()).join("hosts");
        let known = fs::read_to_string(path).expect("the bench's folder can be read");
        self.set_file("hosts", &format!("{known}{address} {name}\n"));
    }

    fn set_file(&self, file: &str, content: &str) {
        let path = sandbox::path("places").join(self.name()).join(file);
        fs::write(path, content).expect("the bench's folder can be written");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

const LOCAL_HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

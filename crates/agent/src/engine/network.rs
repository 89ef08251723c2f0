use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::process::command;

/// Brings the loopback up and holds the namespace until it is killed.
const HOLD: &str = "ip link set lo up && echo ready && exec sleep infinity";

/// A network with nothing but its own loopback. It goes away with the value.
pub(crate) struct PrivateNetwork {
    holder: Child,
    id: u32,
}

impl PrivateNetwork {
    /// Makes one.
    pub(crate) async fn new() -> io::Result<Self> {
        let mut unshare = command("unshare");
        unshare.args(["--net", "sh", "-c", HOLD]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut holder = unshare.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await?;
        }
        let id = holder.id().filter(|_| line == "ready\n");
        let id = id.ok_or_else(|| io::Error::other("a network namespace of its own could not be made"))?;
        Ok(Self { holder, id })
    }

    /// Where containers find it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.id).into()
    }

    /// A socket in it that this process accepts on.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let namespace = File::open(self.path())?;
        // A thread's namespace is its own: this one ends with it.
        let bound = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        });
        bound.join().map_err(|_| io::Error::other("a socket could not be made"))?
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn end(mut self) {
        let _ = self.holder.kill().await;
    }
}

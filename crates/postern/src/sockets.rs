//! Sockets on an interface or in a network namespace: the same address range exists in every virtual network, so that a place
//! is told by where its socket is, not by its prefix.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Where a socket is: on every interface of the server's own namespace, unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    interface: Option<Arc<str>>,
    namespace: Option<Arc<Path>>,
}

impl Scope {
    pub(crate) fn new(interface: Option<&str>, namespace: Option<&Path>) -> Self {
        Self { interface: interface.map(Into::into), namespace: namespace.map(Into::into) }
    }

    /// Whether it is the server's own namespace, on every interface.
    pub(crate) const fn is_default(&self) -> bool {
        self.interface.is_none() && self.namespace.is_none()
    }

    /// Listens for connections. To be called within the runtime.
    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(address, Type::STREAM, Protocol::TCP)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    /// Receives datagrams. To be called within the runtime.
    pub(crate) fn receive(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::from_std(self.socket(address, Type::DGRAM, Protocol::UDP)?.into())
    }

    /// A bound socket.
    fn socket(&self, address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        self.within(|| {
            let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
            socket.set_nonblocking(true)?;
            if kind == Type::STREAM {
                socket.set_reuse_address(true)?;
            }
            // Before the address: then no privilege is needed, and the same address on another interface is no conflict.
            if let Some(interface) = &self.interface {
                socket.bind_device(Some(interface.as_bytes()))?;
            }
            socket.bind(&address.into())?;
            Ok(socket)
        })
    }

    /// Makes something in the namespace: a socket stays in the one that it was made in.
    fn within<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Some(namespace) = &self.namespace else { return make() };
        // Of its own, because a thread that has moved cannot be given back.
        let moved = || {
            let link = std::fs::File::open(namespace)?;
            move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        };
        std::thread::scope(|scope| scope.spawn(moved).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace ended early")))
    }
}

impl std::fmt::Display for Scope {
    /// Follows an address: nothing for the default.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(interface) = &self.interface {
            write!(f, " on {interface}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " in {}", namespace.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_bound_to_its_interface() {
        let scope = Scope::new(Some("lo"), None);
        let listener = scope.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        // Without the interface the address is taken: this listener would get the same connections.
        assert_eq!(Scope::default().listen(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        assert_eq!(accepted.unwrap().1, client.unwrap().local_addr().unwrap());
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused() {
        let address = "127.0.0.1:0".parse().unwrap();
        for scope in [
            Scope::new(Some("no-such-device"), None),
            Scope::new(None, Some(Path::new("/run/netns/no-such-namespace"))),
            Scope::new(None, Some(Path::new("/dev/null"))),
        ] {
            assert!(scope.listen(address).is_err(), "tcp{scope}");
            assert!(scope.receive(address).is_err(), "udp{scope}");
        }
    }
}

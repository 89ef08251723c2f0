use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Server;
use super::connection::Hold;
use crate::proxies::{PREFIX_BYTES, Proxied, Proxy, Sender, header_length, read_header};
use crate::sockets::Scope;

/// Bound sockets, the first of which gives the server its port.
pub(crate) struct Listeners(Vec<Bound>);

struct Bound {
    listener: TcpListener,
    scope: Scope,
    /// The configured address of a listener that is for proxies only.
    proxies: Option<SocketAddr>,
}

/// Where a connection was accepted, and from whom.
struct Accepted {
    scope: Scope,
    proxies: Option<SocketAddr>,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
}

/// A connection that cannot be accepted (out of files, say) is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Ports tried when port 0 was asked for and a private endpoint's address has that port taken.
const PORT_TRIES: usize = 16;

/// Binds the addresses, and those of places on the first one's port: a registry's name has one port wherever it resolves to.
/// Proxies have ports of their own.
pub(crate) fn bind(
    addresses: &[SocketAddr],
    places: &[(Scope, IpAddr)],
    proxies: &[SocketAddr],
) -> anyhow::Result<Listeners> {
    let (first, rest) = addresses.split_first().context("no address to listen on")?;
    let mut refusal = None;
    for _ in 0..PORT_TRIES {
        let primary = Bound::new(Scope::default(), *first)?;
        let port = primary.listener.local_addr()?.port();
        match bind_all(port, rest, places) {
            Ok(mut others) => {
                others.insert(0, primary);
                for address in proxies {
                    others.push(Bound { proxies: Some(*address), ..Bound::new(Scope::default(), *address)? });
                }
                return Ok(Listeners(others));
            }
            Err(error) if first.port() == 0 => refusal = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refusal.unwrap_or_else(|| anyhow::anyhow!("no free port")))
}

fn bind_all(port: u16, rest: &[SocketAddr], places: &[(Scope, IpAddr)]) -> anyhow::Result<Vec<Bound>> {
    let on_port =
        |address: &SocketAddr| if address.port() == 0 { SocketAddr::new(address.ip(), port) } else { *address };
    let rest = rest.iter().map(|address| (Scope::default(), on_port(address)));
    let places = places.iter().map(|(scope, address)| (scope.clone(), SocketAddr::new(*address, port)));
    rest.chain(places).map(|(scope, address)| Bound::new(scope, address)).collect()
}

impl Bound {
    fn new(scope: Scope, address: SocketAddr) -> anyhow::Result<Self> {
        let listener = scope.listen(address).with_context(|| format!("cannot listen on {address}{scope}"))?;
        Ok(Self { listener, scope, proxies: None })
    }
}

impl Listeners {
    /// The addresses that were bound, the server's own first.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(|bound| bound.listener.local_addr()).collect()
    }

    /// Serves until `stop` turns true, then waits for open requests, at most `patience`.
    pub(crate) async fn serve(self, server: Arc<Server>, mut stop: watch::Receiver<bool>, patience: Duration) {
        let slots = Arc::new(Semaphore::new(server.bounds.connections));
        let mut accepting = JoinSet::new();
        for bound in self.0 {
            accepting.spawn(accept_all(bound, Arc::clone(&server), stop.clone(), Arc::clone(&slots)));
        }
        let _ = stop.wait_for(|stop| *stop).await;
        server.operations.draining();
        accepting.shutdown().await;
        // Every connection, and what is tunnelled through it, holds one of the slots: with all of them nothing is open any more.
        let all = u32::try_from(server.bounds.connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(patience, slots.acquire_many(all)).await.is_err() {
            tracing::warn!("requests were still open when the shutdown's patience ended");
        }
    }
}

async fn accept_all(bound: Bound, server: Arc<Server>, stop: watch::Receiver<bool>, slots: Arc<Semaphore>) {
    let Bound { listener, scope, proxies } = bound;
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let server = Arc::clone(&server);
        let accepted = Accepted { scope: scope.clone(), proxies, peer, slot, stop: stop.clone() };
        tokio::spawn(async move {
            if let Err(error) = accept(server, stream, accepted).await {
                tracing::debug!(peer.address = %peer, error = %error, "connection ended");
            }
        });
    }
}

async fn accept(server: Arc<Server>, mut stream: TcpStream, from: Accepted) -> anyhow::Result<()> {
    const TLS_HANDSHAKE: u8 = 0x16;
    let local = stream.local_addr()?;
    let arrival = match server.proxies.sender(from.proxies, &from.scope, from.peer.ip()) {
        Sender::Client => server.places.locate(&from.scope, local, from.peer),
        Sender::Stranger => anyhow::bail!("only proxies may connect to {local}"),
        Sender::Proxy(proxy) => {
            let said = introduced(&server, &mut stream, &proxy).await?;
            server.places.behind(&proxy, from.peer.ip(), &said)
        }
    };
    // A proxy is not its clients: each of them is counted by itself, now that it is known who it is.
    let Some(seat) = server.sources.enter(arrival.address) else {
        // One line for each would be what a flood is for.
        metrics::counter!("postern_connections_refused_total").increment(1);
        return Ok(());
    };
    let hold = Hold::new(from.slot, seat, from.stop);
    stream.set_nodelay(true)?;
    let mut first = [0];
    let seen =
        tokio::time::timeout(server.bounds.handshake, stream.peek(&mut first)).await.context("nothing sent")??;
    match (seen, first) {
        (0, _) => Ok(()),
        (_, [TLS_HANDSHAKE]) => Box::pin(server.tls(Box::new(stream), arrival, None, hold)).await,
        // Clients speak plain HTTP to `localhost`; nothing else ever gets it.
        _ if arrival.loopback => Box::pin(server.plain(Box::new(stream), arrival, hold)).await,
        _ => Ok(()),
    }
}

/// Reads what a proxy says before anything else. Without it the connection is nobody's, and ends.
async fn introduced(server: &Server, stream: &mut TcpStream, proxy: &Proxy) -> anyhow::Result<Proxied> {
    let reading = async {
        let mut prefix = [0; PREFIX_BYTES];
        stream.read_exact(&mut prefix).await?;
        let mut header = prefix.to_vec();
        header.resize(header_length(&prefix)?, 0);
        stream.read_exact(header.get_mut(PREFIX_BYTES..).unwrap_or_default()).await?;
        anyhow::Ok(read_header(&header)?)
    };
    let late = |_| Err(anyhow::anyhow!("the header took too long"));
    let read = tokio::time::timeout(server.bounds.handshake, reading).await.unwrap_or_else(late);
    let outcome = match &read {
        Ok(Proxied::Client { .. }) => "client",
        Ok(Proxied::Local) => "local",
        Err(_) => "refused",
    };
    let labels = [("proxy", proxy.name.to_string()), ("outcome", outcome.to_owned())];
    metrics::counter!("postern_proxied_connections_total", &labels).increment(1);
    read.with_context(|| format!("proxy `{}`", proxy.name)).inspect_err(|error| {
        // Whoever looks whether the port is open says nothing and goes. Otherwise only a configured proxy gets here, and it is set up
        // differently from what the configuration says.
        if !error.is::<io::Error>() {
            tracing::warn!(proxy.name = %proxy.name, error = format!("{error:#}"), "a proxy's connection is refused");
        }
    })
}

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Server;
use super::connection::Hold;
use crate::sockets::Scope;

/// Bound sockets, the first of which gives the server its port.
pub(crate) struct Listeners(Vec<Bound>);

struct Bound {
    listener: TcpListener,
    scope: Scope,
}

/// A connection that cannot be accepted (out of files, say) is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Ports tried when port 0 was asked for and a private endpoint's address has that port taken.
const PORT_TRIES: usize = 16;

/// Binds the addresses, and those of places on the first one's port: a registry's name has one port wherever it resolves to.
pub(crate) fn bind(addresses: &[SocketAddr], places: &[(Scope, IpAddr)]) -> anyhow::Result<Listeners> {
    let (first, rest) = addresses.split_first().context("no address to listen on")?;
    let mut refusal = None;
    for _ in 0..PORT_TRIES {
        let primary = Bound::new(Scope::default(), *first)?;
        let port = primary.listener.local_addr()?.port();
        match bind_all(port, rest, places) {
            Ok(mut others) => {
                others.insert(0, primary);
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
        Ok(Self { listener, scope })
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
    let Bound { listener, scope } = bound;
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
        let Some(seat) = server.sources.enter(peer.ip()) else {
            // One line for each would be what a flood is for.
            metrics::counter!("postern_connections_refused_total").increment(1);
            continue;
        };
        let hold = Hold::new(slot, seat, stop.clone());
        let (server, scope) = (Arc::clone(&server), scope.clone());
        tokio::spawn(async move {
            if let Err(error) = accept(server, stream, (&scope, peer), hold).await {
                tracing::debug!(peer.address = %peer, error = %error, "connection ended");
            }
        });
    }
}

async fn accept(
    server: Arc<Server>,
    stream: TcpStream,
    (scope, peer): (&Scope, SocketAddr),
    hold: Hold,
) -> anyhow::Result<()> {
    const TLS_HANDSHAKE: u8 = 0x16;
    stream.set_nodelay(true)?;
    let arrival = server.places.locate(scope, stream.local_addr()?, peer);
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

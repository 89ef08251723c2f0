//! The sockets that questions come to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::message::{MAX_QUESTION_BYTES, Transport, respond};
use super::{Answer, Dns};
use crate::sockets::Scope;

/// Connections open at once on one address; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// Questions answered on one connection.
const MAX_QUESTIONS: usize = 64;
/// How long a connection may take to ask the next question and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A socket that fails (out of files, say) is used again after this.
const PAUSE: Duration = Duration::from_millis(50);
/// Ports tried when port 0 was asked for and is free for datagrams only.
const PORT_TRIES: usize = 16;

/// Bound sockets.
pub(crate) struct Responder(Vec<Pair>);

/// Both ways to ask at one address.
struct Pair {
    scope: Scope,
    datagrams: UdpSocket,
    connections: TcpListener,
}

impl Responder {
    /// Binds the addresses, and those of places where they are.
    pub(crate) fn bind(addresses: &[SocketAddr], places: &[(Scope, SocketAddr)]) -> anyhow::Result<Self> {
        let own = addresses.iter().map(|address| (Scope::default(), *address));
        let all = own.chain(places.iter().cloned());
        let pair = |(scope, address): (Scope, SocketAddr)| {
            Pair::bind(&scope, address).with_context(|| format!("cannot answer where names lead on {address}{scope}"))
        };
        Ok(Self(all.map(pair).collect::<anyhow::Result<_>>()?))
    }

    /// The addresses that were bound.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(|pair| pair.datagrams.local_addr()).collect()
    }

    /// Answers until told to stop.
    pub(crate) fn serve(self, dns: Arc<Dns>) -> Vec<AbortHandle> {
        let each = self.0.into_iter().flat_map(|Pair { scope, datagrams, connections }| {
            let receiving = tokio::spawn(receive(datagrams, scope.clone(), Arc::clone(&dns)));
            let accepting = tokio::spawn(accept(connections, scope, Arc::clone(&dns)));
            [receiving.abort_handle(), accepting.abort_handle()]
        });
        each.collect()
    }
}

impl Pair {
    fn bind(scope: &Scope, address: SocketAddr) -> io::Result<Self> {
        let mut refusal = None;
        for _ in 0..PORT_TRIES {
            let datagrams = scope.receive(address)?;
            match scope.listen(datagrams.local_addr()?) {
                Ok(connections) => return Ok(Self { scope: scope.clone(), datagrams, connections }),
                Err(error) if address.port() == 0 => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }
}

/// One after the other: an answer takes microseconds, and nothing waits for anything.
async fn receive(socket: UdpSocket, scope: Scope, dns: Arc<Dns>) {
    let mut question = [0; MAX_QUESTION_BYTES];
    loop {
        let (length, asker) = match socket.recv_from(&mut question).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(error = %error, "a datagram cannot be received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let question = question.get(..length).unwrap_or_default();
        if !may_answer(asker) {
            continue;
        }
        if let Some(answer) = dns.respond(&scope, asker.ip(), question, Transport::Datagram)
            && let Err(error) = socket.send_to(&answer, asker).await
        {
            tracing::debug!(peer.address = %asker, error = %error, "an answer cannot be sent");
        }
    }
}

async fn accept(listener: TcpListener, scope: Scope, dns: Arc<Dns>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (stream, asker) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(error = %error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (scope, dns) = (scope.clone(), Arc::clone(&dns));
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = converse(stream, &scope, asker.ip(), &dns).await {
                tracing::debug!(peer.address = %asker, error = %error, "connection ended");
            }
        });
    }
}

/// Answers the questions of a connection, each of which follows its length.
async fn converse(mut stream: TcpStream, scope: &Scope, asker: IpAddr, dns: &Dns) -> io::Result<()> {
    for _ in 0..MAX_QUESTIONS {
        let turn = async {
            let length = usize::from(stream.read_u16().await?);
            if length > MAX_QUESTION_BYTES {
                return Ok(false);
            }
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await?;
            let Some(answer) = dns.respond(scope, asker, &question, Transport::Connection) else { return Ok(false) };
            let Ok(length) = u16::try_from(answer.len()) else { return Ok(false) };
            stream.write_all(&[length.to_be_bytes().as_slice(), &answer].concat()).await?;
            Ok::<_, io::Error>(true)
        };
        match tokio::time::timeout(PATIENCE, turn).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Nobody is at such an address: an answer to it would hit everybody, or nobody.
fn may_answer(asker: SocketAddr) -> bool {
    let ip = asker.ip().to_canonical();
    let everybody = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    asker.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !everybody
}

impl Dns {
    fn respond(&self, scope: &Scope, asker: IpAddr, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        respond(&self.zone, question, transport, |asked| {
            let answer = self.answer(scope, asker, asked);
            let outcome = match &answer {
                Answer::Refused => "refused",
                Answer::NoSuchName => "noSuchName",
                Answer::Nothing => "nothing",
                Answer::Addresses { .. } => "addresses",
            };
            metrics::counter!("postern_dns_answers_total", "outcome" => outcome).increment(1);
            answer
        })
    }
}

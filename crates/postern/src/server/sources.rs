//! What one source of connections may take at once, so that it cannot take all there is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use postern_model::source_of;
use tokio::sync::{Semaphore, SemaphorePermit};

/// TLS handshakes of one source at once; further ones wait for their turn, and the time counts.
pub(super) const HANDSHAKES_PER_SOURCE: usize = 256;

/// The open connections by source.
#[derive(Debug)]
pub(crate) struct Sources {
    most: usize,
    open: Mutex<HashMap<IpAddr, Arc<Source>>>,
}

#[derive(Debug)]
struct Source {
    handshakes: Semaphore,
}

/// A connection's place among those of its source. Given back on drop.
#[derive(Debug)]
pub(super) struct Seat {
    sources: Arc<Sources>,
    network: IpAddr,
    source: Arc<Source>,
}

impl Sources {
    /// `most`: connections of one source.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// A place for one more connection, unless the source has all of its own.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let network = source_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Source { handshakes: Semaphore::new(HANDSHAKES_PER_SOURCE) });
        let source = Arc::clone(open.entry(network).or_insert_with(fresh));
        // Every seat holds its source, and so do the map and this function.
        let taken = Arc::strong_count(&source).saturating_sub(2);
        (taken < self.most).then(|| Seat { sources: Arc::clone(self), network, source })
    }
}

impl Seat {
    /// Waits until the source may begin another handshake.
    pub(super) async fn handshake(&self) -> Option<SemaphorePermit<'_>> {
        self.source.handshakes.acquire().await.ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.sources.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map and this seat: nobody of the source is left.
        if Arc::strong_count(&self.source) <= 2 {
            open.remove(&self.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_takes_its_own_places_and_no_others() {
        let sources = Sources::new(2);
        let enter = |address: &str| sources.enter(address.parse().unwrap());
        let (first, second) = (enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none());
        let other = enter("192.0.2.2").unwrap();
        drop(first);
        let third = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        drop((second, third, other));
        assert!(sources.open.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let sources = Sources::new(1);
        let _seat = sources.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(sources.enter("2001:db8::ffff:1".parse().unwrap()).is_none());
        assert!(sources.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}

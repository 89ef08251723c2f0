use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

/// How many version counters a cache has. Keys that share one only cost each other a reload.
const VERSIONS: usize = 4096;

/// A bounded cache that never serves what an acknowledged write replaced.
///
/// Every key has a version. A reader takes it before it reads the database and stores it with the value; a writer raises
/// it after its commit and before it answers. A value is served only while its version is the current one.
///
/// INVARIANT: a value read before a commit carries a version from before that commit's [`forget`](Self::forget).
pub(crate) struct Coherent<K, V> {
    versions: Box<[AtomicU64]>,
    hasher: RandomState,
    values: Cache<K, (u64, V)>,
}

/// The version of a key at the time a read began.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

impl<K, V> Coherent<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of so many units, where `weigh` says how many a value takes.
    pub(crate) fn new(capacity: u64, weigh: fn(&V) -> u32) -> Self {
        Self {
            versions: (0..VERSIONS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            values: Cache::builder().max_capacity(capacity).weigher(move |_, (_, value)| weigh(value)).build(),
        }
    }

    fn version(&self, key: &K) -> &AtomicU64 {
        static NEVER: AtomicU64 = AtomicU64::new(0);
        let hash = usize::try_from(self.hasher.hash_one(key) % VERSIONS as u64).unwrap_or(0);
        self.versions.get(hash).unwrap_or(&NEVER)
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let (version, value) = self.values.get(key)?;
        (version == self.version(key).load(Ordering::SeqCst)).then_some(value)
    }

    /// To be taken before the database is read.
    pub(crate) fn ticket(&self, key: &K) -> Ticket {
        Ticket(self.version(key).load(Ordering::SeqCst))
    }

    pub(crate) fn fill(&self, ticket: Ticket, key: K, value: V) {
        self.values.insert(key, (ticket.0, value));
    }

    /// To be called after a commit that changed the key and before anyone is told of it.
    pub(crate) fn forget(&self, key: &K) {
        self.version(key).fetch_add(1, Ordering::SeqCst);
        self.values.invalidate(key);
    }

    pub(crate) fn forget_all(&self) {
        for version in &self.versions {
            version.fetch_add(1, Ordering::SeqCst);
        }
        self.values.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_write_is_not_served_after_it() {
        let cache: Coherent<u32, &str> = Coherent::new(10, |_| 1);
        let ticket = cache.ticket(&1);
        cache.fill(ticket, 1, "old");
        assert_eq!(cache.get(&1), Some("old"));

        let slow_reader = cache.ticket(&1);
        cache.forget(&1);
        assert_eq!(cache.get(&1), None);
        cache.fill(slow_reader, 1, "old");
        assert_eq!(cache.get(&1), None, "the slow reader's value is from before the write");

        let ticket = cache.ticket(&1);
        cache.fill(ticket, 1, "new");
        assert_eq!(cache.get(&1), Some("new"));
        cache.forget_all();
        assert_eq!(cache.get(&1), None);
    }
}

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

/// How many version counters a cache has. Keys that share one only cost each other a reload.
const VERSIONS: usize = 4096;

/// A bounded cache that never serves what an acknowledged write replaced.
///
/// Every key has a version, its own or that of what it is a part of. A reader takes it before it reads the database and stores it with the value; a writer raises
/// it after its commit and before it answers. A value is served only while its version is the current one.
///
/// INVARIANT: a value read before a commit carries a version from before that commit's [`forget`](Self::forget).
pub(crate) struct Coherent<K, V> {
    versions: Box<[AtomicU64]>,
    hasher: RandomState,
    values: Cache<K, (u64, V)>,
}

/// A key of a cache.
pub(crate) trait CacheKey: Hash + Eq + Send + Sync + 'static {
    /// What has the version: the key itself, or what it is a part of.
    type Whole: Hash;

    fn whole(&self) -> &Self::Whole;
}

/// The version of a key at the time a read began.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

impl<K, V> Coherent<K, V>
where
    K: CacheKey,
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

    fn version(&self, whole: &K::Whole) -> &AtomicU64 {
        static NEVER: AtomicU64 = AtomicU64::new(0);
        let hash = usize::try_from(self.hasher.hash_one(whole) % VERSIONS as u64).unwrap_or(0);
        self.versions.get(hash).unwrap_or(&NEVER)
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let (version, value) = self.values.get(key)?;
        (version == self.version(key.whole()).load(Ordering::SeqCst)).then_some(value)
    }

    /// To be taken before the database is read.
    pub(crate) fn ticket(&self, key: &K) -> Ticket {
        Ticket(self.version(key.whole()).load(Ordering::SeqCst))
    }

    pub(crate) fn fill(&self, ticket: Ticket, key: K, value: V) {
        self.values.insert(key, (ticket.0, value));
    }

    /// To be called after a commit that changed the key and before anyone is told of it.
    pub(crate) fn forget(&self, key: &K) {
        self.forget_whole(key.whole());
        self.values.invalidate(key);
    }

    /// As [`forget`](Self::forget), for all parts of something. They leave memory when room is needed.
    pub(crate) fn forget_whole(&self, whole: &K::Whole) {
        self.version(whole).fetch_add(1, Ordering::SeqCst);
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

    impl CacheKey for u32 {
        type Whole = Self;

        fn whole(&self) -> &Self {
            self
        }
    }

    impl CacheKey for (u32, u32) {
        type Whole = u32;

        fn whole(&self) -> &u32 {
            &self.0
        }
    }

    #[test]
    fn parts_are_forgotten_with_the_whole() {
        let cache: Coherent<(u32, u32), &str> = Coherent::new(10, |_| 1);
        for key in [(1, 1), (1, 2), (2, 1)] {
            cache.fill(cache.ticket(&key), key, "old");
        }
        let slow_reader = cache.ticket(&(1, 3));
        cache.forget_whole(&1);
        cache.fill(slow_reader, (1, 3), "old");
        assert_eq!([(1, 1), (1, 2), (1, 3), (2, 1)].map(|key| cache.get(&key)), [None, None, None, Some("old")]);
    }

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

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Values by key. Most keys have a single value, and there may be many keys: only those with more pay for a set.
#[derive(Clone, Debug)]
pub(super) struct Index<K, V>(HashMap<K, Values<V>>);

#[derive(Clone, Debug)]
enum Values<V> {
    One(V),
    /// Two or more.
    More(BTreeSet<V>),
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Ord> Index<K, V> {
    /// Adds a value, or replaces the equal one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let values = match self.0.remove(&key) {
            None => Values::One(value),
            Some(Values::One(other)) if other == value => Values::One(value),
            Some(Values::One(other)) => Values::More(BTreeSet::from([other, value])),
            Some(Values::More(mut values)) => {
                values.replace(value);
                Values::More(values)
            }
        };
        self.0.insert(key, values);
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, value: &V)
    where
        K: Borrow<Q>,
    {
        let Some((key, values)) = self.0.remove_entry(key) else { return };
        let left = match values {
            Values::One(other) => (other != *value).then_some(Values::One(other)),
            Values::More(mut values) => {
                values.remove(value);
                if values.len() == 1 { values.pop_first().map(Values::One) } else { Some(Values::More(values)) }
            }
        };
        self.0.extend(left.map(|left| (key, left)));
    }

    /// The values of a key, in order.
    pub(super) fn of<'a, Q: Hash + Eq + ?Sized>(&'a self, key: &Q) -> impl Iterator<Item = &'a V> + use<'a, K, V, Q>
    where
        K: Borrow<Q>,
    {
        let (one, more) = match self.0.get(key) {
            None => (None, None),
            Some(Values::One(value)) => (Some(value), None),
            Some(Values::More(values)) => (None, Some(values)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }

    /// The value of a key that has a single one.
    pub(super) fn only<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self.0.get(key)? {
            Values::One(value) => Some(value),
            Values::More(_) => None,
        }
    }

    pub(super) fn has<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// The key as it is kept, so that equal keys share what they point to.
    pub(super) fn shared(&self, key: K) -> K
    where
        K: Clone,
    {
        self.0.get_key_value(&key).map_or(key.clone(), |(kept, _)| kept.clone())
    }

    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sequence of so many steps with two keys and three values.
    const STEPS: u32 = 4;
    const CHOICES: usize = 2 * 2 * 3;

    #[test]
    fn an_index_is_a_set_of_pairs() {
        for sequence in 0..CHOICES.pow(STEPS) {
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for step in (0..STEPS).map(|at| sequence / CHOICES.pow(at) % CHOICES) {
                let pair = (step / 2 % 2, step / 4);
                if step % 2 == 0 {
                    index.insert(pair.0, pair.1);
                    model.insert(pair);
                } else {
                    index.remove(&pair.0, &pair.1);
                    model.remove(&pair);
                }
            }
            for key in 0..2 {
                let values: Vec<usize> = model.iter().filter(|pair| pair.0 == key).map(|pair| pair.1).collect();
                assert_eq!(index.of(&key).copied().collect::<Vec<_>>(), values, "{sequence}");
                assert_eq!(index.only(&key).copied(), values.first().copied().filter(|_| values.len() == 1));
                assert_eq!(
                    (index.has(&key), index.keys().any(|&kept| kept == key)),
                    (!values.is_empty(), !values.is_empty())
                );
            }
        }
    }
}

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Recorder;

/// Something that a client can find again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The bootstrap file's secret.
    Bootstrap,
    /// A resource document by id; its fate is a text that the document holds.
    Resource(String),
    /// The admin user's password by slot.
    Password(String),
    /// A blob by repository and digest.
    Blob(String, String),
    /// A manifest by repository and digest.
    Manifest(String, String),
    /// A tag by repository and name; its fate is a digest.
    Tag(String, String),
    /// An open upload by repository and id; its fate is how many bytes it has at least.
    Upload(String, String),
}

/// What a key must lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To this.
    Is(String),
    /// To nothing.
    Gone,
    /// To anything.
    Free,
}

/// One request's changes.
type Changes = Vec<(Key, Fate)>;

/// What was asked for and what was acknowledged, in order. With a recorder both are noted in its log.
pub struct History {
    recorder: Option<Arc<Recorder>>,
    requests: Mutex<Vec<Changes>>,
    live: Mutex<Expectations>,
}

impl History {
    /// Nothing yet.
    pub fn new(recorder: Option<Arc<Recorder>>) -> Self {
        Self { recorder, requests: Mutex::default(), live: Mutex::default() }
    }

    /// Before a request: from now on it may happen.
    pub fn begin(&self, changes: Changes) -> u64 {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).begin(&changes);
        requests.push(changes);
        let number = requests.len() as u64 - 1;
        if let Some(recorder) = &self.recorder {
            recorder.mark(2 * number);
        }
        number
    }

    /// After its answer: from now on it must have happened.
    pub fn acknowledge(&self, number: u64) {
        if let Some(recorder) = &self.recorder {
            recorder.mark(2 * number + 1);
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = &requests[usize::try_from(number).expect("a number fits")];
        self.live.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(changes);
    }

    /// Something that has happened already.
    pub fn note(&self, changes: Changes) {
        let number = self.begin(changes);
        self.acknowledge(number);
    }

    /// What must hold now.
    pub fn expectations(&self) -> Expectations {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a note of the log into account.
    pub fn replay(&self, expectations: &mut Expectations, mark: u64) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = &requests[usize::try_from(mark / 2).expect("a number fits")];
        if mark.is_multiple_of(2) { expectations.begin(changes) } else { expectations.acknowledge(changes) }
    }
}

/// What must hold at some moment.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    acknowledged: BTreeMap<Key, Fate>,
    /// What was asked for since: it may have happened.
    possible: BTreeMap<Key, Vec<Fate>>,
}

impl Expectations {
    fn begin(&mut self, changes: &Changes) {
        for (key, fate) in changes {
            self.possible.entry(key.clone()).or_default().push(fate.clone());
        }
    }

    fn acknowledge(&mut self, changes: &Changes) {
        for (key, fate) in changes {
            self.possible.remove(key);
            self.acknowledged.insert(key.clone(), fate.clone());
        }
    }

    /// Every key that something must be true of, with what may be.
    pub fn all(&self) -> impl Iterator<Item = (&Key, Vec<&Fate>)> {
        self.acknowledged.iter().map(|(key, fate)| {
            let possible = self.possible.get(key).into_iter().flatten();
            (key, std::iter::once(fate).chain(possible).collect())
        })
    }

    /// What was acknowledged of a key.
    pub fn acknowledged(&self, key: &Key) -> Option<&Fate> {
        self.acknowledged.get(key)
    }

    /// How many keys were acknowledged.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether nothing was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }
}

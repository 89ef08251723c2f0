//! Which tags and manifests go, and in which order: a function of what there is.
//!
//! A manifest goes if it has no tag, is old enough, is not locked, refers to nothing, and nobody needs it:
//!
//! | who stays | who stays for its sake |
//! | --- | --- |
//! | an index | what it lists, at any depth |
//! | a subject | its signatures, SBOMs and other referrers, at any depth |
//! | a referrer (because it has a tag or a lock) | its subject: a registry deletes a subject's referrers with it |
//!
//! Referrers never go by themselves: they go with their subject. Whoever lists others goes before them, so that a run that is
//! interrupted, or refused in the middle, leaves nothing behind that lacks a part. Where there is no such order (two whose referrers list
//! the other one) nothing goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use postern_model::{Digest, Tag, Timestamp};

/// A tag that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// Its name.
    pub name: Tag,
    /// When it was last moved or changed.
    pub updated: Timestamp,
    /// Whether it is locked against deletion or writing.
    pub is_locked: bool,
}

/// A manifest that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Its digest.
    pub digest: Digest,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Whether it is locked against deletion or writing.
    pub is_locked: bool,
    /// Whether too little is known of it to delete it: it is in no list, or cannot be read.
    pub is_obscure: bool,
    /// The tags that it has, or will have left.
    pub tags: BTreeSet<Tag>,
    /// What it lists.
    pub children: Vec<Digest>,
    /// What it refers to.
    pub subject: Option<Digest>,
}

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Only what was last changed before this moment.
    pub before: Timestamp,
    /// The newest of them that stay all the same.
    pub keep: usize,
    /// Whether locks are no obstacle.
    pub include_locked: bool,
}

/// The tags that go, newest first.
pub fn tags<'a, E>(
    found: &'a [TagEntry],
    limits: &Limits,
    mut matches: impl FnMut(&Tag) -> Result<bool, E>,
) -> Result<Vec<&'a TagEntry>, E> {
    let mut chosen = Vec::new();
    for tag in found {
        if matches(&tag.name)? && tag.updated < limits.before && (limits.include_locked || !tag.is_locked) {
            chosen.push(tag);
        }
    }
    chosen.sort_by(|one, other| other.updated.cmp(&one.updated).then_with(|| one.name.cmp(&other.name)));
    Ok(chosen.split_off(limits.keep.min(chosen.len())))
}

/// The manifests that go.
#[derive(Debug)]
pub struct Plan<'a> {
    graph: Graph<'a>,
    steps: Vec<Vec<&'a ManifestEntry>>,
}

impl<'a> Plan<'a> {
    /// Plans. `keep` counts what nothing else that would go lists: an index and what it lists are one.
    pub fn new(found: &'a [ManifestEntry], limits: &Limits) -> Self {
        let graph = Graph::new(found);
        let roots: Vec<Digest> = found.iter().filter(|one| graph.is_root(one, limits)).map(|one| one.digest).collect();
        let without = |kept: &[Digest]| {
            let stays = graph.needed(roots.iter().chain(kept).copied());
            let goes = found.iter().filter(|one| may_go(one, limits) && !stays.contains(&one.digest));
            goes.map(|one| (one.digest, one)).collect::<BTreeMap<_, _>>()
        };
        let mut chosen = without(&[]);
        if limits.keep > 0 {
            let listed: HashSet<Digest> = chosen.keys().flat_map(|digest| graph.listed_by(*digest)).collect();
            let mut heads: Vec<_> = chosen.values().filter(|one| !listed.contains(&one.digest)).collect();
            heads.sort_by(|one, other| other.updated.cmp(&one.updated).then_with(|| one.digest.cmp(&other.digest)));
            let kept: Vec<Digest> = heads.iter().take(limits.keep).map(|one| one.digest).collect();
            chosen = without(&kept);
        }
        let steps = graph.in_order(chosen);
        Self { graph, steps }
    }

    /// What goes. The entries of a step may go in any order, after all of the step before.
    pub fn steps(&self) -> &[Vec<&'a ManifestEntry>] {
        &self.steps
    }

    /// What must stay because these stay after all.
    pub fn needed_by(&self, digests: impl IntoIterator<Item = Digest>) -> HashSet<Digest> {
        self.graph.needed(digests)
    }
}

/// Whether the manifest would go if nobody needed it.
fn may_go(entry: &ManifestEntry, limits: &Limits) -> bool {
    entry.subject.is_none() && is_loose(entry, limits) && entry.updated < limits.before
}

fn is_loose(entry: &ManifestEntry, limits: &Limits) -> bool {
    !entry.is_obscure && entry.tags.is_empty() && (limits.include_locked || !entry.is_locked)
}

#[derive(Debug)]
struct Graph<'a> {
    entries: HashMap<Digest, &'a ManifestEntry>,
    referrers: HashMap<Digest, Vec<Digest>>,
}

impl<'a> Graph<'a> {
    fn new(found: &'a [ManifestEntry]) -> Self {
        let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for entry in found {
            if let Some(subject) = entry.subject {
                referrers.entry(subject).or_default().push(entry.digest);
            }
        }
        Self { entries: found.iter().map(|entry| (entry.digest, entry)).collect(), referrers }
    }

    /// Whether the manifest stays whatever becomes of others. What refers to another one here shares its fate.
    fn is_root(&self, entry: &ManifestEntry, limits: &Limits) -> bool {
        !(may_go(entry, limits) || (is_loose(entry, limits) && self.leads_somewhere(entry)))
    }

    /// Whether one subject after the other leads to one that is here and refers to nothing.
    fn leads_somewhere(&self, entry: &ManifestEntry) -> bool {
        let mut seen = HashSet::new();
        let mut next = entry.subject;
        while let Some(subject) = next {
            let Some(found) = self.entries.get(&subject).filter(|_| seen.insert(subject)) else { return false };
            next = found.subject;
        }
        !seen.is_empty()
    }

    /// These, and all that they need to stay.
    fn needed(&self, roots: impl IntoIterator<Item = Digest>) -> HashSet<Digest> {
        let mut needed = HashSet::new();
        let mut open: Vec<Digest> = roots.into_iter().collect();
        while let Some(digest) = open.pop() {
            if !needed.insert(digest) {
                continue;
            }
            open.extend(self.referrers.get(&digest).into_iter().flatten());
            if let Some(entry) = self.entries.get(&digest) {
                open.extend(&entry.children);
                open.extend(entry.subject);
            }
        }
        needed
    }

    /// What the manifest, or what goes with it, lists; and for a referrer among these, what it goes with.
    fn listed_by(&self, digest: Digest) -> HashSet<Digest> {
        let mut with_it = HashSet::new();
        let mut open = vec![digest];
        let mut listed = HashSet::new();
        while let Some(next) = open.pop() {
            if !with_it.insert(next) {
                continue;
            }
            open.extend(self.referrers.get(&next).into_iter().flatten());
            for child in self.entries.get(&next).into_iter().flat_map(|entry| &entry.children) {
                let mut child = Some(*child);
                while let Some(needed) = child.filter(|child| listed.insert(*child)) {
                    child = self.entries.get(&needed).and_then(|entry| entry.subject);
                }
            }
        }
        listed.remove(&digest);
        listed
    }

    /// Whoever lists others first.
    fn in_order(&self, chosen: BTreeMap<Digest, &'a ManifestEntry>) -> Vec<Vec<&'a ManifestEntry>> {
        let listed: HashMap<Digest, HashSet<Digest>> =
            chosen.keys().map(|digest| (*digest, self.listed_by(*digest))).collect();
        let mut waiting: HashMap<Digest, usize> = HashMap::new();
        for digest in listed.values().flatten().filter(|digest| chosen.contains_key(digest)) {
            *waiting.entry(*digest).or_default() += 1;
        }
        let mut left = chosen;
        let mut steps = Vec::new();
        while !left.is_empty() {
            let (step, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
                left.into_iter().partition(|(digest, _)| waiting.get(digest).is_none_or(|count| *count == 0));
            left = rest;
            if step.is_empty() {
                // What lists each other by way of referrers has no safe order: a refusal in the middle would leave one without the other.
                break;
            }
            for digest in step.keys().filter_map(|digest| listed.get(digest)).flatten() {
                if let Some(count) = waiting.get_mut(digest) {
                    *count = count.saturating_sub(1);
                }
            }
            steps.push(step.into_values().collect());
        }
        steps
    }
}

#[cfg(test)]
mod tests;

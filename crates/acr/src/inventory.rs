//! What there is in a repository, as far as it matters for what may go.
//!
//! Lists tell of tags, times and locks. What an index lists and what a manifest refers to only the manifest itself says, and what refers to
//! it the registry: both are asked for what may go, and for every index.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postern_model::{Digest, RepositoryName, Tag, Timestamp};

use crate::Failure;
use crate::plan::{Limits, ManifestEntry};
use crate::registry::{Content, FoundManifest, Kind, Registry, RegistryError};

/// Most entries of one repository that are planned with.
pub(crate) const MAX_ENTRIES: usize = 2_000_000;

/// A repository that is looked at.
pub(crate) struct Inventory<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) repository: &'a RepositoryName,
    pub(crate) concurrency: usize,
}

/// An entry while it is being found out about.
struct Draft {
    entry: ManifestEntry,
    kind: Kind,
    /// What the list says that it lists.
    references: Option<Vec<Digest>>,
}

impl Inventory<'_> {
    /// All manifests, as if these tags were gone; `None` if there is no such repository.
    pub(crate) async fn manifests(
        &self,
        limits: &Limits,
        removed: &BTreeSet<Tag>,
    ) -> Result<Option<Vec<ManifestEntry>>, Failure> {
        let listed = match self.registry.manifests(self.repository).await {
            Err(error) if error.status() == Some(404) => return Ok(None),
            listed => listed?,
        };
        // After the manifests: a tag that came in between is seen.
        let tags = match self.registry.tags(self.repository, "").await {
            Err(error) if error.status() == Some(404) => Vec::new(),
            tags => tags?,
        };
        if listed.len().max(tags.len()) > MAX_ENTRIES {
            let text = format!("{} has more than {MAX_ENTRIES} manifests or tags", self.repository);
            return Err(Failure::Usage(text));
        }
        let mut drafts: BTreeMap<Digest, Draft> =
            listed.into_iter().map(|one| (one.digest, Draft::listed(one))).collect();
        for tag in tags {
            drafts.entry(tag.digest).or_insert_with(|| Draft::hidden(tag.digest)).entry.tags.insert(tag.name);
        }
        for draft in drafts.values_mut() {
            draft.entry.tags.retain(|tag| !removed.contains(tag));
        }
        self.read_contents(&mut drafts, limits).await?;
        self.find_referrers(&mut drafts, limits).await?;
        Ok(Some(drafts.into_values().map(|draft| draft.entry).collect()))
    }

    /// What indexes list, at any depth, and what may go refers to.
    async fn read_contents(&self, drafts: &mut BTreeMap<Digest, Draft>, limits: &Limits) -> Result<(), Failure> {
        let wanted = |draft: &Draft| draft.kind != Kind::Image || draft.may_go(limits);
        let mut open: Vec<Digest> =
            drafts.values().filter(|draft| wanted(draft)).map(|draft| draft.entry.digest).collect();
        let mut seen: HashSet<Digest> = open.iter().copied().collect();
        while !open.is_empty() {
            let read = self.each(&open, |digest| self.registry.content(self.repository, digest)).await?;
            open = Vec::new();
            for (digest, content) in read {
                let Some(draft) = drafts.get_mut(&digest) else { continue };
                match content {
                    Found::Here(content) => open.extend(draft.take(content)),
                    // Gone since it was listed.
                    Found::Gone => {
                        drafts.remove(&digest);
                    }
                    Found::Closed(error) => draft.close(self.repository, &error)?,
                }
            }
            open.retain(|digest| !drafts.contains_key(digest) && seen.insert(*digest));
            for digest in &open {
                drafts.insert(*digest, Draft::hidden(*digest));
            }
        }
        Ok(())
    }

    /// Who refers to what may go, and to those.
    async fn find_referrers(&self, drafts: &mut BTreeMap<Digest, Draft>, limits: &Limits) -> Result<(), Failure> {
        let is_subject = |draft: &Draft| draft.may_go(limits) && draft.entry.subject.is_none();
        let mut open: Vec<Digest> =
            drafts.values().filter(|draft| is_subject(draft)).map(|draft| draft.entry.digest).collect();
        let mut seen: HashSet<Digest> = open.iter().copied().collect();
        while !open.is_empty() {
            let found = self.each(&open, |digest| self.registry.referrers(self.repository, digest)).await?;
            open = Vec::new();
            for (subject, referrers) in found {
                let referrers = match referrers {
                    Found::Here(referrers) => referrers,
                    Found::Gone => continue,
                    Found::Closed(_) => {
                        if let Some(draft) = drafts.get_mut(&subject) {
                            draft.entry.is_obscure = true;
                        }
                        continue;
                    }
                };
                for digest in referrers {
                    let draft = drafts.entry(digest).or_insert_with(|| Draft::hidden(digest));
                    draft.entry.subject = draft.entry.subject.or(Some(subject));
                    open.push(digest);
                }
            }
            open.retain(|digest| seen.insert(*digest));
        }
        Ok(())
    }

    /// Asks for each, several at once. Refusals that end everything are errors.
    async fn each<'b, T, F>(
        &self,
        digests: &'b [Digest],
        ask: impl Fn(&'b Digest) -> F,
    ) -> Result<HashMap<Digest, Found<T>>, Failure>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let asked = stream::iter(digests).map(|digest| {
            let answer = ask(digest);
            async move { Found::of(answer.await).map(|found| (*digest, found)) }
        });
        Ok(asked.buffer_unordered(self.concurrency).try_collect().await?)
    }
}

/// What became of a question about one manifest.
enum Found<T> {
    Here(T),
    Gone,
    /// It is there, and must not be read.
    Closed(RegistryError),
}

impl<T> Found<T> {
    fn of(answer: Result<T, RegistryError>) -> Result<Self, RegistryError> {
        match answer {
            Ok(found) => Ok(Self::Here(found)),
            Err(error) if error.status() == Some(404) => Ok(Self::Gone),
            Err(error) if error.status() == Some(405) => Ok(Self::Closed(error)),
            Err(error) => Err(error),
        }
    }
}

impl Draft {
    fn listed(found: FoundManifest) -> Self {
        let entry = ManifestEntry {
            digest: found.digest,
            updated: found.updated,
            is_locked: found.is_locked,
            // Whoever does not say what it is may be anything.
            is_obscure: found.kind == Kind::Unknown,
            tags: found.tags,
            children: Vec::new(),
            subject: None,
        };
        Self { entry, kind: found.kind, references: found.references }
    }

    /// One that no list has.
    fn hidden(digest: Digest) -> Self {
        let entry = ManifestEntry {
            digest,
            updated: Timestamp::from_unix_seconds(i64::MAX / 1_000_000),
            is_locked: false,
            is_obscure: true,
            tags: BTreeSet::new(),
            children: Vec::new(),
            subject: None,
        };
        Self { entry, kind: Kind::Unknown, references: None }
    }

    /// Whether nothing that a list says keeps it.
    fn may_go(&self, limits: &Limits) -> bool {
        let entry = &self.entry;
        entry.tags.is_empty() && entry.updated < limits.before && (limits.include_locked || !entry.is_locked)
    }

    /// Gives what it lists that may list others again.
    fn take(&mut self, content: Content) -> Vec<Digest> {
        self.entry.subject = self.entry.subject.or(content.subject);
        let listed = self.references.take().unwrap_or_default();
        self.entry.children = content.children.iter().map(|(digest, _)| *digest).chain(listed).collect();
        let indexes = content.children.iter().filter(|(_, kind)| *kind != Kind::Image);
        indexes.map(|(digest, _)| *digest).collect()
    }

    /// What cannot be read stays; what it lists, too, if that is known. If not, nothing is safe.
    fn close(&mut self, repository: &RepositoryName, error: &RegistryError) -> Result<(), Failure> {
        self.entry.is_obscure = true;
        match (self.references.take(), self.kind) {
            (Some(listed), _) => self.entry.children = listed,
            (None, Kind::Image) => {}
            (None, Kind::Index | Kind::Unknown) => {
                return Err(Failure::Usage(format!(
                    "cannot tell what {repository}@{} lists ({error}), so that no manifest of {repository} is deleted",
                    self.entry.digest
                )));
            }
        }
        Ok(())
    }
}

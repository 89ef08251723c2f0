//! `purge`: repository by repository, tags first, then the manifests that nothing needs any more.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt as _, stream};
use postern_model::{RepositoryName, Tag};

use crate::ago::MAX_YEARS;
use crate::filter::TagFilter;
use crate::inventory::{Inventory, MAX_ENTRIES};
use crate::plan::{self, Limits, ManifestEntry, Plan, TagEntry};
use crate::registry::{Registry, RegistryError};
use crate::{Age, Failure, Filters, Output, PurgeArguments, Surroundings};

/// Most requests at once that registries recommend.
const MAX_CONCURRENCY: usize = 32;
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// A purge whose arguments were understood.
pub(crate) struct Job<'a> {
    arguments: &'a PurgeArguments,
    filters: Filters,
    limits: Limits,
    concurrency: usize,
    /// What is said about arguments that were corrected.
    notes: [Option<String>; 2],
}

/// How many were deleted, or would be.
#[derive(Default)]
struct Counts {
    tags: usize,
    manifests: usize,
}

/// What became of one.
enum Outcome {
    Deleted,
    /// It stays, for a reason that was said.
    Kept,
    Failed(RegistryError),
    /// Another one failed before.
    NotTried,
}

impl<'a> Job<'a> {
    pub(crate) fn new(arguments: &'a PurgeArguments, surroundings: &Surroundings) -> Result<Self, Failure> {
        check(arguments).map_err(|why| Failure::Usage(why.into()))?;
        let age = arguments.ago.as_deref().map_or(Ok(Age::ZERO), Age::parse)?;
        let timeout = u64::try_from(arguments.filter_timeout_seconds).unwrap_or_default();
        let timeout = if timeout == 0 { DEFAULT_TIMEOUT_SECONDS } else { timeout };
        let filters = Filters::parse(arguments.filter.iter().map(String::as_str), timeout)?;
        let default = surroundings.concurrency.clamp(1, MAX_CONCURRENCY);
        let (concurrency, note) = match arguments.concurrency.map(usize::try_from) {
            None => (default, None),
            Some(Err(_) | Ok(0)) => {
                (default, Some(format!("Specified concurrency value invalid. Set to default value: {default} ")))
            }
            Some(Ok(wanted)) if wanted > MAX_CONCURRENCY => {
                let note = format!("Specified concurrency value too large. Set to maximum value: {MAX_CONCURRENCY} ");
                (MAX_CONCURRENCY, Some(note))
            }
            Some(Ok(wanted)) => (wanted, None),
        };
        let capped = age.is_capped().then(|| {
            format!("Warning: ago value exceeds maximum duration of {MAX_YEARS} years, capping to {MAX_YEARS} years")
        });
        let limits = Limits {
            before: age.before(surroundings.clock.now()),
            keep: arguments.keep,
            include_locked: arguments.include_locked,
        };
        Ok(Self { arguments, filters, limits, concurrency, notes: [capped, note] })
    }

    pub(crate) async fn run(&self, registry: &Registry, output: &dyn Output) -> Result<(), Failure> {
        let [capped, concurrency] = &self.notes;
        let say = |note: &Option<String>| note.iter().for_each(|note| output.line(note));
        say(capped);
        let repositories = self.repositories(registry).await?;
        let is_dry = self.arguments.dry_run;
        if is_dry {
            output.line(
                "DRY RUN: The following output shows what WOULD be deleted if the purge command was executed. Nothing is deleted.",
            );
        }
        say(concurrency);
        let mut counts = Counts::default();
        let outcome = self.purge(registry, &repositories, &mut counts, output).await;
        if let Err(failure) = &outcome
            && !matches!(failure, Failure::Permissions { .. })
        {
            output.line(&format!("Failed to complete purge: {failure} "));
        }
        output.line("");
        if is_dry {
            output.line(&format!("Number of tags to be deleted: {}", counts.tags));
            output.line(&format!("Number of manifests to be deleted: {}", counts.manifests));
        } else {
            output.line(&format!("Number of deleted tags: {}", counts.tags));
            output.line(&format!("Number of deleted manifests: {}", counts.manifests));
        }
        outcome
    }

    /// The repositories that are meant, in order, with what matches their tags.
    async fn repositories(&self, registry: &Registry) -> Result<Vec<(RepositoryName, Option<TagFilter<'_>>)>, Failure> {
        let mut names = registry.catalog(self.arguments.repository_page_size).await?;
        names.sort();
        names.dedup();
        let mut chosen = Vec::new();
        for name in names {
            let filter = self.filters.of(&name)?;
            if filter.is_some() || self.arguments.filter.is_empty() {
                chosen.push((name, filter));
            }
        }
        Ok(chosen)
    }

    async fn purge(
        &self,
        registry: &Registry,
        repositories: &[(RepositoryName, Option<TagFilter<'_>>)],
        counts: &mut Counts,
        output: &dyn Output,
    ) -> Result<(), Failure> {
        for (at, (name, filter)) in repositories.iter().enumerate() {
            let permissions = |failure: Failure, what: &str| {
                let (done, left) = repositories.split_at(at);
                let Some(refusal) = failure.lack_of_rights() else { return failure };
                let text = format!("{}\n  {refusal}", insufficient(what, name, done, left));
                Failure::Permissions { text, id: failure.decision().map(str::to_owned) }
            };
            let mut removed = BTreeSet::new();
            if let Some(filter) = filter.as_ref().filter(|_| !self.arguments.untagged_only) {
                removed = self
                    .purge_tags(registry, name, filter, counts, output)
                    .await
                    .map_err(|failure| permissions(Failure::during("failed to purge tags")(failure), "purge tags"))?;
            }
            if self.arguments.untagged || self.arguments.untagged_only {
                self.purge_manifests(registry, name, &removed, counts, output).await.map_err(|failure| {
                    permissions(Failure::during("failed to purge manifests")(failure), "purge manifests")
                })?;
            }
        }
        Ok(())
    }

    /// Gives the tags that would be gone, for what comes after in a dry run.
    async fn purge_tags(
        &self,
        registry: &Registry,
        repository: &RepositoryName,
        filter: &TagFilter<'_>,
        counts: &mut Counts,
        output: &dyn Output,
    ) -> Result<BTreeSet<Tag>, Failure> {
        let is_dry = self.arguments.dry_run;
        let verb = if is_dry { "Would delete" } else { "Deleting" };
        output.line(&format!("{verb} tags for repository: {repository}"));
        let found = match registry.tags(repository, "&orderby=timedesc").await {
            Err(error) if error.status() == Some(404) => {
                output.line(&format!("{repository} repository not found"));
                return Ok(BTreeSet::new());
            }
            found => found?,
        };
        if found.len() > MAX_ENTRIES {
            return Err(Failure::Usage(format!("{repository} has more than {MAX_ENTRIES} tags")));
        }
        let found: Vec<TagEntry> = found
            .into_iter()
            .map(|tag| TagEntry { name: tag.name, updated: tag.updated, is_locked: tag.is_locked })
            .collect();
        let chosen = plan::tags(&found, &self.limits, |tag| filter.matches(tag))?;
        let reference = |tag: &Tag| format!("{}/{repository}:{tag}", registry.server());
        if is_dry {
            for tag in &chosen {
                output.line(&format!("Would delete: {}", reference(&tag.name)));
            }
            counts.tags += chosen.len();
            return Ok(chosen.into_iter().map(|tag| tag.name.clone()).collect());
        }
        let stop = AtomicBool::new(false);
        let deletions = stream::iter(chosen).map(|tag| {
            let (stop, reference) = (&stop, reference(&tag.name));
            async move {
                let mut one = One::new(reference, stop);
                let unlock = (tag.is_locked).then(|| format!("_tags/{}", tag.name));
                let outcome =
                    one.delete(registry, repository, unlock, registry.delete_tag(repository, &tag.name)).await;
                ((), one.lines, outcome)
            }
        });
        let (deleted, _, failed) = drain(deletions.buffered(self.concurrency), &stop, output).await;
        counts.tags += deleted;
        failed.map_or(Ok(BTreeSet::new()), |error| Err(error.into()))
    }

    async fn purge_manifests(
        &self,
        registry: &Registry,
        repository: &RepositoryName,
        removed: &BTreeSet<Tag>,
        counts: &mut Counts,
        output: &dyn Output,
    ) -> Result<(), Failure> {
        let is_dry = self.arguments.dry_run;
        let verb = if is_dry { "Would delete" } else { "Deleting" };
        output.line(&format!("{verb} manifests for repository: {repository}"));
        let inventory = Inventory { registry, repository, concurrency: self.concurrency };
        let Some(found) = inventory.manifests(&self.limits, removed).await? else {
            output.line(&format!("{repository} repository not found"));
            return Ok(());
        };
        let plan = Plan::new(&found, &self.limits);
        let reference = |entry: &ManifestEntry| format!("{}/{repository}@{}", registry.server(), entry.digest);
        let mut spared = HashSet::new();
        for step in plan.steps() {
            let wanted: Vec<&ManifestEntry> =
                step.iter().copied().filter(|entry| !spared.contains(&entry.digest)).collect();
            if is_dry {
                for entry in &wanted {
                    output.line(&format!("Would delete: {}", reference(entry)));
                }
                counts.manifests += wanted.len();
                continue;
            }
            let stop = AtomicBool::new(false);
            let deletions = stream::iter(wanted).map(|entry| {
                let (stop, reference) = (&stop, reference(entry));
                async move {
                    let mut one = One::new(reference, stop);
                    let outcome = delete_manifest(&mut one, registry, repository, entry).await;
                    (entry.digest, one.lines, outcome)
                }
            });
            let (deleted, kept, failed) = drain(deletions.buffered(self.concurrency), &stop, output).await;
            counts.manifests += deleted;
            if let Some(error) = failed {
                return Err(error.into());
            }
            // What stays after all keeps what it lists.
            spared.extend(plan.needed_by(kept));
        }
        Ok(())
    }
}

/// Deletes a manifest that has got no tag since it was looked at.
async fn delete_manifest(
    one: &mut One<'_>,
    registry: &Registry,
    repository: &RepositoryName,
    entry: &ManifestEntry,
) -> Outcome {
    if one.stop.load(Ordering::Relaxed) {
        return Outcome::NotTried;
    }
    match registry.manifest(repository, &entry.digest).await {
        Ok(now) if !now.tags.is_empty() => {
            one.say(format!("Skipped {}, it has a tag now", one.reference));
            return Outcome::Kept;
        }
        // Whatever it is, the deletion says it better.
        Ok(_) | Err(_) => {}
    }
    let unlock = entry.is_locked.then(|| format!("_manifests/{}", entry.digest));
    one.delete(registry, repository, unlock, registry.delete_manifest(repository, &entry.digest)).await
}

/// One deletion and what is said about it.
struct One<'a> {
    reference: String,
    stop: &'a AtomicBool,
    lines: Vec<String>,
}

impl<'a> One<'a> {
    fn new(reference: String, stop: &'a AtomicBool) -> Self {
        Self { reference, stop, lines: Vec::new() }
    }

    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Unlocks what is to be unlocked, and deletes.
    async fn delete(
        &mut self,
        registry: &Registry,
        repository: &RepositoryName,
        unlock: Option<String>,
        delete: impl Future<Output = Result<(), RegistryError>>,
    ) -> Outcome {
        if self.stop.load(Ordering::Relaxed) {
            return Outcome::NotTried;
        }
        let reference = self.reference.clone();
        if let Some(path) = unlock {
            match registry.unlock(repository, &path).await {
                Ok(()) => self.say(format!("Unlocked {reference}")),
                Err(error) => self.say(format!(
                    "Warning: Failed to unlock {reference}, error: {error}. Will attempt deletion anyway."
                )),
            }
        }
        let outcome = delete.await;
        let status = outcome.as_ref().err().and_then(RegistryError::status);
        match (outcome, status) {
            (Ok(()), _) => {
                self.say(format!("Deleted {reference}"));
                Outcome::Deleted
            }
            // Somebody else was quicker, or the answer to the first try was lost.
            (Err(_), Some(404)) => {
                self.say(format!("Skipped {reference}, HTTP status: 404"));
                Outcome::Deleted
            }
            (Err(_), Some(405)) => {
                self.say(format!("Skipped {reference}, operation not allowed, HTTP status: 405"));
                Outcome::Kept
            }
            (Err(error), _) => {
                self.say(format!("Failed to delete {reference}, error: {error}"));
                self.stop.store(true, Ordering::Relaxed);
                Outcome::Failed(error)
            }
        }
    }
}

/// Says what happens in the order that was planned; after a failure nothing more begins, and what has begun is waited for.
async fn drain<K>(
    outcomes: impl Stream<Item = (K, Vec<String>, Outcome)>,
    stop: &AtomicBool,
    output: &dyn Output,
) -> (usize, Vec<K>, Option<RegistryError>) {
    let mut outcomes = std::pin::pin!(outcomes);
    let (mut deleted, mut kept, mut failed) = (0, Vec::new(), None);
    while let Some((key, lines, outcome)) = outcomes.next().await {
        for line in &lines {
            output.line(line);
        }
        match outcome {
            Outcome::Deleted => deleted += 1,
            Outcome::Kept => kept.push(key),
            Outcome::Failed(error) => {
                stop.store(true, Ordering::Relaxed);
                failed = failed.or(Some(error));
            }
            Outcome::NotTried => {}
        }
    }
    (deleted, kept, failed)
}

/// Which arguments go together.
fn check(arguments: &PurgeArguments) -> Result<(), &'static str> {
    if arguments.untagged && arguments.untagged_only {
        return Err("if any flags in the group [untagged untagged-only] are set none of the others can be; \
                    [untagged untagged-only] were all set");
    }
    if arguments.untagged_only {
        return Ok(());
    }
    match (arguments.untagged, arguments.filter.is_empty(), &arguments.ago) {
        (true, true, _) => Err("--filter is required when using --untagged"),
        (false, true, _) => Err("at least one of the flags in the group [filter untagged-only] is required"),
        (true, false, None) => Err("--ago is required when using --untagged"),
        (false, false, None) => Err("--ago is required when not using --untagged-only"),
        (_, false, Some(_)) => Ok(()),
    }
}

fn insufficient<T>(
    what: &str,
    name: &RepositoryName,
    done: &[(RepositoryName, T)],
    left: &[(RepositoryName, T)],
) -> String {
    let names =
        |list: &[(RepositoryName, T)]| list.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let done = match done {
        [] => ": none".to_owned(),
        done => format!(" ({}): {}", done.len(), names(done)),
    };
    let left = match left {
        [] | [_] => String::new(),
        [_, left @ ..] => format!("\n  Remaining repositories not yet processed ({}): {}", left.len(), names(left)),
    };
    format!(
        "insufficient permissions to {what} for repository \"{name}\"\n  Completed repositories{done}{left}\n  \
         Hint: use a more specific --filter to target only repositories you have permissions for"
    )
}

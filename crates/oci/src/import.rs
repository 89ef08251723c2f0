//! Import: copies an image with everything that belongs to it, under permits that were decided before.
//!
//! Manifests are read first, the image's own and those below it, then whatever refers to them; then blobs are brought and manifests
//! written, and the tags move last: an import that fails changes nothing that anybody sees.

mod remote;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use postern_access::Permit;
use postern_model::{Algorithm, Digest, Reference, Tag};
use postern_outbound::Outbound;
use postern_store::{
    Import, ImportError, ImportExecutor, ImportSource, ImportTarget, Importing, MAX_ITEMS_PER_PAGE, Missing,
    Repository, Store, StoreError,
};

use self::remote::Remote;
use crate::manifest::{MAX_CONFIG_BYTES, Parsed, parse, platform};

/// Most manifests of one image, itself included.
///
/// Source: Azure Container Registry, "Import container images", limitations (read 2026-11).
const MAX_MANIFESTS: usize = 50;
/// Most manifests that come along because they refer to the image.
const MAX_REFERRERS: usize = 200;
/// Bytes of manifests that one import holds at once.
const MAX_HELD_BYTES: usize = 64 << 20;
/// How many blobs of an image are fetched at once.
const BLOBS_AT_ONCE: usize = 4;
const MAX_DURATION: Duration = Duration::from_hours(2);

/// Carries imports out.
#[derive(Clone)]
pub struct Importer {
    store: Store,
    outbound: Outbound,
}

/// Where manifests and blobs come from.
enum Source {
    Here { manifests: Repository, blobs: Permit, referrers: Repository },
    Elsewhere(Remote),
}

impl Importer {
    /// Copies into this store; other servers are called with this client.
    pub fn new(store: Store, outbound: Outbound) -> Self {
        Self { store, outbound }
    }

    async fn run(&self, import: Import) -> Result<(), ImportError> {
        let Import { source, reference, targets, overwrite, resumed } = import;
        if !overwrite && !resumed {
            // Looked at again when the tags are made; asked first, so that nothing is fetched in vain.
            for target in &targets {
                self.missing_tags(target, None).await?;
            }
        }
        let source = self.open(source)?;
        let found = collect(&source, &reference).await?;
        let Some((root, others)) = found.split_first() else { return Ok(()) };
        let mut finished = Vec::with_capacity(targets.len());
        for target in &targets {
            let ImportTarget { blobs, manifests, tags } = target;
            let (blobs, manifests) = (self.store.repository(blobs)?, self.store.repository(manifests)?);
            for parsed in others.iter().rev() {
                let facts = bring(&source, &blobs, parsed).await?.facts;
                manifests.put_manifest(facts, Vec::new()).await?;
            }
            let tags = match (overwrite, resumed) {
                (false, true) => self.missing_tags(target, Some(root.facts.digest)).await?,
                (true, _) | (false, false) => tags.clone(),
            };
            finished.push((manifests, bring(&source, &blobs, root).await?, tags));
        }
        for (manifests, root, tags) in finished {
            if overwrite {
                manifests.put_manifest(root.facts, tags).await?;
            } else {
                manifests.put_manifest_under_new_tags(root.facts, tags).await?;
            }
        }
        Ok(())
    }

    fn open(&self, source: ImportSource) -> Result<Source, ImportError> {
        Ok(match source {
            ImportSource::Here { manifests, blobs, referrers } => Source::Here {
                manifests: self.store.repository(&manifests)?,
                blobs,
                referrers: self.store.repository(&referrers)?,
            },
            ImportSource::Elsewhere { host, repository, credentials } => {
                Source::Elsewhere(Remote::new(self.outbound.clone(), &host, &repository, credentials)?)
            }
        })
    }

    /// The tags that are to be made, refused where one exists that is not on this manifest.
    async fn missing_tags(&self, target: &ImportTarget, made_on: Option<Digest>) -> Result<Vec<Tag>, ImportError> {
        let repository = self.store.repository(&target.manifests)?;
        let mut missing = Vec::with_capacity(target.tags.len());
        for tag in &target.tags {
            match repository.resolve(&Reference::Tag(tag.clone())).await {
                Ok(digest) if Some(digest) == made_on => {}
                Ok(_) => return Err(StoreError::TagExists(Tag::clone(tag)).into()),
                Err(StoreError::NotFound(_)) => missing.push(tag.clone()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(missing)
    }
}

impl ImportExecutor for Importer {
    fn import(&self, import: Import) -> Importing {
        let this = self.clone();
        Box::pin(async move {
            let run = tokio::time::timeout(MAX_DURATION, this.run(import)).await;
            run.unwrap_or_else(|_| Err(ImportError::Unreachable("it takes too long".into())))
        })
    }
}

/// Reads the image's manifest, those below it and those that refer to any of them; the image's own comes first.
async fn collect(source: &Source, reference: &Reference) -> Result<Vec<Parsed>, ImportError> {
    let mut found: Vec<Parsed> = Vec::new();
    let (mut seen, mut held) = (HashSet::new(), 0_usize);
    let (mut images, mut referrers) = (0_usize, 0_usize);
    let mut waiting = VecDeque::from([(reference.clone(), false)]);
    while let Some((reference, is_referrer)) = waiting.pop_front() {
        let (count, limit) = if is_referrer { (&mut referrers, MAX_REFERRERS) } else { (&mut images, MAX_MANIFESTS) };
        *count += 1;
        if *count > limit {
            let what = if is_referrer { "manifests that refer to it" } else { "manifests" };
            return Err(ImportError::Unsuitable(format!("the image has more than {limit} {what}")));
        }
        let parsed = source.manifest(&reference).await?;
        held += parsed.facts.bytes.len();
        if held > MAX_HELD_BYTES {
            return Err(ImportError::Unsuitable(format!("its manifests are larger than {MAX_HELD_BYTES} bytes")));
        }
        seen.insert(parsed.facts.digest);
        for child in &parsed.facts.children {
            if seen.insert(child.digest) {
                waiting.push_back((Reference::Digest(child.digest), is_referrer));
            }
        }
        for referrer in source.referrers(&parsed.facts.digest).await? {
            if seen.insert(referrer) {
                waiting.push_back((Reference::Digest(referrer), true));
            }
        }
        found.push(parsed);
    }
    Ok(found)
}

/// Brings a manifest's blobs, and finds out from its config what it runs on.
async fn bring(source: &Source, target: &Repository, parsed: &Parsed) -> Result<Parsed, ImportError> {
    let mut parsed = parsed.clone();
    let mut blobs = parsed.facts.blobs.clone();
    blobs.sort_unstable();
    blobs.dedup();
    let bringing = stream::iter(blobs).map(|blob| async move { source.bring_blob(target, &blob).await });
    bringing.buffer_unordered(BLOBS_AT_ONCE).try_collect::<()>().await?;
    if let Some(config) = parsed.config
        && let Ok(blob) = target.open_blob(&config).await
        && blob.size() <= MAX_CONFIG_BYTES
        && let Ok(collected) = blob.into_body().collect().await
    {
        (parsed.facts.architecture, parsed.facts.os) = platform(&collected.to_bytes());
    }
    Ok(parsed)
}

impl Source {
    async fn manifest(&self, reference: &Reference) -> Result<Parsed, ImportError> {
        let (media_type, bytes) = match self {
            Self::Here { manifests, .. } => {
                let manifest = manifests.manifest(reference).await.map_err(|error| of_source(error, reference))?;
                (manifest.media_type.to_string(), manifest.bytes.clone())
            }
            Self::Elsewhere(remote) => remote.manifest(reference).await?,
        };
        read(&media_type, bytes, reference)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>, ImportError> {
        let Self::Here { referrers, .. } = self else {
            let Self::Elsewhere(remote) = self else { return Ok(Vec::new()) };
            return remote.referrers(subject).await;
        };
        let (mut found, mut last) = (Vec::new(), None);
        while found.len() <= MAX_REFERRERS {
            let page = referrers.referrers(subject, None, last.as_ref(), MAX_ITEMS_PER_PAGE).await;
            let page = page.map_err(|error| of_source(error, &Reference::Digest(*subject)))?;
            found.extend(page.items.iter().map(|referrer| referrer.digest));
            last = page.items.last().map(|referrer| referrer.digest);
            if page.next.is_none() || last.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn bring_blob(&self, target: &Repository, digest: &Digest) -> Result<(), ImportError> {
        match self {
            Self::Here { blobs, .. } => target.import_blob(blobs, digest).await.map_err(|error| match error {
                StoreError::NotFound(Missing::Blob) => ImportError::NotInSource(format!("blob {digest}")),
                error => error.into(),
            }),
            Self::Elsewhere(remote) => match target.stat_blob(digest).await {
                // Linked in this repository already: its bytes were verified when they came.
                Ok(_) => Ok(()),
                Err(StoreError::NotFound(_)) => remote.fetch_blob(target, digest).await,
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Reads a manifest, and refuses bytes that are not those that were asked for.
fn read(media_type: &str, bytes: Bytes, reference: &Reference) -> Result<Parsed, ImportError> {
    let algorithm = match reference {
        Reference::Digest(digest) => digest.algorithm(),
        Reference::Tag(_) => Algorithm::Sha256,
    };
    let parsed = parse(Some(media_type), bytes, algorithm).map_err(|why| ImportError::Unsuitable(why.into_text()))?;
    match reference {
        Reference::Digest(expected) if *expected != parsed.facts.digest => {
            Err(ImportError::Unsuitable(format!("manifest {expected} has digest {} in truth", parsed.facts.digest)))
        }
        _ => Ok(parsed),
    }
}

fn of_source(error: StoreError, reference: &Reference) -> ImportError {
    match error {
        StoreError::NotFound(_) => ImportError::NotInSource(format!("manifest {reference}")),
        StoreError::Locked(..) => ImportError::SourceLocked(error),
        error => ImportError::Store(error),
    }
}

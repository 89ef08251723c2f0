use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use postern_access::{Caller, Credential, Inputs, Operation, OperationKind, Permit, Verified, evaluate, example};
use postern_identity::SecretOwner;
use postern_model::{Algorithm, Clock, Digest, Reference, RegistryUid, RepositoryName, Secret, Timestamp};
use postern_store::{Missing, Repository, Store, StoreError, StoreOptions};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Expectations, Fate, Key, Seeded};

const PAGE: u32 = 1000;
/// Longer than any grace and any upload's life.
const LONG_SECONDS: i64 = 400 * 24 * 3600;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// Keys that something was expected of.
    pub keys: usize,
    /// Manifests that were pulled with all their blobs.
    pub manifests: usize,
    /// Uploads that were taken up and closed.
    pub uploads: usize,
}

/// Opens a data folder as after a crash and looks at everything in it: what was acknowledged is there, what is there is whole,
/// uploads go on, collection leaves only what is needed, new content is taken, and in the end nothing is left behind.
///
/// # Errors
/// What does not hold.
pub async fn check(
    data: &Path,
    expectations: &Expectations,
    uploads: &BTreeMap<String, Vec<u8>>,
    now: Timestamp,
) -> Result<Checked, String> {
    let options =
        StoreOptions::new(data, Arc::new(Moment(now)), Arc::new(Seeded::new(now.unix_micros().unsigned_abs())));
    let store = Store::open(options).await.map_err(|error| format!("the store does not open: {error:?}"))?;
    let mut check = Check {
        store: &store,
        registry: None,
        data,
        problems: Vec::new(),
        checked: Checked::default(),
        read: HashMap::new(),
    };
    let outcome = check.everything(expectations, uploads, now).await;
    let Check { mut problems, checked, .. } = check;
    if let Err(error) = outcome {
        problems.push(format!("the store fails: {error:?}"));
    }
    store.close().await;
    if problems.is_empty() { Ok(checked) } else { Err(problems.join("\n")) }
}

struct Check<'a> {
    store: &'a Store,
    registry: Option<RegistryUid>,
    data: &'a Path,
    problems: Vec<String>,
    checked: Checked,
    /// What blobs and manifests led to, so that each is read once.
    read: HashMap<(String, String), Result<(), String>>,
}

struct Moment(Timestamp);

impl Clock for Moment {
    fn now(&self) -> Timestamp {
        self.0
    }
}

impl Check<'_> {
    async fn everything(
        &mut self,
        expectations: &Expectations,
        uploads: &BTreeMap<String, Vec<u8>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut resources = Vec::new();
        self.store
            .resources()
            .each(|row| {
                resources.push(row);
                Ok(())
            })
            .await?;
        let is_registry =
            |row: &&postern_store::ResourceRow| row.resource_type == "Microsoft.ContainerRegistry/registries";
        self.registry = resources.iter().find(is_registry).and_then(|row| Some(RegistryUid(row.uid.parse().ok()?)));
        let documents: BTreeMap<String, String> = resources.into_iter().map(|row| (row.id_key, row.document)).collect();
        for (key, fates) in expectations.all() {
            self.checked.keys += 1;
            self.key(key, &fates, &documents, uploads, now).await?;
        }
        if self.registry.is_none() {
            return Ok(());
        }
        let before = self.contents().await?;
        self.store.collect_garbage(now.plus_seconds(LONG_SECONDS)).await?;
        self.read.clear();
        let after = self.contents().await?;
        if before != after {
            self.problems.push(format!("collection changed {before:?} to {after:?}"));
        }
        self.push().await?;
        self.leave_nothing(now).await
    }

    async fn key(
        &mut self,
        key: &Key,
        fates: &[&Fate],
        documents: &BTreeMap<String, String>,
        uploads: &BTreeMap<String, Vec<u8>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if fates.contains(&&Fate::Free) {
            return Ok(());
        }
        let is = |value: &str| fates.iter().any(|fate| matches!(fate, Fate::Is(expected) if expected == value));
        let may_be_gone = fates.contains(&&Fate::Gone);
        let may_be = fates.iter().any(|fate| matches!(fate, Fate::Is(_)));
        // Whether what was found is among what may be.
        let (fits, found) = match key {
            Key::Bootstrap => {
                let file = std::fs::read(self.data.join("bootstrap.json")).unwrap_or_default();
                let file: Value = serde_json::from_slice(&file).unwrap_or_default();
                let secret = file["clientSecret"].as_str().unwrap_or_default();
                let owner =
                    documents.keys().find_map(|id| id.strip_prefix("/providers/microsoft.graph/serviceprincipals/"));
                let owner = owner.map(|id| format!("principal:{id}")).unwrap_or_default();
                let holds = self.store.credentials().verify(&owner, &Secret::new(secret.to_owned()), now);
                (is(secret) && holds.is_some(), format!("{file} {holds:?}"))
            }
            Key::Resource(id) => match documents.get(&id.to_lowercase()) {
                Some(document) => {
                    let holds = |fate: &&Fate| matches!(fate, Fate::Is(sign) if document.contains(sign.as_str()));
                    (fates.iter().any(holds), document.clone())
                }
                None => (may_be_gone, "nothing".into()),
            },
            Key::Password(slot) => {
                let Some(registry) = self.registry else {
                    self.problems.push(format!("{key:?}: there is no registry"));
                    return Ok(());
                };
                let owner = SecretOwner::Admin(registry).to_string();
                let known = self.store.credentials().reveal(&owner, slot).await?;
                let holds = known.as_ref().and_then(|secret| self.store.credentials().verify(&owner, secret, now));
                (known.is_some_and(|secret| is(secret.expose())) && holds.as_deref() == Some(slot), "another".into())
            }
            Key::Blob(repository, digest) => {
                let found = self.blob(repository, digest).await;
                Self::found(found, may_be, may_be_gone)
            }
            Key::Manifest(repository, digest) => {
                let found = self.manifest(repository, digest).await.map(|_| ());
                Self::found(found, may_be, may_be_gone)
            }
            Key::Tag(repository, tag) => match self.manifest(repository, tag).await {
                Ok(digest) => (is(&digest), digest),
                Err(problem) if problem == NOTHING => (may_be_gone, problem),
                Err(problem) => (false, problem),
            },
            Key::Upload(repository, id) => {
                let least = fates.iter().filter_map(|fate| match fate {
                    Fate::Is(offset) => offset.parse::<u64>().ok(),
                    Fate::Gone | Fate::Free => None,
                });
                let least = least.min().unwrap_or_default();
                let bytes = uploads.get(id).expect("an upload's bytes are known");
                match self.resume(repository, id, least, bytes).await {
                    Ok(()) => (may_be, "open".into()),
                    Err(problem) if problem == NOTHING => (may_be_gone, problem),
                    Err(problem) => (false, problem),
                }
            }
        };
        if !fits {
            self.problems.push(format!("{key:?} must be one of {fates:?}, is {found}"));
        }
        Ok(())
    }

    fn found(found: Result<(), String>, may_be: bool, may_be_gone: bool) -> (bool, String) {
        match found {
            Ok(()) => (may_be, "there".into()),
            Err(problem) if problem == NOTHING => (may_be_gone, problem),
            Err(problem) => (false, problem),
        }
    }

    fn open(&self, kind: OperationKind, repository: &str) -> Result<Repository, String> {
        let registry = self.registry.ok_or("there is no registry")?;
        self.store.repository(&permit(registry, kind, Some(repository))).map_err(|error| format!("{error:?}"))
    }

    async fn blob(&mut self, repository: &str, digest: &str) -> Result<(), String> {
        let known = (repository.to_owned(), digest.to_owned());
        if !self.read.contains_key(&known) {
            let outcome = self.read_blob(repository, digest).await;
            self.read.insert(known.clone(), outcome);
        }
        self.read[&known].clone()
    }

    async fn read_blob(&self, repository: &str, digest: &str) -> Result<(), String> {
        let opened = self.open(OperationKind::PullBlob, repository)?;
        let parsed: Digest = digest.parse().map_err(|_| "no digest")?;
        let blob = opened.open_blob(&parsed).await.map_err(absent)?;
        let size = blob.size();
        let bytes = blob.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        if bytes.len() as u64 != size || sha256(&bytes) != parsed {
            return Err(format!("{} bytes that are not {digest}", bytes.len()));
        }
        Ok(())
    }

    /// Pulls a manifest and every blob it names; gives its digest.
    async fn manifest(&mut self, repository: &str, reference: &str) -> Result<String, String> {
        let opened = self.open(OperationKind::PullManifest, repository)?;
        let reference: Reference = reference.parse().map_err(|_| "no reference")?;
        let manifest = opened.manifest(&reference).await.map_err(absent)?;
        if sha256(&manifest.bytes) != manifest.digest {
            return Err(format!("bytes that are not {}", manifest.digest));
        }
        let known = (repository.to_owned(), manifest.digest.to_string());
        if !self.read.contains_key(&known) {
            let blobs = self.blobs_of(repository, &manifest.bytes).await;
            self.checked.manifests += 1;
            self.read.insert(known.clone(), blobs);
        }
        self.read[&known].clone().map(|()| known.1)
    }

    async fn blobs_of(&mut self, repository: &str, manifest: &[u8]) -> Result<(), String> {
        let parsed: Value = serde_json::from_slice(manifest).map_err(|error| error.to_string())?;
        let layers = parsed["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(parsed.get("config")) {
            let digest = blob["digest"].as_str().unwrap_or_default();
            self.blob(repository, digest).await.map_err(|problem| format!("its blob {digest} is {problem}"))?;
        }
        Ok(())
    }

    /// Takes an upload up where it stands and closes it.
    async fn resume(&mut self, repository: &str, id: &str, least: u64, bytes: &[u8]) -> Result<(), String> {
        let repository = self.open(OperationKind::PushBlob, repository)?;
        let id = postern_model::UploadId(id.parse().map_err(|_| "no id")?);
        let shown = |error: StoreError| format!("{error:?}");
        let status = repository.upload(id).await.map_err(shown)?.ok_or(NOTHING)?;
        let rest = usize::try_from(status.offset).ok().and_then(|offset| bytes.get(offset..));
        let Some(rest) = rest.filter(|_| status.offset >= least) else {
            return Err(format!("at {} of {}, not at least {least}", status.offset, bytes.len()));
        };
        let mut writer = repository.upload_writer(id).await.map_err(shown)?;
        writer.write(Bytes::copy_from_slice(rest)).await.map_err(shown)?;
        writer.commit(sha256(bytes)).await.map_err(shown)?;
        self.checked.uploads += 1;
        Ok(())
    }

    /// Everything that lists show, all of it pulled.
    async fn contents(&mut self) -> Result<BTreeSet<String>, StoreError> {
        let Some(registry) = self.registry else { return Ok(BTreeSet::new()) };
        let catalog = self.store.catalog(&permit(registry, OperationKind::ListCatalog, None))?;
        let mut found = BTreeSet::new();
        for name in catalog.page(None, PAGE).await?.items {
            let metadata =
                self.store.repository(&permit(registry, OperationKind::ReadMetadata, Some(name.as_str())))?;
            let page = postern_store::PageRequest { limit: PAGE, ..Default::default() };
            let tags = metadata.tag_infos(None, &page).await?.items;
            let manifests = metadata.manifest_infos(&page).await?.items;
            if manifests.is_empty() {
                self.problems.push(format!("{name} is listed without a manifest"));
            }
            for tag in tags {
                match self.manifest(name.as_str(), tag.name.as_str()).await {
                    Ok(digest) if digest == tag.digest.to_string() => {}
                    other => {
                        self.problems.push(format!("{name}:{} is listed as {}, is {other:?}", tag.name, tag.digest));
                    }
                }
                found.insert(format!("{name}:{}", tag.name));
            }
            for manifest in manifests {
                if let Err(problem) = self.manifest(name.as_str(), &manifest.digest.to_string()).await {
                    self.problems.push(format!("{name}@{} is listed, but {problem}", manifest.digest));
                }
                found.insert(format!("{name}@{}", manifest.digest));
            }
        }
        Ok(found)
    }

    async fn push(&mut self) -> Result<(), StoreError> {
        let Some(registry) = self.registry else { return Ok(()) };
        let config = b"{\"pushed\":\"after the crash\"}";
        let repository = self.store.repository(&permit(registry, OperationKind::PushBlob, Some("afterwards")))?;
        let upload = repository.start_upload(Algorithm::Sha256).await?;
        let mut writer = repository.upload_writer(upload.id).await?;
        writer.write(Bytes::from_static(config)).await?;
        writer.commit(sha256(config)).await?;
        if let Err(problem) = self.blob("afterwards", &sha256(config).to_string()).await {
            self.problems.push(format!("a blob pushed afterwards is {problem}"));
        }
        Ok(())
    }

    /// After all content was deleted no file may be left: neither a forgotten one nor one that something refers to.
    async fn leave_nothing(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(registry) = self.registry else { return Ok(()) };
        self.store.remove_registry(registry).await?;
        self.store.collect_garbage(now.plus_seconds(LONG_SECONDS)).await?;
        let files = blob_files(self.data);
        if !files.is_empty() {
            self.problems.push(format!("left behind: {files:?}"));
        }
        Ok(())
    }
}

const NOTHING: &str = "nothing";

fn absent(error: StoreError) -> String {
    match error {
        StoreError::NotFound(Missing::Repository | Missing::Tag | Missing::Manifest | Missing::Blob) => NOTHING.into(),
        other => format!("{other:?}"),
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::Sha256(Sha256::digest(bytes).into())
}

/// The names of all blob files.
fn blob_files(data: &Path) -> Vec<String> {
    let shards = std::fs::read_dir(data.join("blobs")).into_iter().flatten().flatten();
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten().flatten());
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

/// What the decision gives to the admin user of an open registry.
fn permit(registry: RegistryUid, kind: OperationKind, repository: Option<&str>) -> Permit {
    let (origin, mut rules) = example();
    rules.uid = registry;
    rules.network.public_access = true;
    rules.network.default_allow = true;
    rules.admin_enabled = true;
    let name = repository.map(|name| name.parse::<RepositoryName>().expect("the name is one"));
    let operation = name.map_or_else(|| Operation::registry(kind), |name| Operation::repository(kind, name, None));
    let credential = Credential::Verified(Verified { caller: Caller::Admin, claim: None, binding: None });
    let inputs =
        Inputs { origin: &origin, rules: &rules, credential: &credential, operation: &operation, content: None };
    evaluate(&inputs).permit().expect("the admin user may").clone()
}

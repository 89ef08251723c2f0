mod collection;
mod content;
mod deleted;
mod device_logins;
mod jobs;
mod lists;
mod resources;
mod retention;
mod secrets;
mod uploads;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::BodyExt;
use postern_access::{
    Caller, ContentPolicies, Credential, Inputs, Operation, OperationKind, Permit, RepositoryTokenRule,
    ScopeMapActions, Verified, evaluate,
};
use postern_model::{Algorithm, Clock, Digest, Random, RegistryUid, ResourceUid, Tag, Timestamp};
use sha2::{Digest as _, Sha256, Sha512};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{ManifestFacts, Repository, Store, StoreError, StoreOptions};

const START: i64 = 1_800_000_000;

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        // A microsecond per look, so that updates have an order.
        Timestamp::from_unix_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// SplitMix64 from a fixed seed.
struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A store in a folder of its own, with a clock that stands still unless moved.
struct Bench {
    store: Store,
    options: StoreOptions,
    clock: Arc<TestClock>,
    /// Deleted with the bench.
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut StoreOptions)) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(START * 1_000_000)));
        let random = Arc::new(TestRandom(AtomicU64::new(1)));
        let mut options = StoreOptions::new(folder.path().join("data"), Arc::clone(&clock) as _, random);
        change(&mut options);
        let store = Store::open(options.clone()).await.unwrap();
        Self { store, options, clock, folder }
    }

    /// As after a restart of the process.
    async fn reopen(self) -> Self {
        let Self { store, options, clock, folder } = self;
        store.close().await;
        drop(store);
        let store = Store::open(options.clone()).await.unwrap();
        Self { store, options, clock, folder }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    fn open(&self, kind: OperationKind, name: &str) -> Repository {
        self.store.repository(&permit(1, kind, name)).unwrap()
    }

    fn push(&self, name: &str) -> Repository {
        self.open(OperationKind::PushBlob, name)
    }

    fn blob_files(&self) -> usize {
        let shards = std::fs::read_dir(self.options.folder.join("blobs")).unwrap();
        shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.folder.join(name)
    }

    async fn collect(&self) -> crate::Collected {
        self.store.collect_garbage(self.now()).await.unwrap()
    }

    /// Pushes an image of these blobs under tags.
    async fn push_image(&self, name: &str, blobs: &[&[u8]], tags: &[&str]) -> Digest {
        for blob in blobs {
            put_blob(&self.push(name), blob).await;
        }
        let facts = manifest(blobs);
        let digest = facts.digest;
        self.open(OperationKind::PushManifest, name).put_manifest(facts, tags_of(tags)).await.unwrap();
        digest
    }
}

fn registry(number: u128) -> RegistryUid {
    RegistryUid(Uuid::from_u128(number))
}

/// What the decision gives to the admin user of an open registry.
fn permit(registry_number: u128, kind: OperationKind, name: &str) -> Permit {
    permit_of(Caller::Admin, registry_number, kind, name)
}

/// The same in a registry with these policies.
fn permit_under(policies: ContentPolicies, kind: OperationKind, name: &str) -> Permit {
    decided(Caller::Admin, policies, 1, kind, name)
}

fn permit_of(caller: Caller, registry_number: u128, kind: OperationKind, name: &str) -> Permit {
    decided(caller, ContentPolicies::default(), registry_number, kind, name)
}

fn decided(
    caller: Caller,
    policies: ContentPolicies,
    registry_number: u128,
    kind: OperationKind,
    name: &str,
) -> Permit {
    let (origin, mut rules) = postern_access::example();
    rules.policies = policies;
    rules.uid = registry(registry_number);
    rules.network.public_access = true;
    rules.network.default_allow = true;
    rules.admin_enabled = true;
    let actions = ScopeMapActions::parse(["repositories/*/content/write", "repositories/*/content/read"]).unwrap();
    rules.tokens = Arc::new(HashMap::from([(
        "other".into(),
        RepositoryTokenRule {
            name: "other".into(),
            uid: ResourceUid(Uuid::from_u128(9)),
            enabled: true,
            actions: Arc::new(actions),
        },
    )]));
    let operation = match kind {
        OperationKind::ListCatalog | OperationKind::ListDeletedCatalog => Operation::registry(kind),
        _ => Operation::repository(kind, name.parse().unwrap(), None),
    };
    let credential = Credential::Verified(Verified { caller, claim: None, binding: None });
    let inputs =
        Inputs { origin: &origin, rules: &rules, credential: &credential, operation: &operation, content: None };
    evaluate(&inputs).permit().expect("allowed").clone()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::Sha256(Sha256::digest(bytes).into())
}

fn sha512(bytes: &[u8]) -> Digest {
    Digest::Sha512(Sha512::digest(bytes).into())
}

fn tags_of(tags: &[&str]) -> Vec<Tag> {
    tags.iter().map(|tag| tag.parse().unwrap()).collect()
}

async fn put_blob(repository: &Repository, bytes: &[u8]) -> Digest {
    let upload = repository.start_upload(Algorithm::Sha256).await.unwrap();
    let mut writer = repository.upload_writer(upload.id).await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.commit(sha256(bytes)).await.unwrap();
    sha256(bytes)
}

/// A manifest whose bytes follow from its blobs.
fn manifest(blobs: &[&[u8]]) -> ManifestFacts {
    let blobs: Vec<Digest> = blobs.iter().map(|blob| sha256(blob)).collect();
    let bytes = Bytes::from(format!("{blobs:?}"));
    ManifestFacts {
        digest: sha256(&bytes),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        bytes,
        config_media_type: Some("application/vnd.oci.image.config.v1+json".into()),
        blobs,
        children: Vec::new(),
        subject: None,
        artifact_type: Some("application/vnd.oci.image.config.v1+json".into()),
        annotations: None,
        image_size: 7,
        architecture: Some("amd64".into()),
        os: Some("linux".into()),
    }
}

/// A manifest without blobs about another one.
fn referrer(subject: Digest, artifact_type: &str, salt: u32) -> ManifestFacts {
    let bytes = Bytes::from(format!("{subject} {artifact_type} {salt}"));
    ManifestFacts {
        digest: sha256(&bytes),
        bytes,
        subject: Some(subject),
        artifact_type: Some(artifact_type.into()),
        annotations: Some(r#"{"k":"v"}"#.into()),
        ..manifest(&[])
    }
}

async fn read_all(repository: &Repository, digest: &Digest) -> Result<Bytes, StoreError> {
    Ok(repository.open_blob(digest).await?.into_body().collect().await?.to_bytes())
}

/// Bytes that look random and are the same every time.
fn sample(length: usize) -> &'static [u8] {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    let all = SAMPLE.get_or_init(|| {
        let mut bytes = vec![0; 3 << 20];
        TestRandom(AtomicU64::new(7)).fill(&mut bytes);
        bytes
    });
    &all[..length]
}

macro_rules! assert_err {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            Err(other) => panic!("another error: {other:?}"),
            Ok(_) => panic!("no error"),
        }
    };
}
use assert_err;

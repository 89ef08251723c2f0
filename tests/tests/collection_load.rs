//! Collection and deletes while clients push, mount and pull: none of them may notice.
//!
//! The scenarios are those in which registries have lost data: blobs shared between images and repositories, children of an
//! untagged index, content pushed again or mounted while it is being collected, deletes at once, referrers.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use postern_tests::disk::{Manifest, Seeded, enable_admin, image_manifest, index_manifest, referrer_manifest};
use postern_tests::registry::{Answer, RegistryClient};
use postern_tests::{Scratch, Server};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

/// How long the load lasts; another time for a longer look.
const LOAD_SECONDS: u64 = 60;
const LOAD_SECONDS_VARIABLE: &str = "POSTERN_LOAD_SECONDS";
/// Half of it is what a client has from seeing a blob to pushing its manifest, also on a busy machine.
const GRACE_SECONDS: u64 = 20;
const SEED: u64 = 99;
/// Blobs that several clients push, mount and let go of all the time.
const SHARED_BLOBS: u64 = 24;

#[derive(Clone)]
struct Client {
    registry: RegistryClient,
    tally: Arc<Tally>,
    until: Instant,
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    images: AtomicU64,
    mounts: AtomicU64,
    pulls: AtomicU64,
    deletes: AtomicU64,
    /// Blobs that were sent in full: each made a file.
    sent: AtomicU64,
    blobs: Mutex<HashSet<String>>,
}

type Outcome = Result<(), String>;

fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory works");
        text
    })
}

impl Client {
    fn on(&self) -> bool {
        Instant::now() < self.until
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<Answer, String> {
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
        let headers: &[(&str, &str)] = if kind.is_empty() { &[("accept", "*/*")] } else { &[("content-type", kind)] };
        let answer = self.registry.send(method.clone(), path, headers, body).await;
        answer.map_err(|error| format!("{method} {path}: {error:?}"))
    }

    /// Sends a request whose answer must be this.
    async fn expect(
        &self,
        expected: u16,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let answer = self.send(method.clone(), path, kind, body).await?;
        if answer.status == expected {
            return Ok(answer);
        }
        Err(format!("{method} {path}: {} {}, not {expected}", answer.status, String::from_utf8_lossy(&answer.body)))
    }

    /// As clients do: looks whether the blob is there, and sends it when it is not.
    async fn blob(&self, repository: &str, bytes: &[u8]) -> Outcome {
        let digest = digest_of(bytes);
        let there = self.send(Method::HEAD, &format!("/v2/{repository}/blobs/{digest}"), "", Vec::new()).await?;
        match there.status {
            200 => Ok(()),
            404 => {
                let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
                self.expect(201, Method::POST, &path, "", bytes.to_vec()).await?;
                self.tally.sent.fetch_add(1, Ordering::Relaxed);
                self.tally.blobs.lock().expect("no client panics").insert(digest);
                Ok(())
            }
            other => Err(format!("HEAD of {repository} {digest}: {other}")),
        }
    }

    /// Mounts the blob, or sends it when the other repository does not have it (any more).
    async fn mount(&self, repository: &str, from: &str, bytes: &[u8]) -> Outcome {
        let digest = digest_of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
        let answer = self.send(Method::POST, &path, "", Vec::new()).await?;
        match answer.status {
            201 => {
                self.tally.mounts.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            202 => {
                let path = format!("{}?digest={digest}", answer.header("location").unwrap_or_default());
                self.expect(201, Method::PUT, &path, "", bytes.to_vec()).await?;
                self.tally.sent.fetch_add(1, Ordering::Relaxed);
                self.tally.blobs.lock().expect("no client panics").insert(digest);
                Ok(())
            }
            other => Err(format!("mount of {digest}: {other}")),
        }
    }

    async fn manifest(&self, repository: &str, manifest: &Manifest, tag: Option<&str>) -> Outcome {
        let path = format!("/v2/{repository}/manifests/{}", tag.unwrap_or(&manifest.digest));
        self.expect(201, Method::PUT, &path, manifest.media_type, manifest.bytes.clone()).await?;
        self.tally.images.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn image(
        &self,
        repository: &str,
        config: &[u8],
        layers: &[&[u8]],
        tag: Option<&str>,
    ) -> Result<Manifest, String> {
        for blob in layers.iter().chain([&config]) {
            self.blob(repository, blob).await?;
        }
        let manifest = image_manifest(config, layers);
        self.manifest(repository, &manifest, tag).await?;
        Ok(manifest)
    }

    /// Pulls a manifest, with all that it names; gives its digest.
    async fn pull(&self, repository: &str, reference: &str) -> Result<String, String> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let manifest = self.expect(200, Method::GET, &path, "", Vec::new()).await?;
        let digest = manifest.header("docker-content-digest").unwrap_or_default().to_owned();
        if digest_of(&manifest.body) != digest || (reference.starts_with("sha256:") && reference != digest) {
            return Err(format!("{path} has other bytes than {digest}"));
        }
        let parsed: Value = serde_json::from_slice(&manifest.body).map_err(|error| error.to_string())?;
        for blob in parsed["layers"].as_array().into_iter().flatten().chain(parsed.get("config")) {
            let digest = blob["digest"].as_str().unwrap_or_default();
            let path = format!("/v2/{repository}/blobs/{digest}");
            let blob = self.expect(200, Method::GET, &path, "", Vec::new()).await?;
            if digest_of(&blob.body) != digest {
                return Err(format!("{path} has other bytes"));
            }
        }
        for child in parsed["manifests"].as_array().into_iter().flatten() {
            let digest = child["digest"].as_str().unwrap_or_default();
            Box::pin(self.pull(repository, digest)).await?;
        }
        self.tally.pulls.fetch_add(1, Ordering::Relaxed);
        Ok(digest)
    }

    async fn delete(&self, path: &str) -> Outcome {
        self.expect(202, Method::DELETE, path, "", Vec::new()).await?;
        self.tally.deletes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn delete_manifest(&self, repository: &str, digest: &str) -> Outcome {
        self.delete(&format!("/v2/{repository}/manifests/{digest}")).await
    }
}

fn shared(number: u64) -> Vec<u8> {
    Seeded::new(SEED ^ 0xb10b ^ number << 20).bytes(2000 + usize::try_from(number).expect("it is small") * 3000)
}

/// Images of blobs that others push, mount and release at the same time; each is pulled and deleted again after a while.
async fn share(client: Client, repository: &'static str, other: &'static str, random: Seeded) -> Outcome {
    let mut images = Vec::new();
    while client.on() {
        let layers = [shared(random.below(SHARED_BLOBS)), shared(random.below(SHARED_BLOBS))];
        for layer in &layers {
            if random.flip() {
                client.mount(repository, other, layer).await?;
            } else {
                client.blob(repository, layer).await?;
            }
        }
        let image = client.image(repository, &random.bytes(64), &[&layers[0], &layers[1]], None).await?;
        client.pull(repository, &image.digest).await?;
        images.push(image.digest);
        if images.len() > 6 {
            let gone = images.swap_remove(usize::try_from(random.below(6)).expect("it is small"));
            client.delete_manifest(repository, &gone).await?;
        }
        for image in &images {
            client.pull(repository, image).await?;
        }
    }
    Ok(())
}

/// Few images over few blobs, with pauses longer than the grace between them: each time the blobs are about to go, or just gone.
async fn push_again(client: Client, repository: &'static str, random: Seeded) -> Outcome {
    let mut round = 0;
    while client.on() {
        round += 1;
        for number in 0..SHARED_BLOBS {
            let layer = Seeded::new(number ^ 0xa9a1).bytes(1500);
            let image = client.image(repository, &random.bytes(32), &[&layer], Some("again")).await?;
            client.pull(repository, "again").await?;
            client.delete_manifest(repository, &image.digest).await?;
            // Spread over the grace, so that some blob is collected at any time.
            let pause = 1000 * GRACE_SECONDS / SHARED_BLOBS + random.below(50 + round % 7 * 10);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    Ok(())
}

/// A tag that always exists, moved all the time; what it pointed at is deleted.
async fn move_tag(client: Client, random: Seeded) -> Outcome {
    let mut old = client.image("moving", &random.bytes(64), &[&shared(0)], Some("latest")).await?;
    while client.on() {
        let new = client.image("moving", &random.bytes(64), &[&shared(random.below(4))], Some("latest")).await?;
        client.delete_manifest("moving", &old.digest).await?;
        old = new;
    }
    Ok(())
}

/// Pulls that tag all the time. The manifest may be deleted meanwhile, its blobs stay for the grace.
async fn follow_tag(client: Client) -> Outcome {
    while client.on() {
        let manifest = client.send(Method::GET, "/v2/moving/manifests/latest", "", Vec::new()).await?;
        if manifest.status != 200 {
            return Err(format!("moving:latest: {} {}", manifest.status, String::from_utf8_lossy(&manifest.body)));
        }
        let parsed: Value = serde_json::from_slice(&manifest.body).map_err(|error| error.to_string())?;
        for blob in parsed["layers"].as_array().into_iter().flatten().chain(parsed.get("config")) {
            let digest = blob["digest"].as_str().unwrap_or_default();
            client.expect(200, Method::GET, &format!("/v2/moving/blobs/{digest}"), "", Vec::new()).await?;
        }
        client.tally.pulls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Indexes that lose their tag, and children that never had one: all of it stays, for ever.
async fn untag(client: Client, random: Seeded) -> Outcome {
    let mut kept = Vec::new();
    while client.on() {
        let mut children = Vec::new();
        for _ in 0..3 {
            children
                .push(client.image("indexes", &random.bytes(64), &[&shared(random.below(SHARED_BLOBS))], None).await?);
        }
        let index = index_manifest(&[&children[0], &children[1], &children[2]]);
        client.manifest("indexes", &index, Some("nightly")).await?;
        client.delete("/v2/indexes/manifests/nightly").await?;
        kept.push(index.digest);
        for index in kept.iter().rev().take(12).chain(kept.first()) {
            client.pull("indexes", index).await?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for index in &kept {
        client.pull("indexes", index).await?;
    }
    Ok(())
}

/// Subjects with referrers, and referrers of those: they go together, and only together.
async fn refer(client: Client, random: Seeded) -> Outcome {
    let config = b"{}";
    while client.on() {
        client.blob("signed", config).await?;
        let subject =
            client.image("signed", &random.bytes(64), &[&shared(random.below(SHARED_BLOBS))], Some("v1")).await?;
        let signature = referrer_manifest(&subject, config);
        client.manifest("signed", &signature, None).await?;
        let of_signature = referrer_manifest(&signature, config);
        client.manifest("signed", &of_signature, None).await?;
        for (of, referrer) in [(&subject, &signature), (&signature, &of_signature)] {
            let path = format!("/v2/signed/referrers/{}", of.digest);
            let list = client.expect(200, Method::GET, &path, "", Vec::new()).await?;
            let list: Value = serde_json::from_slice(&list.body).map_err(|error| error.to_string())?;
            if list["manifests"][0]["digest"] != *referrer.digest {
                return Err(format!("{path}: {list}"));
            }
            client.pull("signed", &referrer.digest).await?;
        }
        client.delete_manifest("signed", &subject.digest).await?;
        for gone in [&subject, &signature, &of_signature] {
            client.expect(404, Method::GET, &format!("/v2/signed/manifests/{}", gone.digest), "", Vec::new()).await?;
        }
    }
    Ok(())
}

/// A repository that is deleted as a whole and pushed to again at once.
async fn churn(client: Client, repository: &'static str, random: Seeded) -> Outcome {
    while client.on() {
        for tag in ["1", "2", "3"] {
            let layers = [shared(random.below(SHARED_BLOBS)), random.bytes(900)];
            client.image(repository, &random.bytes(64), &[&layers[0], &layers[1]], Some(tag)).await?;
        }
        for tag in ["1", "2", "3"] {
            client.pull(repository, tag).await?;
        }
        client.delete(&format!("/acr/v1/{repository}")).await?;
    }
    Ok(())
}

/// Blobs deleted by name in one repository while others have them, too.
async fn delete_blobs(client: Client, random: Seeded) -> Outcome {
    while client.on() {
        let layer = shared(random.below(SHARED_BLOBS));
        if random.flip() {
            client.mount("cleaner", "left", &layer).await?;
        } else {
            client.blob("cleaner", &layer).await?;
        }
        client.delete(&format!("/v2/cleaner/blobs/{}", digest_of(&layer))).await?;
    }
    Ok(())
}

/// The same manifest deleted by two clients at once: one of them does it, the other is told that it is gone.
async fn delete_twice(client: Client, random: Seeded) -> Outcome {
    while client.on() {
        let image = client.image("twice", &random.bytes(64), &[&shared(random.below(SHARED_BLOBS))], Some("1")).await?;
        let path = format!("/v2/twice/manifests/{}", image.digest);
        let (one, two) = tokio::join!(
            client.send(Method::DELETE, &path, "", Vec::new()),
            client.send(Method::DELETE, &path, "", Vec::new())
        );
        let mut both = [one?.status, two?.status];
        both.sort_unstable();
        if both != [202, 404] {
            return Err(format!("{path} twice: {both:?}"));
        }
        client.tally.deletes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn files(data: &Path) -> u64 {
    let shards = fs::read_dir(data.join("blobs")).expect("the blobs have a folder").flatten();
    shards.map(|shard| fs::read_dir(shard.path()).map_or(0, |files| files.count() as u64)).sum()
}

fn load_seconds() -> u64 {
    let given = std::env::var_os(LOAD_SECONDS_VARIABLE);
    given.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(LOAD_SECONDS)
}

#[test]
fn no_client_notices_collection_and_deletes() {
    let scratch = Scratch::new();
    let config = format!("[limits]\ncollection_grace_seconds = {GRACE_SECONDS}\ncollection_interval_seconds = 1\n");
    let config = scratch.write("postern.toml", config);
    let data = scratch.join("data");
    let mut server = Server::start_in(&data, &["--config", config.to_str().expect("the path is text")]);
    let enabled = enable_admin(&server);
    let runtime = Runtime::new().expect("a runtime can be made");
    let seconds = load_seconds();
    let tally = Arc::new(Tally::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    let client = Client { registry: enabled.client.clone(), tally: Arc::clone(&tally), until };
    let random = |number: u64| Seeded::new(SEED ^ number << 32);
    let first = runtime.block_on(client.image("moving", b"{}", &[&shared(0)], Some("latest")));
    first.unwrap_or_else(|failure| panic!("{failure}"));
    let tasks = vec![
        runtime.spawn(share(client.clone(), "left", "right", random(1))),
        runtime.spawn(share(client.clone(), "right", "left", random(2))),
        runtime.spawn(share(client.clone(), "third", "left", random(3))),
        runtime.spawn(push_again(client.clone(), "again", random(4))),
        runtime.spawn(push_again(client.clone(), "again-too", random(5))),
        runtime.spawn(move_tag(client.clone(), random(6))),
        runtime.spawn(follow_tag(client.clone())),
        runtime.spawn(untag(client.clone(), random(7))),
        runtime.spawn(refer(client.clone(), random(8))),
        runtime.spawn(churn(client.clone(), "churn-one", random(9))),
        runtime.spawn(churn(client.clone(), "churn-two", random(10))),
        runtime.spawn(delete_blobs(client.clone(), random(11))),
        runtime.spawn(delete_twice(client.clone(), random(12))),
    ];
    let mut failures = Vec::new();
    for task in tasks {
        if let Err(failure) = runtime.block_on(task).expect("a client does not panic") {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "seed {SEED}: clients noticed:\n{}", failures.join("\n"));
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (sent, distinct) = (count(&tally.sent), tally.blobs.lock().expect("no client panics").len() as u64);
    let left = files(&data);
    println!(
        "{seconds} s: {} requests, {} manifests pushed, {} images pulled, {} deletes, {} mounts, {sent} blobs sent ({distinct} \
         different), {left} files left",
        count(&tally.requests),
        count(&tally.images),
        count(&tally.pulls),
        count(&tally.deletes),
        count(&tally.mounts),
    );
    assert!(left < distinct, "nothing was collected");
    assert!(server.stop().success(), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

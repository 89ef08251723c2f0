use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use serde_json::{Value, json};

use super::{Fate, History, Key};
use crate::image::sha256;
use crate::registry::{Answer, RegistryClient};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A client that writes down what it asks for and what it was told. Cheap to clone.
#[derive(Clone)]
pub struct Pusher {
    /// The connection.
    pub client: RegistryClient,
    history: Arc<History>,
    uploads: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

/// A request that did not get the answer it should.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The request.
    pub what: String,
    /// The status; 0 when there was no answer.
    pub status: u16,
    /// The error code in the answer.
    pub code: Option<String>,
    /// What else is known.
    pub detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {} {}", self.what, self.status, self.code.as_deref().unwrap_or("-"), self.detail)
    }
}

/// A manifest to push.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its digest.
    pub digest: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Manifest {
    fn new(media_type: &'static str, value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        Self { digest: format!("sha256:{}", sha256(&bytes)), media_type, bytes }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
}

/// An image of this config and these layers.
pub fn image_manifest(config: &[u8], layers: &[&[u8]]) -> Manifest {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    let config = descriptor(CONFIG, config);
    Manifest::new(IMAGE, &json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}))
}

/// An index of these manifests.
pub fn index_manifest(children: &[&Manifest]) -> Manifest {
    let children: Vec<Value> = children.iter().map(|child| child.descriptor()).collect();
    Manifest::new(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}))
}

/// An artifact about another manifest.
pub fn referrer_manifest(subject: &Manifest, config: &[u8]) -> Manifest {
    let value = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "artifactType": "application/vnd.example.signature",
        "config": descriptor(CONFIG, config), "layers": [], "subject": subject.descriptor(),
    });
    Manifest::new(IMAGE, &value)
}

impl Pusher {
    /// A client whose doings go into this history.
    pub fn new(client: RegistryClient, history: Arc<History>) -> Self {
        Self { client, history, uploads: Arc::default() }
    }

    /// The same doings with another connection, after a restart.
    pub fn reconnected(&self, client: RegistryClient) -> Self {
        Self { client, ..self.clone() }
    }

    /// The history.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// All bytes of every upload that was left open, by its id.
    pub fn uploads(&self) -> BTreeMap<String, Vec<u8>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn send(
        &self,
        expected: &[u16],
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, Refused> {
        let what = format!("{method} {path}");
        match self.client.send(method, path, headers, body).await {
            Ok(answer) if expected.contains(&answer.status) => Ok(answer),
            Ok(answer) => Err(Refused {
                what,
                status: answer.status,
                code: answer.code(),
                detail: String::from_utf8_lossy(&answer.body).into_owned(),
            }),
            Err(error) => Err(Refused { what, status: 0, code: None, detail: format!("{error:?}") }),
        }
    }

    async fn noted(
        &self,
        changes: Vec<(Key, Fate)>,
        expected: &[u16],
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, Refused> {
        let number = self.history.begin(changes);
        let answer = self.send(expected, method, path, headers, body).await?;
        self.history.acknowledge(number);
        Ok(answer)
    }

    /// Pushes a blob in one request; gives its digest.
    pub async fn blob(&self, repository: &str, bytes: &[u8]) -> Result<String, Refused> {
        let digest = format!("sha256:{}", sha256(bytes));
        let there = vec![(Key::Blob(repository.into(), digest.clone()), Fate::Is(String::new()))];
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.noted(there, &[201], Method::POST, &path, &[], bytes.to_vec()).await?;
        Ok(digest)
    }

    /// Begins an upload and sends its first `sent` bytes in pieces; gives its path and id.
    pub async fn begin_upload(
        &self,
        repository: &str,
        bytes: &[u8],
        sent: usize,
        piece: usize,
    ) -> Result<(String, String), Refused> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.send(&[202], Method::POST, &path, &[], Vec::new()).await?;
        let path = answer.header("location").unwrap_or_default().to_owned();
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), bytes.to_vec());
        let key = Key::Upload(repository.into(), id.clone());
        self.history.note(vec![(key.clone(), Fate::Is("0".into()))]);
        for (at, chunk) in bytes[..sent].chunks(piece).enumerate() {
            let (start, end) = (at * piece, at * piece + chunk.len());
            let range = format!("{start}-{}", end - 1);
            let further = vec![(key.clone(), Fate::Is(end.to_string()))];
            self.noted(further, &[202], Method::PATCH, &path, &[("content-range", &range)], chunk.to_vec()).await?;
        }
        Ok((path, id))
    }

    /// Closes an upload with its last bytes.
    pub async fn finish_upload(
        &self,
        repository: &str,
        path: &str,
        bytes: &[u8],
        sent: usize,
    ) -> Result<String, Refused> {
        let digest = format!("sha256:{}", sha256(bytes));
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let changes = vec![
            (Key::Blob(repository.into(), digest.clone()), Fate::Is(String::new())),
            (Key::Upload(repository.into(), id), Fate::Gone),
        ];
        let path = format!("{path}?digest={digest}");
        self.noted(changes, &[201], Method::PUT, &path, &[], bytes[sent..].to_vec()).await?;
        Ok(digest)
    }

    /// Pushes a blob in pieces, the last of them with the closing request.
    pub async fn chunked(&self, repository: &str, bytes: &[u8], piece: usize) -> Result<String, Refused> {
        let sent = bytes.len() - bytes.len().min(piece);
        let (path, _) = self.begin_upload(repository, bytes, sent, piece).await?;
        self.finish_upload(repository, &path, bytes, sent).await
    }

    /// Links a blob of another repository.
    pub async fn mount(&self, repository: &str, digest: &str, from: &str) -> Result<(), Refused> {
        let there = vec![(Key::Blob(repository.into(), digest.into()), Fate::Is(String::new()))];
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
        self.noted(there, &[201], Method::POST, &path, &[], Vec::new()).await.map(|_| ())
    }

    /// Pushes a manifest under a tag, or just under its digest.
    pub async fn manifest(&self, repository: &str, manifest: &Manifest, tag: Option<&str>) -> Result<(), Refused> {
        let mut changes = vec![(Key::Manifest(repository.into(), manifest.digest.clone()), Fate::Is(String::new()))];
        changes.extend(tag.map(|tag| (Key::Tag(repository.into(), tag.into()), Fate::Is(manifest.digest.clone()))));
        let path = format!("/v2/{repository}/manifests/{}", tag.unwrap_or(&manifest.digest));
        let media_type = [("content-type", manifest.media_type)];
        self.noted(changes, &[201], Method::PUT, &path, &media_type, manifest.bytes.clone()).await.map(|_| ())
    }

    /// Pushes an image: its blobs, then the manifest.
    pub async fn image(
        &self,
        repository: &str,
        config: &[u8],
        layers: &[&[u8]],
        tag: Option<&str>,
    ) -> Result<Manifest, Refused> {
        for blob in layers.iter().chain([&config]) {
            self.blob(repository, blob).await?;
        }
        let manifest = image_manifest(config, layers);
        self.manifest(repository, &manifest, tag).await?;
        Ok(manifest)
    }

    /// Removes a tag.
    pub async fn untag(&self, repository: &str, tag: &str) -> Result<(), Refused> {
        let gone = vec![(Key::Tag(repository.into(), tag.into()), Fate::Gone)];
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.noted(gone, &[202], Method::DELETE, &path, &[], Vec::new()).await.map(|_| ())
    }

    /// Deletes a manifest, with it these tags and referrers.
    pub async fn delete_manifest(
        &self,
        repository: &str,
        digest: &str,
        tags: &[&str],
        referrers: &[&str],
    ) -> Result<(), Refused> {
        let manifests = referrers.iter().chain([&digest]);
        let gone = manifests.map(|digest| (Key::Manifest(repository.into(), (*digest).into()), Fate::Gone));
        let tags = tags.iter().map(|tag| (Key::Tag(repository.into(), (*tag).into()), Fate::Gone));
        let path = format!("/v2/{repository}/manifests/{digest}");
        self.noted(gone.chain(tags).collect(), &[202], Method::DELETE, &path, &[], Vec::new()).await.map(|_| ())
    }

    /// Takes a blob out of a repository.
    pub async fn delete_blob(&self, repository: &str, digest: &str) -> Result<(), Refused> {
        let gone = vec![(Key::Blob(repository.into(), digest.into()), Fate::Gone)];
        let path = format!("/v2/{repository}/blobs/{digest}");
        self.noted(gone, &[202], Method::DELETE, &path, &[], Vec::new()).await.map(|_| ())
    }

    /// Deletes a repository. Its blobs stay until they are collected.
    pub async fn delete_repository(&self, repository: &str) -> Result<(), Refused> {
        let expectations = self.history.expectations();
        let fate = |key: &Key| match key {
            Key::Manifest(name, _) | Key::Tag(name, _) if name == repository => Some((key.clone(), Fate::Gone)),
            Key::Blob(name, _) if name == repository => Some((key.clone(), Fate::Free)),
            _ => None,
        };
        let changes = expectations.all().filter_map(|(key, _)| fate(key)).collect();
        let path = format!("/acr/v1/{repository}");
        self.noted(changes, &[202], Method::DELETE, &path, &[], Vec::new()).await.map(|_| ())
    }

    /// From here on nothing is known of a blob: nothing refers to it.
    pub fn abandon_blob(&self, repository: &str, digest: &str) {
        self.history.note(vec![(Key::Blob(repository.into(), digest.into()), Fate::Free)]);
    }
}

//! Reading manifests. The bytes are stored as they came; what is read here is only what the registry must know of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use postern_model::{Algorithm, Digest};
use postern_store::{MAX_MANIFEST_BYTES, ManifestChild, ManifestFacts};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Condition, Refusal};

/// Most layers of one image.
pub const MAX_LAYERS: usize = 1000;
/// Most manifests of one index.
pub const MAX_CHILDREN: usize = 1000;
/// Most bytes of annotations: they are repeated in every list of referrers.
pub const MAX_ANNOTATION_BYTES: usize = 128 << 10;
/// Deepest nesting of a manifest's JSON.
pub const MAX_JSON_DEPTH: usize = 32;

const MAX_MEDIA_TYPE_BYTES: usize = 256;
/// A config is read for its platform only up to this size.
pub(crate) const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// `architecture` and `os` of a config are shown in lists.
const MAX_PLATFORM_BYTES: usize = 64;

/// The kinds of manifests that may be pushed.
///
/// Source: OCI image specification, media types; Docker image manifest version 2, schema 2. Schema 1 is refused (choice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    DockerImage,
    DockerList,
    OciImage,
    OciIndex,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::DockerImage, "application/vnd.docker.distribution.manifest.v2+json"),
        (Self::DockerList, "application/vnd.docker.distribution.manifest.list.v2+json"),
        (Self::OciImage, "application/vnd.oci.image.manifest.v1+json"),
        (Self::OciIndex, "application/vnd.oci.image.index.v1+json"),
    ];

    fn of(media_type: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == media_type).map(|(kind, _)| *kind)
    }
}

/// Why a body is no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    /// What is wrong.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::new(Condition::ManifestInvalid).with_detail(problem.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: Option<String>,
    os: Option<String>,
}

/// A descriptor whose fields hold.
struct Target {
    media_type: String,
    digest: Digest,
    size: u64,
    is_foreign: bool,
    platform: Option<Platform>,
}

/// A pushed manifest, read.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) facts: ManifestFacts,
    /// The image's config, if it is small enough to look for the platform in it.
    pub(crate) config: Option<Digest>,
}

/// Reads a manifest that came under this `Content-Type`; `algorithm` is the one its digest is asked for in.
pub(crate) fn parse(content_type: Option<&str>, bytes: Bytes, algorithm: Algorithm) -> Result<Parsed, Problem> {
    let content_type = content_type.ok_or_else(|| problem("a manifest needs a Content-Type"))?;
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let kind = Kind::of(media_type)
        .ok_or_else(|| problem(format!("manifests of media type `{}` are not accepted", shown(media_type))))?;
    check_depth(&bytes)?;
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| problem(format!("not a manifest: {error}")))?;
    check_envelope(&wire, kind, media_type)?;

    let artifact_type = wire.artifact_type.filter(|text| !text.is_empty());
    if artifact_type.as_ref().is_some_and(|text| !is_media_type(text)) {
        return Err(problem("artifactType must be a media type"));
    }
    let subject = wire.subject.map(|subject| target(subject, "subject")).transpose()?;
    let annotations = annotations(wire.annotations)?;
    let digest = digest_of(&bytes, algorithm);
    let mut facts = ManifestFacts {
        digest,
        media_type: media_type.to_owned(),
        bytes,
        config_media_type: None,
        blobs: Vec::new(),
        children: Vec::new(),
        subject: subject.map(|subject| subject.digest),
        artifact_type,
        annotations,
        image_size: 0,
        architecture: None,
        os: None,
    };
    let mut config = None;
    match kind {
        Kind::DockerImage | Kind::OciImage => {
            config = read_image(&mut facts, wire.config, wire.layers.unwrap_or_default())?;
        }
        Kind::DockerList | Kind::OciIndex => read_index(&mut facts, wire.manifests)?,
    }
    Ok(Parsed { facts, config })
}

/// What must agree before anything else is believed.
///
/// Source: OCI distribution specification, "Pushing Manifests"; the ambiguity of CVE-2021-41190 is refused.
fn check_envelope(wire: &Wire, kind: Kind, media_type: &str) -> Result<(), Problem> {
    if wire.schema_version != 2 {
        return Err(problem("schemaVersion must be 2"));
    }
    match (&wire.media_type, kind) {
        (Some(own), _) if own == media_type => {}
        (Some(own), _) => {
            return Err(problem(format!("mediaType is `{}`, Content-Type is `{media_type}`", shown(own))));
        }
        (None, Kind::DockerImage | Kind::DockerList) => return Err(problem("mediaType is missing")),
        (None, Kind::OciImage | Kind::OciIndex) => {}
    }
    let is_index = matches!(kind, Kind::DockerList | Kind::OciIndex);
    let foreign = if is_index { wire.config.is_some() || wire.layers.is_some() } else { wire.manifests.is_some() };
    if foreign || wire.fs_layers.is_some() {
        return Err(problem("fields of an image and of an index are mixed"));
    }
    Ok(())
}

fn read_image(
    facts: &mut ManifestFacts,
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
) -> Result<Option<Digest>, Problem> {
    if layers.len() > MAX_LAYERS {
        return Err(problem(format!("more than {MAX_LAYERS} layers")));
    }
    let config = target(config.ok_or_else(|| problem("config is missing"))?, "config")?;
    facts.image_size = config.size;
    facts.blobs.push(config.digest);
    for layer in layers {
        let layer = target(layer, "layer")?;
        facts.image_size = facts.image_size.saturating_add(layer.size);
        // Layers that must not be distributed stay where their `urls` say.
        if !layer.is_foreign {
            facts.blobs.push(layer.digest);
        }
    }
    // Source: OCI distribution specification, "Listing Referrers": an image without artifactType has its config's media type.
    facts.artifact_type.get_or_insert_with(|| config.media_type.clone());
    let is_small = config.size <= MAX_CONFIG_BYTES;
    facts.config_media_type = Some(config.media_type);
    Ok(is_small.then_some(config.digest))
}

fn read_index(facts: &mut ManifestFacts, manifests: Option<Vec<Descriptor>>) -> Result<(), Problem> {
    let manifests = manifests.ok_or_else(|| problem("manifests is missing"))?;
    if manifests.len() > MAX_CHILDREN {
        return Err(problem(format!("more than {MAX_CHILDREN} manifests")));
    }
    for child in manifests {
        let child = target(child, "manifest")?;
        let platform = child.platform.unwrap_or(Platform { architecture: None, os: None });
        facts.children.push(ManifestChild {
            digest: child.digest,
            architecture: platform.architecture.filter(|word| is_platform_word(word)),
            os: platform.os.filter(|word| is_platform_word(word)),
        });
    }
    Ok(())
}

fn target(descriptor: Descriptor, what: &str) -> Result<Target, Problem> {
    let digest = descriptor.digest.parse().map_err(|error| problem(format!("digest of a {what}: {error}")))?;
    if !is_media_type(&descriptor.media_type) {
        return Err(problem(format!("mediaType of a {what} is not a media type")));
    }
    if i64::try_from(descriptor.size).is_err() {
        return Err(problem(format!("size of a {what} is out of range")));
    }
    let is_undistributable = ["foreign", "nondistributable"].iter().any(|word| descriptor.media_type.contains(word));
    let is_foreign = is_undistributable && descriptor.urls.is_some_and(|urls| !urls.is_empty());
    let Descriptor { media_type, size, platform, .. } = descriptor;
    Ok(Target { media_type, digest, size, is_foreign, platform })
}

fn annotations(annotations: Option<BTreeMap<String, String>>) -> Result<Option<String>, Problem> {
    let Some(annotations) = annotations.filter(|annotations| !annotations.is_empty()) else { return Ok(None) };
    let text = serde_json::to_string(&annotations).map_err(|error| problem(format!("annotations: {error}")))?;
    if text.len() > MAX_ANNOTATION_BYTES {
        return Err(problem(format!("annotations are larger than {MAX_ANNOTATION_BYTES} bytes")));
    }
    Ok(Some(text))
}

/// Media types go into headers and lists: `type/subtype`, visible ASCII, bounded.
fn is_media_type(text: &str) -> bool {
    text.len() <= MAX_MEDIA_TYPE_BYTES && text.contains('/') && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

fn is_platform_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_PLATFORM_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The digest of a manifest's bytes.
pub(crate) fn digest_of(bytes: &[u8], algorithm: Algorithm) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::Sha256(Sha256::digest(bytes).into()),
        Algorithm::Sha512 => Digest::Sha512(Sha512::digest(bytes).into()),
    }
}

/// Refuses deep nesting before a parser walks down.
fn check_depth(bytes: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_JSON_DEPTH {
            return Err(problem(format!("nested deeper than {MAX_JSON_DEPTH} levels")));
        }
    }
    Ok(())
}

/// What an image's config says it runs on; nothing where it says nothing, or is no such config.
pub(crate) fn platform(config: &[u8]) -> (Option<String>, Option<String>) {
    if check_depth(config).is_err() {
        return (None, None);
    }
    let platform = serde_json::from_slice(config).unwrap_or(Platform { architecture: None, os: None });
    (platform.architecture.filter(|word| is_platform_word(word)), platform.os.filter(|word| is_platform_word(word)))
}

/// A manifest too large to be read.
pub(crate) fn too_large() -> Refusal {
    Refusal::new(Condition::ManifestTooLarge).with_detail(format!("the limit is {MAX_MANIFEST_BYTES} bytes"))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_MEDIA_TYPE_BYTES).collect()
}

fn problem(text: impl Into<String>) -> Problem {
    Problem(text.into())
}

#[cfg(test)]
mod tests;

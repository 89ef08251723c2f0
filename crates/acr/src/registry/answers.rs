//! What a registry answers with.

use std::collections::BTreeSet;

use postern_model::{Digest, Tag, Timestamp};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Catalog {
    pub(super) repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct TagPage {
    pub(super) tags: Option<Vec<WireTag>>,
}

#[derive(Deserialize)]
pub(super) struct ManifestPage {
    pub(super) manifests: Option<Vec<WireEntry>>,
}

#[derive(Deserialize)]
pub(super) struct WireManifest {
    pub(super) manifest: WireEntry,
}

#[derive(Deserialize)]
pub(super) struct ReferrerPage {
    pub(super) manifests: Option<Vec<WireDescriptor>>,
}

#[derive(Deserialize)]
pub(super) struct WireDescriptor {
    pub(super) digest: String,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireTag {
    name: String,
    digest: String,
    last_update_time: String,
    changeable_attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireEntry {
    digest: String,
    last_update_time: String,
    media_type: Option<String>,
    tags: Option<Vec<String>>,
    references: Option<Vec<WireDescriptor>>,
    changeable_attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    delete_enabled: Option<bool>,
    write_enabled: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct WireContent {
    manifests: Option<Vec<WireDescriptor>>,
    subject: Option<WireDescriptor>,
}

/// A tag as a list has it.
#[derive(Clone, Debug)]
pub(crate) struct FoundTag {
    pub(crate) name: Tag,
    pub(crate) digest: Digest,
    pub(crate) updated: Timestamp,
    pub(crate) is_locked: bool,
}

/// A manifest as a list has it.
#[derive(Clone, Debug)]
pub(crate) struct FoundManifest {
    pub(crate) digest: Digest,
    pub(crate) updated: Timestamp,
    pub(crate) kind: Kind,
    pub(crate) tags: BTreeSet<Tag>,
    pub(crate) references: Option<Vec<Digest>>,
    pub(crate) is_locked: bool,
}

/// What a manifest itself says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// What it lists, and of which kind that is said to be.
    pub(crate) children: Vec<(Digest, Kind)>,
    pub(crate) subject: Option<Digest>,
}

/// What a media type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It lists others.
    Index,
    /// It lists none.
    Image,
    /// It is not said what it is.
    Unknown,
}

impl Kind {
    fn of(media_type: Option<&str>) -> Self {
        match media_type {
            Some(
                "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json",
            ) => Self::Index,
            Some(media_type) if !media_type.is_empty() => Self::Image,
            _ => Self::Unknown,
        }
    }
}

impl Attributes {
    fn is_locked(attributes: Option<&Self>) -> bool {
        attributes.is_some_and(|one| one.delete_enabled == Some(false) || one.write_enabled == Some(false))
    }
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no {what}"))
}

fn digests(descriptors: &[WireDescriptor]) -> Result<Vec<Digest>, String> {
    descriptors.iter().map(|one| parsed(&one.digest, "digest")).collect()
}

impl WireTag {
    pub(super) fn read(self) -> Result<FoundTag, String> {
        Ok(FoundTag {
            name: parsed(&self.name, "tag")?,
            digest: parsed(&self.digest, "digest")?,
            updated: parsed(&self.last_update_time, "time")?,
            is_locked: Attributes::is_locked(self.changeable_attributes.as_ref()),
        })
    }
}

impl WireEntry {
    pub(super) fn read(self) -> Result<FoundManifest, String> {
        Ok(FoundManifest {
            digest: parsed(&self.digest, "digest")?,
            updated: parsed(&self.last_update_time, "time")?,
            kind: Kind::of(self.media_type.as_deref()),
            tags: self.tags.unwrap_or_default().iter().map(|tag| parsed(tag, "tag")).collect::<Result<_, _>>()?,
            references: self.references.map(|references| digests(&references)).transpose()?,
            is_locked: Attributes::is_locked(self.changeable_attributes.as_ref()),
        })
    }
}

impl WireContent {
    pub(super) fn read(self) -> Result<Content, String> {
        let children = self.manifests.unwrap_or_default();
        let kinds = children.iter().map(|one| Kind::of(one.media_type.as_deref()));
        Ok(Content {
            children: digests(&children)?.into_iter().zip(kinds).collect(),
            subject: self.subject.map(|subject| parsed(&subject.digest, "digest")).transpose()?,
        })
    }
}

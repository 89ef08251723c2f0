//! What is in the registries before anything is measured: the same in each.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::content::{Blob, Blobs, INDEX_TYPE, MANIFEST_TYPE, empty_index, manifest};
use crate::load::{Limit, Load, call};
use crate::scripts::{Fresh, Push, Supply};
use crate::site::Site;
use crate::wire::Body;

pub(crate) const REPOSITORY: &str = "bench/app";
pub(crate) const TAG: &str = "v1";
/// Connections for setting things up.
const CALLERS: usize = 16;
/// Tags that Postern takes with one manifest.
const TAGS_PER_PUSH: u32 = 10;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

/// The image that is pulled: a config of 1 KiB and layers of 64 KiB, 256 KiB and 1 MiB.
pub(crate) struct Image {
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: String,
}

impl Image {
    pub(crate) fn new() -> Self {
        let config = Blobs::of_size(KIB).get(0);
        let layers: Vec<Blob> =
            [64 * KIB, 256 * KIB, MIB].into_iter().map(|size| Blobs::of_size(size).get(0)).collect();
        let manifest = manifest(&config, &layers, "bench");
        let digest = crate::content::digest_of(&manifest);
        Self { config, layers, manifest, digest }
    }

    /// Puts it into a registry.
    pub(crate) fn push(&self, site: &Site) -> Result<()> {
        let blobs = std::iter::once(&self.config).chain(&self.layers).cloned().collect();
        push(site, REPOSITORY, blobs)?;
        put_manifest(site, REPOSITORY, TAG, MANIFEST_TYPE, &self.manifest)
    }
}

/// Uploads blobs.
pub(crate) fn push(site: &Site, repository: &str, blobs: Vec<Blob>) -> Result<()> {
    let operations = blobs.len() as u64;
    let mut script = Push::new(site, repository, Supply::List(blobs), None);
    Load::connect(site, CALLERS)?.run(&mut script, Limit { time: Duration::MAX, operations })?;
    Ok(())
}

pub(crate) fn put_manifest(site: &Site, repository: &str, reference: &str, kind: &str, bytes: &[u8]) -> Result<()> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let lines = format!("content-type: {kind}\r\n");
    let request = site.send("PUT", &target, &lines, Body::Bytes(bytes.into())).expect(201);
    call(site, request).with_context(|| format!("{reference} of {repository} cannot be pushed"))?;
    Ok(())
}

/// The name of a tag, in order.
pub(crate) fn tag(number: u32) -> String {
    format!("t{number:06}")
}

/// The name of a repository, in order.
pub(crate) fn repository(number: u32) -> String {
    format!("catalog/r{number:05}")
}

/// Tags of one repository of Postern, by its API.
pub(crate) fn tags(site: &Site, name: &str, count: u32) -> Result<()> {
    let index = empty_index();
    let digest = crate::content::digest_of(&index);
    let body = Body::Bytes(index.into());
    let lines = format!("content-type: {INDEX_TYPE}\r\n");
    let mut script = Fresh::new(|_, number| {
        let first = u32::try_from(number).unwrap_or(u32::MAX).saturating_mul(TAGS_PER_PUSH);
        let tags: Vec<String> = (first..first + TAGS_PER_PUSH).map(|at| format!("tag={}", tag(at))).collect();
        let target = format!("/v2/{name}/manifests/{digest}?{}", tags.join("&"));
        site.send("PUT", &target, &lines, body.clone()).expect(201)
    });
    let operations = u64::from(count.div_ceil(TAGS_PER_PUSH));
    Load::connect(site, CALLERS)?.run(&mut script, Limit { time: Duration::MAX, operations })?;
    Ok(())
}

/// Repositories of Postern, by its API.
pub(crate) fn repositories(site: &Site, count: u32) -> Result<()> {
    let body = Body::Bytes(empty_index().into());
    let lines = format!("content-type: {INDEX_TYPE}\r\n");
    let mut script = Fresh::new(|_, number| {
        let target = format!("/v2/{}/manifests/latest", repository(u32::try_from(number).unwrap_or(u32::MAX)));
        site.send("PUT", &target, &lines, body.clone()).expect(201)
    });
    Load::connect(site, CALLERS)?.run(&mut script, Limit { time: Duration::MAX, operations: u64::from(count) })?;
    Ok(())
}

//! Who does what in a row.

use anyhow::{Context as _, Result};

use crate::content::{Blobs, MANIFEST_TYPE, manifest};
use crate::estate::Estate;
use crate::load::Script;
use crate::postern::{Postern, STRANGER};
use crate::process::Server;
use crate::row::{Limited, Row, Who, Work};
use crate::scripts::{Fresh, Push, Repeat, Storm, Supply};
use crate::seed::{self, REPOSITORY, TAG};
use crate::site::{ACCEPT, Site};
use crate::stage::{FEWER_TAGS, MANY_TAGS, MOUNT_SOURCE, Stage, file_of};
use crate::wire::{Body, Request};

/// Chunks of a chunked upload.
const CHUNK_BYTES: usize = 8 << 20;
/// Entries of a page.
const PAGE: u32 = 100;
/// The most that Postern puts on a page.
const LARGEST_PAGE: u32 = 1000;
const PULL: &str = "repository:bench/app:pull";
const PUSH: &str = "repository:bench/app:pull,push";

/// One server with its clients.
pub(crate) struct Entry<'a> {
    pub(crate) who: Who,
    pub(crate) server: &'a Server,
    pub(crate) site: Site,
    pub(crate) script: Box<dyn Script>,
}

/// Everybody who takes part in the row, Postern first.
pub(crate) fn entries<'a>(stage: &'a Stage, row: &Row) -> Result<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    let mut add = |who, server, site: Site, script| entries.push(Entry { who, server, site, script });
    let postern = measured(stage, row.work)?;
    let own = own_site(stage, row)?;
    add(Who::Postern, &postern.server, own.clone(), script(stage, row.work, &own, true)?);
    if let (Some(peer), false) = (&stage.peer, row.tls || is_own_affair(row.work)) {
        add(Who::Peer, &peer.server, peer.site.clone(), script(stage, row.work, &peer.site, false)?);
    }
    match (row.limit, &stage.nginx) {
        (Limited::Hello, _) => {
            let (server, site) = &stage.hello;
            let method = if matches!(row.work, Work::GetDigest) { "GET" } else { "HEAD" };
            add(Who::Limit, server, site.clone(), Box::new(Repeat::one(site.request(method, "/"))));
        }
        (Limited::Nginx, Some(nginx)) => {
            let site = if row.tls { &nginx.tls } else { &nginx.plain };
            add(Who::Limit, &nginx.server, site.clone(), Box::new(Repeat::one(file_request(row.work, site))));
        }
        (Limited::Sink, _) => {
            let (server, site) = &stage.sink;
            add(Who::Limit, server, site.clone(), sink_script(stage, row.work, site));
        }
        (Limited::Nginx | Limited::Nothing, _) => {}
    }
    match row.work {
        Work::Overhead => {
            let site = stage.open.anonymous(PULL)?;
            let script = script(stage, Work::HeadTag, &site, true)?;
            add(Who::Other, &stage.open.server, site, script);
        }
        Work::HeadAmongMany => {
            let site = stage.postern.with_token(&[PULL])?;
            let script = script(stage, Work::HeadTag, &site, true)?;
            add(Who::Other, &stage.postern.server, site, script);
        }
        Work::Unauthenticated | Work::Refused => {
            let site = postern.with_token(&[PULL])?;
            let script = script(stage, Work::HeadTag, &site, true)?;
            add(Who::Other, &postern.server, site, script);
        }
        Work::PatchBlob(size) => {
            let script = script(stage, Work::PushBlob(size), &own, true)?;
            add(Who::Other, &postern.server, own, script);
        }
        Work::TagsPage => {
            let last = stage.sizes.many_tags.saturating_sub(PAGE + 1);
            add(Who::Other, &postern.server, own.clone(), tags_page(&own, MANY_TAGS, PAGE, Some(last)));
            add(Who::Third, &postern.server, own.clone(), tags_page(&own, FEWER_TAGS, PAGE, None));
        }
        Work::CatalogFirst => {
            let script = script(stage, Work::CatalogLast, &own, true)?;
            add(Who::Other, &postern.server, own, script);
        }
        Work::CatalogLast => {
            let script = script(stage, Work::CatalogFirst, &own, true)?;
            add(Who::Other, &postern.server, own, script);
        }
        _ => {}
    }
    Ok(entries)
}

/// Whether only Postern does this.
fn is_own_affair(work: Work) -> bool {
    matches!(work, Work::Overhead | Work::Unauthenticated | Work::Refused | Work::Manage(_) | Work::HeadAmongMany)
}

/// The server that the row is about.
fn measured(stage: &Stage, work: Work) -> Result<&Postern> {
    Ok(match work {
        Work::Manage(_) | Work::HeadAmongMany => &estate(stage)?.postern,
        _ => &stage.postern,
    })
}

fn estate(stage: &Stage) -> Result<&Estate> {
    stage.estate.as_ref().context("the estate is not there")
}

/// Postern as this row's clients see it: with the token that they need.
fn own_site(stage: &Stage, row: &Row) -> Result<Site> {
    let postern = measured(stage, row.work)?;
    let site = if row.tls { &postern.tls } else { &postern.site };
    let scopes: &[&str] = match row.work {
        Work::Unauthenticated | Work::Storm => return Ok(site.clone()),
        Work::Refused => {
            let token = postern.token(&[PULL])?;
            return Ok(site.seen_from(STRANGER).with_authorization(&token));
        }
        Work::TagsPage | Work::AllTags => &["repository:bench/many-tags:pull", "repository:bench/fewer-tags:pull"],
        Work::CatalogFirst | Work::CatalogLast => &["registry:catalog:*"],
        Work::PushBlob(_) | Work::PatchBlob(_) | Work::PutManifest | Work::Mount => &[PUSH],
        _ => &[PULL],
    };
    Ok(site.with_authorization(&postern.token(scopes)?))
}

/// What a client of a registry does.
fn script(stage: &Stage, work: Work, site: &Site, is_own: bool) -> Result<Box<dyn Script>> {
    let image = &stage.image;
    let manifest_by = |reference: &str| format!("/v2/{REPOSITORY}/manifests/{reference}");
    let blob_by = |digest: &str| format!("/v2/{REPOSITORY}/blobs/{digest}");
    let small = |method: &str, target: &str| -> Box<dyn Script> {
        Box::new(Repeat::one(site.send(method, target, ACCEPT, Body::Empty)))
    };
    Ok(match work {
        Work::HeadTag | Work::Overhead | Work::HeadAmongMany => small("HEAD", &manifest_by(TAG)),
        Work::Unauthenticated | Work::Refused => {
            let status = if work == Work::Refused { 403 } else { 401 };
            let request = site.send("HEAD", &manifest_by(TAG), ACCEPT, Body::Empty).expect(status);
            Box::new(Repeat::one(request))
        }
        Work::Manage(task) => estate(stage)?.script(task, stage.sizes, site),
        Work::GetDigest => small("GET", &manifest_by(&image.digest)),
        Work::HeadBlob => small("HEAD", &blob_by(&image.config.digest)),
        Work::GetBlob(size) => small("GET", &blob_by(&stage.blob(size).digest)),
        Work::PushBlob(size) | Work::PatchBlob(size) => {
            let chunk = matches!(work, Work::PatchBlob(_)).then_some(CHUNK_BYTES);
            let supply = Supply::Endless(Blobs::of_size(stage.sized(size)));
            Box::new(Push::new(site, REPOSITORY, supply, chunk))
        }
        Work::Mount => mounts(stage, site, is_own)?,
        Work::PutManifest => {
            let (site, config, layers) = (site.clone(), image.config.clone(), image.layers.clone());
            let lines = format!("content-type: {MANIFEST_TYPE}\r\n");
            Box::new(Fresh::new(move |_, number| {
                let manifest = manifest(&config, &layers, &format!("put {number}"));
                let target = format!("/v2/{REPOSITORY}/manifests/put-{number}");
                site.send("PUT", &target, &lines, Body::Bytes(manifest.into())).expect(201)
            }))
        }
        Work::TagsPage => tags_page(site, MANY_TAGS, PAGE, None),
        Work::AllTags => {
            let pages = if is_own { stage.sizes.fewer_tags.div_ceil(LARGEST_PAGE) } else { 1 };
            Box::new(Repeat::all((0..pages).map(|page| {
                let last = (page * LARGEST_PAGE).checked_sub(1);
                tags_request(site, FEWER_TAGS, if is_own { Some(LARGEST_PAGE) } else { None }, last)
            })))
        }
        Work::CatalogFirst => Box::new(Repeat::one(site.request("GET", &format!("/v2/_catalog?n={PAGE}")))),
        Work::CatalogLast => {
            let last = seed::repository(stage.sizes.repositories.saturating_sub(PAGE + 1));
            let last: String = form_urlencoded::byte_serialize(last.as_bytes()).collect();
            Box::new(Repeat::one(site.request("GET", &format!("/v2/_catalog?n={PAGE}&last={last}"))))
        }
        Work::Storm => {
            let mut targets = vec![("HEAD", manifest_by(TAG)), ("GET", manifest_by(&image.digest))];
            let blobs = std::iter::once(&image.config).chain(&image.layers);
            targets.extend(blobs.map(|blob| ("GET", blob_by(&blob.digest))));
            let token = is_own.then(|| stage.postern.token_request(&[PULL]));
            Box::new(Storm::new(site, token, targets, ACCEPT))
        }
    })
}

/// Each connection has a repository of its own, into which it mounts one blob after the other.
fn mounts(stage: &Stage, site: &Site, is_own: bool) -> Result<Box<dyn Script>> {
    const TARGETS: usize = 16;
    let digests: Vec<String> = stage.mountable().into_iter().map(|blob| blob.digest).collect();
    let mut sites = Vec::new();
    for target in 0..TARGETS {
        let scopes = [&format!("repository:mount/r{target}:pull,push"), "repository:bench/source:pull"];
        sites.push(if is_own { stage.postern.with_token(&scopes)? } else { site.clone() });
    }
    let mut next = [0_usize; TARGETS];
    let fallback = site.clone();
    Ok(Box::new(Fresh::new(move |connection, _| {
        let target = connection % TARGETS;
        let at = next.get_mut(target).map_or(0, |next| {
            *next += 1;
            *next - 1
        });
        let digest = digests.get(at % digests.len()).map_or("", String::as_str);
        let path = format!("/v2/mount/r{target}/blobs/uploads/?mount={digest}&from={MOUNT_SOURCE}");
        sites.get(target).unwrap_or(&fallback).send("POST", &path, "", Body::Empty).expect(201)
    })))
}

fn tags_page(site: &Site, repository: &str, count: u32, last: Option<u32>) -> Box<dyn Script> {
    Box::new(Repeat::one(tags_request(site, repository, Some(count), last)))
}

fn tags_request(site: &Site, repository: &str, count: Option<u32>, last: Option<u32>) -> Request {
    let count = count.map(|count| format!("n={count}"));
    let last = last.map(|last| format!("last={}", seed::tag(last)));
    let query: Vec<String> = count.into_iter().chain(last).collect();
    site.request("GET", &format!("/v2/{repository}/tags/list?{}", query.join("&")))
}

/// The same bytes as a file.
fn file_request(work: Work, site: &Site) -> Request {
    match work {
        Work::GetBlob(size) => site.request("GET", &format!("/{}", file_of(size))),
        Work::GetDigest => site.request("GET", "/manifest"),
        _ => site.request("HEAD", "/manifest"),
    }
}

fn sink_script(stage: &Stage, work: Work, site: &Site) -> Box<dyn Script> {
    let size = if let Work::PushBlob(size) = work { stage.sized(size) } else { 0 };
    let (site, blobs) = (site.clone(), Blobs::of_size(size));
    Box::new(Fresh::new(move |_, number| {
        site.send("PUT", "/", "", Body::Part(blobs.get(number).content, 0, size)).expect(201)
    }))
}

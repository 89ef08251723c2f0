//! Everybody who takes part, and what they hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::content::{Blob, Blobs};
use crate::estate::Estate;
use crate::limits::{self, Nginx};
use crate::machine::Cores;
use crate::peer::{self, Layout, Peer};
use crate::postern::{self, Postern, Wall};
use crate::process::{Server, Starter};
use crate::row::Work;
use crate::seed::{self, Image, KIB, MIB, REPOSITORY};
use crate::site::Site;

/// A repository with many tags, and one with fewer.
pub(crate) const MANY_TAGS: &str = "bench/many-tags";
pub(crate) const FEWER_TAGS: &str = "bench/fewer-tags";
/// The data folder of the server with very many registries.
pub(crate) const ESTATE: &str = "postern-estate";
/// Blobs are mounted from here.
pub(crate) const MOUNT_SOURCE: &str = "bench/source";

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) address_rules: u32,
    pub(crate) assignments: u32,
    /// Registries of the estate, and role assignments in all of them together.
    pub(crate) registries: u32,
    pub(crate) all_assignments: u32,
    pub(crate) many_tags: u32,
    pub(crate) fewer_tags: u32,
    pub(crate) repositories: u32,
    pub(crate) mountable: u64,
    /// Largest blob; the smoke run does without large ones.
    pub(crate) blob_bytes: usize,
    pub(crate) idle_connections: usize,
}

/// Programs to start.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) postern: PathBuf,
    pub(crate) peer: Option<PathBuf>,
    pub(crate) nginx: Option<PathBuf>,
}

pub(crate) struct Stage {
    pub(crate) sizes: Sizes,
    pub(crate) programs: Programs,
    pub(crate) cores: Option<Cores>,
    pub(crate) folder: PathBuf,
    pub(crate) image: Image,
    /// With all rules on.
    pub(crate) postern: Postern,
    /// With all rules off.
    pub(crate) open: Postern,
    /// With all rules on, very many registries and role assignments; for the rows that are about those.
    pub(crate) estate: Option<Estate>,
    pub(crate) peer: Option<Peer>,
    pub(crate) nginx: Option<Nginx>,
    pub(crate) hello: (Server, Site),
    pub(crate) sink: (Server, Site),
    files: PathBuf,
    seeded: BTreeSet<&'static str>,
}

impl Stage {
    /// Starts everybody. What a row needs is put in before the row.
    pub(crate) fn set(folder: &Path, programs: Programs, cores: Option<Cores>, sizes: Sizes) -> Result<Self> {
        let (files, sunk, nginx) = (folder.join("files"), folder.join("sink"), folder.join("nginx"));
        for folder in [&files, &sunk, &nginx] {
            fs::create_dir_all(folder)?;
        }
        let starter = Starter { cores, logs: folder };
        let start = |name: &str, wall: Wall| -> Result<Postern> {
            let postern = Postern::start(starter, &postern_options(&programs, folder, name))?;
            postern.set(wall).with_context(|| format!("{name} cannot be set up"))?;
            Ok(postern)
        };
        let wall = Wall::On { address_rules: sizes.address_rules, assignments: sizes.assignments };
        let (postern, open) = (start("postern", wall)?, start("postern-open", Wall::Off)?);
        let peer = peer_options(&programs, folder, "docker-registry");
        let stage = Self {
            image: Image::new(),
            postern,
            open,
            estate: None,
            peer: peer.map(|options| Peer::start(starter, &options)).transpose()?,
            nginx: programs.nginx.as_ref().map(|path| Nginx::start(starter, path, &nginx, &files)).transpose()?,
            hello: limits::own(starter, "hello", &sunk)?,
            sink: limits::own(starter, "sink", &sunk)?,
            seeded: BTreeSet::new(),
            folder: folder.into(),
            sizes,
            programs,
            cores,
            files,
        };
        stage.image.push(&stage.postern.administrator())?;
        stage.image.push(&stage.open.administrator())?;
        if let Some(peer) = &stage.peer {
            stage.image.push(&peer.site)?;
        }
        fs::write(stage.files.join("manifest"), &stage.image.manifest)?;
        Ok(stage)
    }

    pub(crate) fn starter(&self) -> Starter<'_> {
        Starter { cores: self.cores, logs: &self.folder }
    }

    /// How one more Postern is started.
    pub(crate) fn postern_options(&self, name: &str) -> postern::Options {
        postern_options(&self.programs, &self.folder, name)
    }

    /// How one more peer is started.
    pub(crate) fn peer_options(&self, name: &str) -> Option<peer::Options> {
        peer_options(&self.programs, &self.folder, name)
    }

    /// A blob of a size that all have, after [`Stage::seed`].
    pub(crate) fn blob(&self, bytes: usize) -> Blob {
        Blobs::of_size(self.sized(bytes)).get(0)
    }

    /// A size, or the largest that this run uses.
    pub(crate) fn sized(&self, bytes: usize) -> usize {
        bytes.min(self.sizes.blob_bytes)
    }

    /// Blobs to mount.
    pub(crate) fn mountable(&self) -> Vec<Blob> {
        let blobs = Blobs::of_size(KIB / 2);
        (0..self.sizes.mountable).map(|number| blobs.get(number)).collect()
    }

    fn seed_estate(&mut self) -> Result<()> {
        if self.estate.is_none() {
            let estate = Estate::set(self.starter(), &self.postern_options(ESTATE), self.sizes)?;
            self.image.push(&estate.postern.administrator())?;
            self.estate = Some(estate);
        }
        Ok(())
    }

    /// Puts in what the work needs, once.
    pub(crate) fn seed(&mut self, work: Work) -> Result<()> {
        let name = match work {
            Work::GetBlob(size) => file_of(size),
            Work::Mount => "mount",
            Work::TagsPage | Work::AllTags => "tags",
            Work::CatalogFirst | Work::CatalogLast => "catalog",
            Work::Manage(_) | Work::HeadAmongMany => return self.seed_estate(),
            _ => return Ok(()),
        };
        if !self.seeded.insert(name) {
            return Ok(());
        }
        let administrator = self.postern.administrator();
        let peer = self.peer.as_ref().map(|peer| &peer.site);
        let layout = self.peer_options("docker-registry").map(|options| Layout::of(&options));
        let everywhere = || std::iter::once(&administrator).chain(peer);
        match work {
            Work::GetBlob(size) => {
                let blob = self.blob(size);
                for site in everywhere() {
                    seed::push(site, REPOSITORY, vec![blob.clone()])?;
                }
                fs::write(self.files.join(name), blob.content.to_vec())?;
            }
            Work::Mount => {
                for site in everywhere() {
                    seed::push(site, MOUNT_SOURCE, self.mountable())?;
                }
            }
            Work::TagsPage | Work::AllTags => {
                for (repository, count) in [(MANY_TAGS, self.sizes.many_tags), (FEWER_TAGS, self.sizes.fewer_tags)] {
                    seed::tags(&administrator, repository, count)?;
                    if let Some(layout) = &layout {
                        layout.tags(repository, (0..count).map(seed::tag))?;
                    }
                }
            }
            _ => {
                seed::repositories(&administrator, self.sizes.repositories)?;
                if let Some(layout) = &layout {
                    (0..self.sizes.repositories).try_for_each(|number| layout.repository(&seed::repository(number)))?;
                }
            }
        }
        Ok(())
    }
}

/// The name of a blob's file for nginx.
pub(crate) fn file_of(bytes: usize) -> &'static str {
    match bytes {
        KIB => "blob-1k",
        MIB => "blob-1m",
        size if size == 64 * KIB => "blob-64k",
        _ => "blob-100m",
    }
}

fn postern_options(programs: &Programs, folder: &Path, name: &str) -> postern::Options {
    postern::Options { program: programs.postern.clone(), data: folder.join(name) }
}

fn peer_options(programs: &Programs, folder: &Path, name: &str) -> Option<peer::Options> {
    let program = programs.peer.clone()?;
    Some(peer::Options { program, folder: folder.join(name) })
}

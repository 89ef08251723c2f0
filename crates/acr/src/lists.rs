//! `tag` and `manifest`: what a repository holds, and deleting pieces of it by name.

use postern_model::RepositoryName;

use crate::registry::{Registry, RegistryError};
use crate::{Failure, ManifestCommand, Output, TagCommand};

pub(crate) async fn tags(
    registry: &Registry,
    repository: &RepositoryName,
    command: &TagCommand,
    output: &dyn Output,
) -> Result<(), Failure> {
    let server = registry.server();
    match command {
        TagCommand::List => {
            let tags = registry.tags(repository, "").await.map_err(during("failed to list tags"))?;
            output.line(&format!("Listing tags for the \"{repository}\" repository:"));
            for tag in tags {
                output.line(&format!("{server}/{repository}:{}", tag.name));
            }
        }
        TagCommand::Delete { tags } => {
            for tag in tags {
                registry.delete_tag(repository, tag).await.map_err(during("failed to delete tags"))?;
                output.line(&format!("{server}/{repository}:{tag}"));
            }
        }
    }
    Ok(())
}

pub(crate) async fn manifests(
    registry: &Registry,
    repository: &RepositoryName,
    command: &ManifestCommand,
    output: &dyn Output,
) -> Result<(), Failure> {
    let server = registry.server();
    match command {
        ManifestCommand::List => {
            let manifests = registry.manifests(repository).await.map_err(during("failed to list manifests"))?;
            output.line(&format!("Listing manifests for the \"{repository}\" repository:"));
            for manifest in manifests {
                output.line(&format!("{server}/{repository}@{}", manifest.digest));
            }
        }
        ManifestCommand::Delete { digests } => {
            for digest in digests {
                registry.delete_manifest(repository, digest).await.map_err(during("failed to delete manifests"))?;
                output.line(&format!("{server}/{repository}@{digest}"));
            }
        }
    }
    Ok(())
}

fn during(what: &'static str) -> impl Fn(RegistryError) -> Failure {
    move |error| Failure::during(what)(error.into())
}

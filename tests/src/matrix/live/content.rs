//! What lies in the repositories: pushed once, locked as a row says, and put back where a row took it away.

use std::collections::BTreeSet;

use postern_access::OperationKind;
use serde_json::{Value, json};

use super::server::Outgoing;
use super::{Live, Reply, at, credentials, documents};
use crate::image::sha256;
use crate::matrix::{Locks, Place, Row};

const CONFIG: &str = r#"{"architecture":"arm64","os":"linux"}"#;
const LOOSE: &str = "a blob that no manifest names";
pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The same content in every repository.
pub(super) struct Content {
    repositories: BTreeSet<String>,
    tag: String,
    pub(super) manifest: String,
    pub(super) manifest_digest: String,
    /// A blob that the manifest names.
    pub(super) blob: String,
    /// A blob that it does not.
    pub(super) loose: String,
}

/// Whether content is gone after it.
pub(super) fn takes_away(kind: OperationKind) -> bool {
    use OperationKind::{DeleteBlob, DeleteManifest, DeleteRepository, Untag};
    matches!(kind, DeleteBlob | DeleteManifest | DeleteRepository | Untag)
}

impl Content {
    /// The tag that everything is under.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// For every repository of the rows. They all name the same tag.
    pub(super) fn of(rows: &[&Row]) -> Self {
        let tags: BTreeSet<&String> = rows.iter().filter_map(|row| row.operation.tag.as_ref()).collect();
        assert_eq!(tags.len(), 1, "the rows name one tag, not {tags:?}");
        let blob = digest(CONFIG);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob, "size": CONFIG.len()},
            "layers": [],
        })
        .to_string();
        Self {
            repositories: rows.iter().map(|row| row.operation.repository.clone()).collect(),
            tag: tags.into_iter().next().cloned().unwrap_or_default(),
            manifest_digest: digest(&manifest),
            manifest,
            blob,
            loose: digest(LOOSE),
        }
    }
}

pub(super) fn digest(text: &str) -> String {
    format!("sha256:{}", sha256(text.as_bytes()))
}

impl Live {
    /// Pushes the content. The registry is open.
    pub(super) async fn fill_repositories(&mut self, sample: &Row) {
        self.settle(documents::of(&documents::opened(sample), None)).await;
        for repository in self.content.repositories.clone() {
            self.push(&repository).await;
        }
    }

    pub(super) async fn push(&self, repository: &str) {
        for text in [CONFIG, LOOSE] {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={}", digest(text));
            self.as_admin("POST", target, None, text.into(), &[201]).await;
        }
        let target = format!("/v2/{repository}/manifests/{}", self.content.tag);
        self.as_admin("PUT", target, Some(IMAGE), self.content.manifest.clone().into(), &[201]).await;
    }

    /// Locks what the row's request touches. The registry is open.
    pub(super) async fn lock(&self, row: &Row, locks: &Locks) {
        if row.registry.quarantine {
            self.set_quarantine(row, locks.quarantined).await;
        }
        for (target, names) in self.lockable(row).into_iter().zip([&locks.repository, &locks.tag, &locks.manifest]) {
            if !names.is_empty() {
                self.set_attributes(target, names, false).await;
            }
        }
    }

    /// Passes or quarantines the manifest, whatever an earlier row did to it.
    async fn set_quarantine(&self, row: &Row, quarantined: bool) {
        let [.., manifest] = self.lockable(row);
        let state = if quarantined { "Quarantined" } else { "Passed" };
        let body = json!({"quarantineState": state}).to_string();
        self.as_admin("PATCH", manifest, Some("application/json"), body.into(), &[200]).await;
    }

    /// Unlocks everything and pushes what is gone. The registry is open.
    pub(super) async fn restore(&self, row: &Row) {
        if row.locks.is_some() {
            let all = ["deleteEnabled", "writeEnabled", "readEnabled", "listEnabled"].map(str::to_owned);
            for target in self.lockable(row) {
                self.set_attributes(target, &all, true).await;
            }
        }
        self.push(&row.operation.repository).await;
    }

    fn lockable(&self, row: &Row) -> [String; 3] {
        let repository = format!("/acr/v1/{}", row.operation.repository);
        let tag = format!("{repository}/_tags/{}", self.content.tag);
        let manifest = format!("{repository}/_manifests/{}", self.content.manifest_digest);
        [repository, tag, manifest]
    }

    async fn set_attributes(&self, target: String, names: &[String], value: bool) {
        let body: Value =
            names.iter().map(|name| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into();
        // What the row deleted needs no unlocking.
        let accepted: &[u16] = if value { &[200, 404] } else { &[200] };
        self.as_admin("PATCH", target, Some("application/json"), body.to_string().into(), accepted).await;
    }

    async fn as_admin(
        &self,
        method: &'static str,
        target: String,
        content_type: Option<&'static str>,
        body: Vec<u8>,
        accepted: &[u16],
    ) -> Reply {
        let what = format!("{method} {target}");
        let outgoing = Outgoing {
            host: self.target.host(),
            method,
            target,
            authorization: Some(credentials::basic(&self.target.name())),
            content_type,
            body,
        };
        let reply = self.server.send(outgoing, at(Place::Internet)).await;
        assert!(accepted.contains(&reply.status), "{what}: {} {}", reply.status, reply.text());
        reply
    }
}

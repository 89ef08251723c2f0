//! Content for registries: blobs that cost nothing to hash, images made of them.

use std::rc::Rc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::wire::{Content, TAIL_BYTES};

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Blobs of one size, each with a digest of its own that takes no time: all but the last bytes is hashed once.
#[derive(Clone)]
pub(crate) struct Blobs {
    shared: Rc<[u8]>,
    hashed: Sha256,
}

/// A blob.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) content: Content,
    pub(crate) digest: String,
}

impl Blobs {
    pub(crate) fn of_size(bytes: usize) -> Self {
        // Nothing here should compress or be all alike.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64;
        let shared: Rc<[u8]> = (0..bytes.saturating_sub(TAIL_BYTES))
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        let hashed = Sha256::new_with_prefix(&shared);
        Self { shared, hashed }
    }

    /// The blob with this number.
    pub(crate) fn get(&self, number: u64) -> Blob {
        let mut tail = [b'.'; TAIL_BYTES];
        tail.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
        let digest = digest(self.hashed.clone().chain_update(tail));
        Blob { content: Content::new(Rc::clone(&self.shared), tail), digest }
    }
}

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

fn digest(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::from("sha256:"), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}

/// An image's manifest. `name` makes it different from others.
pub(crate) fn manifest(config: &Blob, layers: &[Blob], name: &str) -> Vec<u8> {
    let layers = layers.iter().map(|layer| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": layer.digest,
            "size": layer.content.len(),
        })
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest,
            "size": config.content.len(),
        },
        "layers": layers.collect::<Vec<_>>(),
        "annotations": {"org.opencontainers.image.title": name},
    });
    manifest.to_string().into_bytes()
}

/// An index without members: the smallest thing that a tag can name.
pub(crate) fn empty_index() -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, Request};

    #[test]
    fn digests_are_those_of_the_bytes_sent() {
        for size in [16, 17, 1024] {
            let blobs = Blobs::of_size(size);
            let (one, two) = (blobs.get(1), blobs.get(2));
            assert_eq!(one.content.len(), size);
            assert_ne!(one.digest, two.digest);
            let request = Request::new("PUT", "/", "", Body::Part(one.content.clone(), 0, size));
            let mut sent = Vec::new();
            while sent.len() < request.len() {
                let pieces: Vec<u8> = request.rest(sent.len()).iter().flat_map(|piece| piece.to_vec()).collect();
                sent.extend(pieces);
            }
            let body = &sent[sent.len() - size..];
            assert_eq!(digest_of(body), one.digest);
        }
        assert_eq!(digest_of(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}

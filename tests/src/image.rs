//! Images written byte by byte: a folder in the OCI image layout that every client can read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// Commands of busybox that the images offer.
const APPLETS: [&str; 12] =
    ["sh", "cat", "echo", "env", "id", "ls", "true", "false", "sleep", "wget", "uname", "hostname"];
/// How much of a program is searched for the name of its loader.
const LOADER_SEARCH_BYTES: usize = 4096;
const TAR_BLOCK_BYTES: usize = 512;

/// A folder in the OCI image layout. Equal content gives equal digests, on every machine.
///
/// Source: OCI image specification 1.1, image layout.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    tagged: BTreeMap<String, Descriptor>,
}

/// Content of a layout: what it is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type.
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The size in bytes.
    pub size: usize,
}

impl Descriptor {
    /// As it stands in manifests and indexes.
    pub fn json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}

impl Layout {
    /// An empty layout in a new folder.
    pub fn create(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        fs::create_dir_all(folder.join("blobs/sha256")).expect("the folder of a layout can be created");
        write(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
        let layout = Self { folder, tagged: BTreeMap::new() };
        layout.write_index();
        layout
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What skopeo, buildah and podman call the tagged image: `oci:FOLDER:TAG`.
    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.folder.display())
    }

    /// Adds content.
    pub fn add(&self, media_type: &str, content: &[u8]) -> Descriptor {
        let hex = sha256(content);
        write(&self.folder.join("blobs/sha256").join(&hex), content);
        Descriptor { media_type: media_type.to_owned(), digest: format!("sha256:{hex}"), size: content.len() }
    }

    /// The bytes behind a descriptor.
    pub fn content(&self, descriptor: &Descriptor) -> Vec<u8> {
        let hex = descriptor.digest.trim_start_matches("sha256:");
        fs::read(self.folder.join("blobs/sha256").join(hex)).expect("a layout holds what was added to it")
    }

    /// Gives a manifest or an index a name.
    pub fn tag(&mut self, descriptor: &Descriptor, tag: &str) {
        self.tagged.insert(tag.to_owned(), descriptor.clone());
        self.write_index();
    }

    /// Adds an index over manifests.
    pub fn add_index(&self, manifests: &[Descriptor]) -> Descriptor {
        let manifests: Vec<Value> = manifests.iter().map(Descriptor::json).collect();
        self.add_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
    }

    /// Adds an image of one layer for this machine's processor: files, the command to run.
    pub fn add_image(&self, tar: &[u8], command: &[&str]) -> Descriptor {
        let layer = self.add(LAYER, &gzip(tar));
        let config = self.add_json(
            CONFIG,
            &json!({
                "architecture": architecture(),
                "os": "linux",
                "config": { "Cmd": command, "Env": ["PATH=/bin"] },
                "history": [{ "created_by": "made by hand" }],
                "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(tar))] },
            }),
        );
        self.add_json(
            MANIFEST,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config.json(), "layers": [layer.json()] }),
        )
    }

    /// Adds and tags a small image that prints `message` and a line feed when it is run.
    pub fn add_printing_image(&mut self, tag: &str, message: &str) -> Descriptor {
        let mut tar = Tar::default();
        for folder in ["bin/", "etc/"] {
            tar.folder(folder);
        }
        tar.file("bin/busybox", 0o755, &static_busybox());
        for applet in APPLETS {
            tar.link(&format!("bin/{applet}"), "busybox");
        }
        tar.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n");
        tar.file("message", 0o644, format!("{message}\n").as_bytes());
        let manifest = self.add_image(&tar.end(), &["/bin/cat", "/message"]);
        self.tag(&manifest, tag);
        manifest
    }

    fn add_json(&self, media_type: &str, value: &Value) -> Descriptor {
        self.add(media_type, value.to_string().as_bytes())
    }

    fn write_index(&self) {
        let entry = |(tag, descriptor): (&String, &Descriptor)| {
            json!({
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest,
                "size": descriptor.size,
                "annotations": { REFERENCE_NAME: tag },
            })
        };
        let manifests: Vec<Value> = self.tagged.iter().map(entry).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        write(&self.folder.join("index.json"), index.to_string().as_bytes());
    }
}

/// An archive in the POSIX ustar format, everything owned by root and without a date.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn folder(&mut self, name: &str) {
        self.header(name, b'5', 0o755, 0, "");
    }

    fn link(&mut self, name: &str, target: &str) {
        self.header(name, b'2', 0o777, 0, target);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.header(name, b'0', mode, content.len(), "");
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(TAR_BLOCK_BYTES), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * TAR_BLOCK_BYTES, 0);
        self.0
    }

    fn header(&mut self, name: &str, kind: u8, mode: u32, size: usize, target: &str) {
        let block = |checksum: &str| {
            let mut block = Vec::with_capacity(TAR_BLOCK_BYTES);
            field(&mut block, name.as_bytes(), 100);
            field(&mut block, format!("{mode:07o}").as_bytes(), 8);
            field(&mut block, b"0000000", 8); // owner
            field(&mut block, b"0000000", 8); // group
            field(&mut block, format!("{size:011o}").as_bytes(), 12);
            field(&mut block, b"00000000000", 12); // time of last change
            field(&mut block, checksum.as_bytes(), 8);
            block.push(kind);
            field(&mut block, target.as_bytes(), 100);
            field(&mut block, b"ustar\x0000", 8);
            block.resize(TAR_BLOCK_BYTES, 0);
            block
        };
        // The sum is taken over a header whose own sum is eight spaces.
        let sum: u32 = block("        ").iter().map(|byte| u32::from(*byte)).sum();
        self.0.extend(block(&format!("{sum:06o}\0 ")));
    }
}

fn field(block: &mut Vec<u8>, value: &[u8], width: usize) {
    assert!(value.len() <= width, "`{}` does not fit a tar header", String::from_utf8_lossy(value));
    block.extend_from_slice(value);
    block.resize(block.len() + width - value.len(), 0);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compressing to memory works");
    encoder.finish().expect("compressing to memory works")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to memory works");
        hex
    })
}

fn static_busybox() -> Vec<u8> {
    let path = crate::tool("busybox");
    let bytes = fs::read(&path).expect("busybox can be read");
    let start = bytes.get(..LOADER_SEARCH_BYTES).unwrap_or(&bytes);
    let is_static = !start.windows(4).any(|window| window == b"/ld-");
    assert!(is_static, "{} needs libraries: run `cargo xtask setup` (Debian package busybox-static)", path.display());
    bytes
}

/// The processor's name as Go spells it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Scratch};

    #[test]
    fn archives_are_read_by_tar() {
        let scratch = Scratch::new();
        let mut tar = Tar::default();
        tar.folder("a/");
        tar.file("a/file", 0o640, b"content");
        tar.link("a/link", "file");
        let archive = scratch.write("a.tar", tar.end());
        let listing = Command::new("tar").args(["--list", "--verbose", "--utc", "--file"]).arg(archive).stdout();
        let lines: Vec<String> =
            listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 a/",
                "-rw-r----- 0/0 7 1970-01-01 00:00 a/file",
                "lrwxrwxrwx 0/0 0 1970-01-01 00:00 a/link -> file",
            ]
        );
    }

    #[test]
    fn digests_are_over_bytes() {
        let scratch = Scratch::new();
        let layout = Layout::create(scratch.join("layout"));
        let descriptor = layout.add("text/plain", b"abc");
        assert_eq!(descriptor.digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(layout.content(&descriptor), b"abc");
    }
}

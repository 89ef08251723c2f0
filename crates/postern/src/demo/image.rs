//! An image that prints a line, for amd64 and arm64, made from nothing: no download, no compiler, no base image.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Something to push.
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// An image for two platforms: push the blobs, then the manifests in order; the last one is the index.
pub(crate) struct Image {
    pub(crate) blobs: Vec<Content>,
    pub(crate) manifests: Vec<Content>,
}

impl Content {
    pub(crate) fn digest(&self) -> String {
        use std::fmt::Write as _;
        digest(&SHA256, &self.bytes).as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// Builds the image whose program prints this line.
pub(crate) fn printing(line: &str) -> Image {
    let mut image = Image { blobs: Vec::new(), manifests: Vec::new() };
    let mut children = Vec::new();
    for (architecture, machine, code) in [("amd64", 62, amd64(line)), ("arm64", 183, arm64(line))] {
        let layer = Content { media_type: LAYER, bytes: tar("hello", &elf(machine, &code)) };
        let config = Content {
            media_type: CONFIG,
            bytes: json!({
                "architecture": architecture,
                "os": "linux",
                "config": {"Entrypoint": ["/hello"]},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
            })
            .to_string()
            .into_bytes(),
        };
        let manifest = Content {
            media_type: MANIFEST,
            bytes: json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(),
                "layers": [layer.descriptor()],
            })
            .to_string()
            .into_bytes(),
        };
        let mut child = manifest.descriptor();
        if let Some(child) = child.as_object_mut() {
            child.insert("platform".into(), json!({"architecture": architecture, "os": "linux"}));
        }
        children.push(child);
        image.blobs.extend([config, layer]);
        image.manifests.push(manifest);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string().into_bytes();
    image.manifests.push(Content { media_type: INDEX, bytes: index });
    image
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// `write(1, line, len); exit(0)`, the line behind the code.
fn amd64(line: &str) -> Vec<u8> {
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, 1; mov edi, 1
    code.extend([0x48, 0x8d, 0x35, 16, 0, 0, 0]); // lea rsi, [rip + 16]: the line
    code.push(0xba); // mov edx, length
    code.extend(length(line).to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // mov eax, 60; xor edi, edi; syscall
    code.extend(line.as_bytes());
    code
}

fn arm64(line: &str) -> Vec<u8> {
    let instructions: [u32; 8] = [
        0xd280_0020,                                  // mov x0, #1
        0x1000_00e1,                                  // adr x1, +28: the line
        0xd280_0002 | ((length(line) & 0xffff) << 5), // mov x2, #length
        0xd280_0808,                                  // mov x8, #64: write
        0xd400_0001,                                  // svc #0
        0xd280_0000,                                  // mov x0, #0
        0xd280_0ba8,                                  // mov x8, #93: exit
        0xd400_0001,                                  // svc #0
    ];
    let mut code: Vec<u8> = instructions.into_iter().flat_map(u32::to_le_bytes).collect();
    code.extend(line.as_bytes());
    code
}

/// A static executable of one segment.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2_u16.to_le_bytes()); // executable
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend((BASE + HEADERS).to_le_bytes()); // entry
    file.extend(64_u64.to_le_bytes()); // program headers
    file.extend(0_u64.to_le_bytes()); // no sections
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes()); // load
    file.extend(5_u32.to_le_bytes()); // read, execute
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// A tar archive with one executable file.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = header.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        "); // the checksum counts as blanks
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    if let Some(field) = header.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let padding = content.len().next_multiple_of(512) - content.len();
    [&header[..], content, &vec![0; padding + 1024]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_and_prints_its_line() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("hello");
        let (machine, code) = if cfg!(target_arch = "x86_64") { (62, amd64("hi\n")) } else { (183, arm64("hi\n")) };
        std::fs::write(&program, elf(machine, &code)).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&program).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"hi\n"[..]));
    }
}

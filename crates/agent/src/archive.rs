//! Unpacks what somebody uploaded: into one folder and nowhere else, up to a size.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, EntryType};

/// Most files of an archive.
const MAX_ENTRIES: usize = 200_000;
/// Most bytes of all its files together.
const MAX_BYTES: u64 = 8 << 30;
/// Longest name, with what else is said of a file beside its header.
const MAX_NAME_BYTES: u64 = 1 << 20;
/// Deepest path.
const MAX_DEPTH: usize = 128;
/// How an archive begins that is compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It cannot be read.
    #[error("the archive cannot be read: {0}")]
    Unreadable(io::Error),
    /// A file of it leads out of its folder.
    #[error("the archive holds `{0}`, which leads out of its folder")]
    Escapes(String),
    /// A link of it does.
    #[error("the archive holds the link `{0}`, which leads out of its folder")]
    LinkEscapes(String),
    /// Devices and the like.
    #[error("the archive holds `{0}`, which is neither a file nor a folder nor a link")]
    Special(String),
    /// A name that nobody has.
    #[error("the archive holds a name of more than {} KiB", MAX_NAME_BYTES >> 10)]
    LongName,
    /// Too many files.
    #[error("the archive holds more than {MAX_ENTRIES} files")]
    TooMany,
    /// Too large.
    #[error("the archive holds more than {} GiB", MAX_BYTES >> 30)]
    TooLarge,
}

/// Unpacks a tar archive, compressed with gzip or not, into an empty folder.
///
/// Links are made last: while files are written there is none that could lead one elsewhere.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> Result<(), ArchiveError> {
    let unreadable = ArchiveError::Unreadable;
    // Names that are too long for a header have an entry of their own, which is read into memory as a whole.
    let mut all = 0_u64;
    for entry in open(archive)?.entries().map_err(unreadable)?.raw(true) {
        let entry = entry.map_err(unreadable)?;
        all = all.saturating_add(entry.size());
        if all > MAX_BYTES {
            return Err(ArchiveError::TooLarge);
        }
        let kind = entry.header().entry_type();
        let is_name = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if is_name && entry.size() > MAX_NAME_BYTES {
            return Err(ArchiveError::LongName);
        }
    }
    let mut archive = open(archive)?;
    let mut links = Vec::new();
    for (count, entry) in archive.entries().map_err(unreadable)?.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        if count >= MAX_ENTRIES {
            return Err(ArchiveError::TooMany);
        }
        let named = entry.path().map_err(unreadable)?.into_owned();
        let shown = || shown(&named);
        // The Azure CLI's name for the folder itself.
        if named == Path::new("/") && entry.header().entry_type() == EntryType::Directory {
            continue;
        }
        let inner = inside(&named).ok_or_else(|| ArchiveError::Escapes(shown()))?;
        let path = folder.join(&inner);
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path).map_err(unreadable)?,
            EntryType::Regular | EntryType::Continuous => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(unreadable)?;
                }
                let mode = entry.header().mode().unwrap_or(0o644);
                let mut file = File::create(&path).map_err(unreadable)?;
                io::copy(&mut entry, &mut file).map_err(unreadable)?;
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777 | 0o600))
                    .map_err(unreadable)?;
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().map_err(unreadable)?.map(std::borrow::Cow::into_owned);
                let target = target.ok_or_else(|| ArchiveError::LinkEscapes(shown()))?;
                if !stays_inside(&inner, &target, kind) {
                    return Err(ArchiveError::LinkEscapes(shown()));
                }
                links.push((path, target, kind));
            }
            EntryType::XGlobalHeader => {}
            _ => return Err(ArchiveError::Special(shown())),
        }
    }
    for (path, target, kind) in links {
        make_link(folder, &path, &target, kind).map_err(unreadable)?;
    }
    Ok(())
}

fn open(archive: &Path) -> Result<Archive<io::Take<Box<dyn Read>>>, ArchiveError> {
    let mut file = File::open(archive).map_err(ArchiveError::Unreadable)?;
    let mut head = [0; 2];
    let is_compressed = file.read_exact(&mut head).is_ok() && head == GZIP;
    let file = BufReader::new(File::open(archive).map_err(ArchiveError::Unreadable)?);
    let reader: Box<dyn Read> = if is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Archive::new(reader.take(MAX_BYTES + 1)))
}

fn make_link(folder: &Path, path: &Path, target: &Path, kind: EntryType) -> io::Result<()> {
    // Through a link that was made before, a path might lead anywhere.
    let mut parent = folder.to_path_buf();
    for part in path.parent().and_then(|parent| parent.strip_prefix(folder).ok()).into_iter().flat_map(Path::components)
    {
        parent.push(part);
        match fs::symlink_metadata(&parent) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("`{}` is not a folder", shown(path)))),
            Err(_) => fs::create_dir(&parent)?,
        }
    }
    let _ = fs::remove_file(path);
    if kind == EntryType::Symlink {
        return std::os::unix::fs::symlink(target, path);
    }
    let target = folder.join(inside(target).ok_or_else(|| io::Error::other("a link leads out"))?);
    // Not through links either: they might be changed to lead out.
    if fs::symlink_metadata(&target)?.is_file() && is_reached_by_folders(folder, &target) {
        fs::hard_link(target, path)
    } else {
        Err(io::Error::other(format!("`{}` is a link to what is not a file of the archive", shown(path))))
    }
}

fn is_reached_by_folders(folder: &Path, path: &Path) -> bool {
    let mut parent = folder.to_path_buf();
    let parts =
        path.parent().and_then(|parent| parent.strip_prefix(folder).ok()).into_iter().flat_map(Path::components);
    parts.into_iter().all(|part| {
        parent.push(part);
        fs::symlink_metadata(&parent).is_ok_and(|found| found.is_dir())
    })
}

/// A path of an archive without what means nothing; none if it leads out.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inner = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => inner.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (inner.components().count() <= MAX_DEPTH).then_some(inner)
}

/// Whether what a link names lies in the folder: a symbolic link's from where the link is, a hard link's from the top. Up it goes first
/// or not at all: behind a name that is a link itself, up would be somewhere else than it reads.
fn stays_inside(link: &Path, target: &Path, kind: EntryType) -> bool {
    if kind == EntryType::Link {
        return inside(target).is_some();
    }
    let depth = link.components().count().saturating_sub(1);
    let is_up = |part: &Component<'_>| matches!(part, Component::CurDir | Component::ParentDir);
    let up = target.components().take_while(is_up).filter(|part| *part == Component::ParentDir).count();
    let is_name = |part| matches!(part, Component::CurDir | Component::Normal(_));
    up <= depth && target.components().skip_while(is_up).all(is_name)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    enum Part {
        File(&'static str, &'static [u8]),
        Link(&'static str, &'static str),
        Hard(&'static str, &'static str),
        Device(&'static str),
        Folder(&'static str),
    }
    use Part::{Device, File as Plain, Folder, Hard, Link};

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_old();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o755);
        // Names as somebody with bad intentions writes them, past the checks of the library.
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        header
    }

    fn packed(parts: &[Part]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for part in parts {
            let (mut header, bytes): (_, &[u8]) = match part {
                Plain(name, bytes) => (header(EntryType::Regular, name, bytes.len() as u64), bytes),
                Link(name, target) | Hard(name, target) => {
                    let kind = if matches!(part, Link(..)) { EntryType::Symlink } else { EntryType::Link };
                    let mut header = header(kind, name, 0);
                    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
                    (header, &[])
                }
                Device(name) => (header(EntryType::Char, name, 0), &[]),
                Folder(name) => (header(EntryType::Directory, name, 0), &[]),
            };
            header.set_cksum();
            builder.append(&header, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[track_caller]
    fn check(parts: &[Part], expected: Result<&str, &str>) {
        let scratch = tempfile::tempdir().unwrap();
        let (archive, folder) = (scratch.path().join("a.tar.gz"), scratch.path().join("inner/folder"));
        fs::create_dir_all(&folder).unwrap();
        let mut encoder = GzEncoder::new(File::create(&archive).unwrap(), Compression::fast());
        encoder.write_all(&packed(parts)).unwrap();
        encoder.finish().unwrap();
        let seen = unpack(&archive, &folder);
        match expected {
            Ok(file) => {
                seen.unwrap();
                assert_eq!(fs::read(folder.join(file)).unwrap(), b"content");
            }
            Err(part) => {
                let seen = seen.expect_err("it is unpacked").to_string();
                assert!(seen.contains(part), "{seen}");
            }
        }
        let mut around: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        around.sort();
        assert_eq!(around, ["a.tar.gz", "inner"]);
        assert_eq!(fs::read_dir(scratch.path().join("inner")).unwrap().count(), 1);
    }

    #[test]
    fn files_stay_in_their_folder() {
        check(&[Plain("./a/b.txt", b"content")], Ok("a/b.txt"));
        check(&[Plain("a/b", b"content"), Link("a/c", "b")], Ok("a/c"));
        check(&[Plain("b", b"content"), Link("a/c", "../b")], Ok("a/c"));
        check(&[Plain("b", b"content"), Hard("a/c", "b")], Ok("a/c"));
        check(&[Plain("a", b"other"), Plain("a", b"content")], Ok("a"));
        check(&[Folder("/"), Plain("b", b"content")], Ok("b"));
        check(&[Folder("/b")], Err("leads out"));
        check(&[Plain("../b", b"x")], Err("`../b`, which leads out"));
        check(&[Plain("a/../../b", b"x")], Err("leads out"));
        check(&[Plain("/etc/b", b"x")], Err("leads out"));
        check(&[Link("a", "../../x"), Plain("a/b", b"x")], Err("the link `a`"));
        check(&[Link("a", "/etc/passwd")], Err("the link `a`"));
        check(&[Link("a", "b/../../x")], Err("the link `a`"));
        check(&[Link("x/a", ".."), Link("y", "x/a/..")], Err("the link `y`"));
        check(&[Hard("a", "../x")], Err("the link `a`"));
        check(&[Link("a", "."), Link("a/b", "..")], Err("is not a folder"));
        check(&[Link("l", "."), Plain("b", b"content"), Hard("a", "l/b")], Err("not a file of the archive"));
        check(&[Hard("a", "missing")], Err("cannot be read"));
        check(&[Device("null")], Err("neither a file"));
    }

    #[test]
    fn what_is_no_archive() {
        let scratch = tempfile::tempdir().unwrap();
        for bytes in [&b"no archive at all, but longer than one block of one would be........"[..], &[0x1f, 0x8b, 0, 0]]
        {
            let archive = scratch.path().join("a");
            fs::write(&archive, bytes).unwrap();
            assert!(matches!(unpack(&archive, scratch.path()), Err(ArchiveError::Unreadable(_))));
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        // The header says more than anybody takes; what follows is never read.
        let mut header = header(EntryType::Regular, "bomb", 0);
        header.set_size(MAX_BYTES + 1);
        header.set_cksum();
        let scratch = tempfile::tempdir().unwrap();
        let archive = scratch.path().join("a.tar");
        fs::write(&archive, header.as_bytes()).unwrap();
        let folder = scratch.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(matches!(unpack(&archive, &folder), Err(ArchiveError::TooLarge)));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}

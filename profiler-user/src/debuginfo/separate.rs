//! Debuginfo that stands in a file of its own: where it may be, and whether it belongs to the module.
//!
//! Sources: "Debugging Information in Separate Files" in GDB's manual for `.gnu_debuglink` and build-id directories;
//! `debuginfod-find(1)` of elfutils for servers. A file counts only when it is proved to belong: by the build-id, by the
//! link's checksum, or, where neither is there, by having the very sections of the module at their very addresses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::elf::Elf;
use super::{Bytes, servers};

/// Where the system keeps debuginfo.
const SYSTEM: &str = "/usr/lib/debug";

/// Where debuginfo is looked for beside the usual places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files with debuginfo; each is used for the module that it belongs to.
    pub files: Vec<PathBuf>,
    /// Directories that hold files with debuginfo, by build-id or by name.
    pub directories: Vec<PathBuf>,
    /// Whether to ask the servers that `DEBUGINFOD_URLS` names for what is not found.
    pub servers: bool,
    /// The directory that keeps what was worked out, for the next time; `None` keeps nothing.
    pub cache: Option<PathBuf>,
}

/// Reads a whole file by its path: that of the target's own root, and then that of ours.
pub type ReadFile = Arc<dyn Fn(&Path) -> Vec<Bytes> + Send + Sync>;

/// The file with the debuginfo of `elf`, which stands at `path`.
pub(super) fn find(elf: &Elf, path: &Path, places: &Places, read: &ReadFile) -> Option<Elf> {
    let link = link(elf);
    let by_link = |bytes: &Bytes| link.as_ref().is_some_and(|(_, sum)| crc32fast::hash(bytes) == *sum);
    let accept = |bytes: Bytes| {
        let found = Elf::parse(bytes).ok().filter(has_debuginfo)?;
        let belongs = match (&elf.build_id, &found.build_id) {
            (Some(own), Some(other)) => own == other,
            _ => by_link(&found.bytes) || same_image(elf, &found),
        };
        belongs.then_some(found)
    };
    let given = places.files.iter().filter_map(|path| own(path));
    let candidates = candidates(elf, path, places, link.as_ref().map(|(name, _)| name.as_path()));
    let known = given.chain(candidates.iter().flat_map(|path| read(path))).find_map(&accept);
    known.or_else(|| {
        let id = elf.build_id.as_deref().filter(|_| places.servers)?;
        accept(own(&servers::debuginfo(&hex(id))?)?)
    })
}

/// Where the debuginfo may stand, the likeliest first.
fn candidates(elf: &Elf, path: &Path, places: &Places, link: Option<&Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let id = elf.build_id.as_deref().filter(|id| id.len() > 1).map(|id| {
        let id = hex(id);
        format!(".build-id/{}/{}.debug", &id[..2], &id[2..])
    });
    let name = path.file_name().map(Path::new);
    for directory in &places.directories {
        found.extend(id.iter().map(|id| directory.join(id)));
        found.extend(link.into_iter().chain(name).map(|name| directory.join(name)));
        found.extend(name.map(|name| directory.join(with_suffix(name, ".debug"))));
    }
    found.extend(id.iter().map(|id| Path::new(SYSTEM).join(id)));
    if let (Some(link), Some(directory)) = (link, path.parent()) {
        found.extend([directory.join(link), directory.join(".debug").join(link)]);
        found.extend(directory.strip_prefix("/").map(|inner| Path::new(SYSTEM).join(inner).join(link)));
    }
    found
}

/// `path` with more at the end of its last part.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// A file of our own root, under any path that a user may type.
pub(super) fn own(path: &Path) -> Option<Bytes> {
    crate::target::read_file(path).map(Bytes::from)
}

/// Name and CRC-32 in `.gnu_debuglink`: a string, padding to four bytes, the sum. The name has no directories.
fn link(elf: &Elf) -> Option<(PathBuf, u32)> {
    let bytes = elf.contents(elf.section(".gnu_debuglink")?);
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = Path::new(std::str::from_utf8(&bytes[..end]).ok()?);
    let sum = bytes.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    // Anything else would lead out of the places that are looked at.
    let plain = name.file_name() == Some(name.as_os_str());
    plain.then(|| (name.to_owned(), u32::from_le_bytes(*sum)))
}

/// Whether the file says more than a stripped one.
fn has_debuginfo(elf: &Elf) -> bool {
    [".debug_info", ".symtab"].iter().any(|name| elf.section(name).is_some_and(|section| !section.file.is_empty()))
}

/// Whether every loaded section of `elf` stands in `other` with its address and size.
fn same_image(elf: &Elf, other: &Elf) -> bool {
    let mut loaded = elf.sections.iter().filter(|section| section.address != 0).peekable();
    loaded.peek().is_some()
        && loaded.all(|section| {
            let same = other.section(&section.name);
            same.is_some_and(|same| (same.address, same.size) == (section.address, section.size))
        })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

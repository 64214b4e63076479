//! The files that the target has mapped, opened under its own root and never outside it.

use std::{
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{major, minor},
};

use super::{Mapping, Mappings, residency::PAGE};

/// A mapped file of the target: an executable or a library, with its bytes.
#[derive(Clone, Debug)]
pub struct ModuleFile {
    /// Path as the target sees it; `[vdso]` for the kernel's own.
    pub path: PathBuf,
    /// Address at which offset 0 of the file lies, or would lie.
    pub start: u64,
    /// Device and inode, as the mappings name it.
    pub device: (i32, i32),
    /// See `device`.
    pub inode: u64,
    /// The file's bytes.
    pub bytes: Arc<Mmap>,
}

impl ModuleFile {
    /// The bytes (up to a page) that a private, untouched page at `base` of `mapping` has, if this is its file.
    pub(super) fn page(&self, mapping: &Mapping, base: u64) -> Option<&[u8]> {
        if (mapping.inode, mapping.device) != (self.inode, self.device) {
            return None;
        }
        let from = usize::try_from(base - mapping.range.start + mapping.offset).ok()?;
        let bytes = self.bytes.get(from..)?;
        Some(&bytes[..bytes.len().min(PAGE as usize)])
    }
}

/// Opens every file that is mapped executable. Those that cannot be opened, or are no longer the mapped ones, are
/// named in the second list with the reason.
pub(super) fn open_all(pid: i32, exe: &Path, mappings: &Mappings) -> (Vec<ModuleFile>, Vec<String>) {
    let (mut files, mut missing) = (Vec::<ModuleFile>::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    for mapping in mappings.iter().filter(|mapping| mapping.execute && mapping.inode != 0) {
        if !seen.insert((mapping.device, mapping.inode)) {
            continue;
        }
        let Some(path) = &mapping.path else { continue };
        // The mapping of the file's beginning tells where its offset 0 is. Programs also map files they run only to
        // read them, as backtraces do: the one nearest below the code belongs to it.
        let first = mappings
            .iter()
            .filter(|other| (other.device, other.inode) == (mapping.device, mapping.inode) && other.offset == 0)
            .filter(|other| other.range.start <= mapping.range.start)
            .max_by_key(|other| other.range.start)
            .unwrap_or(mapping);
        match open(pid, path, path == exe, first) {
            Ok(bytes) => files.push(ModuleFile {
                path: path.clone(),
                start: first.range.start.wrapping_sub(first.offset),
                device: mapping.device,
                inode: mapping.inode,
                bytes,
            }),
            Err(why) => missing.push(format!("{} could not be opened: {why}", path.display())),
        }
    }
    (files, missing)
}

fn open(pid: i32, path: &Path, is_exe: bool, mapping: &Mapping) -> Result<Arc<Mmap>, String> {
    let matches = |file: &File| {
        file.metadata().is_ok_and(|data| {
            let device = (major(data.dev()) as i32, minor(data.dev()) as i32);
            // Overlay file systems report another device for the file than for its mapping: the inode decides.
            data.ino() == mapping.inode && (device == mapping.device || is_exe || device.0 == 0)
        })
    };
    let direct = is_exe.then(|| File::open(format!("/proc/{pid}/exe"))).and_then(Result::ok);
    let file = direct
        .or_else(|| under_root(pid, path, OFlag::O_RDONLY).ok().map(File::from).filter(matches))
        .or_else(|| File::open(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.range.start, mapping.range.end)).ok())
        .ok_or("it was deleted or replaced since it was loaded")?;
    // SAFETY: the mapping is private and read-only; a file that is truncated under us would raise SIGBUS, which the
    // kernel prevents for files that are mapped for execution by the target (ETXTBSY on write).
    unsafe { Mmap::map(&file) }.map(Arc::new).map_err(|error| error.to_string())
}

/// The file system that a process sees.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    pid: i32,
}

impl Root {
    pub(super) fn of(pid: i32) -> Self {
        Self { pid }
    }

    /// The bytes of the regular file at `path`, wherever its links lead within the root.
    pub fn read_file(self, path: &Path) -> Option<Vec<u8>> {
        // Only a handle at first: to open a device or a pipe may do something, or wait.
        let handle = under_root(self.pid, path, OFlag::O_PATH).ok()?;
        read_file(Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())))
    }
}

/// Files with more bytes than this are not read whole.
const LARGEST: u64 = 8 << 30;

/// The bytes of the regular file at `path`. They are copied: the file may be cut short while they are in use.
pub fn read_file(path: &Path) -> Option<Vec<u8>> {
    let data = std::fs::metadata(path).ok()?;
    if !data.is_file() || data.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(data.len()).ok()?);
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Opens `path` as the target sees it, without following links out of its root.
fn under_root(pid: i32, path: &Path, access: OFlag) -> nix::Result<OwnedFd> {
    let root = File::open(format!("/proc/{pid}/root"))
        .map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let how = OpenHow::new().flags(access | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root.as_fd(), path, how)
}

//! The target's address space as the kernel lists it.

use std::{ops::Range, path::PathBuf};

use procfs::process::{MMPermissions, MMapPath, MemoryMap};
use serde::{Deserialize, Serialize};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel lists four permissions")]
pub struct Mapping {
    /// Addresses, in bytes.
    pub range: Range<u64>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Shared with others: writes of others show.
    pub shared: bool,
    /// Offset into the file, bytes.
    pub offset: u64,
    /// Device (major, minor) and inode of the file; inode 0 for anonymous memory.
    pub device: (i32, i32),
    /// See `device`.
    pub inode: u64,
    /// Path of the file as the target sees it.
    pub path: Option<PathBuf>,
    /// `[vdso]`, `[heap]`, `[stack]` and the like, without brackets.
    pub label: Option<String>,
}

impl Mapping {
    /// Whether it is private memory without a file, that a program allocates from.
    pub fn is_anonymous(&self) -> bool {
        self.path.is_none() && !self.shared && matches!(self.label.as_deref(), None | Some("heap" | "anon"))
    }
}

impl From<MemoryMap> for Mapping {
    fn from(map: MemoryMap) -> Self {
        let (path, label) = match map.pathname {
            MMapPath::Path(path) => (Some(path), None),
            MMapPath::Heap => (None, Some("heap".to_owned())),
            MMapPath::Stack => (None, Some("stack".to_owned())),
            MMapPath::Vdso => (None, Some("vdso".to_owned())),
            MMapPath::Vvar => (None, Some("vvar".to_owned())),
            MMapPath::Anonymous => (None, None),
            // `[anon:name]` of prctl(PR_SET_VMA_ANON_NAME): ordinary memory with a name.
            MMapPath::Other(name) if name.starts_with("anon:") => (None, Some("anon".to_owned())),
            other => (None, Some(format!("{other:?}"))),
        };
        Self {
            range: map.address.0..map.address.1,
            read: map.perms.contains(MMPermissions::READ),
            write: map.perms.contains(MMPermissions::WRITE),
            execute: map.perms.contains(MMPermissions::EXECUTE),
            shared: map.perms.contains(MMPermissions::SHARED),
            offset: map.offset,
            device: map.dev,
            inode: map.inode,
            path,
            label,
        }
    }
}

/// All mappings, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Sorts what the kernel listed.
    pub fn new(mut mappings: Vec<Mapping>) -> Self {
        mappings.sort_by_key(|mapping| mapping.range.start);
        Self(mappings)
    }

    /// The mapping that contains `address`.
    pub fn at(&self, address: u64) -> Option<&Mapping> {
        let next = self.0.partition_point(|mapping| mapping.range.start <= address);
        self.0[..next].last().filter(|mapping| mapping.range.contains(&address))
    }

    /// By ascending address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }
}

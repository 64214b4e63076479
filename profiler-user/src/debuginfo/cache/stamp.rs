//! What tells one file from another, and one gordian from another.

use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;

use crc32fast::Hasher;
use object::elf;
use serde::Serialize;

use super::super::elf::Elf;
use super::super::separate;
use super::super::symbols::SymbolTable;

/// Build-ids are 8 to 20 bytes by default; one that is shorter was made up by somebody, and need not be unique.
const BUILD_ID: std::ops::RangeInclusive<usize> = 8..=64;

/// What an entry is of.
///
/// The linker makes the build-id from the contents, unless it was told what to take. For those that were told, the rest
/// makes sure: whoever changes a program moves its functions or its lines.
#[derive(Debug, Serialize)]
pub(in super::super) struct Stamp {
    build_id: Vec<u8>,
    contents: Contents,
    /// Where they stand in other files.
    debuginfo: Option<Contents>,
    symbols: Option<Contents>,
    gordian: Gordian,
}

/// What stands in a file.
#[derive(Debug, Serialize)]
struct Contents {
    /// Bytes.
    length: u64,
    /// Checksum of its header tables.
    tables: u32,
    /// Checksum of its symbols and its lines.
    symbols: u32,
}

impl Contents {
    fn of(elf: &Elf) -> Self {
        let mut tables = Hasher::new();
        for section in &elf.sections {
            let name = section.name.as_bytes();
            let numbers = [section.address, section.size, section.file.start as u64, section.file.end as u64];
            tables.update(name);
            tables.update(&numbers.map(u64::to_le_bytes).concat());
        }
        for segment in &elf.segments {
            let (memory, file) = (&segment.memory, &segment.file);
            let numbers = [memory.start, memory.end, file.start as u64, file.end as u64];
            tables.update(&numbers.map(u64::to_le_bytes).concat());
        }
        let mut symbols = Hasher::new();
        for section in &elf.sections {
            if section.kind == elf::SHT_SYMTAB || section.name == ".debug_line" {
                symbols.update(&elf.contents(section));
            }
        }
        Self { length: elf.bytes.len() as u64, tables: tables.finalize(), symbols: symbols.finalize() }
    }
}

/// This very program.
#[derive(Clone, Debug, Serialize)]
struct Gordian {
    version: &'static str,
    /// Length and time of its file: what is being worked on keeps its version.
    file: Option<(u64, i64, i64)>,
}

static GORDIAN: LazyLock<Gordian> = LazyLock::new(|| {
    let file = std::fs::metadata("/proc/self/exe").ok();
    let file = file.map(|file| (file.len(), file.mtime(), file.mtime_nsec()));
    Gordian { version: env!("CARGO_PKG_VERSION"), file }
});

impl Stamp {
    /// Of the file `elf`, whose answers rest on `sources`: the files with its debuginfo and its symbols, which may be `elf` itself.
    /// `None` for one without a build-id, without debuginfo or without symbols.
    pub(super) fn of(elf: &Elf, sources: [&Elf; 2]) -> Option<Self> {
        let build_id = elf.build_id.clone().filter(|id| BUILD_ID.contains(&id.len()))?;
        let [debuginfo, symbols] = sources;
        if debuginfo.section(".debug_info").is_none_or(|section| section.file.is_empty())
            || !SymbolTable::is_full(symbols)
        {
            return None;
        }
        let [debuginfo, symbols] = sources.map(|source| (!std::ptr::eq(source, elf)).then(|| Contents::of(source)));
        Some(Self { build_id, contents: Contents::of(elf), debuginfo, symbols, gordian: GORDIAN.clone() })
    }

    /// The name of its entry.
    pub(super) fn name(&self) -> String {
        separate::hex(&self.build_id)
    }

    /// All of it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // It holds nothing that cannot be encoded; were it empty, an entry would be of nothing and never be found.
        postcard::to_stdvec(self).unwrap_or_default()
    }
}

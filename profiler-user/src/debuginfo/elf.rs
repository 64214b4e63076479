//! The parts of an ELF file, copied out of its header tables: where segments and sections are, what identifies it.

use std::ops::Range;

use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{LittleEndian, SectionIndex};

use super::{Bytes, DebugInfoError};

/// Sections of debuginfo that say they unpack to more than this are refused.
const LARGEST_UNPACKED: u64 = 8 << 30;
/// Below this size a packed section is believed whatever its ratio.
const SMALL_UNPACKED: u64 = 64 << 20;
/// Debuginfo packs to between a half and a tenth; far above this it is an attack on our memory.
const LARGEST_RATIO: u64 = 64;

/// The segment that holds the initial image of thread-local variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSegment {
    /// Its address in the file's own numbering.
    pub vaddr: u64,
    /// Bytes that the file initialises.
    pub filesz: u64,
    /// Bytes that every thread gets.
    pub memsz: u64,
    /// Alignment of a thread's block.
    pub align: u64,
}

/// A section of the image.
#[derive(Clone, Debug)]
pub struct Section {
    /// Absolute address in the target; meaningless for a section that is not loaded.
    pub address: u64,
    /// Bytes in memory; more than `bytes` holds for one without contents, as `.bss`.
    pub size: u64,
    /// The contents in the file, packed if the file packs them.
    pub bytes: Bytes,
}

/// A loadable segment in the file's own numbering.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) memory: Range<u64>,
    /// What of it stands in the file; shorter than `memory` where the rest is zero.
    pub(super) file: Range<usize>,
    pub(super) executable: bool,
    pub(super) writable: bool,
}

#[derive(Clone, Debug)]
pub(super) struct SectionEntry {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) file: Range<usize>,
    pub(super) kind: elf::SectionType,
    pub(super) link: SectionIndex,
    pub(super) packed: bool,
}

/// What the header tables of an ELF file say.
#[derive(Debug)]
pub(super) struct Elf {
    pub(super) bytes: Bytes,
    pub(super) segments: Vec<Segment>,
    /// Indexed as the file does, so that links between sections hold.
    pub(super) sections: Vec<SectionEntry>,
    pub(super) tls: Option<TlsSegment>,
    pub(super) build_id: Option<Vec<u8>>,
}

impl Elf {
    pub(super) fn parse(bytes: Bytes) -> Result<Self, DebugInfoError> {
        let data: &[u8] = &bytes;
        let header = FileHeader64::<LittleEndian>::parse(data)?;
        if !header.is_little_endian() || header.e_machine(LittleEndian) != elf::EM_X86_64 {
            return Err(DebugInfoError::Machine);
        }
        let headers = header.program_headers(LittleEndian, data)?;
        let table = header.sections(LittleEndian, data)?;
        let mut sections = Vec::with_capacity(table.len());
        for section in table.iter() {
            let name = table.section_name(LittleEndian, section).unwrap_or_default();
            let file = section.file_range(LittleEndian).and_then(|(start, size)| file_range(data, start, size));
            sections.push(SectionEntry {
                name: String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned(),
                address: section.sh_addr(LittleEndian),
                size: section.sh_size(LittleEndian),
                file: file.unwrap_or(0..0),
                kind: section.sh_type(LittleEndian),
                link: section.link(LittleEndian),
                packed: section.sh_flags(LittleEndian).contains(elf::SHF_COMPRESSED),
            });
        }
        let segments = headers
            .iter()
            .filter(|header| header.p_type(LittleEndian) == elf::PT_LOAD)
            .filter_map(|header| segment(header, data))
            .collect();
        let tls = headers.iter().find(|header| header.p_type(LittleEndian) == elf::PT_TLS).map(|header| TlsSegment {
            vaddr: header.p_vaddr(LittleEndian),
            filesz: header.p_filesz(LittleEndian),
            memsz: header.p_memsz(LittleEndian),
            align: header.p_align(LittleEndian).max(1),
        });
        let build_id = headers.iter().find_map(|header| build_id(header, data));
        Ok(Self { bytes, segments, sections, tls, build_id })
    }

    /// The first section of that name.
    pub(super) fn section(&self, name: &str) -> Option<&SectionEntry> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// A section's contents as they stand in the file.
    pub(super) fn contents(&self, section: &SectionEntry) -> Bytes {
        self.bytes.cut(section.file.clone()).unwrap_or_default()
    }

    /// A section's contents, unpacked. Empty for a section that is not there.
    pub(super) fn unpacked(&self, name: &str) -> Result<Bytes, DebugInfoError> {
        let Some(section) = self.section(name) else { return Ok(Bytes::default()) };
        let contents = self.contents(section);
        if section.packed { unpack(&contents) } else { Ok(contents) }
    }
}

fn file_range(data: &[u8], start: u64, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= data.len()).then_some(start..end)
}

fn segment(header: &ProgramHeader64<LittleEndian>, data: &[u8]) -> Option<Segment> {
    let start = header.p_vaddr(LittleEndian);
    let end = start.checked_add(header.p_memsz(LittleEndian))?;
    let (offset, size) = header.file_range(LittleEndian);
    let flags = header.p_flags(LittleEndian);
    Some(Segment {
        memory: start..end,
        file: file_range(data, offset, size.min(end - start)).unwrap_or(0..0),
        executable: flags.contains(elf::PF_X),
        writable: flags.contains(elf::PF_W),
    })
}

fn build_id(header: &ProgramHeader64<LittleEndian>, data: &[u8]) -> Option<Vec<u8>> {
    let mut notes = header.notes(LittleEndian, data).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}

/// Unpacks a section that begins with an `Elf64_Chdr`.
fn unpack(contents: &[u8]) -> Result<Bytes, DebugInfoError> {
    let wrong = |what: &str| DebugInfoError::Dwarf(what.to_owned());
    let word = |at: usize, length: usize| {
        let bytes = contents.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (Some(kind), Some(size), Some(data)) = (word(0, 4), word(8, 8), contents.get(24..)) else {
        return Err(wrong("a packed section is cut short"));
    };
    if size > LARGEST_UNPACKED || size > SMALL_UNPACKED.max(LARGEST_RATIO * data.len() as u64) {
        return Err(wrong("a packed section says it is impossibly large"));
    }
    let format = match u32::try_from(kind).map(elf::CompressionType) {
        Ok(elf::ELFCOMPRESS_ZLIB) => object::CompressionFormat::Zlib,
        Ok(elf::ELFCOMPRESS_ZSTD) => object::CompressionFormat::Zstandard,
        _ => return Err(wrong("a section is packed in an unknown way")),
    };
    let packed = object::CompressedData { format, data, uncompressed_size: size };
    Ok(Bytes::from(packed.decompress().map_err(|error| wrong(&error.to_string()))?.into_owned()))
}

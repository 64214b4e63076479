//! The symbol tables of an ELF file, in the file's own numbering of addresses.

use object::elf::{self, Rela64, Sym64};
use object::read::elf::{Rela as _, Sym as _};
use object::{LittleEndian, pod};

use super::elf::{Elf, SectionEntry};

/// Longer names are cut: an endless string must not be walked for every symbol that points into it.
const LONGEST_NAME: usize = 1 << 16;
/// How many symbols are looked at, going back from an address, for one that reaches it.
const LOOK_BACK: usize = 32;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// Code.
    Text,
    /// Data, or something untyped.
    Data,
    /// A thread-local variable.
    Tls,
}

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'m> {
    /// Absolute address in the target. For a thread-local variable, its offset in the module's TLS block instead.
    pub address: u64,
    /// Bytes it covers; 0 where the file does not say.
    pub size: u64,
    /// As it stands in the file: mangled.
    pub name: &'m str,
    /// What it stands for.
    pub kind: SymbolKind,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u64,
    name: u32,
    kind: SymbolKind,
}

/// Symbols of one table (`.symtab`, or `.dynsym` where that is all there is), by address.
#[derive(Debug)]
pub(super) struct SymbolTable {
    entries: Vec<Entry>,
    strings: super::Bytes,
}

impl SymbolTable {
    /// Whether the file has all symbols, not only those that others may use.
    pub(super) fn is_full(elf: &Elf) -> bool {
        elf.sections.iter().any(|section| section.kind == elf::SHT_SYMTAB && !section.file.is_empty())
    }

    pub(super) fn load(elf: &Elf) -> Self {
        let with = |kind| elf.sections.iter().find(|section| section.kind == kind && !section.file.is_empty());
        let Some(table) = with(elf::SHT_SYMTAB).or_else(|| with(elf::SHT_DYNSYM)) else {
            return Self { entries: Vec::new(), strings: super::Bytes::default() };
        };
        let contents = elf.contents(table);
        let mut entries: Vec<Entry> = raw_symbols(&contents).iter().filter_map(entry).collect();
        // Of several at one address the last is found first: prefer those that say how far they reach, and a stable order.
        entries.sort_unstable_by_key(|entry| (entry.address, entry.size != 0, std::cmp::Reverse(entry.name)));
        Self { entries, strings: strings_of(elf, table) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().map(|entry| self.symbol(entry))
    }

    /// The nearest symbol at or before `address` that reaches it. One without a size reaches up to the next symbol.
    pub(super) fn at(&self, address: u64) -> Option<Symbol<'_>> {
        let end = self.entries.partition_point(|entry| entry.address <= address);
        let mut next = self.entries.get(end).map_or(u64::MAX, |entry| entry.address);
        for entry in self.entries[..end].iter().rev().filter(|entry| entry.kind != SymbolKind::Tls).take(LOOK_BACK) {
            let reaches = if entry.size == 0 { address < next } else { address - entry.address < entry.size };
            if reaches {
                return Some(self.symbol(entry));
            }
            next = entry.address;
        }
        None
    }

    /// Every symbol that begins at `address`: identical functions are folded into one, which then has many names.
    pub(super) fn beginning_at(&self, address: u64) -> impl Iterator<Item = Symbol<'_>> {
        let start = self.entries.partition_point(|entry| entry.address < address);
        self.entries[start..]
            .iter()
            .take_while(move |entry| entry.address == address)
            .filter(|entry| entry.kind != SymbolKind::Tls)
            .map(|entry| self.symbol(entry))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        let name = string(&self.strings, entry.name).unwrap_or_default();
        Symbol { address: entry.address, size: entry.size, name, kind: entry.kind }
    }
}

fn entry(symbol: &Sym64<LittleEndian>) -> Option<Entry> {
    let kind = match symbol.st_type() {
        elf::STT_FUNC | elf::STT_GNU_IFUNC => SymbolKind::Text,
        elf::STT_TLS => SymbolKind::Tls,
        elf::STT_OBJECT | elf::STT_NOTYPE | elf::STT_COMMON => SymbolKind::Data,
        _ => return None,
    };
    let address = symbol.st_value(LittleEndian);
    let defined = symbol.st_shndx(LittleEndian) != elf::SHN_UNDEF && symbol.st_name(LittleEndian) != 0;
    // A thread-local variable may well stand at offset 0, nothing else stands at address 0.
    (defined && (address != 0 || kind == SymbolKind::Tls)).then(|| Entry {
        address,
        size: symbol.st_size(LittleEndian),
        name: symbol.st_name(LittleEndian),
        kind,
    })
}

/// The address of the function or variable that the file exports by that name, in the default version where there are
/// several. `None` for one that chooses its address when it is loaded (`STT_GNU_IFUNC`).
pub(super) fn exported(elf: &Elf, wanted: &str) -> Option<u64> {
    let table = elf.sections.iter().find(|section| section.kind == elf::SHT_DYNSYM)?;
    let (contents, strings) = (elf.contents(table), strings_of(elf, table));
    let versions = elf.sections.iter().find(|section| section.kind == elf::SHT_GNU_VERSYM);
    let versions = versions.map(|section| elf.contents(section));
    let hidden = |index: usize| {
        let version = versions.as_deref().and_then(|bytes| bytes.get(index * 2..index * 2 + 2));
        version.is_some_and(|bytes| bytes[1] & 0x80 != 0)
    };
    let mut found = None;
    for (index, symbol) in raw_symbols(&contents).iter().enumerate() {
        let Some(Entry { address, name, .. }) = entry(symbol) else { continue };
        if symbol.st_type() != elf::STT_GNU_IFUNC && string(&strings, name) == Some(wanted) {
            if !hidden(index) {
                return Some(address);
            }
            found = Some(address);
        }
    }
    found
}

/// Slots that the loader fills with the address of a named symbol: `(slot, name)` by slot.
pub(super) fn relocated_slots(elf: &Elf) -> Vec<(u64, &str)> {
    let mut slots = Vec::new();
    for section in elf.sections.iter().filter(|section| section.kind == elf::SHT_RELA) {
        let Some(table) = elf.sections.get(section.link.0).filter(|table| table.kind == elf::SHT_DYNSYM) else {
            continue;
        };
        let (symbols, strings) = (file_slice(elf, table), elf.sections.get(table.link.0));
        let (symbols, strings) = (raw_symbols(symbols), strings.map_or(&[][..], |strings| file_slice(elf, strings)));
        let relocations = file_slice(elf, section);
        let count = relocations.len() / size_of::<Rela64<LittleEndian>>();
        let Ok((relocations, _)) = pod::slice_from_bytes::<Rela64<LittleEndian>>(relocations, count) else { continue };
        for relocation in relocations {
            let kind = relocation.r_type(LittleEndian, false);
            let named = matches!(kind, elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_64);
            let symbol = symbols.get(relocation.r_sym(LittleEndian, false) as usize);
            let name = symbol.and_then(|symbol| string(strings, symbol.st_name(LittleEndian)));
            if let Some(name) = name.filter(|name| named && !name.is_empty())
                && relocation.r_addend(LittleEndian) == 0
            {
                slots.push((relocation.r_offset(LittleEndian), name));
            }
        }
    }
    slots.sort_unstable();
    slots
}

fn file_slice<'e>(elf: &'e Elf, section: &SectionEntry) -> &'e [u8] {
    elf.bytes.get(section.file.clone()).unwrap_or_default()
}

fn raw_symbols(contents: &[u8]) -> &[Sym64<LittleEndian>] {
    let count = contents.len() / size_of::<Sym64<LittleEndian>>();
    pod::slice_from_bytes(contents, count).map_or(&[], |(symbols, _)| symbols)
}

fn strings_of(elf: &Elf, table: &SectionEntry) -> super::Bytes {
    let strings = elf.sections.get(table.link.0);
    strings.map(|section| elf.contents(section)).unwrap_or_default()
}

fn string(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(at as usize..)?;
    let rest = &rest[..rest.len().min(LONGEST_NAME)];
    let end = memchr::memchr(0, rest).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok()
}

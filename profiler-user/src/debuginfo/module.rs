//! One ELF image at the place where a process has mapped it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::cache::Cache;
use super::dwarf::Dwarf;
use super::elf::{Elf, Section, TlsSegment};
use super::functions::{self, Subprogram};
use super::lines::{self, SourceFrame};
use super::separate::{self, Places, ReadFile};
use super::split;
use super::symbols::{self, Symbol, SymbolKind, SymbolTable};
use super::types::Types;
use super::{Bytes, DebugInfoError};
use crate::target::ModuleFile;

/// How much a module tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// Nothing but what the dynamic linker needs.
    Stripped,
    /// Names of functions.
    Symbols,
    /// Also source lines and inlined functions.
    LineTables,
    /// Also types. The types of C and C++ parts do not count: they come along with libraries that say nothing of the
    /// program around them.
    Full,
}

impl Quality {
    /// The name used in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stripped => "stripped",
            Self::Symbols => "symbols",
            Self::LineTables => "line-tables",
            Self::Full => "full",
        }
    }
}

/// What stands in other files.
#[derive(Default)]
struct Separate {
    /// Where to look, and how files are read.
    search: Option<(Places, ReadFile)>,
    /// The file that holds what was stripped.
    debuginfo: OnceLock<Option<Elf>>,
}

impl std::fmt::Debug for Separate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Separate").field("debuginfo", &self.debuginfo).finish_non_exhaustive()
    }
}

/// One ELF image placed at a bias. Addresses going in and out are absolute: the target's.
#[derive(Debug)]
pub struct Module {
    elf: Elf,
    bias: u64,
    path: PathBuf,
    executable: Vec<Range<u64>>,
    separate: Separate,
    symbols: OnceLock<SymbolTable>,
    dwarf: OnceLock<Result<Dwarf, DebugInfoError>>,
    /// What is known of it from other times.
    cache: OnceLock<Option<Cache>>,
}

impl Module {
    /// Reads the header tables. `bias` is what the loader added to the file's addresses: 0 for a program that is not
    /// position independent. `path` only names the module.
    ///
    /// # Errors
    /// When the bytes are no x86-64 ELF file or its header tables are cut short.
    pub fn parse(bytes: Bytes, bias: u64, path: PathBuf) -> Result<Self, DebugInfoError> {
        let elf = Elf::parse(bytes)?;
        let (executable, separate) = (Vec::new(), Separate::default());
        let (symbols, dwarf, cache) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let mut module = Self { elf, bias, path, executable, separate, symbols, dwarf, cache };
        module.place(bias);
        Ok(module)
    }

    /// A module that a process has mapped.
    ///
    /// # Errors
    /// As [`Module::parse`].
    pub fn load(file: &ModuleFile) -> Result<Self, DebugInfoError> {
        let mut module = Self::parse(Bytes::new(Arc::clone(&file.bytes) as _), 0, file.path.clone())?;
        let first = module.elf.segments.iter().min_by_key(|segment| segment.memory.start);
        // Segments keep their distance to each other in memory, but not always to their place in the file.
        let origin = first.map_or(0, |first| first.memory.start.wrapping_sub(first.file.start as u64));
        module.place(file.start.wrapping_sub(origin));
        Ok(module)
    }

    /// Lets the module look into other files for what its own leaves out, when that is first asked for: symbols and
    /// debuginfo that were stripped, and split units, which `.dwo` files or a `.dwp` have.
    pub fn look_in(&mut self, places: Places, read: ReadFile) {
        self.separate.search = Some((places, read));
    }

    /// The name it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the loader added to the file's addresses.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// Whether the address is in one of its loaded segments.
    pub fn contains(&self, address: u64) -> bool {
        let inside = self.to_file(address);
        self.elf.segments.iter().any(|segment| segment.memory.contains(&inside))
    }

    fn place(&mut self, bias: u64) {
        self.bias = bias;
        let code = self.elf.segments.iter().filter(|segment| segment.executable);
        self.executable = code.map(|code| self.to_target(code.memory.start)..self.to_target(code.memory.end)).collect();
    }

    /// From its first loaded byte to the end of its last; holes between are included.
    pub fn range(&self) -> Range<u64> {
        let start = self.elf.segments.iter().map(|segment| segment.memory.start).min().unwrap_or(0);
        let end = self.elf.segments.iter().map(|segment| segment.memory.end).max().unwrap_or(0);
        self.to_target(start)..self.to_target(end)
    }

    /// Absolute ranges of its executable segments.
    pub fn executable_ranges(&self) -> &[Range<u64>] {
        &self.executable
    }

    /// Where in the file the byte at the address lies; `None` outside of what the file backs.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let inside = self.to_file(address);
        let segment = self.elf.segments.iter().find(|segment| segment.memory.contains(&inside))?;
        let offset = segment.file.start as u64 + (inside - segment.memory.start);
        (offset < segment.file.end as u64).then_some(offset)
    }

    /// The symbol that covers the address: of `.symtab`, or of `.dynsym` where there is no other.
    pub fn symbol_at(&self, address: u64) -> Option<Symbol<'_>> {
        self.symbol_table().at(self.to_file(address)).map(|symbol| self.placed(symbol))
    }

    /// Every symbol that begins at the address. Linkers fold identical functions into one: where this yields several,
    /// none of them says for sure which function it was.
    pub fn symbols_at(&self, address: u64) -> impl Iterator<Item = Symbol<'_>> {
        self.symbol_table().beginning_at(self.to_file(address)).map(|symbol| self.placed(symbol))
    }

    /// All defined symbols, by address.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.symbol_table().iter().map(|symbol| self.placed(symbol))
    }

    /// Where functions begin that can be unwound through, by address: known of stripped files too.
    pub fn function_starts(&self) -> impl Iterator<Item = u64> {
        functions::starts(&self.elf).into_iter().map(|start| self.to_target(start))
    }

    /// Address of what the module exports to others by that name, in its default version. `None` also for a function
    /// whose address is chosen at load time.
    pub fn exported(&self, name: &str) -> Option<u64> {
        symbols::exported(&self.elf, name).map(|address| self.to_target(address))
    }

    /// Slots that the loader fills with the address of a named symbol, as calls that leave the module use them:
    /// `(address of the slot, name)`, by address.
    pub fn relocated_slots(&self) -> Vec<(u64, &str)> {
        let slots = symbols::relocated_slots(&self.elf);
        slots.into_iter().map(|(slot, name)| (self.to_target(slot), name)).collect()
    }

    /// The first section of that name.
    pub fn section(&self, name: &str) -> Option<Section> {
        let entry = self.elf.section(name)?;
        let bytes = self.elf.contents(entry);
        Some(Section { address: self.to_target(entry.address), size: entry.size, bytes })
    }

    /// What the file has at an absolute address, before relocation; `None` where the file does not cover all of it.
    pub fn file_bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.file_bytes_from(address)?.get(..length)
    }

    /// What the file has from an absolute address on to the end of its segment, before relocation; `None` where it has nothing.
    pub fn file_bytes_from(&self, address: u64) -> Option<&[u8]> {
        let inside = self.to_file(address);
        let segment = self.elf.segments.iter().find(|segment| segment.memory.contains(&inside))?;
        let start = segment.file.start.checked_add(usize::try_from(inside - segment.memory.start).ok()?)?;
        self.elf.bytes.get(start..segment.file.end)
    }

    /// Absolute ranges of the loaded segments that the program may write.
    pub fn writable_ranges(&self) -> Vec<Range<u64>> {
        let writable = self.elf.segments.iter().filter(|segment| segment.writable);
        writable.map(|segment| self.to_target(segment.memory.start)..self.to_target(segment.memory.end)).collect()
    }

    /// The segment of thread-local variables.
    pub fn tls(&self) -> Option<TlsSegment> {
        self.elf.tls
    }

    /// The linker's fingerprint of the file.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.elf.build_id.as_deref()
    }

    /// Whether it has line tables, and so tells of inlined functions.
    pub fn has_lines(&self) -> bool {
        let look = || self.dwarf().is_ok_and(|dwarf| !dwarf.is_empty());
        self.cache().map_or_else(look, |cache| cache.has_lines(look))
    }

    /// How much the file tells about itself. Debuginfo that cannot be read counts as none.
    pub fn quality(&self) -> Quality {
        let symbols =
            if self.symbol_table().is_empty() || !self.has_symbols() { Quality::Stripped } else { Quality::Symbols };
        self.dwarf().ok().and_then(Dwarf::quality).map_or(symbols, |quality| quality.max(symbols))
    }

    /// The source functions at an exact program counter: innermost first, inlined ones included. For a return address
    /// ask for the byte before it. Falls back to the symbol where there is no line table; empty where there is no symbol.
    pub fn source_frames(&self, address: u64) -> Vec<SourceFrame> {
        let inside = self.to_file(address);
        let look = || {
            let symbol = self.symbol_at(address).filter(|symbol| symbol.kind != SymbolKind::Tls);
            lines::source_frames(self.dwarf_for(address), inside, symbol)
        };
        self.cache().map_or_else(look, |cache| cache.frames(inside, look))
    }

    /// The function that has code of its own at an exact address, as its debuginfo describes it. `None` without any.
    pub fn subprogram_at(&self, address: u64) -> Option<Subprogram> {
        let inside = self.to_file(address);
        let look = || {
            let symbol = self.symbol_at(address);
            functions::subprogram_at(self.dwarf_for(address)?, inside, symbol.map(|symbol| symbol.name))
        };
        self.cache().map_or_else(look, |cache| cache.subprogram(inside, look))
    }

    /// The types of this module; `None` unless its quality is [`Quality::Full`].
    pub fn types(&self) -> Option<Types<'_>> {
        let dwarf = self.dwarf().ok()?;
        (dwarf.quality() == Some(Quality::Full)).then(|| Types::new(dwarf))
    }

    /// The debuginfo of this module.
    ///
    /// # Errors
    /// When its sections contradict themselves. A file without debuginfo is no error: it has no units.
    pub(super) fn dwarf(&self) -> Result<&Dwarf, DebugInfoError> {
        let load = || Dwarf::load(self.debuginfo(), split::Source::new(&self.path, self.separate.search.as_ref()));
        self.dwarf.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// What is kept of it, if anything may be.
    fn cache(&self) -> Option<&Cache> {
        let open = || {
            let folder = self.separate.search.as_ref()?.0.cache.clone()?;
            Cache::of(&self.elf, [self.debuginfo(), self.holder(SymbolTable::is_full)], folder)
        };
        self.cache.get_or_init(open).as_ref()
    }

    /// Keeps what was worked out, where the places that it was told of have a directory for that.
    pub fn keep(&self) {
        let is_split = matches!(self.dwarf.get(), Some(Ok(dwarf)) if dwarf.is_split());
        if let Some(Some(cache)) = self.cache.get()
            && !is_split
        {
            cache.keep();
        }
    }

    /// Whether the debuginfo has been read.
    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.dwarf.get().is_some()
    }

    /// Reads the debuginfo now, where the file has its own and answers are not at hand: whoever asks for it later need not wait.
    pub fn read_ahead(&self) {
        let has_own = self.elf.section(".debug_info").is_some_and(|section| !section.file.is_empty());
        if has_own && !self.cache().is_some_and(Cache::has_answers) {
            // Whether it can be read is for those to know who ask.
            let _ = self.dwarf();
        }
    }

    /// The debuginfo, if it could have anything to say of the address.
    fn dwarf_for(&self, address: u64) -> Option<&Dwarf> {
        self.dwarf().ok().filter(|_| self.contains(address))
    }

    /// Whether its functions have names.
    pub fn has_symbols(&self) -> bool {
        SymbolTable::is_full(self.holder(SymbolTable::is_full))
    }

    fn symbol_table(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| SymbolTable::load(self.holder(SymbolTable::is_full)))
    }

    /// The file with the debuginfo.
    fn debuginfo(&self) -> &Elf {
        self.holder(|elf| elf.section(".debug_info").is_some())
    }

    /// The file that has something: the module's own, or else the one with its debuginfo; its own where neither has it.
    fn holder(&self, has: impl Fn(&Elf) -> bool) -> &Elf {
        if has(&self.elf) {
            return &self.elf;
        }
        let find = || {
            let (places, read) = self.separate.search.as_ref()?;
            separate::find(&self.elf, &self.path, places, read)
        };
        self.separate.debuginfo.get_or_init(find).as_ref().filter(|elf| has(elf)).unwrap_or(&self.elf)
    }

    fn placed<'m>(&self, symbol: Symbol<'m>) -> Symbol<'m> {
        match symbol.kind {
            SymbolKind::Tls => symbol,
            SymbolKind::Text | SymbolKind::Data => Symbol { address: self.to_target(symbol.address), ..symbol },
        }
    }

    pub(super) fn to_file(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }

    pub(super) fn to_target(&self, address: u64) -> u64 {
        address.wrapping_add(self.bias)
    }
}

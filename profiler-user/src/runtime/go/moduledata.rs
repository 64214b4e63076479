//! The linker's table of contents of a Go program: where functions, globals and their tables are (runtime/symtab.go,
//! `moduledata`).

use std::ops::Range;

use super::{
    bytes::{read_vec, u64_at},
    layout::Layout,
    pclntab::Pclntab,
};
use crate::{
    debuginfo::Module,
    target::{Memory, MemoryError},
};

/// One table of a program at most.
const LARGEST_TABLE: u64 = 1 << 30;
/// Globals of one kind at most.
const LARGEST_GLOBALS: u64 = 1 << 32;
/// What a program's function tables begin with, from 1.20 on (internal/abi, `Go120PCLnTabMagic`), up to the pointer size
/// of x86-64.
const PCLNTAB_MAGIC: [u8; 8] = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];

/// Globals of one kind, with one bit a word that says which are pointers.
#[derive(Clone, Debug)]
pub(super) struct Globals {
    pub(super) range: Range<u64>,
    /// `None` for what holds no pointers into the heap.
    pub(super) pointers: Option<Vec<u8>>,
}

/// What one `moduledata` says.
#[derive(Debug)]
pub(super) struct ModuleData {
    address: u64,
    pub(super) code: Pclntab,
    /// `data`, `bss`, `noptrdata` and `noptrbss`.
    pub(super) globals: [Globals; 4],
    /// Address of the next one; 0 where there is none, as in every program without plugins.
    pub(super) next: u64,
}

impl ModuleData {
    /// Finds the first one of `module`.
    pub(super) fn find(module: &Module, memory: &dyn Memory, layout: &Layout) -> Result<Self, String> {
        let address = locate(module, memory, layout).ok_or("its moduledata was not found")?;
        Self::read(memory, layout, address).map_err(|error| format!("its moduledata cannot be read: {error}"))
    }

    /// Reads the one at `address` with its tables.
    pub(super) fn read(memory: &dyn Memory, layout: &Layout, address: u64) -> Result<Self, MemoryError> {
        let bytes = read_vec(memory, address, layout.moduledata_size, 1 << 16)?;
        let word = |at: u64| u64_at(&bytes, at).ok_or(MemoryError::Unmapped(address));
        let table = |at: u64, size: u64| {
            let length = word(at + 8)?.checked_mul(size).ok_or(MemoryError::Unmapped(address))?;
            read_vec(memory, word(at)?, length, LARGEST_TABLE)
        };
        let range = |from: u64, to: u64| {
            let (start, end) = (word(from)?, word(to)?);
            Ok(start..end.max(start))
        };
        let with_pointers = |from: u64, to: u64, mask: u64| {
            let range: Range<u64> = range(from, to)?;
            if range.end - range.start > LARGEST_GLOBALS {
                return Err(MemoryError::Unmapped(range.start));
            }
            let words = (range.end - range.start) / 8;
            let pointers = Some(read_vec(memory, word(mask)?, words.div_ceil(8), LARGEST_TABLE)?);
            Ok(Globals { range, pointers })
        };
        let without = |from: u64, to: u64| Ok::<_, MemoryError>(Globals { range: range(from, to)?, pointers: None });
        Ok(Self {
            address,
            code: Pclntab::new(
                range(layout.moduledata_text, layout.moduledata_etext)?,
                word(layout.moduledata_gofunc)?,
                [
                    table(layout.moduledata_funcnametab, 1)?,
                    table(layout.moduledata_cutab, 4)?,
                    table(layout.moduledata_filetab, 1)?,
                    table(layout.moduledata_pctab, 1)?,
                    table(layout.moduledata_pclntable, 1)?,
                ],
                &table(layout.moduledata_ftab, 8)?,
            ),
            globals: [
                with_pointers(layout.moduledata_data, layout.moduledata_edata, layout.moduledata_gcdatamask)?,
                with_pointers(layout.moduledata_bss, layout.moduledata_ebss, layout.moduledata_gcbssmask)?,
                without(layout.moduledata_noptrdata, layout.moduledata_enoptrdata)?,
                without(layout.moduledata_noptrbss, layout.moduledata_enoptrbss)?,
            ],
            next: word(layout.moduledata_next)?,
        })
    }
}

impl ModuleData {
    /// Address of the one after it, as it is now.
    pub(super) fn next_now(&self, memory: &dyn Memory, layout: &Layout) -> Option<u64> {
        memory.read_u64(self.address.checked_add(layout.moduledata_next)?).ok()
    }
}

/// By its symbol, by its section (from 1.26 on), or by what it begins with: the address of the function tables.
fn locate(module: &Module, memory: &dyn Memory, layout: &Layout) -> Option<u64> {
    let symbol = module.symbols().find(|symbol| symbol.name == "runtime.firstmoduledata");
    if let Some(symbol) = symbol {
        return Some(symbol.address);
    }
    if let Some(section) = module.section(".go.module") {
        return Some(section.address);
    }
    let sections = [".gopclntab", ".data.rel.ro.gopclntab"];
    let tables = sections.into_iter().find_map(|name| module.section(name))?.address;
    let mut header = [0; PCLNTAB_MAGIC.len()];
    memory.read(tables, &mut header).ok()?;
    if header != PCLNTAB_MAGIC {
        return None;
    }
    module.writable_ranges().into_iter().find_map(|range| {
        let bytes = read_vec(memory, range.start, range.end - range.start, LARGEST_TABLE).ok()?;
        let words = bytes.as_chunks::<8>().0.iter().enumerate();
        words
            .filter(|(_, word)| u64::from_le_bytes(**word) == tables)
            .map(|(index, _)| range.start + index as u64 * 8)
            .find(|address| is_plausible(module, memory, layout, *address))
    })
}

/// Whether the code that a would-be `moduledata` names is the module's.
fn is_plausible(module: &Module, memory: &dyn Memory, layout: &Layout, address: u64) -> bool {
    let word = |at: u64| memory.read_u64(address + at).unwrap_or(0);
    let (text, etext) = (word(layout.moduledata_text), word(layout.moduledata_etext));
    text < etext && module.executable_ranges().iter().any(|code| code.start <= text && etext <= code.end)
}

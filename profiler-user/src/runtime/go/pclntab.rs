//! The tables of functions that a Go program carries for its own tracebacks: names, lines, inlined calls, frame sizes and
//! stack maps (runtime/symtab.go and internal/abi/symtab.go; the same shape in Go 1.20 to 1.27).

use std::ops::Range;

use super::bytes::{c_string, u32_at};

/// Offsets in a `_func`.
const FUNC_NAME: u64 = 4;
const FUNC_PCSP: u64 = 16;
const FUNC_PCFILE: u64 = 20;
const FUNC_PCLN: u64 = 24;
const FUNC_NPCDATA: u64 = 28;
const FUNC_CU: u64 = 32;
const FUNC_ID: u64 = 40;
const FUNC_FLAG: u64 = 41;
const FUNC_NFUNCDATA: u64 = 43;
const FUNC_PCDATA: u64 = 44;
/// The flag of a function at the outermost end of every stack.
const FLAG_TOP_FRAME: u8 = 1;
/// No such table.
const NONE: u32 = u32::MAX;
/// Entries of one table that are walked at most.
const MOST_ENTRIES: usize = 1 << 20;
/// An entry of the tree of inlined calls.
pub(super) const INLINED_SIZE: u64 = 16;

/// Tables indexed by program counter.
#[derive(Clone, Copy, Debug)]
pub(super) enum PcData {
    /// Which of the stack maps holds.
    StackMap = 1,
    /// Which inlined call the code belongs to.
    InlinedCall = 2,
}

/// Data of a whole function.
#[derive(Clone, Copy, Debug)]
pub(super) enum FuncData {
    /// Which words of the arguments are pointers.
    ArgsPointers = 0,
    /// Which words of the frame are pointers.
    LocalsPointers = 1,
    /// Variables on the stack whose address is taken.
    StackObjects = 2,
    /// The tree of inlined calls.
    InlineTree = 3,
    /// Where the deferred calls without a record are.
    OpenDefers = 4,
}

/// A function: its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    at: u32,
    /// Address of its first instruction.
    pub(super) entry: u64,
}

/// The tables of one module.
#[derive(Debug)]
pub(super) struct Pclntab {
    text: Range<u64>,
    gofunc: u64,
    names: Vec<u8>,
    units: Vec<u8>,
    files: Vec<u8>,
    pctab: Vec<u8>,
    functions: Vec<u8>,
    /// Beginning of each function, relative to `text`, and its place in `functions`; by address.
    index: Vec<(u32, u32)>,
}

impl Pclntab {
    /// `gofunc` is where the data of functions lies; the tables are names, units, files, pc-indexed tables and functions.
    pub(super) fn new(text: Range<u64>, gofunc: u64, tables: [Vec<u8>; 5], ftab: &[u8]) -> Self {
        let [names, units, files, pctab, functions] = tables;
        let entry = |entry: &[u8; 8]| {
            let (low, high) = entry.split_at(4);
            (u32_at(low, 0).unwrap_or(0), u32_at(high, 0).unwrap_or(0))
        };
        let index = ftab.as_chunks::<8>().0.iter().map(entry).collect();
        Self { text, gofunc, names, units, files, pctab, functions, index }
    }

    /// The function that has its code at `pc`.
    pub(super) fn find(&self, pc: u64) -> Option<Function> {
        if !self.text.contains(&pc) {
            return None;
        }
        let offset = pc - self.text.start;
        let next = self.index.partition_point(|(entry, _)| u64::from(*entry) <= offset);
        // The last entry only says where the last function ends.
        let (entry, at) = *self.index[..next].last().filter(|_| next < self.index.len())?;
        Some(Function { at, entry: self.text.start + u64::from(entry) })
    }

    /// Every function.
    pub(super) fn functions(&self) -> impl Iterator<Item = Function> {
        let entries = self.index.split_last().map_or(&[][..], |(_, entries)| entries);
        entries.iter().map(|(entry, at)| Function { at: *at, entry: self.text.start.wrapping_add(u64::from(*entry)) })
    }

    /// Where the next function begins.
    pub(super) fn end_of(&self, function: Function) -> u64 {
        let offset = function.entry.wrapping_sub(self.text.start);
        let next = self.index.partition_point(|(entry, _)| u64::from(*entry) <= offset);
        self.index.get(next).map_or(self.text.end, |(entry, _)| self.text.start.saturating_add(u64::from(*entry)))
    }

    /// Its full name: `main.(*Server).handle.func1`.
    pub(super) fn name(&self, function: Function) -> String {
        self.name_at(self.field(function, FUNC_NAME).unwrap_or(NONE))
    }

    /// The name at a place of the table of names.
    pub(super) fn name_at(&self, at: u32) -> String {
        String::from_utf8_lossy(c_string(&self.names, at)).into_owned()
    }

    /// A number that stands for what is special about it; the numbers differ between versions.
    pub(super) fn id(&self, function: Function) -> Option<u8> {
        self.byte(function, FUNC_ID)
    }

    /// Whether every stack that reaches it ends with it.
    pub(super) fn is_top(&self, function: Function) -> bool {
        self.byte(function, FUNC_FLAG).is_some_and(|flag| flag & FLAG_TOP_FRAME != 0)
    }

    /// Bytes from the stack pointer at `pc` up to the return address.
    pub(super) fn frame_size(&self, function: Function, pc: u64) -> Option<u64> {
        u64::try_from(self.value(function, self.field(function, FUNC_PCSP)?, pc)?).ok()
    }

    /// File and line of the code at `pc`, in the innermost inlined function.
    pub(super) fn line(&self, function: Function, pc: u64) -> Option<(String, u32)> {
        let line = self.value(function, self.field(function, FUNC_PCLN)?, pc)?;
        let file = self.value(function, self.field(function, FUNC_PCFILE)?, pc)?;
        let unit = self.field(function, FUNC_CU)?;
        let place = u64::from(unit.checked_add(u32::try_from(file).ok()?)?);
        let name = c_string(&self.files, u32_at(&self.units, place * 4)?);
        Some((String::from_utf8_lossy(name).into_owned(), u32::try_from(line).ok()?))
    }

    /// The value of a table at `pc`; `None` where the function has no such table or it does not say.
    pub(super) fn pc_data(&self, function: Function, table: PcData, pc: u64) -> Option<u32> {
        let table = table as u32;
        if table >= self.field(function, FUNC_NPCDATA)? {
            return None;
        }
        let offset = self.field(function, FUNC_PCDATA + 4 * u64::from(table))?;
        u32::try_from(self.value(function, offset, pc)?).ok()
    }

    /// Address of data of the whole function.
    pub(super) fn func_data(&self, function: Function, which: FuncData) -> Option<u64> {
        let which = which as u8;
        if which >= self.byte(function, FUNC_NFUNCDATA)? {
            return None;
        }
        let tables = u64::from(self.field(function, FUNC_NPCDATA)?);
        let offset = self.field(function, FUNC_PCDATA + 4 * (tables + u64::from(which)))?;
        (offset != NONE).then(|| self.gofunc.wrapping_add(u64::from(offset)))
    }

    fn field(&self, function: Function, field: u64) -> Option<u32> {
        u32_at(&self.functions, u64::from(function.at) + field)
    }

    fn byte(&self, function: Function, field: u64) -> Option<u8> {
        self.functions.get(usize::try_from(u64::from(function.at) + field).ok()?).copied()
    }

    /// Walks a table of (difference of the value, length of the code) pairs up to `pc`.
    fn value(&self, function: Function, offset: u32, pc: u64) -> Option<i32> {
        if offset == 0 {
            return None;
        }
        let mut rest = self.pctab.get(offset as usize..)?;
        let (mut at, mut value) = (function.entry, -1_i32);
        for index in 0..MOST_ENTRIES {
            let change = varint(&mut rest)?;
            if change == 0 && index > 0 {
                return None;
            }
            let half = (change >> 1).cast_signed();
            value = value.wrapping_add(if change & 1 == 0 { half } else { !half });
            at = at.checked_add(u64::from(varint(&mut rest)?))?;
            if pc < at {
                return Some(value);
            }
        }
        None
    }
}

/// Takes a base-128 number off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: u64 = 0x1000;

    /// Two functions of 16 bytes; the first has a frame of 8 bytes from its fourth byte on.
    fn tables() -> [Vec<u8>; 5] {
        let mut function = vec![0; FUNC_PCDATA as usize];
        function[FUNC_NAME as usize] = 1;
        function[FUNC_PCSP as usize] = 1;
        function[FUNC_FLAG as usize] = FLAG_TOP_FRAME;
        // -1 + 1 = 0 for 4 bytes, then + 8 for 12.
        let pctab = vec![0, 2, 4, 16, 12, 0];
        [b"\0main.main\0".to_vec(), Vec::new(), Vec::new(), pctab, function]
    }

    fn ftab() -> Vec<u8> {
        [0_u32, 0, 16, 0, 32, 0].into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn pclntab(tables: [Vec<u8>; 5], ftab: &[u8]) -> Pclntab {
        Pclntab::new(ENTRY..ENTRY + 32, 0, tables, ftab)
    }

    #[test]
    fn a_function_is_found_with_its_frame() {
        let tab = pclntab(tables(), &ftab());
        let function = tab.find(ENTRY + 5).expect("a function");
        assert_eq!((function.entry, tab.end_of(function)), (ENTRY, ENTRY + 16));
        assert_eq!(tab.name(function), "main.main");
        assert_eq!(tab.frame_size(function, ENTRY + 3), Some(0));
        assert_eq!(tab.frame_size(function, ENTRY + 4), Some(8));
        assert_eq!(tab.frame_size(function, ENTRY + 16), None);
        assert!(tab.is_top(function));
        assert_eq!((tab.find(ENTRY - 1), tab.find(ENTRY + 32)), (None, None));
        assert_eq!(tab.functions().count(), 2);
    }

    #[test]
    fn truncated_tables_end_in_nothing() {
        for cut in 0..5 {
            for length in 0..tables()[cut].len() {
                let mut tables = tables();
                tables[cut].truncate(length);
                let tab = pclntab(tables, &ftab());
                for pc in ENTRY..ENTRY + 32 {
                    let Some(function) = tab.find(pc) else { continue };
                    let _ = (tab.name(function), tab.line(function, pc), tab.frame_size(function, pc));
                    let _ = (tab.pc_data(function, PcData::StackMap, pc), tab.is_top(function));
                    let _ = tab.func_data(function, FuncData::InlineTree);
                }
            }
        }
        for length in 0..ftab().len() {
            let _ = pclntab(tables(), &ftab()[..length]).find(ENTRY + 5);
        }
    }

    #[test]
    fn a_table_without_end_ends() {
        let mut tables = tables();
        tables[3] = vec![2; 1 << 22];
        tables[3][0] = 0;
        let tab = pclntab(tables, &ftab());
        let function = tab.find(ENTRY).expect("a function");
        assert!(tab.frame_size(function, u64::MAX).is_none());
    }
}

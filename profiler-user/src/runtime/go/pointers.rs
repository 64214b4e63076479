//! Which words of a goroutine's stack are pointers that it may still use: the stack maps that the compiler made for the
//! collector (runtime/stkframe.go, `getStackMap`).

use rustc_hash::FxHashSet;

use super::{
    bytes::{read_vec, u32_at, u64_at},
    code::Code,
    pclntab::{FuncData, PcData},
    stack::{Stack, StackFrame},
};
use crate::target::Memory;

/// Words of one bitmap at most.
const MOST_WORDS: u64 = 1 << 24;
/// Variables on the stack of one function at most.
const MOST_OBJECTS: u64 = 4096;
/// Bytes of the record of one of them.
const OBJECT_RECORD: u64 = 16;
/// Functions whose arguments only reflection knows: no map tells what is a pointer.
const UNMAPPED: [&str; 2] = ["reflect.makeFuncStub", "reflect.methodValueCall"];

/// A variable on the stack that has its address taken: it lives as long as something points to it.
struct StackObject {
    start: u64,
    size: u64,
}

/// Every pointer that the goroutine may still use. Where maps are lacking every word counts as one.
pub(super) fn of(code: &Code, memory: &dyn Memory, stack: &Stack) -> Vec<u64> {
    let unmapped = |frame: &StackFrame| frame.site.injected || UNMAPPED.contains(&&*frame.site.name);
    if !stack.complete || stack.frames.iter().any(unmapped) {
        return words(&stack.bytes).collect();
    }
    let (mut pointers, mut objects) = (Vec::new(), Vec::new());
    for frame in &stack.frames {
        if of_frame(code, memory, stack, frame, &mut pointers, &mut objects).is_none() {
            // The frame with what it was called with, which lies at the beginning of the next.
            let size = frame.end - frame.sp + ARGUMENTS;
            pointers.extend((0..size).step_by(8).filter_map(|at| stack.word(frame.sp.checked_add(at)?)));
        }
    }
    follow_objects(stack, &objects, &mut pointers);
    pointers
}

/// Bytes of arguments on the stack that are looked at where no map says how many there are.
const ARGUMENTS: u64 = 512;

/// All words of a piece of memory that are not zero.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).filter(|word| *word != 0)
}

/// `None` where the maps of the frame cannot be read.
fn of_frame(
    code: &Code,
    memory: &dyn Memory,
    stack: &Stack,
    frame: &StackFrame,
    pointers: &mut Vec<u64>,
    objects: &mut Vec<StackObject>,
) -> Option<()> {
    let function = frame.site.function;
    let table = &code.modules.get(frame.site.module)?.code;
    let at = if frame.pc > function.entry { frame.pc - 1 } else { frame.pc };
    // Without an index the first map holds: that of the function's beginning.
    let index = table.pc_data(function, PcData::StackMap, at).unwrap_or(0);
    let locals_end = frame.locals_end();
    if locals_end > frame.sp {
        let map = StackMap::read(memory, table.func_data(function, FuncData::LocalsPointers)?, index)?;
        let start = locals_end.checked_sub(map.words * 8)?;
        map.pointers(stack, start, pointers);
    }
    if let Some(arguments) = table.func_data(function, FuncData::ArgsPointers) {
        StackMap::read(memory, arguments, index)?.pointers(stack, frame.end, pointers);
    }
    if let Some(records) = table.func_data(function, FuncData::StackObjects) {
        let count = memory.read_u64(records).ok().filter(|count| *count <= MOST_OBJECTS)?;
        let records = read_vec(memory, records.checked_add(8)?, count * OBJECT_RECORD, u64::MAX).ok()?;
        for record in records.chunks_exact(OBJECT_RECORD as usize) {
            // Offset from the locals' end, or where it is not negative from the arguments' beginning; size.
            let offset = i64::from(u32_at(record, 0)?.cast_signed());
            let base = if offset < 0 { locals_end } else { frame.end };
            let size = u64::from(u32_at(record, 4)?);
            objects.push(StackObject { start: base.checked_add_signed(offset)?, size });
        }
    }
    Some(())
}

/// One bitmap out of a function's table of them.
struct StackMap {
    words: u64,
    bits: Vec<u8>,
}

impl StackMap {
    /// A table is the number of bitmaps, their length in bits, and the bitmaps.
    fn read(memory: &dyn Memory, table: u64, index: u32) -> Option<Self> {
        let header = read_vec(memory, table, 8, 8).ok()?;
        let (count, words) = (u32_at(&header, 0)?, u64::from(u32_at(&header, 4)?));
        if words == 0 {
            return Some(Self { words: 0, bits: Vec::new() });
        }
        if index >= count || words > MOST_WORDS {
            return None;
        }
        let length = words.div_ceil(8);
        let at = table.checked_add(8)?.checked_add(u64::from(index) * length)?;
        Some(Self { words, bits: read_vec(memory, at, length, MOST_WORDS).ok()? })
    }

    fn pointers(&self, stack: &Stack, start: u64, pointers: &mut Vec<u64>) {
        for word in (0..self.words).filter(|word| self.bits[(word / 8) as usize] >> (word % 8) & 1 == 1) {
            pointers.extend(stack.word(start.wrapping_add(word * 8)).filter(|value| *value != 0));
        }
    }
}

/// Adds what the variables that are pointed to contain, and so on.
fn follow_objects(stack: &Stack, objects: &[StackObject], pointers: &mut Vec<u64>) {
    let mut sorted: Vec<&StackObject> = objects.iter().collect();
    sorted.sort_by_key(|object| object.start);
    let mut done = FxHashSet::default();
    let mut next = 0;
    while let Some(pointer) = pointers.get(next).copied() {
        next += 1;
        let place = sorted.partition_point(|object| object.start <= pointer);
        let Some(object) = place.checked_sub(1).and_then(|place| sorted.get(place)) else { continue };
        if pointer - object.start < object.size && done.insert(object.start) {
            let Some(start) = object.start.checked_sub(stack.start).and_then(|at| usize::try_from(at).ok()) else {
                continue;
            };
            let end = start.saturating_add(object.size as usize).min(stack.bytes.len());
            pointers.extend(words(stack.bytes.get(start..end).unwrap_or_default()));
        }
    }
}

/// Pointers that the record of a goroutine keeps for it: deferred calls, a panic, labels, what was handed to it.
pub(super) fn of_record(memory: &dyn Memory, layout: &super::layout::Layout, record: &[u8]) -> Vec<u64> {
    /// Deferred calls that are followed at most.
    const MOST_DEFERRED: usize = 1 << 20;
    let fields = [layout.g_panic, layout.g_sched_ctxt, layout.g_param, layout.g_labels, layout.g_timer, layout.g_defer];
    let fields = fields.into_iter().chain(layout.g_coroarg);
    let mut pointers: Vec<u64> = fields.filter_map(|field| u64_at(record, field)).filter(|word| *word != 0).collect();
    let mut deferred = u64_at(record, layout.g_defer).unwrap_or(0);
    for _ in 0..MOST_DEFERRED {
        let word = |at: u64| memory.read_u64(deferred.wrapping_add(at)).ok();
        let (Some(function), Some(next)) = (word(layout.defer_fn), word(layout.defer_link)) else { break };
        pointers.push(function);
        if next == 0 {
            break;
        }
        deferred = next;
    }
    pointers
}

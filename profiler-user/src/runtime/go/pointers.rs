//! Which words of a goroutine's stack are pointers that it may still use: the stack maps that the compiler made for the
//! collector (runtime/stkframe.go, `getStackMap`).

use super::{
    bytes::{read_vec, u32_at, u64_at},
    pclntab::{FuncData, Function, PcData, Pclntab},
    stack::{Stack, StackFrame},
};
use crate::target::Memory;

/// Words of one bitmap at most.
const MOST_WORDS: u64 = 1 << 24;
/// Variables on the stack of one function at most.
const MOST_VARIABLES: u64 = 4096;
/// Bytes of the record of one of them.
const VARIABLE_RECORD: u64 = 16;
/// Bytes of arguments on the stack that are looked at where no map says how many there are.
const ARGUMENTS: u64 = 512;
/// Functions whose arguments only reflection knows: no map tells what is a pointer.
const UNMAPPED: [&str; 2] = ["reflect.makeFuncStub", "reflect.methodValueCall"];

/// What the maps say of the frames at one program counter.
#[derive(Debug)]
pub(super) struct FrameMap {
    /// The words up to the end of the variables.
    locals: StackMap,
    /// The words from the caller's stack pointer on.
    arguments: StackMap,
    variables: Vec<Variable>,
}

/// A variable that has its address taken: it lives as long as something points to it.
#[derive(Clone, Copy, Debug)]
struct Variable {
    /// From the end of the variables where it is negative, else from the caller's stack pointer.
    offset: i64,
    size: u64,
}

/// One bitmap: which words are pointers.
#[derive(Debug, Default)]
struct StackMap {
    words: u64,
    bits: Vec<u8>,
}

impl FrameMap {
    /// The maps at `at`, which is in a call; `None` where they cannot be read.
    pub(super) fn read(
        memory: &dyn Memory,
        table: &Pclntab,
        function: Function,
        at: u64,
        frame_size: Option<u64>,
    ) -> Option<Self> {
        // Without an index the first map holds: that of the function's beginning.
        let index = table.pc_data(function, PcData::StackMap, at).unwrap_or(0);
        let map = |which| StackMap::read(memory, table.func_data(function, which)?, index);
        // A frame that has no more than the saved frame pointer has no variables.
        let locals = if frame_size? > 8 { map(FuncData::LocalsPointers)? } else { StackMap::default() };
        let arguments = match table.func_data(function, FuncData::ArgsPointers) {
            Some(_) => map(FuncData::ArgsPointers)?,
            None => StackMap::default(),
        };
        let mut variables = Vec::new();
        if let Some(records) = table.func_data(function, FuncData::StackObjects) {
            let count = memory.read_u64(records).ok().filter(|count| *count <= MOST_VARIABLES)?;
            let records = read_vec(memory, records.checked_add(8)?, count * VARIABLE_RECORD, u64::MAX).ok()?;
            for record in records.chunks_exact(VARIABLE_RECORD as usize) {
                let offset = i64::from(u32_at(record, 0)?.cast_signed());
                variables.push(Variable { offset, size: u64::from(u32_at(record, 4)?) });
            }
        }
        Some(Self { locals, arguments, variables })
    }

    /// Adds the pointers of one frame, and where its variables lie.
    fn of_frame(
        &self,
        stack: &Stack<'_>,
        frame: &StackFrame,
        pointers: &mut Vec<u64>,
        variables: &mut Vec<(u64, u64)>,
    ) -> Option<()> {
        let locals_end = frame.locals_end();
        self.locals.pointers(stack, locals_end.checked_sub(self.locals.words * 8)?, pointers);
        self.arguments.pointers(stack, frame.end, pointers);
        for variable in &self.variables {
            let base = if variable.offset < 0 { locals_end } else { frame.end };
            variables.push((base.checked_add_signed(variable.offset)?, variable.size));
        }
        Some(())
    }
}

impl StackMap {
    /// A table is the number of bitmaps, their length in bits, and the bitmaps.
    fn read(memory: &dyn Memory, table: u64, index: u32) -> Option<Self> {
        let header = read_vec(memory, table, 8, 8).ok()?;
        let (count, words) = (u32_at(&header, 0)?, u64::from(u32_at(&header, 4)?));
        if words == 0 {
            return Some(Self::default());
        }
        if index >= count || words > MOST_WORDS {
            return None;
        }
        let length = words.div_ceil(8);
        let at = table.checked_add(8)?.checked_add(u64::from(index) * length)?;
        Some(Self { words, bits: read_vec(memory, at, length, MOST_WORDS).ok()? })
    }

    fn pointers(&self, stack: &Stack<'_>, start: u64, pointers: &mut Vec<u64>) {
        for word in (0..self.words).filter(|word| self.bits[(word / 8) as usize] >> (word % 8) & 1 == 1) {
            pointers.extend(stack.word(start.wrapping_add(word * 8)).filter(|value| *value != 0));
        }
    }
}

/// Adds every pointer that the goroutine may still use to `pointers`. Where maps are lacking every word counts as one.
pub(super) fn of(stack: &Stack<'_>, pointers: &mut Vec<u64>) {
    let unmapped = |frame: &StackFrame| frame.site.injected || UNMAPPED.contains(&&*frame.site.name);
    if !stack.complete || stack.frames.iter().any(unmapped) {
        pointers.extend(words(stack.bytes));
        return;
    }
    let (first, mut variables) = (pointers.len(), Vec::new());
    for frame in &stack.frames {
        let map = frame.site.map.as_ref();
        if map.and_then(|map| map.of_frame(stack, frame, pointers, &mut variables)).is_none() {
            // The frame with what it was called with, which lies at the beginning of the next.
            let size = frame.end - frame.sp + ARGUMENTS;
            pointers.extend((0..size).step_by(8).filter_map(|at| stack.word(frame.sp.checked_add(at)?)));
        }
    }
    if !variables.is_empty() {
        follow_variables(stack, variables, pointers, first);
    }
}

/// All words of a piece of memory that are not zero.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).filter(|word| *word != 0)
}

/// Adds what the variables that `pointers`, from number `next` on, point to contain, and so on.
fn follow_variables(stack: &Stack<'_>, mut variables: Vec<(u64, u64)>, pointers: &mut Vec<u64>, mut next: usize) {
    variables.sort_unstable();
    while let Some(pointer) = pointers.get(next).copied() {
        next += 1;
        let place = variables.partition_point(|(start, _)| *start <= pointer);
        let Some((start, size)) = place.checked_sub(1).and_then(|place| variables.get_mut(place)) else { continue };
        if pointer - *start < *size {
            // Once is enough.
            let size = std::mem::take(size);
            let Some(from) = start.checked_sub(stack.start).and_then(|at| usize::try_from(at).ok()) else { continue };
            let end = from.saturating_add(size as usize).min(stack.bytes.len());
            pointers.extend(words(stack.bytes.get(from..end).unwrap_or_default()));
        }
    }
}

/// Pointers that the record of a goroutine keeps for it: deferred calls, a panic, labels, what was handed to it.
pub(super) fn of_record(memory: &dyn Memory, layout: &super::layout::Layout, record: &[u8], pointers: &mut Vec<u64>) {
    /// Deferred calls that are followed at most.
    const MOST_DEFERRED: usize = 1 << 20;
    let fields = [layout.g_panic, layout.g_sched_ctxt, layout.g_param, layout.g_labels, layout.g_timer, layout.g_defer];
    let fields = fields.into_iter().chain(layout.g_coroarg);
    pointers.extend(fields.filter_map(|field| u64_at(record, field)).filter(|word| *word != 0));
    let mut deferred = u64_at(record, layout.g_defer).unwrap_or(0);
    for _ in 0..MOST_DEFERRED {
        if deferred == 0 {
            break;
        }
        let word = |at: u64| memory.read_u64(deferred.wrapping_add(at)).ok();
        let (Some(function), Some(next)) = (word(layout.defer_fn), word(layout.defer_link)) else { break };
        pointers.push(function);
        deferred = next;
    }
}

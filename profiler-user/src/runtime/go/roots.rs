//! What the marking starts from: the pointers in globals, finalizers and the stacks of goroutines that may run.

use std::ops::Range;

use super::{
    bytes::{read_vec, u32_at, u64_at},
    code::Code,
    goroutine::{Goroutine, Status},
    heap::Heap,
    layout::Layout,
    moduledata::ModuleData,
    pointers, stack,
};
use crate::target::{AddressSpace, MemoryError};

/// Bytes of one stack that are searched at most.
const LARGEST_STACK: u64 = 256 << 20;
/// Bytes of globals that are read together.
const PART: u64 = 1 << 20;
/// Special records of one span that are followed at most.
const MOST_SPECIALS: usize = 1 << 20;
/// Kinds of special records (runtime/mheap.go): a finalizer, and all that came after 1.23 and may hold functions.
const SPECIAL_FINALIZER: u8 = 2;
/// Bytes of a special record that are taken for pointers, behind what all have in common.
const SPECIAL_WORDS: u64 = 64;

/// The pointers in the globals.
pub(super) fn globals(
    memory: &AddressSpace,
    modules: &[ModuleData],
    layout: &Layout,
    roots: &mut Vec<u64>,
) -> Result<(), String> {
    for globals in modules.iter().flat_map(|module| &module.globals) {
        let Some(mask) = &globals.pointers else { continue };
        let parts = (globals.range.start..globals.range.end).step_by(PART as usize);
        let parts: Vec<Range<u64>> = parts.map(|at| at..at.saturating_add(PART).min(globals.range.end)).collect();
        let mut unread = false;
        memory.scattered(&parts, |part, bytes| {
            unread |= bytes.is_none();
            for (word, value) in bytes.unwrap_or_default().as_chunks::<8>().0.iter().enumerate() {
                let word = part * PART as usize / 8 + word;
                if mask.get(word / 8).is_some_and(|byte| byte >> (word % 8) & 1 == 1) {
                    roots.push(u64::from_le_bytes(*value));
                }
            }
        });
        if unread {
            return Err("the globals cannot be read".into());
        }
    }
    let last = modules.last().ok_or("no module of the program is known")?;
    if last.next_now(memory, layout) != Some(0) {
        return Err("a plugin was loaded after gordian came".into());
    }
    Ok(())
}

/// The pointers on the stack of a goroutine that does not run, where it stood still while they were read: it is where Go's own
/// collector would look at it.
pub(super) fn at_rest(
    memory: &AddressSpace,
    code: &mut Code,
    layout: &Layout,
    goroutine: &Goroutine,
    record: &[u8],
    roots: &mut Vec<u64>,
) -> bool {
    let at = (goroutine.sp, goroutine.pc, false);
    let piece = stack::piece(goroutine, at);
    let mut bytes = vec![0; (piece.end - piece.start) as usize];
    // As it is now: what was kept of a page may be older than the record.
    if memory.read_bulk(piece.start, &mut bytes).is_err() {
        return false;
    }
    let stack = stack::unwind(code, memory, at, &bytes);
    let mut after = vec![0; record.len()];
    let stood = stack.complete && memory.read_now(goroutine.address, &mut after).is_ok() && after == record;
    if stood {
        pointers::of(&stack, roots);
        pointers::of_record(memory, layout, record, roots);
    }
    stood
}

/// Every word on a stack that is in use.
pub(super) fn whole_stack(
    memory: &AddressSpace,
    layout: &Layout,
    goroutine: &Goroutine,
    record: &[u8],
    roots: &mut Vec<u64>,
) -> Result<(), String> {
    let mut range = goroutine.stack.clone();
    // Where it runs is not known; where it has left off is.
    if !matches!(goroutine.status, Status::Running | Status::CopyStack) && range.contains(&goroutine.sp) {
        range.start = goroutine.sp & !7;
    }
    if range.end - range.start > LARGEST_STACK {
        return Err(format!("the stack of goroutine {} is too large to be searched", goroutine.id));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    // A stack that was given back meanwhile is no goroutine's: what was on it has been moved or is gone.
    if memory.read_bulk(range.start, &mut bytes).is_ok() {
        roots.extend(pointers::words(&bytes));
    }
    pointers::of_record(memory, layout, record, roots);
    Ok(())
}

/// What finalizers and clean-ups will be called with. What a finalizer's object holds is in use, the object itself not.
pub(super) fn specials(layout: &Layout, heap: &Heap<'_>, roots: &mut Vec<u64>) -> Result<(), MemoryError> {
    // The offset is 8 bytes wide from 1.23 on, 2 before.
    let offset_mask = if layout.special_kind - layout.special_offset < 4 { 0xffff } else { u32::MAX };
    for span in &heap.spans.all {
        let mut next = span.specials;
        for _ in 0..MOST_SPECIALS {
            if next == 0 {
                break;
            }
            let record = read_vec(heap.memory, next, layout.special_size + SPECIAL_WORDS, 1 << 12)?;
            let kind = record.get(layout.special_kind as usize).copied().unwrap_or(0);
            let words = record.get(layout.special_size as usize..).unwrap_or_default();
            // Whatever its kind: words that are no pointers reach nothing.
            roots.extend(pointers::words(words));
            if kind == SPECIAL_FINALIZER {
                let offset = u32_at(&record, layout.special_offset).unwrap_or(0) & offset_mask;
                if let Some(object) = heap.spans.object(span.range.start + u64::from(offset)) {
                    heap.read(object, |pointer| roots.push(pointer))?;
                }
            }
            next = u64_at(&record, layout.special_next).unwrap_or(0);
        }
    }
    Ok(())
}

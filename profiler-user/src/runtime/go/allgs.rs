//! The list of all goroutines, `runtime.allgs`: by its symbol, or by its shape where symbols were stripped.

use rustc_hash::FxHashSet;

use super::{
    bytes::{read_vec, u64_at},
    goroutine::Goroutine,
    layout::Layout,
    moduledata::ModuleData,
};
use crate::{
    debuginfo::Module,
    target::{LOWEST, Memory},
};

/// Goroutines that are read at most.
const MOST: u64 = 64 << 20;
/// Elements that are tried before a list is believed.
const TRIED: u64 = 16;
/// Largest `bss` that is searched.
const LARGEST_BSS: u64 = 1 << 30;

/// Address of the slice.
pub(super) fn find(module: &Module, memory: &dyn Memory, layout: &Layout, data: &ModuleData) -> Option<u64> {
    let symbol = module.symbols().find(|symbol| symbol.name == "runtime.allgs").map(|symbol| symbol.address);
    symbol.or_else(|| find_by_shape(memory, layout, data))
}

/// Addresses of all records, also of those that run nothing.
pub(super) fn read(memory: &dyn Memory, slice: u64) -> Option<Vec<u64>> {
    let (first, length) = (memory.read_u64(slice).ok()?, memory.read_u64(slice.checked_add(8)?).ok()?);
    let bytes = read_vec(memory, first, length.checked_mul(8)?, MOST * 8).ok()?;
    Some(
        bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).filter(|address| *address != 0).collect(),
    )
}

/// A slice in `bss` whose elements look like goroutines, of which the first is the main one. The runtime keeps the
/// address of its array a second time (`allgptr`).
fn find_by_shape(memory: &dyn Memory, layout: &Layout, data: &ModuleData) -> Option<u64> {
    let bss = &data.globals[1].range;
    let bytes = read_vec(memory, bss.start, bss.end.checked_sub(bss.start)?, LARGEST_BSS).ok()?;
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let (mut seen, mut twice) = (FxHashSet::default(), FxHashSet::default());
    for word in words.iter().filter(|word| **word >= LOWEST) {
        if !seen.insert(*word) {
            twice.insert(*word);
        }
    }
    let index = words.windows(3).position(|slice| {
        let &[first, length, capacity] = slice else { return false };
        twice.contains(&first)
            && first.is_multiple_of(8)
            && (1..=capacity).contains(&length)
            && capacity <= MOST
            && are_goroutines(memory, layout, first, length.min(TRIED))
    })?;
    bss.start.checked_add(index as u64 * 8)
}

fn are_goroutines(memory: &dyn Memory, layout: &Layout, first: u64, count: u64) -> bool {
    let Ok(list) = read_vec(memory, first, count * 8, TRIED * 8) else { return false };
    (0..count).all(|index| {
        let Some(address) = u64_at(&list, index * 8).filter(|address| *address >= LOWEST) else { return false };
        if index == 0 {
            // The main goroutine never ends while the program runs.
            return Goroutine::read(memory, layout, address).is_some_and(|main| main.id == 1);
        }
        // Those that run nothing have no more to show than a stack that is one, or none.
        let word = |at: u64| memory.read_u64(address.wrapping_add(at)).ok();
        let stack = word(layout.g_stack_lo).zip(word(layout.g_stack_hi));
        stack.is_some_and(|(low, high)| low <= high && high - low <= 1 << 30)
            && word(layout.g_goid).is_some_and(|id| id < 1 << 48)
    })
}

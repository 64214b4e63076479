//! Task headers in the target's memory.
//!
//! Source: `Header` in tokio/src/runtime/task/core.rs, `repr(C)`, 1.28 to 1.54: state at 0, queue link at 8, vtable at 16,
//! id of the owning list at 24. The scan needs nothing but that: it finds the tasks of every runtime and `LocalSet`.

use rustc_hash::FxHashMap;

use super::{state::StateWord, vtables::TaskVtable};
use crate::target::{AddressSpace, Memory};

const VTABLE: u64 = 16;
const OWNER: u64 = 24;
/// Bytes of a header.
const LENGTH: u64 = 32;

/// A header as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its address.
    pub(super) address: u64,
    /// `Header::state`.
    pub(super) state: StateWord,
    /// Address of its vtable.
    pub(super) vtable: u64,
    /// Id of the list that owns it; 0 for work of the blocking pool.
    pub(super) owner: u64,
}

impl Header {
    /// Reads the header at `address` from what the target has there now; `None` where it is none (any more).
    pub(super) fn read_now(memory: &AddressSpace, address: u64, vtables: &FxHashMap<u64, TaskVtable>) -> Option<Self> {
        let mut bytes = [0; LENGTH as usize];
        memory.read_now(address, &mut bytes).ok()?;
        Self::from_bytes(address, &bytes, vtables)
    }

    /// Reads the header at `address` from the view.
    pub(super) fn read(memory: &dyn Memory, address: u64, vtables: &FxHashMap<u64, TaskVtable>) -> Option<Self> {
        let mut bytes = [0; LENGTH as usize];
        memory.read(address, &mut bytes).ok()?;
        Self::from_bytes(address, &bytes, vtables)
    }

    fn from_bytes(address: u64, bytes: &[u8; LENGTH as usize], vtables: &FxHashMap<u64, TaskVtable>) -> Option<Self> {
        let word = |at: u64| {
            let at = at as usize;
            u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
        };
        let header = Self { address, state: StateWord(word(0)), vtable: word(VTABLE), owner: word(OWNER) };
        (vtables.contains_key(&header.vtable) && header.state.plausible()).then_some(header)
    }
}

/// More tasks than any runtime has: above it the word is no count of those that refer to it.
const REFERENCES_SANE: u64 = 1 << 40;

/// Whether `runtime`, the word of a task's cell that says who schedules it, leads to a runtime or `LocalSet`. What was a task
/// once, and is free memory that others write to, may look like one but for that.
///
/// Source: `Core::scheduler` in tokio/src/runtime/task/core.rs, 1.28 to 1.54, an `Arc` of the runtime's `Handle` or of the
/// set's `Shared`; `ArcInner` in library/alloc/src/sync.rs begins with the count of its references.
pub(super) fn is_scheduler(memory: &dyn Memory, runtime: u64) -> bool {
    runtime != 0
        && runtime.is_multiple_of(8)
        && memory.read_u64(runtime).is_ok_and(|references| (1..REFERENCES_SANE).contains(&references))
}

/// Every header in the target's private memory, by address.
pub(super) fn scan(memory: &AddressSpace, vtables: &FxHashMap<u64, TaskVtable>) -> Vec<Header> {
    let Some((low, high)) = vtables.keys().copied().min().zip(vtables.keys().copied().max()) else { return Vec::new() };
    let mut headers = Vec::new();
    // Those that are cut in two by the end of a piece.
    let mut cut = Vec::new();
    for mapping in memory.mappings().iter().filter(|mapping| mapping.write && mapping.is_anonymous()) {
        memory.scan(mapping.range.clone(), |start, bytes| {
            for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                // Two comparisons settle almost every word of the heap.
                if (low..=high).contains(&word) && vtables.contains_key(&word) {
                    let place = index * 8;
                    let address = (start + place as u64).wrapping_sub(VTABLE);
                    let whole = place.checked_sub(VTABLE as usize).and_then(|place| bytes[place..].first_chunk());
                    match whole {
                        Some(whole) => headers.extend(Header::from_bytes(address, whole, vtables)),
                        None => cut.push(address),
                    }
                }
            }
        });
    }
    memory.note(headers.iter().map(|header| header.address..header.address + LENGTH));
    if !cut.is_empty() {
        headers.extend(cut.into_iter().filter_map(|address| Header::read(memory, address, vtables)));
        headers.sort_unstable_by_key(|header| header.address);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Words, *};

    #[test]
    fn a_freed_cell_has_no_runtime() {
        let memory = Words(&[12, 0, 0x5641_b216_6100]);
        assert!(is_scheduler(&memory, 0x1000));
        assert!(!is_scheduler(&memory, 0x1), "no address");
        assert!(!is_scheduler(&memory, 0), "nothing");
        assert!(!is_scheduler(&memory, 0x1008), "nobody refers to it");
        assert!(!is_scheduler(&memory, 0x1010), "a pointer is no count");
        assert!(!is_scheduler(&memory, 0x9000), "nothing is there");
    }
}

//! Task vtables: where they are, and what they tell of the tasks that point at them.
//!
//! Source: `Vtable` in tokio/src/runtime/task/raw.rs, 1.28 to 1.54: six or seven function pointers, then the offsets of
//! trailer, scheduler and id from the header. The struct is not `repr(C)`: which pointer is which is told by the symbol it
//! points at; which offset is which by size, since scheduler, id and trailer lie in this order in `Cell` (`repr(C)`).

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::{
    debuginfo::{Module, name},
    target::Memory,
};

/// An offset in a task cell is smaller than this, in bytes.
const OFFSET_MAX: u64 = 1 << 24;

/// What one task vtable says. All addresses are the target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskVtable {
    /// `poll(header)`.
    pub(super) poll: u64,
    /// `dealloc(header)`: drops the whole cell.
    pub(super) dealloc: u64,
    /// `schedule(header)`.
    pub(super) schedule: u64,
    /// Offset of the scheduler handle from the header.
    pub(super) scheduler_offset: u64,
    /// Offset of the task id from the header.
    pub(super) id_offset: u64,
    /// Offset of the trailer from the header: all of the future lies before it.
    pub(super) trailer_offset: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Poll,
    Schedule,
    Dealloc,
    Other,
}

/// The vtables in `module`, by address.
pub(super) fn find(module: &Module, memory: &dyn Memory) -> FxHashMap<u64, TaskVtable> {
    let entries = entries(module);
    let mut found = FxHashMap::default();
    if entries.is_empty() {
        return found;
    }
    for section in [".data.rel.ro", ".data.rel.ro.local", ".rodata", ".data"] {
        let Some(section) = module.section(section) else { continue };
        // Read from the target, not the file: the dynamic linker has put the addresses in.
        let mut bytes = vec![0; section.bytes.len()];
        if memory.read(section.address, &mut bytes).is_err() {
            continue;
        }
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        for run in runs(&words, &entries) {
            if let Some(vtable) = read_one(&words, run.clone(), &entries) {
                found.insert(section.address + run.start as u64 * 8, vtable);
            }
        }
    }
    found
}

/// The functions of `tokio::runtime::task::raw` that vtables point at.
fn entries(module: &Module) -> FxHashMap<u64, Entry> {
    module
        .symbols()
        // Cheap first: a binary has many symbols, and both manglings keep the words apart.
        .filter(|symbol| symbol.name.contains("raw") && symbol.name.contains("task"))
        .filter_map(|symbol| {
            let entry = match name::function(symbol.name).strip_prefix("tokio::runtime::task::raw::")? {
                "poll" => Entry::Poll,
                "schedule" => Entry::Schedule,
                "dealloc" => Entry::Dealloc,
                "try_read_output" | "drop_join_handle_slow" | "drop_abort_handle" | "shutdown" | "remote_abort" => {
                    Entry::Other
                }
                _ => return None,
            };
            Some((symbol.address, entry))
        })
        .collect()
}

/// The stretches of `words` that are all such functions.
fn runs<'a>(words: &'a [u64], entries: &'a FxHashMap<u64, Entry>) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < words.len() && !entries.contains_key(&words[at]) {
            at += 1;
        }
        let start = at;
        while at < words.len() && entries.contains_key(&words[at]) {
            at += 1;
        }
        (start < at).then_some(start..at)
    })
}

fn read_one(words: &[u64], run: Range<usize>, entries: &FxHashMap<u64, Entry>) -> Option<TaskVtable> {
    let pointer = |wanted| words[run.clone()].iter().copied().find(|word| entries.get(word) == Some(&wanted));
    let mut offsets: Vec<u64> =
        words[run.end..].iter().copied().take(4).take_while(|offset| (1..OFFSET_MAX).contains(offset)).collect();
    offsets.sort_unstable();
    let [scheduler_offset, id_offset, .., trailer_offset] = offsets[..] else { return None };
    Some(TaskVtable {
        poll: pointer(Entry::Poll)?,
        dealloc: pointer(Entry::Dealloc)?,
        schedule: pointer(Entry::Schedule)?,
        scheduler_offset,
        id_offset,
        trailer_offset,
    })
}

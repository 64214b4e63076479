//! Task vtables: where they are, and what they tell of the tasks that point at them.
//!
//! Source: `Vtable` in tokio/src/runtime/task/raw.rs, 1.28 to 1.54: six or seven function pointers, then the offsets of
//! trailer, scheduler and id from the header. The struct is not `repr(C)`: which pointer is which is told by the symbol it
//! points at; which offset is which by size, since scheduler, id and trailer lie in this order in `Cell` (`repr(C)`).
//!
//! A stripped binary in which paths of tokio's sources are found is searched by shape: [`SHAPE`] pointers to beginnings of functions, and the offsets, of which the
//! scheduler's is where `Core` begins, right behind the header. The compiler has kept all fields in the order of the
//! source; whoever relies on that proves it by what a function does: a poll begins with the transition to running, a
//! dealloc frees the cell.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::version;
use crate::{
    debuginfo::{Module, name},
    target::Memory,
};

/// An offset in a task cell is smaller than this, in bytes.
const OFFSET_MAX: u64 = 1 << 24;

/// Function pointers of a vtable in source order: poll, schedule, dealloc, `try_read_output`, `drop_join_handle_slow`,
/// `drop_abort_handle`, shutdown; the same in 1.38 to 1.54.
const SHAPE: usize = 7;

/// Bytes of a task's header: `Core` follows it.
const HEADER: u64 = 32;

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
    /// Which function is which was told by the order alone: what they do has to prove it.
    pub(super) by_shape: bool,
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
    // A shape alone could be anything's; the paths in panic messages say that tokio is in here.
    let starts: FxHashSet<u64> = if !module.has_symbols() && version::of(module).is_some() {
        module.function_starts().collect()
    } else {
        FxHashSet::default()
    };
    if entries.is_empty() && starts.is_empty() {
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
        for (index, window) in words.windows(SHAPE + 3).enumerate() {
            if let Some(vtable) = by_shape(window, &starts) {
                found.insert(section.address + index as u64 * 8, vtable);
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

fn by_shape(words: &[u64], starts: &FxHashSet<u64>) -> Option<TaskVtable> {
    let (functions, offsets) = words.split_at_checked(SHAPE)?;
    let [poll, schedule, dealloc, ..] = *functions else { return None };
    let [trailer_offset, scheduler_offset, id_offset] = *offsets else { return None };
    let ordered = scheduler_offset == HEADER && scheduler_offset < id_offset && id_offset < trailer_offset;
    let aligned = offsets.iter().all(|offset| *offset < OFFSET_MAX && offset.is_multiple_of(8));
    let all = || functions.iter().all(|function| starts.contains(function));
    (ordered && aligned && all()).then_some(TaskVtable {
        poll,
        dealloc,
        schedule,
        scheduler_offset,
        id_offset,
        trailer_offset,
        by_shape: true,
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
        by_shape: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vtable_is_known_by_its_shape() {
        let starts: FxHashSet<u64> = (0x1000..0x1007).collect();
        let with = |last: [u64; 3]| -> Vec<u64> { (0x1000..0x1007).chain(last).collect() };
        let vtable = by_shape(&with([192, 32, 40]), &starts).expect("a vtable");
        assert_eq!((vtable.poll, vtable.schedule, vtable.dealloc), (0x1000, 0x1001, 0x1002));
        assert_eq!((vtable.trailer_offset, vtable.id_offset), (192, 40));
        for other in [[192, 24, 40], [40, 32, 192], [192, 32, 44], [1 << 30, 32, 40]] {
            assert_eq!(by_shape(&with(other), &starts), None, "{other:?}");
        }
        assert_eq!(by_shape(&with([192, 32, 40]), &(0x1000..0x1006).collect()), None, "a pointer into a function");
    }
}

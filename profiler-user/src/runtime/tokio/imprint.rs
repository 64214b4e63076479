//! Digests of memory: where two looks have the same, something has not moved between them.

use std::{
    hash::{Hash as _, Hasher as _},
    ops::Range,
};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::{code::Code, heap::Header, policy::Plain, vtables::TaskVtable};
use crate::{
    dryrun::{Limits, Machine},
    model::{PartyId, TaskState},
    runtime::World,
    target::{Memory, thread_pointers},
};

/// Bytes of a task cell that are looked at, at most.
pub(super) const CELL_CHECKED: u64 = 64 << 10;
/// Bytes on either side of a word of the scheduler that are looked at: a worker's core has some 300.
const AROUND: u64 = 384;
/// Bytes on either side of a thread pointer that belong to the thread.
const THREAD_LOCAL: u64 = 64 << 10;

/// Of some bytes.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut digest = FxHasher::default();
    digest.write(bytes);
    digest.finish()
}

/// Of a cell as the view has it.
pub(super) fn of_cell(memory: &dyn Memory, cell: &Range<u64>) -> Option<u64> {
    let mut bytes = vec![0; (cell.end - cell.start).min(CELL_CHECKED) as usize];
    memory.read(cell.start, &mut bytes).ok()?;
    Some(digest(&bytes))
}

/// Whether workers are still in the poll that they were in: what each has noted beside its queue of tasks.
///
/// Source: a worker counts each task that it takes up, in the `tick` of its `Core`, and takes it from a queue
/// (tokio/src/runtime/scheduler/multi_thread/worker.rs and current_thread/mod.rs, 1.38 to 1.54). Where these lie is not
/// assumed: a task that became ready now, on the worker's own thread, would be put there.
#[derive(Default)]
pub(super) struct Workers {
    /// The tasks that were being polled in the last look.
    polled: FxHashSet<PartyId>,
}

/// A task, its header and what it does.
pub(super) type Seen<'h> = (PartyId, TaskState, &'h Header);

impl Workers {
    /// For each runtime, by address, a digest of what its workers have noted; `None` where one of them was not found. Runtimes in
    /// which nobody is ready, or nobody was being polled in the last look as well, are left out. `current_task` is the offset
    /// from a thread pointer to the id of the task that its thread polls.
    pub(super) fn look(
        &mut self,
        code: &Code,
        world: &World<'_>,
        vtables: &FxHashMap<u64, TaskVtable>,
        current_task: Option<i64>,
        tasks: &[Seen<'_>],
    ) -> FxHashMap<u64, Option<u64>> {
        let running = tasks.iter().filter(|(_, state, _)| *state == TaskState::Running).map(|(party, ..)| *party);
        let before = std::mem::replace(&mut self.polled, running.collect());
        let (Some(current_task), false) = (current_task, self.polled.is_disjoint(&before)) else {
            return FxHashMap::default();
        };
        // Any task of the runtime will do.
        let mut ready: FxHashMap<u64, &Header> = FxHashMap::default();
        for (party, state, header) in tasks {
            if let (PartyId::Task { runtime, .. }, TaskState::Scheduled) = (party, state) {
                ready.entry(*runtime).or_insert(header);
            }
        }
        let polled_of = |wanted: u64| {
            let mut ids: Vec<u64> = self
                .polled
                .iter()
                .filter_map(|party| match party {
                    PartyId::Task { runtime, id } if *runtime == wanted => Some(*id),
                    _ => None,
                })
                .collect();
            ids.sort_unstable();
            ids
        };
        ready.retain(|runtime, _| !polled_of(*runtime).is_empty());
        if ready.is_empty() {
            return FxHashMap::default();
        }
        let by_id = by_polled(world, current_task);
        let digest = |runtime: u64, header: &Header| {
            let mut digest = FxHasher::default();
            for id in polled_of(runtime) {
                let thread = *by_id.get(&id)?;
                noted(code, world, &vtables[&header.vtable], header, thread)?.hash(&mut digest);
            }
            Some(digest.finish())
        };
        ready.into_iter().map(|(runtime, header)| (runtime, digest(runtime, header))).collect()
    }
}

/// The thread pointers of threads that poll, by the id of the task.
fn by_polled(world: &World<'_>, current_task: i64) -> FxHashMap<u64, u64> {
    let pointers = thread_pointers(world.memory, world.memory.mappings());
    let polled = pointers.into_iter().filter_map(|pointer| {
        let at = pointer.checked_add_signed(current_task)?;
        Some((world.memory.read_u64(at).ok()?, pointer))
    });
    polled.collect()
}

/// What lies around the words that would change if the task at `header` became ready on the thread with this thread pointer.
fn noted(code: &Code, world: &World<'_>, vtable: &TaskVtable, header: &Header, fs_base: u64) -> Option<Vec<Vec<u8>>> {
    let mut machine = Machine::with_code_cache(world.memory, Limits::default(), &code.cache);
    machine.set_fs_base(fs_base);
    // It may end where it would wake another worker; by then the task is in the queue.
    let _outcome = machine.call(vtable.schedule, &[header.address], &mut Plain::new(code));
    let changed = machine.changed();
    if !changed.iter().any(|at| machine.read_u64(*at) == Ok(header.address)) {
        return None;
    }
    let of_task = header.address..header.address + vtable.trailer_offset;
    let of_thread = fs_base.saturating_sub(THREAD_LOCAL)..fs_base.saturating_add(THREAD_LOCAL);
    let places = changed.into_iter().filter(|at| !of_task.contains(at) && !of_thread.contains(at));
    let around = places.map(|at| {
        let start = at.saturating_sub(AROUND);
        let mut bytes = vec![0; 2 * AROUND as usize];
        world.memory.read(start, &mut bytes).ok().map(|()| bytes)
    });
    around.collect()
}

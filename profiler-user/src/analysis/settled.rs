//! What two reads agree on. A permanent verdict rests only on parties that are the same in both.
//!
//! No read of a running process is atomic: while one task is read another moves. But a party that is equal in two whole
//! reads was so at the moment between them, and that moment is the same for all parties.

use std::cell::LazyCell;

use rustc_hash::FxHashMap;

use crate::model::{Hold, PartyId, Snapshot, Strand, Task, Thread, Wait, WaitMode};

/// Which tasks and threads of a snapshot were found equal in an earlier one, by their index.
pub(super) struct Settled {
    pub(super) tasks: Vec<bool>,
    pub(super) threads: Vec<bool>,
}

impl Settled {
    /// Compares `now` with `earlier`.
    pub(super) fn between(now: &Snapshot, earlier: &Snapshot) -> Self {
        // Readers mostly find the same tasks in the same order; only where they do not is a search worth its price.
        let by_party: LazyCell<FxHashMap<PartyId, &Task>, _> =
            LazyCell::new(|| earlier.tasks.iter().map(|task| (task.party, task)).collect());
        let before = |index: usize, party: PartyId| {
            let same_place = earlier.tasks.get(index).filter(|task| task.party == party);
            same_place.or_else(|| by_party.get(&party).copied())
        };
        let threads: FxHashMap<i32, &Thread> = earlier.threads.iter().map(|thread| (thread.tid, thread)).collect();
        Self {
            tasks: now
                .tasks
                .iter()
                .enumerate()
                .map(|(index, task)| before(index, task.party).is_some_and(|old| same_task(task, old)))
                .collect(),
            threads: now
                .threads
                .iter()
                .map(|thread| threads.get(&thread.tid).is_some_and(|old| same_thread(thread, old)))
                .collect(),
        }
    }
}

fn same_task(now: &Task, old: &Task) -> bool {
    !now.unstable
        && !old.unstable
        && now.address == old.address
        && now.state == old.state
        && now.thread == old.thread
        && same_strand(&now.root, &old.root)
}

fn same_thread(now: &Thread, old: &Thread) -> bool {
    // A thread that waits for a lock does not run: one that has run has had the lock, and may have had others.
    let slept_on = now.wait.is_none() || now.switches == old.switches;
    slept_on
        && now.activity == old.activity
        && now.syscall == old.syscall
        && same_holds(&now.holds, &old.holds)
        && same_optional_wait(now.wait.as_ref(), old.wait.as_ref())
}

fn same_strand(now: &Strand, old: &Strand) -> bool {
    let mut before = old.walk();
    for strand in now.walk() {
        let Some(was) = before.next() else { return false };
        let same = strand.children.len() == was.children.len()
            && strand.fork == was.fork
            && strand.frames == was.frames
            && same_optional_wait(strand.wait.as_ref(), was.wait.as_ref())
            && same_holds(&strand.holds, &was.holds);
        if !same {
            return false;
        }
    }
    before.next().is_none()
}

fn same_optional_wait(now: Option<&Wait>, old: Option<&Wait>) -> bool {
    match (now, old) {
        (None, None) => true,
        (Some(now), Some(old)) => same_wait(now, old),
        _ => false,
    }
}

/// A deadline comes nearer and a queue gets shorter while a party waits, so those may differ; but whoever stands further
/// back than before has queued anew.
fn same_wait(now: &Wait, old: &Wait) -> bool {
    let same_mode = match (now.mode, old.mode) {
        (WaitMode::Deadline { .. }, WaitMode::Deadline { .. }) => true,
        (now, old) => now == old,
    };
    let queued_anew = matches!((now.position, old.position), (Some(now), Some(old)) if now > old);
    same_mode && !queued_anew && now.resource == old.resource && now.target == old.target
}

/// Equal whatever the order in which the holds were found.
fn same_holds(now: &[Hold], old: &[Hold]) -> bool {
    if now == old {
        return true;
    }
    let sorted = |holds: &[Hold]| {
        let mut keys: Vec<_> = holds.iter().map(|hold| (hold.resource.clone(), hold.how.name(), hold.amount)).collect();
        keys.sort_unstable();
        keys
    };
    now.len() == old.len() && sorted(now) == sorted(old)
}

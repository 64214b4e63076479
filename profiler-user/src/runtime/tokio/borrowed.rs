//! Roots from whose stacks other threads borrow: a scoped thread has references to what lies in the frames of the one that started it,
//! which may have gone on into a `block_on`. What was found there with the root others can use, too.

use std::ops::Range;

use rustc_hash::FxHashSet;

use super::{
    roots::{self, Root},
    strays::RED_ZONE,
    threads,
};
use crate::{
    model::{Thread, ThreadActivity, ThreadRole},
    runtime::{ThreadRegisters, World},
    target::{Memory, ThreadFacts},
};

/// Registers that a called function leaves as they are, by their numbers in DWARF: rbx, rbp, r12 to r15.
const PRESERVED: [usize; 6] = [3, 6, 12, 13, 14, 15];
/// Bytes of a stack that are searched, at most.
const SEARCHED: u64 = 1 << 20;

/// The threads in `block_on`, by id, from whose stacks a thread borrows that runs code of the program, or may.
pub(super) fn from(world: &World<'_>, roots: &[Root<'_>], described: &[Thread]) -> FxHashSet<i32> {
    let mut found = FxHashSet::default();
    let stacks: Vec<(i32, Range<u64>)> = roots.iter().map(|root| (root.facts.tid, root.whole_stack())).collect();
    if stacks.is_empty() {
        return found;
    }
    for (facts, known, _) in world.threads {
        let thread = described.iter().find(|thread| thread.tid == facts.tid);
        if thread.is_some_and(waits_for_work) {
            continue;
        }
        let words = words(world, facts, known.as_ref());
        let borrows =
            |stack: &Range<u64>| words.as_ref().is_none_or(|words| words.iter().any(|word| stack.contains(word)));
        let others = stacks.iter().filter(|(tid, stack)| *tid != facts.tid && borrows(stack));
        found.extend(others.map(|(tid, _)| *tid));
    }
    found
}

/// What a thread has on its stack and in registers; `None` where that is not known.
fn words(world: &World<'_>, facts: &ThreadFacts, known: Option<&ThreadRegisters>) -> Option<Vec<u64>> {
    let (sp, _) = facts.stack()?;
    let mut words = preserved(known?)?.to_vec();
    let from = (sp - RED_ZONE).next_multiple_of(8);
    let end = world.memory.mappings().at(sp)?.range.end;
    let mut bytes = vec![0; (end - from).min(SEARCHED) as usize];
    world.memory.read(from, &mut bytes).ok()?;
    words.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
    Some(words)
}

/// The registers in which a blocked thread may have what its frames work with.
pub(super) fn preserved(known: &ThreadRegisters) -> Option<[u64; PRESERVED.len()]> {
    let mut values = [0; PRESERVED.len()];
    for (value, register) in values.iter_mut().zip(PRESERVED) {
        *value = known.frame.values[register]?;
    }
    Some(values)
}

/// Whether a thread waits for work of a runtime, with no code of the program on its stack.
pub(super) fn waits_for_work(thread: &Thread) -> bool {
    let waits = matches!(thread.activity, ThreadActivity::Parked | ThreadActivity::Driving);
    let is_runtimes = matches!(thread.role, ThreadRole::Worker(_) | ThreadRole::BlockingPool) && !thread.in_place;
    let frames = &thread.frames;
    let runs =
        || threads::inside_poll(frames).is_some() || frames.iter().any(|frame| roots::is_program(&frame.function));
    waits && is_runtimes && !frames.is_empty() && !runs()
}

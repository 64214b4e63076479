//! Locks that nobody holds any more and that are locked all the same: whoever took them returned without giving them back.
//!
//! That a goroutine waits for such a lock for good is known already, by who can reach it. If all who can are themselves in its
//! queue, and the code of none of them can have taken it before, then whoever did take it has left.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    code::Code,
    critical::{Act, Critical, Step},
    holders::Deferred,
    queued::Waiter,
    reach::{Dead, Subject},
};
use crate::{
    model::{ResourceKey, ResourceKind},
    target::Memory,
};

/// More locks than this are not told apart: a loop that takes one in each round.
const MOST_TAKEN: u32 = 8;
/// Steps of the search for the most that may be held, for one function.
const STEPS: usize = 1 << 18;
/// Functions that take a lock when they are called, and not only where an inlined attempt at it has failed.
const WHOLE: [&str; 2] = [").Lock", ").RLock"];

/// The abandoned ones among the locks that the dead wait for. `waiters` are all who wait for locks.
pub(super) fn find(
    (code, memory): (&Code, &dyn Memory),
    critical: &mut Critical,
    (dead, subjects): (&Dead, &[Subject]),
    waiters: &[Waiter],
    deferred: &[(usize, Deferred)],
) -> Vec<ResourceKey> {
    let by_place: FxHashMap<usize, &Waiter> = waiters.iter().map(|waiter| (waiter.number, waiter)).collect();
    let mut unlocks: FxHashMap<usize, Vec<&Deferred>> = FxHashMap::default();
    for (task, unlock) in deferred {
        unlocks.entry(*task).or_default().push(unlock);
    }
    let mut decided = FxHashSet::default();
    let mut abandoned = Vec::new();
    for subject in dead.all.iter().map(|index| &subjects[*index]) {
        let Some((waiter, target)) = by_place.get(&subject.place).zip(subject.waits_for().and_then(<[u64]>::first))
        else {
            continue;
        };
        let lock = &waiter.lock;
        if !decided.insert(lock) {
            continue;
        }
        let reachers = dead.reached_by.get(target).map(Vec::as_slice).unwrap_or_default();
        let mut able = reachers.iter().map(|index| by_place.get(&subjects[*index].place));
        let left = !reachers.is_empty()
            && able.all(|waiter| {
                waiter.is_some_and(|waiter| {
                    let unlocks = unlocks.get(&waiter.task).into_iter().flatten();
                    waiter.lock == *lock
                        && !unlocks.flat_map(|unlock| unlock.locks()).any(|key| key == *lock)
                        && waiter.frames.iter().enumerate().skip(waiter.own).all(|(place, (pc, site))| {
                            let steps = critical.steps(code, memory, site.function, true);
                            let most = steps.and_then(|steps| most_taken(&steps, *pc, &lock.kind));
                            // An attempt that was inlined and failed is not told from one that did not.
                            let attempt = u32::from(place == waiter.own && !calls_whole(code, memory, *pc));
                            most.is_some_and(|most| most <= attempt)
                        })
                })
            });
        if left {
            abandoned.push(lock.clone());
        }
    }
    abandoned
}

/// Whether what returns to `pc` is a call of a function that takes the lock as a whole.
fn calls_whole(code: &Code, memory: &dyn Memory, pc: u64) -> bool {
    let callee = code.called_at(memory, pc);
    callee.is_some_and(|name| WHOLE.iter().any(|end| name.ends_with(end)))
}

/// How many locks of a kind a function may have taken, and not given back, on any way to the call that returns to `pc`.
fn most_taken(steps: &[Step], pc: u64, kind: &ResourceKind) -> Option<u32> {
    let places: FxHashMap<u64, usize> = steps.iter().enumerate().map(|(place, step)| (step.at, place)).collect();
    let target = steps.iter().position(|step| step.next == pc)?;
    let mut before: Vec<Option<u32>> = vec![None; steps.len()];
    *before.first_mut()? = Some(0);
    let mut pending = vec![0];
    let mut left = STEPS;
    while let Some(place) = pending.pop() {
        left = left.checked_sub(1)?;
        let step = &steps[place];
        let mut taken = before[place]?;
        for act in &step.acts {
            match act {
                Act::Take(other, _) if other == kind => taken = (taken + 1).min(MOST_TAKEN),
                Act::Give(other, _) if other == kind => taken = taken.saturating_sub(1),
                _ => {}
            }
        }
        let next = step.falls_through.then_some(place + 1).filter(|next| *next < steps.len());
        let jump = match step.jump {
            Some(to) => Some(*places.get(&to)?),
            None => None,
        };
        for to in next.into_iter().chain(jump) {
            if before[to].is_none_or(|known| known < taken) {
                before[to] = Some(taken);
                pending.push(to);
            }
        }
    }
    before[target]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: u64, acts: Vec<Act>, jump: Option<u64>) -> Step {
        Step { at, next: at + 1, acts, jump, falls_through: true }
    }

    fn most(steps: &[Step], pc: u64) -> Option<u32> {
        most_taken(steps, pc, &ResourceKind::GoMutex)
    }

    #[test]
    fn a_loop_that_gives_back_holds_one_at_most() {
        let take = || vec![Act::Take(ResourceKind::GoMutex, None)];
        let give = vec![Act::Give(ResourceKind::GoMutex, None)];
        let with = [step(0, take(), None), step(1, vec![], None), step(2, give.clone(), Some(0))];
        assert_eq!((most(&with, 1), most(&with, 2)), (Some(0), Some(1)));
        // The way from 1 back to 0 leaves the unlock out.
        let without = [step(0, take(), None), step(1, vec![], Some(0)), step(2, give, None)];
        assert_eq!(most(&without, 2), Some(MOST_TAKEN));
    }

    #[test]
    fn a_way_that_is_not_understood_says_nothing() {
        let steps = [step(0, vec![], Some(77)), step(1, vec![], None)];
        assert_eq!((most(&steps, 1), most(&steps, 99)), (None, None));
    }
}

//! Who holds a lock that everybody can reach: by the code of those who wait for another.
//!
//! Such a lock can never be proved to be held for good. But where nobody has left its queue for a while it was not given back
//! in that time, since Go hands a lock to the first in its queue once that one has waited for a millisecond. If then the
//! code of a goroutine that has waited for something else all that time says that it took the lock and did not give it
//! back, it is its holder.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    code::{Code, Site},
    critical::Critical,
    goroutine::Park,
    holders::Deferred,
    stack::Stack,
};
use crate::{
    model::{Hold, HoldHow, ResourceKey, ResourceKind, Task},
    target::Memory,
};

/// How long nobody must have left a lock's queue.
pub(super) const STILL: Duration = Duration::from_secs(1);
/// Goroutines in queues of locks whose stacks are looked at.
const MOST: usize = 1 << 14;
/// The bit in the word of a `Mutex` that says that it is locked.
const LOCKED: u32 = 1;

/// A goroutine in the queue of a lock.
pub(super) struct Waiter {
    /// Its place among the tasks, and its number in the list of all goroutines.
    pub(super) task: usize,
    pub(super) number: usize,
    pub(super) park: Park,
    pub(super) lock: ResourceKey,
    /// What it is in, innermost first, with the program counters.
    pub(super) frames: Vec<(u64, Rc<Site>)>,
    /// The first of those that is not package sync's or the runtime's.
    pub(super) own: usize,
}

/// The queues of locks over time.
#[derive(Default)]
pub(super) struct Queued {
    locks: FxHashMap<ResourceKey, Queue>,
    pub(super) critical: Critical,
}

/// Who stood in the queue of a lock when it was read last, by number, and since when nobody has left.
struct Queue {
    since: Instant,
    waiters: FxHashMap<usize, Park>,
}

/// Keeps what is needed of a goroutine where it waits for a lock; `waiters` are those that were found before.
pub(super) fn keep(
    waiters: &mut Vec<Waiter>,
    task: (usize, &Task),
    (number, park): (usize, impl FnOnce() -> Park),
    stack: &Stack<'_>,
) {
    let lock = task.1.root.wait.as_ref().map(|wait| &wait.resource);
    let Some(lock) = lock.filter(|lock| lock.kind.is_goroutine_lock() && lock.address != 0) else { return };
    if waiters.len() < MOST {
        waiters.push(Waiter {
            task: task.0,
            number,
            park: park(),
            lock: lock.clone(),
            frames: stack.frames.iter().map(|frame| (frame.pc, Rc::clone(&frame.site))).collect(),
            own: stack.own_frame(),
        });
    }
}

impl Queued {
    /// Takes in who waits for locks at `now`, with the unlocks that they have deferred (by the task's place), and notes at
    /// their tasks which locks they hold. Returns those locks.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        (code, memory): (&Code, &dyn Memory),
        waiters: &[Waiter],
        deferred: &[(usize, Deferred)],
        tasks: &mut [Task],
    ) -> Vec<ResourceKey> {
        let still = self.still(now, waiters);
        if still.is_empty() {
            return Vec::new();
        }
        let mut unlocks: FxHashMap<usize, Vec<&Deferred>> = FxHashMap::default();
        for (task, unlock) in deferred {
            unlocks.entry(*task).or_default().push(unlock);
        }
        let mut held = Vec::new();
        for waiter in waiters.iter().filter(|waiter| still.contains(&waiter.lock)) {
            let unlocks = unlocks.get(&waiter.task).map(Vec::as_slice).unwrap_or_default();
            for hold in self.holds(code, memory, waiter, unlocks, &still) {
                let locked = hold.resource.kind != ResourceKind::GoMutex
                    || memory.read_u32(hold.resource.address).is_ok_and(|word| word & LOCKED != 0);
                let holds = &mut tasks[waiter.task].root.holds;
                if locked {
                    held.push(hold.resource.clone());
                    if !holds.iter().any(|known| known.resource == hold.resource) {
                        holds.push(hold);
                    }
                }
            }
        }
        held
    }

    /// The locks whose queues nobody has left for a while.
    fn still(&mut self, now: Instant, waiters: &[Waiter]) -> FxHashSet<ResourceKey> {
        let mut locks: FxHashMap<ResourceKey, Queue> = FxHashMap::default();
        for waiter in waiters {
            let queue =
                locks.entry(waiter.lock.clone()).or_insert_with(|| Queue { since: now, waiters: FxHashMap::default() });
            queue.waiters.insert(waiter.number, waiter.park.clone());
        }
        for (lock, queue) in &mut locks {
            let before = self.locks.get(lock);
            let stays = |(number, park): (&usize, &Park)| queue.waiters.get(number) == Some(park);
            if let Some(before) = before.filter(|before| before.waiters.iter().all(stays)) {
                queue.since = before.since;
            }
        }
        // With more waiters than are looked at, those who are not seen may have left.
        let whole = waiters.len() < MOST;
        self.locks = if whole { locks } else { FxHashMap::default() };
        let long = self.locks.iter().filter(|(_, queue)| now.saturating_duration_since(queue.since) >= STILL);
        long.map(|(lock, _)| lock.clone()).collect()
    }

    /// The locks among `still` that a goroutine holds by the code that it is in.
    fn holds(
        &mut self,
        code: &Code,
        memory: &dyn Memory,
        waiter: &Waiter,
        unlocks: &[&Deferred],
        still: &FxHashSet<ResourceKey>,
    ) -> Vec<Hold> {
        let mut holds = Vec::new();
        for (place, (pc, site)) in waiter.frames.iter().enumerate().skip(waiter.own) {
            let held = self.critical.held(code, memory, site.function, *pc);
            let named = held
                .iter()
                .filter_map(|(kind, address)| Some(ResourceKey { kind: kind.clone(), address: (*address)? }));
            // What the code does not name, a deferred unlock may.
            let unnamed = |key: &ResourceKey| held.contains(&(key.kind.clone(), None));
            let here = unlocks.iter().filter(|unlock| unlock.place == place);
            let deferred = here.flat_map(|unlock| unlock.locks()).filter(unnamed);
            for resource in named.chain(deferred).filter(|key| still.contains(key)) {
                // What a function waits for it has counted among what it takes.
                if place != waiter.own || resource != waiter.lock {
                    let site = site.calls.last().map(|call| call.frame.clone());
                    holds.push(Hold { resource, how: HoldHow::Guard, amount: 1, site });
                }
            }
        }
        holds
    }
}

//! What the futures of a `FuturesUnordered` wait for, on which `buffer_unordered`, `for_each_concurrent`, large `join_all`s and
//! others rest.
//!
//! A set polls only those of its futures that were woken, so a poll of its task shows the set and none of them. In a copy each
//! is woken by the function of its own waker, and the task is polled again: the set takes it out of the queue of the woken,
//! clears its flag, and polls it. Which futures there are tells the drop of the task: it sets the flag of each, so that nobody
//! queues it any more, drops the future, and gives back the reference that the set had.
//!
//! A set that has polled as many futures as it has wakes its task itself, so as not to keep others waiting. Where it does when
//! all have been woken that were found, they are all: then they are what it waits for, and else it may wait for more.
//!
//! Source: futures-util/src/stream/futures_unordered/{mod,task}.rs, 0.3.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    code::Code,
    holds::Dropped,
    policy::Policy,
    poll::{Hit, Polled, Step, Turn},
};
use crate::{
    dryrun::{Action, Atomic, Hooks, Limits, Machine, Outcome, Transfer},
    target::Memory,
};

/// What polls the futures of a set.
pub(super) const POLLS: &str = "futures_util::stream::futures_unordered::FuturesUnordered::poll_next";
/// Futures of a task that are looked at.
const MOST: usize = 64;
/// Bytes from the count of references to a future in a set to its flag, at most.
const SPAN: u64 = 64 << 10;
/// Counts of which it is tried whether they are a future's, the nearest first.
const MOST_TRIED: usize = 8;
/// An `Arc` has two counts before its value.
const COUNTS: u64 = 16;

/// A future in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Child {
    flag: u64,
    /// Its waker: where its functions stand, the one that wakes, and its data.
    waker: u64,
    wake: u64,
    data: u64,
}

/// A process in which futures of a set have been woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Woken {
    /// The first of them.
    child: Child,
    /// Its number among those of its task.
    number: usize,
    /// The words that are others then: address and value.
    words: Vec<(u64, u64)>,
}

impl Woken {
    /// Makes it so in a machine.
    pub(super) fn prepare(&self, machine: &mut Machine<'_>) {
        for (address, word) in &self.words {
            machine.write_u64(*address, *word);
        }
    }

    /// What tells the calls in it from those in others: to be added to the number of an invocation.
    pub(super) fn number(&self) -> u64 {
        (self.number as u64 + 1) << 32
    }

    /// The flag that its set clears before it polls the future.
    pub(super) fn flag(&self) -> u64 {
        self.child.flag
    }

    /// Where the functions of the waker stand that it hands to the future.
    pub(super) fn waker(&self) -> u64 {
        self.child.waker
    }
}

/// Takes note of what may be futures that a drop takes out of their set: see [`Dropped::marked`].
pub(super) fn mark(marked: &mut Vec<(u64, Vec<u64>)>, access: &Atomic) {
    match (access.size, access.old, access.new) {
        (1, Some(0), Some(1)) if marked.len() <= MOST => marked.push((access.address, Vec::new())),
        // A lock that is given back.
        (1, Some(1), Some(0)) => marked.retain(|(flag, _)| *flag != access.address),
        (8, Some(old), Some(new)) if old.checked_sub(1) == Some(new) => {
            let latest = marked.iter_mut().rev().take(MOST_TRIED);
            let near = latest.filter(|(flag, _)| flag.checked_sub(access.address).is_some_and(|span| span < SPAN));
            near.for_each(|(_, counts)| counts.push(access.address));
        }
        _ => {}
    }
}

/// The task, or the root, whose sets are looked into.
#[derive(Clone, Copy)]
pub(super) struct Sets<'a> {
    pub(super) code: &'a Code,
    pub(super) memory: &'a dyn Memory,
    pub(super) fs_base: u64,
}

impl Sets<'_> {
    /// Puts what the futures in the sets of a task wait for in place of what shows that it waits for the sets. `dropped` is what
    /// its drop has shown; `poll` polls it with futures woken.
    pub(super) fn unfold(self, polled: &mut Polled, dropped: &Dropped, poll: impl Fn(&Woken) -> (Polled, Turn)) {
        if dropped.marked.is_empty()
            || !polled.hits.iter().any(may_be_set)
            || self.code.child_wakers(self.memory).is_empty()
        {
            return;
        }
        let mut sets: BTreeMap<usize, Set> = BTreeMap::new();
        for (number, (flag, counts)) in dropped.marked.iter().take(MOST).enumerate() {
            let Some((child, woken)) = self.find(number, *flag, counts) else { continue };
            let (turned, turn) = poll(&woken);
            let Some((set, depth)) = turn.began.as_ref().and_then(|(began, _)| set_of(&polled.hits, began)) else {
                continue;
            };
            let set = sets.entry(set).or_insert_with(|| Set { depth, ..Set::default() });
            set.unseen |= turned.incomplete.is_some();
            let waits = set.take(child, woken, &polled.hits, turned, &turn);
            set.unseen |= waits == 0 || self.wakers(child).is_none_or(|wakers| wakers > waits as u64);
        }
        // From the last on: what stands before keeps its place.
        for (at, set) in sets.into_iter().rev() {
            let is_whole = dropped.marked.len() <= MOST && !set.unseen && self.is_whole(&polled.hits[at], &set, &poll);
            polled.selects.extend(set.selects);
            polled.selects.extend(polled.hits[at].path.get(set.depth - 1).map(|step| step.invocation));
            polled.joins.extend(set.joins);
            polled.hits.splice(at + usize::from(!is_whole)..=at, []);
            let at = at + usize::from(!is_whole);
            polled.hits.splice(at..at, set.hits);
        }
    }

    /// The future whose flag this is, and the process with that woken.
    fn find(self, number: usize, flag: u64, counts: &[u64]) -> Option<(Child, Woken)> {
        let mut counts = counts.to_vec();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        counts.dedup();
        counts.iter().take(MOST_TRIED).find_map(|count| {
            self.code.child_wakers(self.memory).iter().find_map(|(waker, wake)| {
                let child = Child { flag, waker: *waker, wake: *wake, data: count.checked_add(COUNTS)? };
                Some((child, self.wake(number, &[child])?))
            })
        })
    }

    /// How many have a waker of a future: besides its set, each counts as one who holds it. A future that registers once and is not seen
    /// to look again is one of them.
    fn wakers(self, child: Child) -> Option<u64> {
        self.memory.read_u64(child.data - COUNTS).ok()?.checked_sub(1)
    }

    /// Wakes them one after the other; `None` unless that sets the flag of each.
    fn wake(self, number: usize, children: &[Child]) -> Option<Woken> {
        let mut machine = Machine::with_code_cache(self.memory, Limits::default(), &self.code.cache);
        machine.set_fs_base(self.fs_base);
        for child in children {
            let mut hooks = WakeHooks { policy: Policy::new(self.code), flag: child.flag, set: false };
            let outcome = machine.call(child.wake, &[child.data], &mut hooks);
            if !hooks.set || !matches!(outcome, Outcome::Returned { .. }) {
                return None;
            }
        }
        let word = |address: u64| Some((address, machine.read_u64(address).ok()?));
        let words = machine.changed().into_iter().map(word).collect::<Option<_>>()?;
        Some(Woken { child: *children.first()?, number, words })
    }

    /// Whether a set has no other futures than these.
    fn is_whole(self, hit: &Hit, set: &Set, poll: impl Fn(&Woken) -> (Polled, Turn)) -> bool {
        let Some(all) = self.wake(0, &set.children) else { return false };
        let (_, turn) = poll(&all);
        // Builds without optimisation have a function of `Waker` between the two.
        let is_sets = |path: &Vec<Step>| shared(path, &hit.path) >= set.depth && path.len() <= set.depth + 1;
        !turn.yielded && turn.woke_itself.iter().any(is_sets)
    }
}

/// What is known of a set.
#[derive(Default)]
struct Set {
    /// Calls down to the function that polls its futures.
    depth: usize,
    children: Vec<Child>,
    hits: Vec<Hit>,
    selects: Vec<u64>,
    joins: Vec<(u64, u64)>,
    /// Of some of its futures it was not seen, or not all, what they wait for.
    unseen: bool,
}

impl Set {
    /// Takes in what a future waits for. Returns how many leaves it has.
    fn take(&mut self, child: Child, woken: Woken, base: &[Hit], turned: Polled, turn: &Turn) -> usize {
        self.children.push(child);
        let (number, woken) = (woken.number(), Arc::new(woken));
        let before = turn.began.as_ref().map_or(0, |(_, before)| *before);
        let path = turn.began.as_ref().map_or(&[][..], |(path, _)| path);
        let is_known = |hit: &Hit| {
            let same = |known: &Hit| (known.leaf, known.function, known.this) == (hit.leaf, hit.function, hit.this);
            hit.this != 0 && base.iter().any(same)
        };
        let own =
            turned.hits.into_iter().skip(before).filter(|hit| shared(&hit.path, path) >= self.depth && !is_known(hit));
        let from = self.hits.len();
        self.hits.extend(own.map(|mut hit| {
            hit.path.iter_mut().skip(self.depth).for_each(|step| step.invocation += number);
            hit.child = Some(Arc::clone(&woken));
            hit
        }));
        self.selects.extend(turned.selects.iter().map(|invocation| invocation + number));
        self.joins.extend(turned.joins.iter().map(|(invocation, site)| (invocation + number, *site)));
        self.hits.len() - from
    }
}

/// Who polls a set registers with it, and waits for nothing that a table knows.
fn may_be_set(hit: &Hit) -> bool {
    hit.leaf.is_none() && hit.looked
}

/// Which of `hits` is that of the set that took one of its futures at `began`, and how many calls both share. `None` where that
/// is not certain.
fn set_of(hits: &[Hit], began: &[Step]) -> Option<(usize, usize)> {
    let sharing =
        hits.iter().enumerate().filter(|(_, hit)| may_be_set(hit)).map(|(at, hit)| (shared(&hit.path, began), at));
    let mut sharing: Vec<(usize, usize)> = sharing.collect();
    sharing.sort_unstable();
    match sharing[..] {
        [.., (one, _), (other, _)] if one == other => None,
        [.., (depth, at)] if depth > 0 => Some((at, depth)),
        _ => None,
    }
}

/// How many invocations two paths share.
fn shared(one: &[Step], other: &[Step]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one.invocation == other.invocation).count()
}

struct WakeHooks<'c> {
    policy: Policy<'c>,
    flag: u64,
    set: bool,
}

impl Hooks for WakeHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _how: Transfer) -> Action {
        self.policy.on_call(m, target, self.policy.code.role(target))
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }

    fn on_atomic(&mut self, _m: &mut Machine<'_>, access: &Atomic) {
        self.set |= access.address == self.flag && (access.old, access.new) == (Some(0), Some(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dryrun::Looked;

    fn access(address: u64, size: u8, change: (u64, u64)) -> Atomic {
        Atomic { address, size, old: Some(change.0), new: Some(change.1), ip: 0 }
    }

    #[test]
    fn what_stays_marked_has_the_counts_that_were_lowered_nearby() {
        let mut marked = Vec::new();
        let accesses = [
            access(0x10_0000, 8, (2, 1)),
            access(0x10_0080, 1, (0, 1)),
            // A lock, and what lies behind the flag or far away.
            access(0x30_0000, 1, (0, 1)),
            access(0x30_0000, 1, (1, 0)),
            access(0x20_0000, 8, (2, 1)),
            access(0x10_0080 - SPAN, 8, (2, 1)),
            access(0x10_0000, 8, (2, 1)),
            // Nothing was lowered, or not by one.
            access(0x10_0008, 8, (1, 2)),
            access(0x10_0008, 8, (3, 1)),
        ];
        for access in &accesses {
            mark(&mut marked, access);
        }
        assert_eq!(marked, [(0x10_0080, vec![0x10_0000])]);
    }

    #[test]
    fn a_set_is_known_by_the_calls_that_it_shares_with_what_it_polls() {
        let path = |invocations: &[u64]| -> Vec<Step> {
            invocations.iter().map(|invocation| Step { invocation: *invocation, site: 0 }).collect()
        };
        let hit = |looked, invocations: &[u64]| Hit {
            path: path(invocations),
            leaf: None,
            function: 0,
            looked,
            copies: Looked::Own,
            this: 0,
            words: Vec::new(),
            atomics: Vec::new(),
            child: None,
        };
        let hits = [hit(true, &[0, 1, 2, 3]), hit(true, &[0, 1, 5]), hit(false, &[0, 1, 2, 4])];
        assert_eq!(set_of(&hits, &path(&[0, 1, 2, 9])), Some((0, 3)));
        assert_eq!(set_of(&hits, &path(&[0, 1, 5])), Some((1, 3)));
        assert_eq!(set_of(&hits, &path(&[0, 1, 7])), None, "it could be either's");
        assert_eq!(set_of(&hits[2..], &path(&[0, 1, 2])), None, "nothing has looked");
    }
}

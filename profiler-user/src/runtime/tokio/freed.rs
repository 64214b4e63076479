//! What the drops of several, one after the other over one view, show of the memory that they free: whose it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use rustc_hash::FxHashMap;

use super::{
    classify::Role,
    ends::{COUNTS, INSIDE},
    holds::DropHooks,
    ownership::{self, Pieces},
    queue::SEMAPHORE_SPAN,
    upgradable::Upgradable,
};
use crate::{
    dryrun::{Action, Atomic, CallFrame, Hooks, Machine, Reg, Transfer, is_private},
    locks::Unwinding,
    target::Looked,
};

/// What drops have shown.
#[derive(Default)]
pub(super) struct Seen {
    /// Who is being dropped.
    who: usize,
    /// Who has lowered the count at an address, by a handle of its own or by freeing what had one.
    lowered: FxHashMap<u64, BTreeSet<usize>>,
    /// Counts that have come to 0, each with the depth of the function in which they did: what that function and those that
    /// it calls do from there on may be done by the last handle.
    emptied: Vec<(usize, u64)>,
    /// Memory that was freed, by its start: its end, and who has kept it.
    freed: BTreeMap<u64, (u64, BTreeSet<usize>)>,
    /// The same starts, in the order of freeing.
    order: Vec<u64>,
    /// What is inside of objects that others can get at.
    upgradable: Upgradable,
    /// The words that were looked at.
    looked: Looked,
    /// Permits that each semaphore has now: those that were free, and those that were given back.
    pub(super) permits: FxHashMap<u64, u64>,
    /// Locks under which something was given back, as permits are, by code without a name.
    pub(super) unnamed: Vec<u64>,
    /// Everyone was dropped to the end.
    pub(super) whole: bool,
    /// Loads of words that point into what was asked for, in order: from where, and which word.
    pub(super) loads: Vec<(u64, u64)>,
}

impl Seen {
    /// The drop of this one begins.
    pub(super) fn begin(&mut self, who: usize) {
        self.who = who;
        self.emptied.clear();
    }

    /// All that was freed, by address.
    pub(super) fn freed(&self) -> impl Iterator<Item = Range<u64>> {
        self.freed.iter().map(|(&start, (end, _))| start..*end)
    }

    /// Takes out what the drops did not come to from what is their own: `loads` and `is_own` as in [`ownership::keep_own`].
    pub(super) fn keep_own(&mut self, loads: &[(u64, u64)], is_own: impl Fn(u64) -> Option<bool>) {
        let mut pieces: Pieces = self.freed().map(|piece| (piece.start, piece.end)).collect();
        ownership::keep_own(&mut pieces, loads, is_own);
        self.freed.retain(|start, _| pieces.contains_key(start));
    }

    /// Where the memory at `address` begins, and who has kept it; `None` where it was not freed.
    pub(super) fn keepers(&self, address: u64) -> Option<(u64, &BTreeSet<usize>)> {
        let (start, (end, who)) = self.freed.range(..=address).next_back()?;
        (address < *end).then_some((*start, who))
    }

    /// Whether the drops have looked at the word at `address`.
    pub(super) fn has_looked_at(&self, address: u64) -> bool {
        self.looked.has(address)
    }

    /// The memory around `address`, if it was freed.
    pub(super) fn piece(&self, address: u64) -> Option<Range<u64>> {
        let (start, _) = self.keepers(address)?;
        let (end, _) = self.freed.get(&start)?;
        Some(start..*end)
    }

    /// Whether such memory counts its handles.
    pub(super) fn is_counted(&self, piece: &Range<u64>) -> bool {
        counts(piece.start).iter().any(|count| self.lowered.contains_key(count)) && piece.end - piece.start > INSIDE
    }

    /// Whether what begins at `start` is an `ArcInner`, by its two counts (library/alloc/src/sync.rs). Only handles on it, which are
    /// counted, point at its beginning: a plain pointer that is had of one is the address of what is inside.
    pub(super) fn is_arc(&self, start: u64) -> bool {
        counts(start).iter().all(|count| self.lowered.contains_key(count))
    }

    /// Permits that the semaphore at `address` has now, where all that was given back to it is known.
    pub(super) fn permits(&self, address: u64) -> Option<u64> {
        let object = self.keepers(address).map(|(start, _)| start);
        let is_inside = |lock: u64| self.keepers(lock).map(|(start, _)| start) == object;
        let is_its_own = |lock: &u64| lock.wrapping_sub(address) < SEMAPHORE_SPAN && is_inside(*lock);
        self.permits.get(&address).copied().filter(|_| self.whole && !self.unnamed.iter().any(is_its_own))
    }

    /// Everyone for whom the present drop may be done.
    fn for_whom(&self) -> BTreeSet<usize> {
        let emptied = self.emptied.iter().filter_map(|(_, count)| self.lowered.get(count));
        emptied.flatten().copied().chain([self.who]).collect()
    }

    /// A word was changed in a function at `depth`: a count of handles was lowered, perhaps.
    fn atomic(&mut self, access: &Atomic, depth: usize) {
        self.upgradable.on_atomic(access, (self.order.len(), 0));
        if let (8, Some(old), Some(new)) = (access.size, access.old, access.new)
            && old.checked_sub(1) == Some(new)
        {
            self.lower(access.address, new, depth);
        }
    }

    fn lower(&mut self, count: u64, left: u64, depth: usize) {
        let whom = self.for_whom();
        self.lowered.entry(count).or_default().extend(whom);
        if left == 0 {
            self.emptied.push((depth, count));
        }
    }

    fn free(&mut self, start: u64, size: u64) {
        let mut whom = self.for_whom();
        for count in counts(start) {
            whom.extend(self.lowered.get(&count).into_iter().flatten());
        }
        self.freed.insert(start, (start.saturating_add(size), whom));
        self.order.push(start);
    }

    /// All are dropped: what was freed inside of objects to which others have `Weak` handles is in their reach.
    pub(super) fn finish(&mut self, looked: Looked) {
        self.looked = looked;
        let freed: Vec<Range<u64>> = self.freed().collect();
        for (inside, _) in self.upgradable.within(&freed) {
            for start in &self.order[inside] {
                self.freed.remove(start);
            }
        }
    }
}

/// Where an `ArcInner` that begins at `start` counts its handles.
fn counts(start: u64) -> [u64; 2] {
    [start, start.wrapping_add(COUNTS)]
}

/// The hooks of every drop, with an eye on counts and on what is freed.
pub(super) struct Watch<'c, 's> {
    pub(super) inner: DropHooks<'c>,
    pub(super) seen: &'s mut Seen,
}

impl Hooks for Watch<'_, '_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        if self.inner.role(target) == Some(Role::Deallocate)
            && let (Some(start), Some(size)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi))
            && !is_private(start)
        {
            self.seen.free(start, size);
        }
        self.inner.on_call(m, target, how)
    }

    fn is_function(&self, address: u64) -> bool {
        self.inner.is_function(address)
    }

    fn on_return(&mut self, m: &mut Machine<'_>, frame: &CallFrame) -> Action {
        let depth = m.frames().len();
        while self.seen.emptied.pop_if(|(within, _)| *within >= depth).is_some() {}
        self.inner.on_return(m, frame)
    }

    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        self.seen.atomic(access, m.frames().len());
        self.inner.on_atomic(m, access);
    }
}

impl Unwinding for Watch<'_, '_> {
    fn begin_onward(&mut self, m: &Machine<'_>) {
        self.inner.begin_onward(m);
    }

    fn end_onward(&mut self, m: &mut Machine<'_>) {
        self.inner.end_onward(m);
    }

    fn begin(&mut self) {
        self.inner.begin();
    }

    fn is_through(&self) -> bool {
        self.inner.is_through()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Words, *};
    use crate::target::{Memory, Trail};

    /// Two that drop a state with a thing inside, where each count of the state is this one before.
    fn dropped(strong: u64, weak: u64) -> Seen {
        let lowered = |address, old: u64| Atomic { address, size: 8, old: Some(old), new: Some(old - 1), ip: 0 };
        let mut seen = Seen::default();
        for who in 0..2 {
            seen.begin(who);
            seen.atomic(&lowered(0x1000, strong - who as u64), 1);
        }
        if strong == 2 {
            seen.atomic(&lowered(0x2000, 1), 2);
            seen.atomic(&lowered(0x2008, 1), 2);
            seen.free(0x2000, 0x40);
            seen.atomic(&lowered(0x1008, weak), 1);
            if weak == 1 {
                seen.free(0x1000, 0x80);
            }
        }
        let memory = Words(&[0; 8]);
        let trail = Trail::new(&memory);
        trail.read_u64(0x1010).expect("it is there");
        seen.finish(trail.into_looked());
        seen
    }

    #[test]
    fn what_lies_in_a_state_is_everybodys_who_has_that() {
        let seen = dropped(2, 1);
        let both = BTreeSet::from([0, 1]);
        assert_eq!(seen.keepers(0x2010), Some((0x2000, &both)));
        assert_eq!(seen.keepers(0x1070), Some((0x1000, &both)));
        assert_eq!(seen.keepers(0x1080), None);
        assert!(seen.is_arc(0x1000) && seen.is_arc(0x2000) && !seen.is_arc(0x1008));
        assert!(seen.has_looked_at(0x1010) && !seen.has_looked_at(0x1018) && !seen.has_looked_at(0x2010));
    }

    #[test]
    fn what_lies_in_a_state_with_other_handles_is_not_known() {
        assert_eq!(dropped(2, 2).keepers(0x2010), None, "one that can be upgraded");
        assert_eq!(dropped(3, 1).keepers(0x2010), None, "a third");
    }

    #[test]
    fn permits_that_came_back_without_a_name_leave_a_semaphore_unknown() {
        let mut seen = dropped(2, 1);
        seen.permits.insert(0x1010, 2);
        assert_eq!(seen.permits(0x1010), None, "not all was dropped");
        seen.whole = true;
        assert_eq!(seen.permits(0x1010), Some(2));
        seen.unnamed.push(0x1080);
        assert_eq!(seen.permits(0x1010), Some(2), "a lock in what comes next");
        seen.unnamed.push(0x1018);
        assert_eq!(seen.permits(0x1010), None);
    }
}

//! What a task has alone and others can reach all the same: what lies in an `Arc` to which there is a `Weak` handle.
//!
//! Whoever drops the last `Arc` drops what is inside, and then gives back the one weak reference that all `Arc`s have together;
//! where no other is left, the memory is freed. Where others are left somebody else has one, and as long as the task has its
//! `Arc`, he can upgrade it: send by a sender that lies there, or take a guard out.
//!
//! Source: `Arc::drop`, `Arc::drop_slow` and `Weak::drop` in library/alloc/src/sync.rs; an `ArcInner` begins with the two counts.

use std::ops::Range;

use super::ends::COUNTS;
use crate::dryrun::Atomic;

/// How much a drop has shown so far: what it gave back, and counts that it lowered.
type Mark = (usize, usize);

/// Watches a drop for it.
#[derive(Default)]
pub(super) struct Upgradable {
    /// Counts that came to 0, with what had been shown by then: what is inside is being dropped.
    emptied: Vec<(u64, Mark)>,
    /// Counts whose object was dropped and has other weak references, with what was shown before and after.
    weak: Vec<(u64, Mark, Mark)>,
}

impl Upgradable {
    /// Something was changed atomically, when so much had been shown.
    pub(super) fn on_atomic(&mut self, access: &Atomic, shown: Mark) {
        let (8, Some(old), Some(new)) = (access.size, access.old, access.new) else { return };
        if old.checked_sub(1) != Some(new) {
            return;
        }
        let strong = access.address.wrapping_sub(COUNTS);
        if let Some(at) = self.emptied.iter().rposition(|(count, _)| *count == strong) {
            let (_, before) = self.emptied.remove(at);
            if new > 0 {
                self.weak.push((strong, before, shown));
            }
        }
        if new == 0 {
            self.emptied.push((access.address, shown));
        }
    }

    /// What was shown inside of objects that were not `freed` in the end: ranges of what was given back, and of what was
    /// lowered. They are in order and do not overlap.
    pub(super) fn within(&self, freed: &[Range<u64>]) -> Vec<(Range<usize>, Range<usize>)> {
        let is_freed = |count: u64| freed.iter().any(|freed| freed.start == count);
        let others = self.weak.iter().filter(|(count, ..)| !is_freed(*count));
        let mut weak: Vec<(Mark, Mark)> = others.map(|(_, from, to)| (*from, *to)).collect();
        weak.sort_unstable();
        let mut ranges: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        for (from, to) in weak {
            match ranges.last_mut() {
                // One inside of the other.
                Some((given, lowered)) if from.1 < lowered.end || from.0 < given.end => {
                    given.end = given.end.max(to.0);
                    lowered.end = lowered.end.max(to.1);
                }
                _ => ranges.push((from.0..to.0, from.1..to.1)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(address: u64, to: u64) -> Atomic {
        Atomic { address, size: 8, old: Some(to + 1), new: Some(to), ip: 0 }
    }

    fn within(accesses: &[(Atomic, Mark)], freed: Option<&Range<u64>>) -> Vec<(Range<usize>, Range<usize>)> {
        let mut upgradable = Upgradable::default();
        for (access, shown) in accesses {
            upgradable.on_atomic(access, *shown);
        }
        upgradable.within(&freed.into_iter().cloned().collect::<Vec<_>>())
    }

    #[test]
    fn what_lies_in_an_object_with_a_weak_handle_is_told() {
        let session = [(lowered(0x1000, 0), (1, 2)), (lowered(0x1008, 1), (2, 4))];
        assert_eq!(within(&session, None), [(1..2, 2..4)]);
        assert_eq!(within(&session, Some(&(0x1000..0x1040))), [], "the other handle was the task's own");
        let alone = [(lowered(0x1000, 0), (1, 2)), (lowered(0x1008, 0), (2, 4))];
        assert_eq!(within(&alone, Some(&(0x1000..0x1040))), []);
        let shared = [(lowered(0x1000, 1), (1, 2)), (lowered(0x1008, 1), (2, 4))];
        assert_eq!(within(&shared, None), [], "others have an `Arc`");
    }

    #[test]
    fn one_inside_of_another_is_told_once() {
        let accesses = [
            (lowered(0x1000, 0), (0, 1)),
            (lowered(0x2000, 0), (1, 2)),
            (lowered(0x2008, 3), (2, 3)),
            (lowered(0x1008, 1), (3, 4)),
            (lowered(0x3000, 0), (4, 5)),
            (lowered(0x3008, 1), (5, 6)),
        ];
        assert_eq!(within(&accesses, None), [(0..3, 1..4), (4..5, 5..6)]);
    }
}

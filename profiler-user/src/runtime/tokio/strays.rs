//! Pointers that no count tells of: a C library or unsafe code may keep one to what somebody else owns.
//!
//! That all handles on a thing are found by their counts is true of safe code alone: whoever is called back by foreign code
//! may have given it the plain address of what the waiting future owns, and a scoped task borrows what lies in another's
//! future. So all memory that can be written is searched for what points there ([`Addresses`]): into the very thing, and into the
//! memory that it was allocated with, since who has the address of one field comes to the others.
//!
//! What those that were dropped have freed, and the stacks of those that were unwound, told by their drops what they own: what
//! else is in there and points at a thing with counts is a handle that was moved on. Nobody moves a handle on what has no
//! counts, though, nor one on what lies in another task's future: that is a borrow. (So is, for the runtime, the place in a
//! queue beside somebody else's. What is taken for a borrow is at worst a finding less.)

use std::ops::Range;

use crate::{
    runtime::World,
    target::{Addresses, Memory, ThreadFacts, ranges},
};

/// Bytes below the stack pointer that a function may use without saying so (System V ABI, `x86_64`).
pub(super) const RED_ZONE: u64 = 128;

/// Something that may be pointed at.
pub(super) struct Suspect {
    /// Where it lies.
    pub(super) thing: Range<u64>,
    /// It has no counts of its own.
    pub(super) uncounted: bool,
    /// Where nothing points but handles that are counted, if there is such a place.
    pub(super) handle: Option<u64>,
    /// The futures of those that can reach it, by address; they do not overlap.
    pub(super) futures: Vec<Range<u64>>,
    /// Plain addresses of what a handle on it lies in, in order; they do not overlap.
    pub(super) ways: Vec<Range<u64>>,
    /// Where that memory begins, in order.
    pub(super) around: Vec<u64>,
}

/// Whose memory a word lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of those who are known to reach the thing.
    Theirs,
    /// That of another who was dropped.
    Told,
    /// That of a task that was not.
    Untold,
    /// That of nobody who is known.
    Unknown,
    /// The same, and those who were dropped had taken the word from there: what it is in is still there without them.
    Kept,
}

impl Suspect {
    /// Whether `word`, in such memory, is a way to it that nobody has told of.
    fn strays(&self, word: u64, whose: Whose) -> bool {
        let direct = self.thing.contains(&word);
        let borrowed = || ranges::contains(&self.futures, word);
        let way = || ranges::contains(&self.ways, word);
        match whose {
            Whose::Theirs => false,
            Whose::Told => direct && self.uncounted || borrowed(),
            Whose::Untold => direct || borrowed() || way(),
            // All handles were found: another is a copy that was left behind.
            Whose::Unknown => direct && self.handle != Some(word) || way(),
            Whose::Kept => direct || way() || self.around.binary_search(&word).is_ok(),
        }
    }
}

/// Ranges that are looked for, at most.
const MOST: usize = 1 << 16;

/// Everything that is looked for, in order, without overlaps; `None` where it is too much.
fn wanted(suspects: &[Suspect]) -> Option<Vec<Range<u64>>> {
    let all = || {
        suspects.iter().flat_map(|suspect| {
            let starts = suspect.around.iter().map(|start| *start..*start + 1);
            let ranges = suspect.futures.iter().chain(&suspect.ways).chain([&suspect.thing]);
            ranges.cloned().chain(starts)
        })
    };
    if all().take(MOST + 1).count() > MOST {
        return None;
    }
    Some(ranges::merged(all().collect()))
}

/// Whether there is such a way to each of `suspects`; `place` tells whose memory there is at an address, and `whose` what that
/// is to a suspect, by its number. Where there is too much to look for there may be one to each.
pub(super) fn strayed<P>(
    world: &World<'_>,
    suspects: &[Suspect],
    place: impl Fn(u64) -> P,
    whose: impl Fn(&P, usize) -> Whose,
) -> Vec<bool> {
    let mut strayed = vec![false; suspects.len()];
    let Some(wanted) = wanted(suspects) else { return vec![true; suspects.len()] };
    let (Some(low), Some(high)) = (wanted.first().map(|range| range.start), wanted.last().map(|range| range.end))
    else {
        return strayed;
    };
    let dead = dead_stacks(world);
    let mut addresses = Addresses::new(low..high);
    for mapping in world.memory.mappings().iter().filter(|mapping| mapping.write) {
        world.memory.scan(mapping.range.clone(), |start, bytes| {
            addresses.each(start, bytes, |at, word| {
                if !ranges::contains(&wanted, word) || dead.iter().any(|stack| stack.contains(&at)) {
                    return;
                }
                let place = place(at);
                for (number, suspect) in suspects.iter().enumerate() {
                    if !strayed[number] && suspect.strays(word, whose(&place, number)) {
                        strayed[number] = true;
                        // Whoever keeps what was read must have it too.
                        let _ = world.memory.read_u64(at);
                    }
                }
            });
        });
    }
    strayed
}

/// The parts of stacks that nobody uses.
pub(super) fn dead_stacks(world: &World<'_>) -> Vec<Range<u64>> {
    let dead = |facts: &ThreadFacts| {
        let (sp, _) = facts.stack()?;
        let stack = &world.memory.mappings().at(sp)?.range;
        Some(stack.start..sp.saturating_sub(RED_ZONE).max(stack.start))
    };
    world.threads.iter().filter_map(|(facts, ..)| dead(facts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(thing: Range<u64>, futures: &[Range<u64>]) -> Suspect {
        let futures = futures.to_vec();
        Suspect { thing, uncounted: false, handle: None, futures, ways: Vec::new(), around: Vec::new() }
    }

    #[test]
    fn what_is_looked_for_is_merged() {
        let futures = [0x100..0x200, 0x300..0x400];
        let suspect = |thing| suspect(thing, &futures);
        let ranges = wanted(&[suspect(0x800..0x840), suspect(0x180..0x240), suspect(0x800..0x840)]);
        let ranges = ranges.expect("it is little");
        assert_eq!(ranges, [0x100..0x240, 0x300..0x400, 0x800..0x840]);
    }

    #[test]
    fn a_handle_that_was_moved_on_is_told_from_a_borrow() {
        let futures = [0x100..0x200, 0x400..0x500];
        let counted = Suspect {
            handle: Some(0x800),
            ways: vec![0x610..0x638, 0x700..0x740],
            around: vec![0x600],
            ..suspect(0x800..0x840, &futures)
        };
        let inside = Suspect { uncounted: true, ..suspect(0x180..0x1c0, &futures) };
        for suspect in [&counted, &inside] {
            let within = suspect.thing.start + 16;
            assert!(suspect.strays(within, Whose::Unknown));
            assert!(suspect.strays(within, Whose::Untold));
            assert!(!suspect.strays(within, Whose::Theirs));
            assert!(suspect.strays(0x110, Whose::Told), "a borrow from the future");
            assert!(!suspect.strays(0x110, Whose::Unknown), "a waker, a queue or a list of the runtime");
            assert!(!suspect.strays(0x900, Whose::Untold));
        }
        assert!(!counted.strays(0x800, Whose::Told), "it had a handle once");
        assert!(!counted.strays(0x800, Whose::Unknown), "a copy of a handle");
        assert!(counted.strays(0x800, Whose::Kept), "a handle in what is still there");
        assert!(inside.strays(0x180, Whose::Told), "a borrow");
        for whose in [Whose::Unknown, Whose::Untold, Whose::Kept] {
            assert!(counted.strays(0x610, whose), "a plain address of what it lies in");
            assert!(counted.strays(0x618, whose), "one of something else in there");
            assert_eq!(counted.strays(0x600, whose), whose == Whose::Kept, "{whose:?}: a handle on what it lies in");
        }
        assert!(!counted.strays(0x610, Whose::Told) && !counted.strays(0x638, Whose::Unknown));
    }
}

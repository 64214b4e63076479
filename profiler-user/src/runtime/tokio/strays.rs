//! Pointers that no count tells of: a C library or unsafe code may keep one to what somebody else owns.
//!
//! That all handles on a thing are found by their counts is true of safe code alone: whoever is called back by foreign code
//! may have given it the plain address of what the waiting future owns, and a scoped task borrows what lies in another's
//! future. So all memory that can be written is searched for words that point there.
//!
//! What those that were dropped have freed, and the stacks of those that were unwound, told by their drops what they own: what
//! else is in there and points at a thing with counts is a handle that was moved on. Nobody moves a handle on what has no
//! counts, though, nor one on what lies in another task's future: that is a borrow. (So is, for the runtime, the place in a
//! queue beside somebody else's. What is taken for a borrow is at worst a finding less.)

use std::ops::Range;

use crate::{
    runtime::World,
    target::{Memory, ThreadFacts},
};

/// Bytes below the stack pointer that a function may use without saying so (System V ABI, `x86_64`).
const RED_ZONE: u64 = 128;

/// Something that may be pointed at.
pub(super) struct Suspect {
    /// Where it lies.
    pub(super) thing: Range<u64>,
    /// It has no counts of its own.
    pub(super) uncounted: bool,
    /// The futures of those that can reach it, by address; they do not overlap.
    pub(super) futures: Vec<Range<u64>>,
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
}

impl Suspect {
    /// Whether `word`, in such memory, is a way to it that nobody has told of.
    fn strays(&self, word: u64, whose: Whose) -> bool {
        let direct = self.thing.contains(&word);
        let borrowed = || contains(&self.futures, word);
        match whose {
            Whose::Theirs => false,
            Whose::Told => direct && self.uncounted || borrowed(),
            Whose::Untold => direct || borrowed(),
            Whose::Unknown => direct,
        }
    }
}

/// Whether one of `ranges`, which stand in order and do not overlap, contains `address`.
pub(super) fn contains(ranges: &[Range<u64>], address: u64) -> bool {
    let next = ranges.partition_point(|range| range.start <= address);
    ranges[..next].last().is_some_and(|range| range.contains(&address))
}

/// Ranges that are looked for, at most.
const MOST: usize = 1 << 16;

/// Everything that is looked for, in order, without overlaps; `None` where it is too much.
fn wanted(suspects: &[Suspect]) -> Option<Vec<Range<u64>>> {
    let all = || suspects.iter().flat_map(|suspect| suspect.futures.iter().chain([&suspect.thing]));
    if all().take(MOST + 1).count() > MOST {
        return None;
    }
    let mut ranges: Vec<Range<u64>> = all().cloned().collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, known| {
        let overlaps = next.start <= known.end;
        if overlaps {
            known.end = known.end.max(next.end);
        }
        overlaps
    });
    Some(ranges)
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
    for mapping in world.memory.mappings().iter().filter(|mapping| mapping.write) {
        world.memory.scan(mapping.range.clone(), |start, bytes| {
            for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                let at = start + index as u64 * 8;
                if !(low..high).contains(&word)
                    || !contains(&wanted, word)
                    || dead.iter().any(|stack| stack.contains(&at))
                {
                    continue;
                }
                let place = place(at);
                for (number, suspect) in suspects.iter().enumerate() {
                    // It strays at most as what is nobody's or untold does.
                    if !strayed[number]
                        && suspect.strays(word, Whose::Untold)
                        && suspect.strays(word, whose(&place, number))
                    {
                        strayed[number] = true;
                        // Whoever keeps what was read must have it too.
                        let _ = world.memory.read_u64(at);
                    }
                }
            }
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

    #[test]
    fn what_is_looked_for_is_merged() {
        let suspect = |thing| Suspect { thing, uncounted: false, futures: vec![0x100..0x200, 0x300..0x400] };
        let ranges = wanted(&[suspect(0x800..0x840), suspect(0x180..0x240), suspect(0x800..0x840)]);
        let ranges = ranges.expect("it is little");
        assert_eq!(ranges, [0x100..0x240, 0x300..0x400, 0x800..0x840]);
        for (address, inside) in [(0xff, false), (0x100, true), (0x23f, true), (0x240, false), (0x840, false)] {
            assert_eq!(contains(&ranges, address), inside, "{address:#x}");
        }
        assert!(!contains(&[], 0x100));
    }

    #[test]
    fn a_handle_that_was_moved_on_is_told_from_a_borrow() {
        let futures = vec![0x100..0x200, 0x400..0x500];
        let counted = Suspect { thing: 0x800..0x840, uncounted: false, futures: futures.clone() };
        let inside = Suspect { thing: 0x180..0x1c0, uncounted: true, futures };
        for suspect in [&counted, &inside] {
            assert!(suspect.strays(suspect.thing.start, Whose::Unknown));
            assert!(suspect.strays(suspect.thing.start, Whose::Untold));
            assert!(!suspect.strays(suspect.thing.start, Whose::Theirs));
            assert!(suspect.strays(0x110, Whose::Told), "a borrow from the future");
            assert!(!suspect.strays(0x110, Whose::Unknown), "a waker, a queue or a list of the runtime");
            assert!(!suspect.strays(0x900, Whose::Untold));
        }
        assert!(!counted.strays(0x800, Whose::Told), "it had a handle once");
    }
}

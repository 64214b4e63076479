//! What lies around a thing: the memory in which a handle on it is kept, that in which a handle on that is, and so on.
//!
//! A C library that has the plain address of a box can use what is in the box. So where a sender lies in a box of a task, or in
//! a state that tasks share, whoever else has the address of that may send by it.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::{ends::INSIDE, freed::Seen};
use crate::target::{Memory, ranges};

/// Bytes of each piece of memory that are searched for handles, at most; the rest is taken to have none.
const SEARCHED: u64 = 1 << 20;

/// Bytes at the end of what was allocated to which an allocator points, which notes there how long the next piece is.
const LAST: u64 = 8;

/// Memory that was freed.
#[derive(Clone, PartialEq, Eq)]
struct Piece {
    range: Range<u64>,
    is_arc: bool,
}

impl Piece {
    /// By what addresses others may come to what is in it: also by those in the middle, as the links of a list are in its nodes.
    fn way(&self) -> Range<u64> {
        let counts = if self.is_arc { INSIDE } else { 0 };
        inside(&(self.range.start + counts..self.range.end))
    }
}

/// Where in a piece of memory code may point to mean what is in it.
pub(super) fn inside(piece: &Range<u64>) -> Range<u64> {
    piece.start..piece.end.saturating_sub(LAST).max(piece.start + LAST)
}

/// The words in a range, as far as it is searched; none where it cannot be read.
pub(super) fn words(memory: &dyn Memory, range: &Range<u64>) -> Vec<u64> {
    let start = range.start.next_multiple_of(8);
    let mut bytes = vec![0; range.end.saturating_sub(start).min(SEARCHED) as usize];
    if memory.read(start, &mut bytes).is_err() {
        return Vec::new();
    }
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// See the module's text.
pub(super) struct Around {
    /// Which pieces of what was freed have a word that points into a piece: by the start of that.
    holders: FxHashMap<u64, Vec<Piece>>,
}

impl Around {
    /// What `seen` has freed, but for the cells of tasks, to which the whole runtime points.
    pub(super) fn of(memory: &dyn Memory, seen: &Seen, cells: &[Range<u64>]) -> Self {
        let mut holders: FxHashMap<u64, Vec<Piece>> = FxHashMap::default();
        for range in seen.freed().filter(|range| !ranges::contains(cells, range.start)) {
            let piece = Piece { is_arc: seen.is_arc(range.start), range };
            for word in words(memory, &piece.range) {
                let held = seen.keepers(word).map(|(held, _)| held);
                if let Some(held) = held.filter(|held| *held != piece.range.start) {
                    let holders = holders.entry(held).or_default();
                    if holders.last() != Some(&piece) {
                        holders.push(piece.clone());
                    }
                }
            }
        }
        Self { holders }
    }

    /// Of all pieces around the thing that begins at `thing`, in order: the addresses by which others could come to what is in
    /// them, and where they begin.
    pub(super) fn ways(&self, thing: u64) -> (Vec<Range<u64>>, Vec<u64>) {
        let mut around: Vec<&Piece> = Vec::new();
        let mut next = vec![thing];
        while let Some(held) = next.pop() {
            for piece in self.holders.get(&held).into_iter().flatten() {
                if piece.range.start != thing && !around.contains(&piece) {
                    around.push(piece);
                    next.push(piece.range.start);
                }
            }
        }
        around.sort_unstable_by_key(|piece| piece.range.start);
        around.into_iter().map(|piece| (piece.way(), piece.range.start)).unzip()
    }
}

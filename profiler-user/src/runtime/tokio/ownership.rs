//! Whose is what a drop frees: a destructor may free what others can reach too, as one does that removes its entry from a shared list, or
//! the last one from a table.
//!
//! What is the dropped one's own it comes to from what is its own: from its future, or from what that owns. So the first word by which
//! the drop came to a piece of memory tells: if that lies in memory which is not its own, others can come to the piece the same way.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

/// What was freed, by address: where each piece ends.
pub(super) type Pieces = BTreeMap<u64, u64>;

/// Where the piece begins that `address` lies in.
pub(super) fn piece(pieces: &Pieces, address: u64) -> Option<u64> {
    pieces.range(..=address).next_back().filter(|(_, end)| address < **end).map(|(start, _)| *start)
}

/// Takes out of `pieces` those that the drop came to from elsewhere. `loads` are the words that point into them, in the order in
/// which it loaded them: from where, and which. `is_own` tells of an address whether the memory there is the dropped one's own, and `None`
/// where there is none: then it is the machine's.
pub(super) fn keep_own(pieces: &mut Pieces, loads: &[(u64, u64)], is_own: impl Fn(u64) -> Option<bool>) {
    let mut come_to = FxHashSet::default();
    for (at, word) in loads {
        let Some(own) = is_own(*at) else { continue };
        if let Some(start) = piece(pieces, *word).filter(|start| come_to.insert(*start))
            && !own
            && piece(pieces, *at).is_none()
        {
            pieces.remove(&start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its own memory lies below 0x1000, the machine's from 0x9000 on.
    fn own(loads: &[(u64, u64)]) -> Vec<u64> {
        let mut pieces: Pieces = [(0x2000, 0x2040), (0x3000, 0x3100), (0x4000, 0x4010)].into();
        keep_own(&mut pieces, loads, |at| (at < 0x9000).then_some(at < 0x1000));
        pieces.into_keys().collect()
    }

    #[test]
    fn what_is_come_to_from_its_own_memory_is_its_own() {
        assert_eq!(own(&[(0x100, 0x2000), (0x2008, 0x3010), (0x30f8, 0x4000)]), [0x2000, 0x3000, 0x4000]);
        assert_eq!(own(&[]), [0x2000, 0x3000, 0x4000], "nothing tells");
    }

    #[test]
    fn what_is_come_to_from_elsewhere_is_not_nor_what_that_leads_to() {
        assert_eq!(own(&[(0x5000, 0x2000), (0x2008, 0x3010), (0x30f8, 0x4000)]), [0; 0]);
        assert_eq!(own(&[(0x100, 0x2000), (0x5000, 0x3000), (0x9000, 0x4000)]), [0x2000, 0x4000]);
    }

    #[test]
    fn the_first_way_counts() {
        // A node that others' lists point at, in a box of its own.
        assert_eq!(own(&[(0x100, 0x2000), (0x5000, 0x2010), (0x9000, 0x3000), (0x5008, 0x3000)]), [0x2000, 0x4000]);
    }
}

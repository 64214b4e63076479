//! Sets of addresses: ranges in order that do not overlap.

use std::ops::Range;

/// All addresses of `ranges`, in order; what overlaps or touches becomes one.
pub fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, known| {
        let overlaps = next.start <= known.end;
        if overlaps {
            known.end = known.end.max(next.end);
        }
        overlaps
    });
    ranges
}

/// Whether one of such ranges contains `address`.
pub fn contains(ranges: &[Range<u64>], address: u64) -> bool {
    let next = ranges.partition_point(|range| range.start <= address);
    ranges[..next].last().is_some_and(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_merged() {
        let ranges = merged(vec![0x800..0x840, 0x180..0x240, 0x100..0x200, 0x300..0x400, 0x120..0x130, 0x400..0x410]);
        assert_eq!(ranges, [0x100..0x240, 0x300..0x410, 0x800..0x840]);
        for (address, inside) in [(0xff, false), (0x100, true), (0x23f, true), (0x240, false), (0x840, false)] {
            assert_eq!(contains(&ranges, address), inside, "{address:#x}");
        }
        assert!(!contains(&[], 0x100) && merged(Vec::new()).is_empty());
    }
}

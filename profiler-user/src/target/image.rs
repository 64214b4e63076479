//! Memory that was kept: address ranges, and where in some bytes their contents are.

use std::{ops::Range, sync::Arc};

use memmap2::Mmap;

/// Bytes of a file, mapped or read.
#[derive(Clone, Debug)]
pub(super) enum Bytes {
    /// A core file.
    Mapped(Arc<Mmap>),
    /// The unpacked contents of a capture.
    Owned(Arc<Vec<u8>>),
}

impl Bytes {
    fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        match self {
            Self::Mapped(map) => map.get(range),
            Self::Owned(bytes) => bytes.get(range),
        }
    }
}

/// One stretch of the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Addresses.
    pub(super) range: Range<u64>,
    /// Where its first byte is.
    pub(super) offset: usize,
}

/// An address space as it was kept.
#[derive(Clone, Debug)]
pub(super) struct Image {
    stretches: Vec<Stretch>,
    bytes: Bytes,
}

impl Image {
    /// `stretches` whose bytes are not all there are left out, and of two that overlap the later one.
    pub(super) fn new(mut stretches: Vec<Stretch>, bytes: Bytes) -> Self {
        let whole = |stretch: &Stretch| {
            let length =
                stretch.range.end.checked_sub(stretch.range.start).and_then(|length| usize::try_from(length).ok());
            let end = length.and_then(|length| stretch.offset.checked_add(length));
            end.is_some_and(|end| bytes.get(stretch.offset..end).is_some())
        };
        stretches.retain(whole);
        stretches.sort_by_key(|stretch| stretch.range.start);
        let mut end = 0;
        stretches.retain(|stretch| {
            let apart = stretch.range.start >= end;
            if apart {
                end = stretch.range.end;
            }
            apart
        });
        Self { stretches, bytes }
    }

    /// The bytes from `address` on that were kept together, `length` at most; empty where none were.
    pub(super) fn at(&self, address: u64, length: u64) -> &[u8] {
        let next = self.stretches.partition_point(|stretch| stretch.range.start <= address);
        let Some(stretch) = self.stretches[..next].last().filter(|stretch| stretch.range.contains(&address)) else {
            return &[];
        };
        let from = stretch.offset + (address - stretch.range.start) as usize;
        let length = length.min(stretch.range.end - address) as usize;
        self.bytes.get(from..from + length).unwrap_or_default()
    }

    /// The parts of `range` that were kept.
    pub(super) fn runs(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.stretches.partition_point(|stretch| stretch.range.end <= range.start);
        let inside = self.stretches[first..].iter().take_while(move |stretch| stretch.range.start < range.end);
        let (low, high) = (range.start, range.end);
        inside.map(move |stretch| stretch.range.start.max(low)..stretch.range.end.min(high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(stretches: &[(u64, u64, usize)]) -> Image {
        let stretches = stretches.iter().map(|&(start, end, offset)| Stretch { range: start..end, offset }).collect();
        Image::new(stretches, Bytes::Owned(Arc::new((0..100).collect())))
    }

    #[test]
    fn bytes_are_found_by_address() {
        let image = image(&[(0x2000, 0x2010, 50), (0x1000, 0x1010, 10)]);
        assert_eq!(image.at(0x1004, 3), [14, 15, 16]);
        assert_eq!(image.at(0x200e, 9), [64, 65]);
        assert!(image.at(0x1010, 1).is_empty() && image.at(0, 1).is_empty());
        assert_eq!(image.runs(0x1008..0x3000).collect::<Vec<_>>(), [0x1008..0x1010, 0x2000..0x2010]);
        assert_eq!(image.runs(0x1010..0x2000).count(), 0);
    }

    #[test]
    fn what_is_not_there_or_said_twice_is_left_out() {
        let image = image(&[(0x1000, 0x1010, 90), (0x2000, 0x1000, 0), (0x3000, 0x3010, 0), (0x3008, 0x3018, 20)]);
        assert!(image.runs(0..u64::MAX).eq(std::iter::once(0x3000..0x3010)));
        assert!(super::Image::new(vec![Stretch { range: 0..8, offset: usize::MAX }], image.bytes).at(0, 8).is_empty());
    }
}

//! Which words of the heap's objects are pointers (runtime/mbitmap.go).

use std::{cell::RefCell, rc::Rc};

use rustc_hash::FxHashMap;

use super::{
    bytes::u64_at,
    spans::{Object, Span, Spans},
    type_mask::Mask,
};
use crate::target::{AddressSpace, MemoryError};

/// Larger objects begin with their type; smaller ones have a bitmap at their span's end.
const LARGEST_WITH_BITMAP: u64 = 512;
/// Objects this small have no mark bits of their own behind the bitmap.
const SMALLEST_WITH_INLINE_MARKS: u64 = 16;
/// Bytes of a large object that are read together; a multiple of the word size.
const PART: u64 = 4 << 20;
/// Finds the pointers in objects.
pub(super) struct Heap<'m> {
    pub(super) memory: &'m AddressSpace,
    pub(super) spans: Spans,
    /// Bytes of mark bits at the end of spans of small objects.
    inline_marks: u64,
    masks: RefCell<FxHashMap<u64, Option<Rc<Mask>>>>,
    /// The span that was read last for a single object, and its bytes.
    last: RefCell<(usize, Vec<u8>)>,
}

impl<'m> Heap<'m> {
    /// The heap with these spans.
    pub(super) fn new(memory: &'m AddressSpace, spans: Spans, inline_marks: u64) -> Self {
        Self { memory, spans, inline_marks, masks: RefCell::default(), last: RefCell::new((usize::MAX, Vec::new())) }
    }

    /// Calls `visit` with every pointer of an object, out of the bytes of its span.
    pub(super) fn pointers(&self, object: Object, bytes: &[u8], visit: impl FnMut(u64)) {
        let span = &self.spans.all[object.span];
        if span.large {
            self.part(span, 0, bytes, visit);
        } else if let Some(small) = self.small(span, bytes) {
            small.pointers(object.index, visit);
        } else {
            let start = object.index * span.object_size;
            let ty = u64_at(bytes, start).unwrap_or(0);
            self.by_type(ty, 0, bytes, start + 8..start + span.object_size, visit);
        }
    }

    /// The bytes of a span as those of objects that have a bitmap; `None` where they have none.
    pub(super) fn small<'b>(&self, span: &Span, bytes: &'b [u8]) -> Option<Small<'b>> {
        if span.large || span.object_size > LARGEST_WITH_BITMAP {
            return None;
        }
        let marks = if span.object_size >= SMALLEST_WITH_INLINE_MARKS { self.inline_marks } else { 0 };
        let bitmap = (bytes.len() as u64 - bytes.len() as u64 / 64).saturating_sub(marks) as usize;
        let words = bytes.as_chunks::<8>().0;
        let bitmap = bytes.get(bitmap..).unwrap_or_default().as_chunks::<8>().0;
        Some(Small { words, bitmap, each: span.object_size as usize / 8 })
    }

    /// The same for an object that takes a span of its own, of which `bytes` are a part that begins at `offset`.
    fn part(&self, span: &Span, offset: u64, bytes: &[u8], visit: impl FnMut(u64)) {
        self.by_type(span.large_type, offset / 8, bytes, 0..bytes.len() as u64, visit);
    }

    /// Reads an object that takes a span of its own part by part, and calls `visit` with every pointer.
    pub(super) fn large(&self, span: &Span, mut visit: impl FnMut(u64)) -> Result<(), MemoryError> {
        let (mut at, mut bytes) = (span.range.start, Vec::new());
        while at < span.range.end {
            bytes.resize(PART.min(span.range.end - at) as usize, 0);
            self.memory.read_bulk(at, &mut bytes)?;
            self.part(span, at - span.range.start, &bytes, &mut visit);
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// Reads one object and calls `visit` with every pointer.
    pub(super) fn read(&self, object: Object, visit: impl FnMut(u64)) -> Result<(), MemoryError> {
        let span = &self.spans.all[object.span];
        if span.no_pointers {
            return Ok(());
        }
        if span.large {
            return self.large(span, visit);
        }
        let (place, bytes) = &mut *self.last.borrow_mut();
        if *place != object.span {
            *place = usize::MAX;
            bytes.resize((span.range.end - span.range.start) as usize, 0);
            self.memory.read_bulk(span.range.start, bytes)?;
            *place = object.span;
        }
        self.pointers(object, bytes, visit);
        Ok(())
    }

    /// The words of `bytes` in `range` that the type's mask names, which is used again and again; the first word is
    /// number `word` of the mask.
    fn by_type(&self, ty: u64, word: u64, bytes: &[u8], range: std::ops::Range<u64>, mut visit: impl FnMut(u64)) {
        let mask = self.mask(ty);
        for (index, at) in range.step_by(8).enumerate() {
            // Without a mask every word may be a pointer.
            let is_pointer = mask.as_ref().is_none_or(|mask| mask.has((word + index as u64) % mask.words));
            if let Some(value) = u64_at(bytes, at).filter(|value| is_pointer && *value != 0) {
                visit(value);
            }
        }
    }

    fn mask(&self, ty: u64) -> Option<Rc<Mask>> {
        let mut masks = self.masks.borrow_mut();
        masks.entry(ty).or_insert_with(|| Mask::read(self.memory, ty).map(Rc::new)).clone()
    }
}

/// The words of a span of small objects, at whose end a bitmap says which of them are pointers.
pub(super) struct Small<'b> {
    words: &'b [[u8; 8]],
    bitmap: &'b [[u8; 8]],
    /// Words of one object.
    each: usize,
}

impl Small<'_> {
    /// Calls `visit` with every pointer of an object.
    pub(super) fn pointers(&self, index: u64, mut visit: impl FnMut(u64)) {
        let mut word = (index as usize).saturating_mul(self.each);
        let end = word.saturating_add(self.each);
        while word < end {
            // Up to 64 words at a time.
            let shift = word % 64;
            let count = (64 - shift).min(end - word);
            let mut bits = self.bitmap.get(word / 64).map_or(0, |bits| u64::from_le_bytes(*bits)) >> shift;
            if count < 64 {
                bits &= (1 << count) - 1;
            }
            while bits != 0 {
                let value = self.words.get(word + bits.trailing_zeros() as usize);
                if let Some(value) = value.map(|value| u64::from_le_bytes(*value)).filter(|value| *value != 0) {
                    visit(value);
                }
                bits &= bits - 1;
            }
            word += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointers_of_a_small_object_are_those_that_the_bitmap_names() {
        // Objects of 24 bytes, of which the 22nd lies across two words of the bitmap.
        let words: Vec<[u8; 8]> = (1..=128_u64).map(u64::to_le_bytes).collect();
        let mut bits = [0_u64; 2];
        for word in [0, 2, 62, 63, 65, 66] {
            bits[word / 64] |= 1 << (word % 64);
        }
        let bitmap = bits.map(u64::to_le_bytes);
        let small = Small { words: &words, bitmap: &bitmap, each: 3 };
        let found = |index| {
            let mut found = Vec::new();
            small.pointers(index, |pointer| found.push(pointer));
            found
        };
        assert_eq!(
            [found(0), found(1), found(20), found(21), found(22)],
            [vec![1, 3], vec![], vec![63], vec![64, 66], vec![67]]
        );
        // Past the end of what was read, as when a size does not fit its span.
        assert!(found(1000).is_empty() && found(u64::MAX).is_empty());
    }
}

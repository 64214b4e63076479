//! The contents of the heap's objects, twice read, and which of their words are pointers (runtime/mbitmap.go).

use std::{cell::RefCell, rc::Rc};

use rustc_hash::FxHashMap;

use super::{
    bytes::{read_vec, u64_at},
    spans::{Object, Span, Spans},
};
use crate::target::{AddressSpace, Memory, MemoryError};

/// Larger objects begin with their type; smaller ones have a bitmap at their span's end.
const LARGEST_WITH_BITMAP: u64 = 512;
/// Objects this small have no mark bits of their own behind the bitmap.
const SMALLEST_WITH_INLINE_MARKS: u64 = 16;
/// Bytes of pointer-holding spans that are read at most, in one read.
const LARGEST: u64 = 8 << 30;
/// Offsets in a type (internal/abi, `Type`).
const TYPE_PTRDATA: u64 = 8;
const TYPE_FLAGS: u64 = 20;
const TYPE_KIND: u64 = 23;
const TYPE_GCDATA: u64 = 32;
const TYPE_SIZE: u64 = 48;
/// From 1.24 on: the mask is made when first needed, and `gcdata` points to where it will be.
const FLAG_MASK_ON_DEMAND: u8 = 1 << 4;
/// Before: `gcdata` is a program that makes the mask.
const KIND_GC_PROGRAM: u8 = 1 << 6;
/// The largest type that is believed.
const LARGEST_TYPE: u64 = 1 << 30;

/// Which words of a type are pointers.
#[derive(Debug)]
struct Mask {
    words: u64,
    bits: Vec<u8>,
}

/// One read of all spans that hold pointers.
pub(super) struct Contents {
    bytes: Vec<u8>,
    /// Where each span's bytes begin, by the span's place.
    starts: Vec<Option<usize>>,
}

impl Contents {
    /// Reads them.
    pub(super) fn read(memory: &AddressSpace, spans: &Spans) -> Result<Self, MemoryError> {
        let mut contents = Self { bytes: Vec::new(), starts: Vec::with_capacity(spans.all.len()) };
        let mut total = 0;
        for span in &spans.all {
            contents.starts.push((!span.no_pointers).then_some(total as usize));
            if !span.no_pointers {
                total += span.range.end - span.range.start;
            }
            if total > LARGEST {
                return Err(MemoryError::Unmapped(span.range.start));
            }
        }
        contents.bytes.resize(total as usize, 0);
        for (span, start) in spans.all.iter().zip(&contents.starts) {
            let Some(start) = *start else { continue };
            let end = start + (span.range.end - span.range.start) as usize;
            memory.read_bulk(span.range.start, &mut contents.bytes[start..end])?;
        }
        Ok(contents)
    }

    /// The same bytes for spans as they were read later: of those that are no longer what they were there are none.
    pub(super) fn for_spans(self, read: &Spans, later: &Spans) -> Self {
        let same =
            |a: &Span, b: &Span| (a.object_size, a.large, a.no_pointers) == (b.object_size, b.large, b.no_pointers);
        let by_range: FxHashMap<_, usize> =
            read.all.iter().enumerate().map(|(place, span)| (span.range.clone(), place)).collect();
        let starts = later.all.iter().map(|span| {
            let place = *by_range.get(&span.range)?;
            self.starts[place].filter(|_| same(&read.all[place], span))
        });
        Self { starts: starts.collect(), bytes: self.bytes }
    }

    fn of(&self, spans: &Spans, place: usize) -> Option<&[u8]> {
        let start = (*self.starts.get(place)?)?;
        let range = &spans.all[place].range;
        self.bytes.get(start..start + (range.end - range.start) as usize)
    }
}

/// Finds the pointers in objects.
pub(super) struct Heap<'m> {
    pub(super) memory: &'m AddressSpace,
    pub(super) spans: Spans,
    pub(super) reads: Vec<Contents>,
    /// Bytes of mark bits at the end of spans of small objects.
    pub(super) inline_marks: u64,
    masks: RefCell<FxHashMap<u64, Option<Rc<Mask>>>>,
}

impl<'m> Heap<'m> {
    /// The heap with these spans.
    pub(super) fn new(memory: &'m AddressSpace, spans: Spans, reads: Vec<Contents>, inline_marks: u64) -> Self {
        Self { memory, spans, reads, inline_marks, masks: RefCell::default() }
    }

    /// Calls `visit` with every pointer that the object held in any of the reads.
    pub(super) fn pointers(&self, object: Object, mut visit: impl FnMut(u64)) {
        let span = &self.spans.all[object.span];
        for read in &self.reads {
            let Some(bytes) = read.of(&self.spans, object.span) else { continue };
            let start = object.index * span.object_size;
            if span.object_size <= LARGEST_WITH_BITMAP && !span.large {
                let marks = if span.object_size >= SMALLEST_WITH_INLINE_MARKS { self.inline_marks } else { 0 };
                let size = bytes.len() as u64;
                let bitmap = size - (size / 64).min(size) - marks.min(size - size / 64);
                for at in (start..start + span.object_size).step_by(8) {
                    let word = at / 8;
                    let bit = bytes.get((bitmap + word / 8) as usize).is_some_and(|byte| byte >> (word % 8) & 1 == 1);
                    if let Some(value) = u64_at(bytes, at).filter(|value| bit && *value != 0) {
                        visit(value);
                    }
                }
            } else {
                self.typed(span, bytes, start, &mut visit);
            }
        }
    }

    /// An object that begins with its type, or whose span names it: the type's mask, again and again.
    fn typed(&self, span: &Span, bytes: &[u8], start: u64, visit: &mut impl FnMut(u64)) {
        let (header, ty) = if span.large { (0, span.large_type) } else { (8, u64_at(bytes, start).unwrap_or(0)) };
        let mask = self.mask(ty);
        let data = start + header..start + span.object_size;
        for (word, at) in data.step_by(8).enumerate() {
            // Without a mask every word may be a pointer.
            let is_pointer = mask.as_ref().is_none_or(|mask| {
                let word = word as u64 % mask.words;
                mask.bits.get((word / 8) as usize).is_some_and(|byte| byte >> (word % 8) & 1 == 1)
            });
            if let Some(value) = u64_at(bytes, at).filter(|value| is_pointer && *value != 0) {
                visit(value);
            }
        }
    }

    fn mask(&self, ty: u64) -> Option<Rc<Mask>> {
        let mut masks = self.masks.borrow_mut();
        masks.entry(ty).or_insert_with(|| read_mask(self.memory, ty).map(Rc::new)).clone()
    }
}

fn read_mask(memory: &dyn Memory, ty: u64) -> Option<Mask> {
    let record = read_vec(memory, ty, TYPE_SIZE, TYPE_SIZE).ok()?;
    let (size, with_pointers) = (u64_at(&record, 0)?, u64_at(&record, TYPE_PTRDATA)?);
    if size < 8 || with_pointers > size || size > LARGEST_TYPE || record[TYPE_KIND as usize] & KIND_GC_PROGRAM != 0 {
        return None;
    }
    let mut gcdata = u64_at(&record, TYPE_GCDATA)?;
    if record[TYPE_FLAGS as usize] & FLAG_MASK_ON_DEMAND != 0 {
        gcdata = memory.read_u64(gcdata).ok().filter(|mask| *mask != 0)?;
    }
    let words = with_pointers / 8;
    let mut bits = read_vec(memory, gcdata, words.div_ceil(8), LARGEST_TYPE).ok()?;
    // Bits behind the last pointer belong to something else.
    if let Some(last) = bits.last_mut().filter(|_| !words.is_multiple_of(8)) {
        *last &= (1 << (words % 8)) - 1;
    }
    Some(Mask { words: size / 8, bits })
}

//! The heap's spans: which memory holds objects of which size (runtime/mheap.go), and finding the object at an address.

use std::ops::Range;

use super::{
    bits::Bits,
    bytes::{read_vec, u64_at},
    layout::Layout,
    moduledata::ModuleData,
};
use crate::{
    debuginfo::Module,
    target::{LOWEST, Memory},
};

/// Bytes of a page of the Go heap.
const PAGE: u64 = 8192;
/// Pages of one block of the index.
const BLOCK: u64 = 8192;
/// The state of a span that holds objects (`mSpanInUse`).
const IN_USE: u8 = 1;
/// Spans that are read at most.
const MOST: u64 = 64 << 20;
/// Bytes of all spans at most.
const LARGEST_HEAP: u64 = 1 << 40;
/// Spans that are tried before a list is believed.
const TRIED: u64 = 64;

/// Memory that holds objects of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range<u64>,
    pub(super) object_size: u64,
    pub(super) objects: u64,
    /// Its objects hold no pointers.
    pub(super) no_pointers: bool,
    /// It holds one object that is larger than all size classes.
    pub(super) large: bool,
    /// Type of that object.
    pub(super) large_type: u64,
    /// First of its special records: finalizers and the like.
    pub(super) specials: u64,
    /// Number of its first object among those of all spans: a multiple of 64, so that no two spans share a word of bits.
    pub(super) first_object: usize,
}

/// An object: its span's place and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) span: usize,
    pub(super) index: u64,
}

/// What finding an object takes of its span, close together: it is done for every pointer of a heap.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u64,
    first_object: u64,
    object_size: u64,
    objects: u32,
    /// What an offset is multiplied with to be divided by the size of an object; 0 where that would not be exact.
    reciprocal: u32,
}

impl Slot {
    fn of(span: &Span) -> Self {
        let (size, objects) = (span.object_size, u32::try_from(span.objects).unwrap_or(u32::MAX));
        let reciprocal = u32::try_from(size).map_or(0, |size| (u32::MAX / size).wrapping_add(1));
        // It errs by ever more, so what holds for the last byte of the last object holds for all.
        let last = size.saturating_mul(u64::from(objects)).saturating_sub(1);
        let exact = u32::try_from(last).is_ok() && (last * u64::from(reciprocal)) >> 32 == last / size;
        Self {
            start: span.range.start,
            first_object: span.first_object as u64,
            object_size: size,
            objects,
            reciprocal: if exact { reciprocal } else { 0 },
        }
    }

    /// The number of the object that lies at an offset, in its span.
    fn index(&self, offset: u64) -> Option<u64> {
        let index = if self.reciprocal != 0 && u32::try_from(offset).is_ok() {
            // Past the last object it may be too large by one, and no such object is there either.
            (offset * u64::from(self.reciprocal)) >> 32
        } else {
            offset / self.object_size
        };
        (index < u64::from(self.objects)).then_some(index)
    }
}

/// All spans, by address.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) all: Vec<Span>,
    slots: Vec<Slot>,
    /// Of each span whether its objects hold no pointers.
    no_pointers: Bits,
    /// One more than the highest number that an object may have.
    pub(super) objects: usize,
    /// Place plus 1 of the span of each page, in numbered blocks by address.
    index: Vec<(u64, Box<[u32]>)>,
}

impl Spans {
    /// Sorts them and gives every object its number. Of spans that overlap, as in a list that changed while it was read,
    /// the last one holds.
    pub(super) fn new(mut all: Vec<Span>) -> Self {
        all.sort_by_key(|span| span.range.start);
        let mut spans = Self::default();
        for (place, span) in all.iter_mut().enumerate() {
            span.first_object = spans.objects;
            spans.objects = spans.objects.saturating_add((span.objects as usize).next_multiple_of(64));
            for page in span.range.start / PAGE..span.range.end / PAGE {
                let number = page / BLOCK;
                if spans.index.last().is_none_or(|(last, _)| *last < number) {
                    spans.index.push((number, vec![0; BLOCK as usize].into_boxed_slice()));
                }
                if let Some(block) = spans.block(number) {
                    spans.index[block].1[(page % BLOCK) as usize] = place as u32 + 1;
                }
            }
        }
        spans.slots = all.iter().map(Slot::of).collect();
        spans.no_pointers = Bits::new(all.len());
        for (place, _) in all.iter().enumerate().filter(|(_, span)| span.no_pointers) {
            spans.no_pointers.set(place);
        }
        spans.all = all;
        spans
    }

    /// The place of a block in the index.
    fn block(&self, number: u64) -> Option<usize> {
        // The heap mostly is in one piece, and so are its blocks.
        let guess = number.checked_sub(self.index.first()?.0)? as usize;
        match self.index.get(guess) {
            Some((found, _)) if *found == number => Some(guess),
            _ => self.index.binary_search_by_key(&number, |(number, _)| *number).ok(),
        }
    }

    /// The object that an address lies in.
    pub(super) fn object(&self, address: u64) -> Option<Object> {
        let (span, index) = self.locate(address)?;
        Some(Object { span, index })
    }

    fn locate(&self, address: u64) -> Option<(usize, u64)> {
        let place = (self.page(address) as usize).checked_sub(1)?;
        let slot = self.slots.get(place)?;
        Some((place, slot.index(address.checked_sub(slot.start)?)?))
    }

    /// Place plus 1 of the span that has the page of an address; 0 for none.
    fn page(&self, address: u64) -> u32 {
        let page = address / PAGE;
        self.block(page / BLOCK).map_or(0, |block| self.index[block].1[(page % BLOCK) as usize])
    }

    /// Finds the objects that many addresses lie in: the places of their spans and their numbers among all objects, in the order of
    /// the addresses; what lies in no object is left out. Each step is done for all of them before the next, so that no address
    /// waits until memory has answered for the one before. `pages` is room for that.
    pub(super) fn number_all(&self, addresses: &[u64], pages: &mut Vec<u32>, found: &mut Vec<(u32, usize)>) {
        pages.clear();
        pages.extend(addresses.iter().map(|address| self.page(*address)));
        found.clear();
        found.extend(addresses.iter().zip(&*pages).filter_map(|(address, page)| {
            let place = page.checked_sub(1)?;
            let slot = self.slots.get(place as usize)?;
            let index = slot.index(address.checked_sub(slot.start)?)?;
            Some((place, (slot.first_object + index) as usize))
        }));
    }

    /// Whether the objects of a span hold no pointers.
    pub(super) fn is_plain(&self, span: usize) -> bool {
        self.no_pointers.get(span)
    }

    /// The spans that were there with the same objects in an earlier read: their place now and then.
    pub(super) fn in_both<'s>(&'s self, before: &'s Self) -> impl Iterator<Item = (usize, usize)> + 's {
        let kind = |span: &Span| (span.range.clone(), span.object_size, span.objects, span.large, span.no_pointers);
        let mut rest = before.all.iter().enumerate().peekable();
        self.all.iter().enumerate().filter_map(move |(now, span)| {
            while rest.next_if(|(_, old)| old.range.start < span.range.start).is_some() {}
            let (was, old) = *rest.peek()?;
            (kind(old) == kind(span)).then_some((now, was))
        })
    }

    /// The number of an object among all.
    pub(super) fn number(&self, object: Object) -> usize {
        self.all[object.span].first_object + object.index as usize
    }
}

/// Address of the list of all spans, a slice: by symbol.
pub(super) fn by_symbol(module: &Module, layout: &Layout) -> Option<u64> {
    let heap = module.symbols().find(|symbol| symbol.name == "runtime.mheap_")?;
    heap.address.checked_add(layout.mheap_allspans)
}

/// The same by its shape, in the data without pointers. While the program adds to the list it may not be found.
pub(super) fn by_shape(memory: &dyn Memory, layout: &Layout, data: &ModuleData) -> Option<u64> {
    // The heap's own record may be among data of either sort; the longest list that fits is taken.
    let mut best = (0, None);
    for globals in [&data.globals[3], &data.globals[1]] {
        let range = globals.range.clone();
        let Ok(bytes) = read_vec(memory, range.start, range.end - range.start, 1 << 30) else { continue };
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        for (index, slice) in words.windows(3).enumerate() {
            let &[first, length, capacity] = slice else { continue };
            let fits = first >= LOWEST
                && first.is_multiple_of(4096)
                && length > best.0
                && (8..=capacity).contains(&length)
                && capacity <= MOST;
            if fits && are_spans(memory, layout, first, length) {
                best = (length, range.start.checked_add(index as u64 * 8));
            }
        }
    }
    best.1
}

fn are_spans(memory: &dyn Memory, layout: &Layout, first: u64, length: u64) -> bool {
    let step = (length / TRIED).max(1);
    let mut in_use = false;
    for index in (0..length).step_by(step as usize) {
        let word = |base: u64, at: u64| memory.read_u64(base.wrapping_add(at)).ok();
        let Some(span) = word(first, index * 8).filter(|span| *span >= LOWEST && span.is_multiple_of(8)) else {
            return false;
        };
        let (Some(start), Some(pages), Ok(state)) = (
            word(span, layout.mspan_start),
            word(span, layout.mspan_pages),
            memory.read_u8(span.wrapping_add(layout.mspan_state)),
        ) else {
            return false;
        };
        let plausible = state <= 2 && pages < 1 << 32 && (state == 0 || (pages > 0 && start.is_multiple_of(PAGE)));
        if !plausible {
            return false;
        }
        in_use |= state == IN_USE;
    }
    in_use
}

/// Reads all spans that hold objects now.
pub(super) fn read(memory: &dyn Memory, layout: &Layout, slice: u64) -> Option<Vec<Span>> {
    let (first, length) = (memory.read_u64(slice).ok()?, memory.read_u64(slice.checked_add(8)?).ok()?);
    let list = read_vec(memory, first, length.checked_mul(8)?, MOST * 8).ok()?;
    let (mut spans, mut total) = (Vec::new(), 0_u64);
    let mut record = vec![0; layout.mspan_size.min(1 << 12) as usize];
    for word in list.as_chunks::<8>().0 {
        memory.read(u64::from_le_bytes(*word), &mut record).ok()?;
        let span = parse(&record, layout);
        total = total.saturating_add(span.as_ref().map_or(0, |span| span.range.end - span.range.start));
        if total > LARGEST_HEAP {
            return None;
        }
        spans.extend(span);
    }
    Some(spans)
}

fn parse(record: &[u8], layout: &Layout) -> Option<Span> {
    /// The largest span that is believed, of one object and of several.
    const LARGEST: u64 = 1 << 40;
    const LARGEST_OF_SEVERAL: u64 = 1 << 20;
    let byte = |at: u64| record.get(usize::try_from(at).ok()?).copied();
    if byte(layout.mspan_state)? != IN_USE {
        return None;
    }
    let start = u64_at(record, layout.mspan_start)?;
    let size = u64_at(record, layout.mspan_pages)?.checked_mul(PAGE).filter(|size| *size > 0 && *size < LARGEST)?;
    let end = start.checked_add(size)?;
    let object_size = u64_at(record, layout.mspan_element_size)?;
    let objects = u64::from(byte(layout.mspan_elements)?) | u64::from(byte(layout.mspan_elements + 1)?) << 8;
    let class = byte(layout.mspan_class)?;
    let large = class >> 1 == 0;
    let fits = object_size >= 8
        && (large || size <= LARGEST_OF_SEVERAL)
        && objects.checked_mul(object_size).is_some_and(|used| used <= size);
    (fits && start.is_multiple_of(PAGE)).then_some(Span {
        range: start..end,
        object_size,
        objects,
        no_pointers: class & 1 == 1,
        large,
        large_type: u64_at(record, layout.mspan_large_type)?,
        specials: u64_at(record, layout.mspan_specials)?,
        first_object: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, pages: u64, object_size: u64) -> Span {
        Span {
            range: start..start + pages * PAGE,
            object_size,
            objects: pages * PAGE / object_size,
            no_pointers: false,
            large: false,
            large_type: 0,
            specials: 0,
            first_object: 0,
        }
    }

    #[test]
    fn objects_are_found_by_any_address_in_them() {
        let far = 0x1c0_0000_0000;
        let spans = Spans::new(vec![span(far, 1, 48), span(0xc0_0000_0000, 2, 64)]);
        assert_eq!(spans.object(0xc0_0000_0000 + 130), Some(Object { span: 0, index: 2 }));
        let objects = PAGE / 48;
        assert_eq!(spans.object(far + objects * 48 - 1), Some(Object { span: 1, index: objects - 1 }));
        // Behind the last object, and outside of all spans.
        assert_eq!(spans.object(far + objects * 48), None);
        assert_eq!(spans.object(far - 1), None);
        assert_eq!(spans.number(Object { span: 1, index: 0 }) as u64, 2 * PAGE / 64);
        let (mut pages, mut found) = (vec![7], vec![(7, 7)]);
        let addresses = [far + 48, far - 1, 0xc0_0000_0000 + 130, far + objects * 48];
        spans.number_all(&addresses, &mut pages, &mut found);
        let alone = addresses.iter().filter_map(|address| spans.object(*address));
        let alone: Vec<_> = alone.map(|object| (object.span as u32, spans.number(object))).collect();
        assert_eq!((found, alone.len()), (alone.clone(), 2));
    }

    #[test]
    fn no_two_spans_share_a_word_of_bits() {
        let spans = Spans::new(vec![span(PAGE, 1, 48), span(2 * PAGE, 1, 8192), span(3 * PAGE, 1, 8)]);
        let firsts: Vec<usize> = spans.all.iter().map(|span| span.first_object).collect();
        assert_eq!((firsts, spans.objects), (vec![0, 192, 256], 256 + 1024));
    }

    #[test]
    fn a_reciprocal_divides_as_division_does() {
        for (pages, size) in [(1, 8), (1, 24), (1, 1152), (3, 4864), (16, 9472), (128, 8), (128, 24), (128, 32768)] {
            let span = span(0, pages, size);
            let slot = Slot::of(&span);
            for offset in 0..pages * PAGE {
                let expected = Some(offset / size).filter(|index| *index < span.objects);
                assert_eq!(slot.index(offset), expected, "{offset} of {size}");
            }
        }
    }
}

//! Marking: what can be reached from a set of roots. The heap is read as the marking comes along, span by span in the
//! order of addresses, round after round; no more than a few spans of it are kept at any moment.

use std::{collections::VecDeque, ops::Range};

use rustc_hash::FxHashSet;

use super::{
    bits::Bits,
    heap::Heap,
    spans::{Object, Span, Spans},
};
use crate::target::{Ahead, MemoryError};

/// Spans, and bytes of spans, that are read together.
const SPANS: usize = 1024;
const BYTES: u64 = 1 << 20;
/// Pointers that are looked up together.
const FOUND: usize = 512;
/// How many such pieces are on their way at a time: one is followed while the next is read.
const AHEAD: usize = 2;

/// What has been reached, and what of it has yet to be followed.
#[derive(Debug)]
struct Sets {
    reached: Bits,
    /// Objects whose pointers have yet to be followed.
    pending: Bits,
    /// Spans with such objects.
    dirty: Bits,
    /// Pointers that were found and have yet to be looked up.
    found: Vec<u64>,
    /// Room for what becomes of those.
    pages: Vec<u32>,
    numbered: Vec<(u32, usize)>,
}

impl Sets {
    fn new(spans: &Spans) -> Self {
        let (objects, count) = (spans.objects, spans.all.len());
        Self {
            reached: Bits::new(objects),
            pending: Bits::new(objects),
            dirty: Bits::new(count),
            found: Vec::with_capacity(FOUND),
            pages: Vec::with_capacity(FOUND),
            numbered: Vec::with_capacity(FOUND),
        }
    }

    /// Reaches the object at an address, at the latest with the next [`Self::flush`].
    fn reach(&mut self, spans: &Spans, address: u64) {
        if self.found.len() >= FOUND {
            self.flush(spans);
        }
        self.found.push(address);
    }

    /// Reaches all that was found.
    fn flush(&mut self, spans: &Spans) {
        let Self { reached, pending, dirty, found, pages, numbered } = self;
        spans.number_all(found, pages, numbered);
        found.clear();
        // Most have been reached before.
        numbered.retain(|(_, number)| !reached.get(*number));
        for (span, number) in numbered.drain(..) {
            let span = span as usize;
            if reached.set(number) && !spans.is_plain(span) {
                pending.set(number);
                dirty.set(span);
            }
        }
    }
}

/// What has been reached so far.
pub(super) struct Marks<'m> {
    heap: Heap<'m>,
    sets: Sets,
    ahead: Ahead<'m>,
}

impl<'m> Marks<'m> {
    /// Nothing is reached yet. The objects at the addresses in `closed` never count, nor what only they lead to: the records
    /// by which the runtime finds waiting goroutines.
    pub(super) fn new(heap: Heap<'m>, closed: impl Iterator<Item = u64>) -> Self {
        Self::with(heap, None, closed)
    }

    /// What was reached before is reached, as far as `heap`, read later, still has it; and all of that is to be followed
    /// anew.
    pub(super) fn again(self, heap: Heap<'m>, closed: impl Iterator<Item = u64>) -> Self {
        Self::with(heap, Some(&self), closed)
    }

    fn with(heap: Heap<'m>, before: Option<&Self>, closed: impl Iterator<Item = u64>) -> Self {
        let spans = &heap.spans;
        let mut sets = Sets::new(spans);
        // To be reached before anyone comes, and not to be followed, is to be closed.
        for object in closed.filter_map(|address| spans.object(address)) {
            sets.reached.set(spans.number(object));
        }
        if let Some(before) = before {
            for (span, was) in spans.in_both(&before.heap.spans) {
                let (now, old) = (&spans.all[span], &before.heap.spans.all[was]);
                for (to, from) in words(now).zip(words(old)) {
                    let new = before.sets.reached.word(from) & !sets.reached.word(to);
                    sets.reached.set_word(to, new);
                    if new != 0 && !old.no_pointers {
                        sets.pending.set_word(to, new);
                        sets.dirty.set(span);
                    }
                }
            }
        }
        let ahead = Ahead::bulk(heap.memory);
        Self { heap, sets, ahead }
    }

    /// The heap that is marked.
    pub(super) fn heap(&self) -> &Heap<'m> {
        &self.heap
    }

    /// Reaches the object at this address, if there is one: to be asked for once all was followed.
    pub(super) fn reach(&mut self, address: u64) {
        self.sets.reach(&self.heap.spans, address);
    }

    /// Follows all that was reached to the end.
    pub(super) fn drain(&mut self) -> Result<(), MemoryError> {
        let (mut next, mut batches) = (0, VecDeque::new());
        self.sets.flush(&self.heap.spans);
        loop {
            while batches.len() < AHEAD {
                let batch = self.take_batch(&mut next)?;
                if batch.is_empty() {
                    break;
                }
                self.ahead.ask(batch.iter().map(|place| self.heap.spans.all[*place].range.clone()).collect());
                batches.push_back(batch);
            }
            let Some(batch) = batches.pop_front() else { return Ok(()) };
            let Self { heap, sets, ahead } = self;
            let mut read = 0;
            ahead.take(|index, bytes| {
                if let Some(bytes) = bytes {
                    follow_span(heap, sets, batch[index], bytes);
                    read += 1;
                }
            });
            if read != batch.len() {
                return Err(MemoryError::Unmapped(heap.spans.all[batch[0]].range.start));
            }
        }
    }

    /// The next spans in which there is something to be followed, from number `next` on and then from the first on; empty where
    /// there is nothing. Objects that take a span of their own are followed at once.
    fn take_batch(&mut self, next: &mut usize) -> Result<Vec<usize>, MemoryError> {
        let Self { heap, sets, .. } = self;
        let all = &heap.spans.all;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < SPANS {
            let found = sets.dirty.next(*next..all.len());
            // Once round; what is taken already is no longer dirty.
            let found = found.or_else(|| if batch.is_empty() { sets.dirty.next(0..*next) } else { None });
            let Some(place) = found else { break };
            let length = all[place].range.end - all[place].range.start;
            if all[place].large {
                follow_large(heap, sets, place)?;
            } else if bytes + length > BYTES && !batch.is_empty() {
                break;
            } else {
                sets.dirty.clear(place);
                batch.push(place);
                bytes += length;
            }
            *next = place + 1;
        }
        Ok(batch)
    }

    /// Whether the object at this address has been reached; `None` where there is no object.
    pub(super) fn is_reached(&self, address: u64) -> Option<bool> {
        Some(self.sets.reached.get(self.number_at(address)?))
    }

    /// Visits what can be reached from `roots` and has not been reached by the roots of all, each object once; what `visit`
    /// says no to leads no further. Gives up when `budget` runs out, or something cannot be read.
    pub(super) fn walk_rest(
        &self,
        roots: &[u64],
        budget: &mut u64,
        mut visit: impl FnMut(Object, usize) -> bool,
    ) -> Option<()> {
        let spans = &self.heap.spans;
        let mut seen = FxHashSet::default();
        let mut pending: Vec<Object> = Vec::new();
        let reach = |address: u64, pending: &mut Vec<Object>, seen: &mut FxHashSet<usize>| {
            if let Some(object) = spans.object(address) {
                let number = spans.number(object);
                if !self.sets.reached.get(number) && seen.insert(number) {
                    pending.push(object);
                }
            }
        };
        for root in roots {
            reach(*root, &mut pending, &mut seen);
        }
        while let Some(object) = pending.pop() {
            *budget = budget.checked_sub(1)?;
            if visit(object, spans.number(object)) {
                self.heap.read(object, |pointer| reach(pointer, &mut pending, &mut seen)).ok()?;
            }
        }
        Some(())
    }

    /// The number of the object at an address.
    pub(super) fn number_at(&self, address: u64) -> Option<usize> {
        let spans = &self.heap.spans;
        spans.object(address).map(|object| spans.number(object))
    }
}

/// The words of bits that a span's objects have.
fn words(span: &Span) -> Range<usize> {
    let first = span.first_object / 64;
    first..first + (span.objects as usize).div_ceil(64)
}

/// Follows what is pending in a span, to the end as far as it stays in the span.
fn follow_span(heap: &Heap<'_>, sets: &mut Sets, place: usize, bytes: &[u8]) {
    let span = &heap.spans.all[place];
    let small = heap.small(span, bytes);
    loop {
        let mut followed = false;
        for (number, word) in words(span).enumerate() {
            let mut bits = sets.pending.take_word(word);
            followed |= bits != 0;
            while bits != 0 {
                let index = number as u64 * 64 + u64::from(bits.trailing_zeros());
                match &small {
                    Some(small) => small.pointers(index, |pointer| sets.found.push(pointer)),
                    None => heap.pointers(Object { span: place, index }, bytes, |pointer| sets.found.push(pointer)),
                }
                bits &= bits - 1;
            }
            if sets.found.len() >= FOUND {
                sets.flush(&heap.spans);
            }
        }
        if !followed {
            break;
        }
        // What lies here may have been reached meanwhile.
        sets.flush(&heap.spans);
    }
    sets.dirty.clear(place);
}

/// Follows an object that takes a span of its own.
fn follow_large(heap: &Heap<'_>, sets: &mut Sets, place: usize) -> Result<(), MemoryError> {
    let span = &heap.spans.all[place];
    sets.dirty.clear(place);
    sets.pending.clear(span.first_object);
    heap.large(span, |pointer| sets.reach(&heap.spans, pointer))?;
    sets.flush(&heap.spans);
    Ok(())
}

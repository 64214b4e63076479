//! Marking: what can be reached from a set of roots. The heap is read as the marking comes along, span by span in the
//! order of addresses, round after round; no more than a few spans of it are kept at any moment.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::{
    bits::Bits,
    heap::Heap,
    spans::{Object, Span, Spans},
};
use crate::target::{Ahead, MemoryError};

/// Spans, and bytes of spans, that are read together.
const SPANS: usize = 1024;
const BYTES: u64 = 4 << 20;
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
}

impl Sets {
    fn reach(&mut self, spans: &Spans, address: u64) {
        let Some((span, number)) = spans.numbered(address) else { return };
        if self.reached.set(number) && !spans.is_plain(span) {
            self.pending.set(number);
            self.dirty.set(span);
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
        let (objects, count) = (spans.objects, spans.all.len());
        let mut sets = Sets { reached: Bits::new(objects), pending: Bits::new(objects), dirty: Bits::new(count) };
        // To be reached before anyone comes, and not to be followed, is to be closed.
        for object in closed.filter_map(|address| spans.object(address)) {
            sets.reached.set(spans.number(object));
        }
        if let Some(before) = before {
            for (span, was) in spans.in_both(&before.heap.spans) {
                let (first, old) = (spans.all[span].first_object, &before.heap.spans.all[was]);
                let mut next = old.first_object;
                let end = next + old.objects as usize;
                while let Some(number) = before.sets.reached.next(next..end) {
                    next = number + 1;
                    let number = first + (number - old.first_object);
                    if sets.reached.set(number) && !old.no_pointers {
                        sets.pending.set(number);
                        sets.dirty.set(span);
                    }
                }
            }
        }
        let ahead = Ahead::new(heap.memory);
        Self { heap, sets, ahead }
    }

    /// The heap that is marked.
    pub(super) fn heap(&self) -> &Heap<'m> {
        &self.heap
    }

    /// Reaches the object at this address, if there is one.
    pub(super) fn reach(&mut self, address: u64) {
        self.sets.reach(&self.heap.spans, address);
    }

    /// Follows all that was reached to the end.
    pub(super) fn drain(&mut self) -> Result<(), MemoryError> {
        let (mut next, mut batches) = (0, VecDeque::new());
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

/// Follows what is pending in a span, to the end as far as it stays in the span.
fn follow_span(heap: &Heap<'_>, sets: &mut Sets, place: usize, bytes: &[u8]) {
    let Span { first_object, objects, .. } = heap.spans.all[place];
    let end = first_object + objects as usize;
    let mut next = first_object;
    loop {
        match sets.pending.next(next..end) {
            Some(number) => {
                sets.pending.clear(number);
                let object = Object { span: place, index: (number - first_object) as u64 };
                heap.pointers(object, bytes, |pointer| sets.reach(&heap.spans, pointer));
                next = number + 1;
            }
            // What lies before may have been reached meanwhile.
            None if next > first_object => next = first_object,
            None => break,
        }
    }
    sets.dirty.clear(place);
}

/// Follows an object that takes a span of its own.
fn follow_large(heap: &Heap<'_>, sets: &mut Sets, place: usize) -> Result<(), MemoryError> {
    let span = &heap.spans.all[place];
    sets.dirty.clear(place);
    sets.pending.clear(span.first_object);
    heap.large(span, |pointer| sets.reach(&heap.spans, pointer))
}

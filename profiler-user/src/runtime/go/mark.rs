//! Marking: what can be reached from a set of roots, over the union of two reads of the heap.

use super::{
    heap::Heap,
    spans::{Object, Spans},
};

/// One bit an object.
#[derive(Clone, Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(objects: usize) -> Self {
        Self(vec![0; objects.div_ceil(64)])
    }

    fn get(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Whether it was not set before.
    fn set(&mut self, number: usize) -> bool {
        let Some(word) = self.0.get_mut(number / 64) else { return false };
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// What has been reached so far.
pub(super) struct Marks<'h, 'm> {
    heap: &'h Heap<'m>,
    reached: Bits,
    /// Objects that are not followed: the records by which the runtime finds waiting goroutines.
    closed: Bits,
    pending: Vec<Object>,
}

impl<'h, 'm> Marks<'h, 'm> {
    /// Nothing is reached yet.
    pub(super) fn new(heap: &'h Heap<'m>) -> Self {
        let objects = heap.spans.objects;
        Self { heap, reached: Bits::new(objects), closed: Bits::new(objects), pending: Vec::new() }
    }

    fn spans(&self) -> &'h Spans {
        &self.heap.spans
    }

    /// Never follows the object at this address.
    pub(super) fn close(&mut self, address: u64) {
        if let Some(object) = self.spans().object(address) {
            self.closed.set(self.spans().number(object));
        }
    }

    /// Reaches the object at this address, if there is one.
    pub(super) fn reach(&mut self, address: u64) {
        if let Some(object) = self.spans().object(address) {
            let number = self.spans().number(object);
            if !self.closed.get(number) && self.reached.set(number) && !self.spans().all[object.span].no_pointers {
                self.pending.push(object);
            }
        }
    }

    /// Reaches what an object holds, without the object itself.
    pub(super) fn reach_from(&mut self, object: Object) {
        let heap = self.heap;
        heap.pointers(object, |pointer| self.reach(pointer));
    }

    /// Follows all that was reached to the end.
    pub(super) fn drain(&mut self) {
        while let Some(object) = self.pending.pop() {
            self.reach_from(object);
        }
    }

    /// Whether the object at this address has been reached; `None` where there is no object.
    pub(super) fn is_reached(&self, address: u64) -> Option<bool> {
        let object = self.spans().object(address)?;
        Some(self.reached.get(self.spans().number(object)))
    }

    /// Visits what can be reached from `roots` and has not been reached by the roots of all, each object once. Gives up
    /// when `budget` runs out.
    pub(super) fn walk_rest(
        &self,
        roots: &[u64],
        budget: &mut u64,
        mut visit: impl FnMut(usize),
    ) -> Result<(), OutOfBudget> {
        let mut seen = rustc_hash::FxHashSet::default();
        let mut pending = Vec::new();
        let reach = |address: u64, pending: &mut Vec<Object>, seen: &mut rustc_hash::FxHashSet<usize>| {
            if let Some(object) = self.spans().object(address) {
                let number = self.spans().number(object);
                if !self.closed.get(number) && !self.reached.get(number) && seen.insert(number) {
                    pending.push(object);
                }
            }
        };
        for root in roots {
            reach(*root, &mut pending, &mut seen);
        }
        while let Some(object) = pending.pop() {
            *budget = budget.checked_sub(1).ok_or(OutOfBudget)?;
            visit(self.spans().number(object));
            self.heap.pointers(object, |pointer| reach(pointer, &mut pending, &mut seen));
        }
        Ok(())
    }

    /// The number of the object at an address.
    pub(super) fn number_at(&self, address: u64) -> Option<usize> {
        self.spans().object(address).map(|object| self.spans().number(object))
    }
}

/// There was more to visit than was worth it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutOfBudget;

//! Sets of numbers, one bit each.

use std::ops::Range;

/// One bit for each of many things.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// None of them is set.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    /// Whether it is set.
    pub(super) fn get(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Sets it; says whether it was not set before.
    pub(super) fn set(&mut self, number: usize) -> bool {
        let Some(word) = self.0.get_mut(number / 64) else { return false };
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(super) fn clear(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Those of numbers `64 * place` to `64 * place + 63`, the lowest first.
    pub(super) fn word(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }

    /// Sets those among them that are set in `bits`.
    pub(super) fn set_word(&mut self, place: usize, bits: u64) {
        if let Some(word) = self.0.get_mut(place) {
            *word |= bits;
        }
    }

    /// Clears all of them, and returns those that were set.
    pub(super) fn take_word(&mut self, place: usize) -> u64 {
        self.0.get_mut(place).map_or(0, std::mem::take)
    }

    /// The first that is set in a range.
    pub(super) fn next(&self, range: Range<usize>) -> Option<usize> {
        let mut place = range.start / 64;
        let mut word = self.0.get(place)? & (u64::MAX << (range.start % 64));
        while word == 0 {
            place += 1;
            if place * 64 >= range.end {
                return None;
            }
            word = *self.0.get(place)?;
        }
        let number = place * 64 + word.trailing_zeros() as usize;
        (number < range.end).then_some(number)
    }
}

//! What a reader of memory has looked at.

use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::{Memory, MemoryError, residency::PAGE};

/// Bytes of a word; what is looked at is noted by whole ones.
const WORD: u64 = 8;
/// Words of a page.
const WORDS: usize = (PAGE / WORD) as usize;
/// Pages that are found without a search.
const RECENT: usize = 32;

/// One bit a word of a page.
type Bitmap = [u64; WORDS / 64];

/// A memory that notes which of its words are looked at. Whoever looks at nothing else, and decides by nothing else, would come
/// to the same result as long as these words stay what they are.
pub struct Trail<'m> {
    memory: &'m dyn Memory,
    looked: RefCell<Looked>,
    /// Words that were used as counts, and the least that each may be.
    counts: RefCell<FxHashMap<u64, u64>>,
}

/// The words that were looked at.
#[derive(Default)]
pub struct Looked {
    pages: Vec<(u64, Bitmap)>,
    places: FxHashMap<u64, u32>,
    /// Numbers of pages, and their places in `pages`.
    recent: [(u64, u32); RECENT],
}

impl Looked {
    /// The bits of the page with this number.
    fn page(&mut self, number: u64) -> &mut Bitmap {
        let recent = &mut self.recent[number as usize % RECENT];
        // Page 0 is in no process, and stands for none.
        if recent.0 != number || number == 0 {
            let place = *self.places.entry(number).or_insert_with(|| {
                self.pages.push((number, [0; WORDS / 64]));
                self.pages.len() as u32 - 1
            });
            *recent = (number, place);
        }
        &mut self.pages[recent.1 as usize].1
    }

    /// Whether the word at this address was looked at.
    pub fn has(&self, address: u64) -> bool {
        let index = (address % PAGE / WORD) as usize;
        let place = self.places.get(&(address / PAGE));
        place.is_some_and(|place| self.pages[*place as usize].1[index / 64] >> (index % 64) & 1 == 1)
    }
}

impl<'m> Trail<'m> {
    /// Nothing has been looked at.
    pub fn new(memory: &'m dyn Memory) -> Self {
        Self { memory, looked: RefCell::default(), counts: RefCell::default() }
    }

    /// Calls `visit` for each page of which something was looked at or used as a count, in no order: its address, and one bit
    /// for each of its 8-byte words, set where it was looked at.
    pub fn visit(&self, mut visit: impl FnMut(u64, &[u64])) {
        for (number, bits) in &self.looked.borrow().pages {
            visit(number * PAGE, bits);
        }
    }

    /// Words of which nothing was looked at but that they are counts, by address, and the least that each may be.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let looked = self.looked.borrow();
        let counts = self.counts.borrow();
        let mut counts: Vec<_> = counts
            .iter()
            .map(|(address, lowest)| (*address, *lowest))
            .filter(|(address, _)| !looked.has(*address))
            .collect();
        counts.sort_unstable();
        counts
    }

    /// What was looked at, for later.
    pub fn into_looked(self) -> Looked {
        self.looked.into_inner()
    }
}

impl Memory for Trail<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.look(address, buf.len());
        self.memory.read(address, buf)
    }

    fn copy(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.copy(address, buf)
    }

    fn look(&self, address: u64, length: usize) {
        if length == 0 {
            return;
        }
        let (first, last) = (address / WORD, address.saturating_add(length as u64 - 1) / WORD);
        let mut looked = self.looked.borrow_mut();
        for word in first..=last {
            let (page, index) = (word / WORDS as u64, word as usize % WORDS);
            looked.page(page)[index / 64] |= 1 << (index % 64);
        }
    }

    fn count(&self, address: u64, lowest: u64) {
        let mut counts = self.counts.borrow_mut();
        let known = counts.entry(address).or_insert(lowest);
        *known = lowest.max(*known);
        // So that it is visited.
        self.looked.borrow_mut().page(address / PAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte is there, and zero.
    struct Zeros;

    impl Memory for Zeros {
        fn read(&self, _address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
            buf.fill(0);
            Ok(())
        }
    }

    fn words(trail: &Trail<'_>) -> Vec<u64> {
        let mut words = Vec::new();
        trail.visit(|page, bits| {
            let set = |index: &usize| bits[index / 64] >> (index % 64) & 1 == 1;
            words.extend((0..WORDS).filter(set).map(|index| page + index as u64 * WORD));
        });
        words.sort_unstable();
        words
    }

    #[test]
    fn every_word_that_is_looked_at_is_noted_and_no_other() {
        let trail = Trail::new(&Zeros);
        trail.read(0x2_0ffc, &mut [0; 8]).expect("all is there");
        trail.copy(0x3_0000, &mut [0; 4096]).expect("all is there");
        trail.look(0x3_0009, 1);
        trail.look(0x3_0011, 0);
        assert_eq!(words(&trail), [0x2_0ff8, 0x2_1000, 0x3_0008]);
    }

    #[test]
    fn a_count_is_one_as_long_as_it_is_not_looked_at() {
        let trail = Trail::new(&Zeros);
        for (address, lowest) in [(0x2_0010, 1), (0x2_0008, 1), (0x2_0010, 3), (0x2_0010, 2)] {
            trail.count(address, lowest);
        }
        assert_eq!(trail.counts(), [(0x2_0008, 1), (0x2_0010, 3)]);
        assert!(words(&trail).is_empty());
        trail.look(0x2_000c, 1);
        assert_eq!(trail.counts(), [(0x2_0010, 3)]);
    }

    #[test]
    fn a_page_of_counts_is_visited_too() {
        let trail = Trail::new(&Zeros);
        trail.count(0x2_0010, 1);
        trail.look(0x3_0000, 8);
        let mut pages = Vec::new();
        trail.visit(|page, _| pages.push(page));
        assert_eq!(pages, [0x2_0000, 0x3_0000]);
        let looked = trail.into_looked();
        assert!(looked.has(0x3_0004) && !looked.has(0x3_0008) && !looked.has(0x2_0010));
    }

    #[test]
    fn pages_that_share_a_place_are_told_apart() {
        let trail = Trail::new(&Zeros);
        let pages: Vec<u64> = (0..3 * RECENT as u64).map(|page| 0x10_0000 + page * PAGE).collect();
        for _ in 0..2 {
            for page in &pages {
                trail.look(*page, 8);
            }
        }
        assert_eq!(words(&trail), pages);
    }

    #[test]
    fn the_end_of_all_addresses_is_one_too() {
        let trail = Trail::new(&Zeros);
        trail.look(u64::MAX - 3, 64);
        assert_eq!(words(&trail), [!7]);
    }
}

//! The target's memory as the run has changed it: pages written to are copied, all others are read from the target.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
};

use rustc_hash::FxHashMap;

use super::unknown::Why;
use super::value::Value;
use crate::target::{LOWEST, Memory, ranges};

const PAGE: usize = 4096;

/// Where the machine's own memory lies: an address that no process can map, neither with four levels of page tables nor
/// with five, and that is positive as a signed number.
pub(super) const PRIVATE: u64 = 0x0100_0000_0000_0000;
/// One past the private addresses.
pub(super) const PRIVATE_END: u64 = 0x0200_0000_0000_0000;
/// Whether `address` is of memory that a run has allocated for itself, and not the process.
pub fn is_private(address: u64) -> bool {
    (PRIVATE..PRIVATE_END).contains(&address)
}

/// The longest single read or write.
pub(super) const WIDEST: usize = 32;

/// One bit a byte of a page.
type Bitmap = [u64; PAGE / 64];

/// A page that has been written to.
struct Page {
    number: u64,
    data: Box<[u8; PAGE]>,
    /// Bytes that stand in `data`, when the rest of the page could not be read; `None`: all.
    present: Option<Box<Bitmap>>,
    /// Bytes that are unknown; `None`: none.
    poison: Option<Box<Bitmap>>,
}

/// A target's memory under the writes of one run.
pub(super) struct Overlay<'m> {
    memory: &'m dyn Memory,
    pages: Vec<Page>,
    index: FxHashMap<u64, u32>,
    /// Recently looked up pages and their place in `pages`; `CLEAN` for those that are not written.
    recent: [Cell<(u64, u32)>; RECENT],
    most_pages: usize,
    /// Loads of this word are noticed, unless it is 0 or comes from there.
    watched: (u64, Range<u64>),
    /// Where it was loaded from, each time.
    looks: RefCell<Vec<u64>>,
    /// As many of these have been told of.
    told: Cell<usize>,
    /// Loads of words that point in here are noticed; in order, without overlaps.
    tracked: Vec<Range<u64>>,
    /// Those loads, in their order: from where, and which word.
    tracks: RefCell<Vec<(u64, u64)>>,
    /// What is read now is only counted with.
    counting: Cell<bool>,
}

/// Where the watched word was loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// From the machine's own memory alone, which begins with its stack.
    Own,
    /// From this place in the target's memory.
    At(u64),
    /// From several places there.
    Several,
}

impl Looked {
    fn at(address: u64) -> Self {
        if (PRIVATE..PRIVATE_END).contains(&address) { Self::Own } else { Self::At(address) }
    }

    /// The only place in the target's memory, if there is one.
    pub fn place(self) -> Option<u64> {
        if let Self::At(place) = self { Some(place) } else { None }
    }

    /// What this and another have loaded it from.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Own, looked) | (looked, Self::Own) => looked,
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }
}

const RECENT: usize = 16;
const CLEAN: u32 = u32::MAX;

impl<'m> Overlay<'m> {
    /// Nothing written; at most `most_bytes` of pages can be.
    pub(super) fn new(memory: &'m dyn Memory, most_bytes: usize) -> Self {
        Self {
            memory,
            pages: Vec::new(),
            index: FxHashMap::default(),
            recent: [const { Cell::new((u64::MAX, CLEAN)) }; RECENT],
            most_pages: most_bytes / PAGE,
            watched: (0, 0..0),
            looks: RefCell::default(),
            told: Cell::new(0),
            tracked: Vec::new(),
            tracks: RefCell::default(),
            counting: Cell::new(false),
        }
    }

    /// The memory underneath.
    pub(super) fn memory(&self) -> &'m dyn Memory {
        self.memory
    }

    /// Notices loads of the word `value`, and of no other, from now on, except from `except`; of none if it is 0.
    pub(super) fn watch(&mut self, value: u64, except: Range<u64>) {
        self.watched = (value, except);
        self.looks.borrow_mut().clear();
        self.told.set(0);
    }

    /// Notices loads of words that point into `ranges` from now on.
    pub(super) fn track(&mut self, ranges: Vec<Range<u64>>) {
        self.tracked = ranges::merged(ranges);
    }

    /// Those loads, in their order: from where, and which word.
    pub(super) fn tracks(&self) -> &RefCell<Vec<(u64, u64)>> {
        &self.tracks
    }

    /// The addresses that it was loaded from, as often as it was.
    pub(super) fn looks(&self) -> &RefCell<Vec<u64>> {
        &self.looks
    }

    /// Where it was loaded from since this was last asked, if it was.
    pub(super) fn looked_at(&self) -> Option<Looked> {
        let looks = self.looks.borrow();
        let fresh = looks.get(self.told.replace(looks.len())..).unwrap_or_default();
        fresh.iter().copied().map(Looked::at).reduce(Looked::and)
    }

    /// Whether any byte of the page has been written.
    pub(super) fn is_written(&self, page: u64) -> bool {
        self.find(page).is_some()
    }

    /// How many pages have been written to.
    pub(super) fn pages_written(&self) -> usize {
        self.pages.len()
    }

    /// The numbers of the pages written to, in that order, without the first `skip`.
    pub(super) fn written_from(&self, skip: usize) -> impl Iterator<Item = u64> {
        self.pages.iter().skip(skip).map(|page| page.number)
    }

    /// Addresses of the target's 8-byte words, each aligned, that are now others than underneath.
    pub(super) fn changed(&self) -> Vec<u64> {
        let mut changed = Vec::new();
        for page in self.pages.iter().filter(|page| page.number < PRIVATE / PAGE as u64 && page.present.is_none()) {
            let (address, mut before) = (page.number * PAGE as u64, [0; PAGE]);
            if self.memory.copy(address, &mut before).is_ok() {
                let words = page.data.as_chunks::<8>().0.iter().zip(before.as_chunks::<8>().0).enumerate();
                let others = words.filter(|(_, (now, before))| now != before);
                changed.extend(others.map(|(index, _)| address + index as u64 * 8));
            }
        }
        changed
    }

    /// From now on, or no longer, nobody looks at what is read: it is only counted with.
    pub(super) fn set_counting(&self, counting: bool) {
        self.counting.set(counting);
    }

    /// Takes note that the word at `address` was a count of `value` at the least. Whether that can be said of it: it is one of
    /// the target's own and still there.
    pub(super) fn count(&self, address: u64, value: u64) -> bool {
        let mut before = [0; 8];
        if address >= PRIVATE || self.memory.copy(address, &mut before).is_err() {
            return false;
        }
        let lowered = u64::from_le_bytes(before).saturating_sub(value);
        self.memory.count(address, lowered.saturating_add(1));
        true
    }

    /// Loads a `size`-byte integer; unknown bytes come as poison.
    pub(super) fn load(&self, address: u64, size: u8) -> Result<Value, Why> {
        let mut buf = [0; 8];
        let poison = self.read(address, &mut buf[..usize::from(size)])?;
        Ok(Value { bits: u64::from_le_bytes(buf), poison: poison as u8 })
    }

    /// The same of what was put aside: to take it back is no look at it.
    pub(super) fn load_back(&self, address: u64, size: u8) -> Result<Value, Why> {
        let before = self.looks.borrow().len();
        let value = self.load(address, size);
        self.looks.borrow_mut().truncate(before);
        value
    }

    /// Stores the low `size` bytes of a value with their poison.
    pub(super) fn store(&mut self, address: u64, size: u8, value: Value) -> Result<(), Why> {
        self.write(address, &value.bits.to_le_bytes()[..usize::from(size)], u32::from(value.poison))
    }

    /// Reads at most [`WIDEST`] bytes and returns which of them are unknown.
    pub(super) fn read(&self, address: u64, buf: &mut [u8]) -> Result<u32, Why> {
        let offset = address as usize % PAGE;
        let poison = if offset + buf.len() <= PAGE {
            self.read_in_page(address, buf)?
        } else {
            let (low, high) = buf.split_at_mut(PAGE - offset);
            let next = address.checked_add(low.len() as u64).ok_or(Why::Memory(address))?;
            self.read_in_page(address, low)? | self.read_in_page(next, high)? << low.len()
        };
        let (value, except) = &self.watched;
        if *value != 0
            && let Some(word) = buf.chunks_exact(8).position(|word| word == value.to_le_bytes())
            && !except.contains(&address)
        {
            self.looks.borrow_mut().push(address.wrapping_add(word as u64 * 8));
        }
        if !self.tracked.is_empty() {
            for (index, word) in buf.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                if ranges::contains(&self.tracked, word) {
                    self.tracks.borrow_mut().push((address.wrapping_add(index as u64 * 8), word));
                }
            }
        }
        Ok(poison)
    }

    /// Writes at most [`WIDEST`] bytes, those of `poison` as unknown.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8], poison: u32) -> Result<(), Why> {
        let offset = address as usize % PAGE;
        if offset + bytes.len() <= PAGE {
            return self.write_in_page(address, bytes, poison);
        }
        let (low, high) = bytes.split_at(PAGE - offset);
        let next = address.checked_add(low.len() as u64).ok_or(Why::Memory(address))?;
        self.write_in_page(address, low, poison & (bits(low.len()) as u32))?;
        self.write_in_page(next, high, poison >> low.len())
    }

    fn find(&self, page: u64) -> Option<usize> {
        let slot = &self.recent[page as usize % RECENT];
        let (known, place) = slot.get();
        let place = if known == page {
            place
        } else {
            let place = self.index.get(&page).copied().unwrap_or(CLEAN);
            slot.set((page, place));
            place
        };
        (place != CLEAN).then_some(place as usize)
    }

    fn read_in_page(&self, address: u64, buf: &mut [u8]) -> Result<u32, Why> {
        let number = address / PAGE as u64;
        let Some(place) = self.find(number) else {
            if (PRIVATE..PRIVATE_END).contains(&address) {
                buf.fill(0);
                return Ok(bits(buf.len()) as u32);
            }
            let read =
                if self.counting.get() { self.memory.copy(address, buf) } else { self.memory.read(address, buf) };
            return read.map(|()| 0).map_err(|_| Why::Memory(address));
        };
        let page = &self.pages[place];
        let offset = address as usize % PAGE;
        if let Some(present) = &page.present {
            self.read_partial(page, present, address, buf)?;
        } else {
            if address < PRIVATE && !self.counting.get() {
                self.memory.look(address, buf.len());
            }
            buf.copy_from_slice(&page.data[offset..offset + buf.len()]);
        }
        Ok(page.poison.as_ref().map_or(0, |poison| get(poison, offset, buf.len()) as u32))
    }

    /// Reads from a page of which only what was written is there.
    fn read_partial(&self, page: &Page, present: &Bitmap, address: u64, buf: &mut [u8]) -> Result<(), Why> {
        let offset = address as usize % PAGE;
        let there = get(present, offset, buf.len());
        for (i, byte) in buf.iter_mut().enumerate() {
            if there >> i & 1 != 0 {
                *byte = page.data[offset + i];
            } else {
                // One by one: what cannot be read may lie right beside what was written.
                let at = address + i as u64;
                self.memory.read(at, std::slice::from_mut(byte)).map_err(|_| Why::Memory(address))?;
            }
        }
        Ok(())
    }

    fn write_in_page(&mut self, address: u64, bytes: &[u8], poison: u32) -> Result<(), Why> {
        let number = address / PAGE as u64;
        let place = match self.find(number) {
            Some(place) => place,
            None => self.copy_page(number)?,
        };
        let page = &mut self.pages[place];
        let offset = address as usize % PAGE;
        page.data[offset..offset + bytes.len()].copy_from_slice(bytes);
        let all = bits(bytes.len());
        let poison = u64::from(poison) & all;
        if let Some(present) = &mut page.present {
            put(present, offset, bytes.len(), all);
        }
        match &mut page.poison {
            Some(map) => put(map, offset, bytes.len(), poison),
            None if poison != 0 => {
                put(page.poison.insert(Box::new([0; PAGE / 64])), offset, bytes.len(), poison);
            }
            None => {}
        }
        Ok(())
    }

    /// Makes a page writable. A fresh private page is unknown throughout. Of a page that cannot be read (not resident, say)
    /// only what is written will be there.
    fn copy_page(&mut self, number: u64) -> Result<usize, Why> {
        let address = number * PAGE as u64;
        // Writes below are null pointers gone astray.
        if !(LOWEST..PRIVATE_END).contains(&address) {
            return Err(Why::Memory(address));
        }
        if self.pages.len() >= self.most_pages {
            return Err(Why::OverlayLimit);
        }
        let mut data = spare_page();
        let page = if address >= PRIVATE {
            data.fill(0);
            Page { number, data, present: None, poison: Some(Box::new([u64::MAX; PAGE / 64])) }
        } else if self.memory.copy(address, &mut data[..]).is_ok() {
            Page { number, data, present: None, poison: None }
        } else {
            Page { number, data, present: Some(Box::new([0; PAGE / 64])), poison: None }
        };
        let place = self.pages.len();
        self.pages.push(page);
        self.index.insert(number, place as u32);
        self.recent[number as usize % RECENT].set((number, place as u32));
        Ok(place)
    }
}

impl Drop for Overlay<'_> {
    fn drop(&mut self) {
        SPARE.with_borrow_mut(|spare| {
            let room = MOST_SPARE.saturating_sub(spare.len());
            spare.extend(self.pages.drain(..).take(room).map(|page| page.data));
        });
    }
}

thread_local! {
    /// Pages of runs that have ended, for the next ones.
    static SPARE: RefCell<Vec<Box<[u8; PAGE]>>> = const { RefCell::new(Vec::new()) };
}

/// Pages that are kept for the next run: few runs write to more.
const MOST_SPARE: usize = 32;

/// A page to be filled, with whatever it was last filled with.
fn spare_page() -> Box<[u8; PAGE]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new([0; PAGE]))
}

/// The low `length` bits (at most 64).
fn bits(length: usize) -> u64 {
    if length == 0 { 0 } else { u64::MAX >> (64 - length) }
}

/// `length` bits (at most [`WIDEST`]) from `offset` on.
fn get(map: &Bitmap, offset: usize, length: usize) -> u64 {
    let (word, bit) = (offset / 64, offset % 64);
    let mut found = map[word] >> bit;
    if bit + length > 64 {
        found |= map[word + 1] << (64 - bit);
    }
    found & bits(length)
}

/// Replaces `length` bits from `offset` on.
fn put(map: &mut Bitmap, offset: usize, length: usize, value: u64) {
    let (word, bit) = (offset / 64, offset % 64);
    map[word] = map[word] & !(bits(length) << bit) | value << bit;
    if bit + length > 64 {
        let rest = 64 - bit;
        map[word + 1] = map[word + 1] & !(bits(length) >> rest) | value >> rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::MemoryError;

    /// Readable from 0x20000 to 0x21800: the second page only half. Each byte is its address' low byte.
    struct Bytes;

    impl Memory for Bytes {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
            for (i, byte) in buf.iter_mut().enumerate() {
                let at = address + i as u64;
                if !(0x2_0000..0x2_1800).contains(&at) {
                    return Err(MemoryError::Unmapped(at));
                }
                *byte = at as u8;
            }
            Ok(())
        }
    }

    proptest! {
        /// Against the plainest model: one optional byte an address.
        #[test]
        fn reads_see_all_writes_and_their_poison(
            writes in prop::collection::vec((0x2_0f00_u64..0x2_1900, 1_usize..=WIDEST, any::<u8>(), any::<u32>()), 1..40),
            reads in prop::collection::vec((0x2_0f00_u64..0x2_1900, 1_usize..=WIDEST), 1..40),
        ) {
            let mut overlay = Overlay::new(&Bytes, 1 << 20);
            let mut model = FxHashMap::default();
            for (address, length, fill, poison) in writes {
                overlay.write(address, &vec![fill; length], poison).unwrap();
                for i in 0..length {
                    model.insert(address + i as u64, (fill, poison >> i & 1 != 0));
                }
            }
            for (address, length) in reads {
                let mut buf = vec![0; length];
                let expected: Option<Vec<(u8, bool)>> = (address..address + length as u64)
                    .map(|at| model.get(&at).copied().or_else(|| (at < 0x2_1800).then_some((at as u8, false))))
                    .collect();
                match (overlay.read(address, &mut buf), expected) {
                    (Ok(poison), Some(expected)) => {
                        for (i, (byte, unknown)) in expected.into_iter().enumerate() {
                            prop_assert_eq!(buf[i], byte);
                            prop_assert_eq!(poison >> i & 1 != 0, unknown);
                        }
                    }
                    (Err(_), None) => {}
                    (got, expected) => prop_assert!(false, "{:?} for {:?}", got, expected),
                }
            }
        }
    }

    #[test]
    fn private_memory_is_unknown_until_written() {
        let mut overlay = Overlay::new(&Bytes, 1 << 20);
        assert_eq!(overlay.load(PRIVATE + 64, 8).unwrap(), Value { bits: 0, poison: 0xff });
        overlay.store(PRIVATE + 64, 2, Value::known(0x1234)).unwrap();
        assert_eq!(overlay.load(PRIVATE + 64, 2).unwrap(), Value::known(0x1234));
        assert_eq!(overlay.load(PRIVATE + 64, 8).unwrap().poison, 0b1111_1100);
    }

    #[test]
    fn loads_of_the_watched_word_are_noticed() {
        let mut overlay = Overlay::new(&Bytes, 1 << 20);
        overlay.watch(0x5555_1234_5678, 0x2_0100..0x2_0200);
        overlay.store(0x2_0010, 8, Value::known(0x5555_1234_5678)).unwrap();
        overlay.store(0x2_0110, 8, Value::known(0x5555_1234_5678)).unwrap();
        overlay.load(0x2_0110, 8).unwrap();
        overlay.load(0x2_0008, 8).unwrap();
        overlay.load(0x2_0010, 4).unwrap();
        overlay.load_back(0x2_0010, 8).unwrap();
        assert_eq!(overlay.looked_at(), None);
        overlay.read(0x2_0008, &mut [0; 16]).unwrap();
        assert_eq!(overlay.looked_at(), Some(Looked::At(0x2_0010)));
        assert_eq!(overlay.looked_at(), None, "it has been told of");
        overlay.store(0x2_0008, 8, Value::known(0x5555_1234_5678)).unwrap();
        overlay.load(0x2_0010, 8).unwrap();
        overlay.load(0x2_0008, 8).unwrap();
        assert_eq!(overlay.looked_at(), Some(Looked::Several));
        overlay.store(PRIVATE, 8, Value::known(0x5555_1234_5678)).unwrap();
        overlay.load(PRIVATE, 8).unwrap();
        assert_eq!(overlay.looked_at(), Some(Looked::Own));
        overlay.load(0x2_0008, 8).unwrap();
        overlay.load(PRIVATE, 8).unwrap();
        assert_eq!(overlay.looked_at(), Some(Looked::At(0x2_0008)));
        assert_eq!(*overlay.looks().borrow(), [0x2_0010, 0x2_0010, 0x2_0008, PRIVATE, 0x2_0008, PRIVATE]);
    }

    #[test]
    fn a_write_nowhere_and_a_write_too_many_are_refused() {
        let mut overlay = Overlay::new(&Bytes, PAGE);
        assert_eq!(overlay.store(8, 8, Value::known(0)), Err(Why::Memory(0)));
        assert_eq!(overlay.store(u64::MAX - 7, 8, Value::known(0)), Err(Why::Memory(u64::MAX - 4095)));
        assert_eq!(overlay.store(u64::MAX, 8, Value::known(0)), Err(Why::Memory(u64::MAX)));
        overlay.store(0x2_0000, 8, Value::known(0)).unwrap();
        assert_eq!(overlay.store(0x2_2000, 8, Value::known(0)), Err(Why::OverlayLimit));
    }
}

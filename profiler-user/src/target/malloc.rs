//! What the GNU C library's `malloc` has handed out: where each piece of its heaps begins and ends.
//!
//! Its heaps are rows of chunks, each with its own length before it, so a row shows itself: who goes from length to length and
//! comes out at the very end of the heap has met every chunk. Nothing else is taken for a heap, other allocators' memory least of
//! all.
//!
//! Source: malloc/malloc.c (`struct malloc_chunk`, `sysmalloc`) and malloc/arena.c (`heap_info`, `HEAP_MAX_SIZE`) of glibc 2.17
//! to 2.42, `x86_64`. A chunk begins with a word that belongs to the one before it while that is in use, and the word of its
//! own length, whose lowest bit says whether that is so; what was handed out begins behind these two.

use std::ops::Range;

use super::{AddressSpace, Mapping};

/// Bytes to which chunks are aligned, and of the two words that each begins with.
const ALIGN: u64 = 16;
/// Bits of the word of a chunk's length that are marks.
const MARKS: u64 = 7;
/// The mark that the chunk before is in use.
const BEFORE_IN_USE: u64 = 1;
/// The mark that a chunk lies in a heap of [`HEAP`] bytes.
const OTHER_ARENA: u64 = 4;
/// Bytes of the shortest chunk.
const SHORTEST: u64 = 32;
/// Bytes to which heaps beside the first are aligned, and that they may grow to.
const HEAP: u64 = 64 << 20;
/// Bytes from the start of such a heap to the first chunk, at most: the heap's own words, and those of its arena.
const HEAD: u64 = 4096;
/// Bytes that are read at a time.
const PIECE: u64 = 64 << 10;

/// The heaps of a process, as far as they could be read.
#[derive(Debug, Default)]
pub struct Chunks {
    /// By address; they do not overlap.
    rows: Vec<Row>,
}

/// The chunks of a heap.
#[derive(Debug)]
struct Row {
    range: Range<u64>,
    /// Where the bytes begin that each has for its user, by address; the lowest bit is set where it is in use.
    starts: Vec<u64>,
}

/// A piece of memory that was handed out, or that waits to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes. At the last word an allocator points too: there the next chunk begins.
    pub range: Range<u64>,
    /// Whether it was handed out, as far as its neighbour says: small ones that were given back count as in use for some time.
    pub in_use: bool,
}

impl Chunks {
    /// Reads those of all heaps.
    pub fn of(memory: &AddressSpace) -> Self {
        let mut rows = Vec::new();
        for mapping in memory.mappings().iter().filter(|mapping| mapping.write && mapping.is_anonymous()) {
            let mut reader = Reader { memory, at: 0, bytes: Vec::new() };
            if mapping.label.as_deref() == Some("heap") {
                rows.extend(reader.row(mapping.range.clone()));
            } else {
                reader.arenas(mapping, &mut rows);
            }
        }
        Self { rows }
    }

    /// The chunk that `address` lies in; `None` also for a chunk's own length.
    pub fn at(&self, address: u64) -> Option<Chunk> {
        let row = &self.rows[self.rows.partition_point(|row| row.range.end <= address)..];
        let row = row.first().filter(|row| row.range.contains(&address))?;
        let next = row.starts.partition_point(|start| start & !1 <= address);
        let start = *row.starts.get(next.checked_sub(1)?)?;
        let end = row.starts.get(next).map_or(row.range.end, |start| (start & !1) - 8);
        let range = start & !1..end;
        range.contains(&address).then_some(Chunk { range, in_use: start & 1 == 1 })
    }
}

/// Reads words of a heap in pieces.
struct Reader<'m> {
    memory: &'m AddressSpace,
    at: u64,
    bytes: Vec<u8>,
}

impl Reader<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        if !(self.at..(self.at + self.bytes.len() as u64).saturating_sub(7)).contains(&address) {
            let end = self.memory.mappings().at(address)?.range.end;
            self.at = address;
            self.bytes.resize(PIECE.min(end - address) as usize, 0);
            if self.memory.read_bulk(address, &mut self.bytes).is_err() {
                self.bytes.clear();
                return None;
            }
        }
        let word = self.bytes.get((address - self.at) as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*word))
    }

    /// Adds the heaps beside the first that lie in a mapping.
    fn arenas(&mut self, mapping: &Mapping, rows: &mut Vec<Row>) {
        let mut heap = mapping.range.start.next_multiple_of(HEAP);
        while mapping.range.contains(&heap) {
            // `heap_info`: the arena, the heap before, and how many bytes are in use.
            let limit = mapping.range.end.min(heap + HEAP);
            let size = self.word(heap + 2 * 8).filter(|size| *size > HEAD && *size <= limit - heap);
            if let (Some(arena), Some(size)) = (self.word(heap), size) {
                let end = heap + size;
                // The first heap of an arena has the arena's words too. Where those end differs between versions, and shows.
                let from = if (heap..end - HEAD).contains(&arena) { arena } else { heap };
                let begins = (from.next_multiple_of(ALIGN)..from + HEAD).step_by(ALIGN as usize);
                let mut begins = begins.filter(|first| self.is_first(*first)).collect::<Vec<_>>().into_iter();
                rows.extend(begins.find_map(|first| self.row(first..end)));
            }
            heap += HEAP;
        }
    }

    /// Whether the first chunk of another arena's heap may begin there.
    fn is_first(&mut self, chunk: u64) -> bool {
        let length = self.word(chunk + 8);
        length.is_some_and(|length| length & (BEFORE_IN_USE | OTHER_ARENA) == BEFORE_IN_USE | OTHER_ARENA)
    }

    /// The heap from its first chunk to its end, if all of it is such a row.
    fn row(&mut self, range: Range<u64>) -> Option<Row> {
        let (mut chunk, mut starts) = (range.start, Vec::new());
        while chunk < range.end {
            let word = self.word(chunk + 8)?;
            let length = word & !MARKS;
            if word & BEFORE_IN_USE == 0 {
                // The one before is free, and says in its last word how long it is.
                let before = starts.last_mut()?;
                *before &= !1;
                (self.word(chunk)? == chunk + ALIGN - *before).then_some(())?;
            }
            starts.push((chunk + ALIGN) | 1);
            let left = range.end - chunk;
            // What was the last chunk of a heap that could not grow ends with two that are too short.
            if length < SHORTEST && left <= SHORTEST {
                break;
            }
            (length >= SHORTEST && length.is_multiple_of(ALIGN) && length <= left).then_some(())?;
            chunk += length;
        }
        // From the last one all others are taken.
        *starts.last_mut()? &= !1;
        Some(Row { range, starts })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        sync::Arc,
    };

    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{
            Mappings, Process,
            image::{Bytes, Image, Stretch},
            threads::standstill,
        },
        *,
    };

    /// A heap at this address with those words.
    fn heap(start: u64, words: &[u64]) -> AddressSpace {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let range = start..start + bytes.len() as u64;
        let (device, label) = ((0, 0), (start < HEAP).then(|| "heap".to_owned()));
        let mapping = Mapping {
            range: range.clone(),
            read: true,
            write: true,
            execute: false,
            shared: false,
            offset: 0,
            device,
            inode: 0,
            path: None,
            label,
        };
        let image = Image::new(vec![Stretch { range, offset: 0 }], Bytes::Owned(Arc::new(bytes)));
        AddressSpace::kept(Arc::new(image), Mappings::new(vec![mapping]), Vec::new())
    }

    /// One of 32 bytes in use, a free one of 48, another of 32, and the rest.
    fn words() -> Vec<u64> {
        let mut words = vec![0; 32];
        words[1] = 32 + BEFORE_IN_USE;
        words[4 + 1] = 48 + BEFORE_IN_USE;
        (words[10], words[10 + 1]) = (48, 32);
        words[14 + 1] = (32 - 14) * 8 + BEFORE_IN_USE;
        words
    }

    #[test]
    fn a_row_of_chunks_shows_where_each_begins() {
        let start = 0x10_0000;
        let chunks = Chunks::of(&heap(start, &words()));
        let at = |word: u64| chunks.at(start + word * 8).map(|chunk| ((chunk.range.start - start) / 8, chunk.in_use));
        assert_eq!([at(2), at(3), at(4)], [Some((2, true)); 3], "also the first word of the next one");
        assert_eq!([at(1), at(5), at(15)], [None; 3], "a length is nobody's");
        assert_eq!([at(6), at(10)], [Some((6, false)); 2]);
        assert_eq!(at(12), Some((12, true)));
        assert_eq!(at(31), Some((16, false)), "what all others are taken from");
        assert_eq!([at(32), chunks.at(start - 8).map(|_| (0, true))], [None; 2]);
    }

    #[test]
    fn what_is_no_row_to_its_end_is_no_heap() {
        for (word, value) in [(1, 0x29), (1, 0x11), (5, 0x30), (10, 0x20), (15, 0x10_0001), (15, 0x41)] {
            let mut words = words();
            words[word] = value;
            assert!(Chunks::of(&heap(0x10_0000, &words)).rows.is_empty(), "{value} at {word}");
        }
    }

    #[test]
    fn a_heap_of_another_arena_is_found_behind_the_arenas_own_words() {
        let start = 3 * HEAP;
        // The arena is not read; where its words end is searched for.
        let head = 0x30 / 8 + 0x898_usize.next_multiple_of(16) / 8;
        let mut all = vec![0; head];
        all.extend(words());
        all.extend(vec![0; 1024]);
        let end = all.len();
        all[head + 15] = ((end - head - 14) * 8) as u64 + BEFORE_IN_USE;
        (all[0], all[2]) = (start + 0x30, end as u64 * 8);
        for word in [1, 5, 11] {
            all[head + word] |= OTHER_ARENA;
        }
        let chunks = Chunks::of(&heap(start, &all));
        let first = start + head as u64 * 8 + ALIGN;
        assert_eq!(chunks.at(first), Some(Chunk { range: first..first + 24, in_use: true }));
        assert_eq!(chunks.at(start + 0x30), None, "the arena is no chunk");
    }

    proptest! {
        /// Whatever stands there, it is read to an end, and every chunk that is found lies in a heap.
        #[test]
        fn any_words_are_read(
            words in vec(prop_oneof![0_u64..80, (0_u64..40).prop_map(|units| units * 16 + 1), any::<u64>()], 8..200),
            arena in any::<bool>(),
            at in any::<u16>(),
        ) {
            let start = if arena { 3 * HEAP } else { 0x10_0000 };
            let bytes = words.len() as u64 * 8;
            let chunks = Chunks::of(&heap(start, &words));
            let address = start + u64::from(at) % (bytes + 64);
            if let Some(Chunk { range, .. }) = chunks.at(address) {
                prop_assert!(range.contains(&address) && range.start >= start && range.end <= start + bytes);
            }
        }
    }

    #[test]
    fn the_heap_of_another_program_is_read() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat is everywhere");
        let pid = cat.id().cast_signed();
        let chunks = std::iter::repeat_with(|| {
            let asleep = standstill(pid);
            let process = Process::open(pid).expect("a child of ours");
            let memory = process.memory(process.mappings().expect("ours"), Vec::new()).expect("ours");
            let chunks = Chunks::of(&memory);
            (asleep.is_some() && asleep == standstill(pid) && !chunks.rows.is_empty()).then_some(chunks)
        });
        let chunks = chunks.take(1000).flatten().next();
        cat.kill().and_then(|()| cat.wait()).expect("it is ours");
        let row = &chunks.expect("it waits for its input, and has allocated").rows[0];
        assert!(row.starts.len() > 3 && row.starts.windows(2).all(|pair| pair[0] & !1 < pair[1] & !1));
    }
}

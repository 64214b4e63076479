//! Addresses in memory, wherever they stand.
//!
//! No word of 64 bits has to be an address for code to come to something by it: there may be marks in the bits that no address
//! needs, and in a packed record or in a buffer of bytes it begins where no word does. So any six bytes count.

use std::ops::Range;

/// Bytes that an address needs.
const NEEDED: usize = 6;
/// The bits of an address.
const ADDRESS: u64 = (1 << (8 * NEEDED)) - 1;
/// Bytes of it that what is searched may end with.
const SEAM: usize = NEEDED - 1;

/// All that may be an address in a word.
pub fn of_word(word: u64) -> [u64; 3] {
    [0, 8, 16].map(|marks| word >> marks & ADDRESS)
}

fn all(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.array_windows::<NEEDED>().map(|[a, b, c, d, e, f]| u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0]))
}

/// A search for addresses in a range.
pub struct Addresses {
    within: Range<u64>,
    /// Where what was searched last has ended, and with what.
    end: u64,
    tail: [u8; SEAM],
}

impl Addresses {
    /// Of all in `within`.
    pub fn new(within: Range<u64>) -> Self {
        Self { within, end: 0, tail: [0; SEAM] }
    }

    /// Calls `visit` with where each stands in `bytes`, which begin at `start`, and with the address. One that begins at the end of what was
    /// searched before is found too, where that is right in front.
    pub fn each(&mut self, start: u64, bytes: &[u8], mut visit: impl FnMut(u64, u64)) {
        let (Some(first), Some(last)) = (bytes.first_chunk::<SEAM>(), bytes.last_chunk::<SEAM>()) else { return };
        if start == self.end {
            let seam = [self.tail, *first].concat();
            self.search(start - SEAM as u64, &seam, &mut visit);
        }
        self.search(start, bytes, &mut visit);
        (self.end, self.tail) = (start + bytes.len() as u64, *last);
    }

    fn search(&self, start: u64, bytes: &[u8], visit: &mut impl FnMut(u64, u64)) {
        for (index, address) in all(bytes).enumerate() {
            if self.within.contains(&address) {
                visit(start + index as u64, address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(chunks: &[(u64, &[u8])]) -> Vec<(u64, u64)> {
        let mut addresses = Addresses::new(0x5555_0000_1000..0x5555_0000_2000);
        let mut found = Vec::new();
        for (start, bytes) in chunks {
            addresses.each(*start, bytes, |at, address| found.push((at, address)));
        }
        found
    }

    #[test]
    fn marks_and_places_do_not_hide_an_address() {
        let address = 0x5555_0000_1234_u64;
        for (word, at, seen) in [
            (address, 8, address),
            (address | 3 << 48, 8, address),
            (address << 16 | 7, 10, address),
            (address | 1, 8, address | 1),
        ] {
            assert_eq!(
                found(&[(0x40, &[[0; 8], word.to_le_bytes(), [0; 8]].concat())]),
                [(0x40 + at, seen)],
                "{word:#x}"
            );
        }
        let packed = [&[7, 0, 1][..], &address.to_le_bytes(), &[9; 4]].concat();
        assert_eq!(found(&[(0x40, &packed)]), [(0x43, address)]);
        assert_eq!(found(&[(0x40, &(address + 0x1000).to_le_bytes())]), []);
    }

    #[test]
    fn an_address_may_stand_between_two_reads() {
        let address = 0x5555_0000_1234_u64;
        let whole = [[0; 6], address.to_le_bytes()[..6].try_into().unwrap(), [0; 6]].concat();
        for cut in 5..=13 {
            let (before, after) = whole.split_at(cut);
            assert_eq!(found(&[(0x40, before), (0x40 + cut as u64, after)]), [(0x46, address)], "{cut}");
        }
        assert_eq!(found(&[(0x40, &whole[..9]), (0x80, &whole[9..])]), [], "they do not touch");
    }
}

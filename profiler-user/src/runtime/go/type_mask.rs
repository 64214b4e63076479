//! Which words of a type are pointers (internal/abi/type.go; runtime/type.go, `buildGCMask`; Go 1.22 to 1.27).

use super::bytes::{read_vec, u64_at};
use crate::target::Memory;

/// Offsets in a type (internal/abi, `Type`).
const PTRDATA: u64 = 8;
const FLAGS: u64 = 20;
const KIND: u64 = 23;
const GCDATA: u64 = 32;
const SIZE: u64 = 48;
/// Offsets in an array's type, and in a struct's and a field's.
const ARRAY_ELEMENT: u64 = 48;
const ARRAY_LENGTH: u64 = 64;
const STRUCT_FIELDS: u64 = 56;
const FIELD_SIZE: u64 = 24;
const FIELD_TYPE: u64 = 8;
const FIELD_OFFSET: u64 = 16;
/// From 1.24 on: the mask is made when the collector first needs it, and `gcdata` points to where it will be.
const FLAG_MASK_ON_DEMAND: u8 = 1 << 4;
/// Before: `gcdata` is a program that makes the mask.
const KIND_GC_PROGRAM: u8 = 1 << 6;
/// The bits of a kind that say which it is, and two of those.
const KIND_MASK: u8 = (1 << 5) - 1;
const KIND_ARRAY: u8 = 17;
const KIND_STRUCT: u8 = 25;
/// The largest type that is believed, in bytes.
const LARGEST: u64 = 1 << 30;
/// Parts of a type that are looked at, fields in one struct, and how deep they lie in each other.
const MOST_PARTS: usize = 1 << 20;
const MOST_FIELDS: u64 = 1 << 16;
const DEEPEST: usize = 64;

/// Which words of a type are pointers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mask {
    /// Words of the type; at least one.
    pub(super) words: u64,
    /// A bit for each up to the last pointer.
    bits: Vec<u8>,
}

impl Mask {
    /// The mask of the type at an address; `None` where it cannot be told.
    pub(super) fn read(memory: &dyn Memory, address: u64) -> Option<Self> {
        let ty = Type::read(memory, address)?;
        let mut mask =
            Self { words: ty.size / 8, bits: vec![0; usize::try_from((ty.with_pointers / 8).div_ceil(8)).ok()?] };
        mask.add(memory, &ty, 0, DEEPEST, &mut { MOST_PARTS })?;
        (mask.words > 0).then_some(mask)
    }

    /// Whether a word is a pointer.
    pub(super) fn has(&self, word: u64) -> bool {
        self.bits.get((word / 8) as usize).is_some_and(|byte| byte >> (word % 8) & 1 == 1)
    }

    /// Adds a type that lies at a word: out of the mask that it has, or part by part where that is not made yet.
    fn add(&mut self, memory: &dyn Memory, ty: &Type, at: u64, deep: usize, parts: &mut usize) -> Option<()> {
        *parts = parts.checked_sub(1)?;
        let words = ty.with_pointers / 8;
        if let Some(mask) = ty.mask {
            let bits = read_vec(memory, mask, words.div_ceil(8), LARGEST).ok()?;
            for word in (0..words).filter(|word| bits[(word / 8) as usize] >> (word % 8) & 1 == 1) {
                self.set(at.checked_add(word)?)?;
            }
            return Some(());
        }
        let deep = deep.checked_sub(1)?;
        match ty.kind {
            KIND_ARRAY => {
                let element = Type::read(memory, memory.read_u64(ty.address.checked_add(ARRAY_ELEMENT)?).ok()?)?;
                let length = memory.read_u64(ty.address.checked_add(ARRAY_LENGTH)?).ok()?;
                for index in 0..length {
                    let at = at.checked_add(index.checked_mul(element.size / 8)?)?;
                    self.add(memory, &element, at, deep, parts)?;
                }
            }
            KIND_STRUCT => {
                let header = read_vec(memory, ty.address.checked_add(STRUCT_FIELDS)?, 16, 16).ok()?;
                let length = u64_at(&header, 8)?.checked_mul(FIELD_SIZE)?;
                let fields = read_vec(memory, u64_at(&header, 0)?, length, MOST_FIELDS * FIELD_SIZE).ok()?;
                for start in (0..length).step_by(FIELD_SIZE as usize) {
                    let field = Type::read(memory, u64_at(&fields, start + FIELD_TYPE)?)?;
                    if field.with_pointers > 0 {
                        let at = at.checked_add(u64_at(&fields, start + FIELD_OFFSET)? / 8)?;
                        self.add(memory, &field, at, deep, parts)?;
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn set(&mut self, word: u64) -> Option<()> {
        *self.bits.get_mut((word / 8) as usize)? |= 1 << (word % 8);
        Some(())
    }
}

/// The beginning of a type's description.
struct Type {
    address: u64,
    size: u64,
    /// Bytes up to the end of the last pointer.
    with_pointers: u64,
    kind: u8,
    /// Where its mask is; `None` where it has yet to be made.
    mask: Option<u64>,
}

impl Type {
    fn read(memory: &dyn Memory, address: u64) -> Option<Self> {
        let record = read_vec(memory, address, SIZE, SIZE).ok()?;
        let (size, with_pointers) = (u64_at(&record, 0)?, u64_at(&record, PTRDATA)?);
        if with_pointers > size || size > LARGEST {
            return None;
        }
        let (flags, kind, gcdata) = (record[FLAGS as usize], record[KIND as usize], u64_at(&record, GCDATA)?);
        let mask = if flags & FLAG_MASK_ON_DEMAND != 0 {
            memory.read_u64(gcdata).ok().filter(|mask| *mask != 0)
        } else {
            (kind & KIND_GC_PROGRAM == 0).then_some(gcdata)
        };
        Some(Self { address, size, with_pointers, kind: kind & KIND_MASK, mask })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::target::MemoryError;

    const KIND_POINTER: u64 = 22;

    /// Words by address.
    #[derive(Default)]
    struct Types(BTreeMap<u64, u64>);

    impl Memory for Types {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
            for (index, byte) in buf.iter_mut().enumerate() {
                let at = address.checked_add(index as u64).ok_or(MemoryError::Unmapped(address))?;
                let word = self.0.get(&(at & !7)).ok_or(MemoryError::Unmapped(at))?;
                *byte = word.to_le_bytes()[(at & 7) as usize];
            }
            Ok(())
        }
    }

    impl Types {
        fn words(&mut self, at: u64, words: &[u64]) {
            self.0.extend(words.iter().enumerate().map(|(index, word)| (at + index as u64 * 8, *word)));
        }

        /// A type at an address with its size and pointers in words, flags, kind and `gcdata`.
        fn ty(&mut self, at: u64, (size, pointers): (u64, u64), (flags, kind): (u64, u64), gcdata: u64) {
            self.words(at, &[size * 8, pointers * 8, flags << 32 | kind << 56, 0, gcdata, 0]);
        }
    }

    const ON_DEMAND: u64 = 1 << 4;

    /// A struct `{ number, [3]pair, pointer }` with `pair { pointer, number }`, without masks but for those of the smallest.
    fn nested() -> Types {
        let mut types = Types::default();
        let (number, pointer, pair, array, whole, masks) = (0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000);
        types.words(masks, &[1, 0]);
        types.ty(number, (1, 0), (0, 11), 0);
        types.ty(pointer, (1, 1), (0, KIND_POINTER), masks);
        types.ty(pair, (2, 1), (0, u64::from(KIND_STRUCT)), masks);
        types.ty(array, (6, 5), (ON_DEMAND, u64::from(KIND_ARRAY)), masks + 8);
        types.words(array + ARRAY_ELEMENT, &[pair, 0, 3]);
        types.ty(whole, (8, 8), (ON_DEMAND, u64::from(KIND_STRUCT)), masks + 8);
        types.words(whole + SIZE, &[0, 0x7000, 3, 3]);
        types.words(0x7000, &[0, number, 0, 0, array, 8, 0, pointer, 56]);
        types
    }

    fn pointers(mask: &Mask) -> Vec<u64> {
        (0..mask.words).filter(|word| mask.has(*word)).collect()
    }

    #[test]
    fn a_mask_that_is_not_made_yet_is_made_of_the_parts() {
        let mask = Mask::read(&nested(), 0x5000).expect("it can be told");
        assert_eq!((mask.words, pointers(&mask)), (8, vec![1, 3, 5, 7]));
        let mask = Mask::read(&nested(), 0x4000).expect("it can be told");
        assert_eq!((mask.words, pointers(&mask)), (6, vec![0, 2, 4]));
    }

    #[test]
    fn a_mask_that_was_made_is_taken() {
        let mut types = nested();
        types.words(0x6008, &[0x8000]);
        types.words(0x8000, &[0b1000_0001]);
        let mask = Mask::read(&types, 0x5000).expect("it can be told");
        assert_eq!(pointers(&mask), [0, 7]);
    }

    #[test]
    fn a_program_that_makes_a_mask_is_not_taken_for_one() {
        let mut types = nested();
        for (ty, words, kind) in [(0x4000, (6, 5), KIND_ARRAY), (0x5000, (8, 8), KIND_STRUCT)] {
            types.ty(ty, words, (0, u64::from(kind | KIND_GC_PROGRAM)), 0x9000);
        }
        types.words(0x9000, &[u64::MAX]);
        let mask = Mask::read(&types, 0x5000).expect("it can be told");
        assert_eq!(pointers(&mask), [1, 3, 5, 7]);
    }

    #[test]
    fn types_that_cannot_be_are_not_believed() {
        // More pointers than words; an array of itself; a part past the end; a mask on demand of what is no aggregate.
        let mut types = nested();
        types.ty(0x4000, (6, 7), (ON_DEMAND, u64::from(KIND_ARRAY)), 0x6008);
        assert_eq!(Mask::read(&types, 0x5000), None);
        let mut types = nested();
        types.words(0x4000 + ARRAY_ELEMENT, &[0x4000, 0, u64::MAX]);
        assert_eq!(Mask::read(&types, 0x5000), None);
        let mut types = nested();
        types.words(0x7000 + 7 * 8, &[0, 1 << 40]);
        assert_eq!(Mask::read(&types, 0x5000), None);
        let mut types = nested();
        types.ty(0x2000, (1, 1), (ON_DEMAND, KIND_POINTER), 0x6008);
        assert_eq!(Mask::read(&types, 0x5000), None);
        assert_eq!(Mask::read(&types, 0xdead_0000), None);
    }
}

//! A small memory for tests of what reads words.

use crate::target::{Memory, MemoryError};

/// These words, from 0x1000 on, and nothing else; they are read one at a time.
pub(super) struct Words(pub(super) &'static [u64]);

impl Memory for Words {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let word = address.checked_sub(0x1000).and_then(|offset| self.0.get(offset as usize / 8));
        buf.copy_from_slice(&word.ok_or(MemoryError::Unmapped(address))?.to_le_bytes());
        Ok(())
    }
}

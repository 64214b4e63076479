//! Reading structures that lie in a byte slice or in the target, without trust in what they say.

use crate::target::{Memory, MemoryError};

/// The word at `at`.
pub(super) fn u64_at(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// The half word at `at`.
pub(super) fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// `length` bytes at `address`; refuses what is longer than `most`.
pub(super) fn read_vec(memory: &dyn Memory, address: u64, length: u64, most: u64) -> Result<Vec<u8>, MemoryError> {
    if length > most {
        return Err(MemoryError::Unmapped(address));
    }
    let mut bytes = vec![0; length as usize];
    memory.read(address, &mut bytes)?;
    Ok(bytes)
}

/// The text up to the next zero byte; empty past the end.
pub(super) fn c_string(bytes: &[u8], at: u32) -> &[u8] {
    /// Longer names are cut.
    const LONGEST: usize = 4096;
    let rest = bytes.get(at as usize..).unwrap_or_default();
    let rest = &rest[..rest.len().min(LONGEST)];
    &rest[..memchr::memchr(0, rest).unwrap_or(rest.len())]
}

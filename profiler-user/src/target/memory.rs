//! Reading the target's address space.

use thiserror::Error;

/// Below this nothing is mapped (`vm.mmap_min_addr`).
pub const LOWEST: u64 = 0x1_0000;

/// What counts something in a process counts to this at most: half of where the counts of an `Arc` end the program.
pub const HIGHEST_COUNT: u64 = 1 << 62;

/// A read that did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The range is not mapped, not readable, or not resident.
    #[error("no memory to read at {0:#x}")]
    Unmapped(u64),
    /// The process has gone.
    #[error("the process has gone")]
    Gone,
    /// The kernel refused.
    #[error("not allowed to read the process' memory")]
    Denied,
}

/// Bytes of an address space, wherever they come from: a live process, a core file, a capture, a test.
pub trait Memory {
    /// Fills `buf` from `address` on, or reads nothing that may be relied upon.
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError>;

    /// The same for bytes that may never be looked at: [`Memory::look`] tells of those that are.
    fn copy(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.read(address, buf)
    }

    /// Takes note that bytes are looked at which were copied before.
    fn look(&self, address: u64, length: usize) {
        let _ = (address, length);
    }

    /// Takes note that the 8-byte word at `address` was used as a count alone, of which nothing shows but that it did not come
    /// to 0: so it would have been with any value from `lowest` to [`HIGHEST_COUNT`].
    fn count(&self, address: u64, lowest: u64) {
        let _ = lowest;
        self.look(address, 8);
    }

    /// The little-endian 8-byte word at `address`.
    fn read_u64(&self, address: u64) -> Result<u64, MemoryError> {
        let mut buf = [0; 8];
        self.read(address, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// The little-endian 4-byte word at `address`.
    fn read_u32(&self, address: u64) -> Result<u32, MemoryError> {
        let mut buf = [0; 4];
        self.read(address, &mut buf)?;
        Ok(u32::from_le_bytes(buf))
    }

    /// The byte at `address`.
    fn read_u8(&self, address: u64) -> Result<u8, MemoryError> {
        let mut buf = [0; 1];
        self.read(address, &mut buf)?;
        Ok(buf[0])
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(address, buf)
    }

    fn copy(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).copy(address, buf)
    }

    fn look(&self, address: u64, length: usize) {
        (**self).look(address, length);
    }

    fn count(&self, address: u64, lowest: u64) {
        (**self).count(address, lowest);
    }
}

//! A file's bytes, shared by all that reads them.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of some bytes that never change, and a share in their owner: cheap to clone and to cut.
#[derive(Clone)]
pub struct Bytes {
    /// Points into what `owner` lends; see [`Bytes::new`].
    slice: &'static [u8],
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl Bytes {
    /// All bytes of `owner`: a memory map, a vector.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let slice: *const [u8] = (*owner).as_ref();
        // SAFETY: `as_ref` may lend these bytes for as long as the owner is alive and only shared. Our share keeps it
        // alive and makes `Arc::get_mut` fail for everybody else, and `slice` never leaves this type for longer than a
        // borrow of it, except through the unsafe `detached`.
        let slice = unsafe { &*slice };
        Self { slice, owner }
    }

    /// The bytes at `range`, or `None` where it leaves them.
    pub fn cut(&self, range: Range<usize>) -> Option<Self> {
        Some(Self { slice: self.slice.get(range)?, owner: Arc::clone(&self.owner) })
    }

    /// The bytes, freed of the borrow.
    ///
    /// # Safety
    /// Whoever takes the slice keeps a clone of `self` for as long as anything can still reach the slice.
    pub(super) unsafe fn detached(&self) -> &'static [u8] {
        self.slice
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.slice
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.slice.len())
    }
}

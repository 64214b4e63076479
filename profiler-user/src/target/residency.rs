//! Which pages of the target are in memory: reading another would make the kernel fetch and charge it.
//!
//! Source: `Documentation/admin-guide/mm/pagemap.rst`: one 64-bit word a page, bit 63 present, bit 62 swapped.

use std::{cell::RefCell, fs::File, os::unix::fs::FileExt};

use rustc_hash::FxHashMap;

/// Bytes of a page on x86-64.
pub(super) const PAGE: u64 = 4096;

/// Pages whose pagemap words are read in one go.
const BATCH: u64 = 512;

/// What the kernel says of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residency {
    /// In memory.
    Present,
    /// In swap: to read it would bring it back.
    Swapped,
    /// Never touched, or dropped: its content is that of its file, or zero.
    Absent,
}

/// `/proc/PID/pagemap`, read in batches and remembered for the life of one view of memory.
pub(super) struct PageMap {
    file: File,
    batches: RefCell<FxHashMap<u64, Box<[u64]>>>,
}

impl PageMap {
    pub(super) fn new(file: File) -> Self {
        Self { file, batches: RefCell::default() }
    }

    /// The residency of the page that contains `address`; `None` where the kernel does not say.
    pub(super) fn at(&self, address: u64) -> Option<Residency> {
        let page = address / PAGE;
        let batch = page / BATCH;
        let mut batches = self.batches.borrow_mut();
        let words = batches.entry(batch).or_insert_with(|| self.read(batch));
        let word = *words.get((page % BATCH) as usize)?;
        Some(if word >> 63 & 1 == 1 {
            Residency::Present
        } else if word >> 62 & 1 == 1 {
            Residency::Swapped
        } else {
            Residency::Absent
        })
    }

    pub(super) fn forget(&self) {
        self.batches.borrow_mut().clear();
    }

    fn read(&self, batch: u64) -> Box<[u64]> {
        let mut bytes = vec![0; BATCH as usize * 8];
        let got = self.file.read_at(&mut bytes, batch * BATCH * 8).unwrap_or(0);
        bytes[..got / 8 * 8].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
    }
}

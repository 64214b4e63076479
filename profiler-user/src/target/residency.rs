//! Which pages of the target are in memory: reading another would make the kernel fetch and charge it.
//!
//! Source: `Documentation/admin-guide/mm/pagemap.rst`: one 64-bit word a page, bit 63 present, bit 62 swapped.

use std::{cell::RefCell, fs::File, os::unix::fs::FileExt, sync::Arc};

use rustc_hash::FxHashMap;

/// Bytes of a page on x86-64.
pub(crate) const PAGE: u64 = 4096;

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
///
/// The file is its owner's alone: `CAP_SYS_PTRACE` opens the memory of another user's process, but not this. Without it
/// every page counts as present, and untouched ones get the kernel's shared page of zeros when they are read.
pub(super) struct PageMap {
    file: Option<Arc<File>>,
    batches: RefCell<FxHashMap<u64, Box<[u64]>>>,
}

impl PageMap {
    pub(super) fn new(file: Option<File>) -> Self {
        Self { file: file.map(Arc::new), batches: RefCell::default() }
    }

    /// The same, asked anew.
    pub(super) fn another(&self) -> Self {
        Self { file: self.file.clone(), batches: RefCell::default() }
    }

    /// The residency of the page that contains `address`; `None` where the kernel does not say.
    pub(super) fn at(&self, address: u64) -> Option<Residency> {
        let Some(file) = &self.file else { return Some(Residency::Present) };
        let page = address / PAGE;
        let batch = page / BATCH;
        let mut batches = self.batches.borrow_mut();
        let words = batches.entry(batch).or_insert_with(|| read(file, batch));
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
}

fn read(file: &File, batch: u64) -> Box<[u64]> {
    let mut bytes = vec![0; BATCH as usize * 8];
    let got = file.read_at(&mut bytes, batch * BATCH * 8).unwrap_or(0);
    bytes[..got / 8 * 8].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

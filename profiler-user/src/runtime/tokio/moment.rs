//! What a read needs of the moment it is made at: the clock, and what the kernel watches for the process.

use std::cell::OnceCell;

use rustc_hash::FxHashMap;

use crate::target;

/// Bytes from what the owners of a registration point at to its record: none for a reference, and for an `Arc` its two counts,
/// or more where the record is aligned to two cache lines.
const TO_RECORD: [u64; 3] = [0, 16, 128];
/// The tokens below are small numbers: the runtime's own descriptors.
const LOWEST: u64 = 0x1_0000;

/// See the module's text.
#[derive(Clone, Default)]
pub(super) struct Moment {
    now: OnceCell<u64>,
    descriptors: OnceCell<FxHashMap<u64, i32>>,
}

impl Moment {
    /// Nanoseconds of `CLOCK_MONOTONIC`, the clock of `std::time::Instant`; 0 where it cannot be read.
    pub(super) fn now_ns(&self) -> u64 {
        *self.now.get_or_init(|| {
            let now = nix::time::ClockId::CLOCK_MONOTONIC.now();
            now.map_or(0, |now| (now.tv_sec() as u64).saturating_mul(1_000_000_000) + now.tv_nsec() as u64)
        })
    }

    /// The descriptor whose record one of `words` points at, behind that word: tokio gives the kernel that record's address
    /// (`ScheduledIo::token` in tokio/src/runtime/io/scheduled_io.rs, 1.38 to 1.54).
    pub(super) fn descriptor(&self, pid: i32, words: impl IntoIterator<Item = u64>) -> Option<(u64, i32)> {
        let known = self.descriptors.get_or_init(|| {
            let interests = target::interests(pid).into_iter().filter(|interest| interest.data >= LOWEST);
            interests.map(|interest| (interest.data, interest.fd)).collect()
        });
        let of_word = |word: u64| {
            let fd = TO_RECORD.iter().find_map(|distance| known.get(&word.wrapping_add(*distance)));
            fd.map(|fd| (word, *fd))
        };
        words.into_iter().find_map(of_word)
    }
}

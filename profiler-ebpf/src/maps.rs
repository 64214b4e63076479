//! Maps shared with user space, and the only places that write them.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use profiler_common::{Counter, ThreadState, WAIT_KINDS};

use crate::config::config;

/// `BPF_RB_NO_WAKEUP`: leave the reader asleep.
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`: wake the reader.
const FORCE_WAKEUP: u64 = 2;
/// `BPF_RB_AVAIL_DATA`: ask for the bytes not yet read.
const AVAILABLE: u64 = 0;

/// Last block of each thread, by the kernel's thread id.
#[map]
pub static THREADS: HashMap<u32, ThreadState> = HashMap::with_max_entries(16 * 1024, 0);

/// Block and wait events. The loader sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Samples, apart from the events: they are large, and a burst of them must not crowd out a block.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// [`Counter`]s.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Entries into traced functions, by kind.
#[map]
pub static WAIT_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(WAIT_KINDS, 0);

/// One entry: 1 while entries into traced functions are sent, 0 while they are counted only.
#[map]
pub static SEND_WAITS: Array<u32> = Array::with_max_entries(1, 0);

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    add_one(&COUNTERS, counter as u32);
}

/// Adds one to a slot of a per-CPU array.
#[inline(always)]
pub fn add_one(array: &PerCpuArray<u64>, index: u32) {
    if let Some(slot) = array.get_ptr_mut(index) {
        // SAFETY: the kernel gave a valid slot of this CPU. A program that interrupts this one may lose a count.
        unsafe { *slot += 1 }
    }
}

/// Flags to submit a `T` with, once it is reserved.
///
/// The reader is woken when enough is waiting, and otherwise looks by itself every so often, so that a busy target does
/// not make gordian busy too. Only about the record that reaches the mark wakes it: a wake is an interrupt, and
/// with a reader that lags behind, one a record would cost the target more than all the rest.
#[inline(always)]
pub fn wake_flags<T>(ring: &RingBuf) -> u64 {
    let past_mark = ring.query(AVAILABLE).wrapping_sub(config!(wake_bytes));
    // Some records early or late, for other CPUs that write at the same time.
    if past_mark < 4 * size_of::<T>() as u64 { FORCE_WAKEUP } else { NO_WAKEUP }
}

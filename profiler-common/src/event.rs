//! Records of the ring buffers.

use crate::{Registers, ThreadState};

/// [`EventHeader::kind`] of a [`BlockEvent`].
pub const EVENT_BLOCK: u32 = 1;
/// [`EventHeader::kind`] of a [`SampleEvent`].
pub const EVENT_SAMPLE: u32 = 2;
/// [`EventHeader::kind`] of a [`WaitEvent`].
pub const EVENT_WAIT: u32 = 3;

/// Bytes of user stack that a sample has room for.
///
/// Measured on an axum server: median depth 11.3 KB, 99th percentile 19 KB; 16 KB made 98% of stacks complete, 8 KB 36%.
pub const STACK_BYTES: usize = 20 * 1024;

/// [`SampleHead::flags`]: the CPU was in the kernel; the registers are those with which it entered.
pub const SAMPLE_IN_KERNEL: u32 = 1;
/// [`SampleHead::flags`]: the stack is deeper than [`STACK_BYTES`], and its root is missing.
pub const SAMPLE_STACK_CUT: u32 = 2;
/// [`SampleHead::flags`]: a part of the stack could not be read; what stands before it is there.
pub const SAMPLE_STACK_UNREADABLE: u32 = 4;

/// First fields of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// One of the `EVENT_` constants.
    pub kind: u32,
    /// Thread id in gordian's own pid namespace.
    pub tid: u32,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
}

/// A thread is back on a CPU after it blocked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEvent {
    /// `at_ns` is when it came back.
    pub header: EventHeader,
    /// Nanoseconds from leaving the CPU to being back on one.
    pub duration_ns: u64,
    /// As it was when it blocked.
    pub state: ThreadState,
}

/// A [`SampleEvent`] without its stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleHead {
    /// `at_ns` is when it was taken.
    pub header: EventHeader,
    /// Registers in user mode.
    pub registers: Registers,
    /// Base of the thread's local storage.
    pub fs_base: u64,
    /// The runtime's id of the task being polled; 0 for none or unknown.
    pub task_id: u64,
    /// The runtime's count of polls on this worker, or [`crate::UNKNOWN_POLLS`].
    pub polls: u64,
    /// A [`crate::Placement`].
    pub placement: u32,
    /// `SAMPLE_` bits.
    pub flags: u32,
    /// Bytes of stack that are there, from the stack pointer upwards.
    pub stack_len: u32,
    /// Thread id in the initial pid namespace.
    pub kernel_tid: u32,
}

/// What a thread was doing on a CPU at a tick of the sampling clock.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SampleEvent {
    /// All but the stack.
    pub head: SampleHead,
    /// Copy of the user stack from the stack pointer upwards; the bytes after `head.stack_len` mean nothing.
    pub stack: [u8; STACK_BYTES],
}

/// A thread entered a function that is being traced.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitEvent {
    /// `at_ns` is when it entered.
    pub header: EventHeader,
    /// The number the loader gave this function.
    pub kind: u32,
    /// A [`crate::Placement`].
    pub placement: u32,
    /// The runtime's id of the task being polled; 0 for none or unknown.
    pub task_id: u64,
    /// Stack pointer on entry: the return address is the word there.
    pub stack_pointer: u64,
    /// The first four argument registers: rdi, rsi, rdx, rcx.
    pub arguments: [u64; 4],
}

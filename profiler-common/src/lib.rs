//! What crosses the boundary between gordian and its kernel programs.
//!
//! Both sides compile these very definitions, for different targets and with different compilers, so every struct is
//! `repr(C)`, holds integers only, and has no implicit padding: the kernel's verifier refuses to copy uninitialised
//! bytes, and user space reads whole structs out of raw bytes. The size assertions below hold that.
#![no_std]

mod config;
mod counter;
mod event;
mod registers;
mod thread;

pub use config::{Config, ContextOffsets, KernelOffsets, PollCounter};
pub use counter::{Counter, WAIT_KINDS};
pub use event::{
    BlockEvent, EVENT_BLOCK, EVENT_SAMPLE, EVENT_WAIT, EventHeader, SAMPLE_IN_KERNEL, SAMPLE_STACK_CUT,
    SAMPLE_STACK_UNREADABLE, STACK_BYTES, SampleEvent, SampleHead, WaitEvent,
};
pub use registers::Registers;
pub use thread::{Placement, TASK_ON_CPU, TaskRecord, ThreadState, UNKNOWN_POLLS};

/// Implements `Pod` and asserts that a struct is exactly as large as its fields, that is, has no padding.
macro_rules! crosses {
    ($($name:ty = $size:expr),+ $(,)?) => {
        $(
            const _: () = assert!(core::mem::size_of::<$name>() == $size);
            const _: () = assert!(core::mem::align_of::<$name>() <= 8);
            // SAFETY: `repr(C)`, integers only, and no padding, as the assertion above holds.
            #[cfg(feature = "user")]
            unsafe impl aya::Pod for $name {}
        )+
    };
}

crosses! {
    Registers = 21 * 8,
    EventHeader = 2 * 4 + 8,
    ThreadState = 5 * 8 + 21 * 8 + 4 * 4 + 8,
    BlockEvent = 16 + 8 + 232,
    SampleHead = 16 + 21 * 8 + 3 * 8 + 4 * 4,
    SampleEvent = 224 + STACK_BYTES,
    WaitEvent = 16 + 2 * 4 + 2 * 8 + 4 * 8,
    TaskRecord = 21 * 8 + 3 * 8 + 8 * 4,
    KernelOffsets = 8 * 4,
    ContextOffsets = 8 + 4 * 4,
    PollCounter = 8 * 4,
    Config = 3 * 8 + 6 * 4 + 32 + 24 + 32,
}

//! What happens between snapshots, as the kernel programs tell it.

use super::{Frame, PartyId, Syscall};

/// A thread that blocks, or has blocked, in the kernel inside a poll.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockedPoll {
    /// Thread id in the target's namespace.
    pub tid: i32,
    /// Its `comm`.
    pub thread_name: String,
    /// The task it polls, where that could be told.
    pub party: Option<PartyId>,
    /// The system call it blocks in.
    pub syscall: Syscall,
    /// Nanoseconds it has been blocked so far, or was in all.
    pub blocked_ns: u64,
    /// Whether it is still blocked.
    pub ongoing: bool,
    /// Its stack, root first; empty where the thread moved on before it could be read.
    pub frames: Vec<Frame>,
    /// `CLOCK_MONOTONIC` nanoseconds at which it blocked.
    pub since_ns: u64,
}

/// A wake seen by the *trace waits* tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Address of the resource that moved.
    pub resource: u64,
    /// Thread id that did it.
    pub tid: i32,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
}

/// Events that were lost on their way, each way of losing with its own counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostCounts {
    /// No room in the ring buffer.
    pub ring_full: u64,
    /// The target's memory could not be read from the kernel program.
    pub user_read: u64,
    /// A bounded channel inside gordian was full.
    pub channel_full: u64,
    /// Stacks that moved before they were read.
    pub stack_moved: u64,
}

impl LostCounts {
    /// All of them.
    pub fn total(self) -> u64 {
        self.ring_full + self.user_read + self.channel_full + self.stack_moved
    }
}

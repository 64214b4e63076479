//! A kernel thread of the target.

use super::{Frame, Hold, PartyId, Wait};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadRole {
    /// A worker of the runtime at this index of [`super::Snapshot::runtimes`].
    Worker(usize),
    /// A thread of a blocking pool.
    BlockingPool,
    /// Runs a `block_on`.
    BlockOn,
    /// Anything else.
    Plain,
    /// Could not be told: its stack has not been read so far.
    Unknown,
}

impl ThreadRole {
    /// Whether the thread is known to serve a runtime.
    pub fn is_of_runtime(self) -> bool {
        !matches!(self, Self::Plain | Self::Unknown)
    }
}

/// What a thread does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadActivity {
    /// Waits for work: parked on a condition or futex of the scheduler.
    Parked,
    /// Waits in the runtime's I/O and timer driver.
    Driving,
    /// Polls this task, on CPU or ready to be.
    Polling(PartyId),
    /// Blocks in the kernel inside a poll of this task.
    BlockedIn(PartyId),
    /// Blocks in the kernel, outside any poll.
    Blocked,
    /// On CPU outside any poll that was seen.
    Running,
    /// Could not be told.
    Unknown,
}

/// A system call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// x86-64 number.
    pub number: i64,
    /// The six argument registers.
    pub args: [u64; 6],
}

/// One thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Thread {
    /// Thread id in the target's own namespace.
    pub tid: i32,
    /// `comm`.
    pub name: String,
    /// What it is for.
    pub role: ThreadRole,
    /// What it does now.
    pub activity: ThreadActivity,
    /// The system call it is in, where it is in one.
    pub syscall: Option<Syscall>,
    /// Its stack pointer, where it is blocked: the same in two reads, the same block.
    pub stack_pointer: Option<u64>,
    /// How often it has gone to sleep so far: the same in two reads, and it slept in between. `None` where it was not read.
    pub switches: Option<u64>,
    /// Its stack, root first; empty where it was not read.
    pub frames: Vec<Frame>,
    /// A lock it waits for, or the end of a thread.
    pub wait: Option<Wait>,
    /// Locks that its frames hold.
    pub holds: Vec<Hold>,
    /// Whether `holds` is everything its frames hold.
    pub holds_known: bool,
    /// In the middle of a poll it has said that it will block, and whatever it would poll was handed on to others.
    pub in_place: bool,
}

//! What the kernel programs say of threads.

use crate::Registers;

/// [`ThreadState::polls`] where the runtime's poll counter could not be read.
pub const UNKNOWN_POLLS: u64 = u64::MAX;

/// [`TaskRecord::on_cpu`] of a thread that runs right now, whose registers are therefore those of its last entry into
/// the kernel and not its present ones.
pub const TASK_ON_CPU: u32 = 1;

/// Where in its runtime a thread is, as far as the runtime's thread-local context tells.
///
/// A worker keeps the id of the task that launched it between polls, so an id alone does not mean "in a poll"; the
/// cooperative budget, which is set for the time of a poll only, does.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// No context layout is known, or the context could not be read.
    Unknown = 0,
    /// The budget is set: in a poll of a task, or, with task id 0, of the root of a `block_on`.
    Polling = 1,
    /// A task id without budget or scheduler: a closure of the blocking pool.
    Closure = 2,
    /// A worker without budget, in a futex or epoll call: between polls.
    Idle = 3,
    /// A worker without budget in another system call: a poll that opted out of the budget, most likely.
    Unbudgeted = 4,
    /// Neither task nor budget: no thread of the runtime, or one between polls of a `block_on` root.
    Outside = 5,
}

impl Placement {
    /// The placement with this number; a number that no kernel program writes is unknown.
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Polling,
            2 => Self::Closure,
            3 => Self::Idle,
            4 => Self::Unbudgeted,
            5 => Self::Outside,
            _ => Self::Unknown,
        }
    }
}

/// Value of the map of threads, keyed by the kernel's thread id: the last time a thread left its CPU to block.
///
/// User space copies it without a lock while the kernel may be writing. The writer advances `seq`, writes all
/// else, then copies `seq` to `seq_end`; a copy in which they differ is torn.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Odd while the thread is blocked, even while it is not.
    pub seq: u64,
    /// `CLOCK_MONOTONIC` nanoseconds at which it blocked.
    pub since_ns: u64,
    /// The runtime's id of the task being polled; 0 for none or unknown.
    pub task_id: u64,
    /// Base of the thread's local storage.
    pub fs_base: u64,
    /// The runtime's count of polls on this worker, or [`UNKNOWN_POLLS`].
    pub polls: u64,
    /// Its registers in user mode.
    pub registers: Registers,
    /// Thread id in gordian's own pid namespace.
    pub tid: u32,
    /// Thread id in the initial pid namespace.
    pub kernel_tid: u32,
    /// A [`Placement`].
    pub placement: u32,
    /// The kernel's task state bits: 1 interruptible, 2 uninterruptible sleep.
    pub task_state: u32,
    /// Equal to `seq` where the copy is whole.
    pub seq_end: u64,
}

impl ThreadState {
    /// The value of a slot not written yet: not blocked.
    pub const EMPTY: Self = Self {
        seq: 0,
        since_ns: 0,
        task_id: 0,
        fs_base: 0,
        polls: UNKNOWN_POLLS,
        registers: Registers::ZERO,
        tid: 0,
        kernel_tid: 0,
        placement: Placement::Unknown as u32,
        task_state: 0,
        seq_end: 0,
    };

    /// Whether this copy is whole and says that the thread is blocked.
    pub const fn is_blocked(&self) -> bool {
        self.seq == self.seq_end && self.seq & 1 == 1
    }
}

/// What the task iterator writes for each thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its registers in user mode; zero for kernel threads.
    pub registers: Registers,
    /// Base of the thread's local storage.
    pub fs_base: u64,
    /// Times the thread left a CPU: equal in two records of a thread that did not run in between.
    pub switches: u64,
    /// `CLOCK_MONOTONIC` nanoseconds of this record.
    pub at_ns: u64,
    /// Thread id in gordian's own pid namespace.
    pub tid: u32,
    /// Thread id in the initial pid namespace.
    pub kernel_tid: u32,
    /// Process id in the initial pid namespace.
    pub kernel_tgid: u32,
    /// Depth of gordian's own pid namespace; 0 is the initial one.
    pub own_level: u32,
    /// Number of the thread in gordian's own pid namespace by the kernel's table; the same as `tid` once the loader
    /// has set the level.
    pub own_number: u32,
    /// The kernel's task state bits; 0 is running or runnable.
    pub task_state: u32,
    /// [`TASK_ON_CPU`] while it runs on one.
    pub on_cpu: u32,
    /// Always 0: fills the struct up to a multiple of 8 bytes.
    pub reserved: u32,
}

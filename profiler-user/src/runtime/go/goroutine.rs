//! The runtime's record of a goroutine, `g` (runtime/runtime2.go).

use std::ops::Range;

use super::{
    bytes::{read_vec, u32_at, u64_at},
    layout::Layout,
};
use crate::target::Memory;

/// A stack is at most this large (runtime.SetMaxStack's default).
const LARGEST_STACK: u64 = 1 << 30;
/// The bit that says that the collector looks at the stack.
const SCAN: u32 = 0x1000;

/// What a goroutine does. The numbers are those of `g.atomicstatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Status {
    Runnable,
    Running,
    Syscall,
    Waiting,
    /// Its stack is being moved.
    CopyStack,
    /// Stopped in the middle of running.
    Preempted,
    /// Waits, and Go's own collector has found that nothing can wake it.
    Leaked,
}

impl Status {
    /// `None` for what is no goroutine that runs anything: free, being made, or a record for C threads.
    fn of(number: u32) -> Option<Self> {
        Some(match number & !SCAN {
            1 => Self::Runnable,
            2 => Self::Running,
            3 => Self::Syscall,
            4 => Self::Waiting,
            8 => Self::CopyStack,
            9 => Self::Preempted,
            10 => Self::Leaked,
            _ => return None,
        })
    }

    /// The word that Go's tracebacks use where there is no wait reason.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::CopyStack => "copystack",
            Self::Preempted => "preempted",
            Self::Leaked => "leaked",
        }
    }

    /// Whether it waits, so that its stack stands still.
    pub(super) fn is_parked(self) -> bool {
        matches!(self, Self::Waiting | Self::Leaked)
    }
}

/// One goroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goroutine {
    pub(super) address: u64,
    pub(super) id: u64,
    pub(super) status: Status,
    /// Number of the wait reason.
    pub(super) reason: u8,
    /// When the wait began, nanoseconds of `CLOCK_MONOTONIC`; 0 until a collection has seen it wait.
    pub(super) since: u64,
    /// Changes with every park.
    pub(super) seq: u8,
    pub(super) start_pc: u64,
    /// Where its `go` statement is, and who ran it.
    pub(super) creator_pc: u64,
    pub(super) creator: u64,
    pub(super) stack: Range<u64>,
    /// Stack pointer and program counter, where it does not run.
    pub(super) sp: u64,
    pub(super) pc: u64,
    /// The `m` that runs it; 0 for none.
    pub(super) m: u64,
    /// First of its places in queues; 0 for none.
    pub(super) waiting: u64,
    /// First of its deferred calls that have a record; 0 for none.
    pub(super) deferred: u64,
    /// Its labels' record; 0 for none.
    pub(super) labels: u64,
    /// When a sleeper wakes, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) wakes_at: Option<u64>,
}

impl Goroutine {
    /// The goroutine whose record is at `address`; `None` where it runs nothing or is no goroutine.
    pub(super) fn read(memory: &dyn Memory, layout: &Layout, address: u64) -> Option<Self> {
        let bytes = read_vec(memory, address, layout.g_size, 1 << 16).ok()?;
        Self::parse(&bytes, layout, address)
    }

    /// The same out of the record's bytes.
    pub(super) fn parse(bytes: &[u8], layout: &Layout, address: u64) -> Option<Self> {
        let word = |at: u64| u64_at(bytes, at);
        let byte = |at: u64| bytes.get(usize::try_from(at).ok()?).copied();
        let status = Status::of(u32_at(bytes, layout.g_atomicstatus)?)?;
        let stack = word(layout.g_stack_lo)?..word(layout.g_stack_hi)?;
        if stack.end.checked_sub(stack.start).is_none_or(|size| size > LARGEST_STACK) {
            return None;
        }
        let (mut sp, mut pc) = (word(layout.g_sched_sp)?, word(layout.g_sched_pc)?);
        let in_syscall = word(layout.g_syscallsp)?;
        if status == Status::Syscall && in_syscall != 0 {
            (sp, pc) = (in_syscall, word(layout.g_syscallpc)?);
        }
        Some(Self {
            address,
            id: word(layout.g_goid)?,
            status,
            reason: byte(layout.g_waitreason)?,
            since: word(layout.g_waitsince)?,
            seq: byte(layout.g_tracking_seq)?,
            start_pc: word(layout.g_startpc)?,
            creator_pc: word(layout.g_gopc)?,
            creator: word(layout.g_parent_goid)?,
            stack,
            sp,
            pc,
            m: word(layout.g_m)?,
            waiting: word(layout.g_waiting)?,
            deferred: word(layout.g_defer)?,
            labels: word(layout.g_labels)?,
            wakes_at: layout.g_sleep_when.and_then(word).filter(|at| *at != 0),
        })
    }

    /// Which park it is in.
    pub(super) fn park(&self) -> Park {
        Park {
            id: self.id,
            status: self.status,
            seq: self.seq,
            reason: self.reason,
            waiting: self.waiting,
            at: (self.sp, self.pc),
            stack: self.stack.clone(),
        }
    }

    /// Whether it stands as it did in another read: the same park on the same stack.
    pub(super) fn stands_as(&self, other: &Self) -> bool {
        self.park() == other.park()
    }
}

/// What tells one park of a goroutine from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Park {
    id: u64,
    status: Status,
    seq: u8,
    reason: u8,
    waiting: u64,
    at: (u64, u64),
    stack: Range<u64>,
}

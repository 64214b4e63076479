//! Who can wait and who can act.

use std::fmt;

/// A party: something that waits, holds and moves. Stable for the life of the task or thread it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartyId {
    /// A spawned task: `runtime` is the address of its scheduler's handle, `id` the runtime's own id.
    Task {
        /// Address of the runtime instance in the target.
        runtime: u64,
        /// The id that the runtime gave it (`tokio::task::Id`, goid).
        id: u64,
    },
    /// The root future of a `block_on`, named by the kernel thread id that polls it (target's namespace).
    BlockOn {
        /// Thread id.
        tid: i32,
    },
    /// A thread by itself: a worker inside a poll, a pool thread, a plain thread.
    Thread {
        /// Thread id.
        tid: i32,
    },
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task { runtime, id } => write!(f, "task:{runtime:#x}:{id}"),
            Self::BlockOn { tid } => write!(f, "block_on:{tid}"),
            Self::Thread { tid } => write!(f, "thread:{tid}"),
        }
    }
}

//! Plain data that every room shares: what a process' async runtimes look like at one moment, and what is wrong with them.
//!
//! Nothing here reads memory, draws or decides. A [`Snapshot`] is what is; a [`Finding`] is what it means.

mod event;
mod finding;
mod party;
mod resource;
mod snapshot;
mod task;
mod thread;

pub use event::{BlockedPoll, LostCounts, Wake};
pub use finding::{Certainty, Edge, EdgeEnd, Escape, Finding, FindingKind, FindingThread};
pub use party::PartyId;
pub use resource::{Buffer, Grounds, QueueEntry, Resource, ResourceKey, ResourceKind};
pub use snapshot::{Coverage, Runtime, RuntimeKind, Snapshot, Target};
pub use task::{
    Fork, Frame, Hold, HoldHow, Labels, Origin, Since, SinceSource, Strand, Task, TaskState, Wait, WaitMode, is_library,
};
pub use thread::{Syscall, Thread, ThreadActivity, ThreadRole};

//! Loads and attaches the kernel programs and hands out their events.
//!
//! Nothing here knows any async runtime: where one keeps its context, and which functions are worth tracing, come in as
//! plain numbers. Nothing is ever written to the target's memory; the breakpoints of *trace waits* are the kernel's.

mod btf;
mod counts;
mod decode;
mod error;
mod events;
mod features;
mod hit_cost;
mod kernel;
mod object;
mod probes;
mod sampling;
mod site;
mod tasks;
mod waits;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use counts::{Counts, ProgramCost};
pub use decode::{Block, BlockedThread, Event, Sample, Wait};
pub use error::ProbeError;
pub use events::EventStream;
pub use features::{Feature, features};
pub use hit_cost::HitCost;
pub use kernel::{Kernel, KernelTarget};
pub use probes::{ContextLayout, PollKind, PollLayout, ProbeOptions, Probes};
pub use profiler_common::{Counter, Placement, Registers, WAIT_KINDS};
pub use tasks::{TaskIterator, ThreadRegisters};
pub use waits::{WaitPoint, WaitRates};

//! One attachment to one target: cadence of snapshots, fusion with events, identity over time.

mod attached;
mod blocking;
mod candidates;
mod capturing;
mod error;
mod history;
mod inspector;
mod options;
mod probing;
mod profiling;
mod stacks;
mod standings;
mod view;

pub use attached::Session;
pub use candidates::{Candidate, Denied, candidates};
pub use capturing::{Capture, capture};
pub use error::AttachError;
pub use options::Options;
pub use profiling::{OnCpuProfile, ProfileOptions, on_cpu_profile};
pub use view::{ProbeState, View};

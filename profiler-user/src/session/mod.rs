//! One attachment to one target: cadence of snapshots, fusion with events, identity over time.

mod view;

pub use view::{ProbeState, View};

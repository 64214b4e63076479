//! What a session is asked to do.

use std::time::Duration;

use crate::{analysis::Thresholds, debuginfo::Places};

/// How to look, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Use the kernel programs that cost the target next to nothing: blocked polls, registers.
    pub probes: bool,
    /// Attach uprobes where tasks wait and wake, while their rate is within `max_overhead`.
    pub trace_waits: bool,
    /// Share of the target's CPU time that the uprobes may take, 0.01 is 1%.
    pub max_overhead: f64,
    /// Time between the beginnings of two snapshots, at least.
    pub interval: Duration,
    /// Share of one CPU that snapshots may take: a long snapshot is followed by a longer pause.
    pub snapshot_share: f64,
    /// Stop the target for each snapshot, so that nothing moves while it is read.
    pub freeze: bool,
    /// What the kernel programs log: 0 nothing, 1 errors … 4 debugging.
    pub kernel_log_level: u8,
    /// When something counts as wrong.
    pub thresholds: Thresholds,
    /// Where debuginfo may be that the program does not have itself.
    pub places: Places,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            probes: true,
            trace_waits: false,
            max_overhead: 0.01,
            interval: Duration::from_millis(250),
            snapshot_share: 0.2,
            freeze: false,
            kernel_log_level: 0,
            thresholds: Thresholds::default(),
            places: Places::default(),
        }
    }
}

//! From when on a duration is worth a finding. Every threshold stands here, and each has a flag of `check`.

use std::time::Duration;

/// Limits of the detectors that look at durations; the permanent kinds need none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// A worker that blocks this long inside one poll is a `blocked-worker`.
    pub blocked_worker: Duration,
    /// A task that waits this long for something that others hold is `stalled`.
    pub stalled: Duration,
    /// A semaphore that is held this long by the same tasks, with the same task next in its queue, is `exhausted`.
    pub exhausted: Duration,
    /// A task that is ready this long while others of its runtime are polled is `starved`.
    pub starved: Duration,
    /// Tasks that pile up over this long are a `leak`.
    pub leak: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            blocked_worker: Duration::from_millis(100),
            stalled: Duration::from_secs(30),
            exhausted: Duration::from_secs(10),
            starved: Duration::from_secs(1),
            leak: Duration::from_secs(10),
        }
    }
}

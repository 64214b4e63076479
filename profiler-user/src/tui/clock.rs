//! The two clocks that ages are told by, read once an update: pages stay pure, and their tests repeatable.

use std::time::{Instant, SystemTime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// For snapshots.
    pub now: Instant,
    /// For findings.
    pub wall: SystemTime,
}

impl Clock {
    /// This moment.
    pub(super) fn read() -> Self {
        Self { now: Instant::now(), wall: SystemTime::now() }
    }

    /// Seconds since `at`; `None` where that is in the future (the wall clock was set).
    pub(super) fn seconds_since(self, at: SystemTime) -> Option<f64> {
        self.wall.duration_since(at).ok().map(|age| age.as_secs_f64())
    }
}

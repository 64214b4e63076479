//! What a session publishes; views, exports and commands read nothing else.

use std::sync::Arc;

use crate::model::{BlockedPoll, Finding, Snapshot};

/// Whether a tier of kernel programs is at work, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// Attached.
    On,
    /// Not asked for.
    Off,
    /// Asked for and not to be had: one plain sentence with what to do.
    Missing(String),
}

/// One consistent picture of the target. Immutable: a new one replaces it.
#[derive(Clone, Debug)]
pub struct View {
    /// Counts up with every view of a session.
    pub sequence: u64,
    /// The tasks, threads and resources.
    pub snapshot: Arc<Snapshot>,
    /// What is wrong, most permanent first.
    pub findings: Arc<[Finding]>,
    /// What ended lately, newest first.
    pub ended_findings: Arc<[Finding]>,
    /// Threads that block inside a poll now or did lately, newest first.
    pub blocked: Arc<[BlockedPoll]>,
    /// The default tier: `sched_switch`.
    pub switch_probe: ProbeState,
    /// The *trace waits* tier.
    pub wait_probe: ProbeState,
    /// The target has exited (or called exec); this view is the last.
    pub ended: Option<String>,
}

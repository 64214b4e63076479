//! From flags to a session.

use super::{args::Watch, target};
use crate::{
    analysis::Thresholds,
    session::{Options, Session, View},
};

/// What a command wants of a session.
#[derive(Clone, Debug)]
pub(super) struct Attach {
    /// Load kernel programs.
    pub(super) probes: bool,
    /// And the probes inside the runtime.
    pub(super) trace_waits: bool,
    /// Percent of the target's CPU time that these may cost; the session knows what is usual.
    pub(super) max_overhead: Option<f64>,
    /// From when on a duration is worth a finding.
    pub(super) thresholds: Thresholds,
}

impl Attach {
    /// As the flags say, without the probes inside the runtime.
    pub(super) fn new(watch: &Watch) -> Self {
        Self {
            probes: !watch.no_bpf,
            trace_waits: false,
            max_overhead: watch.max_overhead,
            thresholds: watch.thresholds(),
        }
    }

    fn options(&self) -> Options {
        let usual = Options::default();
        Options {
            probes: self.probes,
            trace_waits: self.trace_waits,
            max_overhead: self.max_overhead.map_or(usual.max_overhead, |percent| percent / 100.0),
            thresholds: self.thresholds,
            ..usual
        }
    }
}

/// Attaches to what `typed` names.
pub(super) fn session(typed: &str, attach: &Attach) -> anyhow::Result<Session> {
    Ok(Session::attach(target::place(typed)?, attach.options())?)
}

/// One look at what `typed` names.
pub(super) fn once(typed: &str) -> anyhow::Result<View> {
    Ok(Session::look_once(target::place(typed)?)?)
}

//! From flags to a session.

use super::{args::Watch, target};
use crate::{
    analysis::Thresholds,
    debuginfo::Places,
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
    /// Stop the target for each read.
    pub(super) freeze: bool,
    /// Where debuginfo may be.
    pub(super) places: Places,
}

impl Attach {
    /// As the flags say, without the probes inside the runtime.
    ///
    /// # Errors
    /// Where debuginfo that was given cannot be read.
    pub(super) fn new(watch: &Watch) -> anyhow::Result<Self> {
        Ok(Self {
            probes: !watch.no_bpf,
            trace_waits: false,
            max_overhead: watch.max_overhead,
            thresholds: watch.thresholds(),
            freeze: watch.freeze,
            places: watch.debuginfo.places()?,
        })
    }

    fn options(&self) -> Options {
        let usual = Options::default();
        Options {
            probes: self.probes,
            trace_waits: self.trace_waits,
            max_overhead: self.max_overhead.map_or(usual.max_overhead, |percent| percent / 100.0),
            thresholds: self.thresholds,
            freeze: self.freeze,
            places: self.places.clone(),
            ..usual
        }
    }
}

/// Attaches to what `typed` names.
pub(super) fn session(typed: &str, attach: &Attach) -> anyhow::Result<Session> {
    Ok(Session::attach(target::place(typed)?, attach.options())?)
}

/// One look at what `typed` names.
pub(super) fn once(typed: &str, attach: &Attach) -> anyhow::Result<View> {
    Ok(Session::look_once(target::place(typed)?, attach.options())?)
}

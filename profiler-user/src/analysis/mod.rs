//! The wait-for graph, what in it can still move, and the findings that follow. Pure: model in, model out.
//!
//! `docs/verdicts.md` is the semantics. [`analyse`] builds the graph of strands and threads (`graph`), lets everything move
//! that can (`liveness`), asks of what is left why (`reasons`) and which part of it needs nothing else to be stuck
//! (`causes`), and words each such root cause (`findings`). `oracle` is the same semantics by brute force, for the tests.

mod causes;
mod escapes;
mod findings;
mod graph;
mod identity;
mod liveness;
mod names;
mod queue;
mod reasons;
mod resources;
mod settled;
mod thresholds;
mod trends;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use thresholds::Thresholds;
pub use trends::Trends;

use crate::model::{BlockedPoll, Finding, PartyId, Snapshot};
use graph::Graph;
use settled::Settled;

/// Whom permanent findings accuse.
pub fn accused(findings: &[Finding]) -> Vec<PartyId> {
    let permanent = findings.iter().filter(|finding| finding.kind.is_permanent());
    permanent.flat_map(|finding| finding.tasks.iter().copied()).collect()
}

/// The findings in `now`, most permanent first.
///
/// Permanent ones rest on what `now` and `earlier` agree on: two whole reads of one process, apart in time. Without an
/// `earlier` there are none. `blocked` is what the kernel programs saw of threads that block inside a poll. Each finding's
/// `first_seen` is the time of this call and its `formed_at` is empty: whoever keeps findings over time knows better.
pub fn analyse(
    now: &Snapshot,
    earlier: Option<&Snapshot>,
    blocked: &[BlockedPoll],
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(earlier) = earlier {
        let graph = Graph::new(now, &Settled::between(now, earlier), thresholds.exhausted);
        let escapes = escapes::mark(&graph);
        let causes = causes::find(&graph, &escapes);
        let explained = causes.iter().flat_map(|cause| cause.tasks.iter().chain(&cause.victims)).copied().collect();
        found.extend(findings::permanent::explain(&graph, &escapes, &causes));
        found.extend(findings::stalled::find(&graph, thresholds, &explained));
    }
    let blocked = findings::blocked_worker::find(now, blocked, thresholds, &found);
    found.extend(blocked);
    found.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    found
}

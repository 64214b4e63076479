//! What no single look shows: it takes snapshots of one process over time.
//!
//! Each kind has a file and needs nothing but snapshots whose tasks have been dated (`since`).

mod exhausted;
mod leak;
mod starved;

use super::Thresholds;
use crate::model::{Finding, FindingKind, Snapshot};

/// What is remembered of earlier snapshots.
#[derive(Debug, Default)]
pub struct Trends {
    exhausted: exhausted::Watch,
    leak: leak::Watch,
    starved: starved::Watch,
}

impl Trends {
    /// Takes in the next snapshot and adds what has become plain to the `findings` made from it. What explains more takes the
    /// place of what explains less: a deadlock that of an exhausted pool, that that of waits which are only long.
    pub fn observe(&mut self, now: &Snapshot, thresholds: &Thresholds, findings: &mut Vec<Finding>) {
        let about = |finding: &Finding, other: &Finding| {
            let resources = || finding.edges.iter().map(|edge| &edge.resource);
            other.edges.iter().any(|edge| resources().any(|resource| *resource == edge.resource))
        };
        for found in self.exhausted.observe(now, thresholds.exhausted) {
            if findings.iter().any(|known| known.kind.is_permanent() && about(&found, known)) {
                continue;
            }
            findings.retain(|known| known.kind != FindingKind::Stalled || !about(&found, known));
            findings.push(found);
        }
        findings.extend(self.leak.observe(now, thresholds.leak));
        findings.extend(self.starved.observe(now, thresholds.starved));
        findings.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    }
}

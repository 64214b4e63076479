//! Identity over time: how long tasks have been as they are, and since when findings stand.

use std::time::{Instant, SystemTime};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{Finding, PartyId, Since, SinceSource, Snapshot, TaskState};

/// What tells a state from the next: state, and where its strands wait.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    state: TaskState,
    waits: Vec<u64>,
}

/// What one session remembers of earlier snapshots.
#[derive(Default)]
pub(super) struct History {
    tasks: FxHashMap<PartyId, (Standing, Instant, SinceSource)>,
    findings: FxHashMap<String, Seen>,
    /// When each task last entered a traced wait, by the runtime's id.
    waits: FxHashMap<u64, Instant>,
    snapshots: u64,
}

/// Waits between two snapshots that are remembered, at most.
const MOST_WAITS: usize = 100_000;

#[derive(Clone, Copy)]
struct Seen {
    first: SystemTime,
    formed: Option<SystemTime>,
}

impl History {
    /// Says of every task of `snapshot` how long it has been as it is.
    pub(super) fn date(&mut self, snapshot: &mut Snapshot) {
        let source = if self.snapshots == 0 { SinceSource::Attach } else { SinceSource::Snapshot };
        self.snapshots += 1;
        let mut present = FxHashSet::default();
        for task in &mut snapshot.tasks {
            present.insert(task.party);
            let standing =
                Standing { state: task.state, waits: task.root.waits().map(|wait| wait.resource.address).collect() };
            let entry = self.tasks.entry(task.party).or_insert_with(|| (standing.clone(), snapshot.taken_at, source));
            if entry.0 != standing || task.unstable {
                *entry = (standing, snapshot.taken_at, SinceSource::Snapshot);
                // An event tells the moment itself.
                if let PartyId::Task { id, .. } = task.party
                    && let Some(at) = self.waits.remove(&id).filter(|at| *at <= snapshot.taken_at)
                {
                    (entry.1, entry.2) = (at, SinceSource::Event);
                }
            }
            task.since = Some(Since {
                at_least_s: snapshot.taken_at.saturating_duration_since(entry.1).as_secs_f64(),
                source: entry.2,
            });
        }
        self.tasks.retain(|party, _| present.contains(party));
    }

    /// Takes in that task `id` entered a traced wait.
    pub(super) fn waited(&mut self, id: u64, at: Instant) {
        if self.waits.len() >= MOST_WAITS {
            self.waits.clear();
        }
        self.waits.insert(id, at);
    }

    /// Puts onto `findings` when each was first seen and when it formed: the moment its last party came to stand as it
    /// does. `None` where one has stood so since attach.
    pub(super) fn recognise(&mut self, findings: &mut [Finding], now: SystemTime, taken_at: Instant) {
        for finding in findings.iter_mut() {
            let formed = || {
                let begins: Option<Vec<Instant>> =
                    finding.tasks.iter().map(|party| self.tasks.get(party).map(|(_, since, _)| *since)).collect();
                let sources = finding.tasks.iter().filter_map(|party| self.tasks.get(party));
                // All of them stood so already when gordian came.
                if sources.clone().all(|(.., source)| *source == SinceSource::Attach) {
                    return None;
                }
                let last = begins?.into_iter().max()?;
                now.checked_sub(taken_at.saturating_duration_since(last))
            };
            let seen =
                *self.findings.entry(finding.id.clone()).or_insert_with(|| Seen { first: now, formed: formed() });
            finding.first_seen = seen.first;
            finding.formed_at = finding.formed_at.or(seen.formed);
        }
        let ids: FxHashSet<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        self.findings.retain(|id, _| ids.contains(id.as_str()));
    }
}

//! Identity over time: how long tasks have been as they are, and since when findings stand.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use rustc_hash::FxHashMap;

use super::standings::Standings;
use crate::model::{Finding, PartyId, Since, SinceSource, Snapshot, Task, TaskState};

/// What tells a state from the next: state, and where its strands wait.
struct Standing {
    state: TaskState,
    waits: Box<[u64]>,
}

impl Standing {
    fn of(task: &Task) -> Self {
        Self { state: task.state, waits: waits(task).collect() }
    }

    fn is_of(&self, task: &Task) -> bool {
        self.state == task.state && self.waits.iter().copied().eq(waits(task))
    }
}

/// The addresses of what a task waits for.
fn waits(task: &Task) -> impl Iterator<Item = u64> {
    task.root.waits().map(|wait| wait.resource.address)
}

/// A standing and since when.
struct Dated {
    standing: Standing,
    /// Whether it was ever read whole and at rest.
    firm: bool,
    since: Instant,
    source: SinceSource,
    /// The number of the snapshot that showed it last.
    seen_in: u64,
}

/// What one session remembers of earlier snapshots.
#[derive(Default)]
pub(super) struct History {
    tasks: FxHashMap<PartyId, Dated>,
    findings: Standings,
    /// When each task last entered a traced wait, by the runtime's id.
    waits: FxHashMap<u64, Instant>,
    /// The tasks that the snapshot before could not read whole, with what they were read from; `None` before the first.
    opaque: Option<FxHashMap<PartyId, Option<u64>>>,
    snapshots: u64,
}

/// Waits between two snapshots that are remembered, at most.
const MOST_WAITS: usize = 100_000;

impl History {
    /// Says of every task of a snapshot that is looked at alone what the runtime itself has noted, or that nothing is known yet.
    pub(super) fn date_alone(snapshot: &mut Snapshot) {
        for task in &mut snapshot.tasks {
            let noted = task.since.filter(|noted| noted.at_least_s > 0.0);
            task.since = Some(noted.unwrap_or(Since { at_least_s: 0.0, source: SinceSource::Attach }));
        }
    }

    /// Says of every task of `snapshot` how long it has been as it is.
    pub(super) fn date(&mut self, snapshot: &mut Snapshot) {
        let source = if self.snapshots == 0 { SinceSource::Attach } else { SinceSource::Snapshot };
        self.snapshots += 1;
        let seen_in = self.snapshots;
        self.tasks.reserve(snapshot.tasks.len().saturating_sub(self.tasks.len()));
        for task in &mut snapshot.tasks {
            // A task that moved while it was read, or could not be read whole, may stand as it did before.
            let firm = !task.unstable && task.incomplete.is_none();
            let entry = self.tasks.entry(task.party).or_insert_with(|| Dated {
                standing: Standing::of(task),
                firm,
                since: snapshot.taken_at,
                source,
                seen_in,
            });
            entry.seen_in = seen_in;
            if !entry.standing.is_of(task) || task.unstable {
                // That it stands otherwise now is only a change if what was read before is certain.
                let source = if entry.firm { SinceSource::Snapshot } else { entry.source };
                *entry = Dated { standing: Standing::of(task), firm, since: snapshot.taken_at, source, seen_in };
                // An event tells the moment itself.
                if let PartyId::Task { id, .. } = task.party
                    && let Some(at) = self.waits.remove(&id).filter(|at| *at <= snapshot.taken_at)
                {
                    (entry.since, entry.source) = (at, SinceSource::Event);
                }
            }
            entry.firm |= firm;
            let seen = Since {
                at_least_s: snapshot.taken_at.saturating_duration_since(entry.since).as_secs_f64(),
                source: entry.source,
            };
            // What the runtime itself has noted may go back further.
            let noted = task.since.filter(|noted| noted.at_least_s > seen.at_least_s);
            task.since = Some(noted.unwrap_or(seen));
        }
        self.tasks.retain(|_, dated| dated.seen_in == seen_in);
    }

    /// Tells tasks that cannot be read from those that only changed while they were: what cannot be read twice though it did
    /// not move is unknown, all else is unstable.
    pub(super) fn excuse(&mut self, snapshot: &mut Snapshot) {
        let opaque = snapshot.tasks.iter().filter(|task| task.is_opaque());
        let opaque = opaque.map(|task| (task.party, task.imprint)).collect();
        let Some(before) = self.opaque.replace(opaque) else { return };
        let coverage = &mut snapshot.coverage;
        for task in &mut snapshot.tasks {
            if task.is_opaque() && before.get(&task.party) != Some(&task.imprint) {
                task.unstable = true;
                coverage.unknown = coverage.unknown.saturating_sub(1);
                coverage.unstable += 1;
            }
        }
    }

    /// Takes in that task `id` entered a traced wait.
    pub(super) fn waited(&mut self, id: u64, at: Instant) {
        if self.waits.len() >= MOST_WAITS {
            self.waits.clear();
        }
        self.waits.insert(id, at);
    }

    /// Says of each finding of a snapshot when it was first seen and formed, and whether it came back; keeps in `findings`
    /// those that this look only could not confirm; returns those that have ended lately, newest first.
    ///
    /// A finding formed when its last party came to stand as it does; `None` where all have stood so since attach.
    pub(super) fn recognise(
        &mut self,
        findings: &mut Vec<Finding>,
        snapshot: &Snapshot,
        now: SystemTime,
    ) -> Arc<[Finding]> {
        let tasks = &self.tasks;
        let formed = |finding: &Finding| {
            let dated: Option<Vec<&Dated>> = finding.tasks.iter().map(|party| tasks.get(party)).collect();
            let dated = dated?;
            if dated.iter().all(|dated| dated.source == SinceSource::Attach) {
                return None;
            }
            let last = dated.into_iter().map(|dated| dated.since).max()?;
            now.checked_sub(snapshot.taken_at.saturating_duration_since(last))
        };
        // That one of its parties stands elsewhere or is gone ends a finding at once.
        let moved = |finding: &Finding, since: Instant| {
            finding.tasks.iter().any(|party| tasks.get(party).is_none_or(|dated| dated.firm && dated.since > since))
        };
        self.findings.follow(findings, snapshot.taken_at, now, formed, moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Coverage, Strand, Target};

    fn snapshot(incomplete: Option<&str>) -> Snapshot {
        let target = Target { pid: 1, exe: "/srv".into() };
        let task = Task {
            party: PartyId::Task { runtime: 1, id: 7 },
            address: 0,
            runtime: 0,
            name: Arc::from("srv::work"),
            state: TaskState::Suspended,
            status: None,
            origin: None,
            labels: None,
            since: None,
            root: Strand::unknown(),
            incomplete: incomplete.map(Into::into),
            awaits_known: incomplete.is_none(),
            imprint: None,
            unstable: false,
            thread: None,
        };
        let (decoded, unknown) = if incomplete.is_some() { (0, 1) } else { (1, 0) };
        let coverage = Coverage { seen: 1, decoded, unknown, unstable: 0 };
        Snapshot { tasks: vec![task], coverage, ..Snapshot::empty(target) }
    }

    #[test]
    fn what_cannot_be_read_once_is_unstable() {
        let mut history = History::default();
        history.excuse(&mut snapshot(None));
        let mut moved = snapshot(Some("the code panics here"));
        history.excuse(&mut moved);
        assert!(moved.tasks[0].unstable);
        assert_eq!(moved.coverage, Coverage { seen: 1, decoded: 0, unknown: 0, unstable: 1 });
    }

    #[test]
    fn what_moves_from_one_look_to_the_next_is_unstable() {
        let mut history = History::default();
        for imprint in [1, 2, 3] {
            let mut busy = snapshot(Some("the code panics here"));
            busy.tasks[0].imprint = Some(imprint);
            history.excuse(&mut busy);
            assert_eq!(busy.tasks[0].unstable, imprint > 1);
        }
    }

    #[test]
    fn what_cannot_be_read_twice_is_unknown() {
        let mut history = History::default();
        for _ in 0..2 {
            let mut opaque = snapshot(Some("an instruction that is not known"));
            history.excuse(&mut opaque);
            assert!(!opaque.tasks[0].unstable);
            assert_eq!(opaque.coverage.unknown, 1);
        }
    }
}

//! `starved`: tasks that are ready, and nobody comes round to them, since whoever could poll them polls one task on and on.
//!
//! A long queue is not that: its tasks are polled one after the other. So much is asked for: from one look to the next the tasks
//! of the runtime that are being polled are the same ones, no thread of it waits for work, and by their own notes
//! ([`crate::model::Task::imprint`]) its workers have taken up no other task. Time counts only as far as the process has used
//! the processor: one that is stopped or throttled starves nobody.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::{
    analysis::{identity, names},
    model::{
        Certainty, Finding, FindingKind, FindingThread, PartyId, Snapshot, Task, TaskState, Thread, ThreadActivity,
    },
};

/// Tasks that a finding names.
const NAMED: usize = 100;

/// Tasks that were ready in the last look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<(Instant, Duration)>,
    ready: FxHashMap<PartyId, Ready>,
}

/// A task that is to be polled.
#[derive(Debug)]
struct Ready {
    imprint: u64,
    /// Who is being polled meanwhile.
    behind: Vec<PartyId>,
    /// Time for which that has been so.
    lasted: Duration,
}

impl Watch {
    /// Takes in the next snapshot; a finding for each runtime in which tasks have been ready for `threshold`.
    pub(super) fn observe(&mut self, now: &Snapshot, threshold: Duration) -> Vec<Finding> {
        let before = std::mem::take(&mut self.ready);
        let last = self.last.take();
        let Some(used) = now.cpu else { return Vec::new() };
        self.last = Some((now.taken_at, used));
        let passed = last.map_or(Duration::ZERO, |(at, used_then)| {
            now.taken_at.saturating_duration_since(at).min(used.saturating_sub(used_then))
        });
        let polled: Vec<Vec<PartyId>> = (0..now.runtimes.len()).map(|runtime| polled(now, runtime)).collect();
        let mut starved: Vec<(Vec<&Task>, Duration)> = vec![(Vec::new(), Duration::MAX); now.runtimes.len()];
        for task in now.tasks.iter().filter(|task| task.state == TaskState::Scheduled && !task.unstable) {
            let (Some(imprint), Some(behind)) = (task.imprint, polled.get(task.runtime)) else { continue };
            if behind.is_empty() {
                continue;
            }
            let known = before.get(&task.party).filter(|known| known.imprint == imprint && known.behind == *behind);
            let lasted = known.map_or(Duration::ZERO, |known| known.lasted.saturating_add(passed));
            if lasted >= threshold {
                let (tasks, least) = &mut starved[task.runtime];
                tasks.push(task);
                *least = lasted.min(*least);
            }
            self.ready.insert(task.party, Ready { imprint, behind: behind.clone(), lasted });
        }
        let starved = starved.into_iter().zip(&polled).filter(|((tasks, _), _)| !tasks.is_empty());
        starved.map(|((tasks, lasted), behind)| explain(now, &tasks, behind, lasted)).collect()
    }
}

/// The tasks of a runtime that are being polled, in order; none where one of its threads waits for work.
fn polled(now: &Snapshot, runtime: usize) -> Vec<PartyId> {
    let is_idle = |thread: &Thread| matches!(thread.activity, ThreadActivity::Parked | ThreadActivity::Driving);
    if now.workers_of(runtime).any(is_idle) {
        return Vec::new();
    }
    let polled = now.tasks.iter().filter(|task| task.runtime == runtime && task.state == TaskState::Running);
    let mut polled: Vec<PartyId> = polled.map(|task| task.party).collect();
    polled.sort_unstable();
    polled
}

fn explain(now: &Snapshot, starved: &[&Task], behind: &[PartyId], lasted: Duration) -> Finding {
    let polled: Vec<&Task> = now.tasks.iter().filter(|task| behind.contains(&task.party)).collect();
    let types = polled.iter().map(|task| task.name.to_string());
    let id = identity::id(FindingKind::Starved, types);
    let who = match starved {
        [one] => format!("{} has", names::task(one)),
        [one, others @ ..] => format!("{} and {} more tasks have", names::task(one), others.len()),
        [] => "nobody has".to_owned(),
    };
    let culprits: Vec<String> = polled.iter().map(|task| names::task(task)).collect();
    let (culprits, verb, comes) = match &culprits[..] {
        [one] => (one.clone(), "is", "comes"),
        several => (several.join(" and "), "are", "come"),
    };
    let seconds = lasted.as_secs_f64();
    let summary = format!(
        "{who} been ready for {seconds:.1} s, and nobody polls: {culprits} {verb} being polled all the time and never {comes} \
         to an await"
    );
    let threads = now
        .threads
        .iter()
        .filter(|thread| matches!(thread.activity, ThreadActivity::Polling(party) if behind.contains(&party)));
    let mut tasks: Vec<PartyId> = starved.iter().map(|task| task.party).collect();
    tasks.sort_unstable();
    tasks.truncate(NAMED);
    Finding {
        cause: Some(format!("{culprits} {verb} in one poll, on the processor")),
        tasks,
        threads: threads
            .map(|thread| FindingThread { tid: thread.tid, name: thread.name.clone(), frames: thread.frames.clone() })
            .collect(),
        effects: starved.len().saturating_sub(NAMED) as u64,
        ..Finding::new(id, FindingKind::Starved, Certainty::Observed, summary)
    }
}

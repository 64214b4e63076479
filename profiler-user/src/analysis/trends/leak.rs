//! `leak`: tasks that pile up at one await, while others of their type come and go.
//!
//! That tasks of a type grow in number is no leak: a service may warm up, and its clients may come and stay. So much is asked
//! for before anyone is accused: in each of three windows the old ones at one await have grown in number and none has left;
//! others of the type have ended in that time, and none of these had become old; it is no socket they wait for, nor do
//! as many more tasks wait for sockets.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    analysis::{identity, names},
    model::{Certainty, Finding, FindingKind, Frame, PartyId, ResourceKind, Snapshot, Task, TaskState, WaitMode},
};

/// Windows over which a cohort must have grown.
const WINDOWS: usize = 3;
/// Tasks that a finding names.
const NAMED: usize = 100;

/// A type of task, where tasks of it wait.
type Place = (Arc<str>, Vec<Frame>);

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Tasks that are there, with when they were first seen.
    born: FxHashMap<PartyId, (Instant, Arc<str>)>,
    /// How tasks of each type ended since the last mark: how many, and how old the oldest was.
    deaths: FxHashMap<Arc<str>, (u64, Duration)>,
    /// The ends of the last windows, oldest first.
    marks: VecDeque<Mark>,
    /// What stood out at the last mark.
    found: Vec<Finding>,
}

/// What was so when a window ended.
#[derive(Debug)]
struct Mark {
    at: Instant,
    /// Tasks that wait for a socket.
    on_sockets: usize,
    old: FxHashMap<Place, FxHashSet<PartyId>>,
    /// Deaths in the window that ended then.
    deaths: FxHashMap<Arc<str>, (u64, Duration)>,
}

impl Watch {
    /// Takes in the next snapshot; `span` is how long a leak must have grown.
    pub(super) fn observe(&mut self, now: &Snapshot, span: Duration) -> Vec<Finding> {
        let window = span / WINDOWS as u32;
        self.follow(now);
        let due = self.marks.back().is_none_or(|mark| now.taken_at.saturating_duration_since(mark.at) >= window);
        if due {
            let mark = self.mark(now, window);
            self.marks.push_back(mark);
            if self.marks.len() > WINDOWS + 1 {
                self.marks.pop_front();
            }
            self.found = if self.marks.len() > WINDOWS { self.leaks(now, window) } else { Vec::new() };
        }
        self.found.clone()
    }

    /// Notes who was born and who has ended.
    fn follow(&mut self, now: &Snapshot) {
        let present: FxHashSet<PartyId> = now.tasks.iter().map(|task| task.party).collect();
        let deaths = &mut self.deaths;
        self.born.retain(|party, (born, name)| {
            let stays = present.contains(party);
            if !stays {
                let (count, oldest) = deaths.entry(Arc::clone(name)).or_default();
                *count += 1;
                *oldest = (*oldest).max(now.taken_at.saturating_duration_since(*born));
            }
            stays
        });
        for task in &now.tasks {
            self.born.entry(task.party).or_insert_with(|| (now.taken_at, Arc::clone(&task.name)));
        }
    }

    fn mark(&mut self, now: &Snapshot, window: Duration) -> Mark {
        let mut old: FxHashMap<Place, FxHashSet<PartyId>> = FxHashMap::default();
        let mut on_sockets = 0;
        for task in &now.tasks {
            if task.root.waits().any(|wait| wait.resource.kind == ResourceKind::Io) {
                on_sockets += 1;
            } else if is_old(task, window) {
                let frames = task.root.walk().flat_map(|strand| strand.frames.iter()).cloned().collect();
                old.entry((Arc::clone(&task.name), frames)).or_default().insert(task.party);
            }
        }
        Mark { at: now.taken_at, on_sockets, old, deaths: std::mem::take(&mut self.deaths) }
    }

    fn leaks(&self, now: &Snapshot, window: Duration) -> Vec<Finding> {
        let Some((first, last)) = self.marks.front().zip(self.marks.back()) else { return Vec::new() };
        let mut leaks = Vec::new();
        for (place, cohort) in &last.old {
            let sizes: Vec<usize> =
                self.marks.iter().map(|mark| mark.old.get(place).map_or(0, FxHashSet::len)).collect();
            let stays = |(before, after): (&Mark, &Mark)| {
                let old = before.old.get(place);
                old.is_none_or(|old| after.old.get(place).is_some_and(|now| old.is_subset(now)))
            };
            let turns_over = |mark: &Mark| mark.deaths.get(&place.0).is_some_and(|(_, oldest)| *oldest < window);
            let grown = cohort.len() - sizes[0];
            let is_leak = sizes.windows(2).all(|pair| pair[0] < pair[1])
                && self.marks.iter().zip(self.marks.iter().skip(1)).all(stays)
                && self.marks.iter().skip(1).all(turns_over)
                && last.on_sockets.saturating_sub(first.on_sockets) * 2 < grown;
            if is_leak {
                let lives = self.marks.iter().skip(1).filter_map(|mark| mark.deaths.get(&place.0));
                let usual = lives.map(|(_, oldest)| *oldest).max().unwrap_or_default();
                let over = last.at.saturating_duration_since(first.at);
                leaks.push(explain(now, place, cohort, grown, over, usual));
            }
        }
        leaks
    }
}

/// Whether a task has stood where it stands for at least a window.
fn is_old(task: &Task, window: Duration) -> bool {
    task.state == TaskState::Suspended
        && !task.unstable
        && task.since.is_some_and(|since| since.at_least_s >= window.as_secs_f64())
}

fn explain(
    now: &Snapshot,
    place: &Place,
    cohort: &FxHashSet<PartyId>,
    grown: usize,
    over: Duration,
    usual: Duration,
) -> Finding {
    let (name, frames) = place;
    let mut tasks: Vec<PartyId> = cohort.iter().copied().collect();
    tasks.sort_unstable();
    let one = now.tasks.iter().find(|task| tasks.first() == Some(&task.party));
    let site = names::site(frames).map_or_else(String::new, |frame| format!(" in {}", frame.function));
    let summary = format!(
        "{} tasks of type {name} wait{site} and do not end: {grown} more in {:.0} s, while others of the type end within {:.1} s",
        cohort.len(),
        over.as_secs_f64(),
        usual.as_secs_f64(),
    );
    let stack = frames.iter().map(|frame| format!("{}:{:?}", frame.function, frame.line));
    let id = identity::id(FindingKind::Leak, [name.to_string(), stack.collect::<Vec<_>>().join("\n")]);
    tasks.truncate(NAMED);
    Finding {
        cause: one.and_then(what_keeps),
        tasks,
        ..Finding::new(id, FindingKind::Leak, Certainty::Observed, summary)
    }
}

/// What would have to come for a task to go on.
fn what_keeps(task: &Task) -> Option<String> {
    let wait = task.root.waits().next()?;
    let kind = &wait.resource.kind;
    Some(match wait.mode {
        WaitMode::Receive => format!("nothing comes on {kind}, and its senders are not dropped"),
        WaitMode::Send => format!("nobody receives from {kind}, and its receiver is not dropped"),
        WaitMode::Acquire { .. } => format!("{kind} is not released"),
        WaitMode::Join => "the task they await does not end".to_owned(),
        WaitMode::Notified => format!("{kind} is not notified"),
        WaitMode::Deadline { .. } => {
            "a timer that is far off or begins anew, and nothing that ends the task".to_owned()
        }
        WaitMode::Ready { .. } | WaitMode::Unknown => format!("{kind} does not come"),
    })
}

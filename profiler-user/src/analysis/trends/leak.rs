//! `leak`: tasks that pile up at one await, while others of their type come and go.
//!
//! That tasks of a type grow in number is no leak: a service may warm up, and its clients may come and stay. So much is asked
//! for before anyone is accused: in each of three windows the old ones at one await have grown in number and none has left;
//! others of the type have ended in that time, and none of these had become old; it is no socket they wait for, nor a point in
//! time that comes once, nor do as many more tasks wait for sockets. Where none of the type is seen to end, which is how the
//! worst leaks look and every start as well, it takes four times as long.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    analysis::{identity, names},
    model::{
        Certainty, Finding, FindingKind, Frame, PartyId, ResourceKind, Snapshot, Strand, Task, TaskState, Wait,
        WaitMode,
    },
};

/// Windows over which a cohort must have grown while others of its type ended in each.
const WINDOWS: usize = 3;
/// Windows over which it must have grown where they did not.
const LONG: usize = 4 * WINDOWS;
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
            if self.marks.len() > LONG + 1 {
                self.marks.pop_front();
            }
            self.found = self.leaks(now, window);
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
            } else if is_old(task, window) && !is_dated(task) {
                let frames = task.root.walk().flat_map(|strand| strand.frames.iter()).cloned().collect();
                old.entry((Arc::clone(&task.name), frames)).or_default().insert(task.party);
            }
        }
        Mark { at: now.taken_at, on_sockets, old, deaths: std::mem::take(&mut self.deaths) }
    }

    fn leaks(&self, now: &Snapshot, window: Duration) -> Vec<Finding> {
        let Some(last) = self.marks.back() else { return Vec::new() };
        let grows = |place: &Place| {
            let over = |windows: usize| Some(self.marks.range(self.marks.len().checked_sub(windows + 1)?..));
            let turns_over = |mark: &Mark| mark.deaths.contains_key(&place.0);
            let soon = over(WINDOWS).filter(|marks| marks.clone().skip(1).all(turns_over));
            let growth = soon.and_then(|marks| Growth::of(place, marks, window));
            growth.or_else(|| Growth::of(place, over(LONG)?, window))
        };
        let leaks = last.old.iter().filter_map(|(place, cohort)| Some(explain(now, place, cohort, &grows(place)?)));
        leaks.collect()
    }
}

/// How a cohort has grown.
struct Growth {
    /// By how many tasks.
    by: usize,
    over: Duration,
    /// How old others of the type became; `None` where none has ended.
    usual: Option<Duration>,
}

impl Growth {
    /// The growth of those at `place` from the first of `marks` to the last; `None` where it is no leak.
    fn of<'m>(place: &Place, marks: impl Iterator<Item = &'m Mark> + Clone, window: Duration) -> Option<Self> {
        let (first, last) = (marks.clone().next()?, marks.clone().last()?);
        let at = |mark: &'m Mark| mark.old.get(place);
        let grows = |(before, after): (&'m Mark, &'m Mark)| match (at(before), at(after)) {
            (None, after) => after.is_some_and(|after| !after.is_empty()),
            (Some(before), Some(after)) => before.len() < after.len() && before.is_subset(after),
            (Some(_), None) => false,
        };
        let usual = marks.clone().skip(1).filter_map(|mark| mark.deaths.get(&place.0)).map(|(_, oldest)| *oldest).max();
        let by = at(last)?.len() - at(first).map_or(0, FxHashSet::len);
        let is_leak = marks.clone().zip(marks.skip(1)).all(grows)
            && usual.is_none_or(|oldest| oldest < window)
            && last.on_sockets.saturating_sub(first.on_sockets) * 2 < by;
        is_leak.then(|| Self { by, over: last.at.saturating_duration_since(first.at), usual })
    }
}

/// Whether a task has stood where it stands for at least a window.
fn is_old(task: &Task, window: Duration) -> bool {
    task.state == TaskState::Suspended
        && !task.unstable
        && task.since.is_some_and(|since| since.at_least_s >= window.as_secs_f64())
}

/// Whether a task is known to go on at a point in time, and that of no interval: so does what removes an entry when it expires, and
/// whoever waits under a timeout.
fn is_dated(task: &Task) -> bool {
    let is_date = |wait: &Wait| matches!(wait.mode, WaitMode::Deadline { in_ms: Some(_) });
    let of_interval = |strand: &Strand| strand.frames.iter().any(|frame| frame.function.contains("nterval"));
    task.root.waits().any(is_date) && !task.root.walk().any(of_interval)
}

fn explain(now: &Snapshot, place: &Place, cohort: &FxHashSet<PartyId>, growth: &Growth) -> Finding {
    let (name, frames) = place;
    let mut tasks: Vec<PartyId> = cohort.iter().copied().collect();
    tasks.sort_unstable();
    let one = now.tasks.iter().find(|task| tasks.first() == Some(&task.party));
    let site = names::site(frames).map_or_else(String::new, |frame| format!(" in {}", frame.function));
    let others = match growth.usual {
        Some(usual) => format!("while others of the type end within {:.1} s", usual.as_secs_f64()),
        None => "and none of the type has ended".to_owned(),
    };
    let summary = format!(
        "{} tasks of type {name} wait{site} and do not end: {} more in {:.0} s, {others}",
        cohort.len(),
        growth.by,
        growth.over.as_secs_f64(),
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

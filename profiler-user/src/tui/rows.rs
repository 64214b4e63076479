//! The rows of the task table: chosen, ordered and grouped once for a view, drawn many times.

use std::{
    cmp::{Ordering, Reverse},
    hash::{Hash, Hasher},
};

use rustc_hash::{FxHashMap, FxHasher};

use super::index::Index;
use crate::{
    model::{Certainty, FindingKind, Frame, PartyId, Strand, Task, TaskState},
    session::View,
};

/// What a row stands for, the same from one view to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RowKey {
    /// One task.
    Task(PartyId),
    /// All tasks with one await stack, by a hash of it.
    Group(u64),
}

/// The finding that a row shows: the most permanent of those that name its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    /// What.
    pub kind: FindingKind,
    /// How sure; the surer comes first.
    pub certainty: Reverse<Certainty>,
}

/// One row. What it says is formatted when it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Identity.
    pub key: RowKey,
    /// Indices into the snapshot's tasks, the longest in its state first; never empty.
    pub members: Vec<u32>,
    /// The worst that was found.
    pub fault: Option<Fault>,
    /// Seconds that the first member has been in its state, at least.
    pub seconds: Option<f64>,
    /// Whether the members are in one state.
    pub one_state: bool,
    /// Whether the members wait for one and the same resource.
    pub one_resource: bool,
}

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SortKey {
    /// Findings first, the most permanent before the others; then the longest in its state.
    #[default]
    Stuck,
    /// Time in the state, longest first.
    Time,
    /// State.
    State,
    /// What is waited for.
    Wait,
    /// Type name.
    Name,
    /// The runtime's own id; groups: how many tasks, most first.
    Id,
}

impl SortKey {
    /// All, in the order in which `s` goes through them.
    pub(super) const ALL: [Self; 6] = [Self::Stuck, Self::Time, Self::State, Self::Wait, Self::Name, Self::Id];

    /// The one after it.
    #[must_use]
    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|&key| key == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// What the title says.
    pub(super) fn name(self, grouped: bool) -> &'static str {
        match self {
            Self::Stuck => "stuck first",
            Self::Time => "by time",
            Self::State => "by state",
            Self::Wait => "by wait",
            Self::Name => "by type",
            Self::Id if grouped => "by count",
            Self::Id => "by id",
        }
    }
}

/// What the table shows, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Words that a task must have, `!word` those it must not have.
    pub filter: String,
    /// Order.
    pub sort: SortKey,
    /// The other way round.
    pub reverse: bool,
    /// One row for all tasks with one await stack.
    pub group: bool,
}

/// The table for one view and one query.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Rows in their order.
    pub rows: Vec<Row>,
    /// Tasks that passed the filter.
    pub shown: usize,
    /// Tasks in all, by state.
    pub states: Vec<(TaskState, usize)>,
    places: FxHashMap<RowKey, usize>,
}

impl Table {
    /// The table of `view` under `query`.
    pub(super) fn new(view: &View, index: &Index, query: &Query) -> Self {
        let tasks = &view.snapshot.tasks;
        let filter = Filter::new(&query.filter);
        let passed: Vec<u32> = tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| filter.matches(task, index, view))
            .map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX))
            .collect();
        let shown = passed.len();
        let mut rows: Vec<Row> = if query.group {
            grouped(passed, tasks)
        } else {
            passed.into_iter().map(|at| (RowKey::Task(tasks[at as usize].party), vec![at])).collect()
        }
        .into_iter()
        .map(|(key, members)| row(key, members, view, index))
        .collect();
        rows.sort_by_cached_key(|row| Place::new(row, tasks, query));
        if query.reverse {
            rows.reverse();
        }
        let places = rows.iter().enumerate().map(|(at, row)| (row.key, at)).collect();
        Self { rows, shown, states: states(tasks), places }
    }

    /// Where the row of that key stands.
    pub(super) fn place(&self, key: RowKey) -> Option<usize> {
        self.places.get(&key).copied()
    }
}

fn states(tasks: &[Task]) -> Vec<(TaskState, usize)> {
    let mut counts: FxHashMap<TaskState, usize> = FxHashMap::default();
    for task in tasks {
        *counts.entry(task.state).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    counts
}

fn row(key: RowKey, mut members: Vec<u32>, view: &View, index: &Index) -> Row {
    let tasks = &view.snapshot.tasks;
    let seconds = |at: &u32| tasks[*at as usize].since.map(|since| since.at_least_s);
    members.sort_by(|a, b| order(seconds(b), seconds(a)));
    let fault = members.iter().filter_map(|&at| fault(tasks[at as usize].party, view, index)).min();
    let seconds = members.first().and_then(seconds);
    let alike = |differ: &dyn Fn(&Task, &Task) -> bool| {
        let mut of = members.iter().map(|&at| &tasks[at as usize]);
        of.next().is_none_or(|first| of.all(|other| !differ(first, other)))
    };
    let one_state = alike(&|a, b| a.state != b.state);
    let resource = |task: &Task| task.root.waits().next().map(|wait| (wait.resource.address, wait.target));
    let one_resource = alike(&|a, b| resource(a) != resource(b));
    Row { key, members, fault, seconds, one_state, one_resource }
}

/// Seconds in order, the unknown as the shortest.
fn order(a: Option<f64>, b: Option<f64>) -> Ordering {
    a.unwrap_or(-1.0).total_cmp(&b.unwrap_or(-1.0))
}

/// The worst finding that names `party`.
pub(super) fn fault(party: PartyId, view: &View, index: &Index) -> Option<Fault> {
    index
        .findings(party)
        .iter()
        .map(|&at| &view.findings[at])
        .map(|finding| Fault { kind: finding.kind, certainty: Reverse(finding.certainty) })
        .min()
}

/// What a row is ordered by; made once a row.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    first: First,
    /// Time in the state, longest first, in microseconds.
    time: Reverse<u64>,
    /// The tie-breaker: a table must not dance.
    party: PartyId,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum First {
    Fault(bool, Option<Fault>),
    Time,
    State(TaskState),
    Text(String),
    Id(PartyId),
    Count(Reverse<usize>),
}

impl Place {
    fn new(row: &Row, tasks: &[Task], query: &Query) -> Self {
        let task = &tasks[row.members[0] as usize];
        let first = match query.sort {
            SortKey::Stuck => First::Fault(row.fault.is_none(), row.fault),
            SortKey::Time => First::Time,
            SortKey::State => First::State(task.state),
            SortKey::Wait => First::Text(
                task.root.waits().next().map_or_else(|| "\u{10ffff}".to_owned(), |wait| wait.resource.kind.to_string()),
            ),
            SortKey::Name => First::Text(task.name.to_string()),
            SortKey::Id if query.group => First::Count(Reverse(row.members.len())),
            SortKey::Id => First::Id(task.party),
        };
        let micros = row.seconds.map_or(0, |s| ((s * 1e6) as u64).saturating_add(1));
        Self { first, time: Reverse(micros), party: task.party }
    }
}

fn grouped(passed: Vec<u32>, tasks: &[Task]) -> Vec<(RowKey, Vec<u32>)> {
    let mut groups: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
    for at in passed {
        groups.entry(stack_hash(&tasks[at as usize])).or_default().push(at);
    }
    groups.into_iter().map(|(hash, members)| (RowKey::Group(hash), members)).collect()
}

/// A hash of the await stack with its forks, the type and the kinds waited for; addresses and ids stay out of it.
fn stack_hash(task: &Task) -> u64 {
    fn strand(strand_: &Strand, hasher: &mut FxHasher) {
        strand_.frames.hash(hasher);
        strand_.fork.hash(hasher);
        strand_.wait.as_ref().map(|wait| &wait.resource.kind).hash(hasher);
        strand_.children.len().hash(hasher);
        for child in &strand_.children {
            strand(child, hasher);
        }
    }
    let mut hasher = FxHasher::default();
    task.name.hash(&mut hasher);
    strand(&task.root, &mut hasher);
    hasher.finish()
}

/// The innermost frame of a chain that is the user's: what lies below it belongs to a runtime or a combinator, and is
/// in the await stack.
pub(super) fn own(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().rfind(|frame| !frame.is_library())
}

/// The user's frame in which a task waits, else its last.
pub(super) fn leaf(task: &Task) -> Option<&Frame> {
    let strand = task.root.walk().find(|strand| strand.wait.is_some()).unwrap_or(&task.root);
    own(&strand.frames).or_else(|| own(&task.root.frames)).or_else(|| strand.frames.last())
}

/// Words to find in what a row can show. Case does not matter.
struct Filter {
    words: Vec<(bool, String)>,
}

impl Filter {
    fn new(text: &str) -> Self {
        let words = text
            .split_whitespace()
            .map(|word| match word.strip_prefix('!') {
                Some(word) => (false, word.to_lowercase()),
                None => (true, word.to_lowercase()),
            })
            .filter(|(_, word)| !word.is_empty())
            .collect();
        Self { words }
    }

    fn matches(&self, task: &Task, index: &Index, view: &View) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let text = haystack(task, index, view);
        self.words.iter().all(|(wanted, word)| text.contains(word.as_str()) == *wanted)
    }
}

/// Everything about a task that a word may be found in, in lower case.
fn haystack(task: &Task, index: &Index, view: &View) -> String {
    use std::fmt::Write as _;
    let mut out = format!("{}\n{}\n{}\n", task.id(), task.name, task.state.name());
    for strand in task.root.walk() {
        for frame in strand.frames.iter() {
            let (file, line) = (frame.file.as_deref().unwrap_or_default(), frame.line.unwrap_or_default());
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{} {file}:{line}", frame.function);
        }
        let waited = strand.wait.iter().map(|wait| &wait.resource);
        for key in waited.chain(strand.holds.iter().map(|hold| &hold.resource)) {
            let _ = writeln!(out, "{} {:#x}", key.kind, key.address);
        }
    }
    for &at in index.findings(task.party) {
        let finding = &view.findings[at];
        let _ = writeln!(out, "{} {}", finding.kind.name(), finding.certainty.name());
    }
    out.to_lowercase()
}

//! The selected task: what it does, the graph around it, its await stack; or the tasks of the selected group.

use super::{heading, label, tone};
use crate::{
    model::{Fork, PartyId, Strand, Task},
    session::View,
    tui::{
        doc::{Line, Tone},
        graph::graph,
        index::Index,
        rows::Row,
        summary, text,
    },
};

/// Members of a group that are listed.
const MAX_MEMBERS: usize = 200;

/// The page of one task.
pub(in crate::tui) fn task(task: &Task, view: &View, index: &Index) -> Vec<Line> {
    let mut lines = vec![
        Line::new(Tone::Strong, text::party(task.party)).and(Tone::Strong, format!(" {}", text::escape(&task.name))),
        state(task, view, index),
    ];
    faults(task.party, view, index, &mut lines);
    if task.unstable {
        lines.push(Line::new(Tone::Warn, "changed while it was read: what is shown may be of two moments"));
    }
    if let Some(why) = &task.incomplete {
        lines.push(Line::new(Tone::Warn, format!("not all of it could be read: {}", text::escape(why))));
    }
    lines.push(Line::default());
    lines.extend(graph(task.party, view, index));
    lines.push(Line::default());
    lines.push(heading("await stack, root first"));
    stack(&task.root, "", &mut lines);
    thread(task.party, view, index, &mut lines);
    lines
}

fn state(task: &Task, view: &View, index: &Index) -> Line {
    let mut line = Line::new(summary::state_tone(task.state), task.state.name())
        .and(Tone::Plain, format!(" {}", text::since_long(task.since)));
    if let Some(thread) = index.thread_of(task.party, view) {
        line = line.and(Tone::Dim, " · on thread ").and(Tone::Plain, summary::thread_name(thread));
    }
    // Which runtime matters where there are several.
    let runtimes = &view.snapshot.runtimes;
    if let Some(runtime) = runtimes.get(task.runtime).filter(|_| runtimes.len() > 1) {
        line = line.and(Tone::Dim, format!(" · {} {:#x}", runtime.kind.name(), runtime.address));
    }
    line
}

fn faults(party: PartyId, view: &View, index: &Index, lines: &mut Vec<Line>) {
    for &at in index.findings(party) {
        let finding = &view.findings[at];
        lines.push(
            Line::new(tone(finding.kind), label(finding))
                .and(Tone::Plain, format!("  {}", text::escape(&finding.summary))),
        );
    }
}

/// The frames of a strand and of its children, each fork said in words.
fn stack(strand: &Strand, indent: &str, lines: &mut Vec<Line>) {
    if strand.frames.is_empty() && strand.children.is_empty() {
        lines.push(Line::new(Tone::Warn, "no frame of it could be read").behind(indent, indent));
    }
    for frame in strand.frames.iter() {
        let mut line = Line::new(Tone::Plain, text::escape(&frame.function)).behind(indent, format!("{indent}    "));
        if let Some(at) = text::location(frame) {
            line = line.and(Tone::Dim, format!("  {at}"));
        }
        lines.push(line);
    }
    if let Some(wait) = &strand.wait {
        let what = format!("waits for {}", text::resource(&wait.resource));
        lines.push(Line::new(Tone::Strong, what).behind(indent, format!("{indent}   ")));
    }
    if strand.children.is_empty() {
        return;
    }
    let how = match strand.fork {
        Fork::All => "goes on when all of these have ended",
        Fork::Any => "goes on when any of these ends, and drops the others",
        Fork::Unknown => "polls these together",
    };
    lines.push(Line::new(Tone::Dim, format!("{how}:")).behind(indent, indent));
    let len = strand.children.len();
    for (at, child) in strand.children.iter().enumerate() {
        lines.push(Line::new(Tone::Dim, format!("branch {} of {len}", at + 1)).behind(format!("{indent}├ "), indent));
        stack(child, &format!("{indent}│ "), lines);
    }
}

/// The stack of the thread that polls the task now: where a blocked poll stands is not in the await stack.
fn thread(party: PartyId, view: &View, index: &Index, lines: &mut Vec<Line>) {
    let Some(thread) = index.thread_of(party, view).filter(|thread| !thread.frames.is_empty()) else { return };
    lines.push(Line::default());
    lines.push(heading(&format!("stack of thread {}, root first", thread.tid)));
    for frame in &thread.frames {
        lines.push(Line::new(Tone::Plain, text::site(frame)).behind("", "    "));
    }
}

/// The page of a group: its tasks, and the await stack that they share.
pub(in crate::tui) fn group(row: &Row, view: &View, index: &Index) -> Vec<Line> {
    let tasks = &view.snapshot.tasks;
    let Some(first) = row.members.first().and_then(|&at| tasks.get(at as usize)) else { return Vec::new() };
    let count = text::counted(row.members.len() as u64, "task", "tasks");
    let mut lines = vec![
        Line::new(Tone::Strong, format!("{count} with one await stack"))
            .and(Tone::Plain, format!("  {}", text::escape(&first.name))),
        Line::default(),
        heading("await stack, root first"),
    ];
    stack(&first.root, "", &mut lines);
    lines.push(Line::default());
    lines.push(heading("tasks, longest in their state first; enter goes to one"));
    for &at in row.members.iter().take(MAX_MEMBERS) {
        let task = &tasks[at as usize];
        let mut line = Line::new(Tone::Strong, text::party(task.party))
            .and(summary::state_tone(task.state), format!("  {}", task.state.name()))
            .and(Tone::Plain, format!("  {} ", text::since_short(task.since)))
            .and(Tone::Dim, text::source_short(task.since))
            .and(Tone::Plain, format!("  {}", summary::wait(task, view, index)))
            .behind("", "    ")
            .to(task.party);
        if let Some(&fault) = index.findings(task.party).first() {
            let finding = &view.findings[fault];
            line = line.and(tone(finding.kind), format!("  {}", label(finding)));
        }
        lines.push(line);
    }
    if row.members.len() > MAX_MEMBERS {
        let more = text::grouped((row.members.len() - MAX_MEMBERS) as u64);
        lines.push(Line::new(Tone::Dim, format!("… and {more} more; press g for one row a task")));
    }
    lines
}

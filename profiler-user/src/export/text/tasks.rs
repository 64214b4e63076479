//! Tasks, grouped or one by one.

use std::collections::HashMap;

use super::{resource, stack};
use crate::{
    export::{
        format::{count, party, seconds, since, site, task as task_name},
        group::Group,
        page::{Ink, Page},
        unread,
    },
    model::{Buffer, ResourceKey, ResourceKind, Snapshot, Task, TaskState, WaitMode},
    session::{ProbeState, View},
};

/// Shorter bounds than this say nothing: a single look knows of no time at all.
pub(super) const TOLD_S: f64 = 0.001;
/// Ids named of a group, or reasons of a read that was not whole.
const EXAMPLES: usize = 5;

/// Process, runtimes, tasks: one line each.
pub fn header(page: &mut Page, snapshot: &Snapshot) {
    page.put(Ink::Strong, snapshot.target.exe.display()).add(format_args!(" (pid {}): ", snapshot.target.pid));
    page.add(count(snapshot.tasks.len() as u64, "task")).end();
    if !snapshot.inlined_frames {
        page.indent(2)
            .put(Ink::Faint, "no line tables: await stacks lack lines and the functions that were inlined")
            .end();
    }
    for (at, runtime) in snapshot.runtimes.iter().enumerate() {
        let tasks = snapshot.tasks.iter().filter(|task| task.runtime == at).count() as u64;
        page.indent(2).add(runtime.kind.name());
        if let Some(version) = &runtime.version {
            page.add(" ").add(version);
        }
        page.add(": ").add(count(tasks, "task")).add(", ").add(count(runtime.workers.len() as u64, "worker")).end();
    }
    if snapshot.runtimes.is_empty() {
        page.indent(2).put(Ink::Warn, "no async runtime was found in it").end();
    }
}

/// The groups, biggest first; `hidden` more were left out by a limit.
pub fn groups(page: &mut Page, groups: &[Group<'_>], hidden: usize) {
    for group in groups {
        let first = group.first();
        page.blank();
        page.put(Ink::Strong, format_args!("{} x {}", group.tasks.len(), first.name)).add("  ");
        for (n, (state, tasks)) in group.states().into_iter().enumerate() {
            if n > 0 {
                page.add(", ");
            }
            if group.tasks.len() > 1 {
                page.put(ink(state), format_args!("{tasks} {}", state.name()));
            } else {
                page.put(ink(state), state.name());
            }
        }
        if let Some(longest) = group.longest_s().filter(|&longest| longest >= TOLD_S) {
            page.add(format_args!(", the longest for at least {}", seconds(longest)));
        }
        if let Some(grown) = group.grown {
            page.add(", ").put(Ink::Warn, format_args!("{grown} more than before"));
        }
        page.end();
        started(page, first);
        stack::frames(page, &first.root.frames, 4);
        if group.tasks.len() == 1 {
            leaf(page, first);
        } else {
            shared_leaf(page, group);
        }
        stack::branches(page, &first.root, 4);
        let ids: Vec<_> = group.tasks.iter().take(EXAMPLES).map(|task| party(task.party)).collect();
        let more = if group.tasks.len() > EXAMPLES { ", ..." } else { "" };
        page.indent(4).put(Ink::Faint, format_args!("{}{more}", ids.join(", "))).end();
    }
    left_out(page, hidden, "group");
}

/// The tasks of a snapshot one by one; `hidden` more were left out by a limit.
pub fn tasks(page: &mut Page, snapshot: &Snapshot, tasks: &[&Task], hidden: usize) {
    let buffers: HashMap<&ResourceKey, Buffer> =
        snapshot.resources.iter().filter_map(|resource| Some((&resource.key, resource.buffer?))).collect();
    for task in tasks {
        page.blank();
        page.put(Ink::Strong, task_name(task)).add("  ").put(ink(task.state), task.state.name());
        if let Some(tid) = task.thread {
            page.add(format_args!(" on thread {tid}"));
        }
        if let Some(bound) = task.since.filter(|bound| bound.at_least_s >= TOLD_S) {
            page.add(" for ").add(since(bound));
        }
        page.end();
        started(page, task);
        if let Some(labels) = task.labels.as_deref().filter(|labels| !labels.is_empty()) {
            let labels = labels.iter().map(|(name, value)| format!("{name}: {value}"));
            page.indent(4).put(Ink::Faint, format_args!("labels {{{}}}", labels.collect::<Vec<_>>().join(", "))).end();
        }
        stack::frames(page, &task.root.frames, 4);
        leaf(page, task);
        stack::branches(page, &task.root, 4);
        for wait in task.root.waits() {
            if let WaitMode::Ready { fd: Some(fd) } = wait.mode
                && let Some((_, what)) = snapshot.descriptors.iter().find(|(known, _)| *known == fd)
            {
                page.indent(4).put(Ink::Faint, format_args!("descriptor {fd}: {what}")).end();
            }
            if let Some(buffer) = buffers.get(&wait.resource) {
                let named = resource::named(&wait.resource);
                page.indent(4).put(Ink::Faint, format_args!("{named}: {}", resource::buffer(*buffer))).end();
            }
        }
        if let Some(why) = &task.incomplete {
            page.indent(4).put(Ink::Warn, format_args!("not read whole: {why}")).end();
        }
        if task.unstable {
            page.indent(4).put(Ink::Warn, "changed while it was read").end();
        }
    }
    left_out(page, hidden, "task");
}

/// The threads that wait for one another, and those that hold something.
pub fn threads(page: &mut Page, snapshot: &Snapshot) {
    for thread in snapshot.threads.iter().filter(|thread| thread.wait.is_some() || !thread.holds.is_empty()) {
        page.blank();
        page.put(Ink::Strong, format_args!("thread {} ({})", thread.tid, thread.name)).end();
        if let Some(wait) = &thread.wait {
            page.indent(4).put(Ink::Strong, resource::wait(wait)).end();
        }
        for said in resource::holds(thread.holds.iter()) {
            page.indent(4).add(said).end();
        }
    }
}

/// What could not be read or watched, as far as there is any.
pub fn unread(page: &mut Page, view: &View) {
    let snapshot = &*view.snapshot;
    let coverage = snapshot.coverage;
    if let Some(stopped) = snapshot.stopped_for {
        page.line(format_args!("the process was stopped for {:.1} ms while it was read", stopped.as_secs_f64() * 1e3));
    }
    if coverage.unknown > 0 {
        let share = coverage.unknown as f64 / coverage.seen.max(1) as f64 * 100.0;
        let told = format!("{} of {} not read whole ({share:.1}%)", coverage.unknown, count(coverage.seen, "task"));
        page.put(Ink::Warn, told).end();
        reasons(page, &snapshot.tasks);
    }
    if coverage.unstable > 0 {
        page.put(Ink::Warn, format_args!("{} changed while being read", count(coverage.unstable, "task"))).end();
    }
    for why in &snapshot.missing {
        page.put(Ink::Warn, "missing: ").add(why).end();
    }
    for probe in [&view.switch_probe, &view.wait_probe] {
        if let ProbeState::Missing(why) = probe
            && !snapshot.missing.contains(why)
        {
            page.put(Ink::Warn, "not watched: ").add(why).end();
        }
    }
    let lost = snapshot.lost.total();
    if lost > 0 {
        page.put(Ink::Warn, format_args!("{} lost", count(lost, "event"))).end();
    }
    if let Some(why) = &view.ended {
        page.put(Ink::Warn, why).end();
    }
}

/// Why tasks were not read whole, the commonest reasons first.
fn reasons(page: &mut Page, tasks: &[Task]) {
    let reasons = unread::reasons(tasks);
    for (why, tasks) in reasons.iter().take(EXAMPLES) {
        page.indent(4).add(format_args!("{}: {why}", count(*tasks, "task"))).end();
    }
    if reasons.len() > EXAMPLES {
        page.indent(4).put(Ink::Faint, "`gordian tasks --all` tells the other reasons").end();
    }
}

/// Where a task was started, where its runtime remembers.
fn started(page: &mut Page, task: &Task) {
    let place = task.origin.as_ref().and_then(|origin| origin.site.as_ref());
    if let Some(place) = place {
        page.indent(4).put(Ink::Faint, format_args!("started in {}", site(place))).end();
    }
}

fn leaf(page: &mut Page, task: &Task) {
    if let Some(wait) = &task.root.wait {
        page.indent(4).put(Ink::Strong, resource::wait(wait)).end();
    }
    for said in resource::holds(task.root.all_holds()) {
        page.indent(4).add(said).end();
    }
}

fn shared_leaf(page: &mut Page, group: &Group<'_>) {
    let Some(wait) = &group.first().root.wait else { return };
    let addresses = group.wait_addresses();
    let mut shared = wait.clone();
    shared.position = None;
    if addresses != 1 {
        shared.resource.address = 0;
    }
    page.indent(4).put(Ink::Strong, resource::kind_wait(&shared));
    // Every sleep and every socket is its own; that a lock is not the same lock is worth knowing.
    if addresses > 1 && !matches!(wait.resource.kind, ResourceKind::Timer | ResourceKind::Io) {
        page.add(format_args!(", {addresses} different ones"));
    }
    page.end();
}

fn left_out(page: &mut Page, hidden: usize, what: &str) {
    if hidden > 0 {
        page.blank();
        page.put(Ink::Faint, format_args!("and {} left out by --limit", count(hidden as u64, what))).end();
    }
}

fn ink(state: TaskState) -> Ink {
    match state {
        TaskState::Running | TaskState::Scheduled => Ink::Good,
        TaskState::Suspended | TaskState::Complete => Ink::Plain,
        TaskState::Blocked | TaskState::Unknown => Ink::Warn,
    }
}

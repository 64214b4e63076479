//! The runtimes' workers and what each is doing, then every other thread, then the polls that blocked lately.

use super::heading;
use crate::{
    model::{BlockedPoll, PartyId, Thread, ThreadRole},
    session::View,
    tui::{
        doc::{Line, Tone},
        index::Index,
        summary, text,
    },
};

/// Threads listed of one kind; the rest are counted.
const MAX_THREADS: usize = 256;
/// Blocked polls listed.
const MAX_BLOCKED: usize = 64;

/// The page of threads.
pub(in crate::tui) fn workers(view: &View, index: &Index) -> Vec<Line> {
    let snapshot = &view.snapshot;
    let mut lines = Vec::new();
    for (at, runtime) in snapshot.runtimes.iter().enumerate() {
        let version =
            runtime.version.as_deref().map_or_else(|| "version unknown".to_owned(), |v| text::escape(v).into_owned());
        lines.push(
            Line::new(Tone::Strong, runtime.kind.name())
                .and(Tone::Plain, format!(" {version}"))
                .and(Tone::Dim, format!("  {:#x}", runtime.address)),
        );
        let of_runtime: Vec<&Thread> = snapshot.workers_of(at).collect();
        if of_runtime.is_empty() {
            let text = if runtime.workers.is_empty() {
                "no worker thread was found"
            } else {
                "its worker threads were not read"
            };
            lines.push(Line::new(Tone::Warn, text).behind("  ", "  "));
        }
        threads(&of_runtime, view, index, &mut lines);
    }
    let is_worker = |t: &Thread| snapshot.runtimes.iter().any(|r| r.workers.contains(&t.tid));
    for (role, title) in [
        (ThreadRole::BlockOn, "threads in block_on"),
        (ThreadRole::BlockingPool, "blocking pool"),
        (ThreadRole::Plain, "other threads"),
        (ThreadRole::Unknown, "threads not seen at rest yet"),
    ] {
        let of_role: Vec<&Thread> = snapshot.threads.iter().filter(|t| t.role == role && !is_worker(t)).collect();
        if !of_role.is_empty() {
            lines.push(Line::default());
            lines.push(heading(&format!("{title} ({})", of_role.len())));
            threads(&of_role, view, index, &mut lines);
        }
    }
    if lines.is_empty() {
        lines.push(Line::new(Tone::Warn, "no thread of the target was read"));
    }
    blocked(&view.blocked, view, index, &mut lines);
    lines
}

fn threads(list: &[&Thread], view: &View, index: &Index, lines: &mut Vec<Line>) {
    for thread in list.iter().take(MAX_THREADS) {
        lines.push(one(thread, view, index));
    }
    if list.len() > MAX_THREADS {
        let more = text::grouped((list.len() - MAX_THREADS) as u64);
        lines.push(Line::new(Tone::Dim, format!("… and {more} more")).behind("  ", "  "));
    }
}

fn one(thread: &Thread, view: &View, index: &Index) -> Line {
    let line = Line::new(Tone::Plain, summary::thread_name(thread))
        .behind("  ", "      ")
        .about(PartyId::Thread { tid: thread.tid });
    let (tone, doing, party) = summary::doing(thread);
    let mut line = line.and(tone, format!("  {doing}"));
    if let Some(party) = party {
        line = line.and(Tone::Strong, format!(" {}", text::party(party))).to(party);
        if let Some(task) = index.task(party, view) {
            line = line.and(Tone::Plain, format!(" {}", text::escape(&task.name)));
            if task.since.is_some() {
                line = line
                    .and(Tone::Plain, format!("  {} ", text::since_short(task.since)))
                    .and(Tone::Dim, text::source_short(task.since));
            }
        }
    }
    if let Some(wait) = &thread.wait {
        line = line.and(Tone::Dim, "  waits for ").and(Tone::Warn, text::resource(&wait.resource));
    }
    if let Some(call) = &thread.syscall {
        line = line.and(Tone::Dim, format!("  in {}", summary::syscall(call.number)));
    }
    if let Some(leaf) = thread.frames.last().filter(|_| party.is_some()) {
        line = line.and(Tone::Dim, " at ").and(Tone::Plain, text::site(leaf));
    }
    line
}

fn blocked(polls: &[BlockedPoll], view: &View, index: &Index, lines: &mut Vec<Line>) {
    if polls.is_empty() {
        return;
    }
    lines.push(Line::default());
    lines.push(heading("polls that blocked their thread, newest first"));
    for poll in polls.iter().take(MAX_BLOCKED) {
        let (tone, verb) = if poll.ongoing { (Tone::Warn, "blocks for") } else { (Tone::Plain, "blocked for") };
        let span = text::duration(poll.blocked_ns as f64 / 1e9);
        let name = format!("{} {}", poll.tid, text::escape(&poll.thread_name));
        let mut line = Line::new(Tone::Plain, name)
            .and(tone, format!("  {verb} {span}"))
            .and(Tone::Dim, format!(" in {}", summary::syscall(poll.syscall.number)))
            .behind("  ", "      ");
        if let Some(party) = poll.party {
            line = line.and(Tone::Strong, format!("  {}", text::party(party))).to(party);
            if let Some(task) = index.task(party, view) {
                line = line.and(Tone::Plain, format!(" {}", text::escape(&task.name)));
            }
        }
        if let Some(leaf) = poll.frames.last() {
            line = line.and(Tone::Dim, " at ").and(Tone::Plain, text::site(leaf));
        }
        lines.push(line);
    }
    if polls.len() > MAX_BLOCKED {
        let more = text::grouped((polls.len() - MAX_BLOCKED) as u64);
        lines.push(Line::new(Tone::Dim, format!("… and {more} more")).behind("  ", "  "));
    }
}

//! What gordian does not see of this target, and what to do about it. Nothing missing is ever silent.

use super::heading;
use crate::{
    session::{ProbeState, View},
    tui::{
        doc::{Line, Tone},
        text,
    },
};

const SWITCH_TIER: &str = "blocking events (sched_switch)";
const WAIT_TIER: &str = "trace waits (uprobes)";

/// The page of everything that is missing, lost or not understood.
pub(in crate::tui) fn health(view: &View) -> Vec<Line> {
    let snapshot = &view.snapshot;
    let mut lines = vec![heading("tasks")];
    let coverage = snapshot.coverage;
    let figures = format!(
        "{} seen, {} read whole, {} with an unknown part, {} changed while they were read",
        text::grouped(coverage.seen),
        text::grouped(coverage.decoded),
        text::grouped(coverage.unknown),
        text::grouped(coverage.unstable),
    );
    lines.push(Line::new(if coverage.unknown == 0 { Tone::Plain } else { Tone::Warn }, figures));
    lines.push(Line::default());
    lines.push(heading("kernel programs"));
    lines.push(probe(SWITCH_TIER, &view.switch_probe));
    lines.push(probe(WAIT_TIER, &view.wait_probe));
    lines.push(Line::default());
    lines.push(heading("events lost since attach"));
    let lost = snapshot.lost;
    for (count, why) in [
        (lost.ring_full, "no room in the ring buffer"),
        (lost.user_read, "the target's memory could not be read from the kernel program"),
        (lost.channel_full, "a channel inside gordian was full"),
        (lost.stack_moved, "the stack had moved before it was read"),
    ] {
        let tone = if count == 0 { Tone::Dim } else { Tone::Warn };
        lines.push(Line::new(tone, format!("{:>10}  {why}", text::grouped(count))).behind("", "            "));
    }
    lines.push(Line::default());
    lines.push(heading("could not be looked at"));
    if snapshot.missing.is_empty() {
        lines.push(Line::new(Tone::Dim, "nothing"));
    }
    for sentence in &snapshot.missing {
        lines.push(Line::new(Tone::Warn, text::escape(sentence)).behind("- ", "  "));
    }
    lines
}

fn probe(name: &str, state: &ProbeState) -> Line {
    let line = Line::new(Tone::Plain, format!("{name}: ")).behind("", "    ");
    match state {
        ProbeState::On => line.and(Tone::Good, "on"),
        ProbeState::Off => line.and(Tone::Dim, "off (not asked for)"),
        ProbeState::Missing(why) => line.and(Tone::Warn, format!("missing; {}", text::escape(why))),
    }
}

/// One line for each thing that a reader of any pane has to know: the end of the target, missing probes with their
/// remedy, lost events, what could not be read. The most important first.
pub(in crate::tui) fn notes(view: &View, detached: bool) -> Vec<Line> {
    let mut notes = Vec::new();
    if let Some(why) = &view.ended {
        notes.push(Line::new(Tone::Bad, format!("ended: {} · this is the last picture", text::escape(why))));
    } else if detached {
        notes.push(Line::new(Tone::Bad, "gordian's session is over · this is the last picture"));
    }
    let mut figures = Vec::new();
    let lost = view.snapshot.lost.total();
    if lost > 0 {
        figures.push(format!("{} since attach", text::counted(lost, "event lost", "events lost")));
    }
    let coverage = view.snapshot.coverage;
    if coverage.unknown > 0 {
        let (unknown, seen) = (text::grouped(coverage.unknown), text::counted(coverage.seen, "task", "tasks"));
        figures.push(format!("{unknown} of {seen} not read whole"));
    }
    if !figures.is_empty() {
        notes.push(Line::new(Tone::Warn, figures.join(" · ")));
    }
    for (name, state) in [(SWITCH_TIER, &view.switch_probe), (WAIT_TIER, &view.wait_probe)] {
        if let ProbeState::Missing(_) = state {
            notes.push(probe(name, state));
        }
    }
    notes.extend(view.snapshot.missing.iter().map(|m| Line::new(Tone::Warn, format!("not read: {}", text::escape(m)))));
    notes
}

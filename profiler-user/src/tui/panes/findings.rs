//! Everything that was found, with its evidence.

use super::{formed, heading, label, tone};
use crate::{
    model::{Edge, Finding},
    session::View,
    tui::{
        clock::Clock,
        doc::{Line, Tone},
        text,
    },
};

/// Findings shown whole; a page is for reading.
const MAX_FINDINGS: usize = 100;
/// Entries shown of each list in a finding.
const MAX_ENTRIES: usize = 32;

/// The page of all findings.
pub(in crate::tui) fn findings(view: &View, clock: Clock) -> Vec<Line> {
    let mut lines = standing(view, clock);
    if !view.ended_findings.is_empty() {
        lines.push(heading("ended"));
        lines.extend(view.ended_findings.iter().map(|finding| {
            let lasted = finding.lasted().map(|lasted| text::duration(lasted.as_secs_f64())).unwrap_or_default();
            Line::new(Tone::Dim, format!("{} after {lasted}: ", finding.kind.name()))
                .and(Tone::Plain, text::escape(&finding.summary))
                .behind("  ", "    ")
        }));
    }
    lines
}

fn standing(view: &View, clock: Clock) -> Vec<Line> {
    if view.findings.is_empty() {
        let snapshot = &view.snapshot;
        let all = snapshot.complete();
        let text = if all {
            "nothing wrong was found, and everything was read"
        } else {
            "nothing wrong was found in what could be read; the health pane says what could not"
        };
        return vec![Line::new(if all { Tone::Good } else { Tone::Warn }, text)];
    }
    let mut lines = Vec::new();
    for finding in view.findings.iter().take(MAX_FINDINGS) {
        one(finding, clock, &mut lines);
        lines.push(Line::default());
    }
    if view.findings.len() > MAX_FINDINGS {
        let more = text::grouped((view.findings.len() - MAX_FINDINGS) as u64);
        lines.push(Line::new(Tone::Dim, format!("… and {more} more")));
    }
    lines
}

fn one(finding: &Finding, clock: Clock, lines: &mut Vec<Line>) {
    let mut title =
        Line::new(tone(finding.kind), label(finding)).and(Tone::Dim, format!("  {}", formed(finding, clock)));
    if finding.returned > 0 {
        title = title.and(
            Tone::Warn,
            format!("  came back: ended {} before", text::counted(finding.returned.into(), "time", "times")),
        );
    }
    title.jump = finding.tasks.first().copied();
    lines.push(title);
    let mut summary = Line::new(Tone::Strong, text::escape(&finding.summary)).behind("  ", "  ");
    summary.jump = finding.tasks.first().copied();
    lines.push(summary);
    if let Some(cause) = &finding.cause {
        lines.push(Line::new(Tone::Plain, format!("cause: {}", text::escape(cause))).behind("  ", "  "));
    }
    if finding.effects > 0 {
        let tasks = text::counted(finding.effects, "other task waits", "other tasks wait");
        lines.push(Line::new(Tone::Plain, format!("{tasks} because of it")).behind("  ", "  "));
    }
    entries(&finding.edges, lines, edge);
    for thread in finding.threads.iter().take(MAX_ENTRIES) {
        let title = format!("stack of thread {} {}", thread.tid, text::escape(&thread.name));
        lines.push(heading(&title).behind("  ", "  "));
        for frame in &thread.frames {
            lines.push(Line::new(Tone::Plain, text::site(frame)).behind("    ", "        "));
        }
    }
    entries(&finding.unknowns, lines, |unknown| {
        Line::new(Tone::Warn, format!("not accounted for: {}", text::escape(unknown)))
    });
    entries(&finding.breakable_by, lines, |escape| {
        let when = escape.in_ms.map_or_else(String::new, |ms| format!(" ({})", text::until(ms)));
        Line::new(Tone::Plain, format!("would be broken by: {}{when}", text::escape(&escape.what)))
    });
}

fn entries<T>(list: &[T], lines: &mut Vec<Line>, line: impl Fn(&T) -> Line) {
    lines.extend(list.iter().take(MAX_ENTRIES).map(|entry| line(entry).behind("  ", "    ")));
    if list.len() > MAX_ENTRIES {
        let more = text::grouped((list.len() - MAX_ENTRIES) as u64);
        lines.push(Line::new(Tone::Dim, format!("… and {more} more")).behind("  ", "  "));
    }
}

fn edge(edge: &Edge) -> Line {
    let mut line = Line::new(Tone::Strong, text::party(edge.from.party))
        .and(Tone::Plain, format!(" {} waits for ", text::escape(&edge.from.name)))
        .and(Tone::Strong, text::resource(&edge.resource));
    if let Some(site) = &edge.wait_site {
        line = line.and(Tone::Dim, " at ").and(Tone::Plain, text::site(site));
    }
    match &edge.to {
        Some(to) => {
            line = line
                .and(Tone::Dim, " → ")
                .and(Tone::Strong, text::party(to.party))
                .and(Tone::Plain, format!(" {}", text::escape(&to.name)));
        }
        None => line = line.and(Tone::Bad, " → nobody is left who could act"),
    }
    if let Some(site) = &edge.hold_site {
        line = line.and(Tone::Dim, " which holds it in ").and(Tone::Plain, text::site(site));
    }
    line.to(edge.from.party)
}

//! Draws what stands around the panes: target and counts, the worst finding, what is missing, the keys.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line as TextLine, Span},
};

use super::{put, row, styled};
use crate::{
    model::TaskState,
    tui::{doc::Tone, panes, state::State, summary, text, theme::Theme},
};

/// A snapshot older than this is said to be old, in seconds.
const STALE_S: f64 = 3.0;

/// Target, runtimes, tasks by state.
pub(super) fn header(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    if area.height == 0 {
        return;
    }
    let snapshot = &state.view.snapshot;
    let exe = snapshot.target.exe.file_name().unwrap_or(snapshot.target.exe.as_os_str()).to_string_lossy();
    let age = state.clock.now.saturating_duration_since(snapshot.taken_at).as_secs_f64();
    let mut spans = vec![Span::styled(" gordian ", theme.style(Tone::Strong))];
    if state.frozen {
        let text = format!("FROZEN {} ago, {} newer ", text::duration(age), text::grouped(state.behind()));
        spans.push(Span::styled(text, theme.style(Tone::Warn)));
    } else if state.view.ended.is_none() && !state.detached && age > STALE_S {
        let text = format!("NO NEW SNAPSHOT FOR {} ", text::duration(age));
        spans.push(Span::styled(text, theme.style(Tone::Warn)));
    }
    spans.push(Span::styled(format!("{} {}", snapshot.target.pid, text::escape(&exe)), theme.style(Tone::Plain)));
    let total = text::counted(snapshot.tasks.len() as u64, "task", "tasks");
    spans.push(Span::styled(format!(" · {total}"), theme.style(Tone::Strong)));
    for &(kind, count) in &state.table.states {
        let tone = if kind == TaskState::Suspended { Tone::Dim } else { summary::state_tone(kind) };
        spans.push(Span::styled(format!("  {} {}", text::grouped(count as u64), kind.name()), theme.style(tone)));
    }
    let runtimes: Vec<String> = snapshot
        .runtimes
        .iter()
        .map(|runtime| {
            let version = runtime.version.as_deref().map(|v| format!(" {}", text::escape(v))).unwrap_or_default();
            format!("{}{version} ×{}", runtime.kind.name(), runtime.workers.len())
        })
        .collect();
    if !runtimes.is_empty() {
        spans.push(Span::styled(format!(" · {}", runtimes.join(", ")), theme.style(Tone::Dim)));
    }
    put(frame, area, TextLine::from(spans));
}

/// The worst finding and how many there are.
pub(super) fn banner(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let Some(finding) = state.view.findings.first().filter(|_| area.height > 0) else { return };
    let style = theme.banner(panes::tone(finding.kind));
    let count = state.view.findings.len();
    let of = if count > 1 { format!(" [1 of {}]", text::grouped(count as u64)) } else { String::new() };
    frame.buffer_mut().set_style(area, style);
    let text = format!(" {}{of}  {}", panes::label(finding), text::escape(&finding.summary));
    put(frame, area, Span::styled(text::fit(&text, area.width.into()), style));
}

/// What is missing and lost. Where there is no room for all of it, the last line says so.
pub(super) fn notes(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let height = usize::from(area.height);
    let hidden = state.notes.len().saturating_sub(height);
    for (at, note) in state.notes.iter().take(height).enumerate() {
        let Some(area) = row(area, at) else { return };
        if hidden > 0 && at + 1 == height {
            let more = text::counted(hidden as u64 + 1, "more line", "more lines");
            put(frame, area, Span::styled(format!(" … {more} in the health pane (Tab)"), theme.style(Tone::Warn)));
        } else {
            put(frame, area, std::iter::once(Span::raw(" ")).chain(styled(note, theme)).collect::<TextLine<'_>>());
        }
    }
}

/// The filter while it is typed, a word about the last key, or the keys.
pub(super) fn footer(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    if area.height == 0 {
        return;
    }
    if let Some(editing) = &state.editing {
        let label = " filter: ";
        let room = usize::from(area.width).saturating_sub(label.len() + 1);
        let scroll = editing.visual_scroll(room);
        let shown: String = editing.value().chars().skip(scroll).collect();
        put(
            frame,
            area,
            TextLine::from(vec![
                Span::styled(label, theme.style(Tone::Strong)),
                Span::raw(text::escape(&shown).into_owned()),
                Span::styled("   Enter keeps it, Esc takes it away", theme.style(Tone::Dim)),
            ]),
        );
        let column = label.len() + editing.visual_cursor().saturating_sub(scroll);
        let column = u16::try_from(column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
        frame.set_cursor_position((area.x + column, area.y));
        return;
    }
    if let Some(notice) = &state.notice {
        put(frame, area, Span::styled(format!(" {notice}"), theme.style(Tone::Warn)));
        return;
    }
    put(frame, area, Span::styled(keys(area.width.into()), theme.style(Tone::Dim)));
}

/// As many of the keys as fit, the most needed first.
fn keys(width: usize) -> String {
    const KEYS: [&str; 10] = [
        "? help",
        "q quit",
        "Enter detail",
        "Tab panes",
        "/ filter",
        "s sort",
        "g group",
        "n next finding",
        "f freeze",
        "z zoom",
    ];
    let mut out = String::new();
    for key in KEYS {
        if text::width(&out) + key.len() + 3 > width {
            break;
        }
        out.push_str(if out.is_empty() { " " } else { " · " });
        out.push_str(key);
    }
    out
}

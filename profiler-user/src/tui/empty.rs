//! Why the table is empty, in words: an empty view never leaves the reader guessing.

use super::{
    doc::{Line, Tone},
    state::State,
    text,
};

/// What stands in the place of the rows.
pub(super) fn why(state: &State) -> Vec<Line> {
    let view = &state.view;
    let snapshot = &view.snapshot;
    let filter = &state.query.filter;
    if !snapshot.tasks.is_empty() {
        let hidden = text::counted(snapshot.tasks.len() as u64, "task", "tasks");
        return vec![
            Line::new(Tone::Warn, format!("None of {hidden} matches the filter `{}`.", text::escape(filter))),
            Line::new(Tone::Dim, "Esc takes the filter away."),
        ];
    }
    let mut lines = Vec::new();
    if let Some(ended) = &view.ended {
        lines.push(Line::new(Tone::Bad, format!("The target is gone: {}.", text::escape(ended))));
    } else if snapshot.coverage.seen > 0 {
        let seen = text::counted(snapshot.coverage.seen, "task was", "tasks were");
        lines.push(Line::new(Tone::Warn, format!("{seen} seen, and none could be read.")));
    } else if snapshot.runtimes.is_empty() && snapshot.threads.is_empty() {
        lines.push(Line::new(Tone::Warn, "Nothing of the target has been read yet."));
    } else if snapshot.runtimes.is_empty() {
        lines.push(Line::new(Tone::Warn, "No async runtime was found in this process."));
    } else {
        let runtimes = text::counted(snapshot.runtimes.len() as u64, "runtime was", "runtimes were");
        let complete = snapshot.complete();
        let text = if complete { "it has no live task now" } else { "no task of it could be read" };
        lines.push(Line::new(if complete { Tone::Good } else { Tone::Warn }, format!("{runtimes} found, and {text}.")));
    }
    for missing in &snapshot.missing {
        lines.push(Line::new(Tone::Warn, text::escape(missing)).behind("- ", "  "));
    }
    lines
}

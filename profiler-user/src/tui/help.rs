//! The keys and what they do, as the help shows them.

use super::doc::{self, Line, Tone};

const KEYS: &[(&str, &str)] = &[
    ("j k ↓ ↑", "down, up"),
    ("PgDn PgUp Space", "a page on, a page back"),
    ("Home End", "first, last"),
    ("Enter →", "detail of the task; in a pane: go to the task of this line"),
    ("Esc ←", "back to the tasks; in the tasks Esc takes the filter away"),
    ("Backspace", "back to the task before the last jump"),
    ("Tab Shift-Tab", "next pane, previous pane"),
    ("z", "this pane alone, or with the others"),
    ("n", "next task that a finding names"),
    ("/", "filter: words that must occur in a task; !word must not"),
    ("s", "sort: stuck first, time, state, wait, type, id"),
    ("r", "the other way round"),
    ("g", "one row for equal await stacks, or one a task"),
    ("f", "freeze the picture; the target is never touched"),
    ("?", "this help"),
    ("q Ctrl-C", "quit"),
];

const TERMS: &[(&str, &str)] = &[
    ("≥ 40 s attach", "seen so ever since gordian attached; in truth longer"),
    ("≥ 40 s seen", "gordian saw it begin, between two snapshots"),
    ("≥ 40 s event", "an event in the kernel marked its beginning"),
    ("proved", "everyone who could act is accounted for"),
    ("likely", "a cycle or dead owners, with at least one unknown"),
    ("Mutex ← 12", "held by task 12"),
    ("(+2)", "it waits for two more things at once: see its detail"),
];

/// The lines of the help on a screen of `columns`.
pub(super) fn lines(columns: u16) -> Vec<Line> {
    let mut lines = vec![Line::new(Tone::Strong, "Keys")];
    lines.extend(KEYS.iter().map(entry));
    lines.push(Line::default());
    lines.push(Line::new(Tone::Strong, "What the words mean"));
    lines.extend(TERMS.iter().map(entry));
    doc::wrapped(lines, columns.saturating_sub(1).into())
}

fn entry((name, meaning): &(&str, &str)) -> Line {
    Line::new(Tone::Strong, format!("  {name:<17}")).and(Tone::Plain, *meaning).behind("", " ".repeat(19))
}

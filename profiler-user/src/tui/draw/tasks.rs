//! Draws the table of tasks. Only the rows on the screen are formatted.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line as TextLine, Span},
};

use super::{put, row, styled, title};
use crate::{
    model::Certainty,
    tui::{
        doc::{self, Tone},
        empty, panes,
        rows::{Fault, Row, RowKey},
        state::State,
        summary, text,
        theme::Theme,
    },
};

/// Draws the table.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let focused = state.focus == crate::tui::layout::Pane::Tasks;
    let body = title(frame, area, &heading(state, focused), theme.title(focused));
    if state.table.rows.is_empty() {
        let lines = doc::wrapped(empty::why(state), body.width.saturating_sub(2).into());
        for (at, line) in lines.iter().enumerate() {
            let Some(area) = row(body, at + 1) else { return };
            put(
                frame,
                Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area }.intersection(area),
                styled(line, theme),
            );
        }
        return;
    }
    let columns = Columns::new(body.width.into(), state.query.group, !state.view.findings.is_empty());
    if let Some(area) = row(body, 0) {
        put(frame, area, Span::styled(columns.line(&columns.names()), theme.style(Tone::Dim)));
    }
    let height = usize::from(body.height.saturating_sub(1));
    for (at, entry) in state.table.rows.iter().skip(state.cursor.top).take(height).enumerate() {
        let Some(area) = row(body, at + 1) else { return };
        put(frame, area, line(entry, &columns, state, theme));
        if state.cursor.top + at == state.cursor.at {
            frame.buffer_mut().set_style(area, Theme::cursor(focused));
        }
    }
}

fn heading(state: &State, focused: bool) -> String {
    let mark = if focused { "▶" } else { " " };
    let total = state.view.snapshot.tasks.len() as u64;
    let query = &state.query;
    let what = if !query.filter.is_empty() {
        let shown = text::grouped(state.table.shown as u64);
        format!("{shown} of {} match `{}`", text::grouped(total), text::escape(&query.filter))
    } else if query.group {
        let stacks = text::counted(state.table.rows.len() as u64, "await stack", "await stacks");
        format!("{} in {stacks}", text::grouped(total))
    } else {
        let place = state.cursor.at as u64 + u64::from(total > 0);
        format!("{} of {}", text::grouped(place), text::grouped(total))
    };
    let reversed = if query.reverse { ", reversed" } else { "" };
    format!("{mark}Tasks  {what}  · {}{reversed}", query.sort.name(query.group))
}

/// Columns and their widths at a width of the table. What a narrow table has no room for is in the detail.
struct Columns {
    /// Width of each; 0 leaves it out.
    widths: [usize; 8],
    grouped: bool,
}

/// In the order in which they stand.
const FAULT: usize = 0;
const ID: usize = 1;
const STATE: usize = 2;
const FOR: usize = 3;
const SOURCE: usize = 4;
const WAIT: usize = 5;
const AT: usize = 6;
const TYPE: usize = 7;

impl Columns {
    fn new(width: usize, grouped: bool, faults: bool) -> Self {
        let mut widths = [0; 8];
        widths[FAULT] = match (faults, width >= 100) {
            (false, _) => 0,
            (true, true) => 15,
            (true, false) => 2,
        };
        widths[ID] = if width >= 80 { 9 } else { 7 };
        widths[STATE] = if width >= 80 { 9 } else { 5 };
        widths[FOR] = 9;
        widths[SOURCE] = if width >= 100 { 6 } else { 0 };
        let gaps = widths.iter().filter(|&&w| w > 0).count();
        let room = width.saturating_sub(widths.iter().sum::<usize>() + gaps);
        // Who has it matters most; then which line; the type repeats itself.
        let (wait, at) = match room {
            0..36 => (room, 0),
            36..60 => ((room - 1) * 3 / 5, room - 1 - (room - 1) * 3 / 5),
            _ => ((room - 2) * 2 / 5, (room - 2) * 3 / 10),
        };
        widths[WAIT] = wait;
        widths[AT] = at;
        if room >= 60 {
            widths[TYPE] = room - 2 - wait - at;
        }
        Self { widths, grouped }
    }

    fn names(&self) -> [String; 8] {
        let id = if self.grouped { "TASKS" } else { "ID" };
        let fault = if self.widths[FAULT] > 2 { "FOUND" } else { "" };
        [fault, id, "STATE", "FOR", "SINCE", "WAITS FOR", "AT", "TYPE"].map(ToOwned::to_owned)
    }

    /// One cell: cut or filled to its column. Figures stand at the right of theirs.
    fn cell(&self, column: usize, text: &str) -> String {
        let width = self.widths[column];
        let text = if column == TYPE { text::fit_tail(text, width) } else { text::fit(text, width) };
        let fill = " ".repeat(width.saturating_sub(text::width(&text)));
        if matches!(column, ID | FOR) { format!("{fill}{text} ") } else { format!("{text}{fill} ") }
    }

    fn line(&self, cells: &[String; 8]) -> String {
        (0..cells.len()).filter(|&c| self.widths[c] > 0).map(|c| self.cell(c, &cells[c])).collect()
    }
}

fn line<'a>(entry: &Row, columns: &Columns, state: &State, theme: Theme) -> TextLine<'a> {
    let Some(task) = entry.members.first().and_then(|&at| state.view.snapshot.tasks.get(at as usize)) else {
        return TextLine::default();
    };
    let id = match entry.key {
        RowKey::Task(crate::model::PartyId::BlockOn { tid }) => format!("b:{tid}"),
        RowKey::Task(_) => task.id(),
        RowKey::Group(_) => text::grouped(entry.members.len() as u64),
    };
    let mut name = text::escape(&task.name).into_owned();
    if task.incomplete.is_some() || task.unstable {
        name.insert_str(0, "? ");
    }
    let mut state_name = if columns.widths[STATE] < 9 { summary::state_short(task.state) } else { task.state.name() };
    if !entry.one_state {
        state_name = "mixed";
    }
    let fault_tone = entry.fault.map_or(Tone::Plain, |fault| panes::tone(fault.kind));
    let wait =
        if entry.one_resource { summary::wait(task, &state.view, &state.index) } else { summary::wait_kind(task) };
    let cells: [(Tone, String); 8] = [
        (fault_tone, entry.fault.map_or_else(String::new, |fault| mark(fault, columns.widths[FAULT]))),
        (Tone::Strong, id),
        (summary::state_tone(task.state), state_name.to_owned()),
        (Tone::Plain, text::since_short(task.since)),
        (Tone::Dim, text::source_short(task.since).to_owned()),
        (fault_tone, wait),
        (Tone::Plain, summary::leaf(task)),
        (if name.starts_with('?') { Tone::Warn } else { Tone::Dim }, name),
    ];
    let spans = cells.iter().enumerate().filter(|(column, _)| columns.widths[*column] > 0);
    spans.map(|(column, (tone, text))| Span::styled(columns.cell(column, text), theme.style(*tone))).collect()
}

/// What was found, as wide as the column: its name, or `!!` and `!` for permanent findings proved and likely, `~` else.
fn mark(fault: Fault, width: usize) -> String {
    if width > 2 {
        let unsure = if fault.certainty.0 == Certainty::Proved { "" } else { "?" };
        return format!("{}{unsure}", fault.kind.name());
    }
    match (fault.kind.is_permanent(), fault.certainty.0) {
        (true, Certainty::Proved) => "!!",
        (true, _) => "!",
        (false, _) => "~",
    }
    .to_owned()
}

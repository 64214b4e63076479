//! Draws the state. One file a part of the screen; nothing here decides.

mod chrome;
mod help;
mod page;
mod tasks;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line as TextLine, Span},
    widgets::{Paragraph, Widget},
};

use super::{
    doc::{Line, Tone},
    layout::Pane,
    state::State,
    theme::Theme,
};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme) {
    let layout = state.layout();
    chrome::header(frame, layout.header, state, theme);
    chrome::banner(frame, layout.banner, state, theme);
    for &(pane, area) in &layout.panes {
        match pane {
            Pane::Tasks => tasks::draw(frame, area, state, theme),
            _ => page::draw(frame, area, pane, state, theme),
        }
    }
    chrome::notes(frame, layout.notes, state, theme);
    chrome::footer(frame, layout.footer, state, theme);
    if let Some(cursor) = state.help {
        help::draw(frame, cursor, theme);
    }
}

/// A line in the terminal's terms.
fn styled(line: &Line, theme: Theme) -> TextLine<'_> {
    let lead = Span::styled(line.lead.as_str(), theme.style(Tone::Dim));
    let pieces = line.pieces.iter().map(|piece| Span::styled(piece.text.as_str(), theme.style(piece.tone)));
    std::iter::once(lead).chain(pieces).collect()
}

/// The title line of a pane; gives back what is below it.
fn title(frame: &mut Frame<'_>, area: Rect, text: &str, style: Style) -> Rect {
    let Some(line) = row(area, 0) else { return Rect::ZERO };
    frame.buffer_mut().set_style(line, style);
    put(frame, line, Span::styled(text, style));
    Rect { y: area.y + 1, height: area.height - 1, ..area }
}

/// The `at`th line of an area, if it has one.
fn row(area: Rect, at: usize) -> Option<Rect> {
    let at = u16::try_from(at).ok().filter(|&at| at < area.height)?;
    Some(Rect { y: area.y + at, height: 1, ..area })
}

/// Writes one line; what is too wide is cut.
fn put<'a>(frame: &mut Frame<'_>, area: Rect, line: impl Into<TextLine<'a>>) {
    Paragraph::new(line.into()).render(area, frame.buffer_mut());
}

//! Draws the help over everything else.

use ratatui::{
    Frame,
    layout::Rect,
    widgets::{Clear, Widget},
};

use super::{put, row, styled, title};
use crate::tui::{cursor::Cursor, help, theme::Theme};

/// Draws the help, scrolled to the cursor.
pub(super) fn draw(frame: &mut Frame<'_>, cursor: Cursor, theme: Theme) {
    let area = frame.area();
    Clear.render(area, frame.buffer_mut());
    let body = title(frame, area, " gordian: help   (Esc or ? closes it)", theme.title(true));
    let lines = help::lines(area.width);
    for (at, line) in lines.iter().skip(cursor.at).take(body.height.into()).enumerate() {
        let Some(area) = row(body, at) else { return };
        put(
            frame,
            Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area }.intersection(area),
            styled(line, theme),
        );
    }
}

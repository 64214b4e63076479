//! Draws a pane that is a page of lines, with the cursor where it has the keyboard.

use std::fmt::Write as _;

use ratatui::{Frame, layout::Rect};

use super::{put, row, styled, title};
use crate::tui::{cursor::Page, layout::Pane, state::State, text, theme::Theme};

/// Draws the page of `pane`.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, pane: Pane, state: &State, theme: Theme) {
    let focused = state.focus == pane;
    let page = state.page(pane);
    let height = usize::from(area.height.saturating_sub(1));
    let body = title(frame, area, &heading(pane, page, height, focused), theme.title(focused));
    let Some(page) = page else { return };
    for (at, line) in page.lines.iter().skip(page.cursor.top).take(height).enumerate() {
        let Some(area) = row(body, at) else { return };
        let text = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area }.intersection(area);
        put(frame, text, styled(line, theme));
        if focused && page.cursor.top + at == page.cursor.at {
            frame.buffer_mut().set_style(area, Theme::cursor(true));
        }
    }
}

/// `▶ Detail  12–30 of 48`: the place only where not everything is on the screen.
fn heading(pane: Pane, page: Option<&Page>, height: usize, focused: bool) -> String {
    let mark = if focused { "▶" } else { " " };
    let mut out = format!("{mark}{}", pane.title());
    if let Some(page) = page.filter(|page| page.lines.len() > height) {
        let last = (page.cursor.top + height).min(page.lines.len());
        let (first, len) = (text::grouped(page.cursor.top as u64 + 1), text::grouped(page.lines.len() as u64));
        // Writing to a String cannot fail.
        let _ = write!(out, "  lines {first}–{} of {len}", text::grouped(last as u64));
    }
    out
}

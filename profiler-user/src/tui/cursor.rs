//! A place in a list, how keys move it, and how it stays on the screen.

use super::{doc::Line, keys::Key};

/// A place in a list, and the first line that is on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The line with the cursor.
    pub at: usize,
    /// The first line shown.
    pub top: usize,
}

impl Cursor {
    /// Keeps the cursor inside `len` lines and on a screen of `height`.
    pub(super) fn settle(&mut self, len: usize, height: usize) {
        self.at = self.at.min(len.saturating_sub(1));
        self.top = self.top.min(self.at).min(len.saturating_sub(height));
        if height > 0 && self.at >= self.top + height {
            self.top = self.at + 1 - height;
        }
    }

    /// Moves the cursor in `len` lines on a screen of `height`.
    pub(super) fn apply(&mut self, motion: Motion, len: usize, height: usize) {
        let page = height.saturating_sub(1).max(1);
        self.at = match motion {
            Motion::Up => self.at.saturating_sub(1),
            Motion::Down => self.at + 1,
            Motion::PageUp => self.at.saturating_sub(page),
            Motion::PageDown => self.at + page,
            Motion::Home => 0,
            Motion::End => usize::MAX,
        };
        self.settle(len, height);
    }
}

/// A step of a cursor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Motion {
    /// A line back.
    Up,
    /// A line on.
    Down,
    /// A page back, less a line.
    PageUp,
    /// A page on, less a line.
    PageDown,
    /// To the first line.
    Home,
    /// To the last line.
    End,
}

impl Motion {
    /// The motion that a key stands for, if it does.
    pub(super) fn of(key: Key) -> Option<Self> {
        Some(match key {
            Key::Up | Key::Char('k') => Self::Up,
            Key::Down | Key::Char('j') => Self::Down,
            Key::PageUp | Key::Ctrl('b') => Self::PageUp,
            Key::PageDown | Key::Ctrl('f') | Key::Char(' ') => Self::PageDown,
            Key::Home => Self::Home,
            Key::End | Key::Char('G') => Self::End,
            _ => return None,
        })
    }
}

/// A page of lines with its cursor.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Wrapped to the pane.
    pub lines: Vec<Line>,
    /// Where the reader is.
    pub cursor: Cursor,
}

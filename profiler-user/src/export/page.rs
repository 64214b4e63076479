//! Text for people, built line by line. Whatever is put on a page is escaped, so no name can reach a terminal raw.

use std::fmt::Display;

use super::escape;

/// What a piece of text means. Only a page in colour shows the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Ordinary.
    Plain,
    /// What the eye should find first.
    Strong,
    /// What can be passed over.
    Faint,
    /// Will never end by itself.
    Bad,
    /// Degraded, or not known.
    Warn,
    /// As it should be.
    Good,
}

impl Ink {
    fn sequence(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("\x1b[1m"),
            Self::Faint => Some("\x1b[2m"),
            Self::Bad => Some("\x1b[1;31m"),
            Self::Warn => Some("\x1b[33m"),
            Self::Good => Some("\x1b[32m"),
        }
    }
}

/// A page being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    color: bool,
    column: usize,
}

impl Page {
    /// An empty page; `color` as the command line decided it.
    pub fn new(color: bool) -> Self {
        Self { text: String::new(), color, column: 0 }
    }

    /// Adds to the current line, escaped.
    pub fn put(&mut self, ink: Ink, what: impl Display) -> &mut Self {
        let raw = what.to_string();
        let safe = escape(&raw);
        let sequence = if self.color { ink.sequence() } else { None };
        self.text.push_str(sequence.unwrap_or_default());
        self.text.push_str(&safe);
        if sequence.is_some() {
            self.text.push_str("\x1b[0m");
        }
        self.column += safe.chars().count();
        self
    }

    /// Adds ordinary text to the current line, escaped.
    pub fn add(&mut self, what: impl Display) -> &mut Self {
        self.put(Ink::Plain, what)
    }

    /// Moves to a column, counted from 0, and by two blanks at least.
    pub fn tab(&mut self, column: usize) -> &mut Self {
        let blanks = column.saturating_sub(self.column).max(2);
        self.indent(blanks)
    }

    /// Adds blanks.
    pub fn indent(&mut self, blanks: usize) -> &mut Self {
        self.text.extend(std::iter::repeat_n(' ', blanks));
        self.column += blanks;
        self
    }

    /// Adds a tab character, for forms that others read.
    pub fn tab_stop(&mut self) -> &mut Self {
        self.text.push('\t');
        self.column += 1;
        self
    }

    /// Ends the line.
    pub fn end(&mut self) {
        let kept = self.text.trim_end_matches(' ').len();
        self.text.truncate(kept);
        self.text.push('\n');
        self.column = 0;
    }

    /// One whole line of ordinary text.
    pub fn line(&mut self, what: impl Display) {
        self.add(what).end();
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.end();
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let mut page = Page::new(false);
        page.add("task\n\x1b[2J").tab(4).add("x").end();
        assert_eq!(page.into_text(), "task\\n\\u{1b}[2J  x\n");
    }

    #[test]
    fn colour_only_when_asked_and_always_reset() {
        let mut page = Page::new(true);
        page.put(Ink::Bad, "deadlock").add(" ").put(Ink::Plain, "x").end();
        assert_eq!(page.into_text(), "\x1b[1;31mdeadlock\x1b[0m x\n");
    }
}

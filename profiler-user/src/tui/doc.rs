//! A page of lines that a pane shows: meaning without colours, wrapped to a width.

use super::text;
use crate::model::PartyId;

/// What a piece of text means; the theme decides how that looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Ordinary text.
    #[default]
    Plain,
    /// Less important: addresses, sources, rulings.
    Dim,
    /// A heading or a name.
    Strong,
    /// A permanent finding, a closed cycle.
    Bad,
    /// A degraded state, something missing or lost.
    Warn,
    /// Work that goes on.
    Good,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// What is shown, already escaped.
    pub text: String,
    /// What it means.
    pub tone: Tone,
}

/// One line of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Ruling before the first line of it.
    pub lead: String,
    /// Ruling before its further lines, where it is wrapped; as wide as `lead` or narrower.
    pub follow: String,
    /// What it says.
    pub pieces: Vec<Piece>,
    /// Where Enter goes from here.
    pub jump: Option<PartyId>,
    /// Whom this line is about: where a jump to that party ends.
    pub about: Option<PartyId>,
}

impl Line {
    /// A line of one piece.
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self::default().and(tone, text)
    }

    /// The line with one more piece.
    #[must_use]
    pub(super) fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.pieces.push(Piece { text: text.into(), tone });
        self
    }

    /// The line behind a ruling: `lead` before its first line, `follow` before its further lines.
    #[must_use]
    pub(super) fn behind(mut self, lead: impl Into<String>, follow: impl Into<String>) -> Self {
        self.lead = lead.into();
        self.follow = follow.into();
        self
    }

    /// The line with somewhere to go.
    #[must_use]
    pub(super) fn to(mut self, party: PartyId) -> Self {
        self.jump = Some(party);
        self
    }

    /// The line as the one about `party`.
    #[must_use]
    pub(super) fn about(mut self, party: PartyId) -> Self {
        self.about = Some(party);
        self
    }

    /// The line as lines no wider than `columns`, broken between words where that is possible.
    pub(super) fn wrap(self, columns: usize, out: &mut Vec<Line>) {
        let whole = text::width(&self.lead) + self.pieces.iter().map(|p| text::width(&p.text)).sum::<usize>();
        if whole <= columns {
            out.push(self);
            return;
        }
        let mut wrapper = Wrapper::new(&self, columns, out);
        for piece in &self.pieces {
            for word in piece.text.split_inclusive(' ') {
                wrapper.word(word, piece.tone);
            }
        }
        wrapper.finish();
    }
}

/// Fills lines of a fixed width with words.
struct Wrapper<'a> {
    source: &'a Line,
    columns: usize,
    room: usize,
    current: Line,
    out: &'a mut Vec<Line>,
}

impl<'a> Wrapper<'a> {
    fn new(source: &'a Line, columns: usize, out: &'a mut Vec<Line>) -> Self {
        let current = Line { pieces: Vec::new(), ..source.clone() };
        // At least one column of text a line, or a ruling wider than the pane would never let it end.
        let room = columns.saturating_sub(text::width(&source.lead)).max(1);
        Self { source, columns, room, current, out }
    }

    fn word(&mut self, mut word: &str, tone: Tone) {
        if text::width(word.trim_end()) > self.room && !self.current.pieces.is_empty() {
            self.next_line();
        }
        while text::width(word.trim_end()) > self.room {
            let cut = text::prefix_within(word, self.room);
            // A character wider than the pane goes alone on its line and is clipped there.
            let cut = if cut == 0 { word.chars().next().map_or(word.len(), char::len_utf8) } else { cut };
            self.push(&word[..cut], tone);
            word = &word[cut..];
            self.next_line();
        }
        if !word.is_empty() {
            self.push(word, tone);
        }
    }

    fn push(&mut self, text: &str, tone: Tone) {
        self.room = self.room.saturating_sub(text::width(text));
        match self.current.pieces.last_mut() {
            Some(last) if last.tone == tone => last.text.push_str(text),
            _ => self.current.pieces.push(Piece { text: text.to_owned(), tone }),
        }
    }

    fn next_line(&mut self) {
        let next = Line {
            lead: self.source.follow.clone(),
            follow: String::new(),
            pieces: Vec::new(),
            jump: self.source.jump,
            about: None,
        };
        self.out.push(std::mem::replace(&mut self.current, next));
        self.room = self.columns.saturating_sub(text::width(&self.source.follow)).max(1);
    }

    fn finish(self) {
        if !self.current.pieces.is_empty() {
            self.out.push(self.current);
        }
    }
}

/// The lines of a page, wrapped to `columns`.
pub(super) fn wrapped(lines: Vec<Line>, columns: usize) -> Vec<Line> {
    let mut out = Vec::with_capacity(lines.len());
    for line in lines {
        line.wrap(columns, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(lines: &[Line]) -> Vec<String> {
        lines
            .iter()
            .map(|l| format!("{}{}", l.lead, l.pieces.iter().map(|p| p.text.as_str()).collect::<String>()))
            .collect()
    }

    #[test]
    fn lines_break_between_words_and_keep_their_ruling() {
        let line = Line::new(Tone::Plain, "held by ").and(Tone::Strong, "task 12 suspended").behind("└─ ", "   ");
        assert_eq!(plain(&wrapped(vec![line], 14)), ["└─ held by ", "   task 12 ", "   suspended"]);
    }

    #[test]
    fn a_word_wider_than_the_pane_is_broken() {
        assert_eq!(plain(&wrapped(vec![Line::new(Tone::Plain, "abcdefghij kl")], 4)), ["abcd", "efgh", "ij ", "kl"]);
        assert_eq!(plain(&wrapped(vec![Line::new(Tone::Plain, "日本")], 1)), ["日", "本"]);
        assert_eq!(plain(&wrapped(vec![Line::new(Tone::Plain, "ab").behind("├──", "│  ")], 0)), ["├──a", "│  b"]);
    }
}

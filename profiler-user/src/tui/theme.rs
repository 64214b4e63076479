//! Colours, only where they mean something. The rest is the terminal's own.

use ratatui::style::{Color, Modifier, Style};

use super::doc::Tone;

/// How meanings look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    colour: bool,
}

impl Theme {
    /// With colours, or with bold, dim and reverse alone.
    pub(super) fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// Colours, unless `NO_COLOR` is set to something (<https://no-color.org>).
    pub(super) fn from_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// The style of a tone.
    pub(super) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        match tone {
            Tone::Plain => style,
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Bad => self.fg(style, Color::Red).add_modifier(Modifier::BOLD),
            Tone::Warn => self.fg(style, Color::Yellow),
            Tone::Good => self.fg(style, Color::Green),
        }
    }

    /// The line under the cursor.
    pub(super) fn cursor(focused: bool) -> Style {
        if focused { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new().add_modifier(Modifier::BOLD) }
    }

    /// The title of a pane.
    pub(super) fn title(self, focused: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::UNDERLINED);
        if focused { self.fg(style, Color::Cyan).add_modifier(Modifier::BOLD) } else { style }
    }

    /// The banner of the worst finding.
    pub(super) fn banner(self, tone: Tone) -> Style {
        let style = Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
        match tone {
            Tone::Bad => self.fg(style, Color::Red),
            Tone::Warn => self.fg(style, Color::Yellow),
            // What is information only does not shout.
            Tone::Plain | Tone::Dim | Tone::Strong | Tone::Good => self.style(tone),
        }
    }

    fn fg(self, style: Style, colour: Color) -> Style {
        if self.colour { style.fg(colour) } else { style }
    }
}

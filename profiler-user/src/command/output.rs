//! Where results go, in what dress, and how a command ends.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use super::args::Color;
use crate::export::{escape, page::Page};

/// How a command ended; the number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what was asked; for `check`: nothing found, everything read.
    Fine,
    /// `check`: a finding of a kind in `--fail-on`.
    Found,
    /// Could not look.
    CouldNotLook,
    /// `check`: nothing found, but not everything could be read.
    Partial,
    /// The live view was ended by this signal.
    Signal(i32),
}

impl Status {
    /// The exit status.
    pub fn number(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Found => 1,
            Self::CouldNotLook => 2,
            Self::Partial => 3,
            // As shells say it.
            Self::Signal(signal) => 128_u8.saturating_add(signal.try_into().unwrap_or(0)),
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.number())
    }
}

/// Standard output for results, standard error for the rest.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    color: bool,
}

impl Output {
    /// As the user wants colour. `auto`: on a terminal, unless `NO_COLOR` is set to anything or `TERM` is `dumb`.
    pub fn new(color: Color) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match color {
            Color::Auto => !plain && io::stdout().is_terminal(),
            Color::Always => true,
            Color::Never => false,
        };
        Self { color }
    }

    /// An empty page for [`Output::print`].
    pub fn page(self) -> Page {
        Page::new(self.color)
    }

    /// Writes text to standard output at once. A reader that went away (`gordian check 7 | head -1`) is no error:
    /// nobody wants the rest.
    pub fn print(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }

    /// One line for the user that is no result, on standard error.
    pub fn note(self, text: &str) {
        note(text);
    }
}

/// One line on standard error, escaped. Where standard error is gone there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "gordian: {}", escape(text));
}

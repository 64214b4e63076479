//! The view as its user meets it: screens, keys, and what hostile or huge pictures do to it.

mod demo;
mod keys;
mod properties;
mod screens;

use std::sync::Arc;

use ratatui::{Terminal, backend::TestBackend};

use super::{
    clock::Clock,
    draw::draw,
    keys::Key,
    state::{Input, Outcome, State},
    theme::Theme,
};
use crate::session::View;

/// A state over `view` on a screen of `width` × `height`, at the moment that the demo pictures are made for.
fn state(view: View, width: u16, height: u16) -> State {
    let clock = Clock { now: view.snapshot.taken_at, wall: demo::wall() };
    State::new(Arc::new(view), clock, (width, height))
}

/// What `state` looks like without colours.
fn screen(state: &State, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test backend cannot fail");
    terminal.draw(|frame| draw(frame, state, Theme::new(false))).expect("a test backend cannot fail");
    terminal.backend().clone()
}

/// Presses one key.
fn press(state: &mut State, key: Key) -> Outcome {
    state.reduce(Input::Key(key))
}

/// Presses the key of each character.
fn type_text(state: &mut State, text: &str) {
    for c in text.chars() {
        press(state, Key::Char(c));
    }
}

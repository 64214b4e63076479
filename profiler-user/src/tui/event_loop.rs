//! The thread of the view: waits for keys and pictures, reduces, draws.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use ratatui::crossterm::{
    event::{self, Event},
    terminal as tty,
};
use tokio::sync::watch;

use super::{
    Exit, TuiError,
    clock::Clock,
    draw::draw,
    keys::Key,
    state::{Input, Outcome, State},
    terminal::{self, Screen},
    theme::Theme,
};
use crate::session::View;

/// How long to wait for a key before looking for a new picture, in milliseconds.
const WAIT_MS: u8 = 100;
/// Pictures are taken no more often than this: a table that changes faster cannot be read.
const BETWEEN_VIEWS: Duration = Duration::from_millis(200);
/// Ages on the screen are told anew this often.
const BETWEEN_TICKS: Duration = Duration::from_secs(1);
/// Keys taken between two drawings, so that a held key or a paste is followed on the screen.
const MAX_KEYS: usize = 64;

/// Shows `views` until the user quits or `stop` is set.
pub(super) fn run(mut views: watch::Receiver<Arc<View>>, stop: &AtomicBool) -> Result<Exit, TuiError> {
    let theme = Theme::from_environment();
    let mut screen = Screen::enter()?;
    let mut size = tty::size()?;
    let first = views.borrow_and_update().clone();
    let mut state = State::new(first, Clock::read(), size);
    let mut last_view = Instant::now();
    let mut last_tick = last_view;
    let mut outcome = Outcome::Redraw;
    let mut keys_left = false;
    loop {
        if outcome == Outcome::Redraw {
            screen.terminal.draw(|frame| draw(frame, &state, theme))?;
        }
        let ready = keys_left || key_ready()?;
        if Screen::must_end() {
            drop(screen);
            terminal::let_panics_be_told();
            return Err(TuiError::Panicked);
        }
        if stop.load(Ordering::SeqCst) {
            return Ok(Exit::Quit);
        }
        outcome = Outcome::Idle;
        if ready {
            (outcome, keys_left) = take_keys(&mut state)?;
            if outcome == Outcome::Quit {
                return Ok(Exit::Quit);
            }
        }
        let now = tty::size()?;
        if now != size {
            size = now;
            outcome = state.reduce(Input::Resize(size.0, size.1));
        }
        if last_view.elapsed() >= BETWEEN_VIEWS && !state.detached {
            match views.has_changed() {
                Ok(false) => {}
                Ok(true) => {
                    let view = views.borrow_and_update().clone();
                    outcome = state.reduce(Input::View(view, Clock::read()));
                    last_view = Instant::now();
                    last_tick = last_view;
                }
                Err(_closed) => {
                    // What was published last may not have been seen.
                    let view = views.borrow_and_update().clone();
                    state.reduce(Input::View(view, Clock::read()));
                    outcome = state.reduce(Input::Detached);
                }
            }
        }
        if last_tick.elapsed() >= BETWEEN_TICKS {
            outcome = state.reduce(Input::Tick(Clock::read()));
            last_tick = Instant::now();
        }
    }
}

/// Waits a moment for a key.
///
/// Crossterm (0.29, `event/source/unix/mio.rs`) reads a terminal that has hung up for ever, without sleeping: so it is
/// asked only when there is something to read and the other end is there.
fn key_ready() -> Result<bool, TuiError> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(WAIT_MS)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(io::Error::from(errno).into()),
    }
    let events = fds[0].revents().unwrap_or(PollFlags::empty());
    if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
        return Err(TuiError::TerminalGone);
    }
    Ok(events.contains(PollFlags::POLLIN))
}

/// Reduces the keys that are there; says also whether some may be left, read from the terminal already.
fn take_keys(state: &mut State) -> Result<(Outcome, bool), TuiError> {
    let mut outcome = Outcome::Idle;
    for _ in 0..MAX_KEYS {
        if !event::poll(Duration::ZERO)? {
            return Ok((outcome, false));
        }
        let Event::Key(pressed) = event::read()? else { continue };
        let Some(key) = Key::of(pressed) else { continue };
        match state.reduce(Input::Key(key)) {
            Outcome::Idle => {}
            Outcome::Redraw => outcome = Outcome::Redraw,
            Outcome::Quit => return Ok((Outcome::Quit, false)),
        }
    }
    Ok((outcome, true))
}

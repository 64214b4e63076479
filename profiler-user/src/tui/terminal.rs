//! Takes the terminal and gives it back as it was: at the end, on an error, on a signal, after a panic in any thread.

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    io::{self, Write},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

/// Whether the terminal is ours now: whoever sets it to false gives the terminal back.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Other threads that have panicked and wait for the terminal, to say so on it.
static UNTOLD: AtomicUsize = AtomicUsize::new(0);
static HOOK: Once = Once::new();

/// How long whoever needs the terminal back waits for the view to leave by itself.
const PATIENCE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(5);

thread_local! {
    /// Whether this thread draws.
    static DRAWS: Cell<bool> = const { Cell::new(false) };
}

/// Standard output while the terminal is ours, and nothing after: whoever took the terminal back over the head of the
/// drawing thread is not written over, and a terminal that is gone gives no errors to those who tidy up.
#[derive(Debug)]
pub(super) struct Output(io::Stdout);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if TAKEN.load(Ordering::SeqCst) { self.0.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if TAKEN.load(Ordering::SeqCst) { self.0.flush() } else { Ok(()) }
    }
}

/// The terminal while it is ours. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<Output>>,
}

impl Screen {
    /// Takes the terminal for this thread: raw mode, the alternate screen, no cursor.
    pub(super) fn enter() -> io::Result<Self> {
        HOOK.call_once(install_hook);
        DRAWS.set(true);
        TAKEN.store(true, Ordering::SeqCst);
        let entered = take();
        if entered.is_err() {
            // The error that is told is the first; what could be taken is given back all the same.
            let _ = leave();
            DRAWS.set(false);
        }
        entered.map(|terminal| Self { terminal })
    }

    /// Whether another thread has panicked, and the view has to end for its message to be seen.
    pub(super) fn must_end() -> bool {
        UNTOLD.load(Ordering::SeqCst) > 0 || !TAKEN.load(Ordering::SeqCst)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        DRAWS.set(false);
        // Nobody is left to tell: the terminal may be the very thing that is gone.
        let _ = leave();
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<Output>>> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    let mut terminal = Terminal::new(CrosstermBackend::new(Output(io::stdout())))?;
    terminal.hide_cursor()?;
    Ok(terminal)
}

/// Gives the terminal back, once.
fn leave() -> io::Result<()> {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return Ok(());
    }
    // The mode matters more than the screen: it is given back even where the screen cannot be.
    let mode = disable_raw_mode();
    execute!(io::stdout(), LeaveAlternateScreen, Show)?;
    mode
}

/// Waits a moment for the drawing thread to leave the terminal; where it does not, gives the terminal back over its head.
fn reclaim() {
    wait_while(|| TAKEN.load(Ordering::SeqCst));
    let _ = leave();
}

/// Waits a moment for the drawing thread to end, which may not even have taken the terminal yet; then gives it back.
pub(super) fn reclaim_from(drawing: &JoinHandle<()>) {
    wait_while(|| !drawing.is_finished());
    let _ = leave();
}

/// Waits a moment for the messages of panics to be written: whoever ends the process now would swallow them.
pub(super) fn let_panics_be_told() {
    wait_while(|| UNTOLD.load(Ordering::SeqCst) > 0);
}

fn wait_while(condition: impl Fn() -> bool) {
    let mut waited = Duration::ZERO;
    while condition() && waited < PATIENCE {
        thread::sleep(STEP);
        waited += STEP;
    }
}

/// A panic's message belongs on the user's own screen, after the terminal has been given back.
fn install_hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if TAKEN.load(Ordering::SeqCst) {
            if DRAWS.try_with(Cell::get).unwrap_or(false) {
                let _ = leave();
            } else {
                UNTOLD.fetch_add(1, Ordering::SeqCst);
                reclaim();
                before(info);
                UNTOLD.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
        before(info);
    }));
}

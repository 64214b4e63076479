//! Takes the terminal and gives it back as it was: at the end, on an error, on a signal, after a panic in any thread.

use std::{
    cell::Cell,
    io, panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
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
/// Another thread has panicked and waits for the terminal, to say so on it.
static PANICKED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// How long whoever needs the terminal back waits for the view to leave by itself.
const PATIENCE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(5);

thread_local! {
    /// Whether this thread draws.
    static DRAWS: Cell<bool> = const { Cell::new(false) };
}

/// The terminal while it is ours. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    /// Takes the terminal for this thread: raw mode, the alternate screen, no cursor.
    pub(super) fn enter() -> io::Result<Self> {
        HOOK.call_once(install_hook);
        DRAWS.set(true);
        PANICKED.store(false, Ordering::SeqCst);
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
        PANICKED.load(Ordering::SeqCst) || !TAKEN.load(Ordering::SeqCst)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        DRAWS.set(false);
        // Nobody is left to tell: the terminal may be the very thing that is gone.
        let _ = leave();
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<io::Stdout>>> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
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
pub(super) fn reclaim() {
    let mut waited = Duration::ZERO;
    while TAKEN.load(Ordering::SeqCst) && waited < PATIENCE {
        thread::sleep(STEP);
        waited += STEP;
    }
    let _ = leave();
}

/// A panic's message belongs on the user's own screen, after the terminal has been given back.
fn install_hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if TAKEN.load(Ordering::SeqCst) {
            if DRAWS.try_with(Cell::get).unwrap_or(false) {
                let _ = leave();
            } else {
                PANICKED.store(true, Ordering::SeqCst);
                reclaim();
            }
        }
        before(info);
    }));
}

//! The live terminal view: tasks, the wait-for graph of the selected one, workers, findings, and what is missing.
//!
//! It reads what the session publishes ([`View`]) and nothing else; it never touches the target. `state` holds what is
//! shown and reduces inputs to it, `panes` and `graph` turn a view into lines, `draw` puts them on the screen, and
//! `terminal` gives the terminal back whatever happens.
//!
//! Work on the snapshot (rows, order, filter, lookup tables) is done once for a view or a change of the query. What is
//! done for a frame is bounded by the screen.

mod clock;
mod cursor;
mod doc;
mod draw;
mod empty;
mod event_loop;
mod graph;
mod help;
mod index;
mod keys;
mod layout;
mod panes;
mod rows;
mod state;
mod summary;
mod terminal;
mod text;
mod theme;

#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::timeout,
};

use crate::session::View;

/// Why the view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The user quit.
    Quit,
    /// This signal asked for the end; the shell's custom is an exit status of 128 more.
    Signal(i32),
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// Standard input or output is a pipe or a file.
    #[error("the live view needs a terminal; `gordian check` and `gordian tasks` write to a pipe or file")]
    NotATerminal,
    /// The terminal was closed.
    #[error("the terminal is gone")]
    TerminalGone,
    /// The terminal failed.
    #[error("the terminal failed: {0}")]
    Terminal(#[source] io::Error),
    /// A thread of gordian panicked; its message is on standard error, after the terminal was given back.
    #[error("gordian failed in the middle of the live view; the message above says where")]
    Panicked,
}

impl From<io::Error> for TuiError {
    fn from(error: io::Error) -> Self {
        // What a read or write of a terminal gives whose other end was closed.
        if error.raw_os_error() == Some(libc::EIO) { Self::TerminalGone } else { Self::Terminal(error) }
    }
}

/// How long the view has to leave the terminal after a signal, before it is taken from it.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Shows what `views` publishes until the user quits or a signal (`SIGTERM`, `SIGINT`, `SIGHUP`) asks for the end.
///
/// The terminal is given back before this returns, and also when its future is dropped. Drawing and keys have a thread
/// of their own: a slow terminal never delays whoever publishes. When `views` is closed the last picture stays, and is
/// said to be the last.
pub async fn run(views: watch::Receiver<Arc<View>>) -> Result<Exit, TuiError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TuiError::NotATerminal);
    }
    let [mut terminate, mut interrupt, mut hangup] =
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let (done, mut result) = oneshot::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let thread = thread::Builder::new().name("view".to_owned()).spawn(move || {
        // Nobody listens any more where the future was dropped.
        let _ = done.send(event_loop::run(views, &flag));
    })?;
    let drawing = Drawing { stop, thread };
    let signal = tokio::select! {
        // A sender that is dropped without a word panicked.
        result = &mut result => return result.unwrap_or(Err(TuiError::Panicked)),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    drawing.stop.store(true, Ordering::SeqCst);
    // How the view ended matters no more: dropping `drawing` sees to the terminal even where the thread hangs.
    let _ = timeout(LEAVE_WITHIN, result).await;
    Ok(Exit::Signal(signal.as_raw_value()))
}

/// The thread of the view. Dropping this ends it and sees the terminal given back.
struct Drawing {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        terminal::reclaim_from(&self.thread);
    }
}

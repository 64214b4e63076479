//! Captures: the bytes that a look at a process takes, kept to be looked at elsewhere.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{AttachError, inspector::Inspector, probing::registers_once};
use crate::target::Frozen;

/// Between the two moments that are kept: no verdict on what is permanent rests on one.
const APART: Duration = Duration::from_millis(300);

/// What was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Tasks that were found.
    pub tasks: usize,
    /// Pages of 4 KiB that were kept, of both moments.
    pub pages: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// For how long at most the process was stopped at a time; `None`: it ran.
    pub stopped: Option<Duration>,
}

/// Writes what a look at process `pid` needs of its memory to a new file at `path`.
///
/// The process is looked at as any session would, which tells what is needed of it; that is then read again in one go.
/// All of it is done twice, so that what is in the file supports the verdicts that two reads do. With `freeze` the process is
/// stopped each time; which locks its threads wait for then supports no verdict, for each stop begins their waits anew.
pub fn capture(pid: i32, path: &Path, freeze: bool) -> Result<Capture, AttachError> {
    let begun = Instant::now();
    let (mut inspector, mut recorder) = Inspector::recording(pid)?;
    let (mut tasks, mut pages) = (0, 0);
    let (mut first, mut stopped) = (None, None);
    for moment in 0..2 {
        if moment > 0 {
            std::thread::sleep(APART);
        }
        let registers = registers_once(pid);
        let frozen = if freeze { inspector.freeze()? } else { None };
        tasks = inspector.snapshot(&registers)?.tasks.len();
        let first = *first.get_or_insert_with(Instant::now);
        pages += inspector.keep(&mut recorder, &registers, first.elapsed())?;
        stopped = stopped.max(frozen.map(Frozen::release));
    }
    let bytes = inspector.write(recorder, path)?;
    Ok(Capture { tasks, pages, bytes, took: begun.elapsed(), stopped })
}

//! Captures: the bytes that a look at a process takes, kept to be looked at elsewhere.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{AttachError, inspector::Inspector, probing::registers_once};
use crate::{
    analysis::{self, Thresholds},
    target::Frozen,
};

/// Pages of a heap that are kept of a process that stands still: 256 MB.
const MOST_OF_HEAP: usize = 1 << 16;

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
    /// It stood still, and all that was read of its heap is kept as well.
    pub heap: bool,
}

/// Writes what a look at process `pid` needs of its memory to a new file at `path`.
///
/// The process is looked at as any session would, which tells what is needed of it; that is then read again in one go.
/// All of it is done twice, so that what is in the file supports the verdicts that two reads do. With `freeze` the process is
/// stopped each time; which locks its threads wait for then supports no verdict, for each stop begins their waits anew.
pub fn capture(pid: i32, path: &Path, freeze: bool) -> Result<Capture, AttachError> {
    let begun = Instant::now();
    let (mut inspector, mut recorder) = Inspector::recording(pid)?;
    if freeze {
        recorder.note_bulk(MOST_OF_HEAP);
    }
    let (mut tasks, mut pages) = (0, 0);
    let (mut first, mut stopped, mut last) = (None, None, None);
    for moment in 0..2 {
        if moment > 0 {
            // No verdict on what is permanent rests on one moment.
            std::thread::sleep(inspector.apart());
        }
        let registers = registers_once(pid);
        let frozen = if freeze { inspector.freeze()? } else { None };
        let snapshot = inspector.look(&registers, frozen.as_ref(), &mut |snapshot| {
            let findings = analysis::analyse(snapshot, last.as_ref(), &[], &Thresholds::default());
            analysis::accused(&findings)
        })?;
        tasks = snapshot.tasks.len();
        last = Some(snapshot);
        let first = *first.get_or_insert_with(Instant::now);
        pages += inspector.keep(&mut recorder, &registers, frozen.as_ref(), first.elapsed())?;
        stopped = stopped.max(frozen.map(Frozen::release));
    }
    let heap = freeze && !recorder.has_left_out();
    let bytes = inspector.write(recorder, path)?;
    Ok(Capture { tasks, pages, bytes, took: begun.elapsed(), stopped, heap })
}

//! Snapshots with pieces missing or torn. Whatever is missing here is missing in a way that a reader can tell: a count that
//! was not read is none, a task that was not read whole says so, a worker that was not found stands among its runtime's.

use super::generate::Tape;
use crate::model::{Hold, Snapshot, Strand, Task, TaskState, ThreadActivity};

/// Two reads of what `truth` shows: the same pieces are missing in both, and one of them is torn besides.
pub(super) fn two_reads(truth: &Snapshot, tape: &mut Tape<'_>) -> (Snapshot, Snapshot) {
    let mut whole = truth.clone();
    for _ in 0..=tape.below(4) {
        lose(&mut whole, tape);
    }
    let mut torn = whole.clone();
    for _ in 0..tape.below(3) {
        tear(&mut torn, tape);
    }
    if tape.rarely(2) { (whole, torn) } else { (torn, whole) }
}

/// Takes one piece away.
fn lose(snapshot: &mut Snapshot, tape: &mut Tape<'_>) {
    match tape.below(12) {
        0 => lose_one(&mut snapshot.tasks, tape),
        1 => lose_one(&mut snapshot.threads, tape),
        2 => lose_one(&mut snapshot.resources, tape),
        3 => {
            if let Some(resource) = pick(&mut snapshot.resources, tape) {
                match tape.below(5) {
                    0 => resource.permits = None,
                    1 => resource.available = None,
                    2 => (resource.senders, resource.receivers) = (None, None),
                    3 => (resource.queue, resource.queue_known) = (Vec::new(), false),
                    _ => {
                        if let Some(entry) = pick(&mut resource.queue, tape) {
                            entry.party = None;
                        }
                    }
                }
            }
        }
        4 => {
            if let Some(thread) = pick(&mut snapshot.threads, tape) {
                match tape.below(3) {
                    0 => thread.activity = ThreadActivity::Unknown,
                    1 => thread.wait = None,
                    _ => lose_one(&mut thread.holds, tape),
                }
            }
        }
        5 => {
            if let Some(task) = pick(&mut snapshot.tasks, tape) {
                task.unstable = true;
            }
        }
        _ => {
            if let Some(task) = pick(&mut snapshot.tasks, tape) {
                lose_of_task(task, tape);
            }
        }
    }
}

/// Takes something away from a task, which is then not read whole.
fn lose_of_task(task: &mut Task, tape: &mut Tape<'_>) {
    task.incomplete = Some("made up".into());
    let what = tape.below(6);
    let strand = pick_strand(&mut task.root, tape);
    match (what, &mut strand.wait) {
        (0, wait) => {
            *wait = None;
            task.awaits_known = false;
        }
        (1, Some(wait)) => wait.position = None,
        (2, Some(wait)) => wait.target = None,
        (3, Some(wait)) => wait.resource.address = 0,
        (4, _) if !strand.children.is_empty() => {
            lose_one(&mut strand.children, tape);
            task.awaits_known = false;
        }
        _ => lose_one(&mut strand.holds, tape),
    }
}

/// Changes one piece to something else, as if the read had met another moment there.
fn tear(snapshot: &mut Snapshot, tape: &mut Tape<'_>) {
    let holds: Vec<Hold> = snapshot.tasks.iter().flat_map(|task| task.root.all_holds()).cloned().collect();
    let waits: Vec<_> = snapshot.tasks.iter().flat_map(|task| task.root.waits()).cloned().collect();
    match tape.below(5) {
        0 => snapshot.resources.reverse(),
        1 => {
            if let Some(thread) = pick(&mut snapshot.threads, tape) {
                thread.activity = ThreadActivity::Running;
            }
        }
        what => {
            let Some(task) = pick(&mut snapshot.tasks, tape) else { return };
            match what {
                2 => task.state = if tape.rarely(2) { TaskState::Running } else { TaskState::Complete },
                3 => pick_strand(&mut task.root, tape).holds.extend(holds.get(tape.below(holds.len())).cloned()),
                _ => {
                    let strand = pick_strand(&mut task.root, tape);
                    if strand.wait.is_some() {
                        strand.wait = waits.get(tape.below(waits.len())).cloned();
                    }
                }
            }
        }
    }
}

fn pick<'a, T>(all: &'a mut [T], tape: &mut Tape<'_>) -> Option<&'a mut T> {
    let at = tape.below(all.len());
    all.get_mut(at)
}

fn lose_one<T>(all: &mut Vec<T>, tape: &mut Tape<'_>) {
    let at = tape.below(all.len());
    if at < all.len() {
        all.remove(at);
    }
}

fn pick_strand<'a>(root: &'a mut Strand, tape: &mut Tape<'_>) -> &'a mut Strand {
    match tape.below(root.children.len() + 1) {
        0 => root,
        at => &mut root.children[at - 1],
    }
}

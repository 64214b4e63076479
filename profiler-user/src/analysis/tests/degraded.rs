//! `blocked-worker` and `stalled`.

use super::build::*;
use crate::{
    analysis::{Thresholds, analyse},
    model::{BlockedPoll, Finding, FindingKind, Since, SinceSource, Snapshot, Syscall, Task},
};

fn blocked(id: u64, tid: i32, blocked_ms: u64) -> BlockedPoll {
    BlockedPoll {
        tid,
        thread_name: "tokio-runtime-w".to_owned(),
        party: Some(party(id)),
        syscall: Syscall { number: 230, args: [0; 6] },
        blocked_ns: blocked_ms * 1_000_000,
        ongoing: false,
        frames: vec![frame("app::work"), frame("std::thread::sleep")],
        since_ns: 0,
    }
}

fn with_polls(polls: &[BlockedPoll]) -> Vec<Finding> {
    let snapshot = process(vec![task(1, strand(timer(5), vec![]))], vec![]);
    analyse(&snapshot, None, polls, &Thresholds::default())
}

#[test]
fn a_sleep_inside_a_poll_is_named_with_task_and_function() {
    let found = with_polls(&[blocked(1, 100, 250)]);
    assert_eq!(found[0].kind, FindingKind::BlockedWorker);
    assert_eq!(
        found[0].summary,
        "task 1 (app::work) blocked thread 100 (tokio-runtime-w) for 250 ms in app::work: sleeps (clock_nanosleep)"
    );
    assert_eq!(found[0].cause.as_deref(), Some("sleeps (clock_nanosleep)"));
}

#[test]
fn short_blocks_are_no_finding() {
    assert_eq!(with_polls(&[blocked(1, 100, 99)]), []);
}

#[test]
fn one_place_is_one_finding_whoever_passes_it() {
    let first = with_polls(&[blocked(1, 100, 250)]);
    let both = with_polls(&[blocked(1, 100, 250), blocked(2, 101, 300)]);
    assert_eq!(both.len(), 1);
    assert_eq!(both[0].id, first[0].id);
    assert_eq!(both[0].tasks, [party(1), party(2)]);
}

fn waiting_for(seconds: f64, task: Task) -> Task {
    Task { since: Some(Since { at_least_s: seconds, source: SinceSource::Attach }), ..task }
}

/// Three tasks queue for a lock whose holder awaits task 10, which sleeps.
fn long_queue(seconds: f64) -> Snapshot {
    let waiter = |id| waiting_for(seconds, task(id, strand(acquire(mutex(0x10), 1), vec![])));
    let holder = waiting_for(seconds, task(9, strand(join(10), vec![guard(mutex(0x10))])));
    let sleeper = waiting_for(seconds, task(10, strand(timer(50_000), vec![])));
    process(vec![waiter(1), waiter(2), waiter(3), holder, sleeper], vec![])
}

#[test]
fn a_long_wait_for_a_lock_is_told_down_to_its_root() {
    let found = only(&long_queue(40.0));
    assert_eq!((found.kind, found.tasks.len()), (FindingKind::Stalled, 3));
    assert!(
        found
            .summary
            .ends_with("held by task 9 (app::work), which waits for task 10 (app::work), which waits for a timer"),
        "{}",
        found.summary
    );
    assert_eq!(found.cause.as_deref(), Some("task 10 (app::work) waits for a timer"));
    assert_eq!(found.edges.len(), 2);
}

#[test]
fn short_waits_and_idle_tasks_are_not_stalled() {
    assert_eq!(findings(&long_queue(5.0)), []);
    let idle = waiting_for(4_000.0, task(1, strand(timer(5), vec![])));
    let main = waiting_for(4_000.0, task(2, strand(join(1), vec![])));
    assert_eq!(findings(&process(vec![idle, main], vec![])), []);
}
